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
    FALLS,
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

_UNITS = FALLS - 1
_FARTHEST = (1 << 31) - 1
_LATEST = (1 << 63) - 1


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
            for i in range(abs(decode(arena, data, chunk, _held(data, chunk), _LATEST, times, found, values, 0))):
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
                n = abs(decode(arena, data, chunk, _held(data, chunk), _LATEST, times, found, found_values, 0))
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
                        place, room = (
                            at + HEADER_BYTES + used,
                            UNIT_BYTES * np.int64(data[at + chunks.UNITS] & _UNITS) - HEADER_BYTES - used,
                        )
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
            if not (values[j] >= before or (last == NEVER and values[j] == values[j])):
                data[at + chunks.UNITS] |= FALLS
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
def _take(
    chain: Any,
    in_order: bool,
    arena: Any,
    links: Any,
    data: Any,
    start: int,
    end: int,
    windows: Any,
    resume: int,
    room: Any,
    times: Any,
    bits: Any,
    values: Any,
) -> tuple[Any, Any, bool]:
    """Copy what windows want of a chain's samples in [start, end] to the end of `times[lo:hi]` (`bits`); answers (where that begins,
    the chain to go on with, whether there may be stale markers), -1 for the first where there is no room.

    A chain is (its newest chunk, how many samples of that count, the time of the newest of these). `windows` are (first, step, n,
    range): `(t - range, t]`, t = first + k * step for k < n; or of n 1 just [start, end]. To go on with is the newest chunk that has a
    sample up to `resume`. `room` is (lo, hi). What is not `in_order` comes in no order. `links` and `data` are the arena's int32s and
    bytes, `values` the `bits` as float64.
    """
    chunk, count, last = chain
    first, step, n, range_ms = windows
    lo, stop = room
    k: Any = np.int64(n - 1)
    place: Any = np.int64(stop)
    further = chain
    found, doubtful = False, False
    # From the newest sample backwards, so that nobody has to count before.
    while chunk > 0:
        oldest: Any = arena[chunk * UNIT_WORDS]
        # The one that comes next is looked at now: it is here when this one has been read.
        before = np.int64(links[2 * UNIT_WORDS * chunk + PREVIOUS])
        before_last, before_count = np.int64(_newest(arena, links, before)), np.int64(_held(data, before))
        if not found and oldest <= resume:
            further, found = (chunk, count, last), True
        if last < start:
            if in_order:
                break
        elif not in_order:
            if place - count < lo:
                return np.int64(-1), further, doubtful
            place -= count
            doubtful |= decode(arena, data, chunk, count, np.int64(_LATEST), times, bits, values, place) < 0
        elif oldest <= end:
            until = np.int64(end)
            if n > 1:
                # The end of the last window that begins before the chunk's newest sample: the others want nothing of it.
                while k >= 0 and first + k * step - range_ms >= last:
                    k -= 1
                until = first + k * step if k >= 0 else np.int64(NEVER)
            if until >= oldest:
                begin = place - count
                if begin < lo:
                    return np.int64(-1), further, doubtful
                read = decode(arena, data, chunk, count, until, times, bits, values, begin)
                doubtful |= read < 0
                upto = begin + abs(read)
                if last > until:
                    while upto > begin and times[upto - 1] > until:
                        upto -= 1
                    begin += _to_the_right(times, bits, begin, upto, place)
                if oldest < start:
                    while begin < place and times[begin] < start:
                        begin += 1
                place = begin
        chunk, last, count = before, before_last, before_count
    if not found:
        further = (chunk, count, last)
    if not in_order:
        to: Any = np.int64(stop)
        for i in range(stop - 1, place - 1, -1):
            if start <= times[i] <= end:
                to -= 1
                times[to], bits[to] = times[i], bits[i]
        place = to
    return place, further, doubtful


