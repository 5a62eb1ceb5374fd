"""The few samples that rates over long windows need: those at the windows' borders, and those where a counter falls.

And those that a selector needs at steps that lie far apart: the last one up to each.

A chunk knows whether a sample in it is below the one before (`chunks.FALLS`). Of one that does not fall and that no window begins or
ends in, nothing is needed but how many samples it has, and nothing is decoded. Each sample that is kept stands for those between it
and the next one, as in rollups. Not here: what is made of them (`rollup.weighted`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels import chunks
from vedette.kernels.chunks import FALLS, MOST_SAMPLES, PREVIOUS, UNIT_BYTES, UNIT_WORDS, decode

_NEVER, _LATEST = -(1 << 63), (1 << 63) - 1
_STALE = np.int64(0x7FF0000000000002)
WORKING = MOST_SAMPLES + 17
"""Samples that there is room for in `work`: a chunk's, and the first of another one behind them."""
_APART = MOST_SAMPLES + 9

_PLACE, _AFTER, _FELL, _STANDS, _CHUNK, _RIGHT, _LEFT = range(7)
"""Slots of the state that goes from chain to chain: where the oldest sample kept is; when the oldest chunk seen begins, and whether it
falls; how many samples wait for an older one that stands for them, and the chunk that the oldest of these begin; the last window that ends,
and the last that begins, before what was seen."""


@njit(cache=True, nogil=True)
def _keep(at: Any, stands: Any, work_times: Any, work_bits: Any, state: Any, times: Any, bits: Any, weights: Any) -> None:
    """Keep the sample at `at` of what is being worked on, which stands for so many."""
    place = state[_PLACE] - 1
    times[place], bits[place], weights[place] = work_times[at], work_bits[at], stands
    state[_PLACE] = place


@njit(cache=True, nogil=True)
def _settle(arena: Any, data: Any, work_times: Any, work_bits: Any, state: Any, times: Any, bits: Any, weights: Any) -> None:
    """Let the first of the samples that wait stand for them."""
    if state[_STANDS] > 0:
        one, far = np.int64(1), np.int64(_LATEST)
        decode(arena, data, state[_CHUNK], one, far, work_times, work_bits, work_bits.view(np.float64), _APART)
        _keep(_APART, state[_STANDS], work_times, work_bits, state, times, bits, weights)
        state[_STANDS] = 0


@njit(cache=True, nogil=True)
def _latest_border(first: Any, step: Any, range_ms: Any, before: Any, state: Any) -> Any:
    """The latest time before `before` at which a window begins or ends; `_NEVER` where none does."""
    while state[_RIGHT] >= 0 and first + state[_RIGHT] * step >= before:
        state[_RIGHT] -= 1
    while state[_LEFT] >= 0 and first - range_ms + state[_LEFT] * step >= before:
        state[_LEFT] -= 1
    latest: Any = np.int64(_NEVER)
    if state[_RIGHT] >= 0:
        latest = first + state[_RIGHT] * step
    if state[_LEFT] >= 0:
        latest = max(latest, first - range_ms + state[_LEFT] * step)
    return latest


