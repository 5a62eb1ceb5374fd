"""The access layer's tracking over HTTP: the document's own examples, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from vedette.api.endpoint import routes
from vedette.api.services.access_layer import MAX_BODY_BYTES, endpoints
from vedette.clock import ManualClock
from vedette.errors import LimitExceeded
from vedette.ingest.settings import TrackSettings
from vedette.ingest.track import Tracker

COUNTER = {
    "name": "api_requests_total",
    "value": 1,
    "type": "counter",
    "labels": {"service": "gateway", "endpoint": "/api/v1/instruments", "method": "GET", "status_code": "200"},
    "service": "gateway-service",
    "tenant_id": "tenant-1",
}
SERIES = (
    'api_requests_total{endpoint="/api/v1/instruments", job="gateway-service", method="GET", service="gateway", status_code="200", '
    'tenant_id="tenant-1"}'
)


@pytest.fixture
def client(storage: Any, clock: ManualClock, run: Any, serve: Any) -> httpx.AsyncClient:
    tracker = Tracker(storage, storage.append, run=run, clock=clock, settings=TrackSettings(max_series=10))
    settings = TrackSettings()
    made: httpx.AsyncClient = serve(routes(endpoints(tracker, tenant_of=lambda scope: "default", clock=clock, settings=settings)))
    return made


def stored(storage: Any) -> dict[str, float]:
    return {str(labels): samples[max(samples)] for labels, samples in storage.tenants.get("default", {}).items()}


async def test_the_documents_single_metric(client: httpx.AsyncClient, storage: Any) -> None:
    for _ in range(2):
        answer = await client.post("/metrics/track", json=COUNTER)
        assert (answer.status_code, answer.json()) == (200, {"success": True, "message": "Metric tracked successfully"})
    assert stored(storage) == {SERIES: 2.0}


async def test_what_is_null_is_as_if_absent(client: httpx.AsyncClient, storage: Any) -> None:
    body = {"name": "plain", "value": 3, "type": "gauge", "labels": None, "service": None, "tenant_id": None}
    assert (await client.post("/metrics/track", json=body)).status_code == 200
    assert stored(storage) == {"plain": 3.0}


async def test_the_documents_batch(client: httpx.AsyncClient, storage: Any) -> None:
    labels = {"service": "gateway", "endpoint": "/api/v1/instruments"}
    batch = [
        {"name": "api_requests_total", "value": 1, "type": "counter", "labels": labels, "service": "gateway-service"},
        {"name": "response_time_seconds", "value": 0.042, "type": "histogram", "labels": labels, "service": "gateway-service"},
    ]
    answer = await client.post("/metrics/track/batch", json=batch)
    assert (answer.status_code, answer.json()) == (200, {"success": True, "total": 2, "successful": 2, "failed": 0})
    rest = 'endpoint="/api/v1/instruments", job="gateway-service"'
    assert stored(storage)[f'response_time_seconds_bucket{{{rest}, le="0.05", service="gateway"}}'] == 1
    assert stored(storage)[f'response_time_seconds_bucket{{{rest}, le="0.025", service="gateway"}}'] == 0


async def test_the_documents_shortest_metric(client: httpx.AsyncClient, storage: Any) -> None:
    assert (await client.post("/metrics/track", json={"name": "test", "value": 1, "type": "counter", "service": "test"})).status_code == 200
    assert stored(storage) == {'test{service="test"}': 1}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Content-Type": "application/vnd.acme+json"}, 200),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 200),  # what `curl -d` calls everything
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "image/png"}, 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "application/json", "Content-Encoding": "identity"}, 200),
    ],
)
async def test_what_says_that_it_is_not_json_is_refused(client: httpx.AsyncClient, headers: dict[str, str], status: int) -> None:
    answer = await client.post("/metrics/track", content=b'{"name":"x","value":1}', headers=headers)
    assert answer.status_code == status, answer.text
    if status == 415:
        assert "unsupported" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        (b"", ["body"]),
        (b"{", ["body"]),
        (b'"\xff"', ["body"]),
        (b"[]", ["body"]),
        (b'{"value": 1}', ["body", "name"]),
        (b'{"name": "x"}', ["body", "value"]),
        (b'{"name": 1, "value": 1}', ["body", "name"]),
        (b'{"name": "", "value": 1}', ["body", "name"]),
        (b'{"name": "x", "value": "1"}', ["body", "value"]),
        (b'{"name": "x", "value": true}', ["body", "value"]),
        (b'{"name": "x", "value": null}', ["body", "value"]),
        (b'{"name": "x", "value": -1, "type": "counter"}', ["body", "value"]),
        (b'{"name": "x", "value": 1, "type": "meter"}', ["body", "type"]),
        (b'{"name": "x", "value": 1, "labels": {"a": 1}}', ["body", "labels"]),
        (b'{"name": "x", "value": 1, "labels": ["a"]}', ["body", "labels"]),
        (b'{"name": "x", "value": 1, "labels": {"__x": "1"}}', ["body", "labels", "__x"]),
        (b'{"name": "x", "value": 1, "service": 7}', ["body", "service"]),
    ],
)
async def test_bad_metrics_are_pointed_at(client: httpx.AsyncClient, storage: Any, body: bytes, loc: list[str]) -> None:
    answer = await client.post("/metrics/track", content=body)
    assert answer.status_code == 422
    (found,) = answer.json()["detail"]
    assert found["loc"] == loc
    assert found["msg"]
    assert storage.appends == 0


async def test_huge_numbers(client: httpx.AsyncClient) -> None:
    assert (await client.post("/metrics/track", content=b'{"name":"x","value":1e999}')).status_code == 422
    assert (await client.post("/metrics/track", content=b'{"name":"x","value":' + b"9" * 400 + b"}")).status_code == 422


async def test_a_batch_is_atomic_per_item(client: httpx.AsyncClient, storage: Any) -> None:
    batch = [{"name": "a", "value": 1}, {"name": "b", "value": "x"}, 7, {"name": "c", "value": 2}, {"name": "", "value": 1}]
    answer = await client.post("/metrics/track/batch", json=batch)
    body = answer.json()
    assert answer.status_code == 200
    assert (body["success"], body["total"], body["successful"], body["failed"]) == (False, 5, 2, 3)
    assert [e["index"] for e in body["errors"]] == [1, 2, 4]
    assert body["errors"][0]["reason"].startswith("value: ")
    assert stored(storage) == {"a": 1, "c": 2}


@pytest.mark.parametrize("body", [b"", b"{}", b'{"name": "x", "value": 1}', b"[1,", b'[{"name": "x", "value": 1}'])
async def test_a_body_that_is_no_batch(client: httpx.AsyncClient, storage: Any, body: bytes) -> None:
    assert (await client.post("/metrics/track/batch", content=body)).status_code == 422
    assert storage.appends == 0


async def test_an_empty_batch(client: httpx.AsyncClient) -> None:
    assert (await client.post("/metrics/track/batch", json=[])).json() == {"success": True, "total": 0, "successful": 0, "failed": 0}


async def test_the_limit_of_series(client: httpx.AsyncClient, storage: Any) -> None:
    batch = [{"name": "x", "value": 1, "labels": {"n": str(i)}} for i in range(12)]
    some = await client.post("/metrics/track/batch", json=batch)
    assert (some.status_code, some.json()["successful"], some.json()["failed"]) == (200, 10, 2)
    assert "more than 10 series" in some.json()["errors"][0]["reason"]
    none = await client.post("/metrics/track/batch", json=batch[10:])
    assert (none.status_code, none.json()["failed"]) == (429, 2)
    one = await client.post("/metrics/track", json=batch[11])
    assert (one.status_code, "series" in one.json()["detail"]) == (429, True)
    assert len(stored(storage)) == 10


async def test_a_large_batch(client: httpx.AsyncClient, storage: Any) -> None:
    batch = [{"name": "x", "value": 1, "type": "counter", "labels": {"n": str(i % 10), "pad": "p" * 20}} for i in range(2000)]
    assert (await client.post("/metrics/track/batch", json=[*batch, {"name": "x"}])).json()["failed"] == 1
    assert set(stored(storage).values()) == {200.0}


async def test_bounds_of_a_request(client: httpx.AsyncClient) -> None:
    assert (await client.post("/metrics/track", content=b" " * (MAX_BODY_BYTES + 1))).status_code == 413
    answer = await client.post("/metrics/track/batch", content=b"[" + b"1," * TrackSettings().batch_size + b"1]")
    assert (answer.status_code, f"{TrackSettings().batch_size + 1} metrics" in answer.json()["detail"][0]["msg"]) == (422, True)


async def test_a_full_disk_and_a_fault(client: httpx.AsyncClient, storage: Any) -> None:
    storage.failing = LimitExceeded("the disk is full", retry_after=3)
    answer = await client.post("/metrics/track", json=COUNTER)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (503, "3", {"detail": "the disk is full"})
    storage.failing = RuntimeError("insides")
    answer = await client.post("/metrics/track", json=COUNTER)
    assert (answer.status_code, "insides" in answer.text) == (500, False)


async def test_a_request_that_waits_too_long_is_told_so_and_its_metrics_still_come(
    storage: Any, clock: ManualClock, run: Any, serve: Any
) -> None:
    gate = asyncio.Event()

    async def append(batch: Any) -> Any:
        await gate.wait()
        return await storage.append(batch)

    settings = TrackSettings(timeout=1)
    tracker = Tracker(storage, append, run=run, clock=clock, settings=settings)
    client: httpx.AsyncClient = serve(routes(endpoints(tracker, tenant_of=lambda scope: "default", clock=clock, settings=settings)))
    late = await client.post("/metrics/track", json=COUNTER)
    assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    assert "not stored within 0.001 s" in late.json()["detail"]
    gate.set()
    await tracker.close()
    assert stored(storage) == {SERIES: 1.0}


async def test_a_batch_may_be_as_long_as_the_settings_say(storage: Any, clock: ManualClock, run: Any, serve: Any) -> None:
    settings = TrackSettings(batch_size=2)
    tracker = Tracker(storage, storage.append, run=run, clock=clock, settings=settings)
    client: httpx.AsyncClient = serve(routes(endpoints(tracker, tenant_of=lambda scope: "default", clock=clock, settings=settings)))
    assert (await client.post("/metrics/track/batch", json=[COUNTER] * 2)).json()["successful"] == 2
    refused = await client.post("/metrics/track/batch", json=[COUNTER] * 3)
    assert (refused.status_code, refused.json()["detail"][0]["msg"]) == (422, "3 metrics in one batch (at most 2, by track.batch_size)")


async def test_one_line_a_second_says_what_was_collected(client: httpx.AsyncClient, clock: ManualClock) -> None:
    with capture_logs() as logs:
        for _ in range(5):
            await client.post("/metrics/track", json=COUNTER)
        await clock.advance(1)
        await client.post("/metrics/track/batch", json=[COUNTER, {"name": ""}])
    assert [(line["action"], line.get("metric_name"), line.get("metrics"), line.get("held_back")) for line in logs] == [
        ("metric_collected", "api_requests_total", None, None),
        ("metric_collected", None, 1, 4),
    ]
    assert logs[0]["event"] == "Metric collected successfully"
