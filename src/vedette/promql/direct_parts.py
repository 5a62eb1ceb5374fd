"""The parts of queries that go the short way: selectors and functions of windows, and what is made of them.

Each is told the labels of the series that were found, once, and says what its rows are and how their values come about; that is kept.
The values are those of the long way, from the same kernels; whatever could make a difference (collisions, what would be
warned of, a row that is nowhere where rows are counted in their order) is declined with None. Not here: which queries go that
way, what is kept, and results (`direct.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from vedette.kernels import buckets, joins
from vedette.kernels import groups as g
from vedette.kernels import windows as k
from vedette.model.labels import METRIC_NAME
from vedette.model.labeltable import LabelTable, Symbols
from vedette.model.matchers import Matcher
from vedette.model.series import SeriesSet
from vedette.promql import annotations as say
from vedette.promql import labelsets
from vedette.promql.annotations import Annotations
from vedette.promql.binary import UFUNCS, change_by
from vedette.promql.coarse import Column
from vedette.promql.histograms import LE, bounds_of, by_bound
from vedette.promql.joins import CODES
from vedette.promql.matching import KEEP_NAMES, matched_on, result_labels
from vedette.promql.nodes import Aggregate, Binary, Call, Selector
from vedette.promql.plan import Fetch
from vedette.promql.selectors import Fetched
from vedette.promql.values import Bools, Floats, Grid, Ints
from vedette.promql.window_functions import COUNTER_SUFFIXES, EXTRAPOLATED, OVER_TIME, SCANNING

_MOST_VISITS = 1 << 18
"""Samples that a function may look at, which counts those that lie in several windows several times."""

GIVEN_NOTHING = frozenset(OVER_TIME) - {"quantile_over_time", "predict_linear", "double_exponential_smoothing"}
"""The functions of windows that have no other argument."""
_KEEPING_NAMES = frozenset(("last_over_time", "first_over_time"))
AGGREGATIONS = {"sum": g.SUM, "avg": g.AVG, "count": g.COUNT, "min": g.MIN, "max": g.MAX, "group": g.GROUP}

Cells = tuple[Floats, Bools]
"""Values and where there are any: [rows, n]; whoever gets them may change them."""


class Run(NamedTuple):
    """One query: what was `found` for each leaf, by its number; what is `said` beside the answer."""

    found: Sequence[SeriesSet]
    grid: Grid
    lookback: int
    ranged: bool
    said: Annotations


class Tables(NamedTuple):
    """Of each leaf, by its number, the labels of the series that were found, over symbols that all share, and the matchers they passed."""

    labels: Sequence[LabelTable]
    selected: Sequence[tuple[Matcher, ...]]


class Made(NamedTuple):
    """A part's rows and how to compute their cells: None where that takes the long way."""

    labels: LabelTable
    cells: Callable[[Run], Cells | None]


class Part(Protocol):
    """A vector of a query."""

    @property
    def streams(self) -> bool:
        """Whether the long way makes changes of it block by block, by NumPy's functions, and keeps rows that are nowhere."""
        ...

    def made(self, tables: Tables, *, named: bool = True) -> Made | None:
        """Its rows, from what each leaf found; None where it has to be the long way.

        Where they are not to be `named`, nobody looks at the metadata labels, and those that are to go may stay.
        """
        ...


@dataclass(frozen=True, slots=True)
class Leaf:
    """`call` of windows of `range` ms over what `selector` selects, or its last values; `column` is what of rollups would serve."""

    number: int
    selector: Selector
    range: int
    call: Call | None
    column: Column | None

    @property
    def streams(self) -> bool:
        """See `Part`."""
        return True

    def fetch(self, matchers: tuple[Matcher, ...], grid: Grid, lookback: int) -> Fetch:
        """What it reads of the series that pass `matchers`, as `plan.py` has it."""
        first = grid.start - self.selector.offset
        return Fetch(matchers, first - (self.range or lookback) + 1, first + grid.step * (grid.n - 1))

    def made(self, tables: Tables, *, named: bool = True) -> Made | None:
        """See `Part`."""
        labels, call = tables.labels[self.number], self.call
        if not len(labels):
            return nothing(labels.symbols)
        if call is None or call.func.name in _KEEPING_NAMES:
            return Made(labels, self._cells)
        bare = _nameless(labels, named=named)
        if bare is None:
            return None
        # All series have one name, or none.
        name = labelsets.metric_of(labels, 0) if call.func.name in ("rate", "increase") else ""
        if not name or name.endswith(COUNTER_SUFFIXES):
            return Made(bare, self._cells)

        def doubted(run: Run) -> Cells | None:
            cells = self._cells(run)
            if cells is not None and cells[1].any():
                run.said.inform(say.not_a_counter(name), call.args[0])
            return cells

        return Made(bare, doubted)

    def _cells(self, run: Run) -> Cells | None:
        found, grid = run.found[self.number], run.grid
        rows, first = len(found), grid.start - self.selector.offset
        values, present = np.empty((rows, grid.n)), np.empty((rows, grid.n), dtype=np.bool_)
        if self.call is None:
            k.last_sample(
                found.offsets, found.timestamps, found.values, 0, rows, first, grid.step, grid.n, run.lookback, False, values, present
            )  # fmt: skip
            return values, present
        name = self.call.func.name
        if name in SCANNING and found.sample_count * grid.n > _MOST_VISITS:
            return None
        series = Fetched(found.labels, found.offsets, found.timestamps, found.values).clean()
        if name in EXTRAPOLATED:
            k.extrapolated(EXTRAPOLATED[name], *series, 0, rows, first, grid.step, grid.n, self.range, values, present)
            return values, present
        nothing = np.zeros(grid.n)
        k.over_time(
            OVER_TIME[name], *series, 0, rows, first, grid.step, grid.n, self.range, nothing, nothing, grid.times, values, present
        )  # fmt: skip
        return values, present


