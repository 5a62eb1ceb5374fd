"""Sockets that take what is pushed without HTTP: whom they listen for, and how what comes becomes whole pieces.

Over TCP a connection is read no faster than its pieces are taken, and what cannot be taken now is kept until it can. UDP has no such
way: what does not fit in the queue is dropped and counted. Such protocols know no credential, so beyond loopback somebody has to say
whom they may listen to. Not here: what a piece means (`graphite.py`, `statsd.py`), the system's side of UDP (`datagrams.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from vedette.access.guard import is_loopback
from vedette.clock import Clock
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest.datagrams import dropped_by_system, listen_udp

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said to the sender of a piece over TCP; with `last` the connection ends."""

    text: bytes
    last: bool = False


Take = Callable[[bytes], Awaitable[Answer | None]]
"""Takes one piece; returns once it is kept, with what the sender is told. Raises `LimitExceeded` where that is not possible now."""

_Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_GATHER_S = 0.05
_MOST_QUEUED = 16 << 20
_EACH = 64
"""Bytes that a datagram takes besides its own: empty ones must not be free."""
_READ = 1 << 20
_BUFFERS = 64 << 20
"""Bytes that connections hold unread together, more or less: the more there are, the less each one gets. Twice as much stops its sender."""
_LEAST = 64 << 10
_MOST_UNSAID = 64 << 10
"""Bytes of answers that wait for a sender who does not read; it is told no more until it does, so that its points still come."""
_AGAIN_S = 1.0
_MOST_CONNECTIONS = 1_000
_TOLD_EVERY_S = 60.0
_GRACE_S = 5.0
"""For so long what is being taken may go on once nothing more is listened for."""
_IDLE_S, _PROBE_S, _PROBES = 120, 30, 4
"""A sender that says nothing for so long is asked whether it is there, so often, before its connection is given up."""


class Cutter(Protocol):
    """Cuts what a connection brings into pieces."""

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The pieces that are whole now. Raises `BadInput` for what cannot be told into pieces, which ends the connection."""
        ...

    def rest(self) -> Sequence[bytes]:
        """What is left when the connection ends."""
        ...


class Lines:
    """Whole lines, many a piece; one that is longer than `most` bytes is left out, and counted by calling `too_long`."""

    def __init__(self, most: int, too_long: Callable[[], None]) -> None:
        self._most = most
        self._too_long = too_long
        self._begun = b""
        self._skipping = False

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The lines that are whole now."""
        if self._skipping:
            _, end, data = data.partition(b"\n")
            if not end:
                return ()
            self._skipping = False
        whole, end, rest = (self._begun + data).rpartition(b"\n")
        self._begun = rest
        if len(rest) > self._most:
            self._begun, self._skipping = b"", True
            self._too_long()
        return (whole + end,) if whole else ()

    def rest(self) -> Sequence[bytes]:
        """The last line may lack its end."""
        return (self._begun + b"\n",) if self._begun else ()


class Sized:
    """Pieces behind their length in four bytes, the highest first, of at most `most` bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun = bytearray()

    def feed(self, data: bytes) -> Sequence[bytes]:
        """The pieces that are whole now."""
        self._begun += data
        found = []
        at = 0
        while len(self._begun) - at >= 4:
            size = int.from_bytes(self._begun[at : at + 4], "big")
            if size > self._most:
                raise BadInput(f"a piece of {size} bytes; at most {self._most} are taken")
            if len(self._begun) - at - 4 < size:
                break
            found.append(bytes(self._begun[at + 4 : at + 4 + size]))
            at += 4 + size
        del self._begun[:at]
        return found

    def rest(self) -> Sequence[bytes]:
        """A piece that is not whole is none."""
        return ()


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to listen: `setting` names it in errors, `place` is `host:port`; `cutter` makes one for a connection, None listens for UDP."""

    setting: str
    place: str
    take: Take
    cutter: Callable[[], Cutter] | None = None


SYSTEM = "system"
"""The reason under which datagrams count that the system dropped."""


