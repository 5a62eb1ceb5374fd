"""The heaps of topk against the same heap in plain Python, fed step by step as Prometheus feeds it."""

from __future__ import annotations

import heapq
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cmp_to_key
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.kernels import tops
from vedette.promql.sorting import comparable

sys.path.insert(0, str(Path(__file__).parent))
from pdq_twin import go_sorted


@dataclass
class Heap:
    """Go's `container/heap` of (value, row), with the order of Prometheus' `vectorByValueHeap` or its reverse."""

    largest: bool
    items: list[tuple[float, int]] = field(default_factory=list)

    def less(self, i: int, j: int) -> bool:
        return self.worse(self.items[i], self.items[j])

    def worse(self, one: tuple[float, int], other: tuple[float, int]) -> bool:
        a, b = one[0], other[0]
        return math.isnan(a) or (a < b if self.largest else a > b)

    def swap(self, i: int, j: int) -> None:
        self.items[i], self.items[j] = self.items[j], self.items[i]

    def push(self, item: tuple[float, int]) -> None:
        self.items.append(item)
        j = len(self.items) - 1
        while j > 0 and self.less(j, (j - 1) // 2):
            self.swap(j, (j - 1) // 2)
            j = (j - 1) // 2

    def replace(self, item: tuple[float, int]) -> None:
        self.items[0] = item
        i = 0
        while (j := 2 * i + 1) < len(self.items):
            if j + 1 < len(self.items) and self.less(j + 1, j):
                j += 1
            if not self.less(j, i):
                break
            self.swap(i, j)
            i = j

    def offer(self, value: float, row: int, limit: int) -> None:
        if limit < 1:
            return
        if len(self.items) < limit:
            self.push((value, row))
            return
        worst = self.items[0][0]
        if (worst < value if self.largest else worst > value) or (math.isnan(worst) and not math.isnan(value)):
            self.replace((value, row))


@dataclass
class Heaps:
    """The kernel's arrays for groups of these sizes."""

    groups: np.ndarray
    limits: np.ndarray
    largest: bool

    def __post_init__(self) -> None:
        count, n = int(self.groups.max()) + 1, len(self.limits)
        caps = np.minimum(np.bincount(self.groups, minlength=count), max(0, int(self.limits.max())))
        self.starts = np.concatenate([[0], np.cumsum(caps)]).astype(np.int64)
        self.kept, self.rows = np.empty((self.starts[-1], n)), np.empty((self.starts[-1], n), dtype=np.int64)
        self.sizes, self.bar = np.zeros((count, n), dtype=np.int64), np.full((count, n), math.nan)

    def feed(self, values: np.ndarray, present: np.ndarray, row: int) -> None:
        groups = self.groups[row : row + len(values)]
        tops.best(values, present, groups, row, self.starts, self.limits, self.largest, self.kept, self.rows, self.sizes, self.bar)

    def held(self, group: int, step: int) -> list[tuple[float, int]]:
        lo = int(self.starts[group])
        hi = lo + int(self.sizes[group, step])
        return list(zip(self.kept[lo:hi, step].tolist(), self.rows[lo:hi, step].tolist(), strict=True))


def same(a: Sequence[tuple[float, int]], b: Sequence[tuple[float, int]]) -> bool:
    return [(repr(v), r) for v, r in a] == [(repr(v), r) for v, r in b]


NUMBERS = st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.5, 7.0, -1.0, math.inf, -math.inf, math.nan])