@dataclass(frozen=True, slots=True)
class Summed:
    """An aggregation of `below`."""

    node: Aggregate
    below: Part

    @property
    def streams(self) -> bool:
        """See `Part`."""
        return False

    def made(self, tables: Tables, *, named: bool = True) -> Made | None:
        """See `Part`."""
        node = self.node
        below = self.below.made(tables, named=node.without or any(name in labelsets.METADATA for name in node.grouping))
        if below is None or not len(below.labels):
            return below
        labels, under = below.labels, below.cells
        names = (*node.grouping, METRIC_NAME) if node.without else node.grouping
        groups, first = np.zeros(len(labels), dtype=np.int64), np.zeros(1, dtype=np.int64)
        if names:
            groups, first = labelsets.grouped(labels, names, without=node.without)
        code, streams = AGGREGATIONS[node.op], self.below.streams

        def cells(run: Run) -> Cells | None:
            found = under(run)
            if found is None or not (streams or len(first) == 1 or _in_order(found, run)):
                return None
            shape = len(first), run.grid.n
            sums = np.zeros(shape), np.zeros(shape), np.zeros(shape)
            g.accumulate(code, *found, groups, *sums)
            if code == g.AVG and np.isinf(sums[0]).any():
                return None  # a sum that is too large for a float needs another way to its mean
            present = np.empty(shape, dtype=np.bool_)
            g.finish(code, *sums, present)
            return sums[0], present

        rows = labelsets.kept(labels.take(first), names, without=node.without) if names else labelsets.empty(labels.symbols, 1)
        return Made(rows, cells)


@dataclass(frozen=True, slots=True)
class Changed:
    """The operator `node` between `below` and a number, which stands on the left where it is `swapped`."""

    node: Binary
    below: Part
    number: Callable[[Grid], Floats]
    swapped: bool

    @property
    def streams(self) -> bool:
        """See `Part`."""
        return self.below.streams and self.node.op in UFUNCS

    def made(self, tables: Tables, *, named: bool = True) -> Made | None:
        """See `Part`."""
        below = self.below.made(tables, named=named)
        if below is None or not len(below.labels):
            return below
        node, under, streams = self.node, below.cells, self.streams
        labels = _nameless(below.labels, named=named) if node.bool_ or node.op not in KEEP_NAMES else below.labels
        if labels is None:
            return None
        rows, one = np.arange(len(labels), dtype=np.int64), np.zeros(len(labels), dtype=np.int64)

        def cells(run: Run) -> Cells | None:
            found = under(run)
            if found is None:
                return None
            number = self.number(run.grid)
            if streams:
                with np.errstate(all="ignore"):
                    change_by(node, number, swapped=self.swapped)(*found)
                return found
            values, present = np.empty(found[0].shape), np.empty(found[0].shape, dtype=np.bool_)
            sides = [(*found, rows), (number.reshape(1, -1), np.ones((1, len(number)), dtype=np.bool_), one)]
            (left, left_there, left_rows), (right, right_there, right_rows) = reversed(sides) if self.swapped else sides
            joins.combine(
                CODES[node.op], left, left_there, right, right_there, left_rows, right_rows, node.bool_, self.swapped, values, present
            )  # fmt: skip
            return values, present

        return Made(labels, cells)


@dataclass(frozen=True, slots=True)
class Negated:
    """`-below`."""

    below: Part

    @property
    def streams(self) -> bool:
        """See `Part`."""
        return self.below.streams

    def made(self, tables: Tables, *, named: bool = True) -> Made | None:
        """See `Part`."""
        below = self.below.made(tables, named=named)
        if below is None or not len(below.labels):
            return below
        labels = _nameless(below.labels, named=named)
        if labels is None:
            return None
        under = below.cells

        def cells(run: Run) -> Cells | None:
            found = under(run)
            if found is not None:
                np.negative(found[0], out=found[0])
            return found

        return Made(labels, cells)


