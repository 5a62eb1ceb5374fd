"""Answers that need no waiting: given to the connection as they are, past the application, where nothing stands in the way.

An ASGI application costs a task, two messages and a wrapper for each thing that stands around it; a query of one series costs less than
these do. So the connection asks here first (`answer`). What is given is what the application would answer, to the byte; None
where it has to be asked: for whatever needs a thread or a look at something remote, is refused, or is asked from another origin. Not
here: which operations can answer so (`Endpoint.at_once`), how it is sent (`cli/connection.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from vedette.api.answers import GZIP_FROM, GZIP_TO, accepts_gzip, gzipped
from vedette.api.endpoint import AtOnceHandler, Endpoint
from vedette.errors import VedetteError

_log = structlog.get_logger(__name__)
_LONG_WAY = (b"origin", b"x-forwarded-for", b"x-forwarded-proto")
"""Headers that make a difference which is not looked at here."""

Whole = tuple[bytes, bytes]
"""The headers of a successful answer as lines, with the empty one that ends them, and its body."""


class AtOnce:
    """An ASGI application: `app`, beside which `answer` gives what those of `endpoints` have at once that can.

    `admits` says of a request (its scope) whether it is let in, and notes whom it is from; `identified` gives the id that its headers
    name or a new one, None where the application must be asked; `observe` takes path, method, status and
    seconds of what was answered.
    """

    def __init__(
        self,
        app: ASGIApp,
        endpoints: Sequence[Endpoint],
        *,
        admits: Callable[[Scope], bool],
        identified: Callable[[Mapping[bytes, bytes]], str | None],
        observe: Callable[[str, str, int, float], None],
    ) -> None:
        self._app = app
        self._admits, self._identified, self._observe = admits, identified, observe
        first: dict[tuple[str, str], Endpoint] = {}
        for endpoint in endpoints:
            for method in endpoint.methods:
                first.setdefault((method, endpoint.path), endpoint)
        self._handlers: dict[tuple[str, str], AtOnceHandler] = {at: e.at_once for at, e in first.items() if e.at_once is not None}
        self._types = {at: _content_type(first[at].media) for at in self._handlers}
        self.known = frozenset(f"{method} {path}".encode() for method, path in self._handlers)
        """Methods and paths for which it is worth while to ask."""
        self.failures = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request by the application."""
        await self._app(scope, receive, send)

    def answer(self, scope: dict[str, Any], body: bytes) -> Whole | None:
        """The answer to a request that came whole, None where the application has to be asked. Raises nothing."""
        began = time.perf_counter()
        try:
            found = self._answered(scope, body)
        except VedetteError:
            return None  # the application meets the same, and says so
        except Exception:  # noqa: BLE001 - the edge of a request: one fault must not take the connection down
            self.failures += 1
            _log.exception("no answer at once", method=scope["method"], path=scope["path"])
            return None
        if found is not None:
            self._observe(scope["path"], scope["method"], 200, time.perf_counter() - began)
        return found

    def _answered(self, scope: dict[str, Any], body: bytes) -> Whole | None:
        headers = dict(scope["headers"])
        handler = self._handlers.get((scope["method"], scope["path"]))
        if handler is None or len(headers) != len(scope["headers"]) or not headers.keys().isdisjoint(_LONG_WAY):
            return None
        request_id = self._identified(headers)
        if request_id is None or not self._admits(scope):
            return None
        answer = handler(scope, headers, body)
        if answer is None:
            return None
        packed = b""
        if GZIP_FROM <= len(answer) <= GZIP_TO and accepts_gzip(headers.get(b"accept-encoding", b"").decode("latin-1")):
            answer, packed = gzipped(answer), b"content-encoding: gzip\r\nvary: Accept-Encoding\r\n"
        lines = b"content-length: %d\r\ncontent-type: %b\r\n%bx-request-id: %b\r\n\r\n"
        return lines % (len(answer), self._types[scope["method"], scope["path"]], packed, request_id.encode()), answer


def _content_type(media: str) -> bytes:
    """The header's value, as Starlette gives it."""
    return (f"{media}; charset=utf-8" if media.startswith("text/") else media).encode()
