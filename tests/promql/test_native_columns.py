"""Kernels over native histograms against the way of one histogram after another: the same result, to the bit, and the same words."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.model.histogram_arithmetic import is_reset
from vedette.model.histograms import CUSTOM_SCHEMA, GAUGE, NO_BUCKETS, NOT_RESET, RESET, UNKNOWN, Histogram, Layout, exponential_bounds
from vedette.model.labels import Labels
from vedette.model.samples import STALE
from vedette.promql import (
    functions,
    native_binary,
    native_bounds,
    native_numbers,
    native_rates,
    native_reconciled,
    native_spans,
    native_sums,
    plan,
    selectors,
)
from vedette.promql.engine import Engine
from vedette.promql.errors import ExecutionError
from vedette.promql.memory import MemoryStorage
from vedette.promql.native_pool import Natives, Pool
from vedette.promql.native_quantiles import variance
from vedette.promql.settings import PromqlSettings

sys.path.insert(0, str(Path(__file__).parent))

import binary_twin
import smoothed_twin

NOW = 1_700_000_000_000
QUERIES = [
    "rate(h[2m])",
    "increase(h[75s])",
    "rate(h[31s])",
    "sum(h)",
    "histogram_quantile(0.9, h)",
    "histogram_quantile(0.2, rate(h[2m]))",
    "avg by (job) (h)",
    "sum by (job) (rate(h[2m]))",
    "avg(increase(h[1m]))",
    "histogram_quantile(0.9, h)",
    "histogram_quantile(0.3, rate(h[2m]))",
    "histogram_quantile(0.5, sum by (job) (rate(h[2m])))",
    "histogram_quantile(0, h)",
    "histogram_quantile(1, h)",
    "histogram_quantile(scalar(vector(NaN)), h)",
    "histogram_quantile(1.5, h)",
    "timestamp(h)",
    "h",
    "last_over_time(h[1m])",
    "rate(h[2m:10s])",
    "histogram_count(rate(h[2m])) + histogram_sum(sum(h))",
    "histogram_count(rate(h[2m]))",
    "histogram_sum(increase(h[75s])) / histogram_count(increase(h[75s]))",
    "histogram_count(sum by (job) (h))",
    "histogram_avg(avg(rate(h[1m])))",
    "histogram_count(h) + histogram_sum(last_over_time(h[1m]))",
    "resets(h[2m]) + histogram_count(sum_over_time(h[1m]))",
    *(f"{f}(h[{w}])" for f in ("delta", "irate", "idelta", "sum_over_time", "avg_over_time", "first_over_time") for w in ("2m", "25s")),
    "changes(h[2m])",
    "resets(h[40s])",
    *(f"{f}(h[{w}] anchored)" for f in ("rate", "increase", "delta", "resets", "changes") for w in ("2m", "25s")),
    *(f"{f}(h[{w}] smoothed)" for f in ("rate", "increase", "delta") for w in ("2m", "25s", "7s")),
    "h smoothed",
    "h smoothed offset 7s",
    "histogram_quantile(0.5, sum by (job) (h smoothed))",
    "histogram_count(rate(h[40s] smoothed)) + histogram_sum(h smoothed @ 1699999953)",
    "delta(h[33s] smoothed offset 3s) - on (i) (h smoothed - h)",
    "histogram_count(sum_over_time(h[1m]))",
    "histogram_sum(resets(h[2m]) + irate(h[1m]))",
    "sum_over_time(rate(h[1m])[1m:10s])",
    "avg_over_time(sum(h)[1m:15s])",
    "rate(sum by (job) (h)[2m:20s])",
    "changes(rate(h[1m])[1m:10s])",
    "histogram_stddev(h)",
    "histogram_stdvar(rate(h[2m]))",
    "histogram_fraction(0, 2, h)",
    "histogram_fraction(-3, 0.7, rate(h[2m]))",
    "histogram_fraction(-Inf, +Inf, h)",
    "histogram_fraction(2, 1, h)",
    "histogram_avg(h)",
    "h * 2",
    "-0.5 * rate(h[2m])",
    "h / 3",
    "h / 0",
    "h / -0 * rate(h[1m]) / 0",
    "h / scalar(count(h) - 3)",
    "rate(h[1m]) / NaN",
    "h + 1 or 2 ^ h or h * h or h / h or 1 / h",
    "h > bool 1 or h == bool 3",
    "h </ 2",
    "1 </ h or h >/ on (i) h or (rate(h[1m]) >/ 0.5)",
    "(h or on (i) sum by (i) (count_over_time(h[20s]))) * on (i) (h offset 40s or on (i) sum by (i) (count_over_time(h[30s])))",
    "h + on (i) fill(1) h offset 90s",
    "h - on (i) group_left fill_right(3) h offset 60s",
    "count_over_time(h[1m]) > on (i) fill_left(0) h offset 50s",
    "h </ on (i) fill(2) count_over_time(h[1m] offset 1m)",
    "rate(h[2m]) * Inf",
    "h / scalar(count(h))",
    "-h",
    "h + h",
    "h - h offset 20s",
    "h + on (i) rate(h[2m])",
    "rate(h[1m]) - on (job) group_left sum by (job) (rate(h[1m]))",
    "h == h",
    "h != h offset 10s",
    "h == bool h offset 10s",
    "h * 2 == h + h",
    "rate(h[1m]) != bool rate(h[1m] offset 1ms)",
    "h > h",
    "h or rate(h[1m])",
    "h and h offset 30s",
    "sum(h or rate(h[1m]))",
    "sum by (job) (rate(h[2m]) or h)",
    "sum_over_time((h or rate(h[1m]))[1m:10s])",
    "count(h == h)",
    "count by (job) (h)",
    "max(h)",
    'count_values("v", h)',
    "quantile_over_time(0.5, h[1m])",
    "label_replace(h, 'k', 'v', '', '')",
    "h @ 1699999990",
    "absent_over_time(h[10s])",
]


def layouts(rng: np.random.Generator) -> list[Layout]:
    def side(most: int):
        return np.unique(rng.integers(-6, 9, rng.integers(0, most))).astype(np.int32)

    found = [Layout(2, t, (), side(9), side(4)) for t in (0.0, 0.5)]
    found += [Layout(2, 0.5, (), side(9), NO_BUCKETS), Layout(2, 0.5, (), NO_BUCKETS, side(5)), Layout(-1, 0.5, (), side(4), NO_BUCKETS)]
    return [*found, Layout(CUSTOM_SCHEMA, 0.0, (0.5, 1.0, 3.0), np.arange(4, dtype=np.int32), NO_BUCKETS)]


def filled(seed: int, *, kinds: int, odd: bool) -> MemoryStorage:
    """Series of histograms of up to `kinds` layouts; with `odd` also gauges, mixtures, NaN and infinite numbers."""
    rng = np.random.default_rng(seed)
    storage, known = MemoryStorage(), layouts(rng)[:kinds]
    for i in range(12):
        labels = Labels.of(__name__="h", job=str(i % 3), i=str(i))
        layout = known[rng.integers(len(known))]
        totals = np.zeros(layout.width)
        for k in range(rng.integers(1, 14)):
            time = NOW - 150_000 + k * 10_000 + int(rng.integers(0, 900))
            if odd and rng.random() < 0.15:
                layout = known[rng.integers(len(known))]
                totals = np.zeros(layout.width)
            if rng.random() < 0.15:
                totals[:] = 0
            totals[2:] += rng.integers(0, 4, layout.width - 2) * (1.0 if rng.random() < 0.7 else 0.3)
            cells = totals.copy()
            cells[0] = cells[2:].sum() + (0.5 if odd and rng.random() < 0.1 else 0.0)
            cells[1] = rng.choice([math.nan, math.inf, 5.0]) if odd and rng.random() < 0.1 else float(cells[0]) * 1.7
            if layout.custom:
                cells[0] -= cells[2]
                cells[2] = 0
            hint = int(rng.choice([UNKNOWN, RESET, NOT_RESET, GAUGE])) if odd and rng.random() < 0.2 else UNKNOWN
            if odd and rng.random() < 0.1:
                storage.add(labels, time, STALE if rng.random() < 0.5 else float(k))
            else:
                storage.add(labels, time, Histogram(layout, cells, hint))
    return storage


def numbers(values: np.ndarray) -> list[int]:
    """The values to the bit; a NaN is a NaN."""
    return np.where(np.isnan(values), np.nan, values).view(np.int64).tolist()


def answer(storage: MemoryStorage, query: str) -> tuple:
    settings = PromqlSettings(extended_range_selectors=True, binop_fill_modifiers=True)
    engine = Engine(storage, settings, ManualClock(NOW / 1000))  # type: ignore[arg-type]  # the read half suffices
    try:
        try:
            result = engine.range("default", query, NOW - 100_000, NOW, 20_000)
        except ExecutionError as error:
            return str(error), {}, [], []
        rows = {labels: (times.tolist(), numbers(values)) for labels, times, values in result.rows()}
        return rows, {labels: (times.tolist(), found) for labels, times, found in result.histogram_rows()}, result.warnings, result.infos
    finally:
        engine.close()


def same(a: Histogram, b: Histogram) -> bool:
    """Equality to the bit; a NaN is a NaN."""
    return (
        a.layout.same(b.layout)
        and np.where(np.isnan(a.cells), 0, a.cells).tobytes() == np.where(np.isnan(b.cells), 0, b.cells).tobytes()
        and (np.isnan(a.cells) == np.isnan(b.cells)).all()
    )


def nearly(a: Histogram, b: Histogram) -> bool:
    """The same but for the last digit: buckets that go into the zero bucket are added up in another order."""
    return a.layout.same(b.layout) and a.hint == b.hint and np.allclose(a.cells, b.cells, rtol=1e-14, atol=0)


def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is done many at a time is done one histogram after another."""

    def no_sums(ev, natives, groups, count, *, mean):
        left = np.zeros((count, natives.shape[1]), dtype=np.bool_)
        for row, group in enumerate(groups.tolist()):
            left[group] |= natives.mask[row]
        return native_sums.Sums(Natives(np.full(left.shape, -1), natives.pool), left, left & False)

    def no_numbers(ev, native, *given):
        return np.zeros(native.present.shape), np.zeros(native.present.shape, dtype=np.bool_)

    def each_reset(natives, places):
        out = np.zeros(len(natives.index), dtype=np.uint8)
        for p in places.tolist():
            out[p] = is_reset(natives.sample(p), natives.sample(p - 1))
        return out

    def each_variance(ev, natives, items):
        return np.array([variance(natives.pool.sample(int(j))) for j in items])

    monkeypatch.setattr(native_spans, "in_columns", lambda *a, **k: None)
    monkeypatch.setattr(native_sums, "of_groups", no_sums)
    monkeypatch.setattr(native_bounds, "of_groups", lambda *a, **k: None)
    monkeypatch.setattr(native_numbers, "quantiles", no_numbers)
    monkeypatch.setattr(native_numbers, "fractions", no_numbers)
    monkeypatch.setattr(functions, "variances", each_variance)
    monkeypatch.setattr(native_binary, "overlaid", binary_twin.overlaid)
    monkeypatch.setattr(native_binary, "refused", binary_twin.refused)
    monkeypatch.setattr(selectors, "resets", each_reset)
    monkeypatch.setattr(selectors, "_smoothed", smoothed_twin.smoothed)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("kinds", "odd"), [(1, False), (3, False), (6, False), (6, True)])
