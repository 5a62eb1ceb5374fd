"""Samples in memory: chains of chunks (`chunks.py`), one chain a series, in one arena.

Chains are read from their newest end: a query about now touches what is new. A series' state is int64[4] (the slots
below, the last four of which are int32). Chunks and states of the generation before, which is being written to a block,
stand beside those of the present one, and are only read. Not here: locks, growth, the log (`storage/head.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels import chunks
from vedette.kernels.chunks import (
    CLOSED,
    HEADER_BYTES,
    LONGEST,
    MOST_SAMPLES,
    PREVIOUS,
    SPAN,
    UNIT_BYTES,
    UNIT_WORDS,
    decode,
    put,
    put_short,
    short,
)

STATE_WORDS = 4
LAST_TIME, LAST_BITS = 0, 1
"""Slots of a series' state; they outlive a generation. Of a series that never had late samples they are its newest sample."""
TAIL, COUNT, DELTA, SCOPE = 4, 5, 6, 7
"""Slots of the state as int32[8]: the newest chunk (0: none), the samples of the chain, how far its last two lie apart (0 where that
says nothing, `LATE` where they do not ascend), the log's scope that defines the series."""

LATE = -1
NEVER = -(1 << 63)
"""`LAST_TIME` of a series without samples."""

MOST_UNITS = 2
"""No sample needs more new units than this."""

KEPT, SAME, DUPLICATE, TOO_OLD, DROPPED, UNITS, CHUNKS, DEFINED, OLDEST, NEWEST = range(10)
"""Slots of `tally`: samples logged, repeated, refused for each reason, units and chunks in use, series to define, the range kept."""

_FARTHEST = (1 << 31) - 1


@njit(cache=True, nogil=True)
def _newest(arena: Any, links: Any, chunk: Any) -> int:
    """The time of a chunk's newest sample."""
    return int(arena[chunk * UNIT_WORDS] + links[2 * UNIT_WORDS * chunk + SPAN])


@njit(cache=True, nogil=True)
def _held(data: Any, chunk: Any) -> Any:
    """How many samples a chunk has."""
    return np.int64(data[chunk * UNIT_BYTES + chunks.SAMPLES])


@njit(cache=True, nogil=True)
def _known(arena: Any, state: Any, series: int, timestamp: int, bits: int, times: Any, found: Any) -> int:
    """Whether a series' chain holds a sample at `timestamp`: 0 no, 1 with the same bits, 2 with others. `times`, `found`: int64[256]."""
    links, data, fields, values = arena.view(np.int32), arena.view(np.uint8), state.view(np.int32), found.view(np.float64)
    chunk, in_order = fields[series, TAIL], fields[series, DELTA] != LATE
    while chunk > 0:
        if _newest(arena, links, chunk) >= timestamp:
            for i in range(decode(arena, data, chunk, _held(data, chunk), times, found, values, 0)):
                if times[i] == timestamp:
                    return 1 if found[i] == bits else 2
        elif in_order:
            break
        chunk = links[2 * UNIT_WORDS * chunk + PREVIOUS]
    return 0


