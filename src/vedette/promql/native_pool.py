"""Native histograms of a query as columns: a pool of them, and where in a matrix or among samples each one stands.

Whatever picks, repeats or joins histograms moves numbers; an object is made of one only where it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vedette.model.histogram_arithmetic import compacted
from vedette.model.histograms import HEAD, Histogram, Histograms, Layout, LayoutTable, bare
from vedette.promql.native_layouts import Buckets, Layouts, distinct

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Objects = NDArray[np.object_]
"""Native histograms (`Histogram`) where samples are such, None elsewhere."""

_FEW_LAYOUTS = 64


def native_mask(objects: Objects) -> Bools:
    """Where the histograms are."""
    mask: Bools = np.not_equal(objects, None)  # type: ignore[call-overload]
    return mask


def writable(array: NDArray[Any]) -> NDArray[Any]:
    """As kernels are compiled for it: a read-only array would be compiled for anew."""
    return np.require(array, requirements=("C", "W"))


@dataclass(frozen=True, eq=False)
class Pool:
    """Histogram j has the layout `layouts[layout[j]]` (int32[m]), the cells from `starts[j]` (int64[m]) on in `cells` (float64), the
    hint `hints[j]` (uint8[m]); with `slim[j]` (bool[m]) an empty bucket is none."""

    layouts: Sequence[Layout]
    layout: NDArray[np.int32]
    starts: Ints
    cells: NDArray[np.float64]
    hints: NDArray[np.uint8]
    slim: Bools
    stored: bool = False
    """Whether the cells are what was read, which counts as such."""

    def __len__(self) -> int:
        return len(self.starts)

    @classmethod
    def of(cls, columns: Histograms) -> Pool:
        """The histograms of `columns`."""
        layouts, layout = columns.layouts, writable(columns.layout)
        if len(layouts) > _FEW_LAYOUTS:
            # What is stored knows the layouts of all series, of which these are some.
            used = distinct(layout.astype(np.int64), len(layouts))
            numbers = np.zeros(len(layouts), dtype=np.int32)
            numbers[used] = np.arange(len(used))
            layouts, layout = tuple(layouts[number] for number in used.tolist()), numbers[layout]
        starts, cells, hints = (writable(column) for column in (columns.offsets[:-1], columns.cells, columns.hints))
        return cls(layouts, layout, starts, cells, hints, np.zeros(len(starts), dtype=np.bool_), stored=True)

    @classmethod
    def empty(cls) -> Pool:
        """Without any histogram."""
        return cls.of(Histograms.of((), ()))

    @classmethod
    def made(
        cls, layouts: Sequence[Layout], layout: Ints, starts: Ints, cells: NDArray[np.float64], hints: NDArray[np.uint8], slim: Bools
    ) -> Pool:
        """Of results: those of the `layouts` that occur are kept."""
        used = distinct(layout, len(layouts))
        numbers = np.zeros(len(layouts), dtype=np.int32)
        numbers[used] = np.arange(len(used))
        return cls(tuple(layouts[number] for number in used.tolist()), numbers[layout], starts, cells, hints, slim)

    @cached_property
    def table(self) -> Layouts:
        """The layouts as kernels take them; `layout` counts among these, too."""
        return Layouts(self.layouts)

    @property
    def columns(self) -> tuple[NDArray[np.int32], Ints, NDArray[np.float64], Bools]:
        """(layout, starts, cells, slim), as kernels take them."""
        return self.layout, self.starts, self.cells, self.slim

    @cached_property
    def buckets(self) -> Buckets:
        """The bounds of each layout's buckets."""
        return self.table.buckets(len(self.layouts))

    @property
    def nbytes(self) -> int:
        """About how much is held."""
        return 0 if self.stored else self.cells.nbytes + 14 * len(self.starts)

    def sample(self, j: int) -> Histogram:
        """Histogram `j`; its cells may be a view."""
        layout, start = self.layouts[self.layout[j]], int(self.starts[j])
        h = Histogram(layout, self.cells[start : start + layout.width], int(self.hints[j]))
        return compacted(h) if self.slim[j] else h

    def bucketless(self) -> Pool:
        """The same histograms without their buckets; what their buckets are like remains known."""
        table = LayoutTable()
        numbers = table.numbers([bare(x.schema, x.threshold, x.bounds) for x in self.layouts])
        return replace(self, layouts=tuple(table.layouts), layout=numbers[self.layout] if len(self) else self.layout)

    def with_(self, other: Pool) -> Pool:
        """The histograms of both, those of `other` after these; equal layouts are told once."""
        table = LayoutTable()
        numbers = [table.numbers(p.layouts)[p.layout] if len(p) else p.layout for p in (self, other)]
        return Pool(
            tuple(table.layouts),
            np.concatenate(numbers),
            np.concatenate([self.starts, other.starts + len(self.cells)]),
            np.concatenate([self.cells, other.cells]),
            np.concatenate([self.hints, other.hints]),
            np.concatenate([self.slim, other.slim]),
        )


