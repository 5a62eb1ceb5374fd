"""A short way to the answers that dashboards ask for most: a selector of few series, perhaps a function of windows, perhaps summed up.

Such a query is over in less time than it takes to set up what larger ones need. What depends on its text and on the series alone
(their order, their labels as JSON, groups, doubts about counters) is kept from one time to the next. The answer is that of the long
way, to the byte; whatever could make a difference (modifiers, native histograms, rollups, labels that collide) is declined. Not here:
limits, turns, and who asks (`engine.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from vedette.kernels import groups as g
from vedette.kernels import windows as k
from vedette.model.labels import METRIC_NAME
from vedette.model.labeltable import LabelTable, Symbols
from vedette.model.series import SeriesSet
from vedette.promql import annotations as say
from vedette.promql import labelsets
from vedette.promql.annotations import Annotations
from vedette.promql.coarse import Column
from vedette.promql.format import json_float
from vedette.promql.nodes import Aggregate, Call, Range, Selector, unwrapped
from vedette.promql.plan import Fetch, Prepared
from vedette.promql.result import QueryResult, Texts, few_texts, sorted_rows
from vedette.promql.selectors import COUNTER_SUFFIXES, EXTRAPOLATED, OVER_TIME, SCANNING, Fetched
from vedette.promql.values import Bools, Floats, Grid, Ints

MOST_SAMPLES, MOST_CELLS = 1 << 15, 1 << 13
"""Samples that are read and values that are made at the most: half a millisecond's work."""
_MOST_VISITS = 1 << 18
"""Samples that a function may look at, which counts those that lie in several windows several times."""
_TABLES_KEPT = 8
_FEW_TEXTS = 4
"""Values of an instant that are written one by one."""

_GIVEN_NOTHING = frozenset(OVER_TIME) - {"quantile_over_time", "predict_linear", "double_exponential_smoothing"}
"""The functions of windows that have no other argument."""
_KEEPING_NAMES = frozenset(("last_over_time", "first_over_time"))
_AGGREGATIONS = {"sum": g.SUM, "avg": g.AVG, "count": g.COUNT, "min": g.MIN, "max": g.MAX, "group": g.GROUP}


class _Known(NamedTuple):
    """What the rows of an answer are, whatever their values: as many as `order` has, of the series in `groups`, where they are summed up.

    `doubtful` is what is said of a counter by the look of its name, where there is any value. `symbols` are held so that no others
    get their address.
    """

    symbols: Symbols
    labels: LabelTable
    order: Ints
    texts: Texts
    groups: Ints | None
    doubtful: Sequence[str]


