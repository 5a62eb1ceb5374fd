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
_OF_EIGHTH = 1 / EIGHTH_MS
"""Times this and rounded, what is less than 2^52 eighths of a second is so many."""
_FAR, _FAR_BITS = 1.5 * 2.0**52, np.int64(0x4338000000000000)
_LARGE_BITS = np.int64(0x4320000000000000)
"""The bits of 2^51, up to which `_FAR` may be added."""
_WITHOUT_SIGN = np.int64(0x7FFFFFFFFFFFFFFF)
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


@njit(cache=True, nogil=True, inline="always")
def _size(odd: Any, most: Any) -> Any:
    """What `running` answers, of samples of which `odd` is 0 where all are whole, and `most` the largest absolute value's bits."""
    return np.int64(-1) if odd or most >= _LARGE_BITS else np.int64(np.int64(most).view(np.float64))


@njit(cache=True, nogil=True, error_model="numpy")
def _sum(samples: Any) -> tuple[Any, Any]:
    """(the sum of whole numbers, int64; what `running` answers)."""
    raw = samples.view(np.int64)
    total: Any = np.int64(0)
    most: Any = np.int64(0)
    odd: Any = np.int64(0)
    for i in range(len(samples)):
        # Beside so large a number only whole ones have room: its bits count them, and without it they are what they were.
        moved = samples[i] + _FAR
        total += np.float64(moved).view(np.int64) - _FAR_BITS
        odd |= np.float64(moved - _FAR).view(np.int64) ^ raw[i]
        most = max(most, raw[i] & _WITHOUT_SIGN)
    return total, _size(odd, most)


@njit(cache=True, nogil=True, error_model="numpy")
def sums_apart(vals: Any, begin: int, left: Any, right: Any, there: Any, mean: bool, row: Any) -> Any:
    """As `sums`, of windows that hardly overlap: each is added up, which takes no room for running sums.

    Answers what `running` does, of what is in a window; only then is it known whether the sums hold.
    """
    largest: Any = np.int64(0)
    for k in range(len(row)):
        total, size = _sum(vals[begin + left[k] : begin + right[k]])
        row[k] = np.float64(total) / (right[k] - left[k] if there[k] and mean else 1)
        # Once -1, it stays so.
        largest |= size
    return largest


@njit(cache=True, nogil=True, error_model="numpy")
def sums(upto: Any, left: Any, right: Any, there: Any, mean: bool, row: Any) -> None:
    """Sums, or averages, of the windows `[left[k], right[k])` of a row whose `running` sums are `upto`."""
    for k in range(len(row)):
        total = np.float64(upto[right[k]] - upto[left[k]])
        row[k] = total / (right[k] - left[k] if there[k] else 1) if mean else total


@njit(cache=True, nogil=True)
def regular(ts: Any, begin: Any, end: Any) -> Any:
    """The eighths of a second between any two samples that follow one another; 0 where that is not one whole number of them."""
    if end - begin < 2:
        return np.int64(0)
    apart = ts[begin + 1] - ts[begin]
    earlier, later = ts[begin : end - 1], ts[begin + 1 : end]
    odd: Any = np.int64(0)
    for i in range(len(later)):
        odd |= (later[i] - earlier[i]) ^ apart
    return apart // EIGHTH_MS if odd == 0 and apart % EIGHTH_MS == 0 else np.int64(0)


