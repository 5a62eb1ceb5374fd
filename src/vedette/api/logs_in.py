"""Log lines in: JSON lines, OTLP, Loki's push. Each answers once the lines are durable, in its dialect.

Not here: Elasticsearch's (`logs_elastic.py`), the bodies (`wire`), syslog and files (`ingest`, `collect`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cramjam
import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.logs import LogBackend, broken
from vedette.api.otlp_answers import PROTOBUF, kind_of, refused, taken, unsupported
from vedette.api.params import body_of, expect_json, media_type, query_of
from vedette.api.problems import UNEXPECTED, TooLarge, Unsupported, prometheus, write
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.model.logs import LogBatch
from vedette.wire import jsonlines, loki, otlp_logs

_HELD = 256 << 20
# Bodies below this are parsed within a millisecond or two, less than the way to a thread and back is worth.
_AT_ONCE = 8 << 10


@dataclass(slots=True)
class Intake:
    """The operations. `held` counts the bytes of requests in work."""

    backend: LogBackend
    held: int = 0

    async def read(self, request: Request, parse: Callable[[bytes], Any], *, snappy: bool = False) -> Any:
        """What `parse`, which may unpack `snappy` itself, makes of the body. Raises `BadInput`, `TooLarge`, `LimitExceeded`."""
        settings = self.backend.store.settings
        if self.held > _HELD:
            raise LimitExceeded(f"more than {_HELD} bytes of requests are in work", retry_after=1.0)
        body = await body_of(request, settings.max_body)
        size = len(body)
        self.held += size
        try:
            encoding = request.headers.get("content-encoding", "identity").lower()
            if (unpack := UNPACK.get(encoding)) is not None:
                body = await self.backend.run(unpack, body, settings.max_body)
            elif encoding not in ("identity", "") and not (snappy and encoding == "snappy"):
                codings = f"expected {'snappy, ' if snappy else ''}gzip, deflate, zstd or none"
                raise Unsupported(f"unsupported content encoding {encoding!r}", hint=codings)
            return parse(body) if len(body) < _AT_ONCE else await self.backend.run(parse, body)
        finally:
            self.held -= size

    async def keep(self, request: Request, batch: LogBatch) -> None:
        """Store lines for the tenant of a request. Raises `LimitExceeded`."""
        await self.backend.store.append(self.backend.tenant_of(request.scope), batch)

    async def native(self, request: Request) -> Response:
        """JSON lines, or an array, or one object."""
        expect_json(request, expected="application/json, application/x-ndjson, application/jsonl or none")
        now, most, service = self.backend.now_ns(), self.backend.store.settings.max_line, query_of(request).text("service")
        batch = await self.read(request, lambda body: jsonlines.parse(body, now_ns=now, max_line=most, service=service))
        await self.keep(request, batch)
        return Response(orjson.dumps({"status": "success", "data": {"accepted": len(batch)}}), media_type="application/json")

    async def otlp(self, request: Request) -> Response:
        """`ExportLogsServiceRequest`, answered in the sender's encoding."""
        kind = kind_of(request.headers.get("content-type", ""))
        if kind not in (PROTOBUF, "application/json"):
            return unsupported(kind)
        now, most = self.backend.now_ns(), self.backend.store.settings.max_line
        parse = otlp_logs.parse if kind == PROTOBUF else otlp_logs.parse_json
        try:
            batch = await self.read(request, lambda body: parse(body, now_ns=now, max_line=most))
            await self.keep(request, batch)
        except VedetteError as error:
            return refused(error, kind)
        return taken(kind)

    async def loki(self, request: Request) -> Response:
        """Loki's push."""
        kind = media_type(request)
        if kind not in ("", PROTOBUF, "application/json"):
            raise Unsupported(f"unsupported media type {kind!r}", hint=f"expected {PROTOBUF} or application/json")
        settings, now = self.backend.store.settings, self.backend.now_ns()

        def parse(body: bytes) -> LogBatch:
            if kind == "application/json":
                return loki.parse_json(body, now_ns=now, max_line=settings.max_line)
            return loki.parse(body, now_ns=now, max_line=settings.max_line, max_bytes=settings.max_body)

        await self.keep(request, await self.read(request, parse, snappy=kind != "application/json"))
        return Response(status_code=204)


def unpacked(body: bytes, limit: int) -> bytes:
    """A gzip or zlib body of at most `limit` bytes. Raises `BadInput`, `TooLarge`."""
    parts, size, left = [], 0, body
    while left:
        unpack = zlib.decompressobj(47)
        try:
            part = unpack.decompress(left, limit - size + 1)
        except zlib.error:
            raise BadInput("not a gzip body", hint="the Content-Encoding says that it is") from None
        size += len(part)
        if size > limit:
            raise TooLarge(limit)
        if not unpack.eof:
            raise BadInput("the gzip body ends early")
        parts.append(part)
        left = unpack.unused_data
    return b"".join(parts)


def unpacked_zstd(body: bytes, limit: int) -> bytes:
    """A zstd body of at most `limit` bytes. Raises `BadInput`, `TooLarge`."""
    # Memory that is never written to costs nothing, so the limit may be as large as it is.
    out = np.empty(limit, np.uint8)
    try:
        size = cramjam.zstd.decompress_into(body, out.data)
    except cramjam.DecompressionError as error:
        if "whole buffer" in str(error):
            raise TooLarge(limit) from None
        raise BadInput(f"not a zstd body: {error}", hint="the Content-Encoding says that it is") from None
    return out[:size].tobytes()


UNPACK: dict[str, Callable[[bytes, int], bytes]] = {"gzip": unpacked, "x-gzip": unpacked, "deflate": unpacked, "zstd": unpacked_zstd}
"""What unpacks a body of at most so many bytes, by its Content-Encoding."""


def _plain_broken() -> Response:
    return Response(f"{UNEXPECTED}\n", 500, media_type="text/plain")


def endpoints(backend: LogBackend) -> list[Endpoint]:
    """The operations of this room."""
    room = Intake(backend)
    binary: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    lines = {"content": {"application/x-ndjson": binary, "application/json": {}}, "required": True}
    both = {"content": {PROTOBUF: binary, "application/json": {}}, "required": True}
    service = Param("service", "text", "The service of lines that name none.")
    native = answering(room.native, prometheus, broken)
    return [
        Endpoint("/api/v1/logs", native, "Write log lines", ("POST",), params=(service,), tag="logs", body=lines),
        *(
            Endpoint(path, answering(room.otlp, write, _plain_broken), "Write log lines (OTLP)", ("POST",), tag="logs", body=both)
            for path in ("/v1/logs", "/api/v1/otlp/v1/logs")
        ),
        Endpoint(
            "/loki/api/v1/push", answering(room.loki, write, _plain_broken), "Write log lines (Loki)", ("POST",), tag="logs", body=both,
            media="text/plain",
        ),
    ]  # fmt: skip
