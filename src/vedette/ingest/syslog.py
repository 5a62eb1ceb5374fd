"""Syslog over UDP and TCP: messages gather for a moment, then go to the log store together.

Over TCP a connection is read no faster than its lines are stored, and what cannot be stored now is kept until it can. UDP
has no such way: what does not fit in the queue is dropped and counted. Not here: the messages (`wire.syslog`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from vedette.clock import Clock
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest.datagrams import dropped_by_system, listen_udp
from vedette.ingest.sockets import keep_alive, opened
from vedette.model.logs import LogBatch, LogBuilder
from vedette.wire import syslog

log = structlog.get_logger(__name__)

Append = Callable[[str, LogBatch], Awaitable[None]]

_GATHER_S = 0.05
_MOST_QUEUED = 64 << 20
_EACH = 128
"""Bytes that a datagram takes besides its own: empty ones must not be free."""
_READ = 256 << 10
_AGAIN_S = 1.0
_MOST_CONNECTIONS = 1_000


@dataclass(slots=True)
class SyslogCounts:
    """Since the start."""

    messages: int = 0
    dropped: int = 0
    """Over UDP, for want of room; or of connections beyond the most there may be, or that were no syslog."""


class SyslogListener:
    """Listens at the addresses given (`host:port`, "" for none) for one tenant. `start`, and `close` at the end."""

    def __init__(self, append: Append, clock: Clock, *, udp: str, tcp: str, tenant: str, max_line: int) -> None:
        self.counts = SyslogCounts()
        self._append = append
        self._clock = clock
        self._places = (udp, tcp)
        self._tenant = tenant
        self._max_line = max_line
        self._queued: list[tuple[bytes, str]] = []
        self._size = 0
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to listen. Raises `BadInput` where an address cannot be had."""
        udp, tcp = self._places
        if udp:
            self._transport = await opened("logs.syslog_udp", udp, self._listen_udp)
            self._tasks.add(asyncio.create_task(self._store_queued(), name="syslog-udp"))
        if tcp:
            self._server = await opened("logs.syslog_tcp", tcp, self._listen_tcp)

    @property
    def dropped(self) -> int:
        """Messages and connections dropped since the start, also by the system, where it tells."""
        drops = dropped_by_system(self._transport) if self._transport is not None else None
        return self.counts.dropped + (drops or 0)

    @property
    def addresses(self) -> tuple[int, int]:
        """The ports listened on, (UDP, TCP); 0 for none."""
        udp = self._transport.get_extra_info("sockname")[1] if self._transport is not None else 0
        tcp = self._server.sockets[0].getsockname()[1] if self._server is not None else 0
        return udp, tcp

    async def _listen_tcp(self, host: str, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._serve, host, port)

    async def _listen_udp(self, host: str, port: int) -> asyncio.DatagramTransport:
        return await listen_udp(host, port, self._received)

    def _received(self, data: bytes, peer: str) -> None:
        size = len(data) + _EACH
        if self._size + size > _MOST_QUEUED:
            self.counts.dropped += 1
            return
        self._queued.append((data, peer))
        self._size += size
        self._woken.set()

    async def _store_queued(self) -> None:
        while True:
            await self._woken.wait()
            await asyncio.sleep(_GATHER_S)
            self._woken.clear()
            await self._store_udp()

    async def _store_udp(self) -> None:
        taken, self._queued, self._size = self._queued, [], 0
        if not taken:
            return
        try:
            batch = self._batch(taken)
            await self._append(self._tenant, batch)
            self.counts.messages += len(batch)
        except LimitExceeded as error:
            self.counts.dropped += len(taken)
            log.warning("syslog messages are dropped", messages=len(taken), reason=str(error))
        except Exception:  # the loop's edge: a fault of ours must not end the listening
            self.counts.dropped += len(taken)
            log.exception("syslog messages are dropped", messages=len(taken))

    def _batch(self, messages: list[tuple[bytes, str]]) -> LogBatch:
        now = int(self._clock.now() * 1e6) * 1000
        builder = LogBuilder(max_bytes=8 * self._max_line)
        for data, peer in messages:
            syslog.add(data, builder, now_ns=now, peer=peer, max_line=self._max_line)
        return builder.build()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) > _MOST_CONNECTIONS:
            self.counts.dropped += 1
            writer.close()
            return
        self._tasks.add(task)
        keep_alive(writer.get_extra_info("socket"))
        peer = writer.get_extra_info("peername")
        try:
            await self._read(reader, str(peer[0]) if peer else "")
        except BadInput as error:
            self.counts.dropped += 1
            log.warning("a syslog connection is closed", peer=peer, reason=str(error))
        except (ConnectionError, asyncio.CancelledError):
            pass  # the sender went away, or the server stops: what was complete is stored
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, peer: str) -> None:
        frames = syslog.Frames()
        while data := await reader.read(_READ):
            await self._store([(message, peer) for message in frames.feed(data)])
        await self._store([(frames.rest(), peer)])

    async def _store(self, messages: list[tuple[bytes, str]]) -> None:
        batch = self._batch(messages)
        while True:
            try:
                await self._append(self._tenant, batch)
            except LimitExceeded:
                await asyncio.sleep(_AGAIN_S)  # the sender waits meanwhile: its connection is not read
            else:
                self.counts.messages += len(batch)
                return

    async def close(self) -> None:
        """Stop listening; what has come is stored."""
        if self._transport is not None:
            self._transport.close()
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._store_udp()
