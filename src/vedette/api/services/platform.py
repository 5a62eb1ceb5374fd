"""The platform's monitoring service: `GET /api/v1/metrics/{service}`.

Active alerts (`GET /api/v1/alerts`) are in `api.watch`, in one answer with Prometheus' shape; silences in `api.silencing`, health
in `api.ops`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Param
from vedette.api.params import MAX_TIME, MIN_TIME, Form, form_of, parse_span
from vedette.api.services.shared import Backend, Kinds, answer, any_of, finite, matcher_sets, shown_time, when_of
from vedette.clock import now_ms
from vedette.errors import BadInput, NotFound
from vedette.model.labels import METRIC_NAME
from vedette.model.samples import is_stale

DEFAULT_RANGE_MS = 3_600_000
DEFAULT_POINTS = 1000
MAX_POINTS = 11_000
LATEST_MS = 300_000
_STEPS_S = (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 604_800)


def step_for(range_ms: int) -> int:
    """The smallest round step in ms that gives at most `DEFAULT_POINTS` points over a range."""
    for step in _STEPS_S:
        if range_ms <= step * 1000 * (DEFAULT_POINTS - 1):
            return step * 1000
    return -(-range_ms // (DEFAULT_POINTS - 1))


@dataclass(frozen=True, slots=True)
class Platform:
    """The operations over one backend."""

    backend: Backend

    async def metrics(self, request: Request) -> Response:
        """One metric of a service over time, or all its metrics now."""
        form = await form_of(request)
        service, tenant = request.path_params["service"], self.backend.tenant_of(request.scope)
        span = self._range(form)  # what is no time is told, whether a metric is named or not
        if metric := form.text("metric"):
            return answer(await self.backend.run(self._one, tenant, service, metric, span))
        return answer(await self.backend.run(self._all, tenant, service))

    def _range(self, form: Form) -> tuple[int, int, int]:
        end = when_of(form, "end_time")
        end = now_ms(self.backend.clock) if end is None else end
        start = when_of(form, "start_time")
        start = end - DEFAULT_RANGE_MS if start is None else start
        if end < start:
            raise BadInput("before start_time", where="query.end_time", hint="the range is from start_time to end_time, both inclusive")
        step = step_for(end - start)
        if text := form.text("step"):
            try:
                step = parse_span(text)
            except BadInput as error:
                raise BadInput(error.problem, where="query.step", hint="expected a duration, such as 30s, 1m or 5m") from None
        if step < 1 or (end - start) // step >= MAX_POINTS:
            raise BadInput(
                f"{form.text('step')} is no step for this range" if form.text("step") else "too long a range",
                where="query.step",
                hint=f"expected one that gives at most {MAX_POINTS:,} points",
            )
        return start, end, step

    def _one(self, tenant: str, service: str, metric: str, span: tuple[int, int, int]) -> dict[str, Any]:
        """A metric's values at each step: of one series as they are, of several their average (a counter's: their sum).

        A histogram's or summary's base name gives the average observation. Runs on a worker thread.
        """
        kind = Kinds(self.backend.storage.metadata(tenant)).of(metric)
        direct = self._known(tenant, metric, service)
        made_of_parts = not direct or kind in ("histogram", "summary")
        if made_of_parts and self._known(tenant, f"{metric}_sum", service) and self._known(tenant, f"{metric}_count", service):
            window = f"[{max(span[2], LATEST_MS)}ms]"
            parts = [any_of(f"{metric}_{part}", service, f"rate(%s{window})") for part in ("sum", "count")]
            expr, how = f"sum({parts[0]}) / sum({parts[1]})", "average observation"
        elif not direct:
            raise NotFound(f"service {service!r} has no metric {metric!r}")
        else:
            how = "sum" if kind == "counter" else "avg"
            expr = f"{how}({any_of(metric, service, '%s')})"
        rows = self.backend.promql.range(tenant, expr, *span).rows()
        times, values = (rows[0][1].tolist(), rows[0][2].tolist()) if rows else ([], [])
        return {
            "service": service,
            "metric": metric,
            "timestamps": [shown_time(t) for t in times],
            "values": [finite(v) for v in values],
            "step_seconds": span[2] / 1000,
            "aggregation": how,
        }

    def _known(self, tenant: str, metric: str, service: str) -> bool:
        return bool(self.backend.storage.series(tenant, matcher_sets(metric, service), MIN_TIME, MAX_TIME, 1))

    def _all(self, tenant: str, service: str) -> dict[str, Any]:
        """The latest values of a service's series, none older than five minutes. Runs on a worker thread."""
        storage, now = self.backend.storage, now_ms(self.backend.clock)
        kinds = Kinds(storage.metadata(tenant))
        metrics: list[dict[str, Any]] = []
        for matchers in matcher_sets(service=service):
            found = storage.select(tenant, matchers, now - LATEST_MS, now)
            rows = np.flatnonzero(np.diff(found.offsets))
            last = found.offsets[rows + 1] - 1
            good = ~is_stale(found.values[last])
            for row, at in zip(rows[good].tolist(), last[good].tolist(), strict=True):
                labels = found.labels.row(row)
                metrics.append(
                    {
                        "metric": labels.metric,
                        "type": kinds.of(labels.metric),
                        "labels": labels.without(METRIC_NAME).as_dict(),
                        "value": finite(float(found.values[at])),
                        "timestamp": shown_time(int(found.timestamps[at])),
                    }
                )
        if not metrics and not storage.series(tenant, matcher_sets(service=service), MIN_TIME, MAX_TIME, 1):
            raise NotFound(f"no metrics of service {service!r}")
        metrics.sort(key=lambda m: (m["metric"], sorted(m["labels"].items())))
        return {"service": service, "metrics": metrics}


_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["service"],
    "properties": {
        "service": {"type": "string"},
        "metric": {"type": "string"},
        "timestamps": {"type": "array", "items": {"type": "string", "format": "date-time"}},
        "values": {"type": "array", "items": {"type": ["number", "null"]}},
        "step_seconds": {"type": "number"},
        "aggregation": {"type": "string", "enum": ["avg", "sum", "average observation"]},
        "metrics": {"type": "array", "description": "The service's series with their latest values, where no metric was named."},
    },
    "examples": [
        {
            "service": "trading-gateway",
            "metric": "http_request_duration_seconds",
            "timestamps": ["2025-04-29T10:00:00Z", "2025-04-29T10:01:00Z", "2025-04-29T10:02:00Z"],
            "values": [0.15, 0.18, 0.12],
        }
    ],
}


def endpoints(backend: Backend) -> list[Endpoint]:
    """The operations of this dialect that are not in another room."""
    params = (
        Param("metric", "text", "The metric; all of the service's, with their latest values, if absent."),
        Param("start_time", "time", "The start of the range; an hour before its end if absent."),
        Param("end_time", "time", "The end of the range, inclusive; now if absent."),
        Param("step", "duration", f"The distance between values; if absent, the smallest round one for {DEFAULT_POINTS:,} points."),
    )
    handler = backend.handled(Platform(backend).metrics)
    return [Endpoint("/api/v1/metrics/{service:path}", handler, "A service's metrics", params=params, tag="platform", answer=_ANSWER)]
