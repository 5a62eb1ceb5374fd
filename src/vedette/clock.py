"""Time as an argument: nothing below `app.py` asks the operating system what time it is.

`Clock` is what loops and state machines take; `SystemClock` is the real one, `ManualClock` one that
a test or a backtest owns.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from typing import Protocol


class Clock(Protocol):
    """Where a component gets its time from."""

    def now(self) -> float:
        """Unix time in seconds, as the wall clock shows it (it may jump)."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return once at least `seconds` have gone by; at once (after one turn of the loop) for <= 0."""
        ...


def now_ms(clock: Clock) -> int:
    """Unix time in whole milliseconds: the unit of every stored timestamp."""
    return int(clock.now() * 1000)


class SystemClock:
    """The operating system's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class ManualClock:
    """A clock that stands still until `advance` moves it, waking sleepers in order of their time."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), wake))
        await wake

    async def advance(self, seconds: float, *, turns: int = 20) -> None:
        """Move time on, stopping at each sleeper that falls due so that it sees its own time.

        After each stop the event loop is given `turns` turns, for woken tasks to run until they sleep again.
        """
        target = self._now + seconds
        await self._settle(turns)
        while self._sleepers and self._sleepers[0][0] <= target:
            when, _, wake = heapq.heappop(self._sleepers)
            self._now = max(self._now, when)
            if not wake.done():
                wake.set_result(None)
            await self._settle(turns)
        self._now = target
        await self._settle(turns)

    @staticmethod
    async def _settle(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
