"""`vedette serve --config prometheus.yml` over a real node_exporter and over targets that misbehave."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)


def _config(folder: Path, text: str) -> str:
    file = folder / "prometheus.yml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def _target(server: Any, instance: str) -> dict[str, Any]:
    found: dict[str, Any] = next(t for t in server.data("/api/v1/targets")["activeTargets"] if t["labels"]["instance"] == instance)
    return found


def test_node_exporter_with_every_key(launch: Any, tools: Any, tmp_path: Path) -> None:
    exporter = launch.node_exporter()
    address = exporter.url.removeprefix("http://")
    config = _config(
        tmp_path,
        f"""\
global: {{scrape_interval: 30s, scrape_timeout: 10s}}
scrape_configs:
  - job_name: node
    scrape_interval: 500ms
    scrape_timeout: 400ms
    metrics_path: /metrics
    params: {{"collect[]": [cpu, loadavg, uname]}}
    static_configs: [{{targets: ["{address}"], labels: {{rack: r1}}}}]
    relabel_configs:
      - {{source_labels: [__address__], regex: "(.*):.*", target_label: host, replacement: "at-$1"}}
    metric_relabel_configs:
      - {{source_labels: [__name__], regex: "node_load(5|15)", action: drop}}
      - {{source_labels: [mode], regex: "idle", target_label: mode, replacement: "resting"}}
      - {{regex: "domainname", action: labeldrop}}
