"""Quantiles without sorting again and again: the two ranks that count are selected, or a sorted window slides along."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_SMALL, _ROUNDS = 16, 64


@njit(cache=True, nogil=True)
def _select(a: Any, lo: int, hi: int, k: int) -> None:
    """Move the number of rank `k` of `a[lo:hi + 1]` (none is NaN) to its place, lesser ones before it, greater ones behind it."""
    rounds = 0
    while hi - lo >= _SMALL:
        rounds += 1
        if rounds > _ROUNDS:
            # An order made to defeat the choice of pivots: sort what is left.
            a[lo : hi + 1].sort()
            return
        x, y, z = a[lo], a[(lo + hi) // 2], a[hi]
        pivot = max(min(x, y), min(max(x, y), z))
        i, j = lo, hi
        while i <= j:
            while a[i] < pivot:
                i += 1
            while a[j] > pivot:
                j -= 1
            if i <= j:
                a[i], a[j] = a[j], a[i]
                i += 1
                j -= 1
        if k <= j:
            hi = j
        elif k >= i:
            lo = i
        else:
            return
    for i in range(lo + 1, hi + 1):
        v = a[i]
        j = i - 1
        while j >= lo and a[j] > v:
            a[j + 1] = a[j]
            j -= 1
        a[j + 1] = v


@njit(cache=True, nogil=True, error_model="numpy")
def quantile_of(q: float, scratch: Any, n: int) -> Any:
    """Quantile of `scratch[:n]`, which is reordered, NaN as the least value; by linear interpolation."""
    if n == 0 or np.isnan(q):
        return np.nan
    if q < 0:
        return -np.inf
    if q > 1:
        return np.inf
    nans = 0
    for i in range(n):
        if np.isnan(scratch[i]):
            scratch[i] = scratch[nans]
            scratch[nans] = np.nan
            nans += 1
    rank = q * (n - 1)
    below = int(max(0.0, np.floor(rank)))
    above = min(n - 1, below + 1)
    weight = rank - np.floor(rank)
    if below < nans:
        return np.nan
    _select(scratch, nans, n - 1, below)
    least = scratch[below]
    if above > below:
        least = scratch[above]
        for i in range(above + 1, n):
            least = min(least, scratch[i])
    return scratch[below] * (1 - weight) + least * weight


@njit(cache=True, nogil=True, error_model="numpy")
def quantile_of_window(q: float, samples: Any, scratch: Any) -> Any:
    """`quantile_of` of `samples`, at least one; of what ascends, as values that stay the same do, without selecting anything."""
    n = len(samples)
    ascending = 0.0 <= q <= 1.0 and samples[0] == samples[0]
    i = 1
    while ascending and i < n:
        ascending = samples[i] >= samples[i - 1]
        i += 1
    if not ascending:
        for i in range(n):
            scratch[i] = samples[i]
        return quantile_of(q, scratch, n)
    rank = q * (n - 1)
    below = int(np.floor(rank))
    weight = rank - np.floor(rank)
    return samples[below] * (1 - weight) + samples[min(n - 1, below + 1)] * weight


@njit(cache=True, nogil=True)
def _place(a: Any, n: int, v: float) -> int:
    """The first place in `a[:n]`, which is sorted, whose number is not below `v`."""
    lo, hi = 0, n
    while lo < hi:
        middle = (lo + hi) // 2
        if a[middle] < v:
            lo = middle + 1
        else:
            hi = middle
    return lo


@njit(cache=True, nogil=True, error_model="numpy")
def sliding(q: Any, vals: Any, begin: int, left: Any, right: Any, there: Any, window: Any, row: Any) -> None:
    """The quantile of each window of a row whose windows overlap: `row[k]` where `there[k]`, as `quantile_of`.

    `window` has room for all samples of the row. It holds the window's numbers sorted, and takes in and lets go what the next
    window has more and less.
    """
    nans, n = 0, 0
    a, b = 0, 0
    for k in range(len(row)):
        for i in range(b, right[k]):
            v = vals[begin + i]
            if np.isnan(v):
                nans += 1
                continue
            at = _place(window, n, v)
            for j in range(n, at, -1):
                window[j] = window[j - 1]
            window[at] = v
            n += 1
        for i in range(a, left[k]):
            v = vals[begin + i]
            if np.isnan(v):
                nans -= 1
                continue
            n -= 1
            for j in range(_place(window, n + 1, v), n):
                window[j] = window[j + 1]
        a, b = left[k], right[k]
        if not there[k]:
            continue
        if np.isnan(q[k]):
            row[k] = np.nan
        elif q[k] < 0 or q[k] > 1:
            row[k] = -np.inf if q[k] < 0 else np.inf
        else:
            rank = q[k] * (n + nans - 1)
            below = int(max(0.0, np.floor(rank)))
            above = min(n + nans - 1, below + 1)
            weight = rank - np.floor(rank)
            # NaN is the least of all values.
            low = window[below - nans] if below >= nans else np.nan
            high = window[above - nans] if above >= nans else np.nan
            row[k] = low * (1 - weight) + high * weight
