"""The scanner of exposition text: bytes to series spans, hashes, values and timestamps, in one pass.

Reads Prometheus text 0.0.4 and OpenMetrics 1.0 text (`openmetrics` chooses). Checks the whole syntax of every line; does
not unescape, does not know types, and does not check UTF-8: that is `wire/exposition.py`, on what is new.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.floats import parse_float
from vedette.kernels.hashing import hash_region

ERRORS = (
    "",
    "expected a metric name",
    "expected a label name or a closing brace",
    "expected = after the label name",
    "expected a quoted label value",
    "label value lacks its closing quote",
    "name lacks its closing quote",
    "expected a comma or a closing brace",
    "metric name given twice",
    "expected a value",
    "not a number",
    "expected a timestamp",
    "expected the end of the line",
    "expected a metric name after HELP, TYPE or UNIT",
    "blank line, which OpenMetrics forbids",
    "text after # EOF",
    "expected exactly one space",
    "expected # HELP, # TYPE, # UNIT or # EOF, the only comments of OpenMetrics",
    "bad exemplar",
    "the text does not end with # EOF",
    "timestamp out of range",
)
"""What each error code that `scan_exposition` reports says."""

FULL = 255
"""The error code of a text that has more lines than were made room for."""

_NEARBY = 64

HELP, TYPE, UNIT = 1, 2, 3
_EOF = 4
EXPLICIT, SLOW_VALUE, SLOW_TIME = 1, 2, 4
"""Row flags: the line has its own timestamp; value or timestamp is to be read by Python's `float`."""

# Character classes: 1 may start a metric name, 2 may continue one, 4 may start a label name, 8 may continue one.
_CLASSES = np.zeros(256, dtype=np.uint8)
for _c in b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_":
    _CLASSES[_c] = 15
_CLASSES[ord(":")] = 3
for _c in b"0123456789":
    _CLASSES[_c] = 10


@njit(cache=True, nogil=True, inline="always")
def _skip(buf: Any, i: int, openmetrics: bool) -> int:
    if not openmetrics:
        while buf[i] == 32 or buf[i] == 9:
            i += 1
    return i


@njit(cache=True, nogil=True, inline="always")
def _quoted(buf: Any, i: int) -> int:
    """The position after the string that opens at i; -1 where its line ends first."""
    i += 1
    while True:
        c = buf[i]
        if c == 34:
            return i + 1
        if c == 92:
            i += 1
            c = buf[i]
        if c == 10:
            return -1
        i += 1


@njit(cache=True, nogil=True)
def _labels(buf: Any, i: int, openmetrics: bool, named: bool) -> tuple[int, int, int]:
    """(position after the brace, 0, 0) of the label set that opens at i, or (0, error code, its position)."""
    i += 1
    while True:
        i = _skip(buf, i, openmetrics)
        c = buf[i]
        if c == 125:
            return i + 1, 0, 0
        at = i
        if _CLASSES[c] & 4:
            i += 1
            while _CLASSES[buf[i]] & 8:
                i += 1
            i = _skip(buf, i, openmetrics)
        elif c == 34:
            i = _quoted(buf, i)
            if i < 0:
                return 0, 6, at
            i = _skip(buf, i, openmetrics)
            c = buf[i]
            if c == 44 or c == 125:
                if named:
                    return 0, 8, at
                named = True
                if c == 44:
                    i += 1
                continue
        else:
            return 0, 2, i
        if buf[i] != 61:
            return 0, 3, i
        i = _skip(buf, i + 1, openmetrics)
        if buf[i] != 34:
            return 0, 4, i
        at = i
        i = _quoted(buf, i)
        if i < 0:
            return 0, 5, at
        i = _skip(buf, i, openmetrics)
        c = buf[i]
        if c == 44:
            i += 1
        elif c != 125:
            return 0, 7, i


@njit(cache=True, nogil=True, inline="always")
def _token_end(buf: Any, i: int) -> int:
    while buf[i] != 32 and buf[i] != 10 and buf[i] != 9:
        i += 1
    return i


