"""Gives memory back once some megabytes of it have become free.

What a burst of writes or a large query has freed lies between what is held, where the C library does not give it back by itself: 24 MB
after 6 million samples were taken in. To look costs microseconds and to give back a few milliseconds, on a thread. Not here: how
(`heap.py`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from vedette.clock import Clock
from vedette.storage import heap

EVERY_S = 2.0
"""How often it is looked."""
CODE_EVERY_S, _CODE_MOST_S = 30.0, 3600.0
"""How often code is let go of, first and in the long run: what is in use comes back, and to look through what is mapped takes 20 ms."""
_GROWN = 4 << 20
_STATM = Path("/proc/self/statm")


class Resident(NamedTuple):
    """What is in memory, in bytes: the process' own, and of files, which libraries are."""

    own: int
    files: int


def resident(statm: Path = _STATM) -> Resident | None:
    """What is in memory now; None where the system does not tell in this way."""
    try:
        _, everything, files = map(int, statm.read_text("ascii").split()[:3])
    except (OSError, ValueError):
        return None
    page = os.sysconf("SC_PAGE_SIZE")
    return Resident((everything - files) * page, files * page)


class Upkeep:
    """See above. `run` runs a call on a thread."""

    def __init__(self, clock: Clock, run: Callable[[Callable[[], object]], Awaitable[object]]) -> None:
        self._clock = clock
        self._run = run
        self._free = 0
        self._left = Resident(0, 0)
        """What was free, and what was left in memory, the last time."""
        self._code_every_s = CODE_EVERY_S
        self._code_at = clock.monotonic() + CODE_EVERY_S
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._watch(), name="memory upkeep")

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Give back what has become free, and let go of code, if there may be some megabytes of it."""
        free, now = heap.free(), resident()
        if free is None or now is None:
            return
        own, files = min(now.own, self._left.own), min(now.files, self._left.files)
        # What was given back counts as free until it is used again, and then as the process' own until it is given back again.
        if free > _GROWN and (free > self._free + _GROWN or now.own > own + _GROWN):
            await self._run(heap.give_back)
            free, own = heap.free() or 0, (resident() or now).own
        self._free = free
        if now.files > files + _GROWN and self._clock.monotonic() >= self._code_at:
            await self._run(heap.let_code_go)
            files = (resident() or now).files
            # What is in use comes back each time.
            self._code_every_s = min(2 * self._code_every_s, _CODE_MOST_S)
            self._code_at = self._clock.monotonic() + self._code_every_s
        self._left = Resident(own, files)
