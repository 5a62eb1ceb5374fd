"""Gamiroo's monitoring service: `GET` and `POST /api/v1/monitoring/metrics`, metric records.

A record is one sample: of series `metric_name{service="service_name"}` where it came in here, of any series where it came
in through another door. Records come in order of time and in pages; a `Link` header leads to the next. From a `start_date`
on pages lead forward; without one the first page is the newest records, and pages lead back. What one request reads is
bounded: it goes through time in windows, and where it has read enough the page ends early and the link goes on from there.
Not here: who may ask (`access`), records in PostgreSQL.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Param
from vedette.api.params import MIN_TIME, UNREADABLE, Form, form_of, json_of, unreadable
from vedette.api.services.shared import (
    Backend,
    answer,
    count_of,
    finite,
    matcher_sets,
    parse_when,
    refused,
    service_of,
    shown_time,
    when_of,
)
from vedette.clock import now_ms
from vedette.errors import BadInput, LimitExceeded
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.labeltable import LabelTable
from vedette.model.matchers import Matcher
from vedette.model.samples import Appended, KeySpace, SampleBatch, canonical, is_stale
from vedette.model.series import SeriesSet
from vedette.storage.interface import RowNumbered
from vedette.storage.limits import REASONS

PATH = "/api/v1/monitoring/metrics"
PARAMS = ("service_name", "metric_name", "start_date", "end_date", "limit", "cursor")
DEFAULT_LIMIT, MOST = 1000, 10_000
MAX_BODY_BYTES = 8 << 20

_FIRST_WINDOW_MS = 60_000
_WINDOW_SAMPLES = 2_000_000
_WINDOWS = 100
_LAST_MS = 253_402_300_799_999  # the last millisecond that ISO 8601 can write with four digits of a year
_MAX_ID = 1 << 53
_CURSOR = re.compile(r"([ab])(-?\d{1,16})\.(\d{1,16})\Z", re.ASCII)
_MAX_TEXT = 4096

Append = Callable[[SampleBatch], Awaitable[Appended]]
Reach = Callable[[], Awaitable[None]]
"""Raises `Unreachable` where the database that the operator named cannot be asked."""


@dataclass(slots=True)
class Stamps:
    """Times of records that name none: a series has one value in a millisecond, so of several the later ones are of the next."""

    given: dict[tuple[str, Labels], int] = field(default_factory=dict)
    last: int = 0

    def stamp(self, tenant: str, labels: Labels, now: int) -> int:
        """The time in ms of a record of `now`."""
        if now > self.last:
            self.given.clear()  # none of them can be met again
        when = max(now, self.given.get((tenant, labels), 0) + 1)
        self.given[tenant, labels] = when
        self.last = max(self.last, when)
        return when


async def no_database() -> None:
    """Where the operator named none, there is nothing to reach."""


class NewRecord(msgspec.Struct, frozen=True):
    """A record as it comes in; without `recorded_at` it is of now."""

    service_name: str
    metric_name: str
    value: float
    recorded_at: str | float | None = None


_one = msgspec.json.Decoder(NewRecord)
_many = msgspec.json.Decoder(list[NewRecord])


@dataclass(frozen=True, slots=True)
class Question:
    """One page asked for. `edge` is the (ms, id) that the page before ended with; times in ms, both ends inclusive."""

    metric: str
    service: str
    start: int
    end: int
    limit: int
    forward: bool
    edge: tuple[int, int] | None = None


@dataclass(slots=True)
class _Page:
    """(ms, record) gathered so far, the nearest to the page's beginning first, and where to go on (None: all were read)."""

    records: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    next: tuple[int, int] | None = None