@njit(cache=True, nogil=True)
def _comment(buf: Any, start: int, openmetrics: bool, row: Any) -> tuple[int, int, int]:
    """(HELP | TYPE | UNIT, _EOF or 0, error code, the next line's start or the error's place) of a line that begins with `#`.

    Of the first three `row` gets what `meta` of `scan_exposition` has.
    """
    end = start
    while buf[end] != 10:
        end += 1
    j = start + 1
    blank = buf[j] == 32 or (buf[j] == 9 and not openmetrics)
    if blank:
        j = _skip(buf, j, openmetrics) if not openmetrics else j + 1
    kind = 0
    if blank and end - j >= 5 and (buf[j + 4] == 32 or (buf[j + 4] == 9 and not openmetrics)):
        a, b, d, e = buf[j], buf[j + 1], buf[j + 2], buf[j + 3]
        if a == 72 and b == 69 and d == 76 and e == 80:
            kind = HELP
        elif a == 84 and b == 89 and d == 80 and e == 69:
            kind = TYPE
        elif openmetrics and a == 85 and b == 78 and d == 73 and e == 84:
            kind = UNIT
    if kind == 0:
        if not openmetrics:
            return 0, 0, end + 1
        if blank and end - j == 3 and buf[j] == 69 and buf[j + 1] == 79 and buf[j + 2] == 70:
            return _EOF, 0, end + 1
        return 0, 17, start
    j = _skip(buf, j + 5, openmetrics)
    name = j
    if buf[j] == 34:
        j = _quoted(buf, j)
        if j < 0:
            return kind, 6, name
    elif _CLASSES[buf[j]] & 1:
        while _CLASSES[buf[j]] & 2:
            j += 1
    else:
        return kind, 13, j
    if buf[j] != 10 and buf[j] != 32 and (openmetrics or buf[j] != 9):
        return kind, 13, j
    row[0] = kind
    row[1] = name
    row[2] = j
    row[3] = _skip(buf, j, openmetrics) if not openmetrics else min(j + 1, end)
    row[4] = end
    return kind, 0, end + 1


@njit(cache=True, nogil=True)
def _whole_time(buf: Any, i: int) -> tuple[int, int, int]:
    """(ms, error code, where it ends) of a line's timestamp in text 0.0.4, with nothing behind it."""
    at = i
    negative = buf[i] == 45
    if negative:
        i += 1
    total = 0
    digits = 0
    while buf[i] >= 48 and buf[i] <= 57:
        if digits < 19:
            total = total * 10 + (int(buf[i]) - 48)
        digits += 1
        i += 1
    if digits == 0:
        return 0, 11, i
    if digits > 18:
        return 0, 20, at
    i = _skip(buf, i, False)
    return -total if negative else total, 0 if buf[i] == 10 else 12, i


@njit(cache=True, nogil=True)
def _exemplar(buf: Any, i: int, powers: Any, scratch: Any) -> tuple[int, int]:
    """(error code, where it ends) of an exemplar, whose ` #` stands at `i`: labels, a value, perhaps a time."""
    if buf[i + 2] != 32 or buf[i + 3] != 123:
        return 18, i
    after, error, at = _labels(buf, i + 3, True, True)
    if error != 0:
        return error, at
    i = after
    for part in range(2):
        if part == 1 and buf[i] == 10:
            break
        if buf[i] != 32:
            return 18, i
        end = _token_end(buf, i + 1)
        _, status = parse_float(buf, i + 1, end, powers, scratch)
        if end == i + 1 or status == 2:
            return 18, i
        i = end
    return 0, i


