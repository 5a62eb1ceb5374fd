"""Rules: the processor that 10,000 alerting rules take at 15 s over 100,000 series; and how long a crossed threshold takes to a webhook.

The series are written once and stand still, so that what is measured is evaluating; the rules compare, and a few alerts are active.
"""

from __future__ import annotations

import http.server
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from bench import data, servers
from bench.results import Outcome

METRICS, HOSTS, SHARDS = 100, 1000, 100
INTERVAL_S = 15
CROSSING_INTERVAL_S = 5
HOW = (
    f"{METRICS * HOSTS:,} series (remote write, once), {METRICS * SHARDS:,} alerting rules `metric{{shard=…}} > 99.5` with `for: 1m` in "
    f"{METRICS} groups, each rule over {HOSTS // SHARDS} series, so that every series is read every {INTERVAL_S} s; some 500 alerts are "
    "active. CPU is that of the server process over whole intervals, after two that are not counted. Crossings: with all these rules at "
    f"work, a sample over the threshold of one rule more (`interval: {CROSSING_INTERVAL_S}s`, `group_wait: 0s`) is acknowledged by remote "
    "write, and the time until a webhook has its notification is taken."
)


def _rules() -> str:
    groups = []
    for m in range(METRICS):
        rules = [
            {
                "alert": f"High{m}_{s}",
                "expr": f'bench_metric_{m}{{shard="{s}"}} > 99.5',
                "for": "1m",
                "labels": {"severity": "warning"},
                "annotations": {"summary": "{{ $labels.host }} is at {{ $value }}"},
            }
            for s in range(SHARDS)
        ]
        groups.append({"name": f"g{m}", "interval": f"{INTERVAL_S}s", "rules": rules})
    crossing = {"alert": "Crossing", "expr": "bench_crossing > 0"}
    return json.dumps({"groups": [*groups, {"name": "crossing", "interval": f"{CROSSING_INTERVAL_S}s", "rules": [crossing]}]})


def _labels(pairs: dict[str, str]) -> bytes:
    return b"".join(data.label_field(name, value) for name, value in sorted(pairs.items()))


def _series() -> list[bytes]:
    return [
        _labels({"__name__": f"bench_metric_{m}", "host": f"host_{h}", "shard": str(h % SHARDS), "job": "bench"})
        for m in range(METRICS)
        for h in range(HOSTS)
    ]


