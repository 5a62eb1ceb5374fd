"""Log lines over HTTP: each protocol in, from real clients where there are some; one search out; BotServer's document."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cramjam
import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from vedette.api import logql, logs, logs_in, logs_loki
from vedette.api.endpoint import routes
from vedette.api.services import botlogs
from vedette.api.services.settings import ServicesSettings
from vedette.clock import ManualClock
from vedette.errors import BadInput
from vedette.ingest.logseries import LogSeries
from vedette.logs.settings import LogSettings
from vedette.logs.store import LogStore
from vedette.model.samples import Appended, SampleBatch

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'vedette[logs]'")

NOW = 1_705_312_800  # 2024-01-15T10:00:00Z
JSON = {"content-type": "application/json"}


def tenant_of(scope: Mapping[str, Any]) -> str:
    return str(dict(scope["headers"]).get(b"x-scope-orgid", b"default").decode())


async def run(function: Callable[..., Any], /, *args: Any) -> Any:
    return await asyncio.to_thread(function, *args)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LogStore]:
    made = LogStore(tmp_path / "logs", LogSettings(max_line=10_000, max_body=1_000_000), ManualClock(NOW))
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def app(store: LogStore) -> Starlette:
    backend = logs.LogBackend(store, run, ManualClock(NOW), tenant_of)
    operations = [
        *logs_in.endpoints(backend),
        *logs.endpoints(backend, cors_origin=".*"),
        *logs_loki.endpoints(backend, cors_origin=".*"),
        *botlogs.endpoints(backend, ServicesSettings(logs_per_minute=30)),
    ]
    return Starlette(routes=[*routes(operations), logs_in.elastic_root(backend)])


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as made:
        yield made


@pytest.fixture
async def url(app: Starlette, free_port: Callable[[], int]) -> AsyncIterator[str]:
    """The same application behind a real socket, for real clients."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await task


LINES = """\
{"timestamp": "2024-01-15T09:59:55Z", "level": "error", "service": "database", "message": "Connection timeout", "metadata": {"timeout_ms": 5000}}
{"timestamp": "2024-01-15T10:00:00Z", "level": "info", "service": "web_server", "message": "Request processed successfully", "metadata": {"request_id": "req_123", "user_id": "user_456", "duration_ms": 150}}
"""  # noqa: E501 - lines as they are sent


async def sent(client: httpx.AsyncClient, body: str = LINES, **headers: str) -> None:
    answer = await client.post("/api/v1/logs", content=body, headers=headers)
    assert answer.status_code == 200, answer.text


