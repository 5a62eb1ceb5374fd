"""What is compiled ahead of use, in which order, how far it is, and that it ends when the server does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vedette import warm
from vedette.clock import ManualClock
from vedette.kernels.compiling import Compilers
from vedette.promql import parse

# On a new machine nothing is compiled yet.
pytestmark = pytest.mark.timeout(600)

LANES = ("ways_in", "queries", "pieces")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which steps were taken, in lanes whose steps do nothing else."""
    found: list[str] = []

    def lane(at: int) -> Callable[[], Iterator[warm.Step]]:
        def steps() -> Iterator[warm.Step]:
            for step in range(warm.STEPS[at]):
                name = f"{LANES[at]} {step}"
                yield name, lambda name=name: found.append(name)  # type: ignore[misc]

        return steps

    monkeypatch.setattr(warm, "LANES", [lane(at) for at in range(3)])
    return found


def counted(taken: list[str]) -> list[int]:
    """Of each lane how many steps."""
    return [sum(1 for name in taken if name.startswith(lane)) for lane in LANES]


def test_stops_between_steps_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(len(list(tmp_path.iterdir())))
        return len(asked) > 2

    warming = warm.Warming(Compilers(), ManualClock(), stopped)
    warming.writes()
    assert asked == [1, 1, 1] and warming.done == 2, "the storage it works on; two steps were taken"
    warming.finish()
    assert not list(tmp_path.iterdir())


def test_how_many_steps_there_are() -> None:
    """The bar of `vedette warmup` ends at its end, and each step whose time is known is one."""
    found = [[(name, step()) for name, step in lane()] for lane in warm.LANES]
    assert tuple(map(len, found)) == warm.STEPS
    names = [name for lane in found for name, _ in lane]
    assert set(warm.SECONDS) <= set(names) and len(set(names)) == len(names)
    assert names[warm.WRITES - 1] == "samples that came in"
    assert names[warm.WRITES : warm.FIRST[0]] == ["scrape", "answers", "first queries, from the last one on"]
    assert names[warm.STEPS[0] + warm.FIRST[1] - 1] == warm.FIRST_QUERIES[-1]


def test_every_query_is_one() -> None:
    """A query that fails would compile nothing, and nobody would see it."""
    for query in (*warm.FIRST_QUERIES, *warm.QUERIES, *warm.NATIVE_QUERIES, *warm.ROLLED_UP_QUERIES):
        parse.parse(query)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether all kernels are known to be kept, the newest last."""
    found = [False]
    monkeypatch.setattr(warm.kept, "all_kept", lambda _: found[-1])
    monkeypatch.setattr(warm.kept, "note", lambda _: found.append(True))
    return found


def test_where_all_may_be_kept_writes_come_first_and_all_else_when_the_server_is_open(taken: list[str], noted: list[bool]) -> None:
    warming = warm.Warming(Compilers(), ManualClock(), lambda: False)
    warming.writes()
    warming.asked()
    warming.answers()
    assert counted(taken) == [warm.WRITES, 0, 0]
    assert warming.progress() is None, "there is nothing to wait for"
    rest = warming.rest()
    assert len(rest) == 1
    rest[0]()
    assert counted(taken) == list(warm.STEPS)
    warming.finish()
    assert noted == [False, True], "now it is known"


def test_where_all_is_known_to_be_kept_only_what_queries_may_call_at_once_is_loaded(taken: list[str], noted: list[bool]) -> None:
    noted.append(True)
    warming = warm.Warming(Compilers(), ManualClock(), lambda: False)
    warming.writes()
    for call in warming.rest():
        call()
    assert counted(taken) == list(warm.LOADED)
    warming.finish()
    assert noted == [False, True]


def test_what_was_broken_off_is_not_all(taken: list[str], noted: list[bool]) -> None:
    warming = warm.Warming(Compilers(), ManualClock(), lambda: len(taken) > 5)
    warming.writes()
    for call in warming.rest():
        call()
    warming.finish()
    assert noted == [False] and 5 < len(taken) < sum(warm.STEPS)


async def test_a_new_machine_is_open_once_it_can_answer(taken: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "SECONDS", {"ways_in 0": 6.0, "queries 0": 4.0, "pieces 0": 10.0})
    compilers, clock = Compilers(), ManualClock()
    warming = warm.Warming(compilers, clock, lambda: False)
    asking = threading.Thread(target=warming.asked)
    asking.start()
    compilers.needed.set()
    asking.join()
    assert counted(taken) == [0, warm.FIRST[1], 0], "beside what writes need"
    assert warming.progress() == warm.Progress(warm.FIRST[1], sum(warm.STEPS), 8.0), "two cores"
    await clock.advance(5)
    warming.writes()
    warming.answers()
    assert counted(taken) == list(warm.FIRST)
    progress = warming.progress()
    assert progress == warm.Progress(sum(warm.FIRST), sum(warm.STEPS), 5.0), "the first half took as long"
    assert str(progress) == f"{sum(warm.FIRST)} of {sum(warm.STEPS)}, about 5 s to go"
    await clock.advance(2)
    assert warming.progress() == warm.Progress(sum(warm.FIRST), sum(warm.STEPS), 3.0), "none is done since, but time goes by"
    await clock.advance(20)
    assert warming.progress() == warm.Progress(sum(warm.FIRST), sum(warm.STEPS), 1.0), "it takes longer than was thought"
    for lane in warming.rest():
        lane()
    assert counted(taken) == list(warm.STEPS) and len(taken) == len(set(taken))
    warming.finish()
    assert warming.progress() is None


def test_before_anything_is_known_two_cores_are_supposed(taken: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "SECONDS", {"ways_in 0": 30.0})
    compilers = Compilers()
    compilers.needed.set()
    progress = warm.Warming(compilers, ManualClock(), lambda: False).progress()
    assert progress is not None and (progress.done, progress.left) == (0, 15.0)


def test_what_writes_need_and_cannot_have_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> Iterator[warm.Step]:
        def step() -> None:
            raise OSError("no space left on device")

        yield "remote write", step

    monkeypatch.setattr(warm, "LANES", [full, lambda: iter(()), lambda: iter(())])
    warming = warm.Warming(Compilers(), ManualClock(), lambda: False)
    with pytest.raises(OSError, match="no space"):
        warming.writes()
    warming.asked()


def test_all_at_once(taken: list[str]) -> None:
    for lane in warm.Warming(Compilers(), ManualClock(), lambda: False).all_at_once():
        lane()
    assert counted(taken) == list(warm.STEPS)


def test_the_end_waits_for_the_step_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that is broken off leaves its thread behind."""
    begun, go_on, ended = threading.Event(), threading.Event(), []

    def slow() -> Iterator[warm.Step]:
        def step() -> None:
            begun.set()
            assert go_on.wait(60)

        try:
            yield "remote write", step
            yield "storage", step
        finally:
            ended.append(True)

    monkeypatch.setattr(warm, "LANES", [slow])
    warming = warm.Warming(Compilers(), ManualClock(), lambda: False)
    writing = threading.Thread(target=warming.writes)
    writing.start()
    assert begun.wait(60)
    ending = threading.Thread(target=warming.finish)
    ending.start()
    go_on.set()
    writing.join()
    ending.join()
    assert ended == [True]
