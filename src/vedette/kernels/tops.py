"""`topk` and `bottomk`: a heap for each group and step, fed row by row, so that no matrix of all rows is ever held."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.pattern_sort import by_columns

_INSERTED = 12


@njit(cache=True, nogil=True, inline="always")
def _less(a: float, b: float, largest: bool) -> bool:
    """Heap order: the value to drop first is the least; NaN always goes first."""
    if np.isnan(a):
        return True
    return a < b if largest else a > b


@njit(cache=True, nogil=True)
def _swap(values: Any, rows: Any, i: int, j: int) -> None:
    values[i], values[j] = values[j], values[i]
    rows[i], rows[j] = rows[j], rows[i]


@njit(cache=True, nogil=True)
def _sift_up(values: Any, rows: Any, j: int, largest: bool) -> None:
    while j > 0:
        i = (j - 1) // 2
        if not _less(values[j], values[i], largest):
            break
        _swap(values, rows, i, j)
        j = i


@njit(cache=True, nogil=True)
def _sift_down(values: Any, rows: Any, size: int, largest: bool) -> None:
    i = 0
    while True:
        j = 2 * i + 1
        if j >= size:
            break
        if j + 1 < size and _less(values[j + 1], values[j], largest):
            j += 1
        if not _less(values[j], values[i], largest):
            break
        _swap(values, rows, i, j)
        i = j


@njit(cache=True, nogil=True, error_model="numpy")
def best(
    values: Any, present: Any, groups: Any, row: int, starts: Any, limits: Any, largest: bool, kept: Any, rows: Any, sizes: Any, bar: Any
) -> None:
    """Offer the rows of `values` (float64[R, n], where `present`), whose numbers are `row` and on, to the heaps of their `groups`.

    Group g has the heaps `kept[starts[g]:starts[g + 1], k]` (float64[S, n]; the numbers of their rows in `rows`, int64[S, n]) of
    `sizes[g, k]` (int64[G, n]) values, `limits[k]` at most: the greatest, or the least without `largest`. Among equal values the same
    stay as in Prometheus, whose heap this is. `bar` float64[G, n] is what a value must pass to get in: NaN, where it must be looked at,
    as is where a heap is not full; at first so everywhere.
    """
    n = values.shape[1]
    for r in range(values.shape[0]):
        g = groups[r]
        v, there, least = values[r], present[r], bar[g]
        # Nearly all rows end here, after a loop without branches.
        hits = 0
        if largest:
            for k in range(n):
                hits += not v[k] <= least[k] and there[k]
        else:
            for k in range(n):
                hits += not v[k] >= least[k] and there[k]
        if hits == 0:
            continue
        for k in range(n):
            limit = limits[k]
            if not there[k] or limit < 1 or (v[k] <= least[k] if largest else v[k] >= least[k]):
                continue
            heap, numbers = kept[starts[g] : starts[g + 1], k], rows[starts[g] : starts[g + 1], k]
            size = sizes[g, k]
            if size < limit:
                heap[size], numbers[size] = v[k], row + r
                size += 1
                sizes[g, k] = size
                _sift_up(heap, numbers, size - 1, largest)
            elif (heap[0] < v[k] if largest else heap[0] > v[k]) or (np.isnan(heap[0]) and not np.isnan(v[k])):
                heap[0], numbers[0] = v[k], row + r
                _sift_down(heap, numbers, size, largest)
            if size == limit:
                least[k] = heap[0]


@njit(cache=True, nogil=True)
def ranked(starts: Any, sizes: Any, keys: Any, marks: Any, rows: Any, order: Any) -> int:
    """The rows in the heaps of the first step, group by group, the best first, to `order` (int64[S]); how many they are.

    `keys` and `marks` (int64[1, S]) tell what is best, as for `pattern_sort.by_columns`.
    """
    written, descending = 0, False
    places = np.arange(starts[-1])
    for g in range(len(starts) - 1):
        held = places[starts[g] : starts[g] + sizes[g, 0]]
        by_columns(keys, marks, descending, held)
        for place in held:
            order[written] = rows[place, 0]
            written += 1
    return written