def series_hashes(table: LabelTable) -> NDArray[np.uint64]:
    """64 bits for each series of a table, none of them without labels; the same in every process and for every order of labels."""
    both = np.concatenate([table.names, table.values])
    distinct, inverse = np.unique(both, return_inverse=True)
    texts = (table.symbols.text(symbol).encode() for symbol in distinct.tolist())
    known = np.array([int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") for text in texts], dtype=np.uint64)
    of = known[inverse.reshape(-1)]
    pairs = _mixed(of[: len(table.names)] * np.uint64(0x9E3779B97F4A7C15) ^ of[len(table.names) :])
    return np.add.reduceat(pairs, table.offsets[:-1])


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (G. Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def record_ids(series: NDArray[np.uint64], times: NDArray[np.int64]) -> NDArray[np.int64]:
    """The 53-bit ids (so that JavaScript's numbers hold them) of samples at `times` of series with those hashes: int64[n]."""
    mixed = _mixed(series ^ (times.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)))
    return (mixed >> np.uint64(11)).view(np.int64)


@dataclass(frozen=True, slots=True)
class Gamiroo:
    """The operations. `append` returns once a batch is durable.

    The document promises a 500 while the database of `DATABASE_URL` is gone, so it is reached first, wherever samples are.
    """

    backend: Backend
    append: Append
    database: Reach = no_database
    stamps: Stamps = field(default_factory=Stamps)
    keyspaces: dict[str, KeySpace] = field(default_factory=dict)

    async def read(self, request: Request) -> Response:
        """Records in order of time, a page of them."""
        question = self._question(await form_of(request))
        await self.database()
        page = await self.backend.run(self._page, self.backend.tenant_of(request.scope), question)
        records = [record for _, record in (page.records if question.forward else page.records[::-1])]
        headers = {}
        if page.next is not None:
            cursor = f"{'a' if question.forward else 'b'}{page.next[0]}.{page.next[1]}"
            url = request.url.include_query_params(cursor=cursor)
            headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return answer(records, headers=headers)

    def _question(self, form: Form) -> Question:
        start, end = when_of(form, "start_date"), when_of(form, "end_date")
        if start is not None and end is not None and end < start:
            raise BadInput("before start_date", where="query.end_date", hint="the range is from start_date to end_date, both inclusive")
        forward, edge = start is not None, None
        if text := form.text("cursor"):
            found = _CURSOR.match(text)
            if found is None or (found[1] == "a") != forward:
                raise BadInput("not a cursor of this query", where="query.cursor", hint="follow the Link header as it is")
            edge = (int(found[2]), int(found[3]))
        return Question(
            metric=form.text("metric_name"),
            service=form.text("service_name"),
            start=MIN_TIME if start is None else start,
            end=_LAST_MS if end is None else min(end, _LAST_MS),
            limit=count_of(form, "limit", DEFAULT_LIMIT, high=MOST),
            forward=forward,
            edge=edge,
        )

    def _page(self, tenant: str, asked: Question) -> _Page:
        """Goes through time in windows, from the page's beginning on. Runs on a worker thread."""
        storage, page = self.backend.storage, _Page()
        sets = matcher_sets(asked.metric, asked.service)
        stats = storage.stats()
        low, high = max(asked.start, stats.min_time), min(asked.end, stats.max_time)
        if asked.edge is not None:
            low, high = (max(low, asked.edge[0]), high) if asked.forward else (low, min(high, asked.edge[0]))
        series = stats.series
        if asked.metric or asked.service:
            series = len(storage.series(tenant, sets, low, high))
        if series == 0 or low > high:
            return page
        # Samples come a second apart at the closest, as a rule: so a window holds a bounded number of them.
        widest = max(_FIRST_WINDOW_MS // 4, _WINDOW_SAMPLES * 1000 // series)
        width = min(_FIRST_WINDOW_MS, widest)
        for _ in range(_WINDOWS):
            first, last = (low, min(high, low + width)) if asked.forward else (max(low, high - width), high)
            self._gather(tenant, sets, (first, last), asked, page)
            if len(page.records) > asked.limit:
                del page.records[asked.limit :]
                page.next = page.records[-1][0], page.records[-1][1]["id"]
                break
            if asked.forward:
                low = last + 1
            else:
                high = first - 1
            if low > high:
                break
            width = min(width * 4, widest)
        else:
            # Enough read for one request; what is between here and the end is for the next.
            page.next = (low - 1, _MAX_ID) if asked.forward else (high, _MAX_ID)
        return page

    def _gather(self, tenant: str, sets: Sequence[Sequence[Matcher]], span: tuple[int, int], asked: Question, page: _Page) -> None:
        """Add the records of a window that are nearest to the page's beginning, at most one more than it has room for."""
        found = [self.backend.storage.select(tenant, matchers, *span) for matchers in sets]
        columns = [_column(i, part) for i, part in enumerate(found)]
        times, values, part, row = (np.concatenate(c) for c in zip(*columns, strict=True))
        if not len(times):
            return
        room = wanted = asked.limit - len(page.records) + 1
        edge = asked.edge
        if edge is not None and span[0] <= edge[0] <= span[1]:
            wanted += int((times == edge[0]).sum())
        if len(times) > wanted:
            # All that tie with the last wanted are taken: only their ids say which come first.
            at = wanted - 1 if asked.forward else len(times) - wanted
            bound = np.partition(times, at)[at]
            near = times <= bound if asked.forward else times >= bound
            times, values, part, row = times[near], values[near], part[near], row[near]
        ids = np.empty(len(times), dtype=np.int64)
        for number, selected in enumerate(found):
            here = part == number
            rows, of = np.unique(row[here], return_inverse=True)
            if len(rows):
                ids[here] = self._ids(tenant, selected.labels.take(rows), of.reshape(-1), times[here])
        order = np.lexsort((ids, times))
        if edge is not None:
            beyond = (times > edge[0]) | ((times == edge[0]) & (ids > edge[1]))
            before = (times < edge[0]) | ((times == edge[0]) & (ids < edge[1]))
            order = order[(beyond if asked.forward else before)[order]]
        if not asked.forward:
            order = order[::-1]
        for i in order[:room].tolist():
            one, when = found[part[i]].labels.row(int(row[i])), int(times[i])
            page.records.append((when, _record(int(ids[i]), asked.service or service_of(one), one.metric, float(values[i]), when)))

    def _ids(self, tenant: str, labels: LabelTable, rows: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ids of samples at `times` of the series `labels.row(rows[i])`: the storage's own where it numbers them."""
        storage = self.backend.storage
        if isinstance(storage, RowNumbered):
            return storage.row_ids(tenant, labels.take(rows), times)
        return record_ids(series_hashes(labels)[rows], times)

    async def write(self, request: Request) -> Response:
        """Store one record or a list; 201 with what was stored."""
        body = await json_of(request, MAX_BODY_BYTES)
        several = body.lstrip()[:1] == b"["
        try:
            given = _many.decode(body) if several else [_one.decode(body)]
        except UNREADABLE as error:
            raise unreadable(error) from None
        if len(given) > MOST:
            raise BadInput(f"{len(given)} records at once", hint=f"at most {MOST}")
        now = now_ms(self.backend.clock)
        rows = [_checked(record, f"{i}." if several else "", now) for i, record in enumerate(given)]
        await self.database()
        tenant = self.backend.tenant_of(request.scope)
        keyspace = self.keyspaces.setdefault(tenant, canonical(tenant))
        rows = [
            (one, self.stamps.stamp(tenant, one, now) if record.recorded_at is None else when, value)
            for record, (one, when, value) in zip(given, rows, strict=True)
        ]
        labels, times, values = [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]
        appended = await self.append(SampleBatch.of(keyspace, labels, times, values))
        if appended.dropped:
            return await self._not_all(tenant, rows, several, appended)
        whole = np.arange(len(rows), dtype=np.int64), np.array(times, dtype=np.int64)
        ids = (await self.backend.run(self._ids, tenant, LabelTable.from_labels(labels), *whole)).tolist() if rows else []
        records = [_record(i, g.service_name, g.metric_name, v, t) for i, g, v, t in zip(ids, given, values, times, strict=True)]
        return answer(records if several else records[0], 201)

    async def _not_all(self, tenant: str, rows: Sequence[tuple[Labels, int, float]], several: bool, appended: Appended) -> Response:
        """Which records were not stored, and why: asked of storage, since an append only counts them."""
        if set(appended.dropped) == {"series_limit"}:
            return refused(LimitExceeded("the limit of series is reached"))
        if sizes := sorted(set(appended.dropped).intersection(REASONS)):
            return refused(BadInput(f"some records are beyond the tenant's limits: {', '.join(sizes)}", where="metric_name"))
        reasons = await self.backend.run(self._reasons, tenant, rows)
        faults = [
            {"loc": ["body", *([i] if several else []), "recorded_at"], "msg": reason, "type": "value_error"}
            for i, reason in enumerate(reasons)
            if reason
        ]
        return answer({"detail": faults, "stored": len(rows) - len(faults)}, 422)

    def _reasons(self, tenant: str, rows: Sequence[tuple[Labels, int, float]]) -> list[str]:
        out = []
        for labels, when, value in rows:
            found = self.backend.storage.select(tenant, [Matcher(n, "=", v) for n, v in labels], when, when)
            held = [float(found.values[found.offsets[i]]) for i in range(len(found)) if found.labels.row(i) == labels]
            if value in held:
                out.append("")
            elif held:
                out.append(f"another value is stored for this time: {held[0]!r}")
            elif when > now_ms(self.backend.clock):
                out.append("too far ahead of this server's clock")
            else:
                out.append(
                    "too old to be stored: beyond the retention (RETENTION_DAYS), or further behind the newest record of this metric "
                    "than storage.out_of_order_window"
                )
        return out


def _column(number: int, found: SeriesSet) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """(times, values, the set's number, row) of all samples but stale markers."""
    rows = np.repeat(np.arange(len(found), dtype=np.int64), np.diff(found.offsets))
    lo, hi = (int(found.offsets[0]), int(found.offsets[-1])) if len(found.offsets) else (0, 0)
    times, values = found.timestamps[lo:hi], found.values[lo:hi]
    keep = ~is_stale(values)
    return times[keep], values[keep], np.full(int(keep.sum()), number, dtype=np.int64), rows[keep]


def _record(number: int, service: str, metric: str, value: float, when: int) -> dict[str, Any]:
    return {"id": number, "service_name": service, "metric_name": metric, "value": finite(value), "recorded_at": shown_time(when)}


def _checked(record: NewRecord, place: str, now: int) -> tuple[Labels, int, float]:
    """(labels, ms, value) of a record. Raises `BadInput` whose `where` is the field."""
    for name in ("service_name", "metric_name"):
        text = getattr(record, name)
        if not text or len(text) > _MAX_TEXT:
            raise BadInput(f"{len(text)} characters", where=f"body.{place}{name}", hint=f"expected 1 to {_MAX_TEXT}")
    if not math.isfinite(record.value):
        raise BadInput("not a finite number", where=f"body.{place}value")
    when = now
    if record.recorded_at is not None:
        try:
            when = parse_when(str(record.recorded_at))
        except BadInput as error:
            raise BadInput(error.problem, where=f"body.{place}recorded_at", hint=error.hint) from None
    return Labels.of({METRIC_NAME: record.metric_name, "service": record.service_name}), when, record.value


_RECORD: dict[str, Any] = {
    "type": "object",
    "required": ["id", "service_name", "metric_name", "value", "recorded_at"],
    "properties": {
        "id": {"type": "integer", "description": "Stable and unique, below 2^53."},
        "service_name": {"type": "string"},
        "metric_name": {"type": "string"},
        "value": {"type": ["number", "null"], "description": "null where it is no finite number."},
        "recorded_at": {"type": "string", "format": "date-time"},
    },
}
_EXAMPLE = {"service_name": "User Service", "metric_name": "CPU_usage", "value": 72.5, "recorded_at": "2025-02-20T12:00:00Z"}
_NEW: dict[str, Any] = {
    "type": "object",
    "required": ["service_name", "metric_name", "value"],
    "properties": {
        "service_name": {"type": "string", "minLength": 1},
        "metric_name": {"type": "string", "minLength": 1},
        "value": {"type": "number"},
        "recorded_at": {"type": ["string", "number", "null"], "description": "ISO 8601 or a Unix time; now if absent."},
    },
    "examples": [_EXAMPLE],
}
_PARAMS = (
    Param("service_name", "text", "Records of this service only."),
    Param("metric_name", "text", "Records of this metric only."),
    Param("start_date", "time", "The start of the range, inclusive; pages lead forward from it."),
    Param("end_date", "time", "The end of the range, inclusive."),
    Param("limit", "integer", f"The most records of a page, {DEFAULT_LIMIT:,} if absent, at most {MOST:,}."),
    Param("cursor", "text", "Where the page before ended: from its Link header."),
)


def endpoints(backend: Backend, append: Append, database: Reach = no_database) -> list[Endpoint]:
    """The operations of this dialect."""
    service = Gamiroo(backend, append, database)
    records = {"type": "array", "items": _RECORD, "examples": [[{"id": 1, **_EXAMPLE}]]}
    body = {"required": True, "content": {"application/json": {"schema": {"oneOf": [_NEW, {"type": "array", "items": _NEW}]}}}}
    stored = {"oneOf": [_RECORD, records]}
    return [
        Endpoint(PATH, backend.handled(service.read), "Metric records", params=_PARAMS, tag="gamiroo", answer=records),
        Endpoint(PATH, backend.handled(service.write), "Store metric records", ("POST",), tag="gamiroo", body=body, answer=stored),
    ]
