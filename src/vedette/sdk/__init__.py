"""What an instrumented Python application imports: metrics, health checks, latencies, errors, alerts in its own process.

    from vedette.sdk import metrics_monitor
    metrics_monitor.add_alert_callback(lambda alert_type, data: print(alert_type, data))

Built on prometheus_client and psutil alone; nothing else of Vedette is loaded. `metrics_monitor` is one for the process, made
when it is first asked for.
"""

from __future__ import annotations

from typing import Any

from vedette.sdk.errors import ErrorReporter
from vedette.sdk.health import HealthCheck, HealthReport
from vedette.sdk.latency import LatencyTracker
from vedette.sdk.middleware import MetricsMiddleware
from vedette.sdk.monitor import MetricsMonitor, Thresholds

__all__ = [
    "ErrorReporter",
    "HealthCheck",
    "HealthReport",
    "LatencyTracker",
    "MetricsMiddleware",
    "MetricsMonitor",
    "Thresholds",
    "metrics_monitor",
]

metrics_monitor: MetricsMonitor


def __getattr__(name: str) -> Any:
    # The one global of the house: the documented way to reach the monitor is to import it. Made on first use, so that
    # importing the package reads no environment and registers no metric.
    if name == "metrics_monitor":
        made = globals()[name] = MetricsMonitor()
        return made
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
