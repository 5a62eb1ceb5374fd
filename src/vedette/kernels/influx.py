"""The scanner of Influx line protocol: bytes to series spans, hashes, values and timestamps, one row a field, in one pass.

A field's key is the line from its measurement to the end of the field's name: what lies between (other fields and their values) is no
part of its name, and is not hashed. A line that cannot be read is left out whole and told; those after it are read. Not here: what
names come to, escapes, UTF-8 (`wire/influx.py`, on what is new).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.floats import parse_float
from vedette.kernels.hashing import hash_region

FAULTS = (
    "",
    "missing measurement",
    "missing tag key",
    "missing tag value",
    "missing fields",
    "missing field key",
    "missing field value",
    "unbalanced quotes",
    "invalid number",
    "invalid field format: expected a comma, a space or the end of the line after a value",
    "bad timestamp",
    "timestamp out of range",
    "the line is too long",
    "too many fields for a line of so many tags",
)
"""What each code of a fault says."""

LINE, FAULTY, STRINGS, LINES = 0, 1, 2, 3
"""Places in `counts`: the number of the line that comes next (from 1), lines left out, string fields left out, lines with a point."""

MOST_LINE, MOST_NAMES = 256 << 10, 16 << 20
"""Bytes of a line, and of the names of a line's fields, each with measurement and tags."""
MOST_FIELDS = MOST_LINE // 4
"""As many as a line of so many bytes may have."""


# What a name may end at, or has to be looked at: a backslash, a comma, a space, a line feed (1), an equals sign (2).
_ENDS = np.zeros(256, dtype=np.uint8)
for _c in b"\\, \n":
    _ENDS[_c] = 1
_ENDS[ord("=")] = 2
_EXACT = np.array([float(10**e) for e in range(19)], dtype=np.float64)


@njit(cache=True, nogil=True, inline="always")
def _past(buf: Any, i: int) -> int:
    """The position after an escape at i: two bytes, unless the line ends before."""
    return i + 2 if buf[i + 1] != 10 else i + 1


@njit(cache=True, nogil=True, inline="always")
def _name_end(buf: Any, i: int) -> int:
    """Where a name that may not have an equals sign ends: at that, a comma, a space or the end of the line."""
    while True:
        while _ENDS[buf[i]] == 0:
            i += 1
        if buf[i] != 92:
            return i
        i = _past(buf, i)


@njit(cache=True, nogil=True, inline="always")
def _value_end(buf: Any, i: int) -> int:
    """Where a measurement or a tag's value ends: at a comma, a space or the end of the line."""
    while True:
        while _ENDS[buf[i]] != 1:
            i += 1
        if buf[i] != 92:
            return i
        i = _past(buf, i)


@njit(cache=True, nogil=True)
def _prefix(buf: Any, i: int) -> tuple[int, int]:
    """(position of the space after measurement and tags, 0), or (where it is wrong, code)."""
    if buf[i] == 44:
        return i, 1
    i = _value_end(buf, i)
    while buf[i] == 44:
        i += 1
        at = i
        i = _name_end(buf, i)
        if i == at:
            return i, 2
        if buf[i] != 61:
            return i, 3
        i = _value_end(buf, i + 1)
    return i, 4 if buf[i] == 10 else 0


@njit(cache=True, nogil=True, inline="always")
def _is_word(buf: Any, i: int, end: int, lower: Any) -> bool:
    """Whether [i, end) is a word in lower case, in upper case, or with a capital."""
    if end - i != len(lower):
        return False
    low = up = capital = True
    for k in range(len(lower)):
        c = buf[i + k]
        low &= c == lower[k]
        up &= c == lower[k] - 32
        capital &= c == (lower[k] - 32 if k == 0 else lower[k])
    return low or up or capital


_TRUE = np.frombuffer(bytearray(b"true"), dtype=np.uint8)
_FALSE = np.frombuffer(bytearray(b"false"), dtype=np.uint8)


