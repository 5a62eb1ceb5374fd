"""Native histograms: one sample (`Histogram`), and those of many samples as columns (`Histograms`).

A histogram is a layout (which buckets there are) and cells: one float64 for each of count, sum, zero bucket, positive and
negative buckets, in this order. Samples of one series mostly share their layout, so columns hold each layout once and
the cells end to end. All counts are absolute floats, as in Prometheus' float histograms; spans and deltas are what the
wire makes of them. Arithmetic is in `histogram_arithmetic.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

CUSTOM_SCHEMA = -53
"""The schema of histograms whose buckets are given by their upper bounds. Exponential ones are -4 to 8."""

UNKNOWN, RESET, NOT_RESET, GAUGE = range(4)
"""Counter reset hints, numbered as in Prometheus' protobuf messages."""

COUNT, SUM, ZERO = range(3)
"""The cells that every histogram has."""

HEAD = 3
"""How many those are: buckets begin here."""


_LARGEST = 1.7976931348623157e308


def exponential_bounds(schema: int, indices: NDArray[np.int32]) -> NDArray[np.float64]:
    """Upper bounds of exponential buckets: 2**(index * 2**-schema). The last bucket below infinity ends at the largest float."""
    wide = indices.astype(np.int64)
    if schema <= 0:
        exponent = wide << -schema
        return np.where(exponent == 1024, _LARGEST, _scaled(np.ones(len(wide)), exponent))
    part = wide & ((1 << schema) - 1)
    exponent = (wide >> schema) + 1
    return np.where((part == 0) & (exponent == 1025), _LARGEST, _scaled(0.5 * np.exp2(part / (1 << schema)), exponent))


def _scaled(mantissas: NDArray[np.float64], exponents: NDArray[np.int64]) -> NDArray[np.float64]:
    # Indices come from outside and may lie far beyond any float: infinity and zero are right then.
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(mantissas, np.clip(exponents, -5000, 5000).astype(np.int32))


@dataclass(frozen=True, eq=False)
class Layout:
    """The buckets of a histogram. `positive`, `negative` int32: their indices, ascending; those of custom buckets are `positive`.

    Exponential bucket i of schema n lies between 2**((i - 1) * 2**-n) (exclusive) and 2**(i * 2**-n); custom bucket i has
    the upper bound `bounds[i]`, and beyond the last one +Inf. `threshold` is the width of the zero bucket to either side.
    """

    schema: int
    threshold: float
    bounds: tuple[float, ...]
    positive: NDArray[np.int32]
    negative: NDArray[np.int32]

    @property
    def custom(self) -> bool:
        """Whether the buckets are given by `bounds`."""
        return self.schema == CUSTOM_SCHEMA

    @property
    def width(self) -> int:
        """How many cells a histogram of this layout has."""
        return HEAD + len(self.positive) + len(self.negative)

    @cached_property
    def key(self) -> bytes:
        """What tells this layout from others: equal for layouts that are the `same`, to the bit of their numbers."""
        head = struct.pack("<idII", self.schema, self.threshold, len(self.bounds), len(self.positive))
        return head + struct.pack(f"<{len(self.bounds)}d", *self.bounds) + self.positive.tobytes() + self.negative.tobytes()

    @cached_property
    def family(self) -> tuple[bool, bytes, tuple[float, ...]]:
        """What layouts share that differ in their schema and in which buckets they have, and in nothing else."""
        return self.custom, struct.pack("<d", self.threshold), self.bounds

    @cached_property
    def positive_bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper bounds of the positive buckets (of all custom ones)."""
        if not self.custom:
            return exponential_bounds(self.schema, self.positive - 1), exponential_bounds(self.schema, self.positive)
        edges = np.concatenate([[-np.inf], self.bounds, [np.inf]])
        at = np.clip(self.positive, 0, len(self.bounds))
        return edges[at], edges[at + 1]

    @cached_property
    def negative_bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Those of the negative buckets, without their sign: the nearer one first."""
        return exponential_bounds(self.schema, self.negative - 1), exponential_bounds(self.schema, self.negative)

    def same(self, other: Layout) -> bool:
        """Whether both have the same buckets, empty ones included."""
        return self is other or (
            self.schema == other.schema
            and self.threshold == other.threshold
            and self.bounds == other.bounds
            and np.array_equal(self.positive, other.positive)
            and np.array_equal(self.negative, other.negative)
        )


NO_BUCKETS = np.zeros(0, dtype=np.int32)
"""The indices of a side without buckets."""


def bare(schema: int, threshold: float = 0.0, bounds: tuple[float, ...] = ()) -> Layout:
    """A layout without buckets."""
    return Layout(schema, threshold, bounds, NO_BUCKETS, NO_BUCKETS)


