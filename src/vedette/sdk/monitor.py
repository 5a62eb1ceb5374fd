"""The metrics monitor: what the machine and the application do, and callbacks when a threshold is crossed.

In an application of one's own a thread looks every `METRICS_COLLECTION_INTERVAL` seconds, from the first callback (or `start`)
on. Inside a Vedette server the server's own alerts are what callbacks hear of (`attach`). A callback that raises is logged,
counted and harms nobody. Not here: HTTP (`middleware.py`), shipping metrics anywhere but to a Prometheus that asks.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, start_http_server

log = logging.getLogger("vedette.sdk")

AlertCallback = Callable[[str, dict[str, Any]], object]
"""Called with the alert's type (`high_cpu_usage`, …) and what is known of it."""

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DEFAULT_INTERVAL_S = 60.0
DEFAULT_PORT = 9090
MAX_ENDPOINTS = 1000
"""So many endpoints are told apart; those beyond are counted as `other`, so that made-up paths fill no memory."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From where on alerts fire: `cpu`, `memory`, `disk` in per cent, `error_rate` as a ratio, `response_time` in seconds."""

    cpu: float = 80.0
    memory: float = 80.0
    disk: float = 80.0
    error_rate: float = 0.05
    response_time: float = 1.0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Thresholds:
        """From `ALERT_CPU_THRESHOLD` and the others. Raises `ValueError` that names the variable."""
        names = ("cpu", "memory", "disk", "error_rate", "response_time")
        return cls(**{name: _number(environment, f"ALERT_{name.upper()}_THRESHOLD", getattr(cls(), name)) for name in names})


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} is {text!r}: expected a number of at least 0")
    return value


@dataclass(slots=True)
class _Endpoint:
    count: int = 0
    errors: int = 0
    seconds: float = 0.0


