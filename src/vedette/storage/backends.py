"""The backend that the settings name. Not here: what each does (`engine.py`, `postgres/`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from vedette.clock import Clock
from vedette.errors import BadInput
from vedette.storage.interface import Matchers, Storage
from vedette.storage.limits import Limits
from vedette.storage.remote.settings import NOWHERE, RemoteSettings
from vedette.storage.retention import RetentionRule
from vedette.storage.settings import StorageSettings


class Backend(Storage, Protocol):
    """A storage as the server runs it: `lock` before anything is touched, then `start`."""

    limits: Limits

    def lock(self) -> None:
        """Take the data directory. Raises `BadInput` where another process has it."""
        ...

    async def start(self) -> None:
        """Begin to take appends. Raises `BadInput` where that cannot be."""
        ...

    @property
    def problem(self) -> str:
        """Why nothing can be written now, empty where it can."""
        ...

    def counters(self) -> dict[str, int]:
        """Counts since the start, by name."""
        ...

    def tenant_series(self) -> dict[str, int]:
        """How many series each tenant has."""
        ...

    async def delete(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> None:
        """Delete what is stored now of the series that pass any of `sets`, within [start, end] (ms)."""
        ...

    async def compact(self, *, clean: bool = False) -> None:
        """Merge what is due; `clean` frees the room of all that was deleted."""
        ...

    async def snapshot(self, *, skip_head: bool = False, beside: Callable[[Path], None] | None = None) -> str:
        """Take a snapshot; answers its name. `beside` puts what else belongs into it."""
        ...


def open_backend(
    settings: StorageSettings, clock: Clock, *, retention: Sequence[RetentionRule], limits: Limits, remote: RemoteSettings = NOWHERE
) -> Backend:
    """The backend, not yet started. Raises `BadInput` for settings that do not go together."""
    if settings.backend != "embedded" and (settings.start_timestamps or settings.start_zeros):
        name = "start_timestamps" if settings.start_timestamps else "start_zeros"
        raise BadInput(f"the backend {settings.backend} keeps no start timestamps", where=f"storage.{name}")
    if settings.backend == "remote":
        from vedette.storage.remote.engine import Remote

        return Remote(settings, remote, clock, limits=limits)
    if remote.url:
        raise BadInput(f"the backend {settings.backend} has no use for it", where="remote.url", hint="set storage.backend to remote")
    if settings.backend == "postgres":
        from vedette.storage.postgres.engine import Postgres

        return Postgres(settings, clock, limits=limits)
    if settings.url:
        raise BadInput("the embedded engine has no use for it", where="storage.url", hint="set storage.backend to postgres")
    from vedette.storage.engine import Engine

    return Engine(settings, clock, retention=retention, limits=limits)
