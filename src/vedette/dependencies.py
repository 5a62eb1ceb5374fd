"""What the server stands on, and how it fares: the samples' storage, the records, the log lines.

Readiness, health checks and the service APIs ask here. Not here: the components that the operator has watched (`health`).
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vedette.clock import Clock
from vedette.errors import LimitExceeded
from vedette.health.check import HEALTHY, UNHEALTHY, Finding, Probe, State
from vedette.health.settings import HealthSettings
from vedette.logs.store import LogStore
from vedette.settings import Settings
from vedette.storage.backends import Backend

if TYPE_CHECKING:
    from vedette.records.database import Records


@dataclass(slots=True)
class Dependencies:
    """`settings` gives those in force; `records` is None until they are open. `started` is in Unix seconds."""

    clock: Clock
    started: float
    settings: Callable[[], Settings]
    storage: Backend
    logs: LogStore | None
    records: Records | None = None

    def states(self, *, ready: bool) -> dict[str, str]:
        """Each by name, and what is wrong with it: `ok`, `starting` or a reason."""
        if not ready or self.records is None:
            return {"storage": self.storage.problem or "starting", "database": "starting"}
        logs = {"logs": self.logs.problem} if self.logs is not None and self.logs.problem else {}
        return {"storage": self.storage.problem or "ok", "database": self.records.problem or "ok", **logs}

    def probes(self, settings: HealthSettings) -> dict[str, Probe]:
        """What is watched without being configured: the records, unless the database of applications takes their place."""
        return {} if settings.database_url else {"database": self._records_health}

    def judged(self, states: Sequence[State]) -> list[State]:
        """What is watched, as it was last found; of the records also what went wrong since."""
        problem = self.records.problem if self.records is not None else ""
        own = set(self.probes(self.settings().vedette.health)) if problem else set()
        return [
            dataclasses.replace(state, status=UNHEALTHY, reason=problem, figures={}) if state.name in own else state for state in states
        ]

    async def reach_database(self) -> None:
        """Raises `LimitExceeded` while the database that `DATABASE_URL` names does not answer."""
        if self.records is not None and not isinstance(self.settings().records_place, Path):
            await self.records.ping()

    async def _records_health(self) -> Finding:
        if self.records is None:
            return Finding(UNHEALTHY, "not open yet")
        try:
            await self.records.ping()
        except LimitExceeded as error:
            return Finding(UNHEALTHY, str(error))
        pool = self.records.pool()
        figures: dict[str, Any] = {"connection_pool": {"active": pool.in_use, "idle": pool.idle, "max": pool.most}}
        if isinstance(self.settings().records_place, Path):
            # A part of this process: as old as it, and without a port.
            figures |= {"version": sqlite3.sqlite_version, "uptime_seconds": int(self.clock.now() - self.started)}
        return Finding(HEALTHY, "", figures)
