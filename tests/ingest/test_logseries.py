"""Counts of log lines as series: from 0, each tenant's among its own, and none lost to a storage that refuses for a while."""

from __future__ import annotations

import asyncio
from typing import Any

from vedette.clock import ManualClock
from vedette.errors import LimitExceeded
from vedette.ingest.logseries import METRIC, LogSeries
from vedette.model.samples import SampleBatch

T0 = 1_700_000_000_000


class World:
    """A log store's counts, and the samples that were stored: (tenant, series) to [(ms after the start, value)]."""

    def __init__(self) -> None:
        self.clock = ManualClock(T0 / 1000)
        self.counts: dict[str, dict[tuple[str, str], int]] = {}
        self.stored: dict[tuple[str, str], list[tuple[int, float]]] = {}
        self.full = 0
        self.series = LogSeries(lambda: self.counts, self.append, self.clock, interval_ms=15_000)

    async def append(self, batch: SampleBatch) -> Any:
        if self.full:
            self.full -= 1
            raise LimitExceeded("the disk is full")
        for i in range(batch.series_count):
            labels = batch.keyspace.resolve(bytes(batch.buffer[batch.key_start[i] : batch.key_end[i]]))
            assert labels is not None
            assert labels.get("__name__") == METRIC
            key = (batch.keyspace.tenant, f"{labels.get('service', '-')}/{labels.get('level')}")
            self.stored.setdefault(key, []).append((int(batch.timestamps[i]) - T0, float(batch.values[i])))


async def test_a_counter_begins_at_0_so_that_its_first_lines_are_an_increase() -> None:
    world = World()
    world.counts["acme"] = {("web", "error"): 3, ("", "info"): 1}
    world.counts["other"] = {("web", "error"): 7}
    await world.series.store()
    assert world.stored == {
        ("acme", "web/error"): [(-1, 0.0), (0, 3.0)],
        ("acme", "-/info"): [(-1, 0.0), (0, 1.0)],
        ("other", "web/error"): [(-1, 0.0), (0, 7.0)],
    }
    await world.clock.advance(15)
    world.counts["acme"] = {("web", "error"): 5, ("", "info"): 1, ("db", "warning"): 2}
    await world.series.store()
    assert world.stored["acme", "web/error"][2:] == [(15_000, 5.0)], "known ones begin once"
    assert world.stored["acme", "db/warning"] == [(14_999, 0.0), (15_000, 2.0)]


async def test_what_is_refused_is_part_of_the_next() -> None:
    world = World()
    world.counts["acme"] = {("web", "error"): 3}
    for refusal in (1, 2):
        world.full = 1
        await world.series.store()
        assert (world.stored, world.series.failures) == ({}, refusal)
    await world.series.store()
    assert world.stored["acme", "web/error"] == [(-1, 0.0), (0, 3.0)], "it still begins at 0"


async def test_a_tenant_that_is_refused_holds_no_other_up() -> None:
    world = World()
    world.counts |= {"acme": {("web", "error"): 3}, "other": {("web", "error"): 7}}
    world.full = 1
    await world.series.store()
    assert [*world.stored] == [("other", "web/error")]


async def test_it_stores_each_interval_and_once_more_at_the_end() -> None:
    world = World()
    world.counts["acme"] = {("web", "error"): 3}
    world.series.start()
    await asyncio.sleep(0)
    await world.clock.advance(15)
    assert world.stored["acme", "web/error"][-1] == (15_000, 3.0)
    world.counts["acme"] = {("web", "error"): 4}
    await world.clock.advance(1)
    await world.series.close()
    assert world.stored["acme", "web/error"][-1] == (16_000, 4.0), "what came last counts"
    await world.series.close()
    assert len(world.stored["acme", "web/error"]) == 3


async def test_where_nothing_began_nothing_is_stored_at_the_end() -> None:
    world = World()
    world.counts["acme"] = {("web", "error"): 3}
    await world.series.close()
    assert world.stored == {}