def test_both_ways_answer_the_same(seed, kinds, odd, monkeypatch):
    """Of three seeds each asks a third of the queries, whose histograms are all others."""
    queries = QUERIES[seed % 3 :: 3]
    storage = filled(seed, kinds=kinds, odd=odd)
    quick = [answer(storage, query) for query in queries]
    one_by_one(monkeypatch)
    for query, (rows, native, warnings, infos) in zip(queries, quick, strict=True):
        slow_rows, slow_native, slow_warnings, slow_infos = answer(storage, query)
        assert rows == slow_rows, query
        assert (sorted(warnings), sorted(infos)) == (sorted(slow_warnings), sorted(slow_infos)), query
        assert native.keys() == slow_native.keys(), query
        for labels, (times, found) in native.items():
            assert times == slow_native[labels][0]
            for got, wanted in zip(found, slow_native[labels][1], strict=True):
                assert same(got, wanted), (query, got, wanted)
                assert got.hint == wanted.hint, query


COUNTED = (
    "sum(h)",
    "avg by (job) (h)",
    "rate(h[2m])",
    "sum by (job) (increase(h[75s]))",
    "-delta(h[1m]) * 2",
    "irate(h[1m]) + sum_over_time(h[2m])",
    "avg_over_time(h[2m]) / 2",
    "first_over_time(h[1m]) - on (i) last_over_time(h[1m])",
    "h == h offset 20s",
    "rate(h[2m] anchored)",
    "sum(rate(h[1m]) > bool 0 or h)",
)


