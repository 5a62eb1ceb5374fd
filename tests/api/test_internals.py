"""The storage's blocks, and the server's own metrics as protobuf's JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest

from vedette.api.endpoint import answering, routes
from vedette.api.internals import Internals, endpoints
from vedette.api.problems import prometheus
from vedette.storage.interface import InBlocks
from vedette.storage.statistics import BlockFigures


class Kept:
    """A storage that has nothing but blocks."""

    def block_figures(self) -> list[BlockFigures]:
        return [
            BlockFigures("00000002-60000-90000", 60_000, 90_000, 5, 60, 10, 1),
            BlockFigures("00000001-0-59999", 0, 59_999, 7, 70, 0, 2),
        ]


@pytest.fixture
def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Counter("jobs", "Jobs.", ["kind"], registry=made).labels("a").inc(3)
    gauge = Gauge("level", "A level.", ["tenant"], registry=made)
    gauge.labels("default").set(1.5)
    gauge.labels("other").set(float("inf"))
    Histogram("took_seconds", "How long.", buckets=(0.5, 1), registry=made).observe(0.75)
    Summary("size", "How large.", registry=made).observe(4)
    Counter("none", "Without any.", ["kind"], registry=made)
    return made


def asking(serve: Any, storage: Any, registry: CollectorRegistry, tenant: str = "default") -> httpx.AsyncClient:
    async def run(function: Any, *args: Any) -> Any:
        return function(*args)

    room = Internals(storage, lambda: generate_latest(registry), run, lambda scope: tenant)
    made: httpx.AsyncClient = serve(
        routes([dataclasses.replace(e, handler=answering(e.handler, prometheus, AssertionError)) for e in endpoints(room)])  # type: ignore[arg-type]
    )
    return made


async def test_blocks_oldest_first(serve: Any, registry: CollectorRegistry, prometheus_schema: Any) -> None:
    assert issubclass(Kept, InBlocks)
    answer = await asking(serve, Kept(), registry).get("/api/v1/status/tsdb/blocks")
    Draft202012Validator(prometheus_schema("StatusTSDBBlocksOutputBody")).validate(answer.json())
    first, second = answer.json()["data"]["blocks"]
    assert first == {
        "ulid": "00000001-0-59999",
        "minTime": 0,
        "maxTime": 60_000,
        "stats": {"numSamples": 70, "numSeries": 7, "numFloatSamples": 70, "numHistogramSamples": 0},
        "compaction": {"level": 2, "sources": ["00000001-0-59999"]},
        "version": 1,
    }
    assert (second["ulid"], second["maxTime"], second["stats"]["numFloatSamples"]) == ("00000002-60000-90000", 90_001, 50)


async def test_a_storage_without_blocks_has_none(serve: Any, registry: CollectorRegistry, storage: Any) -> None:
    answer = await asking(serve, storage, registry).get("/api/v1/status/tsdb/blocks")
    assert answer.json() == {"status": "success", "data": {"blocks": []}}


async def test_own_metrics(serve: Any, registry: CollectorRegistry, storage: Any) -> None:
    client = asking(serve, storage, registry)
    found = {one["name"]: one for one in (await client.get("/api/v1/status/self_metrics")).json()["data"]}
    (jobs,) = found["jobs_total"]["metric"]
    assert (found["jobs_total"]["type"], found["jobs_total"]["help"]) == ("COUNTER", "Jobs.")
    assert (jobs["label"], jobs["counter"]["value"]) == ([{"name": "kind", "value": "a"}], 3.0)
    assert [m["gauge"]["value"] for m in found["level"]["metric"]] == [1.5, "Infinity"]
    (took,) = found["took_seconds"]["metric"]
    assert took["histogram"] == {
        "bucket": [
            {"cumulativeCount": "0", "upperBound": 0.5},
            {"cumulativeCount": "1", "upperBound": 1.0},
            {"cumulativeCount": "1", "upperBound": "Infinity"},
        ],
        "sampleCount": "1",
        "sampleSum": 0.75,
    }
    assert "label" not in took
    assert (found["size"]["metric"][0]["summary"]["sampleCount"], found["size"]["metric"][0]["summary"]["sampleSum"]) == ("1", 4.0)
    assert not any(name.startswith("none") for name in found), "families without series are left out"


@pytest.mark.parametrize(("pattern", "names"), [("level", ["level"]), ("lev", []), ("lev.*|size", ["level", "size"]), ("", None)])
async def test_a_pattern_matches_names_whole(
    serve: Any, registry: CollectorRegistry, storage: Any, pattern: str, names: list[str] | None
) -> None:
    answer = await asking(serve, storage, registry).get("/api/v1/status/self_metrics", params={"metric_name_pattern": pattern})
    found = [one["name"] for one in answer.json()["data"]]
    assert found == names if names is not None else len(found) >= 4


async def test_what_is_no_expression_and_what_is_another_tenants(serve: Any, registry: CollectorRegistry, storage: Any) -> None:
    client = asking(serve, storage, registry, tenant="other")
    refused = await client.get("/api/v1/status/self_metrics", params={"metric_name_pattern": "("})
    assert (refused.status_code, refused.json()["errorType"]) == (400, "bad_data")
    assert 'invalid parameter "metric_name_pattern"' in refused.json()["error"]
    found = (await client.get("/api/v1/status/self_metrics", params={"metric_name_pattern": "level"})).json()["data"]
    assert [m["gauge"]["value"] for m in found[0]["metric"]] == ["Infinity"]
