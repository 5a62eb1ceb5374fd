"""Log lines over HTTP: in as JSON lines, out by search, pages, counts, errors and the live tail; BotServer's document."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import cramjam
import httpx
import pytest
from starlette.applications import Starlette
from tests.api.logs.conftest import JSON, LINES, NOW, found, run, sent, tenant_of, until

from vedette.api import logs, logs_elastic, logs_in
from vedette.api.endpoint import routes
from vedette.clock import ManualClock
from vedette.ingest.logseries import LogSeries
from vedette.logs.store import LogStore
from vedette.model.samples import Appended, SampleBatch

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'vedette[logs]'")


async def test_lines_in_and_out(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/logs", content=LINES)
    assert answer.json() == {"status": "success", "data": {"accepted": 2}}
    answer = await client.get("/api/v1/logs")
    assert answer.json() == {
        "status": "success",
        "data": {
            "logs": [
                {
                    "timestamp": "2024-01-15T10:00:00Z",
                    "level": "info",
                    "service": "web_server",
                    "message": "Request processed successfully",
                    "fields": {"request_id": "req_123", "user_id": "user_456", "duration_ms": 150},
                },
                {
                    "timestamp": "2024-01-15T09:59:55Z",
                    "level": "error",
                    "service": "database",
                    "message": "Connection timeout",
                    "fields": {"timeout_ms": 5000},
                },
            ],
            "total": 2,
            "next": None,
        },
    }


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ("text=TIMEOUT", ["Connection timeout"]),
        ("q=timeout&not_text=connection", []),
        ("level=error,warning", ["Connection timeout"]),
        ("level=error&level=info&service=web_server", ["Request processed successfully"]),
        ("min_level=warn", ["Connection timeout"]),
        ("regex=%5EReq.*ly%24", ["Request processed successfully"]),
        ("field=user_id%3Duser_456", ["Request processed successfully"]),
        ("field=timeout_ms%3D~%5Cd%2B", ["Connection timeout"]),
        ("start=2024-01-15T10:00:00%2B00:00", ["Request processed successfully"]),
        ("start=2024-01-15T10:00:00+00:00", ["Request processed successfully"]),
        ("end=1705312800", ["Connection timeout"]),
        ("last=3s", ["Request processed successfully"]),
        ("order=asc&limit=1", ["Connection timeout"]),
    ],
)
async def test_parameters(client: httpx.AsyncClient, query: str, messages: list[str]) -> None:
    await sent(client)
    assert [row["message"] for row in await found(client, query)] == messages


async def test_pages_by_cursor(client: httpx.AsyncClient) -> None:
    await sent(client, "\n".join(json.dumps({"message": f"line {i}"}) for i in range(7)))
    seen, cursor = [], ""
    while True:
        data = (await client.get(f"/api/v1/logs?limit=3&cursor={cursor}")).json()["data"]
        assert data["total"] == 7 - len(seen)
        seen += [row["message"] for row in data["logs"]]
        cursor = data["next"]
        if cursor is None:
            break
    assert seen == [f"line {i}" for i in reversed(range(7))]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("level=loud", 'invalid parameter "level": not a level'),
        ("limit=0", 'invalid parameter "limit"'),
        ("limit=10001", "expected a whole number from 1 to 10,000"),
        ("start=never", 'invalid parameter "start": not a time'),
        ("start=2024-01-16&end=2024-01-15", 'invalid parameter "end": it is before the start'),
        ("last=x", 'invalid parameter "last"'),
        ("regex=%28a", "bad regular expression"),
        ("field=x", 'invalid parameter "field"'),
        ("cursor=1", 'invalid parameter "cursor"'),
        ("order=up", 'invalid parameter "order"'),
    ],
)
async def test_bad_parameters_are_named(client: httpx.AsyncClient, query: str, message: str) -> None:
    answer = await client.get(f"/api/v1/logs?{query}")
    assert answer.status_code == 400 and message in answer.json()["error"]


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", lambda body: bytes(cramjam.zstd.compress(body))), ("identity", bytes)],
)
async def test_packed_bodies_by_every_way(client: httpx.AsyncClient, encoding: str, pack: Any) -> None:
    stamp = "1700000000000000000"
    bodies = {
        "/api/v1/logs": '{"message":"packed"}',
        "/loki/api/v1/push": json.dumps({"streams": [{"stream": {"app": "x"}, "values": [[stamp, "packed"]]}]}),
        "/v1/logs": json.dumps(
            {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": stamp, "body": {"stringValue": "packed"}}]}]}]}
        ),
        "/x/_bulk": '{"create":{}}\n{"message":"packed"}\n',
        "/x/_doc": '{"message":"packed"}',
    }
    for path, body in bodies.items():
        answer = await client.post(path, content=pack(body.encode()), headers={**JSON, "content-encoding": encoding})
        assert answer.status_code in (200, 201, 204), (path, answer.text)
    assert (await client.get("/api/v1/logs?start=0&text=packed")).json()["data"]["total"] == len(bodies)


async def test_bad_bodies(client: httpx.AsyncClient) -> None:
    for path in ("/api/v1/logs", "/loki/api/v1/push", "/v1/logs", "/x/_bulk", "/_bulk"):
        for encoding, body, status in (
            ("identity", b"{nope", 400),
            ("gzip", b"no gzip", 400),
            ("gzip", gzip.compress(b"x")[:-4], 400),
            ("br", b"x", 415),
            ("zstd", b"no zstd", 400),
            ("zstd", bytes(cramjam.zstd.compress(b"x" * 100))[:-4], 400),
            ("zstd", bytes(cramjam.zstd.compress(bytes(2_000_000))), 413),
            ("gzip", gzip.compress(bytes(2_000_000)), 413),
            ("identity", bytes(1_000_001), 413),
        ):
            answer = await client.post(path, content=body, headers={**JSON, "content-encoding": encoding})
            assert answer.status_code == status, (path, encoding, answer.text)
        answer = await client.post(path, content=b"{}", headers={**JSON, "content-encoding": "snappy"})
        assert answer.status_code == 415 and "expected gzip, deflate, zstd or none" in answer.text, (path, answer.text)
    answer = await client.post("/api/v1/logs", content='{"message":"ok"}\n{"message":7,"timestamp":"x"}')
    assert answer.json()["error"].startswith("line 2: timestamp: not a time")
    assert await found(client) == []


async def test_the_types_that_a_refusal_names_are_taken(client: httpx.AsyncClient) -> None:
    refused = await client.post("/api/v1/logs", content='{"message":"x"}', headers={"content-type": "image/png"})
    assert refused.status_code == 415
    named = re.findall(r"application/[\w-]+", refused.json()["error"])
    assert named == ["application/json", "application/x-ndjson", "application/jsonl"] and refused.json()["error"].endswith(" or none)")
    for kind in (*named, "", "application/x-jsonlines"):
        headers = {"content-type": kind} if kind else {}
        answer = await client.post("/api/v1/logs", content='{"message":"x"}\n{"message":"y"}', headers=headers)
        assert (answer.status_code, answer.json()["data"]) == (200, {"accepted": 2}), kind
    assert len(await found(client)) == 2 * (len(named) + 2)


async def test_tenants_are_strangers(client: httpx.AsyncClient) -> None:
    await sent(client, '{"message":"of alice","level":"error"}', **{"x-scope-orgid": "alice"})
    for path in ("/api/v1/logs", "/api/v1/logs/services", "/api/v1/logs/histogram", "/api/v1/errors", "/api/v1/monitoring/logs"):
        assert "alice" not in (await client.get(path, headers={"x-scope-orgid": "charlie"})).text
    assert len(await found(client, **{"x-scope-orgid": "alice"})) == 1


async def test_counts_services_and_errors(client: httpx.AsyncClient) -> None:
    await sent(client)
    await sent(client, '{"level":"fatal","service":"jobs","message":"job 17 raised ValueError: \'x\'"}\n' * 3)
    answer = (await client.get("/api/v1/logs/histogram?last=10s&step=5s")).json()["data"]
    assert [s["counts"] for s in answer["spans"]] == [{"error": 1}, {"info": 1, "fatal": 3}] and answer["step"] == 5.0
    assert (await client.get("/api/v1/logs/histogram?last=10s&step=5")).json()["data"] == answer, "seconds, as in every other range"
    answer = (await client.get("/api/v1/logs/services")).json()["data"]["services"]
    assert answer == [{"service": "jobs", "lines": 3}, {"service": "database", "lines": 1}, {"service": "web_server", "lines": 1}]
    data = (await client.get("/api/v1/errors?last=1h")).json()["data"]
    assert data["total"] == 2
    first = data["errors"][0]
    assert (first["exception"], first["type"], first["pattern"]) == ("ValueError", "value_error", "job # raised ValueError: <…>")
    assert (first["count"], first["services"], first["trend"], sum(first["counts"])) == (3, {"jobs": 3}, "new", 3)
    assert first["first_seen"] == first["last_seen"] == "2024-01-15T10:00:00Z"
    answer = await client.get("/api/v1/logs/histogram?step=1ms")
    assert answer.status_code == 400 and "spans" in answer.json()["error"]


# -- BotServer's document -----------------------------------------------------------------------------------------------


async def test_botservers_example(client: httpx.AsyncClient) -> None:
    await sent(client)
    answer = (await client.get("/api/v1/monitoring/logs")).json()
    assert answer["logs"][0] == {
        "timestamp": "2024-01-15T10:00:00Z",
        "level": "info",
        "service": "web_server",
        "message": "Request processed successfully",
        "metadata": {"request_id": "req_123", "user_id": "user_456", "duration_ms": 150},
    }
    assert answer["total"] == 2 and answer["query"] == {"level": "all", "limit": 100}
    answer = (await client.get("/api/v1/monitoring/logs?level=error&service=database&start_time=2024-01-15T09:00:00Z&limit=5")).json()
    assert [line["message"] for line in answer["logs"]] == ["Connection timeout"]
    assert answer["query"] == {"level": "error", "limit": 5, "start_time": "2024-01-15T09:00:00Z", "service": "database"}
    assert (await client.get("/api/v1/monitoring/logs?service=nobody")).json()["logs"] == []


@pytest.mark.parametrize("query", ["level=loud", "limit=-1", "start_time=x", "start_time=2024-01-16&end_time=2024-01-15"])
async def test_botservers_refusals(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/api/v1/monitoring/logs?{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][0] == "query"


async def test_botservers_summary_of_errors(client: httpx.AsyncClient) -> None:
    empty = (await client.get("/api/v1/monitoring/errors/summary")).json()["summary"]
    assert empty == {"total_errors": 0, "errors_by_type": {}, "errors_by_service": {}, "error_rate": 0.0, "period": "24h"}
    await sent(client)
    await sent(client, '{"level":"error","message":"bad","error_type":"ValidationError"}\n{"level":"error","message":"who knows"}')
    summary = (await client.get("/api/v1/monitoring/errors/summary?period=1h")).json()["summary"]
    assert summary == {
        "total_errors": 3,
        "errors_by_type": {"timeout_error": 1, "validation_error": 1, "unknown_error": 1},
        "errors_by_service": {"unknown": 2, "database": 1},
        "error_rate": 0.75,
        "period": "1h",
    }
    assert (await client.get("/api/v1/monitoring/errors/summary?period=2h")).status_code == 422


async def test_botservers_limit(client: httpx.AsyncClient) -> None:
    answers = [(await client.get("/api/v1/monitoring/logs")).status_code for _ in range(31)]
    assert answers == [200] * 30 + [429]


# -- the live tail ------------------------------------------------------------------------------------------------------


def events(url: str, query: str, into: list[tuple[str, Any]], stop: threading.Event) -> Iterator[None]:
    with httpx.stream("GET", f"{url}/api/v1/logs/tail?{query}", timeout=30) as answer:
        kind = "line"
        for line in answer.iter_lines():
            if stop.is_set():
                return
            if line.startswith(":"):
                yield
            elif line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                into.append((kind, json.loads(line[6:])))
                kind = "line"


async def test_the_tail_gives_lines_as_they_come(url: str, client: httpx.AsyncClient, store: LogStore) -> None:
    await sent(client)
    seen: list[tuple[str, Any]] = []
    stop, opened = threading.Event(), threading.Event()

    def read() -> None:
        for _ in events(url, "level=error", seen, stop):
            opened.set()

    reading = asyncio.create_task(asyncio.to_thread(read))
    await asyncio.to_thread(opened.wait, 20)
    await sent(client, '{"level":"error","message":"first"}\n{"level":"info","message":"not asked for"}')
    await until(lambda: len(seen) == 1)
    store.flush()
    await sent(client, '{"level":"error","message":"second"}')
    await until(lambda: len(seen) == 2)
    assert [line["message"] for _, line in seen] == ["first", "second"]
    # More at once than a tail gives: the newest, and how many are left out.
    await sent(client, "\n".join(json.dumps({"level": "error", "message": f"flood {i}"}) for i in range(700)))
    await until(lambda: len(seen) == 503)
    assert seen[2] == ("skipped", {"lines": 200})
    assert [line["message"] for _, line in seen[3:]] == [f"flood {i}" for i in range(200, 700)]
    stop.set()
    await sent(client, '{"level":"error","message":"end"}')
    await reading


# -- counts as series, and no DuckDB ------------------------------------------------------------------------------------


async def test_counts_become_series_of_their_tenant(store: LogStore, client: httpx.AsyncClient) -> None:
    stored: list[tuple[str, str, int, float]] = []

    async def append(batch: SampleBatch) -> Appended:
        for start, end, when, value in zip(batch.key_start, batch.key_end, batch.timestamps, batch.values, strict=True):
            labels = batch.keyspace.resolve(batch.buffer[start:end].tobytes())
            stored.append((batch.keyspace.tenant, str(labels), int(when), float(value)))
        return Appended(ids=batch.key_start)

    clock = ManualClock(NOW)
    series = LogSeries(lambda: store.counts.lines, append, clock, interval_ms=15_000)
    await sent(client, LINES)
    await sent(client, '{"level":"error","message":"x"}', **{"x-scope-orgid": "alice"})
    series.start()
    await clock.advance(15)
    await series.close()
    at = (NOW + 15) * 1000
    first = 'vedette_log_messages_total{level="error",service="database"}'
    mine = [s for s in stored if "database" in s[1]]
    assert [(t, when, value) for t, _, when, value in mine] == [("default", at - 1, 0.0), ("default", at, 1.0), ("default", at, 1.0)]
    assert mine[0][1].replace(" ", "") == first
    assert {(t, v) for t, s, _, v in stored if "service" not in s} == {("alice", 0.0), ("alice", 1.0)}


async def test_without_duckdb_it_is_said(app: Starlette) -> None:
    backend = logs.LogBackend(None, run, ManualClock(NOW), tenant_of)
    operations = [*logs_in.endpoints(backend), *logs_elastic.endpoints(backend), *logs.endpoints(backend, cors_origin="")]
    none = Starlette(routes=routes(operations))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(none), base_url="http://test") as client:
        for answer in (await client.get("/api/v1/logs"), await client.post("/api/v1/logs", content="{}"), await client.post("/_bulk")):
            assert answer.status_code == 404
            assert "pip install 'vedette[logs]'" in answer.text


def test_no_handler_is_left_behind() -> None:
    assert not any("otlp" in type(h).__module__ for h in logging.getLogger().handlers)


@pytest.mark.parametrize("flushed", [False, True])
async def test_an_error_is_as_old_as_its_first_line(client: httpx.AsyncClient, store: LogStore, flushed: bool) -> None:
    rows = [
        {"timestamp": NOW - 3 * 86_400, "level": "error", "message": "job 1 failed"},
        {"timestamp": NOW - 2 * 86_400, "level": "info", "message": "disk 7 full"},
        *({"timestamp": NOW - 60 - i, "level": "error", "message": f"job {i} failed"} for i in range(9)),
        *({"timestamp": NOW - 60 - i, "level": "fatal", "message": f"disk {i} full"} for i in range(8)),
    ]
    await sent(client, "\n".join(map(json.dumps, rows)))
    await sent(
        client, json.dumps({"timestamp": NOW - 5 * 86_400, "level": "error", "message": "disk 1 full"}), **{"x-scope-orgid": "charlie"}
    )
    if flushed:
        store.flush()
    job, disk = (await client.get("/api/v1/errors?last=1d")).json()["data"]["errors"]
    assert (job["pattern"], job["count"], job["first_seen"], job["trend"]) == ("job # failed", 9, "2024-01-12T10:00:00Z", "increasing")
    assert (disk["pattern"], disk["count"], disk["first_seen"], disk["trend"]) == ("disk # full", 8, "2024-01-15T09:58:53Z", "new")
    (only,) = (await client.get("/api/v1/errors?last=1d&level=fatal&text=disk")).json()["data"]["errors"]
    assert only["pattern"] == "disk # full"
