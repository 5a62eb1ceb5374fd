"""The access layer's metrics service: `POST /metrics/track` and `/metrics/track/batch`.

Single metrics are refused with 422 that points at the field, batches item by item. Not here: what a tracked metric
becomes (`ingest.track`); export, series, trends and statistics of this dialect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, answering
from vedette.api.params import body_of
from vedette.api.problems import UNEXPECTED, TooLarge, detail
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.ingest.accumulate import KINDS
from vedette.ingest.track import Observation, observation

MAX_BODY_BYTES = 8 << 20
MAX_ITEMS = 10_000
_AT_ONCE = 64 << 10


class Metric(msgspec.Struct, frozen=True):
    """One tracked metric as it comes in; unknown fields are let pass, as the document's other clients send them."""

    name: str
    value: float
    type: str = "gauge"
    labels: dict[str, str] = {}
    service: str | None = None
    tenant_id: str | None = None


class Tracking(Protocol):
    """What takes observations: `ingest.track.Tracker`."""

    def track(self, tenant: str, observations: Sequence[Observation]) -> Awaitable[list[VedetteError | None]]: ...


_metric = msgspec.json.Decoder(Metric)
_items = msgspec.json.Decoder(list[msgspec.Raw])


def _decoded(decoder: msgspec.json.Decoder[Metric], data: bytes | msgspec.Raw) -> Observation:
    try:
        metric = decoder.decode(data)
    except msgspec.DecodeError as error:  # of which ValidationError, for JSON of another shape, is one
        raise _pointing(error) from None
    except UnicodeDecodeError:
        raise BadInput("not UTF-8 text") from None
    return observation(metric.name, metric.type, metric.value, labels=metric.labels, service=metric.service, tenant_id=metric.tenant_id)


def _pointing(error: msgspec.DecodeError) -> BadInput:
    """msgspec names the place at the end of its message: ``Expected `str`, got `int` - at `$.labels[...]` ``."""
    problem, _, place = str(error).partition(" - at `$")
    where = place.rstrip("`").removeprefix(".").replace("[...]", "").replace("[", ".").replace("]", "")
    if problem.startswith("Object missing required field"):
        missing = problem.split("`")[1]
        return BadInput("field required", where=f"{where}.{missing}" if where else missing)
    return BadInput(problem, where=where)


def _checked(body: bytes) -> tuple[int, dict[int, Observation], dict[int, VedetteError]]:
    """How many items a batch has, the good ones and what is wrong with the others, by index. Raises `BadInput` for no batch."""
    try:
        items = _items.decode(body)
    except msgspec.DecodeError as error:
        raise _pointing(error) from None
    if len(items) > MAX_ITEMS:
        raise BadInput(f"{len(items)} metrics in one batch", hint=f"at most {MAX_ITEMS}")
    good: dict[int, Observation] = {}
    reasons: dict[int, VedetteError] = {}
    for index, item in enumerate(items):
        try:
            good[index] = _decoded(_metric, item)
        except BadInput as error:
            reasons[index] = error
    return len(items), good, reasons


@dataclass(frozen=True, slots=True)
class AccessLayer:
    """The operations over one tracker."""

    tracking: Tracking
    tenant_of: Callable[[Mapping[str, Any]], str]

    async def track(self, request: Request) -> Response:
        """Take one metric."""
        seen = _decoded(_metric, await body_of(request, MAX_BODY_BYTES))
        (reason,) = await self.tracking.track(self.tenant_of(request.scope), [seen])
        if reason is not None:
            raise reason
        return _json(200, {"success": True, "message": "Metric tracked successfully"})

    async def batch(self, request: Request) -> Response:
        """Take each good metric of a list; name what is wrong with the others."""
        body = await body_of(request, MAX_BODY_BYTES)
        # Thousands of metrics take tens of milliseconds to check, which the loop has not.
        total, good, reasons = await asyncio.to_thread(_checked, body) if len(body) > _AT_ONCE else _checked(body)
        if good:
            outcomes = await self.tracking.track(self.tenant_of(request.scope), list(good.values()))
            reasons |= {index: reason for index, reason in zip(good, outcomes, strict=True) if reason is not None}
        answer: dict[str, Any] = {
            "success": not reasons,
            "total": total,
            "successful": total - len(reasons),
            "failed": len(reasons),
        }
        if reasons:
            answer["errors"] = [{"index": index, "reason": str(reasons[index])} for index in sorted(reasons)]
        all_over_limit = bool(total) and len(reasons) == total and all(isinstance(r, LimitExceeded) for r in reasons.values())
        return _json(429 if all_over_limit else 200, answer)


def _json(status: int, body: object) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def _refused(error: VedetteError) -> Response:
    return _json(413, {"detail": str(error)}) if isinstance(error, TooLarge) else detail(error)


_METRIC_SCHEMA = {
    "type": "object",
    "required": ["name", "value"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "value": {"type": "number", "description": "A counter's increment, a gauge's value, or one observation."},
        "type": {"type": "string", "enum": list(KINDS), "default": "gauge"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "service": {"type": ["string", "null"]},
        "tenant_id": {"type": ["string", "null"]},
    },
    "example": {"name": "api_requests_total", "value": 1, "type": "counter", "labels": {"endpoint": "/api"}, "service": "gateway-service"},
}
_TRACKED = {"type": "object", "required": ["success"], "properties": {"success": {"type": "boolean"}, "message": {"type": "string"}}}
_BATCH = {
    "type": "object",
    "required": ["success", "total", "successful", "failed"],
    "properties": {
        "success": {"type": "boolean"},
        "total": {"type": "integer"},
        "successful": {"type": "integer"},
        "failed": {"type": "integer"},
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"index": {"type": "integer"}, "reason": {"type": "string"}}},
        },
    },
}


def endpoints(tracking: Tracking, *, tenant_of: Callable[[Mapping[str, Any]], str]) -> list[Endpoint]:
    """The operations of this dialect."""
    service = AccessLayer(tracking, tenant_of)

    def handled(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        return answering(handler, _refused, lambda: _json(500, {"detail": UNEXPECTED}))

    def body(schema: object) -> dict[str, Any]:
        return {"required": True, "content": {"application/json": {"schema": schema}}}

    many = {"type": "array", "items": _METRIC_SCHEMA}
    return [
        Endpoint(
            "/metrics/track", handled(service.track), "Track one metric", ("POST",), tag="track", body=body(_METRIC_SCHEMA), answer=_TRACKED
        ),
        Endpoint("/metrics/track/batch", handled(service.batch), "Track metrics", ("POST",), tag="track", body=body(many), answer=_BATCH),
    ]
