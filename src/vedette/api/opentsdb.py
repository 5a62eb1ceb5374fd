"""OpenTSDB's way in: `POST /api/put`, JSON points; `summary` and `details` say what became of them.

Answers 204 once every point is durable. Points that cannot be read or are not stored are told with 400; the others are stored. Not
here: the points (`wire/opentsdb.py`), its lines over TCP (`ingest/graphite.py`), queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.intake import RETRY_S, Intake, Stored, extra_labels
from vedette.api.params import query_of
from vedette.api.problems import UNEXPECTED, TooLarge, problem, retry_after
from vedette.clock import now_ms
from vedette.errors import LimitExceeded, VedetteError
from vedette.model.samples import canonical
from vedette.wire import opentsdb

_MOST_BYTES = 16 << 20
"""Of a body: each of its points is an object for a moment."""


@dataclass(slots=True)
class OpenTsdb:
    """The operation."""

    intake: Intake

    async def put(self, request: Request) -> Response:
        """Store points."""
        intake, asked = self.intake, query_of(request)
        tenant, stored = intake.tenant_of(request.scope), Stored()
        keyspace = intake.space(tenant, "labels", partial(canonical, tenant))
        names, more = intake.settings().names, extra_labels(asked)
        async with intake.body(request, most=_MOST_BYTES) as body:
            points = await intake.run(partial(opentsdb.parse, names=names, more=more), body, keyspace, now_ms(intake.clock))
            intake.unread["opentsdb"] += points.failed
            if len(points.rows):
                stored.add(await intake.append(points.rows.batch()))
        query = request.query_params
        return _answer(points, stored, details="details" in query, summary="summary" in query)


def _answer(points: opentsdb.Points, stored: Stored, *, details: bool, summary: bool) -> Response:
    failed = points.failed + stored.lost
    status, headers = (429, retry_after(RETRY_S)) if stored.beyond else (400 if failed else 200, {})
    if details or summary:
        told: dict[str, Any] = {"success": len(points.rows) - stored.lost, "failed": failed}
        if details:
            told["errors"] = [{"datapoint": _point(raw), "error": why} for raw, why in points.bad]
            if stored.why_dropped:
                told["errors"].append({"error": stored.why_dropped})
        return _json(status, told, headers)
    if not failed:
        return Response(status_code=204)
    message = "One or more data points had errors"
    first = points.bad[0][1] if points.bad else ""
    told = {"code": status, "message": message, "details": "; ".join(part for part in (first, stored.why_dropped) if part)}
    return _json(status, {"error": told}, headers)


def _point(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode("utf-8", "replace")


def _json(status: int, body: object, headers: dict[str, str]) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json", headers=headers)


def refuse(error: VedetteError) -> Response:
    """A refusal in OpenTSDB's shape."""
    found = problem(error)
    status, headers = found.status, dict(found.headers)
    if isinstance(error, LimitExceeded) and not isinstance(error, TooLarge) and status != 429:
        status, headers = 503, retry_after(error.retry_after or 5.0)
    return _json(status, {"error": {"code": status, "message": found.message}}, headers)


def endpoints(room: OpenTsdb) -> list[Endpoint]:
    """The operation, at both paths."""
    handler = answering(room.put, refuse, lambda: _json(500, {"error": {"code": 500, "message": UNEXPECTED}}, {}))
    params = (
        Param("summary", "text", "Answer how many points were stored and how many not."),
        Param("details", "text", "Answer also which were not, and why."),
        Param("extra_label", "texts", "A label for all points: name=value."),
    )
    body = {"content": {"application/json": {}}, "required": True}
    about = "Write points (OpenTSDB)"
    return [
        Endpoint(path, handler, about, ("POST",), params, "write", body, extra={"status": 204})
        for path in ("/api/put", "/opentsdb/api/put")
    ]
