"""VictoriaMetrics' ways in: `/api/v1/import` (JSON lines), `/api/v1/import/csv` and `/api/v1/import/prometheus` (exposition text).

Answers 204 once every sample is durable. Lines and rows that cannot be read are told with 400, by their numbers; the others are
stored. Of exposition text nothing is stored where a line breaks the syntax, as in a scrape. Not here: reading the bytes (`wire`), the
way out (`export.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.intake import RETRY_S, Intake, Stored, extra_labels
from vedette.api.params import Form, media_type, query_of
from vedette.api.problems import UNEXPECTED, retry_after, write
from vedette.clock import now_ms
from vedette.errors import BadInput
from vedette.model.labels import Labels
from vedette.model.samples import KeySpace, SampleBatch, canonical
from vedette.wire import csv_columns, exposition, series_lines
from vedette.wire.told import Told

PREFIXES = ("", "/prometheus")
"""VictoriaMetrics serves what it has of Prometheus at both."""

_MAX_MS = 1 << 62


@dataclass(slots=True)
class Imports:
    """The operations."""

    intake: Intake

    async def lines(self, request: Request) -> Response:
        """JSON lines."""
        more, keyspace, intake = dict(extra_labels(query_of(request))), self._canonical(request), self.intake
        told, stored, before = Told(), Stored(), 0
        try:
            # Of any size, so that one server can be poured into another.
            async with aclosing(intake.lines(request, most_line=series_lines.MOST_LINE)) as pieces:
                async for piece in pieces:
                    batches = series_lines.parse(piece, keyspace, told, more=more, before=before)
                    while (batch := await intake.run(next, batches, None)) is not None:
                        stored.add(await intake.append(batch))
                    before += piece.count(b"\n")
        finally:
            intake.unread["import"] += told.faulty
        return _answer(told, stored)

    async def csv(self, request: Request) -> Response:
        """CSV, by the columns that `format` describes."""
        asked = query_of(request)
        if not asked.text("format"):
            raise BadInput('missing parameter "format"', hint="expected position:time|label|metric:name for each column, between commas")
        columns = csv_columns.columns_of(asked.text("format"))
        more, keyspace, now = dict(extra_labels(asked)), self._canonical(request), now_ms(self.intake.clock)
        told = Told()
        return await self._stored(request, "csv", told, lambda body: csv_columns.parse(body, columns, keyspace, now, told, more=more))

    async def prometheus(self, request: Request) -> Response:
        """Exposition text, of OpenMetrics where the request says so."""
        asked = query_of(request)
        extra, tenant, now = extra_labels(asked), self.intake.tenant_of(request.scope), _time(asked, now_ms(self.intake.clock))
        keyspace = self.intake.space(tenant, ("exposition", extra), partial(_exposition, tenant, dict(extra)))
        openmetrics = media_type(request) == "application/openmetrics-text"

        def parsed(body: bytes) -> Iterator[SampleBatch]:
            batch = exposition.parse(body, keyspace, now, openmetrics=openmetrics).batch
            batch.partial = True
            yield batch

        return await self._stored(request, "prometheus", Told(), parsed)

    def _canonical(self, request: Request) -> KeySpace:
        tenant = self.intake.tenant_of(request.scope)
        return self.intake.space(tenant, "labels", partial(canonical, tenant))

    async def _stored(self, request: Request, protocol: str, told: Told, parsed: Callable[[bytes], Iterator[SampleBatch]]) -> Response:
        stored, intake = Stored(), self.intake
        async with intake.body(request) as body:
            batches = parsed(body)
            try:
                while (batch := await intake.run(next, batches, None)) is not None:
                    stored.add(await intake.append(batch))
            finally:
                intake.unread[protocol] += told.faulty
        return _answer(told, stored)


def _exposition(tenant: str, more: dict[str, str]) -> KeySpace:
    """A key space of exposition text, `more` labels laid over each series'."""
    if not more:
        return exposition.exposition_keyspace(tenant)

    def resolve(key: bytes) -> Labels:
        return exposition.parse_series(key).with_(more)

    return KeySpace(tenant, resolve)


def _time(asked: Form, now: int) -> int:
    """What `timestamp` says (Unix ms) of lines that have none of their own. Raises `BadInput`."""
    text = asked.text("timestamp")
    if not text:
        return now
    if not text.isascii() or not text.removeprefix("-").isdigit() or abs(int(text)) > _MAX_MS:
        raise BadInput(f'invalid parameter "timestamp": {text[:100]!r}', hint="expected Unix milliseconds")
    return int(text)


def _answer(told: Told, stored: Stored) -> Response:
    lost = stored.why_dropped
    if not told.faulty and not lost:
        return Response(status_code=204)
    left_out = f"{told.faulty} {'line' if told.faulty == 1 else 'lines'} not read: {told}" if told.faulty else ""
    text = "; ".join(part for part in (left_out, lost, "the others of this request are stored") if part)
    status, headers = (429, retry_after(RETRY_S)) if stored.beyond else (400, {})
    return Response(f"{text}\n", status, media_type="text/plain", headers=headers)


def endpoints(room: Imports) -> list[Endpoint]:
    """The operations of this room."""
    extra = Param("extra_label", "texts", "A label for all series, instead of one of that name: name=value.")
    columns = Param("format", "text", "What stands in which column: `1:time:unix_s,2:label:host,3:metric:load`.", required=True)
    stamp = Param("timestamp", "integer", "The time of lines that have none (Unix ms); now if absent.")

    def operation(path: str, handler: Any, about: str, media: str, *params: Param) -> Endpoint:
        body = {"content": {media: {"schema": {"type": "string"}}}, "required": True}
        answered = answering(handler, write, lambda: Response(f"{UNEXPECTED}\n", 500, media_type="text/plain"))
        return Endpoint(path, answered, about, ("POST", "PUT"), params, "write", body, media="text/plain", extra={"status": 204})

    return [
        one
        for prefix in PREFIXES
        for one in (
            operation(f"{prefix}/api/v1/import", room.lines, "Write series (JSON lines)", "application/stream+json", extra),
            operation(f"{prefix}/api/v1/import/csv", room.csv, "Write samples (CSV)", "text/csv", columns, extra),
            operation(f"{prefix}/api/v1/import/prometheus", room.prometheus, "Write samples (exposition text)", "text/plain", stamp, extra),
        )
    ]
