"""Functions of windows beside their naive twins."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.logs.logql import windows

S = 10**9
NAIVE: dict[str, Callable[[list[float], float], float]] = {
    "sum_over_time": lambda v, _: math.fsum(v),
    "count_over_time": lambda v, _: math.fsum(v),
    "avg_over_time": lambda v, _: statistics.fmean(v),
    "min_over_time": lambda v, _: min(v),
    "max_over_time": lambda v, _: max(v),
    "first_over_time": lambda v, _: v[0],
    "last_over_time": lambda v, _: v[-1],
    "stddev_over_time": lambda v, _: statistics.pstdev(v),
    "stdvar_over_time": lambda v, _: statistics.pvariance(v),
    "rate": lambda v, seconds: math.fsum(v) / seconds,
}


@given(
    st.lists(st.tuples(st.integers(0, 60), st.floats(-1e6, 1e6)), max_size=40),
    st.sampled_from(sorted(NAIVE)),
    st.integers(1, 30),
    st.integers(1, 20),
)
def test_the_naive_ones_agree(samples: list[tuple[int, float]], op: str, span: int, step: int) -> None:
    samples.sort(key=lambda s: s[0])
    times = np.array([t * S for t, _ in samples], np.int64)
    values = np.array([v for _, v in samples], np.float64)
    ends = np.arange(0, 70 * S, step * S)
    found = windows.over(op, times, values, ends=ends, range_ns=span * S)
    for end, got in zip(ends.tolist(), found.tolist(), strict=True):
        inside = [v for t, v in samples if end - span * S < t * S <= end]
        if not inside:
            assert math.isnan(got)
        else:
            assert got == pytest.approx(NAIVE[op](inside, span), rel=1e-6, abs=1e-3)


@pytest.mark.parametrize(("q", "value"), [(0.0, 1.0), (0.5, 2.5), (0.9, 3.7), (1.0, 4.0), (1.5, math.inf), (-1.0, -math.inf)])
def test_quantiles(q: float, value: float) -> None:
    assert windows.quantile(np.array([4.0, 1.0, 3.0, 2.0]), q) == pytest.approx(value)
    assert math.isnan(windows.quantile(np.array([1.0]), math.nan))


def test_counters_restart() -> None:
    times = np.arange(0, 60, 10, dtype=np.int64) * S
    values = np.array([10.0, 20, 30, 5, 15, 25])
    # (30 - 10) + 5 + (25 - 5) over 50 of 60 seconds, drawn out to its ends: half an interval before, nothing after.
    found = windows.over("rate_counter", times, values, ends=np.array([50 * S]), range_ns=60 * S)
    increase = 45.0
    assert found.tolist() == [pytest.approx(increase * (50 + 10) / 50 / 60)]
    alone = windows.over("rate_counter", times[:1], values[:1], ends=np.array([50 * S]), range_ns=60 * S)
    assert math.isnan(alone[0])
