"""What each error family looks like to a client: status, type and body, in each dialect.

Storage, promql and the rest never know HTTP; this is the one place where a family becomes a status. Three dialects
here: Prometheus' JSON (`prometheus`), the plain text that remote-write senders log (`write`), and the
`{"detail": …}` of the service APIs (`detail`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
from starlette.responses import Response

from vedette.access.attempts import TooManyAttempts
from vedette.errors import BadInput, Corrupt, LimitExceeded, NotFound, Undeliverable, Unreachable, VedetteError
from vedette.promql.errors import ExecutionError, QueryCanceled, QueryTimeout
from vedette.storage.limits import TenantLimit

UNEXPECTED = "internal error: see the server's log"
"""What a client is told of a fault that is ours: the log has the rest."""


class TooLarge(LimitExceeded):
    """A request body over its limit in bytes: read no further."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit} bytes")


class Unsupported(BadInput):
    """A request body of a media type, or in a coding, that is not taken where it was sent."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal as HTTP: `kind` is Prometheus' errorType, from its closed set."""

    status: int
    kind: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(error: VedetteError) -> Problem:
    """The status and errorType of an error, as Prometheus assigns them."""
    match error:
        case Unsupported():
            return Problem(415, "bad_data", str(error))
        case ExecutionError():
            return Problem(422, "execution", str(error))
        case BadInput():
            return Problem(400, "bad_data", str(error))
        case NotFound():
            return Problem(404, "not_found", str(error))
        case QueryTimeout():
            return Problem(503, "timeout", str(error))
        case QueryCanceled():
            return Problem(503, "canceled", str(error))
        case TooLarge():
            return Problem(413, "bad_data", str(error))
        case TooManyAttempts(retry_after=seconds):
            return Problem(429, "too_many_attempts", str(error), retry_after(seconds))
        case TenantLimit(retry_after=seconds):
            return Problem(429, "unavailable", str(error), retry_after(seconds))
        case Unreachable(retry_after=seconds):
            return Problem(500, "internal", str(error), retry_after(seconds))
        case LimitExceeded(retry_after=None):
            # Waiting does not help: what the query asks for is itself too much.
            return Problem(422, "execution", str(error))
        case LimitExceeded(retry_after=seconds):
            return Problem(503, "unavailable", str(error), retry_after(seconds))
        case Undeliverable(retry_after=seconds):
            return Problem(503, "unavailable", str(error), retry_after(seconds))
        case Corrupt():
            return Problem(500, "internal", str(error))
        case _:
            raise AssertionError(f"{type(error).__name__} is not of the five families")


def retry_after(seconds: float | None) -> dict[str, str]:
    """The Retry-After header for a wait in seconds, rounded up; none where it is not known."""
    return {} if seconds is None else {"Retry-After": str(max(1, math.ceil(seconds)))}


def prometheus(error: VedetteError) -> Response:
    """`{"status":"error","errorType":…,"error":…}`."""
    found = problem(error)
    return prometheus_body(found.status, found.kind, found.message, found.headers)


def prometheus_body(status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Prometheus' error body of the given parts."""
    body = orjson.dumps({"status": "error", "errorType": kind, "error": message})
    return Response(body, status, media_type="application/json", headers=dict(headers or {}))


def write(error: VedetteError) -> Response:
    """Plain text with a newline, as Prometheus' receiver answers; senders put it into their log.

    A sender repeats after 5xx, and after 429 where it is told to; it never repeats after another 4xx, so a full
    disk must be a 5xx and a bad body must not.
    """
    if isinstance(error, LimitExceeded) and not isinstance(error, TooLarge | TenantLimit):
        # No sender gets through now, whatever it sends: 503 rather than 429, which many senders take for final.
        return Response(f"{error}\n", 503, media_type="text/plain", headers=retry_after(error.retry_after or 5.0))
    found = problem(error)
    return Response(f"{found.message}\n", found.status, media_type="text/plain", headers=dict(found.headers))


def detail(error: VedetteError) -> Response:
    """The service APIs' shape: `{"detail": [{"loc": […], "msg": …, "type": …}]}` with 422 for bad input.

    The first part of `where` may say which part of the request is meant (query, path, body): it is the body, unless it does.
    """
    match error:
        case Unsupported():
            return _json(415, {"detail": str(error)}, {})
        case BadInput():
            place = [int(p) if p.isdigit() else p for p in error.where.split(".") if p]
            if not place or place[0] not in ("query", "path", "body"):
                place.insert(0, "body")
            message = f"{error.problem} ({error.hint})" if error.hint else error.problem
            return _json(422, {"detail": [{"loc": place, "msg": message, "type": "value_error"}]}, {})
        case LimitExceeded(retry_after=None) if not isinstance(error, TooLarge):
            return _json(429, {"detail": str(error)}, {})
        case _:
            found = problem(error)
            return _json(found.status, {"detail": found.message}, found.headers)


def _json(status: int, body: object, headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json", headers=dict(headers))
