"""The access layer's metrics service: `POST /metrics/track`, `/metrics/track/batch`; `GET /metrics/series`, `/metrics/stats`, `/health`.

Single metrics are refused with 422 that points at the field, batches item by item. Not here: what a tracked metric
becomes (`ingest.track`), trends (`trends.py`), aggregates (`aggregates.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np
import structlog
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.params import UNREADABLE, form_of, json_of, unreadable
from vedette.api.problems import retry_after
from vedette.api.services.aggregates import Exports
from vedette.api.services.shared import (
    SERVICE_LABELS,
    Backend,
    Kinds,
    answer,
    broken,
    count_of,
    finite,
    matcher_sets,
    refused,
    shown_time,
)
from vedette.api.services.sparing import Sparing
from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.ingest.accumulate import KINDS
from vedette.ingest.settings import TrackSettings
from vedette.ingest.track import BIRTH_MS, Observation, Tracked, observation
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import is_stale

MAX_BODY_BYTES = 8 << 20
_AT_ONCE = 64 << 10
_log = structlog.get_logger(__name__)


class Metric(msgspec.Struct, frozen=True):
    """One tracked metric as it comes in; unknown fields are let pass, as the document's other clients send them."""

    name: str
    value: float
    type: str = "gauge"
    labels: dict[str, str] | None = None
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
    except UNREADABLE as error:
        raise unreadable(error) from None
    return observation(
        metric.name, metric.type, metric.value, labels=metric.labels or {}, service=metric.service, tenant_id=metric.tenant_id
    )


def _checked(body: bytes, most: int) -> tuple[int, dict[int, Observation], dict[int, VedetteError]]:
    """How many items a batch has, the good ones and what is wrong with the others, by index. Raises `BadInput` for no batch."""
    try:
        items = _items.decode(body)
    except UNREADABLE as error:
        raise unreadable(error) from None
    if len(items) > most:
        raise BadInput(f"{len(items)} metrics in one batch", hint=f"at most {most}, by track.batch_size")
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
    """The operations over one tracker; `batch_size` is the most metrics of a batch, `patience` how many seconds a request waits."""

    tracking: Tracking
    tenant_of: Callable[[Mapping[str, Any]], str]
    batch_size: int
    patience: float
    told: Sparing

    async def track(self, request: Request) -> Response:
        """Take one metric."""
        seen = _decoded(_metric, await json_of(request, MAX_BODY_BYTES))
        (reason,) = await self._stored(self.tenant_of(request.scope), [seen])
        if reason is not None:
            raise reason
        self.told.say("Metric collected successfully", action="metric_collected", metric_name=seen.labels.metric)
        return answer({"success": True, "message": "Metric tracked successfully"})

    async def batch(self, request: Request) -> Response:
        """Take each good metric of a list; name what is wrong with the others."""
        body = await json_of(request, MAX_BODY_BYTES)
        # Thousands of metrics take tens of milliseconds to check, which the loop has not.
        most = self.batch_size
        total, good, reasons = await asyncio.to_thread(_checked, body, most) if len(body) > _AT_ONCE else _checked(body, most)
        if good:
            outcomes = await self._stored(self.tenant_of(request.scope), list(good.values()))
            reasons |= {index: reason for index, reason in zip(good, outcomes, strict=True) if reason is not None}
        outcome: dict[str, Any] = {
            "success": not reasons,
            "total": total,
            "successful": total - len(reasons),
            "failed": len(reasons),
        }
        if len(reasons) < total:
            self.told.say("Metrics collected successfully", action="metric_collected", metrics=total - len(reasons))
        if reasons:
            outcome["errors"] = [{"index": index, "reason": str(reasons[index])} for index in sorted(reasons)]
        all_over_limit = bool(total) and len(reasons) == total and all(isinstance(r, LimitExceeded) for r in reasons.values())
        if not all_over_limit:
            return answer(outcome)
        waits = [r.retry_after for r in reasons.values() if isinstance(r, LimitExceeded) and r.retry_after is not None]
        return answer(outcome, 429, retry_after(max(waits, default=None)))

    async def _stored(self, tenant: str, seen: Sequence[Observation]) -> list[VedetteError | None]:
        """What tracking says of each; raises `LimitExceeded` where it does not say it in time. What is under way goes on."""
        storing = asyncio.ensure_future(self.tracking.track(tenant, seen))
        done, _ = await asyncio.wait((storing,), timeout=self.patience)
        if not done:
            storing.add_done_callback(_ended)
            raise LimitExceeded(f"not stored within {self.patience:g} s, and perhaps later", retry_after=self.patience)
        return storing.result()


