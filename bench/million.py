"""Many active series: does a server keep up with all of them every 15 seconds, and what memory does a series cost?"""

from __future__ import annotations

import time

from bench import data, servers
from bench.remote_write import SENDERS, send
from bench.results import Outcome, Target

INTERVAL_S = 15
HOW = (
    f"Every {INTERVAL_S} s one sample of each series, in requests of up to 5,000 from {SENDERS} senders on the same machine (which take "
    "their part of its two cores). A round that is not acknowledged within the interval is late. The first round, which registers the "
    "series, is not counted among the others. Memory is that of the server process at the end, less what it had before the first "
    "round, and as a whole."
)


def _one_run(kind: servers.Kind, hosts: int, rounds: int) -> dict[str, float]:
    templates = data.write_templates(data.hosts(hosts), 5000)
    series = hosts * data.FIELDS_PER_HOST
    walk = data.Walk(series)
    with servers.running(kind, env=servers.environment(VEDETTE_HOST_ENABLED="false")) as server:
        time.sleep(3)
        before, took, cpu, highest = server.rss(), [], [], 0
        began = time.monotonic()
        for number in range(rounds + 1):
            values, at, used = walk.next(), 0, server.cpu()
            stamp = int(time.time() * 1000)
            shards: list[list[bytes]] = [[] for _ in range(SENDERS)]
            started = time.monotonic()
            for i, template in enumerate(templates):
                shards[i % SENDERS].append(template.render(values[at : at + template.series], stamp))
                at += template.series
            rendered = time.monotonic() - started
            took.append(send(server, shards))
            highest = max(highest, server.rss())
            # Late rounds are not made up for: the next begins on time or at once.
            time.sleep(max(0.0, began + (number + 1) * INTERVAL_S - time.monotonic()))
            cpu.append(server.cpu() - used)
            took[-1] += rendered
        after = server.rss()
        return {
            "first": took[0],
            "slowest": max(took[1:]),
            "cpu": sum(cpu[1:]) / (rounds * INTERVAL_S),
            "late": sum(t > INTERVAL_S for t in took[1:]),
            "series": (after - before) / series,
            "whole": after / series,
            "highest": highest / series,
        }


def run(hosts: int, rounds: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Send `rounds` rounds of `hosts * 100` series to each server."""
    series = hosts * data.FIELDS_PER_HOST
    outcome = Outcome("million", f"{series:,} active series every {INTERVAL_S} s for {rounds * INTERVAL_S / 60:.3g} minutes", how=HOW)
    for kind in kinds:
        found = _one_run(kind, hosts, rounds)
        outcome.add("rounds that were late", kind.name, "", [found["late"]])
        outcome.add("slowest round, rendering included", kind.name, "s", [found["slowest"]])
        outcome.add("first round, all series new", kind.name, "s", [found["first"]])
        outcome.add("CPU of the server", kind.name, "cores", [found["cpu"]])
        outcome.add("memory per series", kind.name, "bytes", [found["whole"]])
        outcome.add("memory per series, start deducted", kind.name, "bytes", [found["series"]])
        outcome.add("highest memory per series", kind.name, "bytes", [found["highest"]])
    outcome.promise_at_most("rounds that were late", 0, "", "budget")
    ours, theirs = outcome.median("memory per series", "vedette"), outcome.median("memory per series", "victoria-metrics")
    if ours is not None and theirs:
        outcome.targets.append(Target("memory per series, against victoria-metrics", ours / theirs, 1, "x", "budget", at_least=False))
    return outcome
