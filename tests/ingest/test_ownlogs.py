"""The server's own lines reach its log store, and a store that fails stops neither the server nor the later lines."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from vedette.clock import ManualClock
from vedette.errors import LimitExceeded
from vedette.ingest import ownlogs
from vedette.ingest.ownlogs import OwnLogs
from vedette.model.logs import LEVELS, LogBatch


class Store:
    """Keeps what it is given; `fault` is raised once where one is set."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str, dict[str, Any]]] = []
        self.fault: Exception | None = None

    async def append(self, tenant: str, batch: LogBatch) -> None:
        fault, self.fault = self.fault, None
        if fault is not None:
            raise fault
        assert tenant == "default"
        services = [batch.services[code] for code in batch.service_codes.tolist()]
        levels = [LEVELS[code] for code in batch.levels.tolist()]
        fields = map(orjson.loads, batch.fields.strings())
        self.lines += zip(services, levels, batch.messages.strings(), fields, strict=True)

    @property
    def messages(self) -> list[str]:
        return [message for _, _, message, _ in self.lines]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
async def own(store: Store) -> Any:
    clock = ManualClock()
    logs = OwnLogs(store.append, clock, tenant="default")
    logs.clock = clock  # type: ignore[attr-defined]
    logs.start()
    yield logs
    await logs.close()


def line(logs: OwnLogs, message: str, level: str = "info", **fields: Any) -> None:
    event = {"event": message, "level": level, "timestamp": "2026-01-01T00:00:00Z", **fields}
    assert logs.keep(None, level, event) is event, "the line goes on to stderr as it came"


async def test_a_line_is_stored_within_a_second_with_its_fields(own: Any, store: Store) -> None:
    line(own, "block written", series=7, took_s=0.25, ok=True, where=["a"], error=ValueError("odd"), _record=object())
    await own.clock.advance(1)
    assert store.lines == [
        ("vedette", "info", "block written", {"series": 7, "took_s": 0.25, "ok": True, "where": ["a"], "error": "odd"}),
    ]


async def test_what_is_logged_before_the_end_is_stored_by_closing(own: Any, store: Store) -> None:
    line(own, "the last words", "warning")
    await own.close()
    assert [(level, message) for _, level, message, _ in store.lines] == [("warn", "the last words")]
    await own.close()
    assert len(store.lines) == 1


@pytest.mark.parametrize("fault", [LimitExceeded("the disk is full"), KeyError("a fault of ours"), MemoryError()])
async def test_a_store_that_fails_loses_its_lines_and_no_later_ones(own: Any, store: Store, fault: Exception) -> None:
    store.fault = fault
    line(own, "lost here, and on stderr all the same")
    await own.clock.advance(1)
    line(own, "after it")
    await own.clock.advance(1)
    assert store.messages == ["after it"]


async def test_a_flood_is_bounded_and_keeps_the_newest(own: Any, store: Store) -> None:
    for number in range(ownlogs._MOST + 5):
        line(own, f"line {number}")
    await own.clock.advance(1)
    assert len(store.messages) == ownlogs._MOST
    assert (store.messages[0], store.messages[-1]) == ("line 5", f"line {ownlogs._MOST + 4}")


async def test_a_line_without_end_is_cut_and_its_fields_are_left_out(own: Any, store: Store) -> None:
    line(own, "x" * (ownlogs._MAX_LINE + 1), dump="y" * (ownlogs._MAX_LINE + 1))
    await own.clock.advance(1)
    ((_, _, message, fields),) = store.lines
    assert (len(message), fields) == (ownlogs._MAX_LINE, {})
