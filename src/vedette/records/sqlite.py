"""A SQLite file by the standard library's driver, on a thread of its own.

Without SQLAlchemy, which a server would import for these few statements alone: ten megabytes, and a third of a second of each start.
Not here: rows (`database.py`), what is counted of statements (`traffic.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from vedette.records import statements
from vedette.records.connection import PoolFigures
from vedette.records.rows import Row
from vedette.records.traffic import Traffic

BUSY_MS = 5000
"""How long another process may have the file locked."""
# FULL: in WAL mode NORMAL would lose the last transactions with the power.
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "journal_size_limit=16777216")


T = TypeVar("T")


class SqliteConnection:
    """See `connection.Connection`. `run` runs a call on the thread that the connection belongs to, one after the other."""

    def __init__(self, connection: sqlite3.Connection, run: Callable[..., Awaitable[Any]], traffic: Traffic) -> None:
        self._connection = connection
        self._run = run
        self._traffic = traffic

    async def fetch(self, statement: str, given: Mapping[str, Any] | None = None) -> Sequence[Sequence[Any]]:
        with self._traffic.statement():
            found: Sequence[Sequence[Any]] = await self._run(_fetched, self._connection, statement, given or {})
            return found

    async def repeat(self, statement: str, given: Sequence[Mapping[str, Any]]) -> None:
        with self._traffic.statement():
            await self._run(self._connection.executemany, statement, given)

    async def put(self, kind: type[Row], rows: Sequence[Sequence[Any]]) -> None:
        with self._traffic.statement():
            await self._run(self._connection.executemany, statements.upsert(kind, by_name=False), rows)

    async def command(self, text: str) -> None:
        """What is no statement to count: the beginning and the end of a transaction."""
        await self._run(self._connection.execute, text)


class Sqlite:
    """See `connection.Database`. One connection: SQLite has one writer anyway, and a statement here takes microseconds."""

    kind = "sqlite"
    failures: tuple[type[Exception], ...] = (sqlite3.Error, OSError)

    def __init__(self, path: str, traffic: Traffic) -> None:
        self._path = path
        self._traffic = traffic
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None

    def _run(self, call: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="records")
        return asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[SqliteConnection]:
        if self._connection is None:
            self._connection = await self._run(_opened, self._path)
            self._traffic.created += 1
        yield SqliteConnection(self._connection, self._run, self._traffic)

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[SqliteConnection]:
        async with self.connect() as connection:
            try:
                # IMMEDIATE: who else writes is waited for now, and not amid the transaction, where SQLite refuses to.
                await connection.command("BEGIN IMMEDIATE")
                yield connection
                await connection.command("COMMIT")
            except BaseException:
                # Also of what was cancelled while the thread began it. Where there is no transaction, that is all there is to say.
                with contextlib.suppress(sqlite3.Error):
                    await connection.command("ROLLBACK")
                raise

    def figures(self) -> PoolFigures:
        return PoolFigures(self.kind, 1, self._traffic.held, 1 - self._traffic.held, 0, 1, self._traffic)

    async def dispose(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await self._run(connection.close)
            self._traffic.closed += 1
        if self._thread is not None:
            # Nothing is left for it to do.
            self._thread.shutdown()
            self._thread = None


def _opened(path: str) -> sqlite3.Connection:
    # No isolation level: transactions begin and end where it is said above.
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for pragma in (*_PRAGMAS, f"busy_timeout={BUSY_MS}"):
            connection.execute(f"PRAGMA {pragma}").close()
    except BaseException:
        connection.close()
        raise
    return connection


def _fetched(connection: sqlite3.Connection, statement: str, given: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    cursor = connection.execute(statement, given)
    try:
        return cursor.fetchall()
    finally:
        cursor.close()
