"""The platform's service metrics: the document's answer, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import httpx
import pytest

from vedette.api.services.platform import step_for
from vedette.api.services.shared import shown_time
from vedette.model.labels import Labels
from vedette.rules.state import ActiveAlert, GroupState, RuleState

SERVICE = "/api/v1/metrics/trading-gateway"
LATENCY = "http_request_duration_seconds"


def histogram(services: Any, averages: list[float], service: str = "trading-gateway") -> None:
    """Ten observations a minute of these averages, the last minute ending now."""
    total = 0.0
    for i in range(len(averages) + 1):
        ago = len(averages) - i
        services.put({"__name__": f"{LATENCY}_count", "service": service}, (ago, 10.0 * i))
        services.put({"__name__": f"{LATENCY}_sum", "service": service}, (ago, total))
        services.put({"__name__": f"{LATENCY}_bucket", "service": service, "le": "+Inf"}, (ago, 10.0 * i))
        total += 10 * averages[i] if i < len(averages) else 0
    services.storage.about(LATENCY, "histogram")


async def test_the_documents_answer(own: Any, services: Any) -> None:
    histogram(services, [0.15] * 6 + [0.18] * 6)
    now = int(services.clock.now())
    window = {"start_time": now - 120, "end_time": now, "step": "1m"}
    answer = await own("platform").get(SERVICE, params={"metric": LATENCY, **window})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["service"], body["metric"]) == ("trading-gateway", LATENCY)
    assert body["timestamps"] == [shown_time((now - 60 * k) * 1000) for k in (2, 1, 0)]
    assert body["values"] == pytest.approx([0.18, 0.18, 0.18])
    assert body["aggregation"] == "average observation"


async def test_an_average_follows_what_is_observed(client: httpx.AsyncClient, services: Any) -> None:
    histogram(services, [0.1] * 5 + [0.3] * 5)
    values = (await client.get(SERVICE, params={"metric": LATENCY, "step": "60s"})).json()["values"]
    assert values[-1] == pytest.approx(0.3)
    assert min(values) == pytest.approx(0.1)
    assert all(b >= a - 1e-9 for a, b in pairwise(values))


async def test_one_series_as_it_is_and_several_together(client: httpx.AsyncClient, services: Any) -> None:
    services.put({"__name__": "queue_depth", "job": "trading-gateway"}, (1, 4.0))
    services.put({"__name__": "queue_depth", "service": "trading-gateway", "job": "pods"}, (1, 8.0))
    services.put({"__name__": "queue_depth", "job": "other"}, (1, 1000.0))
    services.put({"__name__": "orders_total", "service": "trading-gateway", "venue": "a"}, (1, 5.0), kind="counter")
    services.put({"__name__": "orders_total", "service": "trading-gateway", "venue": "b"}, (1, 7.0), kind="counter")
    depth = (await client.get(SERVICE, params={"metric": "queue_depth"})).json()
    assert (depth["values"][-1], depth["aggregation"]) == (6.0, "avg")
    orders = (await client.get(SERVICE, params={"metric": "orders_total"})).json()
    assert (orders["values"][-1], orders["aggregation"]) == (12.0, "sum")
    services.put({"__name__": "queue_depth", "job": "only"}, (1, float("inf")))
    assert (await client.get("/api/v1/metrics/only?metric=queue_depth")).json()["values"][-1] is None


async def test_all_metrics_of_a_service_with_their_latest_values(client: httpx.AsyncClient, services: Any) -> None:
    services.put({"__name__": "up", "job": "trading-gateway", "instance": "a"}, (2, 0.0), (1, 1.0), kind="gauge")
    services.put({"__name__": "old", "job": "trading-gateway"}, (10, 1.0))
    services.put({"__name__": "up", "job": "other"}, (1, 1.0))
    body = (await client.get(SERVICE)).json()
    (only,) = body["metrics"]
    when = shown_time(int(services.clock.now() * 1000) - 60_000)
    labels = {"instance": "a", "job": "trading-gateway"}
    assert body["service"] == "trading-gateway"
    assert only == {"metric": "up", "type": "gauge", "labels": labels, "value": 1.0, "timestamp": when}


async def test_unknown_names_are_404_and_silence_is_empty(client: httpx.AsyncClient, services: Any) -> None:
    services.put({"__name__": "up", "service": "trading-gateway"}, (60 * 24, 1.0))
    assert (await client.get("/api/v1/metrics/nobody")).status_code == 404
    assert (await client.get(SERVICE, params={"metric": "nothing"})).status_code == 404
    assert (await client.get(SERVICE)).json() == {"service": "trading-gateway", "metrics": []}
    silent = (await client.get(SERVICE, params={"metric": "up"})).json()
    assert (silent["timestamps"], silent["values"]) == ([], [])


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("start_time=x", "start_time"),
        ("end_time=2025-02-30", "end_time"),
        ("start_time=2025-04-29T11:00:00Z&end_time=2025-04-29T10:00:00Z", "end_time"),
        ("step=fast", "step"),
        ("step=0", "step"),
        ("step=-5s", "step"),
        ("start_time=2025-04-29T10:00:00Z&end_time=2025-04-30T10:00:00Z&step=1s", "step"),
    ],
)
async def test_bad_parameters_are_named(client: httpx.AsyncClient, query: str, name: str) -> None:
    answer = await client.get(f"{SERVICE}?metric=up&{query}")
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["query", name]


@pytest.mark.parametrize("seconds", [0, 1, 3600, 86_400, 7 * 86_400, 365 * 86_400, 50 * 365 * 86_400])
def test_the_default_step_gives_at_most_a_thousand_points(seconds: int) -> None:
    step = step_for(seconds * 1000)
    assert seconds * 1000 // step + 1 <= 1000
    assert step % 1000 == 0 or seconds > 10**9


async def test_names_that_need_quoting(client: httpx.AsyncClient, services: Any) -> None:
    for name in ('a"b', "a\\b", "a/b", "größe"):
        services.put({"__name__": "x", "service": name}, (1, 1.0))
        answer = await client.get(
            "/api/v1/metrics/" + httpx.URL("", params={"n": name}).query.decode()[2:].replace("+", "%20"), params={"metric": "x"}
        )
        assert answer.json()["values"][-1:] == [1.0], name


async def test_the_documents_alerts_and_health(own: Any, services: Any) -> None:
    labels = {"alertname": "high_cpu_usage", "severity": "warning", "service": "trading-gateway"}
    about = {"description": "CPU usage above 80% for 5 minutes"}
    alert = ActiveAlert(Labels.of(labels), Labels.of(about), "firing", 1_745_921_700_000, 85.0)
    rule = RuleState(
        *("alerting", "high_cpu_usage", "cpu > 80", 300_000, 0, Labels.of(severity="warning"), Labels.of(about)),
        *("ok", "", 0.0, 0.0, "firing", [alert]),
    )
    services.groups = [GroupState("g", "f", 15_000, 0, 0.0, 0.0, [rule])]
    (shown,) = (await own("platform").get("/api/v1/alerts")).json()["alerts"]
    assert {k: shown[k] for k in shown if k != "fingerprint"} == {
        "id": "high_cpu_usage",
        "severity": "warning",
        "service": "trading-gateway",
        "description": "CPU usage above 80% for 5 minutes",
        "start_time": "2025-04-29T10:15:00Z",
        "status": "firing",
    }
    health = (await own("platform").get("/health")).json()
    assert (health["status"], health["version"]) == ("healthy", "1.0.0")
