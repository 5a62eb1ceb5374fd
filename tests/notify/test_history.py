"""The logs of alerts and notifications: written by several servers into one database, read as one, kept within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vedette.clock import ManualClock
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify.history import History, Question
from vedette.records.database import Records
from vedette.records.rows import AlertEventRow

T0 = 1_700_000_000
PLACE = ("ops", "webhook", "{}")
ALL = Question(since=0, until=1 << 62, limit=1000)


def alert(name: str) -> Alert:
    return Alert(Labels.of(alertname=name), T0 * 1000, (T0 + 60) * 1000)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    url: str | Path = tmp_path / "v.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def servers(place: Path | str) -> AsyncIterator[list[Records]]:
    """Two servers' connections to one database."""
    opened = [await Records.open(place), await Records.open(place)]
    yield opened
    for records in opened:
        await records.close()


async def test_servers_that_share_a_database_keep_each_others_rows(servers: list[Records]) -> None:
    clock = ManualClock(T0)
    histories = [History(records, clock, tenant="default", number=n) for records, n in zip(servers, (5, 4), strict=True)]
    for history in histories:
        await history.start()
    for step in range(5):
        for which, (history, records) in enumerate(zip(histories, servers, strict=True)):
            name = f"{which}/{step}"
            at = int(clock.now() * 1000)
            sent = history.delivery("sent", "new", "", place=PLACE, alerts=[alert(name)], at=at)
            await records.save([history.event("firing", alert(name), at), sent])
        await clock.advance(1)
    told = [f"{which}/{step}" for step in range(4, -1, -1) for which in (0, 1)]
    for history in histories:
        steps = (await history.events(ALL)).rows
        assert [row.alertname for row in steps] == told, "the newest first, whoever wrote it"
        assert len((await history.deliveries(ALL)).rows) == 10
        found, before = [], 1 << 62
        while before:
            page = await history.events(Question(since=0, until=1 << 62, limit=3, before=before))
            found += [row.alertname for row in page.rows]
            before = page.next
        assert found == told, "pages miss nothing and repeat nothing"


async def test_a_restart_goes_on_above_what_is_there_though_the_clock_went_back(servers: list[Records]) -> None:
    first, second = servers
    history = History(first, ManualClock(T0), tenant="default")
    await history.start()
    await first.save([history.event("firing", alert(str(n)), T0 * 1000) for n in range(3)])
    again = History(second, ManualClock(T0 - 3600), tenant="default")
    await again.start()
    await second.save([again.event("resolved", alert("3"), T0 * 1000)])
    assert [row.alertname for row in (await again.events(ALL)).rows] == ["3", "2", "1", "0"]


async def test_rows_numbered_one_by_one_by_an_earlier_version_come_last(servers: list[Records]) -> None:
    records = servers[0]
    old = [AlertEventRow("default", n, T0 * 1000, "firing", "f", f"old{n}", "{}", 1, 0.5, "") for n in (1, 2)]
    await records.save(old)
    history = History(records, ManualClock(T0), tenant="default")
    await history.start()
    await records.save([history.event("firing", alert("new"), T0 * 1000)])
    assert [row.alertname for row in (await history.events(ALL)).rows] == ["new", "old2", "old1"]


async def test_only_so_many_rows_are_kept_of_all_that_servers_wrote(servers: list[Records]) -> None:
    clock = ManualClock(T0)
    histories = [History(records, clock, tenant="default", max_rows=4, number=n) for n, records in enumerate(servers)]
    for step in range(4):
        for which, (history, records) in enumerate(zip(histories, servers, strict=True)):
            await records.save([history.event("firing", alert(f"{which}/{step}"), int(clock.now() * 1000))])
        await clock.advance(1)
    await histories[0].forget()
    assert [row.alertname for row in (await histories[1].events(ALL)).rows] == ["1/3", "0/3", "1/2", "0/2"]
    await histories[1].forget()
    assert len((await histories[0].events(ALL)).rows) == 4, "no fewer where there are no more"


async def test_what_is_too_old_goes(servers: list[Records]) -> None:
    records, clock = servers[0], ManualClock(T0)
    history = History(records, clock, tenant="default", keep_ms=10_000)
    for name in ("old", "new"):
        at = int(clock.now() * 1000)
        sent = history.delivery("failed", "500", "", place=PLACE, alerts=[alert(name)], at=at)
        await records.save([history.event("firing", alert(name), at), sent])
        await clock.advance(8)
    await history.forget()
    assert [row.alertname for row in (await history.events(ALL)).rows] == ["new"]
    assert len((await history.deliveries(ALL)).rows) == 1


async def test_the_newest_number_and_the_newest_of_the_rest(servers: list[Records]) -> None:
    records = servers[0]
    await records.save([AlertEventRow("default", n, 1, "firing", "f", "A", "{}", 1, 0.5, "") for n in (3, 8, 5)])
    newest = [await records.newest(AlertEventRow, "default", skip=n) for n in (0, 1, 2, 3, 10**6)]
    assert newest == [8, 5, 3, 0, 0]
    assert await records.newest(AlertEventRow, "other") == 0
