"""What is done again and again goes on, whatever one round came to."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from vedette.clock import ManualClock
from vedette.errors import LimitExceeded
from vedette.ingest.rounds import Rounds


class Work:
    """Counts its rounds; raises what stands in `faults` for the round it is at."""

    def __init__(self) -> None:
        self.done: list[float] = []
        self.faults: dict[int, Exception] = {}
        self.clock = ManualClock(0.0)

    async def __call__(self) -> None:
        self.done.append(self.clock.now())
        if (fault := self.faults.get(len(self.done))) is not None:
            raise fault


@pytest.fixture
def work() -> Work:
    return Work()


async def test_a_round_each_so_many_seconds_and_none_before(work: Work) -> None:
    rounds = Rounds(work, work.clock, seconds=lambda: 15.0, problem="x")
    assert not rounds.started
    rounds.start()
    await work.clock.advance(14.9)
    assert work.done == [] and rounds.started
    await work.clock.advance(30.2)
    assert work.done == [15.0, 30.0, 45.0]
    await rounds.close()
    await work.clock.advance(60)
    assert len(work.done) == 3 and not rounds.started and rounds.failures == 0


@pytest.mark.parametrize(
    ("fault", "level"),
    [(LimitExceeded("the disk is full"), "warning"), (KeyError("a fault of ours"), "error"), (ZeroDivisionError(), "error")],
)
async def test_a_round_that_fails_is_told_and_counted_and_the_next_comes(work: Work, fault: Exception, level: str) -> None:
    work.faults[1] = fault
    rounds = Rounds(work, work.clock, seconds=lambda: 1.0, problem="counts are not stored")
    with capture_logs() as logs:
        rounds.start()
        await work.clock.advance(3)
    assert work.done == [1.0, 2.0, 3.0]
    assert rounds.failures == 1
    assert [(line["event"], line["log_level"]) for line in logs] == [("counts are not stored", level)]
    await rounds.close()


async def test_closing_breaks_off_the_round_at_work(work: Work) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    rounds = Rounds(endless, work.clock, seconds=lambda: 1.0, problem="x")
    rounds.start()
    await work.clock.advance(1)
    assert begun.is_set()
    await rounds.close()
    assert ended.is_set() and rounds.failures == 0


@pytest.mark.parametrize("closings", [1, 2])
async def test_closing_what_never_began_or_twice_is_nothing(work: Work, closings: int) -> None:
    rounds = Rounds(work, work.clock, seconds=lambda: 1.0, problem="x")
    for _ in range(closings):
        await rounds.close()
    rounds.start()
    await work.clock.advance(1)
    for _ in range(closings):
        await rounds.close()
    assert work.done == [1.0]


async def test_rounds_begin_again_after_a_close(work: Work) -> None:
    rounds = Rounds(work, work.clock, seconds=lambda: 1.0, problem="x")
    for _ in range(2):
        rounds.start()
        await work.clock.advance(1)
        await rounds.close()
    assert work.done == [1.0, 2.0]
