"""Queries over HTTP: milliseconds from request to the last byte, memory at the peak, and whether the servers answer alike.

Every repetition asks for another range (one second later), so no server answers from a cache of results. Answers are
compared between servers. Vedette's and Prometheus' must be equal: how many are is a promise of its own. Where VictoriaMetrics
differs (its rate does not extrapolate, say), the page tells.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bench import data, fleet, servers
from bench.remote_write import send, shards_of
from bench.results import Outcome, Target
from bench.shapes import FLEET, MONTH, Query

STEPS = 54
POINTS = 60
DAYS = 30
SENDERS = 4
HOW = (
    "One client, keep-alive; the time from sending the request to the last byte of the answer. The servers run beside each other and are "
    "asked by turns, each query once unmeasured and then some times; each repetition starts a second later than the one before "
    "(VictoriaMetrics also with `nocache=1`). Peak memory is the most that was resident during the repetitions of a query that reads a "
    "million samples (`VmHWM`, reset before them)."
)
FLEET_HOW = f"Range queries of {STEPS} steps, 10 s apart, over {POINTS} samples of each series, just written. {HOW}"
MONTH_HOW = (
    f"Ten series of a counter, a sample each 15 s for {DAYS} days, written in order of time; range queries over all of it, a step an hour. "
    f"{HOW}"
)


@dataclass(frozen=True)
class Span:
    """What the queries of a case ask for: the first start (Unix seconds), steps and their distance, when the data begins."""

    first: float
    steps: int
    step_s: int
    begin: float


TURNS = 3
"""How often each server has its turn with a query."""


def _ask(connection: Any, server: servers.Running, query: Query, span: Span, later: float) -> tuple[float, bytes]:
    start = span.first + later
    end = start + (span.steps - 1) * span.step_s
    path = f"/api/v1/query_range?query={quote(query.text(int(later)))}&start={start}&end={end}&step={span.step_s}{server.query_extra}"
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    took = time.perf_counter() - began
    if answer.status != 200:
        raise RuntimeError(f"{server.name}: {query.text(int(later))}: {answer.status} {body[:300]!r}")
    return took * 1000, body


def _series(body: bytes, since: float) -> dict[str, list[tuple[float, float]]]:
    found = {}
    for one in json.loads(body)["data"]["result"]:
        labels = json.dumps(one["metric"], sort_keys=True)
        points = [(float(t), float(v)) for t, v in one.get("values", ()) if float(t) >= since]
        if points:
            found[labels] = points
    return found


def difference(ours: bytes, theirs: bytes, *, since: float = 0.0, tolerance: float = 1e-9) -> str:
    """Nothing where two answers are equal from Unix time `since` on, else what differs first."""
    left, right = _series(ours, since), _series(theirs, since)
    if left.keys() != right.keys():
        odd = sorted(left.keys() ^ right.keys())
        return f"{len(left)} series against {len(right)}; only one has {odd[0]}"
    for labels, points in left.items():
        others = right[labels]
        if [t for t, _ in points] != [t for t, _ in others]:
            return f"{labels}: {len(points)} points against {len(others)}"
        for (at, value), (_, other) in zip(points, others, strict=True):
            if not (math.isclose(value, other, rel_tol=tolerance, abs_tol=1e-12) or (math.isnan(value) and math.isnan(other))):
                return f"{labels} at {at}: {value!r} against {other!r}"
    return ""


def await_count(server: servers.Running, expression: str, at: float, wanted: int, *, seconds: float = 60.0) -> None:
    """Wait until an instant query gives the count that was written."""
    deadline = time.monotonic() + seconds
    while True:
        status, body = server.get(f"/api/v1/query?query={quote(expression)}&time={at}{server.query_extra}")
        if status != 200:
            raise RuntimeError(f"{server.name} cannot count what was written: {status} {body[:300]!r}")
        result = json.loads(body)["data"]["result"]
        found = sum(int(float(one["value"][1])) for one in result)
        if found == wanted:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{server.name} acknowledged {wanted} and finds {found}: {expression}")
        time.sleep(0.2)


def measure(
    outcome: Outcome, running: Sequence[servers.Running], queries: Sequence[Query], span: Span, each: int
) -> dict[tuple[str, str], bytes]:
    """Ask the servers each query by turns, so that a machine that changes its speed does so for all; answers bodies by server and query.

    In each of `TURNS` turns a server is asked once, which does not count and brings it what others took of the caches, and `each` times.
    """
    answers = {}
    connections = [server.connect() for server in running]
    for query in queries:
        times: list[list[float]] = [[] for _ in running]
        asked = 0
        for turn in range(TURNS):
            for server, connection, found in zip(running, connections, times, strict=True):
                # Half a second after a sample: exactly at one, Prometheus 2 counts one more into a range than Prometheus 3.
                _, body = _ask(connection, server, query, span, asked)
                if not turn:
                    answers[server.name, query.name] = body
                    server.forget_peak()
                found += [_ask(connection, server, query, span, asked + 1 + number)[0] for number in range(each)]
            asked += 1 + each
        for server, found in zip(running, times, strict=True):
            outcome.add(query.name, server.name, "ms", found)
            if query.big:
                outcome.add(f"{query.name}: peak memory", server.name, "MiB", [server.peak() / 2**20])
    for server, connection in zip(running, connections, strict=True):
        connection.close()
        outcome.add("resident memory at the end", server.name, "MiB", [server.rss() / 2**20])
    return answers


def run(size: fleet.Fleet, each: int, kinds: tuple[servers.Kind, ...], only: str = "") -> Outcome:
    """Load the fleet into each server, ask each query whose name has `only` in it `each` times in each turn."""
    series = size.series
    outcome = Outcome("queries", f"Queries over {series:,} series, {series * POINTS:,} samples", how=FLEET_HOW)
    queries = [q for q in FLEET if only in q.name]
    start_ms = int(time.time() * 1000) // data.STEP_MS * data.STEP_MS - (POINTS + 1) * data.STEP_MS
    rounds = fleet.bodies(size, POINTS, start_ms=start_ms, per_request=2500)
    span = Span((start_ms + 5 * data.STEP_MS) / 1000 + 0.5, STEPS, data.STEP_MS // 1000, start_ms / 1000)
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(servers.running(kind)) for kind in kinds]
        for server in running:
            send(server, shards_of(rounds, SENDERS))
            last = start_ms / 1000 + (POINTS - 1) * data.STEP_MS / 1000
            await_count(server, 'count({__name__=~".+"})', last, series)
            await_count(server, f"sum(count_over_time(vm_memory_bytes[{POINTS * 10}s]))", last, size.servers * 20 * POINTS)
        time.sleep(2)  # let what the load left in the background end: this measures queries
        answers = measure(outcome, running, queries, span, each)
    judge(outcome, answers, queries, span, each)
    return outcome


def run_month(days: int, each: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Load a month of ten series into each server and ask."""
    series, step = 10, 3600
    count = days * fleet.DAY_MS // fleet.MONTH_STEP_MS
    outcome = Outcome("month", f"One metric of {series} series over {days} days, {series * count:,} samples", how=MONTH_HOW)
    start_ms = int(time.time() * 1000) // 60_000 * 60_000 - days * fleet.DAY_MS
    requests = fleet.month(series, days, start_ms=start_ms)
    # Two hours in, so that most windows are full; a second late, to lie beside the samples.
    span = Span(start_ms / 1000 + 7201.5, days * 24 - 2, step, start_ms / 1000)
    with contextlib.ExitStack() as stack:
        kept = servers.environment(VEDETTE_STORAGE_RETENTION="400d")
        running = [stack.enter_context(servers.running(kind, env=kept)) for kind in kinds]
        for server in running:
            send(server, [requests])
            await_count(server, f"sum(count_over_time(events_total[{days + 1}d]))", start_ms / 1000 + days * 86_400, series * count)
        time.sleep(5)
        answers = measure(outcome, running, MONTH, span, each)
    judge(outcome, answers, MONTH, span, each)
    return outcome