@given(data=st.data(), rows=st.integers(1, 25), steps=st.integers(1, 10), largest=st.booleans(), blocks=st.integers(1, 4))
def test_heaps_are_those_of_prometheus_however_the_rows_are_cut(
    data: st.DataObject, rows: int, steps: int, largest: bool, blocks: int
) -> None:
    def drawn(values: st.SearchStrategy[object]) -> list[object]:
        return data.draw(st.lists(values, min_size=rows * steps, max_size=rows * steps))

    values = np.array(drawn(NUMBERS), dtype=np.float64).reshape(rows, steps)
    present = np.array(drawn(st.booleans()), dtype=np.bool_).reshape(rows, steps)
    groups = np.array(data.draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)), dtype=np.int64)
    limits = np.array(data.draw(st.lists(st.integers(-1, 6), min_size=steps, max_size=steps)), dtype=np.int64)
    ours = Heaps(groups, limits, largest)
    for part in np.array_split(np.arange(rows), blocks):
        if len(part):
            ours.feed(values[part], present[part], int(part[0]))
    for group in range(int(groups.max()) + 1):
        for step in range(steps):
            twin = Heap(largest)
            for row in range(rows):
                if groups[row] == group and present[row, step]:
                    twin.offer(float(values[row, step]), row, int(limits[step]))
            assert same(ours.held(group, step), twin.items)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_the_best_of_many_stay(largest: bool, limit: int) -> None:
    random = np.random.default_rng(7)
    values, present = random.normal(size=(5000, 9)), random.random((5000, 9)) < 0.9
    groups = random.integers(0, 4, 5000)
    ours = Heaps(groups, np.full(9, limit), largest)
    ours.feed(values, present, 0)
    for group in range(4):
        for step in range(9):
            numbers = values[present[:, step] & (groups == group), step].tolist()
            wanted = (heapq.nlargest if largest else heapq.nsmallest)(limit, numbers)
            held = ours.held(group, step)
            assert sorted(v for v, _ in held) == sorted(wanted)
            assert all(values[row, step] == v for v, row in held)


def ranked(heaps: Heaps, largest: bool) -> list[int]:
    """The rows of the first step's heaps, the best first."""
    order = np.empty(len(heaps.kept), dtype=np.int64)
    keys, marks = comparable(-heaps.kept[:, 0] if largest else heaps.kept[:, 0])
    return order[: tops.ranked(heaps.starts, heaps.sizes, keys, marks, heaps.rows, order)].tolist()


@pytest.mark.parametrize(("largest", "wanted"), [(True, [1, 4, 3, 0, 2]), (False, [0, 3, 4, 1, 2])])
def test_of_one_step_the_best_come_first_and_nan_last(largest: bool, wanted: list[int]) -> None:
    ours = Heaps(np.zeros(5, dtype=np.int64), np.array([5]), largest)
    ours.feed(np.array([[1.0], [9.0], [math.nan], [4.0], [7.0]]), np.ones((5, 1), dtype=np.bool_), 0)
    assert ranked(ours, largest) == wanted


def test_groups_of_one_step_follow_one_another_each_in_its_own_order() -> None:
    random = np.random.default_rng(11)
    values, groups = random.permutation(60).astype(np.float64).reshape(60, 1), random.integers(0, 3, 60)
    ours = Heaps(groups, np.array([4]), True)
    ours.feed(values, np.ones((60, 1), dtype=np.bool_), 0)

    def before(a: int, b: int) -> int:
        return int(groups[a] - groups[b]) or int(np.sign(values[b, 0] - values[a, 0]))

    everything = sorted(range(60), key=cmp_to_key(before))
    assert ranked(ours, True) == [row for group in range(3) for row in [r for r in everything if groups[r] == group][:4]]


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("limit", [5, 30, 500])
def test_equals_come_in_the_order_of_go_that_sorts_the_heap(largest: bool, limit: int) -> None:
    random = np.random.default_rng(limit)
    values, groups = np.where(random.random(300) < 0.1, np.nan, random.integers(0, 6, 300)), random.integers(0, 2, 300)
    ours, wanted = Heaps(groups, np.array([limit]), largest), []
    ours.feed(values.reshape(-1, 1), np.ones((300, 1), dtype=np.bool_), 0)
    for group in range(2):
        twin = Heap(largest)
        for row in np.flatnonzero(groups == group).tolist():
            twin.offer(float(values[row]), row, limit)
        wanted += [row for _, row in go_sorted(twin.items, lambda a, b, twin=twin: twin.worse(b, a))]
    assert ranked(ours, largest) == wanted