@njit(cache=True, nogil=True)
def scan_exposition(
    buf: Any,
    n: int,
    openmetrics: bool,
    seed: np.uint64,
    key: Any,
    powers: Any,
    scratch: Any,
    spans: Any,
    hashes: Any,
    timestamps: Any,
    bits: Any,
    flags: Any,
    meta: Any,
    known: Any,
    known_lengths: Any,
    result: Any,
) -> int:
    """The number of sample rows of `buf[:n]` (uint8, n + 1 long, `buf[n]` a line feed: every inner loop stops there).

    Writes for row r: `spans[r]` int64 (key start, key end, value start, timestamp start), `hashes[r]` uint64[2] of the
    key seeded by `seed`, `timestamps[r]` int64 ms where `flags[r]` has EXPLICIT, `bits[r]` uint64 the value's bits.
    `meta[m]` int64 (HELP | TYPE | UNIT, name start, name end, text start, text end). `result` int64[4]: error code (an
    index of ERRORS) and its position, rows of `meta`, and a hash of all metadata lines. Where `spans` or `meta` is too
    short the error code is FULL: one row a line and one meta row a line that begins with `#` (after blanks) always do.

    `known` uint64[k] and `known_lengths` int32[k] are the first hash and the length of the keys of an earlier text, in
    its order: a key found again at its place was checked then. Series that come or go cost a search nearby.
    """
    rows = 0
    place = 0
    metas = 0
    meta_hash = np.uint64(0)
    eof = False
    error = 0
    i = 0
    while i < n:
        if eof:
            error = 15
            break
        i = _skip(buf, i, openmetrics)
        c = buf[i]
        if c == 10:
            if openmetrics:
                error = 14
                break
            i += 1
            continue
        start = i
        if c == 35:
            if metas == len(meta):
                error = FULL
                break
            kind, error, i = _comment(buf, start, openmetrics, meta[metas])
            if error != 0:
                break
            eof = kind == _EOF
            if kind != 0 and kind != _EOF:
                metas += 1
                h1, _ = hash_region(buf, start, i - 1, seed, key)
                meta_hash = (meta_hash ^ h1) * np.uint64(0x9E3779B97F4A7C15)
            continue
        if rows == len(spans):
            error = FULL
            break
        again = False
        h1 = h2 = np.uint64(0)
        stop = i
        if place < len(known):
            stop = start + known_lengths[place]
            # A key without labels may have some now: only one that ends as they do is whole for sure.
            if stop < n and buf[stop] == 32 and buf[stop - 1] == 125:
                h1, h2 = hash_region(buf, start, stop, seed, key)
                again = h1 == known[place]
        if again:
            place += 1
            i = _skip(buf, stop, openmetrics)
        else:
            if _CLASSES[c] & 1:
                i += 1
                while _CLASSES[buf[i]] & 2:
                    i += 1
                stop = i
                i = _skip(buf, i, openmetrics)
            elif c == 123:
                stop = i
            else:
                error = 1
                break
            if buf[i] == 123:
                after, error, at = _labels(buf, i, openmetrics, stop > start)
                if error != 0:
                    i = at
                    break
                i = after
                stop = i
                if not openmetrics:
                    i = _skip(buf, i, openmetrics)
            h1, h2 = hash_region(buf, start, stop, seed, key)
            for k in range(place, min(place + _NEARBY, len(known))):
                if known[k] == h1:
                    place = k + 1
                    break
        spans[rows, 0] = start
        spans[rows, 1] = stop
        hashes[rows, 0] = h1
        hashes[rows, 1] = h2
        if openmetrics:
            if buf[i] != 32:
                error = 16 if buf[i] != 10 else 9
                break
            i += 1
        end = _token_end(buf, i)
        if end == i:
            error = 9
            break
        word, status = parse_float(buf, i, end, powers, scratch)
        if status == 2:
            error = 10
            break
        bits[rows] = word
        flag = SLOW_VALUE if status == 1 else 0
        spans[rows, 2] = i
        i = end
        if not openmetrics:
            i = _skip(buf, i, openmetrics)
            if buf[i] != 10:
                timestamps[rows], error, i = _whole_time(buf, i)
                if error != 0:
                    break
                flag |= EXPLICIT
        else:
            if buf[i] == 32 and buf[i + 1] != 35:
                # Here, and not a function: that would cost a tenth of the speed.
                i += 1
                end = _token_end(buf, i)
                word, status = parse_float(buf, i, end, powers, scratch)
                if end == i or status == 2:
                    error = 11
                    break
                spans[rows, 3] = i
                flag |= EXPLICIT
                if status == 1:
                    flag |= SLOW_TIME
                else:
                    scratch[1][0] = word
                    seconds = scratch[0][0]
                    if seconds != seconds:
                        error = 20
                        break
                    # Truncated, as Prometheus does; held to int64 beyond the end of time.
                    timestamps[rows] = np.int64(min(max(seconds * 1000.0, -9.0e18), 9.0e18))
                i = end
            if buf[i] == 32 and buf[i + 1] == 35:
                error, i = _exemplar(buf, i, powers, scratch)
                if error != 0:
                    break
            if buf[i] != 10:
                error = 12
                break
        flags[rows] = flag
        rows += 1
        i += 1
    if error == 0 and openmetrics and not eof:
        error = 19
        i = n
    result[0] = error
    result[1] = i
    result[2] = metas
    result[3] = np.int64(meta_hash)
    return rows
