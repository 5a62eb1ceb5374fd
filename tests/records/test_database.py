"""Records survive, upsert, share transactions, and say clearly when they cannot be used."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vedette.errors import Corrupt, LimitExceeded
from vedette.records.database import Records
from vedette.records.migrations import MIGRATIONS
from vedette.records.rows import AlertEventRow, HeldAlertRow, NotificationRow, RuleAlertRow, SilenceRow
from vedette.records.sqlite import SqliteConnection


def number(rule: str, labels: str) -> int:
    """A number of its own for each rule and labels, in their order."""
    return int(("".join(c for c in labels + rule if c.isascii() and c.isalnum())[:10] + "z").ljust(11, "0"), 36)


def rule_alert(rule: str = "g/r", labels: str = "{}", state: str = "pending", value: float = 1.0) -> RuleAlertRow:
    return RuleAlertRow("default", number(rule, labels), rule, labels, "{}", state, value, 1, 2, 3, 4)


def held(labels: str) -> HeldAlertRow:
    return HeldAlertRow("default", 7, labels, "{}", "http://x/", 1, 2, 3, True)


def notification(phase: str = "sent") -> NotificationRow:
    return NotificationRow("default", "{}:{}", "team", "webhook/0", phase, "a b", "", 5, "", "", "key", 6, 7)


async def test_rows_of_every_kind_come_back_as_they_went_after_reopening(tmp_path: Path) -> None:
    silence = SilenceRow("default", "id", '[["a","=","ä"]]', 1, 2, 3, "me", "why", "{}")
    rows = [rule_alert(value=math.inf), held('{"a":"ä"}'), notification(), silence]
    records = await Records.open(tmp_path / "v.db")
    await records.save(rows)
    await records.close()

    records = await Records.open(tmp_path / "v.db")
    kinds = (RuleAlertRow, HeldAlertRow, NotificationRow, SilenceRow)
    assert [row for kind in kinds for row in await records.load(kind)] == rows
    await records.close()


async def test_nan_survives(tmp_path: Path) -> None:
    records = await Records.open(tmp_path / "v.db")
    await records.save([rule_alert(value=math.nan)])
    assert math.isnan((await records.load(RuleAlertRow))[0].value)
    await records.close()


async def test_put_replaces_by_key_and_drop_removes_in_one_go(tmp_path: Path) -> None:
    records = await Records.open(tmp_path / "v.db")
    await records.save([rule_alert(labels="a"), rule_alert(labels="b")])
    await records.save([rule_alert(labels="a", state="firing")], drop=[rule_alert(labels="b")])
    assert [(r.labels, r.state) for r in await records.load(RuleAlertRow)] == [("a", "firing")]
    await records.close()


async def test_load_filters_by_columns(tmp_path: Path) -> None:
    records = await Records.open(tmp_path / "v.db")
    await records.save([rule_alert("one"), rule_alert("two"), dataclasses.replace(rule_alert("one"), tenant="other")])
    assert [(r.tenant, r.rule) for r in await records.load(RuleAlertRow, tenant="default", rule="one")] == [("default", "one")]
    await records.close()


async def test_saves_that_come_together_share_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = await Records.open(tmp_path / "v.db")
    await records.save([rule_alert("first")])
    commits: list[object] = []
    begin = records._database.begin

    def counted() -> Any:
        commits.append(None)
        return begin()

    monkeypatch.setattr(records._database, "begin", counted)
    await asyncio.gather(*(records.save([rule_alert(f"r{i}")]) for i in range(200)))
    assert 1 <= len(commits) <= 2
    assert len(await records.load(RuleAlertRow)) == 201
    await records.close()


async def test_a_cancelled_save_harms_no_other(tmp_path: Path) -> None:
    records = await Records.open(tmp_path / "v.db")
    one = asyncio.create_task(records.save([rule_alert("one")]))
    two = asyncio.create_task(records.save([rule_alert("two")]))
    await asyncio.sleep(0)
    one.cancel()
    await two
    assert "two" in [r.rule for r in await records.load(RuleAlertRow)]
    await records.close()


async def test_a_file_that_is_no_database_is_corrupt_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "v.db"
    path.write_bytes(b"not a database at all, but long enough to be read as one" * 100)
    before = path.read_bytes()
    with pytest.raises(Corrupt, match=r"v\.db.*not a database.*move it away"):
        await Records.open(path)
    assert path.read_bytes() == before


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    await (await Records.open(tmp_path / "v.db")).close()
    with sqlite3.connect(tmp_path / "v.db") as probe:
        probe.execute("INSERT INTO schema_version VALUES (?)", (len(MIGRATIONS) + 1,))
    probe.close()
    with pytest.raises(Corrupt, match="newer version"):
        await Records.open(tmp_path / "v.db")


async def test_the_schema_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "v.db") as old:
        old.execute("CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)")
        for statement in MIGRATIONS[0]:
            old.execute(statement)
        old.execute("INSERT INTO schema_version VALUES (1)")
        old.execute("INSERT INTO held_alerts VALUES ('default', '{}', '{}', '', 1, 2, 3, 0)")
    old.close()
    records = await Records.open(tmp_path / "v.db")
    assert [r.ends_at for r in await records.load(HeldAlertRow)] == [2]
    assert await records.load(SilenceRow) == []
    await records.close()


async def test_held_alerts_of_the_schema_before_their_numbers_keep_all_they_say(tmp_path: Path) -> None:
    numbered = next(n for n, statements in enumerate(MIGRATIONS) if any("held_by_labels" in s for s in statements))
    with sqlite3.connect(tmp_path / "v.db") as old:
        old.execute("CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)")
        for version, statements in enumerate(MIGRATIONS[:numbered], 1):
            for statement in statements:
                old.execute(statement)
            old.execute("INSERT INTO schema_version VALUES (?)", (version,))
        for tenant, labels in (("a", "2"), ("a", "1"), ("b", "1")):
            old.execute("INSERT INTO held_alerts VALUES (?, ?, '{}', 'u', 1, 2, 3, 1)", (tenant, labels))
    old.close()
    records = await Records.open(tmp_path / "v.db")
    assert await records.load(HeldAlertRow) == [
        HeldAlertRow("a", 1, "1", "{}", "u", 1, 2, 3, True),
        HeldAlertRow("a", 2, "2", "{}", "u", 1, 2, 3, True),
        HeldAlertRow("b", 1, "1", "{}", "u", 1, 2, 3, True),
    ]
    await records.close()


async def test_alerts_of_rules_of_the_schema_before_their_numbers_keep_all_they_say(tmp_path: Path) -> None:
    numbered = next(n for n, statements in enumerate(MIGRATIONS) if any("rule_alerts_by_labels" in s for s in statements))
    with sqlite3.connect(tmp_path / "v.db") as old:
        old.execute("CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY)")
        for version, statements in enumerate(MIGRATIONS[:numbered], 1):
            for statement in statements:
                old.execute(statement)
            old.execute("INSERT INTO schema_version VALUES (?)", (version,))
        for tenant, rule, labels in (("a", "g/r", "2"), ("a", "g/r", "1"), ("b", "g/r", "1")):
            old.execute("INSERT INTO rule_alerts VALUES (?, ?, ?, '{}', 'firing', NULL, 1, 2, 3, 4)", (tenant, rule, labels))
    old.close()
    records = await Records.open(tmp_path / "v.db")
    found = await records.load(RuleAlertRow)
    assert [(r.tenant, r.seq, r.rule, r.labels, r.state, r.active_at, r.keep_firing_since) for r in found] == [
        ("a", 1, "g/r", "1", "firing", 1, 4),
        ("a", 2, "g/r", "2", "firing", 1, 4),
        ("b", 1, "g/r", "1", "firing", 1, 4),
    ]
    assert math.isnan(found[0].value)
    await records.close()


async def test_a_locked_file_refuses_writes_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.records.sqlite.BUSY_MS", 1)
    records = await Records.open(tmp_path / "v.db")
    other = sqlite3.connect(tmp_path / "v.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LimitExceeded, match=r"v\.db cannot be used: .*locked"):
        await records.save([rule_alert()])
    other.execute("ROLLBACK")
    other.close()
    await records.save([rule_alert()])
    assert len(await records.load(RuleAlertRow)) == 1
    await records.close()


async def test_kill_9_right_after_save_keeps_the_row(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import asyncio, os, signal, sys
        from pathlib import Path
        from vedette.records.database import Records
        from vedette.records.rows import RuleAlertRow

        async def main():
            records = await Records.open(Path(sys.argv[1]))
            await records.save([RuleAlertRow("default", 1, "r", "{}", "{}", "firing", 1.0, 1, 2, 3, 4)])
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
        """
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "v.db")], check=False, timeout=60)
    records = await Records.open(tmp_path / "v.db")
    assert [r.state for r in await records.load(RuleAlertRow)] == ["firing"]
    await records.close()


