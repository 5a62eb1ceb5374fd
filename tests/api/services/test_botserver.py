"""BotServer's monitoring API: the document's shapes, filled with what the test put there or the machine says."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from vedette.api.services.botserver import BASE
from vedette.api.services.machine import Processor
from vedette.api.services.shared import shown_time
from vedette.collect.scrape import TargetState
from vedette.model.labels import Labels
from vedette.rules.defaults import default_groups
from vedette.rules.settings import Thresholds
from vedette.rules.state import ActiveAlert, GroupState, RuleState

BUCKETS = ("0.1", "0.5", "1.0", "+Inf")


def shape(value: Any) -> Any:
    """Keys and kinds of a JSON value; null stands for any."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


@pytest.fixture
def bot(own: Any) -> httpx.AsyncClient:
    client: httpx.AsyncClient = own("botserver")
    return client


def report(services: Any, minutes: int = 60, **labels: str) -> None:
    """An application that answered 60 requests a minute: 40 within 0.1 s, 19 within 0.5 s, one in 0.6 s that failed; 0.15 s on average."""
    labels = {"job": "botserver", **labels}
    for minute in range(minutes + 1):
        ago, total = minutes - minute, 60.0 * minute
        for bucket, share in zip(BUCKETS, (40, 59, 60, 60), strict=True):
            services.put({"__name__": "botserver_request_duration_seconds_bucket", "le": bucket, **labels}, (ago, share * total / 60))
        services.put({"__name__": "botserver_request_duration_seconds_sum", **labels}, (ago, 0.15 * total))
        services.put({"__name__": "botserver_request_duration_seconds_count", **labels}, (ago, total))
        for status, share in (("200", 57), ("404", 2), ("500", 1)):
            services.put({"__name__": "botserver_requests_total", "method": "GET", "status": status, **labels}, (ago, share * total / 60))


async def test_health(bot: httpx.AsyncClient, client: httpx.AsyncClient, services: Any) -> None:
    for one in (bot, client):
        answer = await one.get(f"{BASE}/health")
        assert answer.json() == {"status": "healthy", "timestamp": shown_time(int(services.clock.now() * 1000)), "version": "1.0.0"}
    services.ready = False
    assert (await bot.get(f"{BASE}/health")).json()["status"] == "starting"


async def test_detailed_health_measures_storage_and_fakes_nothing(bot: httpx.AsyncClient, services: Any, monkeypatch: Any) -> None:
    body = (await bot.get(f"{BASE}/health/detailed")).json()
    assert body["status"] == "healthy"
    assert body["timestamp"].endswith("Z")
    storage = body["components"].pop("storage")
    assert shape(storage) == {"status": "str", "latency_ms": "number", "available_gb": "number", "used_gb": "number"}
    assert storage["latency_ms"] > 0
    assert storage["available_gb"] > 0
    assert body["components"] == {name: {"status": "not_configured"} for name in ("database", "cache", "llm")}

    def broken(*_: Any) -> Any:
        raise OSError("input/output error")

    monkeypatch.setattr(services.storage, "select", broken)
    answer = await bot.get(f"{BASE}/health/detailed")
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["components"]["storage"] == {"status": "unhealthy", "error": "input/output error"}
    services.ready = False
    assert (await bot.get(f"{BASE}/health/detailed")).json()["components"]["storage"] == {"status": "starting"}


async def test_what_a_disk_keeps_in_reserve_counts_as_used_as_the_alert_has_it(bot: httpx.AsyncClient, monkeypatch: Any) -> None:
    """Else a disk that the default alert calls full would be half empty here."""
    gib = 1 << 30
    monkeypatch.setattr("psutil.disk_usage", lambda path: SimpleNamespace(total=100 * gib, used=30 * gib, free=15 * gib, percent=66.7))
    disk = (await bot.get(f"{BASE}/metrics")).json()["system"]["disk"]
    assert disk == {"total_gb": 100.0, "used_gb": 85.0, "free_gb": 15.0, "usage_percent": 85.0}
    monkeypatch.setattr("psutil.disk_usage", lambda path: SimpleNamespace(total=0, used=0, free=0, percent=0.0))
    assert (await bot.get(f"{BASE}/metrics")).json()["system"]["disk"]["usage_percent"] == 0.0


