"""HTTP/1.1 over kept connections: against a server that sends the very bytes a test gives, whole or byte by byte."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from vedette.net.transport import Transport, _Connection, _first_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n"
UNBOUNDED = b"HTTP/1.1 200 OK\r\n\r\nhello"
CONTINUED = b"HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\n" + OK
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"


class Script:
    """Answers the n-th request of all connections with `answers[n]`, `at_once` bytes at a time; `hang_up` closes behind each answer."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self.at_once = 1 << 20
        self.hang_up = False
        self.port = 0
        self.drained = 0
        self.serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
                self.requests.append(head + await reader.readexactly(size))
                answer = self.answers[len(self.requests) - 1]
                for at in range(0, len(answer), self.at_once):
                    writer.write(answer[at : at + self.at_once])
                    await writer.drain()
                    self.drained = at
                    if self.at_once < 100:
                        await asyncio.sleep(0)
                if self.hang_up:
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.serving.discard(task)
            writer.close()


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    made = Script()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    for task in list(made.serving):
        task.cancel()
    await asyncio.gather(*made.serving)


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    made = Transport(None, idle_s=60)
    yield made
    await made.aclose()


async def ask(transport: Transport, script: Script, method: str = "GET", content: bytes | None = None) -> tuple[int, bytes]:
    request = httpx.Request(method, f"http://127.0.0.1:{script.port}/path?q=1", content=content)
    async with asyncio.timeout(30):
        response = await transport.handle_async_request(request)
        try:
            return response.status_code, b"".join([piece async for piece in response.stream])  # type: ignore[union-attr]
        finally:
            await response.aclose()


@pytest.mark.parametrize("at_once", [1, 3, 1 << 20])
@pytest.mark.parametrize("answer", [OK, CHUNKED, CONTINUED, CLOSING])
async def test_answers_in_each_form_and_in_pieces(transport: Transport, script: Script, answer: bytes, at_once: int) -> None:
    script.answers, script.at_once = [answer] * 3, at_once
    for _ in range(3):
        assert await ask(transport, script) == (200, b"hello")
    assert script.connections == (3 if answer == CLOSING else 1)
    assert script.requests[0].startswith(b"GET /path?q=1 HTTP/1.1\r\n")


async def test_a_body_without_a_length_ends_with_its_connection(transport: Transport, script: Script) -> None:
    script.answers, script.hang_up = [UNBOUNDED] * 2, True
    assert [await ask(transport, script) for _ in range(2)] == [(200, b"hello")] * 2
    assert script.connections == 2


async def test_an_answer_without_a_body(transport: Transport, script: Script) -> None:
    script.answers = [EMPTY, OK]
    assert await ask(transport, script) == (204, b"")
    assert await ask(transport, script) == (200, b"hello")
    assert script.connections == 1


async def test_headers_come_as_they_were_sent(transport: Transport, script: Script) -> None:
    script.answers = [b"HTTP/1.1 404 Nope\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n"]
    request = httpx.Request("GET", f"http://127.0.0.1:{script.port}/")
    response = await transport.handle_async_request(request)
    assert (response.status_code, response.headers.get_list("x-a")) == (404, ["1", "2"])
    await response.aclose()


async def test_a_body_is_sent_whole(transport: Transport, script: Script) -> None:
    script.answers = [OK]
    body = bytes(range(256)) * 4000
    assert await ask(transport, script, "POST", body) == (200, b"hello")
    assert script.requests[0].endswith(body)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (OK[:-1], "inside the answer's body"),
        (CHUNKED[:-8], "inside the answer's body"),
        (b"", "without an answer"),
        (OK[:20], "without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", r"not an answer of HTTP/1\.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", r"not an answer of HTTP/1\.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", r"not an answer of HTTP/1\.1"),
        (b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 200_000, "headers of more than"),
    ],
)
async def test_what_is_no_whole_answer_says_so(transport: Transport, script: Script, answer: bytes, problem: str) -> None:
    script.answers, script.hang_up = [answer], True
    with pytest.raises(httpx.RemoteProtocolError, match=problem):
        await ask(transport, script)


async def test_a_second_answer_in_the_same_packet_is_never_anybodys(transport: Transport, script: Script) -> None:
    """A server, or what is between, that answers twice must not have its second answer taken for the next request's."""
    forged = b"HTTP/1.1 500 Forged\r\nX-Forged: 1\r\nContent-Length: 6\r\n\r\nforged"
    script.answers = [OK + forged, OK]
    request = httpx.Request("GET", f"http://127.0.0.1:{script.port}/")
    response = await transport.handle_async_request(request)
    assert (response.status_code, "x-forged" in response.headers) == (200, False)
    assert b"".join([piece async for piece in response.stream]) == b"hello"  # type: ignore[union-attr]
    assert await ask(transport, script) == (200, b"hello")
    assert script.connections == 2