@njit(cache=True, nogil=True)
def append(
    ids: Any,
    offsets: Any,
    timestamps: Any,
    bits: Any,
    state: Any,
    arena: Any,
    old_state: Any,
    old_arena: Any,
    window: int,
    oldest: int,
    scope: int,
    log_ids: Any,
    log_times: Any,
    log_bits: Any,
    defined: Any,
    tally: Any,
) -> None:
    """Take the samples of rows `ids` (int64[n], below 0: dropped), `offsets` int64[n + 1] into `timestamps` and `bits` (int64).

    A sample newer than its series' newest is kept; one at the same time is a repetition (same bits) or a duplicate;
    an older one is kept within `window` ms of the newest unless the chain has its time. One before `oldest` is too old.
    What is kept is copied to `log_ids` uint32, `log_times`, `log_bits` int64 (as many as samples), and the series whose
    state lacks `scope` (int32) to `defined` uint32[n]. `tally` int64[10] is added to. The arena must have `MOST_UNITS` for each sample.
    """
    kept, units, new = tally[KEPT], tally[UNITS], tally[DEFINED]
    links, data, fields = arena.view(np.int32), arena.view(np.uint8), state.view(np.int32)
    values, last_values = bits.view(np.float64), state.view(np.float64)
    code, times, found = np.empty(LONGEST, np.uint8), np.empty(MOST_SAMPLES + 1, np.int64), np.empty(MOST_SAMPLES + 1, np.int64)
    found_values = found.view(np.float64)
    for row in range(len(ids)):
        series = ids[row]
        lo, hi = offsets[row], offsets[row + 1]
        if series < 0:
            tally[DROPPED] += hi - lo
            continue
        for j in range(lo, hi):
            timestamp, value = timestamps[j], bits[j]
            last = state[series, LAST_TIME]
            if timestamp < oldest:
                tally[TOO_OLD] += 1
                continue
            if timestamp == last and last != NEVER:
                tally[SAME if state[series, LAST_BITS] == value else DUPLICATE] += 1
                continue
            if timestamp < last:
                # Compared this way round, since last - timestamp may overflow.
                if last >= NEVER + window and timestamp < last - window:
                    tally[TOO_OLD] += 1
                    continue
                known = _known(arena, state, series, timestamp, value, times, found)
                if known == 0 and series < len(old_state):
                    known = _known(old_arena, old_state, series, timestamp, value, times, found)
                if known != 0:
                    tally[SAME if known == 1 else DUPLICATE] += 1
                    continue
            chunk: Any = np.int64(fields[series, TAIL])
            before_delta: Any = np.int64(fields[series, DELTA])
            late = before_delta == LATE or timestamp < last
            before_time, before_bits, before = last, state[series, LAST_BITS], last_values[series, LAST_BITS]
            if late and chunk > 0:
                # What came last is not what is newest: the chunk knows it.
                n = decode(arena, data, chunk, _held(data, chunk), times, found, found_values, 0)
                before_time, before_bits, before = times[n - 1], found[n - 1], found_values[n - 1]
                before_delta = times[n - 1] - times[n - 2] if n > 1 else 0
            fits = False
            delta: Any = np.int64(0)
            used: Any = np.int64(0)
            scale: Any = np.int64(0)
            if chunk > 0:
                at = chunk * UNIT_BYTES
                first = arena[chunk * UNIT_WORDS]
                delta = timestamp - before_time
                # Beyond what 32 bits hold (and where the difference overflowed), a chunk begins anew.
                if -_FARTHEST < delta < _FARTHEST and (timestamp > before_time) == (delta > 0) and data[at + chunks.SAMPLES] < MOST_SAMPLES:
                    span = timestamp - first
                    if timestamp <= first or 0 < span < _FARTHEST:
                        used, scale = np.int64(data[at + chunks.USED]), np.int64(data[at + chunks.AT_SCALE])
                        place, room = at + HEADER_BYTES + used, UNIT_BYTES * np.int64(data[at + chunks.UNITS]) - HEADER_BYTES - used
                        bend, zigzag = delta - before_delta, -1
                        # Nearly all are short.
                        if bend == 0 and room >= 3 and scale < CLOSED:
                            zigzag = short(values[j], value, before, scale)
                        if zigzag >= 0:
                            size = put_short(data, place, zigzag)
                        else:
                            size, scale = put(data, place, room, values[j], value, before, before_bits, scale, bend, code)
                        if size > 0:
                            fits = True
                            data[at + chunks.SAMPLES] += 1
                            if timestamp > first and span > links[2 * UNIT_WORDS * chunk + SPAN]:
                                links[2 * UNIT_WORDS * chunk + SPAN] = span
            if not fits:
                after, chunk = chunk, units
                at, used, delta = chunk * UNIT_BYTES, 0, 0
                # A series has one unit to begin with, for many have few samples.
                more = 1 if after == 0 else MOST_UNITS
                units += more
                tally[CHUNKS] += 1
                size, scale = put(data, at + HEADER_BYTES, LONGEST, values[j], value, 0.0, 0, 0, 0, code)
                arena[chunk * UNIT_WORDS] = timestamp
                links[2 * UNIT_WORDS * chunk + PREVIOUS] = after
                links[2 * UNIT_WORDS * chunk + SPAN] = 0
                data[at + chunks.SAMPLES], data[at + chunks.UNITS] = 1, more
                fields[series, TAIL] = chunk
            data[at + chunks.USED], data[at + chunks.AT_SCALE] = used + size, scale
            fields[series, COUNT] += 1
            fields[series, DELTA] = LATE if late else delta
            if timestamp > last or last == NEVER:
                state[series, LAST_TIME] = timestamp
                state[series, LAST_BITS] = value
            if fields[series, SCOPE] != scope:
                fields[series, SCOPE] = scope
                defined[new] = series
                new += 1
            log_ids[kept] = series
            log_times[kept] = timestamp
            log_bits[kept] = value
            kept += 1
            tally[OLDEST] = min(tally[OLDEST], timestamp)
            tally[NEWEST] = max(tally[NEWEST], timestamp)
    tally[KEPT], tally[UNITS], tally[DEFINED] = kept, units, new


