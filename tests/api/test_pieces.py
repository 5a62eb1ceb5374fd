"""Answers that are sent while they are being made: whole, compressed or not, and nothing of them is ever one body."""

from __future__ import annotations

import asyncio
import json
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from vedette.api import queries
from vedette.api.answers import Pieces, enveloped, finishing
from vedette.api.endpoint import Endpoint, routes
from vedette.api.queries import Gate, Queries, endpoints
from vedette.api.turns import Turns
from vedette.clock import ManualClock
from vedette.model.labels import Labels
from vedette.promql import result
from vedette.promql.engine import Engine
from vedette.promql.settings import PromqlSettings

NOW = 1_700_000_000
TEXT = [b"first ", b"second " * 5000, b"last"]


def answering(run: Any, serve: Any, *, size: int = 100_000, exact: bool = False) -> tuple[httpx.AsyncClient, list[str]]:
    threads: list[str] = []

    def made() -> Iterator[bytes]:
        for piece in TEXT:
            threads.append(threading.current_thread().name)
            yield piece

    async def handler(request: Request) -> Response:
        return Pieces(made(), run, size=size, exact=exact, media_type="text/plain")

    return serve(routes([Endpoint("/large", finishing(handler, run, ".*"), "Something large", ("GET",))])), threads


async def test_it_is_made_on_a_worker_thread_and_sent_without_its_length(run: Any, serve: Any) -> None:
    client, threads = answering(run, serve)
    answer = await client.get("/large", headers={"accept-encoding": "identity", "origin": "http://page.example"})
    assert answer.content == b"".join(TEXT)
    assert "content-length" not in answer.headers and "content-encoding" not in answer.headers
    assert answer.headers["content-type"].startswith("text/plain") and answer.headers["access-control-allow-origin"] == "*"
    assert threading.current_thread().name not in threads and len(threads) == 3


async def test_it_is_compressed_piece_by_piece_for_whoever_takes_that(run: Any, serve: Any) -> None:
    client, _ = answering(run, serve)
    async with client.stream("GET", "/large", headers={"accept-encoding": "gzip"}) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip" and "Accept-Encoding" in answer.headers["vary"]
    assert len(raw) < 2000 and zlib.decompress(raw, 16 + zlib.MAX_WBITS) == b"".join(TEXT)


async def test_where_its_size_is_known_the_client_is_told(run: Any, serve: Any) -> None:
    client, threads = answering(run, serve, size=len(b"".join(TEXT)), exact=True)
    answer = await client.get("/large", headers={"accept-encoding": "identity"})
    assert answer.content == b"".join(TEXT) and int(answer.headers["content-length"]) == len(answer.content)
    assert "transfer-encoding" not in answer.headers and len(threads) == 3
    # Compressed it is another size.
    packed = await client.get("/large", headers={"accept-encoding": "gzip"})
    assert packed.content == answer.content and "content-length" not in packed.headers


async def test_what_is_very_large_is_sent_as_it_is(run: Any, serve: Any) -> None:
    client, _ = answering(run, serve, size=65 << 20)
    answer = await client.get("/large", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in answer.headers and answer.content == b"".join(TEXT)


async def test_nothing_more_is_made_for_a_client_that_has_gone(run: Any) -> None:
    made, sent, gone = 0, list[Any](), asyncio.Event()

    def endless() -> Iterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield b"more"

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) == 4:
            gone.set()

    async with asyncio.timeout(60):
        await Pieces(endless(), run, size=1000)({"type": "http"}, receive, send)
    assert [message["type"] for message in sent[:4]] == ["http.response.start", *["http.response.body"] * 3]
    assert made <= len(sent) + 1, "it ended at once"
    assert not any(not message.get("more_body", True) for message in sent), "what was cut short does not end as if it were whole"


@pytest.fixture
def client(storage: Any, clock: ManualClock, run: Any, serve: Any) -> Any:
    engine = Engine(storage, PromqlSettings(), clock)
    for i in range(40):
        for step in range(5):
            storage.put(Labels.of(__name__="hits", number=str(i)), (1000 * (NOW - 60 + 15 * step), float(i + step)))
    gate = Gate(run, clock, Turns(concurrency=4, per_tenant=4, queued=10), timeout_s=60)
    yield serve(routes(endpoints(Queries(engine, gate, clock, lambda scope: "default"))))
    engine.close()


@pytest.mark.parametrize("more", [{}, {"stats": "all"}, {"explain": "true"}, {"limit": "3"}, {"stats": "1", "explain": "true"}])
async def test_a_large_answer_says_what_a_small_one_says(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, more: Any) -> None:
    asked = {"query": "rate(hits[1m])", "start": NOW - 30, "end": NOW, "step": 5, **more}
    whole = (await client.get("/api/v1/query_range", params=asked)).json()
    monkeypatch.setattr(queries, "_MANY_POINTS", 1)
    answer = await client.get("/api/v1/query_range", params=asked)
    assert int(answer.headers["content-length"]) == len(answer.content)
    found = json.loads(answer.content)
    assert found["data"]["result"] == whole["data"]["result"] and len(found["data"]["result"]) == (3 if "limit" in more else 40)
    assert found["infos"] == whole["infos"] and found.get("warnings") == whole.get("warnings")
    assert found.keys() == whole.keys() and found["data"].keys() == whole["data"].keys()


async def test_an_answer_that_is_too_large_to_measure_is_sent_without_its_length(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"query": "hits", "start": NOW - 30, "end": NOW, "step": 5}
    whole = (await client.get("/api/v1/query_range", params=asked)).content
    monkeypatch.setattr(queries, "_MANY_POINTS", 1)
    monkeypatch.setattr(result, "_MEASURED_POINTS", 1)
    answer = await client.get("/api/v1/query_range", params=asked)
    assert "content-length" not in answer.headers and answer.content == whole


def test_around_parts_of_an_answer_stands_what_stands_around_the_whole() -> None:
    whole = b'{"resultType":"vector","result":[]}'
    for cut in (0, 1, 9, len(whole)):
        several: tuple[dict[str, list[str]], ...] = (
            {},
            {"warnings": ["PromQL warning: \u00e9"]},
            {"warnings": ["a"], "infos": ["b", 'c"']},
        )
        for notes in several:
            parts = whole[:cut], memoryview(whole)[cut:], b""
            assert enveloped(*parts, **notes) == enveloped(whole, **notes)
            told = {"status": "success", "data": {"resultType": "vector", "result": []}, **notes}
            assert json.loads(enveloped(*parts, **notes)) == told
