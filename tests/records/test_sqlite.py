"""SQLite's one connection: transactions that end with their block, whatever becomes of it, and what is counted."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vedette.records import sqlite, statements
from vedette.records.rows import KEYS, SessionRow, TenantRow
from vedette.records.sqlite import Sqlite
from vedette.records.traffic import Traffic


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
async def database(tmp_path: Path, traffic: Traffic) -> AsyncIterator[Sqlite]:
    found = Sqlite(str(tmp_path / "v.db"), traffic)
    async with found.begin() as connection:
        await connection.fetch(
            "CREATE TABLE tenants (name VARCHAR NOT NULL PRIMARY KEY, title VARCHAR NOT NULL, created_at BIGINT NOT NULL)"
        )
    yield found
    await found.dispose()


async def names(database: Sqlite) -> list[str]:
    async with database.connect() as connection:
        return [str(row[0]) for row in await connection.fetch(statements.select(TenantRow, order=["name"]))]


async def test_a_transaction_ends_with_its_block(database: Sqlite) -> None:
    async with database.begin() as connection:
        await connection.put(TenantRow, [("a", "A", 1), ("b", "B", 2)])
    assert await names(database) == ["a", "b"]
    with pytest.raises(RuntimeError, match="amid"):
        async with database.begin() as connection:
            await connection.put(TenantRow, [("c", "C", 3)])
            raise RuntimeError("amid")
    with pytest.raises(sqlite3.IntegrityError):
        async with database.begin() as connection:
            await connection.put(TenantRow, [("c", "C", 3)])
            await connection.put(TenantRow, [("d", None, 4)])
    assert await names(database) == ["a", "b"], "nothing of one that failed"
    async with database.begin() as connection:
        await connection.put(TenantRow, [("b", "new", 5)])
        await connection.repeat(statements.delete(TenantRow, ["name = :name"]), [{"name": "a"}, {"name": "none"}])
    async with database.connect() as connection:
        assert [tuple(row) for row in await connection.fetch(statements.select(TenantRow))] == [("b", "new", 5)]


@pytest.mark.parametrize("waits", range(6))
async def test_a_transaction_that_is_cancelled_is_as_if_it_had_not_begun_or_whole(database: Sqlite, waits: int) -> None:
    """Wherever it is: the thread that runs statements does not stop for it."""

    async def two() -> None:
        async with database.begin() as connection:
            await connection.put(TenantRow, [("a", "A", 1)])
            await connection.put(TenantRow, [("b", "B", 2)])

    task = asyncio.create_task(two())
    for _ in range(waits):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await names(database) in ([], ["a", "b"])
    async with database.begin() as connection:
        await connection.put(TenantRow, [("c", "C", 3)])
    assert (await names(database))[-1] == "c", "the next one begins and ends as ever"


async def test_who_else_writes_is_waited_for_when_it_begins(database: Sqlite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_MS", 1)
    hasty = Sqlite(str(tmp_path / "v.db"), Traffic())
    async with database.begin():
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            async with hasty.begin():
                pytest.fail("it has not begun")
    async with hasty.begin() as connection:
        await connection.put(TenantRow, [("a", "A", 1)])
    await hasty.dispose()
    assert await names(database) == ["a"]


async def test_what_is_kept_is_on_disk(database: Sqlite) -> None:
    async with database.connect() as connection:
        assert [(await connection.fetch(f"PRAGMA {name}"))[0][0] for name in ("journal_mode", "synchronous")] == ["wal", 2]


async def test_connections_and_statements_are_counted(database: Sqlite, traffic: Traffic) -> None:
    assert (traffic.created, traffic.closed, traffic.statements, traffic.active) == (1, 0, 1, 0), "a transaction's ends are none"
    with pytest.raises(sqlite3.OperationalError):
        async with database.connect() as connection:
            await connection.fetch("SELECT nothing FROM nowhere")
    assert (traffic.statements, traffic.active) == (2, 0)
    figures = database.figures()
    assert (figures.kind, figures.size, figures.idle, figures.most) == ("sqlite", 1, 1, 1)
    await database.dispose()
    await database.dispose()
    assert (traffic.created, traffic.closed) == (1, 1)
    assert await names(database) == [], "and it may be used again"
    assert traffic.created == 2


async def test_what_is_no_database_leaves_no_connection_behind(tmp_path: Path, traffic: Traffic) -> None:
    (tmp_path / "v.db").write_bytes(b"something else " * 1000)
    database = Sqlite(str(tmp_path / "v.db"), traffic)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        async with database.begin():
            pytest.fail("it has not begun")
    assert traffic.created == 0
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        async with Sqlite(str(tmp_path / "none" / "v.db"), traffic).connect():
            pytest.fail("there is none")
    await database.dispose()


def test_every_kind_of_rows_has_a_table_a_key_and_columns() -> None:
    assert statements.TABLES.keys() == KEYS.keys()
    assert len(set(statements.TABLES.values())) == len(statements.TABLES)
    for kind in statements.TABLES:
        names = statements.columns(kind)
        assert set(KEYS[kind]) <= set(names)
        by_name, by_place = (statements.upsert(kind, by_name=one) for one in (True, False))
        assert by_place.count("?") == len(names) and all(f":{name}" in by_name for name in names)
    assert statements.upsert(SessionRow, by_name=False).startswith('INSERT INTO sessions ("digest", "user_name", "csrf"')


def test_a_column_that_is_none_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="nobody"):
        statements.equals(TenantRow, "nobody; DROP TABLE tenants", "x")
