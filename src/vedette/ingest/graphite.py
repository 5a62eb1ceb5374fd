"""Graphite over TCP and UDP: lines and pickles go through the door as they come, durable before a connection is read on. OpenTSDB's lines
are taken as what they are of Graphite's.

Mapping rules are asked once for each path: storage knows a path again by its bytes. Not here: the protocols (`wire.graphite`), the
sockets.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput
from vedette.ingest.mapping import mapper_of
from vedette.ingest.opentsdb import Commands
from vedette.ingest.paths import Paths
from vedette.ingest.socket_settings import GraphiteSettings
from vedette.ingest.sockets import Answer, Lines, Listening, Sized, Sockets
from vedette.model.samples import Appended, KeySpace, SampleBatch
from vedette.wire import graphite, opentsdb_lines
from vedette.wire.graphite import Parsed

log = structlog.get_logger(__name__)

Append = Callable[[SampleBatch], Awaitable[Appended]]

_AT_ONCE = 16 << 10
"""Bytes that are parsed in less time than the way to a thread and back takes."""


@dataclass(slots=True)
class GraphiteCounts:
    """Since the start: samples stored, and what was not, by reason."""

    samples: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Graphite:
    """The listeners of one tenant. `apply` puts settings in force, `close` ends.

    `run(function, *args)` runs a blocking function on a worker thread; `base` is where a mapping file is looked for.
    """

    def __init__(self, append: Append, clock: Clock, *, run: Callable[..., Awaitable[Any]], base: Path, insecure: bool) -> None:
        self.counts = GraphiteCounts()
        self._append = append
        self._clock = clock
        self._run = run
        self._base = base
        self._insecure = insecure
        self._settings = GraphiteSettings()
        self._keyspace: KeySpace | None = None
        self._sockets: Sockets | None = None
        self._warm = False
        self._commands = Commands(platform.node())

    async def apply(self, settings: GraphiteSettings) -> None:
        """Listen as the settings say. Raises `BadInput`; then what was in force stays."""
        if settings == self._settings and not settings.mapping_file:
            return
        before = self._settings, self._keyspace
        keyspace = self._made(settings)
        if before[1] is not None and _ways(settings) == _ways(self._settings):
            # Whoever is connected stays so, and what waits in the system is not lost.
            self._settings, self._keyspace = settings, keyspace
            before[1].close()
            return
        await self._listen(listening=False)
        self._settings, self._keyspace = settings, keyspace
        try:
            await self._listen(listening=True)
        except BadInput:
            self._settings, self._keyspace = before
            await self._listen(listening=True)
            raise
        if before[1] is not None:
            before[1].close()

    def _made(self, settings: GraphiteSettings) -> KeySpace:
        file = self._base / settings.mapping_file if settings.mapping_file else None
        mapper = mapper_of(settings.mappings, file, where="graphite.mappings", strict=settings.strict)
        paths = Paths(settings, mapper)
        return KeySpace(settings.tenant, paths.resolve, resolve_many=paths.resolve_many)

    async def _listen(self, *, listening: bool) -> None:
        if self._sockets is not None:
            await self._sockets.close()
            self._sockets = None
        settings = self._settings
        places = _places(settings, self)
        if listening and places:
            sockets = Sockets(places, self._clock, allow=settings.allow, insecure=self._insecure, dropped=self.counts.dropped)
            await sockets.start()
            self._sockets = sockets
            log.info("graphite is taken", **{one.setting.partition(".")[2]: one.place for one in places})

    @property
    def ports(self) -> list[int]:
        """The ports listened on: TCP, UDP, pickle, OpenTSDB, of those that there are."""
        return self._sockets.ports if self._sockets is not None else []

    def drops(self) -> dict[str, int]:
        """What was not taken since the start, by reason, what the system dropped included."""
        if self._sockets is not None:
            self._sockets.count_drops()
        return dict(self.counts.dropped)

    async def take(self, data: bytes) -> None:
        """Store whole lines; durable when it returns. Raises `LimitExceeded`."""
        await self._store(await self._parsed(data))

    async def _parsed(self, data: bytes) -> Parsed:
        keyspace, most = self._keyspace, self._settings.max_line
        assert keyspace is not None, "listened for only with one"
        stamp = now_ms(self._clock)
        if self._warm and len(data) <= _AT_ONCE:
            return graphite.parse(data, keyspace, stamp, max_line=most)
        # The first goes to a thread whatever its size, since the kernel may have to be compiled for it.
        parsed: Parsed = await self._run(lambda: graphite.parse(data, keyspace, stamp, max_line=most))
        self._warm = True
        return parsed

    async def take_pickle(self, piece: bytes) -> None:
        """Store one pickle's samples, likewise; a pickle of anything else is counted."""
        assert self._keyspace is not None, "listened for only with one"
        try:
            parsed = await self._run(graphite.parse_pickle, piece, self._keyspace, now_ms(self._clock))
        except BadInput as error:
            self._lost("bad_pickle", 1, str(error))
            return
        await self._store(parsed)

    async def take_opentsdb(self, data: bytes) -> Answer | None:
        """Store whole lines of OpenTSDB, likewise, and answer its other commands."""
        read = opentsdb_lines.as_graphite
        lines: opentsdb_lines.Lines = read(data) if len(data) <= _AT_ONCE else await self._run(read, data)
        bad = Counter({reason: count for reason, count in lines.bad.items() if reason != opentsdb_lines.UNKNOWN})
        if lines.text:
            parsed = await self._parsed(lines.text)
            await self._store(parsed)
            bad.update(parsed.bad)
        # Only now, since whoever sent them may have been made to wait and these been read again.
        for reason, count in lines.bad.items():
            self._lost(reason, count, lines.first)
        return self._commands.answer(lines, bad, now_ms(self._clock) // 1000)

    async def _store(self, parsed: Parsed) -> None:
        batch = parsed.batch
        # One that is not valid (labels that are too long, say) must not take the others along: there is nobody to tell.
        batch.partial = True
        appended = await self._append(batch) if batch.series_count else None
        for reason, count in parsed.bad.items():
            self._lost(reason, count, parsed.first)
        if appended is not None:
            self.counts.samples += appended.samples
            for reason, count in appended.dropped.items():
                self._lost(reason, count, appended.problem)

    def _lost(self, reason: str, count: int, problem: str) -> None:
        if self._sockets is not None:
            self._sockets.lost(reason, count, problem, protocol="graphite")
        else:
            self.counts.dropped[reason] += count

    async def close(self) -> None:
        """Stop listening; what has come is stored."""
        await self._listen(listening=False)


def _ways(settings: GraphiteSettings) -> tuple[object, ...]:
    """What listening depends on."""
    return settings.tcp, settings.udp, settings.pickle, settings.opentsdb, settings.allow, settings.max_line, settings.max_pickle


def _places(settings: GraphiteSettings, room: Graphite) -> list[Listening]:
    def lines() -> Lines:
        return Lines(settings.max_line, lambda: room._lost("too_long", 1, f"a line of more than {settings.max_line} bytes"))

    found = [
        Listening("graphite.tcp", settings.tcp, room.take, lines),
        Listening("graphite.udp", settings.udp, room.take),
        Listening("graphite.pickle", settings.pickle, room.take_pickle, lambda: Sized(settings.max_pickle)),
        Listening("graphite.opentsdb", settings.opentsdb, room.take_opentsdb, lines),
    ]
    return [one for one in found if one.place]