@njit(cache=True, nogil=True)
def bound(ids: Any, state: Any, old_state: Any) -> int:
    """How many samples the series `ids` (int64[n]) have at most, both generations together."""
    fields, old_fields = state.view(np.int32), old_state.view(np.int32)
    total = 0
    for row in range(len(ids)):
        if ids[row] < len(state):
            total += fields[ids[row], COUNT]
        if ids[row] < len(old_state):
            total += old_fields[ids[row], COUNT]
    return total


@njit(cache=True, nogil=True)
def _copy_chain(
    tail: Any,
    held: Any,
    newest: Any,
    total: Any,
    in_order: bool,
    arena: Any,
    links: Any,
    data: Any,
    start: int,
    end: int,
    at: int,
    times: Any,
    bits: Any,
    values: Any,
) -> int:
    """Copy a chain's samples in [start, end] to `times` and `bits` from `at` on; answers the end of what was copied.

    Its newest chunk is `tail`, of which the first `held` samples count, the newest of them at `newest`; it has `total` samples, for which
    there must be room. What is not `in_order` comes in no order. `links` and `data` are the arena's int32s and bytes, `values` the `bits`
    as float64.
    """
    whole = True
    # From the end of the room backwards, so that nobody has to count before.
    stop: Any = np.int64(at + total)
    place: Any = stop
    chunk: Any = np.int64(tail)
    last: Any = np.int64(newest)
    count: Any = np.int64(held)
    while chunk > 0:
        first = arena[chunk * UNIT_WORDS]
        # The one that comes next is looked at now: it is here when this one has been read.
        before = np.int64(links[2 * UNIT_WORDS * chunk + PREVIOUS])
        before_last, before_count = np.int64(_newest(arena, links, before)), np.int64(_held(data, before))
        if last < start:
            if in_order:
                break
        elif not in_order or first <= end:
            whole = whole and first >= start and last <= end
            place -= count
            decode(arena, data, chunk, count, times, bits, values, place)
        chunk, last, count = before, before_last, before_count
    if in_order and not whole:
        while place < stop and times[place] < start:
            place += 1
        while stop > place and times[stop - 1] > end:
            stop -= 1
    if in_order:
        for i in range(stop - place if place > at else 0):
            times[at + i], bits[at + i] = times[place + i], bits[place + i]
        return int(at + stop - place)
    to: Any = np.int64(at)
    for i in range(place, stop):
        if start <= times[i] <= end:
            times[to], bits[to] = times[i], bits[i]
            to += 1
    return int(to)


@njit(cache=True, nogil=True)
def _copy_series(
    fields: Any, series: int, arena: Any, links: Any, data: Any, start: int, end: int, at: int, times: Any, bits: Any, values: Any
) -> int:
    """Copy a series' samples in [start, end], all that there are now, as `_copy_chain` does."""
    tail, total = np.int64(fields[series, TAIL]), np.int64(fields[series, COUNT])
    held, newest = _held(data, tail), np.int64(_newest(arena, links, tail))
    in_order = fields[series, DELTA] != LATE
    return _copy_chain(tail, held, newest, total, in_order, arena, links, data, start, end, at, times, bits, values)