@njit(cache=True, nogil=True)
def _value(buf: Any, i: int, end: int, powers: Any, scratch: Any) -> tuple[np.uint64, int]:
    """(bits, 0), or (0, 1) for a number that only Python can read, (0, 2) for what is none. [i, end) is not empty."""
    c = buf[i]
    if c == 116 or c == 84:
        if end - i == 1 or _is_word(buf, i, end, _TRUE):
            return np.uint64(0x3FF0000000000000), 0
        return np.uint64(0), 2
    if c == 102 or c == 70:
        if end - i == 1 or _is_word(buf, i, end, _FALSE):
            return np.uint64(0), 0
        return np.uint64(0), 2
    last = buf[end - 1]
    if last == 105 or last == 117:
        end -= 1
        j = i
        if last == 105 and (buf[j] == 45 or buf[j] == 43):
            j += 1
        if j == end:
            return np.uint64(0), 2
        while j < end:
            if buf[j] < 48 or buf[j] > 57:
                return np.uint64(0), 2
            j += 1
    return parse_float(buf, i, end, powers, scratch)


@njit(cache=True, nogil=True)
def _plain(buf: Any, i: int, scratch: Any) -> tuple[int, np.uint64]:
    """(where it ends, bits) of a number of few digits, as most are; (-1, 0) for what `_value` is to read."""
    negative = buf[i] == 45
    if negative:
        i += 1
    first = i
    mantissa: Any = 0
    d = np.int64(buf[i]) - 48
    while 0 <= d <= 9:
        mantissa = mantissa * 10 + d
        i += 1
        d = np.int64(buf[i]) - 48
    digits = i - first
    places = 0
    if buf[i] == 46:
        point = i
        i += 1
        d = np.int64(buf[i]) - 48
        while 0 <= d <= 9:
            mantissa = mantissa * 10 + d
            i += 1
            d = np.int64(buf[i]) - 48
        places = i - point - 1
        digits += places
    elif digits > 0 and (buf[i] == 105 or (buf[i] == 117 and not negative)):
        i += 1
    c = buf[i]
    # Fifteen digits are below 2**53, and so the quotient is the nearest float (Clinger).
    if digits == 0 or digits > 15 or (c != 44 and c != 32 and c != 10 and c != 13):
        return -1, np.uint64(0)
    scratch[0][0] = np.float64(mantissa) / _EXACT[places]
    word = scratch[1][0]
    return i, word | (np.uint64(1) << np.uint64(63) if negative else np.uint64(0))


