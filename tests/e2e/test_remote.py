"""The whole server with its samples in another one: what it collects arrives there, what is asked is answered there."""

from __future__ import annotations

import time

import pytest

pytestmark = pytest.mark.timeout(600)

RULES = """
groups:
  - name: behind
    interval: 1s
    rules:
      - {record: doubled, expr: 2 * pushed}
      - {alert: High, expr: pushed > 5, labels: {severity: page}}
"""


def test_prometheus_behind_vedette(launch, tools, debian_binary):
    port = launch.free_port()

    def prometheus():
        command = [
            *(debian_binary("prometheus"), f"--config.file={launch.folder / 'p.yml'}", f"--storage.tsdb.path={launch.folder / 'p'}"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver"),
        ]
        return launch.start("prometheus", command, port, ready="/-/ready")

    (launch.folder / "p.yml").write_text("global: {scrape_interval: 1h}\n")
    (launch.folder / "rules.yml").write_text(RULES)
    section = f"vedette: {{storage: {{backend: remote}}, remote: {{url: 'http://127.0.0.1:{port}'}}, host: {{interval: 1s}}}}\n"
    (launch.folder / "v.yml").write_text(section + "rule_files: [rules.yml]\n")
    behind = prometheus()
    server = launch.vedette("--config", str(launch.folder / "v.yml"))
    now = int(time.time() * 1000)
    assert server.write([({"__name__": "pushed", "n": str(n)}, [(now, float(n))]) for n in range(10)]).status_code == 204
    tools.eventually(lambda: server.value("sum(pushed)") == 45, "what is pushed is asked for")
    at = time.time()
    assert server.query("topk(2, pushed)", at) == behind.query("topk(2, pushed)", at)
    tools.eventually(lambda: server.query('up{job="vedette"}'), "its own metrics arrive")
    tools.eventually(lambda: server.value("sum(doubled)") == 90, "rules record through it")
    tools.eventually(lambda: server.query('ALERTS{alertstate="firing"}'), "and alert")
    assert server.data("/api/v1/label/n/values") == [str(n) for n in range(10)]
    assert len(server.data("/api/v1/series", **{"match[]": "pushed"})) == 10
    ranged = server.data("/api/v1/query_range", query="count(pushed)", start=now / 1000, end=now / 1000 + 1, step=1)
    assert ranged["result"][0]["values"][0][1] == "10"
    bad = server.get("/api/v1/query", query="sum(")
    assert (bad.status_code, bad.json()["errorType"]) == (400, "bad_data")
    assert bad.json()["error"].startswith('invalid parameter "query": 1:')

    behind.kill()
    assert server.write([({"__name__": "meanwhile"}, [(int(time.time() * 1000), 7.0)])]).status_code == 204
    assert server.get("/api/v1/query", query="pushed").status_code == 500
    tools.eventually(lambda: server.get("/health").json()["status"] == "degraded", "health tells of it")
    server.kill()
    prometheus()
    again = launch.vedette("--config", str(launch.folder / "v.yml"))
    tools.eventually(lambda: again.value("meanwhile") == 7, "what was acknowledged arrives after both have been killed")
    tools.eventually(lambda: again.get("/health").json()["status"] == "healthy", "health is well")
