"""What is done again and again beside everything else, such as storing counts: one task, and no fault of one round ends the next ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from vedette.clock import Clock
from vedette.errors import VedetteError

_log = structlog.get_logger(__name__)


class Rounds:
    """`act` each `seconds()`, from `start` to `close`; rounds never overlap. `failures` counts those that raised, logged as `problem`."""

    def __init__(self, act: Callable[[], Awaitable[None]], clock: Clock, *, seconds: Callable[[], float], problem: str) -> None:
        self._act, self._clock, self._seconds, self._problem = act, clock, seconds, problem
        self._task: asyncio.Task[None] | None = None
        self.failures = 0

    @property
    def started(self) -> bool:
        """Whether `start` was called, and `close` since then not."""
        return self._task is not None

    def start(self) -> None:
        """Begin, the first round after the time between two; needs a running loop."""
        self._task = asyncio.create_task(self._run(), name=self._problem)

    async def close(self) -> None:
        """End, breaking off the round at work."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(self._seconds())
            try:
                await self._act()
            except VedetteError as error:
                self.failures += 1
                _log.warning(self._problem, reason=str(error))
            except Exception:  # noqa: BLE001 - the loop's edge: one fault must not stop all later rounds
                self.failures += 1
                _log.exception(self._problem)
