"""Least and greatest values of windows, at a cost of the samples and not of the windows' lengths.

A row is cut where its windows (`spans.py`) begin and end. Each piece gives one value, and a window is made of its pieces'. Rows with
NaN or -0, of which it matters which comes first, are gone through sample by sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.codes import MAX
from vedette.kernels.spans import bounds, same_times

_1, _2, _3 = np.uint64(1), np.uint64(2), np.uint64(3)
_NEGATIVE_ZERO = np.int64(-0x8000000000000000)


@njit(cache=True, nogil=True)
def cut(left: Any, right: Any, n: int, cuts: Any, first: Any, last: Any, used: Any) -> int:
    """Cut a row where its windows begin and end: answers how many pieces; piece i is of the samples `cuts[i]` to `cuts[i + 1]`.

    Window k is of the pieces `[first[k], last[k])`; those that no window has are not `used`. `cuts` int64[2n + 1], `used` bool[2n].
    """
    i, j, found = 0, 0, 0
    open_ = 0
    while i < n or j < n:
        at = right[j] if i == n else min(left[i], right[j])
        while i < n and left[i] == at:
            first[i] = found
            open_ += 1
            i += 1
        while j < i and right[j] == at:
            last[j] = found
            open_ -= 1
            j += 1
        cuts[found] = at
        used[found] = open_ > 0
        found += 1
    return found - 1


@njit(cache=True, nogil=True, error_model="numpy")
def plain(vals: Any, begin: int, end: int) -> bool:
    """Whether all samples can be ordered by what they are alone: none is NaN, none -0, which comes neither before nor after 0."""
    samples, raw = vals[begin:end], vals[begin:end].view(np.int64)
    odd: Any = np.int64(0)
    for i in range(len(samples)):
        odd |= np.int64(samples[i] != samples[i]) | np.int64(raw[i] == _NEGATIVE_ZERO)
    return bool(odd == 0)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _further(v: float, best: float, greatest: bool) -> float:
    return (v if v > best else best) if greatest else (v if v < best else best)


@njit(cache=True, nogil=True, error_model="numpy")
def _extreme(vals: Any, a: int, b: int, greatest: bool) -> float:
    """The greatest or least of at least one sample; four at a time, for one would wait for the other."""
    p = q = r = s = vals[a]
    # A slice and unsigned places: whether an index is negative would be asked each time.
    samples = vals[a:b]
    fours = len(samples) >> 2
    for four in range(fours):
        i = np.uint64(4 * four)
        p = _further(samples[i], p, greatest)
        q = _further(samples[i + _1], q, greatest)
        r = _further(samples[i + _2], r, greatest)
        s = _further(samples[i + _3], s, greatest)
    for j in range(4 * fours, len(samples)):
        p = _further(samples[j], p, greatest)
    return _further(_further(p, q, greatest), _further(r, s, greatest), greatest)


@njit(cache=True, nogil=True, error_model="numpy")
def extremes(
    vals: Any, begin: int, pieces: int, cuts: Any, used: Any, first: Any, second: Any, level: Any, greatest: bool, table: Any, row: Any
) -> None:
    """Greatest or least values of `plain` windows: of each piece, then of 2, 4, 8… pieces from each one on, of which a window is two.

    Those begin at the pieces `first[k]` and `second[k]`, in the level `level[k]` of `table` float64[levels, pieces].
    """
    one = table[0]
    for i in range(pieces):
        if cuts[i + 1] - cuts[i] == 1:
            one[i] = vals[begin + cuts[i]]
        elif used[i]:
            one[i] = _extreme(vals, begin + cuts[i], begin + cuts[i + 1], greatest)
        else:
            one[i] = 0.0
    width = 1
    for i in range(1, len(table)):
        below, above = table[i - 1], table[i]
        later = below[width:]
        if greatest:
            for j in range(pieces - 2 * width + 1):
                above[j] = below[j] if below[j] > later[j] else later[j]
        else:
            for j in range(pieces - 2 * width + 1):
                above[j] = below[j] if below[j] < later[j] else later[j]
        width *= 2
    for k in range(len(row)):
        # A window without pieces gives what is not looked at.
        row[k] = _further(table[level[k], first[k]], table[level[k], second[k]], greatest)


@njit(cache=True, nogil=True)
def spanned(first: Any, last: Any, second: Any, level: Any) -> int:
    """Which two spans of the pieces `[first[k], last[k])` a window is: fills `second` and `level`; answers how many levels there are."""
    most = 1
    for k in range(len(first)):
        at, width = 0, 1
        while 2 * width <= last[k] - first[k]:
            at, width = at + 1, 2 * width
        empty = last[k] == first[k]
        first[k] = 0 if empty else first[k]
        second[k] = 0 if empty else last[k] - width
        level[k] = at
        most = max(most, at + 1)
    return most


@njit(cache=True, nogil=True, error_model="numpy")
def _one_by_one(
    ts: Any, vals: Any, begin: int, end: int, first: int, step: int, n: int, range_ms: int, greatest: bool, best: Any, row: Any
) -> None:
    """The same of a row that is not `plain`; `best` int64[samples] is room to work in.

    It holds the places of those samples that no later one in the window outdoes, so the first of them is the answer; of
    equal ones (0 and -0) the earliest. NaN is the answer only where there is nothing else.
    """
    a, b = begin, begin
    head, tail = 0, 0
    t = first
    for k in range(n):
        while b < end and ts[b] <= t:
            v = vals[b]
            if not np.isnan(v):
                if greatest:
                    while tail > head and vals[best[tail - 1]] < v:
                        tail -= 1
                else:
                    while tail > head and vals[best[tail - 1]] > v:
                        tail -= 1
                best[tail] = b
                tail += 1
            b += 1
        while a < end and ts[a] <= t - range_ms:
            a += 1
        while head < tail and best[head] < a:
            head += 1
        if b > a:
            row[k] = vals[best[head]] if head < tail else vals[b - 1]
        t += step


@njit(cache=True, nogil=True, error_model="numpy")
def extreme_values(
    code: int, offsets: Any, ts: Any, vals: Any, lo: int, hi: int, first: int, step: int, n: int, range_ms: int, out: Any, present: Any
) -> None:
    """The least (`MIN`) or greatest (`MAX`) values of the windows of rows `[lo, hi)`, as `windows.over_time`."""
    longest = 0
    for r in range(lo, hi):
        longest = max(longest, offsets[r + 1] - offsets[r])
    best = np.empty(longest, dtype=np.int64)
    left, right = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    cuts, used = np.empty(2 * n, dtype=np.int64), np.empty(2 * n, dtype=np.bool_)
    head, tail = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    second, level = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    table = np.zeros((1, 2 * n))
    levels = 1
    before: Any = np.int64(-1)
    samples: Any = np.int64(-1)
    pieces = 0
    for r in range(lo, hi):
        begin, end = offsets[r], offsets[r + 1]
        there, row = present[r - lo], out[r - lo]
        if begin == end:
            there[:] = False
            continue
        if end - begin != samples or not same_times(ts, begin, before, samples):
            bounds(ts, begin, end, first, step, n, range_ms, left, right)
            pieces = cut(left, right, n, cuts, head, tail, used)
            levels = spanned(head, tail, second, level)
            if levels > len(table):
                table = np.empty((levels, 2 * n))
        before, samples = begin, end - begin
        for k in range(n):
            there[k] = right[k] > left[k]
        if plain(vals, begin, end):
            extremes(vals, begin, pieces, cuts, used, head, second, level, code == MAX, table[:levels], row)
        else:
            _one_by_one(ts, vals, begin, end, first, step, n, range_ms, code == MAX, best, row)
