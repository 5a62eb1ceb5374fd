"""Series to JSON bytes: `{"metric":{…},"values":[[t,"v"],…]}`, without a Python object per point.

The kernels lay values out as Go does: shortest digits, no exponent from 1e-6 up to 1e21, `+Inf`, `-Inf`, `NaN`, always quoted.
Values of few decimals, as most are, are written from whole numbers; the shortest digits of the others come from orjson as text
(`digits`, tokens separated by commas, `null` for what is not finite).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.digits import SPARE, paste, store_u64, write_decimal, write_integer
from vedette.kernels.hashing import load_u64
from vedette.kernels.spans import same_times

POINT_BYTES = 64
"""No point takes more: 22 of time, 2 brackets, 2 quotes, 2 commas, 30 of value."""
_ENDED = np.uint64(34 | 93 << 8)
"""What ends a point: a quote and a bracket."""


@njit(cache=True, nogil=True)
def _copy(out: Any, at: int, pool: Any, lo: int, hi: int) -> int:
    for i in range(lo, hi):
        out[at] = pool[i]
        at += 1
    return at


@njit(cache=True, nogil=True)
def write_time(out: Any, at: int, ms: int) -> int:
    """Milliseconds as seconds, with three decimals unless whole."""
    if ms < 0:
        out[at] = 45
        at += 1
        ms = -ms
    at = write_integer(out, at, ms // 1000)
    rest = ms % 1000
    if rest != 0:
        out[at] = 46
        out[at + 1] = 48 + rest // 100
        out[at + 2] = 48 + rest // 10 % 10
        out[at + 3] = 48 + rest % 10
        at += 4
    return at


@njit(cache=True, nogil=True)
def _write_value(out: Any, at: int, value: float, digits: Any, lo: int, hi: int, scratch: Any) -> int:
    """The value whose shortest form is `digits[lo:hi]`, as Go lays it out."""
    if np.isnan(value):
        out[at] = 78
        out[at + 1] = 97
        out[at + 2] = 78
        return at + 3
    if np.isinf(value):
        out[at] = 43 if value > 0 else 45
        out[at + 1] = 73
        out[at + 2] = 110
        out[at + 3] = 102
        return at + 4
    i = lo
    if digits[i] == 45:
        out[at] = 45
        at += 1
        i += 1
    n = 0  # digits without leading zeros
    point = 0  # where the decimal point stands, counted in them
    seen_point = False
    while i < hi and digits[i] != 101 and digits[i] != 69:
        c = digits[i]
        if c == 46:
            seen_point = True
        elif c == 48 and n == 0:
            if seen_point:
                point -= 1
        else:
            scratch[n] = c
            n += 1
            if not seen_point:
                point += 1
        i += 1
    if i < hi:
        i += 1
        negative = digits[i] == 45
        if negative or digits[i] == 43:
            i += 1
        exponent = 0
        while i < hi:
            exponent = exponent * 10 + (digits[i] - 48)
            i += 1
        point += -exponent if negative else exponent
    while n > 0 and scratch[n - 1] == 48:
        n -= 1
    if n == 0:
        out[at] = 48
        return at + 1
    size = abs(value)
    if size < 1e-6 or size >= 1e21:
        out[at] = scratch[0]
        at += 1
        if n > 1:
            out[at] = 46
            at += 1
            for j in range(1, n):
                out[at] = scratch[j]
                at += 1
        exponent = point - 1
        out[at] = 101
        out[at + 1] = 45 if exponent < 0 else 43
        at += 2
        exponent = abs(exponent)
        if exponent < 10:
            out[at] = 48
            at += 1
        return int(write_integer(out, at, exponent))
    if point <= 0:
        out[at] = 48
        out[at + 1] = 46
        at += 2
        for _ in range(-point):
            out[at] = 48
            at += 1
        for j in range(n):
            out[at] = scratch[j]
            at += 1
        return at
    for j in range(max(n, point)):
        if j == point:
            out[at] = 46
            at += 1
        out[at] = scratch[j] if j < n else 48
        at += 1
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def decimals(floats: Any, whole: Any, places: Any) -> int:
    """Values of at most four decimals as whole numbers: `floats[i]` is `whole[i] / 10**places[i]`; how many are not so.

    `whole` int64[n], `places` int8[n], -1 for the others. Below 2**53 no two decimals of as many places are one float, so
    the first that divides back to it has its shortest digits.
    """
    hard = 0
    for i in range(len(floats)):
        v = floats[i]
        places[i] = -1
        scale = 1.0
        for k in range(5):
            scaled = np.rint(v * scale)
            if not abs(scaled) < 9007199254740992.0:
                break
            if scaled / scale == v and not (v == 0.0 and np.signbit(v)):
                whole[i] = np.int64(scaled)
                places[i] = k
                break
            scale *= 10.0
        hard += places[i] < 0
    return hard


@njit(cache=True, nogil=True, error_model="numpy")
def render_rows(
    rows: Any,
    label_offsets: Any,
    names: Any,
    values: Any,
    pool: Any,
    pool_offsets: Any,
    frame: Any,
    frame_offsets: Any,
    offsets: Any,
    times: Any,
    floats: Any,
    whole: Any,
    places: Any,
    digits: Any,
    digits_at: int,
    single: bool,
    out: Any,
) -> int:
    """Write series `rows` as JSON objects, each followed by a comma; returns the number of bytes.

    Row r has labels `label_offsets[r]:label_offsets[r+1]` of `names`, `values` (indices into the quoted texts in
    `pool[pool_offsets[i]:pool_offsets[i+1]]`; where the value is -1, the name stands for all of the pair), and the points that
    `offsets[j]:offsets[j+1]` bounds in `times`, `floats`, where j counts rows. `whole`, `places` are of `decimals`, and `digits`
    from `digits_at` on is the text of the floats that have none, in order. `frame` holds the fixed pieces: before the labels,
    between labels and points (list, single), and after them (list, single). `pool`, `frame` and `digits` end with `SPARE` more bytes.
    """
    at = 0
    d = digits_at
    scratch = np.empty(800, dtype=np.uint8)
    # What stands before a row's k-th value, `,[time,"`: of the next row it is mostly the same.
    most = 0
    for j in range(len(rows)):
        most = max(most, offsets[j + 1] - offsets[j])
    before = np.empty(32 * most + SPARE, dtype=np.uint8)
    before_at, before_size = np.empty(most, dtype=np.int64), np.zeros(most, dtype=np.int64)
    for j in range(len(rows)):
        r = rows[j]
        at = paste(out, at, frame, frame_offsets[0], frame_offsets[1])
        for i in range(label_offsets[r], label_offsets[r + 1]):
            if i > label_offsets[r]:
                out[at] = 44
                at += 1
            at = paste(out, at, pool, pool_offsets[names[i]], pool_offsets[names[i] + 1])
            if values[i] >= 0:
                out[at] = 58
                at = paste(out, at + 1, pool, pool_offsets[values[i]], pool_offsets[values[i] + 1])
        middle = 2 if single else 1
        at = paste(out, at, frame, frame_offsets[middle], frame_offsets[middle + 1])
        first = offsets[j]
        for p in range(first, offsets[j + 1]):
            k = p - first
            since = 32 * k
            if before_size[k] == 0 or before_at[k] != times[p]:
                before[since], before[since + 1] = 44, 91
                size = write_time(before, since + 2, times[p]) - since
                before[since + size], before[since + size + 1] = 44, 34
                before_at[k], before_size[k] = times[p], size + 2
            # No comma stands before the first one.
            since += p == first
            store_u64(out, at, load_u64(before, since))
            store_u64(out, at + 8, load_u64(before, since + 8))
            store_u64(out, at + 16, load_u64(before, since + 16))
            if before_size[k] > 24:
                store_u64(out, at + 24, load_u64(before, since + 24))
            at += before_size[k] - (p == first)
            if places[p] >= 0:
                at = write_decimal(out, at, whole[p], places[p])
            else:
                hi = d
                while digits[hi] != 44 and digits[hi] != 93:
                    hi += 1
                # Of this size, what is no whole number is laid out alike by all who find its digits.
                if 1e-4 <= abs(floats[p]) < 1e15:
                    at = paste(out, at, digits, d, hi)
                else:
                    at = _write_value(out, at, floats[p], digits, d, hi, scratch)
                d = hi + 1
            store_u64(out, at, _ENDED)
            at += 2
        tail = 4 if single else 3
        at = paste(out, at, frame, frame_offsets[tail], frame_offsets[tail + 1])
        out[at] = 44
        at += 1
    return at


@njit(cache=True, nogil=True, inline="always")
def _digits(n: Any) -> Any:
    """How many digits a whole number from 0 to 10**16 has; without branches, so that many are counted side by side."""
    digits: Any = 1
    power = 1
    for _ in range(15):
        power *= 10
        digits += n >= power
    return digits


@njit(cache=True, nogil=True, error_model="numpy")
def _times_size(times: Any, lo: int, hi: int) -> int:
    """Bytes of times as `write_time` writes them, together."""
    total = 0
    for p in range(lo, hi):
        ms = abs(times[p])
        total += _digits(ms // 1000) + (times[p] < 0) + (4 if ms % 1000 != 0 else 0)
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _decimals_size(whole: Any, places: Any) -> int:
    """Bytes of the numbers that are decimals, together; without branches, so that it runs in vector registers."""
    total = 0
    for p in range(len(whole)):
        digits = _digits(abs(whole[p]))  # below 2**53
        k = np.int64(places[p])
        size = digits if k <= 0 else max(digits, k + 1) + 1
        total += size + (whole[p] < 0) if k >= 0 else 0
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def measure_rows(
    rows: Any,
    label_offsets: Any,
    names: Any,
    values: Any,
    pool_offsets: Any,
    frame_offsets: Any,
    offsets: Any,
    times: Any,
    floats: Any,
    whole: Any,
    places: Any,
    digits: Any,
    digits_at: int,
    single: bool,
) -> int:
    """How many bytes `render_rows` writes for the same."""
    at = _decimals_size(whole, places)
    d = digits_at
    out, scratch = np.empty(POINT_BYTES + SPARE, dtype=np.uint8), np.empty(800, dtype=np.uint8)
    # Where the text ends at once, all numbers are decimals.
    for p in range(len(floats) if digits[d] != 93 else 0):
        if places[p] < 0:
            hi = d
            while digits[hi] != 44 and digits[hi] != 93:
                hi += 1
            at += hi - d if 1e-4 <= abs(floats[p]) < 1e15 else _write_value(out, 0, floats[p], digits, d, hi, scratch)
            d = hi + 1
    middle, tail = (2, 4) if single else (1, 3)
    frame = frame_offsets[1] - frame_offsets[0] + frame_offsets[middle + 1] - frame_offsets[middle]
    frame += frame_offsets[tail + 1] - frame_offsets[tail] + 1
    # What the times of a row take, and of which row: of the next one they are mostly the same.
    size: Any = np.int64(0)
    before: Any = np.int64(0)
    for j in range(len(rows)):
        r = rows[j]
        at += frame + max(0, label_offsets[r + 1] - label_offsets[r] - 1)
        for i in range(label_offsets[r], label_offsets[r + 1]):
            at += pool_offsets[names[i] + 1] - pool_offsets[names[i]]
            if values[i] >= 0:
                at += 1 + pool_offsets[values[i] + 1] - pool_offsets[values[i]]
        count = offsets[j + 1] - offsets[j]
        if j == 0 or count != offsets[before + 1] - offsets[before] or not same_times(times, offsets[j], offsets[before], count):
            size, before = np.int64(_times_size(times, offsets[j], offsets[j + 1])), np.int64(j)
        # A comma before all but the first; around the time and the value two brackets, two quotes and a comma.
        at += size + 5 * count + max(0, count - 1)
    return at


@njit(cache=True, nogil=True)
def flatten(values: Any, present: Any, order: Any, start: int, step: int, offsets: Any, times: Any, floats: Any) -> None:
    """The points of matrix rows `order`, one after the other; `offsets` int64[len(order) + 1] is filled too."""
    at = 0
    for j in range(len(order)):
        offsets[j] = at
        r = order[j]
        for k in range(values.shape[1]):
            if present[r, k]:
                times[at] = start + k * step
                floats[at] = values[r, k]
                at += 1
    offsets[len(order)] = at


@njit(cache=True, nogil=True)
def _row_less(a: int, b: int, offsets: Any, names: Any, values: Any) -> bool:
    i, j = offsets[a], offsets[b]
    while i < offsets[a + 1] and j < offsets[b + 1]:
        if names[i] != names[j]:
            return bool(names[i] < names[j])
        if values[i] != values[j]:
            return bool(values[i] < values[j])
        i += 1
        j += 1
    return bool(offsets[a + 1] - offsets[a] < offsets[b + 1] - offsets[b])


@njit(cache=True, nogil=True)
def sort_rows(offsets: Any, names: Any, values: Any, order: Any, scratch: Any) -> None:
    """Sort `order` (row numbers) by the rows' label sets; `names`, `values` are ranks, so that comparing numbers compares texts."""
    n = len(order)
    width = 1
    while width < n:
        for lo in range(0, n, 2 * width):
            mid, hi = min(lo + width, n), min(lo + 2 * width, n)
            if mid >= hi or not _row_less(order[mid], order[mid - 1], offsets, names, values):
                # In order already, as series mostly are that were first seen together.
                scratch[lo:hi] = order[lo:hi]
                continue
            i, j = lo, mid
            for k in range(lo, hi):
                if i < mid and (j >= hi or not _row_less(order[j], order[i], offsets, names, values)):
                    scratch[k] = order[i]
                    i += 1
                else:
                    scratch[k] = order[j]
                    j += 1
        order[:] = scratch
        width *= 2