async def test_system_metrics_have_the_documents_shape(bot: httpx.AsyncClient, services: Any) -> None:
    await services.clock.advance(1)
    body = (await bot.get(f"{BASE}/metrics")).json()
    percent = body["system"]["cpu"].pop("usage_percent")
    assert percent is None or 0 <= percent <= 100
    space = dict.fromkeys(("total_gb", "used_gb", "free_gb", "usage_percent"), "number")
    assert shape(body) == {
        "system": {
            "cpu": {"cores": "number", "load_average": ["number"]},
            "memory": space,
            "disk": space,
            "network": dict.fromkeys(("bytes_sent", "bytes_received", "packets_sent", "packets_received"), "number"),
        },
        "timestamp": "str",
    }
    system = body["system"]
    assert system["cpu"]["cores"] == os.cpu_count()
    assert len(system["cpu"]["load_average"]) == 3
    for space in (system["memory"], system["disk"]):
        assert space["used_gb"] + space["free_gb"] == pytest.approx(space["total_gb"], abs=0.02)


def test_a_busy_processor_shows() -> None:
    times = iter((0.0, 0.1, 5.0, 5.1))
    seen = Processor(lambda: next(times))
    assert seen.percent() is None, "a tenth of a second tells nothing"
    for i in range(2_000_000):
        i * i
    percent = seen.percent()
    assert percent is not None
    assert 0 < percent <= 100
    assert seen.percent() == percent, "asked again at once, it has nothing new to say"


async def test_application_metrics_of_an_application(bot: httpx.AsyncClient, services: Any) -> None:
    report(services)
    services.put({"__name__": "botserver_sessions_active", "job": "botserver"}, (0, 234.0))
    services.put({"__name__": "botserver_session_duration_seconds_sum", "job": "botserver"}, (60, 0.0), (0, 9000.0))
    services.put({"__name__": "botserver_session_duration_seconds_count", "job": "botserver"}, (60, 0.0), (0, 10.0))
    services.put({"__name__": "botserver_requests_total", "job": "vedette", "status": "500"}, (0, 1e9))
    found = (await bot.get(f"{BASE}/metrics/application")).json()["application"]
    assert found["uptime_seconds"] == 5231
    assert found["requests"] == {"total": 3600, "rate_per_second": 1.0, "average_latency_ms": 150.0}
    assert found["sessions"] == {"active": 234.0, "total_today": None, "average_duration_minutes": 15.0}
    assert found["conversations"] == {"status": "not_configured"}
    assert found["errors"] == {"total": 60, "rate_per_hour": 60.0, "last_error": shown_time(int(services.clock.now() * 1000))}


async def test_application_metrics_of_vedette_itself_where_nobody_reports(bot: httpx.AsyncClient, services: Any) -> None:
    for status, seconds in ((200, 0.1), (503, 0.3)):
        services.http.observe("/x", "GET", status, seconds)
    found = (await bot.get(f"{BASE}/metrics/application")).json()["application"]
    assert found["requests"] == {"total": 2, "rate_per_second": None, "average_latency_ms": 200.0}
    assert found["errors"] == {"total": 1, "rate_per_hour": 0.0, "last_error": None}
    assert found["sessions"] == {"status": "not_configured"}


async def test_no_errors_is_none_and_not_unknown(bot: httpx.AsyncClient, services: Any) -> None:
    services.put({"__name__": "botserver_requests_total", "job": "botserver", "status": "200"}, (10, 5.0), (0, 9.0))
    found = (await bot.get(f"{BASE}/metrics/application")).json()["application"]
    assert found["errors"] == {"total": 0, "rate_per_hour": 0.0, "last_error": None}


