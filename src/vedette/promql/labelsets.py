"""Operations on label tables: grouping, keeping and removing labels, joining two tables' rows.

All tables of one query share one symbol table (`unify`), so that equal texts are equal symbols.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from vedette.kernels.groups import group_rows, keep_pairs
from vedette.kernels.render import sort_rows
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.labeltable import LabelTable, Symbols, remembered
from vedette.promql.values import Ints

_FEW_ROWS = 24

METADATA = (METRIC_NAME, "__type__", "__unit__")
"""The labels that go when an operation changes what a metric means."""


def symbols_of(table: LabelTable, names: Iterable[str]) -> NDArray[np.int32]:
    """The symbols of those `names` that the table may have."""
    found = (table.symbols.find(n) for n in names)
    return np.array([s for s in found if s >= 0], dtype=np.int32)


@remembered
def grouped(table: LabelTable, names: Iterable[str], *, without: bool) -> tuple[Ints, Ints]:
    """Group rows by their labels in `names`, or by all others: each row's group, and each group's first row."""
    groups = np.empty(len(table), dtype=np.int64)
    first = np.empty(len(table), dtype=np.int64)
    count = group_rows(table.offsets, table.names, table.values, symbols_of(table, names), without, groups, first)
    return groups, first[:count]


@remembered
def kept(table: LabelTable, names: Iterable[str], *, without: bool) -> LabelTable:
    """The table with only the labels in `names`, or without them."""
    offsets = np.empty(len(table) + 1, dtype=np.int64)
    out_names = np.empty(len(table.names), dtype=np.int32)
    out_values = np.empty(len(table.names), dtype=np.int32)
    n = keep_pairs(table.offsets, table.names, table.values, symbols_of(table, names), without, offsets, out_names, out_values)
    return LabelTable(table.symbols, offsets, out_names[:n], out_values[:n])


@remembered
def stacked(a: LabelTable, b: LabelTable) -> LabelTable:
    """The rows of `a`, then those of `b`."""
    assert a.symbols is b.symbols, "tables of one query share their symbols"
    offsets = np.concatenate([a.offsets, b.offsets[1:] + a.offsets[-1]])
    return LabelTable(a.symbols, offsets, np.concatenate([a.names, b.names]), np.concatenate([a.values, b.values]))


def empty(symbols: Symbols, rows: int = 0) -> LabelTable:
    """A table of `rows` empty label sets."""
    nothing = np.zeros(0, dtype=np.int32)
    return symbols.recalled(("empty", rows), lambda: LabelTable(symbols, np.zeros(rows + 1, dtype=np.int64), nothing, nothing))


def of(symbols: Symbols, rows: Sequence[Labels]) -> LabelTable:
    """A table of `rows` over the query's symbols."""
    return symbols.recalled(("of", *rows), lambda: LabelTable.from_labels(rows, symbols))


@remembered
def with_label(table: LabelTable, name: str, column: NDArray[np.int32]) -> LabelTable:
    """The table with label `name` set to the symbols in `column` (int32[rows]); -1 removes it."""
    symbols = table.symbols
    rest = kept(table, (name,), without=True)
    symbol = symbols.intern(name)
    distinct, inverse = marked(rest.names)
    # How many of a row's labels sort before the new one says where it goes in.
    before = np.array([symbols.text(s) < name for s in distinct.tolist()], dtype=np.bool_)
    upto = np.zeros(len(rest.names) + 1, dtype=np.int64)
    np.cumsum(before[inverse], out=upto[1:])
    given = column >= 0
    offsets = np.zeros(len(rest) + 1, dtype=np.int64)
    np.cumsum(np.diff(rest.offsets) + given, out=offsets[1:])
    at = (offsets[:-1] + upto[rest.offsets[1:]] - upto[rest.offsets[:-1]])[given]
    old = np.ones(int(offsets[-1]), dtype=np.bool_)
    old[at] = False
    names, values = np.empty(len(old), dtype=np.int32), np.empty(len(old), dtype=np.int32)
    names[at], names[old] = symbol, rest.names
    values[at], values[old] = column[given], rest.values
    return LabelTable(symbols, offsets, names, values)


_FEW_NAMES = 8


def occurring(names: Sequence[str], *tables: LabelTable) -> list[str]:
    """Of `names`, each once: of thousands that a query may name those that any row of the tables has; of a few, all."""
    if len(names) <= _FEW_NAMES:
        return list(dict.fromkeys(names))
    there = np.unique(np.concatenate([marked(table.names)[0] for table in tables]))
    numbers = {name: tables[0].symbols.find(name) for name in names}
    return [name for name, number in numbers.items() if number >= 0 and there.searchsorted(number) < there.searchsorted(number, "right")]


