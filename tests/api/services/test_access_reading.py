"""The access layer's series, trends, statistics, aggregates and health, with what was tracked through its own door."""

from __future__ import annotations

import gzip
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.api.services import trends
from vedette.api.services.aggregates import aggregated, increases
from vedette.api.services.settings import ServicesSettings
from vedette.api.services.shared import Kinds, shown_time
from vedette.errors import BadInput
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.samples import STALE
from vedette.model.series import SeriesSet

COUNTER = {
    "name": "api_requests_total",
    "value": 1,
    "type": "counter",
    "labels": {"service": "gateway", "endpoint": "/api/v1/instruments"},
    "service": "gateway-service",
    "tenant_id": "tenant-1",
}
SECONDS = {"name": "response_time_seconds", "value": 0.042, "type": "histogram", "labels": COUNTER["labels"], "service": "gateway-service"}


async def test_the_documents_series(own: Any, services: Any) -> None:
    client = own("access_layer")
    assert (await client.post("/metrics/track", json=COUNTER)).status_code == 200
    now = shown_time(int(services.clock.now() * 1000))
    answer = await client.get("/metrics/series?service=gateway-service&limit=10")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "series": [
            {
                "name": "api_requests_total",
                "type": "counter",
                "labels": {"service": "gateway", "endpoint": "/api/v1/instruments"},
                "service": "gateway-service",
                "tenant_id": "tenant-1",
                "points": [{"value": 1.0, "timestamp": now}],
            }
        ],
        "total": 1,
        "timestamp": now,
    }
    assert (await client.get("/metrics/series")).json()["series"] == answer.json()["series"], "whose it is shows without asking, too"


async def test_series_are_limited_and_filtered(client: httpx.AsyncClient, services: Any) -> None:
    for i in range(5):
        services.put({"__name__": f"m{i}", "job": "a"}, *((j / 10, float(j)) for j in range(50)))
    services.put({"__name__": "m0", "job": "b", "tenant_id": "t"}, (1, 1.0))
    services.put({"__name__": "m0", "job": "a", "more": "labels"}, (1, 9.0))
    services.put({"__name__": "yesterday", "job": "a"}, (60 * 25, 1.0))
    body = (await client.get("/metrics/series?service=a&limit=2&points=3")).json()
    assert body["total"] == 6
    assert [s["name"] for s in body["series"]] == ["m0", "m0"]
    assert [p["value"] for p in body["series"][0]["points"]] == [2.0, 1.0, 0.0], "the newest, the oldest of them first"
    assert body["series"][1]["labels"] == {"more": "labels"}
    assert (await client.get("/metrics/series?name=m3")).json()["total"] == 1
    (other,) = (await client.get("/metrics/series?tenant_id=t")).json()["series"]
    assert (other["service"], other["tenant_id"]) == ("b", "t")
    assert (await client.get("/metrics/series?service=nobody")).json()["series"] == []


async def test_the_documents_trend(own: Any, services: Any) -> None:
    values = [85.0, 92.0, 98.0]
    total = 0.0
    for hour, value in enumerate(values):
        for minute in range(60):
            total += value / 60
            ago = 60 * (3 - hour) - minute - 1
            services.put({"__name__": "api_requests_total", "service": "gateway"}, (ago, total))
    services.storage.about("api_requests_total", "counter")
    services.put({"__name__": "api_requests_total", "service": "gateway"}, (180, 0.0))
    answer = await own("access_layer").get("/metrics/trends/api_requests_total?hours=24")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"metric_name", "trend", "change_percent", "data_points"}
    assert (body["metric_name"], body["trend"]) == ("api_requests_total", "increasing")
    assert body["change_percent"] == pytest.approx(15.5, abs=0.6)
    now = int(services.clock.now() * 1000)
    assert [p["timestamp"] for p in body["data_points"]] == [shown_time(now - h * 3_600_000) for h in (3, 2, 1)]
    assert [p["value"] for p in body["data_points"]] == pytest.approx(values, rel=1e-9), "to the digit: nothing is extrapolated"


async def test_a_trends_rises_heed_resets_and_all_series(client: httpx.AsyncClient, services: Any) -> None:
    for host, shift in (("a", 0), ("b", 7)):
        for minute, value in ((119, 100.0), (90, 110.0), (70, 5.0), (50, 6.0), (10, 16.0)):
            services.put({"__name__": "jobs_total", "service": "x", "host": host}, (minute + shift / 60, value))
    body = (await client.get("/metrics/trends/jobs_total?hours=2")).json()
    assert [p["value"] for p in body["data_points"]] == [30, 22], "10 and, after a reset, 5 of each; then 1 and 10"


