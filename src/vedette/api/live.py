"""`/ws/metrics` and its twin in server-sent events: values as they change.

Without `metric` it is the processor, memory and disk of the machines that are watched. Not here: asking and telling (`updates.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from vedette.api import problems
from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.updates import Question, Subscription, Updates
from vedette.errors import LimitExceeded, VedetteError
from vedette.promql.parse import parse
from vedette.rules.aliases import expression_of, is_alias, near

USUAL = ("cpu_usage", "memory_usage", "disk_usage")
"""What is watched where nothing is named."""

WS_PATHS = ("/ws/metrics", "/api/v1/monitoring/ws/metrics")
SSE_PATH = "/api/v1/live"

_ALIVE_S = 15.0
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

    async def _subscribed(self, connection: HTTPConnection) -> Subscription:
        """Whoever asks, watching. What has no series now is told at once, with what may have been meant: a slip would be waited on."""
        found = await self.updates.subscribe(self._questions(connection))
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
                async with asyncio.timeout(_SEND_S):
                    for message in messages:
                        await socket.send_text(message.decode())
            await socket.close(1001)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            # It reads no more, or went away between two messages: starlette says the latter with a RuntimeError.
            return

    async def events(self, request: Request) -> Response:
        """The same as server-sent events."""
        subscription = await self._subscribed(request)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._stream(subscription), media_type="text/event-stream", headers=headers)

    async def _stream(self, subscription: Subscription) -> AsyncIterator[bytes]:
        quiet = 0.0
        try:
            yield b": open\n\n"
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
                yield b"".join(b"data: " + message + b"\n\n" for message in messages)
        finally:
            self.updates.unsubscribe(subscription)


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