async def found(client: httpx.AsyncClient, query: str = "", **headers: str) -> list[dict[str, Any]]:
    answer = await client.get(f"/api/v1/logs?{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]["logs"]
    return rows


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
    answer = await client.post("/api/v1/logs", content='{"message":"ok"}\n{"message":7,"timestamp":"x"}')
    assert answer.json()["error"].startswith("line 2: timestamp: not a time")
    assert await found(client) == []


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


# -- real clients -------------------------------------------------------------------------------------------------------


async def test_the_elasticsearch_client(url: str, client: httpx.AsyncClient) -> None:
    elasticsearch = pytest.importorskip("elasticsearch")
    helpers = pytest.importorskip("elasticsearch.helpers")

    def use() -> tuple[int, Any, Any]:
        with elasticsearch.Elasticsearch(url) as made:
            assert made.ping()
            version = made.info()["version"]["number"]
            documents = [
                {
                    "_index": "shop-logs",
                    "_op_type": "create",
                    "@timestamp": "2024-01-15T09:59:00Z",
                    "message": f"doc {i}",
                    "log.level": "warn",
                }
                for i in range(50)
            ]
            done, errors = helpers.bulk(made, [*documents, {"_index": "shop-logs", "@timestamp": "never"}], raise_on_error=False)
            one = made.index(index="shop-logs", document={"message": "one", "service": {"name": "es"}})
            return done, errors, (version, one["result"])

    done, errors, rest = await asyncio.to_thread(use)
    assert done == 50 and rest == ("8.17.0", "created")
    assert "failed to parse field [@timestamp]" in errors[0]["index"]["error"]["reason"]
    rows = await found(client, "service=shop-logs&level=warn&limit=100")
    assert sorted(row["message"] for row in rows) == sorted(f"doc {i}" for i in range(50))
    assert [row["message"] for row in await found(client, "service=es")] == ["one"]


async def test_what_filebeat_asks_first(client: httpx.AsyncClient) -> None:
    root = await client.get("/", headers={"accept": "application/json"})
    assert root.json()["version"]["number"] == "8.17.0" and root.headers["x-elastic-product"] == "Elasticsearch"
    assert (await client.get("/", headers={"accept": "text/html"})).status_code == 404  # the UI's, which is not here
    assert (await client.get("/_license")).json()["license"]["status"] == "active"
    assert (await client.head("/_index_template/filebeat-8.17.0")).status_code == 200
    assert (await client.get("/_ilm/policy/filebeat")).json()["filebeat"]["policy"]["phases"]["delete"]["min_age"] == "30d"


async def test_the_otlp_exporter(url: str, client: httpx.AsyncClient) -> None:
    exporter = pytest.importorskip("opentelemetry.exporter.otlp.proto.http._log_exporter")
    sdk = pytest.importorskip("opentelemetry.sdk._logs")
    export = pytest.importorskip("opentelemetry.sdk._logs.export")
    resource = pytest.importorskip("opentelemetry.sdk.resources")
    from opentelemetry.exporter.otlp.proto.http import Compression

    def use() -> None:
        about = resource.Resource.create({"service.name": "otel-shop", "deployment": "test"})
        provider = sdk.LoggerProvider(resource=about, shutdown_on_exit=False)
        sending = exporter.OTLPLogExporter(endpoint=f"{url}/v1/logs", compression=Compression.Gzip)
        provider.add_log_record_processor(export.SimpleLogRecordProcessor(sending))
        from opentelemetry._logs import LogRecord, SeverityNumber

        made = provider.get_logger("lib")
        made.emit(
            LogRecord(
                timestamp=NOW * 10**9 - 5,
                severity_number=SeverityNumber.ERROR,
                severity_text="ERROR",
                body="over OTLP",
                attributes={"n": 5, "ok": True, "list": ["a", "b"]},
            )
        )
        provider.shutdown()

    await asyncio.to_thread(use)
    (row,) = await found(client, "service=otel-shop")
    assert (row["level"], row["message"], row["timestamp"]) == ("error", "over OTLP", "2024-01-15T09:59:59.999999995Z")
    assert {"n": 5, "ok": True, "list": ["a", "b"], "scope": "lib", "deployment": "test"}.items() <= row["fields"].items()


async def test_otlp_answers_in_the_senders_encoding(client: httpx.AsyncClient) -> None:
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "json"}}]}]}]}
    answer = await client.post("/v1/logs", json=body)
    assert (answer.status_code, answer.json()) == (200, {})
    answer = await client.post("/v1/logs", content=b"", headers={"content-type": "application/x-protobuf"})
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"", "application/x-protobuf")
    answer = await client.post("/v1/logs", content=b"\x0a\x7f", headers={"content-type": "application/x-protobuf"})
    assert answer.status_code == 400 and b"longer than its message" in answer.content
    assert (await client.post("/v1/logs", content=b"", headers={"content-type": "text/plain"})).status_code == 415
    assert (await client.post("/v1/logs", json=[])).json() == {"code": 3, "message": "the body: expected an object"}


async def test_loki_push(client: httpx.AsyncClient) -> None:
    body = {"streams": [{"stream": {"app": "loki-shop"}, "values": [[str(NOW * 10**9), "level=warn pushed"]]}]}
    assert (await client.post("/loki/api/v1/push", json=body)).status_code == 204
    entry = b"\x0a\x06\x08" + b"\xe0\xb8\x94\xad\x06" + b"\x12\x05plain"
    stream = b"\x0a\x0d" + b'{app="proto"}' + b"\x12" + bytes([len(entry)]) + entry
    packed = bytes(cramjam.snappy.compress_raw(b"\x0a" + bytes([len(stream)]) + stream))
    answer = await client.post("/loki/api/v1/push", content=packed, headers={"content-type": "application/x-protobuf"})
    assert answer.status_code == 204, answer.text
    assert {(row["service"], row["message"]) for row in await found(client)} == {("loki-shop", "level=warn pushed"), ("proto", "plain")}
    answer = await client.post("/loki/api/v1/push", json={"streams": 1})
    assert (answer.status_code, answer.text) == (400, "streams: expected a list\n")


