"""Killed between every two steps, started again on the same records: nothing is lost, nobody is told twice."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from vedette.clock import ManualClock
from vedette.errors import Undeliverable
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.net.answers import Answer
from vedette.notify.config import Config, parse
from vedette.notify.notifier import Notifier
from vedette.notify.told import Place, begun, restored, waiting
from vedette.records.database import Records
from vedette.records.rows import HeldAlertRow, NotificationRow

T0 = 1_700_000_000
CONFIG = """
route: {receiver: team, group_by: [alertname], group_wait: 1s, group_interval: 10s, repeat_interval: 1h}
receivers:
- name: team
  webhook_configs: [{url: 'http://hook'}]
"""


class Killed(BaseException):
    """The process is gone: whatever was under way ends here and does nothing more."""


@dataclass
class Reaper:
    """Counts steps, and kills the process at one of them; afterwards nothing of it gets anywhere."""

    at: int
    steps: list[str] = field(default_factory=list)
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    async def step(self, name: str) -> None:
        if not self.dead.is_set():
            self.steps.append(name)
            if len(self.steps) - 1 == self.at:
                self.dead.set()
        if self.dead.is_set():
            await asyncio.Event().wait()


@dataclass
class Wire:
    """The way to the receiver, who outlives the process: `got` is what reached it, with the attempt's key."""

    reaper: Reaper
    got: list[tuple[str, str]]

    async def post_json(
        self,
        url: str,
        payload: Any,
        *,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        assert leaving is not None and headers is not None
        await self.reaper.step("connected")
        await leaving()
        self.got.append((payload["status"], headers["Idempotency-Key"]))
        await self.reaper.step("delivered")
        return Answer(200, {}, b"", url)

    async def close(self) -> None:
        pass


class Process:
    """One life of the notifier on records that stay."""

    def __init__(self, path: Path, clock: ManualClock, reaper: Reaper, got: list[tuple[str, str]]) -> None:
        self.path, self.clock, self.reaper, self.got = path, clock, reaper, got

    async def start(self) -> None:
        self.records = await Records.open(self.path)
        save, load = self.records.save, self.records.load

        async def counted_save(put: Any = (), drop: Any = ()) -> None:
            if put or drop:
                await self.reaper.step("before commit")
            await save(put, drop)
            if put or drop:
                await self.reaper.step("after commit")

        self.records.save = counted_save  # type: ignore[method-assign]
        assert load is not None
        self.notifier = Notifier(parse(CONFIG), self.records, self.clock, lambda _c: Wire(self.reaper, self.got))
        await self.notifier.start()

    async def quiet(self) -> None:
        for _ in range(6):
            for _ in range(15):
                await asyncio.sleep(0)
            if (task := self.records._committer) is not None and not task.done():
                await asyncio.wait([task])
            async with self.records._turn:
                pass  # logs are trimmed beside the transactions of others

    async def alive(self, work: Awaitable[Any]) -> bool:
        """Do some work unless death comes first."""
        task, death = asyncio.ensure_future(work), asyncio.ensure_future(self.reaper.dead.wait())
        await asyncio.wait((task, death), return_when=asyncio.FIRST_COMPLETED)
        survived = task.done()
        for one in (task, death):
            one.cancel()
        await asyncio.gather(task, death, return_exceptions=True)
        return survived

    async def end(self) -> None:
        """What the kernel does for a killed process: its tasks are gone."""
        tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in tasks:
            if task.get_name().startswith(("notifications", "flush")):
                task.cancel()
        await asyncio.gather(*(t for t in tasks if t.get_name().startswith(("notifications", "flush"))), return_exceptions=True)
        await self.records.close()


async def life(path: Path, kill_at: int) -> tuple[list[tuple[str, str]], list[str], bool]:
    """An alert fires and resolves; the process dies at a step and is started again. What arrived, the steps, whether it died."""
    clock, got = ManualClock(T0), []
    firing = Alert(Labels.of(alertname="A"), T0 * 1000, (T0 + 4000) * 1000)
    resolved = dataclasses.replace(firing, ends_at=(T0 + 4) * 1000)
    process = Process(path, clock, Reaper(kill_at), got)
    await process.start()
    steps, died = process.reaper.steps, False

    async def script(news: Alert, until: float) -> None:
        nonlocal process, died
        for _ in range(2):  # a second time after a restart; whoever raised the alert tells it again
            if await process.alive(process.notifier.accept([news])):
                while clock.now() < until and not process.reaper.dead.is_set():
                    await clock.advance(2)
                    await process.quiet()
            if not process.reaper.dead.is_set():
                return
            died = True
            await process.end()
            process = Process(path, clock, Reaper(-1), got)
            await process.start()

    await script(firing, T0 + 4)
    await script(resolved, T0 + 26)
    await process.end()
    return got, steps, died


async def test_killed_between_every_two_steps(tmp_path: Path) -> None:
    got, steps, died = await life(tmp_path / "whole.db", -1)
    assert not died
    assert [status for status, _ in got] == ["firing", "resolved"]
    assert len(steps) >= 16
    doubt = [i for i in range(len(steps)) if steps[i] == "after commit" and steps[i + 1 : i + 2] == ["delivered"]]
    assert len(doubt) == 2
    for kill_at in range(len(steps)):
        got, _, died = await life(tmp_path / f"{kill_at}.db", kill_at)
        assert died
        told = [status for status, _ in got]
        if kill_at in doubt:
            # Between the commit and the first byte, a fraction of a millisecond: the one step where a message may be missed
            # until the repeat interval, rather than told twice whenever a receiver answers slowly.
            assert len(told) == len(set(told))
            continue
        assert told == ["firing", "resolved"], (kill_at, steps[kill_at])


@pytest.fixture
def config() -> Config:
    return parse(CONFIG)


async def test_a_held_alert_is_still_there_and_gets_its_time_anew(tmp_path: Path, config: Config) -> None:
    clock = ManualClock(T0)
    records = await Records.open(tmp_path / "v.db")
    notifier = Notifier(config, records, clock)
    await notifier.start()
    await notifier.accept([Alert(Labels.of(alertname="A"), T0 * 1000, (T0 + 240) * 1000, Labels.of(s="x"), "http://g")])
    await notifier.close()
    await clock.advance(3600)
    again = Notifier(config, records, clock)
    await again.start()
    (held,) = again.alerts()
    assert held.alert == Alert(Labels.of(alertname="A"), T0 * 1000, (T0 + 3840) * 1000, Labels.of(s="x"), "http://g")
    (group,) = again.groups()
    assert group.next_flush <= (T0 + 3600) * 1000, "what has waited before the restart does not wait again"
    await again.close()
    await records.close()


PLACE = Place("t", "g", "r", "webhook/0")


def test_restored_entries() -> None:
    entry = begun(PLACE, None, frozenset("ab"), frozenset(), 1000)
    assert (restored(entry).phase, restored(entry).firing, restored(entry).sent_at) == ("sent", "a b", 1000)
    assert restored(waiting(entry)) == waiting(entry)


def test_a_notification_that_failed_keeps_its_key_while_it_says_the_same() -> None:
    first = begun(PLACE, None, frozenset("a"), frozenset(), 1000)
    assert begun(PLACE, waiting(first), frozenset("a"), frozenset(), 2000).attempt == first.attempt
    assert begun(PLACE, waiting(first), frozenset("ab"), frozenset(), 2000).attempt != first.attempt
    assert begun(PLACE, None, frozenset("a"), frozenset(), 2000).attempt != first.attempt


async def test_one_that_went_unanswered_when_the_process_died_is_told_again_under_the_same_key(tmp_path: Path, config: Config) -> None:
    clock, keys = ManualClock(T0), []

    class Hangs:
        async def post_json(self, url: str, payload: Any, *, leaving: Any, headers: Any, **_: Any) -> Answer:
            await leaving()
            keys.append(headers["Idempotency-Key"])
            if len(keys) == 1:
                await asyncio.Event().wait()
            return Answer(200, {}, b"", url)

        async def close(self) -> None:
            pass

    async def until(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(10):
            while not await condition():
                await clock.advance(0.25)
                await asyncio.sleep(0.001)

    records = await Records.open(tmp_path / "v.db")

    async def noted() -> bool:
        return [r.phase for r in await records.load(NotificationRow)] == ["waiting"]

    first = Notifier(config, records, clock, lambda _c: Hangs())
    await first.start()
    await first.accept([Alert(Labels.of(alertname="A"), T0 * 1000, (T0 + 4000) * 1000)])
    await until(noted)
    for task in asyncio.all_tasks():
        if task.get_name().startswith(("notifications", "flush")):
            task.cancel()

    second = Notifier(config, records, clock, lambda _c: Hangs())
    await second.start()

    async def told() -> bool:
        return len(keys) == 2

    await until(told)
    assert keys[0] == keys[1]
    await second.settled()
    await second.close()
    await records.close()


async def test_a_refused_notification_is_not_told_as_told(tmp_path: Path, config: Config) -> None:
    clock, calls = ManualClock(T0), []

    class Refuses:
        async def post_json(self, url: str, payload: Any, *, leaving: Any, **_: Any) -> Answer:
            await leaving()
            calls.append(payload["status"])
            raise Undeliverable("404", reason="status", retryable=False)

        async def close(self) -> None:
            pass

    records = await Records.open(tmp_path / "v.db")
    notifier = Notifier(config, records, clock, lambda _c: Refuses())
    await notifier.start()
    await notifier.accept([Alert(Labels.of(alertname="A"), T0 * 1000, (T0 + 4000) * 1000)])
    async with asyncio.timeout(10):
        while notifier.counts.failed["status"] < 2:  # once per group interval, since it is not retryable
            await clock.advance(1)
            await asyncio.sleep(0.001)
    assert clock.now() - T0 >= 11
    assert len(calls) == 2
    await notifier.close()
    (row,) = await records.load(NotificationRow)
    assert (row.phase, row.firing, row.sent_at) == ("waiting", "", 0)
    await records.close()


async def test_what_is_long_over_is_let_go_of_in_memory_and_on_disk(tmp_path: Path, config: Config) -> None:
    clock, got = ManualClock(T0), []
    process = Process(tmp_path / "v.db", clock, Reaper(-1), got)
    await process.start()
    firing = Alert(Labels.of(alertname="A"), T0 * 1000, (T0 + 4000) * 1000)
    await process.notifier.accept([firing])
    for _ in range(3):
        await clock.advance(2)
        await process.quiet()
    await process.notifier.accept([dataclasses.replace(firing, ends_at=(T0 + 5) * 1000)])
    for _ in range(6):
        await clock.advance(10)
        await process.quiet()
    assert [status for status, _ in got] == ["firing", "resolved"]
    for _ in range(4):
        await clock.advance(3600)
        await process.quiet()
    assert process.notifier.alerts() == []
    assert process.notifier.groups() == []
    assert await process.records.load(HeldAlertRow) == []
    assert await process.records.load(NotificationRow) == []
    await process.end()


async def test_an_alert_is_one_record_however_often_and_by_how_many_it_is_told(tmp_path: Path) -> None:
    clock = ManualClock(T0)
    process = Process(tmp_path / "v.db", clock, Reaper(-1), [])
    await process.start()
    a, b = (Alert(Labels.of(alertname=n), T0 * 1000, (T0 + 4000) * 1000) for n in "AB")
    await asyncio.gather(process.notifier.accept([a]), process.notifier.accept([b, a]), process.notifier.accept([a]))
    await process.end()
    process = Process(tmp_path / "v.db", clock, Reaper(-1), [])
    await process.start()
    c = Alert(Labels.of(alertname="C"), T0 * 1000, (T0 + 4000) * 1000)
    await process.notifier.accept([dataclasses.replace(a, annotations=Labels.of(summary="again")), c])
    rows = await process.records.load(HeldAlertRow)
    assert [r.labels for r in rows] == ['{"alertname":"A"}', '{"alertname":"B"}', '{"alertname":"C"}'], "in the order they came"
    assert [r.annotations for r in rows] == ['{"summary":"again"}', "{}", "{}"]
    await process.end()


async def test_of_two_records_of_one_alert_the_one_heard_of_last_counts_and_the_other_goes(tmp_path: Path) -> None:
    records = await Records.open(tmp_path / "v.db")
    told = {8: T0 * 1000, 9: T0 * 1000 - 5}
    rows = [HeldAlertRow("default", n, '{"alertname":"A"}', "{}", f"http://g/{n}", 1, T0 * 2000, at, False) for n, at in told.items()]
    await records.save(rows)
    await records.close()
    process = Process(tmp_path / "v.db", ManualClock(T0), Reaper(-1), [])
    await process.start()
    assert [h.alert.generator_url for h in process.notifier.alerts()] == ["http://g/8"]
    assert await process.records.load(HeldAlertRow) == rows[:1]
    await process.end()


async def test_news_that_is_on_its_way_to_the_disk_is_not_let_go_with_what_is_long_over(tmp_path: Path) -> None:
    clock = ManualClock(T0)
    process = Process(tmp_path / "v.db", clock, Reaper(-1), [])
    await process.start()
    over = Alert(Labels.of(alertname="A"), (T0 - 9000) * 1000, (T0 - 8000) * 1000)
    await process.notifier.accept([over])
    await process.notifier.apply(None)
    await clock.advance(4000)
    again = asyncio.ensure_future(process.notifier.accept([dataclasses.replace(over, starts_at=0, ends_at=(T0 + 9000) * 1000)]))
    await asyncio.sleep(0)
    # Its save has begun; a round of maintenance falls into it.
    process.notifier._maintained = 0
    await process.notifier._maintain()
    await again
    assert [h.alert.ends_at for h in process.notifier.alerts()] == [(T0 + 9000) * 1000]
    assert [r.ends_at for r in await process.records.load(HeldAlertRow)] == [(T0 + 9000) * 1000]
    await process.end()


async def test_servers_that_share_a_database_overwrite_none_of_each_others_alerts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.notify.notifier.own_number", iter(range(9)).__next__)
    clock = ManualClock(T0)
    one, two = (Process(tmp_path / "v.db", clock, Reaper(-1), []) for _ in range(2))
    await one.start()
    await two.start()
    a, b = (Alert(Labels.of(alertname=n), T0 * 1000, (T0 + 4000) * 1000) for n in "AB")
    await one.notifier.accept([a])
    await two.notifier.accept([b])
    await two.notifier.accept([a])
    await one.end()
    await two.end()
    both = Process(tmp_path / "v.db", clock, Reaper(-1), [])
    await both.start()
    assert sorted(h.alert.labels.get("alertname") for h in both.notifier.alerts()) == ["A", "B"]
    assert len(await both.records.load(HeldAlertRow)) == 2, "one record an alert again"
    await both.end()