@dataclass(frozen=True, eq=False, slots=True)
class Histogram:
    """One sample: `cells` float64[layout.width], never written to once the histogram is made."""

    layout: Layout
    cells: NDArray[np.float64]
    hint: int = UNKNOWN

    @property
    def count(self) -> float:
        """How many observations."""
        return float(self.cells[COUNT])

    @property
    def sum(self) -> float:
        """The sum of observations; the stale marker's bits here make the sample one."""
        return float(self.cells[SUM])

    @property
    def zero_count(self) -> float:
        """Observations in the zero bucket."""
        return float(self.cells[ZERO])

    @property
    def positive(self) -> NDArray[np.float64]:
        """The counts of the positive buckets."""
        return self.cells[HEAD : HEAD + len(self.layout.positive)]

    @property
    def negative(self) -> NDArray[np.float64]:
        """The counts of the negative buckets."""
        return self.cells[HEAD + len(self.layout.positive) :]

    def hinted(self, hint: int) -> Histogram:
        """The histogram with another counter reset hint."""
        return self if hint == self.hint else Histogram(self.layout, self.cells, hint)


@dataclass(frozen=True, slots=True)
class Histograms:
    """The native histograms among the samples of a set of series.

    Histogram j is sample `at[j]` (int64[m], ascending) and has layout `layouts[layout[j]]` (int32[m]), the cells
    `cells[offsets[j]:offsets[j+1]]` (int64[m+1], float64) and the counter reset hint `hints[j]` (uint8[m]). The samples'
    own values at `at` are the histograms' sums, so that stale markers are found in one place.
    """

    at: NDArray[np.int64]
    layouts: tuple[Layout, ...]
    layout: NDArray[np.int32]
    offsets: NDArray[np.int64]
    cells: NDArray[np.float64]
    hints: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.at)

    @classmethod
    def of(cls, at: Sequence[int] | NDArray[np.int64], samples: Sequence[Histogram]) -> Histograms:
        """Columns of `samples`, which are the samples at `at`. Histograms that share their layout object share its row."""
        rows: dict[int, int] = {}
        layouts: list[Layout] = []
        for h in samples:
            if id(h.layout) not in rows:
                rows[id(h.layout)] = len(layouts)
                layouts.append(h.layout)
        offsets = np.zeros(len(samples) + 1, dtype=np.int64)
        np.cumsum([len(h.cells) for h in samples], out=offsets[1:])
        return cls(
            np.asarray(at, dtype=np.int64),
            tuple(layouts),
            np.array([rows[id(h.layout)] for h in samples], dtype=np.int32),
            offsets,
            np.concatenate([h.cells for h in samples]) if samples else np.zeros(0),
            np.array([h.hint for h in samples], dtype=np.uint8),
        )

    @property
    def sums(self) -> NDArray[np.float64]:
        """The sums: float64[m]."""
        return self.cells[self.offsets[:-1] + SUM]

    def take(self, which: NDArray[np.int64], at: NDArray[np.int64]) -> Histograms:
        """The histograms `which` (int64[k]), in this order, as the samples at `at`."""
        lengths = self.offsets[which + 1] - self.offsets[which]
        offsets = np.zeros(len(which) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        cells = self.cells[np.arange(offsets[-1]) + np.repeat(self.offsets[which] - offsets[:-1], lengths)]
        return Histograms(at, self.layouts, self.layout[which], offsets, cells, self.hints[which])

    @classmethod
    def joined(cls, parts: Sequence[Histograms]) -> Histograms:
        """The histograms of `parts`, one after the other, `at` as it is in each; equal layouts are told once."""
        if len(parts) == 1:
            return parts[0]
        table = LayoutTable()
        layout = [table.numbers(p.layouts)[p.layout] for p in parts]
        ends = np.cumsum([0, *(int(p.offsets[-1]) for p in parts)])
        offsets = [p.offsets[:-1] + end for p, end in zip(parts, ends[:-1].tolist(), strict=True)]
        return cls(
            np.concatenate([p.at for p in parts]),
            tuple(table.layouts),
            np.concatenate(layout),
            np.concatenate([*offsets, ends[-1:]]),
            np.concatenate([p.cells for p in parts]),
            np.concatenate([p.hints for p in parts]),
        )

    def sample(self, j: int) -> Histogram:
        """Histogram `j`; its cells are a view."""
        return Histogram(self.layouts[self.layout[j]], self.cells[self.offsets[j] : self.offsets[j + 1]], int(self.hints[j]))


class LayoutTable:
    """Layouts by number, each once."""

    def __init__(self) -> None:
        self.layouts: list[Layout] = []
        self._numbers: dict[bytes, int] = {}

    def number(self, layout: Layout) -> int:
        """The number of `layout`, which is added where it is not known."""
        found = self._numbers.setdefault(layout.key, len(self.layouts))
        if found == len(self.layouts):
            self.layouts.append(layout)
        return found

    def numbers(self, layouts: Sequence[Layout]) -> NDArray[np.int32]:
        """The number of each of `layouts`."""
        return np.array([self.number(layout) for layout in layouts], dtype=np.int32)
