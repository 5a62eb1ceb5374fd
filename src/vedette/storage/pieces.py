"""Series of a select of which samples are read a few rows at a time, into memory that is used again: `interface.Pieces` of the head.

What was there when it was asked for is what is read, whatever is written meanwhile and however long it takes: chunks are only
added to, and a generation that has ended stays as long as somebody holds it. So nothing holds up whoever writes. Not here: when reading
this way is worth it (`engine.py`), windows over it (`promql`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import head as kernel
from vedette.model.labeltable import LabelTable
from vedette.storage.head import FAR_FUTURE, LARGE, Generation, Head
from vedette.storage.interface import Chains, Steps

_I64 = np.int64
Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Offsets, times and bits of values, as CSR."""
_MANY = 1 << 14
"""Series of which two threads look at half each."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """Where the samples of n series were at one moment, as `kernels.head.survey` says it."""

    tails: NDArray[np.int64]
    held: NDArray[np.int64]
    newest: NDArray[np.int64]
    old_tails: NDArray[np.int64]
    there: NDArray[np.bool_]
    upto: NDArray[np.int64]
    """int64[n + 1]: how many samples the rows before have at most."""
    arena: NDArray[np.int64]
    old_arena: NDArray[np.int64]

    @classmethod
    def of(cls, head: Head, ids: NDArray[np.int64], start: int, end: int) -> Surveyed | None:
        """What the head holds of the series now, None where some of it came late; under the engine's lock."""
        now, before, n = head.now, head.before, len(ids)
        (tails, held, newest, old_tails), there, upto = np.empty((4, n), _I64), np.empty(n, np.bool_), np.zeros(n + 1, _I64)
        columns = ids, tails, held, newest, old_tails, there, upto[1:]

        def look(lo: int, hi: int) -> bool:
            rows, *found = (column[lo:hi] for column in columns)
            return bool(kernel.survey(rows, now.state, now.arena, before.state, before.arena, start, end, *found))

        if not head.in_halves(look, n, worth=n > _MANY):
            return None
        np.cumsum(upto, out=upto)
        return cls(tails, held, newest, old_tails, there, upto, now.arena, before.arena)

    @classmethod
    def none(cls) -> Surveyed:
        """That of no series."""
        return cls.of_generations(Generation.empty(), Generation.empty(), np.zeros(0, dtype=_I64))

    @classmethod
    def of_generations(cls, now: Generation, before: Generation, ids: NDArray[np.int64]) -> Surveyed:
        """All that two generations hold of the series, in order and by nobody written to."""
        n = len(ids)
        (tails, held, newest, old_tails), there, upto = np.empty((4, n), _I64), np.empty(n, np.bool_), np.zeros(n + 1, _I64)
        columns = tails, held, newest, old_tails, there, upto[1:]
        in_order = kernel.survey(ids, now.state, now.arena, before.state, before.arena, -FAR_FUTURE, FAR_FUTURE, *columns)
        assert in_order, "samples came late"
        np.cumsum(upto, out=upto)
        return cls(tails, held, newest, old_tails, there, upto, now.arena, before.arena)

    def filled(self) -> Surveyed:
        """The series that have samples."""
        if self.there.all():
            return self
        rows = np.flatnonzero(self.there)
        upto = np.zeros(len(rows) + 1, _I64)
        np.cumsum(np.diff(self.upto)[rows], out=upto[1:])
        tails, held, newest, old_tails = (column[rows] for column in (self.tails, self.held, self.newest, self.old_tails))
        return replace(self, tails=tails, held=held, newest=newest, old_tails=old_tails, there=self.there[rows], upto=upto)


def reader(head: Head, ids: NDArray[np.int64], start: int, end: int) -> Callable[[], Columns]:
    """What gives `head.gather` of the series as they are now; under the engine's lock, which a large read needs for no more than this."""
    most = head.bound(ids)
    start, end = max(start, head.min_time), min(end, head.max_time)
    found = Surveyed.of(head, ids, start, end) if most >= LARGE and start <= end else None
    if found is None:
        columns = head.gather(ids, start, end, bound=most)
        return lambda: columns
    chains = found.tails, found.held, found.newest, found.old_tails

    def read(lo: int, hi: int, offsets: NDArray[np.int64], times: NDArray[np.int64], bits: NDArray[np.int64]) -> None:
        rows = tuple(column[lo:hi] for column in chains)
        columns = rows[0], rows[1], rows[2], rows[3], found.arena, found.old_arena
        told = kernel.gather_surveyed(*columns, end, 0, 1, end - start + 1, kernel.NEVER, offsets, times, bits)
        assert told >= 0, "there is room for all"

    half = int(found.upto[len(ids) // 2])
    return lambda: head.columns(len(ids), int(found.upto[-1]), half, read)


class HeadPieces:
    """See `interface.Pieces`."""

    def __init__(self, labels: LabelTable, found: Surveyed, *, share: float) -> None:
        """`labels` are those of the rows `found`, of which each has samples."""
        self.labels = labels
        self.upto = found.upto
        self.share = share
        self.begins = None
        self._found = found
        self._counts = np.zeros(len(labels), _I64)

    @property
    def sample_count(self) -> int:
        """See `interface.Pieces`."""
        return int(self._counts.sum())

    def rows(self, lo: int, hi: int) -> HeadRows:
        """See `interface.Pieces`."""
        return HeadRows(self._found, lo, hi, self._counts[lo:hi])

    def chains(self, lo: int, hi: int) -> tuple[Chains, NDArray[np.int64]]:
        """See `interface.Pieces`."""
        found = self._found
        chains = Chains(found.tails, found.held, found.newest, found.old_tails, found.upto, found.arena, found.old_arena)
        return chains.part(lo, hi), self._counts[lo:hi]


class HeadRows:
    """See `interface.PieceRows`."""

    def __init__(self, found: Surveyed, lo: int, hi: int, counts: NDArray[np.int64]) -> None:
        """`counts` (int64[hi - lo]) is set to how many samples of each row were read."""
        self.chains = found.tails[lo:hi], found.held[lo:hi], found.newest[lo:hi], found.old_tails[lo:hi]
        """Where the next read goes on: put back by whoever has no use for what was read last."""
        self._arenas = found.arena, found.old_arena
        self._counts = counts
        self._begun = False
        self.doubtful = False

    def read(
        self, steps: Steps, times: NDArray[np.int64], bits: NDArray[np.int64], *, resume: int | None = None
    ) -> NDArray[np.int64] | None:
        """See `interface.PieceRows`."""
        offsets = np.empty(len(self._counts) + 1, _I64)
        tails, held, newest, old_tails = chains = self.chains
        if resume is not None:
            # What is set of some rows before another finds no room must not count.
            chains = tails.copy(), held.copy(), newest.copy(), old_tails.copy()
        upto = kernel.NEVER if resume is None else resume
        if steps.range >= steps.step:
            # Between the windows there is nothing that no one wants: one of all is looked for in less time.
            steps = Steps(steps.last, 0, 1, steps.range + steps.last - steps.first)
        told = kernel.gather_surveyed(*chains, *self._arenas, *steps, upto, offsets, times, bits)
        if told < 0:
            return None
        self.chains = chains
        self.doubtful = told > 0
        if self._begun:
            self._counts += offsets[1:] - offsets[:-1]
        else:
            np.subtract(offsets[1:], offsets[:-1], out=self._counts)
        self._begun = True
        return offsets
