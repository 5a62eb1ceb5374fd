"""PostgreSQL as the store of samples: `storage.interface.Storage` over one database, for teams that run one already.

An append returns once its transaction is committed. While the database does not answer, appends and reads raise
`LimitExceeded`, and work again once it does. One Vedette writes to a database at a time: it holds an advisory lock. Not
here: HTTP, PromQL, `retention_by_selector` and `retention_size`, which are the embedded engine's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.samples import Appended, MetricMetadata, SampleBatch
from vedette.model.series import SeriesSet
from vedette.records.settings import is_postgres, parse_database_url, postgres_dsn
from vedette.storage.bridge import LoopThread
from vedette.storage.directory import DirectoryLock
from vedette.storage.interface import Matchers, StorageStats
from vedette.storage.limits import Limits
from vedette.storage.postgres import reader, schema, statistics
from vedette.storage.postgres.failures import Refused, driver, translated
from vedette.storage.postgres.known import Known
from vedette.storage.postgres.writer import Writer
from vedette.storage.settings import StorageSettings

log = structlog.get_logger(__name__)
T = TypeVar("T")

_CONNECTIONS = 6
_CONNECT_S = 10.0
_AGAIN_S = 1.0
_LOCK_PATIENCE_S = 10.0
_HOUSEKEEPING_S = 60.0
# A host that vanished with its connection must not keep the lock for the two hours that are usual.
_SESSION = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3", "timezone": "UTC"}


class Postgres:
    """Samples in a PostgreSQL database. `lock`, then `start`; `close` at the end."""

    def __init__(self, settings: StorageSettings, clock: Clock, *, limits: Limits | None = None) -> None:
        """Raises `BadInput` for settings that this backend cannot keep, and where its driver is not installed."""
        for name in ("retention_by_selector", "retention_size"):
            if getattr(settings, name):
                raise BadInput("the PostgreSQL backend cannot do this", where=f"storage.{name}", hint="only the embedded engine can")
        try:
            url = parse_database_url(settings.url)
        except BadInput as error:
            raise BadInput(error.problem, where="storage.url", hint=error.hint) from None
        if not is_postgres(url):
            raise BadInput("lacks the database", where="storage.url", hint="postgresql://user:password@host:5432/name")
        driver()
        self._dsn = postgres_dsn(url)
        self.settings = settings
        self.clock = clock
        self.limits = limits or Limits(window=settings.out_of_order_window)
        self._directory = DirectoryLock(settings.data)
        self._loop = LoopThread("storage-postgres")
        self._pool: Any = None
        self._connection: Any = None
        self._known = Known()
        self._housekeeping: asyncio.Task[None] | None = None
        self._stats = statistics.Statistics(clock)
        self._histograms = False
        self._starting = ""
        self._opening: asyncio.Task[None] | None = None
        self._closing = False
        self._writer = Writer(
            self._known, self._writing, clock, keep=settings.retention, limits=self.limits, queue_samples=settings.queue_samples
        )

    def lock(self) -> None:
        """Take the data directory, where state other than samples is. Raises `BadInput` where another process holds it."""
        if not self._directory.held:
            self._directory.take()

    async def start(self) -> None:
        """Connect, bring the schema up to date, and begin to take appends; waits for a database that does not answer yet.

        Raises `BadInput` where it refuses who asks, has a newer schema, or another Vedette writes to it.
        """
        self.lock()
        self._loop.start()
        async with AsyncExitStack() as undo:
            # Also where the start itself is given up.
            undo.callback(self._loop.stop)
            undo.push_async_callback(lambda: self._loop.ask(self._shut()))
            await self._loop.ask(self._open())
            undo.pop_all()

    async def _open(self) -> None:
        self._opening = asyncio.current_task()
        self._pool = await driver().create_pool(
            self._dsn, min_size=0, max_size=_CONNECTIONS, timeout=_CONNECT_S, command_timeout=120, server_settings=_SESSION
        )
        since = asyncio.get_running_loop().time()
        while True:
            try:
                async with self._reading() as connection:
                    await schema.migrate(connection)
                    self._histograms = await connection.fetchval(
                        "SELECT EXISTS (SELECT 1 FROM vedette_samples WHERE histogram IS NOT NULL)"
                    )
                    await self._stats.begin(connection)
                await self._writing()
                break
            except _Taken as error:
                if asyncio.get_running_loop().time() - since > _LOCK_PATIENCE_S:
                    raise BadInput(str(error), where="storage.url", hint="stop it, or use another database") from None
            except Refused as error:
                raise BadInput(str(error), where="storage.url") from None
            except LimitExceeded as error:
                if self._starting != str(error):
                    log.warning("waiting for the database", problem=str(error))
                self._starting = str(error)
            await asyncio.sleep(_AGAIN_S)
        self._starting, self._opening = "", None
        self._housekeeping = asyncio.create_task(self._keep_house())

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Any]:
        with translated():
            async with self._pool.acquire(timeout=_CONNECT_S) as connection:
                yield connection

    async def _writing(self) -> Any:
        """The connection that writes, which holds the lock; a new one where the old one broke. Raises `LimitExceeded`."""
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        with translated():
            connection = await driver().connect(self._dsn, timeout=_CONNECT_S, command_timeout=120, server_settings=_SESSION)
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", schema.LOCK):
                await connection.close()
                raise _Taken("another Vedette writes to this database", retry_after=5.0)
            durable = "off" if self.settings.sync else "on"
            await connection.execute(f"SET synchronous_commit = {durable}")
        self._connection = connection
        return connection

    async def _keep_house(self) -> None:
        while True:
            try:
                await self._retire()
            except VedetteError as error:
                log.warning("old days could not be dropped", problem=str(error))
            await asyncio.sleep(_HOUSEKEEPING_S)

    async def _retire(self) -> None:
        self._known.forget_closed()
        if not self.settings.retention:
            return
        oldest = now_ms(self.clock) - self.settings.retention
        # Between two groups: a series that is being registered has no samples yet either.
        async with self._writer.turn, self._reading() as connection:
            gone = await schema.drop_days(connection, oldest)
            self._writer.forget_days(gone)
            if gone:
                self._known.forget(await schema.drop_empty_series(connection))

    async def retire(self) -> None:
        """Drop the days beyond the retention now, and the series of which nothing is left."""
        await self._loop.ask(self._retire())

    async def append(self, batch: SampleBatch) -> Appended:
        """See `Storage.append`; samples of any age within the retention are taken."""
        if self._closing:
            raise LimitExceeded("the storage is closing")
        return await self._loop.ask(self._writer.submit(batch))

    def _ask(self, question: Callable[[Any], Awaitable[T]]) -> T:
        async def asked() -> T:
            async with self._reading() as connection:
                return await question(connection)

        return self._loop.call(asked())

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        """See `Storage.select`."""
        most_samples, most_series = self.settings.select_samples, self.settings.select_series
        native = self._histograms or self._writer.written.histograms > 0

        async def read(connection: Any) -> tuple[bytes, list[Any]]:
            ids = await reader.matching(connection, tenant, [matchers])
            if len(ids) > most_series:
                raise LimitExceeded(f"the query selects {len(ids)} series, more than {most_series}; narrow its matchers")
            await reader.introduce(connection, self._known, tenant, ids)
            stream = await reader.samples(connection, ids, start, end, most_samples + 1)
            return stream, await reader.native(connection, ids, start, end) if native else []

        stream, histograms = self._ask(read)
        found = reader.series_set(self._known, stream, histograms)
        if found.sample_count > most_samples:
            raise LimitExceeded(f"the query reads more than {most_samples} samples; narrow its matchers or its range")
        return found

    async def _present(self, connection: Any, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> reader.Ids:
        return await reader.with_samples(connection, await reader.matching(connection, tenant, sets), start, end)

    def series(self, tenant: str, sets: Sequence[Matchers], start: int, end: int, limit: int = 0) -> list[Labels]:
        """See `Storage.series`."""
        if not sets:
            return []

        async def read(connection: Any) -> reader.Ids:
            ids = await self._present(connection, tenant, sets, start, end)
            await reader.introduce(connection, self._known, tenant, ids)
            return ids

        return reader.label_sets(self._known, self._ask(read), limit)

    def label_names(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """See `Storage.label_names`."""

        async def read(connection: Any) -> list[str]:
            return await reader.names(connection, await self._present(connection, tenant, sets, start, end))

        return self._ask(read)

    def label_values(self, tenant: str, name: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """See `Storage.label_values`."""

        async def read(connection: Any) -> list[str]:
            return await reader.values(connection, await self._present(connection, tenant, sets, start, end), name)

        return self._ask(read)

    def row_ids(self, tenant: str, labels: LabelTable, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `RowNumbered.row_ids`: the column `id` of `vedette_samples`."""
        if len(times) == 0:
            return np.zeros(0, dtype=np.int64)
        series = self._known.ids_of(tenant, [row.encode() for row in labels])
        return self._ask(lambda connection: reader.row_ids(connection, series, times))

    def metadata(self, tenant: str, metric: str | None = None) -> list[MetricMetadata]:
        """See `Storage.metadata`."""

        async def read(connection: Any) -> list[MetricMetadata]:
            return await reader.metadata(connection, tenant, metric)

        return self._ask(read)

    def stats(self) -> StorageStats:
        """See `Storage.stats`. Counted anew at most every 15 s; while the database does not answer, as they were."""
        written = self._writer.written
        if self._loop.running and self._stats.due(written):
            try:
                self._ask(lambda connection: self._stats.count(connection, written))
            except LimitExceeded as error:
                log.warning("the database's figures are old", problem=str(error))
        return self._stats.of(written)

    async def delete(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> None:
        """Delete what is stored now in [start, end] of the series that pass any of `sets`; durable when it returns."""

        async def deleted() -> None:
            async with self._reading() as connection:
                ids = await reader.matching(connection, tenant, sets)
                await connection.execute(
                    "DELETE FROM vedette_samples WHERE series_id = ANY($1::int[]) AND ts BETWEEN $2 AND $3",
                    *(ids.tolist(), max(start, -(1 << 63)), min(end, (1 << 63) - 1)),
                )

        if sets:
            await self._loop.ask(deleted())

    async def compact(self, *, clean: bool = False) -> None:
        """Nothing: PostgreSQL's autovacuum frees the room of what was deleted."""

    async def snapshot(self, *, skip_head: bool = False, beside: Callable[[Path], None] | None = None) -> str:
        """Raises `BadInput`: PostgreSQL has its own tools for copies."""
        raise BadInput("samples are in PostgreSQL", hint="take a copy with pg_dump or pg_basebackup")

    async def flush(self) -> None:
        """Nothing: what was acknowledged is committed."""

    @property
    def problem(self) -> str:
        """Why nothing can be written now, empty where it can: what health tells."""
        return self._starting or self._writer.problem

    def tenant_series(self) -> dict[str, int]:
        """How many series each tenant has, of those that this process has met."""
        return self._known.by_tenant()

    def counters(self) -> dict[str, int]:
        """Counts since the start, by name, for the server's own metrics."""
        written = self._writer.written
        return {
            "groups_committed": written.groups,
            "careful_groups": written.careful_groups,
            "write_failures": written.failures,
            "memory_bytes": self._known.nbytes,
        }

    async def close(self) -> None:
        """Finish what is in flight, and let go of the database and the directory."""
        self._closing = True
        if self._loop.running:
            await self._loop.ask(self._shut())
            self._loop.stop()
        self._directory.release()

    async def _shut(self) -> None:
        for task in (self._opening, self._housekeeping):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self._writer.finish()
        if self._connection is not None:
            await self._close(self._connection.close(timeout=5))
        if self._pool is not None:
            await self._close(asyncio.wait_for(self._pool.close(), 10))

    @staticmethod
    async def _close(closing: Awaitable[None]) -> None:
        try:
            with translated():
                await closing
        except VedetteError as error:
            log.warning("the database was left without a word", problem=str(error))


class _Taken(LimitExceeded):
    """Another process holds the database's lock."""
