"""Rows of whole numbers: running sums beside Python's own whole numbers, which cannot round; and what is not whole is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.kernels import whole
from vedette.kernels import windows as k

STEP = 1000


def running(values: list[float]) -> tuple[int, list[int]]:
    upto = np.full(len(values) + 1, 7, dtype=np.int64)
    samples = np.array([99.5, *values, math.nan])  # neighbours are not looked at
    return int(whole.running(samples, 1, len(values) + 1, upto)), upto.tolist()


@given(st.lists(st.integers(-(2**52), 2**52), max_size=80))
def test_running_sums_are_those_of_whole_numbers(values: list[int]) -> None:
    size, upto = running([float(v) for v in values])
    assert upto == [sum(values[:i]) for i in range(len(values) + 1)]
    assert max(map(abs, values), default=0) <= size < 2**54


@pytest.mark.parametrize("odd", [0.5, -0.0, math.nan, math.inf, -math.inf, 2.0**53, -(2.0**60), 1e300, 5e-324])
def test_what_is_not_whole_or_not_exact_is_refused(odd: float) -> None:
    for place in range(20):
        values = [3.0] * 20
        values[place] = odd
        assert running(values)[0] == -1


def one_row(code: int, values: list[float], range_ms: int, n: int) -> list[float]:
    ts = 1_700_000_000_000 + STEP * np.arange(len(values), dtype=np.int64)
    first = int(ts[0])
    out, present = np.zeros((1, n)), np.zeros((1, n), dtype=np.bool_)
    offsets, zeros, times = np.array([0, len(values)]), np.zeros(n), first + STEP * np.arange(n, dtype=np.int64)
    k.over_time(code, offsets, ts, np.array(values), 0, 1, first, STEP, n, range_ms, zeros, zeros, times, out, present)
    return [float(v) for v, there in zip(out[0], present[0], strict=True) if there]


def test_sums_just_below_what_is_exact_and_just_above() -> None:
    """Above 2^53 a sum rounds, and Prometheus' compensated sum is not that of the whole numbers any more."""
    exact = [2.0**50 - 1] * 8
    assert one_row(k.SUM, exact, 8 * STEP, 8) == [float(i * (2**50 - 1)) for i in range(1, 9)]
    beyond = [2.0**52 + 1, 2.0**52 - 1, 1.0, -(2.0**52), -(2.0**52), -1.0]
    total, c, wanted = 0.0, 0.0, []
    for v in beyond:
        t = total + v
        c += (total - t) + v if abs(total) >= abs(v) else (v - t) + total
        total = t
        wanted.append(total + c)
    assert one_row(k.SUM, beyond, 6 * STEP, 6) == wanted


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=60), st.integers(2, 20))
def test_a_line_through_whole_numbers(values: list[int], width: int) -> None:
    """Where all sums are exact so is the line: compared with fractions of whole numbers, rounded once an operation."""
    found = one_row(k.DERIV, [float(v) for v in values], width * STEP, len(values))
    windows = [values[max(0, i + 1 - width) : i + 1] for i in range(1, len(values))]
    for slope, window in zip(found, windows, strict=True):
        xs, n = range(len(window)), len(window)
        if len(set(window)) == 1:
            assert slope == 0.0
            continue
        xy, xx = (sum(x * y for x, y in zip(xs, ys, strict=True)) for ys in (window, xs))
        assert slope == (xy - sum(xs) * sum(window) / n) / (xx - sum(xs) * sum(xs) / n)


def test_a_window_that_ends_as_it_begins_is_not_constant() -> None:
    """It adds up to as much as a constant one, too."""
    assert one_row(k.DERIV, [5.0, 4.0, 6.0, 5.0], 4 * STEP, 4)[-1] != 0.0
    assert one_row(k.DERIV, [5.0, 5.0, 5.0, 5.0], 4 * STEP, 4) == [0.0, 0.0, 0.0]


@given(
    st.lists(st.sampled_from([1.0, -3.0, 2.5, 7e9, math.inf, -math.inf]), min_size=1, max_size=90),
    st.sampled_from([1, 2, 3, 7, 16, 64]),
    st.sampled_from([k.MIN, k.MAX]),
)
def test_extremes_of_pieces(values: list[float], width: int, code: int) -> None:
    best = max if code == k.MAX else min
    assert one_row(code, values, width * STEP, len(values)) == [best(values[max(0, i + 1 - width) : i + 1]) for i in range(len(values))]


