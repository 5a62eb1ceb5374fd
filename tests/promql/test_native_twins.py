"""Kernels of native histograms, and pools of them, against what is made of one histogram after another: to the bit."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.kernels import native as kernel
from vedette.model import histogram_arithmetic as arithmetic
from vedette.model.buckets import all_buckets
from vedette.model.histograms import CUSTOM_SCHEMA, GAUGE, NO_BUCKETS, NOT_RESET, RESET, UNKNOWN, Histogram, Layout
from vedette.promql import native_quantiles
from vedette.promql.native_layouts import Layouts, distinct
from vedette.promql.native_pool import Natives, Pool, differ, joined
from vedette.promql.native_rates import resets
from vedette.promql.native_smoothed import alike, between
from vedette.promql.native_trim import trimmed
from vedette.promql.native_windows import Window, interpolated
from vedette.promql.native_zero import widened

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
sys.path.insert(0, str(Path(__file__).parent))
import itertools

from histogram_observations import observed, observed_custom
from trim_twin import trimmed as trimmed_one

VALUES = st.lists(st.floats(-100, 100).filter(lambda v: v == 0 or abs(v) > 1e-3), min_size=1, max_size=12)
EXPONENTIAL = st.builds(observed, VALUES, st.integers(-4, 8), st.sampled_from([0.0, 2.0**-16]))
CUSTOM = st.builds(observed_custom, VALUES, st.sampled_from([[1.0, 5.0], [-3.0, 0.0, 8.0]]))
ANY = st.lists(st.one_of(EXPONENTIAL, CUSTOM), min_size=2, max_size=6)


def pooled(samples: list[Histogram]) -> Natives:
    objects = np.empty(len(samples), dtype=object)
    objects[:] = samples
    return Natives.of(objects)


class Counted:
    """An evaluation that only hears how much is held."""

    def count(self, cells: int, size: int = 0) -> None:
        assert cells == 0 and size >= 0


def bits(h: Histogram) -> tuple:
    return h.layout.key, h.cells.tobytes()


@given(ANY)
def test_resets_are_those_of_one_after_another(samples):
    natives = pooled(samples)
    places = np.arange(1, len(samples))
    found = resets(natives, places)[places].tolist()
    assert found == [arithmetic.is_reset(now, before) for before, now in itertools.pairwise(samples)]


@given(EXPONENTIAL, EXPONENTIAL, st.sampled_from([RESET, NOT_RESET]))
def test_a_hint_tells_of_a_reset(a, b, hint):
    natives = pooled([a, b.hinted(hint)])
    assert resets(natives, np.array([1]))[1] == (hint == RESET)


ONE_FAMILY = st.builds(observed, VALUES, st.integers(-4, 8), st.just(2.0**-16)) | st.builds(observed_custom, VALUES, st.just([1.0, 5.0]))
HINTS = st.sampled_from([UNKNOWN, RESET, NOT_RESET, GAUGE])


WIDTHS = st.sampled_from([0.0, 2.0**-16, 0.25, 1.0, 1.5, 2.0, 64.0])


@given(st.lists(st.builds(observed, VALUES, st.integers(-2, 3), WIDTHS), min_size=2, max_size=5), WIDTHS)
def test_zero_buckets_are_widened_as_one_by_one(samples, width):
    natives = pooled(samples)
    pool, items = widened(Counted(), natives.pool, natives.index, np.full(len(samples), width))
    coarsest = min(h.layout.schema for h in samples)
    for i, h in enumerate(samples):
        got = pool.sample(int(items[i]))
        if int(items[i]) < len(samples):
            assert bits(got) == bits(h), "as it was: wide enough, or there is a bucket that the border would lie in"
            if h.layout.threshold < width:
                every = [arithmetic.coarsened(one, coarsest).layout for one in samples]
                bounds = [side for x in every for side in (x.positive_bounds, x.negative_bounds)]
                assert any(bool(((low < width) & (high > width)).any()) for low, high in bounds)
            continue
        zero = Histogram(Layout(h.layout.schema, width, (), NO_BUCKETS, NO_BUCKETS), np.zeros(3))
        wanted = arithmetic.added(h, zero).histogram
        assert got.layout.same(wanted.layout) and got.hint == h.hint
        assert np.array_equal(got.cells, wanted.cells)


@given(st.lists(st.tuples(ONE_FAMILY, HINTS), min_size=2, max_size=6), st.integers(1, 999), st.booleans())
def test_what_lies_between_two_is_on_the_line_that_one_by_one_draws(samples, part, counter):
    hinted = [h.hinted(hint) for h, hint in samples]
    natives = pooled(hinted)
    before, now = (np.array(side, dtype=np.int64) for side in zip(*itertools.permutations(range(len(hinted)), 2), strict=True))
    one_family = alike(natives.pool, before, now)
    assert one_family.tolist() == [hinted[a].layout.custom == hinted[b].layout.custom for a, b in zip(before, now, strict=True)]
    before, now = before[one_family], now[one_family]
    fell = np.array([counter and arithmetic.is_reset(hinted[b], hinted[a]) for a, b in zip(before, now, strict=True)], dtype=np.bool_)
    made = between(Counted(), natives.pool, (before, now), np.full(len(now), part / 1000), fell)
    for i, (a, b) in enumerate(zip(before.tolist(), now.tolist(), strict=True)):
        wanted = interpolated(None, Window([0, 1000], [hinted[a], hinted[b]], 0, 0), 0, part, counter=counter)
        assert bits(made.sample(i)) == bits(wanted) and made.sample(i).hint == wanted.hint


@given(st.lists(st.builds(observed, VALUES, st.integers(-4, 8), st.just(2.0**-16)), min_size=1, max_size=5))
def test_histograms_meet_in_the_union_of_their_buckets(samples):
    natives = pooled(samples)
    table, schema = natives.pool.table, min(h.layout.schema for h in samples)
    (union,) = table.united(np.arange(len(table.layouts)), np.array([0, len(table.layouts)]), np.array([schema])).tolist()
    widths = table.widths[np.full(len(samples), union)]
    at = np.cumsum(widths) - widths
    cells = np.zeros(int(widths.sum()))
    pool = natives.pool
    kernel.moved(table.shapes, natives.index, pool.layout, pool.starts, pool.cells, np.full(len(samples), union), cells, at)
    for begin, width, h in zip(at.tolist(), widths.tolist(), samples, strict=True):
        got = arithmetic.compacted(Histogram(table.layouts[union], cells[begin : begin + width]))
        assert bits(got) == bits(arithmetic.compacted(arithmetic.coarsened(h, schema)))
    wanted = [arithmetic.coarsened(h, schema).layout for h in samples]
    assert table.layouts[union].positive.tolist() == sorted({i for layout in wanted for i in layout.positive.tolist()})
    assert table.layouts[union].negative.tolist() == sorted({i for layout in wanted for i in layout.negative.tolist()})


@given(ANY)
def test_buckets_of_many_are_those_of_each(samples):
    pool = pooled(samples).pool
    order, lower, upper, at, positive, negative, custom = pool.buckets
    for number, layout in enumerate(pool.layouts):
        here = slice(at[number], at[number + 1])
        # A zero bucket that holds something is shown.
        full = Histogram(layout, np.ones(layout.width))
        every = all_buckets(full)
        assert lower[here].tobytes() == every.lower.tobytes()
        assert upper[here].tobytes() == every.upper.tobytes()
        assert sorted(order[here].tolist()) == [*([] if layout.custom else [2]), *range(3, layout.width)]
        assert (positive[number], negative[number], custom[number]) == (len(layout.positive), len(layout.negative), layout.custom)


@given(ANY, st.floats(-50, 50), st.floats(0.01, 80), st.booleans())
def test_fractions_and_variances_are_those_of_each(samples, low, more, slim):
    natives = pooled(samples)
    pool = natives.pool
    if slim:
        pool = Pool(pool.layouts, pool.layout, pool.starts, pool.cells, pool.hints, np.ones(len(pool), dtype=np.bool_))
        samples = [arithmetic.compacted(h) for h in samples]
    n = len(samples)
    out = np.empty(n)
    kernel.fractions(np.full(n, low), np.full(n, low + more), natives.index, pool.columns, pool.buckets, out)
    assert out.tobytes() == np.array([native_quantiles.fraction(low, low + more, h, "")[0] for h in samples]).tobytes()
    kernel.variances(natives.index, pool.columns, pool.buckets, out)
    assert out.tobytes() == np.array([native_quantiles.variance(h) for h in samples]).tobytes()


def of(*counts: float, schema: int = 0) -> Histogram:
    layout = Layout(schema, 0.5, (), np.arange(len(counts), dtype=np.int32), NO_BUCKETS)
    return Histogram(layout, np.array([sum(counts), 1.0, 0.0, *counts]))


def test_a_pool_gives_back_its_histograms_wherever_they_stand():
    natives = pooled([of(1, 2), of(3), of(1, 2)])
    grid = Natives(np.array([[0, -1], [2, 1]]), natives.pool)
    assert grid.mask.tolist() == [[True, False], [True, True]]
    assert grid.sample(0, 1) is None
    assert bits(grid.sample(1, 1)) == bits(of(3))
    assert [[h and h.count for h in row] for row in grid.objects.tolist()] == [[3.0, None], [3.0, 3.0]]
    assert grid.at(np.array([1])).index.tolist() == [[2, 1]]
    again = Natives(np.array([0, 0]), natives.pool).objects
    assert again[0] is again[1], "one that stands twice is made once"


def test_pools_are_joined_once():
    a, b = pooled([of(1), of(2)]), pooled([of(5, 6)])
    whole = joined([(a, (2,)), (None, (1,)), (b, (1,)), (a.at(slice(1, 2)), (1,))])
    assert whole is not None
    assert [h and h.count for h in whole.objects.tolist()] == [1.0, 2.0, None, 11.0, 2.0]
    assert len(whole.pool) == 3
    assert joined([(None, (2,)), (None, (1,))]) is None


def test_some_are_replaced_by_objects_or_by_nothing():
    natives = pooled([of(1), of(2), of(3)])
    given = np.array([of(7, 1), None, None], dtype=object)
    found = natives.replaced(np.array([True, True, False]), given)
    assert [h and h.count for h in found.objects.tolist()] == [8.0, None, 3.0]
    assert natives.replaced(np.zeros(3, dtype=np.bool_), given) is natives


def test_empty_buckets_are_none_where_a_pool_says_so():
    layouts, cells = (of(1, 0, 2).layout,), of(1, 0, 2).cells
    pool = Pool.made(layouts, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), cells, np.zeros(1, np.uint8), np.ones(1, np.bool_))
    assert pool.sample(0).layout.positive.tolist() == [0, 2]
    assert pool.sample(0).positive.tolist() == [1.0, 2.0]


def test_results_keep_the_layouts_that_occur():
    layouts = [of(1).layout, of(1, 2).layout, of(1, 2, 3).layout]
    where = np.array([2, 0, 2])
    pool = Pool.made(layouts, where, np.arange(3) * 6, np.zeros(18), np.zeros(3, np.uint8), np.zeros(3, np.bool_))
    assert [pool.layouts[i].width for i in pool.layout.tolist()] == [6, 4, 6]
    assert len(pool.layouts) == 2


def test_differences_are_seen_to_the_bit():
    natives = pooled([of(1, 2), of(1, 2), of(1, 2.0000000000000004)])
    other, known = differ(natives.pool, np.array([0, 0]), np.array([1, 2]))
    assert other.tolist() == [False, True] and known.all()


TRIM_AT = st.one_of(st.floats(-100, 100), st.sampled_from([0.0, 1.0, -5.0, 8.0, 2.0**-16, math.inf, -math.inf, math.nan]))
ODD = st.sampled_from([0.0, -1.0, math.nan, math.inf, 0.3])


@given(
    ANY, st.lists(TRIM_AT, min_size=2, max_size=6), st.booleans(), st.booleans(), st.lists(st.tuples(st.integers(0, 99), ODD), max_size=3)
)
def test_histograms_are_trimmed_as_one_by_one(samples, values, upper, slim, oddities):
    for place, value in oddities:
        h = samples[place % len(samples)]
        h.cells[place % len(h.cells)] = value
    pool = pooled(samples).pool
    pool = replace(pool, slim=np.full(len(samples), slim))
    items, at = (side.reshape(-1) for side in np.meshgrid(np.arange(len(samples)), np.array(values)))
    with np.errstate(all="ignore"):
        made = trimmed(Counted(), pool, items, at, upper=upper)
        for i, (item, value) in enumerate(zip(items.tolist(), at.tolist(), strict=True)):
            one, other = trimmed_one(pool.sample(item), value, upper=upper), made.sample(i)
            assert one.layout.same(other.layout) and one.hint == other.hint
            assert np.array_equal(one.cells, other.cells, equal_nan=True), (samples[item], value)


@settings(max_examples=40)
@given(ANY, st.data())
def test_histograms_differ_as_they_do_one_by_one(samples, data):
    repeated = [*samples, *(Histogram(h.layout, np.where(h.cells == 0, -0.0, h.cells)) for h in samples), *samples]
    natives = pooled(repeated)
    slim = np.array(data.draw(st.lists(st.booleans(), min_size=len(repeated), max_size=len(repeated))))
    pool = replace(natives.pool, slim=slim)
    a, b = np.divmod(np.arange(len(repeated) ** 2), len(repeated))
    other, known = differ(pool, a, b)
    shown = [pool.sample(i) for i in range(len(repeated))]
    one_by_one = np.array([not arithmetic.equal(shown[i], shown[j]) for i, j in zip(a.tolist(), b.tolist(), strict=True)])
    assert (other == one_by_one)[known].all()
    unlike = np.array(
        [not pool.layouts[pool.layout[i]].same(pool.layouts[pool.layout[j]]) for i, j in zip(a.tolist(), b.tolist(), strict=True)]
    )
    assert (known == np.where(unlike, ~slim[a] & ~slim[b], slim[a] == slim[b])).all()


def test_a_zero_bucket_of_no_width_has_none_whatever_its_sign():
    layouts = [Layout(0, width, (), np.array([1], dtype=np.int32), NO_BUCKETS) for width in (0.0, -0.0, 1.0)]
    pool = pooled([Histogram(layout, np.array([1.0, 2.0, 0.0, 1.0])) for layout in layouts]).pool
    assert differ(pool, np.array([0, 0]), np.array([1, 2]))[0].tolist() == [False, True]


def test_layouts_of_unlike_zero_buckets_or_bounds_are_of_unlike_families():
    def custom(*bounds: float) -> Layout:
        return Layout(CUSTOM_SCHEMA, 0.0, bounds, np.arange(len(bounds) + 1, dtype=np.int32), NO_BUCKETS)

    def wide(threshold: float, schema: int) -> Layout:
        return Layout(schema, threshold, (), np.array([1], dtype=np.int32), NO_BUCKETS)

    table = Layouts([wide(0.5, 0), wide(0.5, 3), wide(0.25, 0), custom(1.0), custom(1.0), custom(2.0)])
    assert table.families.tolist() == [0, 0, 1, 2, 2, 3]
    assert table.kinds == 4


@pytest.mark.parametrize("most", [10, 1 << 40])
def test_keys_that_occur_are_found_with_and_without_marking_each(most):
    assert distinct(np.array([7, 3, 7, 0]), most).tolist() == [0, 3, 7]
