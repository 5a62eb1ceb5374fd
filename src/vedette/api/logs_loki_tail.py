"""Loki's live tail: a WebSocket that gives the lines of a query as they come, as `logcli query --tail` and Grafana's Live read it.

Not here: how new lines are found (`logs_tail.py`), the language (`logs.logql`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

import orjson
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from vedette.api.logs import LogBackend, time_of
from vedette.api.logs_loki import streams
from vedette.api.logs_tail import Fresh, followed
from vedette.api.params import Form
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.logs.logql import evaluate
from vedette.logs.logql.nodes import Pipeline
from vedette.logs.logql.parser import of_selector
from vedette.logs.logql.stages import Line
from vedette.logs.query import LogQuery

PATH = "/loki/api/v1/tail"
_LINES = 500
_MOST = 200
_SEND_S = 10.0


@dataclass(slots=True)
class Tail:
    """The socket; `open` counts those there are."""

    backend: LogBackend
    open: int = 0

    async def socket(self, socket: WebSocket) -> None:
        """One follower; what it says is ignored."""
        await socket.accept()
        try:
            if self.open >= _MOST:
                raise LimitExceeded(f"more than {_MOST} live tails", retry_after=10.0)
            form = Form([(k, v) for k, v in socket.query_params.multi_items()])
            asked = of_selector(form.text("query"))
            before = await self._before(socket, form, asked)
        except VedetteError as error:
            await socket.close(1013 if isinstance(error, LimitExceeded) else 1008, str(error)[:100])
            return
        self.open += 1
        gone = asyncio.create_task(_gone(socket))
        telling = asyncio.create_task(self._tell(socket, asked, before))
        try:
            await asyncio.wait({gone, telling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.open -= 1
            for task in (gone, telling):
                task.cancel()
            await asyncio.gather(gone, telling, return_exceptions=True)

    async def _before(self, socket: WebSocket, form: Form, asked: Pipeline) -> Fresh[Line]:
        """The lines since `start`, where the client names one."""
        since = self.backend.store.through
        if not form.text("start"):
            return Fresh(newest=since - 1)
        limit = form.text("limit") or "100"
        if not limit.isdecimal() or not 0 < int(limit[:9]) <= _LINES * 10:
            raise BadInput(f'invalid parameter "limit": {limit[:20]!r}: expected 1 to {_LINES * 10:,}')
        query = LogQuery(start=time_of(form, "start", 0), limit=int(limit))
        found = await evaluate.lines(self.backend.store, self.backend.tenant_of(socket.scope), asked, query)
        return Fresh(found[::-1], max((since - 1, *(line.seq for line in found))))

    async def _tell(self, socket: WebSocket, asked: Pipeline, before: Fresh[Line]) -> None:
        store, tenant = self.backend.store, self.backend.tenant_of(socket.scope)

        async def fresh(since: int) -> Fresh[Line]:
            # One more than is sent, to know whether any were left out.
            found = await evaluate.lines(store, tenant, asked, LogQuery(limit=_LINES + 1, since_seq=since))
            newest = max((line.seq for line in found), default=0)
            return Fresh(found[:_LINES][::-1], newest, max(0, len(found) - _LINES))

        try:
            await _send(socket, before)
            async with aclosing(followed(store, tenant, fresh, ending=self.backend.ending, since=before.newest + 1)) as news:
                async for new in news:
                    await _send(socket, new)
            await socket.close(1001, "the server stops")
        except TimeoutError:
            await socket.close(1013, f"nothing was read for {_SEND_S:g} s")
        except (WebSocketDisconnect, RuntimeError):
            return  # it went away between two messages, which starlette says with a RuntimeError


async def _send(socket: WebSocket, new: Fresh[Line]) -> None:
    if not new.lines:
        return
    first = new.lines[0]
    dropped = [{"labels": first.labels, "timestamp": str(first.time)}] if new.missed else None
    message = {"streams": streams(new.lines), "dropped_entries": dropped}
    async with asyncio.timeout(_SEND_S):
        await socket.send_text(orjson.dumps(message).decode())


async def _gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def routes(backend: LogBackend) -> Sequence[WebSocketRoute]:
    """The WebSocket."""
    return [WebSocketRoute(PATH, Tail(backend).socket, name="loki:tail")]