@pytest.mark.parametrize(("kinds", "odd"), [(5, False), (6, True)])
def test_counts_and_sums_are_the_same_without_buckets(kinds, odd, monkeypatch):
    """Reading no buckets must not show: what is told of resets is told of whole histograms."""
    storage = filled(kinds, kinds=kinds, odd=odd)
    queries = [f"{f}({query})" for query in COUNTED for f in ("histogram_count", "histogram_avg")]
    made: list[int] = []
    without = Pool.bucketless
    monkeypatch.setattr(Pool, "bucketless", lambda pool: made.append(len(pool)) or without(pool))
    quick = [answer(storage, query) for query in queries]
    assert len(made) >= 2 * (len(COUNTED) - 3) and all(made)
    monkeypatch.setattr(plan, "_HEADS_ALONE", frozenset())
    before = len(made)
    for query, found in zip(queries, quick, strict=True):
        assert found == answer(storage, query), query
    assert len(made) == before


def test_what_takes_no_columns_is_given_a_matrix():
    storage = filled(1, kinds=1, odd=False)
    plain = answer(storage, "rate(h[2m])")[1]
    times, counts = answer(storage, "count(rate(h[2m]))")[0][Labels()]
    there = Counter(time for row, _ in plain.values() for time in row)
    assert dict(zip(times, np.array(counts).view(np.float64).tolist(), strict=True)) == there
    marked = {Labels.of({**labels.as_dict(), "k": "v"}) for labels in plain}
    assert answer(storage, 'label_replace(rate(h[2m]), "k", "v", "", "")')[1].keys() == marked
    assert answer(storage, "rate(h[2m] @ 1700000000)")[1].keys() <= plain.keys()


