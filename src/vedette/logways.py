"""The ways of log lines that are no request: syslog, followed files, the server's own lines; and their counts as series.

Puts together what `ingest` and `collect` have for logs, as `rooms.py` does for the rest. Not here: HTTP (`api.logs_in`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import structlog

from vedette.clock import Clock
from vedette.collect.tail import FileTail
from vedette.errors import BadInput, LimitExceeded, NotFound
from vedette.ingest.logseries import LogSeries
from vedette.ingest.ownlogs import OwnLogs
from vedette.ingest.syslog import SyslogListener
from vedette.logs.settings import LogSettings
from vedette.logs.store import LogStore
from vedette.model.logs import LogBatch
from vedette.model.samples import Appended, SampleBatch
from vedette.model.tenants import DEFAULT_TENANT
from vedette.selfmetrics import Reading, of_logs

log = structlog.get_logger(__name__)


def store_of(directory: Path, settings: LogSettings, clock: Clock) -> LogStore | None:
    """The log store; None, with a line in the log, where DuckDB is not installed."""
    try:
        return LogStore(directory, settings, clock)
    except NotFound as missing:
        log.info("no log lines are kept", reason=str(missing))
        return None


class LogWays:
    """All of them, for the default tenant. `open` first where there is a store; `start`, then `close` before the store is closed."""

    def __init__(self, settings: LogSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._store: LogStore | None = None
        self._own = OwnLogs(self._append, clock, tenant=DEFAULT_TENANT)
        self._syslog: SyslogListener | None = None
        self._tail: FileTail | None = None
        self._series: LogSeries | None = None
        self._places = Path()

    def keep(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """The structlog processor that notes the server's own lines."""
        return self._own.keep(logger, method, event) if self._settings.own else event

    def open(self, store: LogStore, append: Callable[[SampleBatch], Awaitable[Appended]], places: Path, *, interval_ms: int) -> None:
        """Lines go to `store`, counts to `append` every `interval_ms`, places in files to `places`. Raises `BadInput`."""
        self._store, self._places = store, places
        self._series = LogSeries(lambda: store.counts.lines, append, self._clock, interval_ms=interval_ms)
        self._make()

    def _make(self) -> None:
        """The listener and the follower that the settings ask for, not started. Raises `BadInput`."""
        settings = self._settings
        self._syslog = self._tail = None
        if settings.syslog_udp or settings.syslog_tcp:
            self._syslog = SyslogListener(
                self._append,
                self._clock,
                udp=settings.syslog_udp,
                tcp=settings.syslog_tcp,
                tenant=DEFAULT_TENANT,
                max_line=settings.max_line,
            )
        if settings.files:
            self._tail = FileTail(
                settings.files, self._append, self._clock, places=self._places, tenant=DEFAULT_TENANT, max_line=settings.max_line
            )

    async def apply(self, settings: LogSettings) -> None:
        """Put other settings in force: listen and follow anew where that changes. Raises `BadInput`; then the old ones stay."""
        before, self._settings = self._settings, settings
        if self._store is None or _ways(before) == _ways(settings):
            return
        try:
            await self._again()
        except BadInput:
            self._settings = before
            await self._again()
            raise

    async def _again(self) -> None:
        for way in (self._syslog, self._tail):
            if way is not None:
                await way.close()
        self._make()
        await self._listen()

    async def start(self) -> None:
        """Begin. Raises `BadInput` where an address cannot be listened on."""
        if self._store is None:
            if self._settings.files or self._settings.syslog_udp or self._settings.syslog_tcp:
                log.warning("syslog and files are configured, and no lines can be kept: pip install 'vedette[logs]'")
            return
        await self._listen()
        if self._series is not None:
            self._series.start()
        if self._settings.own:
            self._own.start()

    async def _listen(self) -> None:
        if self._syslog is not None:
            await self._syslog.start()
            log.info("syslog is taken", udp=self._settings.syslog_udp or "no", tcp=self._settings.syslog_tcp or "no")
        if self._tail is not None:
            await self._tail.start()

    async def close(self) -> None:
        """Stop, and store what has come."""
        for way in (self._syslog, self._tail, self._own, self._series):
            if way is not None:
                await way.close()

    async def _append(self, tenant: str, batch: LogBatch) -> None:
        if self._store is None:
            raise LimitExceeded("no lines are kept")
        await self._store.append(tenant, batch)

    def readings(self) -> Iterator[Reading]:
        """What the store and the ways in counted."""
        if self._store is None:
            return
        yield from of_logs(self._store)
        taken, dropped = (self._syslog.counts.messages, self._syslog.dropped) if self._syslog else (0, 0)
        yield Reading("vedette_syslog_messages", "counter", "Syslog messages stored.", {"": taken})
        yield Reading("vedette_syslog_dropped", "counter", "Syslog messages and connections dropped.", {"": dropped})
        lines, failures = (self._tail.counts.lines, self._tail.counts.failures) if self._tail else (0, 0)
        yield Reading("vedette_tail_lines", "counter", "Lines of followed files stored.", {"": lines})
        yield Reading("vedette_tail_failures", "counter", "Files that could not be followed.", {"": failures})


def _ways(settings: LogSettings) -> tuple[object, ...]:
    """What listening and following depend on."""
    return settings.syslog_udp, settings.syslog_tcp, settings.files, settings.max_line
