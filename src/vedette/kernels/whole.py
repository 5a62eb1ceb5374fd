"""Windows of rows of whole numbers (counters, bytes, counts), at a cost of the samples and not of the windows' lengths.

Sums of whole numbers are exact below 2^53: no step of a Kahan sum rounds, its compensation stays 0, and the difference of two
running sums is, to the last bit, what adding up the window gives. So is the sum of products with times that are whole eighths of
a second apart. Rows that are not so are refused, and gone through window by window (`lanes.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

EXACT = 9007199254740992.0
"""2^53: whole numbers below it are exact, and so are their sums as long as these stay below it."""
EIGHTH_MS = 125
"""Milliseconds that are a binary fraction of a second."""
_INVERSE = np.uint64(pow(EIGHTH_MS, -1, 1 << 64))
"""Its inverse modulo 2^64: what is a multiple of it, times this, is the quotient; what is not, is more than `_MOST_EIGHTHS`."""
_MOST_EIGHTHS = np.uint64(((1 << 64) - 1) // EIGHTH_MS)
_NEGATIVE_ZERO = np.int64(-0x8000000000000000)


@njit(cache=True, nogil=True, error_model="numpy")
def running(vals: Any, begin: int, end: int, upto: Any) -> Any:
    """`upto[i]` (int64[end - begin + 1]): the sum of the first i samples; answers what no sample exceeds in size.

    -1 where a sample is not a whole number below 2^53; -0 is none, for a sum of it would have its sign.
    """
    # Slices: whether an index into all samples is negative would be asked each time.
    samples, raw, sums_ = vals[begin:end], vals[begin:end].view(np.int64), upto[1 : end - begin + 1]
    size: Any = np.int64(0)
    odd: Any = np.int64(0)
    for i in range(len(samples)):
        v = samples[i]
        whole = np.int64(v if abs(v) < EXACT else 0.0)
        odd |= np.int64(np.float64(whole) != v) | np.int64(raw[i] == _NEGATIVE_ZERO)
        # All bits that any of them has, which is less than twice the largest.
        size |= abs(whole)
        sums_[i] = whole
    if odd:
        return np.int64(-1)
    upto[0] = 0
    total: Any = np.int64(0)
    for i in range(len(sums_)):
        total += sums_[i]
        sums_[i] = total
    return size


@njit(cache=True, nogil=True, error_model="numpy")
def largest(vals: Any, begin: int, end: int) -> Any:
    """What `running` answers, without the sums."""
    samples, raw = vals[begin:end], vals[begin:end].view(np.int64)
    size: Any = np.int64(0)
    odd: Any = np.int64(0)
    for i in range(len(samples)):
        v = samples[i]
        whole = np.int64(v if abs(v) < EXACT else 0.0)
        odd |= np.int64(np.float64(whole) != v) | np.int64(raw[i] == _NEGATIVE_ZERO)
        size |= abs(whole)
    return np.int64(-1) if odd else size


@njit(cache=True, nogil=True, error_model="numpy")
def _sum(vals: Any, a: int, b: int) -> Any:
    """The sum of the whole numbers `vals[a:b]`, int64."""
    samples = vals[a:b]
    total: Any = np.int64(0)
    for i in range(len(samples)):
        total += np.int64(samples[i])
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def sums_apart(vals: Any, begin: int, left: Any, right: Any, there: Any, mean: bool, row: Any) -> None:
    """As `sums`, of windows that hardly overlap: each is added up, which takes no room for running sums."""
    for k in range(len(row)):
        total = np.float64(_sum(vals, begin + left[k], begin + right[k]))
        row[k] = total / (right[k] - left[k] if there[k] else 1) if mean else total


@njit(cache=True, nogil=True, error_model="numpy")
def sums(upto: Any, left: Any, right: Any, there: Any, mean: bool, row: Any) -> None:
    """Sums, or averages, of the windows `[left[k], right[k])` of a row whose `running` sums are `upto`."""
    for k in range(len(row)):
        total = np.float64(upto[right[k]] - upto[left[k]])
        row[k] = total / (right[k] - left[k] if there[k] else 1) if mean else total


@njit(cache=True, nogil=True, error_model="numpy")
def reach_of_lines(ts: Any, begin: int, end: int, left: Any, right: Any, origins: Any, shifts: Any) -> Any:
    """How many eighths of a second samples lie at most from the `origins` (int64[n], ms) of their windows; -1 where not whole ones.

    `shifts` int64[n] gets where the origins are, in eighths of a second since the first sample.
    """
    odd: Any = np.int64(0)
    first, times = ts[begin], ts[begin:end]
    for i in range(len(times)):
        # Unsigned, since it is to wrap around; a division takes ten times as long.
        odd |= np.int64(np.uint64(times[i] - first) * _INVERSE > _MOST_EIGHTHS)
    if odd:
        return np.int64(-1)
    most: Any = np.int64(0)
    for k in range(len(left)):
        shifts[k] = 0
        if right[k] > left[k]:
            if (origins[k] - first) % EIGHTH_MS:
                return np.int64(-1)
            shifts[k] = (origins[k] - first) // EIGHTH_MS
            ends = (times[left[k]] - first) // EIGHTH_MS - shifts[k], (times[right[k] - 1] - first) // EIGHTH_MS - shifts[k]
            most = max(most, abs(ends[0]), abs(ends[1]))
    return most


@njit(cache=True, nogil=True, error_model="numpy")
def times_of_lines(ts: Any, begin: int, shifts: Any, left: Any, right: Any, sx: Any, sxx: Any) -> None:
    """`lanes.line_times` of times of which `reach_of_lines` has given the `shifts`, where no window's sums reach 2^53."""
    for k in range(len(left)):
        times, first = ts[begin + left[k] : begin + right[k]], ts[begin] + EIGHTH_MS * shifts[k]
        total: Any = np.int64(0)
        squares: Any = np.int64(0)
        for i in range(len(times)):
            eighths = np.int64(np.uint64(times[i] - first) * _INVERSE)
            total += eighths
            squares += eighths * eighths
        sx[k], sxx[k] = np.float64(total) / 8.0, np.float64(squares) / 64.0


