"""The watch on an owned clock: nothing waits for a dependency, one that hangs delays no other, and what was found is stored."""

from __future__ import annotations

import asyncio
from typing import Any

from vedette.clock import ManualClock
from vedette.errors import LimitExceeded
from vedette.health.check import DEGRADED, HEALTHY, STARTING, UNHEALTHY, Finding, State, step
from vedette.health.settings import CheckSettings, HealthSettings
from vedette.health.watch import LATENCY, UP, Watch
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import SampleBatch


class House:
    """A watch over one scripted dependency, and what it stored."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.finding = Finding(HEALTHY, "", {"connection_pool": {"active": 1}})
        self.asked = 0
        self.stored: list[tuple[str, str, float]] = []
        self.full = False
        self.hold: asyncio.Event | None = None
        self.watch = Watch(HealthSettings(**settings), self.clock, self.append, own={"database": self.probe})

    async def probe(self) -> Finding:
        self.asked += 1
        if self.hold is not None:
            await self.hold.wait()
        return self.finding

    async def append(self, batch: SampleBatch) -> None:
        if self.full:
            raise LimitExceeded("disk full")
        for i in range(batch.series_count):
            key = batch.buffer[batch.key_start[i] : batch.key_end[i]].tobytes()
            labels = Labels.decode(key)
            self.stored.append((labels.get(METRIC_NAME), labels.get("component"), float(batch.values[i])))

    async def settled(self, asked: int) -> None:
        """Until the dependency was asked so many times, and the answers are in."""
        async with asyncio.timeout(10):
            while self.asked < asked or self.watch.failures + len(self.stored) // 2 < asked:
                await asyncio.sleep(0)

    @property
    def state(self) -> State:
        found = self.watch.state("database")
        assert found is not None
        return found


async def test_asked_at_once_and_then_at_the_interval() -> None:
    house = House()
    house.watch.start()
    assert house.state.status == STARTING, "answered before anybody was asked"
    await house.settled(1)
    assert house.state.shown() == {"status": "healthy", "latency_ms": 0.0, "connection_pool": {"active": 1}}
    assert house.stored == [(UP, "database", 1.0), (LATENCY, "database", 0.0)]
    await house.clock.advance(14.9)
    assert house.asked == 1
    await house.clock.advance(0.2)
    await house.settled(2)
    await house.watch.close()


async def test_a_change_is_remembered_since_it_began() -> None:
    house = House()
    house.watch.start()
    await house.settled(1)
    first = house.state.since
    house.finding = Finding(UNHEALTHY, "gone")
    await house.clock.advance(15)
    await house.settled(2)
    assert (house.state.status, house.state.reason, house.state.since) == (UNHEALTHY, "gone", first + 15 if first else None)
    await house.clock.advance(15)
    await house.settled(3)
    assert house.state.since == (first or 0) + 15, "still since then"
    assert house.stored[-2:] == [(UP, "database", 0.0), (LATENCY, "database", 0.0)]
    await house.watch.close()


async def test_one_that_hangs_is_unhealthy_and_delays_nobody() -> None:
    house = House(interval=100, timeout=100, checks={"gone": CheckSettings(kind="process", target="surely-no-such-process")})
    house.hold = asyncio.Event()
    house.watch.start()
    async with asyncio.timeout(20):
        while (other := house.watch.state("gone")) is None or other.status == STARTING:
            await asyncio.sleep(0.01)
        assert house.state.status == STARTING, "it is still being asked"
        while house.state.status != UNHEALTHY:
            await asyncio.sleep(0.01)
    assert house.state.reason == "no answer within 0.1s"
    await house.watch.close()


async def test_what_cannot_be_stored_is_counted_and_known_all_the_same() -> None:
    house = House()
    house.full = True
    house.watch.start()
    await house.settled(1)
    assert (house.state.status, house.watch.failures) == (HEALTHY, 1)
    await house.watch.close()


async def test_a_probe_that_raises_is_a_finding() -> None:
    house = House()

    async def broken() -> Finding:
        raise RuntimeError("a bug in a library")

    async def refused() -> Finding:
        raise LimitExceeded("not now")

    house.watch.start()
    await house.settled(1)
    await house.watch.ask("database", broken)
    assert (house.state.status, house.state.reason) == (UNHEALTHY, "RuntimeError")
    await house.watch.ask("database", refused)
    assert house.state.reason == "not now"
    await house.watch.close()


async def test_settings_change_while_it_watches() -> None:
    house = House(checks={"a": CheckSettings(kind="process", target="surely-no-such-process")})
    house.watch.start()
    await house.settled(1)
    kept = house.state
    house.watch.apply(HealthSettings(checks={"b": CheckSettings(kind="process", target="surely-no-such-process")}))
    assert [state.name for state in house.watch.states()] == ["database", "b"]
    assert house.state is kept
    assert house.watch.state("a") is None
    await house.watch.close()


def test_a_state_steps() -> None:
    state = step(State("x", "http"), Finding(DEGRADED, "slow"), at=10.0, latency_s=0.25)
    assert state == State("x", "http", DEGRADED, "slow", {}, 0.25, 10.0, 10.0)
    again = step(state, Finding(DEGRADED, "slower"), at=20.0, latency_s=0.5)
    assert (again.since, again.at, again.reason) == (10.0, 20.0, "slower")
    assert again.shown() == {"status": "degraded", "latency_ms": 500.0, "error": "slower"}
