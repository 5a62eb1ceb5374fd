"""Arithmetic of native histograms against histograms made anew of all observations."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.model import histogram_arithmetic as arithmetic
from vedette.model.buckets import all_buckets
from vedette.model.histograms import GAUGE, HEAD, NOT_RESET, RESET, UNKNOWN, ZERO, Histogram, Histograms, Layout, exponential_bounds

sys.path.insert(0, str(Path(__file__).parent))
from histogram_observations import expected_cells, observed, observed_custom

VALUES = st.lists(st.floats(-100, 100).filter(lambda v: v == 0 or abs(v) > 1e-3), max_size=12)
SCHEMAS = st.integers(-4, 8)
# On bucket bounds of every schema, so that widening a zero bucket needs no look at which buckets are full.
THRESHOLDS = st.sampled_from([0.0, 2.0**-16, 1.0])
LIMITS = st.lists(st.integers(-20, 20).map(float), max_size=6, unique=True).map(sorted)


@given(VALUES, SCHEMAS, THRESHOLDS, VALUES, SCHEMAS, THRESHOLDS)
def test_a_sum_holds_all_observations(a: list[float], sa: int, ta: float, b: list[float], sb: int, tb: float) -> None:
    left, right = observed(a, sa, ta), observed(b, sb, tb)
    result = arithmetic.added(left, right)
    h = result.histogram
    assert (h.layout.schema, result.reconciled) == (min(sa, sb), False)
    assert h.layout.threshold >= max(ta, tb)
    assert h.count == len(a) + len(b)
    assert h.cells[ZERO:].tolist() == expected_cells(h.layout, [*a, *b])
    back = arithmetic.compacted(arithmetic.subtracted(h, right).histogram)
    assert back.cells[ZERO:].tolist() == expected_cells(back.layout, a)
    assert back.cells[HEAD:].sum() + back.zero_count == len(a)


@given(VALUES, LIMITS, VALUES, LIMITS)
def test_custom_buckets_meet_in_their_common_bounds(a: list[float], la: list[float], b: list[float], lb: list[float]) -> None:
    result = arithmetic.added(observed_custom(a, la), observed_custom(b, lb))
    h = result.histogram
    assert result.reconciled == (la != lb)
    assert h.layout.bounds == tuple(v for v in la if v in lb)
    assert h.cells[ZERO:].tolist() == expected_cells(h.layout, [*a, *b])


@given(VALUES, SCHEMAS, THRESHOLDS, VALUES, st.integers(0, 4))
def test_a_counter_that_grows_is_not_reset(a: list[float], schema: int, threshold: float, more: list[float], coarser: int) -> None:
    before = observed(a, schema, threshold)
    now = observed([*a, *more], max(-4, schema - coarser), threshold)
    assert not arithmetic.is_reset(now, before)
    assert not arithmetic.is_reset(observed([*a, *more], schema, 1.0), before)
    if more:
        assert arithmetic.is_reset(before, arithmetic.coarsened(now, now.layout.schema))
    if coarser and now.layout.schema < schema:
        assert arithmetic.is_reset(before, now), "a finer schema is a new start"


@given(VALUES, LIMITS, VALUES, LIMITS)
def test_custom_counters_are_compared_where_they_can_be(a: list[float], la: list[float], more: list[float], lb: list[float]) -> None:
    assert not arithmetic.is_reset(observed_custom([*a, *more], lb), observed_custom(a, la))


def test_a_count_that_moved_down_is_a_reset_though_the_total_rose() -> None:
    before, now = observed([1, 1, 3], 0), observed([1, 3, 3, 3, 3], 0)
    assert arithmetic.is_reset(now, before)
    assert not arithmetic.is_reset(now.hinted(NOT_RESET), before)
    assert arithmetic.is_reset(observed([1, 1, 3, 3], 0, hint=RESET), before)
    assert arithmetic.is_reset(observed([1, 1, 3], 0, 0.5), observed([1, 1, 3], 0, 1.0)), "a narrower zero bucket"
    assert arithmetic.is_reset(observed_custom([1, 1, 3], [2]), before)


def test_a_zero_bucket_grows_to_the_end_of_a_full_bucket() -> None:
    wide = arithmetic.added(observed([3.0], 0, 0.0), observed([], 0, 3.0)).histogram
    assert (wide.layout.threshold, wide.zero_count, len(wide.layout.positive)) == (4.0, 1.0, 0)
    far = arithmetic.added(observed([3.0, -9.0, -3.5], 0, 0.0), observed([], 0, 3.0)).histogram
    assert (far.layout.threshold, far.zero_count, far.negative.tolist()) == (4.0, 2.0, [1.0])
    assert arithmetic.is_reset(observed([3.0], 0, 3.0), observed([3.0], 0, 0.0)), "the new zero bucket would have to be wider"


@pytest.mark.parametrize(
    ("a", "b", "hint", "collision"),
    [
        (UNKNOWN, UNKNOWN, UNKNOWN, False),
        (RESET, RESET, RESET, False),
        (GAUGE, RESET, GAUGE, False),
        (NOT_RESET, GAUGE, GAUGE, False),
        (UNKNOWN, NOT_RESET, UNKNOWN, False),
        (RESET, UNKNOWN, UNKNOWN, False),
        (RESET, NOT_RESET, UNKNOWN, True),
        (NOT_RESET, RESET, UNKNOWN, True),
    ],
)
def test_hints_of_sums(a: int, b: int, hint: int, collision: bool) -> None:
    result = arithmetic.added(observed([1], 0, hint=a), observed([2], 0, hint=b))
    assert (result.histogram.hint, result.collision) == (hint, collision)


def test_scaling() -> None:
    h = observed([1, 2, -3], 0, 0.5, hint=NOT_RESET)
    assert arithmetic.multiplied(h, 2).cells.tolist() == [6, 0, 0, 2, 2, 2]
    assert (arithmetic.multiplied(h, 2).hint, arithmetic.multiplied(h, -1).hint) == (NOT_RESET, GAUGE)
    assert arithmetic.divided(h, 2).cells.tolist() == [1.5, 0, 0, 0.5, 0.5, 0.5]
    nothing = arithmetic.divided(h, 0)
    assert nothing.layout.width == HEAD and nothing.count == math.inf and math.isnan(nothing.zero_count)
    assert nothing.layout.threshold == 0.5


@given(st.lists(st.tuples(VALUES, SCHEMAS), min_size=1, max_size=6), st.floats(1e-3, 1e3))
def test_running_sums_and_means(parts: list[tuple[list[float], int]], factor: float) -> None:
    histograms = [arithmetic.multiplied(observed(values, schema), factor) for values, schema in parts]
    total, mean = arithmetic.RunningSum(histograms[0]), arithmetic.RunningMean(histograms[0])
    for h in histograms[1:]:
        assert total.add(h) and mean.add(h)
    result = total.result()
    every = [v for values, _ in parts for v in values]
    assert result.cells[ZERO:] == pytest.approx([c * factor for c in expected_cells(result.layout, every)], rel=1e-12)
    assert result.sum == pytest.approx(math.fsum(h.sum for h in histograms), rel=1e-12, abs=1e-9)
    assert mean.result().cells == pytest.approx(result.cells / len(parts), rel=1e-12, abs=1e-300)


def test_sums_keep_what_large_terms_would_swallow() -> None:
    terms = [1.0, 1e100, 1.0, -1e100]
    total = arithmetic.RunningSum(arithmetic.multiplied(observed([1], 0), terms[0]))
    for t in terms[1:]:
        total.add(arithmetic.multiplied(observed([1], 0), t))
    assert total.result().cells.tolist() == [2, 2, 0, 2]


def test_a_mean_whose_sum_would_overflow() -> None:
    mean = arithmetic.RunningMean(arithmetic.multiplied(observed([1], 0), 1.5e308))
    for _ in range(3):
        mean.add(arithmetic.multiplied(observed([1], 0), 1.5e308))
    assert mean.result().cells == pytest.approx([1.5e308, 1.5e308, 0, 1.5e308])


def test_two_kinds_of_buckets_do_not_add_up() -> None:
    total = arithmetic.RunningSum(observed([1], 0))
    assert not total.add(observed_custom([1], [2]))
    assert total.result().count == 1


def test_a_zero_bucket_of_no_known_width_is_neither_wider_nor_narrower() -> None:
    """Nobody refuses to store such a histogram: what is made of it must end."""
    odd, other = observed([3.0], 0, math.nan), observed([3.0, 9.0], 0, 0.5)
    for a, b in ((odd, other), (other, odd), (odd, odd)):
        assert arithmetic.added(a, b).histogram.count == a.count + b.count
        assert arithmetic.is_reset(a, b) in (True, False)


def test_equality_is_to_the_bit_and_to_the_bucket() -> None:
    h = observed([1, 2], 0)
    assert arithmetic.equal(h, observed([1, 2], 0, hint=GAUGE))
    assert not arithmetic.equal(h, observed([1, 2], 1))
    empty_bucket = arithmetic.subtracted(observed([1, 2, 9], 0), observed([9], 0)).histogram
    assert not arithmetic.equal(h, empty_bucket)
    assert arithmetic.equal(h, arithmetic.compacted(empty_bucket))


def test_bounds_of_exponential_buckets() -> None:
    at = np.array([-1, 0, 1, 2], dtype=np.int32)
    assert exponential_bounds(0, at).tolist() == [0.5, 1, 2, 4]
    assert exponential_bounds(-2, at).tolist() == [0.0625, 1, 16, 256]
    assert exponential_bounds(1, at).tolist() == pytest.approx([2**-0.5, 1, 2**0.5, 2])
    for schema in (-4, 0, 3, 8):
        edge = np.array([1024 << schema if schema >= 0 else 1024 >> -schema], dtype=np.int32)
        assert exponential_bounds(schema, edge).tolist() == [np.finfo(np.float64).max], "the last bucket before infinity"
        assert exponential_bounds(schema, edge + 1).tolist() == [np.inf]


def test_no_bucket_reaches_into_the_zero_bucket() -> None:
    h = observed([3.0, -3.0, 0.0], 0, 0.0)
    wide = Histogram(Layout(0, 2.5, (), h.layout.positive, h.layout.negative), h.cells)
    found = all_buckets(wide)
    assert [b.tolist() for b in found] == [[-4, -2.5, 2.5], [-2.5, 2.5, 4], [1, 1, 1]]


@given(st.lists(st.tuples(VALUES, SCHEMAS, st.integers(0, 3)), max_size=5))
def test_columns_give_back_what_they_were_made_of(parts: list[tuple[list[float], int, int]]) -> None:
    samples = [observed(values, schema, hint=hint) for values, schema, hint in parts]
    columns = Histograms.of(list(range(0, 2 * len(samples), 2)), samples)
    assert len(columns) == len(samples)
    for j, h in enumerate(samples):
        found = columns.sample(j)
        assert arithmetic.equal(found, h) and found.hint == h.hint
