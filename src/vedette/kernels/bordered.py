"""Chunks read at the borders of windows alone: what rates are made of, and the last samples before steps.

Of each border it is kept which samples lie on both sides of it, and how many lie behind. A chunk knows whether a sample in it is below the
one before (`chunks.FALLS`); one that does not fall and that no window begins or ends in is not read. Not here: sums (`thinned.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.chunks import (
    FALLS,
    HEADER_BYTES,
    MOST_SAMPLES,
    SCALE,
    TIME,
    UNIT_BYTES,
    UNIT_WORDS,
    WHOLE,
    bend,
    decode,
    difference,
    eight,
    long,
    scaled,
)
from vedette.kernels.hashing import load_u64
from vedette.kernels.rollup import changes

_NEVER, _LATEST = -(1 << 63), (1 << 63) - 1
_STALE = np.int64(0x7FF0000000000002)
_U8 = np.uint64(8)
_BYTE, _EVEN = np.uint64(255), np.uint64(0x00FF00FF00FF00FF)
_TWO_BITS, _NO_STEPS = np.uint64(0xC0C0C0C0C0C0C0C0), np.uint64(0x2020202020202020)
_ONCE = np.uint64(0x0001000100010001)

_BORDER, _TIME_BEFORE, _BEFORE, _TIME_AFTER, _AFTER, _BEHIND, _STATE, _TIMES, _BITS, _FELL_AT, _FELL_FROM = range(11)
"""Rows of what is worked in. Of each border: its time, the times and the bits of the samples before (or at) and after it, and how many
samples are later. Then what goes from chunk to chunk, in the slots below; times and bits of one chunk; and of each sample below the one
before it, latest first, how many there are from it on, and the bits of that one before."""
_ROWS = 11
_AT, _LATER, _FELL, _OLDEST, _NEXT_TIME, _NEXT, _UNREAD, _FIRST, _LAST, _FALLS = range(10)
"""How many borders are earlier than what was seen; how many samples were; whether the oldest chunk seen falls, and when it begins; its
first sample's time and bits, or the chunk that it is still in; the first and last bits of a chunk; how many samples fall."""

_WIDTH = 512
"""As many samples that fall are noted of a series: a counter with more is read as a whole."""


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _sum(eight: Any) -> Any:
    """The sum of eight differences of which each had 32 added."""
    return np.int64(((eight & _EVEN) + (eight >> _U8 & _EVEN)) * _ONCE >> np.uint64(48)) - 256


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _bits(is_raw: Any, raw: Any, whole: Any, power: Any) -> Any:
    return raw if is_raw else np.int64(np.float64(whole / power).view(np.int64))


