"""`/api/v1/query`, `/query_range` and their kin: PromQL over HTTP, in Prometheus' shapes.

Evaluation runs on worker threads, in turns (`turns.py`): large queries in turns of their own, so that small ones never wait for them.
What waits is given up when its time is over, what waits or runs when its client has gone. Not here: evaluation (`promql`), encoding
(`answers.py`).
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api import tables
from vedette.api.answers import JSON, Pieces, disconnected, enveloped, success
from vedette.api.endpoint import Endpoint, Param, Run
from vedette.api.glances import DECLINED
from vedette.api.params import Form, boolean_of, form_of, limit_of, parameter, parse_span, parse_time, rfc3339, time_of
from vedette.api.tree import tree_json
from vedette.api.turns import LEFT_THE_QUEUE, Turns, awaited
from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, NotFound, VedetteError
from vedette.promql.errors import ExecutionError, QueryCanceled, QueryTimeout, TooManySamples
from vedette.promql.nodes import Node
from vedette.promql.printer import format_query
from vedette.promql.running import Call
from vedette.storage import heap

if TYPE_CHECKING:
    from vedette.promql.engine import Engine
    from vedette.promql.result import QueryResult

MAX_POINTS = 11_000
TRUNCATED = "results truncated due to limit"
_STATS_DEPRECATED = 'value "{}" for parameter "stats" is deprecated and will be rejected in the next major release, use "true" or "all"'
TIMED_OUT = "query timed out in query execution"
QUEUED_TOO_LONG = "query timed out in query queue"
_PATIENCE_S = 0.1
_SHORT_S, _TOO_LONG_S, _STALLED_S = 0.0015, 0.003, 0.02
_SHORT_BYTES = 256 << 10
"""Of an answer that the loop's own thread may compress, in two milliseconds or three."""
_KNOWN_SHAPES, _LONGEST_KEPT, _SAME_TIME_MS = 2000, 2000, 600_000
MAX_ID_DIGITS = 18
POINT_BYTES, _MANY_POINTS = 28, 1 << 16
"""Of a point as JSON, about, and as much in memory meanwhile; and from how many points on an answer is sent while it is being written."""

_QUERY = Param("query", "text", "The PromQL expression.", required=True)
_LIMIT = Param("limit", "integer", "The most series to return; 0 is all.")
_TUNING = (
    Param("timeout", "patience", "Give the evaluation up after this long; capped by the server's own limit."),
    Param("lookback_delta", "duration", "How far back an instant selector looks, for this query."),
    Param("stats", "text", "`true`: include times and counts of samples; `all`: also the counts of each step."),
    Param("format", "text", "`json` (default), or a table with a row for each value: `csv`, `parquet`."),
    Param("explain", "boolean", "Include the operations of the query, each with rows, bytes and seconds."),
)


Answer = bytes | Iterator[bytes | memoryview]
"""An answer's body: whole, or in pieces that are made as they are taken, on a worker thread."""

Listed = Callable[[Call], AbstractContextManager[object]]
"""Lists a query, from when it begins to wait, while the context lasts; what it is given ends it when set."""

Evaluation = Callable[[float, threading.Event], Answer]
"""A query to be run on a worker thread: given its deadline (of the monotonic clock) and the event that cancels it."""


class _Large(Exception):
    """A query has to wait among the large ones."""


