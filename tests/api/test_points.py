"""OpenTSDB's and Datadog's ways in over HTTP: what is stored, what is told, refusals."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import cramjam
import httpx
import pytest

from vedette.api.datadog import Datadog
from vedette.api.datadog import endpoints as datadog_endpoints
from vedette.api.endpoint import routes
from vedette.api.intake import Intake
from vedette.api.opentsdb import OpenTsdb
from vedette.api.opentsdb import endpoints as opentsdb_endpoints
from vedette.clock import ManualClock
from vedette.errors import LimitExceeded
from vedette.ingest.door import Door
from vedette.ingest.intake import IntakeSettings
from vedette.model.samples import Appended, SampleBatch
from vedette.storage.engine import Engine
from vedette.storage.limits import Limits, LimitsSettings, TenantLimits
from vedette.storage.settings import StorageSettings

sys.path.insert(0, str(Path(__file__).parent.parent / "wire"))
from protos import messages

NOW = 1_700_000_000
GOOD = {"metric": "sys.cpu", "timestamp": NOW, "value": 1, "tags": {"host": "a"}}
SERIES = {"metric": "system.load.1", "points": [[NOW, 0.5]], "host": "a", "tags": ["env:prod"]}


class Server:
    """A storage and the rooms before it."""

    def __init__(self, data: Path, run: Callable[..., Awaitable[Any]], *, limits: TenantLimits | None = None) -> None:
        clock = ManualClock(NOW)
        held = Limits(LimitsSettings(default=limits or TenantLimits()), window=3_600_000)
        self.engine = Engine(StorageSettings(data=data, retention=0), clock, limits=held)
        self.append: Callable[[SampleBatch], Awaitable[Appended]] = Door(self.engine, clock, limits=held).append
        self.intake = Intake(self._append, run, clock, lambda scope: "default", IntakeSettings)
        self.endpoints = [*opentsdb_endpoints(OpenTsdb(self.intake)), *datadog_endpoints(Datadog(self.intake))]

    async def _append(self, batch: SampleBatch) -> Appended:
        return await self.append(batch)

    def stored(self) -> dict[str, tuple[int, float]]:
        found = self.engine.select("default", [], 0, 1 << 62)
        last = [int(at) - 1 for at in found.offsets[1:]]
        return {str(labels): (int(found.timestamps[at]), float(found.values[at])) for labels, at in zip(found.labels, last, strict=True)}


@pytest.fixture
async def server(tmp_path: Path, run: Any) -> AsyncIterator[Server]:
    made = Server(tmp_path / "data", run)
    await made.engine.start()
    yield made
    await made.engine.close()


@pytest.fixture
def client(server: Server, serve: Any) -> httpx.AsyncClient:
    made: httpx.AsyncClient = serve(routes(server.endpoints))
    return made


@pytest.mark.parametrize("path", ["/api/put", "/opentsdb/api/put"])
async def test_one_point_and_several(server: Server, client: httpx.AsyncClient, path: str) -> None:
    one = await client.post(path, json=GOOD)
    assert (one.status_code, one.content) == (204, b"")
    assert (await client.post(f"{path}?extra_label=zone=z", json=[GOOD, {**GOOD, "metric": "b"}])).status_code == 204
    assert server.stored() == {
        'sys_cpu{host="a"}': (NOW * 1000, 1.0),
        'sys_cpu{host="a", zone="z"}': (NOW * 1000, 1.0),
        'b{host="a", zone="z"}': (NOW * 1000, 1.0),
    }


async def test_what_became_of_points(server: Server, client: httpx.AsyncClient) -> None:
    bad = {"metric": "b", "value": "x"}
    late = {**GOOD, "value": 2}
    assert (await client.post("/api/put?summary", json=[GOOD])).json() == {"success": 1, "failed": 0}
    told = await client.post("/api/put?details", json=[bad, late, {**GOOD, "metric": "c"}])
    assert told.status_code == 400
    assert told.json() == {
        "success": 1,
        "failed": 2,
        "errors": [{"datapoint": bad, "error": "value: not a number: 'x'"}, {"error": "samples not stored: 1 duplicate"}],
    }
    assert (await client.post("/api/put?summary=true", json=[bad])).json() == {"success": 0, "failed": 1}
    plain = await client.post("/api/put", json=[bad, GOOD])
    assert plain.status_code == 400
    assert plain.json() == {"error": {"code": 400, "message": "One or more data points had errors", "details": "value: not a number: 'x'"}}
    assert set(server.stored()) == {'sys_cpu{host="a"}', 'c{host="a"}'}
    assert server.intake.unread["opentsdb"] == 3


async def test_bodies_of_opentsdb_that_are_refused(server: Server, client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/put", content=b"[1,")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == 400
    large = await client.post("/api/put", content=b" " * (16 << 20) + b" ")
    assert (large.status_code, large.json()["error"]["message"]) == (413, "the body is larger than 16777216 bytes")
    assert server.intake._held == 0


async def test_many_points_that_cannot_be_read_are_counted_and_the_first_told(server: Server, client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/put?details", content=b"[" + b"{}," * 10_000 + json.dumps(GOOD).encode() + b"]")
    assert answer.status_code == 400
    told = answer.json()
    assert (told["success"], told["failed"], len(told["errors"])) == (1, 10_000, 100)
    assert server.intake.unread["opentsdb"] == 10_000


@pytest.mark.parametrize(("version", "answered"), [(1, {"status": "ok"}), (2, {"errors": []})])
async def test_datadogs_series(server: Server, client: httpx.AsyncClient, version: int, answered: Any) -> None:
    one = dict(SERIES) if version == 1 else {"metric": "system.load.1", "points": [{"timestamp": NOW, "value": 0.5}], "tags": ["env:prod"],
                                             "resources": [{"type": "host", "name": "a"}]}  # fmt: skip
    body = zlib.compress(json.dumps({"series": [one]}).encode())
    headers = {"Content-Encoding": "deflate", "Content-Type": "application/json"}
    answer = await client.post(f"/datadog/api/v{version}/series", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (202, answered)
    assert server.stored() == {'system_load_1{env="prod", host="a"}': (NOW * 1000, 0.5)}


@pytest.mark.parametrize(("coding", "pack"), [("deflate", zlib.compress), ("zstd", cramjam.zstd.compress)])
async def test_what_datadogs_agent_sends(server: Server, client: httpx.AsyncClient, coding: str, pack: Callable[[bytes], Any]) -> None:
    kinds = messages("datadog")
    load = kinds["MetricSeries"](metric="system.load.1", tags=["env:prod"], type=3)
    load.resources.add(type="host", name="a")
    load.points.add(value=0.5, timestamp=NOW)
    payload = kinds["MetricPayload"](series=[load, kinds["MetricSeries"](tags=["of:nothing"])])
    headers = {"Content-Encoding": coding, "Content-Type": "application/x-protobuf", "DD-API-KEY": "k"}
    answer = await client.post("/datadog/api/v2/series", content=bytes(pack(payload.SerializeToString())), headers=headers)
    assert (answer.status_code, answer.json()) == (400, {"errors": ["series[1]: no metric name"]})
    assert server.stored() == {'system_load_1{env="prod", host="a"}': (NOW * 1000, 0.5)}
    del payload.series[1]
    again = await client.post("/datadog/api/v2/series", content=bytes(pack(payload.SerializeToString())), headers=headers)
    assert (again.status_code, again.json()) == (202, {"errors": []})


async def test_series_that_cannot_be_read_are_told_and_the_others_stored(server: Server, client: httpx.AsyncClient) -> None:
    answer = await client.post("/datadog/api/v1/series", json={"series": [SERIES, *[{"metric": "m"}] * 30]})
    assert answer.status_code == 400
    assert answer.json()["errors"][0] == "series[1]: Object missing required field `points`"
    assert answer.json()["errors"][-1] == "and 10 more"
    assert len(answer.json()["errors"]) == 21
    assert server.intake.unread["datadog"] == 30
    again = await client.post("/datadog/api/v1/series", json={"series": [{**SERIES, "points": [[NOW, 7]]}]})
    assert (again.status_code, again.json()) == (400, {"errors": ["samples not stored: 1 duplicate"]})
    assert list(server.stored().values()) == [(NOW * 1000, 0.5)]


async def test_what_an_agent_asks_and_sends_besides(server: Server, client: httpx.AsyncClient) -> None:
    assert (await client.get("/datadog/api/v1/validate")).json() == {"valid": True}
    for path in ("/datadog/api/v1/check_run", "/datadog/intake", "/datadog/api/v1/metadata"):
        answer = await client.post(path, json=[{"check": "up"}])
        assert (answer.status_code, answer.json()) == (202, {"status": "ok"})
    assert server.intake.left_out["datadog"] == 3
    assert server.stored() == {}


async def test_bodies_of_datadog_that_are_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post("/datadog/api/v1/series", content=b"{}")).json() == {"errors": ["Object missing required field `series`"]}
    packed = {"Content-Type": "application/x-protobuf"}
    kind = await client.post("/datadog/api/v1/series", content=b"x", headers=packed)
    assert (kind.status_code, kind.json()) == (
        415,
        {"errors": ['unsupported media type "application/x-protobuf" (expected application/json)']},
    )
    broken = await client.post("/datadog/api/v2/series", content=b"\x0a\x05x", headers=packed)
    assert (broken.status_code, broken.json()) == (400, {"errors": ["byte 2: a field is longer than its message"]})


@pytest.mark.parametrize("path", ["/api/put", "/datadog/api/v1/series"])
async def test_a_server_that_takes_nothing_now(server: Server, client: httpx.AsyncClient, path: str) -> None:
    async def full(batch: SampleBatch) -> Appended:
        raise LimitExceeded("the disk is full", retry_after=10.0)

    server.append = full
    answer = await client.post(path, json=GOOD if path == "/api/put" else {"series": [SERIES]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert "the disk is full" in answer.text


async def test_over_the_limit_of_series(tmp_path: Path, run: Any, serve: Any) -> None:
    server = Server(tmp_path / "data", run, limits=TenantLimits(max_series=1))
    await server.engine.start()
    client = serve(routes(server.endpoints))
    answers = [await client.post("/api/put?details", json=[GOOD, {**GOOD, "metric": "b"}])]
    answers.append(await client.post("/datadog/api/v1/series", json={"series": [SERIES]}))
    await server.engine.close()
    assert [answer.status_code for answer in answers] == [429, 429]
    assert answers[0].json()["success"] == 1
    assert all(answer.headers["retry-after"] == "60" for answer in answers)
