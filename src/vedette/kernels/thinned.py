"""Of chunks in memory, the few samples that sums and lines over long windows need: the first one behind each border, with sums of the
whole numbers from it up to the next one.

Each sample that is kept stands for those between it and the next one. Not here: how a chunk is added up (`skim.py`), and what is made of
sums (`tallied.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.chunks import FALLS, MOST_SAMPLES, UNIT_WORDS, decode
from vedette.kernels.skim import BITS_OF, INDEX, MOST, ROWS, SUMS, TIME_OF, TOTALS, VALUES, skim

_NEVER, _LATEST = -(1 << 63), (1 << 63) - 1
_WORKING = MOST_SAMPLES + 17

AT, VALUE, STANDS, TALLIES, FALLING, KEPT_ROWS = 0, 1, 2, 3, 3 + SUMS, 4 + SUMS
"""Rows of what is kept: times, bits of values, bits (float64) of how many samples each stands for; from `TALLIES` on sums over these, and
whether any of them falls."""

_STATE = ROWS
"""The row of what is worked in that goes from chain to chain, with the slots:"""
_PLACE, _AFTER, _WAITING, _CHUNK, _RIGHT, _LEFT, _BASE, _FALLEN, _SUMS = range(9)
"""Where the oldest sample kept is; when the oldest chunk seen begins; how many samples wait for an older one that
stands for them, and the chunk that the oldest of these begin; the last window that ends, and the last that begins, before what was seen;
since when times count in sums; of those that wait, whether any falls, and from the last one on their sums."""

# Few arrays: those of a function are counted as used when it is called, and as not when it returns, which takes longer than many a chunk.


@njit(cache=True, nogil=True, inline="always")
def _before(arena: Any, chunk: Any) -> Any:
    """The chunk before it in its series, 0 for none."""
    return arena[chunk * UNIT_WORDS + 1] & 0xFFFFFFFF


@njit(cache=True, nogil=True, inline="always")
def _newest(arena: Any, chunk: Any) -> Any:
    return arena[chunk * UNIT_WORDS] + (arena[chunk * UNIT_WORDS + 1] >> 32)


@njit(cache=True, nogil=True)
def _keep(at: Any, stands: Any, work: Any, kept: Any) -> None:
    """Keep the sample at `at` of what is being worked on, which stands for so many."""
    place = work[_STATE, _PLACE] - 1
    kept[AT, place], kept[VALUE, place] = work[TIME_OF, at], work[BITS_OF, at]
    kept[STANDS, place] = np.float64(stands).view(np.int64)
    work[_STATE, _PLACE] = place


@njit(cache=True, nogil=True)
def _tally(at: Any, falls: Any, work: Any, kept: Any) -> None:
    """Give the sample just kept the sums of those that it stands for; the totals left are of those before it."""
    place = work[_STATE, _PLACE]
    kept[FALLING, place] = falls | work[_STATE, _FALLEN]
    work[_STATE, _FALLEN] = 0
    for j in range(SUMS):
        kept[TALLIES + j, place] = work[TOTALS, j] - work[VALUES + j, at] + work[_STATE, _SUMS + j]
        work[TOTALS, j] = work[VALUES + j, at]
        work[_STATE, _SUMS + j] = 0


@njit(cache=True, nogil=True)
def _decoded(arena: Any, chunk: Any, count: Any, work: Any) -> Any:
    """The first samples of a chunk to what is being worked on; answers how many."""
    values = work[BITS_OF].view(np.float64)
    return abs(decode(arena, arena.view(np.uint8), chunk, count, np.int64(_LATEST), work[TIME_OF], work[BITS_OF], values, 0))


@njit(cache=True, nogil=True)
def _settle(arena: Any, work: Any, kept: Any) -> None:
    """Let the first of the samples that wait stand for them."""
    if work[_STATE, _WAITING] > 0:
        first = _decoded(arena, work[_STATE, _CHUNK], np.int64(1), work) - 1
        _keep(first, work[_STATE, _WAITING], work, kept)
        work[_STATE, _WAITING] = 0
        place = work[_STATE, _PLACE]
        kept[FALLING, place] = work[_STATE, _FALLEN]
        work[_STATE, _FALLEN] = 0
        for j in range(SUMS):
            kept[TALLIES + j, place] = work[_STATE, _SUMS + j]
            work[_STATE, _SUMS + j] = 0


@njit(cache=True, nogil=True)
def _latest_border(first: Any, step: Any, range_ms: Any, before: Any, work: Any) -> Any:
    """The latest time before `before` at which a window begins or ends; `_NEVER` where none does."""
    right, left = work[_STATE, _RIGHT], work[_STATE, _LEFT]
    while right >= 0 and first + right * step >= before:
        right -= 1
    while left >= 0 and first - range_ms + left * step >= before:
        left -= 1
    work[_STATE, _RIGHT], work[_STATE, _LEFT] = right, left
    latest: Any = np.int64(_NEVER)
    if right >= 0:
        latest = first + right * step
    if left >= 0:
        latest = max(latest, first - range_ms + left * step)
    return latest


@njit(cache=True, nogil=True)
def _of_chain(
    tail: Any, held: Any, newest: Any, arena: Any, first: Any, step: Any, n: Any, range_ms: Any, kind: Any, work: Any, kept: Any
) -> bool:
    """Keep what is needed of one chain in order, older than what was seen; False where there is no room, or `skim` refuses."""
    start, end = first - range_ms, first + (n - 1) * step
    chunk: Any = np.int64(tail)
    count: Any = np.int64(held)
    last: Any = np.int64(newest)
    if work[_STATE, _AFTER] == _LATEST:
        work[_STATE, _BASE] = arena[chunk * UNIT_WORDS]
    while chunk > 0 and last > start:
        oldest: Any = arena[chunk * UNIT_WORDS]
        falls: Any = np.int64(arena[chunk * UNIT_WORDS + 2] >> 16 & FALLS != 0)
        if oldest <= end:
            # A chunk, what waits and both sides of a border.
            if work[_STATE, _PLACE] < MOST_SAMPLES + 3:
                return False
            border = _latest_border(first, step, range_ms, work[_STATE, _AFTER], work)
            # What is in windows that neither begin nor end in it is added up, too.
            if border >= oldest or work[_STATE, _LEFT] > work[_STATE, _RIGHT]:
                if border >= last:
                    _settle(arena, work, kept)
                found = skim(arena, chunk, count, last, border >= oldest, first, step, n, range_ms, kind, work[_STATE, _BASE], work)
                if found < 0:
                    return False
                upto: Any = np.int64(count)
                for i in range(found - 1, -1, -1):
                    _keep(i, upto - work[INDEX, i] + work[_STATE, _WAITING], work, kept)
                    upto = work[INDEX, i]
                    work[_STATE, _WAITING] = 0
                    _tally(i, falls, work, kept)
                if upto > 0:
                    work[_STATE, _WAITING] += upto
                    work[_STATE, _CHUNK] = chunk
                    work[_STATE, _FALLEN] |= falls
                    for j in range(SUMS):
                        work[_STATE, _SUMS + j] += work[TOTALS, j]
        work[_STATE, _AFTER] = oldest
        chunk = _before(arena, chunk)
        if chunk > 0:
            count = arena[chunk * UNIT_WORDS + 2] & 255
            last = _newest(arena, chunk)
    return True


@njit(cache=True, nogil=True)
def thinned(
    tails: Any, held: Any, newest: Any, old_tails: Any, arena: Any, old_arena: Any, first: int, step: int, n: int, range_ms: int,
    kind: int, offsets: Any, bases: Any, kept: Any,
) -> int:  # fmt: skip
    """What functions of the windows `(t - range_ms, t]`, t = first + k * step for k < n, need of rows as `head.survey` found them.

    With kind `skim.SUMMED` or `LINES`, times counted in eighths of a second since `bases` (int64[rows], ms).

    `offsets` int64[rows + 1] says where each row begins among the last of `kept` (int64[KEPT_ROWS, room]). Stale markers are left out.
    Answers what no value exceeds in size; -1 where the room does not suffice, the order of samples is odd or a value no whole number.
    """
    work = np.empty((ROWS + 1, _WORKING), dtype=np.int64)
    work[TOTALS, MOST] = 0
    work[_STATE, _PLACE] = offsets[len(tails)] = kept.shape[1]
    far, width, many, reach, what = np.int64(first), np.int64(max(step, 1)), np.int64(n), np.int64(range_ms), np.int64(kind)
    for row in range(len(tails) - 1, -1, -1):
        for slot in range(_AFTER, _SUMS + SUMS):
            work[_STATE, slot] = 0
        work[_STATE, _AFTER], work[_STATE, _RIGHT], work[_STATE, _LEFT] = _LATEST, n - 1, n - 1
        if tails[row] > 0 and not _of_chain(tails[row], held[row], newest[row], arena, far, width, many, reach, what, work, kept):
            return -1
        tail = old_tails[row]
        if tail > 0:
            latest = _newest(old_arena, tail)
            if latest >= work[_STATE, _AFTER]:
                return -1
            # What waits is in the other arena: it stands for itself.
            _settle(arena, work, kept)
            count = old_arena[tail * UNIT_WORDS + 2] & 255
            if not _of_chain(tail, count, latest, old_arena, far, width, many, reach, what, work, kept):
                return -1
            _settle(old_arena, work, kept)
        _settle(arena, work, kept)
        offsets[row] = work[_STATE, _PLACE]
        bases[row] = work[_STATE, _BASE]
    # Within eight samples of a byte each, a value is at most so much larger than the one before them.
    return int(work[TOTALS, MOST] + 256)