def apart(code: int, ts: list[int], values: list[float], span: int, n: int, *, ahead: float = 0.0) -> list[float | None]:
    """Windows that do not overlap: `n` of `span` ms each, from the first time on."""
    out, present = np.zeros((1, n)), np.zeros((1, n), dtype=np.bool_)
    first = ts[0] + span - 1
    times = first + span * np.arange(n, dtype=np.int64)
    k.over_time(
        code, np.array([1, len(ts) + 1]), np.array([0, *ts, 0]), np.array([math.nan, *values, math.nan]), 0, 1, first, span, n, span,
        np.full(n, ahead), np.zeros(n), times, out, present,
    )  # fmt: skip
    return [float(v) if there else None for v, there in zip(out[0], present[0], strict=True)]


def lines_of(ts: list[int], values: list[float], span: int, n: int) -> list[float | None]:
    """Slopes of whole numbers by Python's own whole numbers."""
    found: list[float | None] = []
    for at in range(n):
        inside = [(t, int(v)) for t, v in zip(ts, values, strict=True) if ts[0] - 1 + at * span < t <= ts[0] - 1 + (at + 1) * span]
        if len(inside) < 2:
            found.append(None)
            continue
        count, eighths = len(inside), [(t - inside[0][0]) // 125 for t, _ in inside]
        x, xx, y = sum(eighths) / 8, sum(e * e for e in eighths) / 64, sum(v for _, v in inside)
        xy = sum(e * v for e, (_, v) in zip(eighths, inside, strict=True)) / 8
        slope = (xy - x * y / count) / (xx - x * x / count)
        found.append(0.0 if len({v for _, v in inside}) == 1 else slope)
    return found


@given(
    st.lists(st.integers(-(2**38), 2**38), min_size=1, max_size=60),
    st.sampled_from([125, 1000, 15_000]),
    st.integers(1, 20),
    st.sets(st.integers(0, 59), max_size=3),
)
def test_windows_apart_of_regular_and_irregular_times(values: list[int], every: int, wide: int, missing: set[int]) -> None:
    kept = [i for i in range(len(values)) if i == 0 or i not in missing]
    ts, samples = [1_700_000_000_000 + every * i for i in kept], [float(values[i]) for i in kept]
    span, n = wide * every, len(values) // wide + 2
    inside = [[int(v) for t, v in zip(ts, samples, strict=True) if ts[0] + a * span <= t < ts[0] + (a + 1) * span] for a in range(n)]
    assert apart(k.SUM, ts, samples, span, n) == [float(sum(some)) if some else None for some in inside]
    assert apart(k.AVG, ts, samples, span, n) == [sum(some) / len(some) if some else None for some in inside]
    assert apart(k.DERIV, ts, samples, span, n) == lines_of(ts, samples, span, n)


@pytest.mark.parametrize("odd", [0.5, -0.0, math.nan, math.inf, -math.inf, 2.0**51, 2.0**52 + 1, -(2.0**60), 1e300, 5e-324])
@pytest.mark.parametrize("code", [k.SUM, k.AVG, k.DERIV, k.PREDICT])
@pytest.mark.parametrize("every", [1000, 1001])
def test_windows_apart_of_what_is_not_whole_are_as_windows_alone(odd: float, code: int, every: int) -> None:
    for place in range(0, 40, 3):
        values = [float(i * i % 17) for i in range(40)]
        values[place] = odd
        ts = [1_700_000_000_000 + every * i for i in range(40)]
        alone = [apart(code, ts[i : i + 8], values[i : i + 8], 8 * every, 1, ahead=60.0)[0] for i in range(0, 40, 8)]
        if code == k.PREDICT:
            alone = [alone[0]]
        np.testing.assert_array_equal(
            np.array(apart(code, ts, values, 8 * every, 5, ahead=60.0)[: len(alone)], dtype=float), np.array(alone, dtype=float)
        )
        signs = [math.copysign(1, v or 0.0) for v in apart(code, ts, values, 8 * every, 5, ahead=60.0)[: len(alone)]]
        assert signs == [math.copysign(1, v or 0.0) for v in alone]
