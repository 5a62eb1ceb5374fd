"""The window kernels against plain Python."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.kernels import windows as k
from vedette.kernels.quantiles import quantile_of, quantile_of_window
from vedette.model.samples import STALE

_spec = importlib.util.spec_from_file_location("naive_promql", Path(__file__).parent.parent / "promql" / "naive.py")
assert _spec is not None and _spec.loader is not None
naive: ModuleType = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(naive)

FIRST, STEP, N, RANGE = 100_000, 17_000, 30, 90_000
CODES = {
    "sum_over_time": k.SUM,
    "avg_over_time": k.AVG,
    "count_over_time": k.COUNT,
    "min_over_time": k.MIN,
    "max_over_time": k.MAX,
    "stdvar_over_time": k.STDVAR,
    "last_over_time": k.LAST,
    "first_over_time": k.FIRST,
    "present_over_time": k.PRESENT,
    "changes": k.CHANGES,
    "resets": k.RESETS,
    "irate": k.IRATE,
    "idelta": k.IDELTA,
    "quantile_over_time": k.QUANTILE,
}


@pytest.fixture(scope="module")
def series() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Twelve series: counters with resets, gauges, gaps, NaN and infinities, one empty, one of a single sample."""
    rng = np.random.default_rng(11)
    offsets, ts, vals = [0], [], []
    for s in range(12):
        count = (0, 1)[s] if s < 2 else int(rng.integers(10, 60))
        times = np.cumsum(rng.integers(3_000, 25_000, count))
        if s % 3 == 0:
            values = np.cumsum(rng.integers(0, 9, count)).astype(float)
            for cut in rng.integers(0, max(1, count), 4 if count else 0):
                values[cut:] -= values[cut]
        else:
            values = rng.normal(size=count) * 10
        if s == 7:
            values[::4] = math.nan
        if s == 8:
            values[::5] = math.inf
            values[2::9] = -math.inf
        ts.append(times)
        vals.append(values)
        offsets.append(offsets[-1] + count)
    return np.array(offsets, dtype=np.int64), np.concatenate(ts).astype(np.int64), np.concatenate(vals)


def windows(series: tuple[np.ndarray, ...], row: int, step: int) -> list[tuple[int, float]]:
    offsets, ts, vals = series
    end = FIRST + step * STEP
    lo, hi = offsets[row], offsets[row + 1]
    return [(int(t), float(v)) for t, v in zip(ts[lo:hi], vals[lo:hi], strict=True) if end - RANGE < t <= end]


def agree(out: np.ndarray, present: np.ndarray, wanted: dict[tuple[int, int], float]) -> None:
    got = {(int(r), int(s)): out[r, s] for r, s in zip(*np.nonzero(present), strict=True)}
    assert got.keys() == wanted.keys()
    assert wanted, "the data leaves nothing to compare"
    for at, value in wanted.items():
        assert (math.isnan(value) and math.isnan(got[at])) or got[at] == pytest.approx(value, rel=1e-9, abs=1e-9), at


def room() -> tuple[np.ndarray, np.ndarray]:
    return np.full((12, N), -1.0), np.zeros((12, N), dtype=np.bool_)


@pytest.mark.parametrize("name", CODES)
def test_over_time(name: str, series: tuple[np.ndarray, ...]) -> None:
    out, present = room()
    q = np.full(N, 0.7)
    times = FIRST + STEP * np.arange(N, dtype=np.int64)
    k.over_time(CODES[name], *series, 0, 12, FIRST, STEP, N, RANGE, q, q, times, out, present)
    wanted = {}
    for row in range(12):
        for step in range(N):
            points = windows(series, row, step)
            end = FIRST + step * STEP
            if points and (value := naive.over_window(name, points, end - RANGE, end, 0.7)) is not None:
                wanted[(row, step)] = value
    agree(out, present, wanted)


@pytest.mark.parametrize(("kind", "name"), [(k.RATE, "rate"), (k.INCREASE, "increase"), (k.DELTA, "delta")])
def test_extrapolated(kind: int, name: str, series: tuple[np.ndarray, ...]) -> None:
    out, present = room()
    k.extrapolated(kind, *series, 0, 12, FIRST, STEP, N, RANGE, out, present)
    wanted = {}
    for row in range(12):
        for step in range(N):
            end = FIRST + step * STEP
            value = naive.extrapolated(name, windows(series, row, step), end - RANGE, end)
            if value is not None:
                wanted[(row, step)] = value
    agree(out, present, wanted)


def test_a_part_of_the_rows_is_what_the_whole_has_there(series: tuple[np.ndarray, ...]) -> None:
    out, present = room()
    k.extrapolated(k.RATE, *series, 0, 12, FIRST, STEP, N, RANGE, out, present)
    part, part_present = room()
    k.extrapolated(k.RATE, *series, 5, 9, FIRST, STEP, N, RANGE, part, part_present)
    np.testing.assert_array_equal(part_present[:4], present[5:9])
    np.testing.assert_array_equal(part[:4][part_present[:4]], out[5:9][present[5:9]])
    assert not part_present[4:].any()


