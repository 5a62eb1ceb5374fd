"""Memory that has become free goes back, once it is worth it; code that is not needed any more, ever more seldom."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vedette.clock import ManualClock
from vedette.storage import heap, upkeep
from vedette.storage.upkeep import CODE_EVERY_S, EVERY_S, Resident, Upkeep, resident

MIB = 1 << 20


class System:
    """Stands in for the C library and the system: what is free, what is resident, and what was done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free: int | None = 0
        self.own = self.files = 0
        self.tells = True
        self.left = self.left_own = 0
        self.done: list[str] = []
        monkeypatch.setattr(heap, "free", lambda: self.free)
        monkeypatch.setattr(upkeep, "resident", lambda: Resident(self.own, self.files) if self.tells else None)
        monkeypatch.setattr(heap, "give_back", self._give_back)
        monkeypatch.setattr(heap, "let_code_go", self._let_code_go)

    def _give_back(self) -> None:
        self.done.append("memory")
        self.own = self.left_own

    def _let_code_go(self) -> None:
        self.done.append("code")
        self.files = self.left


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    return System(monkeypatch)


async def at_once(call: Callable[[], object]) -> object:
    return call()


async def test_what_has_become_free_is_given_back_once(system: System) -> None:
    keeping = Upkeep(ManualClock(), at_once)
    system.free = 3 * MIB
    await keeping.look()
    assert system.done == [], "a few megabytes are used again soon"
    system.free = 20 * MIB
    await keeping.look()
    await keeping.look()
    assert system.done == ["memory"], "what was given back still counts as free"
    system.free = 23 * MIB
    await keeping.look()
    assert system.done == ["memory"]
    system.free = 28 * MIB
    await keeping.look()
    assert system.done == ["memory", "memory"]


async def test_what_was_used_again_and_is_free_again_goes_back_again(system: System) -> None:
    keeping = Upkeep(ManualClock(), at_once)
    for free in (30, 5, 30):
        system.free = free * MIB
        await keeping.look()
    assert system.done == ["memory", "memory"]


async def test_what_was_used_in_between_goes_back_though_no_more_is_free(system: System) -> None:
    keeping = Upkeep(ManualClock(), at_once)
    system.free, system.own, system.left_own = 30 * MIB, 200 * MIB, 170 * MIB
    await keeping.look()
    await keeping.look()
    assert system.done == ["memory"]
    system.own = 173 * MIB
    await keeping.look()
    assert system.done == ["memory"], "a little more than was left"
    system.own = 180 * MIB
    await keeping.look()
    assert system.done == ["memory", "memory"]


async def test_what_is_held_is_not_looked_through_again_and_again(system: System) -> None:
    keeping = Upkeep(ManualClock(), at_once)
    system.free = 2 * MIB
    for system.own in (100 * MIB, 200 * MIB, 300 * MIB):
        await keeping.look()
    assert system.done == [], "nothing of it is free"


async def test_code_goes_ever_more_seldom(system: System) -> None:
    clock = ManualClock()
    keeping = Upkeep(clock, at_once)
    system.files, system.left = 90 * MIB, 10 * MIB
    await keeping.look()
    assert system.done == [], "at the start it is still needed"
    went = []
    for second in range(0, 400, 10):
        await clock.advance(10)
        system.files = 20 * MIB
        await keeping.look()
        if system.done:
            went.append(second + 10)
            system.done.clear()
    assert went == [CODE_EVERY_S, 3 * CODE_EVERY_S, 7 * CODE_EVERY_S]


async def test_code_that_nothing_was_added_to_stays(system: System) -> None:
    clock = ManualClock()
    keeping = Upkeep(clock, at_once)
    system.files, system.left = 90 * MIB, 10 * MIB
    await clock.advance(CODE_EVERY_S)
    await keeping.look()
    assert system.done == ["code"]
    await clock.advance(10 * CODE_EVERY_S)
    system.files = 13 * MIB
    await keeping.look()
    assert system.done == ["code"]


async def test_where_the_system_tells_nothing_nothing_is_done(system: System) -> None:
    clock = ManualClock()
    keeping = Upkeep(clock, at_once)
    await clock.advance(10 * CODE_EVERY_S)
    system.own = system.files = 100 * MIB
    for system.free, system.tells in ((None, True), (100 * MIB, False)):
        await keeping.look()
        assert system.done == []


async def test_it_looks_every_few_seconds_until_it_is_closed(system: System) -> None:
    clock = ManualClock()
    keeping = Upkeep(clock, at_once)
    await keeping.close()
    keeping.start()
    system.free = 10 * MIB
    await clock.advance(EVERY_S / 2)
    assert system.done == []
    await clock.advance(EVERY_S)
    assert system.done == ["memory"]
    await keeping.close()
    system.free = 100 * MIB
    await clock.advance(10 * EVERY_S)
    assert system.done == ["memory"]


@pytest.mark.skipif(heap.free() is None, reason="the C library is not glibc from 2.33 on")
async def test_what_lies_free_between_what_is_held_is_told_and_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[bool] = []
    give_back = heap.give_back
    monkeypatch.setattr(heap, "give_back", lambda: (gone.append(True), give_back()))
    keeping = Upkeep(ManualClock(), at_once)
    held = [bytearray(b"x" * 60_000) for _ in range(500)]
    await keeping.look()
    gone.clear()
    before = heap.free()
    kept = held[::10]
    held.clear()
    after = heap.free()
    assert before is not None and after is not None and after > before + 20 * MIB
    await keeping.look()
    assert gone == [True] and all(piece == b"x" * 60_000 for piece in kept)


def test_what_is_resident_of_files_is_read_or_not_known(tmp_path: Path) -> None:
    told = tmp_path / "statm"
    assert resident(told) is None
    told.write_text("1000 500 25 1 0 300 0\n")
    one = resident(told)
    assert one is not None and one.own == 19 * one.files and one.files >= 25 * 4096
    for broken in ("", "1000 500", "a b c"):
        told.write_text(broken)
        assert resident(told) is None
    if sys.platform == "linux":
        now = resident()
        assert now is not None and min(now) > MIB
