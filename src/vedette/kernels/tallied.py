"""Sums, averages and least-squares lines of windows, from sums of the whole numbers between their borders.

All is exact, as in `whole.py`, so that the results are those of `summed.py` to the bit. Not here: the sums (`thinned.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels import whole
from vedette.kernels.codes import AVG, DERIV, PREDICT
from vedette.kernels.skim import EIGHTH_MS
from vedette.kernels.spans import bounds
from vedette.kernels.thinned import AT, STANDS, TALLIES, VALUE

_VALUES, _PRODUCTS, _TIMES, _SQUARES, _FALLS, _COUNT = range(6)
_ROWS = 6


@njit(cache=True, nogil=True)
def _added_up(begin: Any, end: Any, kept: Any, weights: Any, upto: Any) -> None:
    """`upto` int64[_ROWS, samples + 1]: running sums of `thinned`'s, of whether samples fall, and of the `weights`."""
    for j in range(_ROWS):
        upto[j, 0] = 0
    for j in range(_COUNT):
        for i in range(end - begin):
            upto[j, i + 1] = upto[j, i] + kept[TALLIES + j, begin + i]
    for i in range(end - begin):
        upto[_COUNT, i + 1] = upto[_COUNT, i] + np.int64(weights[begin + i])


@njit(cache=True, nogil=True, error_model="numpy")
def _is_line(
    code: int, times: Any, values: Any, bases: Any, r: Any, begin: Any, left: Any, right: Any, upto: Any, size: Any,
    first: int, step: int, range_ms: int, p0: Any, at: Any, out: Any,
) -> bool:  # fmt: skip
    """Sets `out` float64[n] to the slopes of row r, or with `PREDICT` what they come to; False where that is not known from sums."""
    base = bases[r]
    for k in range(len(out)):
        a, b = left[k], right[k]
        count = upto[_COUNT, b] - upto[_COUNT, a]
        if count < 2:
            continue
        since = times[begin + a]
        origin = at[k] if code == PREDICT else since
        if (origin - base) % EIGHTH_MS:
            return False
        shift = (origin - base) // EIGHTH_MS
        reach = np.float64(max(abs(since - origin), abs(first + k * step - origin)) // EIGHTH_MS + 1)
        many = np.float64(count)
        if not (reach * reach * many < whole.EXACT and np.float64(size) * many * reach < whole.EXACT):
            return False
        # All of it modulo 2^64, of which what is left is small.
        total = upto[_VALUES, b] - upto[_VALUES, a]
        ticks = upto[_TIMES, b] - upto[_TIMES, a]
        square = upto[_SQUARES, b] - upto[_SQUARES, a] - 2 * shift * ticks + count * shift * shift
        product = upto[_PRODUCTS, b] - upto[_PRODUCTS, a] - shift * total
        sy, sx, sxx = np.float64(total), np.float64(ticks - count * shift) / 8.0, np.float64(square) / 64.0
        sxy = np.float64(product) / 8.0
        start = values[begin + a]
        slope: Any = (sxy - sx * sy / many) / (sxx - sx * sx / many)
        rest: Any = sy / many - slope * sx / many
        if start * many == sy:
            # Of one value throughout, if it never falls; else that is anyone's guess.
            if upto[_FALLS, b] - upto[_FALLS, a]:
                return False
            even = True
            for i in range(begin + a, begin + b):
                even &= values[i] == start
            if even:
                slope, rest = 0.0, start
        out[k] = slope * p0[k] + rest if code == PREDICT else slope
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def tallied(
    code: int, offsets: Any, bases: Any, kept: Any, size: int,
    first: int, step: int, n: int, range_ms: int, p0: Any, at: Any, out: Any, present: Any,
) -> bool:  # fmt: skip
    """`SUM`, `AVG`, `DERIV` or `PREDICT` of the windows of rows, as `windows.over_time`, from what `thinned.thinned` made of them.

    `size` is what it answered. Answers whether all of it is exact.
    """
    line = code in (DERIV, PREDICT)
    times, values, weights = kept[AT], kept[VALUE].view(np.float64), kept[STANDS].view(np.float64)
    longest: Any = np.int64(0)
    for r in range(len(out)):
        longest = max(longest, offsets[r + 1] - offsets[r])
    left, right, upto = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64), np.empty((_ROWS, longest + 1), dtype=np.int64)
    for r in range(len(out)):
        begin, end = offsets[r], offsets[r + 1]
        bounds(times, begin, end, first, step, n, range_ms, left, right)
        _added_up(begin, end, kept, weights, upto)
        for k in range(n):
            present[r, k] = upto[_COUNT, right[k]] - upto[_COUNT, left[k]] >= (2 if line else 1)
        if line:
            if not _is_line(code, times, values, bases, r, begin, left, right, upto, size, first, step, range_ms, p0, at, out[r]):
                return False
            continue
        for k in range(n):
            count = upto[_COUNT, right[k]] - upto[_COUNT, left[k]]
            if np.float64(size) * np.float64(count) >= whole.EXACT:
                return False
            total = np.float64(upto[_VALUES, right[k]] - upto[_VALUES, left[k]])
            out[r, k] = total / count if code == AVG and count else total
    return True