class Gate:
    """Evaluates queries when it is their turn; a client that goes cancels its query."""

    def __init__(
        self,
        run: Run,
        clock: Clock,
        turns: Turns,
        *,
        timeout_s: float,
        large: Turns | None = None,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """`large` are the turns of queries that are much work (None: they have no own), fewer than `turns`.

        `busy` tells whether even a short query would have to wait for another.
        """
        self.run = run
        self._busy = busy
        self._clock = clock
        self._turns, self._large = turns, large
        self._timeout_s = timeout_s
        self._short: OrderedDict[Hashable, int] = OrderedDict()
        """The shapes of queries that were over so fast last time that everything else waits for them: the latest last.

        With how many bytes each was answered, a great many where in pieces.
        """

    async def evaluate(
        self,
        request: Request,
        tenant: str,
        timeout_s: float | None,
        evaluation: Evaluation,
        *,
        shape: Hashable,
        large: Callable[[], bool] = lambda: False,
        waiting: Listed = lambda call: nullcontext(),
    ) -> Answer:
        """What `evaluation` gives. Those of one `shape` (None: of none) take about the same time: what is over at once needs no thread.

        `large` tells, on a worker thread, whether it is much work; it is asked only where so much is being done already that it matters.
        `waiting` lists it while it waits. Raises `QueryTimeout` for one that never got its turn, `QueryCanceled` for one whose client
        has gone or that was ended while it waited, `LimitExceeded` where too many wait.
        """
        allowed = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        if allowed <= 0:
            raise QueryTimeout(TIMED_OUT)
        deadline = self._clock.monotonic() + allowed
        call = Call()
        with ExitStack() as listed:
            await self._turn(self._turns, request, tenant, deadline, call, lambda: listed.enter_context(waiting(call)))
            # While few run, each may be as large as it is.
            few = self._large is not None and self._large.take(tenant)
            try:
                # The loop must not wait until another's large read lets go of the memory.
                if shape in self._short and not self._busy():
                    return self._at_once(evaluation, shape, deadline)
                asked = evaluation if few or self._large is None else _weighed(evaluation, large)
                return await self._on_a_thread(request, asked, shape, deadline, call)
            except _Large:
                assert self._large is not None, "else nobody asks"
            finally:
                self._turns.give_back(tenant)
                if few and self._large is not None:
                    self._large.give_back(tenant)
            await self._turn(self._large, request, tenant, deadline, call, lambda: listed.enter_context(waiting(call)))
            try:
                return await self._on_a_thread(request, evaluation, None, deadline, call)
            finally:
                self._large.give_back(tenant)

    def quick(self, tenant: str, evaluation: Evaluation, *, shape: Hashable) -> Answer | None:
        """What `evaluate` gives, of a short query with a short answer for which nobody has to wait; None where that has to be asked.

        Raises what `evaluation` does.
        """
        if self._short.get(shape, sys.maxsize) > _SHORT_BYTES or self._busy() or not self._turns.take(tenant):
            return None
        try:
            return self._at_once(evaluation, shape, self._clock.monotonic() + self._timeout_s)
        except VedetteError:
            # Who asks next meets the same, and says so: not twice each time.
            self._short.pop(shape, None)
            raise
        finally:
            self._turns.give_back(tenant)

    async def _turn(self, turns: Turns, request: Request, tenant: str, deadline: float, call: Call, waits: Callable[[], object]) -> None:
        """Take a turn of the tenant, which must be given back; `waits` is called where it does not come at once.

        Raises as `evaluate` does where none comes while somebody waits for it.
        """
        if turns.take(tenant):
            return
        ended = asyncio.Event()
        call.leave = partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
        if not call.id:
            waits()
        if call.is_set():
            raise QueryCanceled(LEFT_THE_QUEUE)
        left = max(0.0, deadline - self._clock.monotonic())
        found = await awaited(turns, tenant, left, disconnected(request.receive), ended.wait())
        call.leave = None
        if not found:
            raise QueryTimeout(QUEUED_TOO_LONG) if found is None else QueryCanceled(LEFT_THE_QUEUE)

    async def _on_a_thread(
        self, request: Request, evaluation: Evaluation, shape: Hashable, deadline: float, cancel: threading.Event
    ) -> Answer:
        began = self._clock.monotonic()
        running = asyncio.ensure_future(self.run(_let_go, evaluation, deadline, cancel))
        # Most queries are over before it is worth watching whether anybody still waits.
        done, _ = await asyncio.wait((running,), timeout=_PATIENCE_S)
        if not done:
            return await _while_connected(request, running, cancel)
        result = running.result()
        if shape is not None and self._clock.monotonic() - began < _SHORT_S:
            self._short[shape] = len(result) if isinstance(result, bytes) else sys.maxsize
            while len(self._short) > _KNOWN_SHAPES:
                self._short.popitem(last=False)
        return result

    def _at_once(self, evaluation: Evaluation, shape: Hashable, deadline: float) -> Answer:
        """Evaluate on the loop's own thread: to hand it to another and back would take longer."""
        began, worked = self._clock.monotonic(), time.thread_time()
        try:
            return _let_go(evaluation, deadline, threading.Event())
        finally:
            # What a busy machine takes from us is not the query's doing, unless it waited for something itself.
            if time.thread_time() - worked > _TOO_LONG_S or self._clock.monotonic() - began > _STALLED_S:
                self._short.pop(shape, None)


def _weighed(evaluation: Evaluation, large: Callable[[], bool]) -> Evaluation:
    """`evaluation`, which raises `_Large` instead where it is that."""

    def weighed(deadline: float, cancel: threading.Event) -> Answer:
        try:
            found = large()
        except VedetteError:
            found = False  # the evaluation meets the same, and says so
        if found:
            raise _Large
        return evaluation(deadline, cancel)

    return weighed


def _let_go(evaluation: Evaluation, deadline: float, cancel: threading.Event) -> Answer:
    """What `evaluation` gives. Where it fails, what it held is let go of.

    The error is of a future that the stack of the error knows: the garbage collector would find that some day, and until then each
    query that was refused for its memory held it.
    """
    try:
        return evaluation(deadline, cancel)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__context__
        if isinstance(error, (TooManySamples, QueryTimeout)):
            heap.give_back()
        raise


async def _while_connected(request: Request, running: asyncio.Future[Answer], cancel: threading.Event) -> Answer:
    gone = asyncio.ensure_future(disconnected(request.receive))
    try:
        await asyncio.wait((running, gone), return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            cancel.set()
        return await running
    finally:
        # Also where this request itself is cancelled: the thread must not work on for nobody.
        if not running.done() or running.cancelled():
            cancel.set()
        gone.cancel()


@dataclass(frozen=True, slots=True)
class _Options:
    """What both kinds of query have in common; times in the units of their names."""

    text: str
    limit: int
    timeout_s: float | None
    lookback_ms: int | None
    stats: str
    explain: bool
    table: tables.Kind | None

    @property
    def plain(self) -> bool:
        """Whether nothing but the answer is wanted, by the server's own settings."""
        return not (self.stats or self.explain) and self.lookback_ms is None


def _options(form: Form) -> _Options:
    timeout, lookback = form.text("timeout"), form.text("lookback_delta")
    try:
        lookback_ms = parse_span(lookback) if lookback else None
    except BadInput as error:
        raise BadInput(f"error parsing lookback delta duration: {error}") from None
    return _Options(
        text=form.text("query"),
        limit=limit_of(form),
        timeout_s=parameter("timeout", lambda: parse_span(timeout) / 1000) if timeout else None,
        lookback_ms=lookback_ms,
        stats=form.text("stats"),
        explain=boolean_of(form, "explain"),
        table=tables.wanted(form),
    )


@dataclass(frozen=True, slots=True)
class Queries:
    """The query operations over one engine."""

    engine: Engine
    gate: Gate
    clock: Clock
    tenant_of: Callable[[Mapping[str, Any]], str]

    async def instant(self, request: Request) -> Response:
        """Evaluate an expression at one time."""
        form = await form_of(request)
        when = time_of(form, "time", now_ms(self.clock))
        options, tenant = _options(form), self.tenant_of(request)
        plain = options.plain and DECLINED not in request.scope

        def evaluate(left: float, cancel: threading.Event) -> QueryResult:
            lookback, stats = options.lookback_ms, bool(options.stats)
            if plain and (found := self.engine.glance(tenant, options.text, when, when, 0)) is not None:
                return found
            return self.engine.instant(
                tenant, options.text, when,
                timeout_s=left, lookback_ms=lookback, cancel=cancel, queryable=stats, as_text=options.table is None,
            )  # fmt: skip

        return await self._answer(request, tenant, options, evaluate, grid=(when, when, 0))

    async def range(self, request: Request) -> Response:
        """Evaluate an expression at each step of a range."""
        form = await form_of(request)
        start = parameter("start", lambda: parse_time(form.text("start")))
        end = parameter("end", lambda: parse_time(form.text("end")))
        if end < start:
            raise BadInput('invalid parameter "end": end timestamp must not be before start time')
        step = parameter("step", lambda: parse_span(form.text("step")))
        if step <= 0:
            raise BadInput(
                'invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer'
            )
        if (end - start) // step > MAX_POINTS:
            raise BadInput("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)")
        options, tenant = _options(form), self.tenant_of(request)
        plain = options.plain and DECLINED not in request.scope

        def evaluate(left: float, cancel: threading.Event) -> QueryResult:
            if plain and (found := self.engine.glance(tenant, options.text, start, end, step)) is not None:
                return found
            return self.engine.range(
                tenant, options.text, start, end, step,
                timeout_s=left, lookback_ms=options.lookback_ms, cancel=cancel, queryable=bool(options.stats),
                as_text=options.table is None,
            )  # fmt: skip

        return await self._answer(request, tenant, options, evaluate, grid=(start, end, step))

    def short(self, tenant: str, text: str, start: int, end: int, step: int) -> bytes | None:
        """The body of the answer to `range` (`instant`, with a step of 0) without options, of a query known to be over at once.

        None where these have to be asked. Raises what they do, in other words.
        """

        def evaluated(deadline: float, cancel: threading.Event) -> bytes:
            left = deadline - self.clock.monotonic()
            if step:
                result = self.engine.range(tenant, text, start, end, step, timeout_s=left, cancel=cancel, as_text=True)
            else:
                result = self.engine.instant(tenant, text, start, timeout_s=left, cancel=cancel, as_text=True)
            # Many more series than a moment ago: that takes longer than anybody should have to wait.
            many = result.points > _MANY_POINTS
            return b"" if many else enveloped(*result.parts(), warnings=result.warnings, infos=result.infos)

        found = self.gate.quick(tenant, evaluated, shape=_shape(tenant, text, (start, end, step)))
        assert not isinstance(found, Iterator), "made above"
        return found or None

    async def _answer(
        self,
        request: Request,
        tenant: str,
        options: _Options,
        evaluate: Callable[[float, threading.Event], QueryResult],
        *,
        grid: tuple[int, int, int],
    ) -> Response:
        """The response to a query from start to end, a step apart: a step of 0 for one at one time."""
        start, end, step = grid
        asked = began = self.clock.monotonic()
        notes: list[str] = []
        large: list[tuple[int, bool]] = []
        """Of an answer in pieces: how many bytes it has, and whether that is exact."""

        def more(result: QueryResult) -> bytes:
            """What comes after the result in the same object."""
            added: dict[str, Any] = {}
            if options.stats:
                total = self.clock.monotonic() - began
                added["stats"] = _stats(result, queued=began - asked, total=total, per_step=options.stats == "all")
            if options.explain:
                added["explain"] = result.statistics.explained()
            return b"".join(b',"' + name.encode() + b'":' + orjson.dumps(value) for name, value in added.items())

        def in_pieces(result: QueryResult, warnings: list[str]) -> Iterator[bytes | memoryview]:
            self.engine.running.keep(result, result.points * POINT_BYTES)
            head, tail = enveloped(b"|", warnings=warnings, infos=result.infos).split(b"|", 1)
            exact, added = result.measured(options.limit), more(result)
            size = result.points * POINT_BYTES if exact is None else len(head) + exact + len(added) + len(tail)
            large.append((size, exact is not None))
            return pieces(result, head, added, tail)

        def pieces(result: QueryResult, head: bytes, added: bytes, tail: bytes) -> Iterator[bytes | memoryview]:
            last: bytes | memoryview = head
            for piece in result.pieces(options.limit):
                yield last
                last = piece
            # The end of the object itself, before which there may be more.
            yield bytes(last)[:-1] + added + b"}" + tail

        def evaluated(deadline: float, cancel: threading.Event) -> Answer:
            nonlocal began
            began = self.clock.monotonic()
            if began >= deadline:
                raise QueryTimeout(QUEUED_TOO_LONG)
            try:
                result = evaluate(deadline - began, cancel)
            except BadInput as error:
                # A mistake in the text is a mistake in the parameter; its position comes first in what follows.
                raise in_query(error) from None
            warnings = list(result.warnings)
            if options.stats not in ("", "true", "all"):
                warnings.append(_STATS_DEPRECATED.format(options.stats))
            if options.limit and len(result) > options.limit:
                warnings.append(TRUNCATED)
            if options.table:
                notes.extend(warnings)
                return tables.encoded(result.series(options.limit), options.table)
            if result.points > _MANY_POINTS:
                return in_pieces(result, warnings)
            if options.stats or options.explain:
                return enveloped(result.json(options.limit)[:-1], more(result), b"}", warnings=warnings, infos=result.infos)
            return enveloped(*result.parts(options.limit), warnings=warnings, infos=result.infos)

        shape: Hashable = None
        if len(options.text) <= _LONGEST_KEPT and not options.table:
            shape = _shape(tenant, options.text, grid, (options.lookback_ms, options.limit, options.stats, options.explain))

        def much() -> bool:
            return self.engine.large(tenant, options.text, start, end, step)

        def waiting(call: Call) -> AbstractContextManager[object]:
            return self.engine.running.waiting(tenant, options.text, grid, call)

        answer = await self.gate.evaluate(request, tenant, options.timeout_s, evaluated, shape=shape, large=much, waiting=waiting)
        if options.table:
            assert isinstance(answer, bytes), "tables are whole"
            return Response(answer, media_type=tables.MEDIA[options.table], headers=tables.headers(options.table, notes))
        if isinstance(answer, bytes):
            return Response(answer, media_type=JSON)
        size, exact = large[0]
        return Pieces(answer, self.gate.run, size=size, exact=exact)

    async def format(self, request: Request) -> Response:
        """An expression laid out for reading."""
        return Response(await self._read(request, lambda root: enveloped(orjson.dumps(format_query(root)))), media_type=JSON)

    async def parse(self, request: Request) -> Response:
        """An expression's syntax tree."""
        return Response(await self._read(request, lambda root: enveloped(tree_json(root))), media_type=JSON)

    async def _read(self, request: Request, made: Callable[[Node], bytes]) -> bytes:
        """What is made of an expression, on a worker thread when it is the tenant's turn: a long one takes seconds to read."""
        form = await form_of(request)
        answer = await self.gate.evaluate(
            request,
            self.tenant_of(request),
            None,
            lambda deadline, cancel: made(self._parsed(form)),
            shape=None,
            large=lambda: len(form.text("query")) > _LONGEST_KEPT,
        )
        assert isinstance(answer, bytes), "nothing else is made here"
        return answer

    async def running(self, request: Request) -> Response:
        """The tenant's queries that are being evaluated, the longest-running first, and those that wait for it."""
        found = self.engine.running.list(tenant := self.tenant_of(request))
        return success(
            [
                {
                    "id": str(q.id),
                    "tenant": tenant,
                    "state": "waiting" if q.waits else "running",
                    "query": q.expr,
                    "start": q.start / 1000,
                    "end": q.end / 1000,
                    "step": q.step / 1000,
                    "startedAt": rfc3339(q.began),
                    "runningSeconds": round(q.running_s, 3),
                    "samples": q.samples,
                    "bytes": q.bytes,
                }
                for q in found
            ]
        )

    async def cancel(self, request: Request) -> Response:
        """End one of them: it fails with `canceled`, at its next check where it runs."""
        text = str(request.path_params["id"])
        if not text.isdecimal() or len(text) > MAX_ID_DIGITS:
            raise NotFound(f"no query {text} runs")
        self.engine.running.cancel(self.tenant_of(request), int(text))
        return success({})

    def _parsed(self, form: Form) -> Node:
        try:
            return self.engine.parse(form.text("query"))
        except BadInput as error:
            raise in_query(error) from None


def _shape(
    tenant: str, text: str, grid: tuple[int, int, int], options: tuple[int | None, int, str, bool] = (None, 0, "", False)
) -> Hashable:
    """What queries have in common that take about the same time: their lookback, limit, statistics and explanation are `options`."""
    start, end, step = grid
    # What is short now may not be of another time, where there is more data; a few minutes on it will be.
    return tenant, text, end - start, step, end // _SAME_TIME_MS, *options


def in_query(error: BadInput) -> BadInput:
    """A mistake in an expression as a mistake in the parameter."""
    # Data that does not fit the query is no fault of the parameter: Prometheus gives that text as it stands.
    if isinstance(error, ExecutionError):
        return error
    return BadInput(f'invalid parameter "query": {error}')


def _stats(result: QueryResult, *, queued: float, total: float, per_step: bool) -> dict[str, Any]:
    """Statistics in Prometheus' shape; times in seconds. `total` is what passed since the query had its turn."""
    found = result.statistics
    assert found.per_step is not None, "statistics were asked for"
    timings = {
        "evalTotalTime": total,
        "resultSortTime": found.sorting_s,
        "queryPreparationTime": found.preparing_s,
        "innerEvalTime": found.evaluating_s,
        "execQueueTime": queued,
        "execTotalTime": queued + total,
    }
    samples: dict[str, Any] = {
        "totalQueryableSamples": int(found.per_step.sum()),
        "peakSamples": found.peak,
        "samplesRead": found.samples_read,
    }
    if per_step:
        samples["totalQueryableSamplesPerStep"] = [
            [t / 1000, n] for t, n in zip(result.times.tolist(), found.per_step.tolist(), strict=True)
        ]
    return {"timings": timings, "samples": samples}


def endpoints(queries: Queries) -> list[Endpoint]:
    """The operations of this room."""
    both = ("GET", "POST")
    span = (Param("start", "time", "The first evaluation.", required=True), Param("end", "time", "The last, inclusive.", required=True))
    step = Param("step", "duration", "The distance between evaluations.", required=True)
    return [
        Endpoint(
            "/api/v1/query",
            queries.instant,
            "Evaluate an expression at one time",
            both,
            (_QUERY, Param("time", "time", "When; now if absent."), _LIMIT, *_TUNING),
        ),
        Endpoint(
            "/api/v1/query_range", queries.range, "Evaluate an expression over a range", both, (_QUERY, *span, step, _LIMIT, *_TUNING)
        ),
        Endpoint("/api/v1/status/queries", queries.running, "The queries that run or wait now", ("GET",)),
        Endpoint("/api/v1/status/queries/{id}", queries.cancel, "End a query that runs or waits", ("DELETE",)),
        Endpoint("/api/v1/format_query", queries.format, "Lay an expression out for reading", both, (_QUERY,)),
        Endpoint("/api/v1/parse_query", queries.parse, "An expression's syntax tree", both, (_QUERY,)),
    ]
