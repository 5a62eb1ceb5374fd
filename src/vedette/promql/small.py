"""Small queries of any kind, evaluated as the large ones are, without what only those need: a thread, a turn, an estimate, statistics.

What they read is at hand, and little; what they make of it is little, too. What depends on the series' labels alone is kept from one
time to the next (`Symbols.memory`): of few samples, to look at labels takes longer than to compute values. Whatever is
not certain to be over soon is declined, errors included: the long way (`engine.py`) tells. Not here: those that dashboards ask for most,
which have a way that is shorter still (`direct.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np

from vedette.clock import Clock
from vedette.errors import VedetteError
from vedette.model.labeltable import LabelTable, Symbols
from vedette.model.series import SeriesSet
from vedette.promql.annotations import Annotations
from vedette.promql.evaluate import finished, run
from vedette.promql.evaluation import Evaluation
from vedette.promql.labelsets import unify
from vedette.promql.nodes import Aggregate, Binary, Call, Node, Range, Selector, Subquery, text_of, walk
from vedette.promql.plan import Bounds, Plan, Prepared
from vedette.promql.result import QueryResult
from vedette.promql.running import Running, Ticket
from vedette.promql.selectors import Fetched
from vedette.promql.statistics import Statistics
from vedette.promql.values import Grid, Scalar, Value

MOST_SAMPLES = 1 << 15
"""Samples that are read at the most, of all selectors together."""
_MOST_CELLS, _MOST_VISITS = 1 << 16, 1 << 18
"""Values that all operations together make at the most, and samples that functions of windows look at: some milliseconds' work."""
_MOST_NODES, _MOST_READS = 64, 8
_HELD_SAMPLES, _HELD_BYTES, _LONGEST_S = 98_304, 4 << 20, 0.1
"""What a small query may hold, as the limits count it, and how long it may take: less than any settings forbid (`engine.py`)."""
_TOO_LONG_S, _SLOW = 0.003, 3
"""Processor time that is too much, and how often in a row that is found before a text counts as none of a small query any more."""
_LONGEST_PATTERN, _MOST_MATCHING = 60, 2_000_000
"""Characters of a regular expression that is matched on the way, and what its matches may take: some two milliseconds."""
_MOST_KEPT = 200
"""What may be kept of one query's labels: texts that it made itself, and tables."""
_TABLES_KEPT = 2
_ALONE = ("info", "start_timestamp")


class _Unheld(Ticket):
    """The ticket of a query that is over before anybody could look at it."""

    def hold(self, samples: int, nbytes: int) -> None:
        """Nothing: there is room for what a small query holds."""


def unheld(running: Running, clock: Clock) -> Ticket:
    """The ticket of all small queries; it is never among those of `running`."""
    return _Unheld(running, 0, "", "", (0, 0, 0), cancel=threading.Event(), clock=clock)


class _Known:
    """The labels that were read, over symbols that keep what is made of them. Used by one query at a time."""

    __slots__ = ("free", "held", "symbols", "tables")

    def __init__(self, found: Sequence[SeriesSet]) -> None:
        self.held = [one.labels.symbols for one in found]
        """So that no others get their address."""
        self.free = threading.Lock()
        if not found:
            self.symbols, self.tables = Symbols(), list[LabelTable]()
        else:
            base = found[0].labels.symbols
            self.symbols = base.fork()
            self.tables = [unify(one.labels, self.symbols, base) for one in found]
        self.symbols.memory = {}

    def full(self) -> bool:
        """Whether it has grown beyond what is worth keeping."""
        assert self.symbols.memory is not None, "made above"
        return len(self.symbols) + len(self.symbols.memory) > _MOST_KEPT


class Surroundings(NamedTuple):
    """What all small queries of an engine have in common."""

    clock: Clock
    pool: ThreadPoolExecutor
    ticket: Ticket


