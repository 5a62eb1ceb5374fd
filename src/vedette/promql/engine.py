"""The query engine: text in, result out. Synchronous; it runs in worker threads, several queries beside one another.

Not here: HTTP, the shapes of errors in each dialect (`api`), and what storage does to answer a select.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vedette.clock import Clock
from vedette.errors import VedetteError
from vedette.model.labeltable import LabelTable, Symbols
from vedette.model.matchers import Matcher
from vedette.model.series import SeriesSet
from vedette.promql.annotations import Annotations
from vedette.promql.cost import expected, work
from vedette.promql.direct import MOST_CELLS, MOST_SAMPLES, Shape
from vedette.promql.durations import resolved
from vedette.promql.errors import ParseError, QueryCanceled, QueryTimeout, TooManySamples
from vedette.promql.evaluate import evaluate
from vedette.promql.evaluation import READ_BYTES, TOO_MANY, Evaluation
from vedette.promql.labelsets import unify
from vedette.promql.nodes import DOCUMENTED_TYPE, Node
from vedette.promql.parse import parse
from vedette.promql.piecewise import PiecewiseSlabs, Scratch, divisible
from vedette.promql.plan import Bounds, Fetch, Plan, Prepared, make_plan
from vedette.promql.recurring import Recurring
from vedette.promql.result import QueryResult
from vedette.promql.running import Running, Ticket
from vedette.promql.selectors import Fetched
from vedette.promql.settings import PromqlSettings
from vedette.promql.skeletons import Skeletons
from vedette.promql.small import Small, Surroundings, unheld
from vedette.promql.standing import Answer, Reads, Source, Standing, Threshold, estimating
from vedette.promql.statistics import ReadCost, Statistics, count_queryable
from vedette.promql.values import Floats, Grid, Scalar
from vedette.storage.interface import AtHand, Divisible, Estimating, Pieces, Starting, Storage, Stretches, Tiered

_T = TypeVar("_T", bound=np.generic)


_DIRECT_SAMPLES, _DIRECT_BYTES, _DIRECT_S = MOST_SAMPLES + 8 * MOST_CELLS, 4 << 20, 0.1
"""What a query that goes the short way stays below, as the limits count it."""
_REMEMBERED = 128
"""Small queries that keep what they made of labels: some 10 KB each of ten series, 200 KB of 256."""
_SHORT_TEXT, _FEW_SERIES = 500, 1000
"""Characters of a text, and series that its other matchers look through: either takes less than a millisecond."""
_LONG_TEXT = 20_000
"""Characters of a text that takes long to read, some 50 ms."""
_LARGE = 1 << 20
"""Samples read and values computed of a query that keeps a processor busy for more than a few milliseconds."""
_COSTLY = re.compile(r"\\[pP]|\{[0-9]")
"""What makes a large program of a short regular expression: to compile it may take 200 ms."""


@dataclass(frozen=True, slots=True)
class _How:
    """What a caller may say of how one query is run."""

    timeout_s: float | None = None
    lookback_ms: int | None = None
    cancel: threading.Event | None = None
    queryable: bool = False
    as_text: bool = False
    reads: Reads | None = None
    plan: Plan | None = None


class Engine:
    """Parses, plans and evaluates queries over one storage; `running` are those under way. Thread-safe."""

    def __init__(self, storage: Storage, settings: PromqlSettings, clock: Clock) -> None:
        self._storage = storage
        self._settings = settings
        self._clock = clock
        self._features = settings.features
        self._pool = ThreadPoolExecutor(max_workers=settings.kernel_threads, thread_name_prefix="promql-kernel")
        self._slots = threading.BoundedSemaphore(settings.max_concurrency)
        # Asked once: whether an object has a protocol's methods takes longer to find out than to read a few series.
        self._estimating = storage if isinstance(storage, Estimating) else None
        self._tiered = storage if isinstance(storage, Tiered) else None
        self._starting = storage if settings.use_start_timestamps and isinstance(storage, Starting) else None
        self._at_hand = storage if isinstance(storage, AtHand) and _direct(settings) else None
        self._divisible = storage if self._starting is None and isinstance(storage, Divisible) else None
        self._scratch = Scratch()
        self._recurring = Recurring()
        self._parsed: OrderedDict[str, Prepared] = OrderedDict()
        self._shapes: OrderedDict[str, Shape] = OrderedDict()
        """Of texts that may go the short way."""
        self._skeletons = Skeletons()
        self._most_steps = min(MOST_CELLS, settings.max_points)
        """Of a query that is answered at once."""
        self._small: dict[str, Small] = {}
        """Of those that were parsed, the ones that may be small."""
        self._remembering: OrderedDict[str, Small] = OrderedDict()
        """And those that were of late, with what they keep of labels."""
        self._met: dict[bool, set[str]] = {False: set(), True: set()}
        """The kinds of operations that were evaluated, at one time or over a range: their kernels are at hand."""
        self._lock = threading.Lock()
        self.running = Running(clock, max_bytes=settings.max_memory)
        self._around = Surroundings(clock, self._pool, unheld(self.running, clock))

    @property
    def settings(self) -> PromqlSettings:
        """How queries are run."""
        return self._settings

    def parse(self, expr: str) -> Node:
        """The checked syntax tree of `expr`; recent ones are kept. Raises `ParseError`."""
        return self._prepared(expr).root

    def _prepared(self, expr: str) -> Prepared:
        with self._lock:
            if (known := self._parsed.get(expr)) is not None:
                self._parsed.move_to_end(expr)
                return known
        prepared = self._parse(expr)
        shape = Shape.of(expr, prepared) if self._at_hand is not None else None
        small = Small.of(expr, prepared) if self._at_hand is not None else None
        with self._lock:
            self._parsed[expr] = prepared
            if small is not None:
                self._small[expr] = small
            while len(self._parsed) > self._settings.parse_cache:
                self._small.pop(self._parsed.popitem(last=False)[0], None)
        if shape is not None:
            self._skeletons.learn(shape)
            self._keep(shape)
        return prepared

    def _keep(self, shape: Shape) -> None:
        with self._lock:
            self._shapes[shape.expr] = shape
            while len(self._shapes) > self._settings.parse_cache:
                self._shapes.popitem(last=False)

    def _shape(self, expr: str) -> Shape | None:
        """The shape of a text that is not known, None where it goes the long way. Raises `ParseError`."""
        shape = self._skeletons.filled(expr)
        if shape is None:
            self._prepared(expr)
            return self._shapes.get(expr)
        self._keep(shape)
        return shape

    def _parse(self, expr: str) -> Prepared:
        if len(expr) > self._settings.max_expr_bytes:
            raise ParseError(f"parse error: query is longer than {self._settings.max_expr_bytes} bytes", where="1:1")
        return Prepared.of(parse(expr, self._features))

    def instant(
        self,
        tenant: str,
        expr: str,
        time_ms: int,
        *,
        timeout_s: float | None = None,
        lookback_ms: int | None = None,
        cancel: threading.Event | None = None,
        queryable: bool = False,
        as_text: bool = False,
    ) -> QueryResult:
        """The value of `expr` at one time; `queryable` counts, for its statistics, the samples that each step could see.

        `as_text` tells that of a large answer nothing but the JSON will be asked for: other ways to it take long then.
        Raises `ParseError`, `ExecutionError`, `TooManySamples`, `QueryTimeout`, `QueryCanceled`, and `LimitExceeded` where all
        queries together hold too much.
        """
        how = _How(timeout_s, lookback_ms, cancel, queryable, as_text)
        return self._query(tenant, expr, Grid(time_ms, 1, 1), how)

    def range(
        self,
        tenant: str,
        expr: str,
        start_ms: int,
        end_ms: int,
        step_ms: int,
        *,
        timeout_s: float | None = None,
        lookback_ms: int | None = None,
        cancel: threading.Event | None = None,
        queryable: bool = False,
        as_text: bool = False,
    ) -> QueryResult:
        """The values of `expr` from start to end (inclusive), a step apart; always a matrix. Raises as `instant` does."""
        if end_ms < start_ms:
            raise ParseError("end timestamp must not be before start time")
        if step_ms <= 0:
            raise ParseError("zero or negative query resolution step widths are not accepted. Try a positive integer")
        if (end_ms - start_ms) // step_ms > self._settings.max_points:
            raise ParseError(
                f"exceeded maximum resolution of {self._settings.max_points:,} points per timeseries. "
                "Try decreasing the query resolution (?step=XX)"
            )
        grid = Grid(start_ms, step_ms, (end_ms - start_ms) // step_ms + 1)
        return self._query(tenant, expr, grid, _How(timeout_s, lookback_ms, cancel, queryable, as_text), end_ms=end_ms)

    def quick(self, tenant: str, expr: str, start_ms: int, end_ms: int, step_ms: int) -> QueryResult | None:
        """What `range` gives (`instant`, with a step of 0), where that is over in less than a thread takes to begin, or little more.

        None where it is not so certain: then those tell, errors included. Never waits.
        """
        found, readable = self._shortest(tenant, expr, start_ms, end_ms, step_ms)
        return self.small(tenant, expr, start_ms, end_ms, step_ms) if readable else found

    def at_hand(self, tenant: str, expr: str, start_ms: int, end_ms: int, step_ms: int) -> QueryResult | None:
        """As `quick`, only of what goes the shortest way."""
        return self._shortest(tenant, expr, start_ms, end_ms, step_ms)[0]

    def _shortest(self, tenant: str, expr: str, start_ms: int, end_ms: int, step_ms: int) -> tuple[QueryResult | None, bool]:
        """The answer, and without one whether it may still be a small query's: not where what it reads is too much, or not at hand."""
        with self._lock:
            shape = self._shapes.get(expr)
            if shape is None or self._at_hand is None:
                return None, self._at_hand is not None
            self._shapes.move_to_end(expr)
        return self._by_shape(tenant, shape, start_ms, end_ms, step_ms)

    def _by_shape(self, tenant: str, shape: Shape, start_ms: int, end_ms: int, step_ms: int) -> tuple[QueryResult | None, bool]:
        grid = self._grid_at_hand(start_ms, end_ms, step_ms)
        if grid is None:
            return None, False
        lookback = self._settings.lookback_ms
        fetches, which = shape.fetches(grid, lookback)
        if shape.columns and self._tiered is not None:
            for fetch in fetches:
                if self._tiered.rolled_up(fetch.start, fetch.end):
                    return None, False
        reads = self._reads_at_hand(tenant, fetches)
        if reads is None:
            return None, False
        found = shape.answer([reads[i] for i in which], grid, lookback, ranged=step_ms > 0)
        return found, found is None

    def small(self, tenant: str, expr: str, start_ms: int, end_ms: int, step_ms: int) -> QueryResult | None:
        """As `quick`, of any query that is small and has been evaluated before: a few times as long."""
        ranged = step_ms > 0
        with self._lock:
            small = self._small.get(expr)
            if small is None or not small.kinds <= self._met[ranged]:
                return None
            self._parsed.move_to_end(expr)
            self._remembering[expr] = small
            self._remembering.move_to_end(expr)
            if len(self._remembering) > _REMEMBERED:
                self._remembering.popitem(last=False)[1].forget()
        grid = self._grid_at_hand(start_ms, end_ms, step_ms)
        if grid is None or (ranged and small.prepared.root.type not in ("vector", "scalar")):
            return None
        bounds = self._bounds(grid, end_ms if ranged else None, _How())
        plan = self._planned(small.prepared, expr, grid, bounds)
        if any(fetch.coarse is not None for fetch in plan.fetches):
            return None
        reads = self._reads_at_hand(tenant, plan.fetches)
        return None if reads is None else small.answer(plan, reads, bounds, self._around, ranged=ranged)

    def _grid_at_hand(self, start_ms: int, end_ms: int, step_ms: int) -> Grid | None:
        """The steps of a query that may be answered at once; None where they are too many, or no other may begin."""
        n = (end_ms - start_ms) // step_ms + 1 if step_ms > 0 else 1
        if step_ms < 0 or not 0 < n <= self._most_steps:
            return None
        room = self.running.room(_DIRECT_BYTES) and len(self.running) < self._settings.max_concurrency
        return Grid(start_ms, step_ms or 1, n) if room else None

    def _reads_at_hand(self, tenant: str, fetches: Sequence[Fetch]) -> list[SeriesSet] | None:
        """What the reads find where all of that is at hand, and little."""
        assert self._at_hand is not None, "asked only where there is one"
        reads, left = [], MOST_SAMPLES
        for fetch in fetches:
            found = self._at_hand.at_hand(tenant, fetch.matchers, fetch.start, fetch.end, left)
            if found is None:
                return None
            reads.append(found)
            left -= found.sample_count
        return reads

    def glance(self, tenant: str, expr: str, start_ms: int, end_ms: int, step_ms: int) -> QueryResult | None:
        """As `quick`, also of what was never asked before: may wait. Raises `ParseError`."""
        if self._at_hand is None:
            return None
        if not self.known(expr) and (shape := self._shape(expr)) is not None:
            for matchers in shape.matchers:
                self._at_hand.look(tenant, matchers)
        return self.quick(tenant, expr, start_ms, end_ms, step_ms)

    def first_glance(self, tenant: str, expr: str, start_ms: int, end_ms: int, step_ms: int) -> QueryResult | None:
        """As `quick`, of what was never asked before, where to read it and to find its series is little work as well.

        Waits only where storage does for a moment. Raises `ParseError`.
        """
        if self._at_hand is None or len(expr) > _SHORT_TEXT or _COSTLY.search(expr) or self.known(expr):
            return None
        shape = self._shape(expr)
        asked = shape or self._met_before(expr, ranged=step_ms > 0)
        if asked is None or not all(self._at_hand.look(tenant, matchers, few=_FEW_SERIES) for matchers in asked.matchers):
            return None
        if shape is None:
            return self.quick(tenant, expr, start_ms, end_ms, step_ms)
        found, readable = self._by_shape(tenant, shape, start_ms, end_ms, step_ms)
        return self.small(tenant, expr, start_ms, end_ms, step_ms) if readable else found

    def _met_before(self, expr: str, *, ranged: bool) -> Small | None:
        """A small query that was read but never evaluated, of which all operations were."""
        with self._lock:
            small = self._small.get(expr)
        return small if small is not None and small.kinds <= self._met[ranged] else None

    def known(self, expr: str) -> bool:
        """Whether the text has been read."""
        with self._lock:
            return expr in self._parsed or expr in self._shapes

    def large(self, tenant: str, expr: str, start_ms: int, end_ms: int, step_ms: int) -> bool:
        """Whether a range query (an instant one, with a step of 0) is so much work that others would feel it; told before anything is read.

        Raises as `range` and `instant` do where they would before they read.
        """
        if len(expr) > _LONG_TEXT:
            return True
        storage = self._estimating
        grid = Grid(start_ms, step_ms or 1, (end_ms - start_ms) // step_ms + 1 if step_ms > 0 else 1)
        if storage is None:
            return False
        plan = self._planned(self._prepared(expr), expr, grid, self._bounds(grid, end_ms if step_ms > 0 else None, _How()))
        every = storage.estimate(tenant, None, 0, 0)
        # Mostly not even all there is would be.
        if work(plan, [every] * len(plan.fetches)) < _LARGE:
            return False
        return work(plan, [storage.estimate(tenant, f.matchers, f.start, f.end, f.coarse) for f in plan.fetches]) >= _LARGE

    def instants(self, tenant: str, asked: Sequence[Standing], time_ms: int) -> list[Answer]:
        """The value of each of several expressions at one time, in their order; what they read of one metric is read once.

        An error of one, of those that `instant` raises, is its answer; it does not touch the others.
        """
        if not asked:
            return []
        text = asked[0].expr + (f" (and {len(asked) - 1} more)" if len(asked) > 1 else "")
        self._enter(self._clock.monotonic() + self._settings.timeout_s)
        try:
            # A signalling NaN is a value like others.
            with self.running.entered(tenant, text, (time_ms, time_ms, 0), None) as ticket, np.errstate(invalid="ignore"):
                return self._together(tenant, asked, Grid(time_ms, 1, 1), ticket)
        finally:
            self._slots.release()

    def _together(self, tenant: str, asked: Sequence[Standing], grid: Grid, ticket: Ticket) -> list[Answer]:
        def select(matchers: tuple[Matcher, ...], start: int, end: int) -> SeriesSet:
            found = self._samples(tenant, matchers, start, end)
            ticket.hold(ticket.samples + found.sample_count, ticket.bytes + READ_BYTES * found.sample_count)
            return found

        time, how = self._clock.monotonic, _How(cancel=ticket.cancel)
        reads = Reads(select, None if self._estimating is None else estimating(self._estimating, tenant))
        wanted = [self._wanted(one, grid, self._bounds(grid, None, how)) for one in asked]
        reads.expect([f for plan in wanted if isinstance(plan, Plan) for f in plan.fetches])
        answers = []
        for one, plan in zip(asked, wanted, strict=True):
            began = time()
            found: QueryResult | VedetteError
            try:
                found = self._answer(tenant, one, plan, grid, replace(how, reads=reads))
            except VedetteError as error:
                found = error
            answers.append(Answer(found, time() - began))
        return answers

    def _wanted(self, one: Standing, grid: Grid, bounds: Bounds) -> Plan | VedetteError:
        """How an expression will be evaluated, or why it cannot be; of a comparison only what it reads."""
        try:
            if one.prepared is None:
                one.prepared = self._parse(one.expr)
                one.threshold = Threshold.of(one.prepared.root)
            if one.threshold is not None:
                return Plan([], [Fetch(one.threshold.matchers, grid.start - bounds.lookback + 1, grid.start)], -1)
            return self._planned(one.prepared, one.expr, grid, bounds)
        except VedetteError as error:
            return error

    def _answer(self, tenant: str, one: Standing, plan: Plan | VedetteError, grid: Grid, how: _How) -> QueryResult:
        """The answer to one of several expressions. Raises as `instant` does."""
        if isinstance(plan, VedetteError):
            raise plan
        assert how.cancel is not None and how.reads is not None and one.prepared is not None, "as `instants` makes them"
        if how.cancel.is_set():
            raise QueryCanceled("query was canceled in expression evaluation")
        if one.threshold is not None:
            if (compared := self._compared(one.threshold, plan.fetches[0], grid, how.reads)) is not None:
                return compared
        else:
            how = replace(how, plan=plan)
        return self._evaluated(tenant, one.expr, one.prepared, grid, how, self._clock.monotonic() + self._settings.timeout_s)

    def _compared(self, threshold: Threshold, fetch: Fetch, grid: Grid, reads: Reads) -> QueryResult | None:
        """The answer to a comparison; None where it takes the long way, since there are native histograms."""
        shared = reads.of(fetch)
        if shared is None:
            source = Source(reads.select(fetch.matchers, fetch.start, fetch.end))
            if not source.divisible:
                return None
            shared = source, source.rows(())
        source, rows = shared
        return threshold.compared(source, rows, grid, self._settings.lookback_ms) or reads.nothing(grid)

    def close(self) -> None:
        """Let go of the kernel threads; queries that run on are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _query(self, tenant: str, expr: str, grid: Grid, how: _How, *, end_ms: int | None = None) -> QueryResult:
        prepared = self._prepared(expr)
        if end_ms is not None and prepared.root.type not in ("vector", "scalar"):
            shown = DOCUMENTED_TYPE[prepared.root.type]
            raise ParseError(f'invalid expression type "{shown}" for range query, must be Scalar or instant Vector')
        limit = self._settings.timeout_s if how.timeout_s is None else min(how.timeout_s, self._settings.timeout_s)
        self._enter(deadline := self._clock.monotonic() + limit)
        try:
            found = self._evaluated(tenant, expr, prepared, grid, how, deadline, end_ms=end_ms)
        finally:
            self._slots.release()
        if (small := self._small.get(expr)) is not None:
            self._met[end_ms is not None] |= small.kinds
        return found

    def _enter(self, deadline: float) -> None:
        """Take one of the places of queries that run. Raises `QueryTimeout` where none is free in time."""
        if not self._slots.acquire(timeout=max(0.0, deadline - self._clock.monotonic())):
            raise QueryTimeout("query timed out in query queue")

    def _bounds(self, grid: Grid, end_ms: int | None, how: _How) -> Bounds:
        return Bounds(
            grid.start,
            grid.start if end_ms is None else end_ms,
            how.lookback_ms or self._settings.lookback_ms,
            self._settings.default_subquery_step_ms,
            0 if end_ms is None else grid.step,
        )

    def _planned(self, prepared: Prepared, expr: str, grid: Grid, bounds: Bounds) -> Plan:
        if prepared.durations:
            prepared = Prepared.of(resolved(prepared.root, expr, step=bounds.step, range_=bounds.end - bounds.start))
        tiers = {"rolled_up": self._tiered.rolled_up} if self._tiered is not None else {}
        return make_plan(prepared, grid, bounds, **tiers)

    def _evaluated(
        self, tenant: str, expr: str, prepared: Prepared, grid: Grid, how: _How, deadline: float, *, end_ms: int | None = None
    ) -> QueryResult:
        """The answer of an expression that has its place among those that run."""
        bounds = self._bounds(grid, end_ms, how)
        with self.running.entered(tenant, expr, (bounds.start, bounds.end, bounds.step), how.cancel) as ticket:
            ev = Evaluation(
                annotations=Annotations(expr),
                symbols=Symbols(),
                bounds=bounds,
                grid=grid,
                clock=self._clock,
                deadline=deadline,
                max_samples=self._settings.max_samples,
                max_bytes=self._settings.max_query_memory,
                delayed_names=self._settings.delayed_name_removal,
                type_labels=self._settings.type_and_unit_labels,
                started=self._settings.use_start_timestamps,
                pool=self._pool,
                ticket=ticket,
                statistics=Statistics(),
                recurring=self._recurring,
                as_text=how.as_text,
            )
            return self._run(ev, tenant, prepared, how, ranged=end_ms is not None)

    def _run(self, ev: Evaluation, tenant: str, prepared: Prepared, how: _How, *, ranged: bool) -> QueryResult:
        statistics, time = ev.statistics, self._clock.monotonic
        began = time()
        plan = how.plan or self._planned(prepared, ev.ticket.expr, ev.grid, ev.bounds)
        statistics.plan = plan
        self._estimate(ev, tenant, plan)
        data = self._fetch(ev, tenant, plan, how)
        if how.queryable:
            statistics.per_step = count_queryable(plan, [(d.offsets, d.timestamps, d.values) for d in data], ev.bounds, ev.grid)
        ready = time()
        with np.errstate(all="ignore"):
            value = evaluate(ev, plan, data)
            if ranged and isinstance(value, Scalar):
                value = ev.one_row(value.values)
        for cost, one in zip(statistics.reads, data, strict=True):
            if one.slabs is not None:
                cost.samples = one.slabs.read
        evaluated = time()
        notes = ev.annotations
        result = QueryResult(value, ev.grid, range_query=ranged, warnings=notes.warnings, infos=notes.infos, recurring=self._recurring)
        statistics.preparing_s, statistics.evaluating_s, statistics.sorting_s = ready - began, evaluated - ready, time() - evaluated
        result.statistics, result.pool = statistics, self._pool
        return result

    def _estimate(self, ev: Evaluation, tenant: str, plan: Plan) -> None:
        """Raise `TooManySamples` before anything is read where the index already tells that the query would hold too much."""
        if plan.most_steps > ev.max_samples:
            # Not even one series would fit.
            raise TooManySamples(TOO_MANY)
        storage = self._estimating
        if not plan.fetches or storage is None:
            return
        most = storage.estimate(tenant, None, 0, 0)
        if most.samples * len(plan.fetches) <= ev.max_samples and most.series * plan.most_steps <= ev.max_samples:
            return
        found = [storage.estimate(tenant, f.matchers, f.start, f.end, f.coarse) for f in plan.fetches]
        ev.statistics.estimate = cost = expected(plan, found)
        if max(cost.samples, cost.cells) > ev.max_samples:
            raise TooManySamples(
                f"{TOO_MANY}: it selects about {cost.series:,} series, to read {cost.samples:,} samples of them and hold {cost.cells:,} "
                f"values at once, more than {ev.max_samples:,} (promql.max_samples); narrow its matchers, its range, or take longer steps"
            )

    def _rolled_up(self, tenant: str, fetch: Fetch) -> Stretches | None:
        """The answer to one read where rollups have a part in it, else None."""
        if (coarse := fetch.coarse) is None or self._tiered is None:
            return None
        if self._settings.use_start_timestamps and coarse.column == "counter":
            coarse = replace(coarse, exact=False)  # a tier has no start timestamps
        return self._tiered.coarse_select(tenant, fetch.matchers, fetch.start, fetch.end, coarse)

    def _samples(self, tenant: str, matchers: tuple[Matcher, ...], start: int, end: int) -> SeriesSet:
        """The samples themselves, with start timestamps where those are heeded."""
        found = self._storage.select(tenant, matchers, start, end)
        return found if self._starting is None else self._starting.with_starts(tenant, matchers, start, end, found)

    def _in_pieces(self, ev: Evaluation, tenant: str, fetch: Fetch) -> Pieces | None:
        """A read's answer that is read as it is computed; None where it is read at once."""
        if self._divisible is None:
            return None
        found = self._divisible.in_pieces(tenant, fetch.matchers, fetch.start, fetch.end)
        # What comes near the limit is counted exactly, which only reading does.
        return None if found is None or ev.samples + 2 * int(found.upto[-1]) > ev.max_samples else found

    def _fetch(self, ev: Evaluation, tenant: str, plan: Plan, how: _How) -> list[Fetched]:
        """Read what the plan needs, and give all of it one symbol table, private to the query."""
        answers: list[SeriesSet | Pieces] = []
        rolled: list[tuple[bool, Floats | None]] = []
        reads = how.reads
        # Which samples a step could see is told by all of them.
        divided = divisible(plan) if self._divisible is not None and reads is None and not how.queryable else ()
        for number, fetch in enumerate(plan.fetches):
            ev.check()
            began = self._clock.monotonic()
            shared = reads.of(fetch) if reads is not None else None
            coarse = self._rolled_up(tenant, fetch) if shared is None else None
            if coarse is None and number in divided and (pieces := self._in_pieces(ev, tenant, fetch)) is not None:
                answers.append(pieces)
                rolled.append((False, None))
                ev.statistics.reads.append(ReadCost(self._clock.monotonic() - began, len(pieces.labels), int(pieces.upto[-1])))
                ev.count(int(pieces.upto[-1]), _label_bytes(pieces.labels))
                continue
            if coarse is not None:
                answer = coarse.series
            else:
                answer = self._samples(tenant, fetch.matchers, fetch.start, fetch.end) if shared is None else shared[0].part(shared[1])
            counted = coarse is not None and fetch.coarse is not None and fetch.coarse.column == "count"
            rolled.append((counted, coarse.weights if coarse is not None else None))
            ev.statistics.reads.append(ReadCost(self._clock.monotonic() - began, len(answer.labels), answer.sample_count))
            cells = 0 if answer.histograms is None else len(answer.histograms.cells)
            # A histogram counts as the samples that would take as much memory, as in Prometheus.
            ev.count(answer.sample_count + cells // 2, READ_BYTES * answer.sample_count + 8 * cells + _label_bytes(answer.labels))
            answers.append(answer)
        if not answers:
            return []
        base = answers[0].labels.symbols
        ev.symbols = base.fork()
        return [
            Fetched.in_slabs(unify(a.labels, ev.symbols, base), PiecewiseSlabs(a, self._scratch))
            if not isinstance(a, SeriesSet)
            else Fetched(
                unify(a.labels, ev.symbols, base),
                _plain(a.offsets),
                _plain(a.timestamps),
                _plain(a.values),
                histograms=a.histograms,
                starts=a.start_timestamps if self._settings.use_start_timestamps else None,
                counted=counted,
                weights=weights,
            )
            for a, (counted, weights) in zip(answers, rolled, strict=True)
        ]


def _direct(settings: PromqlSettings) -> bool:
    """Whether a query of few samples is within all limits, and answered as Prometheus does it by default."""
    changed = settings.delayed_name_removal or settings.type_and_unit_labels or settings.use_start_timestamps
    room = min(settings.max_query_memory, settings.max_memory or _DIRECT_BYTES)
    return not changed and settings.max_samples >= _DIRECT_SAMPLES and room >= _DIRECT_BYTES and settings.timeout_s >= _DIRECT_S


def _label_bytes(labels: LabelTable) -> int:
    return labels.offsets.nbytes + labels.names.nbytes + labels.values.nbytes


def _plain(array: NDArray[_T]) -> NDArray[_T]:
    """The array as kernels are compiled for it: contiguous and writable (a read-only one would be compiled for anew)."""
    return array if array.flags.writeable and array.flags.c_contiguous else array.copy()