def test_a_file_costs_no_sqlalchemy(tmp_path: Path) -> None:
    """It is ten megabytes and a third of a second, for databases that are elsewhere."""
    code = """
import asyncio, sys
from pathlib import Path
from vedette.records.database import Records
async def used():
    records = await Records.open(Path(sys.argv[1]))
    await records.tenants()
    await records.close()
asyncio.run(used())
sys.exit("sqlalchemy" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "v.db")], check=False, timeout=60).returncode == 0


def event(seq: int, **more: object) -> AlertEventRow:
    row = AlertEventRow("default", seq, seq * 10, "firing", f"{seq % 2:016x}", "A", '{"alertname":"A"}', 5, math.nan, "")
    return dataclasses.replace(row, **more)  # type: ignore[arg-type]


async def test_a_log_is_read_by_pages_the_newest_first_and_forgotten_by_age_and_number(tmp_path: Path) -> None:
    records = await Records.open(tmp_path / "v.db")
    assert await records.newest(AlertEventRow, "default") == 0
    await records.save([event(i) for i in range(1, 10)])
    assert await records.newest(AlertEventRow, "default") == 9

    async def page(**more: Any) -> list[int]:
        given = {"before": 100, "since": 0, "until": 1000, "limit": 3, **more}
        return [r.seq for r in await records.page(AlertEventRow, "default", **given)]

    assert await page() == [9, 8, 7]
    assert await page(before=7) == [6, 5, 4]
    assert await page(since=80) == [9, 8]
    assert await page(until=20) == [2, 1]
    assert await page(equal={"fingerprint": f"{1:016x}"}) == [9, 7, 5]
    assert math.isnan((await records.page(AlertEventRow, "default", before=2, since=0, until=99, limit=1))[0].value)
    await records.trim(AlertEventRow, "default", older_than=30, up_to=5)
    assert await page(limit=100) == [9, 8, 7, 6]
    await records.close()


async def test_one_alert_is_found_in_the_log_by_the_index_of_first_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = await Records.open(tmp_path / "v.db")
    await records.save([event(i, fingerprint=f"{i % 32:x}") for i in range(1, 200)])
    asked: list[tuple[str, Any]] = []
    fetch = SqliteConnection.fetch

    async def heard(connection: SqliteConnection, text: str, given: Mapping[str, Any] | None = None) -> Any:
        asked.append((text, given))
        return await fetch(connection, text, given)

    monkeypatch.setattr(SqliteConnection, "fetch", heard)
    for digits, found in (("1f", [191, 159]), ("f", [175, 143]), ("", []), ("20", []), ("\0", [])):
        page = await records.page(AlertEventRow, "default", before=192, since=0, until=9999, limit=2, equal={"fingerprint": digits})
        assert [row.seq for row in page] == found
    await records.close()
    text, given = next(one for one in asked if "fingerprint" in one[0])
    with sqlite3.connect(tmp_path / "v.db") as probe:
        plan = str(probe.execute(f"EXPLAIN QUERY PLAN {text}", given).fetchall())
    probe.close()
    assert "alert_events_digit (tenant=? AND <expr>=? AND seq<?)" in plan and "TEMP" not in plan


async def test_reading_beside_writers_takes_nothing_back(tmp_path: Path) -> None:
    records = await Records.open(tmp_path / "v.db")

    async def read() -> None:
        for _ in range(30):
            await records.page(AlertEventRow, "default", before=1000, since=0, until=10**6, limit=5)

    async def write() -> None:
        for i in range(1, 31):
            await records.save([event(i)])

    await asyncio.gather(read(), write(), read())
    await records.close()
    again = await Records.open(tmp_path / "v.db")
    assert len(await again.load(AlertEventRow)) == 30
    await again.close()
