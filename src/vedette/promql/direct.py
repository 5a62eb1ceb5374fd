"""A short way to the answers that dashboards ask for most: selectors of few series, perhaps a function of windows, perhaps summed up, and
what is made of these with numbers and with one another; quantiles of classic histograms; what is absent.

Such a query is over in less time than it takes to set up what larger ones need. What depends on its text and on the series alone
(their order, their labels as JSON, groups, doubts about counters) is kept from one time to the next. The answer is that of the long
way, to the byte; whatever could make a difference (modifiers, native histograms, rollups, labels that collide) is declined. Not here:
how values come about (`direct_parts.py`, `direct_sets.py`), limits, turns, and who asks (`engine.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np

from vedette.kernels import joins
from vedette.model.labeltable import LabelTable, Symbols
from vedette.model.matchers import Matcher
from vedette.model.series import SeriesSet
from vedette.promql import labelsets
from vedette.promql.annotations import Annotations
from vedette.promql.coarse import Column
from vedette.promql.direct_parts import (
    AGGREGATIONS,
    GIVEN_NOTHING,
    Cells,
    Changed,
    Joined,
    Leaf,
    Negated,
    Part,
    Quantile,
    Run,
    Summed,
    Tables,
)
from vedette.promql.direct_sets import Absent, Among, Vector
from vedette.promql.joins import CODES
from vedette.promql.labelsets import sorted_rows
from vedette.promql.nodes import SET_OPERATORS, Aggregate, Binary, Call, Node, Number, Range, Selector, Unary, unwrapped, walk
from vedette.promql.plan import Fetch, Prepared, read_once
from vedette.promql.result import QueryResult, Texts, few_texts
from vedette.promql.values import Bools, Floats, Grid, Ints, Matrix
from vedette.promql.window_functions import EXTRAPOLATED

MOST_SAMPLES, MOST_CELLS = 1 << 15, 1 << 13
"""Samples that are read and values that are made at the most: half a millisecond's work."""
_TABLES_KEPT, _ROWS_KEPT = 8, 512
"""Of how many tables of labels a shape keeps what it is, and of how many rows together."""
_MOST_NODES, _MOST_LEAVES = 64, 8
"""What a syntax tree may hold: each node takes its microseconds, each selector some tens."""
_ANEW = frozenset(("absent", "vector"))

_Numbers = Callable[[Grid], Floats]
"""A scalar: one number a step."""


class _Known(NamedTuple):
    """What the rows of an answer are, whatever their values: as many as `order` has; and how these are computed.

    `symbols` are held so that no others get their address.
    """

    symbols: tuple[Symbols, ...]
    labels: LabelTable
    order: Ints
    texts: Texts
    cells: Callable[[Run], Cells | None]


