"""When a group is evaluated: every interval, at an offset of its own, so that groups spread over time and a restart
changes nothing.

Not here: what an evaluation does (`evaluation.py`).
"""

from __future__ import annotations

import asyncio
import zlib

import structlog

from vedette.clock import Clock, now_ms
from vedette.rules.evaluation import LiveGroup

log = structlog.get_logger(__name__)


def offset(file: str, name: str, interval_ms: int) -> int:
    """The group's place within its interval, in ms: the same on every start."""
    return zlib.crc32(f"{file};{name}".encode()) % interval_ms


def next_tick(now: int, interval_ms: int, place: int) -> int:
    """The first time after `now` that lies at `place` within an interval."""
    base = now - now % interval_ms + place
    return base if base > now else base + interval_ms


def following(at: int, now: int, interval_ms: int) -> tuple[int, int]:
    """After the evaluation of `at` ended at `now`: the next time, and how many in between were missed."""
    behind = max(1, (now - at) // interval_ms)
    return at + behind * interval_ms, behind - 1


class Ticker:
    """The loop of one group."""

    def __init__(self, live: LiveGroup, clock: Clock) -> None:
        self.live = live
        self._clock = clock
        self._evaluating = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self, *, at_once: bool = False) -> None:
        """Begin; the first evaluation is at the group's next place in its interval, with one more now where it is to be `at_once`."""
        self._task = asyncio.create_task(self._run(at_once=at_once), name=f"rules {self.live.group.name}")

    async def evaluate(self, at: int) -> None:
        """Evaluate now, as of `at` (ms), never beside the loop's own evaluation."""
        async with self._evaluating:
            await self.live.evaluate(at)

    async def _safely(self, at: int) -> None:
        try:
            await self.evaluate(at)
        except Exception:
            # The loop's edge: one evaluation that breaks must not end all later ones.
            self.live.failures += 1
            log.exception("group evaluation failed", group=self.live.group.name)

    async def _run(self, *, at_once: bool) -> None:
        group = self.live.group
        place = offset(group.file, group.name, group.interval_ms)
        at = next_tick(now_ms(self._clock), group.interval_ms, place)
        if at_once:
            await self._safely(now_ms(self._clock))
        while True:
            await self._clock.sleep((at - now_ms(self._clock)) / 1000)
            await self._safely(at)
            now = now_ms(self._clock)
            at, missed = following(at, now, group.interval_ms)
            self.live.missed += missed
            if at - now > group.interval_ms:  # the wall clock was set back
                at = next_tick(now, group.interval_ms, place)

    async def stop(self) -> None:
        """End the loop, after the evaluation that is under way."""
        if self._task is None:
            return
        async with self._evaluating:
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