""",
    )
    server = launch.vedette("--config", config)
    tools.eventually(lambda: (server.value('count_over_time(up{rack="r1"}[1m])') or 0) >= 3, "three scrapes")
    up = server.query('up{rack="r1"}')
    assert up[0]["metric"] == {"__name__": "up", "job": "node", "instance": address, "rack": "r1", "host": "at-127.0.0.1"}
    assert up[0]["value"][1] == "1"
    # `params` chose the collectors, and metric_relabel_configs did the rest.
    assert server.query("node_load1{rack='r1'}")
    assert not server.query("node_load5{rack='r1'}")
    assert not server.query("node_memory_MemFree_bytes{rack='r1'}")
    assert server.query("node_cpu_seconds_total{rack='r1',mode='resting'}")
    assert not server.query("node_cpu_seconds_total{rack='r1',mode='idle'}")
    assert "domainname" not in server.query("node_uname_info{rack='r1'}")[0]["metric"]
    for name in ("scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"):
        assert server.query(f'{name}{{job="node",rack="r1",host="at-127.0.0.1"}}'), name
    scraped, kept = (server.value(f'scrape_samples_{w}{{rack="r1"}}') for w in ("scraped", "post_metric_relabeling"))
    assert scraped == kept + 2  # load5 and load15
    target = _target(server, address)
    assert (target["health"], target["lastError"]) == ("up", "")
    assert target["scrapeUrl"].startswith(f"http://{address}/metrics?collect")

    # The target goes away: `up` is 0 and its series are stale at once, not after five minutes.
    exporter.kill()
    tools.eventually(lambda: server.value('up{rack="r1"}') == 0, "up is 0")
    tools.eventually(lambda: not server.query("node_load1{rack='r1'}"), "the series are stale")
    target = _target(server, address)
    assert target["health"] == "down"
    assert "cannot connect" in target["lastError"]


def test_honor_labels_and_a_series_that_goes_away(launch: Any, tools: Any, site: Any, tmp_path: Path) -> None:
    lines = ['queue_depth{job="own"} 7', "passing 1"]
    site.text("/metrics", lambda: "\n".join(lines) + "\n")
    jobs = "".join(
        f"  - {{job_name: {name}, honor_labels: {honor}, static_configs: [{{targets: ['{site.address}']}}]}}\n"
        for name, honor in (("honest", "true"), ("strict", "false"))
    )
    config = _config(tmp_path, f"global: {{scrape_interval: 300ms, scrape_timeout: 300ms}}\nscrape_configs:\n{jobs}")
    server = launch.vedette("--config", config)
    tools.eventually(lambda: len(server.query("queue_depth")) == 2, "both jobs have scraped")
    found = sorted((one["metric"] for one in server.query("queue_depth")), key=lambda m: m["job"])
    assert found == [
        {"__name__": "queue_depth", "instance": site.address, "job": "own"},
        {"__name__": "queue_depth", "instance": site.address, "job": "strict", "exported_job": "own"},
    ]
    assert len(server.query("passing")) == 2
    lines.remove("passing 1")
    tools.eventually(lambda: not server.query("passing"), "the series that is no longer exposed is stale")
    assert len(server.query("queue_depth")) == 2


def test_bad_targets_are_named_and_harm_nobody(launch: Any, tools: Any, site: Any, tmp_path: Path) -> None:
    served = itertools.count()
    site.text("/good", lambda: f"good {next(served)}\n")

    def hang(request: Any) -> None:
        site.stopping.wait(30)

    def endless(request: Any) -> None:
        request.send_response(302)
        request.send_header("Location", f"/endless?{next(served)}")
        request.send_header("Content-Length", "0")
        request.end_headers()

    def huge(request: Any) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/plain; version=0.0.4")
        request.end_headers()
        chunk = b"".join(b'big{n="%d"} 1\n' % n for n in range(60_000))
        for _ in range((1 << 30) // len(chunk)):
            request.wfile.write(chunk)

    site.pages.update({"/hang": hang, "/endless": endless, "/huge": huge})
    site.text("/garbage", lambda: 'ok 1\nbroken{a="b 2\n')
    names = ("good", "hang", "endless", "huge", "garbage")
    jobs = "".join(
        f"  - {{job_name: {name}, metrics_path: /{name}, static_configs: [{{targets: ['{site.address}']}}]}}\n" for name in names
    )
    config = _config(tmp_path, f"global: {{scrape_interval: 2s, scrape_timeout: 1500ms}}\nscrape_configs:\n{jobs}")
    server = launch.vedette("--config", config)

    def all_tried() -> bool:
        found = {one["metric"]["job"]: one["value"][1] for one in server.query("up")}
        return all(found.get(name) == ("1" if name == "good" else "0") for name in names)

    tools.eventually(all_tried, "up is 1 for the good target and 0 for the bad ones")
    errors = {t["scrapePool"]: t["lastError"] for t in server.data("/api/v1/targets")["activeTargets"]}
    assert errors["good"] == ""
    assert "within 1.5s" in errors["hang"]
    assert "redirect" in errors["endless"]
    assert errors["huge"]
    assert "line 2" in errors["garbage"]
    assert not server.query("big"), "a failed scrape stores nothing"
    assert not server.query("ok")
    # The good one went on all the while, at its own pace.
    tools.eventually(lambda: (server.value("count_over_time(good[1m])") or 0) >= 4, "four scrapes of the good target")
    stamps = [float(t) for t, _ in server.query("good[1m]")[0]["values"]]
    assert all(later - earlier > 1 for earlier, later in itertools.pairwise(stamps)), stamps


def test_this_machine_is_collected_by_default(launch: Any, tools: Any) -> None:
    began = time.time()
    server = launch.vedette()
    for expr in (
        'node_cpu_seconds_total{job="node",mode="user"}',
        "node_memory_MemTotal_bytes",
        "node_filesystem_avail_bytes",
        "node_network_receive_bytes_total",
        'process_resident_memory_bytes{job="vedette"}',
        'up{job="vedette"}',
    ):
        found = tools.eventually(lambda e=expr: server.query(e), expr)
        assert all(float(one["value"][1]) >= 0 for one in found)
    boot = server.value("min(node_boot_time_seconds)")
    assert boot is not None
    assert boot < began
    rules = server.data("/api/v1/rules", type="alert")["groups"]
    assert sum(len(group["rules"]) for group in rules) == 5, "the five default alerts"
