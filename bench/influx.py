"""InfluxDB's line protocol: samples per CPU second of the server, over HTTP, beside VictoriaMetrics, which takes the same lines.

All bodies are built before the clock starts. After the last answer the server is asked how many samples it holds: a figure counts only
if that is every sample sent.
"""

from __future__ import annotations

import time

from bench import data, lines, servers
from bench.graphite import STEP_S
from bench.remote_write import SENDERS, count_back, send, shards_of
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
        written = []
        for i, text in enumerate(tags):
            fields = ",".join(
                f"usage_{k}={(i * 7 + step * 3 + k) % 1000 / 10}" if k % 2 else f"usage_{k}={(i + step + k) % 5000}i" for k in range(FIELDS)
            )
            written.append(f"cpu,{text} {fields} {stamp}")
        rounds.append(["\n".join(written[at : at + PER_REQUEST]).encode() for at in range(0, hosts, PER_REQUEST)])
    return rounds


def one_run(kind: servers.Kind, hosts: int, steps: int) -> dict[str, float]:
    """One run on fresh data: samples per CPU second, per second, and new series per CPU second."""
    start = int(time.time()) // STEP_S * STEP_S - steps * STEP_S
    rounds = bodies(hosts, steps, start)
    with servers.running(kind) as server:

        def sent(shards: list[list[bytes]]) -> float:
            return send(server, shards, path=PATH, headers=HEADERS)

        found = lines.costs(
            server,
            warm=lambda: sent([[b"warming up=1,at=2i\n"] * 3]),
            first=lambda: sent(shards_of(rounds[:1], SENDERS)),
            rest=lambda: sent(shards_of(rounds[1:], SENDERS)),
        )
        series = hosts * FIELDS
        metrics = [f"cpu_usage_{k}" for k in range(FIELDS)]
        count_back(server, (start + (steps - 1) * STEP_S) * 1000, steps * STEP_S, series * steps, metrics=metrics)
    return lines.rates(found, sent=series * (steps - 1), series=series)


def run(hosts: int, steps: int, repeats: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Measure the protocol on each server that knows it, in turns."""
    outcome = Outcome("influx", f"InfluxDB's lines, {hosts * FIELDS:,} series", how=HOW)
    lines.in_turns(outcome, kinds, repeats, lambda kind: one_run(kind, hosts, steps), what="samples")
    outcome.notes.append(f"{hosts * FIELDS * steps:,} samples a run, {repeats} runs on fresh data, in turns, medians.")
    return outcome
