"""How successful answers are encoded: Prometheus' envelope, gzip for large ones, CORS.

The `data` of a query is bytes already written by the engine and is never decoded again; a large one is sent in pieces while
it is being written. Compression is bounded: level 1, on a worker thread, and not at all below 4 KiB (one packet saves nothing)
or above 64 MiB (a client that asks for that much is near).
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from vedette.api.endpoint import Handler, Run
from vedette.model.matchers import compile_regex

GZIP_FROM, GZIP_TO = 4 << 10, 64 << 20
"""Bytes of a body from which, and up to which, it is compressed."""
_PIECE = 1 << 17
"""Bytes of a list that are sent at once: what the processor's cache holds."""
_ACCEPTS_GZIP = re.compile(r"(?:^|[,\s])(?:gzip|\*)\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[\d.]+\s*)?(?:,|$)", re.ASCII)
JSON = "application/json"


def enveloped(*data: bytes | memoryview, warnings: Sequence[str] = (), infos: Sequence[str] = ()) -> bytes:
    """`{"status":"success","data":…}` around encoded data, in one part or several, with warnings and infos where there are any."""
    tail = b""
    if warnings:
        tail += b',"warnings":' + orjson.dumps(list(warnings))
    if infos:
        tail += b',"infos":' + orjson.dumps(list(infos))
    return b"".join((b'{"status":"success","data":', *data, tail, b"}"))


def success(data: object, *, warnings: Sequence[str] = ()) -> Response:
    """A success whose data is a Python value."""
    return Response(enveloped(orjson.dumps(data), warnings=warnings), media_type=JSON)


class Pieces(Response):
    """An answer that is sent while it is being made, piece by piece: it is never one body, and nothing holds the loop up.

    Each piece is taken on a worker thread (`run`) once the client has room for it; none is empty, and none is made once the client
    has gone. `size` is about how many bytes there will be. Where it is `exact` the client is told: to read what comes without its length
    in chunks takes many clients twice as long.
    """

    def __init__(self, pieces: Iterator[bytes | memoryview], run: Run, *, size: int, exact: bool = False, media_type: str = JSON) -> None:
        super().__init__(b"", media_type=media_type)
        self._pieces = pieces
        self._run = run
        self.size = size
        self._packer: _Packer | None = None
        if exact:
            self.headers["content-length"] = str(size)
        else:
            del self.headers["content-length"]

    def pack(self) -> None:
        """Compress the pieces; how many bytes that makes is not known beforehand."""
        self._packer = _packer()
        if "content-length" in self.headers:
            del self.headers["content-length"]
        self.headers["content-encoding"] = "gzip"
        self.headers["vary"] = "Accept-Encoding"

    def _next(self) -> bytes | memoryview:
        """The next bytes to send, empty at the end. Runs on a worker thread."""
        packer = self._packer
        for piece in self._pieces:
            if sent := piece if packer is None else packer.compress(piece):
                return sent
        self._packer = None
        return packer.flush() if packer is not None else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # What is sent to nobody vanishes without a word.
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            while piece := await self._run(self._next):
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._pieces = iter(())


async def disconnected(receive: Receive) -> None:
    """Wait until the client has gone, once its request has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Listed(Response):
    """A JSON list that is sent as it lies, in pieces: never copied into one body, nor compressed, which would take longer."""

    def __init__(self, items: Sequence[bytes]) -> None:
        super().__init__(b"", media_type=JSON)
        self._items = items
        self.headers["content-length"] = str(sum(map(len, items)) + max(0, len(items) - 1) + 2)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        begin = b"["
        for page in _pages(self._items, _PIECE):
            await send({"type": "http.response.body", "body": begin + b",".join(page), "more_body": True})
            begin = b","
        await send({"type": "http.response.body", "body": b"[]" if begin == b"[" else b"]", "more_body": False})


def _pages(items: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    start = total = 0
    for i, item in enumerate(items):
        total += len(item)
        if total >= size:
            yield items[start : i + 1]
            start, total = i + 1, 0
    if start < len(items):
        yield items[start:]


def listed(items: Sequence[bytes]) -> Response:
    """A JSON list of items that are JSON already; `Listed` where it is large."""
    if sum(map(len, items)) >= _PIECE:
        return Listed(items)
    return Response(b"[" + b",".join(items) + b"]", media_type=JSON)


def accepts_gzip(accepted: str) -> bool:
    """Whether a client that says so in `accept-encoding` takes gzip."""
    return _ACCEPTS_GZIP.search(accepted) is not None


class _Packer(Protocol):
    """What `zlib.compressobj` gives."""

    def compress(self, data: bytes | memoryview, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _packer() -> _Packer:
    """For one gzip member, at the fastest level."""
    return zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)


def gzipped(data: bytes) -> bytes:
    """`data` as one gzip member, at the fastest level."""
    packer = _packer()
    return packer.compress(data) + packer.flush()


def finishing(handler: Handler, run: Run, cors_origin: str) -> Handler:
    """`handler` with its large answers compressed for clients that accept it, and with CORS headers; it answers OPTIONS itself.

    `cors_origin` is a regular expression, matched whole, of the origins whose pages may read answers (never with
    credentials). Only operations that change nothing are wrapped with this.
    """
    everyone = cors_origin in (".*", "^(?:.*)$")
    may_read: Callable[[str], bool] = compile_regex(cors_origin, where="cors_origin")

    async def finished(request: Request) -> Response:
        # A preflight asks nothing but the headers that follow.
        response = Response(status_code=204) if request.method == "OPTIONS" else await handler(request)
        body = response.body
        if isinstance(response, Pieces):
            if response.size <= GZIP_TO and accepts_gzip(request.headers.get("accept-encoding", "")):
                response.pack()
        elif GZIP_FROM <= len(body) <= GZIP_TO and accepts_gzip(request.headers.get("accept-encoding", "")):
            packed = await run(gzipped, body)
            response.body = packed
            response.headers["content-length"] = str(len(packed))
            response.headers["content-encoding"] = "gzip"
            response.headers["vary"] = "Accept-Encoding"
        origin = request.headers.get("origin")
        if origin:
            _allow(response, "*" if everyone else origin if may_read(origin) else None)
        return response

    return finished


def _allow(response: Response, origin: str | None) -> None:
    headers = response.headers
    headers["vary"] = f"{headers['vary']}, Origin" if "vary" in headers else "Origin"
    if origin is not None:
        headers["access-control-allow-origin"] = origin
        headers["access-control-allow-headers"] = "Accept, Authorization, Content-Type, Origin"
        headers["access-control-allow-methods"] = "GET, POST, OPTIONS"
        headers["access-control-expose-headers"] = "Date"
