"""Recovery: a server is killed (SIGKILL) with millions of samples in its log alone; how long until it answers, and has them all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

from bench import data, servers
from bench.remote_write import HEADERS, count_back
from bench.results import Outcome

HOW = (
    "Samples of simulated hosts are sent by remote write; after the last acknowledgement the process is ended by SIGKILL and started "
    "again. From that start until `/-/healthy` answers 200 (asked every 5 ms), until `/-/ready` does, and then every sample is counted "
    "back by queries, or the run fails. Vedette holds all of them in its log (its head takes 15 million before a block is written); "
    "VictoriaMetrics keeps no log and may have lost its last second, so it is given five seconds before it is killed."
)


def _bodies(hosts: int, steps: int, start_ms: int) -> Iterator[bytes]:
    """Requests one after another, rendered as they are taken: all at once would fill the memory."""
    templates = data.write_templates(data.hosts(hosts), 5000)
    walk = data.Walk(hosts * data.FIELDS_PER_HOST)
    for step in range(steps):
        values, at = walk.next(), 0
        for template in templates:
            yield template.render(values[at : at + template.series], start_ms + step * data.STEP_MS)
            at += template.series


def _write(server: servers.Running, bodies: Iterator[bytes]) -> None:
    with closing(server.connect()) as connection:
        for body in bodies:
            connection.request("POST", "/api/v1/write", body, HEADERS)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status not in (200, 204):
                raise RuntimeError(f"{server.name} refused a write: {answer.status} {text[:300]!r}")


def _one_run(kind: servers.Kind, hosts: int, steps: int) -> dict[str, float]:
    start_ms = int(time.time() * 1000) // data.STEP_MS * data.STEP_MS - steps * data.STEP_MS
    with servers.running(kind) as server:
        _write(server, _bodies(hosts, steps, start_ms))
        if kind is servers.VICTORIA:
            time.sleep(5)
        servers.kill_and_restart(server, kind)
        healthy = servers.wait_for(server, "/health" if kind is servers.VICTORIA else "/-/healthy")
        ready = servers.wait_for(server, kind.ready)
        cpu = server.cpu()
        count_back(server, start_ms + (steps - 1) * data.STEP_MS, steps * data.STEP_MS // 1000, hosts * data.FIELDS_PER_HOST * steps)
        return {"healthy": healthy, "ready": ready, "cpu": cpu, "rss": server.rss() / 2**20}


def run(hosts: int, steps: int, repeats: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Kill and start each server with `hosts * 100 * steps` samples, `repeats` times on fresh data."""
    samples = hosts * data.FIELDS_PER_HOST * steps
    outcome = Outcome("recovery", f"Recovery of {samples:,} samples", how=HOW)
    for kind in kinds:
        runs = [_one_run(kind, hosts, steps) for _ in range(repeats)]
        outcome.add("healthy", kind.name, "s", [r["healthy"] for r in runs])
        outcome.add("ready", kind.name, "s", [r["ready"] for r in runs])
        outcome.add("CPU until ready", kind.name, "s", [r["cpu"] for r in runs])
        outcome.add("resident memory after the count", kind.name, "MiB", [r["rss"] for r in runs])
    outcome.promise_at_most("healthy", 2, "s", "budget")
    outcome.promise_at_most("ready", 5, "s", "budget")
    outcome.notes.append(f"{hosts * data.FIELDS_PER_HOST:,} series, {steps:,} samples each; {repeats} runs on fresh data, medians.")
    return outcome
