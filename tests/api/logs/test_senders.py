"""Log lines from real clients of other systems: Elasticsearch's, OpenTelemetry's, Loki's push."""

from __future__ import annotations

import asyncio
from typing import Any

import cramjam
import httpx
import pytest
from tests.api.logs.conftest import NOW, found

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
