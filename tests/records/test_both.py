"""Records do the same in SQLite and in PostgreSQL; what only PostgreSQL can do to them: go away, and come back."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import sqlite3
import time

import pytest

from vedette.errors import BadInput, Corrupt, LimitExceeded, Unreachable
from vedette.records import database as module
from vedette.records.database import Records
from vedette.records.migrations import MIGRATIONS
from vedette.records.rows import AlertEventRow, HeldAlertRow, Many, NotificationRow, RuleAlertRow, SilenceRow, UserRow
from vedette.records.settings import parse_database_url


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    return tmp_path / "v.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
async def records(place):
    opened = await Records.open(place)
    yield opened
    await opened.close()


def number(rule: str, labels: str) -> int:
    """A number of its own for each rule and labels, in their order."""
    return int(("".join(c for c in labels + rule if c.isascii() and c.isalnum())[:10] + "z").ljust(11, "0"), 36)


def rule_alert(rule="g/r", labels="{}", state="pending", value=1.0, tenant="default") -> RuleAlertRow:
    return RuleAlertRow(tenant, number(rule, labels), rule, labels, "{}", state, value, 1, 2, 3, 4)


def event(seq: int, at: int = 0, note: str = "") -> AlertEventRow:
    return AlertEventRow("default", seq, at, "fired", f"f{seq % 2}", "High", "{}", 1, 0.5, note)


async def eventually(check, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.02)


async def test_a_value_that_no_database_takes_takes_no_other_along(records):
    good = [records.save([event(n)]) for n in (1, 2)]
    bad = records.save([dataclasses.replace(event(3), at=1 << 80)]), records.save([event(4, note="\ud800")])
    found = await asyncio.gather(good[0], bad[0], good[1], bad[1], return_exceptions=True)
    assert [type(f) for f in found] == [type(None), BadInput, type(None), BadInput]
    assert "cannot keep this" in str(found[1])
    assert [row.seq for row in await records.load(AlertEventRow)] == [1, 2]
    assert records.problem == "", "nothing is wrong with the database"


async def test_a_nul_is_kept_or_shown_as_unknown(records):
    silence = SilenceRow("default", "i\0d", "[]", 1, 2, 3, "me", "w\0hy", "{}")
    await records.save([silence])
    (found,) = await records.load(SilenceRow, id="i\0d")
    assert found.comment in ("w\0hy", "w\ufffdhy")
    assert await records.page(AlertEventRow, "default", before=9, since=0, until=9, limit=9, equal={"fingerprint": "\0"}) == []
    await records.save(drop=[silence])
    assert await records.load(SilenceRow) == []


async def test_rows_come_back_as_they_went_after_reopening(place):
    rows = [
        *(rule_alert(labels=f'{{"n":"{i}"}}', value=v) for i, v in enumerate((math.inf, -0.5, 5e-324))),
        HeldAlertRow("default", 1, '{"a":"ä\u2028"}', "{}", "http://x/", 1, 2, 3, True),
        NotificationRow("default", "{}:{}", "team", "webhook/0", "sent", "a b", "", 5, "", "", "key", 6, 1 << 62),
        SilenceRow("default", "id", '[["a","=","ä"]]', 1, 2, 3, "me", "why", "{}"),
    ]
    first = await Records.open(place)
    await first.save(rows)
    await first.close()
    second = await Records.open(place)
    kinds = (RuleAlertRow, HeldAlertRow, NotificationRow, SilenceRow)
    assert [row for kind in kinds for row in await second.load(kind)] == rows
    await second.close()


async def test_nan_survives(records):
    await records.save([rule_alert(value=math.nan)])
    assert math.isnan((await records.load(RuleAlertRow))[0].value)


async def test_put_replaces_by_key_and_drop_removes_in_one_go(records):
    await records.save([rule_alert(labels="a"), rule_alert(labels="b"), rule_alert(labels="a", tenant="other")])
    await records.save([rule_alert(labels="a", state="firing")], drop=[rule_alert(labels="b")])
    assert [(r.tenant, r.labels, r.state) for r in await records.load(RuleAlertRow)] == [
        ("default", "a", "firing"),
        ("other", "a", "pending"),
    ]
    assert [r.tenant for r in await records.load(RuleAlertRow, tenant="other")] == ["other"]


async def test_many_rows_at_once(records):
    rows = [rule_alert(labels=f"{i:04d}", value=math.nan if i % 2 else 1.0) for i in range(500)]
    await records.save(rows)
    await records.save([dataclasses.replace(row, state="firing") for row in rows], drop=rows[:0])
    assert {row.state for row in await records.load(RuleAlertRow)} == {"firing"}
    await records.save(drop=rows[100:])
    assert len(await records.load(RuleAlertRow)) == 100


async def test_logs_are_paged_and_trimmed(records):
    await records.save([event(seq, at=seq * 10) for seq in range(1, 21)])
    assert await records.newest(AlertEventRow, "default") == 20
    assert await records.newest(AlertEventRow, "other") == 0
    page = await records.page(AlertEventRow, "default", before=16, since=30, until=120, limit=3, equal={"fingerprint": "f0"})
    assert [row.seq for row in page] == [12, 10, 8]
    await records.trim(AlertEventRow, "default", older_than=100, up_to=15)
    assert [row.seq for row in await records.page(AlertEventRow, "default", before=99, since=0, until=999, limit=99)] == [
        20,
        19,
        18,
        17,
        16,
    ]


async def test_readers_and_writers_at_once_disturb_nobody(records):
    async def write(n: int) -> None:
        for k in range(10):
            await records.save([rule_alert(labels=f"{n}/{k}")])

    async def read() -> None:
        for _ in range(10):
            found = await records.load(RuleAlertRow)
            assert len(found) == len({row.labels for row in found})

    await asyncio.gather(*(write(n) for n in range(5)), *(read() for _ in range(5)))
    assert len(await records.load(RuleAlertRow)) == 50


async def test_a_save_is_all_or_nothing(records):
    bad = UserRow("x", "default", "viewer", None, False, 1, 1)  # type: ignore[arg-type]
    with pytest.raises(LimitExceeded):
        await records.save([rule_alert(), bad])
    assert await records.load(RuleAlertRow) == []
    await records.save([rule_alert()])
    assert len(await records.load(RuleAlertRow)) == 1


async def test_rows_come_as_tuples_too_beside_others_of_their_kind(records):
    for count in (2, 120):  # few, and so many that SQLite is spoken to directly
        tuples = [dataclasses.astuple(dataclasses.replace(event(n), value=None)) for n in range(count * 10, count * 11)]
        await records.save([event(count), Many(AlertEventRow, tuples), Many(HeldAlertRow, ())])
        page = await records.page(AlertEventRow, "default", before=1 << 62, since=0, until=9, limit=count + 1)
        assert [row.seq for row in page[:count]] == [row[1] for row in reversed(tuples)]
        assert math.isnan(page[0].value) and page[0].fingerprint in ("f0", "f1") and page[0].note == ""
    assert len(await records.load(AlertEventRow)) == 2 + 1 + 120 + 1
    assert await records.load(HeldAlertRow) == []


async def test_of_several_savers_tuples_that_no_database_takes_fail_alone(records):
    bad = Many(AlertEventRow, [dataclasses.astuple(event(3, note="\ud800"))])
    found = await asyncio.gather(records.save([event(1)]), records.save([bad, event(2)]), return_exceptions=True)
    assert [type(f) for f in found] == [type(None), BadInput]
    assert [row.seq for row in await records.load(AlertEventRow)] == [1], "all or none of a call"


async def test_the_pool_and_the_version_are_told(records, place):
    figures = records.pool()
    assert await records.ping() > 0
    assert (await records.version())[0].isdigit()
    if isinstance(place, str):
        assert (figures.kind, figures.size, figures.most) == ("postgresql", 5, 15)
        await asyncio.gather(*(records.ping() for _ in range(8)))
        assert records.pool().idle >= 1
        assert records.pool().in_use == 0
    else:
        assert (figures.kind, figures.size, figures.most) == ("sqlite", 1, 1)


async def test_what_goes_to_the_database_is_counted(records, place):
    traffic = records.pool().traffic
    before, connected = traffic.statements, traffic.created
    assert connected >= 1
    await asyncio.gather(*(records.ping() for _ in range(8)))
    assert traffic.statements >= before + 8
    assert (traffic.waiting, traffic.held, traffic.active) == (0, 0, 0)
    assert traffic.average_ms > 0
    if not isinstance(place, str):
        assert connected == 1
        await asyncio.gather(*(records.ping() for _ in range(8)))
        assert traffic.created == 1, "SQLite's one connection is kept"


async def test_who_waits_for_the_one_connection_is_seen(tmp_path):
    records = await Records.open(tmp_path / "v.db")
    try:
        async with records.traffic.through(records._turn, records._database.connect()):
            waiting = [asyncio.create_task(records.ping()) for _ in range(3)]
            for _ in range(5):
                await asyncio.sleep(0)
            assert (records.traffic.waiting, records.pool().in_use, records.pool().idle) == (3, 1, 0)
        await asyncio.gather(*waiting)
        assert (records.traffic.waiting, records.pool().in_use, records.pool().idle) == (0, 0, 1)
    finally:
        await records.close()
    assert records.traffic.closed == records.traffic.created == 1


async def test_a_statement_that_fails_has_ended(tmp_path):
    records = await Records.open(tmp_path / "v.db")
    try:
        before = records.traffic.statements
        with pytest.raises(sqlite3.OperationalError):
            async with records._database.connect() as connection:
                await connection.fetch("SELECT nothing FROM nowhere")
        assert (records.traffic.active, records.traffic.statements) == (0, before + 1)
    finally:
        await records.close()


async def test_a_newer_schema_is_refused(place, postgres_server):
    await (await Records.open(place)).close()
    newer = f"INSERT INTO {'vedette.' if isinstance(place, str) else ''}schema_version VALUES ({len(MIGRATIONS) + 1})"
    if isinstance(place, str):
        postgres_server.sql(place, newer)
    else:
        connection = sqlite3.connect(place)
        connection.execute(newer)
        connection.commit()
        connection.close()
    with pytest.raises(Corrupt, match="start the newer version"):
        await Records.open(place)


async def test_tables_of_others_in_the_database_are_left_alone(postgres_server, postgres_url):
    postgres_server.sql(postgres_url, "CREATE TABLE users (mine text)")
    records = await Records.open(postgres_url)
    await records.save([UserRow("alice", "default", "viewer", "x", False, 1, 1)])
    await records.close()
    assert postgres_server.sql(postgres_url, "SELECT name FROM vedette.users") == ["alice"]
    assert postgres_server.sql(postgres_url, "SELECT count(*) FROM public.users") == ["0"]


async def test_servers_that_start_at_once_make_the_tables_once(postgres_url):
    several = await asyncio.gather(*(Records.open(postgres_url) for _ in range(4)))
    await several[0].save([rule_alert()])
    assert len(await several[3].load(RuleAlertRow)) == 1
    for one in several:
        await one.close()


async def test_a_database_that_goes_is_told_of_and_used_again_once_it_comes(new_postgres_server, monkeypatch):
    monkeypatch.setattr(module, "_WATCH_S", 0.05)
    server = new_postgres_server()
    records = await Records.open(server.new_database())
    await records.save([rule_alert(labels="before")])
    for mode in ("fast", "immediate"):
        await asyncio.to_thread(server.stop, mode)
        # Nobody asks: it is noticed all the same.
        await eventually(lambda: records.problem)
        assert "sesame" not in records.problem
        with pytest.raises(Unreachable) as refused:
            await records.load(RuleAlertRow)
        assert refused.value.retry_after is not None
        with pytest.raises(Unreachable):
            await records.save([rule_alert(labels="meanwhile")])
        await asyncio.to_thread(server.start)
        await eventually(lambda: not records.problem)
        assert [row.labels for row in await records.load(RuleAlertRow)] == ["before"]
    await records.save([rule_alert(labels="after")])
    assert len(await records.load(RuleAlertRow)) == 2
    await records.close()


async def test_a_start_may_wait_for_a_database_that_is_not_up_yet(new_postgres_server):
    server = new_postgres_server()
    url = server.new_database()
    server.stop()
    with pytest.raises(Unreachable):
        await Records.open(url)
    opening = asyncio.create_task(Records.open_when_there(url))
    await asyncio.sleep(0)
    await asyncio.to_thread(server.start)
    records = await opening
    assert await records.load(RuleAlertRow) == []
    await records.close()


async def test_a_database_that_does_not_exist_is_a_mistake_in_the_settings(postgres_url):
    with pytest.raises(BadInput, match="nowhere") as refused:
        await Records.open_when_there(postgres_url.rpartition("/")[0] + "/nowhere")
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", ""),
        ("postgres://u:p@h/db", "postgresql+asyncpg://u:p@h/db"),
        ("postgresql://u:p@h:5432/db?sslmode=require", "postgresql+asyncpg://u:p@h:5432/db?sslmode=require"),
        (
            "postgresql+asyncpg://youruser:yourpassword@localhost:5432/gamiroo_db",
            "postgresql+asyncpg://youruser:yourpassword@localhost:5432/gamiroo_db",
        ),
        ("sqlite:///vedette.db", "sqlite+aiosqlite:///vedette.db"),
        ("sqlite+aiosqlite:////var/lib/v.db", "sqlite+aiosqlite:////var/lib/v.db"),
    ],
)
def test_urls_are_taken_in_every_spelling(text, url):
    assert parse_database_url(text) == url
    assert parse_database_url(url) == url


@pytest.mark.parametrize(
    "text",
    [
        "mysql://root:sesame@h/db",
        "sesame",
        "postgresql://u:sesame@h",
        "postgresql://u:sesame@h:x/db",
        "sqlite://",
        "sqlite:///",
        "sqlite:relative.db",
    ],
)
def test_a_bad_url_is_refused_without_its_password(text):
    with pytest.raises(BadInput) as refused:
        parse_database_url(text)
    assert "sesame" not in str(refused.value)


async def test_a_sqlite_url_means_its_file(tmp_path):
    records = await Records.open(f"sqlite:///{tmp_path}/own.db")
    await records.save([rule_alert()])
    await records.close()
    assert (tmp_path / "own.db").is_file()
