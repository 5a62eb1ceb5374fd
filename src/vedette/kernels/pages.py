"""Rows of a page as small integers: what is done to values before a page is compressed, and undone after it was read.

A row of values that are decimal numbers becomes whole numbers (`value = whole / 10^scale`), those become differences where
these are smaller, and what all of them are a multiple of is divided out; a row that is one value throughout needs none.
Samples that do not fit (stale markers, values of other precision) are exceptions of their row. `storage/FORMAT.md` draws the
fields. Not here: compression, files (`storage/pages.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

COUNT, VECTOR, FORM, STREAM, SLOPE, DIVISOR, EXCEPTIONS, BASE = range(8)
"""Fields of a row (int64): samples, its times' vector, form, stream, what differences are reduced by, what wholes are multiples of, …"""

FIELDS = 8
"""How many these are."""

CONSTANT, RAW, WHOLES, STEPS, BENDS = range(5)
"""Forms, in the lowest three bits of `FORM`: one value, bit patterns, whole numbers, their differences, differences of those."""

MULTIPLY = 8
"""The bit of `FORM` that says `value = whole * 10^-scale`; without it `whole / 10^scale`. The scale stands above it."""

SCALES = 16
RAW_SCALE = 31
"""The scale of a constant row whose base is a bit pattern."""

_SAMPLED = 48
_LONG = 48
_LARGEST = 9007199254740992.0
RAW_CLASS = 40
"""The class of rows of bit patterns."""


def powers() -> np.ndarray[Any, np.dtype[np.float64]]:
    """float64[2, SCALES]: 10^k and 10^-k, each the float nearest to it; passed to kernels as `tens`."""
    return np.array([[float(f"1e{k}") for k in range(SCALES)], [float(f"1e-{k}") for k in range(SCALES)]])


@njit(cache=True, nogil=True)
def _whole(value: float, bits: int, scale: int, multiply: bool, tens: Any) -> Any:
    """(whether value is a whole number at this scale, the number)."""
    scaled = value * tens[0, scale]
    if not (-_LARGEST < scaled < _LARGEST):
        return False, 0
    whole = np.rint(scaled)
    if whole == 0.0 and bits != 0:
        return False, 0  # minus zero, or less than one at this scale
    back = whole * tens[1, scale] if multiply else whole / tens[0, scale]
    return back == value, int(whole)