@njit(cache=True, nogil=True, error_model="numpy")
def _read(words: Any, chunk: Any, count: Any, last: Any, ends: bool, begin: Any, stop: Any, cells: Any) -> None:
    """Set what lies at the borders `[begin, stop)`, which lie between the first and the `last` of a chunk's `count` samples.

    And the chunk's first bits; and its last ones, if that is where a border `ends` it.
    """
    i: Any = np.uint64(chunk * UNIT_BYTES + HEADER_BYTES)
    time: Any = words[chunk * UNIT_WORDS]
    delta: Any = np.int64(0)
    whole: Any = np.int64(0)
    scale: Any = np.int64(0)
    raw: Any = np.int64(0)
    is_raw = False
    power = 1.0
    place: Any = np.int64(0)
    at: Any = np.uint64(begin)
    upto: Any = np.uint64(stop)
    one = np.uint64(1)
    later = cells[_STATE, _LATER] + count
    border = cells[_BORDER, at] if at < upto else np.int64(_LATEST)
    limit = last if ends else cells[_BORDER, upto - one]
    while place < count and (ends or at < upto):
        word = load_u64(words, i)
        if delta > 0 and word & _TWO_BITS == np.uint64(0):
            # Samples of a byte each, up to the one behind the last border: what precedes each eight of them, then what is at borders.
            wanted = min(count - place, (limit - time) // delta + 1)
            j, total = np.int64(0), whole
            while 8 * j + 8 <= wanted and word & _TWO_BITS == np.uint64(0):
                cells[_TIMES, np.uint64(j)] = total
                total += _sum(eight(word))
                j += 1
                word = load_u64(words, i + np.uint64(8 * j))
            cells[_TIMES, np.uint64(j)] = total
            passed, rest = 8 * j, wanted - 8 * j
            if 0 < rest < 8:
                mask = (np.uint64(1) << np.uint64(8 * rest)) - np.uint64(1)
                if word & mask & _TWO_BITS == np.uint64(0):
                    total += _sum((eight(word) & mask) | (_NO_STEPS & ~mask))
                    passed = wanted
            reach = time + passed * delta
            while border < reach:
                k = (border - time) // delta
                some = eight(load_u64(words, i + np.uint64(k & ~7)))
                shift = np.uint64(8 * (k & 7))
                mask = (np.uint64(1) << shift) - np.uint64(1)
                value = cells[_TIMES, np.uint64(k >> 3)] + _sum((some & mask) | (_NO_STEPS & ~mask))
                cells[_TIME_BEFORE, at] = time + k * delta
                cells[_BEFORE, at] = _bits(is_raw and k == 0, raw, value, power)
                value += np.int64(some >> shift & _BYTE) - 32
                cells[_TIME_AFTER, at] = time + (k + 1) * delta
                cells[_AFTER, at] = np.float64(value / power).view(np.int64)
                cells[_BEHIND, at] = later - place - k
                at += one
                border = cells[_BORDER, at] if at < upto else np.int64(_LATEST)
            if passed > 0:
                whole = total
                time = reach
                i += np.uint64(passed)
                place += passed
                is_raw = False
                continue
        time_before, bits_before = time, _bits(is_raw, raw, whole, power)
        if word & _BYTE >= np.uint64(WHOLE + 7):
            if word & _BYTE == np.uint64(SCALE):
                scale = np.int64(word >> _U8 & _BYTE)
                power, whole = scaled(scale, np.int64(bits_before).view(np.float64))
                i += np.uint64(2)
                word = load_u64(words, i)
            if word & _BYTE == np.uint64(TIME):
                i, by = bend(words, i + np.uint64(1))
                delta += by
                word = load_u64(words, i)
        if word & _BYTE >= np.uint64(WHOLE + 7):
            i, is_raw, whole, raw = long(words, i, bits_before if place > 0 else np.int64(0), whole, scale)
        else:
            size, by = difference(word)
            i += size
            whole += by
            is_raw = False
        if place > 0:
            time += delta
        else:
            cells[_STATE, _FIRST] = _bits(is_raw, raw, whole, power)
        while border < time:
            cells[_TIME_BEFORE, at], cells[_BEFORE, at] = time_before, bits_before
            cells[_TIME_AFTER, at], cells[_AFTER, at] = time, _bits(is_raw, raw, whole, power)
            cells[_BEHIND, at] = later - place
            at += one
            border = cells[_BORDER, at] if at < upto else np.int64(_LATEST)
        place += 1
    cells[_STATE, _LAST] = _bits(is_raw, raw, whole, power)


@njit(cache=True, nogil=True)
def _look_next(arena: Any, cells: Any) -> None:
    """Read the first sample of the oldest chunk seen, unless it is known."""
    if cells[_STATE, _UNREAD] > 0:
        values = cells[_BITS].view(np.float64)
        first = np.int64(1)
        decode(arena, arena.view(np.uint8), cells[_STATE, _UNREAD], first, np.int64(_LATEST), cells[_TIMES], cells[_BITS], values, 0)
        cells[_STATE, _NEXT], cells[_STATE, _UNREAD] = cells[_BITS, 0], 0


@njit(cache=True, nogil=True)
def _fallen(at: Any, bits: Any, cells: Any) -> bool:
    """Note a sample below the one before it; False where there is no room."""
    found = cells[_STATE, _FALLS]
    if found >= _WIDTH:
        return False
    cells[_FELL_AT, found], cells[_FELL_FROM, found] = at, bits
    cells[_STATE, _FALLS] = found + 1
    return True


@njit(cache=True, nogil=True)
def _read_all(arena: Any, chunk: Any, count: Any, begin: Any, cells: Any) -> bool:
    """Set what lies at the borders from `begin` on of a chunk in which samples may fall, stale markers aside.

    Borders before its first number stay with the chunk before. False where there is no room.
    """
    _look_next(arena, cells)
    times, bits = cells[_TIMES], cells[_BITS]
    values = bits.view(np.float64)
    held = abs(decode(arena, arena.view(np.uint8), chunk, count, np.int64(_LATEST), times, bits, values, 0))
    numbers = 0
    for i in range(held):
        if bits[i] != _STALE:
            times[numbers], bits[numbers] = times[i], bits[i]
            numbers += 1
    if numbers == 0:
        return True
    later = cells[_STATE, _LATER]
    following = np.int64(cells[_STATE, _NEXT]).view(np.float64)
    if later > 0 and following < values[numbers - 1] and not _fallen(later, bits[numbers - 1], cells):
        return False
    for i in range(numbers - 1, 0, -1):
        if values[i] < values[i - 1] and not _fallen(later + numbers - i, bits[i - 1], cells):
            return False
    i = numbers - 1
    at = cells[_STATE, _AT] - 1
    while at >= begin:
        while i >= 0 and times[i] > cells[_BORDER, at]:
            i -= 1
        if i < 0:
            break
        cells[_TIME_BEFORE, at], cells[_BEFORE, at] = times[i], bits[i]
        behind = i + 1 < numbers
        cells[_TIME_AFTER, at] = times[i + 1] if behind else cells[_STATE, _NEXT_TIME]
        cells[_AFTER, at] = bits[i + 1] if behind else cells[_STATE, _NEXT]
        cells[_BEHIND, at] = later + numbers - 1 - i
        at -= 1
    cells[_STATE, _AT] = at + 1
    cells[_STATE, _LATER] = later + numbers
    cells[_STATE, _NEXT_TIME], cells[_STATE, _NEXT], cells[_STATE, _UNREAD] = times[0], bits[0], 0
    return True


@njit(cache=True, nogil=True)
def _of_chain(tail: Any, held: Any, newest: Any, arena: Any, start: Any, end: Any, rates: bool, cells: Any) -> bool:
    """Set what lies at borders of one chain in order, older than what was seen; False where there is no room."""
    chunk: Any = np.int64(tail)
    count: Any = np.int64(held)
    last: Any = np.int64(newest)
    while chunk > 0 and cells[_STATE, _AT] > 0 and last > start:
        oldest: Any = arena[chunk * UNIT_WORDS]
        if oldest <= end:
            falls: Any = np.int64(arena[chunk * UNIT_WORDS + 2] >> 16 & FALLS != 0)
            stop: Any = np.int64(cells[_STATE, _AT])
            behind: Any = stop
            while behind > 0 and cells[_BORDER, behind - 1] >= last:
                behind -= 1
            begin: Any = behind
            while begin > 0 and cells[_BORDER, begin - 1] >= oldest:
                begin -= 1
            if rates and (falls or cells[_STATE, _FELL]):
                if not _read_all(arena, chunk, count, begin, cells):
                    return False
            else:
                if behind < stop and rates:
                    _look_next(arena, cells)
                if begin < stop:
                    _read(arena, chunk, count, last, behind < stop, begin, behind, cells)
                for at in range(behind, stop):
                    cells[_TIME_BEFORE, at], cells[_BEFORE, at] = last, cells[_STATE, _LAST]
                    cells[_TIME_AFTER, at], cells[_AFTER, at] = cells[_STATE, _NEXT_TIME], cells[_STATE, _NEXT]
                    cells[_BEHIND, at] = cells[_STATE, _LATER]
                cells[_STATE, _NEXT_TIME], cells[_STATE, _NEXT] = oldest, cells[_STATE, _FIRST]
                cells[_STATE, _UNREAD] = chunk if begin == stop else 0
                cells[_STATE, _LATER] += count
                cells[_STATE, _AT] = begin
            cells[_STATE, _FELL] = falls
        cells[_STATE, _OLDEST] = oldest
        chunk = arena[chunk * UNIT_WORDS + 1] & 0xFFFFFFFF
        if chunk > 0:
            count = arena[chunk * UNIT_WORDS + 2] & 255
            last = arena[chunk * UNIT_WORDS] + (arena[chunk * UNIT_WORDS + 1] >> 32)
    return True


@njit(cache=True, nogil=True)
def _borders(first: Any, step: Any, n: Any, range_ms: Any, rates: bool, left: Any, right: Any, cells: Any) -> int:
    """Set the borders in order, each once, and which of them windows begin (`left`) and end (`right`) at; answers how many there are."""
    i, j, found = 0, 0 if rates else n, 0
    while i < n or j < n:
        end = first + i * step if i < n else np.int64(_LATEST)
        begin = first - range_ms + j * step if j < n else np.int64(_LATEST)
        cells[_BORDER, found] = min(end, begin)
        if end <= begin:
            right[i] = found
            i += 1
        if begin <= end:
            left[j] = found
            j += 1
        found += 1
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def bordered(
    tails: Any, held: Any, newest: Any, old_tails: Any, arena: Any, old_arena: Any, first: int, step: int, n: int, range_ms: int,
    kind: int, timed: bool, counts: Any, out: Any, present: Any,
) -> bool:  # fmt: skip
    """`rate` (0), `increase` (1) or `delta` (2) of the windows `(t - range_ms, t]`, t = first + k * step for k < n, of rows.

    They are as `head.survey` found them. With -1 the last sample of each, unless it is a stale marker: its value, or its time in seconds
    if `timed`.

    As `windows.extrapolated` and `windows.last_sample`, to the bit. Sets `counts` (int64[rows], samples within), `out` and `present`
    ([rows, n]). False where samples are in an odd order, or too many of them fall: then nothing set means anything.
    """
    rates = kind >= 0
    cells = np.empty((_ROWS, max(2 * n + 1, _WIDTH, MOST_SAMPLES + 17)), dtype=np.int64)
    left, right = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    since, change, many = np.empty(n), np.empty(n), np.empty(n)
    oldest, latest = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    borders = _borders(np.int64(first), np.int64(step), np.int64(n), np.int64(range_ms), rates, left, right, cells)
    start, end = np.int64(first - range_ms), np.int64(first + (n - 1) * step)
    before, after = cells[_BEFORE].view(np.float64), cells[_AFTER].view(np.float64)
    fell_from = cells[_FELL_FROM].view(np.float64)
    for row in range(len(tails)):
        for slot in range(_FALLS + 1):
            cells[_STATE, slot] = 0
        cells[_STATE, _AT], cells[_STATE, _OLDEST], cells[_STATE, _NEXT_TIME] = borders, _LATEST, _LATEST
        if tails[row] > 0 and not _of_chain(tails[row], held[row], newest[row], arena, start, end, rates, cells):
            return False
        tail = old_tails[row]
        if tail > 0:
            youngest = old_arena[tail * UNIT_WORDS] + (old_arena[tail * UNIT_WORDS + 1] >> 32)
            if youngest >= cells[_STATE, _OLDEST]:
                return False
            # What is unread is in the other arena.
            _look_next(arena, cells)
            count = old_arena[tail * UNIT_WORDS + 2] & 255
            if not _of_chain(tail, count, youngest, old_arena, start, end, rates, cells):
                return False
            if rates:
                _look_next(old_arena, cells)
        elif rates:
            _look_next(arena, cells)
        for at in range(cells[_STATE, _AT]):
            cells[_TIME_BEFORE, at], cells[_BEFORE, at] = _NEVER, 0
            cells[_TIME_AFTER, at], cells[_AFTER, at] = cells[_STATE, _NEXT_TIME], cells[_STATE, _NEXT]
            cells[_BEHIND, at] = cells[_STATE, _LATER]
        there, values = present[row], out[row]
        if not rates:
            found = 0
            for k in range(n):
                time = cells[_TIME_BEFORE, k]
                within = time > first + k * step - range_ms
                there[k] = within and cells[_BEFORE, k] != _STALE
                values[k] = time / 1000.0 if timed else before[k]
                found += within and (k == 0 or time != cells[_TIME_BEFORE, k - 1])
            counts[row] = found
            continue
        counts[row] = cells[_BEHIND, left[0]] - cells[_BEHIND, right[n - 1]]
        for k in range(n):
            a, b = left[k], right[k]
            many[k] = np.float64(cells[_BEHIND, a] - cells[_BEHIND, b])
            since[k], change[k] = after[a], before[b] - after[a]
            oldest[k], latest[k] = cells[_TIME_AFTER, a], cells[_TIME_BEFORE, b]
            there[k] = many[k] >= 2
        falls = cells[_STATE, _FALLS]
        if falls > 0 and kind < 2:
            j = falls - 1
            for k in range(n):
                # Those of the window but its first sample, in order of time.
                while j >= 0 and cells[_FELL_AT, j] >= cells[_BEHIND, left[k]]:
                    j -= 1
                i = j
                while i >= 0 and cells[_FELL_AT, i] > cells[_BEHIND, right[k]]:
                    change[k] += fell_from[i]
                    i -= 1
        changes(kind, since, change, many, oldest, latest, first, step, range_ms, values)
    return True