# -- Loki's queries, as Grafana asks them ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ('{service_name="database"}', ["Connection timeout"]),
        ('{service=~".+", level!="info"} |= ""', ["Connection timeout"]),
        ('{service!~"data.*"}', ["Request processed successfully"]),
        ('{level="error"} |= "timeout" != "retry" |~ "^Conn" !~ `\\d`', ["Connection timeout"]),
        ('{level="error"} |= "TIMEOUT"', []),
        ('{user_id="user_456"}', ["Request processed successfully"]),
        ("{}", ["Request processed successfully", "Connection timeout"]),
    ],
)
async def test_loki_query_range(client: httpx.AsyncClient, query: str, messages: list[str]) -> None:
    await sent(client)
    params = {"query": query, "start": str((NOW - 60) * 10**9), "end": str((NOW + 1) * 10**9), "limit": "10"}
    data = (await client.get("/loki/api/v1/query_range", params=params)).json()["data"]
    assert data["resultType"] == "streams"
    found = [(int(time), line) for stream in data["result"] for time, line in stream["values"]]
    assert [line for _, line in sorted(found, reverse=True)] == messages


async def test_loki_labels_volume_and_health(client: httpx.AsyncClient) -> None:
    await sent(client)
    stream = (await client.get("/loki/api/v1/query?query={service=%22database%22}")).json()["data"]["result"][0]["stream"]
    assert stream == {"service_name": "database", "level": "error", "timeout_ms": "5000"}
    assert (await client.get("/loki/api/v1/labels")).json()["data"] == ["level", "service", "service_name"]
    assert (await client.get("/loki/api/v1/label/service_name/values")).json()["data"] == ["database", "web_server"]
    assert (await client.get("/loki/api/v1/label/level/values")).json()["data"] == ["error", "info"]
    series = (await client.get("/loki/api/v1/series", params={"match[]": '{service="database"}'})).json()["data"]
    assert series == [{"service_name": "database", "level": "error"}]
    volume = 'sum by (level, detected_level) (count_over_time({service=~".+"} |= `` [5s]))'
    params = {"query": volume, "start": str(NOW - 10), "end": str(NOW + 1)}
    data = (await client.get("/loki/api/v1/query_range", params=params)).json()["data"]
    last = {s["metric"]["level"]: (set(s["metric"].values()), [v for _, v in s["values"]]) for s in data["result"]}
    assert last == {"error": ({"error"}, ["1"] * 5), "info": ({"info"}, ["1"] * 2)}, (
        "one each second for five seconds, as far as they are past"
    )
    data = (await client.get("/loki/api/v1/query?query=vector(1)%2Bvector(1)")).json()["data"]
    assert data["result"][0]["value"][1] == "2"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "column 1: not a log query"),
        ('quantile_over_time(0.9, {a="b"} | unwrap x [5m])', "column 1: not a log query"),
        ('rate({a="b"})', ": not a range"),
        ('rate({a="b"}[5m]', "not a closing parenthesis"),
        ('rate({a="b"}[5q])', "5q"),
        ('topk({a="b"}[5m])', "not a number of series"),
        ('topk(0, rate({a="b"}[5m]))', "not a number of series"),
        ('sum rate({a="b"}[5m])', "column 5: not a parenthesis"),
        ('rate({a="b"}[5m]) > 5', "column 19: something follows the query"),
        ("{a=b}", "column 2: not a matcher"),
        ('{a="b"} | line_format "{{.x}}"', "column 9: not a line filter, parser or label filter"),
        ('{a="b"} | json | logfmt', "lines are parsed in one way only"),
        ('{a="b"} | status > "5"', "text has no order"),
        ('{a="b"} | status > 5s', "not a line filter"),
        ('{a=~"("}', "field a: bad regular expression"),
        ('{a="b"', "not a matcher"),
        ("sum(" * 30 + 'rate({a="b"}[5m])' + ")" * 30, "not a log query"),
    ],
)
async def test_loki_refusals_point(client: httpx.AsyncClient, query: str, message: str) -> None:
    answer = await client.get("/loki/api/v1/query_range", params={"query": query})
    assert answer.status_code == 400 and message in answer.text