def _ended(storing: asyncio.Future[list[VedetteError | None]]) -> None:
    # Its request was answered already; a failure that nobody asks for would be a warning without a reason.
    if not storing.cancelled() and (error := storing.exception()) is not None:
        _log.warning("metrics not stored, after their request had been answered", reason=str(error))


_METRIC_SCHEMA = {
    "type": "object",
    "required": ["name", "value"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "value": {"type": "number", "description": "A counter's increment, a gauge's value, or one observation."},
        "type": {"type": "string", "enum": list(KINDS), "default": "gauge"},
        "labels": {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
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


def endpoints(
    tracking: Tracking,
    *,
    tenant_of: Callable[[Mapping[str, Any]], str],
    clock: Clock,
    settings: TrackSettings,
    observe: Callable[[float], None] = lambda seconds: None,
) -> list[Endpoint]:
    """The tracking operations. `observe` is told how many seconds each request took, until its metrics were durable or refused."""
    service = AccessLayer(tracking, tenant_of, settings.batch_size, settings.timeout / 1000, Sparing(clock.monotonic))

    def handled(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        answered = answering(handler, refused, broken)

        async def timed(request: Request) -> Response:
            began = time.perf_counter()
            response = await answered(request)
            observe(time.perf_counter() - began)
            return response

        return timed

    def body(schema: object) -> dict[str, Any]:
        return {"required": True, "content": {"application/json": {"schema": schema}}}

    many = {"type": "array", "items": _METRIC_SCHEMA}
    return [
        Endpoint(
            "/metrics/track", handled(service.track), "Track one metric", ("POST",), tag="track", body=body(_METRIC_SCHEMA), answer=_TRACKED
        ),
        Endpoint("/metrics/track/batch", handled(service.batch), "Track metrics", ("POST",), tag="track", body=body(many), answer=_BATCH),
    ]


DEFAULT_SERIES, MOST_SERIES = 100, 1000
DEFAULT_POINTS = 100


class Collector(Protocol):
    """What the statistics are of: `ingest.track.Tracker`."""

    def of(self, tenant: str) -> Tracked: ...


def tracked_service(labels: Labels) -> tuple[str, str]:
    """(label, value) of what was given as a tracked metric's `service`: the last of `SERVICE_LABELS` that it has."""
    for name in reversed(SERVICE_LABELS):
        if value := labels.get(name):
            return name, value
    return "", ""


def born(times: NDArray[np.int64], values: NDArray[np.float64]) -> bool:
    """Whether a series' first sample is the zero that tracking puts before its first observation: nobody sent it."""
    return len(times) > 1 and values[0] == 0 and times[1] - times[0] == BIRTH_MS


@dataclass(frozen=True, slots=True)
class Reading:
    """The reading operations.

    `started` in Unix seconds, `max_points` the most points of a series, `retention` how far back they reach, in ms.
    """

    backend: Backend
    collector: Collector
    exports: Exports
    started: float
    version: str
    commit: str
    max_points: int
    retention: int

    async def series(self, request: Request) -> Response:
        """Series with samples within the retention of the settings, and their newest points."""
        form = await form_of(request)
        limit = count_of(form, "limit", DEFAULT_SERIES, high=MOST_SERIES)
        points = count_of(form, "points", min(DEFAULT_POINTS, self.max_points), high=self.max_points)
        sets = matcher_sets(form.text("name"), form.text("service"))
        if text := form.text("tenant_id"):
            sets = [[*matchers, Matcher("tenant_id", "=", text)] for matchers in sets]
        tenant = self.backend.tenant_of(request.scope)
        return answer(await self.backend.run(self._series, tenant, sets, (limit, points), form.text("service")))

    def _series(self, tenant: str, sets: Sequence[Sequence[Matcher]], most: tuple[int, int], service: str) -> dict[str, Any]:
        """Runs on a worker thread."""
        storage, now = self.backend.storage, now_ms(self.backend.clock)
        start = now - self.retention
        found = storage.series(tenant, sets, start, now)
        kinds = Kinds(storage.metadata(tenant))
        entries = []
        for labels in found[: most[0]]:
            bearer, named = tracked_service(labels)
            if service and named != service:
                bearer = next(name for name in SERVICE_LABELS if labels.get(name) == service)
            entries.append(
                {
                    "name": labels.metric,
                    "type": kinds.of(labels.metric),
                    "labels": labels.without(METRIC_NAME, "tenant_id", bearer).as_dict(),
                    "service": service or named or None,
                    "tenant_id": labels.get("tenant_id") or None,
                    "points": self._points(tenant, labels, (start, now), most[1]),
                }
            )
        return {"series": entries, "total": len(found), "timestamp": shown_time(now)}

    def _points(self, tenant: str, labels: Labels, span: tuple[int, int], most: int) -> list[dict[str, Any]]:
        """A series' newest points, the oldest first."""
        # Matchers on the labels that it has select series with further labels, too.
        found = self.backend.storage.select(tenant, [Matcher(n, "=", v) for n, v in labels], *span)
        row = next((i for i in range(len(found)) if found.labels.row(i) == labels), None)
        if row is None:  # deleted by retention since it was listed
            return []
        lo, hi = int(found.offsets[row]), int(found.offsets[row + 1])
        times, values = found.timestamps[lo:hi], found.values[lo:hi]
        good = ~is_stale(values)
        if born(times, values):
            good[0] = False
        newest = zip(times[good][-most:].tolist(), values[good][-most:].tolist(), strict=True)
        return [{"value": finite(value), "timestamp": shown_time(when)} for when, value in newest]

    async def stats(self, request: Request) -> Response:
        """What was collected and exported since the start, for whoever asks, and what there is to aggregate."""
        tenant = self.backend.tenant_of(request.scope)
        exports, tracked = self.exports.of(tenant), self.collector.of(tenant)
        return answer(
            {
                "collector": {
                    "total_points": tracked.collected,
                    "total_series": tracked.series,
                    "dropped_points": tracked.dropped,
                },
                "aggregator": {"total_windows": tracked.windows, "aggregated_series": tracked.fresh},
                "exporter": {
                    "total_exports": exports.total,
                    "last_export": shown_time(exports.last_ms) if exports.last_ms else None,
                },
                "timestamp": shown_time(now_ms(self.backend.clock)),
            }
        )

    async def health(self, request: Request) -> Response:
        """Health as this dialect's own listener says it; answers while starting, too."""
        status = "ok" if self.backend.ready() else "starting"
        return answer(
            {
                "service": "metrics",
                "status": status,
                "uptime_seconds": int(self.backend.clock.now() - self.started),
                "dependencies": {"collector": status, "aggregator": status},
                "version": self.version,
                "commit": self.commit,
            }
        )


_SERIES_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["series", "total", "timestamp"],
    "properties": {
        "series": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "type", "labels", "service", "tenant_id", "points"],
                "properties": {
                    "name": {"type": "string"},
                    "type": {"type": "string"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "service": {"type": ["string", "null"]},
                    "tenant_id": {"type": ["string", "null"]},
                    "points": {"type": "array", "items": {"type": "object", "required": ["value", "timestamp"]}},
                },
            },
        },
        "total": {"type": "integer", "description": "How many series there are, beyond the limit too."},
        "timestamp": {"type": "string", "format": "date-time"},
    },
}


def reading(service: Reading) -> list[Endpoint]:
    """The reading operations but for health."""
    params = (
        Param("service", "text", "Series of this service only."),
        Param("name", "text", "Series of this name only."),
        Param("tenant_id", "text", "Series with this label only."),
        Param("limit", "integer", f"The most series, {DEFAULT_SERIES} if absent, at most {MOST_SERIES:,}."),
        Param("points", "integer", f"The most points of a series, the newest; {DEFAULT_POINTS} if absent."),
    )
    handled = service.backend.handled
    return [
        Endpoint("/metrics/series", handled(service.series), "Series with their points", params=params, tag="track", answer=_SERIES_ANSWER),
        Endpoint("/metrics/stats", handled(service.stats), "Statistics of the metrics service", tag="track"),
    ]


def health(service: Reading) -> Endpoint:
    """`/health` of this dialect's own listener."""
    return Endpoint("/health", service.health, "Health of the metrics service", tag="track")
