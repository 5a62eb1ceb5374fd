"""The SDK as an application uses it: alone, without the rest of the house; callbacks, middleware, health, latency, errors."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import urllib.request
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from vedette.sdk import ErrorReporter, HealthCheck, LatencyTracker, MetricsMiddleware, MetricsMonitor, Thresholds

NEVER = Thresholds(1000, 1000, 1000, 2, 1e9)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def monitor(registry: CollectorRegistry) -> Any:
    made = MetricsMonitor(registry, environment={"METRICS_COLLECTION_INTERVAL": "3600"})
    yield made
    made.stop()


def test_importing_it_loads_nothing_of_the_house() -> None:
    code = (
        "import sys; from vedette.sdk import metrics_monitor; from vedette import sdk; assert sdk.metrics_monitor is metrics_monitor;"
        "print(sorted(m for m in sys.modules if m.startswith('vedette') and not m.startswith('vedette.sdk')),"
        "[m for m in ('numba', 'numpy', 'sqlalchemy', 'starlette') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "['vedette'] []"


def test_the_documents_example(monitor: MetricsMonitor) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []

    def my_custom_alert_callback(alert_type: str, data: dict[str, Any]) -> None:
        heard.append((alert_type, data))

    monitor.add_alert_callback(my_custom_alert_callback)
    assert monitor.check(Thresholds(cpu=1000, memory=0, disk=1000)) == ["high_memory_usage"]
    ((kind, data),) = heard
    assert kind == "high_memory_usage"
    assert data["value"] > data["threshold"] == 0
    assert data["message"].startswith("high memory usage: ")


def test_what_a_disk_keeps_in_reserve_counts_as_used(monitor: MetricsMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does for the server's alert of the same name."""
    monkeypatch.setattr("psutil.disk_usage", lambda path: SimpleNamespace(total=100, used=30, free=15, percent=66.7))
    assert monitor.get_system_metrics()["disk"] == {"total": 100, "used": 85, "free": 15, "usage_percent": 85.0}
    assert monitor.check(Thresholds(1000, 1000, 80)) == ["high_disk_usage"]


def test_an_alert_is_told_once_until_it_ends_and_begins_again(monitor: MetricsMonitor) -> None:
    heard: list[str] = []
    monitor.add_alert_callback(lambda kind, _: heard.append(kind))
    high = Thresholds(1000, 0, 1000)
    for thresholds in (high, high, NEVER, high):
        monitor.check(thresholds)
    assert heard == ["high_memory_usage"] * 2


def test_requests_that_fail_or_are_slow_since_the_last_look(monitor: MetricsMonitor) -> None:
    heard: dict[str, dict[str, Any]] = {}
    monitor.add_alert_callback(lambda kind, data: heard.update({kind: data}))
    limits = Thresholds(1000, 1000, 1000, 0.05, 1.0)
    for status in (200, 200, 200, 500):
        monitor.record_request("/orders", 1.5, status=status)
    assert monitor.check(limits) == ["high_error_rate", "slow_response_time"]
    assert (heard["high_error_rate"]["value"], heard["slow_response_time"]["value"]) == (0.25, 1.5)
    for _ in range(100):
        monitor.record_request("/orders", 0.1)
    assert monitor.check(limits) == []
    shown = monitor.get_application_metrics()
    assert (shown["request_counts"], shown["error_counts"]) == ({"/orders": 104}, {"/orders": 1})
    assert shown["error_rate"] == pytest.approx(1 / 104)


