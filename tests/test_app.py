"""The house's own order of things: what its rooms are told, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from vedette import warm
from vedette.app import House
from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.kernels import compiling
from vedette.plan import Plan
from vedette.settings import Settings, resolve


def _settings(data: Path) -> Settings:
    return resolve(environment={}, dotenv=None, flags={("storage", "data"): data})


class Kernels:
    """A `Warming` that notes what it is asked for."""

    cold = True

    def __init__(self, house: House, problem: Exception | None = None) -> None:
        self.house, self.problem, self.seen = house, problem, []  # type: ignore[var-annotated]

    def rest(self) -> list[Callable[[], None]]:
        def compile_them() -> None:
            self.seen.append(("rest", self.house._rooms.warm))
            if self.problem is not None:
                raise self.problem

        return [compile_them, compile_them]

    def finish(self) -> None:
        self.seen.append(("finish", self.house._rooms.warm))

    def progress(self) -> warm.Progress:
        return warm.Progress(3, 9, 12.3)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(_settings(tmp_path), clock=ManualClock(), read=lambda: _settings(tmp_path))


async def test_queries_are_answered_on_the_loop_once_their_kernels_are_compiled(house: House) -> None:
    kernels = Kernels(house)
    assert not house._rooms.warm
    await house._compile_rest(kernels)  # type: ignore[arg-type]
    assert kernels.seen == [("rest", False), ("rest", False), ("finish", False)] and house._rooms.warm


async def test_a_disk_that_keeps_no_kernels_holds_nobody_up(house: House) -> None:
    await house._compile_rest(Kernels(house, LimitExceeded("the disk is full")))  # type: ignore[arg-type]
    assert house._rooms.warm, "their first users compile them"


async def test_how_far_compiling_is_can_be_asked_at_any_time(house: House) -> None:
    rooms = house._rooms
    assert rooms.compiling() is None, "it has not begun"
    rooms.warming = Kernels(house)  # type: ignore[assignment]
    assert rooms.compiling() == (3, 9, 12.3)


async def test_a_first_start_says_what_it_waits_for_and_where_the_pages_are(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = house._rooms.clock, structlog.testing.CapturingLogger()
    assert isinstance(clock, ManualClock)
    monkeypatch.setattr("vedette.app.log", said)
    waiting = asyncio.create_task(house.explain_waiting([("127.0.0.1", 8009)]))
    await clock.advance(5)
    assert not said.calls, "nothing is compiled: it is ready in a moment"
    house._rooms.warming = Kernels(house)  # type: ignore[assignment]
    await clock.advance(1)
    assert [line.kwargs for line in said.calls] == [{"urls": ["http://127.0.0.1:8009/"], "compiled": "3 of 9, about 12 s to go"}]
    await clock.advance(9)
    assert len(said.calls) == 1, "not every second"
    await clock.advance(1)
    assert len(said.calls) == 2
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_start_that_fails_ends_what_it_had_compiled(house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))

    async def refused(plan: Plan) -> None:
        raise BadInput("no such port")

    monkeypatch.setattr(house, "_apply", refused)
    house.lock()
    with pytest.raises(BadInput):
        await house.start()
    assert list(scratch.iterdir()), "what it had begun with"
    assert compiling._Serving.now is house._rooms.compilers
    await house.close()
    assert not list(scratch.iterdir())
    assert house._rooms.compilers._ended and compiling._Serving.now is None, "the next server of this process has its own"
