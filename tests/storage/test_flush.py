"""What stays in memory once it is in a block: little for some minutes, much not at all; and what answers meanwhile."""

from __future__ import annotations

import asyncio
import time

import pytest

from vedette.storage import flush


async def settled(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come to pass"
        await asyncio.sleep(0.01)


def rows(tools, count: int):
    return [(tools.metric("m", i=str(i)), [(tools.now + 1000 * t, float(t * i)) for t in range(20)]) for i in range(count)]


async def test_a_small_generation_answers_from_memory_for_some_minutes(open_engine, tools, keyspace, clock, only_when_asked):
    engine = await open_engine()
    await engine.append(tools.batch(rows(tools, 10), keyspace))
    before = tools.contents(engine)
    await engine.flush()
    assert engine.stats().chunks == 10
    assert tools.contents(engine) == before
    assert engine.counters()["page_cache_misses"] == 0
    await clock.advance(flush._KEEP_BEFORE + 1)
    await settled(lambda: engine.stats().chunks == 0)
    assert tools.contents(engine) == before
    assert engine.counters()["page_cache_misses"] > 0


async def test_a_large_one_leaves_memory_as_soon_as_it_is_in_a_block(
    open_engine, tools, keyspace, only_when_asked, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(flush, "_KEEP_BYTES", 100 * 64)
    engine = await open_engine()
    await engine.append(tools.batch(rows(tools, 200), keyspace))
    before = tools.contents(engine)
    await engine.flush()
    await settled(lambda: engine.stats().chunks == 0)
    assert tools.contents(engine) == before
    # What comes now begins in empty memory, and both answer together.
    late = [(labels, [(tools.now + 30_000, 5.0)]) for labels, _ in rows(tools, 200)]
    await engine.append(tools.batch(late, keyspace))
    assert {labels: len(samples) for labels, samples in tools.contents(engine).items()} == dict.fromkeys(before, 21)


async def test_many_series_with_a_sample_each_are_no_reason_for_a_block(open_engine, tools, keyspace, only_when_asked):
    # 400 chunks hold more than 100 samples would at most, and a block would begin anew with as many.
    engine = await open_engine(head_samples=1000)
    for t in range(2):
        await engine.append(tools.batch([(labels, samples[t : t + 1]) for labels, samples in rows(tools, 400)], keyspace))
    assert engine.stats().blocks == 0
    await engine.append(tools.batch([(labels, samples[2:3]) for labels, samples in rows(tools, 400)], keyspace))
    await settled(lambda: engine.stats().blocks == 1)
    assert sum(map(len, tools.contents(engine).values())) == 1200


async def test_nearly_empty_chunks_become_a_block_before_they_fill_memory(open_engine, tools, keyspace, only_when_asked):
    engine = await open_engine(head_samples=2000)
    # 16 samples of each of 124 series are 248 chunks, the second of each nearly empty: fewer samples than 2,000, more memory.
    await engine.append(tools.batch([(labels, samples[:16]) for labels, samples in rows(tools, 124)], keyspace))
    await settled(lambda: engine.stats().blocks == 0)
    await engine.append(tools.batch([(labels, samples[:16]) for labels, samples in rows(tools, 126)[124:]], keyspace))
    await settled(lambda: engine.stats().blocks == 1)
    assert sum(map(len, tools.contents(engine).values())) == 126 * 16
