"""Least and greatest values of windows, at a cost of the samples and not of the windows' lengths.

A row is cut where its windows begin and end. Each piece gives one value, and a window is made of the values of its pieces. Rows with
NaN or -0, of which it matters which comes first, are gone through sample by sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.codes import MAX
from vedette.kernels.spans import bounds, same_times

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
    i = a
    while i + 4 <= b:
        p = _further(vals[i], p, greatest)
        q = _further(vals[i + 1], q, greatest)
        r = _further(vals[i + 2], r, greatest)
        s = _further(vals[i + 3], s, greatest)
        i += 4
    while i < b:
        p = _further(vals[i], p, greatest)
        i += 1
    return _further(_further(p, q, greatest), _further(r, s, greatest), greatest)


@njit(cache=True, nogil=True, error_model="numpy")
def extremes(
    vals: Any, begin: int, pieces: int, cuts: Any, used: Any, first: Any, last: Any, there: Any, greatest: bool, table: Any, row: Any
) -> None:
    """Greatest or least values of `plain` windows: of each piece, then of 2, 4, 8… pieces from each one on, of which a window is two.

    `table` float64[levels, pieces] has levels for the longest window; windows that are not `there` get no value.
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
    for level in range(1, len(table)):
        below, above = table[level - 1], table[level]
        later = below[width:]
        if greatest:
            for i in range(pieces - 2 * width + 1):
                above[i] = below[i] if below[i] > later[i] else later[i]
        else:
            for i in range(pieces - 2 * width + 1):
                above[i] = below[i] if below[i] < later[i] else later[i]
        width *= 2
    for k in range(len(row)):
        if there[k]:
            level, width = 0, 1
            while 2 * width <= last[k] - first[k]:
                level, width = level + 1, 2 * width
            row[k] = _further(table[level, first[k]], table[level, last[k] - width], greatest)


@njit(cache=True, nogil=True)
def levels(first: Any, last: Any) -> int:
    """How many levels the table of `extremes` has."""
    longest: Any = np.int64(1)
    for k in range(len(first)):
        longest = max(longest, last[k] - first[k])
    found = 1
    while 1 << found <= longest:
        found += 1
    return found


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
    table = np.empty((1, 2 * n))
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
            if levels(head, tail) > len(table):
                table = np.empty((levels(head, tail), 2 * n))
        before, samples = begin, end - begin
        for k in range(n):
            there[k] = right[k] > left[k]
        if plain(vals, begin, end):
            extremes(vals, begin, pieces, cuts, used, head, tail, there, code == MAX, table, row)
        else:
            _one_by_one(ts, vals, begin, end, first, step, n, range_ms, code == MAX, best, row)
