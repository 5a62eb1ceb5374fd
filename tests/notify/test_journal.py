"""Large batches of alerts: on disk as one row when they are acknowledged, in their tables before anybody reads those."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.clock import ManualClock
from vedette.errors import BadInput, Corrupt, LimitExceeded
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify import journal as module
from vedette.notify.config import parse
from vedette.notify.history import Question
from vedette.notify.journal import FEW, Journal, packed, unpacked
from vedette.notify.listing import Wanted
from vedette.notify.notifier import KEEP_RESOLVED_MS, Notifier
from vedette.records.database import Records
from vedette.records.rows import AlertEventRow, AlertJournalRow, HeldAlertRow, Many

T0 = 1_700_000_000
NOW = T0 * 1000
CONFIG = "{route: {receiver: team, group_wait: 1h, group_interval: 1h}, receivers: [{name: team}]}"


def held_row(n: int, labels: str = "", ends: int = 5) -> tuple[Any, ...]:
    return ("default", n, labels or f'{{"n":"{n}"}}', "{}", "http://g", 1, ends, 3, False)


def event_row(n: int, labels: str = "", value: float | None = None) -> tuple[Any, ...]:
    return ("default", n, NOW, "firing", f"{n:016x}", "A", labels or f'{{"n":"{n}"}}', 1, value, "")


def many(count: int = FEW, *, first: int = 1, ends: int = 5) -> tuple[Many, Many]:
    numbers = range(first, first + count)
    return Many(HeldAlertRow, [held_row(n, ends=ends) for n in numbers]), Many(AlertEventRow, [event_row(n) for n in numbers])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture
async def journal(records: Records, clock: ManualClock) -> Journal:
    made = Journal(records, clock, tenant="default")
    await made.start()
    return made


async def counts(records: Records) -> tuple[int, int, int]:
    """Rows in the journal, of held alerts, of their steps."""
    return tuple([len(await records.load(kind)) for kind in (AlertJournalRow, HeldAlertRow, AlertEventRow)])  # type: ignore[return-value]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@given(st.lists(st.tuples(texts, texts), max_size=6), st.lists(texts, max_size=6), st.floats(allow_nan=False, allow_infinity=False))
def test_a_batch_comes_back_as_it_went(pairs: list[tuple[str, str]], others: list[str], value: float) -> None:
    labels = [json.dumps(dict([pair])) for pair in pairs]
    held = [held_row(n, text) for n, text in enumerate(labels)]
    # Steps of the alerts in their order, out of order, and of alerts that are not saved.
    for steps in (labels, labels[::-1], [json.dumps(o) for o in others] + labels):
        events = [event_row(n, text, value) for n, text in enumerate(steps)]
        body = packed(held, events)
        assert body is not None and unpacked(body) == (held, events)


@pytest.mark.parametrize("body", [b"", b"no zstd", packed([], [])[:-3], module.cramjam.zstd.compress(b"[1]").read()])  # type: ignore[index]
def test_a_body_that_is_damaged_is_told(body: bytes) -> None:
    with pytest.raises(Corrupt, match="a batch of alerts cannot be read"):
        unpacked(body)


async def test_few_go_to_their_tables_and_many_into_one_row(journal: Journal, records: Records) -> None:
    await journal.save(*many(FEW - 1))
    assert await counts(records) == (0, FEW - 1, FEW - 1) and len(journal) == 0
    await journal.save(*many(first=1000))
    assert await counts(records) == (1, FEW - 1, FEW - 1) and len(journal) == 1
    await journal.spread()
    assert await counts(records) == (0, 2 * FEW - 1, 2 * FEW - 1) and len(journal) == 0
    found = [row for row in await records.load(AlertEventRow) if row.seq == 1007]
    assert math.isnan(found[0].value) and found[0].labels == '{"n":"1007"}'


async def test_what_comes_later_is_written_later(journal: Journal, records: Records) -> None:
    await journal.save(*many())
    later = Many(HeldAlertRow, [held_row(7, ends=99)])
    await journal.save(later, Many(AlertEventRow, ()))
    assert len(journal) == 2, "news of an alert that waits waits with it"
    await journal.save(Many(HeldAlertRow, ()), Many(AlertEventRow, [event_row(5000)]))
    assert await counts(records) == (2, 0, 1), "a step alone overwrites nothing"
    await journal.spread(most=1)
    assert await counts(records) == (1, FEW, FEW + 1)
    await journal.spread()
    assert {row.seq: row.ends_at for row in await records.load(HeldAlertRow)}[7] == 99


async def test_the_next_run_spreads_what_the_last_one_left(journal: Journal, records: Records, clock: ManualClock) -> None:
    await journal.save(*many())
    await journal.save(*many(ends=99))
    again = Journal(records, clock, tenant="default")
    await again.start()
    assert await counts(records) == (0, FEW, FEW)
    assert {row.ends_at for row in await records.load(HeldAlertRow)} == {99}
    assert await records.tenants() == ["default"]


async def test_a_tenant_of_whom_only_a_batch_is_kept_is_known(journal: Journal, records: Records, clock: ManualClock) -> None:
    other = Journal(records, clock, tenant="other")
    await other.start()
    await other.save(*many())
    await journal.start()
    assert await counts(records) == (1, 0, 0), "another tenant's batch is not this one's to spread"
    assert await records.tenants() == ["other"]


async def test_so_many_may_wait_and_no_more(journal: Journal, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    for first in (1, 1001, 2001, 3001):
        await journal.save(*many(first=first))
    assert len(journal) == 2
    assert sorted(row.seq for row in await records.load(HeldAlertRow))[::FEW] == [1, 1001]


async def test_values_that_no_json_holds_are_refused_by_the_tables(journal: Journal, records: Records) -> None:
    await journal.save(*many())
    held, events = many(first=1000)
    bad = Many(HeldAlertRow, [*held.values, held_row(9, '{"n":"\ud800"}')])
    with pytest.raises(BadInput, match="cannot keep this"):
        await journal.save(bad, events)
    assert await counts(records) == (0, FEW, FEW)


async def test_an_infinite_value_is_kept(journal: Journal, records: Records) -> None:
    await journal.save(*many())
    held, events = many(first=1000)
    await journal.save(held, Many(AlertEventRow, [*events.values, event_row(5000, value=-math.inf), event_row(5001, value=math.inf)]))
    page = await records.page(AlertEventRow, "default", before=1 << 62, since=0, until=1 << 62, limit=2)
    assert [row.value for row in page] == [math.inf, -math.inf]
    assert await counts(records) == (0, 2 * FEW, 2 * FEW + 2), "what waited was spread first"


async def test_a_batch_whose_sender_went_away_is_spread_all_the_same(journal: Journal, records: Records) -> None:
    gone = asyncio.create_task(journal.save(*many()))
    await asyncio.sleep(0)
    gone.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await gone
    await journal.save(Many(HeldAlertRow, [held_row(7, ends=99)]), Many(AlertEventRow, ()))
    await journal.spread()
    assert await counts(records) == (0, FEW, FEW)
    assert {row.seq: row.ends_at for row in await records.load(HeldAlertRow)}[7] == 99


async def test_a_disk_that_refuses_keeps_nothing_of_it(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.records.sqlite.BUSY_MS", 1)
    records = await Records.open(tmp_path / "locked.db")
    journal = Journal(records, clock, tenant="default")
    await journal.start()
    await journal.save(*many())
    other = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LimitExceeded, match="locked"):
        await journal.save(*many(first=1000))
    with pytest.raises(LimitExceeded, match="locked"):
        await journal.spread()
    other.execute("ROLLBACK")
    other.close()
    await journal.spread()
    assert await counts(records) == (0, FEW, FEW) and len(journal) == 0
    await records.close()


async def test_servers_that_share_a_database_find_rows_in_their_tables(postgres_url: str, clock: ManualClock) -> None:
    records = await Records.open(postgres_url)
    journal = Journal(records, clock, tenant="default")
    await journal.start()
    await journal.save(*many())
    assert await counts(records) == (0, FEW, FEW) and len(journal) == 0
    await records.close()


def alerts(count: int = 2 * FEW, *, ends: int = 600) -> list[Alert]:
    return [Alert(Labels.of(alertname="A", n=str(n)), NOW, NOW + ends * 1000, Labels.of(summary="x"), "http://g") for n in range(count)]


async def test_history_and_a_restart_tell_of_a_batch_that_waits(records: Records, clock: ManualClock) -> None:
    first = Notifier(parse(CONFIG), records, clock)
    await first.start()
    await first.accept(alerts())
    assert await counts(records) == (1, 0, 0)
    name = alerts()[7].fingerprint
    page = await first.history.events(Question(since=0, until=1 << 60, limit=9, equal={"fingerprint": name}))
    assert [(row.kind, row.labels) for row in page.rows] == [("firing", '{"alertname":"A","n":"7"}')]
    await first.accept(alerts(ends=900))  # an extension is not news to the records
    await first.accept([Alert(a.labels, a.starts_at, NOW - 1, a.annotations, a.generator_url) for a in alerts()[:FEW]])
    assert await counts(records) == (1, 2 * FEW, 2 * FEW)
    await first.close()
    second = Notifier(parse(CONFIG), records, clock)
    await second.start()
    assert len(await second.listed_alerts(Wanted())) == FEW
    assert await counts(records) == (0, 2 * FEW, 3 * FEW)
    await second.close()


async def test_batches_are_spread_once_no_more_come(records: Records, clock: ManualClock) -> None:
    notifier = Notifier(parse(CONFIG), records, clock)
    await notifier.start()
    await notifier.accept(alerts())
    await notifier.accept([Alert(a.labels.with_({"m": "1"}), NOW, NOW + 600_000) for a in alerts()])
    async with asyncio.timeout(10):
        while len(notifier._journal):
            await clock.advance(0.1)
    assert await counts(records) == (0, 4 * FEW, 4 * FEW)
    await notifier.close()


async def test_what_is_let_go_of_does_not_come_back(records: Records, clock: ManualClock) -> None:
    notifier = Notifier(None, records, clock)
    await notifier.start()
    await notifier.accept(alerts(ends=1))
    await clock.advance(KEEP_RESOLVED_MS / 1000 + 120)
    async with asyncio.timeout(10):
        while len(notifier.standing) or (await counts(records))[1]:
            await clock.advance(60)
    await notifier.close()
    assert (await counts(records))[:2] == (0, 0)


async def test_kill_9_right_after_the_answer_keeps_every_alert(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import asyncio, os, signal, sys
        from pathlib import Path
        from vedette.clock import SystemClock
        from vedette.model.alerts import Alert
        from vedette.model.labels import Labels
        from vedette.notify.notifier import Notifier
        from vedette.records.database import Records

        async def main():
            notifier = Notifier(None, await Records.open(Path(sys.argv[1])), SystemClock())
            await notifier.start()
            await notifier.accept([Alert(Labels.of(n=str(n)), 1, 1 << 42) for n in range(1000)])
            await notifier.accept([Alert(Labels.of(n="7"), 1, 2)])
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
        """
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", script, str(tmp_path / "v.db")], check=False, timeout=60)
    records = await Records.open(tmp_path / "v.db")
    notifier = Notifier(None, records, ManualClock(T0))
    await notifier.start()
    assert len(await notifier.listed_alerts(Wanted())) == 999
    assert await counts(records) == (0, 1000, 1001)
    await notifier.close()
    await records.close()


async def test_a_batch_that_cannot_be_read_keeps_no_server_from_starting(records: Records, clock: ManualClock) -> None:
    held, events = many()
    good = packed(held.values, events.values)
    assert good is not None
    await records.save([AlertJournalRow("default", 1, NOW, b"broken"), AlertJournalRow("default", 2, NOW, good)])
    made = Journal(records, clock, tenant="default")
    await made.start()
    assert len(await records.load(HeldAlertRow, tenant="default")) == FEW
    assert [row.seq for row in await records.load(AlertJournalRow, tenant="default")] == [1]
    await made.save(*many(first=FEW + 1))
    await made.spread()
    assert len(await records.load(HeldAlertRow, tenant="default")) == 2 * FEW
    assert [row.body for row in await records.load(AlertJournalRow, tenant="default")] == [b"broken"]