LOGFMT = [
    (0, "info", "shop", 'level=info status=200 took=12 path="/cart items"'),
    (10, "error", "shop", "level=error status=500 took=340 path=/pay"),
    (20, "error", "shop", 'status=503 msg="no \\"answer\\"" took=5.5'),
    (30, "info", "jobs", '{"status": 200, "took": 7, "request": {"method": "GET", "ids": [1, 2]}}'),
    (40, "info", "jobs", "nothing to parse"),
]


async def walked(client: httpx.AsyncClient) -> None:
    for after, level, service, message in LOGFMT:
        row = {
            "timestamp": NOW - 60 + after,
            "level": level,
            "service": service,
            "message": message,
            "region": "eu" if after < 20 else "us",
        }
        await sent(client, json.dumps(row))


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ("{} | logfmt | status >= 500", [10, 20]),
        ('{service="shop"} | logfmt | path="/cart items"', [0]),
        ('{} | logfmt | msg=`no \\"answer\\"`', [20]),
        ("{} | logfmt | took > 5 | took < 100 and status = 200", [0]),
        ("{} | logfmt | status != 200, level=`error`", [10, 20]),
        ('{} | json | request_method=~"G.T"', [30]),
        ("{} | json | status == 200", [30]),
        ('{} | region="us"', [20, 30, 40]),
        ('{} |= "status" != "503" or "340"', [0, 30]),
        ('{} |~ "no (answer|thing)" or "took=3.0"', [10]),
        ("{} |= `nothing` or `12` | drop __error__", [0, 40]),
        ('{} | logfmt | absent="" |= "nothing"', [40]),
    ],
)
@pytest.mark.parametrize("flushed", [False, True])
async def test_loki_parsers_and_label_filters(client: httpx.AsyncClient, store: LogStore, query: str, at: list[int], flushed: bool) -> None:
    await walked(client)
    if flushed:
        store.flush()
    params = {"query": query, "start": str(NOW - 100), "end": str(NOW + 1), "direction": "forward"}
    answer = await client.get("/loki/api/v1/query_range", params=params)
    assert answer.status_code == 200, answer.text
    found = sorted(int(time) for stream in answer.json()["data"]["result"] for time, _ in stream["values"])
    assert [time // 10**9 - NOW + 60 for time in found] == at


async def test_what_a_parser_finds_are_labels_of_the_line(client: httpx.AsyncClient) -> None:
    await walked(client)

    async def labels(query: str) -> dict[str, str]:
        params = {"query": query, "start": str(NOW - 100), "end": str(NOW + 1)}
        found: dict[str, str] = (await client.get("/loki/api/v1/query_range", params=params)).json()["data"]["result"][0]["stream"]
        return found

    own = {"service_name": "jobs", "level": "info", "region": "us"}
    assert await labels('{} | json | status="200"') == {**own, "status": "200", "took": "7", "request_method": "GET"}
    assert await labels('{} |= "nothing" | json') == {**own, "__error__": "JSONParserErr"}
    assert (await labels('{} |= "cart" | logfmt'))["path"] == "/cart items"


def naive(times: list[int], start: int, end: int, step: int, span: int) -> list[list[Any]]:
    points = [[t, str(sum(t - span < at <= t for at in times))] for t in range(start, end + 1, step)]
    return [point for point in points if point[1] != "0"]


@pytest.mark.parametrize(("step", "span"), [(5, 10), (10, 10), (10, 30), (7, 20), (20, 7), (60, 1)])
async def test_loki_counts_are_the_naive_ones(client: httpx.AsyncClient, store: LogStore, step: int, span: int) -> None:
    await walked(client)
    store.flush()
    await walked(client)
    params = {"query": f"count_over_time({{}}[{span}s])", "start": str(NOW - 60), "end": str(NOW), "step": str(step)}
    data = (await client.get("/loki/api/v1/query_range", params=params)).json()["data"]
    assert data["resultType"] == "matrix"
    for one in data["result"]:
        times = [NOW - 60 + after for after, level, service, _ in LOGFMT * 2 if (level, service) == tuple(one["metric"].values())]
        assert one["values"] == naive(times, NOW - 60, NOW, step, span)
    assert {tuple(one["metric"].values()) for one in data["result"]} <= {("info", "shop"), ("error", "shop"), ("info", "jobs")}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sum(count_over_time({}[2m]))", {"": "5"}),
        ("sum by (service_name) (count_over_time({}[2m]))", {"shop": "3", "jobs": "2"}),
        ("sum by (region) (count_over_time({}[2m]))", {"eu": "2", "us": "3"}),
        ("sum(count_over_time({}[2m])) by (level)", {"info": "3", "error": "2"}),
        ("sum without (level) (count_over_time({}[2m]))", {"shop": "3", "jobs": "2"}),
        ("sum by (status) (count_over_time({} | logfmt [2m]))", {"200": "1", "500": "1", "503": "1", "": "2"}),
        ("max(sum by (service_name) (count_over_time({}[2m])))", {"": "3"}),
        ("min(count_over_time({}[2m]))", {"": "1"}),
        ("avg(count_over_time({}[2m]))", {"": repr(5 / 3)}),
        ("count(count_over_time({}[2m]))", {"": "3"}),
        ("max by (region) (count_over_time({}[2m]))", {"eu": "1", "us": "2"}),
        ("count without (level) (count_over_time({}[2m]))", {"shop": "2", "jobs": "1"}),
        ("topk(1, sum by (service_name) (count_over_time({}[2m])))", {"shop": "3"}),
        ("bottomk(1, sum by (service_name) (count_over_time({}[2m])))", {"jobs": "2"}),
        ('sum(rate({service="shop"}[30s] offset 30s))', {"": repr(2 / 30)}),
        ('sum(bytes_over_time({service="jobs"} |= "nothing" [2m]))', {"": "16"}),
        ('sum(bytes_rate({} |= "nothing" [32s]))', {"": "0.5"}),
        ("sum(count_over_time({}[15s]))", {}),
    ],
)
async def test_loki_aggregations_at_a_time(client: httpx.AsyncClient, query: str, expected: dict[str, str]) -> None:
    await walked(client)
    answer = await client.get("/loki/api/v1/query", params={"query": query, "time": str(NOW)})
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert data["resultType"] == "vector"
    assert {"".join(one["metric"].values()): one["value"][1] for one in data["result"]} == expected
    assert all(one["value"][0] == NOW for one in data["result"])


