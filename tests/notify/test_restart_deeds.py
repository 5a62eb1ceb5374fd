"""Killed between every two steps of what people do: acknowledgements, silences and the history are as they were said to be."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.notify.test_restart import Process, Reaper

from vedette.clock import ManualClock
from vedette.errors import NotFound
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.notify.history import Question
from vedette.notify.silence import Silence

T0 = 1_700_000_000
FIRING = Alert(Labels.of(alertname="A", severity="warning"), T0 * 1000, (T0 + 9000) * 1000)
WORSE = dataclasses.replace(FIRING, labels=Labels.of(alertname="A", severity="critical"))
QUIET = Silence((Matcher("alertname", "=", "Q"),), 0, (T0 + 9000) * 1000, "me", "c", until_resolved=True)
ENDING = Alert(Labels.of(alertname="Q"), T0 * 1000, (T0 + 9000) * 1000)


@dataclass
class Life:
    """What came of it: what was answered with a yes before or after the restart, and what the last process found."""

    steps: list[str]
    died: bool = False
    done: list[str] = field(default_factory=list)
    acknowledged: bool = False
    silences: list[str] = field(default_factory=list)
    history: list[tuple[str, str]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


async def life(path: Path, kill_at: int) -> Life:
    """Alerts fire; one is acknowledged, another silenced; the first gets worse, the second resolves. Dies once, is started again."""
    clock, got = ManualClock(T0), []
    process = Process(path, clock, Reaper(kill_at), got)
    await process.start()
    found = Life(process.reaper.steps)

    async def deed(name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Do something until it was answered with a yes, as people do who got no answer."""
        nonlocal process
        for _ in range(2):
            if await process.alive(work()):
                for _ in range(2):
                    await clock.advance(2)
                    await process.quiet()
                if not process.reaper.dead.is_set():
                    found.done.append(name)
                    return
            found.died = True
            await process.end()
            process = Process(path, clock, Reaper(-1), got)
            await process.start()
        found.done.append(name)

    def noted() -> bool:
        return process.notifier.acknowledgements.of(FIRING.fingerprint, int(clock.now() * 1000)) is not None

    async def silence() -> None:
        if not process.notifier.silences.all():
            await process.notifier.silence(QUIET)

    await deed("fire", lambda: process.notifier.accept([FIRING, ENDING]))
    await deed("acknowledge", lambda: process.notifier.acknowledge(FIRING.fingerprint, author="Alice"))
    assert noted(), "what was answered with a yes holds"
    await deed("silence", silence)
    assert [s.state(int(clock.now() * 1000)) for s in process.notifier.silences.all()] == ["active"]
    await deed("again", lambda: process.notifier.accept([FIRING, ENDING]))
    assert noted(), "the same alert again does not end it"
    await deed("worse", lambda: process.notifier.accept([WORSE]))
    await deed("resolve", lambda: process.notifier.accept([dataclasses.replace(ENDING, ends_at=int(clock.now() * 1000))]))
    for _ in range(2):
        await clock.advance(10)
        await process.quiet()
    found.acknowledged = noted()
    found.silences = [s.state(int(clock.now() * 1000)) for s in process.notifier.silences.all()]
    rows = (await process.notifier.history.events(Question(since=0, until=1 << 62, limit=100))).rows
    assert len({r.seq for r in rows}) == len(rows)
    found.history = [(r.kind, r.alertname) for r in reversed(rows)]
    found.told = [status for status, _ in got]
    await process.end()
    return found


EXPECTED = [
    *[("firing", "A"), ("firing", "Q"), ("acknowledged", "A"), ("firing", "A"), ("unacknowledged", "A"), ("resolved", "Q")],
]


async def test_a_life_without_a_death(tmp_path: Path) -> None:
    whole = await life(tmp_path / "whole.db", -1)
    assert not whole.died
    assert whole.history == EXPECTED
    assert (whole.acknowledged, whole.silences) == (False, ["expired"])


async def test_killed_between_every_two_steps(tmp_path: Path) -> None:
    steps = (await life(tmp_path / "whole.db", -1)).steps
    assert len(steps) >= 20
    for kill_at in range(len(steps)):
        found = await life(tmp_path / f"{kill_at}.db", kill_at)
        assert found.died, kill_at
        assert found.done == ["fire", "acknowledge", "silence", "again", "worse", "resolve"]
        assert (found.acknowledged, found.silences) == (False, ["expired"]), (kill_at, steps[kill_at])
        # An acknowledgement whose answer got lost is made twice; every other step is noted once.
        once = [e for i, e in enumerate(found.history) if e[0] != "acknowledged" or e not in found.history[:i]]
        assert once == EXPECTED, (kill_at, steps[kill_at], found.history)


async def test_what_was_taken_back_stays_so(tmp_path: Path) -> None:
    clock = ManualClock(T0)
    process = Process(tmp_path / "v.db", clock, Reaper(-1), [])
    await process.start()
    await process.notifier.accept([FIRING])
    await process.notifier.acknowledge(FIRING.fingerprint, note="x")
    await process.notifier.unacknowledge(FIRING.fingerprint)
    await process.end()
    process = Process(tmp_path / "v.db", clock, Reaper(-1), [])
    await process.start()
    try:
        process.notifier.acknowledgements.get(FIRING.fingerprint)
    except NotFound as error:
        assert "not acknowledged" in str(error)
    else:
        raise AssertionError("it is acknowledged again")
    await process.end()


async def test_what_was_acknowledged_stays_so_with_who_said_what(tmp_path: Path) -> None:
    clock = ManualClock(T0)
    process = Process(tmp_path / "v.db", clock, Reaper(-1), [])
    await process.start()
    await process.notifier.accept([FIRING])
    said = await process.notifier.acknowledge(FIRING.fingerprint, author="Alice", note="I look at it")
    await process.end()
    process = Process(tmp_path / "v.db", clock, Reaper(-1), [])
    await process.start()
    found = process.notifier.acknowledgements.get(FIRING.fingerprint)
    assert (found.author, found.note, found.made_at, found.labels) == ("Alice", "I look at it", T0 * 1000, FIRING.labels)
    assert found == said
    await process.end()
