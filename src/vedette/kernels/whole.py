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
def sums(upto: Any, left: Any, right: Any, there: Any, mean: bool, row: Any) -> None:
    """Sums, or averages, of the windows `[left[k], right[k])` of a row whose `running` sums are `upto`."""
    for k in range(len(row)):
        total = np.float64(upto[right[k]] - upto[left[k]])
        row[k] = total / (right[k] - left[k] if there[k] else 1) if mean else total


@njit(cache=True, nogil=True, error_model="numpy")
def reach_of_lines(ts: Any, begin: int, end: int, left: Any, right: Any, origins: Any, eighths: Any, shifts: Any) -> Any:
    """How many eighths of a second samples lie at most from the `origins` (int64[n], ms) of their windows; -1 where not whole ones.

    `eighths` int64[samples] gets where the samples are, `shifts` int64[n] where the origins are, counted from the first sample.
    """
    odd: Any = np.int64(0)
    for i in range(end - begin):
        eighths[i] = (ts[begin + i] - ts[begin]) // EIGHTH_MS
        odd |= ts[begin + i] - ts[begin] - EIGHTH_MS * eighths[i]
    if odd:
        return np.int64(-1)
    most: Any = np.int64(0)
    for k in range(len(left)):
        shifts[k] = 0
        if right[k] > left[k]:
            if (origins[k] - ts[begin]) % EIGHTH_MS:
                return np.int64(-1)
            shifts[k] = (origins[k] - ts[begin]) // EIGHTH_MS
            most = max(most, abs(eighths[left[k]] - shifts[k]), abs(eighths[right[k] - 1] - shifts[k]))
    return most


@njit(cache=True, nogil=True, error_model="numpy")
def _constant(vals: Any, a: int, b: int) -> bool:
    for i in range(a + 1, b):  # noqa: SIM110 - a kernel cannot be a generator expression
        if vals[i] != vals[a]:
            return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def lines(
    vals: Any, begin: int, upto: Any, timed: Any, eighths: Any, shifts: Any, left: Any, right: Any, there: Any,
    sx: Any, sxx: Any, y: Any, xy: Any, predicted: bool, p0: Any, row: Any,
) -> None:  # fmt: skip
    """Slopes of the windows' least-squares lines (`lanes.lines`), or with `predicted` their values `p0[k]` seconds after the origins.

    `upto` int64[samples + 1] is of `running`, `eighths` and `shifts` of `reach_of_lines`; `timed` int64[samples + 1], `y` and `xy`
    float64[n] are room to work in. Sums wrap around where a whole row's would be too large; a window's is not.
    """
    timed[0] = 0
    sum_: Any = np.int64(0)
    for i in range(len(upto) - 1):
        sum_ += eighths[i] * (upto[i + 1] - upto[i])
        timed[i + 1] = sum_
    for k in range(len(row)):
        total = upto[right[k]] - upto[left[k]]
        y[k] = np.float64(total)
        xy[k] = np.float64(timed[right[k]] - timed[left[k]] - shifts[k] * total) / 8.0
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
