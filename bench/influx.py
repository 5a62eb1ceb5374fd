"""InfluxDB's line protocol: samples per CPU second of the server, over HTTP, beside VictoriaMetrics, which takes the same lines.

All bodies are built before the clock starts. After the last answer the server is asked how many samples it holds: a figure counts only
if that is every sample sent.
"""

from __future__ import annotations

import time

from bench import data, servers
from bench.graphite import STEP_S
from bench.remote_write import SENDERS, at_rest, count_back, send, shards_of
from bench.results import Outcome

FIELDS = 10
PER_REQUEST = 250
HEADERS = {"Content-Type": "text/plain; charset=utf-8"}
PATH = "/write?db=bench&precision=ns"
HOW = (
    f"{SENDERS} parallel senders, keep-alive, requests of {PER_REQUEST} lines, each of a host with ten tags and {FIELDS} fields (floats "
    "and integers), as Telegraf sends them, prebuilt: the first step registers the series, the others are the steady state. CPU is that "
    "of the server process from the first request to the last answer. Every sample was counted back by a query, or the run fails. "
    "Vedette answers after `fdatasync` of its log, VictoriaMetrics 1.79 after taking the samples into memory."
)


def bodies(hosts: int, steps: int, start_s: int) -> list[list[bytes]]:
    """The requests of each step: a line for each host."""
    tags = [",".join(f"{name}={value}" for name, value in host.tags) for host in data.hosts(hosts)]
    rounds = []
    for step in range(steps):
        stamp = (start_s + step * STEP_S) * 1_000_000_000
        lines = []
        for i, text in enumerate(tags):
            fields = ",".join(
                f"usage_{k}={(i * 7 + step * 3 + k) % 1000 / 10}" if k % 2 else f"usage_{k}={(i + step + k) % 5000}i" for k in range(FIELDS)
            )
            lines.append(f"cpu,{text} {fields} {stamp}")
        rounds.append(["\n".join(lines[at : at + PER_REQUEST]).encode() for at in range(0, hosts, PER_REQUEST)])
    return rounds


def one_run(kind: servers.Kind, hosts: int, steps: int) -> dict[str, float]:
    """One run on fresh data: samples per CPU second, per second, and new series per CPU second."""
    start = int(time.time()) // STEP_S * STEP_S - steps * STEP_S
    rounds = bodies(hosts, steps, start)
    with servers.running(kind) as server:
        send(server, [[b"warming up=1,at=2i\n"] * 3], path=PATH, headers=HEADERS)
        at_rest(server)
        cpu = server.cpu()
        send(server, shards_of(rounds[:1], SENDERS), path=PATH, headers=HEADERS)
        new = server.cpu() - cpu
        time.sleep(1)
        cpu = server.cpu()
        wall = send(server, shards_of(rounds[1:], SENDERS), path=PATH, headers=HEADERS)
        used = server.cpu() - cpu
        time.sleep(3)
        settled = server.cpu() - cpu
        series = hosts * FIELDS
        metrics = [f"cpu_usage_{k}" for k in range(FIELDS)]
        count_back(server, (start + (steps - 1) * STEP_S) * 1000, steps * STEP_S, series * steps, metrics=metrics)
        samples = series * (steps - 1)
        return {"cpu": samples / used, "wall": samples / wall, "settled": samples / settled, "new": series / max(new, 0.01)}


def run(hosts: int, steps: int, repeats: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Measure the protocol on each server that knows it, in turns."""
    outcome = Outcome("influx", f"InfluxDB's lines, {hosts * FIELDS:,} series", how=HOW)
    able = [kind for kind in kinds if kind is not servers.PROMETHEUS]
    runs: dict[str, list[dict[str, float]]] = {kind.name: [] for kind in able}
    for _ in range(repeats):
        for kind in able:
            runs[kind.name].append(one_run(kind, hosts, steps))
    for kind in able:
        found = runs[kind.name]
        outcome.add("samples per CPU second", kind.name, "samples/s", [r["cpu"] for r in found])
        outcome.add("samples per CPU second, the next 3 s included", kind.name, "samples/s", [r["settled"] for r in found])
        outcome.add("samples per second of wall time", kind.name, "samples/s", [r["wall"] for r in found])
        outcome.add("new series per CPU second", kind.name, "series/s", [r["new"] for r in found])
    outcome.promise_ratio("samples per CPU second", "victoria-metrics", 1, "budget")
    outcome.notes.append(f"{hosts * FIELDS * steps:,} samples a run, {repeats} runs on fresh data, in turns, medians.")
    return outcome
