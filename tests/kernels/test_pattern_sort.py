"""Sorting with the steps of Go's sort: beside a twin of it, which Prometheus' own answers are held against in `test_rival_semantics.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.kernels.pattern_sort import by_columns

sys.path.insert(0, str(Path(__file__).parent))
from pdq_twin import go_sorted

Column = tuple[list[int], list[int]]


def ours(columns: list[Column], *, descending: bool) -> list[int]:
    keys, marks = (np.array([column[i] for column in columns], dtype=np.int64) for i in (0, 1))
    order = np.arange(keys.shape[1], dtype=np.int64)
    by_columns(keys, marks, descending, order)
    return order.tolist()


def twin(columns: list[Column], *, descending: bool) -> list[int]:
    def less(a: int, b: int) -> bool:
        for keys, marks in columns:
            if marks[a] != marks[b]:
                return (0 <= keys[a] <= keys[b]) != descending
        return False

    return go_sorted(list(range(len(columns[0][0]))), less)


def ranks(numbers: list[int]) -> Column:
    return numbers, numbers


SHAPES = {
    "few": lambda n: np.random.default_rng(n).integers(0, 3, n),
    "some": lambda n: np.random.default_rng(n).integers(0, n // 3 + 1, n),
    "rising": np.arange,
    "falling": lambda n: np.arange(n)[::-1] // 2,
    "nearly rising": lambda n: np.where(np.arange(n) % 40 == 20, 3, np.arange(n)),
    "one": np.zeros,
    "organ pipes": lambda n: np.minimum(np.arange(n), n - np.arange(n)),
    "saw": lambda n: np.arange(n) % 7,
    "median killer": lambda n: np.where(np.arange(n) % 2 == 0, np.arange(n) // 2, n // 2 + np.arange(n) // 2),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_are_left_in_the_order_of_go(shape: str) -> None:
    for n in (0, 1, 2, 12, 13, 20, 49, 50, 51, 100, 400, 1500):
        numbers = SHAPES[shape](n).astype(int).tolist()
        for descending in (False, True):
            got = ours([ranks(numbers)], descending=descending)
            assert got == twin([ranks(numbers)], descending=descending), n
            assert [numbers[i] for i in got] == sorted(numbers, reverse=descending)


def test_a_pattern_that_is_bad_for_every_pivot_ends_in_a_heap() -> None:
    """An adversary that decides what a number is when it is compared makes quicksort square; heaps then take over, as in Go."""
    n, frozen, last, asked = 2000, 0, -1, 0
    values: dict[int, int] = {}

    def less(a: int, b: int) -> bool:
        nonlocal frozen, last, asked
        asked += 1
        if a not in values and b not in values:
            values[a if a == last else b] = frozen
            frozen += 1
        if a not in values:
            last = a
        elif b not in values:
            last = b
        return values.get(a, n) < values.get(b, n)

    go_sorted(list(range(n)), less)
    numbers = [values.get(i, n) for i in range(n)]
    assert asked < 60 * n
    assert ours([ranks(numbers)], descending=False) == twin([ranks(numbers)], descending=False)


@settings(max_examples=100)
@given(st.lists(st.tuples(*[st.integers(-1, 3)] * 2, *[st.integers(0, 5)] * 2), max_size=150), st.booleans())
def test_comparisons_that_contradict_each_other_lead_where_they_do_in_go(rows: list[tuple[int, int, int, int]], descending: bool) -> None:
    a, b, x, y = ([row[i] for row in rows] for i in range(4))
    columns = [(a, x), (b, y), ranks(list(range(len(rows))))]
    got = ours(columns, descending=descending)
    assert got == twin(columns, descending=descending)
    assert sorted(got) == list(range(len(rows)))
