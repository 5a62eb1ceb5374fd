"""`/ws/metrics` and its twin in server-sent events: values as they change.

Without `metric` it is the processor, memory and disk of the machines that are watched. Not here: asking and telling (`updates.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import WebSocketRoute
from starlette.types import Message, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from vedette.api import problems
from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.updates import Question, Subscription, Updates
from vedette.errors import LimitExceeded, VedetteError
from vedette.promql.parse import parse
from vedette.rules.aliases import expression_of, is_alias, near

_log = structlog.get_logger(__name__)

USUAL = ("cpu_usage", "memory_usage", "disk_usage")
"""What is watched where nothing is named."""

WS_PATHS = ("/ws/metrics", "/api/v1/monitoring/ws/metrics")
SSE_PATH = "/api/v1/live"

_ALIVE_S = 15.0
_CLOSE_S = 5.0
_RETRY_MS = 2000
"""When a browser comes back whose stream of events ended."""
_SEND_S = 30.0
"""A client that takes nothing for so long is let go; its connection would hold memory for ever."""


@dataclass(frozen=True, slots=True)
class Live:
    """The operations. `ending` says that the server stops, `known` which metrics a tenant has now."""

    updates: Updates
    tenant_of: Callable[[Mapping[str, Any]], str]
    ending: Callable[[], bool]
    known: Callable[[str], Awaitable[Sequence[str]]]

    def _questions(self, connection: HTTPConnection) -> list[Question]:
        """What is asked for. Raises `BadInput` for what is no PromQL."""
        tenant = self.tenant_of(connection.scope)
        names = list(dict.fromkeys(connection.query_params.getlist("metric"))) or list(USUAL)
        found = [Question(tenant, name, expression_of(name)) for name in names]
        for question in found:
            parse(question.expr)
        return found

    async def _subscribed(self, connection: HTTPConnection, *, after: int = 0, back: bool = False) -> Subscription:
        """Whoever asks, watching. What has no series now is told at once, with what may have been meant: a slip would be waited on."""
        found = await self.updates.subscribe(self._questions(connection), after=after, back=back)
        for question in found.questions:
            if is_alias(question.name) or not self.updates.empty(question):
                continue
            meant = near(question.name, await self.known(question.tenant))
            told = {"type": "no_data", "metric": question.name, "message": "no such series now; values come once there are some"}
            found.tell(orjson.dumps({**told, "did_you_mean": meant}))
        return found

    async def socket(self, socket: WebSocket) -> None:
        """One WebSocket: it is told, and what it says is ignored."""
        await socket.accept()
        try:
            subscription = await self._subscribed(socket)
        except VedetteError as error:
            await socket.send_text(orjson.dumps({"type": "problem", "error": str(error)}).decode())
            await socket.close(1013 if isinstance(error, LimitExceeded) else 1008, str(error)[:100])
            return
        listening = asyncio.create_task(_gone(socket))
        telling = asyncio.create_task(self._tell(socket, subscription))
        try:
            await asyncio.wait({listening, telling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.updates.unsubscribe(subscription)
            for task in (listening, telling):
                task.cancel()
            await asyncio.gather(listening, telling, return_exceptions=True)

    async def _tell(self, socket: WebSocket, subscription: Subscription) -> None:
        try:
            while not self.ending():
                try:
                    async with asyncio.timeout(1.0):
                        messages = await subscription.take()
                except TimeoutError:
                    continue
                for _, message in messages:
                    async with asyncio.timeout(_SEND_S):
                        await socket.send_text(message.decode())
            await socket.close(1001, "the server stops")
        except TimeoutError:
            await _cut(socket)
        except (WebSocketDisconnect, RuntimeError):
            # It went away between two messages, which starlette says with a RuntimeError.
            return

    async def events(self, request: Request) -> Response:
        """The same as server-sent events; one who comes back with `Last-Event-ID` gets what came meanwhile."""
        last = request.headers.get("last-event-id", "")
        after = int(last) if last.isascii() and last.isdigit() and len(last) < 20 else 0
        subscription = await self._subscribed(request, after=after, back=True)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return _Events(self._stream(subscription), media_type="text/event-stream", headers=headers)

    async def _stream(self, subscription: Subscription) -> AsyncGenerator[bytes]:
        quiet = 0.0
        try:
            yield b"retry: %d\n: open\n\n" % _RETRY_MS
            while not self.ending():
                try:
                    async with asyncio.timeout(1.0):
                        messages = await subscription.take()
                except TimeoutError:
                    quiet += 1.0
                    if quiet >= _ALIVE_S:
                        quiet = 0.0
                        yield b": alive\n\n"
                    continue
                yield b"".join(b"%sdata: %s\n\n" % (b"id: %d\n" % number if number else b"", message) for number, message in messages)
        finally:
            self.updates.unsubscribe(subscription)


class _Events(StreamingResponse):
    """Events for one who may stop to read: what is not taken for `_SEND_S` ends the stream, and they may come back."""

    async def stream_response(self, send: Send) -> None:
        """As the base class does, each piece within its time."""

        async def timely(message: Message) -> None:
            async with asyncio.timeout(_SEND_S):
                await send(message)

        try:
            await super().stream_response(timely)
        except TimeoutError:
            _log.info("an event stream ended: nothing was read", seconds=_SEND_S)
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()


async def _cut(socket: WebSocket) -> None:
    """Close for one who reads no more; the reason reaches those who read again just now."""
    _log.info("a WebSocket is closed: nothing was read", seconds=_SEND_S)
    with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
        async with asyncio.timeout(_CLOSE_S):
            await socket.close(1013, f"nothing was read for {_SEND_S:g} s")


async def _gone(socket: WebSocket) -> None:
    """Returns when the client has gone; what it says is not listened to."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def endpoints(live: Live) -> list[Endpoint]:
    """The operation over HTTP."""
    metric = Param("metric", "texts", "A metric, an alias such as cpu_usage, or PromQL; processor, memory and disk if absent.")
    events = answering(live.events, problems.prometheus, lambda: problems.prometheus_body(500, "internal", problems.UNEXPECTED))
    return [Endpoint(SSE_PATH, events, "Values as they change", params=(metric,), tag="query", media="text/event-stream")]


def routes(live: Live) -> Sequence[WebSocketRoute]:
    """The WebSockets."""
    return [WebSocketRoute(path, live.socket, name=f"live:{path}") for path in WS_PATHS]