@njit(cache=True, nogil=True)
def _of_chain(
    tail: Any, held: Any, newest: Any, arena: Any, first: Any, step: Any, n: Any, range_ms: Any, room: Any, rates: bool,
    work_times: Any, work_bits: Any, state: Any, times: Any, bits: Any, weights: Any,
) -> bool:  # fmt: skip
    """Keep what is needed of one chain in order, older than what was seen; False where there are fewer than `room` places left."""
    links, data, work_values = arena.view(np.int32), arena.view(np.uint8), work_bits.view(np.float64)
    start, end = first - range_ms, first + (n - 1) * step
    chunk: Any = np.int64(tail)
    count: Any = np.int64(held)
    last: Any = np.int64(newest)
    while chunk > 0 and last > start:
        oldest: Any = arena[chunk * UNIT_WORDS]
        before: Any = np.int64(links[2 * UNIT_WORDS * chunk + PREVIOUS])
        falls: Any = np.int64(data[chunk * UNIT_BYTES + chunks.UNITS] & FALLS if rates else 0)
        if oldest <= end:
            if state[_PLACE] < room:
                return False
            border = _latest_border(first, step, range_ms, state[_AFTER], state)
            if falls or state[_FELL]:
                _settle(arena, data, work_times, work_bits, state, times, bits, weights)
                read = abs(decode(arena, data, chunk, count, np.int64(_LATEST), work_times, work_bits, work_values, 0))
                for i in range(read - 1, -1, -1):
                    if work_bits[i] != _STALE:
                        _keep(i, 1, work_times, work_bits, state, times, bits, weights)
            elif border < oldest:
                if rates:
                    state[_STANDS] += count
                    state[_CHUNK] = chunk
            else:
                if border >= last:
                    _settle(arena, data, work_times, work_bits, state, times, bits, weights)
                read = abs(decode(arena, data, chunk, count, border, work_times, work_bits, work_values, 0))
                upto: Any = np.int64(count)
                while border >= oldest:
                    # The last sample at or before the border, and the first behind it.
                    low: Any = np.int64(0)
                    high: Any = min(np.int64(read), upto)
                    while high - low > 1:
                        mid = (low + high) // 2
                        if work_times[mid] <= border:
                            low = mid
                        else:
                            high = mid
                    if rates and low + 1 < upto:
                        _keep(low + 1, upto - low - 1 + state[_STANDS], work_times, work_bits, state, times, bits, weights)
                        state[_STANDS] = 0
                        upto = low + 1
                    if low < upto:
                        _keep(low, 1 + state[_STANDS], work_times, work_bits, state, times, bits, weights)
                        state[_STANDS] = 0
                        upto = low
                    border = _latest_border(first, step, range_ms, work_times[low], state)
                if rates and upto > 0:
                    state[_STANDS] += upto
                    state[_CHUNK] = chunk
            state[_FELL] = falls
        state[_AFTER] = oldest
        chunk = before
        if chunk > 0:
            count = np.int64(data[chunk * UNIT_BYTES + chunks.SAMPLES])
            last = np.int64(arena[chunk * UNIT_WORDS] + links[2 * UNIT_WORDS * chunk + chunks.SPAN])
    return True


@njit(cache=True, nogil=True)
def thinned(
    tails: Any, held: Any, newest: Any, old_tails: Any, arena: Any, old_arena: Any, first: int, step: int, n: int, range_ms: int,
    rates: bool, offsets: Any, times: Any, bits: Any, weights: Any,
) -> bool:  # fmt: skip
    """What rates over the windows `(t - range_ms, t]`, t = first + k * step for k < n, need of rows as `head.survey` found them.

    Or, with `rates` false, the last sample up to each t, a stale marker perhaps, and no other.

    `offsets` int64[rows + 1] says where each begins among the last of `times`, `bits` (int64) and `weights` (float64), how many samples
    each stands for; stale markers are left out. Answers whether there was room, and nothing odd about the order of samples.
    """
    work_times, work_bits, state = np.empty(WORKING, dtype=np.int64), np.empty(WORKING, dtype=np.int64), np.zeros(7, dtype=np.int64)
    state[_PLACE] = len(times)
    offsets[len(tails)] = len(times)
    old_links, old_data = old_arena.view(np.int32), old_arena.view(np.uint8)
    far, width, many, reach = np.int64(first), np.int64(step), np.int64(n), np.int64(range_ms)
    for row in range(len(tails) - 1, -1, -1):
        state[_AFTER], state[_FELL], state[_STANDS], state[_RIGHT], state[_LEFT] = _LATEST, 0, 0, n - 1, n - 1 if rates else -1
        waiting = arena
        # A chunk, what waits and both sides of a border.
        if tails[row] > 0 and not _of_chain(
            tails[row], held[row], newest[row], arena, far, width, many, reach, MOST_SAMPLES + 3, rates,
            work_times, work_bits, state, times, bits, weights,
        ):  # fmt: skip
            return False
        tail = old_tails[row]
        if tail > 0:
            latest = np.int64(old_arena[tail * UNIT_WORDS] + old_links[2 * UNIT_WORDS * tail + chunks.SPAN])
            if latest >= state[_AFTER]:
                return False
            # What waits is in the other arena: it stands for itself.
            _settle(arena, arena.view(np.uint8), work_times, work_bits, state, times, bits, weights)
            if not _of_chain(
                tail, np.int64(old_data[tail * UNIT_BYTES + chunks.SAMPLES]), latest, old_arena, far, width, many, reach, MOST_SAMPLES + 3,
                rates, work_times, work_bits, state, times, bits, weights,
            ):  # fmt: skip
                return False
            waiting = old_arena
        _settle(waiting, waiting.view(np.uint8), work_times, work_bits, state, times, bits, weights)
        offsets[row] = state[_PLACE]
    return True
