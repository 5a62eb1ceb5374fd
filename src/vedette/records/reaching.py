"""How databases are reached, and what it means when they are not. Not here: rows (`database.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool, StaticPool

from vedette.errors import BadInput
from vedette.records.engine import AsyncEngine, create_async_engine
from vedette.records.settings import is_postgres, parse_database_url, postgres_dsn
from vedette.records.traffic import Traffic

SCHEMA = "vedette"
"""The schema of the records in PostgreSQL: their tables have names (`users`) that others have, too."""

FAILURES = (DBAPIError, PoolTimeout, OSError, TimeoutError)
"""What it raises when a database cannot be asked."""

_BUSY_MS = 5000
_POOL, _MORE = 5, 10
_PATIENCE_S = 10.0


class RefusedConnection(ConnectionError):
    """PostgreSQL does not take these credentials, or has no such database."""


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """The connections to the database now; `most` is how many there may be. SQLite has one, which all share; `traffic` went through."""

    kind: str
    size: int
    in_use: int
    idle: int
    overflow: int
    most: int
    traffic: Traffic


def reach(where: Path | str) -> tuple[AsyncEngine, str]:
    """(an engine for a SQLite file or a database's URL, how to call the place in messages). Raises `BadInput` for a bad URL."""
    if isinstance(where, str) and is_postgres(url := parse_database_url(where)):
        return _postgres(postgres_dsn(url))
    path = str(where) if isinstance(where, Path) else parse_database_url(where).partition(":///")[2]
    # One connection: SQLite has one writer anyway, and a statement here takes microseconds.
    engine = create_async_engine(sa.URL.create("sqlite+aiosqlite", database=path), poolclass=StaticPool)
    sa.event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine, path


def _postgres(dsn: str) -> tuple[AsyncEngine, str]:
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
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=_POOL,
        max_overflow=_MORE,
        pool_timeout=_PATIENCE_S,
        pool_pre_ping=True,
    )
    return engine, "PostgreSQL"


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    # FULL: in WAL mode NORMAL would lose the last transactions with the power.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_MS}", "journal_size_limit=16777216"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def figures(engine: AsyncEngine, traffic: Traffic) -> PoolFigures:
    """What the engine's pool holds."""
    pool = engine.sync_engine.pool
    if not isinstance(pool, QueuePool):
        return PoolFigures("sqlite", 1, traffic.held, 1 - traffic.held, 0, 1, traffic)
    # SQLAlchemy counts overflow from minus the pool's size on.
    return PoolFigures("postgresql", pool.size(), pool.checkedout(), pool.checkedin(), max(0, pool.overflow()), _POOL + _MORE, traffic)
