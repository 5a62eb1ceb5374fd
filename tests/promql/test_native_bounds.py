"""Sums of custom buckets of unlike bounds, many at a time, against one histogram after another: to the bit."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.model.histogram_arithmetic import RunningMean, RunningSum, compacted
from vedette.model.histograms import CUSTOM_SCHEMA, GAUGE, NO_BUCKETS, NOT_RESET, RESET, UNKNOWN, Histogram, Layout
from vedette.promql import native_bounds
from vedette.promql.native_pool import Natives

BOUNDS = ((), (1.0,), (1.0, 5.0), (1.0, 2.5, 5.0), (-1.0, 2.5, 5.0, 10.0), (0.1, 5.0, 7.0), (3.0,))


def evaluation() -> SimpleNamespace:
    """As much of one as sums need."""
    return SimpleNamespace(check=lambda: None, count=lambda *held: None, in_two=lambda part, n, worth: (part(0, n // 2), part(n // 2, n)))


@st.composite
def custom(draw) -> Histogram:
    edges = draw(st.sampled_from(BOUNDS))
    indices = sorted(draw(st.sets(st.integers(0, len(edges)))))
    counts = draw(st.lists(st.sampled_from([0.0, 1.0, 3.0, 0.1, 1e16, -2.0, -0.0, math.inf, math.nan, 1e308]), min_size=16, max_size=16))
    layout = Layout(CUSTOM_SCHEMA, 0.0, edges, np.array(indices, dtype=np.int32), NO_BUCKETS)
    return Histogram(
        layout, np.array([*counts[:2], 0.0, *counts[2 : 2 + len(indices)]]), draw(st.sampled_from([UNKNOWN, RESET, NOT_RESET, GAUGE]))
    )


EXPONENTIAL = Histogram(Layout(0, 0.5, (), np.array([1], dtype=np.int32), NO_BUCKETS), np.array([1.0, 2.0, 0.0, 1.0]))


def natives_of(rows: list[list[Histogram | None]]) -> Natives:
    objects = np.full((len(rows), len(rows[0])), None, dtype=object)
    for place in np.ndindex(objects.shape):
        objects[place] = rows[place[0]][place[1]]
    return Natives.of(objects)


@given(st.lists(st.tuples(*[st.one_of(st.none(), custom())] * 2), min_size=1, max_size=7), st.data(), st.booleans())
def test_sums_are_those_of_one_after_another(rows, data, mean):
    groups = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(rows), max_size=len(rows))), dtype=np.int64)
    natives = natives_of([list(row) for row in rows])
    left = np.ones((2, 2), dtype=np.bool_)
    with np.errstate(all="ignore"):
        found = native_bounds.of_groups(evaluation(), natives, groups, left, mean=mean)
        if found is None:
            assert not natives.mask.any()
            return
        for group, step in np.ndindex(2, 2):
            samples = [row[step] for row, own in zip(rows, groups.tolist(), strict=True) if own == group and row[step] is not None]
            if not found.made[group, step]:
                # A mean that would overflow is not made here.
                assert not samples or (mean and any((np.abs(h.cells) >= 1e307).any() for h in samples))
                continue
            total = (RunningMean if mean else RunningSum)(samples[0])
            assert all(total.add(h) for h in samples[1:])
            seen = total.sum if isinstance(total, RunningMean) else total
            got, wanted = found.natives.sample(group, step), compacted(total.result())
            assert got.layout.same(wanted.layout) and got.hint == wanted.hint
            assert np.array_equal(got.cells, wanted.cells, equal_nan=True)
            assert (found.collided[group, step], found.unlike[group, step]) == (seen.collided, seen.reconciled)


def test_what_is_not_of_custom_buckets_alone_is_left():
    one, other = (
        Histogram(Layout(CUSTOM_SCHEMA, 0.0, edges, np.array([0], dtype=np.int32), NO_BUCKETS), np.ones(4)) for edges in BOUNDS[1:3]
    )
    natives, groups = natives_of([[one, one], [other, EXPONENTIAL]]), np.zeros(2, dtype=np.int64)
    found = native_bounds.of_groups(evaluation(), natives, groups, np.ones((1, 2), dtype=np.bool_), mean=False)
    assert found.made.tolist() == [[True, False]]
    assert (
        native_bounds.of_groups(evaluation(), natives_of([[EXPONENTIAL]]), groups[:1], np.ones((1, 1), dtype=np.bool_), mean=False) is None
    )


def test_a_bucket_beyond_the_bounds_is_left():
    odd = [Histogram(Layout(CUSTOM_SCHEMA, 0.0, (1.0,), np.array([i], dtype=np.int32), NO_BUCKETS), np.ones(4)) for i in (-1, 2)]
    assert (
        native_bounds.of_groups(
            evaluation(), natives_of([[h] for h in odd]), np.zeros(2, dtype=np.int64), np.ones((1, 1), dtype=np.bool_), mean=False
        )
        is None
    )


@pytest.mark.parametrize(("sets", "made"), [(5, True), (9, False)])
def test_too_many_sets_of_bounds_are_left(sets, made):
    """Each lacks another bound, and each two have others in common."""
    every = np.arange(sets, dtype=np.float64)
    layouts = [Layout(CUSTOM_SCHEMA, 0.0, tuple(np.delete(every, i)), np.array([0], dtype=np.int32), NO_BUCKETS) for i in range(sets)]
    natives = natives_of([[Histogram(layout, np.ones(4))] for layout in layouts])
    found = native_bounds.of_groups(evaluation(), natives, np.zeros(sets, dtype=np.int64), np.ones((1, 1), dtype=np.bool_), mean=False)
    assert (found is not None) == made
