"""When groups are flushed: a plan by time, and the flushes under way. A group is never flushed twice at once.

Not here: what a flush does (`pipeline.py`), which groups there are (`notifier.py`).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable, Mapping

from vedette.notify.groups import AlertGroup, GroupKey

MAX_FLUSHES = 10_000
"""How many groups are flushed at once."""
CLOSE_S = 5.0


class Flushes:
    """The plan over `groups`, which their owner changes; `flush` is one flush of a group, begun at a time (Unix ms)."""

    def __init__(self, groups: Mapping[GroupKey, AlertGroup], flush: Callable[[AlertGroup, int], Awaitable[None]]) -> None:
        self._groups, self._flush = groups, flush
        self._due: list[tuple[int, int, GroupKey]] = []
        self._count = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self.paused = False
        """While it is, none begins."""

    def plan(self, key: GroupKey, group: AlertGroup) -> None:
        """Flush a group when its timing says; to be told again whenever that changes."""
        heapq.heappush(self._due, (group.timing.next_flush, next(self._count), key))

    def forget(self) -> None:
        """Let go of the plan: the groups are others now."""
        self._due.clear()

    def begin(self, now: int) -> None:
        """Begin the flush of each group that is due."""
        while self._due and self._due[0][0] <= now and not self.paused and len(self._tasks) < MAX_FLUSHES:
            when, _, key = heapq.heappop(self._due)
            group = self._groups.get(key)
            # A plan that was overtaken by another; a group that is being flushed is planned anew when that ends.
            if group is None or group.flushing or group.timing.next_flush != when:
                continue
            group.timing = group.timing.after_flush(group.route, now)
            group.flushing = True
            task = asyncio.create_task(self._one(key, group, now), name=f"flush {group.key}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, key: GroupKey, group: AlertGroup, now: int) -> None:
        try:
            await self._flush(group, now)
        finally:
            group.flushing = False
            if self._groups.get(key) is group:
                self.plan(key, group)

    def next(self) -> int | None:
        """When the next one is due, or a moment before; None for never."""
        return self._due[0][0] if self._due and not self.paused else None

    async def settled(self) -> None:
        """Return once no flush is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def end(self) -> None:
        """Let flushes under way end, for a few seconds; what was cut off is told again by the next flush."""
        if not self._tasks:
            return
        _, pending = await asyncio.wait(self._tasks, timeout=CLOSE_S)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