@njit(cache=True, nogil=True)
def sort_row(times: Any, bits: Any, lo: int, hi: int) -> int:
    """Sort `times[lo:hi]` and `bits` with it, of equal times keep the first; answers the new end."""
    n = hi - lo
    src_t, src_b = times[lo:hi].copy(), bits[lo:hi].copy()
    dst_t, dst_b = np.empty(n, times.dtype), np.empty(n, bits.dtype)
    width = 1
    while width < n:
        for left in range(0, n, 2 * width):
            mid, right = min(left + width, n), min(left + 2 * width, n)
            i, j = left, mid
            for k in range(left, right):
                if i < mid and (j >= right or src_t[i] <= src_t[j]):
                    dst_t[k], dst_b[k] = src_t[i], src_b[i]
                    i += 1
                else:
                    dst_t[k], dst_b[k] = src_t[j], src_b[j]
                    j += 1
        src_t, dst_t = dst_t, src_t
        src_b, dst_b = dst_b, src_b
        width *= 2
    at = lo
    for k in range(n):
        if k == 0 or src_t[k] != src_t[k - 1]:
            times[at], bits[at] = src_t[k], src_b[k]
            at += 1
    return at


@njit(cache=True, nogil=True)
def ensure_increasing(times: Any, bits: Any, lo: int, hi: int) -> int:
    """Make `times[lo:hi]` strictly increasing (of equal times the first stays); answers the new end."""
    for i in range(lo + 1, hi):
        if times[i] <= times[i - 1]:
            return sort_row(times, bits, lo, hi)
    return hi


@njit(cache=True, nogil=True)
def gather(
    ids: Any,
    state: Any,
    arena: Any,
    old_state: Any,
    old_arena: Any,
    start: int,
    end: int,
    out_offsets: Any,
    out_times: Any,
    out_bits: Any,
) -> None:
    """The samples of series `ids` (int64[n]) in [start, end] as CSR: `out_offsets` int64[n + 1], strictly increasing times a row.

    `out_times` and `out_bits` (int64) must hold what `bound` answered.
    """
    fields, links, data = state.view(np.int32), arena.view(np.int32), arena.view(np.uint8)
    old_fields, old_links, old_data = old_state.view(np.int32), old_arena.view(np.int32), old_arena.view(np.uint8)
    out_values = out_bits.view(np.float64)
    at = 0
    out_offsets[0] = 0
    for row in range(len(ids)):
        series, begin, chains = ids[row], at, 0
        if series < len(old_state) and old_fields[series, COUNT] > 0:
            at = _copy_series(old_fields, series, old_arena, old_links, old_data, start, end, at, out_times, out_bits, out_values)
            chains += 1 + int(old_fields[series, DELTA] == LATE)
        if series < len(state) and fields[series, COUNT] > 0:
            at = _copy_series(fields, series, arena, links, data, start, end, at, out_times, out_bits, out_values)
            chains += 1 + int(fields[series, DELTA] == LATE)
        if chains > 1:
            at = ensure_increasing(out_times, out_bits, begin, at)
        out_offsets[row + 1] = at


@njit(cache=True, nogil=True)
def _any_within(fields: Any, series: int, arena: Any, start: int, end: int, times: Any, bits: Any) -> bool:
    """Whether the chain has a sample in [start, end]. `times` and `bits`: int64[256]."""
    links, data, values = arena.view(np.int32), arena.view(np.uint8), bits.view(np.float64)
    in_order = fields[series, DELTA] != LATE
    chunk: Any = np.int64(fields[series, TAIL])
    while chunk > 0:
        newest = _newest(arena, links, chunk)
        if newest >= start:
            if newest <= end or start <= arena[chunk * UNIT_WORDS] <= end:
                return True
            if not in_order or arena[chunk * UNIT_WORDS] < start:
                for i in range(decode(arena, data, chunk, _held(data, chunk), times, bits, values, 0)):
                    if start <= times[i] <= end:
                        return True
        elif in_order:
            break
        chunk = np.int64(links[2 * UNIT_WORDS * chunk + PREVIOUS])
    return False