def judge(outcome: Outcome, answers: dict[tuple[str, str], bytes], queries: Sequence[Query], span: Span, each: int) -> None:
    """Note which answers differ, and what was promised of the others."""
    _compare(outcome, answers, queries, span.begin)
    for query in queries:
        if query.big:
            outcome.promise_faster(query.name, "victoria-metrics", 3, "budget")
            outcome.promise_faster(query.name, "prometheus", 8, "budget")
            memory = f"{query.name}: peak memory"
            if (theirs := outcome.median(memory, "victoria-metrics")) is not None:
                outcome.promise_at_most(memory, theirs, "MiB", "budget")
        else:
            for peer in ("victoria-metrics", "prometheus"):
                outcome.promise_faster(query.name, peer, 0.5, "budget")
    outcome.notes.append(
        f"All servers run beside each other and are asked by turns: {TURNS} turns of {each} repetitions of each query, medians."
    )


def _compare(outcome: Outcome, answers: dict[tuple[str, str], bytes], queries: Sequence[Query], begin: float) -> None:
    equal: dict[str, list[str]] = {"prometheus": [], "victoria-metrics": []}
    for query in queries:
        outcome.notes.append(f"`{query.name}` is `{query.expression}`.")
        ours = answers.get(("vedette", query.name))
        for peer, names in equal.items():
            theirs = answers.get((peer, query.name))
            if ours is None or theirs is None:
                continue
            told = difference(ours, theirs, since=begin + query.since_s, tolerance=query.tolerance)
            if not told:
                names.append(query.name)
            else:
                why = " by its own definitions" if peer == "victoria-metrics" else ""
                outcome.notes.append(f"`{query.name}`: the answer of {peer} differs{why} ({told}).")
    for peer, names in equal.items():
        if any(server == peer for server, _ in answers) and any(server == "vedette" for server, _ in answers):
            outcome.notes.append(f"Vedette and {peer} gave equal answers to {len(names)} of {len(queries)} queries.")
            if peer == "prometheus":
                outcome.targets.append(Target("answers equal to those of prometheus", len(names), len(queries), "queries", "budget"))