class MetricsMonitor:
    """Thread-safe. `environment` (that of the process if None) is read when it starts, `registry` holds its metrics."""

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, environment: Mapping[str, str] | None = None) -> None:
        self._registry, self._environment = registry, os.environ if environment is None else environment
        self._callbacks: list[AlertCallback] = []
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._endpoints: dict[str, _Endpoint] = {}
        self._checked = _Endpoint()
        self._active: set[str] = set()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._attached = False
        self._metrics: _Metrics | None = None
        self.failed_callbacks = 0
        """How often a callback raised."""

    def add_alert_callback(self, callback: AlertCallback) -> None:
        """Have `callback(alert_type, data)` called for each alert, from now on; it may be added once only."""
        with self._lock:
            if callback not in self._callbacks:
                self._callbacks.append(callback)
        if not self._attached:
            self.start()

    def remove_alert_callback(self, callback: AlertCallback) -> None:
        """Call it no more; one that was never added is passed over."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def attach(self) -> None:
        """A server in this process tells of alerts (`announce`), so the monitor looks for none itself."""
        self._attached = True
        self.stop()

    def detach(self) -> None:
        """The server has ended."""
        self._attached = False

    @property
    def listening(self) -> bool:
        """Whether anybody wants to hear of alerts."""
        return bool(self._callbacks)

    def announce(self, alert_type: str, data: dict[str, Any]) -> None:
        """Call every callback, each with a copy of its own. What one raises is logged and counted."""
        with self._lock:
            callbacks = list(self._callbacks)
        for callback in callbacks:
            try:
                callback(alert_type, dict(data))
            except Exception:
                self.failed_callbacks += 1
                log.exception("alert callback failed", extra={"alert_type": alert_type})

    def start(self, interval: float | None = None) -> None:
        """Begin to look, every `interval` seconds (`METRICS_COLLECTION_INTERVAL`, 60); nothing happens if it does so already.

        Raises `ValueError` for a variable that is no number.
        """
        thresholds = Thresholds.of(self._environment)
        every = interval or _number(self._environment, "METRICS_COLLECTION_INTERVAL", DEFAULT_INTERVAL_S) or DEFAULT_INTERVAL_S
        with self._lock:
            if self._thread is not None:
                return
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, args=(every, thresholds), name="vedette-metrics-monitor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Look no more; returns once a look under way has ended."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._stop.set()
            thread.join()

    def _run(self, every: float, thresholds: Thresholds) -> None:
        while not self._stop.wait(every):
            try:
                self.check(thresholds)
            except Exception:
                log.exception("metrics were not collected")

    def check(self, thresholds: Thresholds | None = None) -> list[str]:
        """Look once: update the metrics, call back for each threshold that is newly crossed. The alerts that are active, sorted."""
        limits = Thresholds.of(self._environment) if thresholds is None else thresholds
        system = self.get_system_metrics()
        self._meters().show(system)
        with self._lock:
            total = _total(self._endpoints.values())
            since = _Endpoint(total.count - self._checked.count, total.errors - self._checked.errors, total.seconds - self._checked.seconds)
            self._checked = total
        found = {
            "high_cpu_usage": (system["cpu"]["usage_percent"], limits.cpu),
            "high_memory_usage": (system["memory"]["usage_percent"], limits.memory),
            "high_disk_usage": (system["disk"]["usage_percent"], limits.disk),
        }
        if since.count:
            found["high_error_rate"] = (since.errors / since.count, limits.error_rate)
            found["slow_response_time"] = (since.seconds / since.count, limits.response_time)
        now_active = {kind for kind, (value, limit) in found.items() if value > limit}
        for kind in sorted(now_active - self._active):
            value, limit = found[kind]
            message = f"{kind.replace('_', ' ')}: {value:.4g}, above {limit:g}"
            self.announce(kind, {"value": value, "threshold": limit, "message": message, "timestamp": time.time()})
        self._active = now_active
        return sorted(now_active)

    def record_request(self, endpoint: str, seconds: float, *, method: str = "GET", status: int = 200, service: str = "") -> None:
        """Count one request and its time; a status of 500 and more is an error."""
        with self._lock:
            name = endpoint if endpoint in self._endpoints or len(self._endpoints) < MAX_ENDPOINTS else "other"
            counted = self._endpoints.setdefault(name, _Endpoint())
            counted.count += 1
            counted.errors += status >= 500
            counted.seconds += seconds
        self._meters().observe(name, seconds, method, status, service)

    def get_system_metrics(self) -> dict[str, Any]:
        """Processor, memory and disk of this machine: per cent and bytes."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage("/")
        return {
            "cpu": {"usage_percent": psutil.cpu_percent(interval=None), "cores": psutil.cpu_count() or 1},
            "memory": {"total": memory.total, "available": memory.available, "used": memory.used, "usage_percent": memory.percent},
            # What is reserved cannot be written either: so the server's alert of the same name counts it, too.
            "disk": {
                "total": disk.total,
                "used": disk.total - disk.free,
                "free": disk.free,
                "usage_percent": round(100 * (1 - disk.free / disk.total), 1) if disk.total else 0.0,
            },
        }

    def get_application_metrics(self) -> dict[str, Any]:
        """Requests, response times in seconds and errors by endpoint, and the uptime in seconds."""
        with self._lock:
            endpoints = {name: _Endpoint(e.count, e.errors, e.seconds) for name, e in self._endpoints.items()}
        total = _total(endpoints.values())
        return {
            "uptime_seconds": time.monotonic() - self._started,
            "request_counts": {name: e.count for name, e in endpoints.items()},
            "response_times": {name: e.seconds / e.count for name, e in endpoints.items() if e.count},
            "error_counts": {name: e.errors for name, e in endpoints.items()},
            "error_rate": total.errors / total.count if total.count else None,
            "average_response_time": total.seconds / total.count if total.count else None,
        }

    def get_metrics(self) -> dict[str, Any]:
        """Both."""
        return {"system": self.get_system_metrics(), "application": self.get_application_metrics()}

    def start_prometheus_server(self, port: int | None = None, host: str = "127.0.0.1") -> int:
        """Serve the registry at `http://host:port/metrics` (`PROMETHEUS_PORT`, 9090; 0: a free port); the port that was taken."""
        self._meters()
        wanted = int(_number(self._environment, "PROMETHEUS_PORT", DEFAULT_PORT)) if port is None else port
        server, _ = start_http_server(wanted, addr=host, registry=self._registry)
        return int(server.server_port)

    def _meters(self) -> _Metrics:
        with self._lock:
            if self._metrics is None:
                self._metrics = _Metrics(self._registry)
            return self._metrics


def _total(endpoints: Any) -> _Endpoint:
    total = _Endpoint()
    for one in endpoints:
        total.count += one.count
        total.errors += one.errors
        total.seconds += one.seconds
    return total


class _Metrics:
    """The metrics of one registry, under the names that Vedette's rule packs and dashboards read."""

    def __init__(self, registry: CollectorRegistry) -> None:
        names = ["service", "method", "endpoint", "status"]
        self.requests = Counter("http_requests_total", "Requests answered.", names, registry=registry)
        self.duration = Histogram(
            "http_request_duration_seconds", "Response time.", ["service", "endpoint"], buckets=BUCKETS_S, registry=registry
        )
        self.system = {
            ("cpu", "usage_percent"): Gauge("system_cpu_usage_percent", "Processor time in use.", registry=registry),
            ("memory", "usage_percent"): Gauge("system_memory_usage_percent", "Memory in use.", registry=registry),
            ("memory", "used"): Gauge("system_memory_used_bytes", "Memory in use.", registry=registry),
            ("disk", "usage_percent"): Gauge("system_disk_usage_percent", "Disk in use.", registry=registry),
            ("disk", "free"): Gauge("system_disk_free_bytes", "Disk that is free.", registry=registry),
        }

    def show(self, system: dict[str, Any]) -> None:
        for (part, name), gauge in self.system.items():
            gauge.set(system[part][name])

    def observe(self, endpoint: str, seconds: float, method: str, status: int, service: str) -> None:
        self.requests.labels(service, method, endpoint, str(status)).inc()
        self.duration.labels(service, endpoint).observe(seconds)
