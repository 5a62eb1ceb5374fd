"""HTTP/1.1 to one origin, over kept connections: what an `httpx` transport does, at a third of its cost.

A server asks thousands of targets a minute, and gets megabytes from some: bytes go from the socket to a parser in C and on in
the pieces in which they came. Not here: redirects, credentials, limits on the answer (`client.py`), proxies (httpx' own).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, cast

import httptools
import httpx

_MOST_HEADER_BYTES = 128 << 10
_MOST_BUFFERED = 1 << 20
_MOST_IDLE = 2
_DONE = b""
_STAGGER_S = 0.25


class Transport(httpx.AsyncBaseTransport):
    """Connections to one origin; `context` for TLS, `idle_s` how long one may wait for its next request.

    Raises httpx' errors, as its own transport does: `ConnectError`, `ReadError`, `WriteError`, `RemoteProtocolError`.
    """

    def __init__(self, context: ssl.SSLContext | None, *, idle_s: float) -> None:
        self._context = context
        self._idle_s = idle_s
        self._idle: deque[_Connection] = deque()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer's head; its body is read from `stream`, and the connection kept where that was read to its end."""
        connection = self._kept() or await self._connected(request)
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            if (trace := request.extensions.get("trace")) is not None:
                await trace("http11.send_request_headers.started", {})
            connection.send(_head_of(request) + request.read())
            await connection.head()
            undo.pop_all()
        return httpx.Response(connection.status, headers=connection.headers, stream=_Stream(self, connection), request=request)

    def _kept(self) -> _Connection | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now - connection.idle_since < self._idle_s:
                return connection
            connection.close()
        return None

    async def _connected(self, request: httpx.Request) -> _Connection:
        url = request.url
        tls: dict[str, Any] = {}
        if url.scheme == "https":
            assert self._context is not None, "a context is given for https"
            tls = {"ssl": self._context, "server_hostname": request.extensions.get("sni_hostname") or url.host}
        loop = asyncio.get_running_loop()

        async def connect(address: str, port: int) -> _Connection:
            _, connection = await loop.create_connection(_Connection, address, port, **tls)
            return connection

        try:
            found = await loop.getaddrinfo(url.host, url.port or (443 if tls else 80), type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys((str(place[0]), int(place[1])) for *_, place in found))
            return await _first_of([partial(connect, *address) for address in addresses])
        except (OSError, UnicodeError) as error:
            raise httpx.ConnectError(str(error), request=request) from error

    def keep(self, connection: _Connection) -> None:
        """A connection whose answer was read to its end."""
        if self._closed or not connection.usable or len(self._idle) >= _MOST_IDLE:
            connection.close()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.append(connection)

    async def aclose(self) -> None:
        """Close what is kept; answers that are being read end with their connections."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        # The loop lets go of the sockets in its next turn, which may be its last.
        await asyncio.sleep(0)


async def _first_of(attempts: Sequence[Callable[[], Awaitable[_Connection]]], delay_s: float = _STAGGER_S) -> _Connection:
    """The first connection that is made; each attempt begins once the one before failed, or has taken `delay_s` (RFC 8305).

    Raises the first one's `OSError` where all fail.
    """
    if len(attempts) == 1:
        return await attempts[0]()
    tasks: list[asyncio.Task[_Connection]] = []
    chosen: _Connection | None = None
    try:
        for attempt in attempts:
            tasks.append(asyncio.ensure_future(attempt()))
            running = {task for task in tasks if not task.done()}
            while running and chosen is None:
                wait = None if len(tasks) == len(attempts) else delay_s
                done, running = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                chosen = next((task.result() for task in done if task.exception() is None), None)
                if wait is not None:
                    break
            if chosen is not None:
                return chosen
        raise next(error for error in (task.exception() for task in tasks) if error is not None)
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
            elif not task.cancelled() and task.exception() is None and task.result() is not chosen:
                task.result().close()


def _head_of(request: httpx.Request) -> bytes:
    """The request line and the headers. They cannot smuggle others in: httpx refuses line ends in neither, so they are refused here."""
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%s: %s" % pair for pair in request.headers.raw]
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        raise httpx.LocalProtocolError("a header has a line end", request=request)
    return b"\r\n".join([*lines, b"", b""])


class _Stream(httpx.AsyncByteStream):
    """The body of an answer."""

    def __init__(self, transport: Transport, connection: _Connection) -> None:
        self._transport = transport
        self._connection = connection
        self._over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._connection.piece():
            yield piece
        self._over = True
        self._transport.keep(self._connection)

    async def aclose(self) -> None:
        if not self._over:
            self._over = True
            self._connection.close()


class _Connection(asyncio.Protocol):
    """One connection; the protocol of the loop and the callbacks of the parser are called by those."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._wake: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._lost = False
        self._paused = False
        self.idle_since = 0.0
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._headed = self._complete = self._bounded = False
        self._keep_alive = True

    # -- asked by the transport ---------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return not self._lost and self._error is None and self._complete and self._keep_alive

    def send(self, data: bytes) -> None:
        """Send a request."""
        assert self._transport is not None
        if self._lost or self._transport.is_closing():
            raise self._error or httpx.WriteError("the connection is closed")
        self._begin()
        self._transport.write(data)

    async def head(self) -> None:
        """Return once status and headers are there."""
        while not self._headed:
            await self._more()

    async def piece(self) -> bytes:
        """The next bytes of the body; none at its end."""
        while not self._pieces:
            if self._complete:
                return _DONE
            await self._more()
        piece = self._pieces.popleft()
        self._buffered -= len(piece)
        if self._paused and self._buffered <= _MOST_BUFFERED // 2 and self._transport is not None and not self._lost:
            self._paused = False
            self._transport.resume_reading()
        return piece

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None

    def close(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # -- called by the loop -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._headed:
            self._header_bytes += len(data)
        try:
            if self._complete:
                raise httpx.RemoteProtocolError("bytes came that nobody asked for")
            self._parser.feed_data(data)
            if not self._headed and self._header_bytes > _MOST_HEADER_BYTES:
                raise httpx.RemoteProtocolError(f"headers of more than {_MOST_HEADER_BYTES} bytes")
        except httpx.RemoteProtocolError as error:
            self._fail(error)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError(f"not an answer of HTTP/1.1: {error}"))
        if self._buffered > _MOST_BUFFERED and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._told()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        if self._complete or self._error is not None:
            pass
        elif error is not None:
            self._error = httpx.ReadError(str(error) or type(error).__name__)
            self._error.__cause__ = error
        elif self._headed and not self._bounded:
            self._complete = True  # a body without a length ends with its connection
        elif self._headed:
            self._error = httpx.RemoteProtocolError("the connection was closed inside the answer's body")
        else:
            self._error = httpx.RemoteProtocolError("the connection was closed without an answer")
        self._told()

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self.close()

    def _told(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # -- called by the parser -----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete and self._error is None:
            # The answer before it is whole, and what comes after it must not be taken for the next request's.
            self._error = httpx.RemoteProtocolError("a second answer came that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._error is not None:
            return
        self.headers.append((name, value))
        lowered = name.lower()
        if lowered in (b"content-length", b"transfer-encoding"):
            self._bounded = True

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._error is not None or 100 <= status < 200:
            return
        self.status = status
        self._keep_alive = self._parser.should_keep_alive()
        self._headed = True

    def on_body(self, data: bytes) -> None:
        if self._error is not None:
            return
        self._pieces.append(data)
        self._buffered += len(data)

    def on_message_complete(self) -> None:
        if self._headed:
            self._complete = True
        else:  # an interim answer: the one that counts follows
            self.headers = []
            self._bounded = False