async def test_loki_labels_in_what_is_no_range(client: httpx.AsyncClient) -> None:
    for params, said in (({"start": "never"}, "start"), ({"end": "never"}, "end"), ({"start": "20", "end": "10"}, "before")):
        answer = await client.get("/loki/api/v1/labels", params=params)
        assert answer.status_code == 400
        assert said in answer.text
    assert (await client.get("/loki/api/v1/labels")).json()["data"]


async def test_loki_steps_are_bounded(client: httpx.AsyncClient) -> None:
    def params(**more: str) -> dict[str, str]:
        return {"query": "count_over_time({}[1m])", "start": str(NOW - 86_400), "end": str(NOW), **more}

    for more, said in (({"step": "1"}, "86,401 points"), ({"step": "0"}, "above zero"), ({"step": "soon"}, "soon")):
        refused = await client.get("/loki/api/v1/query_range", params=params(**more))
        assert refused.status_code == 400 and said in refused.text
    fine = await client.get("/loki/api/v1/query_range", params=params(step="9.001"))
    assert fine.status_code == 400 and "common part" in fine.text
    assert (await client.get("/loki/api/v1/query_range", params=params())).status_code == 200


PIECES = [
    "{",
    "}",
    "(",
    ")",
    "[5m]",
    "[",
    "]",
    '"',
    "`",
    "|=",
    "|~",
    "!=",
    "| json",
    "| logfmt",
    "|",
    "rate",
    "sum",
    "by",
    "without",
    "topk",
    "3",
    ",",
]
PIECES += [
    'a="b"',
    "level",
    "=",
    ">",
    "offset",
    "-5m",
    "or",
    "and",
    "drop",
    " ",
    "\\",
    "é",
    "\x00",
    "[99999y]",
    "count_over_time",
    "status >= 5",
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join) | st.text(max_size=40))
def test_whatever_is_asked_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadInput):
        logql.parse(text)


