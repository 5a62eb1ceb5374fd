"""Where the windows of a row begin and end among its samples, and runs of windows that can be gone through side by side.

The windows of a run are computed in step with each other (`lanes.py`), sample after sample, so that one instruction works for
several of them. Consecutive steps have mostly windows of equal length, each as many samples further on as the one before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_MANY = 16
"""Samples a step, from which on they are not looked at one by one."""

_EVEN = 8
"""Windows that make a run of their own; fewer go together with their uneven neighbours."""


@njit(cache=True, nogil=True)
def _after(ts: Any, i: int, end: int, t: int, ahead: int) -> int:
    """The first of the samples from `i` on that is later than t; `end` where none is. It is looked for first `ahead` samples further on."""
    guess = i + ahead
    if guess < end and ts[guess] > t and (guess == i or ts[guess - 1] <= t):
        return guess
    if i == end or ts[i] > t:
        return i
    low, width = i, 1
    while low + width < end and ts[low + width] <= t:
        low += width
        width *= 2
    high = min(low + width, end)
    while high - low > 1:
        mid = (low + high) // 2
        if ts[mid] <= t:
            low = mid
        else:
            high = mid
    return high


@njit(cache=True, nogil=True)
def bounds(ts: Any, begin: int, end: int, first: int, step: int, n: int, range_ms: int, left: Any, right: Any) -> None:
    """`left`, `right` int64[n]: window k is `[begin + left[k], begin + right[k])`, the samples in `(t - range_ms, t]`."""
    a: Any = np.int64(begin)
    b: Any = np.int64(begin)
    t = first
    if end - begin > _MANY * n:
        # Mostly all steps lie equally many samples apart.
        first_ahead: Any = np.int64(0)
        last_ahead: Any = np.int64(0)
        for k in range(n):
            after = _after(ts, b, end, t, last_ahead)
            last_ahead, b = after - b, after
            after = _after(ts, a, end, t - range_ms, first_ahead)
            first_ahead, a = after - a, after
            left[k] = a - begin
            right[k] = b - begin
            t += step
        return
    for k in range(n):
        while b < end and ts[b] <= t:
            b += 1
        while a < end and ts[a] <= t - range_ms:
            a += 1
        left[k] = a - begin
        right[k] = b - begin
        t += step


@njit(cache=True, nogil=True)
def same_times(ts: Any, begin: int, before: int, count: int) -> bool:
    """Whether `count` samples from `begin` on have the times of those from `before` on: series of one scrape do."""
    if count and (ts[begin] != ts[before] or ts[begin + count - 1] != ts[before + count - 1]):
        return False
    different = 0
    for i in range(count):
        different |= ts[begin + i] ^ ts[before + i]
    return different == 0


@njit(cache=True, nogil=True)
def runs(left: Any, right: Any, n: int, most: int, at: Any, strides: Any) -> int:
    """Cut the steps into runs of at most `most`; answers how many. Run i is of the steps `at[i]` to `at[i + 1]`.

    `strides[i]` is how many samples each of its windows lies behind the one before where all have the same length, and -1 where
    they do not. Both are int64[n + 1].
    """
    found = 0
    k = 0
    while k < n:
        begin = k
        length, stride = right[k] - left[k], left[k + 1] - left[k] if k + 1 < n else 0
        last = min(n, k + most)
        k += 1
        while k < last and right[k] - left[k] == length and left[k] - left[k - 1] == stride:
            k += 1
        if k - begin < _EVEN and found and strides[found - 1] < 0 and k - at[found - 1] <= most:
            continue  # one more of the uneven ones
        at[found] = begin
        strides[found] = stride if k - begin >= _EVEN else -1
        found += 1
    at[found] = n
    return found
