"""Quantiles and fractions of classic histograms against plain Python."""

from __future__ import annotations

import bisect
import math

import numpy as np
import pytest

from vedette.kernels import buckets as k

BOUNDS = [0.1, 0.5, 1.0, 5.0, math.inf]


def run(counts: list[float], q: float, bounds: list[float] = BOUNDS) -> tuple[float, np.ndarray]:
    values = np.array(counts).reshape(-1, 1)
    out, there, forced = np.empty((1, 1)), np.empty((1, 1), dtype=np.bool_), np.zeros((1, 1, 4))
    rows = np.arange(len(counts), dtype=np.int64)
    starts = np.array([0, len(counts)], dtype=np.int64)
    k.quantiles(values, ~np.isneginf(values), starts, rows, np.array(bounds), np.array([q]), 0, 1, out, there, forced)
    return float(out[0, 0]), forced[0, 0]


def twin(counts: list[float], q: float) -> float:
    """The quantile of cumulative counts over BOUNDS, the smallest bucket starting at 0."""
    rank = q * counts[-1]
    b = min(bisect.bisect_left(counts, rank), len(counts) - 1)
    if b == len(counts) - 1:
        return BOUNDS[-2]
    start, below = (BOUNDS[b - 1], counts[b - 1]) if b else (0.0, 0.0)
    return start + (BOUNDS[b] - start) * (rank - below) / (counts[b] - below)


@pytest.mark.parametrize("q", [0.01, 0.2, 0.5, 0.75, 0.9, 0.99, 1.0])
def test_quantiles_interpolate(q: float) -> None:
    counts = [2.0, 10.0, 30.0, 37.0, 40.0]
    got, forced = run(counts, q)
    assert got == pytest.approx(twin(counts, q))
    assert forced[0] == 0


def test_edges() -> None:
    counts = [2.0, 10.0, 30.0, 37.0, 40.0]
    assert run(counts, -1)[0] == -math.inf
    assert run(counts, 2)[0] == math.inf
    assert math.isnan(run(counts, math.nan)[0])
    assert math.isnan(run([0.0] * 5, 0.5)[0])
    assert math.isnan(run([1.0, 2.0], 0.5, [0.1, 0.5])[0]), "the highest bucket must be +Inf"
    assert math.isnan(run([5.0], 0.5, [math.inf])[0]), "one bucket says nothing"
    assert run([3.0, 4.0], 0.5, [-1.0, math.inf])[0] == -1.0


def test_groups_are_those_asked_for() -> None:
    """Two threads share the groups: each writes its own, and reads the buckets that are theirs."""
    rng = np.random.default_rng(8)
    groups, steps = 9, 3
    values = np.cumsum(rng.integers(1, 9, (groups, len(BOUNDS), steps)), axis=1).astype(float).reshape(-1, steps)
    rows, starts = np.arange(len(values), dtype=np.int64), len(BOUNDS) * np.arange(groups + 1, dtype=np.int64)
    q, bounds, present = np.full(steps, 0.7), np.tile(BOUNDS, groups), np.ones(values.shape, dtype=np.bool_)
    out, there, forced = np.full((groups, steps), -7.0), np.zeros((groups, steps), dtype=np.bool_), np.zeros((groups, steps, 4))
    k.quantiles(values, present, starts, rows, bounds, q, 4, groups, out, there, forced)
    assert (out[:4] == -7.0).all()
    assert not there[:4].any()
    k.quantiles(values, present, starts, rows, bounds, q, 0, 4, out, there, forced)
    assert there.all()
    for g in range(groups):
        for step in range(steps):
            assert out[g, step] == pytest.approx(twin(values[starts[g] : starts[g + 1], step].tolist(), 0.7))


def almost(a: float, b: float) -> bool:
    """Prometheus' `almost.Equal` with a tolerance of 1e-12."""
    total, diff = abs(a) + abs(b), abs(a - b)
    if a == b:
        return True
    if a == 0 or b == 0 or total < 2.2250738585072014e-308:
        return diff < 1e-12 * 2.2250738585072014e-308
    return diff / min(total, 1.7976931348623157e308) < 1e-12


@pytest.mark.parametrize("a", [0.0, 5e-324, 1e-320, 1e-300, 1.0, 3.7e8, 1e308, 1.7e308])
@pytest.mark.parametrize("by", [0.0, 1e-13, 9e-13, 1.9e-12, 2e-12, 2.1e-12, 1e-11, 2e-11, 3e-11, 1e-3, 1.0, 1e300])
def test_counts_are_alike_up_to_rounding(a: float, by: float) -> None:
    for b in (a * (1 + by), a * (1 - by), a + by, -a):
        assert k._almost(a, b) == almost(a, b)


def test_decreases_are_removed_and_told() -> None:
    got, forced = run([4.0, 3.0, 8.0, 6.0, 10.0], 0.9)
    assert forced.tolist() == [1.0, 0.5, 5.0, 2.0]
    assert got == pytest.approx(5.0)
    assert run([1.0, 1.0 - 1e-15, 2.0, 2.0, 2.0], 0.5)[1][0] == 0, "rounding is no decrease"


def test_equal_bounds_add_up() -> None:
    assert run([1.0, 1.0, 4.0], 0.5, [1.0, 1.0, math.inf])[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (-math.inf, math.inf, 1.0),
        (0.0, 0.1, 2 / 40),
        (0.1, 0.5, 8 / 40),
        (0.3, 0.5, 4 / 40),
        (1.0, 3.0, 3.5 / 40),
        (5.0, math.inf, 3 / 40),
        (6.0, 7.0, 0.0),
        (0.5, 0.5, 0.0),
        (2.0, 1.0, 0.0),
        (math.nan, 1.0, math.nan),
        (-math.inf, 1.0, 30 / 40),
    ],
)
def test_fractions(low: float, high: float, wanted: float) -> None:
    values = np.array([2.0, 10.0, 30.0, 37.0, 40.0]).reshape(-1, 1)
    out, there = np.empty((1, 1)), np.empty((1, 1), dtype=np.bool_)
    rows, starts = np.arange(5, dtype=np.int64), np.array([0, 5], dtype=np.int64)
    k.fractions(values, np.ones((5, 1), dtype=np.bool_), starts, rows, np.array(BOUNDS), np.array([low]), np.array([high]), out, there)
    assert out[0, 0] == pytest.approx(wanted, nan_ok=True)
