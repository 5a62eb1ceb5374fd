"""The service APIs as their clients meet them: a running server, every listener open, the documents' examples in order."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import patient

DIALECTS = ("gamiroo", "platform", "botserver", "access_layer", "xscore")
RECORDS = "/api/v1/monitoring/metrics"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def server(module_launch: Any, free_port: Any) -> Any:
    """Vedette with a listener for each dialect; `doors` are their URLs."""
    ports = {dialect: free_port() for dialect in DIALECTS}
    vedette = module_launch.vedette(*(word for d, p in ports.items() for word in ("--listen", f"{d}={p}")))
    vedette.doors = {dialect: f"http://127.0.0.1:{port}" for dialect, port in ports.items()}
    return vedette


def test_the_access_layers_walk(server: Any) -> None:
    url = server.doors["access_layer"]
    health = patient.get(f"{url}/health").json()
    assert (health["service"], health["status"], health["dependencies"]) == ("metrics", "ok", {"collector": "ok", "aggregator": "ok"})
    single = {"name": "test_metric", "value": 42.5, "type": "gauge", "labels": {"service": "test"}, "service": "test-service"}
    assert patient.post(f"{url}/metrics/track", json=single).json() == {"success": True, "message": "Metric tracked successfully"}
    counter = {"name": "test", "value": 1, "type": "counter", "service": "test"}
    assert patient.post(f"{url}/metrics/track", json=counter).status_code == 200
    batch = [
        {"name": "metric1", "value": 1, "type": "counter", "labels": {"service": "test"}, "service": "test-service"},
        {"name": "metric2", "value": 2.5, "type": "gauge", "labels": {"service": "test"}, "service": "test-service"},
    ]
    answer = patient.post(f"{url}/metrics/track/batch", json=batch)
    assert answer.json() == {"success": True, "total": 2, "successful": 2, "failed": 0}
    text = patient.get(f"{url}/metrics?format=prometheus").text
    assert 'metric2{job="test-service",service="test"} 2.5' in text
    assert "# TYPE metric1 counter" in text
    series = patient.get(f"{url}/metrics/series?service=test-service&limit=10").json()
    assert {s["name"] for s in series["series"]} == {"test_metric", "metric1", "metric2"}
    assert patient.get(f"{url}/metrics/trends/test_metric?hours=24").json()["data_points"][0]["value"] == 42.5
    aggregated = patient.get(f"{url}/metrics?format=prometheus&aggregated=true").text
    assert 'metric2_avg{job="test-service",service="test"} 2.5' in aggregated
    stats = patient.get(f"{url}/metrics/stats").json()
    assert stats["collector"] == {"total_points": 4, "total_series": 4, "dropped_points": 0}
    assert stats["exporter"]["total_exports"] >= 2


def test_the_documents_own_metrics_are_exposed(server: Any) -> None:
    url = server.doors["access_layer"]
    tracked = {"name": "timed", "value": 1, "service": "test"}
    assert patient.post(f"{url}/metrics/track", json=tracked).status_code == 200
    lines = [line for line in patient.get(f"{url}/metrics").text.splitlines() if line.startswith("metrics_")]
    values = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
    assert values["metrics_collected_total"] >= 1
    assert values["metrics_collection_duration_seconds_count"] >= 1
    assert values["metrics_collection_duration_seconds_sum"] > 0
    assert values["metrics_series_total"] >= 1
    assert values["metrics_points_total"] >= 1
    assert values["metrics_errors_total"] == 0
    assert "metrics_exported_total" in values


def test_gamiroos_walk(server: Any) -> None:
    url = server.doors["gamiroo"] + RECORDS
    now = datetime.now(UTC).replace(microsecond=0)
    at = now.isoformat().replace("+00:00", "Z")
    record = {"service_name": "User Service", "metric_name": "CPU_usage", "value": 72.5, "recorded_at": at}
    stored = patient.post(url, json=record)
    assert stored.status_code == 201, stored.text
    day = now.date().isoformat()
    query = f"service_name=User%20Service&metric_name=CPU_usage&start_date={day}T00:00:00Z&end_date={day}T23:59:59Z"
    answer = patient.get(f"{url}?{query}", headers={"Content-Type": "application/json"})
    assert answer.json() == [stored.json()]
    everything = patient.get(url).json()
    assert stored.json() in everything
    assert "node_load1" in {r["metric_name"] for r in everything}, "what Vedette collects is there, too"
    assert patient.get(f"{server.url}{RECORDS}?service_name=User%20Service").json() == [stored.json()]
    too_old = patient.post(url, json={**record, "recorded_at": "2001-01-01T00:00:00Z"})
    assert too_old.status_code == 422
    assert too_old.json()["detail"][0]["loc"] == ["body", "recorded_at"]
    ahead = patient.post(url, json={**record, "recorded_at": "2999-01-01T00:00:00Z"})
    assert (ahead.status_code, ahead.json()["detail"][0]["msg"]) == (422, "too far ahead of this server's clock")


def test_ids_and_records_outlive_a_restart(module_launch: Any, tmp_path: Path) -> None:
    first = module_launch.vedette(data=tmp_path / "kept")
    stored = first.post(RECORDS, json=[{"service_name": "a", "metric_name": "b", "value": 1.0}]).json()
    assert first.terminate() == 0
    again = module_launch.vedette(data=tmp_path / "kept")
    assert again.get(RECORDS, service_name="a").json() == stored
    assert again.terminate() == 0


def test_the_platforms_walk(server: Any, tools: Any) -> None:
    url = server.doors["platform"]
    assert patient.get(f"{url}/health").json()["status"] == "healthy"
    # This machine's own alerts may fire, if it is busy enough.
    assert not [a for a in patient.get(f"{url}/api/v1/alerts").json()["alerts"] if a["service"] == "trading-gateway"]
    asked = {
        "matcher": {"service": "trading-gateway", "severity": "warning"},
        "duration_minutes": 60,
        "created_by": "admin",
        "comment": "Investigating high CPU usage",
    }
    silence = patient.post(f"{url}/api/v1/alerts/silence", json=asked).json()
    assert {k: silence[k] for k in asked} == asked
    assert patient.get(f"{url}/api/v1/alerts/silence/{silence['id']}").json()["status"] == "active"
    assert patient.delete(f"{url}/api/v1/alerts/silence/{silence['id']}").json()["status"] == "expired"
    now = int(time.time())
    name = {"service": "trading-gateway"}
    for part, factor in (("count", 1.0), ("sum", 0.15)):
        samples = [((now - 600 + 15 * i) * 1000, factor * i) for i in range(40)]
        assert server.write([({"__name__": f"http_request_duration_seconds_{part}", **name}, samples)]).status_code == 204
    span = {"start_time": now - 120, "end_time": now - 60, "step": "30s"}
    body = patient.get(f"{url}/api/v1/metrics/trading-gateway", params={"metric": "http_request_duration_seconds", **span}).json()
    assert body["values"] == pytest.approx([0.15] * 3)
    assert len(body["timestamps"]) == 3
    listed = patient.get(f"{url}/api/v1/metrics/trading-gateway").json()["metrics"]
    assert {m["metric"] for m in listed} == {"http_request_duration_seconds_count", "http_request_duration_seconds_sum"}
    assert patient.get(f"{url}/api/v1/metrics/nobody").status_code == 404


def test_botservers_walk(server: Any, tools: Any) -> None:
    url = server.doors["botserver"] + "/api/v1/monitoring"
    for path in ("/health", "/health/detailed", "/metrics", "/metrics/application", "/metrics/performance?period=24h&resolution=hour"):
        answer = patient.get(url + path)
        assert answer.status_code == 200, path
    for path in ("/status", "/alerts", "/metrics/prometheus", "/metrics/grafana", "/debug/info"):
        assert patient.get(url + path).status_code == 200, path
    mine = patient.get(f"{url}/status").json()["services"][0]
    assert mine["pid"] == server.popen.pid
    assert mine["port"] == int(server.doors["botserver"].rpartition(":")[2])
    application = patient.get(f"{url}/metrics/application").json()["application"]
    assert application["requests"]["total"] >= 10
    assert application["requests"]["average_latency_ms"] > 0


def test_a_webhook_whose_name_cannot_be_resolved_just_now_is_taken_and_a_private_one_is_not(server: Any) -> None:
    url = server.doors["botserver"] + "/api/v1/monitoring/alerts/configure"
    asked = {"name": "told", "type": "threshold", "metric": "memory.usage_percent", "condition": "greater_than", "threshold": 101}
    unknown = patient.post(url, json={**asked, "notify": {"webhook": "https://nobody.invalid/alerts"}})
    assert unknown.status_code == 201, unknown.text
    private = patient.post(url, json={**asked, "notify": {"webhook": "http://127.0.0.1:9/alerts"}})
    assert private.status_code == 422, private.text
    assert "127.0.0.1 is not a public address" in private.text


def test_every_door_describes_itself(server: Any) -> None:
    for dialect, path in (("gamiroo", RECORDS), ("platform", "/api/v1/alerts/silence"), ("xscore", "/api/metrics")):
        paths = patient.get(f"{server.doors[dialect]}/openapi.json").json()["paths"]
        assert path in paths
        assert "/api/v1/query" not in paths
        page = patient.get(f"{server.doors[dialect]}/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert f"<code>{path}</code>" in page.text
        assert "<code>/api/v1/query</code>" not in page.text


def test_xscores_walk(server: Any) -> None:
    url = server.doors["xscore"]
    assert {"system", "application"} <= set(patient.get(f"{url}/api/metrics").json())
    assert "node_cpu_seconds_total" in patient.get(f"{url}/metrics").text
    counts = patient.get(f"{url}/api/metrics/application").json()["request_counts"]
    assert counts["/metrics"] >= 1


def test_prometheus_port_opens_a_door(launch: Any, tools: Any, free_port: Any) -> None:
    port = free_port()
    launch.vedette(env=tools.environment(PROMETHEUS_PORT=str(port)))
    assert "vedette_http_requests_total" in patient.get(f"http://127.0.0.1:{port}/metrics").text


def test_a_port_in_use_is_one_line_before_any_data(tools: Any, tmp_path: Path, free_port: Any) -> None:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "vedette",
        "serve",
        "--data",
        str(tmp_path / "data"),
        "--port",
        str(port),
        "--listen",
        f"xscore={port}",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=tools.environment(), timeout=patient.SECONDS, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "--listen" in done.stderr
    assert not (tmp_path / "data").exists()


def test_with_a_key_the_dialects_ask_for_it_but_health_does_not(launch: Any, tools: Any) -> None:
    server = launch.vedette(env=tools.environment(API_KEY="open-sesame"))
    assert server.get("/api/v1/monitoring/health").status_code == 200
    for path in (f"{RECORDS}?limit=1", "/api/metrics", "/api/v1/monitoring/debug/info", "/metrics/series", "/api/v1/metrics/a"):
        refused = server.get(path)
        assert refused.status_code == 401, path
        assert json.loads(refused.text)["status"] == "error"
    answer = server.client.get(f"{server.url}/api/metrics", headers={"Authorization": "Bearer open-sesame"})
    assert answer.status_code == 200