@dataclass(frozen=True, slots=True)
class Joined:
    """The operator `node` between rows of `left` and `right`, each of which has one at the most to go with."""

    node: Binary
    left: Part
    right: Part

    @property
    def streams(self) -> bool:
        """See `Part`."""
        return False

    def made(self, tables: Tables, *, named: bool = True) -> Made | None:
        """See `Part`."""
        left, right = self.left.made(tables), self.right.made(tables)
        if left is None or right is None:
            return None
        node, under, beside = self.node, left.cells, right.cells
        if not (len(left.labels) and len(right.labels)):
            return nothing(left.labels.symbols, (left, right))
        paired = _paired(node, left.labels, right.labels)
        if paired is None:
            return None
        labels, left_rows, right_rows = paired

        def cells(run: Run) -> Cells | None:
            one = under(run)
            other = None if one is None else beside(run)
            if one is None or other is None:
                return None
            values, present = np.empty((len(left_rows), run.grid.n)), np.empty((len(left_rows), run.grid.n), dtype=np.bool_)
            joins.combine(CODES[node.op], *one, *other, left_rows, right_rows, node.bool_, False, values, present)
            return values, present

        return Made(labels, cells)


@dataclass(frozen=True, slots=True)
class Quantile:
    """`histogram_quantile` of classic buckets; `q` is the same at all steps, and between 0 and 1."""

    q: float
    below: Part

    @property
    def streams(self) -> bool:
        """See `Part`."""
        return False

    def made(self, tables: Tables, *, named: bool = True) -> Made | None:
        """See `Part`."""
        below = self.below.made(tables)
        if below is None or not len(below.labels):
            return below
        _, _, bounds = bounds_of(below.labels)
        if np.isnan(bounds).any():
            return None
        first, starts, rows = by_bound(below.labels, bounds, np.arange(len(bounds), dtype=np.int64))
        labels = _nameless(labelsets.kept(below.labels.take(first), (LE,), without=True))
        if labels is None:
            return None
        under, q, upper = below.cells, self.q, np.ascontiguousarray(bounds)

        def cells(run: Run) -> Cells | None:
            found, shape = under(run), (len(first), run.grid.n)
            if found is None or not (len(first) == 1 or _in_order(found, run)):
                return None
            values, present, forced = np.empty(shape), np.empty(shape, dtype=np.bool_), np.zeros((*shape, 4))
            buckets.quantiles(*found, starts, rows, upper, np.full(run.grid.n, q), 0, len(first), values, present, forced)
            return None if forced[:, :, 0].any() else (values, present)  # what was put right is to be told

        return Made(labels, cells)


def nothing(symbols: Symbols, after: Sequence[Made] = ()) -> Made:
    """No rows, which is known `after` others were computed: these may have something to say."""

    def cells(run: Run) -> Cells | None:
        for made in after:
            if made.cells(run) is None:
                return None
        return np.zeros((0, run.grid.n)), np.zeros((0, run.grid.n), dtype=np.bool_)

    return Made(labelsets.empty(symbols), cells)


def _paired(node: Binary, left: LabelTable, right: LabelTable) -> tuple[LabelTable, Ints, Ints] | None:
    """The labels of the rows of an operator between vectors, and which rows of either side go together; None for the long way."""
    if len(left) == len(right) == 1 and not (len(left.names) or len(right.names)):
        # Sums over all, as quotients mostly are of.
        return left, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    names, without = matched_on(node)
    groups, first = labelsets.grouped(labelsets.stacked(left, right), names, without=without)
    here, there = groups[: len(left)], groups[len(left) :]
    if max(int(np.bincount(side).max()) for side in (here, there)) > 1:
        return None
    partner = np.full(len(first), -1, dtype=np.int64)
    partner[there] = np.arange(len(there))
    left_rows = np.flatnonzero(partner[here] >= 0)
    right_rows = partner[here[left_rows]]
    labels = result_labels(node, left.take(left_rows), right.take(right_rows))
    if not len(labels) or len(labelsets.grouped(labels, (), without=True)[1]) < len(labels):
        return None
    return labels, left_rows, right_rows


def _nameless(labels: LabelTable, *, named: bool = True) -> LabelTable | None:
    """The labels without names, None where rows might become equal by that; with their names where nobody looks at these."""
    if not labelsets.unique_without_names(labels):
        return None
    return labelsets.kept(labels, labelsets.METADATA, without=True) if named else labels


def _in_order(cells: Cells, run: Run) -> bool:
    """Whether groups of these rows come in the order of the long way, which looks at none that is nowhere; a range is sorted anyway."""
    return run.ranged or bool(cells[1].any(axis=1).all())
