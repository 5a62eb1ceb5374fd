"""Alerts held: milliseconds until 100,000 of them are listed in their groups, beside Debian's prometheus-alertmanager.

Both take the same alerts over API v2 with the same configuration, and are asked by one keep-alive connection that reads the
whole answer.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import servers
from bench.results import Outcome

GROUPS = 1000
BATCH = 1000
CONFIG = "route: {receiver: team, group_by: [alertname], group_wait: 1h, group_interval: 1h}\nreceivers: [{name: team}]\n"
HOW = (
    f"Alerts with five labels, an annotation and a generator URL, in {GROUPS:,} groups, posted to `/api/v2/alerts` {BATCH:,} at a time; "
    "then `/api/v2/alerts/groups`, unfiltered, and `/api/v2/alerts` filtered to one group, each read whole, on one connection. Vedette "
    "has each alert and its history on disk before it answers a post; Alertmanager keeps alerts in memory."
)
ALERTMANAGER = "prometheus-alertmanager"


@dataclass
class Asked:
    """One server's figures."""

    ingest_s: float
    groups_ms: list[float]
    filter_ms: list[float]
    rss: int


def _alerts(count: int) -> list[dict[str, object]]:
    def stamp(seconds: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

    now = time.time()
    return [
        {
            "labels": {
                "alertname": f"Alert{i % GROUPS}",
                "instance": f"host-{i:06d}.example.com:9100",
                "job": "node",
                "severity": "warning",
                "cluster": "eu-1",
            },
            "annotations": {"summary": f"Something is wrong on host {i}"},
            "startsAt": stamp(now),
            "endsAt": stamp(now + 3600),
            "generatorURL": "http://prometheus:9090/graph?g0.expr=up",
        }
        for i in range(count)
    ]


@contextmanager
def _alertmanager(config: Path) -> Iterator[tuple[int, int]]:
    binary = shutil.which(ALERTMANAGER)
    if binary is None:
        raise servers.Missing(f"{ALERTMANAGER} is not installed: apt install {ALERTMANAGER}")
    port = servers.free_port()
    arguments = [f"--config.file={config}", f"--storage.path={config.parent / 'am'}", f"--web.listen-address=127.0.0.1:{port}"]
    with (config.parent / "am.log").open("wb") as out:
        process = subprocess.Popen([binary, *arguments, "--cluster.listen-address="], stdout=out, stderr=subprocess.STDOUT)
    try:
        _wait(port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def _vedette(config: Path) -> Iterator[tuple[int, int]]:
    extra = servers.environment(VEDETTE_NOTIFY_CONFIG_FILE=str(config))
    with servers.running(servers.VEDETTE, env=extra) as server:
        yield server.port, server.process.pid


def _wait(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/-/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise RuntimeError(f"{ALERTMANAGER} was not ready within 30 s")
        time.sleep(0.05)


def _one_run(name: str, running: tuple[int, int], alerts: list[dict[str, object]], repeats: int) -> Asked:
    port, pid = running
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    bodies = [json.dumps(alerts[i : i + BATCH]).encode() for i in range(0, len(alerts), BATCH)]

    def ask(method: str, path: str, body: bytes | None = None) -> bytes:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        found = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {found[:300]!r}")
        return found

    def timed(path: str) -> float:
        started = time.perf_counter()
        ask("GET", path)
        return (time.perf_counter() - started) * 1000

    started = time.perf_counter()
    for body in bodies:
        ask("POST", "/api/v2/alerts", body)
    took = time.perf_counter() - started
    _listed(name, lambda: sum(len(g["alerts"]) for g in json.loads(ask("GET", "/api/v2/alerts/groups"))), len(alerts))
    groups = [timed("/api/v2/alerts/groups") for _ in range(repeats)]
    filtered = [timed("/api/v2/alerts?filter=alertname%3DAlert1") for _ in range(repeats)]
    connection.close()
    return Asked(took, groups, filtered, int(psutil.Process(pid).memory_info().rss))


def _listed(name: str, held: Callable[[], int], posted: int, seconds: float = 30.0) -> None:
    """Wait until all that was posted is listed. Alertmanager sorts alerts into their groups after it has answered the post."""
    deadline = time.monotonic() + seconds
    while (found := held()) != posted:
        # Vedette lists what it has acknowledged at once; of it fewer are a fault.
        if name == servers.VEDETTE.name or time.monotonic() > deadline:
            raise RuntimeError(f"{name}: {found} alerts are listed, {posted} were posted")
        time.sleep(0.1)


def run(count: int, repeats: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Post `count` alerts to each server and list them `repeats` times."""
    outcome = Outcome("alerts", f"{count:,} alerts held", how=HOW)
    alerts = _alerts(count)
    starts: list[tuple[str, Callable[[Path], object]]] = [(ALERTMANAGER, _alertmanager)]
    if servers.VEDETTE in kinds:
        starts.insert(0, (servers.VEDETTE.name, _vedette))
    for name, start in starts:
        folder = Path(tempfile.mkdtemp(prefix="bench-alerts-"))
        try:
            config = folder / "alertmanager.yml"
            config.write_text(CONFIG, encoding="utf-8")
            with start(config) as running:  # type: ignore[attr-defined]  # both are context managers
                asked = _one_run(name, running, alerts, repeats)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        outcome.add("list all groups", name, "ms", asked.groups_ms)
        outcome.add("list the alerts of one group", name, "ms", asked.filter_ms)
        outcome.add("take them in", name, "s", [asked.ingest_s])
        outcome.add("memory", name, "MiB", [asked.rss / 2**20])
    outcome.promise_at_most("list all groups", 50, "ms", "issue 5")
    outcome.promise_faster("list all groups", ALERTMANAGER, 1, "issue 5")
    return outcome
