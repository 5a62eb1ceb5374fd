"""`remote_write` of a Prometheus file: everything stored is also in Prometheus, whoever is killed in between."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.timeout(600)

CONFIG = """
global: {{external_labels: {{cluster: c1}}}}
remote_write:
  - url: {url}/api/v1/write
    name: far
    queue_config: {{max_backoff: 200ms}}
    write_relabel_configs:
      - {{source_labels: [__name__], regex: "pushed|up", action: keep}}
vedette: {{host: {{interval: 1s}}}}
"""


def test_everything_stored_is_also_in_prometheus(launch, tools, debian_binary):
    port = launch.free_port()
    file = launch.folder / "v.yml"

    def prometheus():
        command = [
            *(debian_binary("prometheus"), f"--config.file={launch.folder / 'p.yml'}", f"--storage.tsdb.path={launch.folder / 'p'}"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver"),
        ]
        return launch.start("prometheus", command, port, ready="/-/ready")

    (launch.folder / "p.yml").write_text("global: {scrape_interval: 1h}\n")
    file.write_text(CONFIG.format(url=f"http://127.0.0.1:{port}"))
    server = launch.vedette("--config", str(file))
    begin = int(time.time() * 1000)
    for k in range(20):
        rows = [({"__name__": name, "n": str(n)}, [(begin + k, float(k))]) for name in ("pushed", "other") for n in range(5)]
        assert server.write(rows).status_code == 204
    # Nobody was there to take it: it waits on disk, and a kill does not change that.
    assert 'vedette_forward_sent_samples_total{remote="far"} 0' in server.get("/metrics").text
    server.kill()
    far = prometheus()
    server = launch.vedette("--config", str(file))
    tools.eventually(lambda: far.value("sum(count_over_time(pushed[5m]))") == 100, "what was acknowledged arrives")
    assert {row["metric"]["cluster"] for row in far.query("pushed")} == {"c1"}
    tools.eventually(lambda: far.query('up{job="vedette", cluster="c1"}'), "what is scraped arrives, too")
    assert far.query("other") == []
    assert server.value("sum(count_over_time(other[5m]))") == 100
    tools.eventually(lambda: 'vedette_forward_queued_samples{remote="far"} 0' in server.get("/metrics").text, "the queue is empty")

    file.write_text("remote_write: [{url: 'http://h/', name: a}, {url: 'http://i/', name: a}]\n")
    assert server.post("/-/reload").status_code == 500
    file.write_text("vedette: {host: {interval: 1s}}\n")
    assert server.post("/-/reload").status_code == 200
    assert 'remote="far"' not in server.get("/metrics").text
