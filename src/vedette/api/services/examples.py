"""The documents' examples, by operation, with a paragraph about each: what `described` puts into OpenAPI.

Values are the documents'; fields that they do not have are ours. Not here: schemas, which are derived from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Maybe:
    """A field that may be null or absent: nobody reports it, or it is not configured."""

    value: Any


@dataclass(frozen=True, slots=True)
class Names:
    """An object whose keys are names, such as labels; all values are of one shape."""

    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Free:
    """An object of whatever a client put into it."""

    value: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """What is said of one: `status` of its success, `refusals` the statuses that it may answer besides."""

    about: str
    answer: Any = None
    body: Any = None
    status: int = 200
    refusals: tuple[int, ...] = (401, 422)


_READ, _LIMITED, _BODY = (401, 422), (401, 422, 429), (400, 401, 403, 422)
_NOW = "2024-01-15T10:00:00Z"

_RECORD = {"id": 1, "service_name": "User Service", "metric_name": "CPU_usage", "value": 72.5, "recorded_at": "2025-02-20T12:00:00Z"}
_LABELS = {"service": "gateway", "endpoint": "/api/v1/instruments"}
_COUNTED = {"name": "api_requests_total", "value": 1, "type": "counter", "labels": _LABELS, "service": "gateway-service"}
_TIMED = {"name": "response_time_seconds", "value": 0.042, "type": "histogram", "labels": _LABELS, "service": "gateway-service"}
_SILENCED = {"service": "trading-gateway", "severity": "warning"}
_SILENCE = {
    "id": "87ea4da8-4265-4b70-9a74-1adde24cb5c8",
    "status": "active",
    "matcher": Names(_SILENCED),
    "matchers": [{"name": name, "value": value, "isRegex": False, "isEqual": True} for name, value in _SILENCED.items()],
    "start_time": "2025-04-29T10:30:00Z",
    "end_time": "2025-04-29T11:30:00Z",
    "duration_minutes": 60,
    "created_by": "admin",
    "comment": "Investigating high CPU usage",
}
_CONFIGURED = {
    "name": "high_memory_usage",
    "type": "threshold",
    "metric": "memory.usage_percent",
    "condition": Maybe("greater_than"),
    "threshold": Maybe(90),
    "duration_seconds": 300,
    "severity": "warning",
    "notify": {"email": ["admin@example.com"], "webhook": Maybe("https://example.com/<secret>")},
    "status": "configured",
    "version": 1,
    "author": "admin",
    "updated_at": _NOW,
}
_MACHINE = {
    "cpu": {"usage_percent": Maybe(45.2), "cores": 8, "load_average": [2.1, 2.5, 2.3]},
    "memory": {"total": 34359738368, "available": 14495514624, "used": 19864223744, "usage_percent": 57.8},
    "disk": {"total": 536870912000, "used": 128849018880, "free": 408021893120, "usage_percent": 24.0},
}
_REQUESTS = {
    "uptime_seconds": 86400,
    "request_counts": Names({"/api/v1/query": 1500}),
    "response_times": Names({"/api/v1/query": 0.015}),
    "error_counts": Names({"/api/v1/query": 2}),
    "total_requests": 1500,
    "total_errors": 2,
    "error_rate": 0.001333,
}
_SYSTEM = {
    "cpu": {"usage_percent": Maybe(45.2), "cores": 8, "load_average": [2.1, 2.5, 2.3]},
    "memory": {"total_gb": 32, "used_gb": 18.5, "free_gb": 13.5, "usage_percent": 57.8},
    "disk": {"total_gb": 500, "used_gb": 120, "free_gb": 380, "usage_percent": 24},
    "network": {"bytes_sent": 1048576000, "bytes_received": 524288000, "packets_sent": 1000000, "packets_received": 500000},
}
_ALERT = {
    "alert_id": "d1422ebc79585fb3",
    "severity": Maybe("warning"),
    "type": "high_cpu",
    "service": "node",
    "message": "CPU usage above 80% for 5 minutes",
    "triggered_at": "2024-01-15T09:55:00Z",
    "current_value": Maybe(85),
    "threshold": Maybe(80),
    "acknowledged": True,
    "acknowledged_by": Maybe("admin"),
    "acknowledged_at": Maybe(_NOW),
    "notes": Maybe("Investigating the issue"),
}

_GAMIROO = {
    ("GET", "/api/v1/monitoring/metrics"): Operation(
        "Records in order of time. From a `start_date` on pages lead forward; without one they lead back from the newest. A `Link` header "
        "leads to the next page. Nothing found is an empty list. On the main listener the answer without any of these parameters is "
        "BotServer's: this machine.",
        [_RECORD],
        refusals=(401, 422, 429, 500),
    ),
    ("POST", "/api/v1/monitoring/metrics"): Operation(
        "One record or a list. Without `recorded_at` a record is of now. What was not stored is named, each with its place in the list.",
        _RECORD,
        {name: value for name, value in _RECORD.items() if name != "id"},
        status=201,
        refusals=(400, 401, 403, 422, 429, 500),
    ),
}
_PLATFORM = {
    ("GET", "/api/v1/alerts"): Operation(
        "Active alerts, `pending` and `firing`: under `alerts` in the platform's shape, under `data` in Prometheus'.",
        {
            "status": "success",
            "data": {
                "alerts": [
                    {
                        "labels": Names({"alertname": "high_cpu_usage", **_SILENCED}),
                        "annotations": Names({"description": "CPU usage above 80% for 5 minutes"}),
                        "state": "firing",
                        "activeAt": "2025-04-29T10:15:00Z",
                        "value": "8.5e+01",
                    }
                ]
            },
            "alerts": [
                {
                    "id": "high_cpu_usage",
                    "fingerprint": "673dc92f7d200f3d",
                    "severity": "warning",
                    "service": "trading-gateway",
                    "description": "CPU usage above 80% for 5 minutes",
                    "start_time": "2025-04-29T10:15:00Z",
                    "status": "firing",
                }
            ],
        },
        refusals=(401,),
    ),
    ("GET", "/api/v1/metrics/{service:path}"): Operation(
        "With `metric` its values at each step: of one series as they are, of several the average (of a counter the sum), of a histogram "
        "the average observation. Without it the service's metrics with their latest values.",
        {"service": "trading-gateway"},
        refusals=(401, 404, 422),
    ),
    ("POST", "/api/v1/alerts/silence"): Operation(
        "No notification of alerts that have these labels is sent for so many minutes. The same silence is Alertmanager's, too.",
        _SILENCE,
        {"matcher": _SILENCED, "duration_minutes": 60, "created_by": "admin", "comment": "Investigating high CPU usage"},
        refusals=_BODY,
    ),
    ("GET", "/api/v1/alerts/silence"): Operation("All silences that have not been forgotten.", {"silences": [_SILENCE]}, refusals=(401,)),
    ("GET", "/api/v1/alerts/silence/{id}"): Operation("One silence.", _SILENCE, refusals=(401, 404)),
    ("DELETE", "/api/v1/alerts/silence/{id}"): Operation(
        "Ends a silence now; it is kept as expired.", {**_SILENCE, "status": "expired"}, refusals=(401, 403, 404)
    ),
}
_BOTSERVER_HEALTH = {
    "/health": Operation(
        "For load balancers; no token is needed, and there is no limit.",
        {"status": "healthy", "timestamp": _NOW, "version": "1.0.0"},
        refusals=(),
    ),
    "/health/detailed": Operation(
        "Components as they were last found, asked in the background. What is not configured says so; others stand beside.",
        {
            "status": "healthy",
            "components": {
                "database": {
                    "status": "healthy",
                    "latency_ms": Maybe(2),
                    "connection_pool": Maybe({"active": 5, "idle": 15, "max": 20}),
                },
                "cache": {"status": "healthy", "latency_ms": Maybe(1), "memory_used_mb": Maybe(256), "hit_rate": Maybe(0.92)},
                "storage": {"status": "healthy", "latency_ms": Maybe(15), "available_gb": Maybe(450), "used_gb": Maybe(50)},
                "llm": {"status": "healthy", "model_loaded": Maybe(True), "requests_per_second": Maybe(12)},
            },
            "timestamp": _NOW,
        },
        refusals=(401,),
    ),
    "/status": Operation(
        "This server, the database, the cache and the LLM server where they are configured, whatever else is watched, and what is scraped.",
        {
            "services": [
                {
                    "name": "web_server",
                    "status": "running",
                    "uptime_seconds": Maybe(86400),
                    "port": Maybe(8080),
                    "pid": Maybe(1234),
                    "version": Maybe("1.0.0"),
                    "instance": Maybe("web-1:8080"),
                }
            ]
        },
        refusals=(401,),
    ),
    "/resources/database": Operation(
        "Connections to the database that is watched, or else to the records.",
        {
            "pool": {
                "max_connections": Maybe(20),
                "active_connections": Maybe(5),
                "idle_connections": Maybe(10),
                "waiting_requests": Maybe(0),
                "total_created": Maybe(100),
                "total_closed": Maybe(85),
            },
            "queries": {"active": Maybe(2), "slow_queries": Maybe(1), "average_duration_ms": Maybe(15)},
        },
        refusals=(401,),
    ),
    "/resources/cache": Operation(
        "What the cache says of itself; `not_configured` where none is watched.",
        {
            "cache": {
                "hits": Maybe(45678),
                "misses": Maybe(5678),
                "hit_rate": Maybe(0.89),
                "evictions": Maybe(234),
                "memory_used_mb": Maybe(256),
                "memory_limit_mb": Maybe(512),
                "keys_count": Maybe(1234),
            }
        },
        refusals=(401,),
    ),
    "/debug/info": Operation(
        "What the process is made of now; for admins. `goroutines` counts tasks and threads.",
        {
            "debug": {
                "goroutines": 42,
                "memory_allocations": 123456,
                "gc_runs": 234,
                "open_files": Maybe(45),
                "environment": "production",
                "config": {"debug_mode": False, "log_level": "info"},
            }
        },
        refusals=(401, 403),
    ),
}
_BOTSERVER_METRICS = {
    "/metrics": Operation("This machine at this moment.", {"system": _SYSTEM, "timestamp": _NOW}, refusals=(401, 429)),
    "/metrics/application": Operation(
        "What applications report under BotServer's names, or else Vedette's own requests. What nobody reports is `not_configured`.",
        {
            "application": {
                "uptime_seconds": 86400,
                "requests": {"total": Maybe(150000), "rate_per_second": Maybe(25), "average_latency_ms": Maybe(150)},
                "sessions": {"active": Maybe(234), "total_today": Maybe(1500), "average_duration_minutes": Maybe(15)},
                "conversations": {"active": Maybe(89), "completed_today": Maybe(456), "average_messages": Maybe(12)},
                "errors": {"total": Maybe(23), "rate_per_hour": Maybe(2), "last_error": Maybe("2024-01-15T09:45:00Z")},
            }
        },
        refusals=(401, 429),
    ),
    "/metrics/performance": Operation(
        "Response times in milliseconds, throughput in seconds, error rates as shares of all requests; `data_points` at the resolution.",
        {
            "performance": {
                "response_times": {
                    "p50": Maybe(120),
                    "p95": Maybe(450),
                    "p99": Maybe(800),
                    "mean": Maybe(150),
                    "min": Maybe(10),
                    "max": Maybe(2000),
                },
                "throughput": {
                    "requests_per_second": Maybe(25),
                    "messages_per_second": Maybe(50),
                    "bytes_per_second": Maybe(102400),
                },
                "error_rates": {"client_errors": Maybe(0.02), "server_errors": Maybe(0.001), "timeout_errors": Maybe(0.005)},
            },
            "period": "24h",
            "resolution": "hour",
            "data_points": [{"timestamp": _NOW, "requests_per_second": Maybe(25), "mean_ms": Maybe(150)}],
        },
        refusals=_LIMITED,
    ),
    "/metrics/prometheus": Operation("The same text as `/metrics`.", refusals=(401, 429)),
    "/metrics/grafana": Operation(
        "A dashboard over BotServer's series, which Grafana imports.",
        {
            "dashboard": {
                "title": "BotServer Monitoring",
                "panels": [
                    {
                        "title": "Request Rate",
                        "type": "graph",
                        "datasource": "prometheus",
                        "query": "rate(botserver_requests_total[5m])",
                    }
                ],
            }
        },
        refusals=(401, 429),
    ),
    "/logs": Operation(
        "Log lines, the newest first; `total` counts all that match, beyond the limit too.",
        {
            "logs": [
                {
                    "timestamp": _NOW,
                    "level": "info",
                    "service": "web_server",
                    "message": "Request processed successfully",
                    "metadata": Free({"request_id": "req_123", "user_id": "user_456", "duration_ms": 150}),
                }
            ],
            "total": 2,
            "query": {"level": "all", "limit": 100},
        },
        refusals=_LIMITED,
    ),
    "/errors/summary": Operation(
        "Errors of a period by type and by service, counted from the log; `error_rate` is their share of all lines.",
        {
            "summary": {
                "total_errors": 234,
                "errors_by_type": Names({"database_error": 45, "validation_error": 89, "timeout_error": 23, "unknown_error": 77}),
                "errors_by_service": Names({"web_server": 123, "background_jobs": 56, "webhooks": 55}),
                "error_rate": 0.02,
                "period": "24h",
            }
        },
        refusals=_READ,
    ),
}
_BOTSERVER_ALERTS = {
    ("GET", "/alerts"): Operation(
        "Alerts that fire, with counts by severity; `threshold` is what the rule compares with.",
        {"alerts": [_ALERT], "active_count": 1, "critical_count": 0, "warning_count": 1},
        refusals=(401, 429),
    ),
    ("POST", "/alerts/configure"): Operation(
        "Makes an alert (201), or changes the one of its name (200). Of a webhook's URL only the host is shown again.",
        _CONFIGURED,
        status=201,
        refusals=(400, 401, 403, 422, 429),
    ),
    ("GET", "/alerts/configure"): Operation(
        "All alerts that were made here, and the aliases and conditions that there are.",
        {"alerts": [_CONFIGURED], "total": 1, "metrics": ["memory.usage_percent"], "conditions": ["greater_than"]},
        refusals=(401, 429),
    ),
    ("GET", "/alerts/configure/{name}"): Operation("One alert that was made here.", _CONFIGURED, refusals=(401, 404, 429)),
    ("PUT", "/alerts/configure/{name}"): Operation(
        "Changes an alert; the body is that of making one.", {**_CONFIGURED, "version": 2}, refusals=(400, 401, 403, 404, 422, 429)
    ),
    ("DELETE", "/alerts/configure/{name}"): Operation(
        "Deletes an alert; its rule is evaluated no more.",
        {"name": "high_memory_usage", "status": "deleted"},
        refusals=(401, 403, 404, 429),
    ),
    ("POST", "/alerts/{fingerprint}/acknowledge"): Operation(
        "Somebody knows of the alert: it is not told again while it stands.",
        {
            "alert_id": "d1422ebc79585fb3",
            "status": "acknowledged",
            "acknowledged_by": "admin",
            "acknowledged_at": _NOW,
            "notes": "Investigating the issue",
        },
        {"acknowledged_by": "admin", "notes": "Investigating the issue"},
        refusals=(400, 401, 403, 404, 422, 429),
    ),
}
_ACCESS_LAYER = {
    ("POST", "/metrics/track"): Operation(
        "A counter's `value` is its increment, a gauge's the value, a histogram's and a summary's one observation. It is durable once "
        "answered.",
        {"success": True, "message": "Metric tracked successfully"},
        {**_COUNTED, "labels": {**_LABELS, "method": "GET", "status_code": "200"}, "tenant_id": "tenant-1"},
        refusals=(400, 401, 403, 422, 429),
    ),
    ("POST", "/metrics/track/batch"): Operation(
        "Good metrics are stored, each of the others is counted in `failed` and named in `errors`; 429 where all were over a limit.",
        {"success": True, "total": 2, "successful": 2, "failed": 0},
        [_COUNTED, _TIMED],
        refusals=(400, 401, 403, 422, 429),
    ),
    ("GET", "/metrics/series"): Operation(
        "Series of the retention of aggregates, with their newest points; a histogram's and a summary's parts are series of their own.",
        {
            "series": [
                {
                    "name": "api_requests_total",
                    "type": "counter",
                    "labels": Names(_LABELS),
                    "service": "gateway-service",
                    "tenant_id": "tenant-1",
                    "points": [{"value": 1, "timestamp": "2024-01-15T10:30:00Z"}],
                }
            ],
            "total": 1,
            "timestamp": "2024-01-15T10:30:00Z",
        },
    ),
    ("GET", "/metrics/trends/{name:path}"): Operation(
        "One point an hour, a robust line through them, and whether it goes anywhere; anomalies and a forecast where asked for.",
        refusals=(401, 404, 422),
    ),
    ("GET", "/metrics/stats"): Operation(
        "What the caller's tenant tracked and exported since the start, and what there is to aggregate.",
        {
            "collector": {"total_points": 10000, "total_series": 150, "dropped_points": 0},
            "aggregator": {"total_windows": 24, "aggregated_series": 145},
            "exporter": {"total_exports": 100, "last_export": Maybe("2024-01-15T10:30:00Z")},
            "timestamp": "2024-01-15T10:30:00Z",
        },
        refusals=(401,),
    ),
}
_XSCORE = {
    ("GET", "/api/metrics"): Operation(
        "The machine and the requests of this server; for admins. Sizes are bytes, times seconds.",
        {"timestamp": _NOW, "system": _MACHINE, "application": _REQUESTS},
        refusals=(401, 403),
    ),
    ("GET", "/api/metrics/system"): Operation("The machine; for admins.", {"timestamp": _NOW, **_MACHINE}, refusals=(401, 403)),
    ("GET", "/api/metrics/application"): Operation(
        "Requests by endpoint since the start; for admins.", {"timestamp": _NOW, **_REQUESTS}, refusals=(401, 403)
    ),
}
_SHARED = {
    ("GET", "/health"): Operation(
        "Health with the fields of all documents; no token is needed, and it is answered while the server starts.",
        {
            "status": "healthy",
            "service": "vedette",
            "version": "0.1.0",
            "commit": "abc1234",
            "uptime_seconds": 5231,
            "timestamp": _NOW,
            "dependencies": Names({"storage": "ok", "database": "ok"}),
        },
        refusals=(),
    ),
}

_MONITORING = "/api/v1/monitoring"
OPERATIONS: Mapping[tuple[str, str], Operation] = {
    **_GAMIROO,
    **_PLATFORM,
    **{("GET", _MONITORING + path): told for path, told in {**_BOTSERVER_HEALTH, **_BOTSERVER_METRICS}.items() if path != "/metrics"},
    **{(method, _MONITORING + path): told for (method, path), told in _BOTSERVER_ALERTS.items()},
    **_ACCESS_LAYER,
    **_XSCORE,
    **_SHARED,
}
"""By method and path. `GET /api/v1/monitoring/metrics` is two documents': BotServer's is in `BY_TAG`."""

BY_TAG: Mapping[tuple[str, str, str], Operation] = {
    ("botserver", "GET", f"{_MONITORING}/metrics"): _BOTSERVER_METRICS["/metrics"],
    ("track", "GET", "/health"): Operation(
        "Health as the access layer's document says it: `ok`.",
        {
            "service": "metrics",
            "status": "ok",
            "uptime_seconds": 5231,
            "dependencies": {"collector": "ok", "aggregator": "ok"},
            "version": "1.0.0",
            "commit": "abc1234",
        },
        refusals=(),
    ),
}
"""By tag, method and path: what goes before `OPERATIONS`."""
