"""The native histograms of one generation of the head: records in columns, those of a series chained from its last.

One writer; whoever reads holds the engine's lock. Not here: the samples they belong to (`head.py`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import histograms as kernel
from vedette.model.histograms import NOT_RESET, UNKNOWN, Histograms, LayoutTable
from vedette.storage.columns import Column
from vedette.storage.histogram_columns import Found

_I64 = np.int64
Batch = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Series of each row, offsets, times and value bits of a batch."""

Logged = tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]
"""Series, times and value bits of the samples that were kept of it, in its order."""


def places_of(batch: Batch, logged: Logged) -> NDArray[np.int64]:
    """Where each sample of a batch is in `logged`, which is in the batch's order; -1 for those that were not kept."""
    places = np.empty(len(batch[2]), dtype=_I64)
    kernel.kept(*batch, *logged, places)
    return places


def kept_of(histograms: Histograms, batch: Batch, logged: Logged) -> Histograms | None:
    """Those of a batch's `histograms` whose samples were kept, `at` being their places in `logged`; None where there are none."""
    at = places_of(batch, logged)[histograms.at]
    which = np.flatnonzero(at >= 0)
    if not len(which):
        return None
    told = histograms.take(which, at[which])
    # That there was no reset says something beside the sample before it alone, and that may not be there: the counts tell.
    return replace(told, hints=np.where(told.hints == NOT_RESET, np.uint8(UNKNOWN), told.hints))


class HeadHistograms:
    """Histograms as they came. Layouts are kept once."""

    def __init__(self) -> None:
        self._tails = np.zeros(0, dtype=_I64)
        self._previous: Column[np.int64] = Column(np.int64, 0)
        self._times: Column[np.int64] = Column(np.int64, 0)
        self._layout: Column[np.int32] = Column(np.int32, 0)
        self._hints: Column[np.uint8] = Column(np.uint8, 0)
        self._ends: Column[np.int64] = Column(np.int64, 0)
        self._cells: Column[np.float64] = Column(np.float64, 0)
        self._table = LayoutTable()

    def __len__(self) -> int:
        return len(self._times)

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        columns = (self._previous, self._times, self._layout, self._hints, self._ends, self._cells)
        return self._tails.nbytes + sum(c.nbytes for c in columns)

    def append(self, ids: NDArray[np.int64], times: NDArray[np.int64], columns: Histograms) -> None:
        """Take the histograms `columns` of series `ids` int64[m] at `times` (ms)."""
        if not len(ids):
            return
        highest = int(ids.max())
        if highest >= len(self._tails):
            grown = np.full(max(highest + 1, len(self._tails) * 3 // 2), -1, dtype=_I64)
            grown[: len(self._tails)] = self._tails
            self._tails = grown
        previous = np.empty(len(ids), dtype=_I64)
        kernel.link(ids, len(self), self._tails, previous)
        base = len(self._cells)
        self._previous.extend(previous)
        self._layout.extend(self._table.numbers(columns.layouts)[columns.layout])
        self._hints.extend(columns.hints)
        self._cells.extend(columns.cells[columns.offsets[0] : columns.offsets[-1]])
        self._ends.extend(columns.offsets[1:] - columns.offsets[0] + base)
        self._times.extend(times)

    def any_of(self, ids: NDArray[np.int64]) -> bool:
        """Whether any of series `ids` has a histogram here."""
        return len(self) > 0 and bool(np.any(self._tails[ids[ids < len(self._tails)]] >= 0))

    def gather(self, ids: NDArray[np.int64], start: int, end: int) -> Found | None:
        """Those of series `ids` (rows are their places) in [start, end]; None where there are none."""
        if not len(self):
            return None
        times, previous = self._times.view(), self._previous.view()
        room = min(len(self), 1 << 16)
        while True:
            rows, which = np.empty(room, dtype=_I64), np.empty(room, dtype=_I64)
            total = int(kernel.walk(ids, self._tails, previous, times, start, end, rows, which))
            if total <= room:
                break
            room = total
        if not total:
            return None
        rows, which = rows[:total], which[:total]
        stamps = times[which]
        if np.any((stamps[1:] <= stamps[:-1]) & (rows[1:] == rows[:-1])):
            order = np.lexsort((stamps, rows))
            rows, which, stamps = rows[order], which[order], stamps[order]
        starts, offsets = np.empty(total, dtype=_I64), np.empty(total + 1, dtype=_I64)
        layout, hints = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.uint8)
        kernel.described(which, self._ends.view(), self._layout.view(), self._hints.view(), starts, offsets, layout, hints)
        cells = np.empty(int(offsets[-1]))
        kernel.copied(starts, offsets, self._cells.view(), cells)
        columns = Histograms(which, tuple(self._table.layouts), layout, offsets, cells, hints)
        return Found(rows, stamps, columns)

    def renumbered(self, old_ids: NDArray[np.int64]) -> HeadHistograms:
        """The same histograms where series i is the one that was `old_ids[i]`; those of the others are out of reach."""
        made = HeadHistograms()
        made.__dict__.update(self.__dict__)
        made._tails = np.full(len(old_ids), -1, dtype=_I64)
        known = np.flatnonzero(old_ids < len(self._tails))
        made._tails[known] = self._tails[old_ids[known]]
        return made