class Sockets:
    """Listens at some places. `start`, and `close` at the end. `dropped` counts by reason what is not taken."""

    def __init__(self, places: Sequence[Listening], clock: Clock, *, allow: Sequence[str], insecure: bool, dropped: Counter[str]) -> None:
        """`allow` are the networks listened to besides this machine, empty for all where that is `insecure` or the place is loopback."""
        self._places = places
        self._clock = clock
        self._insecure = insecure
        self._networks = [ipaddress.ip_network(one) for one in allow]
        self._allowed = functools.lru_cache(4096)(self._listened_to)
        self._dropped = dropped
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._queues: list[_Queue] = []
        self._servers: list[asyncio.Server] = []
        self._counted = 0
        self._told = -_TOLD_EVERY_S
        self.ports: list[int] = []
        """What each place came to, in their order: port 0 lets the system choose."""

    async def start(self) -> None:
        """Begin to listen. Raises `BadInput` where a place cannot be had, or must not be; then none is listened at."""
        try:
            for one in self._places:
                host = one.place.rpartition(":")[0]
                if not (self._insecure or self._networks or is_loopback(host)):
                    raise BadInput(
                        f"refusing to listen on {host} for whoever can reach it: the protocol has no credentials",
                        where=one.setting,
                        hint=f"name the networks to listen to in {one.setting.partition('.')[0]}.allow, or pass --insecure",
                    )
                self.ports.append(await self._listen(one))
        except BadInput:
            await self.close()
            raise

    async def _listen(self, one: Listening) -> int:
        if one.cutter is None:
            queue = _Queue(one.take, self)
            transport = await opened(one.setting, one.place, lambda host, port: listen_udp(host, port, queue.received))
            queue.transport = transport
            self._queues.append(queue)
            self._tasks.add(asyncio.create_task(queue.run(), name=one.setting))
            return int(transport.get_extra_info("sockname")[1])
        server = await opened(one.setting, one.place, functools.partial(self._listen_tcp, functools.partial(self._serve, one)))
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _listen_tcp(self, serve: _Serve, host: str, port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()

        def connected() -> asyncio.StreamReaderProtocol:
            limit = min(max(_BUFFERS // (len(self._tasks) + 1), _LEAST), _READ)
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=limit, loop=loop), serve, loop=loop)

        return await loop.create_server(connected, host, port)

    def _listened_to(self, peer: str) -> bool:
        if not self._networks:
            return True
        found = ipaddress.ip_address(peer.partition("%")[0])
        address = (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
        return address.is_loopback or any(address in network for network in self._networks)

    def allowed(self, peer: str) -> bool:
        """Whether a sender is listened to; one that is not is counted."""
        if self._allowed(peer):
            return True
        self._dropped["not_allowed"] += 1
        return False

    def lost(self, reason: str, count: int, problem: str, **more: object) -> None:
        """Count what is not taken; a line in the log tells of it, once a minute."""
        self._dropped[reason] += count
        if self._clock.monotonic() - self._told >= _TOLD_EVERY_S:
            self._told = self._clock.monotonic()
            log.warning("some of what was sent is not taken", reason=reason, count=count, problem=problem, **more)

    async def _serve(self, one: Listening, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None and one.cutter is not None, "called for connections only"
        peer = writer.get_extra_info("peername")
        name = str(peer[0]) if peer else ""
        if len(self._tasks) >= _MOST_CONNECTIONS or not self.allowed(name):
            if len(self._tasks) >= _MOST_CONNECTIONS:
                self.lost("connections", 1, f"more than {_MOST_CONNECTIONS} connections", peer=name)
            writer.close()
            return
        self._tasks.add(task)
        keep_alive(writer.get_extra_info("socket"))
        cutter = one.cutter()
        try:
            while data := await reader.read(_READ):
                last = False
                for piece in cutter.feed(data):
                    last |= _said(writer, await self._taken(one.take, piece))
                if last or self._over.is_set():
                    break
            else:  # the sender has ended; what stands behind its last whole piece is all that there will be
                for piece in cutter.rest():
                    _said(writer, await self._taken(one.take, piece))
        except BadInput as error:
            self.lost("bad_frame", 1, str(error), peer=name)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the sender went away, or the server stops: what was whole is taken
        except Exception:  # the edge of a connection: a fault of ours ends it, counted, and no other
            self._dropped["failed"] += 1
            log.exception("what a connection sent is not taken", listener=one.setting, peer=name)
        finally:
            self._tasks.discard(task)
            writer.close()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """While this lasts, `close` waits for the task that runs instead of breaking it off."""
        task = asyncio.current_task()
        assert task is not None, "called in tasks only"
        self._busy.add(task)
        try:
            yield
        finally:
            self._busy.discard(task)

    async def _taken(self, take: Take, piece: bytes) -> Answer | None:
        with self.at_work():
            while True:
                try:
                    return await take(piece)
                except LimitExceeded as error:
                    if self._over.is_set():
                        self.lost("full", 1, str(error))
                        return None
                with contextlib.suppress(asyncio.TimeoutError):  # the sender waits meanwhile: its connection is not read
                    await asyncio.wait_for(self._over.wait(), _AGAIN_S)

    @property
    def system_drops(self) -> int | None:
        """Datagrams that the system dropped before they came here, None where it does not tell."""
        told = [dropped_by_system(queue.transport) for queue in self._queues if queue.transport is not None]
        return sum(drops for drops in told if drops is not None) if told and None not in told else None

    def count_drops(self) -> None:
        """Have what the system dropped since the last time be among what is `dropped`."""
        if drops := (self.system_drops or 0) - self._counted:
            self._counted += drops
            self._dropped[SYSTEM] += drops

    @property
    def over(self) -> bool:
        """Whether `close` was called."""
        return self._over.is_set()

    async def close(self) -> None:
        """Stop listening; what has come is taken."""
        self._over.set()
        self.count_drops()
        for server in self._servers:
            server.close()
        for queue in self._queues:
            if queue.transport is not None:
                queue.transport.close()
        for task in self._tasks - self._busy:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GRACE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for queue in self._queues:
            await queue.take_all()


def _said(writer: asyncio.StreamWriter, answer: Answer | None) -> bool:
    """Tell a sender; whether that was the last word."""
    if answer is None:
        return False
    if writer.transport.get_write_buffer_size() + len(answer.text) <= _MOST_UNSAID:
        writer.write(answer.text)
    return answer.last


class _Queue:
    """The datagrams of one place, gathered for a moment and then taken together."""

    def __init__(self, take: Take, sockets: Sockets) -> None:
        self._take = take
        self._sockets = sockets
        self._waiting: list[bytes] = []
        self._size = 0
        self._woken = asyncio.Event()
        self.transport: asyncio.DatagramTransport | None = None

    def received(self, data: bytes, peer: str) -> None:
        if not self._sockets.allowed(peer):
            return
        size = len(data) + _EACH
        if self._size + size > _MOST_QUEUED:
            self._sockets.lost("queue_full", 1, "datagrams come faster than they are taken")
            return
        self._waiting.append(data)
        self._size += size
        self._woken.set()

    async def run(self) -> None:
        while not self._sockets.over:
            await self._woken.wait()
            await asyncio.sleep(_GATHER_S)
            self._woken.clear()
            with self._sockets.at_work():
                await self.take_all()

    async def take_all(self) -> None:
        taken, self._waiting, self._size = self._waiting, [], 0
        if not taken:
            return
        try:
            await self._take(b"\n".join(taken) + b"\n")
        except LimitExceeded as error:
            self._sockets.lost("full", len(taken), str(error))
        except Exception as error:  # the loop's edge: a fault of ours must not end the listening
            self._sockets.lost("failed", len(taken), repr(error))
            log.exception("datagrams are not taken", datagrams=len(taken))


def keep_alive(connection: socket.socket) -> None:
    """Have the system find out when a sender is gone without a word: such connections would otherwise stay, and be too many one day."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", _IDLE_S), ("TCP_KEEPINTVL", _PROBE_S), ("TCP_KEEPCNT", _PROBES)):
        if (option := getattr(socket, name, None)) is not None:  # not every system lets one say it of one connection
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


async def opened(setting: str, place: str, listen: Callable[[str, int], Awaitable[T]]) -> T:
    """What `listen(host, port)` gives for a `host:port`. Raises `BadInput` naming the setting where the system refuses it."""
    host, _, port = place.rpartition(":")
    try:
        return await listen(host.strip("[]"), int(port))
    except OSError as error:
        raise BadInput(f"cannot listen on {place}: {error.strerror or error}", where=setting) from None
