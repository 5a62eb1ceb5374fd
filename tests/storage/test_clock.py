"""What a machine's wrong clock does: samples of a future are stored, and once it is right the present is, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from vedette.clock import ManualClock
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import SampleBatch, canonical
from vedette.storage.engine import Engine
from vedette.storage.postgres.engine import Postgres
from vedette.storage.settings import StorageSettings

NOW = 1_700_000_000
YEAR = 365 * 86_400
SPACE = canonical("default")


class Wall(ManualClock):
    """A clock whose `now` is off by as much as a test says; what it measures is not."""

    off = 0.0

    def now(self) -> float:
        return super().now() + self.off

    def set(self, now: float) -> None:
        """Have it be that late."""
        self.off += now - self.now()


class Machine:
    """A store, and a clock that may be wrong."""

    def __init__(self, settings: StorageSettings) -> None:
        self.settings = settings
        self.clock = Wall(NOW)
        self.engine = self._made()

    def _made(self) -> Engine | Postgres:
        return Postgres(self.settings, self.clock) if self.settings.backend == "postgres" else Engine(self.settings, self.clock)

    async def start(self) -> None:
        self.engine = self._made()
        self.engine.lock()
        await self.engine.start()

    async def put(self, ago: float = 0, *, value: float = 1.0, metric: str = "a") -> dict[str, int]:
        """Store a sample of `ago` seconds before what the clock says; what was dropped, by reason."""
        batch = SampleBatch.of(SPACE, [Labels.of(__name__=metric)], [int((self.clock.now() - ago) * 1000)], [value])
        return dict((await self.engine.append(batch)).dropped)

    async def times(self, metric: str = "a") -> list[int]:
        """The times stored of a series, in seconds from `NOW` on."""
        found = await asyncio.to_thread(self.engine.select, "default", [Matcher("__name__", "=", metric)], 0, 1 << 62)
        return [t // 1000 - NOW for t in found.timestamps.tolist()]


@pytest.fixture(params=["embedded", "postgres"])
async def machine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Machine]:
    settings = StorageSettings(data=tmp_path / "data")
    if request.param == "postgres":
        settings = replace(settings, backend="postgres", url=request.getfixturevalue("postgres_url"))
    made = Machine(settings)
    await made.start()
    yield made
    await made.engine.close()


async def test_a_clock_that_was_set_back_leaves_no_series_deaf(machine: Machine) -> None:
    """Prometheus' series take nothing then until the future has come."""
    machine.clock.set(NOW + YEAR)
    assert await machine.put() == {}
    machine.clock.set(NOW)
    for _ in range(3):
        assert await machine.put() == {}
        await machine.clock.advance(15)
    assert await machine.times() == [0, 15, 30, YEAR]
    assert await machine.put(15, value=2.0) == {"duplicate": 1}, "what stands at a time stays"


@pytest.mark.parametrize(
    ("machine", "way"),
    [("embedded", "flush"), ("embedded", "restart"), ("embedded", "flush and restart"), ("postgres", "restart")],
    indirect=["machine"],
)
async def test_neither_does_one_that_is_set_right_later(machine: Machine, way: str) -> None:
    machine.clock.set(NOW + YEAR)
    await machine.put()
    if "flush" in way:
        assert not isinstance(machine.engine, Postgres), "only the embedded engine has anything to flush"
        await machine.engine.flush()
    if "restart" in way:
        await machine.engine.close()
        await machine.start()
    machine.clock.set(NOW)
    assert await machine.put() == {}
    assert await machine.times() == [0, YEAR]


async def test_where_the_clock_is_right_the_window_is_what_it_was(machine: Machine) -> None:
    await machine.put(-600)  # a sender's clock that is ahead by as much as one may be
    assert await machine.put(2999) == {}
    assert await machine.put(3001) == {"too_old": 1}


async def test_once_the_future_has_come_the_window_is_what_it_was(machine: Machine) -> None:
    machine.clock.set(NOW + 86_400)
    await machine.put()
    machine.clock.set(NOW)
    assert await machine.put(3600) == {}
    assert await machine.put(3601) == {"too_old": 1}, "it reaches as far into the past as ever"
    machine.clock.set(NOW + 86_400)
    assert await machine.put(3601) == {"too_old": 1}


async def test_what_is_late_after_a_restart_is_judged_by_the_clock_that_is_right(machine: Machine) -> None:
    machine.clock.set(NOW + YEAR)
    await machine.put()
    await machine.engine.close()
    await machine.start()
    machine.clock.set(NOW)
    assert await machine.put(3300) == {}, "the first to be asked for: only the store knows of the future"
    assert await machine.put() == {}
    assert await machine.put(3601) == {"too_old": 1}
    assert await machine.times() == [-3300, 0, YEAR]
