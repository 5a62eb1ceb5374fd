"""Reads whose samples are decoded a few rows at a time, right before a kernel makes what is wanted of them.

A large read as a whole is memory that is cleared, written and read again, each time past the caches; a slab of it stays in them, is
used by the kernel, and is the next slab's room. Which rows a slab has, and which of two threads reads it, is all the same to the
result. Not here: how storage finds the samples (`storage/pieces.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from vedette.kernels import windows as k
from vedette.promql.evaluation import SLAB
from vedette.promql.nodes import Call, Range, Selector
from vedette.promql.plan import Plan
from vedette.promql.selectors import WINDOW_FUNCTIONS
from vedette.promql.values import Floats, Ints, Slab
from vedette.storage.interface import Pieces, Steps

_KEPT = 2
"""Rooms that are kept for the next query: as many as threads compute one."""
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

    @contextmanager
    def room(self, samples: int) -> Iterator[tuple[Ints, Ints]]:
        """Room for times and values of at least so many samples, while the context lasts."""
        with self._lock:
            room = self._free.pop() if self._free else None
        if room is None or len(room[0]) < samples:
            room = np.empty(samples, dtype=np.int64), np.empty(samples, dtype=np.int64)
        try:
            yield room
        finally:
            with self._lock:
                if len(self._free) < _KEPT and len(room[0]) <= _MOST_KEPT:
                    self._free.append(room)


class PiecewiseSlabs:
    """See `values.Slabs`: of what storage gives in pieces."""

    def __init__(self, pieces: Pieces, scratch: Scratch) -> None:
        self._pieces = pieces
        self._scratch = scratch
        self._upto = pieces.upto
        self.samples = int(self._upto[-1])

    @property
    def read(self) -> int:
        """How many samples were read, those of a row that was read again once."""
        return self._pieces.sample_count

    def of(self, lo: int, hi: int, steps: Steps, *, stale: bool) -> Iterator[Slab]:
        """See `values.Slabs.of`."""
        while lo < hi:
            # At least one row, however many samples it has.
            stop = min(hi, max(lo + 1, int(self._upto.searchsorted(self._upto[lo] + SLAB, side="right")) - 1))
            rows, most = self._pieces.rows(lo, stop), int(self._upto[stop] - self._upto[lo])
            cuts = _cuts(steps, most * self._pieces.share)
            room = most
            if len(cuts) > 2:
                # A little more, for samples do not come quite evenly.
                wanted = steps.part(cuts[-2], cuts[-1])
                covered = ((wanted.n - 1) * steps.step + steps.range) / ((steps.n - 1) * steps.step + steps.range)
                room = min(most, int(1.05 * most * self._pieces.share * covered) + 1024)
            for begin, end in zip(reversed(cuts[:-1]), reversed(cuts[1:]), strict=True):
                part = steps.part(begin, end) if steps.step else steps.part(0, 1)
                resume = part.first - steps.step if begin else None
                while True:
                    with self._scratch.room(room) as (times, bits):
                        offsets = rows.read(part, times, bits, resume=resume)
                        if offsets is not None:
                            yield _slab(lo, stop, begin, end, offsets, times, bits, clean=not stale and rows.doubtful)
                            break
                    room = min(most, 2 * room)
            lo = stop


def _cuts(steps: Steps, samples: float) -> list[int]:
    """Where to cut the steps of rows of so many samples, so that what is read at once stays in the caches."""
    pieces = min(int(samples / SLAB) + 1, steps.n) if steps.step else 1
    if pieces > 1:
        # What windows on both sides of a cut share is read twice: a fifth of all at most.
        pieces = min(pieces, 1 + steps.n * steps.step // max(1, 5 * steps.range))
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
