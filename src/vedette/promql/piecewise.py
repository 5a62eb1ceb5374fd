"""Reads whose samples are decoded a few rows at a time, right before a kernel makes what is wanted of them.

A large read as a whole is memory that is cleared, written and read again, each time past the caches; a slab of it stays in them, is
used by the kernel, and is the next slab's room. Which rows a slab has, and which of two threads reads it, is all the same to the
result. Not here: how storage finds the samples (`storage/pieces.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vedette.kernels import streamed
from vedette.kernels import windows as k
from vedette.promql.evaluation import SLAB
from vedette.promql.nodes import Call, Range, Selector
from vedette.promql.plan import Plan
from vedette.promql.values import Bools, Floats, Ints, Slab
from vedette.promql.window_functions import WINDOW_FUNCTIONS
from vedette.storage.interface import Pieces, Steps

_KEPT = 2
"""Rooms that are kept for the next query: as many as threads compute one."""
_TOGETHER = 16
"""Times as many samples as a slab should have rows may have that are read together."""
_LARGEST = SLAB + (SLAB >> 3)
"""Room for a slab, and for the samples that are read with it since they lie in one chunk with its own."""
_AT_ONCE = 1 << 22
"""Samples of rows that go through one call of a kernel, the last row's aside."""
_MOST_KEPT = 1 << 17
"""Samples of a room that is kept: 2 MiB."""


def divisible(plan: Plan) -> frozenset[int]:
    """The reads of a plan that go to nothing but functions that take their rows one by one, once."""
    users: dict[int, list[int]] = {}
    readers: dict[int, list[int]] = {}
    for at, operation in enumerate(plan.operations):
        for used in operation.inputs:
            users.setdefault(used, []).append(at)
        if operation.fetch >= 0:
            readers.setdefault(operation.fetch, []).append(at)
    return frozenset(fetch for fetch, (first, *more) in readers.items() if not more and _by_rows(plan, first, users.get(first, [])))


def _by_rows(plan: Plan, at: int, users: list[int]) -> bool:
    node = plan.operations[at].node
    if isinstance(node, Selector):
        return not (node.smoothed or plan.operations[at].begun)
    if not isinstance(node, Range) or node.selector.smoothed or node.selector.anchored or at == plan.result:
        return False
    calls = [plan.operations[user].node for user in users]
    return all(isinstance(call, Call) and call.func.name in WINDOW_FUNCTIONS for call in calls)