async def test_performance_in_milliseconds(bot: httpx.AsyncClient, services: Any) -> None:
    report(services, 120)
    body = (await bot.get(f"{BASE}/metrics/performance?period=1h&resolution=minute")).json()
    assert (body["period"], body["resolution"]) == ("1h", "minute")
    times = body["performance"]["response_times"]
    assert times["p50"] == pytest.approx(75.0), "three quarters into the first bucket"
    assert times["p95"] == pytest.approx(100 + 400 * 17 / 19)
    assert times["p99"] == pytest.approx(500 + 500 * 0.4)
    assert (times["mean"], times["min"], times["max"]) == (150.0, 0.0, 1000.0)
    assert body["performance"]["throughput"] == {"requests_per_second": 1.0, "messages_per_second": None, "bytes_per_second": None}
    rates = body["performance"]["error_rates"]
    assert rates == {
        "client_errors": pytest.approx(2 / 60, abs=1e-6),
        "server_errors": pytest.approx(1 / 60, abs=1e-6),
        "timeout_errors": 0.0,
    }


async def test_performance_points_at_the_resolution(bot: httpx.AsyncClient, services: Any) -> None:
    report(services, 180)
    body = (await bot.get(f"{BASE}/metrics/performance")).json()
    assert (body["period"], body["resolution"]) == ("24h", "hour")
    now = int(services.clock.now() * 1000)
    assert [p["timestamp"] for p in body["data_points"]] == [shown_time(now - h * 3_600_000) for h in (2, 1, 0)]
    assert [(p["requests_per_second"], p["mean_ms"]) for p in body["data_points"]] == [(pytest.approx(1.0, abs=0.02), 150.0)] * 3


async def test_performance_of_nothing_is_null(bot: httpx.AsyncClient) -> None:
    body = (await bot.get(f"{BASE}/metrics/performance?period=7d&resolution=day")).json()
    assert body["data_points"] == []
    assert {v for part in body["performance"].values() for v in part.values()} == {None}
    assert list(body["performance"]["response_times"]) == ["p50", "p95", "p99", "mean", "min", "max"]


@pytest.mark.parametrize(
    ("query", "name"), [("period=2h", "period"), ("resolution=second", "resolution"), ("period=30d&resolution=minute", "resolution")]
)
async def test_bad_parameters_are_named(bot: httpx.AsyncClient, query: str, name: str) -> None:
    answer = await bot.get(f"{BASE}/metrics/performance?{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", name]


async def test_status_of_this_server_and_what_it_scrapes(bot: httpx.AsyncClient, services: Any) -> None:
    labels = Labels.of(job="node", instance="a:9100")
    services.targets = [TargetState("node", labels, labels, "http://a:9100/metrics", health="down")]
    mine, *others = (await bot.get(f"{BASE}/status")).json()["services"]
    assert {k: mine[k] for k in ("name", "status", "uptime_seconds", "pid")} == {
        "name": "web_server",
        "status": "running",
        "uptime_seconds": 5231,
        "pid": os.getpid(),
    }
    assert others[:3] == [{"name": n, "status": "not_configured"} for n in ("database", "cache", "llm_server")]
    assert others[3:] == [{"name": "node", "instance": "a:9100", "status": "down", "port": 9100}]


async def test_services_that_are_scraped_say_since_when_they_run(bot: httpx.AsyncClient, services: Any) -> None:
    def target(job: str, instance: str, url: str, health: Any = "up") -> TargetState:
        labels = Labels.of(job=job, instance=instance)
        return TargetState(job, labels, labels, url, health=health)

    services.targets = [
        target("api", "a:8000", "https://a/metrics"),
        target("node", "vm", ""),
        target("silent", "b:1", "http://b:1/metrics"),
        target("gone", "c:2", "http://c:2/metrics", "down"),
    ]
    for labels, value in (
        ({"__name__": "process_start_time_seconds", "job": "api", "instance": "a:8000"}, 43_200),
        ({"__name__": "node_boot_time_seconds", "job": "api", "instance": "a:8000"}, 99),
        ({"__name__": "node_boot_time_seconds", "job": "node", "instance": "vm"}, 172_800),
        ({"__name__": "process_start_time_seconds", "job": "gone", "instance": "c:2"}, 60),
    ):
        services.put(labels, (0, services.clock.now() - value))
    found = (await bot.get(f"{BASE}/status")).json()["services"][4:]
    assert found == [
        {"name": "api", "instance": "a:8000", "status": "running", "port": 443, "uptime_seconds": 43_200},
        {"name": "node", "instance": "vm", "status": "running", "uptime_seconds": 172_800},
        {"name": "silent", "instance": "b:1", "status": "running", "port": 1},
        {"name": "gone", "instance": "c:2", "status": "down", "port": 2},
    ]


