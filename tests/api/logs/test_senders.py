"""Log lines from real clients of other systems: Elasticsearch's, OpenTelemetry's, Loki's push."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import cramjam
import httpx
import pytest
from tests.api.logs.conftest import NOW, found, until

from vedette.logs.store import LogStore

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'vedette[logs]'")


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


async def test_what_senders_for_elasticsearch_ask_first(client: httpx.AsyncClient, store: LogStore) -> None:
    for path in ("/", "/_license", "/_cluster/health", "/_template/logstash", "/_index_template/filebeat", "/_ilm/policy/filebeat"):
        for method in ("GET", "HEAD"):
            answer = await client.request(method, path, headers={"accept": "application/vnd.elasticsearch+json; compatible-with=8"})
            assert (answer.status_code, answer.headers["x-elastic-product"]) == (200, "Elasticsearch"), (method, path)
    assert (await client.get("/_cluster/health")).json()["status"] == "green"
    assert (await client.get("/_template/logstash")).json()["logstash"]["index_patterns"] == ["logstash*"]
    store._flush_problem = "the disk is full"
    assert ((await client.get("/_cluster/health")).status_code, (await client.get("/_cluster/health")).json()["status"]) == (503, "red")


BULK = """{"create": {"_id": "1"}}
{"message": "kept"}
{"index": {"_index": "other"}}
{"@timestamp": "never"}
{"update": {"_id": "1"}}
{"doc": {"message": "changed"}}
{"delete": {"_id": "1"}}
"""
REASONS = [
    {"index": {"error": {"type": "document_parsing_exception"}}},
    {"update": {"error": {"type": "illegal_argument_exception"}}},
    {"delete": {"error": {"type": "illegal_argument_exception"}}},
]
CREATED = {"_index": "shop", "_id": "1", "_version": 1, "result": "created", "status": 201, "_primary_term": 1}


@pytest.mark.parametrize(
    ("paths", "answer"),
    [
        ("errors", {"errors": True}),
        (
            "errors,items.*.status",
            {"errors": True, "items": [{"create": {"status": 201}}, *({a: {"status": 400}} for a in ("index", "update", "delete"))]},
        ),
        ("items.*.error.type", {"items": REASONS}),
        ("**.type", {"items": REASONS}),
        ("-took,-items", {"errors": True}),
        ("items.create,-**._seq_no,-items.create._shards", {"items": [{"create": CREATED}]}),
        ("nothing", {}),
    ],
)
async def test_the_parts_that_shippers_ask_for(client: httpx.AsyncClient, paths: str, answer: dict[str, Any]) -> None:
    headers = {"content-type": "application/x-ndjson"}
    given = await client.post("/shop/_bulk", params={"filter_path": paths}, content=BULK, headers=headers)
    assert given.status_code == 200
    assert given.json() == answer
    assert [row["message"] for row in await found(client, "service=shop")] == ["kept"]


async def test_what_is_put_is_taken_or_refused_and_says_so(client: httpx.AsyncClient) -> None:
    for path in ("/_index_template/shop", "/_component_template/shop", "/_template/shop"):
        taken = await client.put(path, json={"index_patterns": ["shop*"]})
        assert (taken.status_code, taken.json()) == (200, {"acknowledged": True})
        assert (await client.put(path, content=b"{")).status_code == 400
    for path, said in (("/_ilm/policy/shop", "logs.retention"), ("/_ingest/pipeline/shop", "pipelines are not run")):
        refused = await client.put(path, json={})
        assert refused.status_code == 400 and said in refused.json()["error"]["reason"]
        assert refused.headers["x-elastic-product"] == "Elasticsearch"
    assert (await client.get("/_ingest/pipeline/shop")).status_code == 404
    assert (await client.get("/_xpack")).json()["license"]["status"] == "active"
    assert (await client.get("/_data_stream/shop")).json()["data_streams"][0]["name"] == "shop"
    assert (await client.get("/_component_template/shop")).json()["component_templates"][0]["name"] == "shop"


async def test_tables(client: httpx.AsyncClient, store: LogStore) -> None:
    assert (await client.head("/_cat/health")).status_code == 200
    assert (await client.get("/_cat/health")).text == f"{NOW} 10:00:00 vedette green\n"
    assert (await client.get("/_cat/indices?v")).text == ""
    await client.post("/shop/_doc/7", json={"message": "one"})
    created = await client.put("/web/_create/8", json={"message": "two"})
    assert (created.status_code, created.json()["_id"]) == (201, "8")
    table = (await client.get("/_cat/indices?v=true")).text.splitlines()
    assert [row.split() for row in table] == [
        ["health", "status", "index", "docs.count", "docs.deleted"],
        ["green", "open", "shop", "1", "0"],
        ["green", "open", "web", "1", "0"],
    ]
    listed = (await client.get("/_cat/indices/w*,nope?format=json")).json()
    assert [row["index"] for row in listed] == ["web"]
    other = await client.get("/_cat/indices", headers={"x-scope-orgid": "charlie"})
    assert other.text == "", "nothing of another tenant"
    store._flush_problem = "the disk is full"
    assert (await client.get("/_cat/health")).text.endswith(" red\n")


async def test_a_data_stream_by_the_elasticsearch_client(url: str, client: httpx.AsyncClient) -> None:
    elasticsearch = pytest.importorskip("elasticsearch")

    def use() -> list[str]:
        with elasticsearch.Elasticsearch(url) as made:
            made.indices.put_index_template(name="logs-shop", index_patterns=["logs-shop-*"], data_stream={})
            assert made.indices.exists_index_template(name="logs-shop")
            assert made.cluster.health()["status"] == "green"
            assert made.license.get()["license"]["status"] == "active"
            operations = [{"create": {}}, {"@timestamp": "2024-01-15T09:59:59.999Z", "message": "in a stream", "service": {"name": "shop"}}]
            answer = made.bulk(index="logs-shop-default", operations=operations, filter_path="errors")
            assert answer["errors"] is False
            with pytest.raises(elasticsearch.BadRequestError, match="pipelines are not run"):
                made.ingest.put_pipeline(id="p", processors=[])
            with pytest.raises(elasticsearch.NotFoundError):
                made.ingest.get_pipeline(id="p")
            return [row["index"] for row in made.cat.indices(format="json")]

    assert await asyncio.to_thread(use) == ["shop"]
    (row,) = await found(client, "service=shop")
    assert (row["message"], row["timestamp"], row["fields"]["_index"]) == ("in a stream", "2024-01-15T09:59:59.999Z", "logs-shop-default")


RSYSLOG = """
module(load="imuxsock" SysSock.Use="off")
module(load="omelasticsearch")
input(type="imuxsock" Socket="{work}/log" UseSpecialParser="off" UseSysTimeStamp="off" IgnoreTimestamp="off")
global(workDirectory="{work}")
template(name="line" type="list" option.jsonf="on") {{
    property(outname="@timestamp" name="timereported" dateFormat="rfc3339" format="jsonf")
    property(outname="service" name="programname" format="jsonf")
    property(outname="level" name="syslogseverity-text" format="jsonf")
    property(outname="message" name="msg" format="jsonf")
}}
action(type="omelasticsearch" server="127.0.0.1" serverport="{port}" template="line" searchIndex="logs-rsyslog" searchType=""
       bulkmode="on" writeoperation="create" esVersion.major="8" errorFile="{work}/errors" action.resumeRetryCount="-1"
       queue.type="linkedList" queue.dequeueBatchSize="50")