@pytest.mark.parametrize(
    "text", ["{" + "a" * 100_000, "sum(" * 50_000, '{a="' + "\\" * 99_999, "{} " + "| json " * 20_000, "{} " + '|= "x" ' * 5_000]
)
def test_long_queries_are_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadInput):
        logql.parse(text)


@pytest.mark.parametrize(
    "params",
    [
        {"query": "rate({}[99999y])"},
        {"query": "rate({}[5m] offset 99999y)"},
        {"query": "rate({}[5m])", "step": "9" * 400},
        {"query": "rate({}[5m])", "start": "-9e18", "end": "9e18"},
        {"query": "rate({}[5m])", "start": "1700000000", "end": "4611686018427387903", "step": "999999999"},
        {"query": "rate({}[5m])", "since": "99999y"},
    ],
)
async def test_times_beyond_all_bounds_are_refused(client: httpx.AsyncClient, params: dict[str, str]) -> None:
    answer = await client.get("/loki/api/v1/query_range", params={"start": str(NOW - 60), **params})
    assert answer.status_code in (200, 400), answer.text
    assert (await client.get("/loki/api/v1/index/stats", params={k: v for k, v in params.items() if k != "query"})).status_code in (
        200,
        400,
    )
    assert (await client.get("/loki/api/v1/index/volume", params={k: v for k, v in params.items() if k != "query"})).status_code in (
        200,
        400,
    )


async def test_what_senders_for_elasticsearch_ask_first(client: httpx.AsyncClient, store: LogStore) -> None:
    for path in ("/", "/_license", "/_cluster/health", "/_template/logstash", "/_index_template/filebeat", "/_ilm/policy/filebeat"):
        for method in ("GET", "HEAD"):
            answer = await client.request(method, path, headers={"accept": "application/vnd.elasticsearch+json; compatible-with=8"})
            assert (answer.status_code, answer.headers["x-elastic-product"]) == (200, "Elasticsearch"), (method, path)
    assert (await client.get("/_cluster/health")).json()["status"] == "green"
    assert (await client.get("/_template/logstash")).json()["logstash"]["index_patterns"] == ["logstash*"]
    store._flush_problem = "the disk is full"
    assert ((await client.get("/_cluster/health")).status_code, (await client.get("/_cluster/health")).json()["status"]) == (503, "red")


async def test_what_grafana_asks_beside_queries(client: httpx.AsyncClient) -> None:
    await walked(client)
    times = {"start": str(NOW - 100), "end": str(NOW + 1)}
    stats = (await client.get("/loki/api/v1/index/stats", params={"query": '{service_name="jobs"}', **times})).json()
    assert (stats["streams"], stats["entries"], stats["bytes"]) == (1, 2, len(LOGFMT[3][3]) + len(LOGFMT[4][3]))
    volume = (await client.get("/loki/api/v1/index/volume", params={"query": "{}", "targetLabels": "service_name", **times})).json()["data"]
    assert [one["metric"] for one in volume["result"]] == [{"service_name": "shop"}, {"service_name": "jobs"}]
    assert (await client.get("/ready")).text == "ready\n"
    assert (await client.get("/loki/api/v1/status/buildinfo")).json()["version"]
    other = {"x-scope-orgid": "charlie"}
    assert (await client.get("/loki/api/v1/index/stats", params={"query": "{}", **times}, headers=other)).json()["entries"] == 0
    assert (await client.get("/loki/api/v1/query", params={"query": "count_over_time({}[2m])", "time": str(NOW)}, headers=other)).json()[
        "data"
    ]["result"] == []


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


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


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
    none = Starlette(routes=routes([*logs_in.endpoints(backend), *logs.endpoints(backend, cors_origin="")]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(none), base_url="http://test") as client:
        for answer in (await client.get("/api/v1/logs"), await client.post("/api/v1/logs", content="{}"), await client.post("/_bulk")):
            assert answer.status_code == 404
            assert "pip install 'vedette[logs]'" in answer.text


def test_no_handler_is_left_behind() -> None:
    assert not any("otlp" in type(h).__module__ for h in logging.getLogger().handlers)
