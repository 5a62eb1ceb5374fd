"""The access layer's `GET /metrics/trends/{name}`: where a metric is going, what was unusual, what is to be expected.

One point an hour: a counter's increase in that hour, a gauge's average, a histogram's or summary's average observation;
over all series of the name (and service) together. Not here: the mathematics (`analysis`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from vedette.analysis.anomaly import anomalies
from vedette.analysis.forecast import forecast
from vedette.analysis.trend import trend_of
from vedette.api.endpoint import Endpoint, Param
from vedette.api.params import MAX_TIME, MIN_TIME, form_of
from vedette.api.services.aggregates import samples_of
from vedette.api.services.settings import MOST_HOURS
from vedette.api.services.shared import Backend, Kinds, answer, any_of, count_of, flag_of, matcher_sets, shown_time
from vedette.clock import now_ms
from vedette.errors import NotFound

HOUR_MS = 3_600_000
MOST_AHEAD = 7 * 24
DAY = 24
"""Steps of the season."""
_EXACT_HOURS, _EXACT_SERIES = 7 * 24, 200


@dataclass(frozen=True, slots=True)
class _Asked:
    name: str
    service: str
    hours: int
    anomalies: bool
    ahead: int


@dataclass(frozen=True, slots=True)
class Trends:
    """The operation over one backend; `default_hours` is how far back it goes where it is not told."""

    backend: Backend
    default_hours: int

    async def trend(self, request: Request) -> Response:
        """A metric's trend over the last hours."""
        form = await form_of(request)
        asked = _Asked(
            name=request.path_params["name"],
            service=form.text("service"),
            hours=count_of(form, "hours", self.default_hours, high=MOST_HOURS),
            anomalies=flag_of(form, "anomalies"),
            ahead=count_of(form, "forecast_hours", 0, low=0, high=MOST_AHEAD),
        )
        return answer(await self.backend.run(self._trend, self.backend.tenant_of(request.scope), asked))

    def _trend(self, tenant: str, asked: _Asked) -> dict[str, Any]:
        """Runs on a worker thread."""
        now = now_ms(self.backend.clock)
        start = now - asked.hours * HOUR_MS
        hours, values = self._hourly(tenant, asked, start, now)

        def shown(hour: float) -> str:
            return shown_time(start + int(hour) * HOUR_MS)

        found = trend_of(hours, values)
        body: dict[str, Any] = {
            "metric_name": asked.name,
            "trend": found.direction,
            "change_percent": None if found.change_percent is None else round(found.change_percent, 2),
            "data_points": [{"timestamp": shown(h), "value": v} for h, v in zip(hours.tolist(), values.tolist(), strict=True)],
        }
        if asked.anomalies:
            odd = anomalies(hours, values, period=DAY)
            body["anomalies"] = [
                {"timestamp": shown(hours[row]), "value": float(values[row]), "expected": expected, "score": round(score, 2)}
                for row, expected, score in zip(odd.rows.tolist(), odd.expected.tolist(), odd.score.tolist(), strict=True)
            ]
        if asked.ahead:
            ahead = np.arange(asked.hours, asked.hours + asked.ahead, dtype=np.float64)
            coming = forecast(hours, values, ahead, period=DAY)
            columns = zip(ahead.tolist(), *(c.tolist() for c in (coming.value, coming.lower, coming.upper)), strict=True) if coming else ()
            body["forecast"] = [
                {"timestamp": shown(hour), "value": value, "lower": lower, "upper": upper} for hour, value, lower, upper in columns
            ]
        return body

    def _hourly(self, tenant: str, asked: _Asked, start: int, now: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(hours since `start`, values), both float64[n]; hours without a value are absent. Raises `NotFound` for an unknown metric."""
        storage = self.backend.storage
        kind = Kinds(storage.metadata(tenant)).of(asked.name)
        parts = [f"{asked.name}_{part}" for part in ("sum", "count")]
        known = self._known(tenant, asked.name, asked.service)
        if (kind in ("histogram", "summary") or not known) and all(self._known(tenant, p, asked.service) for p in parts):
            if self._is_small(tenant, parts, asked, (start, now)):
                (hours, sums), (others, counts) = (self._risen(tenant, part, asked.service, (start, now)) for part in parts)
                both, at, of = np.intersect1d(hours, others[counts > 0], return_indices=True)
                return both.astype(np.float64), sums[at] / counts[counts > 0][of]
            expr = " / ".join(f"sum({any_of(p, asked.service, 'increase(%s[1h])')})" for p in parts)
        elif not known:
            of_service = f" of service {asked.service!r}" if asked.service else ""
            raise NotFound(f"no metric {asked.name!r}{of_service}")
        elif kind == "counter":
            if self._is_small(tenant, [asked.name], asked, (start, now)):
                hours, values = self._risen(tenant, asked.name, asked.service, (start, now))
                return hours.astype(np.float64), values
            expr = f"sum({any_of(asked.name, asked.service, 'increase(%s[1h])')})"
        else:
            expr = f"avg({any_of(asked.name, asked.service, 'avg_over_time(%s[1h])')})"
        rows = self.backend.promql.range(tenant, expr, start + HOUR_MS, now, HOUR_MS).rows()
        if not rows:
            return np.zeros(0), np.zeros(0)
        _, times, values = rows[0]
        good = np.isfinite(values)
        # A point stands at the beginning of the hour that it is about.
        return ((times[good] - start) // HOUR_MS - 1).astype(np.float64), values[good]

    def _is_small(self, tenant: str, metrics: Sequence[str], asked: _Asked, span: tuple[int, int]) -> bool:
        """Whether every sample may be looked at; of more, and over longer, PromQL's estimates (and rollups) have to do."""
        if asked.hours > _EXACT_HOURS:
            return False
        storage = self.backend.storage
        return all(len(storage.series(tenant, matcher_sets(m, asked.service), *span, _EXACT_SERIES + 1)) <= _EXACT_SERIES for m in metrics)

    def _risen(self, tenant: str, metric: str, service: str, span: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """(hours in which samples follow others, how much all series rose in each): resets heeded, nothing extrapolated."""
        start, end = span
        total: dict[int, float] = {}
        for matchers in matcher_sets(metric, service):
            rows, times, values = samples_of(self.backend.storage.select(tenant, matchers, start - HOUR_MS, end))
            if not len(rows):
                continue
            rises = np.diff(values, prepend=values[:1])
            rises = np.where(rises < 0, values, rises)
            hours = (times - start - 1) // HOUR_MS
            good = np.isfinite(rises) & (hours >= 0) & (np.diff(rows, prepend=-1) == 0)  # the first sample is no rise
            for hour in np.unique(hours[good]).tolist():
                total[hour] = total.get(hour, 0.0) + float(rises[good & (hours == hour)].sum())
        return np.array(sorted(total), dtype=np.int64), np.array([total[hour] for hour in sorted(total)])

    def _known(self, tenant: str, metric: str, service: str) -> bool:
        return bool(self.backend.storage.series(tenant, matcher_sets(metric, service), MIN_TIME, MAX_TIME, 1))


_POINTS = {"type": "array", "items": {"type": "object", "required": ["timestamp", "value"]}}
_ANSWER: dict[str, Any] = {
    "type": "object",
    "required": ["metric_name", "trend", "change_percent", "data_points"],
    "properties": {
        "metric_name": {"type": "string"},
        "trend": {"type": "string", "enum": ["increasing", "decreasing", "stable"]},
        "change_percent": {
            "type": ["number", "null"],
            "description": "From the first to the last fitted value; null where the first is 0.",
        },
        "data_points": _POINTS,
        "anomalies": _POINTS,
        "forecast": _POINTS,
    },
    "examples": [
        {
            "metric_name": "api_requests_total",
            "trend": "increasing",
            "change_percent": 15.5,
            "data_points": [
                {"timestamp": "2024-01-14T10:30:00Z", "value": 85},
                {"timestamp": "2024-01-14T11:30:00Z", "value": 92},
                {"timestamp": "2024-01-14T12:30:00Z", "value": 98},
            ],
        }
    ],
}


def endpoints(backend: Backend, *, hours: int) -> list[Endpoint]:
    """The operation of this module."""
    params = (
        Param("hours", "integer", f"How far back, 1 to {MOST_HOURS:,}; {hours} if absent."),
        Param("service", "text", "Series of this service only."),
        Param("anomalies", "boolean", "Also which hours were unusual."),
        Param("forecast_hours", "integer", f"Also what to expect of so many hours to come, at most {MOST_AHEAD}."),
    )
    handler = backend.handled(Trends(backend, hours).trend)
    return [Endpoint("/metrics/trends/{name:path}", handler, "A metric's trend", params=params, tag="track", answer=_ANSWER)]
