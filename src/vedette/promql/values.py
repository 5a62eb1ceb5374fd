"""What travels between the operations of a query: grids of steps, scalars, matrices and windows over series.

A matrix is the whole answer of an instant-vector expression over all steps at once. Absence is the mask, never NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vedette.model.labeltable import LabelTable
from vedette.promql.native_pool import Natives, joined
from vedette.storage.interface import Steps

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
    the end of the query: delayed name removal. `histograms` ([rows, n], None for none) are the samples that are native
    histograms; `values` mean nothing there.
    """

    labels: LabelTable
    values: Floats
    present: Bools
    drop: Bools | None = None
    histograms: Natives | None = None

    def __len__(self) -> int:
        return len(self.present)

    def take(self, rows: Ints) -> Matrix:
        """The matrix of `rows`, in their order."""
        drop = None if self.drop is None else self.drop[rows]
        histograms = None if self.histograms is None else self.histograms.at(rows)
        return Matrix(self.labels.take(rows), self.values[rows], self.present[rows], drop, histograms)

    @property
    def native(self) -> Bools:
        """Which samples are native histograms: bool[rows, n]."""
        if self.histograms is None:
            return np.zeros(self.present.shape, dtype=np.bool_)
        return self.present & self.histograms.mask

    def floats(self) -> Matrix:
        """The matrix without its native histograms."""
        if self.histograms is None:
            return self
        return Matrix(self.labels, self.values, self.present & ~self.native, self.drop)

    def found(self) -> Matrix:
        """The matrix without rows that are absent at every step."""
        if np.count_nonzero(self.present) == self.present.size and self.present.size:
            return self
        any_ = self.present.any(axis=1)
        return self if any_.all() else self.take(np.flatnonzero(any_))


Block = Callable[[int, int, Floats, Bools], None]
"""`fill(lo, hi, values, present)` writes rows `[lo, hi)` into the first rows of the arrays."""


def joined_histograms(a: Matrix, b: Matrix) -> Natives | None:
    """The histograms of `a`'s rows, then those of `b`'s; None where neither has any."""
    return joined([(m.histograms, m.present.shape) for m in (a, b)])


_LONGER = 4
"""Times as long as it should be a block of rows may be."""


class Rows:
    """A matrix not yet made: labels are known, values are computed block by block when asked for.

    An aggregation reads it in blocks that fit the cache, so that a query over 100,000 series needs no matrix of them.
    """

    __slots__ = ("begins", "depth", "drop", "fill", "held", "labels", "made", "n", "samples")

    def __init__(
        self,
        labels: LabelTable,
        n: int,
        fill: Block,
        drop: Bools | None = None,
        *,
        samples: int = 0,
        begins: Ints | None = None,
        held: tuple[int, int] = (0, 0),
        depth: int = 0,
    ) -> None:
        """`samples` is about how many samples all rows together are computed from, 0 where that is not known.

        `held` are the samples that `fill` keeps hold of, and their bytes.

        `begins` says where rows begin that are best computed together, as `interface.Pieces.begins` has it.

        `depth` is how many other rows stand behind these, one behind the other: `fill` calls theirs.
        """
        self.labels = labels
        self.depth = depth
        self.samples = samples
        self.begins = begins
        self.held = held
        self.n = n
        self.fill = fill
        self.drop = drop
        self.made: Matrix | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def cuts(self, step: int, lo: int = 0, hi: int | None = None) -> list[int]:
        """Where to cut the rows [lo, hi) into blocks of about `step`, ends included: between rows that are best computed together.

        A block is a little longer where few rows more belong together.
        """
        hi = len(self) if hi is None else hi
        if self.begins is None:
            return [*range(lo, hi, step), hi]
        found = [lo]
        while (at := found[-1]) < hi:
            k = int(self.begins.searchsorted(min(at + step, hi), side="right")) - 1
            upto = int(self.begins[k])
            if upto <= at and k + 1 < len(self.begins):
                upto = int(self.begins[k + 1])
            found.append(min(upto if at < upto <= at + _LONGER * step else at + step, hi))
        return found


class Slabs(Protocol):
    """Samples of series that are read a few rows at a time."""

    @property
    def samples(self) -> int:
        """About how many there are of all rows together."""
        ...

    @property
    def begins(self) -> Ints | None:
        """Where rows begin that are best read together, as `interface.Pieces.begins` has it."""
        ...

    @property
    def read(self) -> int:
        """How many samples were read so far, those of a row that was read again once."""
        ...

    @property
    def depth(self) -> int:
        """How many rows stand behind them, as `Rows.depth`."""
        ...

    def of(self, lo: int, hi: int, steps: Steps, *, stale: bool) -> Iterator[Slab]:
        """What `steps` want of the rows [lo, hi), in slabs that together have each row at each step; with or without `stale` markers.

        Each slab is gone when the next one comes.
        """
        ...

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
        """Compute the rows [lo, hi) as kernel `streamed.windows` does, to which `params` go; answers whether that was possible.

        Calls `check` every few milliseconds.
        """
        ...


class Slab(NamedTuple):
    """Rows [lo, hi) as CSR, from row 0 on, for the steps [begin, end)."""

    lo: int
    hi: int
    begin: int
    end: int
    offsets: Ints
    timestamps: Ints
    values: Floats


@dataclass(frozen=True, slots=True)
class Windows:
    """A range vector: series in CSR form without stale markers, and the window `(t - range, t]` of each step.

    Step k's window ends at `first + k * step`. `natives` (None for none) are the native histograms among the samples, whose
    `values` are then their sums. `starts` int64 (None for none) are the samples' start timestamps in
    ms, 0 where unknown.
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
    natives: Natives | None = None
    starts: Ints | None = None
    counted: bool = False
    """Whether the values are how many samples there were, from rollups."""
    weights: Floats | None = None
    """Where they are from rollups: for how many samples each stands."""
    slabs: Slabs | None = None
    """What reads the samples a few rows at a time, where there are none above."""

    @property
    def samples(self) -> int:
        """How many samples there are; about, where they are read in slabs."""
        return len(self.timestamps) if self.slabs is None else self.slabs.samples

    def floats(self) -> Windows:
        """The windows without their native histograms."""
        if self.natives is None:
            return self
        keep = ~self.natives.mask
        before = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
        return replace(
            self, offsets=before[self.offsets], timestamps=self.timestamps[keep], values=self.values[keep], natives=None, starts=None
        )


Value = Scalar | Matrix | Rows | Windows | str