async def test_firing_alerts_with_value_and_threshold(bot: httpx.AsyncClient, services: Any) -> None:
    (group,) = default_groups(Thresholds(cpu=80))
    rule = next(r for r in group.rules if r.name == "HighCPUUsage")
    assert (await bot.get(f"{BASE}/alerts")).json() == {"alerts": [], "active_count": 0, "critical_count": 0, "warning_count": 0}

    def state(name: str, expr: str, severity: str, value: float, phase: str = "firing") -> RuleState:
        labels, about = Labels.of(alertname=name, severity=severity), Labels.of(description="CPU usage above 80% for 5 minutes")
        alert = ActiveAlert(labels, about, phase, 1_705_312_500_000, value)
        return RuleState("alerting", name, expr, 0, 0, Labels.of(severity=severity), about, "ok", "", 0.0, 0.0, phase, [alert])

    states = [
        state("HighCPUUsage", rule.expr, "warning", 85.0),
        state("Gone", "absent(up)", "critical", 1.0),
        state("Soon", "a > 1", "warning", 2.0, "pending"),
    ]
    services.groups = [GroupState("g", "f", 15_000, 0, 0.0, 0.0, states)]
    body = (await bot.get(f"{BASE}/alerts")).json()
    assert (body["active_count"], body["critical_count"], body["warning_count"]) == (2, 1, 1)
    first, second = body["alerts"]
    assert len(first.pop("alert_id")) == 16
    assert first == {
        "severity": "warning",
        "type": "HighCPUUsage",
        "service": "",
        "message": "CPU usage above 80% for 5 minutes",
        "triggered_at": "2024-01-15T09:55:00Z",
        "current_value": 85.0,
        "threshold": 80.0,
        "acknowledged": False,
    }
    assert second["threshold"] is None, "absence has none"


async def test_prometheus_text_has_the_documents_metrics(bot: httpx.AsyncClient, services: Any) -> None:
    services.http.observe("/x", "GET", 200, 0.2)
    answer = await bot.get(f"{BASE}/metrics/prometheus")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# HELP botserver_requests_total Total number of requests" in answer.text
    assert 'botserver_requests_total{method="GET",status="200"} 1' in answer.text
    assert "# TYPE botserver_request_duration_seconds histogram" in answer.text
    assert 'botserver_request_duration_seconds_bucket{le="0.5"} 1' in answer.text


async def test_the_dashboards_queries_can_be_asked(bot: httpx.AsyncClient, services: Any) -> None:
    dashboard = (await bot.get(f"{BASE}/metrics/grafana")).json()["dashboard"]
    assert dashboard["title"] == "BotServer Monitoring"
    first = dashboard["panels"][0]
    assert {k: first[k] for k in ("title", "type", "datasource", "query")} == {
        "title": "Request Rate",
        "type": "graph",
        "datasource": "prometheus",
        "query": "rate(botserver_requests_total[5m])",
    }
    for panel in dashboard["panels"]:
        services.promql.parse(panel["query"])
        assert panel["targets"][0]["expr"] == panel["query"]


async def test_debug_info(bot: httpx.AsyncClient) -> None:
    debug = (await bot.get(f"{BASE}/debug/info")).json()["debug"]
    assert shape(debug) == {
        **dict.fromkeys(("goroutines", "memory_allocations", "gc_runs", "open_files"), "number"),
        "environment": "str",
        "config": {"debug_mode": "bool", "log_level": "str"},
    }
    assert debug["environment"] == "production"
    assert debug["config"] == {"debug_mode": False, "log_level": "info"}
    assert min(debug[name] for name in ("goroutines", "memory_allocations", "open_files")) > 0


def test_the_documents_times_are_utc() -> None:
    assert shown_time(1_705_312_500_000) == datetime(2024, 1, 15, 9, 55, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_the_servers_own_requests_are_no_other_tenants(own: Any, services: Any) -> None:
    services.tenant = "charlie"
    application = (await own("botserver").get("/api/v1/monitoring/metrics/application")).json()["application"]
    assert application["requests"] == {"total": None, "rate_per_second": None, "average_latency_ms": None}
    assert application["errors"]["total"] is None