class Scratch:
    """Memory to decode samples into, used again and again. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[tuple[Ints, Ints]] = []

    def take(self, samples: int) -> tuple[Ints, Ints]:
        """Room for times and values of at least so many samples, to be given back."""
        with self._lock:
            room = self._free.pop() if self._free else None
        return (
            room if room is not None and len(room[0]) >= samples else (np.empty(samples, dtype=np.int64), np.empty(samples, dtype=np.int64))
        )

    def give(self, room: tuple[Ints, Ints]) -> None:
        """Take back what `take` gave."""
        with self._lock:
            if len(self._free) < _KEPT and 0 < len(room[0]) <= _MOST_KEPT:
                self._free.append(room)


class PiecewiseSlabs:
    """See `values.Slabs`: of what storage gives in pieces."""

    def __init__(self, pieces: Pieces, scratch: Scratch) -> None:
        self._pieces = pieces
        self._scratch = scratch
        self._upto = pieces.upto
        self.samples = int(self._upto[-1])
        self.begins = pieces.begins
        self.depth = 0

    @property
    def read(self) -> int:
        """How many samples were read, those of a row that was read again once."""
        return self._pieces.sample_count

    def of(self, lo: int, hi: int, steps: Steps, *, stale: bool) -> Iterator[Slab]:
        """See `values.Slabs.of`."""
        room = self._scratch.take(0)
        try:
            while lo < hi:
                stop = self._stop(lo, hi, _most_cuts(steps))
                rows, most = self._pieces.rows(lo, stop), int(self._upto[stop] - self._upto[lo])
                cuts = _cuts(steps, most * self._pieces.share)
                wanted = most if len(cuts) == 2 else min(most, _room(steps.part(*cuts[-2:]), steps, most * self._pieces.share))
                end = cuts.pop()
                for begin in reversed(cuts):
                    part = steps.part(begin, end) if steps.step else steps.part(0, 1)
                    resume = part.first - steps.step if begin else None
                    while True:
                        if len(room[0]) < wanted:
                            self._scratch.give(room)
                            room = self._scratch.take(wanted)
                        if (offsets := rows.read(part, *room, resume=resume)) is not None:
                            break
                        wanted = min(most, 2 * len(room[0]))
                    yield _slab(lo, stop, begin, end, offsets, *room, clean=not stale and rows.doubtful)
                    end = begin
                lo = stop
        finally:
            self._scratch.give(room)

    def streamed(
        self,
        code: int,
        lo: int,
        hi: int,
        steps: Steps,
        params: tuple[Floats, Floats, Ints],
        into: tuple[Floats, Bools],
        check: Callable[[], None],
    ) -> bool:
        """See `values.Slabs.streamed`."""
        if (known := self._pieces.chains(lo, hi)) is None:
            return False
        found, counts = known
        room = self._scratch.take(min(int(self._upto[hi] - self._upto[lo]), _LARGEST))
        at, end = 0, hi - lo
        try:
            while at < end:
                check()
                # Of rows that follow one another as many as take a few milliseconds.
                few = self._upto[hi] - self._upto[lo + at] <= _AT_ONCE
                stop = end if few else min(end, max(at + 1, self._within(lo + at, _AT_ONCE) - lo))
                columns = counts[at:stop], into[0][at:stop], into[1][at:stop]
                some: tuple[Any, ...] = (code, *found.part(at, stop), *steps, self._pieces.share, SLAB, *params, *room, *columns)
                done = streamed.windows(*some)
                at += done
                if at < stop:
                    self._scratch.give(room)
                    room = self._scratch.take(2 * len(room[0]))
        finally:
            self._scratch.give(room)
        return True

    def _stop(self, lo: int, hi: int, cuts: int) -> int:
        """Where a slab that begins with row `lo` ends: of one row at least, however long it is, or of rows that belong together."""
        stop = max(lo + 1, self._within(lo, SLAB))
        if self.begins is not None:
            k = int(self.begins.searchsorted(stop, side="right")) - 1
            if (end := int(self.begins[k])) > lo:
                stop = end
            elif k + 1 < len(self.begins):
                # Cut by steps into so many parts, which costs nothing but room where these are few.
                stop = max(stop, min(int(self.begins[k + 1]), self._within(lo, _TOGETHER * SLAB * cuts)))
        return min(hi, stop)

    def _within(self, lo: int, samples: int) -> int:
        """The row before which there are so many samples from row `lo` on."""
        return int(self._upto.searchsorted(self._upto[lo] + samples, side="right")) - 1


def _room(part: Steps, of: Steps, samples: float) -> int:
    """For how many samples there should be room for a part of the windows, where all take so many; they do not come quite evenly."""
    covered = ((part.n - 1) * part.step + part.range) / ((of.n - 1) * of.step + of.range)
    return int(1.05 * samples * covered) + 1024


def _most_cuts(steps: Steps) -> int:
    """Into how many parts steps may be cut: what windows on both sides of a cut share is read twice, a fifth of all at most."""
    return min(steps.n, 1 + steps.n * steps.step // max(1, 5 * steps.range)) if steps.step else 1


def _cuts(steps: Steps, samples: float) -> list[int]:
    """Where to cut the steps of rows of so many samples, so that what is read at once stays in the caches."""
    pieces = min(int(samples / SLAB) + 1, _most_cuts(steps))
    return [steps.n * k // pieces for k in range(pieces + 1)]


def _slab(lo: int, hi: int, begin: int, end: int, offsets: Ints, times: Ints, bits: Ints, *, clean: bool) -> Slab:
    values = bits.view(np.float64)
    if clean and (marked := k.count_stale(values[offsets[0] : offsets[-1]])):
        return Slab(lo, hi, begin, end, *_without_stale(offsets, times, values, marked))
    return Slab(lo, hi, begin, end, offsets, times, values)


def _without_stale(offsets: Ints, times: Ints, values: Floats, marked: int) -> tuple[Ints, Ints, Floats]:
    left = int(offsets[-1] - offsets[0]) - marked
    kept = np.empty_like(offsets), np.empty(left, dtype=np.int64), np.empty(left)
    k.without_stale(offsets, times, values, *kept)
    return kept