async def test_a_kept_connection_that_is_closed_or_old_is_not_used(script: Script) -> None:
    transport = Transport(None, idle_s=0)
    script.answers = [OK] * 3
    for _ in range(2):
        await ask(transport, script)
    assert script.connections == 2
    await transport.aclose()
    assert await ask(transport, script) == (200, b"hello")
    assert not transport._idle  # nothing is kept any more


async def test_an_answer_that_is_not_read_to_its_end_closes_its_connection(transport: Transport, script: Script) -> None:
    script.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 9_000_000, OK]
    request = httpx.Request("GET", f"http://127.0.0.1:{script.port}/")
    response = await transport.handle_async_request(request)
    await response.aclose()
    assert await ask(transport, script) == (200, b"hello")
    assert script.connections == 2


async def test_what_nobody_reads_is_not_taken_from_the_server(transport: Transport, script: Script) -> None:
    size = 200 << 20
    script.answers, script.at_once = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)], 1 << 16
    request = httpx.Request("GET", f"http://127.0.0.1:{script.port}/")
    response = await transport.handle_async_request(request)
    stream = response.stream.__aiter__()  # type: ignore[union-attr]
    await anext(stream)
    before = -1
    while before != script.drained:  # until the server is held up
        before = script.drained
        for _ in range(200):
            await asyncio.sleep(0)
    assert script.drained < size // 2
    total = 0
    async for piece in stream:
        total += len(piece)
    assert total > size // 2
    await response.aclose()


async def test_headers_smuggle_nothing(transport: Transport, script: Script) -> None:
    request = httpx.Request("GET", f"http://127.0.0.1:{script.port}/", headers={"X-A": "1\r\nX-B: 2"})
    with pytest.raises(httpx.LocalProtocolError, match="line end"):
        await transport.handle_async_request(request)


async def test_mutated_answers_end_in_an_answer_or_in_an_error(transport: Transport, script: Script) -> None:
    rng = random.Random(5)
    script.hang_up = True
    errors = 0
    for n in range(300):
        answer = bytearray(rng.choice((OK, CHUNKED, CONTINUED, CLOSING)))
        for _ in range(rng.randrange(1, 4)):
            answer[rng.randrange(len(answer))] = rng.randrange(256)
        script.answers = [*script.answers[:n], bytes(answer)]
        try:
            status, body = await ask(transport, script)
            assert 200 <= status < 1000
            assert len(body) < 100
        except httpx.HTTPError:
            errors += 1
    assert 0 < errors < 300


class TestAddresses:
    """Of several addresses the first that answers is used."""

    async def refused(self) -> _Connection:
        raise ConnectionRefusedError(111, "Connection refused")

    async def never(self) -> _Connection:
        await asyncio.Event().wait()
        raise AssertionError

    def to(self, script: Script) -> Callable[[], object]:
        async def connect() -> _Connection:
            _, made = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", script.port)
            return made

        return connect

    async def test_one_that_refuses_or_is_silent_is_passed_over(self, script: Script) -> None:
        for first in (self.refused, self.never):
            made = await _first_of([first, self.to(script)], 0.001)  # type: ignore[list-item]
            made.close()

    async def test_a_slow_first_one_is_still_waited_for(self, script: Script) -> None:
        gate = asyncio.Event()

        async def slow() -> _Connection:
            await gate.wait()
            return await self.to(script)()  # type: ignore[no-any-return, misc]

        async def fails_and_opens() -> _Connection:
            gate.set()
            raise ConnectionRefusedError(111, "Connection refused")

        made = await _first_of([slow, fails_and_opens], 0.001)
        made.close()

    async def test_where_all_fail_the_first_reason_counts(self) -> None:
        async def other() -> _Connection:
            raise TimeoutError("later")

        with pytest.raises(ConnectionRefusedError):
            await _first_of([self.refused, other], 0.001)

    async def test_whoever_is_not_needed_is_closed(self, script: Script) -> None:
        made: list[_Connection] = []

        async def connect() -> _Connection:
            made.append(await self.to(script)())  # type: ignore[arg-type, misc]
            return made[-1]

        chosen = await _first_of([connect, connect, connect], 0)
        while any(not c._lost for c in made if c is not chosen):
            await asyncio.sleep(0)
        assert not chosen._lost
        chosen.close()