def test_a_callback_that_raises_is_logged_and_harms_nothing(monitor: MetricsMonitor, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def bad(kind: str, data: dict[str, Any]) -> None:
        data.clear()
        raise RuntimeError("mine")

    monitor.add_alert_callback(bad)
    monitor.add_alert_callback(lambda kind, data: heard.append(f"{kind} {len(data)}"))
    with caplog.at_level(logging.ERROR, "vedette.sdk"):
        monitor.announce("x", {"a": 1})
    assert heard == ["x 1"]
    assert monitor.failed_callbacks == 1
    assert "alert callback failed" in caplog.text
    assert "RuntimeError: mine" in caplog.text
    monitor.remove_alert_callback(bad)
    monitor.remove_alert_callback(bad)
    monitor.announce("y", {})
    assert monitor.failed_callbacks == 1


def test_it_looks_by_itself_from_the_first_callback_on(registry: CollectorRegistry) -> None:
    environment = {"METRICS_COLLECTION_INTERVAL": "0.01", "ALERT_MEMORY_THRESHOLD": "0"}
    monitor = MetricsMonitor(registry, environment=environment)
    heard = threading.Event()
    monitor.add_alert_callback(lambda *_: heard.set())
    assert heard.wait(10)
    monitor.stop()
    monitor.stop()


def test_attached_to_a_server_it_looks_for_nothing_itself(monitor: MetricsMonitor) -> None:
    monitor.attach()
    monitor.add_alert_callback(lambda *_: None)
    assert monitor._thread is None
    assert monitor.listening
    monitor.detach()


def test_bad_variables_are_named(registry: CollectorRegistry) -> None:
    for name, text in (("ALERT_CPU_THRESHOLD", "high"), ("METRICS_COLLECTION_INTERVAL", "-1"), ("ALERT_ERROR_RATE_THRESHOLD", "inf")):
        with pytest.raises(ValueError, match=f"{name} is '{text}'"):
            MetricsMonitor(registry, environment={name: text}).start()


def test_made_up_endpoints_fill_no_memory(monitor: MetricsMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.sdk.monitor.MAX_ENDPOINTS", 2)
    for name in "abcda":
        monitor.record_request(name, 0.1)
    assert monitor.get_application_metrics()["request_counts"] == {"a": 2, "b": 1, "other": 2}


def test_a_prometheus_may_ask(monitor: MetricsMonitor) -> None:
    monitor.record_request("/orders", 0.2, service="shop")
    monitor.check(NEVER)
    port = monitor.start_prometheus_server(0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    assert 'http_requests_total{endpoint="/orders",method="GET",service="shop",status="200"} 1.0' in text
    assert "system_memory_usage_percent " in text


async def test_middleware_tells_routes_apart(monitor: MetricsMonitor, registry: CollectorRegistry) -> None:
    async def item(request: Request) -> PlainTextResponse:
        if request.path_params["id"] == "bad":
            raise RuntimeError("broken")
        return PlainTextResponse("ok", 201)

    app = MetricsMiddleware(Starlette(routes=[Route("/items/{id}", item)]), service="shop", monitor=monitor)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        for path in ("/items/1", "/items/2", "/items/bad", "/nowhere"):
            await client.get(path)

    def count(endpoint: str, status: str) -> float | None:
        labels = {"service": "shop", "method": "GET", "endpoint": endpoint, "status": status}
        return registry.get_sample_value("http_requests_total", labels)

    shown = monitor.get_application_metrics()["request_counts"]
    assert sum(shown.values()) == 4
    assert count(next(iter(shown)), "201") == 2
    assert monitor.get_application_metrics()["error_rate"] == 0.25


async def test_health(registry: CollectorRegistry) -> None:
    checks = HealthCheck("shop", "1.2", registry=registry)
    assert (await checks.run()).as_dict().items() >= {"status": "healthy", "service": "shop", "version": "1.2", "components": {}}.items()

    async def database() -> dict[str, Any]:
        return {"connections": 3}

    def cache() -> bool:
        raise ConnectionError("refused")

    checks.add("database", database)
    checks.add("cache", cache, critical=False)
    report = await checks.run()
    assert (report.status, report.http_status) == ("healthy", 200)
    assert report.components["database"]["connections"] == 3
    assert report.components["cache"]["error"] == "ConnectionError: refused"
    checks.add("queue", lambda: False)
    assert (await checks.run()).http_status == 503
    values = {name: registry.get_sample_value("service_health", {"component": name}) for name in ("database", "cache", "queue")}
    assert values == {"database": 1, "cache": 0, "queue": 0}


async def test_latencies_of_functions_coroutines_and_blocks(registry: CollectorRegistry) -> None:
    tracker = LatencyTracker(registry=registry)

    @tracker.track("add")
    def add(a: int, b: int) -> int:
        return a + b

    @tracker.track()
    async def fails() -> None:
        raise KeyError("x")

    assert add(1, b=2) == 3
    with pytest.raises(KeyError):
        await fails()
    with tracker.measure("block"):
        pass

    def count(operation: str, outcome: str) -> float | None:
        return registry.get_sample_value("operation_duration_seconds_count", {"operation": operation, "outcome": outcome})

    assert (count("add", "success"), count("block", "success"), count(fails.__qualname__, "error")) == (1, 1, 1)


def test_errors_are_counted_logged_and_kept(registry: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    reporter = ErrorReporter("shop", registry=registry)
    with caplog.at_level(logging.ERROR, "vedette.sdk"), pytest.raises(ZeroDivisionError), reporter.reporting("price", order=7):
        _ = 1 / 0
    assert registry.get_sample_value("service_errors_total", {"service": "shop", "type": "ZeroDivisionError", "where": "price"}) == 1
    assert "ZeroDivisionError in price: division by zero" in caplog.text
    (last,) = reporter.last()
    assert (last["type"], last["where"], last["context"]) == ("ZeroDivisionError", "price", {"order": 7})
    for n in range(200):
        reporter.report(ValueError(str(n)))
    assert [e["message"] for e in reporter.last()][:2] == ["199", "198"]
    assert len(reporter.last()) == 100