class Small:
    """A query that may be small: that depends on what it reads."""

    def __init__(self, expr: str, prepared: Prepared, nodes: Sequence[Node]) -> None:
        self.expr = expr
        self.prepared = prepared
        self.kinds = kinds_of(nodes)
        """Its operations, by name."""
        self.matchers = tuple(dict.fromkeys(node.matchers for node in nodes if isinstance(node, Selector)))
        """What it selects, each once."""
        self._known: dict[tuple[bytes | int, ...], _Known] = {}
        self._slow = 0
        """How many of the last evaluations took too long."""

    @classmethod
    def of(cls, expr: str, prepared: Prepared) -> Small | None:
        """The query, None where it can be no small one."""
        nodes = list(islice(walk(prepared.root), _MOST_NODES + 1))
        if prepared.durations or len(nodes) > _MOST_NODES:
            return None
        for node in nodes:
            if isinstance(node, Selector) and (node.anchored or node.smoothed):
                return None
            if isinstance(node, Call) and (node.func.name in _ALONE or _long_pattern(node)):
                return None
        made = cls(expr, prepared, nodes)
        return made if len(made.matchers) <= _MOST_READS else None

    def forget(self) -> None:
        """Let go of what was kept of labels."""
        self._known.clear()

    def answer(self, plan: Plan, found: Sequence[SeriesSet], bounds: Bounds, around: Surroundings, *, ranged: bool) -> QueryResult | None:
        """The answer of `plan` from what its reads have `found`; None where that takes the long way."""
        if self._slow >= _SLOW or any(one.histograms is not None or one.start_timestamps is not None for one in found):
            return None
        if not _little(plan, found):
            return None
        known = self._known_of(found)
        if not known.free.acquire(blocking=False):
            return None
        began = time.thread_time()
        try:
            return self._evaluated(plan, found, bounds, around, known, ranged=ranged)
        except VedetteError:
            return None  # the long way meets the same, and says so
        finally:
            self._slow = self._slow + 1 if time.thread_time() - began > _TOO_LONG_S else 0
            known.free.release()

    def _evaluated(
        self, plan: Plan, found: Sequence[SeriesSet], bounds: Bounds, around: Surroundings, known: _Known, *, ranged: bool
    ) -> QueryResult:
        grid = Grid(bounds.start, bounds.step or 1, (bounds.end - bounds.start) // bounds.step + 1 if ranged else 1)
        ev = Evaluation(
            annotations=Annotations(self.expr),
            symbols=known.symbols,
            bounds=bounds,
            grid=grid,
            clock=around.clock,
            deadline=around.clock.monotonic() + _LONGEST_S,
            max_samples=_HELD_SAMPLES,
            max_bytes=_HELD_BYTES,
            delayed_names=False,
            type_labels=False,
            pool=around.pool,
            ticket=around.ticket,
            statistics=Statistics(),
            max_matching=_MOST_MATCHING,
        )
        data = [Fetched(table, one.offsets, one.timestamps, one.values) for table, one in zip(known.tables, found, strict=True)]
        with np.errstate(all="ignore"):
            value = finished(ev, _run(ev, plan, data))
            if ranged and isinstance(value, Scalar):
                value = ev.one_row(value.values)
        return QueryResult(value, grid, range_query=ranged, warnings=ev.annotations.warnings, infos=ev.annotations.infos)

    def _known_of(self, found: Sequence[SeriesSet]) -> _Known:
        # By what stands in the columns: symbols never change their meaning, and it does not matter where the columns come from.
        key: tuple[bytes | int, ...] = ()
        for one in found:
            labels = one.labels
            key += id(labels.symbols), labels.offsets.tobytes(), labels.names.tobytes(), labels.values.tobytes()
        known = self._known.get(key)
        if known is None or known.full():
            if len(self._known) >= _TABLES_KEPT:
                self._known.clear()
            known = self._known[key] = _Known(found)
        return known


def _run(ev: Evaluation, plan: Plan, data: Sequence[Fetched]) -> Value:
    """The value of the plan's result. What each of them holds is little beside what one may hold, so that none is let go of."""
    values: list[Value] = []
    for operation in plan.operations:
        values.append(run(ev, operation, [values[i] for i in operation.inputs], data))
        ev.samples = ev.bytes = 0
    return values[plan.result]


def kinds_of(nodes: Sequence[Node]) -> frozenset[str]:
    """The operations of a tree, by name: each has its kernels."""
    kinds = set()
    for node in nodes:
        if isinstance(node, Call):
            kinds.add(node.func.name)
        elif isinstance(node, (Aggregate, Binary)):
            kinds.add(node.op)
        elif isinstance(node, (Selector, Subquery)):
            kinds.add(type(node).__name__)
    return frozenset(kinds)


def _long_pattern(node: Call) -> bool:
    return node.func.name == "label_replace" and len(text_of(node.args[4]).value) > _LONGEST_PATTERN


def _little(plan: Plan, found: Sequence[SeriesSet]) -> bool:
    """Whether all that the plan's operations may have to do is little; none has more rows than what it is made of."""
    rows: list[int] = []
    cells = visits = 0
    for node, grid, inputs, fetch, *_ in plan.operations:
        rows.append(len(found[fetch]) if fetch >= 0 else max(1, sum([rows[i] for i in inputs])))
        cells += rows[-1] * grid.n
        if isinstance(node, (Range, Subquery)):
            shared = min(grid.n, node.range // grid.step + 1) if grid.step > 0 else grid.n
            samples = found[fetch].sample_count if fetch >= 0 else rows[-1] * plan.operations[inputs[0]].grid.n
            visits += samples * shared
    return cells <= _MOST_CELLS and visits <= _MOST_VISITS