@dataclass(frozen=True, slots=True)
class Shape:
    """A query that may go the short way: `summed` of `function` of windows of `range` ms over what `selector` selects."""

    expr: str
    selector: Selector
    range: int
    call: Call | None
    summed: Aggregate | None
    column: Column | None
    """What of rollups would serve."""
    known: dict[tuple[bool, int, bytes, bytes, bytes], _Known | None] = field(default_factory=dict, compare=False, repr=False)
    """By the labels of the series that were found; None where it has to be the long way."""

    @classmethod
    def of(cls, expr: str, prepared: Prepared) -> Shape | None:
        """The shape of a query, None where it has another."""
        if prepared.durations or prepared.pinned:
            return None
        node = unwrapped(prepared.root)
        summed = node if isinstance(node, Aggregate) and node.op in _AGGREGATIONS else None
        if summed is not None:
            node = unwrapped(summed.expr)
        called = isinstance(node, Call) and len(node.args) == 1 and (node.func.name in EXTRAPOLATED or node.func.name in _GIVEN_NOTHING)
        call = node if isinstance(node, Call) and called else None
        over = node if call is None else call.args[0]
        selector = over.selector if call is not None and isinstance(over, Range) else over
        if not isinstance(selector, Selector) or (call is not None) != isinstance(over, Range) or selector.anchored or selector.smoothed:
            return None
        range_ms = over.range if isinstance(over, Range) else 0
        return cls(expr, selector, range_ms, call, summed, prepared.columns.get(id(over)))

    def fetch(self, grid: Grid, lookback: int) -> Fetch:
        """What it reads, as `plan.py` has it."""
        first = grid.start - self.selector.offset
        return Fetch(self.selector.matchers, first - (self.range or lookback) + 1, first + grid.step * (grid.n - 1))

    def answer(self, found: SeriesSet, grid: Grid, lookback: int, *, ranged: bool) -> QueryResult | None:
        """The answer from what the read has `found`; None where that takes the long way. It has at most `MOST_CELLS` values a row."""
        rows = len(found)
        if not rows or rows * grid.n > MOST_CELLS or found.histograms is not None or found.start_timestamps is not None:
            return None
        known = self._known_of(found.labels, ranged=ranged)
        if known is None:
            return None
        cells = self._cells(found, grid, lookback)
        if cells is None:
            return None
        values, present = cells
        infos = list(known.doubtful) if known.doubtful and present.any() else []
        if known.groups is not None:
            assert self.summed is not None, "there are groups of what is summed up"
            shape = len(known.order), grid.n
            sums = np.zeros(shape), np.zeros(shape), np.zeros(shape)
            code = _AGGREGATIONS[self.summed.op]
            g.accumulate(code, values, present, known.groups, *sums)
            if code == g.AVG and np.isinf(sums[0]).any():
                return None  # a sum that is too large for a float needs another way to its mean
            values, present = sums[0], np.empty(shape, dtype=np.bool_)
            g.finish(code, *sums, present)
        return DirectResult(known, values, present, grid, ranged=ranged, infos=infos)

    def _cells(self, found: SeriesSet, grid: Grid, lookback: int) -> tuple[Floats, Bools] | None:
        """Each series' values at each step, and where there are any; None where that would take long."""
        rows, first = len(found), grid.start - self.selector.offset
        values, present = np.empty((rows, grid.n)), np.empty((rows, grid.n), dtype=np.bool_)
        if self.call is None:
            k.last_sample(
                found.offsets, found.timestamps, found.values, 0, rows, first, grid.step, grid.n, lookback, False, values, present
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

    def _known_of(self, labels: LabelTable, *, ranged: bool) -> _Known | None:
        # By what stands in the columns: symbols never change their meaning, and it does not matter where the columns come from.
        key = ranged, id(labels.symbols), labels.offsets.tobytes(), labels.names.tobytes(), labels.values.tobytes()
        if key in self.known:
            return self.known[key]
        known = self._made(labels, ranged=ranged)
        if len(self.known) >= _TABLES_KEPT:
            self.known.clear()
        self.known[key] = known
        return known

    def _made(self, labels: LabelTable, *, ranged: bool) -> _Known | None:
        doubtful: Sequence[str] = ()
        symbols, groups = labels.symbols, None
        if self.call is not None and self.call.func.name not in _KEEPING_NAMES:
            if not labelsets.unique_without_names(labels):
                return None
            doubtful = self._doubtful(labels)
            labels = labelsets.kept(labels, labelsets.METADATA, without=True)
        if self.summed is not None:
            node = self.summed
            names = (*node.grouping, METRIC_NAME) if node.without else node.grouping
            groups, first = np.zeros(len(labels), dtype=np.int64), np.zeros(1, dtype=np.int64)
            if names:
                groups, first = labelsets.grouped(labels, names, without=node.without)
            labels = labelsets.kept(labels.take(first), names, without=node.without)
        order = sorted_rows(labels) if ranged else np.arange(len(labels), dtype=np.int64)
        return _Known(symbols, labels, order, few_texts(labels, order), groups, doubtful)

    def _doubtful(self, labels: LabelTable) -> list[str]:
        """What is said of a metric that is not named as a counter is; all series have one name, or none."""
        assert self.call is not None, "of functions alone"
        name = labels.row(0).metric
        if self.call.func.name not in ("rate", "increase") or not name or name.endswith(COUNTER_SUFFIXES):
            return []
        said = Annotations(self.expr)
        said.inform(say.not_a_counter(name), self.call.args[0])
        return said.infos


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

    def json(self, limit: int = 0) -> bytes:
        """See `QueryResult.json`."""
        if limit or not len(self._order):
            return super().json(limit)
        if self.type == "vector" and len(self._order) <= _FEW_TEXTS and self._grid.start >= 0:
            return self._few()
        head = b'{"resultType":"matrix","result":[' if self.type == "matrix" else b'{"resultType":"vector","result":['
        return head + self.chunk(self._row_texts, 0, len(self._order), last=True) + b"]}"

    def _few(self) -> bytes:
        """The same of a few values at one time: to call a kernel takes longer than to write them."""
        seconds, ms = divmod(self._grid.start, 1000)
        when = f"{seconds}.{ms:03}" if ms else f"{seconds}"
        texts, ends = self._row_texts.pool, self._row_texts.pool_offsets
        rows = [
            f'{{"metric":{{{texts[ends[row] : ends[row + 1]].tobytes().decode()}}},"value":[{when},"{json_float(value)}"]}}'
            for row, value in zip(self._row_texts.rows.tolist(), self._floats.tolist(), strict=True)
        ]
        return f'{{"resultType":"vector","result":[{",".join(rows)}]}}'.encode()
