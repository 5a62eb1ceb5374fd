"""Series that are gone leave memory, come back when they are needed, and nobody notices either."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest

from vedette.model.matchers import Matcher
from vedette.model.samples import STALE, SampleBatch, canonical, is_stale
from vedette.storage import forgetting

EVER = (-(1 << 62), 1 << 62)
HOUR = 3_600_000


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(forgetting, "_LEAST", 5)


async def until(clock, condition, seconds=60.0):
    """Poll until `condition()` holds, minutes passing meanwhile."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come to pass"
        await clock.advance(61)
        await asyncio.sleep(0.005)


async def eventually(condition, seconds=60.0):
    """Poll until `condition()` holds, no time passing meanwhile but the machine's."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come to pass"
        await asyncio.sleep(0.005)


def names(tools, run: int, n: int = 30):
    return [tools.metric("m", pod=f"run{run}-{i}") for i in range(n)]


async def hours_later(engine, clock, hours=3.0):
    await engine.flush()
    await clock.advance(hours * 3600)


async def test_gone_series_leave_memory_and_stay_in_blocks(open_engine, tools, keyspace, clock):
    engine = await open_engine()
    stay = tools.metric("stay")
    for run in range(4):
        now = tools.now + int(run * 3 * HOUR)
        await engine.append(SampleBatch.of(keyspace, [stay, *names(tools, run)], [now] * 31, [float(run)] * 31))
        await hours_later(engine, clock)
    await until(clock, lambda: engine.stats().series <= 1)
    assert engine.counters()["forgotten_series"] >= 120
    found = engine.select("default", [], *EVER)
    assert (len(found), found.sample_count) == (121, 124)
    assert engine.label_values("default", "pod", [], *EVER) == sorted(s.get("pod") for run in range(4) for s in names(tools, run))
    # One that comes back is the series that it was.
    back = names(tools, 1)[3]
    appended = await engine.append(SampleBatch.of(keyspace, [back], [tools.now + 12 * HOUR], [9.0]))
    assert (appended.new_series, appended.samples) == (1, 1)
    assert engine.select("default", [Matcher("pod", "=", back.get("pod"))], *EVER).values.tolist() == [1.0, 9.0]


async def test_a_series_is_known_for_as_long_as_late_samples_may_be_told_from_new_ones(open_engine, tools, keyspace, clock):
    """Forgotten earlier, a sample that is too late would be taken for the first of a new series."""
    engine = await open_engine()
    await engine.append(SampleBatch.of(keyspace, names(tools, 0), [tools.now] * 30, [1.0] * 30))
    await engine.flush()
    looks = engine._flusher.forgetting
    for _ in range(10):  # less than the two hours of a head
        await clock.advance(660)
        engine._writer.wake()
        await eventually(lambda: looks._again > clock.monotonic())
    assert (engine.stats().series, engine.counters()["forgotten_series"]) == (30, 0)
    late = await engine.append(SampleBatch.of(keyspace, names(tools, 0)[:1], [tools.now - 2 * HOUR], [0.0]))
    assert late.dropped == {"too_old": 1}
    await clock.advance(3600)
    await engine.append(SampleBatch.of(keyspace, [tools.metric("stays")], [tools.now + 3 * HOUR], [1.0]))
    await until(clock, lambda: engine.stats().series == 1)
    assert engine.counters()["forgotten_series"] == 30


async def test_active_series_keep_ids_order_and_newest_sample(open_engine, tools, clock):
    engine = await open_engine()
    alice, bob = canonical("alice"), canonical("bob")
    handles = {}
    for space in (alice, bob):
        await engine.append(SampleBatch.of(space, names(tools, 0), [tools.now] * 30, [1.0] * 30))
        first = await engine.append(SampleBatch.of(space, names(tools, 1, 20), [tools.now] * 20, [1.0] * 20))
        handles[space.tenant] = first.ids
    await engine.flush()
    for minute in range(0, 181, 30):
        for space in (alice, bob):
            when = [tools.now + minute * 60_000 + 1] * 20
            again = await engine.append(SampleBatch.of(space, names(tools, 1, 20), when, [float(minute)] * 20))
            assert again.new_series == 0
            assert again.ids.tolist() == handles[space.tenant].tolist()
        await clock.advance(1800)
        await asyncio.sleep(0.02)
    await until(clock, lambda: engine.stats().series == 40)
    for space in (alice, bob):
        late = await engine.append(SampleBatch.of(space, names(tools, 1, 1), [tools.now + HOUR], [5.0]))
        assert (late.new_series, late.dropped) == (0, {"too_old": 1})
        stale = np.full(20, STALE)
        await engine.append(SampleBatch.by_id(space, handles[space.tenant], np.full(20, tools.now + 4 * HOUR), stale))
        found = engine.select(space.tenant, [Matcher("pod", "=~", "run1-.*")], tools.now + 4 * HOUR, tools.now + 4 * HOUR)
        assert sorted(found.labels) == sorted(names(tools, 1, 20))
        assert is_stale(found.values).all()
    await engine.close()
    again = await open_engine()
    assert again.counters()["wal_orphan_samples"] == again.counters()["wal_corrupt_records"] == 0
    found = again.select("bob", [Matcher("pod", "=~", "run1-.*")], *EVER)
    assert (len(found), found.sample_count) == (20, 20 * 9)


async def test_samples_by_the_id_of_a_series_that_is_gone_are_dropped(open_engine, tools, keyspace, clock):
    engine = await open_engine()
    first = await engine.append(SampleBatch.of(keyspace, names(tools, 0), [tools.now] * 30, [1.0] * 30))
    await hours_later(engine, clock)
    await until(clock, lambda: engine.stats().series == 0)
    other = await engine.append(SampleBatch.of(keyspace, names(tools, 1), [tools.now + 3 * HOUR] * 30, [1.0] * 30))
    assert not set(first.ids.tolist()) & set(other.ids.tolist()), "a handle was given out twice"
    late = await engine.append(SampleBatch.by_id(keyspace, first.ids, np.full(30, tools.now + 4 * HOUR), np.full(30, STALE)))
    assert (late.samples, late.dropped) == (0, {"relabelled": 30})
    assert engine.select("default", [], *EVER).sample_count == 60


async def test_the_next_block_holds_what_was_logged_before_and_after(open_engine, tools, keyspace, clock):
    """It names both scopes of the log: after a crash right then, what it has not named would be read into memory again."""
    engine = await open_engine()
    await engine.append(SampleBatch.of(keyspace, names(tools, 0), [tools.now] * 30, [1.0] * 30))
    await hours_later(engine, clock)
    await engine.append(SampleBatch.of(keyspace, names(tools, 1), [tools.now + 3 * HOUR] * 30, [1.0] * 30))
    before = engine._wal.scope
    await until(clock, lambda: engine.stats().series <= 30)
    after = engine._wal.scope
    assert after != before
    await engine.append(SampleBatch.of(keyspace, names(tools, 2), [tools.now + 3 * HOUR] * 30, [1.0] * 30))
    await engine.flush()
    assert {before, after} <= engine._blocks.wal_scopes


async def test_texts_that_queries_brought_in_are_forgotten(open_engine, tools, keyspace, clock):
    engine = await open_engine()
    await engine.append(SampleBatch.of(keyspace, names(tools, 0, 200), [tools.now] * 200, [1.0] * 200))
    await engine.flush()
    await engine.close()
    engine = await open_engine()
    symbols = engine._memory.series.names
    assert len(engine.select("default", [], *EVER)) == 200
    assert symbols.borrowed >= 200
    await until(clock, lambda: engine._memory.series.names is not symbols)
    assert len(engine._memory.series.names.symbols) == 0
    assert len(engine.series("default", [[]], *EVER)) == 200


async def test_an_index_that_rests_is_mapped_again(open_engine, tools, keyspace):
    engine = await open_engine()
    await engine.append(SampleBatch.of(keyspace, names(tools, 0), [tools.now] * 30, [1.0] * 30))
    await engine.flush()
    engine._flusher.release()
    before = tools.contents(engine)
    (block,) = engine._blocks.all
    for _ in range(3):
        await engine.compact()
    assert block._sections is None and block._symbols is None and block.to_engine is None and not block._views
    assert tools.contents(engine) == before


async def test_reads_and_writes_go_on_while_tables_change(open_engine, tools, keyspace, clock):
    engine = await open_engine()
    rng = random.Random(3)
    stay = names(tools, 99, 10)
    stop = False
    reads = 0

    async def read() -> None:
        nonlocal reads
        while not stop:
            found = await asyncio.to_thread(engine.select, "default", [Matcher("pod", "=~", "run99-.*|run1-.*")], *EVER)
            for labels in found.labels:
                assert labels.get("pod").startswith(("run99-", "run1-"))
            assert set(await asyncio.to_thread(engine.label_values, "default", "__name__", [], *EVER)) <= {"m"}
            reads += 1

    readers = [asyncio.create_task(read()) for _ in range(2)]
    for run in range(12):
        now = tools.now + run * 4 * HOUR
        rows = [*stay, *names(tools, run, rng.randint(10, 60))]
        await engine.append(SampleBatch.of(keyspace, rows, [now] * len(rows), [1.0] * len(rows)))
        await engine.flush()
        await clock.advance(4 * 3600)
        for k in range(5):
            await engine.append(SampleBatch.of(keyspace, stay, [now + HOUR * 3 + k] * 10, [1.0] * 10))
            await asyncio.sleep(0.01)
    await until(clock, lambda: engine.counters()["forgotten_series"] > 100)
    stop = True
    await asyncio.gather(*readers)
    assert reads > 5
    found = engine.select("default", [Matcher("pod", "=~", "run99-.*")], *EVER)
    assert np.diff(found.offsets).tolist() == [12 * 6] * 10
