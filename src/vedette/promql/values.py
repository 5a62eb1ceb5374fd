"""What travels between the operations of a query: grids of steps, scalars, matrices and windows over series.

A matrix is the whole answer of an instant-vector expression over all steps at once. Absence is the mask, never NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vedette.model.labels import LabelTable

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class Grid(NamedTuple):
    """The steps `start + k * step` for `k < n`, in ms."""

    start: int
    step: int
    n: int

    @property
    def last(self) -> int:
        """The last step."""
        return self.start + self.step * (self.n - 1)

    @property
    def times(self) -> Ints:
        """int64[n]."""
        return self.start + self.step * np.arange(self.n, dtype=np.int64)

    @property
    def first(self) -> Grid:
        """The first step alone."""
        return Grid(self.start, self.step, 1)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One number a step: float64[n]."""

    values: Floats


@dataclass(frozen=True, slots=True)
class Matrix:
    """Series over steps: `values` float64[rows, n] where `present` bool[rows, n]; elsewhere `values` mean nothing.

    No two rows have the same labels. `drop` (bool[rows], None for none) marks rows whose metric name is to be dropped at
    the end of the query: delayed name removal.
    """

    labels: LabelTable
    values: Floats
    present: Bools
    drop: Bools | None = None

    def __len__(self) -> int:
        return len(self.present)

    def take(self, rows: Ints) -> Matrix:
        """The matrix of `rows`, in their order."""
        return Matrix(self.labels.take(rows), self.values[rows], self.present[rows], None if self.drop is None else self.drop[rows])

    def found(self) -> Matrix:
        """The matrix without rows that are absent at every step."""
        any_ = self.present.any(axis=1)
        return self if any_.all() else self.take(np.flatnonzero(any_))


Block = Callable[[int, int, Floats, Bools], None]
"""`fill(lo, hi, values, present)` writes rows `[lo, hi)` into the first rows of the arrays."""


class Rows:
    """A matrix not yet made: labels are known, values are computed block by block when asked for.

    An aggregation reads it in blocks that fit the cache, so that a query over 100,000 series needs no matrix of them.
    """

    __slots__ = ("drop", "fill", "labels", "made", "n")

    def __init__(self, labels: LabelTable, n: int, fill: Block, drop: Bools | None = None) -> None:
        self.labels = labels
        self.n = n
        self.fill = fill
        self.drop = drop
        self.made: Matrix | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Windows:
    """A range vector: series in CSR form without stale markers, and the window `(t - range, t]` of each step.

    Step k's window ends at `first + k * step`.
    """

    labels: LabelTable
    offsets: Ints
    timestamps: Ints
    values: Floats
    first: int
    step: int
    range: int
    drop: Bools | None = None
    anchored: bool = False
    smoothed: bool = False


Value = Scalar | Matrix | Rows | Windows | str
