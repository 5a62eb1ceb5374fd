"""One HTTP connection: uvicorn's protocol with an end to its patience.

uvicorn reads a request's head for as long as the client likes and as much as it sends, before anyone asked who it is:
a few thousand clients that never finish take all file descriptors, one that never stops takes all memory. Here a head
has limits of size and time and a whole request one of time. And what the application has at once (`api/at_once.py`) is sent
without any of what an ASGI request costs. Not here: limits on bodies, which each operation sets.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, ClassVar, NamedTuple, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vedette.api.at_once import AtOnce, Whole

_IDLE, _HEAD, _BODY = range(3)
_LONGEST_ALIKE = 8192
"""Bytes of a request that is compared with the one before."""
_BEFORE, _AFTER, _END = b"GET ", b" HTTP/1.1\r\n", b"\r\n\r\n"
_TARGET = re.compile(rb"/[!-\"$-~]*")
"""What the parser takes as the path and query of a request, and no `#`."""


class Alike(NamedTuple):
    """What a connection's requests without a body have in common: `rest`, which follows their targets, and but for these their `scope`."""

    rest: bytes
    scope: dict[str, Any]

    @classmethod
    def of(cls, data: bytes, scope: dict[str, Any]) -> Alike | None:
        """That of `data`, which was read as the one request of `scope`; None where that cannot be told by a glance."""
        at = data.find(_AFTER)
        rest = data[at:]
        if len(data) > _LONGEST_ALIKE or data[:4] != _BEFORE or rest.find(_END) != len(rest) - 4 or not _TARGET.fullmatch(data, 4, at):
            return None
        # Whom it is from is found out anew each time.
        return cls(rest, {name: value for name, value in scope.items() if not name.startswith("vedette.")})

    def read(self, data: bytes) -> dict[str, Any] | None:
        """The scope of the request that `data` is; None where it is not one whole request like the others."""
        end = len(data) - len(self.rest)
        if not data.endswith(self.rest) or len(data) > _LONGEST_ALIKE or data[:4] != _BEFORE or not _TARGET.fullmatch(data, 4, end):
            return None
        path, _, query = data[4:end].partition(b"?")
        return {**self.scope, "path": path.decode(), "query_string": query}


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

    def write(self, data: bytes | memoryview) -> None:
        """Send `data`, and what was held; memory that others do not write to from now on."""
        if self._held:
            held, self._held = self._held, b""
            # Of several pieces none may be empty: asyncio's own transport (3.12 and 3.13, without uvloop) would try to send it for ever.
            if data:
                self.inner.writelines((held, data))
            else:
                self.inner.write(held)
        elif data[:9] == b"HTTP/1.1 ":
            self._held = bytes(data)
            self._loop.call_soon(self._flush)
        else:
            self.inner.write(data)

    def send(self, data: bytes) -> None:
        """Send a whole answer."""
        self._flush()
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
    HELD_BYTES: ClassVar[int] = 64 << 10
    """Of a body that is held back until it is whole, to be answered at once."""
    IN_A_ROW: ClassVar[int] = 8
    """Of requests that come together, so many are answered at once before others have their turn at the loop."""

    _reading = _HEAD
    _timed = _IDLE
    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _held: bytearray | None = None
    """The body so far of a request that the application was not told of yet."""
    _idle_since: float | None = None
    _in_a_row = 0
    _default_headers: list[tuple[bytes, bytes]] | None = None
    """Of which `_begin` was made, the begin of every answer."""
    _begin = b""
    _alike: Alike | None = None
    """Of the last request that was answered at once: a client says the same of itself over and over, and that need be read but once."""
    _answered: dict[str, Any] | None = None
    """The scope of a request without a body that was answered at once, until what it came in is known to be nothing else."""
    _declined: dict[str, Any] | None = None
    """What was noted of a request that was read as the others are, and that the application has to be asked of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        app = self.config.app
        self._at_once = app if isinstance(app, AtOnce) else None

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
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        continued, self._in_a_row = self._reading == _HEAD, 0
        whole = self._reading == self._timed == _IDLE
        if whole and self._alike is not None and self._is_free() and self._answers_alike(self._alike, data):
            return
        super().data_received(data)
        if self._answered is not None:
            self._alike = Alike.of(data, self._answered) if whole and self._in_a_row == 1 and self._reading == _IDLE else None
            self._answered = None
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
        if _is_ambiguous(self.headers, self.parser.get_http_version()):
            # The parser makes an error of its own of this, which is answered with 400.
            raise ValueError("the request's head may be read in two ways")
        if self._may_be_at_once():
            self._held = bytearray()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
            return
        self._held += body
        if len(self._held) > self.HELD_BYTES:
            self._begin_after_all()

    def on_message_complete(self) -> None:
        self._reading = _IDLE
        if self._held is not None:
            assert self._at_once is not None, "or nothing is held"
            answer = self._at_once.answer(cast(dict[str, Any], self.scope), bytes(self._held))
            if answer is not None:
                self._answered = None if self._held else cast(dict[str, Any], self.scope)
                self._held = None
                self._in_a_row += 1
                self._send(answer)
                return
            self._begin_after_all()
        super().on_message_complete()

    def _may_be_at_once(self) -> bool:
        """Whether the request, whose headers are there, may be answered without the application; its scope tells what it asks for then."""
        if self._at_once is None or self._in_a_row >= self.IN_A_ROW:
            return False
        if self._declined is not None:
            cast(dict[str, Any], self.scope).update(self._declined)
            self._declined = None
            return False
        path, _, query = self.url.partition(b"?")
        method = self.parser.get_method()
        if method + b" " + path not in self._at_once.known or b"#" in query or not self._is_free():
            return False
        if self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive() or self.parser.should_upgrade():
            return False
        self.scope["method"], self.scope["path"], self.scope["query_string"] = method.decode(), path.decode(), query
        return not self.expect_100_continue

    def _is_free(self) -> bool:
        """Whether what is sent now is not in the way of an answer to a request that came before."""
        return (self.cycle is None or self.cycle.response_complete) and not self.pipeline and not self.flow.write_paused

    def _answers_alike(self, alike: Alike, data: bytes) -> bool:
        """Whether `data` was a request like the one before, and is answered; if not, nothing was done yet."""
        assert self._at_once is not None, "or there is none before"
        scope = alike.read(data)
        if scope is None or b"GET " + scope["path"].encode() not in self._at_once.known or self.transport.is_closing():
            return False
        answer = self._at_once.answer(scope, b"")
        if answer is None:
            self._declined = {name: value for name, value in scope.items() if name.startswith("vedette.")}
            return False
        self._send(answer)
        return True

    def _begin_after_all(self) -> None:
        """Tell the application of the request that was held back."""
        held, self._held = self._held, None
        super().on_headers_complete()
        if held:
            super().on_body(bytes(held))

    def _send(self, answer: Whole) -> None:
        headers = self.server_state.default_headers
        if headers is not self._default_headers:
            # Another list each second, for the date.
            self._default_headers = headers
            self._begin = b"".join([b"HTTP/1.1 200 OK\r\n", *(b"%b: %b\r\n" % pair for pair in headers)])
        cast(Corked, self.transport).send(b"".join((self._begin, *answer)))
        self.on_response_complete()

    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        # A timer for each of thousands of requests a second would cost more than to look, when one is due, whether it still is.
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def timeout_keep_alive_handler(self) -> None:
        """Close where nothing was asked for long enough; where something was, look again when that would be so."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return  # a request is under way, and its end sets the timer anew
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

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


def _is_ambiguous(headers: list[tuple[bytes, bytes]], version: str) -> bool:
    """Whether a proxy before us may have read a request otherwise than we do: by its host, or by a coding of its body that we do not know.

    HTTP/1.1 has exactly one `Host`, older versions one at most; what the parser itself refuses (two lengths, a length beside chunks) does
    not come here.
    """
    hosts = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            return True
    return hosts > 1 or (hosts == 0 and version == "1.1")
