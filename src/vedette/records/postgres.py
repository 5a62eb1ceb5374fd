"""PostgreSQL by asyncpg, with SQLAlchemy's pool: connections that are tried before they are used, and no more than so many.

Importing this module loads SQLAlchemy (0.3 s of CPU, ten megabytes): nothing but records in PostgreSQL does so. Not here: rows
(`database.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from vedette.errors import BadInput
from vedette.records import statements
from vedette.records.connection import SCHEMA, PoolFigures, RefusedConnection
from vedette.records.engine import AsyncConnection, AsyncEngine, create_async_engine
from vedette.records.rows import Row
from vedette.records.traffic import Traffic

_POOL, _MORE = 5, 10
_PATIENCE_S = 10.0


class PostgresConnection:
    """See `connection.Connection`."""

    def __init__(self, connection: AsyncConnection, traffic: Traffic) -> None:
        self._connection = connection
        self._traffic = traffic

    async def fetch(self, statement: str, given: Mapping[str, Any] | None = None) -> Sequence[Sequence[Any]]:
        with self._traffic.statement():
            found = await self._connection.execute(sa.text(statement), dict(given or {}))
            return found.all() if found.returns_rows else []

    async def repeat(self, statement: str, given: Sequence[Mapping[str, Any]]) -> None:
        with self._traffic.statement():
            await self._connection.execute(sa.text(statement), list(map(dict, given)))

    async def put(self, kind: type[Row], rows: Sequence[Sequence[Any]]) -> None:
        names = statements.columns(kind)
        await self.repeat(statements.upsert(kind, by_name=True), [dict(zip(names, row, strict=True)) for row in rows])


class Postgres:
    """See `connection.Database`."""

    kind = "postgresql"
    failures: tuple[type[Exception], ...] = (DBAPIError, PoolTimeout, OSError, TimeoutError)

    def __init__(self, dsn: str, traffic: Traffic) -> None:
        self._engine = _engine(dsn)
        self._traffic = traffic
        traffic.watch(self._engine.sync_engine.pool)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[PostgresConnection]:
        async with self._engine.connect() as connection:
            yield PostgresConnection(connection, self._traffic)

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[PostgresConnection]:
        async with self._engine.begin() as connection:
            yield PostgresConnection(connection, self._traffic)

    def figures(self) -> PoolFigures:
        pool = self._engine.sync_engine.pool
        assert isinstance(pool, QueuePool), "which an engine has that is told of no other"
        # SQLAlchemy counts overflow from minus the pool's size on.
        overflow = max(0, pool.overflow())
        return PoolFigures(self.kind, pool.size(), pool.checkedout(), pool.checkedin(), overflow, _POOL + _MORE, self._traffic)

    async def dispose(self) -> None:
        await self._engine.dispose()


def _engine(dsn: str) -> AsyncEngine:
    try:
        import asyncpg
    except ImportError:
        raise BadInput("PostgreSQL needs a package that is not installed", hint="pip install 'vedette[postgres]'") from None

    async def connect() -> Any:
        # The driver reads the URL itself: SQLAlchemy knows only some of its parameters (sslmode is not among them).
        try:
            connection = await asyncpg.connect(dsn, timeout=_PATIENCE_S, command_timeout=30, server_settings={"search_path": SCHEMA})
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
            raise RefusedConnection(f"PostgreSQL refuses: {error}") from error
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise ConnectionError(str(error)) from error
        return connection

    # A connection is tried before it is used, so that a server that was restarted is no error to anybody.
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=_POOL,
        max_overflow=_MORE,
        pool_timeout=_PATIENCE_S,
        pool_pre_ping=True,
    )