class Natives:
    """Where the histograms of a `pool` stand: `index` int64 of any shape has their numbers, -1 where there is none."""

    __slots__ = ("__dict__", "index", "pool")

    def __init__(self, index: Ints, pool: Pool) -> None:
        self.index = index
        self.pool = pool

    @classmethod
    def of(cls, objects: Objects) -> Natives:
        """Of objects that are there."""
        mask = native_mask(objects)
        index = np.full(objects.shape, -1, dtype=np.int64)
        index[mask] = np.arange(np.count_nonzero(mask))
        found: list[Histogram] = objects[mask].tolist()
        return cls(index, Pool.of(Histograms.of(np.zeros(0, dtype=np.int64), found)))

    @property
    def shape(self) -> tuple[int, ...]:
        """That of `index`."""
        return self.index.shape

    @property
    def nbytes(self) -> int:
        """About how much is held."""
        return self.index.nbytes + self.pool.nbytes

    @property
    def mask(self) -> Bools:
        """Where the histograms are."""
        return self.index >= 0

    def at(self, where: Any) -> Natives:
        """Those at an index, slice or mask of NumPy."""
        return Natives(self.index[where], self.pool)

    def sample(self, *at: int) -> Histogram | None:
        """The histogram at one place, if there is one."""
        j = int(self.index[at])
        return None if j < 0 else self.pool.sample(j)

    @cached_property
    def objects(self) -> Objects:
        """A histogram for each place, None where there is none; one that stands in several is made once."""
        out = np.full(self.index.shape, None, dtype=object)
        there = self.index >= 0
        if not there.any():
            return out
        numbers, which = np.unique(self.index[there], return_inverse=True)
        made = np.empty(len(numbers), dtype=object)
        for i, j in enumerate(numbers.tolist()):
            made[i] = self.pool.sample(j)
        out[there] = made[which.reshape(-1)]
        return out

    def replaced(self, where: Bools, objects: Objects) -> Natives:
        """The same with those of `objects` where `where` holds, which may be None."""
        if not where.any():
            return self
        chosen = np.full(objects.shape, None, dtype=object)
        chosen[where] = objects[where]
        return self.merged(where, Natives.of(chosen))

    def merged(self, where: Bools, other: Natives) -> Natives:
        """The same with those of `other`, of the same shape, where `where` holds."""
        index = np.where(where, np.where(other.index >= 0, other.index + len(self.pool), -1), self.index)
        return Natives(index, self.pool.with_(other.pool))


def joined(parts: Sequence[tuple[Natives | None, tuple[int, ...]]]) -> Natives | None:
    """What stands in each of `parts` (None: nothing, in the shape given), one after the other; None where all are."""
    given = [natives for natives, _ in parts if natives is not None]
    if not given:
        return None
    pool, begins = given[0].pool, {id(given[0].pool): 0}
    for natives in given[1:]:
        if id(natives.pool) not in begins:
            begins[id(natives.pool)] = len(pool)
            pool = pool.with_(natives.pool)
    columns = [
        np.full(shape, -1, dtype=np.int64)
        if natives is None
        else np.where(natives.index >= 0, natives.index + begins[id(natives.pool)], -1)
        for natives, shape in parts
    ]
    return Natives(np.concatenate(columns), pool)


def differ(pool: Pool, a: Ints, b: Ints) -> tuple[Bools, Bools]:
    """(whether the histograms `a` are other than those of `b`, to the bit, but for hints; whether that is said of them).

    It is not where layouts are unlike and an empty bucket may be none.
    """
    if not len(a):
        return np.zeros(0, dtype=np.bool_), np.zeros(0, dtype=np.bool_)
    alike = pool.table.alike
    same, slim = alike[pool.layout[a]] == alike[pool.layout[b]], pool.slim[a] & pool.slim[b]
    either = pool.slim[a] | pool.slim[b]
    known = (slim == either) & (same | ~either)
    told = np.flatnonzero(same & known)
    widths = pool.table.widths[pool.layout[a[told]]]
    owner = np.repeat(np.arange(len(told)), widths)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(widths) - widths, widths)
    one, two = (pool.cells[pool.starts[items[told]][owner] + within] for items in (a, b))
    other = one.view(np.int64) != two.view(np.int64)
    # Of two that have no empty buckets both are none, whatever the sign of their 0.
    other &= ~(slim[told][owner] & (within >= HEAD) & (one == 0) & (two == 0))
    out = ~same
    out[told] = np.bincount(owner[other], minlength=len(told)) > 0
    return out, known
