"""Least and greatest of sliding windows, beside plain Python: NaN, infinities, both zeros, gaps, windows that do not move."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vedette.kernels import windows as k

values = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, math.inf, -math.inf, math.nan])
rows = st.lists(st.dictionaries(st.integers(0, 60), values, max_size=30), min_size=1, max_size=4)


def twin(code: int, inside: list[float]) -> float:
    best = math.nan
    for v in inside:
        if math.isnan(best) or (v > best if code == k.MAX else v < best):
            best = v
    return best


@given(rows, st.sampled_from([k.MIN, k.MAX]), st.integers(-5, 40), st.integers(0, 15), st.sampled_from([1, 4, 12, 40]), st.integers(1, 50))
def test_extremes(given_rows: list[dict[int, float]], code: int, first: int, step: int, n: int, range_ms: int) -> None:
    series = [sorted(row.items()) for row in given_rows]
    offsets = np.cumsum([0, *(len(s) for s in series)], dtype=np.int64)
    times = np.array([t for s in series for t, _ in s], dtype=np.int64)
    floats = np.array([v for s in series for _, v in s], dtype=np.float64)
    out, present = np.zeros((len(series), n)), np.zeros((len(series), n), dtype=np.bool_)
    nothing = np.zeros(n)
    steps = np.zeros(n, dtype=np.int64)
    k.over_time(code, offsets, times, floats, 0, len(series), first, step, n, range_ms, nothing, nothing, steps, out, present)
    for row, s in enumerate(series):
        for i in range(n):
            t = first + i * step
            inside = [v for time, v in s if t - range_ms < time <= t]
            assert present[row, i] == bool(inside)
            if inside:
                wanted = twin(code, inside)
                assert out[row, i] == wanted or (math.isnan(out[row, i]) and math.isnan(wanted))
                assert math.copysign(1, out[row, i]) == math.copysign(1, wanted) or math.isnan(wanted)
