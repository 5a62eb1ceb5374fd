"""The matrix of a large answer as decimals: what writing it as text needs, and nothing else.

Each block of rows is made decimals right where it was computed, while it is in the caches, and in its own memory, so that how long the
answer will be is known once all of it is computed, and nothing is looked at twice. Not here: the text (`result.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import render, shortest
from vedette.kernels.digits import ABSENT, INFINITE, MINUS_ZERO, NAN, SPARE
from vedette.kernels.render import HEAD_BYTES
from vedette.model.labeltable import LabelTable
from vedette.promql.evaluation import BLOCK_CELLS, Evaluation
from vedette.promql.values import Bools, Floats, Grid, Ints, Matrix, Rows

CELL_BYTES = 10
"""Of a value, and of its places."""
LARGE = 1 << 16
"""Values from which on an answer is made of decimals."""


class Heads:
    """What stands before a value at each step of a grid, `,[time,"`, as kernels read it."""

    def __init__(self, grid: Grid) -> None:
        self.text = np.zeros(grid.n * HEAD_BYTES + SPARE, dtype=np.uint8)
        self.sizes = np.empty(grid.n, dtype=np.int64)
        """How many bytes each has: int64[n]."""
        render.write_heads(grid.times, self.text, self.sizes)

    @property
    def times(self) -> Ints:
        """How many bytes each time has: int64[n]."""
        return self.sizes - len(',[,"')


@dataclass(frozen=True, slots=True)
class Decimals:
    """Series over the steps of a grid: `whole / 10**places` (int64, int16: [rows, n]), as `shortest.settle` has them.

    `counts` int64[rows] is how many values each row has, and `sizes` int64[rows] how many bytes its points take as JSON.
    """

    labels: LabelTable
    heads: Heads
    whole: Ints
    places: NDArray[np.int16]
    counts: Ints
    sizes: Ints

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def of(cls, ev: Evaluation, value: Rows | Matrix, grid: Grid) -> Decimals:
        """Those of a value, whose memory they take; on two threads. It has no native histograms, and no names to be dropped."""
        rows, n = len(value), grid.n
        heads = Heads(grid)
        values = (
            value.values if isinstance(value, Matrix) and value.values.flags.carray and value.values.base is None else np.empty((rows, n))
        )
        places, (counts, sizes) = np.empty((rows, n), dtype=np.int16), np.empty((2, rows), dtype=np.int64)
        whole, times = values.view(np.int64), heads.times
        spare: list[Bools] = []

        def settle(part: tuple[int, int], present: Bools) -> None:
            shortest.settle(values[slice(*part)], present, times, *(column[slice(*part)] for column in (whole, places, counts, sizes)))

        def compute(part: tuple[int, int]) -> None:
            assert isinstance(value, Rows), "asked only of those"
            ev.check()
            lo, hi = part
            present = spare.pop() if spare else np.empty((0, n), dtype=np.bool_)
            if len(present) < hi - lo:
                present = np.empty((hi - lo, n), dtype=np.bool_)
            value.fill(lo, hi, values[lo:hi], present[: hi - lo])
            settle(part, present[: hi - lo])
            spare.append(present)

        def take(part: tuple[int, int]) -> None:
            assert isinstance(value, Matrix), "asked only of those"
            ev.check()
            if values is not value.values:
                values[slice(*part)] = value.values[slice(*part)]
            settle(part, np.array(value.present[slice(*part)]))

        if isinstance(value, Rows):
            ev.count(rows * n, CELL_BYTES * rows * n)
            ev.each_block(value, compute)
        else:
            ev.in_turns(take, blocks(rows, n))
        return cls(value.labels, heads, whole, places, counts, sizes)

    def columns(self, rows: Ints, grid: Grid) -> tuple[Ints, Floats]:
        """The times (int64 ms) and values of some rows, one after the other."""
        there = self.places[rows] != ABSENT
        times = np.broadcast_to(grid.times, there.shape)[there]
        whole, places = self.whole[rows][there], self.places[rows][there]
        # One Python step a value: whoever wants numbers does not ask for decimals.
        return times, np.array([_float(digits, found) for digits, found in zip(whole.tolist(), places.tolist(), strict=True)])


def _float(whole: int, places: int) -> float:
    if places >= ABSENT:
        return {NAN: math.nan, INFINITE: whole * math.inf, MINUS_ZERO: -0.0}[places]
    return float(f"{whole}e{-places}")


def blocks(rows: int, n: int) -> Sequence[tuple[int, int]]:
    """The rows of a matrix of n steps in parts that stay in the caches."""
    step = max(1, BLOCK_CELLS // max(1, n))
    return [(lo, min(lo + step, rows)) for lo in range(0, rows, step)]