@dataclass(frozen=True, slots=True)
class Shape:
    """A query that may go the short way: `root` is made of the `leaves`, in the order of the text."""

    expr: str
    root: Part
    leaves: tuple[Leaf, ...]
    selected: tuple[tuple[Matcher, ...], ...]
    """The matchers of each leaf; those in the leaf itself may be of another text (`skeletons.py`)."""
    columns: bool
    """Whether rollups might serve."""
    anew: bool = False
    """Whether something may come of nothing: of `absent`, of `vector`."""
    moved: Callable[[int], int] | None = field(default=None, compare=False, repr=False)
    """Where in the text stands what the leaves say stands at some place of theirs; None: there."""
    known: dict[tuple[object, ...], _Known | None] = field(default_factory=dict, compare=False, repr=False)
    """By the labels of the series that were found; None where it has to be the long way."""

    @classmethod
    def of(cls, expr: str, prepared: Prepared) -> Shape | None:
        """The shape of a query, None where it has another."""
        if prepared.durations or prepared.pinned or next(islice(walk(prepared.root), _MOST_NODES, None), None) is not None:
            return None
        leaves: list[Leaf] = []
        root = _part(prepared.root, leaves, prepared.columns)
        if root is None or not 0 < len(leaves) <= _MOST_LEAVES:
            return None
        selected = tuple(leaf.selector.matchers for leaf in leaves)
        anew = any(isinstance(node, Call) and node.func.name in _ANEW for node in walk(prepared.root))
        return cls(expr, root, tuple(leaves), selected, any(leaf.column is not None for leaf in leaves), anew)

    @property
    def matchers(self) -> tuple[tuple[Matcher, ...], ...]:
        """What is read, each once."""
        return self.selected if len(self.selected) == 1 else tuple(dict.fromkeys(self.selected))

    def fetches(self, grid: Grid, lookback: int) -> tuple[list[Fetch], list[int]]:
        """What it reads, and which of these each leaf has."""
        if len(self.leaves) == 1:
            return [self.leaves[0].fetch(self.selected[0], grid, lookback)], [0]
        reads: list[Fetch] = []
        pairs = zip(self.leaves, self.selected, strict=True)
        return reads, [read_once(reads, leaf.fetch(matchers, grid, lookback)) for leaf, matchers in pairs]

    def answer(self, found: Sequence[SeriesSet], grid: Grid, lookback: int, *, ranged: bool) -> QueryResult | None:
        """The answer from what the reads have `found` for each leaf; None where that takes the long way.

        It has at most `MOST_CELLS` values a row.
        """
        rows = 0
        if not (self.anew or any(map(len, found))):
            nothing = Matrix(labelsets.empty(found[0].labels.symbols), np.zeros((0, grid.n)), np.zeros((0, grid.n), dtype=np.bool_))
            return QueryResult(nothing, grid, range_query=ranged, warnings=[], infos=[])
        for one in found:
            if one.histograms is not None or one.start_timestamps is not None:
                return None
            rows += len(one)
        if rows * grid.n > MOST_CELLS:
            return None
        known = self._known_of([one.labels for one in found], ranged=ranged)
        if known is None:
            return None
        said = Annotations(self.expr, self.moved)
        cells = known.cells(Run(found, grid, lookback, ranged, said))
        return None if cells is None else DirectResult(known, *cells, grid, ranged=ranged, infos=said.infos)

    def _known_of(self, tables: Sequence[LabelTable], *, ranged: bool) -> _Known | None:
        # By what stands in the columns: symbols never change their meaning, and it does not matter where the columns come from.
        key: tuple[object, ...] = (ranged,)
        for labels in tables:
            key += id(labels.symbols), labels.offsets.tobytes(), labels.names.tobytes(), labels.values.tobytes()
        if key in self.known:
            return self.known[key]
        known = self._made(tables, ranged=ranged)
        if len(self.known) >= min(_TABLES_KEPT, _ROWS_KEPT // (sum(map(len, tables)) or 1) + 1):
            self.known.clear()
        self.known[key] = known
        return known

    def _made(self, tables: Sequence[LabelTable], *, ranged: bool) -> _Known | None:
        held, base = tuple(table.symbols for table in tables), tables[0].symbols
        if self.anew or any(symbols is not base for symbols in held):
            # What has texts of its own must not leave them in symbols that others have, too.
            shared = base.fork()
            tables = [labelsets.unify(table, shared, base) for table in tables]
        made = self.root.made(Tables(tables, self.selected))
        if made is None:
            return None
        labels = made.labels
        order = sorted_rows(labels) if ranged else np.arange(len(labels), dtype=np.int64)
        return _Known(held, labels, order, few_texts(labels, order), made.cells)


def _part(node: Node, leaves: list[Leaf], columns: Mapping[int, Column]) -> Part | None:
    """The vector that a node is; None where it is another. Its leaves are added."""
    node = unwrapped(node)
    if isinstance(node, Aggregate):
        below = _part(node.expr, leaves, columns) if node.op in AGGREGATIONS else None
        return None if below is None else Summed(node, below)
    if isinstance(node, Unary):
        below = _part(node.expr, leaves, columns)
        return Negated(below) if below is not None and node.op == "-" else below
    if isinstance(node, Binary):
        return _operator(node, leaves, columns) if node.op in CODES or node.op in SET_OPERATORS else None
    if isinstance(node, Call) and node.func.name == "histogram_quantile":
        q = unwrapped(node.args[0])
        if not isinstance(q, Number) or not 0 <= q.value <= 1:
            return None  # what is no quantile is warned of
        below = _part(node.args[1], leaves, columns)
        return None if below is None else Quantile(q.value, below)
    if isinstance(node, Call) and node.func.name == "vector":
        number = _numbers(node.args[0])
        return None if number is None else Vector(number)
    if isinstance(node, Call) and node.func.name == "absent":
        below = _part(node.args[0], leaves, columns)
        return None if below is None else Absent(below, below.number if isinstance(below, Leaf) and below.call is None else None)
    return _leaf(node, leaves, columns)


def _operator(node: Binary, leaves: list[Leaf], columns: Mapping[int, Column]) -> Part | None:
    left, right = _numbers(node.lhs), _numbers(node.rhs)
    number = right if left is None else left
    if number is None:
        return _joined(node, leaves, columns)
    if left is not None and right is not None:
        return None
    below = _part(node.rhs if right is None else node.lhs, leaves, columns)
    return None if below is None else Changed(node, below, number, swapped=right is None)


def _joined(node: Binary, leaves: list[Leaf], columns: Mapping[int, Column]) -> Part | None:
    matching = node.matching
    if matching.group is not None or matching.fill_left is not None or matching.fill_right is not None:
        return None
    left = _part(node.lhs, leaves, columns)
    right = None if left is None else _part(node.rhs, leaves, columns)
    if left is None or right is None:
        return None
    return Among(node, left, right) if node.op in SET_OPERATORS else Joined(node, left, right)


def _numbers(node: Node) -> _Numbers | None:
    """The scalar that a node is; None where it is no number, nor the time, nor made of these."""
    node = unwrapped(node)
    if isinstance(node, Number):
        value = node.value
        return lambda grid: np.full(grid.n, value)
    if isinstance(node, Call) and node.func.name == "time":
        return lambda grid: grid.times / 1000.0
    if isinstance(node, Unary) and (inner := _numbers(node.expr)) is not None:
        negative = node.op == "-"
        return lambda grid: -inner(grid) if negative else inner(grid)
    if not isinstance(node, Binary) or node.op not in CODES:
        return None
    left, right = _numbers(node.lhs), _numbers(node.rhs)
    return None if left is None or right is None else _between(CODES[node.op], left, right)


def _between(code: int, left: _Numbers, right: _Numbers) -> _Numbers:
    """An operator of two scalars, whose comparisons are 1 or 0."""

    def made(grid: Grid) -> Floats:
        there, first = np.ones((1, grid.n), dtype=np.bool_), np.zeros(1, dtype=np.int64)
        values, present = np.empty((1, grid.n)), np.empty((1, grid.n), dtype=np.bool_)
        sides = left(grid).reshape(1, -1), right(grid).reshape(1, -1)
        joins.combine(code, sides[0], there, sides[1], there, first, first, True, False, values, present)
        row: Floats = values[0]
        return row

    return made


def _leaf(node: Node, leaves: list[Leaf], columns: Mapping[int, Column]) -> Leaf | None:
    called = isinstance(node, Call) and len(node.args) == 1 and (node.func.name in EXTRAPOLATED or node.func.name in GIVEN_NOTHING)
    call = node if isinstance(node, Call) and called else None
    over = node if call is None else call.args[0]
    selector = over.selector if call is not None and isinstance(over, Range) else over
    if not isinstance(selector, Selector) or (call is not None) != isinstance(over, Range) or selector.anchored or selector.smoothed:
        return None
    leaf = Leaf(len(leaves), selector, over.range if isinstance(over, Range) else 0, call, columns.get(id(over)))
    leaves.append(leaf)
    return leaf


class DirectResult(QueryResult):
    """A result whose rows were known before their values."""

    def __init__(self, known: _Known, values: Floats, present: Bools, grid: Grid, *, ranged: bool, infos: list[str]) -> None:
        super().__init__("", grid, range_query=False, warnings=[], infos=infos)
        self.type = "matrix" if ranged else "vector"
        self._labels, self._order, self._row_texts = known.labels, known.order, known.texts
        self._take_cells(values, present)
        filled = self._offsets[1:] > self._offsets[:-1]
        if np.count_nonzero(filled) != len(filled):
            # Rows without a value are no part of the answer.
            self._offsets = np.concatenate([self._offsets[:1], self._offsets[1:][filled]])
            self._order = known.order[filled]
            self._row_texts = known.texts._replace(rows=known.texts.rows[filled])

    def _text_bytes(self, texts: Texts) -> int:
        # Each row's labels are one text there, and no other row's.
        return int(texts.pool_offsets[-1]) if texts is self._row_texts else super()._text_bytes(texts)

    def _texts_of(self, count: int) -> Texts:
        return super()._texts_of(count) if count < len(self._order) else self._row_texts
