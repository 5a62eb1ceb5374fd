"""How an application does, from the series it reports under botserver's names; Vedette's own where no other application does.

`botserver_requests_total{method,status}` and the histogram `botserver_request_duration_seconds` are the document's.
Sessions, conversations, messages and bytes come from the series in `REPORTED`; what nobody reports is null or
`not_configured`, never made up. Blocking: all of it runs on query threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vedette.api.services.own import OwnRequests
from vedette.api.services.shared import OWN_JOB, Backend, finite, shown_time
from vedette.model.matchers import Matcher, by_metric
from vedette.model.samples import is_stale
from vedette.model.tenants import DEFAULT_TENANT

DAY_MS = 86_400_000
PERIODS_MS = {"1h": 3_600_000, "24h": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}
RESOLUTIONS_MS = {"minute": 60_000, "hour": 3_600_000, "day": DAY_MS}
MAX_POINTS = 11_000
REPORTED = {
    "botserver_sessions_active": "gauge",
    "botserver_sessions_total": "counter",
    "botserver_session_duration_seconds": "histogram or summary",
    "botserver_conversations_active": "gauge",
    "botserver_conversations_completed_total": "counter",
    "botserver_conversation_messages": "histogram or summary",
    "botserver_messages_total": "counter",
    "botserver_response_bytes_total": "counter",
}
"""What an application may report beside its requests."""

_RATE_DIGITS = 6
"""One request in a month is no rate of 0."""
_REQUESTS, _SECONDS = "botserver_requests_total", "botserver_request_duration_seconds"
_CLIENT, _SERVER, _TIMEOUT = "4..", "5..", "408|504"


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


@dataclass(frozen=True, slots=True)
class Performance:
    """The figures of one tenant's application."""

    backend: Backend
    own: OwnRequests

    def scope(self, tenant: str, now: int) -> str:
        """The matcher of the series that count: those of other applications, of Vedette itself where there are none."""
        others = self.backend.number(tenant, f'count({_REQUESTS}{{job!="{OWN_JOB}"}} or {_SECONDS}_count{{job!="{OWN_JOB}"}})', now)
        return f'job{"!=" if others else "="}"{OWN_JOB}"'

    def application(self, tenant: str, now: int, uptime_s: int) -> dict[str, Any]:
        """What `/metrics/application` answers; `now` in ms."""
        of = self.scope(tenant, now)
        number = self.backend.number
        total: float | None
        average: float | None
        if of.startswith("job=") and tenant == DEFAULT_TENANT:  # what the server itself answers is nobody else's
            mine = self.own.total()
            total, average = float(mine.requests), 1000 * mine.average_seconds
            failed: float | None = float(mine.errors)
        else:
            total = number(tenant, f"sum({_REQUESTS}{{{of}}})", now)
            average = self._ratio_ms(tenant, of, "5m", now)
            failed = number(tenant, f'sum({_REQUESTS}{{{of},status=~"{_SERVER}"}})', now)
            failed = 0.0 if failed is None and total is not None else failed
        today = max(60, (now % DAY_MS) // 1000)
        last_error = self._last_error(tenant, of, now)
        hourly = number(tenant, f'sum(increase({_REQUESTS}{{{of},status=~"{_SERVER}"}}[1h]))', now)
        return {
            "uptime_seconds": uptime_s,
            "requests": {
                "total": None if total is None else int(total),
                "rate_per_second": _rounded(number(tenant, f"sum(rate({_REQUESTS}{{{of}}}[5m]))", now), _RATE_DIGITS),
                "average_latency_ms": _rounded(average, 3),
            },
            "sessions": self._people(
                tenant,
                now,
                {
                    "active": f"sum(botserver_sessions_active{{{of}}})",
                    "total_today": f"sum(increase(botserver_sessions_total{{{of}}}[{today}s]))",
                    "average_duration_minutes": _average("botserver_session_duration_seconds", of, "1d") + " / 60",
                },
            ),
            "conversations": self._people(
                tenant,
                now,
                {
                    "active": f"sum(botserver_conversations_active{{{of}}})",
                    "completed_today": f"sum(increase(botserver_conversations_completed_total{{{of}}}[{today}s]))",
                    "average_messages": _average("botserver_conversation_messages", of, "1d"),
                },
            ),
            "errors": {
                "total": None if failed is None else int(failed),
                "rate_per_hour": _rounded(hourly, 3) if hourly is not None or total is None else 0.0,
                "last_error": None if last_error is None else shown_time(last_error),
            },
        }

    def _people(self, tenant: str, now: int, exprs: dict[str, str]) -> dict[str, Any]:
        values = {name: _rounded(self.backend.number(tenant, expr, now), 2) for name, expr in exprs.items()}
        return {"status": "not_configured"} if all(v is None for v in values.values()) else values

    def _ratio_ms(self, tenant: str, of: str, window: str, now: int) -> float | None:
        seconds = self.backend.number(tenant, _average(_SECONDS, of, window), now)
        return None if seconds is None else 1000 * seconds

    def _last_error(self, tenant: str, of: str, now: int) -> int | None:
        """When a count of failed requests last went up within a day, in ms; None where none did."""
        job = Matcher("job", "!=" if "!=" in of else "=", OWN_JOB)
        found = self.backend.storage.select(tenant, [by_metric(_REQUESTS), Matcher("status", "=~", _SERVER), job], now - DAY_MS, now)
        last = None
        for i in range(len(found)):
            lo, hi = int(found.offsets[i]), int(found.offsets[i + 1])
            values, times = found.values[lo:hi], found.timestamps[lo:hi]
            good = ~is_stale(values)
            values, times = values[good], times[good]
            if not len(values):
                continue
            # A series of errors comes into being with its first error, unless it was there before the window.
            born = times[0] > now - DAY_MS + 300_000 and values[0] > 0
            rises = np.flatnonzero(np.diff(values) > 0) + 1
            when = int(times[rises[-1]]) if len(rises) else int(times[0]) if born else None
            last = when if last is None else last if when is None else max(last, when)
        return last

    def over(self, tenant: str, period: str, resolution: str, now: int) -> dict[str, Any]:
        """What `/metrics/performance` answers: times in ms, rates per second, error rates as shares of all requests."""
        of, number = self.scope(tenant, now), self.backend.number
        buckets = f"sum by (le) (increase({_SECONDS}_bucket{{{of}}}[{period}]))"

        def quantile(q: float) -> float | None:
            value = number(tenant, f"histogram_quantile({q}, {buckets})", now)
            return None if value is None else round(1000 * value, 3)

        def fastest() -> float | None:
            """The lower bound of the first bucket that counts anything: no request was faster."""
            rows = [
                (float(labels.get("le")), float(values[-1]))
                for labels, _, values in self.backend.promql.instant(tenant, buckets, now).rows()
            ]
            below = 0.0
            for bound, count in sorted(rows):
                if count > 0:
                    return round(1000 * below, 3)
                below = bound
            return None

        def share(status: str) -> float | None:
            all_of = number(tenant, f"sum(increase({_REQUESTS}{{{of}}}[{period}]))", now)
            some = number(tenant, f'sum(increase({_REQUESTS}{{{of},status=~"{status}"}}[{period}]))', now) or 0.0
            return round(some / all_of, 6) if all_of else None

        def rate(metric: str) -> float | None:
            return _rounded(number(tenant, f"sum(rate({metric}{{{of}}}[{period}]))", now), _RATE_DIGITS)

        return {
            "performance": {
                "response_times": {
                    "p50": quantile(0.5),
                    "p95": quantile(0.95),
                    "p99": quantile(0.99),
                    "mean": _rounded(self._ratio_ms(tenant, of, period, now), 3),
                    "min": fastest(),
                    "max": quantile(1),
                },
                "throughput": {
                    "requests_per_second": rate(_REQUESTS),
                    "messages_per_second": rate("botserver_messages_total"),
                    "bytes_per_second": rate("botserver_response_bytes_total"),
                },
                "error_rates": {"client_errors": share(_CLIENT), "server_errors": share(_SERVER), "timeout_errors": share(_TIMEOUT)},
            },
            "period": period,
            "resolution": resolution,
            "data_points": self._points(tenant, of, period, resolution, now),
        }

    def _points(self, tenant: str, of: str, period: str, resolution: str, now: int) -> list[dict[str, Any]]:
        """Requests and their mean time for each step of the resolution, its end as the timestamp; steps without requests are absent."""
        step = RESOLUTIONS_MS[resolution]
        start = now - PERIODS_MS[period] + step
        if start > now:
            return []
        window = f"[{step}ms]"
        columns: dict[int, dict[str, Any]] = {}
        exprs = {
            "requests_per_second": f"sum(rate({_REQUESTS}{{{of}}}{window}))",
            "mean_ms": f"1000 * sum(rate({_SECONDS}_sum{{{of}}}{window})) / sum(rate({_SECONDS}_count{{{of}}}{window}))",
        }
        for name, expr in exprs.items():
            for _, times, values in self.backend.promql.range(tenant, expr, start, now, step).rows():
                for when, value in zip(times.tolist(), values.tolist(), strict=True):
                    columns.setdefault(when, dict.fromkeys(exprs))[name] = _rounded(finite(value), _RATE_DIGITS)
        return [{"timestamp": shown_time(when), **columns[when]} for when in sorted(columns)]


def _average(metric: str, of: str, window: str) -> str:
    return f"sum(increase({metric}_sum{{{of}}}[{window}])) / sum(increase({metric}_count{{{of}}}[{window}]))"
