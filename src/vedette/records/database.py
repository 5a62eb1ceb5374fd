"""The records: small durable documents in SQLite (or whatever SQLAlchemy reaches), each change on disk before it returns.

Writers that come while a transaction is under way share the next one, so a thousand rules that change state together
cost a few syncs. Not here: what the rows mean (`rows.py` names them, the rooms that own them decide), samples and logs.

Importing this module loads SQLAlchemy (0.3 s of CPU); nothing but the start of the server does so.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import operator
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError

from vedette.errors import BadInput, Corrupt, LimitExceeded, Unreachable
from vedette.records.engine import AsyncConnection, AsyncEngine
from vedette.records.migrations import MIGRATIONS, VERSIONS
from vedette.records.reaching import FAILURES, SCHEMA, PoolFigures, RefusedConnection, figures, reach
from vedette.records.rows import (
    KEYS,
    AcknowledgementRow,
    AlertEventRow,
    AlertJournalRow,
    ApiKeyRow,
    AuditRow,
    DeliveryRow,
    HeldAlertRow,
    LogRow,
    Many,
    NotificationRow,
    PushedGroupRow,
    Row,
    RuleAlertRow,
    RuleGroupRow,
    SessionRow,
    SilenceRow,
    TenantRow,
    UserRow,
)
from vedette.records.traffic import Traffic

R = TypeVar("R", bound=Row)
L = TypeVar("L", bound=LogRow)

_log = structlog.get_logger(__name__)

_AGAIN_S = 1.0
_WATCH_S = 5.0
_RETRY_AFTER = 5.0
_MIGRATION_LOCK = 0x5645444554544543
_MANY = 50
"""From how many rows of a kind on it pays to speak to SQLite directly."""
_NAMES: dict[type[Row], str] = {
    RuleAlertRow: "rule_alerts",
    HeldAlertRow: "held_alerts",
    AlertJournalRow: "alert_journal",
    NotificationRow: "notifications",
    SilenceRow: "silences",
    RuleGroupRow: "rule_groups",
    AcknowledgementRow: "acknowledgements",
    PushedGroupRow: "pushed_groups",
    AlertEventRow: "alert_events",
    DeliveryRow: "deliveries",
    UserRow: "users",
    ApiKeyRow: "api_keys",
    TenantRow: "tenants",
    SessionRow: "sessions",
    AuditRow: "audit",
}
_TYPES: dict[str, Any] = {"str": sa.String, "int": sa.BigInteger, "float": sa.Float, "bool": sa.Boolean, "bytes": sa.LargeBinary}


def _table(kind: type[Row], metadata: sa.MetaData) -> sa.Table:
    columns = [sa.Column(f.name, _TYPES[str(f.type)], primary_key=f.name in KEYS[kind]) for f in dataclasses.fields(kind)]
    return sa.Table(_NAMES[kind], metadata, *columns)


class Records:
    """An open set of records. Made by `open`; one per process."""

    def __init__(self, engine: AsyncEngine, place: str) -> None:
        self._engine = engine
        self._place = place
        self.traffic = Traffic()
        self.traffic.watch(engine)
        metadata = sa.MetaData()
        self._tables = {kind: _table(kind, metadata) for kind in _NAMES}
        self._plain: dict[type[Row], str] = {}
        self._waiting: list[tuple[Sequence[Row | Many], Sequence[Row], asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None
        # SQLite's one connection is everybody's: whoever gave it back amid another's transaction would roll that back.
        self._turn: contextlib.AbstractAsyncContextManager[object] = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self.problem = ""
        """Why the database could not be asked the last time, empty where it could."""

    @classmethod
    async def open(cls, where: Path | str) -> Self:
        """Open a SQLite file (made if need be), or a database by its URL, and bring its schema up to date.

        Raises `Corrupt` for a file that is no such database, or one that a newer version has written, `BadInput` for a
        URL or credentials that are refused, `Unreachable` where the database does not answer; `open_when_there` waits for that.
        """
        engine, place = reach(where)
        records = cls(engine, place)
        try:
            await records._migrate()
            records._started()
        except BaseException as error:
            await engine.dispose()
            if isinstance(error.__cause__, RefusedConnection):
                raise BadInput(str(error.__cause__), where="records.url") from None
            raise
        return records

    @classmethod
    async def open_when_there(cls, where: Path | str) -> Self:
        """As `open`, waiting for a database that does not answer yet."""
        told = ""
        while True:
            try:
                return await cls.open(where)
            except Unreachable as error:
                if told != str(error):
                    _log.warning("waiting for the database", problem=str(error))
                told = str(error)
            await asyncio.sleep(_AGAIN_S)

    def _started(self) -> None:
        if self.pool().kind == "postgresql":
            self._turn = contextlib.nullcontext()
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """Ask now and then, so that `problem` tells of a database that is gone before somebody needs it, and of its return."""
        while True:
            await asyncio.sleep(_WATCH_S)
            with contextlib.suppress(Unreachable):
                await self.ping()

    async def ping(self) -> float:
        """Ask the database for nothing; answers how many seconds that took. Raises `Unreachable`."""
        began = time.perf_counter()
        try:
            async with self.traffic.through(self._turn, self._engine.connect()) as connection:
                await connection.execute(sa.text("SELECT 1"))
        except FAILURES as error:
            raise self._translated(error) from error
        self.problem = ""
        return time.perf_counter() - began

    def pool(self) -> PoolFigures:
        """The connections now."""
        return figures(self._engine, self.traffic)

    @property
    def alone(self) -> bool:
        """Whether no other server can write to this database."""
        return self._engine.dialect.name == "sqlite"

    @property
    def schema(self) -> int:
        """The version of the schema, which is the newest this Vedette knows."""
        return len(MIGRATIONS)

    async def version(self) -> str:
        """The database's own version, such as `15.8`. Raises `Unreachable`."""
        query = "SHOW server_version" if self.pool().kind == "postgresql" else "SELECT sqlite_version()"
        try:
            async with self.traffic.through(self._turn, self._engine.connect()) as connection:
                return str((await connection.execute(sa.text(query))).scalar())
        except FAILURES as error:
            raise self._translated(error) from error

    async def _migrate(self) -> None:
        try:
            async with self._engine.begin() as connection:
                if self.pool().kind == "postgresql":
                    # Several may start at once; one of them makes the tables.
                    await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATION_LOCK})
                    await connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
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
        except FAILURES as error:
            raise self._translated(error) from error

    async def load(self, kind: type[R], **equal: str) -> list[R]:
        """All rows of one kind whose columns equal what is given, in order of their key."""
        table = self._tables[cast(type[Row], kind)]
        query = sa.select(table).order_by(*table.primary_key)
        for column, value in equal.items():
            query = query.where(table.c[column] == self._kept(value))
        try:
            async with self.traffic.through(self._turn, self._engine.connect()) as connection:
                rows = (await connection.execute(query)).all()
        except FAILURES as error:
            raise self._translated(error) from error
        return [kind(**_out(dict(row._mapping))) for row in rows]

    async def tenants(self) -> list[str]:
        """Every tenant of whom alerts, silences or rules are kept, sorted."""
        kinds: tuple[type[Row], ...] = (HeldAlertRow, AlertJournalRow, SilenceRow, RuleGroupRow, RuleAlertRow)
        query = sa.union(*(sa.select(self._tables[kind].c.tenant) for kind in kinds))
        try:
            async with self.traffic.through(self._turn, self._engine.connect()) as connection:
                return sorted((await connection.execute(query)).scalars().all())
        except DBAPIError as error:
            raise self._translated(error) from error

    async def page(
        self, kind: type[L], tenant: str, *, before: int, since: int, until: int, limit: int, equal: Mapping[str, str] | None = None
    ) -> list[L]:
        """The last `limit` rows of a log whose `seq` is less than `before`, the newest first.

        `since` and `until` (inclusive) bound their time, `equal` says what columns must hold.
        """
        table = self._tables[cast(type[Row], kind)]
        query = sa.select(table).where(table.c.tenant == tenant, table.c.seq < before, table.c.at >= since, table.c.at <= until)
        for column, value in (equal or {}).items():
            query = query.where(*self._equals(table, column, self._kept(value)))
        try:
            async with self.traffic.through(self._turn, self._engine.connect()) as connection:
                rows = (await connection.execute(query.order_by(table.c.seq.desc()).limit(limit))).all()
        except FAILURES as error:
            raise self._translated(error) from error
        return [kind(**_out(dict(row._mapping))) for row in rows]

    @staticmethod
    def _equals(table: sa.Table, column: str, value: str) -> Sequence[sa.ColumnElement[bool]]:
        """What says that a column holds a value, so that the index of fingerprints by their first digit is used."""
        if table.name != _NAMES[AlertEventRow] or column != "fingerprint":
            return (table.c[column] == value,)
        # As the index has it, word for word; and no equality, or SQLite puts the value into the first condition and sees no index.
        return (sa.literal_column("substr(fingerprint, 1, 1)") == value[:1], table.c.fingerprint.between(value, value))

    async def newest(self, kind: type[LogRow], tenant: str, *, skip: int = 0) -> int:
        """The highest `seq` of a log, or of what is left of it without the `skip` newest rows; 0 where there is none."""
        table = self._tables[kind]
        query = sa.select(table.c.seq).where(table.c.tenant == tenant).order_by(table.c.seq.desc()).offset(skip).limit(1)
        try:
            async with self.traffic.through(self._turn, self._engine.connect()) as connection:
                return int((await connection.execute(query)).scalar() or 0)
        except FAILURES as error:
            raise self._translated(error) from error

    async def trim(self, kind: type[LogRow], tenant: str, *, older_than: int, up_to: int) -> None:
        """Forget the rows of a log from before a time, and those whose `seq` is at most `up_to`."""
        table = self._tables[kind]
        gone = sa.delete(table).where(table.c.tenant == tenant, sa.or_(table.c.at < older_than, table.c.seq <= up_to))
        try:
            async with self.traffic.through(self._turn, self._engine.begin()) as connection:
                await connection.execute(gone)
        except FAILURES as error:
            raise self._translated(error) from error

    async def save(self, put: Sequence[Row | Many] = (), drop: Sequence[Row] = ()) -> None:
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
            if await self._committed(batch):
                continue
            # Something in them is no value for its column: whose it is must not take the others along.
            for one in batch:
                await self._committed([one])

    async def _committed(self, batch: list[tuple[Sequence[Row | Many], Sequence[Row], asyncio.Future[None]]]) -> bool:
        """Commit what some callers wait for together, and tell them; False, telling none, for several of whom one's values are refused."""
        try:
            async with self.traffic.through(self._turn, self._engine.begin()) as connection:
                for put, drop, _ in batch:
                    await self._apply(connection, put, drop)
        except (*FAILURES, ValueError, OverflowError) as error:
            refused = _refused(error)
            if refused is not None and len(batch) > 1:
                return False
            self._settle(batch, self._translated(error) if refused is None else refused)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the callers, who wait
            self._settle(batch, error)
        else:
            self.problem = ""
            self._settle(batch, None)
        return True

    @staticmethod
    def _settle(batch: Iterable[tuple[Any, Any, asyncio.Future[None]]], error: Exception | None) -> None:
        for _, _, done in batch:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    async def _apply(self, connection: AsyncConnection, put: Sequence[Row | Many], drop: Sequence[Row]) -> None:
        for kind, leaving in _by_kind(drop).items():
            table = self._tables[kind]
            condition = sa.and_(*(table.c[k] == sa.bindparam(f"key_{k}") for k in KEYS[kind]))
            keys = [{f"key_{k}": self._kept(getattr(r, k)) for k in KEYS[kind]} for r in leaving]
            await connection.execute(sa.delete(table).where(condition), keys)
        for many in put:
            if isinstance(many, Many) and many.values:
                await self._put(connection, many.kind, many.values)
        for kind, coming in _by_kind([row for row in put if not isinstance(row, Many)]).items():
            await self._put(connection, kind, _columns(kind, coming))

    async def _put(self, connection: AsyncConnection, kind: type[Row], coming: Sequence[tuple[Any, ...]]) -> None:
        statement, names = self._upsert(self._tables[kind]), _fields(kind)
        if self._engine.dialect.name != "sqlite" or len(coming) < _MANY:
            rows = [{name: self._kept(value) for name, value in zip(names, row, strict=True)} for row in coming]
            await connection.execute(statement, rows)
            return
        # Of thousands of rows most of the time would go into SQLAlchemy's care for each one's parameters.
        if kind not in self._plain:
            compiled = statement.compile(dialect=self._engine.dialect)
            assert list(compiled.positiontup) == names, "SQLite takes values in the order of the columns"
            self._plain[kind] = str(compiled)
        await connection.exec_driver_sql(self._plain[kind], coming)

    def _kept(self, value: Any) -> Any:
        """A value as the database takes it: a text of PostgreSQL's has no NUL."""
        if isinstance(value, str) and "\0" in value and self._engine.dialect.name == "postgresql":
            return value.replace("\0", "\ufffd")
        return value

    def _upsert(self, table: sa.Table) -> Any:
        # Each dialect is loaded where it is spoken: PostgreSQL's takes a fifth of what all of SQLAlchemy does.
        if self._engine.dialect.name == "postgresql":
            from sqlalchemy.dialects import postgresql

            statement: Any = postgresql.insert(table)
        else:
            from sqlalchemy.dialects import sqlite

            statement = sqlite.insert(table)
        keys = [c.name for c in table.primary_key]
        changed = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
        return statement.on_conflict_do_update(index_elements=keys, set_=changed)

    def _translated(self, error: Exception) -> Corrupt | LimitExceeded:
        problem = str(error.orig) if isinstance(error, DBAPIError) else str(error) or type(error).__name__
        damaged = isinstance(error, DatabaseError) and not isinstance(error, OperationalError)
        if damaged and ("not a database" in problem or "malformed" in problem):
            return Corrupt(f"{problem}: move it away to start with empty records, or restore a copy", path=Path(self._place), offset=0)
        # The driver's class name, which SQLAlchemy puts before its words, tells a reader nothing.
        problem = " ".join(problem.rpartition(">: ")[2].split())
        self.problem = f"records at {self._place} cannot be used: {problem}"
        return Unreachable(self.problem, retry_after=_RETRY_AFTER)

    async def close(self) -> None:
        """Finish what is being written and close."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        if self._committer is not None:
            await asyncio.wait([self._committer])
        await self._engine.dispose()


def _refused(error: Exception) -> BadInput | None:
    """Why a database takes a value never, whoever sends it again; None where it takes nothing now."""
    cause: Any = error.orig if isinstance(error, DBAPIError) else error
    # SQL's class 22 is what is wrong with data; drivers that look at values themselves raise what Python does.
    if str(getattr(cause, "sqlstate", "") or "").startswith("22") or isinstance(cause, ValueError | OverflowError):
        return BadInput(f"the records cannot keep this: {' '.join(str(cause).rpartition('>: ')[2].split())}")
    return None


def _by_kind(rows: Sequence[Row]) -> dict[type[Row], list[Row]]:
    found: dict[type[Row], list[Row]] = {}
    for row in rows:
        found.setdefault(type(row), []).append(row)
    return found


def _fields(kind: type[Row]) -> list[str]:
    return [f.name for f in dataclasses.fields(kind)]


def _columns(kind: type[Row], rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """The rows as tuples, NaN as NULL: SQLite keeps it so; say so rather than have it happen."""
    values: Any = map(operator.attrgetter(*_fields(kind)), rows)
    found: list[tuple[Any, ...]] = list(values)
    for i, field in enumerate(dataclasses.fields(kind)):
        if field.type == "float":
            found = [(*row[:i], None, *row[i + 1 :]) if math.isnan(row[i]) else row for row in found]
    return found


def _out(values: dict[str, Any]) -> dict[str, Any]:
    return {k: math.nan if v is None else v for k, v in values.items()}