async def test_a_trend_of_many_series_is_estimated(client: httpx.AsyncClient, services: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trends, "_EXACT_SERIES", 1)
    for host in "ab":
        for minute in range(120, -1, -10):
            services.put({"__name__": "jobs_total", "service": "x", "host": host}, (minute, 120.0 - minute))
    body = (await client.get("/metrics/trends/jobs_total?hours=2")).json()
    assert [p["value"] for p in body["data_points"]] == pytest.approx([120, 120], rel=0.2)


async def test_a_gauges_trend_with_anomalies_and_a_forecast(client: httpx.AsyncClient, services: Any) -> None:
    rng = np.random.default_rng(2)
    for hour in range(72):
        value = 100 - hour + rng.normal(0, 0.5) + (60 if hour == 50 else 0)
        services.put({"__name__": "free_gb", "service": "disk"}, (60 * (72 - hour) - 30, value))
    answer = await client.get("/metrics/trends/free_gb?hours=72&anomalies=true&forecast_hours=6&service=disk")
    body = answer.json()
    assert (body["trend"], len(body["data_points"])) == ("decreasing", 72)
    start = int(services.clock.now() * 1000) - 72 * 3_600_000
    assert shown_time(start + 50 * 3_600_000) in [a["timestamp"] for a in body["anomalies"]]
    worst = max(body["anomalies"], key=lambda a: a["score"])
    assert worst["value"] - worst["expected"] == pytest.approx(60, abs=5)
    assert [f["timestamp"] for f in body["forecast"]] == [shown_time(start + h * 3_600_000) for h in range(72, 78)]
    assert body["forecast"][-1]["value"] == pytest.approx(100 - 77, abs=3)
    assert all(f["lower"] <= f["value"] <= f["upper"] for f in body["forecast"])


