"""The house's own order of things: what its rooms are told, and when."""

from __future__ import annotations

from pathlib import Path

from vedette.app import House
from vedette.clock import ManualClock
from vedette.errors import LimitExceeded
from vedette.settings import Settings, resolve


def _settings(data: Path) -> Settings:
    return resolve(environment={}, dotenv=None, flags={("storage", "data"): data})


async def test_queries_are_answered_on_the_loop_once_their_kernels_are_compiled(tmp_path: Path) -> None:
    house, seen = House(_settings(tmp_path), clock=ManualClock(), read=lambda: _settings(tmp_path)), []
    assert not house._rooms.warm
    await house._compile_rest(lambda: seen.append(house._rooms.warm))
    assert seen == [False] and house._rooms.warm


async def test_a_disk_that_keeps_no_kernels_holds_nobody_up(tmp_path: Path) -> None:
    def refused() -> None:
        raise LimitExceeded("the disk is full")

    house = House(_settings(tmp_path), clock=ManualClock(), read=lambda: _settings(tmp_path))
    await house._compile_rest(refused)
    assert house._rooms.warm, "their first users compile them"
