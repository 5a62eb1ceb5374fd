"""Both versions of remote write over the real engine: histograms in, Prometheus' JSON out, and what senders are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cramjam
import httpx
import numpy as np
import pytest

from vedette.api.endpoint import routes
from vedette.api.exemplars import ExemplarQueries
from vedette.api.exemplars import endpoints as exemplar_endpoints
from vedette.api.write import endpoints
from vedette.clock import ManualClock
from vedette.ingest.door import Door
from vedette.ingest.exemplars import Exemplars
from vedette.model.exemplars import Exemplar
from vedette.model.histograms import CUSTOM_SCHEMA, NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.samples import MetricMetadata
from vedette.promql.parse import parse
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings
from vedette.wire import remote_write, remote_write2

NOW_MS = 1_700_000_000_000
UP, H = Labels.of(__name__="up", job="node"), Labels.of(__name__="h", job="node")
LAYOUT = Layout(0, 0.001, (), np.array([0, 1, 3], dtype=np.int32), np.array([2], dtype=np.int32))
GOOD = Histogram(LAYOUT, np.array([10.0, 18.4, 2, 1, 2, 4, 1]))
BAD = Histogram(LAYOUT, np.array([11.0, 18.4, 2, 1, 2, 4, 1]))
V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
WAYS = {"v1": (remote_write.render, "application/x-protobuf"), "v2": (remote_write2.render, V2)}


class Server:
    def __init__(self, client: httpx.AsyncClient, engine: Engine, door: Door) -> None:
        self.client, self.engine, self.door = client, engine, door

    async def write(self, way: str, series: list[Labels], times: list[int], values: list[Any], **more: Any) -> httpx.Response:
        render, kind = WAYS[way]
        body = render(series, list(range(len(series) + 1)), [NOW_MS + t for t in times], values, **more)
        return await self.client.post("/api/v1/write", content=body, headers={"Content-Type": kind, "Content-Encoding": "snappy"})


@pytest.fixture
async def server(tmp_path: Path, run: Any, serve: Any) -> AsyncIterator[Server]:
    clock = ManualClock(NOW_MS / 1000)
    engine = Engine(StorageSettings(data=tmp_path / "data"), clock)
    engine.lock()
    await engine.start()
    exemplars = Exemplars()
    door = Door(engine, clock, exemplars=exemplars)
    asked = exemplar_endpoints(ExemplarQueries(exemplars, parse, lambda scope: "default"))
    client = serve(routes([*endpoints(door.append, run=run, tenant_of=lambda scope: "default"), *asked]))
    yield Server(client, engine, door)
    await engine.close()


def written(answer: httpx.Response) -> tuple[int, int]:
    return tuple(int(answer.headers[f"x-prometheus-remote-write-{what}-written"]) for what in ("samples", "histograms"))  # type: ignore[return-value]


@pytest.mark.parametrize("way", WAYS)
async def test_samples_and_histograms_are_stored_and_told(server: Server, way: str) -> None:
    answer = await server.write(way, [UP, H], [0, 0], [1.0, GOOD])
    assert (answer.status_code, answer.content, written(answer)) == (204, b"", (1, 1))
    found = server.engine.select("default", [], 0, NOW_MS)
    assert sorted(found.labels) == [H, UP]
    assert found.histograms is not None
    assert found.histograms.sample(0).cells.tolist() == GOOD.cells.tolist()
    again = await server.write(way, [UP, H], [0, 0], [1.0, GOOD])
    assert (again.status_code, written(again)) == (204, (1, 1))


@pytest.mark.parametrize("way", WAYS)
async def test_a_bad_histogram_is_named_and_the_rest_is_stored(server: Server, way: str) -> None:
    answer = await server.write(way, [UP, H, H], [0, 0, 1000], [1.0, BAD, GOOD])
    assert (answer.status_code, written(answer)) == (400, (1, 1))
    assert "1 bad histogram" in answer.text
    assert 'histogram of h{job="node"}: 10 observations found in buckets, but the Count field is 11' in answer.text
    assert server.door.counts.dropped == {"bad_histogram": 1}


async def test_the_second_version_brings_metadata(server: Server) -> None:
    await server.write("v2", [UP], [0], [1.0], metadata=[MetricMetadata("up", "gauge", "Whether it is.", "")])
    assert server.engine.metadata("default") == [MetricMetadata("up", "gauge", "Whether it is.", "")]


async def test_both_versions_name_the_same_series(server: Server) -> None:
    await server.write("v1", [UP], [0], [1.0])
    await server.write("v2", [UP], [1000], [2.0])
    found = server.engine.select("default", [], 0, 1 << 60)
    assert (list(found.labels), found.values.tolist()) == ([UP], [1.0, 2.0])


async def test_a_body_of_the_other_version_is_refused(server: Server) -> None:
    body = remote_write.render([UP], [0, 1], [NOW_MS], [1.0])
    answer = await server.client.post("/api/v1/write", content=body, headers={"Content-Type": V2, "Content-Encoding": "snappy"})
    # To version 2.0 the fields of 1.0 are unknown: nothing is found, and nothing said to be stored.
    assert (answer.status_code, written(answer)) == (204, (0, 0))


async def test_custom_buckets_come_through(server: Server) -> None:
    h = Histogram(Layout(CUSTOM_SCHEMA, 0.0, (0.1, 1.0), np.arange(3, dtype=np.int32), NO_BUCKETS), np.array([6.0, 1.5, 0, 1, 2, 3]))
    assert (await server.write("v2", [H], [0], [h])).status_code == 204
    found = server.engine.select("default", [], 0, NOW_MS).histograms
    assert found is not None
    assert found.layouts[0].bounds == (0.1, 1.0)


async def test_exemplars_are_answered_in_prometheus_shape(server: Server) -> None:
    marks = [Exemplar(0, Labels.of(trace_id="abc"), 0.25, NOW_MS - 5)]
    answer = await server.write("v2", [UP, H], [0, 0], [1.0, GOOD], exemplars=marks)
    assert answer.headers["x-prometheus-remote-write-exemplars-written"] == "1"
    query = {"query": 'rate(up{job="node"}[5m]) + foo', "start": str(NOW_MS / 1000 - 60), "end": str(NOW_MS / 1000)}
    found = (await server.client.get("/api/v1/query_exemplars", params=query)).json()
    assert found == {
        "status": "success",
        "data": [
            {
                "seriesLabels": {"__name__": "up", "job": "node"},
                "exemplars": [{"labels": {"trace_id": "abc"}, "value": "0.25", "timestamp": 1699999999.995}],
            }
        ],
    }
    assert (await server.client.get("/api/v1/query_exemplars", params={"query": "down"})).json()["data"] == []
    assert (await server.client.get("/api/v1/query_exemplars", params={"query": "1 + 1"})).json()["data"] == []
    later = {"query": "up", "start": str(NOW_MS / 1000)}
    assert (await server.client.post("/api/v1/query_exemplars", data=later)).json()["data"] == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_refused_request_says_that_nothing_was_written(server: Server, way: str) -> None:
    answer = await server.write(way, [Labels.of(job="nameless")], [0], [1.0])
    assert (answer.status_code, written(answer)) == (400, (0, 0))
    assert "no metric name" in answer.text


@pytest.mark.parametrize("way", WAYS)
async def test_a_series_that_is_not_valid_is_named_and_the_rest_is_stored(server: Server, way: str) -> None:
    series = [Labels.of(job="nameless"), UP, H, Labels([("__name__", "x"), ("a", "1"), ("a", "2")])]
    for again in range(2):  # what is refused is refused again, not forgotten as known
        answer = await server.write(way, series, [again, again, again, again], [1.0, 2.0, GOOD, 3.0])
        assert (answer.status_code, written(answer)) == (400, (1, 1))
        assert "2 invalid labels; the others of this request are stored" in answer.text
        assert "no metric name" in answer.text
        assert "(and 1 more series)" in answer.text
    found = server.engine.select("default", [], 0, 1 << 60)
    assert sorted(found.labels) == [H, UP]
    assert server.door.counts.dropped == {"invalid_labels": 4}
    assert server.door.counts.refused == {}


async def test_a_broken_reference_keeps_one_series_out(server: Server) -> None:
    good = remote_write2.render([UP], [0, 1], [NOW_MS], [1.0])
    body = bytes(cramjam.snappy.decompress_raw(good))
    # A series of one sample whose labels_refs name symbols that are not there.
    bad = b"\x0a\x02\x63\x64" + b"\x12\x0b\x09" + bytes(8) + b"\x10" + b"\x01"
    body = bytes(cramjam.snappy.compress_raw(body + b"\x2a" + bytes([len(bad)]) + bad))
    answer = await server.client.post("/api/v1/write", content=body, headers={"Content-Type": V2, "Content-Encoding": "snappy"})
    assert (answer.status_code, written(answer)) == (400, (1, 0))
    assert "1 invalid labels" in answer.text
    assert "a series names a symbol that is not there" in answer.text


async def test_start_timestamps_are_kept_where_they_are_wanted(tmp_path: Path, run: Any, serve: Any) -> None:
    clock = ManualClock(NOW_MS / 1000)
    engine = Engine(StorageSettings(data=tmp_path / "data", start_timestamps=True), clock)
    await engine.start()
    client = serve(routes(endpoints(Door(engine, clock).append, run=run, tenant_of=lambda scope: "default")))
    body = remote_write2.render([UP, H], [0, 1, 2], [NOW_MS, NOW_MS], [1.0, GOOD], starts=[NOW_MS - 60_000, NOW_MS - 5])
    answer = await client.post("/api/v1/write", content=body, headers={"Content-Type": V2, "Content-Encoding": "snappy"})
    assert (answer.status_code, written(answer)) == (204, (1, 1))
    found = engine.select("default", [], 0, NOW_MS)
    found = engine.with_starts("default", [], 0, NOW_MS, found)
    assert found.start_timestamps is not None
    assert dict(zip(found.labels, found.start_timestamps.tolist(), strict=True)) == {UP: NOW_MS - 60_000, H: NOW_MS - 5}
    await engine.close()