@njit(cache=True, nogil=True)
def _scale_of(values: Any, bits: Any, lo: int, hi: int, multiply: bool, tens: Any) -> int:
    """The least scale at which most of some sampled values are whole numbers, -1 where few are at any."""
    scale, missed, seen = 0, 0, 0
    step = max(1, (hi - lo) // _SAMPLED)
    for i in range(lo, hi, step):
        seen += 1
        k = scale
        while k < SCALES and not _whole(values[i], bits[i], k, multiply, tens)[0]:
            k += 1
        if k < SCALES:
            scale = k
        else:
            missed += 1
    return scale if 8 * missed < seen else -1


@njit(cache=True, nogil=True)
def _width(value: int, as_float: Any, as_bits: Any) -> int:
    """The bits of |value|, by the exponent of it as a float; the two arrays are the same memory."""
    as_float[0] = float(abs(value)) + 0.5
    return int((as_bits[0] >> 52) - 1022)


@njit(cache=True, nogil=True)
def _middle(wholes: Any, lo: int, hi: int, differences: bool, scratch: Any) -> int:
    """The median of some sampled numbers, or of some differences of neighbours."""
    n = 0
    step = max(1, (hi - lo - 1) // len(scratch))
    for i in range(lo + 1, hi, step):
        if n == len(scratch):
            break
        scratch[n] = wholes[i] - (wholes[i - 1] if differences else 0)
        n += 1
    return int(np.sort(scratch[:n])[n // 2])


@njit(cache=True, nogil=True)
def _divisor(wholes: Any, lo: int, hi: int) -> int:
    """The largest number of which all differences from the first whole are multiples, 1 where all are alike."""
    found = 0
    for i in range(lo + 1, hi):
        a, b = abs(wholes[i] - wholes[lo]), found
        while b != 0:
            a, b = b, a % b
        found = a
        if found == 1:
            break
    return max(1, found)


@njit(cache=True, nogil=True)
def encode(
    offsets: Any, bits: Any, values: Any, tens: Any, fields: Any, classes: Any, wholes: Any, exception_at: Any, exception_bits: Any
) -> int:
    """Find the form of each row `offsets[i]:offsets[i + 1]` of value `bits` int64 (`values`: the same as float64).

    Fills `fields` int64[n, 8] but for `VECTOR` and `STREAM`; `classes` int64[n], -1 for a row without a stream, else rows
    of one class are alike enough to share one; `wholes` int64, as long as `bits`: what goes to the stream. The exceptions of
    all rows end to end, each its place in its row and its bits, go to `exception_at` and `exception_bits`, int64, as long as
    `bits`; answers how many there are.
    """
    as_float, sampled = np.empty(1, np.float64), np.empty(65, np.int64)
    as_bits = as_float.view(np.int64)
    total = 0
    for row in range(len(offsets) - 1):
        lo, hi = offsets[row], offsets[row + 1]
        n = hi - lo
        fields[row, COUNT] = n
        fields[row, SLOPE] = fields[row, EXCEPTIONS] = fields[row, BASE] = 0
        fields[row, DIVISOR] = 1
        classes[row] = -1
        same = True
        for i in range(lo + 1, hi):
            if bits[i] != bits[lo]:
                same = False
                break
        multiply = False
        scale = _scale_of(values, bits, lo, lo + 1 if same else hi, False, tens)
        if scale < 0:
            multiply = True
            scale = _scale_of(values, bits, lo, lo + 1 if same else hi, True, tens)
        if same:
            if scale < 0:
                fields[row, FORM] = CONSTANT | RAW_SCALE << 4
                fields[row, BASE] = bits[lo]
            else:
                fields[row, FORM] = CONSTANT | (MULTIPLY if multiply else 0) | scale << 4
                fields[row, BASE] = _whole(values[lo], bits[lo], scale, multiply, tens)[1]
            continue
        first, last, known = total, 0, False
        if scale >= 0:
            for i in range(lo, hi):
                fits, whole = _whole(values[i], bits[i], scale, multiply, tens)
                if fits:
                    last = whole
                    if not known:
                        # What precedes the first whole number are exceptions: they are to look like it.
                        for j in range(lo, i):
                            wholes[j] = whole
                        known = True
                elif total - first > n >> 4:
                    scale = -1
                    break
                else:
                    exception_at[total] = i - lo
                    exception_bits[total] = bits[i]
                    total += 1
                wholes[i] = last
        if scale < 0 or not known:
            total = first
            fields[row, FORM] = RAW
            classes[row] = RAW_CLASS
            for i in range(lo, hi):
                wholes[i] = bits[i]
            continue
        fields[row, EXCEPTIONS] = total - first
        divisor = _divisor(wholes, lo, hi) if n >= _LONG else 1
        base = wholes[lo]
        for i in range(lo, hi):
            wholes[i] = (wholes[i] - base) // divisor
        slope = _middle(wholes, lo, hi, True, sampled) if n >= _LONG else 0
        middle = _middle(wholes, lo, hi, False, sampled) if n >= _LONG else 0
        level = step = bend = 0
        before, before_step = 0, slope
        for i in range(lo, hi):
            difference = wholes[i] - before if i > lo else slope
            level += _width(wholes[i] - middle, as_float, as_bits)
            step += _width(difference - slope, as_float, as_bits)
            bend += _width(difference - before_step, as_float, as_bits)
            before, before_step = wholes[i], difference
        form, cost = WHOLES, level
        if step < cost:
            form, cost = STEPS, step
        if bend < cost and n >= _LONG:
            form, cost = BENDS, bend
        if form == WHOLES:
            slope = 0
            base += middle * divisor
            for i in range(lo, hi):
                wholes[i] -= middle
        else:
            before, before_step = 0, slope
            for i in range(lo, hi):
                difference = wholes[i] - before if i > lo else slope
                before = wholes[i]
                wholes[i] = difference - (slope if form == STEPS else before_step)
                before_step = difference
        fields[row, FORM] = form | (MULTIPLY if multiply else 0) | scale << 4
        fields[row, SLOPE], fields[row, DIVISOR], fields[row, BASE] = slope, divisor, base
        classes[row] = cost // (2 * n)
    return total


@njit(cache=True, nogil=True)
def decode(fields: Any, streams: Any, starts: Any, tens: Any, exception_at: Any, exception_bits: Any, out: Any, as_floats: Any) -> bool:
    """Undo `encode`: value bits to `out` int64[samples], of which `as_floats` is the same memory as float64.

    `streams` int64: all streams end to end, stream k being `starts[k]:starts[k + 1]`. Answers False where the fields do not
    fit the streams, the exceptions or `out`.
    """
    cursor = starts.copy()
    at, taken = 0, 0
    for row in range(len(fields)):
        n, stream, form = fields[row, COUNT], fields[row, STREAM], fields[row, FORM] & 7
        scale, multiply = fields[row, FORM] >> 4, fields[row, FORM] & MULTIPLY != 0
        base, slope, divisor, exceptions = fields[row, BASE], fields[row, SLOPE], fields[row, DIVISOR], fields[row, EXCEPTIONS]
        if n < 1 or n > len(out) - at or exceptions < 0 or exceptions > len(exception_at) - taken or form > BENDS:
            return False
        if form != RAW and (scale < 0 or scale >= SCALES) and not (form == CONSTANT and scale == RAW_SCALE):
            return False
        if form == CONSTANT:
            if scale == RAW_SCALE:
                out[at] = base
            else:
                as_floats[at] = base * tens[1, scale] if multiply else base / tens[0, scale]
            for i in range(at + 1, at + n):
                out[i] = out[at]
        else:
            if stream < 0 or stream >= len(starts) - 1 or n > starts[stream + 1] - cursor[stream]:
                return False
            source = streams[cursor[stream] : cursor[stream] + n]
            cursor[stream] += n
            if form == RAW:
                for i in range(n):
                    out[at + i] = source[i]
            else:
                _undo(source, form, base, slope, divisor, tens[1, scale] if multiply else tens[0, scale], multiply, as_floats[at : at + n])
        for _ in range(exceptions):
            if exception_at[taken] < 0 or exception_at[taken] >= n:
                return False
            out[at + exception_at[taken]] = exception_bits[taken]
            taken += 1
        at += n
    return at == len(out) and taken == len(exception_at)


@njit(cache=True, nogil=True)
def _undo(source: Any, form: int, base: int, slope: int, divisor: int, power: float, multiply: bool, out: Any) -> None:
    """The values of one row from what its stream holds: float64[n]."""
    if form == WHOLES:
        for i in range(len(source)):
            out[i] = _shifted(base + source[i] * divisor, power, multiply)
    elif form == STEPS:
        # What is added is multiplied, not what it adds up to: the sum alone waits for the one before.
        whole = base - slope * divisor
        for i in range(len(source)):
            whole += (source[i] + slope) * divisor
            out[i] = _shifted(whole, power, multiply)
    else:
        whole, step = base - slope * divisor, slope * divisor
        for i in range(len(source)):
            step += source[i] * divisor
            whole += step
            out[i] = _shifted(whole, power, multiply)


@njit(cache=True, nogil=True, inline="always")
def _shifted(whole: int, power: float, multiply: bool) -> float:
    """A whole number's value."""
    return whole * power if multiply else float(whole) if power == 1.0 else whole / power


@njit(cache=True, nogil=True)
def collect(offsets: Any, classes: Any, wanted: int, wholes: Any, out: Any) -> int:
    """Copy the rows of one class, end to end, to `out`; answers how many samples that are."""
    at = 0
    for row in range(len(classes)):
        if classes[row] == wanted:
            for i in range(offsets[row], offsets[row + 1]):
                out[at] = wholes[i]
                at += 1
    return at


@njit(cache=True, nogil=True)
def pack(numbers: Any, out: Any) -> int:
    """`numbers` int64 as varints of seven bits a byte, signs folded in (0, -1, 1, -2, …); answers the bytes, ten each at most."""
    at = 0
    for i in range(len(numbers)):
        rest = np.uint64(numbers[i] << 1) ^ np.uint64(numbers[i] >> 63)
        while rest > np.uint64(127):
            out[at] = np.uint8(rest & np.uint64(127)) | np.uint8(128)
            rest >>= np.uint64(7)
            at += 1
        out[at] = np.uint8(rest)
        at += 1
    return at


@njit(cache=True, nogil=True)
def unpack(data: Any, out: Any) -> int:
    """Fill `out` int64 with as many varints; answers where they end, -1 where `data` ends first or one is too long."""
    at = 0
    for i in range(len(out)):
        number, shift = np.uint64(0), np.uint64(0)
        while True:
            if at >= len(data) or shift > np.uint64(63):
                return -1
            byte = data[at]
            at += 1
            number |= np.uint64(byte & np.uint8(127)) << shift
            shift += np.uint64(7)
            if byte < 128:
                break
        out[i] = np.int64(number >> np.uint64(1)) ^ -np.int64(number & np.uint64(1))
    return at


@njit(cache=True, nogil=True)
def unpack_fields(data: Any, fields: Any) -> tuple[int, int]:
    """Fill `fields` int64[n, 8] but for `BASE`; answers (where they end in `data` or -1, how many exceptions follow)."""
    column = np.empty(len(fields), np.int64)
    at, exceptions = 0, 0
    for k in range(BASE):
        end = unpack(data[at:], column)
        if end < 0:
            return -1, 0
        at += end
        for row in range(len(fields)):
            fields[row, k] = column[row]
    for row in range(len(fields)):
        # Vectors come as what is added to the row before.
        if row > 0:
            fields[row, VECTOR] += fields[row - 1, VECTOR]
        if fields[row, EXCEPTIONS] < 0:
            return -1, 0
        exceptions += fields[row, EXCEPTIONS]
    return at, exceptions


@njit(cache=True, nogil=True)
def restore(head: Any, streams: Any, starts: Any, tens: Any, vectors: Any, counts: Any, out: Any, as_floats: Any) -> int:
    """A page's rows from its `head` (uint8: fields and exceptions, packed) and its streams, whose first has a base for each row.

    Fills `vectors` and `counts` (int64[rows]) and `out`; the other arguments are those of `decode`. Answers 0, 1 where the fields are
    cut off, 2 where the exceptions are, 3 where rows do not fit their streams.
    """
    rows = len(vectors)
    fields = np.empty((rows, 8), np.int64)
    end, many = unpack_fields(head, fields)
    if end < 0 or many < 0 or many > len(out):
        return 1
    rest = np.empty(2 * many, np.int64)
    if unpack(head[end:], rest) != len(head) - end:
        return 2
    if starts[1] != rows:
        return 3
    for row in range(rows):
        fields[row, BASE] = streams[row]
        vectors[row], counts[row] = fields[row, VECTOR], fields[row, COUNT]
    return 0 if decode(fields, streams, starts, tens, rest[:many], rest[many:], out, as_floats) else 3


@njit(cache=True, nogil=True)
def spread(numbers: Any) -> tuple[int, int]:
    """The least and the greatest of int64[n], n > 0."""
    least, most = numbers[0], numbers[0]
    for number in numbers:
        least, most = min(least, number), max(most, number)
    return least, most


@njit(cache=True, nogil=True)
def find_times(vectors: Any, counts: Any, places: Any, page_first: int, page: Any, out: Any) -> bool:
    """`out` int64[n]: where in one page of times those of each row begin; False where they do not fit. Arguments as for `lay_times`."""
    for row in range(len(vectors)):
        first = places[vectors[row]] - page_first
        if first < 0 or places[vectors[row] + 1] - places[vectors[row]] != counts[row] or first + counts[row] > len(page):
            return False
        out[row] = first
    return True


@njit(cache=True, nogil=True)
def lay_times(vectors: Any, counts: Any, places: Any, page_first: int, page: Any, out: Any) -> int:
    """Copy to `out` the times of those rows whose vector lies in one page of times; answers how many samples that are, -1 for a misfit.

    Row i has `counts[i]` samples, at the times of vector `vectors[i]`, which are `places[v]:places[v + 1]` of all; the page
    holds those from `page_first` on. Whole vectors are in one page.
    """
    at, copied = 0, 0
    for row in range(len(vectors)):
        n = counts[row]
        first = places[vectors[row]] - page_first
        if 0 <= first < len(page):
            if places[vectors[row] + 1] - places[vectors[row]] != n or first + n > len(page) or at + n > len(out):
                return -1
            for i in range(n):
                out[at + i] = page[first + i]
            copied += n
        at += n
    return copied