async def test_a_histograms_trend_is_of_its_average(client: httpx.AsyncClient, services: Any) -> None:
    for minute in range(0, 121, 5):
        ago = 120 - minute
        services.put({"__name__": "wait_seconds_count", "service": "a"}, (ago, float(minute)))
        services.put({"__name__": "wait_seconds_sum", "service": "a"}, (ago, 0.25 * minute))
    services.storage.about("wait_seconds", "histogram")
    body = (await client.get("/metrics/trends/wait_seconds?hours=2")).json()
    assert [p["value"] for p in body["data_points"]] == pytest.approx([0.25, 0.25])
    assert (body["trend"], body["change_percent"]) == ("stable", 0.0)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/metrics/trends/x?hours=0", "hours"),
        ("/metrics/trends/x?hours=2161", "hours"),
        ("/metrics/trends/x?hours=day", "hours"),
        ("/metrics/trends/x?forecast_hours=169", "forecast_hours"),
        ("/metrics/trends/x?anomalies=perhaps", "anomalies"),
        ("/metrics/series?limit=-1", "limit"),
        ("/metrics/series?points=1001", "points"),
        ("/metrics?aggregated=perhaps", "aggregated"),
        ("/metrics?aggregated=true&format=xml", "format"),
    ],
)
async def test_bad_parameters_are_named(client: httpx.AsyncClient, path: str, name: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["query", name]


async def test_an_unknown_metric_is_404(client: httpx.AsyncClient, services: Any) -> None:
    services.put({"__name__": "x", "service": "a"}, (60 * 48, 1.0))
    assert (await client.get("/metrics/trends/nothing")).status_code == 404
    assert (await client.get("/metrics/trends/x?service=b")).status_code == 404
    empty = (await client.get("/metrics/trends/x")).json()
    assert (empty["trend"], empty["data_points"]) == ("stable", [])


async def test_statistics_count_what_happened(own: Any, services: Any) -> None:
    client = own("access_layer")
    before = (await client.get("/metrics/stats")).json()
    assert before["exporter"] == {"total_exports": 0, "last_export": None}
    answer = await client.post("/metrics/track/batch", json=[COUNTER, SECONDS, {**COUNTER, "type": "gauge"}])
    assert answer.json()["failed"] == 1
    for path in ("/metrics", "/metrics?format=prometheus", "/metrics?format=json&aggregated=true"):
        assert (await client.get(path)).status_code == 200
    now = shown_time(int(services.clock.now() * 1000))
    assert (await client.get("/metrics/stats")).json() == {
        "collector": {"total_points": 2, "total_series": 2, "dropped_points": 1},
        "aggregator": {"total_windows": 1, "aggregated_series": 2},
        "exporter": {"total_exports": 3, "last_export": now},
        "timestamp": now,
    }


async def test_windows_are_those_of_the_retention_in_which_something_came(own: Any, services: Any) -> None:
    client = own("access_layer")

    async def aggregator() -> Any:
        return (await client.get("/metrics/stats")).json()["aggregator"]

    assert await aggregator() == {"total_windows": 0, "aggregated_series": 0}
    for _ in range(3):
        assert (await client.post("/metrics/track", json=COUNTER)).status_code == 200
        await services.clock.advance(300)
    await services.clock.advance(3600)
    refused = await client.post("/metrics/track/batch", json=[{**COUNTER, "value": -1}])
    assert refused.json()["failed"] == 1, "and a window in which nothing was taken is none"
    assert await aggregator() == {"total_windows": 3, "aggregated_series": 1}
    await client.post("/metrics/track", json={**COUNTER, "name": "later_total"})
    assert await aggregator() == {"total_windows": 4, "aggregated_series": 2}
    await services.clock.advance(23 * 3600)
    assert await aggregator() == {"total_windows": 1, "aggregated_series": 1}, "the first three are older than a day"


async def test_statistics_are_each_tenants_own(own: Any, services: Any) -> None:
    client = own("access_layer")
    await client.post("/metrics/track/batch", json=[COUNTER, SECONDS])
    await client.get("/metrics")
    services.tenant = "charlie"
    nothing = (await client.get("/metrics/stats")).json()
    assert nothing["collector"] == {"total_points": 0, "total_series": 0, "dropped_points": 0}
    assert nothing["aggregator"] == {"total_windows": 0, "aggregated_series": 0}
    assert nothing["exporter"] == {"total_exports": 0, "last_export": None}


async def test_one_observation_is_a_rise(own: Any, services: Any) -> None:
    """Of what only rises the first observation counts, too, and nothing is shown that nobody sent."""
    client = own("access_layer")
    assert (await client.post("/metrics/track/batch", json=[COUNTER, SECONDS])).json()["successful"] == 2
    text = (await client.get("/metrics?format=prometheus&aggregated=true")).text
    lines = {line.partition("{")[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if not line.startswith("#")}
    assert lines == {"api_requests_total_avg": 0.2, "api_requests_total_sum": 1, "response_time_seconds_avg": pytest.approx(0.042)}
    series = (await client.get("/metrics/series?name=api_requests_total")).json()["series"]
    assert [[point["value"] for point in one["points"]] for one in series] == [[1]]
    trend = (await client.get("/metrics/trends/api_requests_total")).json()
    assert [point["value"] > 0 for point in trend["data_points"]] == [True]


async def test_the_documents_aggregates(own: Any, services: Any) -> None:
    client = own("access_layer")
    for _ in range(6):
        assert (await client.post("/metrics/track/batch", json=[{**COUNTER, "value": 2.5}, SECONDS])).json()["failed"] == 0
        await services.clock.advance(60)
    text = (await client.get("/metrics?format=prometheus&aggregated=true")).text
    open_text = (await client.get("/metrics?format=openmetrics&aggregated=true")).text
    assert open_text == text + "# EOF\n"
    rest = '{endpoint="/api/v1/instruments",job="gateway-service",service="gateway"'
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines[f'api_requests_total_avg{rest},tenant_id="tenant-1"}}']) == 2.0, (
        "a minute: four times 2.5 within the five that ended now"
    )
    assert float(lines[f'api_requests_total_sum{rest},tenant_id="tenant-1"}}']) == 10
    assert float(lines[f"response_time_seconds_avg{rest}}}"]) == pytest.approx(0.042)
    assert "# TYPE api_requests_total_avg gauge" in text
    assert "# HELP response_time_seconds_avg Average observation of response_time_seconds." in text
    assert "_bucket" not in text


async def test_a_gauges_aggregates_and_a_counters_reset(client: httpx.AsyncClient, services: Any) -> None:
    services.put({"__name__": "g", "job": "a"}, (7, 100.0), (4, 1.0), (3, 2.0), (1, 6.0), kind="gauge")
    services.put({"__name__": "c_total", "job": "a"}, (6, 10.0), (4, 14.0), (2, 3.0), (1, 5.0), kind="counter")
    services.put({"__name__": "born_total", "job": "a"}, (1, 5.0), kind="counter")
    answer = await client.get("/metrics", params={"format": "json", "aggregated": "true", "match[]": '{job="a"}'})
    found = {m["name"]: m["value"] for m in answer.json()["metrics"]}
    assert found == {"g_avg": 3.0, "g_sum": 9.0, "g_min": 1.0, "g_max": 6.0, "c_total_sum": 9.0, "c_total_avg": 1.8}


async def test_values_that_are_no_numbers_make_no_aggregate_and_no_fault(client: httpx.AsyncClient, services: Any) -> None:
    inf = float("inf")
    services.put({"__name__": "g", "job": "a"}, (3, inf), (2, -inf), (1, 1.0), kind="gauge")
    services.put({"__name__": "c_total", "job": "a"}, (3, inf), (2, inf), (1, inf), kind="counter")
    services.put({"__name__": "h_sum", "job": "a"}, (3, 1.0), (1, STALE))
    services.put({"__name__": "stale", "job": "a"}, (2, STALE))
    services.put({"__name__": "small", "job": "a"}, (2, 0.5))
    answer = await client.get("/metrics", params={"format": "json", "aggregated": "true", "match[]": '{job="a"}'})
    assert {m["name"] for m in answer.json()["metrics"]} == {
        *(f"h_sum_{w}" for w in ("avg", "sum", "min", "max")),
        *(f"small_{w}" for w in ("avg", "sum", "min", "max")),
    }


@given(st.lists(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 20)), max_size=12), max_size=4))
def test_rises_are_the_naive_ones(series: list[list[tuple[int, int]]]) -> None:
    """Against a loop over each series' samples; the window begins at 300."""
    columns = [sorted({when: float(value) for when, value in one}.items()) for one in series]
    flat = [sample for one in columns for sample in one]
    table = LabelTable.from_labels([Labels.of(__name__=f"m{i}") for i in range(len(columns))])
    offsets = np.cumsum([0, *map(len, columns)], dtype=np.int64)
    found = SeriesSet(table, offsets, np.array([t for t, _ in flat], dtype=np.int64), np.array([v for _, v in flat], dtype=np.float64))
    for one, rise in zip(columns, increases(found, 300).tolist(), strict=True):
        before, after = [v for t, v in one if t <= 300], [v for t, v in one if t > 300]
        chain = [*before[-1:], *after]
        expected = sum(b - a if b >= a else b for a, b in pairwise(chain)) if len(chain) > 1 else None
        assert (None if rise != rise else rise) == expected