def real_life(kind: str) -> MemoryStorage:
    """Counters as they are: buckets come one after another, or a schema is halved, or neither; or gauges, or custom buckets."""
    rng = np.random.default_rng(7)
    storage = MemoryStorage()
    custom = Layout(CUSTOM_SCHEMA, 0.0, (0.5, 1.0, 3.0), np.arange(4, dtype=np.int32), NO_BUCKETS)
    for i in range(6):
        labels = Labels.of(__name__="h", job=str(i % 2), i=str(i))
        totals = np.zeros(8)
        for k in range(14):
            totals += rng.integers(1, 5, 8)
            indices = np.arange(8, dtype=np.int32)
            layout, counts = Layout(3, 0.001, (), indices, NO_BUCKETS), totals
            if kind == "buckets":
                layout, counts = Layout(3, 0.001, (), indices[: 3 + k // 3], NO_BUCKETS), totals[: 3 + k // 3]
            elif kind == "schemas" and k > 6 + i:
                where = np.unique(((indices - 1) >> 1) + 1, return_inverse=True)
                layout = Layout(2, 0.001, (), where[0].astype(np.int32), NO_BUCKETS)
                counts = np.bincount(where[1].reshape(-1), weights=totals)
            elif kind == "custom":
                layout, counts = custom, totals[:4]
            elif kind == "bounds":
                # Some series have other bounds than others, as where programs of two releases run.
                edges = (0.5, 1.0, 3.0) if i % 3 else (0.25, 1.0, 2.0, 3.0)
                layout, counts = Layout(CUSTOM_SCHEMA, 0.0, edges, np.arange(4, dtype=np.int32), NO_BUCKETS), totals[:4]
            elif kind == "reaching":
                # Some have widened their zero bucket over the lowest of the others, as clients do that have too many.
                taken = (i + k // 5) % 3 * 2
                sides = Layout(
                    3, float(exponential_bounds(3, indices)[taken - 1]) if taken else 1e-9, (), indices[taken:], indices[taken:5]
                )
                counts = np.concatenate([totals[taken:], totals[taken:5]])
                zero = float(totals[:taken].sum() * 2)
                h = Histogram(sides, np.array([counts.sum() + zero, 2.5 * counts.sum(), zero, *counts]))
                storage.add(labels, NOW - 150_000 + k * 10_000, h)
                continue
            elif kind == "zero buckets":
                # Wider in some series, and from some time on, but never as wide as the first bucket is far.
                layout = Layout(3 - i % 2, (0.0, 1e-9, 0.001)[(i + k // 7) % 3], (), indices, NO_BUCKETS)
            h = Histogram(layout, np.array([counts.sum(), 2.5 * counts.sum(), 0.0, *counts]), GAUGE if kind == "gauges" else UNKNOWN)
            storage.add(labels, NOW - 150_000 + k * 10_000, h)
    return storage


REAL_LIFE = ("same", "buckets", "schemas", "gauges", "custom")
SUMS = (
    "sum(h)",
    "avg by (job) (h)",
    "sum by (job) (rate(h[40s]))",
    "sum_over_time(h[1m])",
    "avg_over_time(h[1m])",
    "h + ignoring (i) group_left sum by (job) (h)",
    "h - h offset 50s",
)


@pytest.mark.parametrize("kind", ["zero buckets", "schemas", "buckets", "bounds", "reaching"])
def test_sums_of_unlike_layouts_are_those_of_one_after_another(kind, monkeypatch):
    storage = real_life(kind)
    whole = [answer(storage, query) for query in SUMS]
    with monkeypatch.context() as twin:
        one_by_one(twin)
        for query, quick in zip(SUMS, whole, strict=True):
            slow = answer(storage, query)
            assert (quick[0], quick[1].keys(), *quick[2:]) == (slow[0], slow[1].keys(), *slow[2:])
            for labels, (times, found) in quick[1].items():
                assert times == slow[1][labels][0]
                for got, wanted in zip(found, slow[1][labels][1], strict=True):
                    alike = nearly if kind == "reaching" and "rate" in query else same
                    assert alike(got, wanted), (query, got, wanted)


def test_vectors_that_could_hold_histograms_and_hold_none():
    """A smoothed selector makes nothing of a float beside a histogram: what is left has columns of histograms without any in them."""
    storage = MemoryStorage()
    storage.add(
        Labels.of(__name__="h", i="0"), NOW - 50_000, real_life("same").samples[Labels.of(__name__="h", job="0", i="0")][NOW - 20_000]
    )
    storage.add(Labels.of(__name__="h", i="0"), NOW - 60_000, 4.0)
    for k in range(10):
        storage.add(Labels.of(__name__="h", i="1"), NOW - 100_000 + 10_000 * k, float(k))
    settings = PromqlSettings(extended_range_selectors=True)
    engine = Engine(storage, settings, ManualClock(NOW / 1000))  # type: ignore[arg-type]  # the read half suffices
    try:
        for op in ("* 2", "/ -1", "+ h", "- h", "== bool 0"):
            for vector in ("h smoothed", "(h smoothed == bool 0)", "-(h smoothed > 3)"):
                result = engine.range("default", f"({vector}) {op}", NOW - 90_000, NOW - 20_000, 10_000)
                assert not result.histogram_rows()
                assert json.loads(result.json())["resultType"] == "matrix"
    finally:
        engine.close()


def test_zero_buckets_that_take_others_in_are_widened_in_columns(monkeypatch):
    storage = real_life("reaching")
    monkeypatch.setattr(Pool, "sample", lambda pool, j: pytest.fail("an object was made"))
    for query in ("sum(h)", "avg by (job) (h)", "h + ignoring (i) group_left sum by (job) (h)", "h - h offset 50s"):
        assert answer(storage, f"histogram_quantile(0.2, {query})")[0], query


@pytest.mark.parametrize("kind", ["zero buckets", "bounds"])
def test_zero_buckets_that_take_no_other_in_and_unlike_bounds_are_summed_in_columns(kind, monkeypatch):
    storage = real_life(kind)
    monkeypatch.setattr(Pool, "sample", lambda pool, j: pytest.fail("an object was made"))
    for query in ("sum(h)", "avg by (job) (h)", "sum_over_time(h[1m])"):
        assert answer(storage, f"histogram_count({query})")[0], query


@pytest.mark.parametrize("kind", REAL_LIFE)
def test_no_object_is_made_of_any_histogram(kind, monkeypatch):
    storage = real_life(kind)

    def never(pool, j):
        raise AssertionError(f"histogram {j} was made an object")

    monkeypatch.setattr(Pool, "sample", never)
    of_one = ("histogram_count({})", "histogram_quantile(0.7, {})", "histogram_fraction(0.2, 2, {})", "histogram_stddev({})")
    vectors = ("h", "rate(h[1m])", "delta(h[1m])", "irate(h[1m])", "sum_over_time(h[45s])", "avg by (job) (h)", "sum(rate(h[1m]))")
    vectors += ("h smoothed", "h / 0", "h </ 2")
    if kind != "schemas":
        vectors += ("rate(h[1m] smoothed)", "delta(h[45s] smoothed)")
    vectors += ("h / 4", "rate(h[1m]) * 2", "h + h offset 20s", "-h", "h or h", "last_over_time(h[1m])", "h and h", "h @ end()")
    queries = [one.format(vector) for vector in vectors for one in of_one]
    for query in [*queries, "resets(h[1m])", "count(h == h)", "histogram_sum(rate(h[1m:10s]))", "count by (job) (h)"]:
        assert answer(storage, query)[0], query


@pytest.mark.parametrize("kind", REAL_LIFE)
def test_a_part_at_a_time_gives_the_same(kind, monkeypatch):
    storage = real_life(kind)
    queries = ("rate(h[1m])", "sum_over_time(h[1m])", "sum by (job) (increase(h[50s]))", "histogram_quantile(0.5, h)", "delta(h[35s])")
    whole = [answer(storage, query) for query in queries]
    monkeypatch.setattr(native_rates, "_CELLS_AT_ONCE", 40)
    monkeypatch.setattr(native_sums, "_CELLS_AT_ONCE", 40)
    monkeypatch.setattr(native_numbers, "_AT_ONCE", 3)
    monkeypatch.setattr(native_numbers, "_WORTH", 1)
    for query, (rows, native, warnings, infos) in zip(queries, whole, strict=True):
        again = answer(storage, query)
        assert (rows, warnings, infos) == (again[0], again[2], again[3])
        assert native.keys() == again[1].keys()
        for labels, (times, found) in native.items():
            assert times == again[1][labels][0]
            assert all(same(a, b) for a, b in zip(found, again[1][labels][1], strict=True)), query


def test_answers_in_several_pieces_are_one(monkeypatch):
    storage = real_life("buckets")
    engine = Engine(storage, PromqlSettings(), ManualClock(NOW / 1000))  # type: ignore[arg-type]  # the read half suffices
    try:
        whole = engine.range("default", "rate(h[1m])", NOW - 100_000, NOW, 20_000).json()
        monkeypatch.setattr("vedette.promql.result._CHUNK_POINTS", 20)
        pieces = list(engine.range("default", "rate(h[1m])", NOW - 100_000, NOW, 20_000).pieces())
    finally:
        engine.close()
    assert len(pieces) > 4
    assert b"".join(pieces) == whole
    assert len(json.loads(whole)["result"]) == 6


CUSTOM = [
    Layout(CUSTOM_SCHEMA, 0.0, (0.5, 1.0, 3.0, 7.0), np.arange(5, dtype=np.int32), NO_BUCKETS),
    Layout(CUSTOM_SCHEMA, 0.0, (0.25, 1.0, 2.0, 3.0), np.array([0, 2, 3, 4], dtype=np.int32), NO_BUCKETS),
    Layout(CUSTOM_SCHEMA, 0.0, (1.0, 3.0), np.arange(3, dtype=np.int32), NO_BUCKETS),
    Layout(CUSTOM_SCHEMA, 0.0, (11.0,), np.array([1], dtype=np.int32), NO_BUCKETS),
    Layout(CUSTOM_SCHEMA, 0.0, (0.5, 1.0, 3.0, 7.0), np.array([1, 4], dtype=np.int32), NO_BUCKETS),
]


def rebounded(seed: int) -> MemoryStorage:
    """Series whose custom bounds change now and then, with resets and hints there and elsewhere."""
    rng = np.random.default_rng(seed)
    storage = MemoryStorage()
    for i in range(8):
        layout, totals = CUSTOM[rng.integers(len(CUSTOM))], np.zeros(8)
        gauge = i == 7
        for k in range(15):
            if rng.random() < 0.12:
                layout = CUSTOM[rng.integers(len(CUSTOM))]
            if rng.random() < 0.15:
                totals[:] = 0
            totals += rng.integers(0, 4, 8) * (1.0 if i % 2 else 0.3)
            counts = totals[: layout.width - 3]
            hint = GAUGE if gauge else int(rng.choice([RESET, NOT_RESET, GAUGE])) if rng.random() < 0.1 else UNKNOWN
            h = Histogram(layout, np.array([counts.sum(), 1.7 * counts.sum(), 0.0, *counts]), hint)
            storage.add(Labels.of(__name__="h", job=str(i % 2), i=str(i)), NOW - 150_000 + k * 10_000 + int(rng.integers(0, 900)), h)
    return storage


REBOUNDED = [f"{f}(h[{w}])" for f in ("rate", "increase", "delta", "irate", "idelta") for w in ("2m", "75s", "25s")]
REBOUNDED += ["histogram_quantile(0.7, sum by (job) (rate(h[1m])))", "rate(h[2m:10s])", "histogram_count(increase(h[50s]))"]


@pytest.mark.parametrize("seed", range(4))
def test_rates_over_bounds_that_change_are_the_same_one_by_one(seed, monkeypatch):
    storage = rebounded(seed)
    made, left = [], []
    together, alone = native_reconciled.of_windows, native_spans.result

    def seen(*args, **how):
        found = together(*args, **how)
        made.append(int(found.made.sum()))
        return found

    with monkeypatch.context() as spying:
        spying.setattr(native_reconciled, "of_windows", seen)
        spying.setattr(native_spans, "result", lambda *args: left.append(args) or alone(*args))
        quick = [answer(storage, query) for query in REBOUNDED]
    assert sum(made) > len(left) > 0, "most windows are of one change, some are of more"
    one_by_one(monkeypatch)
    for query, (rows, native, warnings, infos) in zip(REBOUNDED, quick, strict=True):
        slow_rows, slow_native, slow_warnings, slow_infos = answer(storage, query)
        assert rows == slow_rows, query
        assert (sorted(warnings), sorted(infos)) == (sorted(slow_warnings), sorted(slow_infos)), query
        assert native.keys() == slow_native.keys(), query
        for labels, (times, found) in native.items():
            assert times == slow_native[labels][0]
            for got, wanted in zip(found, slow_native[labels][1], strict=True):
                assert same(got, wanted), (query, got, wanted)
                assert got.hint == wanted.hint, query