@njit(cache=True, nogil=True)
def scan_influx(
    buf: Any,
    begin: int,
    n: int,
    scale: Any,
    now: int,
    seed: np.uint64,
    key: Any,
    powers: Any,
    scratch: Any,
    spans: Any,
    hashes: Any,
    timestamps: Any,
    bits: Any,
    slow: Any,
    most_names: int,
    faults: Any,
    counts: Any,
) -> tuple[int, int]:
    """(the number of rows, where to go on) of `buf[begin:n]` (uint8, n + 1 long, `buf[n]` a line feed: every inner loop stops there).

    Stops before a line for which there is no room in `spans`, which has to be for `MOST_FIELDS` or for all of the text, or with which
    the keys would be more than `most_names` bytes, unless it is the first. `scale` int64[2]: a timestamp times the first by the second
    is milliseconds; one that is missing is `now` (ms).
    Writes for row r: `spans[r]` int64 (key start, key end, value start, value end), `hashes[r]` uint64[2] of measurement, tags and
    field name seeded by `seed`, `timestamps[r]` int64 ms, `bits[r]` uint64 the value's bits, unless `slow[r]` (bool) says that Python's
    `float` is to read it. `faults` int64[k, 4]: the first k lines left out, as code, number, start and position of what is wrong.
    `counts` int64[4], see above, is added to.
    """
    rows = 0
    names = 0
    i = begin
    while i < n:
        start = i
        while buf[i] == 32 or buf[i] == 9 or buf[i] == 13:
            i += 1
        if buf[i] == 10:
            counts[0] += 1
            i += 1
            continue
        if buf[i] == 35:
            while buf[i] != 10:
                i += 1
            counts[0] += 1
            i += 1
            continue
        start = i
        first = rows
        strings = 0
        inside = 0
        line_names = 0
        stamp = now
        full = False
        h1 = h2 = np.uint64(0)
        i, error = _prefix(buf, i)
        stop = i
        if error == 0:
            h1, h2 = hash_region(buf, start, stop, seed, key)
            while buf[i] == 32:
                i += 1
            if buf[i] == 10 or buf[i] == 13:
                error = 4
        while error == 0:
            at = i
            i = _name_end(buf, i)
            if i == at:
                error = 5
                break
            if buf[i] != 61:
                error = 6
                break
            name_end = i
            i += 1
            if buf[i] == 34:
                opened = i
                i += 1
                while i < n and buf[i] != 34:
                    if buf[i] == 92 and i + 1 < n:
                        inside += buf[i + 1] == 10
                        i += 2
                        continue
                    inside += buf[i] == 10
                    i += 1
                if i >= n:
                    i = opened
                    error = 7
                    break
                i += 1
                strings += 1
            else:
                value = i
                if rows == len(spans):
                    full = True
                    break
                i, word = _plain(buf, i, scratch)
                status = 0
                if i < 0:
                    i = value
                    c = buf[i]
                    while c != 44 and c != 32 and c != 10 and c != 13:
                        i += 1
                        c = buf[i]
                    if i == value:
                        error = 6
                        break
                    word, status = _value(buf, value, i, powers, scratch)
                    if status == 2:
                        i = value
                        error = 8
                        break
                line_names += stop - start + name_end - at
                a, b = hash_region(buf, at, name_end, h1, key)
                spans[rows, 0] = start
                spans[rows, 1] = name_end
                spans[rows, 2] = value
                spans[rows, 3] = i
                hashes[rows, 0] = a
                hashes[rows, 1] = b ^ h2
                bits[rows] = word
                slow[rows] = status == 1
                rows += 1
            c = buf[i]
            if c == 44:
                i += 1
                continue
            if c != 32 and c != 10 and c != 13:
                error = 9
                break
            while buf[i] == 32:
                i += 1
            if buf[i] == 10 or buf[i] == 13:
                break
            at = i
            negative = buf[i] == 45
            if negative:
                i += 1
            digits = i
            total = np.uint64(0)
            while buf[i] >= 48 and buf[i] <= 57:
                if i - digits < 19:
                    total = total * np.uint64(10) + np.uint64(buf[i] - 48)
                i += 1
            if i == digits:
                error = 10
                break
            if i - digits > 19 or total > np.uint64(9_000_000_000_000_000_000) // np.uint64(scale[0]):
                i = at
                error = 11
                break
            stamp = np.int64(total) * scale[0]
            # Towards the past, before 1970 too.
            stamp = (-stamp if negative else stamp) // scale[1]
            while buf[i] == 32:
                i += 1
            if buf[i] != 10 and buf[i] != 13:
                error = 10
            break
        if error == 0 and not full:
            while buf[i] == 13 or buf[i] == 32:
                i += 1
            if buf[i] != 10:
                error = 10
        where = i
        if error == 0 and (full or i - start > MOST_LINE or line_names > MOST_NAMES):
            if full and first > 0:
                return first, start
            # There is always room for as many fields as a line of the length that is taken may have.
            error = 13 if not full and i - start <= MOST_LINE else 12
            where = start
        if error == 0 and first > 0 and names + line_names > most_names:
            return first, start
        if error != 0:
            rows = first
            if counts[1] < len(faults):
                faults[counts[1], 0] = error
                faults[counts[1], 1] = counts[0]
                faults[counts[1], 2] = start
                faults[counts[1], 3] = where
            counts[1] += 1
            while buf[i] != 10:
                i += 1
            inside = 0
            for k in range(start, i):
                inside += buf[k] == 10
        else:
            for row in range(first, rows):
                timestamps[row] = stamp
            names += line_names
            counts[2] += strings
            counts[3] += 1
        counts[0] += 1 + inside
        i += 1
    return rows, n
