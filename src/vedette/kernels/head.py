"""Samples in memory: chains of fixed-size chunks, one chain a series, in one arena.

A chunk is int64[32]: the chunk before it in its series (-1 for none), the newest timestamp in it, then 15 pairs of
timestamp and value bits. Chains are read from their newest end, so a query about now touches what is new. A series'
state is int64[8] (the slots below). Chunks and states of the generation before, which is being written to a block,
stand beside those of the present one, and are only read. Not here: locks, growth, the log (`storage/head.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

CHUNK_WORDS = 32
CHUNK_SAMPLES = 15

LAST_TIME, LAST_BITS, FIRST, TAIL, FILL, COUNT, UNSORTED, SCOPE = range(8)
"""Slots of a series' state. The first two outlive a generation; `SCOPE` is the log's scope that defines the series."""

NEVER = -(1 << 63)
"""`LAST_TIME` of a series without samples."""

KEPT, SAME, DUPLICATE, TOO_OLD, DROPPED, CHUNKS, DEFINED, OLDEST, NEWEST = range(9)
"""Slots of `tally`: samples logged, repeated, refused for each reason, chunks in use, series to define, the range kept."""


@njit(cache=True, nogil=True)
def _known(chunks: Any, state: Any, series: int, timestamp: int, bits: int) -> int:
    """Whether a series' chain holds a sample at `timestamp`: 0 no, 1 with the same bits, 2 with others."""
    chunk, n, in_order = state[series, TAIL], state[series, FILL], state[series, UNSORTED] == 0
    while chunk >= 0:
        if chunks[chunk, 1] >= timestamp:
            for i in range(n):
                if chunks[chunk, 2 + 2 * i] == timestamp:
                    return 1 if chunks[chunk, 3 + 2 * i] == bits else 2
        elif in_order:
            break
        chunk, n = chunks[chunk, 0], CHUNK_SAMPLES
    return 0


@njit(cache=True, nogil=True)
def _push(state: Any, series: int, chunks: Any, used: int, timestamp: int, bits: int) -> int:
    """Append one sample to the chain; answers how many chunks are in use. There must be a free one."""
    fill = state[series, FILL]
    tail = state[series, TAIL]
    if tail < 0 or fill == CHUNK_SAMPLES:
        chunks[used, 0] = tail
        chunks[used, 1] = timestamp
        if tail < 0:
            state[series, FIRST] = used
        state[series, TAIL] = tail = used
        used += 1
        fill = 0
    elif timestamp > chunks[tail, 1]:
        chunks[tail, 1] = timestamp
    chunks[tail, 2 + 2 * fill] = timestamp
    chunks[tail, 3 + 2 * fill] = bits
    state[series, FILL] = fill + 1
    state[series, COUNT] += 1
    return used


