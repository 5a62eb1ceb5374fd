"""The server's own log lines, into its log store as service `vedette`, beside stderr.

A processor of structlog puts each line in a bounded queue; a task stores what gathered every second. Lines about lines that
could not be stored are lines, too: the queue's bound and the second keep that from growing. Not here: what is logged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from vedette.clock import Clock
from vedette.errors import VedetteError
from vedette.ingest.rounds import Rounds
from vedette.model.logs import LogBatch, LogBuilder, level_of
from vedette.wire.loglines import fields_json

SERVICE = "vedette"
_EVERY_S = 1.0
_MOST = 10_000
_MAX_LINE = 64 << 10
_META = frozenset(("_record", "_from_structlog"))
"""What structlog hands along with lines of libraries for itself; no field of the line."""


class OwnLogs:
    """`keep` is the processor; `start` and `close` frame the storing."""

    def __init__(self, append: Callable[[str, LogBatch], Awaitable[None]], clock: Clock, *, tenant: str) -> None:
        self._append = append
        self._clock = clock
        self._tenant = tenant
        self._queue: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_MOST)
        self._rounds = Rounds(self.store, clock, seconds=lambda: _EVERY_S, problem="own log lines are not stored")

    def keep(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """A structlog processor: notes the line and passes it on. Any thread may log."""
        self._queue.append((int(self._clock.now() * 1e6) * 1000, {k: v for k, v in event.items() if k not in _META}))
        return event

    def start(self) -> None:
        """Begin to store."""
        self._rounds.start()

    async def close(self) -> None:
        """Store what is there and end."""
        if self._rounds.started:
            await self._rounds.close()
            await self.store()

    async def store(self) -> None:
        """Store what gathered; what cannot be stored now is on stderr, as all lines are."""
        builder = LogBuilder(max_bytes=4 * _MAX_LINE)
        while self._queue:
            time, event = self._queue.popleft()
            level = level_of(str(event.pop("level", "")))
            message = str(event.pop("event", ""))[:_MAX_LINE]
            event.pop("timestamp", None)
            fields = fields_json({k: v if isinstance(v, (str, int, float, bool, list, dict)) else str(v) for k, v in event.items()})
            builder.add(time, level, SERVICE, message, fields if len(fields) <= _MAX_LINE else b"{}")
        try:
            await self._append(self._tenant, builder.build())
        except VedetteError:
            return
