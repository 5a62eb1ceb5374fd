"""Answers as tables, read by those that are to read them: the csv module, DuckDB."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import numpy as np
import pytest

from vedette.api.endpoint import answering, routes
from vedette.api.problems import UNEXPECTED, prometheus_body
from vedette.api.problems import prometheus as told
from vedette.api.queries import Gate, Queries, endpoints
from vedette.api.turns import Turns
from vedette.clock import ManualClock
from vedette.model.labels import Labels
from vedette.promql.engine import Engine
from vedette.promql.settings import PromqlSettings

NOW = 1_700_000_000
NOW_MS = NOW * 1000


@pytest.fixture
def client(storage: Any, clock: ManualClock, run: Any, serve: Any) -> Any:
    engine = Engine(storage, PromqlSettings(), clock)
    for i in range(4):
        storage.put(Labels.of(__name__="hits", job="a,b", path='/"x"'), (NOW_MS - 45_000 + i * 15_000, i * 1.5))
        storage.put(Labels.of(__name__="hits", job="größe"), (NOW_MS - 45_000 + i * 15_000, float("nan") if i == 2 else -i))
    gate = Gate(run, clock, Turns(concurrency=4, per_tenant=4, queued=10), timeout_s=60)
    found = endpoints(Queries(engine, gate, clock, lambda scope: "default"))
    broken = partial(prometheus_body, 500, "internal", UNEXPECTED)
    yield serve(routes([replace(e, handler=answering(e.handler, told, broken)) for e in found]))
    engine.close()


async def table(client: httpx.AsyncClient, path: str, **params: Any) -> list[dict[str, str]]:
    answer = await client.get(f"/api/v1/{path}", params={"format": "csv", **params})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text)))


async def test_an_instant_query_is_a_row_a_series(client: httpx.AsyncClient) -> None:
    rows = await table(client, "query", query="hits", time=NOW)
    assert rows == [
        {"__name__": "hits", "job": "a,b", "path": '/"x"', "timestamp": str(NOW_MS), "value": "4.5"},
        {"__name__": "hits", "job": "größe", "path": "", "timestamp": str(NOW_MS), "value": "-3"},
    ]


async def test_a_range_query_is_a_row_a_step(client: httpx.AsyncClient) -> None:
    rows = await table(client, "query_range", query="sum by (job) (hits) * 2", start=NOW - 45, end=NOW, step=15)
    assert [(r["job"], int(r["timestamp"]) - NOW_MS, r["value"]) for r in rows if r["job"] == "a,b"] == [
        ("a,b", -45_000, "0"),
        ("a,b", -30_000, "3"),
        ("a,b", -15_000, "6"),
        ("a,b", 0, "9"),
    ]
    assert [r["value"] for r in rows if r["job"] == "größe"][2] == "NaN"
    assert len(rows) == 8


async def test_windows_and_scalars_are_tables_and_strings_are_not(client: httpx.AsyncClient) -> None:
    rows = await table(client, "query", query='hits{job="a,b"}[31s]', time=NOW)
    assert [r["value"] for r in rows] == ["1.5", "3", "4.5"]
    assert await table(client, "query", query="1 + 1", time=NOW) == [{"__name__": "", "timestamp": str(NOW_MS), "value": "2"}]
    answer = await client.get("/api/v1/query", params={"query": "'text'", "format": "csv"})
    assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")
    assert "a string is no table" in answer.json()["error"]


async def test_nothing_is_a_table_without_rows(client: httpx.AsyncClient) -> None:
    assert await table(client, "query", query="nothing", time=NOW) == []


async def test_a_limit_counts_series_and_is_told(client: httpx.AsyncClient) -> None:
    params = {"query": "hits", "time": NOW, "limit": 1, "format": "csv"}
    answer = await client.get("/api/v1/query", params=params)
    assert len(answer.text.splitlines()) == 2
    assert unquote(answer.headers["x-vedette-warnings"]) == "results truncated due to limit"


async def test_parquet_is_read_by_duckdb(client: httpx.AsyncClient, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    params = {"query": "hits", "start": NOW - 45, "end": NOW, "step": 15, "format": "parquet"}
    answer = await client.get("/api/v1/query_range", params=params)
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    file = tmp_path / "answer.parquet"
    file.write_bytes(answer.content)
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        rows = con.execute(
            "SELECT metric, labels['job'], epoch_ms(timestamp), value FROM read_parquet($file) ORDER BY 2, 3", {"file": str(file)}
        ).fetchall()
    assert [r[:3] for r in rows[:2]] == [("hits", "a,b", NOW_MS - 45_000), ("hits", "a,b", NOW_MS - 30_000)]
    assert [r[3] for r in rows[:4]] == [0.0, 1.5, 3.0, 4.5]
    assert np.isnan(rows[6][3])


@pytest.mark.parametrize("path", ["query", "query_range"])
async def test_another_format_is_refused_by_name(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/api/v1/{path}", params={"query": "1", "format": "xls", "start": 1, "end": 2, "step": 1})
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid parameter \"format\": 'xls' (expected one of json, csv, parquet)"


async def test_a_bad_query_is_told_in_json_all_the_same(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/query", params={"query": "sum(", "format": "csv"})
    assert (answer.status_code, answer.json()["status"]) == (400, "error")
