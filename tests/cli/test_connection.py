"""Clients that are slow or send without end are told so and let go; those that are merely busy are not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import uvicorn

from vedette.cli.connection import Connection, Corked


class _Hasty(Connection):
    HEAD_SECONDS = 0.05
    REQUEST_SECONDS = 0.05


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def serve() -> AsyncIterator[Any]:
    """Starts a server whose connections are of a class; answers its port."""
    running: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    async def start(protocol: type[Connection]) -> int:
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(_echo, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, loop="none")
        server = uvicorn.Server(config)
        running.append((server, asyncio.create_task(server._serve([listening]))))
        return int(listening.getsockname()[1])

    yield start
    for server, task in running:
        server.should_exit = True
        await task


async def _talk(port: int, *parts: bytes) -> bytes:
    """Everything the server says until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.close()


async def test_requests_in_pieces_and_in_rows_are_answered(serve: Any) -> None:
    port = await serve(Connection)
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    last = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlast"
    whole = post + b"first" + post + b"other" + last
    for parts in ([whole], [whole[:10], whole[10:60], whole[60:]], [bytes([byte]) for byte in whole]):
        answer = await _talk(port, *parts)
        assert answer.count(b"200 OK") == 3
        assert answer.endswith(b"last")


async def test_a_large_body_is_no_large_head(serve: Any) -> None:
    size = 3 * Connection.HEAD_BYTES
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n" % size
    tail = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: " + b"x" * 1_000
    answer = await _talk(await serve(Connection), head + b"\r\n", b"b" * size + tail, b"y\r\n\r\n")
    assert answer.count(b"200 OK") == 2


@pytest.mark.parametrize("line", [b"X: " + b"a" * 1_000 + b"\r\n", b"a" * 1_000], ids=["many", "one"])
async def test_a_head_without_end_is_refused(serve: Any, line: bytes) -> None:
    answer = await _talk(await serve(Connection), b"GET / HTTP/1.1\r\nHost: a\r\nX-First: a", *[line] * 100)
    assert answer.startswith(b"HTTP/1.1 431 ") or answer == b"reset"


async def test_a_head_that_never_ends_is_not_waited_for(serve: Any) -> None:
    port = await serve(_Hasty)
    answer = await _talk(port, b"GET / HTTP/1.1\r\nHost: a\r\nX-First: a")
    assert answer.startswith(b"HTTP/1.1 408 ")
    first = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = await _talk(port, first, b"GET / HTTP/1.1\r\n", b"Host: a\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in answer


async def test_silence_and_a_body_that_never_ends_are_not_waited_for(serve: Any) -> None:
    port = await serve(_Hasty)
    assert await _talk(port) == b""
    assert await _talk(port, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", b"abc") == b""


class _Transport:
    """Notes what is sent at once."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def writelines(self, parts: Any) -> None:
        assert all(parts), "an empty piece stays for ever in the buffer of asyncio's own transport"
        self.sent.append(b"".join(parts))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def test_a_head_goes_out_with_its_body() -> None:
    inner = _Transport()
    corked = Corked(inner, asyncio.get_running_loop())  # type: ignore[arg-type]
    for text in (b"one", b"two"):
        corked.write(b"HTTP/1.1 200 OK\r\n\r\n")
        corked.write(text)
    corked.write(b"more")
    assert inner.sent == [b"HTTP/1.1 200 OK\r\n\r\none", b"HTTP/1.1 200 OK\r\n\r\ntwo", b"more"]
    await asyncio.sleep(0)
    assert len(inner.sent) == 3
    assert corked.closed is False, "the rest is the transport's own"


async def test_a_piece_of_a_large_answer_is_sent_where_it_lies() -> None:
    inner = _Transport()
    corked = Corked(inner, asyncio.get_running_loop())  # type: ignore[arg-type]
    piece = np.frombuffer(b'{"data":1}', dtype=np.uint8)
    corked.write(b"HTTP/1.1 200 OK\r\n\r\n")
    corked.write(piece[:5].data)
    corked.write(piece[5:].data)
    assert inner.sent[0] == b'HTTP/1.1 200 OK\r\n\r\n{"dat'
    assert isinstance(inner.sent[1], memoryview) and inner.sent[1] == b'a":1}'


async def test_a_head_whose_body_is_empty_goes_out_alone_and_at_once() -> None:
    inner = _Transport()
    corked = Corked(inner, asyncio.get_running_loop())  # type: ignore[arg-type]
    corked.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    corked.write(b"")
    assert inner.sent == [b"HTTP/1.1 204 No Content\r\n\r\n"]


async def test_a_head_that_nothing_follows_does_not_wait() -> None:
    inner = _Transport()
    corked = Corked(inner, asyncio.get_running_loop())  # type: ignore[arg-type]
    corked.write(b"HTTP/1.1 200 OK\r\n\r\n")
    assert inner.sent == []
    await asyncio.sleep(0)
    assert inner.sent == [b"HTTP/1.1 200 OK\r\n\r\n"]
    corked.write(b"HTTP/1.1 431 Too large\r\n\r\n")
    corked.close()
    assert inner.sent[1:] == [b"HTTP/1.1 431 Too large\r\n\r\n"]
    assert inner.closed
    corked.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await asyncio.sleep(0)
    assert len(inner.sent) == 2, "nothing is sent to one who has gone"


CHUNKS = b"2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Host: a\r\nTransfer-Encoding: chunked\r\n", b"200"),
        (b"Host: a\r\nTransfer-Encoding: Chunked\r\n", b"200"),
        (b"Host: a\r\nTransfer-Encoding: gzip, chunked\r\n", b"400"),
        (b"Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", b"400"),
        (b"Host: a\r\nTransfer-Encoding: xchunked\r\n", b"400"),
        (b"Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"400"),
        (b"Host: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n", b"400"),
        (b"Host: a\r\nContent-Length: -1\r\n", b"400"),
        (b"Host: a\r\nContent-Length: +3\r\n", b"400"),
        (b"Host: a\r\nHost: b\r\nTransfer-Encoding: chunked\r\n", b"400"),
        (b"Transfer-Encoding: chunked\r\n", b"400"),
    ],
)
async def test_what_may_be_read_in_two_ways_is_not_read(serve: Any, head: bytes, status: bytes) -> None:
    port = await serve(Connection)
    said = await _talk(port, b"POST / HTTP/1.1\r\n" + head + b"Connection: close\r\n\r\n" + CHUNKS)
    assert said.split()[1] == status, said
    assert said.count(b"HTTP/1.1 ") == 1


async def test_an_old_client_names_no_host(serve: Any) -> None:
    port = await serve(Connection)
    assert (await _talk(port, b"GET / HTTP/1.0\r\n\r\n")).split()[1] == b"200"