def marked(symbols: NDArray[np.int32]) -> tuple[NDArray[np.int32], Ints]:
    """The distinct symbols, ascending (where -1, for none, may come last), and for each of `symbols` its place among them."""
    if len(symbols) and (least := int(symbols.min())) >= -1 and symbols.max() < 16 * len(symbols):
        # Marking what occurs costs a tenth of sorting all of it; -1 has the last mark.
        seen = np.zeros(int(symbols.max()) + 1 - min(least, 0), dtype=np.int64)
        seen[symbols] = 1
        distinct = np.flatnonzero(seen).astype(np.int32)
        if least < 0:
            distinct[-1] = -1
        seen[distinct] = np.arange(len(distinct))
        return distinct, seen[symbols]
    distinct, inverse = np.unique(symbols, return_inverse=True)
    return distinct, inverse.reshape(-1).astype(np.int64, copy=False)


def unify(table: LabelTable, symbols: Symbols, base: Symbols) -> LabelTable:
    """The table over the query's `symbols`, which extend `base`; its texts are interned where it came from elsewhere."""
    if table.symbols is base or table.symbols is symbols:
        return LabelTable(symbols, table.offsets, table.names, table.values)

    def translated(column: NDArray[np.int32]) -> NDArray[np.int32]:
        distinct, inverse = np.unique(column, return_inverse=True)
        new = np.array([symbols.intern(table.symbols.text(int(s))) for s in distinct], dtype=np.int32)
        return new[inverse].astype(np.int32, copy=False)

    return LabelTable(symbols, table.offsets, translated(table.names), translated(table.values))


def metric_of(table: LabelTable, row: int) -> str:
    """The metric name of one row, empty where it has none."""
    lo, hi = int(table.offsets[row]), int(table.offsets[row + 1])
    names, name = table.names[lo:hi].tolist(), table.symbols.find(METRIC_NAME)
    return table.symbols.text(int(table.values[lo + names.index(name)])) if name in names else ""


def metric_names(table: LabelTable, rows: NDArray[np.bool_] | None = None) -> list[str]:
    """The distinct metric names of the rows (of those marked), in order of first appearance; without the nameless."""
    column = table.column(METRIC_NAME)
    if rows is not None:
        column = column[rows]
    distinct, first = np.unique(column, return_index=True)
    order = np.argsort(first, kind="stable")
    return [table.symbols.text(int(distinct[i])) for i in order if distinct[i] >= 0]


@remembered
def unique_without_names(table: LabelTable) -> bool:
    """Whether it is plain that no two rows become equal when their metadata labels are dropped."""
    if len(table) < 2:
        return True
    column = table.column(METRIC_NAME)
    others = symbols_of(table, METADATA[1:])
    return bool((column == column[0]).all()) and not (len(others) and np.isin(table.names, others).any())


def made_characters(table: LabelTable) -> int:
    """The characters of all label values that the query has made itself, as often as they occur."""
    made = table.values[table.values >= Symbols.FORK]
    if not len(made):
        return 0
    times = np.bincount(made - Symbols.FORK)
    return sum(int(times[i]) * len(table.symbols.text(Symbols.FORK + i)) for i in np.flatnonzero(times).tolist())


@remembered
def sorted_rows(table: LabelTable) -> Ints:
    """Row numbers in order of the rows' label sets, compared pair by pair."""
    order = np.arange(len(table), dtype=np.int64)
    if len(order) < 2:
        return order
    if len(order) <= _FEW_ROWS:
        # As long as these take no longer than a kernel takes to begin.
        return np.array(sorted(range(len(order)), key=pairs(table).__getitem__), dtype=np.int64)
    both = np.concatenate([table.names, table.values])
    distinct, inverse = marked(both)
    texts = [table.symbols.text(s) for s in distinct.tolist()]
    ranks = np.empty(len(texts), dtype=np.int64)
    ranks[sorted(range(len(texts)), key=texts.__getitem__)] = np.arange(len(texts))
    ranked = ranks[inverse]
    sort_rows(table.offsets, ranked[: len(table.names)], ranked[len(table.names) :], order, np.empty_like(order))
    return order


def pairs(table: LabelTable) -> list[list[tuple[str, str]]]:
    """The labels of each row, in order of their names; one Python step a pair."""
    if not len(table.names):
        return [[] for _ in range(len(table))]
    texts, ends = table.symbols.texts, table.offsets.tolist()
    pairs = list(zip(texts(table.names.tolist()), texts(table.values.tolist()), strict=True))
    return [pairs[lo:hi] for lo, hi in itertools.pairwise(ends)]
