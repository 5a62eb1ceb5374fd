"""OTLP metrics over HTTP: OpenTelemetry's own exporter in, PromQL out; encodings, partial success, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from starlette.applications import Starlette
from structlog.testing import capture_logs

from vedette.api.endpoint import routes
from vedette.api.otlp import Otlp, endpoints
from vedette.clock import ManualClock, SystemClock
from vedette.ingest.door import Door
from vedette.ingest.settings import OtlpConfig
from vedette.model.labels import Labels
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings

NOW_MS = 1_700_000_000_000
PATH = "/api/v1/otlp/v1/metrics"
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


def body(time_ms: int = NOW_MS, *, temporality: int = 2) -> dict[str, Any]:
    point = {"timeUnixNano": str(time_ms * 1_000_000), "asDouble": 5}
    metrics = [
        {"name": "my.gauge", "gauge": {"dataPoints": [point]}},
        {"name": "my.counter", "sum": {"aggregationTemporality": temporality, "isMonotonic": True, "dataPoints": [point]}},
    ]
    return {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(StorageSettings(data=tmp_path / "data", retention=0), SystemClock())
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture
def client(engine: Engine, run: Any, serve: Any) -> httpx.AsyncClient:
    clock = ManualClock(NOW_MS / 1000)
    made: httpx.AsyncClient = serve(
        routes(endpoints(Otlp(Door(engine, clock).append, run, clock, lambda scope: scope.get("tenant", "default"), OtlpConfig)))
    )
    return made


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The URL at which an application answers over real HTTP."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


def stored(engine: Engine) -> dict[str, float]:
    found = engine.select("default", [], 0, 1 << 62)
    return {str(labels): float(found.values[found.offsets[i]]) for i, labels in enumerate(found.labels)}


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
async def test_the_sdk_exports_and_the_samples_are_there(engine: Engine, run: Any, compression: Compression) -> None:
    clock = SystemClock()
    app = Starlette(routes=routes(endpoints(Otlp(Door(engine, clock).append, run, clock, lambda scope: "default", OtlpConfig))))
    async with serving(app) as url:
        reader = InMemoryMetricReader()
        views = [View(instrument_type=Histogram, instrument_name="fine", aggregation=ExponentialBucketHistogramAggregation())]
        resource = Resource({"service.name": "shop", "service.instance.id": "1", "host.name": "h"})
        provider = MeterProvider([reader], resource=resource, views=views, shutdown_on_exit=False)
        meter = provider.get_meter("lib", "1.0")
        meter.create_counter("http.requests", "1").add(3, {"http.method": "GET"})
        meter.create_up_down_counter("queue.size").add(-2)
        meter.create_gauge("temperature", "Cel").set(21.5)
        meter.create_histogram("latency", "s").record(0.2)
        meter.create_histogram("fine").record(3.0)
        exporter = OTLPMetricExporter(endpoint=url + PATH, compression=compression)
        result = await asyncio.to_thread(exporter.export, reader.get_metrics_data())
        exporter.shutdown()
        provider.shutdown()
    assert result is MetricExportResult.SUCCESS
    found = stored(engine)
    base = 'instance="1", job="shop"'
    assert found[f'http_requests_total{{http_method="GET", {base}}}'] == 3.0
    assert found[f"queue_size{{{base}}}"] == -2.0
    assert found[f"temperature_celsius{{{base}}}"] == 21.5
    assert found[f"latency_seconds_sum{{{base}}}"] == 0.2
    assert found[f'latency_seconds_bucket{{{base}, le="+Inf"}}'] == 1.0
    assert any(key.startswith('target_info{host_name="h"') for key in found)
    native = engine.select("default", [], 0, 1 << 62).histograms
    assert native is not None
    assert (native.sample(0).count, native.sample(0).sum) == (1.0, 3.0)


@pytest.mark.parametrize("path", [PATH, "/v1/metrics"])
async def test_json_is_answered_in_json(client: httpx.AsyncClient, engine: Engine, path: str) -> None:
    answer = await client.post(path, content=json.dumps(body()), headers=JSON)
    assert (answer.status_code, answer.json()) == (200, {})
    assert stored(engine) == {"my_gauge": 5.0, "my_counter_total": 5.0}


async def test_what_is_not_taken_is_a_partial_success(client: httpx.AsyncClient, engine: Engine) -> None:
    answer = await client.post(PATH, content=json.dumps(body(temporality=1)), headers=JSON)
    partial = answer.json()["partialSuccess"]
    assert (answer.status_code, partial["rejectedDataPoints"]) == (200, "1")
    assert "invalid temporality" in partial["errorMessage"]
    assert stored(engine) == {"my_gauge": 5.0}


async def test_what_is_not_taken_is_counted_and_who_sends_deltas_is_told_of_once(engine: Engine, run: Any, serve: Any) -> None:
    clock = ManualClock(NOW_MS / 1000)
    room = Otlp(Door(engine, clock).append, run, clock, lambda scope: "default", OtlpConfig)
    client, deltas = serve(routes(endpoints(room))), body(temporality=1)
    with capture_logs() as lines:
        for scope in ("a", "a", "b"):
            deltas["resourceMetrics"][0]["scopeMetrics"][0]["scope"] = {"name": scope}
            await client.post(PATH, content=json.dumps(deltas), headers=JSON)
    assert room.rejected == {"delta": 3}
    assert [(line["event"], line["tenant"], line["job"], line["scope"]) for line in lines] == [
        ("OTLP deltas are not taken", "default", "", "a"),
        ("OTLP deltas are not taken", "default", "", "b"),
    ]
    assert "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative" in lines[0]["hint"]


async def test_samples_that_storage_drops_are_told(client: httpx.AsyncClient, engine: Engine) -> None:
    await client.post(PATH, content=json.dumps(body()), headers=JSON)
    late = ExportMetricsServiceRequest()
    metric = late.resource_metrics.add().scope_metrics.add().metrics.add(name="my.gauge")
    metric.gauge.data_points.add(time_unix_nano=(NOW_MS - 7_200_000) * 1_000_000, as_double=1)
    answer = await client.post(PATH, content=late.SerializeToString(), headers=PROTOBUF)
    told = ExportMetricsServiceResponse.FromString(answer.content).partial_success
    assert (answer.status_code, told.rejected_data_points) == (200, 1)
    assert told.error_message == "samples not stored: 1 too old"


async def test_an_empty_request_is_taken(client: httpx.AsyncClient, engine: Engine) -> None:
    answer = await client.post(PATH, content=b"", headers=PROTOBUF)
    assert (answer.status_code, answer.content) == (200, b"")
    assert stored(engine) == {}


async def test_refusals(client: httpx.AsyncClient, engine: Engine) -> None:
    assert (await client.post(PATH, content=b"x", headers={"Content-Type": "text/plain"})).status_code == 415
    broken = await client.post(PATH, content=b"\x0a\x7f", headers=PROTOBUF)
    assert broken.status_code == 400
    assert broken.content[:2] == b"\x08\x03"
    assert b"longer than its message" in broken.content
    wrong = await client.post(PATH, content=b'{"resourceMetrics": 1}', headers=JSON)
    assert (wrong.status_code, wrong.json()) == (400, {"code": 3, "message": "request.resourceMetrics: not a list"})
    unknown = await client.post(PATH, content=b"", headers={**JSON, "Content-Encoding": "br"})
    assert "unsupported content encoding 'br'" in unknown.json()["message"]
    bomb = await client.post(PATH, content=gzip.compress(bytes(33 << 20)), headers={**PROTOBUF, "Content-Encoding": "gzip"})
    assert bomb.status_code == 413
    await engine.close()
    closed = await client.post(PATH, content=json.dumps(body()), headers=JSON)
    assert (closed.status_code, closed.json()["code"]) == (503, 14)
    assert closed.headers["retry-after"]


async def test_the_documents_example_is_taken(client: httpx.AsyncClient, engine: Engine, conformance: Path) -> None:
    example = (conformance / "open-telemetry_opentelemetry-proto" / "examples" / "metrics.json").read_bytes()
    answer = await client.post(PATH, content=example, headers=JSON)
    assert (answer.status_code, answer.json()["partialSuccess"]["rejectedDataPoints"]) == (200, "3")
    assert stored(engine) == {str(Labels.of(__name__="my_gauge_ratio", job="my.service", my_gauge_attr="some value")): 10.0}
