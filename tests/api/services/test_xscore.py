"""XScore's metrics: system, application, both; Prometheus text on the same listener."""

from __future__ import annotations

from typing import Any

import psutil
import pytest


@pytest.fixture
def observed(services: Any) -> Any:
    for path, status, seconds in (("/score", 200, 0.1), ("/score", 500, 0.3), ("/health", 200, 0.01)):
        services.http.observe(path, "GET", status, seconds)
    return services


async def test_all_metrics_are_both_parts(own: Any, observed: Any) -> None:
    client = own("xscore")
    body = (await client.get("/api/metrics")).json()
    assert set(body) == {"timestamp", "system", "application"}
    system = (await client.get("/api/metrics/system")).json()
    assert set(system) == {"timestamp", *body["system"]}
    application = (await client.get("/api/metrics/application")).json()
    assert application == {"timestamp": body["timestamp"], **body["application"]}


async def test_system_metrics_are_bytes_and_per_cent(own: Any, observed: Any) -> None:
    body = (await own("xscore").get("/api/metrics/system")).json()
    assert body["memory"]["total"] == psutil.virtual_memory().total
    assert body["memory"]["used"] + body["memory"]["available"] == body["memory"]["total"]
    assert set(body["disk"]) == {"total", "used", "free", "usage_percent"}
    assert body["disk"]["total"] == psutil.disk_usage("/").total
    assert "usage_percent" in body["cpu"]


async def test_application_metrics_are_by_endpoint(own: Any, observed: Any) -> None:
    body = (await own("xscore").get("/api/metrics/application")).json()
    assert body["request_counts"] == {"/score": 2, "/health": 1}
    assert body["response_times"] == {"/score": pytest.approx(0.2), "/health": pytest.approx(0.01)}
    assert body["error_counts"] == {"/score": 1, "/health": 0}
    assert (body["total_requests"], body["total_errors"], body["error_rate"]) == (3, 1, pytest.approx(1 / 3))
    assert body["uptime_seconds"] == 5231


async def test_prometheus_can_scrape_the_same_listener(own: Any, observed: Any) -> None:
    answer = await own("xscore").get("/metrics")
    assert answer.status_code == 200
    assert "vedette_http_requests_total" in answer.text
