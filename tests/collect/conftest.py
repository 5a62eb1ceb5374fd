"""A storage in a dict, a web server that answers as a test says, and waiting with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest

from vedette.errors import LimitExceeded
from vedette.model.labels import Labels
from vedette.model.samples import STALE_BITS, Appended, SampleBatch

Handler = Callable[[str, dict[str, str], asyncio.StreamWriter], Awaitable[None]]


class Memory:
    """The naive twin of a storage: every sample in a dict of lists, keys known by (key space, bytes)."""

    def __init__(self) -> None:
        self.samples: dict[Labels, list[tuple[int, float]]] = {}
        self.metadata: dict[str, str] = {}
        self.resolved = 0
        self.appends = 0
        self.full = False
        self._ids: dict[Labels, int] = {}
        self._labels: list[Labels] = []
        self._keys: dict[tuple[int, bytes], int] = {}

    async def append(self, batch: SampleBatch) -> Appended:
        await asyncio.sleep(0)
        if self.full:
            raise LimitExceeded("the disk is full", retry_after=10)
        self.appends += 1
        ids = batch.ids.tolist() if batch.ids is not None else self._ids_of(batch)
        stored = 0
        for row, series in enumerate(ids):
            if series < 0:
                continue
            for i in range(int(batch.offsets[row]), int(batch.offsets[row + 1])):
                self.samples.setdefault(self._labels[series], []).append((int(batch.timestamps[i]), float(batch.values[i])))
                stored += 1
        for about in batch.metadata:
            self.metadata[about.metric] = about.type
        return Appended(ids=np.array(ids, dtype=np.int64), samples=stored)

    def _ids_of(self, batch: SampleBatch) -> list[int]:
        data, out = batch.buffer.tobytes(), []
        new: dict[tuple[int, bytes], Labels | None] = {}
        for start, end in zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True):
            key = (batch.keyspace.id, data[start:end])
            if key not in self._keys and key not in new:
                self.resolved += 1
                new[key] = batch.keyspace.resolve(key[1])  # a BadInput leaves nothing behind
        for key, labels in new.items():
            if labels is not None and labels not in self._ids:
                self._ids[labels] = len(self._labels)
                self._labels.append(labels)
            self._keys[key] = -1 if labels is None else self._ids[labels]
        for start, end in zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True):
            out.append(self._keys[(batch.keyspace.id, data[start:end])])
        return out

    def of(self, metric: str, **labels: str) -> list[float | str]:
        """The values of the one series of `metric` with these labels, stale markers as "stale"."""
        found = [s for s in self.samples if s.metric == metric and all(s.get(n) == v for n, v in labels.items())]
        assert len(found) <= 1, found
        return [self._shown(v) for _, v in self.samples[found[0]]] if found else []

    @staticmethod
    def _shown(value: float) -> float | str:
        return "stale" if np.float64(value).view(np.uint64) == STALE_BITS else value


@pytest.fixture
def memory() -> Memory:
    return Memory()


class Site:
    """An HTTP server on a free port; `answer` is what it does with a request (path, headers, writer)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.pages: dict[str, str | bytes | Handler] = {}
        self.kind = "text/plain; version=0.0.4"
        self.port = 0
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                try:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                except (asyncio.IncompleteReadError, ConnectionError):
                    return
                first, *lines = head.rstrip("\r\n").split("\r\n")
                method, path, _ = first.split(" ")
                headers = {n.lower(): v for n, v in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.requests.append((method, path, headers, body))
                page = self.pages.get(path.partition("?")[0], b"")
                if callable(page):
                    await page(path, headers, writer)
                    if writer.is_closing():
                        return
                else:
                    self.answer(writer, page.encode() if isinstance(page, str) else page)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    def answer(self, writer: asyncio.StreamWriter, body: bytes, *, status: str = "200 OK", headers: str = "") -> None:
        kind = "" if "content-type" in headers.lower() or not self.kind else f"Content-Type: {self.kind}\r\n"
        writer.write(f"HTTP/1.1 {status}\r\n{kind}{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def hang_up(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    made.hang_up()
    await asyncio.sleep(0)
    await server.wait_closed()


async def _until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        await asyncio.sleep(0.005)


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """`await until(lambda: ...)`: wait for a condition, with a deadline."""
    return _until