"""


async def test_rsyslogs_module_for_elasticsearch(url: str, client: httpx.AsyncClient, tmp_path_factory: pytest.TempPathFactory) -> None:
    daemon, module = Path("/usr/sbin/rsyslogd"), Path("/usr/lib/x86_64-linux-gnu/rsyslog/omelasticsearch.so")
    if not daemon.exists() or not any(module.parents[1].parent.glob("*/rsyslog/omelasticsearch.so")):
        pytest.skip("omelasticsearch is not installed: apt install rsyslog-elasticsearch")
    work = tmp_path_factory.mktemp("rsyslog")
    config = work / "rsyslog.conf"
    config.write_text(RSYSLOG.format(work=work, port=url.rpartition(":")[2]))
    process = subprocess.Popen([daemon, "-n", "-f", str(config), "-i", str(work / "pid")], stderr=subprocess.DEVNULL)
    try:
        await until((work / "log").exists)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(work / "log"))
            for i in range(120):
                sender.send(f'<11>1 2024-01-15T09:59:50.{i:03d}Z host shop 42 - - payment {i} failed: "ünicode" \\d+'.encode())
        rows: list[dict[str, Any]] = []
        deadline = time.monotonic() + 30
        while len(rows) < 120 and time.monotonic() < deadline:
            rows = await found(client, "service=shop&limit=200")
            await asyncio.sleep(0.05)
        errors = (work / "errors").read_text() if (work / "errors").exists() else ""
        assert sorted(row["message"] for row in rows) == sorted(f'payment {i} failed: "ünicode" \\d+' for i in range(120)), errors
        assert {(row["level"], row["fields"]["_index"]) for row in rows} == {("error", "logs-rsyslog")}
        assert rows[0]["timestamp"] == "2024-01-15T09:59:50.119Z"
    finally:
        process.terminate()
        process.wait()
