"""Tracing: every request has an id; with tracing on it also has a span in a trace, its caller's where that names one (`traceparent`).

Spans go to a collector as OTLP/HTTP in JSON, in batches, from a bounded queue: what does not fit is dropped and counted, and no
request ever waits for it. Not here: what log lines say (`net.trace.noted`), requests sent on (`net.client`).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vedette.api.answers import disconnected
from vedette.api.settings import TracingSettings
from vedette.clock import Clock
from vedette.errors import VedetteError
from vedette.net.client import HttpClient
from vedette.net.trace import Trace, enter, leave, parse_traceparent

_MOST_WAITING = 8192
_BATCH = 512
_EVERY_S = 2.0
_TIMEOUT_S = 10.0
_SERVER = 2  # SPAN_KIND_SERVER
_ERROR = 2  # STATUS_CODE_ERROR
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}\Z")
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class SpanCounts:
    """Since the start: spans sent, and those that a full queue or the collector did not take."""

    sent: int = 0
    dropped: int = 0


class Tracing:
    """The middleware (`around`) and what sends its spans (`start`, `close`). `known` gives a path's route, for the spans' names."""

    def __init__(self, settings: TracingSettings, clock: Clock, *, version: str) -> None:
        self._settings, self._clock, self._version = settings, clock, version
        self._prefix = os.urandom(4).hex()
        self._numbers = itertools.count(1)
        self._random = random.Random()  # noqa: S311 - names, not secrets
        self._spans: deque[dict[str, Any]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._client: HttpClient | None = None
        self._failing = False
        self.counts = SpanCounts()

    def around(self, inner: ASGIApp, known: Callable[[str], str]) -> ASGIApp:
        """`inner`, whose requests have ids."""
        enabled = self._settings.enabled

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await inner(scope, receive, send)
                return
            trace, parent = self._trace_of(scope)
            extra = [(b"x-request-id", trace.request_id.encode())]
            if enabled:
                extra += [(b"traceparent", trace.traceparent.encode()), (b"x-trace-id", trace.trace_id.encode())]
            status, began, at = 500, time.perf_counter_ns(), self._clock.now()

            async def marked(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    message = {**message, "headers": [*message.get("headers", ()), *extra]}
                await send(message)

            trace.gone = partial(disconnected, receive)
            token = enter(trace)
            try:
                await inner(scope, receive, marked)
            finally:
                leave(trace, token)
                if trace.sampled and self._task is not None:
                    self._note(scope, trace, parent, (at, time.perf_counter_ns() - began), status, known(scope["path"]))

        return traced

    def identified(self, headers: Mapping[bytes, bytes]) -> str | None:
        """The id of a request that is answered without `around`; None where that has to be around it, being traced."""
        return None if self._settings.enabled else self._id_of(headers.get(b"x-request-id", b""))

    def _id_of(self, given: bytes) -> str:
        return given.decode("ascii") if _REQUEST_ID.match(given) else f"{self._prefix}-{next(self._numbers)}"

    def _trace_of(self, scope: Scope) -> tuple[Trace, str]:
        """A request's ids, and the span that it came from ("" for none)."""
        given = parent = b""
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
            elif name == b"traceparent":
                parent = value
        own = self._id_of(given)
        caller = parse_traceparent(parent.decode("latin-1")) if parent else None
        if not self._settings.enabled:
            # The trace is the caller's, and its name belongs into the lines about it; we add nothing to it.
            return Trace(own, caller[0] if caller else ""), ""
        span = f"{self._random.getrandbits(64) or 1:016x}"
        if caller is not None:
            return Trace(own, caller[0], span, caller[2]), caller[1]
        return Trace(own, f"{self._random.getrandbits(128) or 1:032x}", span, self._random.random() < self._settings.sample), ""

    def _note(self, scope: Scope, trace: Trace, parent: str, took: tuple[float, int], status: int, route: str) -> None:
        if len(self._spans) >= _MOST_WAITING:
            self.counts.dropped += 1
            return
        began = int(took[0] * 1e9)
        span: dict[str, Any] = {
            "traceId": trace.trace_id,
            "spanId": trace.span_id,
            "name": f"{scope['method']} {route}",
            "kind": _SERVER,
            "startTimeUnixNano": str(began),
            "endTimeUnixNano": str(began + took[1]),
            "attributes": [
                _text("http.request.method", scope["method"]),
                _text("http.route", route),
                _text("url.path", scope["path"][:1000]),
                {"key": "http.response.status_code", "value": {"intValue": str(status)}},
                _text("vedette.tenant", scope.get("vedette.tenant", "default")),
                _text("vedette.request_id", trace.request_id),
            ],
            "status": {"code": _ERROR} if status >= 500 else {},
        }
        if parent:
            span["parentSpanId"] = parent
        self._spans.append(span)

    def start(self) -> None:
        """Begin to send, where there is somewhere to send to."""
        if self._settings.endpoint:
            self._client = HttpClient()
            self._task = asyncio.create_task(self._forever(), name="tracing")

    async def close(self) -> None:
        """Send what is there, once, and end."""
        if self._task is None or self._client is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._flush()
        await self._client.close()

    async def _forever(self) -> None:
        while True:
            await self._clock.sleep(_EVERY_S)
            try:
                await self._flush()
            except Exception:  # noqa: BLE001 - the loop's edge: one fault must not end tracing
                self.counts.dropped += len(self._spans)
                self._spans.clear()
                _log.exception("spans not sent")

    async def _flush(self) -> None:
        """Send all that waits, batch by batch; a batch that is not taken is dropped, and the rest waits for the next turn."""
        assert self._client is not None, "start comes first"
        settings = self._settings
        resource = {"attributes": [_text("service.name", settings.service), _text("service.version", self._version)]}
        while self._spans:
            batch = [self._spans.popleft() for _ in range(min(_BATCH, len(self._spans)))]
            scope = {"scope": {"name": "vedette", "version": self._version}, "spans": batch}
            body = {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}
            try:
                answer = await self._client.post_json(settings.endpoint, body, timeout=_TIMEOUT_S, headers=settings.headers)
                answer.check()
            except VedetteError as error:
                self.counts.dropped += len(batch)
                if not self._failing:
                    _log.warning("spans not sent", reason=str(error))
                self._failing = True
                return
            self._failing = False
            self.counts.sent += len(batch)


def _text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}
