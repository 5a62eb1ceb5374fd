"""Remote read over the real engine: what a Prometheus that reads from here gets."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cramjam
import httpx
import numpy as np
import pytest

from vedette.access.permits import need_of
from vedette.api import remote_read as remote_read_api
from vedette.api.endpoint import routes
from vedette.api.prometheus import READING_POSTS
from vedette.api.remote_read import PATH, RemoteRead, endpoints
from vedette.clock import ManualClock
from vedette.model.histogram_arithmetic import equal
from vedette.model.histograms import NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.samples import STALE, STALE_BITS, SampleBatch, canonical
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings
from vedette.wire import remote_read
from vedette.wire.native import field, varint
from vedette.wire.remote_write import parse, remote_write_keyspace

sys.path.insert(0, str(Path(__file__).parents[1] / "wire"))
import xor_twin

NOW_MS = 1_700_000_000_000
A, B, H = (Labels.of(__name__=n, job="x") for n in ("a", "b", "h"))
SAMPLE = Histogram(Layout(0, 0.001, (), np.array([1, 2], dtype=np.int32), NO_BUCKETS), np.array([5.0, 2.5, 1, 3, 1]))


def matcher(kind: int, name: str, value: str) -> bytes:
    return field(3, 2, field(1, 0, varint(kind)) + field(2, 2, name.encode()) + field(3, 2, value.encode()))


def query(start: int, end: int, *matchers: bytes) -> bytes:
    return field(1, 2, field(1, 0, varint(start)) + field(2, 0, varint(end)) + b"".join(matchers))


def packed(*parts: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(b"".join(parts)))


ALL = matcher(2, "__name__", ".+")


class Reader:
    def __init__(self, client: httpx.AsyncClient, external: dict[str, str]) -> None:
        self.client, self.external = client, external

    async def ask(self, *parts: bytes) -> httpx.Response:
        return await self.client.post("/api/v1/read", content=packed(*parts), headers={"Content-Encoding": "snappy"})

    async def results(self, *parts: bytes) -> list[list[tuple[str, int, Any]]]:
        """(series, ms, value) of each query's result. A `QueryResult` is laid out as a remote write request is."""
        answer = await self.ask(*parts)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/x-protobuf"
        assert answer.headers["content-encoding"] == "snappy"
        message, at, found = bytes(cramjam.snappy.decompress_raw(answer.content)), 0, []
        while at < len(message):
            assert message[at] == 0x0A
            size, shift, at = 0, 0, at + 1
            while True:
                size, shift, at = size | (message[at] & 0x7F) << shift, shift + 7, at + 1
                if message[at - 1] < 0x80:
                    break
            found.append(self._samples(message[at : at + size]))
            at += size
        return found

    @staticmethod
    def _samples(result: bytes) -> list[tuple[str, int, Any]]:
        batch = parse(packed(result), remote_write_keyspace())
        native = {} if batch.histograms is None else {int(at): batch.histograms.sample(j) for j, at in enumerate(batch.histograms.at)}
        out = []
        for i in range(batch.series_count):
            labels = batch.keyspace.resolve(batch.buffer[batch.key_start[i] : batch.key_end[i]].tobytes())
            span = range(int(batch.offsets[i]), int(batch.offsets[i + 1]))
            out += [(str(labels), int(batch.timestamps[j]) - NOW_MS, native.get(j, float(batch.values[j]))) for j in span]
        return out


@pytest.fixture
async def reader(tmp_path: Path, run: Any, serve: Any) -> AsyncIterator[Reader]:
    engine = Engine(StorageSettings(data=tmp_path / "data"), ManualClock(NOW_MS / 1000))
    engine.lock()
    await engine.start()
    space = canonical()
    await engine.append(SampleBatch.of(space, [B, A, H], [NOW_MS] * 3, [2.0, 1.0, SAMPLE]))
    await engine.append(SampleBatch.of(space, [A, H], [NOW_MS + 1000] * 2, [STALE, 7.0]))
    external: dict[str, str] = {}
    reading = RemoteRead(engine, run, lambda scope: "default", lambda: Labels.of(external))
    yield Reader(serve(routes(endpoints(reading))), external)
    await engine.close()


async def test_samples_come_as_they_are_stored_in_order_of_their_series(reader: Reader) -> None:
    (found,) = await reader.results(query(NOW_MS, NOW_MS + 1000, ALL))
    assert [(labels, t) for labels, t, _ in found] == [
        ('a{job="x"}', 0), ('a{job="x"}', 1000), ('b{job="x"}', 0), ('h{job="x"}', 1000), ('h{job="x"}', 0),
    ]  # fmt: skip
    assert np.float64(found[1][2]).view(np.uint64) == STALE_BITS
    assert found[3][2] == 7.0
    assert equal(found[4][2], SAMPLE)


async def test_each_query_has_its_result(reader: Reader) -> None:
    one, none, late = await reader.results(
        query(NOW_MS, NOW_MS, matcher(0, "__name__", "b")),
        query(NOW_MS, NOW_MS, matcher(0, "__name__", "c")),
        query(NOW_MS + 1, NOW_MS + 1000, matcher(3, "__name__", "a|b"), matcher(1, "job", "y")),
    )
    assert (one, none) == ([('b{job="x"}', 0, 2.0)], [])
    assert late == [('h{job="x"}', 1000, 7.0)]


async def test_external_labels_are_asked_for_and_told(reader: Reader) -> None:
    reader.external.update(dc="here", job="other")
    (found,) = await reader.results(query(NOW_MS, NOW_MS, matcher(0, "__name__", "b"), matcher(0, "dc", "here")))
    assert found == [('b{dc="here", job="x"}', 0, 2.0)]


