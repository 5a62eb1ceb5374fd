"""Series of a select of which samples are read a few rows at a time, into memory that is used again: `interface.Pieces` of the head.

What was there when it was asked for is what is read, whatever is written meanwhile and however long it takes: chunks are only
added to, and a generation that has ended stays as long as somebody holds it. So nothing holds up whoever writes. Not here: when reading
this way is worth it (`engine.py`), windows over it (`promql`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import head as kernel
from vedette.model.labeltable import LabelTable
from vedette.storage.head import Head

_I64 = np.int64


@dataclass(frozen=True, slots=True)
class Surveyed:
    """Where the samples in [start, end] of series `ids` (int64[n]) were at one moment, as `kernels.head.survey` says it."""

    ids: NDArray[np.int64]
    tails: NDArray[np.int64]
    held: NDArray[np.int64]
    newest: NDArray[np.int64]
    there: NDArray[np.bool_]
    upto: NDArray[np.int64]
    """int64[n + 1]: how many samples the rows before have at most."""
    arena: NDArray[np.int64]
    old_state: NDArray[np.int64]
    old_arena: NDArray[np.int64]
    start: int
    end: int

    @classmethod
    def of(cls, head: Head, ids: NDArray[np.int64], start: int, end: int) -> Surveyed | None:
        """What the head holds of the series now, None where some of it came late; under the engine's lock."""
        now, before, n = head.now, head.before, len(ids)
        tails, held, newest, there = np.empty(n, _I64), np.empty(n, _I64), np.empty(n, _I64), np.empty(n, np.bool_)
        if not kernel.survey(ids, now.state, now.arena, before.state, before.arena, start, end, tails, held, newest, there):
            return None
        upto = np.zeros(n + 1, _I64)
        for generation in (now, before):
            known = ids < len(generation.state)
            upto[1:][known] += generation.counts[ids[known]]
        np.cumsum(upto, out=upto)
        return cls(ids, tails, held, newest, there, upto, now.arena, before.state, before.arena, start, end)

    def filled(self) -> Surveyed:
        """The series that have samples."""
        if self.there.all():
            return self
        rows = np.flatnonzero(self.there)
        upto = np.zeros(len(rows) + 1, _I64)
        np.cumsum(np.diff(self.upto)[rows], out=upto[1:])
        ids, tails, held, newest = (column[rows] for column in (self.ids, self.tails, self.held, self.newest))
        return replace(self, ids=ids, tails=tails, held=held, newest=newest, there=self.there[rows], upto=upto)


class HeadPieces:
    """See `interface.Pieces`."""

    def __init__(self, labels: LabelTable, found: Surveyed) -> None:
        """`labels` are those of the rows `found`, of which each has samples."""
        self.labels = labels
        self.upto = found.upto
        self._found = found
        self._counts = np.zeros(len(labels), _I64)

    @property
    def sample_count(self) -> int:
        """How many samples have been read, those of a row that was read again once."""
        return int(self._counts.sum())

    def read(self, lo: int, hi: int, times: NDArray[np.int64], bits: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `interface.Pieces.read`."""
        found, offsets = self._found, np.empty(hi - lo + 1, _I64)
        rows = (found.ids[lo:hi], found.tails[lo:hi], found.held[lo:hi], found.newest[lo:hi], found.upto[lo : hi + 1])
        kernel.gather_surveyed(*rows, found.arena, found.old_state, found.old_arena, found.start, found.end, offsets, times, bits)
        self._counts[lo:hi] = np.diff(offsets)
        return offsets