@njit(cache=True, nogil=True)
def append(
    ids: Any,
    offsets: Any,
    timestamps: Any,
    bits: Any,
    state: Any,
    chunks: Any,
    old_state: Any,
    old_chunks: Any,
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
    state lacks `scope` to `defined` uint32[n]. `tally` int64[9] is added to. The arena must have a chunk for each sample.
    """
    kept, used, new = tally[KEPT], tally[CHUNKS], tally[DEFINED]
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
            if timestamp > last:
                state[series, LAST_TIME] = timestamp
                state[series, LAST_BITS] = value
            elif timestamp == last and last != NEVER:
                tally[SAME if state[series, LAST_BITS] == value else DUPLICATE] += 1
                continue
            elif timestamp < last:
                # Compared this way round, since last - timestamp may overflow.
                if last >= NEVER + window and timestamp < last - window:
                    tally[TOO_OLD] += 1
                    continue
                known = _known(chunks, state, series, timestamp, value)
                if known == 0 and series < len(old_state):
                    known = _known(old_chunks, old_state, series, timestamp, value)
                if known != 0:
                    tally[SAME if known == 1 else DUPLICATE] += 1
                    continue
                state[series, UNSORTED] = 1
            used = _push(state, series, chunks, used, timestamp, value)
            if state[series, SCOPE] != scope:
                state[series, SCOPE] = scope
                defined[new] = series
                new += 1
            log_ids[kept] = series
            log_times[kept] = timestamp
            log_bits[kept] = value
            kept += 1
            tally[OLDEST] = min(tally[OLDEST], timestamp)
            tally[NEWEST] = max(tally[NEWEST], timestamp)
    tally[KEPT], tally[CHUNKS], tally[DEFINED] = kept, used, new


@njit(cache=True, nogil=True)
def bound(ids: Any, state: Any, old_state: Any) -> int:
    """How many samples the series `ids` (int64[n]) have at most, both generations together."""
    total = 0
    for row in range(len(ids)):
        if ids[row] < len(state):
            total += state[ids[row], COUNT]
        if ids[row] < len(old_state):
            total += old_state[ids[row], COUNT]
    return total


@njit(cache=True, nogil=True)
def _count_chain(state: Any, series: int, chunks: Any, start: int, end: int) -> int:
    """How many samples of the chain, which is not empty, lie in [start, end]."""
    in_order, tail = state[series, UNSORTED] == 0, state[series, TAIL]
    if in_order and chunks[tail, 1] <= end and chunks[state[series, FIRST], 2] >= start:
        return int(state[series, COUNT])
    count, chunk, n = 0, tail, state[series, FILL]
    while chunk >= 0:
        if chunks[chunk, 1] >= start:
            if in_order and chunks[chunk, 2] >= start and chunks[chunk, 1] <= end:
                count += n
            else:
                for i in range(n):
                    if start <= chunks[chunk, 2 + 2 * i] <= end:
                        count += 1
        elif in_order:
            break
        chunk, n = chunks[chunk, 0], CHUNK_SAMPLES
    return count


@njit(cache=True, nogil=True)
def _copy_chain(state: Any, series: int, chunks: Any, start: int, end: int, at: int, out_times: Any, out_bits: Any) -> int:
    """Copy the chain's samples in [start, end] to `out` from `at` on, in the order they came; answers the next place."""
    after = at + _count_chain(state, series, chunks, start, end)
    place, chunk, n = after, state[series, TAIL], state[series, FILL]
    # From the end backwards, until all that was counted is there.
    while place > at:
        if chunks[chunk, 1] >= start:
            if place - n >= at and chunks[chunk, 1] <= end and state[series, UNSORTED] == 0 and chunks[chunk, 2] >= start:
                place -= n
                for i in range(n):
                    out_times[place + i] = chunks[chunk, 2 + 2 * i]
                    out_bits[place + i] = chunks[chunk, 3 + 2 * i]
            else:
                for i in range(n - 1, -1, -1):
                    if start <= chunks[chunk, 2 + 2 * i] <= end:
                        place -= 1
                        out_times[place] = chunks[chunk, 2 + 2 * i]
                        out_bits[place] = chunks[chunk, 3 + 2 * i]
        chunk, n = chunks[chunk, 0], CHUNK_SAMPLES
    return after


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
    chunks: Any,
    old_state: Any,
    old_chunks: Any,
    start: int,
    end: int,
    out_offsets: Any,
    out_times: Any,
    out_bits: Any,
) -> None:
    """The samples of series `ids` (int64[n]) in [start, end] as CSR: `out_offsets` int64[n + 1], strictly increasing times a row.

    `out_times` and `out_bits` (int64) must hold what `bound` answered.
    """
    at = 0
    out_offsets[0] = 0
    for row in range(len(ids)):
        series, begin, chains = ids[row], at, 0
        if series < len(old_state) and old_state[series, COUNT] > 0:
            at = _copy_chain(old_state, series, old_chunks, start, end, at, out_times, out_bits)
            chains += 1 + old_state[series, UNSORTED]
        if series < len(state) and state[series, COUNT] > 0:
            at = _copy_chain(state, series, chunks, start, end, at, out_times, out_bits)
            chains += 1 + state[series, UNSORTED]
        if chains > 1:
            at = ensure_increasing(out_times, out_bits, begin, at)
        out_offsets[row + 1] = at


@njit(cache=True, nogil=True)
def present(ids: Any, state: Any, chunks: Any, old_state: Any, old_chunks: Any, start: int, end: int, out: Any) -> None:
    """`out` bool[n]: whether series `ids` (int64[n]) have a sample in [start, end]."""
    for row in range(len(ids)):
        series = ids[row]
        out[row] = series < len(state) and state[series, COUNT] > 0 and _count_chain(state, series, chunks, start, end) > 0
        if not out[row] and series < len(old_state) and old_state[series, COUNT] > 0:
            out[row] = _count_chain(old_state, series, old_chunks, start, end) > 0


@njit(cache=True, nogil=True)
def begin_generation(state: Any) -> None:
    """Empty all chains of `state`, whose chunks have moved to the generation before."""
    for series in range(len(state)):
        state[series, FIRST] = -1
        state[series, TAIL] = -1
        state[series, FILL] = 0
        state[series, COUNT] = 0
        state[series, UNSORTED] = 0
