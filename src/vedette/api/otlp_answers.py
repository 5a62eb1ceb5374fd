"""How OTLP/HTTP is answered, in the sender's encoding: what was taken, what was left out, why a request was refused."""

from __future__ import annotations

import orjson
from starlette.responses import Response

from vedette.api.problems import TooLarge, problem, retry_after
from vedette.errors import LimitExceeded, VedetteError
from vedette.wire.native import field, varint

PROTOBUF = "application/x-protobuf"
_MOST_TEXT = 4000


def kind_of(header: str) -> str:
    """The media type in a Content-Type."""
    return header.partition(";")[0].strip().lower()


def unsupported(kind: str) -> Response:
    """For a media type that is none of OTLP's."""
    return Response(f"unsupported content type {kind!r}: expected {PROTOBUF} or application/json\n", 415, media_type="text/plain")


def taken(kind: str, *, rejected: int = 0, counted: str = "", message: str = "") -> Response:
    """200; with `rejected` a partial success that says so in the field `counted` (`rejectedDataPoints`)."""
    if kind == "application/json":
        partial = {"partialSuccess": {counted: str(rejected), "errorMessage": message}} if rejected or message else {}
        return Response(orjson.dumps(partial), media_type=kind)
    inner = field(1, 0, varint(rejected)) + field(2, 2, message.encode()[:_MOST_TEXT])
    return Response(field(1, 2, inner) if rejected or message else b"", media_type=kind)


def refused(error: VedetteError, kind: str) -> Response:
    """A `google.rpc.Status`. Senders repeat after 429, 502, 503 and 504 only."""
    found = problem(error)
    full = isinstance(error, LimitExceeded) and not isinstance(error, TooLarge)
    status, headers = (503, retry_after(error.retry_after or 5.0)) if full and isinstance(error, LimitExceeded) else (found.status, {})
    code = 14 if full else 3  # UNAVAILABLE, INVALID_ARGUMENT
    if kind == "application/json":
        return Response(orjson.dumps({"code": code, "message": found.message}), status, media_type=kind, headers=headers)
    body = field(1, 0, varint(code)) + field(2, 2, found.message.encode()[:_MOST_TEXT])
    return Response(body, status, media_type=kind, headers=headers)
