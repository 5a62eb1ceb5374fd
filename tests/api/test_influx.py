"""InfluxDB's way in over HTTP: both versions, what clients ask first, partial writes, encodings, limits, refusals."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from vedette.api.endpoint import routes
from vedette.api.influx import Influx, endpoints
from vedette.api.influx import routes as page_routes
from vedette.api.intake import Intake
from vedette.api.write import WriteSettings
from vedette.clock import ManualClock
from vedette.errors import LimitExceeded
from vedette.ingest.door import Door
from vedette.ingest.intake import IntakeSettings
from vedette.model.samples import Appended, SampleBatch
from vedette.storage.engine import Engine
from vedette.storage.limits import Limits, LimitsSettings, TenantLimits
from vedette.storage.settings import StorageSettings

NOW = 1_700_000_000
NOW_MS = NOW * 1000


class Server:
    """A storage and the room before it."""

    def __init__(self, data: Path, run: Callable[..., Awaitable[Any]], *, limits: TenantLimits | None = None) -> None:
        self.clock = ManualClock(NOW)
        held = Limits(LimitsSettings(default=limits or TenantLimits()), window=3_600_000)
        self.engine = Engine(StorageSettings(data=data, retention=0), self.clock, limits=held)
        self.append: Callable[[SampleBatch], Awaitable[Appended]] = Door(self.engine, self.clock, limits=held).append
        self.settings = IntakeSettings()
        self.intake = Intake(self._append, run, self.clock, lambda scope: dict(scope["headers"]).get(b"x-scope-orgid", b"default").decode(),
                             lambda: self.settings)  # fmt: skip
        self.room = Influx(self.intake, lambda tenant, label, start, end: self.engine.label_values(tenant, label, [[]], start, end))

    async def _append(self, batch: SampleBatch) -> Appended:
        return await self.append(batch)

    def stored(self, tenant: str = "default") -> dict[str, tuple[int, float]]:
        found = self.engine.select(tenant, [], 0, 1 << 62)
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
    made: httpx.AsyncClient = serve([*routes(endpoints(server.room)), *page_routes(server.room)])
    return made


@pytest.mark.parametrize(("path", "name"), [("/write", "db"), ("/influx/write", "db"), ("/api/v2/write", "bucket")])
async def test_lines_are_stored_with_the_database_as_a_label(server: Server, client: httpx.AsyncClient, path: str, name: str) -> None:
    asked = {name: "telegraf", "precision": "s", "org": "mine"}
    answer = await client.post(path, params=asked, content=f"cpu,host=a usage=1.5,idle=98i {NOW}\nmem free=3\n")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["x-influxdb-version"] == "1.8.10"
    assert server.stored() == {
        'cpu_usage{db="telegraf", host="a"}': (NOW_MS, 1.5),
        'cpu_idle{db="telegraf", host="a"}': (NOW_MS, 98.0),
        'mem_free{db="telegraf"}': (NOW_MS, 3.0),
    }


async def test_a_tag_and_an_extra_label_stand_before_the_database(server: Server, client: httpx.AsyncClient) -> None:
    await client.post("/write?db=a&extra_label=zone=z&extra_label=db=x", content="m,zone=own v=1")
    await client.post("/write", content="m v=1")
    server.settings = IntakeSettings(names="utf8", influx_separator=".", influx_db_label="")
    await client.post("/write?db=a", content="m v=1")
    assert set(server.stored()) == {'m_v{db="x", zone="own"}', "m_v", '{"m.v"}'}


@pytest.mark.parametrize(
    ("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes), ("", bytes)]
)  # fmt: skip
async def test_encodings(server: Server, client: httpx.AsyncClient, coding: str, pack: Callable[[bytes], bytes]) -> None:
    body = b"".join(b"m,i=%d v=%d\n" % (i, i) for i in range(2000))
    answer = await client.post("/write", content=pack(body), headers={"Content-Encoding": coding})
    assert answer.status_code == 204
    assert len(server.stored()) == 2000


async def test_the_same_lines_again_are_stored_again_under_the_same_series(server: Server, client: httpx.AsyncClient) -> None:
    for second in (1, 2):
        assert (await client.post("/write?precision=s", content=f"m,a=1,b=2 v={second},w={second}i {NOW + second}")).status_code == 204
        assert (await client.post("/write?precision=s", content=f"m,b=2,a=1 w={second},u=0 {NOW + 2 + second}")).status_code == 204
    assert server.stored() == {
        'm_v{a="1", b="2"}': (NOW_MS + 2000, 2.0), 'm_w{a="1", b="2"}': (NOW_MS + 4000, 2.0), 'm_u{a="1", b="2"}': (NOW_MS + 4000, 0.0)
    }  # fmt: skip


async def test_strings_are_left_out_and_told(server: Server, client: httpx.AsyncClient) -> None:
    answer = await client.post("/write", content='m v=1,s="x"\nm s="only"')
    assert answer.status_code == 204
    assert answer.headers["x-vedette-strings-left-out"] == "2"
    assert server.intake.left_out["influx"] == 2
    assert list(server.stored()) == ["m_v"]


async def test_a_partial_write_says_what_was_left_out_and_where(server: Server, client: httpx.AsyncClient) -> None:
    body = "good v=1\nbad\n  good v=x 1\ngood w=2"
    answer = await client.post("/write", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"] == (
        "partial write: unable to parse 'bad': missing fields (line 2, column 4)\n"
        "unable to parse 'good v=x 1': invalid number (line 3, column 8) dropped=2"
    )
    assert answer.json()["data"][1] == {"error_message": "invalid number", "line_number": 3, "column": 8, "original_line": "good v=x 1"}
    assert answer.headers["x-influxdb-error"].startswith("partial write: unable to parse 'bad'")
    newer = await client.post("/api/v2/write", content=body)
    assert newer.status_code == 400
    assert (newer.json()["code"], newer.json()["line"]) == ("invalid", 2)
    assert newer.json()["message"] == answer.json()["error"]
    assert set(server.stored()) == {"good_v", "good_w"}
    assert server.intake.unread["influx"] == 4


async def test_where_nothing_can_be_read_nothing_is_called_partial(server: Server, client: httpx.AsyncClient) -> None:
    answer = await client.post("/write", content="bad\n" * 30)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("unable to parse 'bad': missing fields (line 1, column 4)\n")
    assert answer.json()["error"].endswith("\nand 10 more lines")
    assert server.stored() == {}


async def test_samples_that_are_not_stored_are_told(server: Server, client: httpx.AsyncClient) -> None:
    await client.post("/write?precision=s", content=f"m v=1 {NOW}")
    answer = await client.post("/write?precision=s", content=f"m v=2 {NOW}\nm v=3 {NOW + 86_400}\nm,__name__=x v=1\nm,a=\xff v=1\nm w=1")
    assert answer.status_code == 400
    told = answer.json()["error"]
    assert told.startswith("partial write: samples not stored: ")
    for part in ("1 too far ahead", "1 duplicate", "1 invalid labels", "a tag is called __name__", "dropped=3"):
        assert part in told
    assert {labels: value for labels, (_, value) in server.stored().items()} == {"m_v": 1.0, 'm_v{a="ÿ"}': 1.0, "m_w": 1.0}


async def test_a_name_that_is_no_utf8_leaves_only_its_series_out(server: Server, client: httpx.AsyncClient) -> None:
    answer = await client.post("/write", content=b"m,a=\xff v=1\nm v=2")
    assert answer.status_code == 400
    assert "not UTF-8 text" in answer.json()["error"]
    assert list(server.stored()) == ["m_v"]


async def test_tenants_have_their_own(server: Server, client: httpx.AsyncClient) -> None:
    await client.post("/write", content="m v=1", headers={"X-Scope-OrgID": "b"})
    assert list(server.stored("b")) == ["m_v"]
    assert server.stored() == {}


async def test_a_tenant_with_as_many_series_as_it_may_have_is_to_come_again(tmp_path: Path, run: Any, serve: Any) -> None:
    server = Server(tmp_path / "data", run, limits=TenantLimits(max_series=2))
    await server.engine.start()
    client = serve(routes(endpoints(server.room)))
    answer = await client.post("/api/v2/write", content="m a=1,b=2,c=3")
    await server.engine.close()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert answer.json()["code"] == "too many requests"
    assert "1 beyond as many series as the tenant may have" in answer.json()["message"]


async def test_a_server_that_takes_nothing_now_says_when_to_come_again(server: Server, client: httpx.AsyncClient) -> None:
    async def full(batch: SampleBatch) -> Appended:
        raise LimitExceeded("the disk is full", retry_after=10.0)

    server.append = full
    for path, body in (
        ("/write", {"error": "the disk is full"}),
        ("/api/v2/write", {"code": "unavailable", "message": "the disk is full"}),
    ):
        answer = await client.post(path, content="m v=1")
        assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (503, "10", body)


async def test_a_fault_of_ours_is_a_500_that_senders_repeat_after(server: Server, client: httpx.AsyncClient) -> None:
    async def broken(batch: SampleBatch) -> Appended:
        raise RuntimeError

    server.append = broken
    answer = await client.post("/write", content="m v=1")
    assert (answer.status_code, answer.json()) == (500, {"error": "internal error: see the server's log"})


async def test_refusals(server: Server, client: httpx.AsyncClient) -> None:
    server.intake.limits = WriteSettings(max_body_bytes=1000, max_decoded_bytes=2000, max_held_bytes=3000)
    large = await client.post("/write", content=b"x" * 1001)
    assert (large.status_code, large.json()) == (413, {"error": "the body is larger than 1000 bytes"})
    bomb = await client.post("/api/v2/write", content=gzip.compress(b"m v=1\n" * 10_000), headers={"Content-Encoding": "gzip"})
    assert (bomb.status_code, bomb.json()["code"]) == (413, "request too large")
    coding = await client.post("/write", content=b"m v=1", headers={"Content-Encoding": "br"})
    assert (coding.status_code, coding.json()["error"]) == (415, "unsupported content encoding 'br' (expected gzip, deflate, zstd or none)")
    no_gzip = await client.post("/write", content=b"m v=1", headers={"Content-Encoding": "gzip"})
    assert (no_gzip.status_code, no_gzip.json()["error"]) == (400, "not a gzip body (the Content-Encoding says that it is)")
    precision = await client.post("/write?precision=d", content=b"m v=1")
    assert (precision.status_code, precision.json()["error"]) == (400, "invalid precision 'd' (expected one of ns, us, ms, s)")
    label = await client.post("/write?extra_label=x", content=b"m v=1")
    assert label.json()["error"] == "invalid parameter \"extra_label\": 'x' (expected name=value)"
    assert server.intake._held == 0, "what was refused is not held"


async def test_an_empty_body_is_no_mistake(client: httpx.AsyncClient) -> None:
    assert (await client.post("/write", content=b"")).status_code == 204
    assert (await client.post("/write", content=b"\n# nothing\n")).status_code == 204


async def test_more_databases_than_are_remembered_are_all_stored(server: Server, client: httpx.AsyncClient) -> None:
    for number in range(300):
        assert (await client.post(f"/write?db=d{number}", content="m v=1")).status_code == 204
    assert len(server.stored()) == 300
    assert len(server.intake._spaces) == 256


async def test_what_telegraf_asks_before_it_writes(client: httpx.AsyncClient) -> None:
    made = await client.post("/query", params={"q": 'CREATE DATABASE "telegraf"'})
    assert (made.status_code, made.json()) == (200, {"results": [{"statement_id": 0}]})
    form = await client.post(
        "/influx/query", data={"q": 'create database "a;b"; CREATE RETENTION POLICY "x" ON "a" DURATION 1d REPLICATION 1'}
    )
    assert form.json() == {"results": [{"statement_id": 0}, {"statement_id": 1}]}


@pytest.mark.parametrize("path", ["/query", "/influx/query"])
async def test_databases_are_the_values_of_their_label(server: Server, client: httpx.AsyncClient, path: str) -> None:
    for name in ("a", "b"):
        await client.post("/write", params={"db": name}, content="m v=1")
    answer = await client.get(path, params={"q": "SHOW DATABASES"})
    assert answer.json() == {
        "results": [{"statement_id": 0, "series": [{"name": "databases", "columns": ["name"], "values": [["a"], ["b"]]}]}]
    }
    server.settings = IntakeSettings(influx_db_label="")
    assert (await client.get(path, params={"q": "SHOW DATABASES"})).json()["results"][0]["series"][0]["values"] == []


async def test_what_is_read_is_read_with_promql(client: httpx.AsyncClient) -> None:
    answer = await client.get("/query", params={"q": "SELECT * FROM cpu"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "error parsing query: SELECT * FROM cpu (what is stored is read with PromQL, at /api/v1/query)"
    assert (await client.post("/query", params={})).json() == {"error": 'missing required parameter "q"'}


async def test_a_page_at_the_same_path_stays_one(client: httpx.AsyncClient) -> None:
    assert (await client.get("/query", params={"g0.expr": "up"})).status_code in (404, 405), "left to whoever comes after"


@pytest.mark.parametrize("path", ["/ping", "/influx/ping"])
async def test_ping(client: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "HEAD"):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.headers["x-influxdb-version"]) == (204, "1.8.10")
    assert (await client.get(path, params={"verbose": "true"})).json() == {"version": "1.8.10"}


async def test_an_error_that_no_header_can_hold_is_told_in_one_all_the_same(client: httpx.AsyncClient) -> None:
    answer = await client.get("/influx/query", params={"q": "\u202e\x1b[31m\x00ü"})
    assert answer.status_code == 400
    assert all(" " <= c <= "~" for c in answer.headers["x-influxdb-error"])
