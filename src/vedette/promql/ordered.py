"""Rows computed block by block by two threads, and taken one block after the other, in order of the rows.

What comes out depends on the order of rows (which of equal values is among the top ones, the last digits of a variance), so that the
threads cannot take half of them each. Computing a block takes far longer than taking it: whichever thread has made the next one in order
takes it, and those behind it that are there. Not here: what computes rows (`selectors.py`), what takes them (`aggregate.py`).
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress

import numpy as np

from vedette.promql.evaluation import BLOCK_CELLS, SLAB, Evaluation
from vedette.promql.values import Bools, Floats, Matrix, Rows

_ROOMS = 4
"""Blocks that are held at a time: each thread computes one, and two may wait for one before them."""

Take = Callable[[int, Floats, Bools], None]
"""`take(first, values, present)` takes the rows from number `first` on: float64[r, n] and bool[r, n], which are gone when it is back."""


def in_order(ev: Evaluation, value: Matrix | Rows, take: Take) -> None:
    """Give all rows to `take`, in order, never two calls at a time. Raises what computing or taking them raises."""
    if isinstance(value, Matrix):
        take(0, np.ascontiguousarray(value.values), np.ascontiguousarray(value.present))
        return
    step = _block_rows(value)
    if len(value) <= step:
        ev.check()
        values, present = np.empty((len(value), value.n)), np.empty((len(value), value.n), dtype=np.bool_)
        value.fill(0, len(value), values, present)
        take(0, values, present)
        return
    line = _Line(ev, value, take, value.cuts(step))
    if len(value) <= 2 * step:
        line.work()
        return
    other = ev.pool.submit(line.work)
    try:
        line.work()
    finally:
        line.end()
        # A thread that has not begun by now is not waited for: other queries may keep it.
        other.cancel()
    with suppress(CancelledError):
        other.result()


def _block_rows(rows: Rows) -> int:
    """Rows of a block: no more than a slab has samples of, where that is known, since a part of one costs as much to begin."""
    step = BLOCK_CELLS // max(1, rows.n)
    if rows.samples:
        step = min(step, len(rows) * SLAB // rows.samples)
    return max(16, min(step, len(rows)))


class _Line:
    """The blocks of one computation, in line. Several threads may `work` on it."""

    def __init__(self, ev: Evaluation, rows: Rows, take: Take, cuts: list[int]) -> None:
        """`cuts` says where the blocks begin, and where the last one ends."""
        self._ev, self._rows, self._take, self._cuts = ev, rows, take, cuts
        self._most = max((hi - lo for lo, hi in itertools.pairwise(cuts)), default=0)
        self._turn = threading.Condition()
        self._spare = _ROOMS
        self._free: list[tuple[Floats, Bools]] = []
        self._made: dict[int, tuple[Floats, Bools]] = {}
        self._next = 0
        """The number of the first block that nobody computes yet."""
        self._taken = 0
        """And of the first that was not taken yet."""
        self._taking = False
        self._over = False

    def end(self) -> None:
        """Let nobody begin another block."""
        with self._turn:
            self._over = True
            self._turn.notify_all()

    def work(self) -> None:
        """Compute blocks, and take those whose turn it is, until none is left to begin."""
        try:
            while (room := self._room()) is not None:
                self._ev.check()
                number, (values, present) = room
                self._rows.fill(self._cuts[number], self._cuts[number + 1], values, present)
                self._offer(number, (values, present))
        except BaseException:
            self.end()
            raise

    def _room(self) -> tuple[int, tuple[Floats, Bools]] | None:
        """The next block and room for it; None where there is none to begin."""
        with self._turn:
            # Room first: a block that is begun is one that will be made, so that whoever waits for it does not wait forever.
            last = len(self._cuts) - 1
            while not (self._over or self._free or self._spare or self._next >= last):
                self._turn.wait()
            if self._over or self._next >= last:
                return None
            number, self._next = self._next, self._next + 1
            if self._free:
                return number, self._free.pop()
            self._spare -= 1
        return number, (np.empty((self._most, self._rows.n)), np.empty((self._most, self._rows.n), dtype=np.bool_))

    def _offer(self, number: int, block: tuple[Floats, Bools]) -> None:
        """Put a block in line, and take what is first in it, unless another thread does so already."""
        with self._turn:
            self._made[number] = block
            if self._taking:
                return
            self._taking = True
        while (first := self._first()) is not None:
            lo, hi = self._cuts[first[0] : first[0] + 2]
            values, present = first[1]
            self._take(lo, values[: hi - lo], present[: hi - lo])
            with self._turn:
                self._taken += 1
                self._free.append(first[1])
                self._turn.notify()

    def _first(self) -> tuple[int, tuple[Floats, Bools]] | None:
        with self._turn:
            block = self._made.pop(self._taken, None)
            self._taking = block is not None
            return None if block is None else (self._taken, block)
