"""The records: small durable documents in SQLite or PostgreSQL, each change on disk before it returns.

Writers that come while a transaction is under way share the next one, so a thousand rules that change state together
cost a few syncs. Not here: what the rows mean (`rows.py` names them, the rooms that own them decide), samples and logs, how either
database is spoken to (`connection.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import operator
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import structlog

from vedette.errors import BadInput, Corrupt, LimitExceeded, Unreachable
from vedette.records.connection import SCHEMA, Connection, Database, PoolFigures, RefusedConnection
from vedette.records.migrations import MIGRATIONS, VERSIONS
from vedette.records.reaching import reach
from vedette.records.rows import KEYS, AlertJournalRow, HeldAlertRow, LogRow, Many, Row, RuleAlertRow, RuleGroupRow, SilenceRow
from vedette.records.statements import TABLES, columns, delete, equals, quoted, select
from vedette.records.traffic import Traffic

R = TypeVar("R", bound=Row)
L = TypeVar("L", bound=LogRow)

_log = structlog.get_logger(__name__)

_AGAIN_S = 1.0
_WATCH_S = 5.0
_RETRY_AFTER = 5.0
_MIGRATION_LOCK = 0x5645444554544543


class Records:
    """An open set of records. Made by `open`; one per process."""

    def __init__(self, database: Database, place: str, traffic: Traffic) -> None:
        self._database = database
        self._place = place
        self.traffic = traffic
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
        traffic = Traffic()
        database, place = reach(where, traffic)
        records = cls(database, place, traffic)
        try:
            await records._migrate()
            records._started()
        except BaseException as error:
            await database.dispose()
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
        if self._database.kind == "postgresql":
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
            async with self.traffic.through(self._turn, self._database.connect()) as connection:
                await connection.fetch("SELECT 1")
        except self._database.failures as error:
            raise self._translated(error) from error
        self.problem = ""
        return time.perf_counter() - began

    def pool(self) -> PoolFigures:
        """The connections now."""
        return self._database.figures()

    @property
    def alone(self) -> bool:
        """Whether no other server can write to this database."""
        return self._database.kind == "sqlite"

    @property
    def schema(self) -> int:
        """The version of the schema, which is the newest this Vedette knows."""
        return len(MIGRATIONS)

    async def version(self) -> str:
        """The database's own version, such as `15.8`. Raises `Unreachable`."""
        query = "SHOW server_version" if self._database.kind == "postgresql" else "SELECT sqlite_version()"
        try:
            async with self.traffic.through(self._turn, self._database.connect()) as connection:
                return str((await connection.fetch(query))[0][0])
        except self._database.failures as error:
            raise self._translated(error) from error

    async def _migrate(self) -> None:
        try:
            async with self._database.begin() as connection:
                if self._database.kind == "postgresql":
                    # Several may start at once; one of them makes the tables.
                    await connection.fetch("SELECT pg_advisory_xact_lock(:n)", {"n": _MIGRATION_LOCK})
                    await connection.fetch(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
                await connection.fetch(VERSIONS)
                found = (await connection.fetch("SELECT max(version) FROM schema_version"))[0][0] or 0
                if found > len(MIGRATIONS):
                    raise Corrupt(
                        f"its schema has version {found}, this Vedette knows {len(MIGRATIONS)}: start the newer version",
                        path=Path(self._place),
                        offset=0,
                    )
                for version, statements in enumerate(MIGRATIONS[found:], found + 1):
                    for statement in statements:
                        await connection.fetch(statement)
                    await connection.fetch("INSERT INTO schema_version (version) VALUES (:v)", {"v": version})
        except self._database.failures as error:
            raise self._translated(error) from error

    async def load(self, kind: type[R], **equal: str) -> list[R]:
        """All rows of one kind whose columns equal what is given, in order of their key."""
        of = cast(type[Row], kind)
        conditions, given = list[str](), dict[str, Any]()
        for column, value in equal.items():
            more, values = equals(of, column, self._kept(value))
            conditions += more
            given |= values
        found = await self._fetch(select(of, conditions, order=[quoted(key) for key in KEYS[of]]), given)
        return _rows(kind, found)

    async def _fetch(self, statement: str, given: Mapping[str, Any] | None = None) -> Sequence[Sequence[Any]]:
        try:
            async with self.traffic.through(self._turn, self._database.connect()) as connection:
                return await connection.fetch(statement, given)
        except self._database.failures as error:
            raise self._translated(error) from error

    async def tenants(self) -> list[str]:
        """Every tenant of whom alerts, silences or rules are kept, sorted."""
        kinds: tuple[type[Row], ...] = (HeldAlertRow, AlertJournalRow, SilenceRow, RuleGroupRow, RuleAlertRow)
        found = await self._fetch(" UNION ".join(f"SELECT tenant FROM {TABLES[kind]}" for kind in kinds))  # noqa: S608 - names of ours
        return sorted(row[0] for row in found)

    async def page(
        self, kind: type[L], tenant: str, *, before: int, since: int, until: int, limit: int, equal: Mapping[str, str] | None = None
    ) -> list[L]:
        """The last `limit` rows of a log whose `seq` is less than `before`, the newest first.

        `since` and `until` (inclusive) bound their time, `equal` says what columns must hold.
        """
        of = cast(type[Row], kind)
        conditions = ["tenant = :tenant", "seq < :before", '"at" >= :since', '"at" <= :until']
        given: dict[str, Any] = {"tenant": tenant, "before": before, "since": since, "until": until, "limit": limit}
        for column, value in (equal or {}).items():
            more, values = equals(of, column, self._kept(value))
            conditions += more
            given |= values
        return _rows(kind, await self._fetch(select(of, conditions, order=["seq DESC"], limit=":limit"), given))

    async def newest(self, kind: type[LogRow], tenant: str, *, skip: int = 0) -> int:
        """The highest `seq` of a log, or of what is left of it without the `skip` newest rows; 0 where there is none."""
        query = f"SELECT seq FROM {TABLES[kind]} WHERE tenant = :tenant ORDER BY seq DESC LIMIT 1 OFFSET :skip"  # noqa: S608 - as above
        found = await self._fetch(query, {"tenant": tenant, "skip": skip})
        return int(found[0][0]) if found else 0

    async def trim(self, kind: type[LogRow], tenant: str, *, older_than: int, up_to: int) -> None:
        """Forget the rows of a log from before a time, and those whose `seq` is at most `up_to`."""
        gone = delete(kind, ["tenant = :tenant", '("at" < :older_than OR seq <= :up_to)'])
        try:
            async with self.traffic.through(self._turn, self._database.begin()) as connection:
                await connection.fetch(gone, {"tenant": tenant, "older_than": older_than, "up_to": up_to})
        except self._database.failures as error:
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
        caught: tuple[type[Exception], ...] = (*self._database.failures, ValueError, OverflowError)
        try:
            async with self.traffic.through(self._turn, self._database.begin()) as connection:
                for put, drop, _ in batch:
                    await self._apply(connection, put, drop)
        except caught as error:
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

    async def _apply(self, connection: Connection, put: Sequence[Row | Many], drop: Sequence[Row]) -> None:
        for kind, leaving in _by_kind(drop).items():
            keys = [{k: self._kept(getattr(r, k)) for k in KEYS[kind]} for r in leaving]
            await connection.repeat(delete(kind, [f"{quoted(k)} = :{k}" for k in KEYS[kind]]), keys)
        for many in put:
            if isinstance(many, Many) and many.values:
                await self._put(connection, many.kind, many.values)
        for kind, coming in _by_kind([row for row in put if not isinstance(row, Many)]).items():
            await self._put(connection, kind, _columns(kind, coming))

    async def _put(self, connection: Connection, kind: type[Row], coming: Sequence[tuple[Any, ...]]) -> None:
        await connection.put(kind, coming if self.alone else [tuple(map(self._kept, row)) for row in coming])

    def _kept(self, value: Any) -> Any:
        """A value as the database takes it: a text of PostgreSQL's has no NUL."""
        if isinstance(value, str) and "\0" in value and self._database.kind == "postgresql":
            return value.replace("\0", "\ufffd")
        return value

    def _translated(self, error: Exception) -> Corrupt | LimitExceeded:
        said = getattr(error, "orig", None) or error  # SQLAlchemy's errors are about the driver's
        problem = str(said) or type(said).__name__
        damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
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
        await self._database.dispose()


def _refused(error: Exception) -> BadInput | None:
    """Why a database takes a value never, whoever sends it again; None where it takes nothing now."""
    cause: Any = getattr(error, "orig", None) or error  # SQLAlchemy's errors are about the driver's
    # SQL's class 22 is what is wrong with data; drivers that look at values themselves raise what Python does.
    if str(getattr(cause, "sqlstate", "") or "").startswith("22") or isinstance(cause, ValueError | OverflowError):
        return BadInput(f"the records cannot keep this: {' '.join(str(cause).rpartition('>: ')[2].split())}")
    return None


def _by_kind(rows: Sequence[Row]) -> dict[type[Row], list[Row]]:
    found: dict[type[Row], list[Row]] = {}
    for row in rows:
        found.setdefault(type(row), []).append(row)
    return found


def _columns(kind: type[Row], rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """The rows as tuples, NaN as NULL: SQLite keeps it so; say so rather than have it happen."""
    values: Any = map(operator.attrgetter(*columns(kind)), rows)
    found: list[tuple[Any, ...]] = list(values)
    for i, field in enumerate(dataclasses.fields(kind)):
        if field.type == "float":
            found = [(*row[:i], None, *row[i + 1 :]) if math.isnan(row[i]) else row for row in found]
    return found


def _rows(kind: type[R], found: Sequence[Sequence[Any]]) -> list[R]:
    """What was kept as rows again: NULL is NaN, and SQLite's truth is a number."""
    truths = {at for at, field in enumerate(dataclasses.fields(kind)) if field.type == "bool"}
    made: Any = kind  # of whatever types its columns have
    if not truths:
        return [made(*row) if None not in row else made(*(math.nan if v is None else v for v in row)) for row in found]
    return [made(*(math.nan if v is None else bool(v) if at in truths else v for at, v in enumerate(row))) for row in found]
