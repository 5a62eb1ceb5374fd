"""Pattern-defeating quicksort with the very steps of Go's `sort` and `slices` since 1.22: the order of what compares as equal is Go's, too.

Two users of that order are PromQL's `sort` and `topk`, whose answers are in no other order than the one sorting left them in,
and `sort_by_label`, whose comparison contradicts itself where a label is missing. Not here: what is compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_INSERTED, _NINTHER, _SHIFTED = 12, 50, 50
_MOST_SWAPS, _MOST_SHIFTS = 12, 5
_RISING, _FALLING, _UNKNOWN = 1, 2, 0
_DEEPEST = 64
"""Parts that wait: each is at least as long as what is sorted before it, so there are fewer than bits in a length."""


@njit(cache=True, nogil=True)
def _less(keys: Any, marks: Any, descending: bool, a: int, b: int) -> bool:
    """Whether row `a` comes before row `b`, as `by_columns` says."""
    for column in range(keys.shape[0]):
        if marks[column, a] == marks[column, b]:
            continue
        x, y = keys[column, a], keys[column, b]
        # Nothing comes before a row without a label, nor it before anything: said either way, and so are equals.
        return bool((x >= 0 and y >= 0 and x <= y) != descending)
    return False


@njit(cache=True, nogil=True)
def _insertion(keys: Any, marks: Any, descending: bool, order: Any, a: int, b: int) -> None:
    for i in range(a + 1, b):
        j = i
        while j > a and _less(keys, marks, descending, order[j], order[j - 1]):
            order[j], order[j - 1] = order[j - 1], order[j]
            j -= 1


@njit(cache=True, nogil=True)
def _sift(keys: Any, marks: Any, descending: bool, order: Any, root: int, end: int, first: int) -> None:
    while True:
        child = 2 * root + 1
        if child >= end:
            return
        if child + 1 < end and _less(keys, marks, descending, order[first + child], order[first + child + 1]):
            child += 1
        if not _less(keys, marks, descending, order[first + root], order[first + child]):
            return
        order[first + root], order[first + child] = order[first + child], order[first + root]
        root = child


@njit(cache=True, nogil=True)
def _heap_sort(keys: Any, marks: Any, descending: bool, order: Any, a: int, b: int) -> None:
    n = b - a
    for i in range((n - 1) // 2, -1, -1):
        _sift(keys, marks, descending, order, i, n, a)
    for i in range(n - 1, -1, -1):
        order[a], order[a + i] = order[a + i], order[a]
        _sift(keys, marks, descending, order, 0, i, a)


@njit(cache=True, nogil=True)
def _median(keys: Any, marks: Any, descending: bool, order: Any, a: int, b: int, c: int) -> Any:
    """The place of the middle one of three, and how many pairs were out of order."""
    swaps = 0
    if _less(keys, marks, descending, order[b], order[a]):
        a, b, swaps = b, a, swaps + 1
    if _less(keys, marks, descending, order[c], order[b]):
        b, c, swaps = c, b, swaps + 1
    if _less(keys, marks, descending, order[b], order[a]):
        a, b, swaps = b, a, swaps + 1
    return b, swaps


@njit(cache=True, nogil=True)
def _pivot(keys: Any, marks: Any, descending: bool, order: Any, a: int, b: int) -> Any:
    """(the pivot's place, how the part seems to be sorted)."""
    n, swaps = b - a, 0
    i, j, k = a + n // 4, a + n // 4 * 2, a + n // 4 * 3
    if n >= _NINTHER:
        i, more = _median(keys, marks, descending, order, i - 1, i, i + 1)
        swaps += more
        j, more = _median(keys, marks, descending, order, j - 1, j, j + 1)
        swaps += more
        k, more = _median(keys, marks, descending, order, k - 1, k, k + 1)
        swaps += more
    j, more = _median(keys, marks, descending, order, i, j, k)
    swaps += more
    if swaps == 0:
        return j, _RISING
    return j, (_FALLING if swaps == _MOST_SWAPS else _UNKNOWN)


@njit(cache=True, nogil=True)
def _nearly_sorted(keys: Any, marks: Any, descending: bool, order: Any, a: int, b: int) -> bool:
    """Put a few that are out of place where they belong; whether all are then."""
    i = a + 1
    for _ in range(_MOST_SHIFTS):
        while i < b and not _less(keys, marks, descending, order[i], order[i - 1]):
            i += 1
        if i == b:
            return True
        if b - a < _SHIFTED:
            return False
        order[i], order[i - 1] = order[i - 1], order[i]
        if i - a >= 2:
            j = i - 1
            # Down to the beginning of all, as there: what is before this part holds it up, where comparisons agree.
            while j >= 1 and _less(keys, marks, descending, order[j], order[j - 1]):
                order[j], order[j - 1] = order[j - 1], order[j]
                j -= 1
        if b - i >= 2:
            j = i + 1
            while j < b and _less(keys, marks, descending, order[j], order[j - 1]):
                order[j], order[j - 1] = order[j - 1], order[j]
                j += 1
    return False


@njit(cache=True, nogil=True)
def _break_patterns(order: Any, a: int, b: int) -> None:
    n = b - a
    random, modulus = np.uint64(n), np.uint64(1)
    while modulus <= np.uint64(n):
        modulus = np.uint64(modulus << np.uint64(1))
    at = a + n // 4 * 2 - 1
    for i in range(3):
        random ^= random << np.uint64(13)
        random ^= random >> np.uint64(7)
        random ^= random << np.uint64(17)
        other = np.int64(random & (modulus - np.uint64(1)))
        if other >= n:
            other -= n
        order[at + i], order[a + other] = order[a + other], order[at + i]


@njit(cache=True, nogil=True)
def _part(keys: Any, marks: Any, descending: bool, order: Any, a: int, b: int, pivot: int) -> Any:
    """What is less than the pivot before it, the rest behind: (its place, whether it was so already)."""
    order[a], order[pivot] = order[pivot], order[a]
    i, j, first = a + 1, b - 1, True
    while True:
        while i <= j and _less(keys, marks, descending, order[i], order[a]):
            i += 1
        while i <= j and not _less(keys, marks, descending, order[j], order[a]):
            j -= 1
        if i > j:
            break
        order[i], order[j] = order[j], order[i]
        i, j, first = i + 1, j - 1, False
    order[j], order[a] = order[a], order[j]
    return j, first


@njit(cache=True, nogil=True)
def _part_equal(keys: Any, marks: Any, descending: bool, order: Any, a: int, b: int, pivot: int) -> int:
    """What equals the pivot before what is greater: where that begins."""
    order[a], order[pivot] = order[pivot], order[a]
    i, j = a + 1, b - 1
    while True:
        while i <= j and not _less(keys, marks, descending, order[a], order[i]):
            i += 1
        while i <= j and _less(keys, marks, descending, order[a], order[j]):
            j -= 1
        if i > j:
            return i
        order[i], order[j] = order[j], order[i]
        i, j = i + 1, j - 1


@njit(cache=True, nogil=True)
def by_columns(keys: Any, marks: Any, descending: bool, order: Any) -> None:
    """Sort `order` (int64[k], numbers of rows) by the columns of `keys` (int64[m, n]), the first that tells two rows apart counting.

    Rows are told apart where their `marks` (int64[m, n]) differ. Of equal keys then each comes before the other; a key below 0 comes before
    none and none before it. `descending` turns each of these answers round. However contradictory that is: the order is Go's.
    """
    waiting = np.empty((_DEEPEST, 5), dtype=np.int64)
    depth, n, limit = 0, len(order), 0
    while n >> limit:
        limit += 1
    a, b, balanced, parted = 0, n, True, True
    while True:
        done = b - a <= _INSERTED
        if done:
            _insertion(keys, marks, descending, order, a, b)
        elif limit == 0:
            done = True
            _heap_sort(keys, marks, descending, order, a, b)
        else:
            if not balanced:
                _break_patterns(order, a, b)
                limit -= 1
            pivot, hint = _pivot(keys, marks, descending, order, a, b)
            if hint == _FALLING:
                order[a:b] = order[a:b][::-1].copy()
                pivot, hint = b - 1 - (pivot - a), _RISING
            done = balanced and parted and hint == _RISING and _nearly_sorted(keys, marks, descending, order, a, b)
        if done:
            if depth == 0:
                return
            depth -= 1
            a, b, limit = waiting[depth, 0], waiting[depth, 1], waiting[depth, 2]
            balanced, parted = waiting[depth, 3] != 0, waiting[depth, 4] != 0
            continue
        if a > 0 and not _less(keys, marks, descending, order[a - 1], order[pivot]):
            a = _part_equal(keys, marks, descending, order, a, b, pivot)
            continue
        middle, parted = _part(keys, marks, descending, order, a, b, pivot)
        left, right = middle - a, b - middle
        balanced = min(left, right) >= (b - a) // 8
        waiting[depth, 2], waiting[depth, 3], waiting[depth, 4] = limit, balanced, parted
        # The shorter part first, the other one waits.
        if left < right:
            waiting[depth, 0], waiting[depth, 1] = middle + 1, b
            b = middle
        else:
            waiting[depth, 0], waiting[depth, 1] = a, middle
            a = middle + 1
        depth, balanced, parted = depth + 1, True, True
