"""The records: small durable documents in SQLite (or whatever SQLAlchemy reaches), each change on disk before it returns.

Writers that come while a transaction is under way share the next one, so a thousand rules that change state together
cost a few syncs. Not here: what the rows mean (`rows.py` names them, the rooms that own them decide), samples and logs.

Importing this module loads SQLAlchemy (0.3 s of CPU); nothing but the start of the server does so.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from vedette.errors import Corrupt, LimitExceeded
from vedette.records.migrations import MIGRATIONS, VERSIONS
from vedette.records.rows import (
    KEYS,
    AcknowledgementRow,
    AlertEventRow,
    ApiKeyRow,
    AuditRow,
    DeliveryRow,
    HeldAlertRow,
    LogRow,
    NotificationRow,
    Row,
    RuleAlertRow,
    RuleGroupRow,
    SessionRow,
    SilenceRow,
    TenantRow,
    UserRow,
)

R = TypeVar("R", bound=Row)
L = TypeVar("L", bound=LogRow)

_BUSY_MS = 5000
_NAMES: dict[type[Row], str] = {
    RuleAlertRow: "rule_alerts",
    HeldAlertRow: "held_alerts",
    NotificationRow: "notifications",
    SilenceRow: "silences",
    RuleGroupRow: "rule_groups",
    AcknowledgementRow: "acknowledgements",
    AlertEventRow: "alert_events",
    DeliveryRow: "deliveries",
    UserRow: "users",
    ApiKeyRow: "api_keys",
    TenantRow: "tenants",
    SessionRow: "sessions",
    AuditRow: "audit",
}
_TYPES: dict[str, Any] = {"str": sa.String, "int": sa.BigInteger, "float": sa.Float, "bool": sa.Boolean}


def _table(kind: type[Row], metadata: sa.MetaData) -> sa.Table:
    columns = [sa.Column(f.name, _TYPES[str(f.type)], primary_key=f.name in KEYS[kind]) for f in dataclasses.fields(kind)]
    return sa.Table(_NAMES[kind], metadata, *columns)


class Records:
    """An open set of records. Made by `open`; one per process."""

    def __init__(self, engine: AsyncEngine, place: str) -> None:
        self._engine = engine
        self._place = place
        metadata = sa.MetaData()
        self._tables = {kind: _table(kind, metadata) for kind in _NAMES}
        self._waiting: list[tuple[Sequence[Row], Sequence[Row], asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None
        # SQLite's one connection is everybody's: whoever gave it back amid another's transaction would roll that back.
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, where: Path | str) -> Self:
        """Open a SQLite file (made if need be), or a database by its URL, and bring its schema up to date.

        Raises `Corrupt` for a file that is no such database, or one that a newer version has written.
        """
        url = make_url(where) if isinstance(where, str) else sa.URL.create("sqlite+aiosqlite", database=str(where))
        settings: dict[str, Any] = {}
        if url.get_backend_name() == "sqlite":
            # One connection: SQLite has one writer anyway, and a statement here takes microseconds.
            settings = {"poolclass": StaticPool}
        engine = create_async_engine(url, **settings)
        if url.get_backend_name() == "sqlite":
            sa.event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        records = cls(engine, url.database or url.render_as_string())
        try:
            await records._migrate()
        except BaseException:
            await engine.dispose()
            raise
        return records

    async def _migrate(self) -> None:
        try:
            async with self._engine.begin() as connection:
                await connection.execute(sa.text(VERSIONS))
                found = (await connection.execute(sa.text("SELECT max(version) FROM schema_version"))).scalar() or 0
                if found > len(MIGRATIONS):
                    raise Corrupt(
                        f"its schema has version {found}, this Vedette knows {len(MIGRATIONS)}: start the newer version",
                        path=Path(self._place),
                        offset=0,
                    )
                for version, statements in enumerate(MIGRATIONS[found:], found + 1):
                    for statement in statements:
                        await connection.execute(sa.text(statement))
                    await connection.execute(sa.text("INSERT INTO schema_version (version) VALUES (:v)"), {"v": version})
        except DBAPIError as error:
            raise self._translated(error) from error

    async def load(self, kind: type[R], **equal: str) -> list[R]:
        """All rows of one kind whose columns equal what is given, in order of their key."""
        table = self._tables[cast(type[Row], kind)]
        query = sa.select(table).order_by(*table.primary_key)
        for column, value in equal.items():
            query = query.where(table.c[column] == value)
        try:
            async with self._turn, self._engine.connect() as connection:
                rows = (await connection.execute(query)).all()
        except DBAPIError as error:
            raise self._translated(error) from error
        return [kind(**_out(dict(row._mapping))) for row in rows]

    async def page(
        self, kind: type[L], tenant: str, *, before: int, since: int, until: int, limit: int, equal: Mapping[str, str] | None = None
    ) -> list[L]:
        """The last `limit` rows of a log whose `seq` is less than `before`, the newest first.

        `since` and `until` (inclusive) bound their time, `equal` says what columns must hold.
        """
        table = self._tables[cast(type[Row], kind)]
        query = sa.select(table).where(table.c.tenant == tenant, table.c.seq < before, table.c.at >= since, table.c.at <= until)
        for column, value in (equal or {}).items():
            query = query.where(table.c[column] == value)
        try:
            async with self._turn, self._engine.connect() as connection:
                rows = (await connection.execute(query.order_by(table.c.seq.desc()).limit(limit))).all()
        except DBAPIError as error:
            raise self._translated(error) from error
        return [kind(**_out(dict(row._mapping))) for row in rows]

    async def newest(self, kind: type[LogRow], tenant: str) -> int:
        """The highest `seq` of a log, 0 for an empty one."""
        table = self._tables[kind]
        try:
            async with self._turn, self._engine.connect() as connection:
                return int((await connection.execute(sa.select(sa.func.max(table.c.seq)).where(table.c.tenant == tenant))).scalar() or 0)
        except DBAPIError as error:
            raise self._translated(error) from error

    async def trim(self, kind: type[LogRow], tenant: str, *, older_than: int, up_to: int) -> None:
        """Forget the rows of a log from before a time, and those whose `seq` is at most `up_to`."""
        table = self._tables[kind]
        gone = sa.delete(table).where(table.c.tenant == tenant, sa.or_(table.c.at < older_than, table.c.seq <= up_to))
        try:
            async with self._turn, self._engine.begin() as connection:
                await connection.execute(gone)
        except DBAPIError as error:
            raise self._translated(error) from error

    async def save(self, put: Sequence[Row] = (), drop: Sequence[Row] = ()) -> None:
        """Write rows (new or in place of those with their key) and delete others, all or none; durable when it returns.

        Raises `LimitExceeded` where the disk takes nothing now; then nothing of this call is written.
        """
        if not put and not drop:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((put, drop, done))
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit_waiting())
        # A caller that is cancelled must not take along the transaction of the others.
        await asyncio.shield(done)

    async def _commit_waiting(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                async with self._turn, self._engine.begin() as connection:
                    for put, drop, _ in batch:
                        await self._apply(connection, put, drop)
            except DBAPIError as error:
                self._settle(batch, self._translated(error))
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to the callers, who wait
                self._settle(batch, error)
            else:
                self._settle(batch, None)

    @staticmethod
    def _settle(batch: Iterable[tuple[Any, Any, asyncio.Future[None]]], error: Exception | None) -> None:
        for _, _, done in batch:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    async def _apply(self, connection: AsyncConnection, put: Sequence[Row], drop: Sequence[Row]) -> None:
        for kind, table in self._tables.items():
            gone = [{f"key_{k}": getattr(r, k) for k in KEYS[kind]} for r in drop if isinstance(r, kind)]
            if gone:
                condition = sa.and_(*(table.c[k] == sa.bindparam(f"key_{k}") for k in KEYS[kind]))
                await connection.execute(sa.delete(table).where(condition), gone)
            rows = [_in(r) for r in put if isinstance(r, kind)]
            if rows:
                await connection.execute(self._upsert(table), rows)

    def _upsert(self, table: sa.Table) -> Any:
        insert: Any = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        statement = insert(table)
        keys = [c.name for c in table.primary_key]
        changed = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
        return statement.on_conflict_do_update(index_elements=keys, set_=changed)

    def _translated(self, error: DBAPIError) -> Corrupt | LimitExceeded:
        problem = str(error.orig)
        damaged = isinstance(error, DatabaseError) and not isinstance(error, OperationalError)
        if damaged and ("not a database" in problem or "malformed" in problem):
            return Corrupt(f"{problem}: move it away to start with empty records, or restore a copy", path=Path(self._place), offset=0)
        return LimitExceeded(f"records at {self._place} cannot be used: {problem}")

    async def close(self) -> None:
        """Finish what is being written and close."""
        if self._committer is not None:
            await asyncio.wait([self._committer])
        await self._engine.dispose()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    # FULL: in WAL mode NORMAL would lose the last transactions with the power.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_MS}", "journal_size_limit=16777216"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _in(row: Row) -> dict[str, Any]:
    values = {f.name: getattr(row, f.name) for f in dataclasses.fields(row)}
    # SQLite keeps NaN as NULL; say so rather than have it happen.
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def _out(values: dict[str, Any]) -> dict[str, Any]:
    return {k: math.nan if v is None else v for k, v in values.items()}
