"""Native histograms: functions of hundreds of thousands of buckets, beside Prometheus with its flag for them.

The requests are made without any of Vedette's own code. Prometheus 2 interpolates within an exponential bucket along a line and
Prometheus 3, as Vedette, along an exponential curve: quantiles differ by that, and what differs is told, not judged. Histograms in
answers are not compared here.
"""

from __future__ import annotations

import contextlib
import itertools
import struct
import time
from dataclasses import replace

import cramjam
import numpy as np

from bench import data, queries, servers
from bench.remote_write import send, shards_of
from bench.results import Outcome
from bench.shapes import FULL_RANGE, Query

PEER = replace(servers.PROMETHEUS, options=("--enable-feature=native-histograms",))
BUCKETS, SCHEMA, FIRST_BUCKET = 24, 3, 10
FEWEST = 8
"""Buckets that a series of `job_seconds` has at first; the others come one after another."""
RATES, NEW_RATES = "rate(rpc_seconds[5m])", "rate(job_seconds[5m])"
SHAPES = (
    Query("quantile of sums", f"histogram_quantile(0.99, sum by (region) ({RATES}))", since_s=FULL_RANGE),
    Query("quantile of each", f"max(histogram_quantile(0.9, {RATES}))", since_s=FULL_RANGE),
    Query("observations a second", f"sum by (region) (histogram_count({RATES}))", since_s=FULL_RANGE),
    Query("mean of sums", f"histogram_sum(sum({RATES})) / histogram_count(sum({RATES}))", since_s=FULL_RANGE),
    Query("sum of the last", "histogram_count(sum by (region) (rpc_seconds))"),
    Query("fractions", f"max(histogram_fraction(0, 10, {RATES}))", since_s=FULL_RANGE, tolerance=0.02),
    Query("every histogram", RATES, since_s=FULL_RANGE),
    Query("quantile of sums, buckets come", f"histogram_quantile(0.99, sum by (region) ({NEW_RATES}))", since_s=FULL_RANGE),
    Query("mean of each, buckets come", f"max(histogram_sum({NEW_RATES}) / histogram_count({NEW_RATES}))", since_s=FULL_RANGE),
    Query("sum of the last, buckets come", "histogram_count(sum by (region) (job_seconds))"),
)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _zigzag(number: int) -> int:
    return number * 2 if number >= 0 else -number * 2 - 1


def _nested(tag: int, payload: bytes) -> bytes:
    return bytes([tag]) + _varint(len(payload)) + payload


def histogram(counts: list[int], total: float, time_ms: int) -> bytes:
    """A `Histogram` of remote write 1.0: `counts` of the buckets, the sum of what was observed."""
    deltas = [counts[0], *(b - a for a, b in itertools.pairwise(counts))]
    return b"".join(
        (
            b"\x08" + _varint(sum(counts)),
            b"\x19" + struct.pack("<d", total),
            b"\x20" + _varint(_zigzag(SCHEMA)),
            b"\x29" + struct.pack("<d", 1e-9),
            b"\x30\x00",
            _nested(0x5A, b"\x08" + _varint(_zigzag(FIRST_BUCKET)) + b"\x10" + _varint(len(counts))),
            _nested(0x62, b"".join(_varint(_zigzag(d)) for d in deltas)),
            b"\x78" + _varint(time_ms),
        )
    )


def bodies(series: int, steps: int, *, start_ms: int, per_request: int) -> list[list[bytes]]:
    """`bodies[step][request]`: requests of `series` native histograms of each metric, `data.STEP_MS` apart."""
    random = np.random.default_rng(12)
    labels = []
    for number in range(2 * series):
        name = "rpc_seconds" if number < series else "job_seconds"
        named = {"__name__": name, "region": data.REGIONS[number % len(data.REGIONS)], "service": f"svc-{number % series:05}"}
        labels.append(b"".join(data.label_field(name, value) for name, value in sorted(named.items())))
    counts, rounds = np.zeros((2 * series, BUCKETS), dtype=np.int64), []
    middles = 2.0 ** ((FIRST_BUCKET + np.arange(BUCKETS) - 0.5) / 2**SCHEMA)
    # When each series sees an observation of each bucket for the first time.
    first_seen = np.zeros(counts.shape)
    first_seen[series:, FEWEST:] = np.sort(random.uniform(0, 1.2 * steps, (series, BUCKETS - FEWEST)), axis=1)
    for step in range(steps):
        known = first_seen <= step
        counts += np.where(known, 1 + random.poisson(3, counts.shape), 0)
        widths, now, sums, at = known.sum(axis=1).tolist(), counts.tolist(), (counts @ middles).tolist(), start_ms + step * data.STEP_MS
        messages = [_nested(0x0A, labels[i] + _nested(0x22, histogram(now[i][: widths[i]], sums[i], at))) for i in range(2 * series)]
        requests = [b"".join(messages[i : i + per_request]) for i in range(0, len(messages), per_request)]
        rounds.append([bytes(cramjam.snappy.compress_raw(one)) for one in requests])
    return rounds


def run(series: int, each: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Load the histograms into Vedette and Prometheus, and ask each query `each` times in each turn."""
    points = queries.POINTS
    how = f"{queries.FLEET_HOW} VictoriaMetrics has no native histograms."
    title = f"Native histograms: {series:,} series of {BUCKETS} buckets, and as many whose buckets come one after another"
    outcome = Outcome("native", title, how=how)
    start_ms = int(time.time() * 1000) // data.STEP_MS * data.STEP_MS - (points + 1) * data.STEP_MS
    rounds = bodies(series, points, start_ms=start_ms, per_request=500)
    span = queries.Span((start_ms + 5 * data.STEP_MS) / 1000 + 0.5, queries.STEPS, data.STEP_MS // 1000, start_ms / 1000)
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(servers.running(PEER if kind is servers.PROMETHEUS else kind))
            for kind in kinds
            if kind is not servers.VICTORIA
        ]
        for server in running:
            send(server, shards_of(rounds, queries.SENDERS))
            last = start_ms / 1000 + (points - 1) * data.STEP_MS / 1000
            for metric in ("rpc_seconds", "job_seconds"):
                queries.await_count(server, f"sum(count_over_time({metric}[{points * 10}s]))", last, series * points)
        answers = queries.measure(outcome, running, SHAPES, span, each)
    _judge(outcome, answers, span, each)
    return outcome


def _judge(outcome: Outcome, answers: dict[tuple[str, str], bytes], span: queries.Span, each: int) -> None:
    for query in SHAPES:
        outcome.promise_faster(query.name, "prometheus", 8, "budget")
        outcome.notes.append(f"`{query.name}` is `{query.expression}`.")
        ours, theirs = answers.get(("vedette", query.name)), answers.get(("prometheus", query.name))
        if ours is not None and theirs is not None and (told := queries.difference(ours, theirs, since=span.begin + query.since_s)):
            outcome.notes.append(f"`{query.name}`: the answer of prometheus differs ({told}).")
    outcome.notes.append(f"Asked by turns: {queries.TURNS} turns of {each} repetitions of each query, medians.")
