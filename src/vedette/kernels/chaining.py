"""Rows of a page of a block as chunks at the ends of chains, right from the small integers that the page has.

A page has the differences of whole numbers, and so have chunks: no value is made on the way, no scale is searched for. Pages with rows of
bit patterns, or of numbers that chunks have no scale for, are left to `head.append`. Not here: what a page holds (`pages.py`), what a
chunk is (`chunks.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels import chunks, head, pages
from vedette.kernels.chunks import (
    CLOSED,
    FALLS,
    HEADER_BYTES,
    LONGEST,
    MOST_SAMPLES,
    PREVIOUS,
    SCALES,
    SPAN,
    UNIT_BYTES,
    UNIT_WORDS,
    decode,
    put,
    put_short,
)
from vedette.kernels.pages import BENDS, CONSTANT, MULTIPLY, RAW, WHOLES

DONE, UNSUITED, BROKEN = range(3)
"""What `chain` answers: all rows were added; none were, for another way has to be taken; some were, and what there is now is of no use."""

_TENS = np.array([float(10**k) for k in range(SCALES)])
_LARGEST = 1 << 50
_SHORT = 1 << 22
_FARTHEST = (1 << 31) - 1
_LATEST = (1 << 63) - 1
_LONG = np.uint64(9)
"""No sample whose step is below `_SHORT` and whose time is less than `_FARTHEST` later takes more bytes."""


@njit(cache=True, nogil=True)
def unfold(packed: Any, fields: Any, samples: int) -> Any:
    """The rows of a page of so many `samples` from what is `packed` of them (uint8): fills `fields` int64[n, 8] but for `BASE`.

    Answers the exceptions, int64[2 * many]: the place of each in its row, then the bits of each; int64[1] where something is cut off.
    """
    end, many = pages.unpack_fields(packed, fields)
    if end < 0 or many < 0 or many > samples:
        return np.empty(1, np.int64)
    exceptions = np.empty(2 * many, np.int64)
    return exceptions if pages.unpack(packed[end:], exceptions) == len(packed) - end else np.empty(1, np.int64)


@njit(cache=True, nogil=True)
def _suits(field: Any) -> bool:
    """Whether chunks have all that a row may be."""
    form, scale = field[pages.FORM] & 7, field[pages.FORM] >> 4
    return bool(field[pages.FORM] & MULTIPLY == 0 and 0 <= scale < SCALES and form != RAW and form <= BENDS)


@njit(cache=True, nogil=True, error_model="numpy")
def _wholes(field: Any, source: Any) -> bool:
    """What a stream has of a row as the whole numbers that it stands for, in place; False where one is too large for a chunk."""
    form, base, slope, divisor = field[pages.FORM] & 7, field[pages.BASE], field[pages.SLOPE], field[pages.DIVISOR]
    whole: Any = np.int64(base - slope * divisor)
    stride: Any = np.int64(slope * divisor)
    least: Any = np.int64(0)
    most: Any = np.int64(0)
    for i in range(len(source)):
        if form == CONSTANT:
            whole = base
        elif form == WHOLES:
            whole = base + source[i] * divisor
        elif form == BENDS:
            stride += source[i] * divisor
            whole += stride
        else:
            whole += (source[i] + slope) * divisor
        source[i] = whole
        least, most = min(least, whole), max(most, whole)
    return bool(least > -_LARGEST and most < _LARGEST)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _bend(data: Any, to: Any, by: Any) -> Any:
    """Write by how much a distance of times changes, of 33 bits at the most; answers the byte behind it."""
    data[to] = chunks.TIME
    to += np.uint64(1)
    rest = np.uint64(by << 1 ^ by >> 63)
    while rest >= np.uint64(128):
        data[to] = rest & np.uint64(127) | np.uint64(128)
        rest >>= np.uint64(7)
        to += np.uint64(1)
    data[to] = rest
    return to + np.uint64(1)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _begin(data: Any, at: Any, zigzag: Any) -> int:
    """Write the whole number that a chunk begins with; answers its bytes."""
    if zigzag < _SHORT:
        return put_short(data, at, zigzag)
    size = 0
    while zigzag != 0:
        size += 1
        data[at + size] = zigzag & 255
        zigzag >>= 8
    data[at] = chunks.WHOLE + size - 1
    return size + 1


@njit(cache=True, nogil=True, error_model="numpy")
def _add(
    series: Any, scale: Any, wholes: Any, odd_at: Any, odd_bits: Any, times: Any, state: Any, arena: Any, units: Any, code: Any
) -> int:
    """Add a row to the chain of `series`: its `times` and `wholes` (int64[n]), which are `odd_bits` at the places `odd_at`.

    Answers the units in use, -1 where it cannot.
    """
    fields, links, data = state.view(np.int32), arena.view(np.int32), arena.view(np.uint8)
    n, power = len(times), _TENS[scale]
    time: Any = np.int64(state[series, head.LAST_TIME])
    raw: Any = np.int64(state[series, head.LAST_BITS])
    delta: Any = np.int64(fields[series, head.DELTA])
    chunk: Any = np.int64(fields[series, head.TAIL])
    known = chunk > 0
    if known and (delta == head.LATE or times[0] <= time):
        return -1
    # Of the chunk that is being written; without samples there is none.
    samples: Any = np.int64(0)
    used: Any = np.int64(0)
    room: Any = np.int64(0)
    begun: Any = np.int64(0)
    falls: Any = False
    if known and data[chunk * UNIT_BYTES + chunks.AT_SCALE] == scale:
        samples, used = np.int64(data[chunk * UNIT_BYTES + chunks.SAMPLES]), np.int64(data[chunk * UNIT_BYTES + chunks.USED])
        room = UNIT_BYTES * np.int64(data[chunk * UNIT_BYTES + chunks.UNITS] & (FALLS - 1)) - HEADER_BYTES
        begun = np.int64(arena[chunk * UNIT_WORDS])
        falls = data[chunk * UNIT_BYTES + chunks.UNITS] & FALLS != 0
    # The sample before: the whole number `before`, or where it `is_raw` the bits `raw`.
    before: Any = np.int64(0)
    to: Any = np.uint64(0)
    is_raw = known
    odd = 0
    i: Any = np.int64(0)
    while i < n:
        odd_next = min(n, odd_at[odd]) if odd < len(odd_at) else n
        if odd_next < i:
            return -1
        if samples > 0 and not is_raw:
            # Whole numbers behind whole numbers, as long as there is room: nearly all.
            place, stop = np.uint64(i), np.uint64(i + max(np.int64(0), min(odd_next - i, MOST_SAMPLES - samples)))
            begin, end = np.int64(chunk * UNIT_BYTES + HEADER_BYTES), np.int64(chunk * UNIT_BYTES + HEADER_BYTES + room)
            to, latest, fell = np.uint64(begin + used), begun + _FARTHEST, np.int64(0)
            while place < stop:
                step, since = wholes[place] - before, times[place] - time
                zigzag = step << 1 ^ step >> 63
                if since == delta and zigzag < 64 and to < np.uint64(end) and times[place] < latest and since > 0:
                    data[to] = zigzag
                    to += np.uint64(1)
                elif zigzag < _SHORT and to + _LONG <= np.uint64(end) and 0 < since < _FARTHEST and times[place] < latest:
                    if since != delta:
                        to = _bend(data, to, since - delta)
                        delta = since
                    bytes_more = np.uint64(zigzag >= 64) + np.uint64(zigzag >= 16384)
                    data[to] = bytes_more << np.uint64(6) | np.uint64(zigzag & 63)
                    data[to + np.uint64(1)] = zigzag >> 6 & 255
                    data[to + np.uint64(2)] = zigzag >> 14
                    to += np.uint64(1) + bytes_more
                else:
                    break
                fell |= step
                before += step
                time += since
                place += np.uint64(1)
            falls |= fell < 0
            used = np.int64(to) - begin
            samples += np.int64(place) - i
            i = np.int64(place)
            if i == n:
                break
        whole, since = wholes[i], times[i] - time
        if i > 0 and since <= 0:
            return -1
        is_odd = odd_next == i
        bits: Any = odd_bits[odd] if is_odd else np.float64(whole / power).view(np.int64)
        value: Any = np.int64(bits).view(np.float64)
        if not is_raw:
            raw = np.float64(before / power).view(np.int64)
        last: Any = np.int64(raw).view(np.float64)
        size = 0
        if samples > 0 and used < room and samples < MOST_SAMPLES and 0 < since < _FARTHEST and times[i] - begun < _FARTHEST:
            place_ = chunk * UNIT_BYTES + HEADER_BYTES + used
            size, _ = put(data, place_, room - used, value, bits, last, raw, scale | CLOSED, since - delta, code)
            delta = since if size > 0 else delta
        below = not (value >= last) if known else value != value
        if size == 0:
            if samples > 0:
                _close(data, links, chunk, samples, used, time - begun, falls, scale)
            after: Any = chunk
            more: Any = np.int64(head.MOST_UNITS if known else 1)
            chunk = np.int64(units)
            units += more
            samples, used, room = np.int64(0), np.int64(0), np.int64(more * UNIT_BYTES - HEADER_BYTES)
            begun, delta, falls = np.int64(times[i]), np.int64(0), False
            arena[chunk * UNIT_WORDS] = begun
            links[2 * UNIT_WORDS * chunk + PREVIOUS] = after
            data[chunk * UNIT_BYTES + chunks.UNITS] = more
            if scale > 0:
                data[chunk * UNIT_BYTES + HEADER_BYTES], data[chunk * UNIT_BYTES + HEADER_BYTES + 1] = chunks.SCALE, scale
                used = np.int64(2)
            first = chunk * UNIT_BYTES + HEADER_BYTES + used
            if is_odd:
                size, _ = put(data, first, LONGEST, value, bits, 0.0, 0, scale | CLOSED, 0, code)
            else:
                size = _begin(data, first, whole << 1 ^ whole >> 63)
        used += size
        samples += 1
        falls |= below
        known = True
        before, time, is_raw, raw = whole, np.int64(times[i]), is_odd, bits
        odd += int(is_odd)
        i += 1
    if odd < len(odd_at):
        return -1
    _close(data, links, chunk, samples, used, time - begun, falls, scale)
    fields[series, head.TAIL], fields[series, head.DELTA] = chunk, delta
    fields[series, head.COUNT] += n
    state[series, head.LAST_TIME] = time
    state[series, head.LAST_BITS] = raw if is_raw else np.float64(before / power).view(np.int64)
    return int(units)


@njit(cache=True, nogil=True, error_model="numpy")
def _close(data: Any, links: Any, chunk: Any, samples: Any, used: Any, span: Any, falls: Any, scale: Any) -> None:
    """Say in its header what a chunk has by now."""
    at = chunk * UNIT_BYTES
    data[at + chunks.SAMPLES], data[at + chunks.USED], data[at + chunks.AT_SCALE] = samples, used, scale
    links[2 * UNIT_WORDS * chunk + SPAN] = span
    if falls:
        data[at + chunks.UNITS] |= FALLS


@njit(cache=True, nogil=True)
def chain(
    fields: Any, exceptions: Any, streams: Any, starts: Any, times: Any, begins: Any, wanted: Any, series: Any,
    samples: Any, state: Any, arena: Any, told: Any,
) -> int:  # fmt: skip
    """Add the rows `wanted` (int64[m], ascending) of a page to the chains of `series` (int64[m]) in `state` and `arena`, as `head.append`.

    They have so many `samples` together.
    `fields` and `exceptions` are `unfold`'s; the bases stand in the first of the `streams` (int64, end to end; stream k being
    `starts[k]:starts[k + 1]`; they are written over). Row `wanted[i]` has the `times` from `begins[wanted[i]]` on. `told` int64[1] is
    the units in use of the arena, which must have `head.MOST_UNITS` for each sample. Answers `DONE`, `UNSUITED` or `BROKEN`.
    """
    rows, many = len(fields), len(exceptions) // 2
    if starts[1] != rows:
        return BROKEN
    cursor, code, flat = starts.copy(), np.empty(LONGEST, np.uint8), np.empty(0, np.int64)
    for turn in range(2):
        # First it is asked whether all suit: what is begun has to be ended.
        cursor[:] = starts
        taken, at, left = 0, 0, samples
        for row in range(rows):
            field = fields[row]
            n, stream, odd = field[pages.COUNT], field[pages.STREAM], field[pages.EXCEPTIONS]
            streamed = field[pages.FORM] & 7 != CONSTANT
            if n < 1 or odd < 0 or odd > many - taken:
                return BROKEN
            if streamed and (not 0 < stream < len(starts) - 1 or n > starts[stream + 1] - cursor[stream]):
                return BROKEN
            if at < len(wanted) and wanted[at] == row:
                if turn == 0 and not _suits(field):
                    return UNSUITED
                if begins[row] < 0 or n > len(times) - begins[row] or n > left:
                    return BROKEN
                left -= n
                if turn == 1:
                    field[pages.BASE] = streams[row]
                    if not streamed and len(flat) < n:
                        flat = np.empty(n, np.int64)
                    wholes = streams[cursor[stream] : cursor[stream] + n] if streamed else flat[:n]
                    if not _wholes(field, wholes):
                        return BROKEN
                    odd_at, odd_bits = exceptions[taken : taken + odd], exceptions[many + taken : many + taken + odd]
                    its_times = times[begins[row] : begins[row] + n]
                    units = _add(series[at], field[pages.FORM] >> 4, wholes, odd_at, odd_bits, its_times, state, arena, told[0], code)
                    if units < 0:
                        return BROKEN
                    told[0] = units
                at += 1
            if streamed:
                cursor[stream] += n
            taken += odd
        if at < len(wanted) or left != 0:
            return BROKEN
    return DONE


@njit(cache=True, nogil=True, error_model="numpy")
def join(state: Any, arena: Any, units: int, later: Any, behind: Any, more: int) -> bool:
    """Put the chains of `later` (states as `state`) and `behind` (an arena, `more` units of it in use) behind those of `state` and `arena`.

    A chain of `later` that was begun when its slot `TAIL` was `-1 - series` goes on with the series' chain. There must be room for `more`
    units from `units` on. False where the samples of one are not newer than those there are: then what there is now is of no use.
    """
    fields, others = state.view(np.int32), later.view(np.int32)
    links, data, by = arena.view(np.int32), arena.view(np.uint8), units - 1
    times, found = np.empty(MOST_SAMPLES + 1, np.int64), np.empty(MOST_SAMPLES + 1, np.int64)
    arena[units * UNIT_WORDS : (units + more - 1) * UNIT_WORDS] = behind[UNIT_WORDS : more * UNIT_WORDS]
    chunk: Any = np.int64(units)
    while chunk < units + more - 1:
        before: Any = np.int64(links[2 * UNIT_WORDS * chunk + PREVIOUS])
        size: Any = np.int64(data[chunk * UNIT_BYTES + chunks.UNITS] & (FALLS - 1))
        if before >= 0:
            links[2 * UNIT_WORDS * chunk + PREVIOUS] = before + by
        else:
            series = int(-1 - before)
            tail = np.int64(fields[series, head.TAIL])
            links[2 * UNIT_WORDS * chunk + PREVIOUS] = tail
            if tail > 0:
                if arena[chunk * UNIT_WORDS] <= state[series, head.LAST_TIME]:
                    return False
                decode(arena, data, chunk, 1, np.int64(_LATEST), times, found, found.view(np.float64), 0)
                if not found.view(np.float64)[0] >= state.view(np.float64)[series, head.LAST_BITS]:
                    data[chunk * UNIT_BYTES + chunks.UNITS] |= FALLS
        chunk += size
    for series in range(len(state)):
        if others[series, head.COUNT] > 0:
            state[series, head.LAST_TIME], state[series, head.LAST_BITS] = later[series, head.LAST_TIME], later[series, head.LAST_BITS]
            fields[series, head.TAIL], fields[series, head.DELTA] = others[series, head.TAIL] + by, others[series, head.DELTA]
            fields[series, head.COUNT] += others[series, head.COUNT]
    return True
