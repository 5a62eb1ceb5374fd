"""What goes to the database and back, counted: connections made and closed, who waits for one, statements and how long they take.

Not here: the pool's own figures (`reaching.figures`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

C = TypeVar("C")

SLOW_S = 1.0
"""A statement that took longer counts as slow."""


@dataclass(slots=True)
class Traffic:
    """Counts since the start; `waiting`, `held` and `active` are now. A statement ends with its answer's first part, or fails."""

    created: int = 0
    closed: int = 0
    waiting: int = 0
    held: int = 0
    active: int = 0
    statements: int = 0
    slow: int = 0
    seconds: float = 0.0

    @property
    def average_ms(self) -> float | None:
        """Of all statements; None before the first."""
        return round(1000 * self.seconds / self.statements, 3) if self.statements else None

    def watch(self, pool: Any) -> None:
        """Count the connections that SQLAlchemy's `pool` makes and closes from now on."""
        from sqlalchemy import event

        event.listen(pool, "connect", self._connected)
        event.listen(pool, "close", self._closed)
        event.listen(pool, "close_detached", self._closed)

    @contextlib.asynccontextmanager
    async def through(self, turn: AbstractAsyncContextManager[object], connection: AbstractAsyncContextManager[C]) -> AsyncIterator[C]:
        """`connection`, taken at one's `turn`."""
        self.waiting += 1
        got = False
        try:
            async with turn, connection as found:
                self.waiting, self.held, got = self.waiting - 1, self.held + 1, True
                yield found
        finally:
            if got:
                self.held -= 1
            else:
                self.waiting -= 1

    @contextlib.contextmanager
    def statement(self) -> Iterator[None]:
        """Count a statement, from its beginning to its end or failure."""
        self.active += 1
        began = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self.active -= 1
            self.statements += 1
            self.seconds += took
            self.slow += took > SLOW_S

    def _connected(self, *_: Any) -> None:
        self.created += 1

    def _closed(self, *_: Any) -> None:
        self.closed += 1
