"""Windows computed side by side, beside the same windows one by one: equal to the last bit, however they lie."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.kernels import windows as k
from vedette.kernels.lanes import LANES
from vedette.kernels.spans import runs

Points = list[tuple[int, float]]


def kahan(v: float, total: float, c: float) -> tuple[float, float]:
    t = total + v
    if math.isinf(t):
        return t, 0.0
    return t, c + ((total - t) + v if abs(total) >= abs(v) else (v - t) + total)


def total(points: Points, at: int) -> float:
    s, c = 0.0, 0.0
    for _, v in points:
        s, c = kahan(v, s, c)
    return s if math.isinf(s) else s + c


def mean(points: Points, at: int) -> float:
    s, c, average, incremental = points[0][1], 0.0, 0.0, False
    for n, (_, v) in enumerate(points[1:], 2):
        if not incremental:
            more, rest = kahan(v, s, c)
            if not math.isinf(more):
                s, c = more, rest
                continue
            incremental, average, c = True, s / (n - 1), c / (n - 1)
        q = (n - 1) / n
        average, c = kahan(v / n, q * average, q * c)
    return average + c if incremental else s / len(points) + c / len(points)


def variance(points: Points, at: int) -> float:
    average, ca, aux, cx = 0.0, 0.0, 0.0, 0.0
    for n, (_, v) in enumerate(points, 1):
        delta = v - (average + ca)
        average, ca = kahan(delta / n, average, ca)
        aux, cx = kahan(delta * (v - (average + ca)), aux, cx)
    return (aux + cx) / len(points)


def line(points: Points, origin: int) -> tuple[float, float]:
    sums = [(0.0, 0.0)] * 4
    for t, v in points:
        x = (t - origin) / 1e3
        sums = [kahan(one, *s) for one, s in zip((x, v, x * v, x * x), sums, strict=True)]
    if all(v == points[0][1] for _, v in points):
        same = points[0][1]
        return (math.nan, math.nan) if math.isinf(same) else (0.0, same)
    sx, sy, sxy, sxx = (s + c for s, c in sums)
    n = float(len(points))
    with np.errstate(all="ignore"):
        slope = float(np.float64(sxy - sx * sy / n) / np.float64(sxx - sx * sx / n))
    return slope, sy / n - slope * sx / n


def extreme(greatest: bool) -> Callable[[Points, int], float]:
    def of(points: Points, at: int) -> float:
        best = points[0][1]
        for _, v in points:
            if (v > best if greatest else v < best) or math.isnan(best):
                best = v
        return best

    return of


def quantile(points: Points, at: int) -> float:
    order = sorted((v for _, v in points), key=lambda v: (not math.isnan(v), v))
    rank = 0.3 * (len(order) - 1)
    below = math.floor(rank)
    return order[below] * (1 - (rank - below)) + order[min(len(order) - 1, below + 1)] * (rank - below)


NAIVE: dict[int, tuple[int, Callable[[Points, int], float]]] = {
    k.SUM: (1, total),
    k.AVG: (1, mean),
    k.STDVAR: (1, variance),
    k.STDDEV: (1, lambda p, at: float(np.sqrt(np.float64(variance(p, at))))),
    k.MIN: (1, extreme(False)),
    k.MAX: (1, extreme(True)),
    k.DERIV: (2, lambda p, at: line(p, p[0][0])[0]),
    k.PREDICT: (2, lambda p, at: line(p, at)[0] * 0.3 + line(p, at)[1]),
    k.QUANTILE: (1, quantile),
}

numbers = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, 1e300, 1.7e308, math.nan, math.inf, -math.inf]))

wholes = st.one_of(st.integers(-1000, 10**9).map(float), st.sampled_from([0.0, 4e9, 2.0**40, 2.0**52, -(2.0**51), -0.0]))
small = st.floats(-1e6, 1e6)


@st.composite
def rows(draw: st.DrawFn) -> list[Points]:
    """Series of one scrape (the same times), and others of their own."""
    found: list[Points] = []
    shared: list[int] = []
    for _ in range(draw(st.integers(1, 4))):
        if not shared or draw(st.booleans()):
            gap = draw(st.sampled_from([[10], [10, 10, 10, 25], [125], [1000, 1000, 125]]))
            gaps = draw(st.lists(st.sampled_from(gap), max_size=40))
            shared = np.cumsum(gaps, dtype=np.int64).tolist()
        constant = draw(st.booleans())
        kind = draw(st.sampled_from([numbers, wholes, small]))
        value = draw(kind)
        found.append([(t, value if constant else draw(kind)) for t in shared])
    return found


def over_time(code: int, series: list[Points], first: int, step: int, n: int, range_ms: int) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *map(len, series)], dtype=np.int64)
    ts = np.array([t for row in series for t, _ in row], dtype=np.int64)
    vals = np.array([v for row in series for _, v in row], dtype=np.float64)
    out, present = np.zeros((len(series), n)), np.zeros((len(series), n), dtype=np.bool_)
    p0, times = np.full(n, 0.3), first + step * np.arange(n, dtype=np.int64)
    k.over_time(code, offsets, ts, vals, 0, len(series), first, step, n, range_ms, p0, np.zeros(n), times, out, present)
    return out, present


@pytest.mark.parametrize("code", NAIVE)
@given(
    series=rows(),
    first=st.one_of(st.integers(-20, 60), st.sampled_from([0, 125, 5000])),
    step=st.sampled_from([0, 10, 20, 37, 125, 500]),
    range_ms=st.sampled_from([15, 100, 200, 2000, 9000]),
)
def test_each_window_as_if_alone(code: int, series: list[Points], first: int, step: int, range_ms: int) -> None:
    n = 25
    needs, naive = NAIVE[code]
    out, present = over_time(code, series, first, step, n, range_ms)
    for r, row in enumerate(series):
        for i in range(n):
            t = first + i * step
            points = [p for p in row if t - range_ms < p[0] <= t]
            assert present[r, i] == (len(points) >= needs)
            if len(points) >= needs:
                with np.errstate(all="ignore"):
                    wanted = naive(points, t)
                assert (math.isnan(wanted) and math.isnan(out[r, i])) or out[r, i] == wanted, (r, i, points)


def test_more_windows_than_lanes() -> None:
    n = 3 * LANES + 5
    row = [(t * 10, float(t * t % 101)) for t in range(n + 40)]
    out, present = over_time(k.SUM, [row], 100, 10, n, 95)
    assert present.all()
    assert out[0].tolist() == [sum(v for t, v in row if 100 + i * 10 - 95 < t <= 100 + i * 10) for i in range(n)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60), st.integers(8, 20))
def test_runs_cover_each_step_once_and_are_what_they_say(moves: list[tuple[int, int]], most: int) -> None:
    left = np.cumsum([a for a, _ in moves], dtype=np.int64)
    right = np.maximum.accumulate(left + np.array([b for _, b in moves], dtype=np.int64))
    n = len(moves)
    at, strides = np.zeros(n + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    count = runs(left, right, n, most, at, strides)
    assert at[0] == 0
    assert at[count] == n
    for i in range(count):
        a, b = int(at[i]), int(at[i + 1])
        assert 0 < b - a <= most
        if strides[i] >= 0:
            assert len(set((right - left)[a:b].tolist())) == 1
            assert set(np.diff(left[a:b]).tolist()) <= {int(strides[i])}
