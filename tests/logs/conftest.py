"""A log store in a temporary directory, and lines to put in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from vedette.clock import ManualClock
from vedette.logs.settings import LogSettings
from vedette.logs.store import LogStore
from vedette.model.logs import LEVELS, LogBatch, LogBuilder

pytest.importorskip("duckdb", reason="duckdb is not installed: pip install 'vedette[logs]'")

SECOND = 10**9
NOW = 1_700_000_000 * SECOND


def lines(*messages: str, at: int = NOW, level: str = "info", service: str = "web", fields: dict[str, Any] | None = None) -> LogBatch:
    """Lines a second apart from each other, all alike but for the message."""
    builder = LogBuilder(max_bytes=1 << 20)
    for i, message in enumerate(messages):
        builder.add(at + i * SECOND, LEVELS.index(level), service, message, json.dumps(fields or {}).encode())
    return builder.build()


Opened = Callable[..., Any]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    """A function that opens the store (again); what is open at the end is closed."""
    stores: list[LogStore] = []

    async def open_(clock: ManualClock | None = None, **settings: Any) -> LogStore:
        store = LogStore(tmp_path / "logs", LogSettings(**settings), clock or ManualClock())
        await store.start()
        stores.append(store)
        return store

    yield open_
    for store in stores:
        await store.close()
