"""The scanner of Graphite's plaintext: lines to spans, hashes, values and timestamps, in one pass.

A line is `path value [seconds]`, its parts apart by blanks; the path may end in tags, `;name=value` each. Checks all but UTF-8, which
is looked at where a path has bytes above 127. Not here: what a path means (`wire/graphite.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.floats import parse_float
from vedette.kernels.hashing import hash_region

REASONS = ("", "no_value", "bad_path", "bad_value", "nan", "bad_time", "too_many_parts", "too_long")
"""Why a line is no sample, by the number that `scan_graphite` counts it under."""

SLOW_VALUE, SLOW_TIME, HIGH = 1, 2, 4
"""Row flags: value or timestamp are to be read by Python's `float`; the path has bytes above 127."""


@njit(cache=True, nogil=True, inline="always")
def _word(buf: Any, i: int) -> int:
    """Where the word that begins at i ends: at a blank or at the end of the line."""
    while buf[i] != 32 and buf[i] != 9 and buf[i] != 10 and buf[i] != 13:
        i += 1
    return i


@njit(cache=True, nogil=True, inline="always")
def _blank(buf: Any, i: int) -> int:
    while buf[i] == 32 or buf[i] == 9 or buf[i] == 13:
        i += 1
    return i


@njit(cache=True, nogil=True)
def check_path(buf: Any, start: int, end: int) -> int:
    """0 for a path that can be one, -1 for another, `HIGH` for one whose bytes above 127 are still to be looked at."""
    high = 0
    name = True  # before the first tag
    begun = start
    equals = -1
    for i in range(start, end + 1):
        c = np.int64(buf[i]) if i < end else 59
        if c == 59:  # the end of the name or of a tag
            if i == begun or (not name and (equals <= begun or equals + 1 == i)):
                return -1
            name = False
            begun = i + 1
            equals = -1
        elif c == 61:
            if equals < 0:
                equals = i
        elif c < 33 or c == 127:
            return -1
        elif c > 127:
            high = 4
    return high


@njit(cache=True, nogil=True)
def _seconds(buf: Any, start: int, end: int) -> int:
    """The milliseconds of a whole number of seconds below 10^12, -1 for any other text."""
    if end - start > 12 or end == start:
        return -1
    found = 0
    for i in range(start, end):
        d = int(buf[i]) - 48
        if d < 0 or d > 9:
            return -1
        found = found * 10 + d
    return found * 1000


@njit(cache=True, nogil=True)
def scan_graphite(
    buf: Any,
    n: int,
    now_ms: int,
    most: int,
    seed: np.uint64,
    key: Any,
    powers: Any,
    scratch: Any,
    spans: Any,
    hashes: Any,
    timestamps: Any,
    bits: Any,
    flags: Any,
    bad: Any,
) -> tuple[int, int]:
    """(rows, where the first bad line begins or -1) of `buf[:n]`, whose last byte is a line feed.

    Row r has its path at `spans[r, 0:2]`, its value's text at `spans[r, 2:4]`, its timestamp's at `spans[r, 4:6]`; `hashes[r]` of the
    path, `timestamps[r]` in ms (`now_ms` where the line says none, `-1` or `N`), `bits[r]` of the value. `bad[reason]` counts lines that
    are none, those of more than `most` bytes among them. There is room for as many rows as the text has lines.
    """
    row = 0
    first = -1
    i = 0
    while i < n:
        line = i
        at = _blank(buf, i)
        if buf[at] == 10:
            i = at + 1
            continue
        path = at
        path_end = _word(buf, path)
        value = _blank(buf, path_end)
        value_end = _word(buf, value)
        time = _blank(buf, value_end)
        time_end = _word(buf, time)
        at = _blank(buf, time_end)
        more = buf[at] != 10
        while buf[at] != 10:
            at += 1
        i = at + 1
        reason = 0
        flag = 0
        stamp = now_ms
        if at - line > most:
            reason = 7
        elif value_end == value:
            reason = 1
        elif more:
            reason = 6
        else:
            flag = check_path(buf, path, path_end)
            if flag < 0:
                reason = 2
            else:
                found, status = parse_float(buf, value, value_end, powers, scratch)
                if status == 2:
                    reason = 3
                elif status == 1:
                    flag |= 1
                elif found & np.uint64(0x7FFFFFFFFFFFFFFF) > np.uint64(0x7FF0000000000000):
                    reason = 4
                bits[row] = found
        if reason == 0 and time_end > time:
            stamp = _seconds(buf, time, time_end)
            if stamp < 0:
                size = time_end - time
                if (size == 1 and buf[time] | 32 == 110) or (size == 2 and buf[time] == 45 and buf[time + 1] == 49):
                    stamp = now_ms
                else:
                    flag |= 2
        if reason != 0:
            bad[reason] += 1
            if first < 0:
                first = line
            continue
        spans[row, 0], spans[row, 1] = path, path_end
        spans[row, 2], spans[row, 3] = value, value_end
        spans[row, 4], spans[row, 5] = time, time_end
        hashes[row, 0], hashes[row, 1] = hash_region(buf, path, path_end, seed, key)
        timestamps[row] = stamp
        flags[row] = flag
        row += 1
    return row, first