@njit(cache=True, nogil=True, error_model="numpy")
def reach_of_lines(ts: Any, begin: int, end: int, every: Any, left: Any, right: Any, origins: Any, shifts: Any) -> Any:
    """How many eighths of a second samples lie at most from the `origins` (int64[n], ms) of their windows; -1 where not whole ones.

    `shifts` int64[n] gets where the origins are, in eighths of a second since the first sample. `every` is what `regular` says.
    """
    odd: Any = np.int64(0)
    first, times = ts[begin], ts[begin:end]
    for i in range(len(times) if every == 0 else 0):
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


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc"})
def _sums_of_times(times: Any, first: Any) -> tuple[float, float]:
    """Sums of the eighths of a second since `first` (ms), and of their squares, which are exact, in whatever order they are added up."""
    total, squares = 0.0, 0.0
    for i in range(len(times)):
        eighths = np.rint(np.float64(times[i] - first) * _OF_EIGHTH)
        total += eighths
        squares += eighths * eighths
    return total, squares


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc"})
def _sums_of_products(times: Any, first: Any, samples: Any) -> tuple[float, float, Any]:
    """Sums of `samples`, and of their products with the eighths of a second since `first` (ms), exact as those of `_sums_of_times`.

    And what `running` answers: where that is -1, or too much, they are not exact.
    """
    raw = samples.view(np.int64)
    total, timed = 0.0, 0.0
    size: Any = np.int64(0)
    odd: Any = np.int64(0)
    for i in range(len(samples)):
        v = samples[i]
        whole = np.int64(v if abs(v) < EXACT else 0.0)
        odd |= np.int64(np.float64(whole) != v) | np.int64(raw[i] == _NEGATIVE_ZERO)
        size |= abs(whole)
        total += v
        timed += np.rint(np.float64(times[i] - first) * _OF_EIGHTH) * v
    return total, timed, np.int64(-1) if odd else size


@njit(cache=True, nogil=True, error_model="numpy")
def _sums_of_regular_products(since: Any, every: Any, samples: Any) -> tuple[float, float, Any]:
    """The same where the first sample lies `since` eighths of a second after the origin, and each `every` after the one before."""
    raw = samples.view(np.int64)
    total: Any = np.int64(0)
    timed: Any = np.int64(0)
    most: Any = np.int64(0)
    odd: Any = np.int64(0)
    for i in range(len(samples)):
        moved = samples[i] + _FAR  # as in `_sum`
        whole = np.float64(moved).view(np.int64) - _FAR_BITS
        odd |= np.float64(moved - _FAR).view(np.int64) ^ raw[i]
        most = max(most, raw[i] & _WITHOUT_SIGN)
        total += whole
        timed += (since + every * i) * whole
    return np.float64(total), np.float64(timed), _size(odd, most)


@njit(cache=True, nogil=True, error_model="numpy")
def times_of_lines(ts: Any, begin: int, every: Any, shifts: Any, left: Any, right: Any, sx: Any, sxx: Any) -> None:
    """`lanes.line_times` of times of which `reach_of_lines` has given the `shifts`, where no window's sums reach 2^53."""
    for k in range(len(left)):
        if every:
            a, n = left[k] * every - shifts[k], right[k] - left[k]
            pairs = n * (n - 1) // 2
            sx[k] = np.float64(n * a + every * pairs) / 8.0
            sxx[k] = np.float64(n * a * a + 2 * a * every * pairs + every * every * (pairs * (2 * n - 1) // 3)) / 64.0
        else:
            total, squares = _sums_of_times(ts[begin + left[k] : begin + right[k]], ts[begin] + EIGHTH_MS * shifts[k])
            sx[k], sxx[k] = total / 8.0, squares / 64.0


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
def products_apart(ts: Any, vals: Any, begin: int, every: Any, shifts: Any, left: Any, right: Any, y: Any, xy: Any) -> Any:
    """As `products`, of windows that hardly overlap: each is added up, which takes no room for running sums.

    Answers what `running` does, of what is in a window; only then is it known whether the sums hold.
    """
    largest: Any = np.int64(0)
    for k in range(len(y)):
        a, b = begin + left[k], begin + right[k]
        if every:
            y[k], timed, size = _sums_of_regular_products(left[k] * every - shifts[k], every, vals[a:b])
        else:
            y[k], timed, size = _sums_of_products(ts[a:b], ts[begin] + EIGHTH_MS * shifts[k], vals[a:b])
        xy[k] = timed / 8.0
        largest |= size
    return largest


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
