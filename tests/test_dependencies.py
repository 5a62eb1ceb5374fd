"""What the server stands on: how it fares before the start, while all is well, and when something breaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vedette.clock import ManualClock
from vedette.dependencies import Dependencies
from vedette.errors import LimitExceeded
from vedette.health.check import HEALTHY, UNHEALTHY, State
from vedette.health.settings import HealthSettings
from vedette.records.database import Records
from vedette.settings import resolve

T0 = 1_700_000_000.0


@dataclass
class Part:
    """Storage or log store, of which only this is asked."""

    problem: str = ""


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[Records]:
    opened = await Records.open(tmp_path / "vedette.db")
    yield opened
    await opened.close()


@pytest.fixture
def stood_on(tmp_path: Path) -> Dependencies:
    settings = resolve(environment={}, dotenv=None, flags={("storage", "data"): tmp_path})
    clock: Any = ManualClock(T0 + 90)
    storage: Any = Part()
    return Dependencies(clock, T0, lambda: settings, storage, None)


async def test_until_it_is_ready_all_is_starting_but_for_what_is_wrong(stood_on: Dependencies, records: Records) -> None:
    assert stood_on.states(ready=False) == {"storage": "starting", "database": "starting"}
    stood_on.storage.problem = "the disk is full"  # type: ignore[misc]
    assert stood_on.states(ready=False) == {"storage": "the disk is full", "database": "starting"}
    stood_on.records = records
    assert stood_on.states(ready=False)["database"] == "starting", "open, and not all of the server's state restored"


async def test_each_says_what_is_wrong_with_it(stood_on: Dependencies, records: Records) -> None:
    logs: Any = Part()
    stood_on.records, stood_on.logs = records, logs
    assert stood_on.states(ready=True) == {"storage": "ok", "database": "ok"}
    logs.problem = "the log of lines cannot be written"
    records.problem = "the database does not answer"
    assert stood_on.states(ready=True) == {"storage": "ok", "database": records.problem, "logs": logs.problem}


async def test_the_records_are_watched_and_tell_of_their_connections(stood_on: Dependencies, records: Records) -> None:
    probe = stood_on.probes(HealthSettings())["database"]
    assert await probe() == (await probe()), "asking changes nothing"
    assert (await probe()).status == UNHEALTHY, "not open yet"
    stood_on.records = records
    found = await probe()
    assert found.status == HEALTHY
    assert found.figures["uptime_seconds"] == 90
    assert found.figures["connection_pool"]["max"] >= found.figures["connection_pool"]["active"] >= 0

    async def broken() -> float:
        raise LimitExceeded("the disk is full")

    records.ping = broken  # type: ignore[method-assign]
    gone = await probe()
    assert (gone.status, gone.reason, gone.figures) == (UNHEALTHY, "the disk is full", {})


def test_the_applications_database_takes_the_place_of_the_records(stood_on: Dependencies) -> None:
    assert stood_on.probes(HealthSettings(database_url="postgresql://localhost/x")) == {}


async def test_a_write_that_failed_since_shows_though_the_last_probe_was_well(stood_on: Dependencies, records: Records) -> None:
    states = [State("database", "own", HEALTHY, figures={"version": "3"}), State("cache", "redis", HEALTHY)]
    stood_on.records = records
    assert stood_on.judged(states) == states
    records.problem = "the disk is full"
    database, cache = stood_on.judged(states)
    assert (database.status, database.reason, database.figures) == (UNHEALTHY, "the disk is full", {})
    assert cache == states[1]


async def test_a_file_of_our_own_is_no_database_to_be_reached(stood_on: Dependencies, records: Records) -> None:
    async def never() -> float:
        raise LimitExceeded("asked")

    stood_on.records = records
    records.ping = never  # type: ignore[method-assign]
    await stood_on.reach_database()
    url = resolve(environment={"DATABASE_URL": "postgresql://localhost/x"}, dotenv=None)
    stood_on.settings = lambda: url
    with pytest.raises(LimitExceeded, match="asked"):
        await stood_on.reach_database()
