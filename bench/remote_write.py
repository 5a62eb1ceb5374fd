"""Remote write: samples and new series per CPU second of the server, over HTTP, from parallel senders.

All bodies are built before the clock starts. A sender owns some of the series and sends their rounds in order, as
Prometheus' shards do. After the last acknowledgement the server is asked how many samples it holds: a figure counts
only if that is every sample sent.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

from bench import data, servers
from bench.results import Outcome

HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
SENDERS = 4
HOW = (
    f"{SENDERS} parallel senders, keep-alive, requests of up to 2,500 samples (one step of 2,500 series, 11 labels each), prebuilt. "
    "After three small requests to warm up, and once the server is at rest, the first step registers the series; the others are "
    "the steady state. CPU is that "
    "of the server process from the first request to the last acknowledgement. Every sample was counted back by a query, or the "
    "run fails. What an acknowledgement means differs: Vedette answers after `fdatasync` of its log; Prometheus 2.42 after a "
    "`write` to its log, which it syncs when a 128 MiB segment closes; VictoriaMetrics 1.79 after taking the samples into memory, "
    "which it writes to disk within about a second."
)


@dataclass(frozen=True)
class Load:
    """The size of one run."""

    hosts: int
    steps: int


def send(server: servers.Running, shards: list[list[bytes]], *, path: str = "/api/v1/write", headers: dict[str, str] = HEADERS) -> float:
    """Send each shard's bodies in order, the shards in parallel; the wall seconds that took. Raises on any refusal."""
    failures: list[str] = []
    barrier = threading.Barrier(len(shards) + 1)

    def one(bodies: list[bytes]) -> None:
        connection = server.connect()
        barrier.wait()
        try:
            for body in bodies:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status not in (200, 204):
                    failures.append(f"{answer.status} {text[:300]!r}")
                    return
        except (OSError, http.client.HTTPException) as error:
            failures.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(shard,)) for shard in shards]
    for thread in threads:
        thread.start()
    barrier.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    if failures:
        raise RuntimeError(f"{server.name} refused a write: {failures[0]}")
    return took


def shards_of(rounds: list[list[bytes]], senders: int) -> list[list[bytes]]:
    """Spread the requests of every round over the senders: request i always goes to the same one."""
    return [[body for requests in rounds for body in requests[number::senders]] for number in range(min(senders, len(rounds[0])))]


def _count(server: servers.Running, metric: str, at_ms: int, span_s: int) -> int:
    expression = quote(f"sum(count_over_time({metric}[{span_s}s]))")
    status, body = server.get(f"/api/v1/query?query={expression}&time={at_ms / 1000}{server.query_extra}")
    if status != 200:
        raise RuntimeError(f"{server.name} cannot count what was written: {status} {body[:300]!r}")
    result = json.loads(body)["data"]["result"]
    return int(float(result[0]["value"][1])) if result else 0


def count_back(
    server: servers.Running, at_ms: int, span_s: int, expected: int, *, seconds: float = 30.0, metrics: Sequence[str] = ()
) -> None:
    """Make sure the server finds `expected` samples of `metrics` (devops', unless given) in the `span_s` seconds before `at_ms`.

    Asked metric by metric: over all at once, `count_over_time` would have to drop the name that tells series apart.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = sum(_count(server, metric, at_ms, span_s) for metric in metrics or data.metric_names())
        if found == expected:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} acknowledged {expected} samples and finds {found}")
        time.sleep(0.2)


@contextmanager
def loaded(kind: servers.Kind, rounds: list[list[bytes]]) -> Iterator[servers.Running]:
    """A fresh server holding all `rounds`."""
    with servers.running(kind) as server:
        send(server, shards_of(rounds, SENDERS))
        yield server


def _warming(before_ms: int) -> list[bytes]:
    """A few requests of one other host: what a server loads at first use is a matter of its start-up, measured there."""
    host = data.Host((("hostname", "warming"),))
    rounds = data.write_bodies([host], 3, start_ms=before_ms - 600_000, per_request=data.FIELDS_PER_HOST)
    return [requests[0] for requests in rounds]


def at_rest(server: servers.Running, seconds: float = 30.0) -> None:
    """Wait until the server does nothing more of its own after its start (loading, compiling), or `seconds` are over."""
    deadline = time.monotonic() + seconds
    before = server.cpu()
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = server.cpu()
        if now - before < 0.03:
            return
        before = now


def _one_run(kind: servers.Kind, rounds: list[list[bytes]], load: Load, start_ms: int) -> dict[str, float]:
    series = load.hosts * data.FIELDS_PER_HOST
    with servers.running(kind) as server:
        send(server, [_warming(start_ms)])
        at_rest(server)
        cpu = server.cpu()
        send(server, shards_of(rounds[:1], SENDERS))
        new_cpu = server.cpu() - cpu
        time.sleep(1)
        cpu = server.cpu()
        wall = send(server, shards_of(rounds[1:], SENDERS))
        used = server.cpu() - cpu
        rss = server.rss()
        time.sleep(3)
        settled = server.cpu() - cpu
        last_ms = start_ms + (load.steps - 1) * data.STEP_MS
        count_back(server, last_ms, load.steps * data.STEP_MS // 1000, series * load.steps)
        samples = series * (load.steps - 1)
        return {
            "new": series / max(new_cpu, 0.01),
            "cpu": samples / used,
            "wall": samples / wall,
            "settled": samples / settled,
            "rss": rss / 2**20,
            "disk": server.disk() / (series * load.steps),
        }


def run(load: Load, repeats: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Measure one load on each server, `repeats` times on fresh data."""
    series = load.hosts * data.FIELDS_PER_HOST
    outcome = Outcome(f"remote_write_{series}", f"Remote write, {series:,} series", how=HOW)
    start_ms = int(time.time() * 1000) // data.STEP_MS * data.STEP_MS - load.steps * data.STEP_MS
    rounds = data.write_bodies(data.hosts(load.hosts), load.steps, start_ms=start_ms, per_request=2500)
    for kind in kinds:
        runs = [_one_run(kind, rounds, load, start_ms) for _ in range(repeats)]
        outcome.add("samples per CPU second", kind.name, "samples/s", [r["cpu"] for r in runs])
        outcome.add("samples per second of wall time", kind.name, "samples/s", [r["wall"] for r in runs])
        outcome.add("samples per CPU second, the next 3 s included", kind.name, "samples/s", [r["settled"] for r in runs])
        outcome.add("new series per CPU second", kind.name, "series/s", [r["new"] for r in runs])
        outcome.add("resident memory at the end", kind.name, "MiB", [r["rss"] for r in runs])
        outcome.add("disk per sample, log included, soon after", kind.name, "bytes", [r["disk"] for r in runs])
    outcome.promise_ratio("samples per CPU second", "victoria-metrics", 1, "first release")
    outcome.promise_ratio("samples per CPU second", "victoria-metrics", 2, "budget")
    outcome.promise_ratio("samples per CPU second", "prometheus", 8, "budget")
    outcome.promise_ratio("new series per CPU second", "prometheus", 4, "budget")
    outcome.notes.append(f"{series * load.steps:,} samples a run, {repeats} runs on fresh data, medians.")
    return outcome
