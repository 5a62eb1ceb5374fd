"""What goes to the database and back, counted: connections made and closed, who waits for one, statements and how long they take.

Not here: the pool's own figures (`reaching.figures`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from vedette.records.engine import AsyncConnection, AsyncEngine

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

    def watch(self, engine: AsyncEngine) -> None:
        """Count what this engine does from now on."""
        pool, inner = engine.sync_engine.pool, engine.sync_engine
        sa.event.listen(pool, "connect", self._connected)
        sa.event.listen(pool, "close", self._closed)
        sa.event.listen(pool, "close_detached", self._closed)
        sa.event.listen(inner, "before_cursor_execute", self._begun)
        sa.event.listen(inner, "after_cursor_execute", self._ended)
        sa.event.listen(inner, "handle_error", self._failed)

    @contextlib.asynccontextmanager
    async def through(
        self, turn: AbstractAsyncContextManager[object], connection: AbstractAsyncContextManager[AsyncConnection]
    ) -> AsyncIterator[AsyncConnection]:
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

    def _connected(self, *_: Any) -> None:
        self.created += 1

    def _closed(self, *_: Any) -> None:
        self.closed += 1

    def _begun(self, _connection: Any, _cursor: Any, _statement: Any, _parameters: Any, context: Any, _many: Any) -> None:
        self.active += 1
        context.vedette_began = time.perf_counter()

    def _ended(self, _connection: Any, _cursor: Any, _statement: Any, _parameters: Any, context: Any, _many: Any) -> None:
        self._took(context)

    def _failed(self, failure: Any) -> None:
        context = failure.execution_context
        if getattr(context, "vedette_began", None) is not None:
            self._took(context)

    def _took(self, context: Any) -> None:
        took, context.vedette_began = time.perf_counter() - context.vedette_began, None
        self.active -= 1
        self.statements += 1
        self.seconds += took
        self.slow += took > SLOW_S
