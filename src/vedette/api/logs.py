"""Log lines out: search, counts over time, services, errors grouped, and the live tail.

Answers are Prometheus' envelope. Not here: lines in (`logs_in.py`), Loki's and BotServer's shapes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from vedette.api.answers import enveloped, finishing
from vedette.api.endpoint import Endpoint, Param, Run, answering
from vedette.api.logs_tail import Fresh, followed
from vedette.api.params import Form, form_of, integer, parse_span
from vedette.api.problems import UNEXPECTED, prometheus, prometheus_body
from vedette.clock import Clock
from vedette.errors import BadInput, LimitExceeded, NotFound
from vedette.logs.database import LogRow
from vedette.logs.query import MAX_TIME, MIN_TIME, FieldFilter, LineFilter, LogQuery, Place
from vedette.logs.store import LogStore
from vedette.logs.tracking import grouped
from vedette.model.durations import parse_duration
from vedette.model.logs import LEVELS, level_of
from vedette.model.times import iso_ns
from vedette.wire.loglines import parse_time

_FIELD = re.compile(r"([^=!~]+)(=~|!~|!=|=)(.*)\Z", re.DOTALL)
_DEFAULT_SPAN = 86_400 * 10**9
_STEPS = tuple(s * 10**9 for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800))
_MOST_SPANS = 2_000
_SPANS = 60
# A tail gives so many lines at once; of more it says how many it left out.
_TAIL_LINES = 500
_TAIL_ALIVE_S = 15
_MOST_TAILS = 200


@dataclass(frozen=True, slots=True)
class LogBackend:
    """What the operations on logs need. `open` is None where DuckDB is not installed; `ending` says that the server stops."""

    open: LogStore | None
    run: Run
    clock: Clock
    tenant_of: Callable[[Mapping[str, Any]], str]
    ending: Callable[[], bool] = lambda: False

    @property
    def store(self) -> LogStore:
        """The store. Raises `NotFound` where there is none."""
        if self.open is None:
            raise NotFound("logs need DuckDB, which is not installed: pip install 'vedette[logs]'")
        return self.open

    def now_ns(self) -> int:
        """Unix time in ns."""
        # A float holds today's time to a quarter of a microsecond; further digits would be made up.
        return int(self.clock.now() * 1e6) * 1000


def shown_time(ns: int) -> str:
    """RFC 3339 in UTC, with as many digits of the second as it takes in threes: `2024-01-15T10:00:00.125Z`."""
    seconds, fraction = divmod(ns, 10**9)
    try:
        text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except (OverflowError, ValueError):
        return str(ns)
    if not fraction:
        return text + "Z"
    digits = f"{fraction:09d}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}Z"


def levels_of(texts: Sequence[str], *, name: str = "level") -> tuple[str, ...]:
    """Levels from repeated or comma-separated names. Raises `BadInput`."""
    found = []
    for text in (part.strip() for given in texts for part in given.split(",")):
        if not text or text == "all":
            continue
        level = LEVELS[level_of(text)]
        if level == "unknown" and text.lower() != "unknown":
            raise BadInput(f'invalid parameter "{name}": not a level: {text!r}: expected some of {", ".join(LEVELS)}')
        found.append(level)
    return tuple(dict.fromkeys(found))


def query_of(form: Form, now_ns: int, *, max_lines: int) -> LogQuery:
    """The query that parameters describe. Raises `BadInput` naming the parameter."""
    start, end = _span(form, now_ns)
    levels = levels_of(form.texts("level"))
    if form.text("min_level"):
        (least,) = levels_of([form.text("min_level")], name="min_level")[:1] or ("unknown",)
        above = LEVELS[LEVELS.index(least) :]
        levels = tuple(v for v in above if not levels or v in levels) or ("unknown",)
    limit = integer_of(form, "limit", 100, most=max_lines)
    order = form.text("order") or "desc"
    if order not in ("asc", "desc"):
        raise BadInput(f'invalid parameter "order": {order!r}: expected asc or desc')
    return LogQuery(
        start=start,
        end=end,
        levels=levels,
        services=tuple(s for given in form.texts("service") for s in given.split(",")),
        lines=(
            *(LineFilter("contains", text) for name in ("text", "q") for text in form.texts(name) if text),
            *(LineFilter("contains", text, negated=True) for text in form.texts("not_text") if text),
            *(LineFilter("regex", text) for text in form.texts("regex") if text),
        ),
        fields=tuple(map(field_filter, form.texts("field"))),
        limit=limit,
        newest_first=order == "desc",
        after=_place(form.text("cursor")),
    )


def integer_of(form: Form, name: str, default: int, *, most: int) -> int:
    """A whole number from 1 to `most`. Raises `BadInput`."""
    text = form.text(name)
    if not text:
        return min(default, most)
    try:
        value = integer(text)
    except BadInput:
        value = 0
    if not 1 <= value <= most:
        raise BadInput(f'invalid parameter "{name}": {text[:40]!r}: expected a whole number from 1 to {most:,}')
    return value


def _span(form: Form, now_ns: int) -> tuple[int, int]:
    last = form.text("last")
    if last:
        try:
            return now_ns - parse_duration(last) * 1_000_000, MAX_TIME
        except BadInput as error:
            raise BadInput(f'invalid parameter "last": {error}') from None
    end = time_of(form, "end", MAX_TIME)
    # Without a start a day is searched: asking for nothing must not read everything there is.
    start = time_of(form, "start", min(end, now_ns) - _DEFAULT_SPAN)
    if end < start:
        raise BadInput('invalid parameter "end": it is before the start')
    return start, end


def time_of(form: Form, name: str, default: int) -> int:
    """Unix ns of a parameter in any form of time. Raises `BadInput` naming it."""
    text = form.text(name)
    if not text:
        return default
    try:
        return any_time(text)
    except BadInput as error:
        raise BadInput(f'invalid parameter "{name}": {error}') from None


def any_time(text: str) -> int:
    """Unix ns of a Unix time in s, ms, µs or ns, or of ISO 8601 in every form. Raises `BadInput`."""
    try:
        return parse_time(text)
    except BadInput:
        if (ns := iso_ns(text)) is not None and abs(ns) < 1 << 62:
            return ns
        raise


def field_filter(text: str) -> FieldFilter:
    """A condition `name=value`, or with `!=`, `=~`, `!~`. Raises `BadInput`."""
    found = _FIELD.match(text)
    if found is None:
        raise BadInput(f'invalid parameter "field": {text[:80]!r}: expected name=value, or !=, =~, !~ in the place of =')
    return FieldFilter(found[1].strip(), found[2], found[3])  # type: ignore[arg-type]  # the pattern allows no other operators


def _place(text: str) -> Place | None:
    if not text:
        return None
    time, _, seq = text.partition(".")
    if not time.lstrip("-").isdecimal() or not seq.isdecimal() or len(text) > 45:
        raise BadInput(f'invalid parameter "cursor": {text[:60]!r}: expected what an answer gave as next')
    return Place(int(time), int(seq))


def cursor(row: LogRow) -> str:
    """Where the next page begins, after this line."""
    return f"{row.time}.{row.seq}"


def shown(row: LogRow) -> dict[str, Any]:
    """A line as the API answers it."""
    return {
        "timestamp": shown_time(row.time),
        "level": row.level,
        "service": row.service,
        "message": row.message,
        "fields": orjson.Fragment(row.fields),
    }


@dataclass(slots=True)
class Logs:
    """The operations."""

    backend: LogBackend
    tails: int = 0

    async def _query(self, request: Request) -> tuple[str, LogQuery, Form]:
        form = await form_of(request)
        store = self.backend.store
        return self.backend.tenant_of(request.scope), query_of(form, self.backend.now_ns(), max_lines=store.settings.max_lines), form

    async def search(self, request: Request) -> Response:
        """Lines with their total, a page at a time."""
        tenant, query, _ = await self._query(request)
        page = await self.backend.store.search(tenant, query)
        data = {"logs": [shown(r) for r in page.rows], "total": page.total, "next": cursor(page.rows[-1]) if page.more else None}
        return _answer(data)

    async def histogram(self, request: Request) -> Response:
        """Counts by level over time."""
        tenant, query, form = await self._query(request)
        query = replace(query, end=min(query.end, self.backend.now_ns() + 10**9), after=None)
        step = next((s for s in _STEPS if (query.end - query.start) // s <= _SPANS), _DEFAULT_SPAN * 30)
        if form.text("step"):
            try:
                step = parse_span(form.text("step")) * 1_000_000
            except BadInput as error:
                raise BadInput(f'invalid parameter "step": {error}') from None
        if step <= 0 or (query.end - query.start) // step > _MOST_SPANS:
            raise BadInput(f'invalid parameter "step": more than {_MOST_SPANS:,} spans: choose a longer one')
        found = await self.backend.store.counts_by_level(tenant, query, step)
        spans: dict[int, dict[str, int]] = {}
        for (start, level), n in found.items():
            span = spans.setdefault(start, {})
            span[level] = span.get(level, 0) + n
        listed = [{"start": shown_time(s), "time": s / 1e9, "counts": spans[s]} for s in sorted(spans)]
        return _answer({"step": step / 1e9, "start": query.start / 1e9, "end": query.end / 1e9, "spans": listed})

    async def services(self, request: Request) -> Response:
        """The services that have lines, with how many."""
        tenant, query, _ = await self._query(request)
        found = await self.backend.store.services(tenant, replace(query, after=None))
        return _answer({"services": [{"service": s, "lines": n} for s, n in sorted(found.items(), key=lambda i: (-i[1], i[0]))]})

    async def errors(self, request: Request) -> Response:
        """Errors by fingerprint, the most frequent first."""
        tenant, query, form = await self._query(request)
        now = self.backend.now_ns()
        query = replace(query, end=min(query.end, now + 1), after=None)
        step = max(10**9, (query.end - query.start) // 24)
        rows = await self.backend.store.errors(tenant, query, step)
        before = await self.backend.store.errors_before(tenant, query) if rows and query.start > MIN_TIME else {}
        found = grouped(rows, start=query.start, end=query.end, step=step, before=before)
        limit = integer_of(form, "limit", 100, most=self.backend.store.settings.max_lines)
        listed = [
            {
                "fingerprint": e.fingerprint,
                "type": e.type,
                "exception": e.exception,
                "pattern": e.pattern,
                "message": e.message,
                "services": e.services,
                "count": e.count,
                "first_seen": shown_time(e.first),
                "last_seen": shown_time(e.last),
                "trend": e.trend,
                "counts": e.counts,
            }
            for e in found[:limit]
        ]
        return _answer({"errors": listed, "total": len(found), "step": step / 1e9})

    async def tail(self, request: Request) -> Response:
        """Lines as they come, as server-sent events."""
        tenant, query, _ = await self._query(request)
        if self.tails >= _MOST_TAILS:
            raise LimitExceeded(f"more than {_MOST_TAILS} live tails", retry_after=10.0)
        query = replace(query, start=MIN_TIME, end=MAX_TIME, after=None, limit=_TAIL_LINES, newest_first=True)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._events(tenant, query), media_type="text/event-stream", headers=headers)

    async def _events(self, tenant: str, query: LogQuery) -> AsyncIterator[bytes]:
        async def fresh(since: int) -> Fresh[LogRow]:
            page = await self.backend.store.search(tenant, replace(query, since_seq=since))
            return Fresh(page.rows[::-1], max((r.seq for r in page.rows), default=0), page.total - len(page.rows))

        quiet = 0
        self.tails += 1
        try:
            yield b": open\n\n"
            async with aclosing(followed(self.backend.store, tenant, fresh, ending=self.backend.ending)) as news:
                async for new in news:
                    quiet = 0 if new.lines or new.problem else quiet + 1
                    if new.problem:
                        yield b"event: problem\ndata: " + orjson.dumps({"problem": new.problem}) + b"\n\n"
                    if new.missed:
                        yield b"event: skipped\ndata: " + orjson.dumps({"lines": new.missed}) + b"\n\n"
                    if new.lines:
                        yield b"".join(b"data: " + orjson.dumps(shown(r)) + b"\n\n" for r in new.lines)
                    elif quiet and quiet % _TAIL_ALIVE_S == 0:
                        yield b": alive\n\n"
        finally:
            self.tails -= 1


def _answer(data: object) -> Response:
    return Response(enveloped(orjson.dumps(data)), media_type="application/json")


def broken() -> Response:
    """A fault of ours, in this dialect."""
    return prometheus_body(500, "internal", UNEXPECTED)


FILTERS = (
    Param("text", "texts", "Lines whose message contains this, whatever the case; `q` is the same."),
    Param("not_text", "texts", "Lines whose message does not contain this."),
    Param("regex", "texts", "Lines in whose message this RE2 expression matches."),
    Param("level", "texts", "Levels, repeated or separated by commas."),
    Param("min_level", "text", "This level and the graver ones."),
    Param("service", "texts", "Services, repeated or separated by commas."),
    Param("field", "texts", "A condition on a field: name=value, name!=value, name=~regex, name!~regex."),
)
TIMES = (
    Param("start", "text", "From when on: ISO 8601 or a Unix time; a day before the end if absent."),
    Param("end", "text", "Until when, exclusive."),
    Param("last", "text", "How far back from now instead, such as 15m."),
)


def endpoints(backend: LogBackend, *, cors_origin: str) -> list[Endpoint]:
    """The operations of this room."""
    room = Logs(backend)

    def one(path: str, handler: Callable[[Request], Awaitable[Response]], about: str, *params: Param) -> Endpoint:
        answered = finishing(answering(handler, prometheus, broken), backend.run, cors_origin)
        return Endpoint(path, answered, about, params=(*FILTERS, *TIMES, *params), tag="logs", shared=True)

    limit = Param("limit", "integer", "The most lines; 100 if absent.")
    paging = (limit, Param("cursor", "text", "`next` of the page before."), Param("order", "text", "desc (newest first) or asc."))
    step = Param("step", "duration", "Length of a span.")
    tailed = answering(room.tail, prometheus, broken)
    return [
        one("/api/v1/logs", room.search, "Search log lines", *paging),
        one("/api/v1/logs/histogram", room.histogram, "Counts of lines by level over time", step),
        one("/api/v1/logs/services", room.services, "Services that have lines"),
        one("/api/v1/errors", room.errors, "Errors, grouped", Param("limit", "integer", "The most errors; 100 if absent.")),
        Endpoint("/api/v1/logs/tail", tailed, "Lines as they come", params=FILTERS, tag="logs", media="text/event-stream"),
    ]
