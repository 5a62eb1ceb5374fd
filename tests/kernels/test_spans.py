"""Where windows begin and end: found by a walk, or by leaps where there are many samples a step, with the same answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.kernels import spans
from vedette.kernels import windows as k

I64 = np.int64


@given(
    st.lists(st.integers(1, 40), max_size=300),
    st.integers(-100, 4000),
    st.integers(0, 2000),
    st.integers(1, 12),
    st.integers(1, 3000),
)
def test_windows_begin_and_end_where_a_search_finds_it(distances, first, step, n, range_ms):
    times = np.concatenate([[5], 5 + np.cumsum(distances)]).astype(I64)
    padded = np.concatenate([[-(1 << 40)], times, [1 << 40]]).astype(I64)
    left, right = np.empty(n, I64), np.empty(n, I64)
    spans.bounds(padded, 1, 1 + len(times), first, step, n, range_ms, left, right)
    ends = first + step * np.arange(n)
    assert right.tolist() == np.searchsorted(times, ends, side="right").tolist()
    assert left.tolist() == np.searchsorted(times, ends - range_ms, side="right").tolist()


@pytest.mark.parametrize("gap", [0, 1, 700])
def test_regular_times_with_a_gap(gap):
    times = np.arange(20_000, dtype=I64) * 15
    times[9_000:] += gap * 15
    left, right = np.empty(50, I64), np.empty(50, I64)
    spans.bounds(times, 0, len(times), 3600, 3600, 50, 3600, left, right)
    ends = 3600 * np.arange(1, 51)
    assert right.tolist() == np.searchsorted(times, ends, side="right").tolist()
    assert left.tolist() == np.searchsorted(times, ends - 3600, side="right").tolist()


@pytest.mark.parametrize("code", [k.SUM, k.AVG, k.DERIV, k.PREDICT])
@pytest.mark.parametrize("kind", ["counter", "down and up", "large", "ratios", "odd times"])
def test_windows_that_lie_apart_give_what_overlapping_ones_give(code, kind):
    """Apart, each window is added up; overlapping, they share running sums. The digits are the same."""
    rng, count, step, range_ms = np.random.default_rng(2), 5_000, 60_000, 240_000
    times = np.cumsum(rng.choice([125, 250, 1000], count)).astype(I64)
    values = np.cumsum(rng.integers(0, 50, count)).astype(float)
    if kind == "down and up":
        values = rng.integers(-1000, 1000, count).astype(float)
    elif kind == "large":
        values += 2.0**51
    elif kind == "ratios":
        values /= 3.0
    elif kind == "odd times":
        times += rng.integers(0, 100, count)
        times.sort()
    first = int(times[0]) + range_ms

    def computed(step: int) -> dict[int, float]:
        n = (int(times[-1]) - first) // step
        out, present = np.empty((1, n)), np.empty((1, n), dtype=np.bool_)
        ends = first + step * np.arange(n, dtype=I64)
        offsets, ahead = np.array([0, count]), np.full(n, 60.0)
        k.over_time(code, offsets, times, values, 0, 1, first, step, n, range_ms, ahead, np.zeros(n), ends, out, present)
        assert present.all()
        return dict(zip(ends.tolist(), out[0].tolist(), strict=True))

    apart, overlapping = computed(4 * step), computed(step // 4)
    shared = apart.keys() & overlapping.keys()
    assert len(shared) > 3
    assert {t: apart[t] for t in shared} == {t: overlapping[t] for t in shared}