@njit(cache=True, nogil=True, error_model="numpy")
def _constant(vals: Any, a: int, b: int) -> bool:
    for i in range(a + 1, b):  # noqa: SIM110 - a kernel cannot be a generator expression
        if vals[i] != vals[a]:
            return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def products(ts: Any, vals: Any, begin: int, end: int, upto: Any, timed: Any, shifts: Any, left: Any, right: Any, y: Any, xy: Any) -> None:
    """For each window its sum, `y` float64[n], and that of its products with the seconds since its origin, `xy`.

    `upto` int64[samples + 1] is of `running`, `shifts` of `reach_of_lines`; `timed` int64[samples + 1] is room to work in. Sums wrap
    around where a whole row's would be too large; a window's is not.
    """
    timed[0] = 0
    sum_: Any = np.int64(0)
    times, first = ts[begin:end], ts[begin]
    for i in range(len(times)):
        sum_ += np.int64(np.uint64(times[i] - first) * _INVERSE) * (upto[i + 1] - upto[i])
        timed[i + 1] = sum_
    for k in range(len(y)):
        total = upto[right[k]] - upto[left[k]]
        y[k] = np.float64(total)
        xy[k] = np.float64(timed[right[k]] - timed[left[k]] - shifts[k] * total) / 8.0


@njit(cache=True, nogil=True, error_model="numpy")
def products_apart(ts: Any, vals: Any, begin: int, shifts: Any, left: Any, right: Any, y: Any, xy: Any) -> None:
    """As `products`, of windows that hardly overlap: each is added up, which takes no room for running sums."""
    for k in range(len(y)):
        a, b = begin + left[k], begin + right[k]
        times, samples, first = ts[a:b], vals[a:b], ts[begin] + EIGHTH_MS * shifts[k]
        total: Any = np.int64(0)
        timed: Any = np.int64(0)
        for i in range(len(samples)):
            whole = np.int64(samples[i])
            total += whole
            timed += np.int64(np.uint64(times[i] - first) * _INVERSE) * whole
        y[k], xy[k] = np.float64(total), np.float64(timed) / 8.0


@njit(cache=True, nogil=True, error_model="numpy")
def lines(
    vals: Any, begin: int, left: Any, right: Any, there: Any, sx: Any, sxx: Any, y: Any, xy: Any, predicted: bool, p0: Any, row: Any
) -> None:
    """Slopes of the windows' least-squares lines (`lanes.lines`), or with `predicted` their values `p0[k]` seconds after the origins.

    `y` and `xy` float64[n] are of `products`; `xy` is written over.
    """
    for k in range(len(row)):
        n = np.float64(right[k] - left[k])
        slope = (xy[k] - sx[k] * y[k] / n) / (sxx[k] - sx[k] * sx[k] / n)
        row[k] = slope
        xy[k] = y[k] / n - slope * sx[k] / n
    for k in range(len(row)):
        # Only one that ends as it begins, and adds up to as many of that, may be of one value throughout.
        a, b = (begin + left[k], begin + right[k]) if there[k] else (begin, begin + 1)
        if vals[a] == vals[b - 1] and vals[a] * (b - a) == y[k] and _constant(vals, a, b):
            row[k], xy[k] = 0.0, vals[a]
    if predicted:
        for k in range(len(row)):
            row[k] = row[k] * p0[k] + xy[k]
