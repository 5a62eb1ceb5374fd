"""Queries over HTTP: milliseconds from request to the last byte, and whether the servers answer alike.

Every repetition asks for another range (one second later), so no server answers from a cache of results. Answers are
compared between servers: equal means the same series and points, values within 1e-9 of one another. Vedette and Prometheus must
be equal, or the case fails; where VictoriaMetrics differs (its rate does not extrapolate, say), the page tells.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from bench import data, servers
from bench.remote_write import count_back, loaded
from bench.results import Outcome

STEPS = 54
POINTS = 60
HOW = (
    f"Range queries of {STEPS} steps, 10 s apart, over {POINTS} samples of each series, just written. One client, keep-alive; "
    "the time from sending the request to the last byte of the answer. One unmeasured query first; each repetition starts "
    "one second later than the one before (VictoriaMetrics also with `nocache=1`)."
)


@dataclass(frozen=True)
class Query:
    """One expression. `big`: it reads at least a million samples. Answers are compared from `since_s` seconds after the data's start."""

    name: str
    expression: str
    big: bool = False
    one_series: bool = False
    since_s: float = 0.0


QUERIES = (
    Query("sum by (region), all series", 'sum by (region) ({__name__=~"devops_.*"})', big=True),
    # Prometheus 3 extrapolates less than Prometheus 2 to the zero of a counter where a range begins before the data, so those
    # ranges are not compared.
    Query("sum by (region) of rate, one metric", "sum by (region) (rate(devops_net_0[5m]))", since_s=300),
    Query("join of two metrics", "devops_cpu_0 - on (hostname) devops_cpu_1"),
    Query("one series", 'devops_cpu_0{hostname="host_1"}', one_series=True),
)


def _ask(connection: Any, server: servers.Running, query: Query, start: float) -> tuple[float, bytes]:
    end = start + (STEPS - 1) * data.STEP_MS / 1000
    path = f"/api/v1/query_range?query={quote(query.expression)}&start={start}&end={end}&step={data.STEP_MS // 1000}{server.query_extra}"
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    took = time.perf_counter() - began
    if answer.status != 200:
        raise RuntimeError(f"{server.name}: {query.expression}: {answer.status} {body[:300]!r}")
    return took * 1000, body


def _series(body: bytes, since: float) -> dict[str, list[tuple[float, float]]]:
    found = {}
    for one in json.loads(body)["data"]["result"]:
        labels = json.dumps(one["metric"], sort_keys=True)
        found[labels] = [(float(t), float(v)) for t, v in one["values"] if float(t) >= since]
    return found


def difference(ours: bytes, theirs: bytes, *, since: float = 0.0) -> str:
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
            if not (math.isclose(value, other, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(value) and math.isnan(other))):
                return f"{labels} at {at}: {value!r} against {other!r}"
    return ""


def run(host_count: int, repeats: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Load the data into each server, ask each query `repeats` times."""
    series = host_count * data.FIELDS_PER_HOST
    outcome = Outcome("queries", f"Queries over {series:,} series, {series * POINTS:,} samples", how=HOW)
    start_ms = int(time.time() * 1000) // data.STEP_MS * data.STEP_MS - (POINTS + 1) * data.STEP_MS
    rounds = data.write_bodies(data.hosts(host_count), POINTS, start_ms=start_ms, per_request=2500)
    answers: dict[tuple[str, str], bytes] = {}
    for kind in kinds:
        with loaded(kind, rounds) as server:
            last_ms = start_ms + (POINTS - 1) * data.STEP_MS
            count_back(server, last_ms, POINTS * data.STEP_MS // 1000, series * POINTS)
            time.sleep(2)  # let what the load left in the background end: this measures queries
            connection = server.connect()
            for query in QUERIES:
                # Half a second after a sample: exactly at one, Prometheus 2 counts one more into a range than Prometheus 3.
                first = (start_ms + 5 * data.STEP_MS) / 1000 + 0.5
                _, answers[kind.name, query.name] = _ask(connection, server, query, first)
                cpu = server.cpu()
                times = [_ask(connection, server, query, first + 1 + number)[0] for number in range(repeats)]
                outcome.add(query.name, kind.name, "ms", times)
                if not query.one_series:  # far below the 10 ms in which the kernel accounts CPU time
                    outcome.add(f"{query.name}: CPU", kind.name, "ms", [(server.cpu() - cpu) / repeats * 1000])
            connection.close()
            outcome.add("resident memory at the end", kind.name, "MiB", [server.rss() / 2**20])
    _compare(outcome, answers, start_ms / 1000)
    for query in QUERIES:
        if query.big:
            outcome.promise_faster(query.name, "victoria-metrics", 1, "first release")
            outcome.promise_faster(query.name, "victoria-metrics", 3, "budget")
        if query.one_series:
            outcome.promise_faster(query.name, "prometheus", 0.5, "budget")
    outcome.notes.append(f"{repeats} repetitions of each query, medians.")
    return outcome


def _compare(outcome: Outcome, answers: dict[tuple[str, str], bytes], begin: float) -> None:
    for query in QUERIES:
        outcome.notes.append(f"`{query.name}` is `{query.expression}`.")
        ours = answers.get(("vedette", query.name))
        for peer in ("prometheus", "victoria-metrics"):
            theirs = answers.get((peer, query.name))
            if ours is None or theirs is None:
                continue
            told = difference(ours, theirs, since=begin + query.since_s)
            if told and peer == "victoria-metrics":
                outcome.notes.append(f"`{query.name}`: VictoriaMetrics' answer differs by its own definitions ({told}).")
            elif told:
                raise RuntimeError(f"{query.expression}: Vedette and {peer} differ: {told}")
            else:
                outcome.notes.append(f"`{query.name}`: Vedette and {peer} gave equal answers.")