def _write(server: servers.Running, body: bytes) -> None:
    connection = server.connect()
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
    connection.request("POST", "/api/v1/write", body, headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status not in (200, 204):
        raise RuntimeError(f"{server.name} refused the samples: {answer.status} {text[:300]!r}")


@contextmanager
def _webhook() -> Iterator[tuple[int, list[tuple[float, str]]]]:
    """A receiver: its port, and (monotonic time, status) of each notification of the crossing rule."""
    heard: list[tuple[float, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            now = time.monotonic()
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if body["groupLabels"].get("alertname") == "Crossing":
                heard.append((now, body["status"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
            """Notifications are noted, not logged."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1]), heard
    finally:
        server.shutdown()
        server.server_close()


def _crossings(server: servers.Running, heard: list[tuple[float, str]], times: int) -> list[float]:
    """Seconds from each acknowledged crossing to its webhook."""
    template, took = data.WriteTemplate([_labels({"__name__": "bench_crossing", "job": "bench"})]), []
    for _ in range(times):
        before = len(heard)
        _write(server, template.render(np.array([1.0]), time.time_ns() // 1_000_000))
        began = time.monotonic()
        _until(lambda before=before: [h for h in heard[before:] if h[1] == "firing"], "the webhook heard of the crossing")
        took.append(next(at for at, status in heard[before:] if status == "firing") - began)
        _write(server, template.render(np.array([0.0]), time.time_ns() // 1_000_000))
        before = len(heard)
        _until(lambda before=before: [h for h in heard[before:] if h[1] == "resolved"], "the webhook heard of the end")
    return took


def _until(condition: Any, what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def _checked(server: servers.Running) -> int:
    """How many alerts are active. Raises `RuntimeError` where a group was not evaluated within two intervals, or a rule failed."""
    status, body = server.get("/api/v1/rules?type=alert")
    if status != 200:
        raise RuntimeError(f"{server.name} does not list its rules: {status}")
    active = 0
    for group in json.loads(body)["data"]["groups"]:
        for rule in group["rules"]:
            if group["name"].startswith("g") and rule["health"] != "ok":
                raise RuntimeError(f"{server.name}: rule {rule['name']} is {rule['health']}: {rule.get('lastError')}")
            active += len(rule["alerts"])
    query = quote('count(ALERTS{alertname=~"High.*"})')
    status, body = server.get(f"/api/v1/query?query={query}")
    stored = json.loads(body)["data"]["result"]
    if status != 200 or not stored or int(stored[0]["value"][1]) == 0:
        raise RuntimeError(f"{server.name} has stored no alerts: {status} {body[:300]!r}")
    return active


def _one_run(kind: servers.Kind, intervals: int, crossings: int) -> tuple[dict[str, float], list[float]]:
    body = data.WriteTemplate(_series())
    values = np.round(np.random.default_rng(3).uniform(0, 100, METRICS * HOSTS), 2)
    with tempfile.TemporaryDirectory(prefix="bench-rules-") as name, _webhook() as (port, heard):
        folder = Path(name)
        (folder / "rules.json").write_text(_rules(), encoding="utf-8")
        hook = f"webhook_configs: [{{url: 'http://127.0.0.1:{port}/'}}]"
        route = "route: {receiver: hook, group_by: [alertname], group_wait: 0s, group_interval: 1s}"
        (folder / "alertmanager.yml").write_text(f"{route}\nreceivers: [{{name: hook, {hook}}}]\n", encoding="utf-8")
        config = f"global: {{evaluation_interval: {INTERVAL_S}s}}\nrule_files: ['{folder}/rules.json']\n"
        extra = servers.environment(VEDETTE_NOTIFY_CONFIG_FILE=str(folder / "alertmanager.yml"), VEDETTE_HOST_ENABLED="false")
        with servers.running(kind, config=config, env=extra) as server:
            _write(server, body.render(values, time.time_ns() // 1_000_000))
            time.sleep(2 * INTERVAL_S)
            began, used = time.monotonic(), server.cpu()
            time.sleep(intervals * INTERVAL_S)
            cores = (server.cpu() - used) / (time.monotonic() - began)
            figures = {"cores": cores, "alerts": float(_checked(server)), "rss": server.rss() / 2**20}
            _write(server, body.render(values, time.time_ns() // 1_000_000))
            return figures, _crossings(server, heard, crossings) if kind is servers.VEDETTE else []


def run(intervals: int, crossings: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Measure `intervals` intervals on each server that evaluates rules, and `crossings` crossings on Vedette."""
    outcome = Outcome("rules", f"{METRICS * SHARDS:,} rules over {METRICS * HOSTS:,} series", how=HOW)
    for kind in kinds:
        if kind is servers.VICTORIA:
            continue  # its rules are evaluated by another program, vmalert
        figures, took = _one_run(kind, intervals, crossings)
        outcome.add("processor cores", kind.name, "cores", [figures["cores"]])
        outcome.add("resident memory", kind.name, "MiB", [figures["rss"]])
        outcome.notes.append(f"{kind.name}: {figures['alerts']:.0f} active alerts.")
        if kind is servers.VEDETTE:
            outcome.promise_at_most("processor cores", 1.0, "cores", "issue")
        if took:
            outcome.add("crossing to webhook, worst", kind.name, "s", [max(took)])
            outcome.promise_at_most("crossing to webhook, worst", CROSSING_INTERVAL_S + 1.0, "s", "issue")
    outcome.notes.append(f"{intervals} intervals, {crossings} crossings.")
    return outcome