@njit(cache=True, nogil=True)
def present(ids: Any, state: Any, arena: Any, old_state: Any, old_arena: Any, start: int, end: int, out: Any) -> None:
    """`out` bool[n]: whether series `ids` (int64[n]) have a sample in [start, end]."""
    fields, old_fields = state.view(np.int32), old_state.view(np.int32)
    times, bits = np.empty(MOST_SAMPLES + 1, np.int64), np.empty(MOST_SAMPLES + 1, np.int64)
    for row in range(len(ids)):
        series = ids[row]
        out[row] = series < len(state) and fields[series, COUNT] > 0 and _any_within(fields, series, arena, start, end, times, bits)
        if not out[row] and series < len(old_state) and old_fields[series, COUNT] > 0:
            out[row] = _any_within(old_fields, series, old_arena, start, end, times, bits)


@njit(cache=True, nogil=True)
def survey(
    ids: Any, state: Any, arena: Any, old_state: Any, old_arena: Any, start: int, end: int, tails: Any, held: Any, newest: Any, there: Any
) -> bool:
    """Where the samples of series `ids` (int64[n]) are now, for `gather_surveyed`, while more are being written.

    Fills `tails`, `held`, `newest` (int64[n]): the newest chunk (0: none), how many samples it holds, the time of the last; and `there`
    (bool[n]): whether the series has samples in [start, end]. False where a chain has samples that came late.
    """
    fields, data, old_fields = state.view(np.int32), arena.view(np.uint8), old_state.view(np.int32)
    times, bits = np.empty(MOST_SAMPLES + 1, np.int64), np.empty(MOST_SAMPLES + 1, np.int64)
    for row in range(len(ids)):
        series = ids[row]
        tails[row], held[row], newest[row], there[row] = 0, 0, NEVER, False
        if series < len(old_state) and old_fields[series, COUNT] > 0:
            if old_fields[series, DELTA] == LATE:
                return False
            there[row] = _any_within(old_fields, series, old_arena, start, end, times, bits)
        if series < len(state) and fields[series, COUNT] > 0:
            if fields[series, DELTA] == LATE:
                return False
            tail = np.int64(fields[series, TAIL])
            # Of a chain in order, the newest sample of all is its last.
            tails[row], held[row], newest[row] = tail, _held(data, tail), state[series, LAST_TIME]
            there[row] = there[row] or start <= newest[row] <= end or _any_within(fields, series, arena, start, end, times, bits)
    return True


@njit(cache=True, nogil=True)
def gather_surveyed(
    ids: Any,
    tails: Any,
    held: Any,
    newest: Any,
    upto: Any,
    arena: Any,
    old_state: Any,
    old_arena: Any,
    start: int,
    end: int,
    out_offsets: Any,
    out_times: Any,
    out_bits: Any,
) -> None:
    """As `gather`, of what `survey` found, all int64[n]: chunks written to since then still begin with what they held then.

    `upto` int64[n + 1] tells how many samples the rows before each have, however many of them are asked for.
    """
    links, data = arena.view(np.int32), arena.view(np.uint8)
    old_fields, old_links, old_data = old_state.view(np.int32), old_arena.view(np.int32), old_arena.view(np.uint8)
    out_values = out_bits.view(np.float64)
    at = 0
    out_offsets[0] = 0
    for row in range(len(ids)):
        series, begin, chains, total = ids[row], at, 0, upto[row + 1] - upto[row]
        if series < len(old_state) and old_fields[series, COUNT] > 0:
            at = _copy_series(old_fields, series, old_arena, old_links, old_data, start, end, at, out_times, out_bits, out_values)
            chains += 1
            total -= old_fields[series, COUNT]
        if tails[row] > 0:
            tail = tails[row], held[row], newest[row]
            at = _copy_chain(*tail, total, True, arena, links, data, start, end, at, out_times, out_bits, out_values)
            chains += 1
        if chains > 1:
            at = ensure_increasing(out_times, out_bits, begin, at)
        out_offsets[row + 1] = at