def test_the_last_sample_unless_stale_or_too_old() -> None:
    offsets = np.array([0, 3, 3, 5], dtype=np.int64)
    ts = np.array([10, 20, 30, 5, 40], dtype=np.int64)
    vals = np.array([1.0, STALE, math.nan, 7.0, 8.0])
    out, present = np.zeros((3, 5)), np.zeros((3, 5), dtype=np.bool_)
    k.last_sample(offsets, ts, vals, 0, 3, 10, 10, 5, 15, False, out, present)
    assert present.tolist() == [[True, False, True, True, False], [False] * 5, [True, False, False, True, True]]
    assert out[0, 0] == 1.0
    assert math.isnan(out[0, 2])
    assert out[2, 3] == 8.0
    k.last_sample(offsets, ts, vals, 0, 3, 10, 10, 5, 15, True, out, present)
    assert out[2, 4] == 0.04


def test_stale_markers_are_taken_out_by_their_bits() -> None:
    offsets = np.array([0, 2, 5], dtype=np.int64)
    ts = np.arange(5, dtype=np.int64)
    vals = np.array([STALE, math.nan, 1.0, STALE, 2.0])
    assert k.count_stale(vals) == 2
    out = (np.empty(3, dtype=np.int64), np.empty(3, dtype=np.int64), np.empty(3))
    k.without_stale(offsets, ts, vals, *out)
    assert out[0].tolist() == [0, 1, 3]
    assert out[1].tolist() == [1, 2, 4]
    assert math.isnan(out[2][0])


def test_a_matrix_becomes_series() -> None:
    values = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    present = np.array([[True, False, True], [False, True, False]])
    offsets, ts, vals = np.empty(3, dtype=np.int64), np.empty(3, dtype=np.int64), np.empty(3)
    k.to_series(values, present, 100, 10, offsets, ts, vals)
    assert (offsets.tolist(), ts.tolist(), vals.tolist()) == ([0, 2, 3], [100, 120, 110], [1.0, 3.0, 5.0])


@pytest.mark.parametrize("q", [-0.5, 0.0, 0.3, 1.0, 2.0, math.nan])
def test_quantiles_sort_nan_first(q: float) -> None:
    values = [3.0, math.nan, -math.inf, 8.0, 1.0]
    got = quantile_of(q, np.array(values), 5)
    wanted = naive.quantile(q, values)
    assert (math.isnan(got) and math.isnan(wanted)) or got == pytest.approx(wanted)


def test_regression_and_smoothing() -> None:
    ts = np.array([1000, 2000, 3000, 4000], dtype=np.int64)
    vals = np.array([1.0, 3.0, 5.0, 7.5])
    x, y = ts / 1000, vals
    slope, intercept = np.polyfit(x - 10, y, 1)
    out, present = np.empty((1, 1)), np.empty((1, 1), dtype=np.bool_)
    args = (np.array([0, 4], dtype=np.int64), ts, vals, 0, 1, 4000, 1, 1, 10_000)
    times = np.array([10_000], dtype=np.int64)
    k.over_time(k.DERIV, *args, np.zeros(1), np.zeros(1), times, out, present)
    assert out[0, 0] == pytest.approx(slope)
    k.over_time(k.PREDICT, *args, np.full(1, 5.0), np.zeros(1), times, out, present)
    assert out[0, 0] == pytest.approx(intercept + 5 * slope)
    level, trend, previous = 1.0, 2.0, 0.0
    for i, v in enumerate(vals[1:]):
        before = level
        if i:
            trend = 0.4 * (level - previous) + 0.6 * trend
        level = 0.3 * v + 0.7 * (level + trend)
        previous = before
    k.over_time(k.SMOOTH, *args, np.full(1, 0.3), np.full(1, 0.4), times, out, present)
    assert out[0, 0] == pytest.approx(level)


def test_a_mean_does_not_overflow() -> None:
    vals = np.array([1.7e308, 1.7e308, 1.6e308])
    out, present = np.empty((1, 1)), np.empty((1, 1), dtype=np.bool_)
    none = np.zeros(1)
    k.over_time(k.AVG, np.array([0, 3]), np.array([1, 2, 3]), vals, 0, 1, 3, 1, 1, 10, none, none, np.array([3]), out, present)
    assert out[0, 0] == pytest.approx(1.6666666666e308)


@given(
    st.lists(st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 2.0, 2.0, 7.25, math.inf, math.nan]), min_size=1, max_size=12),
    st.sampled_from([-0.1, 0.0, 0.25, 0.5, 0.9, 1.0, 1.1, math.nan]),
    st.booleans(),
)
def test_a_window_that_ascends_has_the_quantile_of_any_order(values: list[float], q: float, ascending: bool) -> None:
    if ascending:
        values = sorted(values, key=lambda v: (math.isnan(v), v))
    samples, scratch = np.array(values), np.empty(len(values))
    wanted = quantile_of(q, samples.copy(), len(values))
    np.testing.assert_array_equal(quantile_of_window(q, samples, scratch), wanted)
    assert samples.tolist() == pytest.approx(values, nan_ok=True), "they are where they were"
