"""BotServer's `/logs` and `/errors/summary`: its document's shapes over the log store.

The document knows four levels: `error` finds fatal lines too, `debug` traces. Not here: search beyond the document's
parameters (`api.logs`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.logs import LogBackend, any_time, shown_time
from vedette.api.params import Form, form_of
from vedette.api.services.limits import Limit, Shared, limited
from vedette.api.services.settings import ServicesSettings
from vedette.api.services.shared import answer, broken, choice_of, refused
from vedette.errors import BadInput
from vedette.logs.query import MAX_TIME, MIN_TIME, LogQuery
from vedette.logs.tracking import error_type

BASE = "/api/v1/monitoring"
LEVELS = {
    "all": (),
    "error": ("error", "fatal"),
    "warn": ("warn",),
    "info": ("info",),
    "debug": ("debug", "trace"),
}
PERIODS_S = {"1h": 3_600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}


@dataclass(frozen=True, slots=True)
class BotLogs:
    """The operations."""

    backend: LogBackend

    async def logs(self, request: Request) -> Response:
        """Log lines, newest first."""
        form = await form_of(request)
        level = {"warning": "warn"}.get(form.text("level").lower(), form.text("level").lower()) or "all"
        if level not in LEVELS:
            raise BadInput(f"not a level: {form.text('level')[:40]!r}", where="query.level", hint="expected error, warn, info or debug")
        limit = self._limit(form)
        query = LogQuery(
            start=_time(form, "start_time", MIN_TIME),
            end=_time(form, "end_time", MAX_TIME),
            levels=LEVELS[level],
            services=(form.text("service"),) if form.text("service") else (),
            limit=limit,
        )
        if query.end < query.start:
            raise BadInput("end_time is before start_time", where="query.end_time")
        page = await self.backend.store.search(self.backend.tenant_of(request.scope), query)
        given = {name: form.text(name) for name in ("start_time", "end_time", "service") if form.text(name)}
        lines = [
            {
                "timestamp": shown_time(row.time),
                "level": row.level,
                "service": row.service,
                "message": row.message,
                "metadata": orjson.Fragment(row.fields),
            }
            for row in page.rows
        ]
        return answer({"logs": lines, "total": page.total, "query": {"level": level, "limit": limit, **given}})

    def _limit(self, form: Form) -> int:
        text, most = form.text("limit") or "100", self.backend.store.settings.max_lines
        if not text.isdecimal() or not 1 <= int(text[:9]) <= most:
            raise BadInput(f"not a limit: {text[:40]!r}", where="query.limit", hint=f"expected a whole number from 1 to {most}")
        return int(text)

    async def errors(self, request: Request) -> Response:
        """How many errors there were in a period, by type and by service."""
        period = choice_of(await form_of(request), "period", "24h", PERIODS_S)
        store, tenant = self.backend.store, self.backend.tenant_of(request.scope)
        now = self.backend.now_ns()
        query = LogQuery(start=now - PERIODS_S[period] * 10**9, end=now + 1)
        types: Counter[str] = Counter()
        services: Counter[str] = Counter()
        rows: list[tuple[Any, ...]] = await store.errors(tenant, query, PERIODS_S[period] * 10**9)
        for _, exception, service, _, n, _, _, message in rows:
            types[error_type(exception, message)] += n
            services[service or "unknown"] += n
        total = types.total()
        lines = (await store.search(tenant, replace(query, limit=1))).total
        summary = {
            "total_errors": total,
            "errors_by_type": dict(types.most_common()),
            "errors_by_service": dict(services.most_common()),
            "error_rate": round(total / lines, 6) if lines else 0.0,
            "period": period,
        }
        return answer({"summary": summary})


def _time(form: Form, name: str, default: int) -> int:
    text = form.text(name)
    if not text:
        return default
    try:
        return any_time(text)
    except BadInput as error:
        raise BadInput(error.problem, where=f"query.{name}", hint=error.hint) from None


def endpoints(backend: LogBackend, settings: ServicesSettings, *, shared: Shared | None = None) -> list[Endpoint]:
    """The operations of BotServer's document on logs."""
    room = BotLogs(backend)
    limit = Limit(settings.logs_per_minute, backend.clock.monotonic, by="user", name="logs", shared=shared)
    params = (
        Param("level", "text", "error, warn, info or debug; all if absent."),
        Param("start_time", "text", "From when on."),
        Param("end_time", "text", "Until when, exclusive."),
        Param("service", "text", "One service only."),
        Param("limit", "integer", "The most lines; 100 if absent."),
    )
    period = (Param("period", "text", "How far back: " + ", ".join(PERIODS_S) + "; 24h if absent."),)
    searched = limited(answering(room.logs, refused, broken), limit)
    counted = answering(room.errors, refused, broken)
    return [
        Endpoint(BASE + "/logs", searched, "Log lines", params=params, tag="botserver"),
        Endpoint(BASE + "/errors/summary", counted, "Errors by type and service", params=period, tag="botserver"),
    ]
