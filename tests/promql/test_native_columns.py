"""Kernels over native histograms against the way of one histogram after another: the same result, to the bit, and the same words."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.model.histogram_arithmetic import equal
from vedette.model.histograms import CUSTOM_SCHEMA, GAUGE, NO_BUCKETS, NOT_RESET, RESET, UNKNOWN, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.samples import STALE
from vedette.promql import native_columns, selectors
from vedette.promql.engine import Engine
from vedette.promql.memory import MemoryStorage
from vedette.promql.settings import PromqlSettings

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


def answer(storage: MemoryStorage, query: str) -> tuple:
    engine = Engine(storage, PromqlSettings(), ManualClock(NOW / 1000))  # type: ignore[arg-type]  # the read half suffices
    try:
        result = engine.range("default", query, NOW - 100_000, NOW, 20_000)
        rows = {labels: (times.tolist(), np.asarray(values).view(np.int64).tolist()) for labels, times, values in result.rows()}
        return rows, {labels: (times.tolist(), found) for labels, times, found in result.histogram_rows()}, result.warnings, result.infos
    finally:
        engine.close()


def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(native, q):
        return np.zeros(native.present.shape), np.zeros(native.present.shape, dtype=np.bool_)

    monkeypatch.setattr(selectors, "rated", lambda *a, **k: None)
    monkeypatch.setattr(selectors, "latest", lambda *a, **k: None)
    monkeypatch.setattr(native_columns, "rates", lambda *a, **k: ())
    monkeypatch.setattr(native_columns, "summed", lambda *a, **k: None)
    monkeypatch.setattr(native_columns, "quantiles", nothing)
    monkeypatch.setattr(selectors, "compared", lambda *a: None)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("kinds", "odd"), [(1, False), (3, False), (6, False), (6, True)])
def test_both_ways_answer_the_same(seed, kinds, odd, monkeypatch):
    storage = filled(seed, kinds=kinds, odd=odd)
    quick = [answer(storage, query) for query in QUERIES]
    one_by_one(monkeypatch)
    for query, (rows, native, warnings, infos) in zip(QUERIES, quick, strict=True):
        slow_rows, slow_native, slow_warnings, slow_infos = answer(storage, query)
        assert rows == slow_rows, query
        assert (sorted(warnings), sorted(infos)) == (sorted(slow_warnings), sorted(slow_infos)), query
        assert native.keys() == slow_native.keys(), query
        for labels, (times, found) in native.items():
            assert times == slow_native[labels][0]
            for got, wanted in zip(found, slow_native[labels][1], strict=True):
                assert equal(got, wanted), (query, got, wanted)
                assert got.hint == wanted.hint, query


@pytest.mark.parametrize("query", ["rate(h[2m])", "histogram_count(rate(h[2m]))", "histogram_sum(sum(increase(h[1m])))"])
def test_the_plain_case_is_taken_by_kernels(query, monkeypatch):
    storage = filled(1, kinds=1, odd=False)
    calls = []
    monkeypatch.setattr("vedette.promql.native_windows._result", lambda *a: calls.append(a))
    rows, native, _, _ = answer(storage, query)
    assert rows or native
    assert calls == [], "a window was evaluated by itself"


@pytest.mark.parametrize(
    "query",
    ["histogram_count(rate(h[2m]))", "histogram_sum(h)", "histogram_avg(avg by (job) (increase(h[1m])))", "sum(h)", "sum(rate(h[2m]))"],
)
def test_plain_ones_are_summed_and_counted_without_an_object_for_each(query, monkeypatch):
    storage = filled(1, kinds=1, odd=False)

    def never(*args, **kwargs):
        raise AssertionError("objects of all histograms were made")

    monkeypatch.setattr(selectors, "_mixed_instants", never)
    monkeypatch.setattr(native_columns, "rates", never)
    monkeypatch.setattr(native_columns, "summed", never)
    rows, native, warnings, _ = answer(storage, query)
    assert rows or native
    assert warnings == []


def test_what_takes_no_columns_is_given_a_matrix():
    storage = filled(1, kinds=1, odd=False)
    plain = answer(storage, "rate(h[2m])")[1]
    times, counts = answer(storage, "count(rate(h[2m]))")[0][Labels()]
    there = Counter(time for row, _ in plain.values() for time in row)
    assert dict(zip(times, np.array(counts).view(np.float64).tolist(), strict=True)) == there
    marked = {Labels.of({**labels.as_dict(), "k": "v"}) for labels in plain}
    assert answer(storage, 'label_replace(rate(h[2m]), "k", "v", "", "")')[1].keys() == marked
    assert answer(storage, "rate(h[2m] @ 1700000000)")[1].keys() <= plain.keys()


def test_plain_histograms_are_not_compared_one_by_one(monkeypatch):
    """Where counts alone are wanted, each is compared with the one before it, to say whether the counter was reset."""
    storage = filled(2, kinds=1, odd=False)
    calls = []
    monkeypatch.setattr(selectors, "is_reset", lambda now, before: calls.append(now) or False)
    monkeypatch.setattr(selectors, "latest", lambda *a, **k: None)
    assert answer(storage, "histogram_count(h)")[0]
    assert calls == []
    with monkeypatch.context() as without:
        without.setattr(selectors, "compared", lambda *a: None)
        assert answer(storage, "histogram_count(h)")[0]
    assert calls != [], "they would be, but for the kernel"


def test_means_that_overflow_are_taken_as_one_goes_along():
    layout = Layout(0, 0.0, (), np.array([1], dtype=np.int32), NO_BUCKETS)
    huge = [Histogram(layout, np.array([1.5e308, 1.0, 0.0, 1.5e308])) for _ in range(3)]
    assert native_columns.summed(huge, mean=True) is None
    storage = MemoryStorage()
    for i, h in enumerate(huge):
        storage.add(Labels.of(__name__="h", i=str(i)), NOW - 1000, h)
    ((_, found),) = answer(storage, "avg(h)")[1].values()
    assert found[-1].count == pytest.approx(1.5e308)


def test_sums_of_more_rows_than_are_taken_at_once(monkeypatch):
    monkeypatch.setattr(native_columns, "_ROWS_AT_ONCE", 3)
    layout = Layout(0, 0.0, (), np.array([1], dtype=np.int32), NO_BUCKETS)
    samples = [Histogram(layout, np.array([0.1 * i, 1.0, 0.0, 0.1 * i])) for i in range(11)]
    total = native_columns.summed(samples, mean=False)
    assert total is not None
    assert total.count == math.fsum(0.1 * i for i in range(11))
