"""What makes the index grow: series of the last hour, in memory and in a data directory."""

from __future__ import annotations

from vedette.model.samples import SampleBatch
from vedette.storage import offline
from vedette.storage.statistics import Growth

HOUR = 3_600_000


def test_marks_reach_back_an_hour_and_no_further():
    growth = Growth(0.0)
    assert growth.before(0.0) == (0.0, 0)
    for minute in range(121):
        growth.mark(minute * 60.0, minute)
        growth.mark(minute * 60.0 + 1, 1_000_000)  # within the same minute nothing is remembered
    assert growth.before(7200.0) == (3600.0, 60)


def test_soon_after_a_start_it_is_less_than_an_hour():
    growth = Growth(0.0)
    growth.mark(10.0, 5)
    growth.mark(80.0, 9)
    assert growth.before(90.0) == (80.0, 5)


async def test_an_engine_tells_what_came_in_the_last_hour(open_engine, tools, keyspace, clock):
    engine = await open_engine()
    old = [tools.metric("m", i=str(i), job="a") for i in range(3)]
    await engine.append(SampleBatch.of(keyspace, old, [tools.now] * 3, [1.0] * 3))
    engine._growth.mark(clock.monotonic() + 61, engine._memory.series.handed_out)
    await clock.advance(120)
    new = [tools.metric("m", i="3", job="a"), tools.metric("n", i="0", job="b"), tools.metric("n", i="4", job="b")]
    await engine.append(SampleBatch.of(keyspace, [*old, *new], [tools.now + 1] * 6, [1.0] * 6))
    found = engine.growth(10)
    assert found.series == 3
    assert list(found.series_by_metric) == [("n", 2), ("m", 1)]
    # The value 0 of i is no new one: an older series has it.
    assert dict(found.values_by_label) == {"__name__": 1, "i": 2, "job": 1}
    assert list(found.series_by_pair)[:2] == [("__name__=n", 2), ("job=b", 2)]
    assert engine.growth(1).series_by_pair == [("__name__=n", 2)]
    assert engine.figures(1).series_by_metric == [("m", 4)]


async def test_series_that_are_forgotten_and_renumbered_are_not_taken_for_new(open_engine, tools, keyspace, clock):
    engine = await open_engine()
    rows = [tools.metric("m", i=str(i)) for i in range(6)]
    await engine.append(SampleBatch.of(keyspace, rows, [tools.now] * 6, [1.0] * 6))
    engine._growth.mark(clock.monotonic() + 61, engine._memory.series.handed_out)
    await clock.advance(120)
    series = engine._memory.series
    gone = [True, False] * 3
    import numpy as np

    made, new_ids = series.without(np.array(gone))
    made.succeed(series, new_ids, np.zeros(0, dtype=np.int64))
    engine._memory.series, kept = made, engine._memory.series
    try:
        assert engine.growth(10).series == 0
    finally:
        engine._memory.series = kept


async def test_a_directory_tells_it_too_from_blocks_and_from_the_log(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine(out_of_order_window=10 * HOUR)
    old = [tools.metric("m", i=str(i)) for i in range(3)]
    await engine.append(SampleBatch.of(keyspace, old, [tools.now - 2 * HOUR] * 3, [1.0] * 3))
    await engine.flush()
    await engine.append(SampleBatch.of(keyspace, [*old, tools.metric("m", i="block")], [tools.now - HOUR // 2] * 4, [1.0] * 4))
    await engine.flush()
    late = [*old, tools.metric("m", i="log"), tools.metric("n", i="0")]
    await engine.append(SampleBatch.of(keyspace, late, [tools.now] * 5, [1.0] * 5))
    await engine.close()
    total, _, grown = offline.figures(tmp_path / "data", since=0, top=5)
    assert (total, grown.series) == (6, 3)
    assert list(grown.series_by_metric) == [("m", 2), ("n", 1)]
    assert dict(grown.values_by_label) == {"__name__": 1, "i": 2}


async def test_replay_tells_how_far_it_is(open_engine, tools, keyspace):
    engine = await open_engine()
    first = engine.replay_progress
    assert (first.first, first.last, first.current, first.state) == (0, 0, 0, "done")
    await engine.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now], [1.0]))
    await engine.close()
    engine = await open_engine()
    again = engine.replay_progress
    assert (again.first, again.last, again.current, again.state) == (1, 1, 1, "done")
    await engine.close()
    from vedette.storage.engine import Engine

    waiting = Engine(engine.settings, engine.clock)
    assert waiting.replay_progress.state == "waiting"
