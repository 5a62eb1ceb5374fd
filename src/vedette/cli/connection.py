"""One HTTP connection: uvicorn's protocol with an end to its patience.

uvicorn reads a request's head for as long as the client likes and as much as it sends, before anyone asked who it is:
a few thousand clients that never finish take all file descriptors, one that never stops takes all memory. Here a head
has limits of size and time and a whole request one of time. Not here: limits on bodies, which each operation sets.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_IDLE, _HEAD, _BODY = range(3)


class Corked:
    """A transport that sends an answer's head together with what follows it at once, in one packet instead of two.

    Each send wakes the reader; for a short answer that costs more than computing it. A head that nothing follows goes out when
    the loop comes round again. All else is the transport's own.
    """

    __slots__ = ("_held", "_loop", "inner")

    def __init__(self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.inner = inner
        self._loop = loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def write(self, data: bytes) -> None:
        """Send `data`, and what was held."""
        if self._held:
            held, self._held = self._held, b""
            self.inner.writelines((held, data))
        elif data.startswith(b"HTTP/1.1 "):
            self._held = data
            self._loop.call_soon(self._flush)
        else:
            self.inner.write(data)

    def close(self) -> None:
        """Send what was held, and close."""
        self._flush()
        self.inner.close()

    def _flush(self) -> None:
        if self._held and not self.inner.is_closing():
            self.inner.write(self._held)
        self._held = b""


class Connection(HttpToolsProtocol):
    """An HTTP/1.1 connection whose requests must come within bounds; one that does not is told why and closed."""

    HEAD_BYTES: ClassVar[int] = 64 << 10
    """What a request line and headers may hold, give or take what is read at once."""
    HEAD_SECONDS: ClassVar[float] = 10.0
    """From the first byte (or from the connection) to the end of the headers."""
    REQUEST_SECONDS: ClassVar[float] = 300.0
    """From the end of the headers to the end of the body, as long as Prometheus waits."""

    _reading = _HEAD
    _timed = _IDLE
    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(cast(asyncio.Transport, Corked(transport, self.loop)))
        self._watch()

    def handle_websocket_upgrade(self) -> None:
        # A protocol of its own takes over, which sends as it sees fit.
        self.transport = cast(Corked, self.transport).inner
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        self._reading = _IDLE
        self._watch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        continued = self._reading == _HEAD
        super().data_received(data)
        if self.transport.is_closing():
            return
        # What comes in one piece, as nearly all requests do, is never timed.
        if self._reading != self._timed:
            self._watch()
        if self._reading == _HEAD:
            self._head_bytes = self._head_bytes + len(data) if continued else 0
            if self._head_bytes > self.HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large", b"the request's headers are too large\n")

    def on_message_begin(self) -> None:
        self._reading = _HEAD
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._reading, self._head_bytes = _BODY, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._reading = _IDLE
        super().on_message_complete()

    def _watch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = self._reading
        if self._reading != _IDLE:
            self._timer = self.loop.call_later(self.HEAD_SECONDS if self._reading == _HEAD else self.REQUEST_SECONDS, self._late)

    def _late(self) -> None:
        if self._reading == _HEAD and self._head_bytes:
            self._refuse(b"408 Request Timeout", b"the request's headers took too long\n")
        else:
            # Nobody spoke yet, or an answer may be under way already: there is nothing to add.
            self.transport.close()

    def _refuse(self, status: bytes, text: bytes) -> None:
        head = b"HTTP/1.1 %b\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, len(text)) + text)
        self.transport.close()