CHUNKS_FIRST = field(2, 2, b"\x01\x00")


async def test_who_takes_chunks_gets_a_stream_of_them(reader: Reader) -> None:
    answer = await reader.ask(query(NOW_MS, NOW_MS + 1000, matcher(2, "__name__", "a|b")), query(0, 1, ALL), CHUNKS_FIRST)
    assert answer.headers["content-type"] == "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
    assert "content-encoding" not in answer.headers
    found = [xor_twin.series(message) for message in xor_twin.frames(answer.content)]
    assert [(labels["__name__"], index, [chunk[:2] for chunk in chunks]) for labels, chunks, index in found] == [
        ("a", 0, [(NOW_MS, NOW_MS + 1000)]),
        ("b", 0, [(NOW_MS, NOW_MS)]),
    ]
    assert xor_twin.samples(found[0][1][0][2])[1] == (NOW_MS + 1000, STALE_BITS)


async def test_native_histograms_are_chunks_of_their_own_among_those_of_floats(reader: Reader) -> None:
    answer = await reader.ask(query(NOW_MS, NOW_MS + 1000, matcher(0, "__name__", "h")), field(2, 0, varint(1)))
    assert answer.headers["content-type"].startswith("application/x-streamed-protobuf")
    (message,) = xor_twin.frames(answer.content)
    labels, chunks, index = xor_twin.kinds(message)
    assert (labels, index) == ({"__name__": "h", "job": "x"}, 0)
    (native, first, last, data), (plain, *span, rest) = chunks
    assert (native, first, last) == (xor_twin.FLOAT_HISTOGRAM, NOW_MS, NOW_MS)
    flags, layout, ((time, cells),) = xor_twin.histograms(data)
    assert (flags, time, cells) == (0, NOW_MS, SAMPLE.cells.view(np.uint64).tolist())
    assert layout.same(SAMPLE.layout)
    assert (plain, *span) == (xor_twin.XOR, NOW_MS + 1000, NOW_MS + 1000)
    assert xor_twin.samples(rest) == [(NOW_MS + 1000, int(np.float64(7.0).view(np.uint64)))]


async def test_the_first_type_that_is_accepted_counts(reader: Reader) -> None:
    answer = await reader.ask(query(NOW_MS, NOW_MS, matcher(0, "__name__", "b")), field(2, 0, varint(0)), field(2, 0, varint(1)))
    assert answer.headers["content-type"] == "application/x-protobuf"


async def test_no_queries_no_results(reader: Reader) -> None:
    assert await reader.results() == []


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ((b"\x0a\x05",), "the message ends before a field does"),
        ((query(0, 1, matcher(9, "a", "b")),), "unknown matcher type 9"),
        ((query(0, 1, matcher(2, "a", "(")),), "bad regular expression"),
        ((query(0, 1, field(3, 2, field(2, 2, b"\xff"))),), "not UTF-8"),
        ((query(0, 1), field(2, 0, varint(2))), "does not support any of the requested response types"),
        ((query(0, 1), field(2, 2, b"\x07\x09")), "does not support any of the requested response types"),
    ],
)
async def test_what_is_no_request_is_refused(reader: Reader, parts: tuple[bytes, ...], told: str) -> None:
    answer = await reader.ask(*parts)
    assert answer.status_code == 400
    assert told in answer.text


async def test_a_body_that_is_not_snappy_is_refused(reader: Reader) -> None:
    answer = await reader.client.post("/api/v1/read", content=b"nonsense, not snappy")
    assert (answer.status_code, "snappy" in answer.text) == (400, True)


def test_whoever_may_read_may_read_from_afar() -> None:
    need = need_of("POST", PATH, reading_posts=READING_POSTS)
    assert need == need_of("GET", "/api/v1/query", reading_posts=READING_POSTS)


async def test_an_answer_has_an_end(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred queries for all series in one request took all of a machine's memory."""
    monkeypatch.setattr(remote_read_api, "MOST_SAMPLES", 7)
    every = query(NOW_MS, NOW_MS + 1000, ALL)
    (found,) = await reader.results(every)
    assert len(found) == 5
    answer = await reader.ask(every, every)
    assert (answer.status_code, answer.text) == (400, "exceeded sample limit (7) (accept STREAMED_XOR_CHUNKS, or ask for less at once)\n")
    assert len(await reader.results(query(NOW_MS, NOW_MS, ALL), query(NOW_MS, NOW_MS, ALL))) == 2


async def test_a_stream_has_none_and_holds_only_some_of_what_it_sends(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [query(NOW_MS, NOW_MS + 1000, matcher(2, "__name__", "a|b"))] * 3
    whole = (await reader.ask(*asked, CHUNKS_FIRST)).content
    assert len(list(xor_twin.frames(whole))) == 6
    monkeypatch.setattr(remote_read_api, "MOST_SAMPLES", 1)
    for held in (0, 3, 4, 6, 8):
        monkeypatch.setattr(remote_read_api, "MOST_HELD", held)
        assert (await reader.ask(*asked, CHUNKS_FIRST)).content == whole


async def test_a_large_result_is_written_in_runs(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    every = query(NOW_MS, NOW_MS + 1000, ALL)
    whole = (await reader.ask(every, query(NOW_MS, NOW_MS, ALL))).content
    monkeypatch.setattr(remote_read, "_RUN", 1)
    assert (await reader.ask(every, query(NOW_MS, NOW_MS, ALL))).content == whole