async def test_a_large_answer_is_compressed_once(client: httpx.AsyncClient, services: Any) -> None:
    for i in range(200):
        services.put({"__name__": f"metric_{i}", "job": "a"}, (1, float(i)))
    for path in ("/metrics", "/metrics?aggregated=true"):
        async with client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as answer:
            raw = b"".join([part async for part in answer.aiter_raw()])
        assert answer.headers["content-encoding"] == "gzip"
        assert b"metric_199" in gzip.decompress(raw)


async def test_the_documents_health(own: Any, services: Any) -> None:
    body = (await own("access_layer").get("/health")).json()
    assert body == {
        "service": "metrics",
        "status": "ok",
        "uptime_seconds": 5231,
        "dependencies": {"collector": "ok", "aggregator": "ok"},
        "version": "1.0.0",
        "commit": "abc1234",
    }
    services.ready = False
    starting = await own("access_layer").get("/health")
    assert (starting.status_code, starting.json()["status"]) == (200, "starting")


def test_only_the_chosen_aggregates_are_answered() -> None:
    table = LabelTable.from_labels([Labels.of(__name__="g"), Labels.of(__name__="c_total")])
    found = SeriesSet(table, np.array([0, 2, 4]), np.array([1000, 2000, 1000, 2000]), np.array([1.0, 3.0, 1.0, 5.0]))
    kinds = Kinds([])
    window = (0, 60_000)
    assert [(a.labels.metric, a.value) for a in aggregated(found, kinds, window, ("min", "avg"))] == [
        *(("g_avg", 2.0), ("g_min", 1.0), ("c_total_avg", 4.0))
    ]
    assert len(aggregated(found, kinds, window, ServicesSettings().aggregation_types)) == 6
    with pytest.raises(BadInput, match="not an aggregate: 'median'"):
        ServicesSettings(aggregation_types=("avg", "median"))