@njit(cache=True, nogil=True)
def _to_the_right(times: Any, bits: Any, lo: Any, hi: Any, end: Any) -> Any:
    """Move the samples [lo, hi) so that they end at `end`; answers by how much."""
    by = end - hi
    for i in range(hi - 1, lo - 1 if by else hi - 1, -1):
        times[i + by], bits[i + by] = times[i], bits[i]
    return by


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
def _ascending(times: Any, bits: Any, lo: Any, hi: Any) -> Any:
    """As `ensure_increasing`, but what is left ends at `hi`; answers where it begins."""
    return lo + _to_the_right(times, bits, lo, np.int64(ensure_increasing(times, bits, lo, hi)), hi)


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

    They are the last of `out_times` and `out_bits` (int64), which must hold what `bound` answered.
    """
    fields, links, data = state.view(np.int32), arena.view(np.int32), arena.view(np.uint8)
    old_fields, old_links, old_data = old_state.view(np.int32), old_arena.view(np.int32), old_arena.view(np.uint8)
    values = out_bits.view(np.float64)
    all_of_it = (np.int64(end), np.int64(0), np.int64(1), np.int64(0))
    place: Any = np.int64(len(out_times))
    out_offsets[len(ids)] = place
    for row in range(len(ids) - 1, -1, -1):
        series, stop, chains = ids[row], place, 0
        if series < len(state) and fields[series, COUNT] > 0:
            tail = np.int64(fields[series, TAIL])
            chain = (tail, _held(data, tail), np.int64(_newest(arena, links, tail)))
            ordered = fields[series, DELTA] != LATE
            place, _, _ = _take(
                chain, ordered, arena, links, data, start, end, all_of_it, NEVER, (np.int64(0), place), out_times, out_bits, values
            )
            chains += 2 - int(ordered)
        if series < len(old_state) and old_fields[series, COUNT] > 0:
            tail = np.int64(old_fields[series, TAIL])
            chain = (tail, _held(old_data, tail), np.int64(_newest(old_arena, old_links, tail)))
            ordered = old_fields[series, DELTA] != LATE
            place, _, _ = _take(
                chain,
                ordered,
                old_arena,
                old_links,
                old_data,
                start,
                end,
                all_of_it,
                NEVER,
                (np.int64(0), place),
                out_times,
                out_bits,
                values,
            )
            chains += 2 - int(ordered)
        if chains > 1:
            place = _ascending(out_times, out_bits, place, stop)
        out_offsets[row] = place


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
                for i in range(abs(decode(arena, data, chunk, _held(data, chunk), _LATEST, times, bits, values, 0))):
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
    ids: Any, state: Any, arena: Any, old_state: Any, old_arena: Any, start: int, end: int, tails: Any, held: Any, newest: Any,
    old_tails: Any, there: Any, counts: Any,
) -> bool:  # fmt: skip
    """Where the samples of series `ids` (int64[n]) are now, for `gather_surveyed`, while more are being written.

    Fills `tails`, `held`, `newest` (int64[n]): the newest chunk (0: none), how many samples it holds, the time of the last; `old_tails`
    (int64[n]): the newest chunk of the generation before; `there` (bool[n]): whether the series has samples in [start, end]; and
    `counts` (int64[n]): how many it has, of whatever time. False where a chain has samples that came late.
    """
    fields, data, old_fields = state.view(np.int32), arena.view(np.uint8), old_state.view(np.int32)
    times, bits = np.empty(MOST_SAMPLES + 1, np.int64), np.empty(MOST_SAMPLES + 1, np.int64)
    for row in range(len(ids)):
        series = ids[row]
        tails[row], held[row], newest[row], old_tails[row], there[row], counts[row] = 0, 0, NEVER, 0, False, 0
        if series < len(old_state) and old_fields[series, COUNT] > 0:
            if old_fields[series, DELTA] == LATE:
                return False
            old_tails[row], counts[row] = old_fields[series, TAIL], old_fields[series, COUNT]
            there[row] = _any_within(old_fields, series, old_arena, start, end, times, bits)
        if series < len(state) and fields[series, COUNT] > 0:
            if fields[series, DELTA] == LATE:
                return False
            tail = np.int64(fields[series, TAIL])
            counts[row] += fields[series, COUNT]
            # Of a chain in order, the newest sample of all is its last.
            tails[row], held[row], newest[row] = tail, _held(data, tail), state[series, LAST_TIME]
            there[row] = there[row] or start <= newest[row] <= end or _any_within(fields, series, arena, start, end, times, bits)
    return True


@njit(cache=True, nogil=True)
def gather_surveyed(
    tails: Any,
    held: Any,
    newest: Any,
    old_tails: Any,
    arena: Any,
    old_arena: Any,
    first: int,
    step: int,
    n: int,
    range_ms: int,
    resume: int,
    out_offsets: Any,
    out_times: Any,
    out_bits: Any,
) -> int:
    """As `gather`, of what `survey` found: chunks written to since then still begin with what they held then.

    Samples that none of the windows `(t - range_ms, t]`, t = first + k * step for k < n, wants may be left out. With a `resume` above
    `NEVER`, what was found is set to what a read up to that time needs. Answers whether there may be stale markers (1 or 0), and
    -1 where the room does not suffice; then nothing is set.
    """
    links, data = arena.view(np.int32), arena.view(np.uint8)
    old_links, old_data = old_arena.view(np.int32), old_arena.view(np.uint8)
    values = out_bits.view(np.float64)
    windows = (np.int64(first), np.int64(step), np.int64(n), np.int64(range_ms))
    start, end = first - range_ms + 1, first + (n - 1) * step
    place: Any = np.int64(len(out_times))
    doubtful = False
    out_offsets[len(tails)] = place
    for row in range(len(tails) - 1, -1, -1):
        stop, chains = place, 0
        further = (np.int64(0), np.int64(0), np.int64(NEVER))
        if tails[row] > 0:
            chain = (tails[row], held[row], newest[row])
            place, further, odd = _take(
                chain, True, arena, links, data, start, end, windows, resume, (np.int64(0), place), out_times, out_bits, values
            )
            if place < 0:
                return -1
            doubtful |= odd
            chains += 1
        old_tail = old_tails[row]
        if old_tail > 0:
            chain = (old_tail, _held(old_data, old_tail), np.int64(_newest(old_arena, old_links, old_tail)))
            place, old_further, odd = _take(
                chain, True, old_arena, old_links, old_data, start, end, windows, resume, (np.int64(0), place), out_times, out_bits, values
            )
            if place < 0:
                return -1
            doubtful |= odd
            chains += 1
            old_tail = old_further[0]
        if resume > NEVER:
            tails[row], held[row], newest[row] = further
            old_tails[row] = old_tail
        if chains > 1:
            place = _ascending(out_times, out_bits, place, stop)
        out_offsets[row] = place
    return int(doubtful)
