"""A chunk added up between borders: of what lies between two of them, no sample is written anywhere.

Where eight samples take a byte each, as of a counter, they are passed with a few additions, and a border among them is found without
looking at each. Not here: chains of chunks (`thinned.py`), and reads that add up nothing (`bordered.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.chunks import HEADER_BYTES, SCALE, TIME, UNIT_BYTES, UNIT_WORDS, WHOLE, bend, difference, eight, long
from vedette.kernels.hashing import load_u64

_FAR = (1 << 63) - 1
_U8 = np.uint64(8)
_BYTE, _EVEN = np.uint64(255), np.uint64(0x00FF00FF00FF00FF)
_TWO_BITS, _NO_STEPS = np.uint64(0xC0C0C0C0C0C0C0C0), np.uint64(0x2020202020202020)
_ONCE = np.uint64(0x0001000100010001)
_EVENS, _ODDS = np.uint64(8 << 48 | 6 << 32 | 4 << 16 | 2), np.uint64(7 << 48 | 5 << 32 | 3 << 16 | 1)
"""Of eight samples, in how many the step to each is."""
_LATE_EVENS, _LATE_ODDS = np.uint64(36 << 48 | 33 << 32 | 26 << 16 | 15), np.uint64(35 << 48 | 30 << 32 | 21 << 16 | 8)
"""The same with 1 for the first sample, 2 for the second and so on: all of them are 36."""

INDEX, TIME_OF, BITS_OF, VALUES, PRODUCTS, TIMES, SQUARES, TOTALS, STEPS, ONCE, TWICE = range(11)
"""Rows of what `skim` works in: which sample, its time and bits; the sums of those before it: of whole values, of their products with
times, of times, of their squares. `TOTALS` has these four of all of the chunk's, and then `MOST`.
Of eight samples each: the sum of the steps, of steps to each of them, and of those times its place."""
ROWS = 11
SUMS, MOST = 4, 4
EIGHTH_MS = 125

SUMMED, LINES = range(2)
"""What is wanted: the sample behind each border, with `VALUES` of what precedes; with all sums."""


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _since(time: Any, first: Any, step: Any, end: Any) -> Any:
    """The first of the times `first`, `first + step`, ... up to `end` that is `time` or later; `_FAR` where none is."""
    at = first if first >= time else first - (first - time) // step * step
    return at if at <= end else np.int64(_FAR)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _next(border: Any, time: Any, step: Any, end: Any) -> Any:
    """The same of a `border` that was one; mostly the next one will do."""
    if border < time:
        border += step
        if border < time:
            border -= (border - time) // step * step
        if border > end:
            border = np.int64(_FAR)
    return border


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _dot(eight: Any, even: Any, odd: Any) -> Any:
    """The sum of eight bytes, each times its weight: those of the first, third, ... from the highest 16 bits of `even` down, the others'
    of `odd`."""
    return np.int64((eight & _EVEN) * even + (eight >> _U8 & _EVEN) * odd >> np.uint64(48))


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _first(above: Any, k: Any) -> Any:
    """The first k of eight bytes, and 32 in the place of the others; of k below 8."""
    mask = (np.uint64(1) << np.uint64(8 * k)) - np.uint64(1)
    return (above & mask) | (_NO_STEPS & ~mask)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _timed(count: Any, since: Any, delta: Any, values: Any, placed: Any) -> tuple[Any, Any, Any]:
    """(sum of products with times, of times, of their squares) of `count` samples that lie `delta` ms apart, the first `since` ms after the
    base; from the sum of their `values` and that of products with their places, `placed`."""
    first, apart = since // EIGHTH_MS, delta // EIGHTH_MS
    pairs = count * (count - 1) // 2
    squares = pairs * (2 * count - 1) // 3
    return (
        first * values + apart * placed,
        first * count + apart * pairs,
        first * first * count + 2 * first * apart * pairs + apart * apart * squares,
    )


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def skim(
    words: Any,
    chunk: Any,
    count: Any,
    last: Any,
    within: bool,
    first: Any,
    step: Any,
    n: Any,
    range_ms: Any,
    kind: Any,
    base: Any,
    work: Any,
) -> int:
    """What windows `(t - range_ms, t]`, t = first + k * step for k < n, want at their borders of a chunk's first `count` samples.

    Those to be kept are set in `work` (int64[ROWS, count or more]), in order of time; answers how many. `last` is the newest sample's
    time, and it is said whether there may be a border `within` the chunk, or between it and the sample behind it.
    Sums are those that `kind` asks for; times count in eighths of a second since `base` (ms) there; and `MOST` is raised to what, but
    for 256, no value exceeds in size. The answer is -1 where a value is no whole number, or a time no whole eighth: then nothing set
    means anything.
    """
    i: Any = np.uint64(chunk * UNIT_BYTES + HEADER_BYTES)
    time: Any = words[chunk * UNIT_WORDS]
    delta: Any = np.int64(0)
    whole: Any = np.int64(0)
    place: Any = np.int64(0)
    kept: Any = np.int64(0)
    largest: Any = np.int64(work[TOTALS, MOST])
    values: Any = np.int64(0)
    products: Any = np.int64(0)
    times: Any = np.int64(0)
    squares: Any = np.int64(0)
    # Samples from the place `anchor` on lie equally far apart: of them only the sum of products with places is kept.
    anchor: Any = np.int64(0)
    anchor_time: Any = time
    known: Any = np.int64(0)
    placed: Any = np.int64(0)
    if kind == LINES and (time - base) % EIGHTH_MS != 0:
        return -1
    end = first + (n - 1) * step
    right: Any = np.int64(_FAR)
    left: Any = np.int64(_FAR)
    if within:
        right, left = _since(time, first, step, end), _since(time, first - range_ms, step, end - range_ms)
    border = min(right, left)
    while place < count:
        word = load_u64(words, i)
        if delta > 0 and word & _TWO_BITS == np.uint64(0):
            # As many eights as there are before the border.
            groups = min(count - place, (min(border, last) - time) // delta) >> 3
            flags = np.uint64(0)
            for j in range(groups):
                flags |= load_u64(words, i + np.uint64(8 * j))
            if flags & _TWO_BITS:
                j = 0
                while load_u64(words, i + np.uint64(8 * j)) & _TWO_BITS == np.uint64(0):
                    j += 1
                groups = j
            largest |= abs(whole) + 256 * groups
            # First what each is by itself, several at a time; then one after the other what they come to.
            for j in range(groups):
                above = eight(load_u64(words, i + np.uint64(8 * j)))
                even, odd = above & _EVEN, above >> _U8 & _EVEN
                work[STEPS, j] = (even + odd) * _ONCE >> np.uint64(48)
                work[ONCE, j] = even * _EVENS + odd * _ODDS >> np.uint64(48)
                work[TWICE, j] = even * _LATE_EVENS + odd * _LATE_ODDS >> np.uint64(48)
            for j in range(groups):
                total = 8 * whole - 32 * 36 + work[ONCE, j]
                values += total
                placed += (place + 8 * j - anchor - 1) * total + 36 * whole - 32 * 204 + work[TWICE, j]
                whole += work[STEPS, j] - 256
            time += 8 * groups * delta
            i += np.uint64(8 * groups)
            place += 8 * groups
            if place == count:
                continue
            word = load_u64(words, i)
        k: Any = min(np.int64(8), count - place)
        if place > 0 and (word & _TWO_BITS) << np.uint64(64 - 8 * k) == np.uint64(0):
            above = eight(word)
            at_border = time + k * delta > border
            if at_border:
                k = np.int64(0)
                for j in range(1, 8):
                    k += np.int64(time + j * delta <= border)
            some = above if k == 8 else _first(above, k)
            whole_before = whole
            whole += _dot(some, _ONCE, _ONCE) - 256
            largest |= abs(whole_before)
            # As if it stayed at the last of them from there on.
            total = 8 * whole_before + _dot(some, _EVENS, _ODDS) - 32 * 36 - (8 - k) * whole
            values += total
            if kind == LINES:
                timed = 36 * whole_before + _dot(some, _LATE_EVENS, _LATE_ODDS) - 32 * 204 - (36 - k * (k + 1) // 2) * whole
                placed += (place - anchor - 1) * total + timed
            if at_border:
                if kind == LINES:
                    far = place + k - anchor
                    p, t, q = _timed(far, anchor_time - base, delta, values - known, placed)
                    products, times, squares = products + p, times + t, squares + q
                    anchor, anchor_time, known, placed = place + k, time + (k + 1) * delta, values, np.int64(0)
                at = whole + np.int64(above >> np.uint64(8 * k) & _BYTE) - 32
                work[INDEX, kept], work[TIME_OF, kept] = place + k, time + (k + 1) * delta
                work[BITS_OF, kept] = np.float64(at).view(np.int64)
                work[VALUES, kept], work[PRODUCTS, kept], work[TIMES, kept], work[SQUARES, kept] = values, products, times, squares
                kept += 1
                right, left = _next(right, time + (k + 1) * delta, step, end), _next(left, time + (k + 1) * delta, step, end - range_ms)
                border = min(right, left)
            time += k * delta
            i += np.uint64(k)
            place += k
            continue
        delta_before, bent = delta, place == 0
        if word & _BYTE == np.uint64(SCALE):
            return -1
        if word & _BYTE == np.uint64(TIME):
            i, by = bend(words, i + np.uint64(1))
            delta += by
            bent = True
            if kind == LINES and delta % EIGHTH_MS != 0:
                return -1
            word = load_u64(words, i)
        if word & _BYTE >= np.uint64(WHOLE + 7):
            i, is_raw, whole, _ = long(words, i, np.int64(0), whole, np.int64(0))
            if is_raw:
                return -1
        else:
            size, by = difference(word)
            i += size
            whole += by
        if place > 0:
            time += delta
        if kind == LINES and (time > border or bent):
            p, t, q = _timed(place - anchor, anchor_time - base, delta_before, values - known, placed)
            products, times, squares = products + p, times + t, squares + q
            anchor, anchor_time, known, placed = place, time, values, np.int64(0)
        if time > border:
            work[INDEX, kept], work[TIME_OF, kept] = place, time
            work[BITS_OF, kept] = np.float64(whole).view(np.int64)
            work[VALUES, kept], work[PRODUCTS, kept], work[TIMES, kept], work[SQUARES, kept] = values, products, times, squares
            kept += 1
            right, left = _next(right, time, step, end), _next(left, time, step, end - range_ms)
            border = min(right, left)
        place += 1
        largest |= abs(whole)
        values += whole
        placed += (place - 1 - anchor) * whole
    if kind == LINES:
        p, t, q = _timed(place - anchor, anchor_time - base, delta, values - known, placed)
        products, times, squares = products + p, times + t, squares + q
    work[TOTALS, 0], work[TOTALS, 1], work[TOTALS, 2], work[TOTALS, 3] = values, products, times, squares
    work[TOTALS, MOST] = largest
    return int(kept)
