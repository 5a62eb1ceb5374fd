"""The points of a large answer where its matrix has them, laid out a few rows at a time: right before they are written as text.

All of them as columns are memory for times and values that is cleared, written and read again, past the caches, by one thread.
"""

from __future__ import annotations

import numpy as np

from vedette.kernels import render
from vedette.promql.values import Bools, Floats, Grid, Ints


class Points:
    """`values` (float64[rows, n]) where `present` (bool[rows, n]), of the rows `order`, at the steps of a grid. Thread-safe."""

    def __init__(self, values: Floats, present: Bools, order: Ints, grid: Grid) -> None:
        self._values = values
        self._present = present
        self._order = order
        self._grid = grid
        self._full = np.count_nonzero(present) == present.size
        self._times = np.zeros(0, dtype=np.int64)
        """Of rows that have all steps: the same again and again, of as many rows as were asked for so far."""
        counts = np.full(len(order), grid.n) if self._full else np.count_nonzero(present, axis=1)[order]
        self.offsets = np.zeros(len(order) + 1, dtype=np.int64)
        """int64[len(order) + 1]: how many points the rows before have."""
        np.cumsum(counts, out=self.offsets[1:])

    def let_go(self) -> None:
        """Hold the values no longer: no part is asked for any more."""
        self._values, self._present = np.empty((0, self._grid.n)), np.empty((0, self._grid.n), dtype=np.bool_)

    def part(self, lo: int, hi: int) -> tuple[Ints, Floats]:
        """The times (int64, ms) and values of the rows `order[lo:hi]`, row by row."""
        assert len(self._values) or lo == hi, "nothing is asked of a result after its last pieces"
        rows, count = self._order[lo:hi], int(self.offsets[hi] - self.offsets[lo])
        if self._full:
            times = self._times
            if len(times) < count:
                self._times = times = np.tile(self._grid.times, hi - lo)
            return times[:count], self._values[rows].reshape(-1)
        times, floats = np.empty(count, dtype=np.int64), np.empty(count)
        offsets = np.empty(len(rows) + 1, dtype=np.int64)
        render.flatten(self._values, self._present, rows, self._grid.start, self._grid.step, offsets, times, floats)
        return times, floats
