"""How long what is kept: by size, and by selector."""

from __future__ import annotations

import pytest

from vedette.clock import ManualClock
from vedette.model.matchers import Matcher
from vedette.model.samples import SampleBatch
from vedette.storage.engine import Engine
from vedette.storage.retention import Retention, RetentionRule
from vedette.storage.settings import StorageSettings

pytestmark = pytest.mark.usefixtures("only_when_asked")

EVER = (-(1 << 62), 1 << 62)
DAY = 86_400_000
DEBUG = RetentionRule((Matcher("__name__", "=~", "debug_.*"),), 2 * DAY)
AUDIT = RetentionRule((Matcher("keep", "=", "long"),), 0)


def test_the_longest_retention_says_what_is_taken():
    assert Retention(5).longest == 5
    assert Retention(5, [RetentionRule((), 9)]).longest == 9
    assert Retention(5, [AUDIT]).longest == 0
    assert Retention(0, [DEBUG]).longest == 0


async def test_the_oldest_blocks_go_where_all_are_too_large(open_engine, tools, keyspace, clock):
    engine = await open_engine()
    for k in range(4):
        rows = [(tools.metric("m", i=str(i)), [(tools.now + k * DAY + t, t * 0.123) for t in range(500)]) for i in range(20)]
        await clock.advance(DAY / 1000)
        await engine.append(tools.batch(rows, keyspace))
        await engine.flush()
    sizes = [b.nbytes for b in engine._blocks.all]
    await engine.close()
    engine = await open_engine(retention_size=sizes[2] + sizes[3] + 1024)
    await engine.compact()
    assert [b.meta.sequence for b in engine._blocks.all] == [3, 4]
    assert engine.select("default", [], *EVER).timestamps.min() == tools.now + 2 * DAY


@pytest.fixture
async def open_with(tmp_path, clock):
    opened = []

    async def open_(rules, **settings):
        engine = Engine(StorageSettings(data=tmp_path / "data", **settings), clock, retention=rules)
        await engine.start()
        opened.append(engine)
        return engine

    yield open_
    for engine in opened:
        await engine.close()


async def test_series_of_a_selector_go_earlier_or_stay_longer(open_with, tools, keyspace, clock: ManualClock):
    engine = await open_with([AUDIT, DEBUG], retention=10 * DAY)
    series = [tools.metric("debug_a"), tools.metric("m"), tools.metric("debug_b", keep="long"), tools.metric("n", keep="long")]
    for k in range(3):
        await engine.append(SampleBatch.of(keyspace, series, [tools.now + k * DAY] * 4, [1.0] * 4))
        await engine.flush()
        await clock.advance(DAY / 1000)
    engine._flusher.release()

    def left() -> dict[str, int]:
        return {str(labels): len(samples) for labels, samples in tools.contents(engine).items()}

    everything = {str(labels): 3 for labels in series}
    # What is too old is hidden at once, and gone once blocks are written again.
    assert left() == everything | {str(series[0]): 2}
    assert sum(b.meta.samples for b in engine._blocks.all) == 12
    await engine.compact()
    assert left() == everything | {str(series[0]): 2}
    assert sum(b.meta.samples for b in engine._blocks.all) == 11
    rewritten = engine.counters()["compactions"]
    await engine.compact()
    assert engine.counters()["compactions"] == rewritten, "what holds nothing old any more is not written again"
    await clock.advance(9 * DAY / 1000)
    await engine.compact()
    assert left() == {str(series[1]): 1, str(series[2]): 3, str(series[3]): 3}
    await clock.advance(90 * DAY / 1000)
    await engine.compact()
    assert left() == {str(series[2]): 3, str(series[3]): 3}


async def test_a_merge_leaves_out_what_is_too_old(open_with, tools, keyspace, clock: ManualClock):
    engine = await open_with([DEBUG], retention=30 * DAY)
    series = [tools.metric("debug_a"), tools.metric("m")]
    for k in range(3):
        rows = [(labels, [(tools.now + k * 60_000, 1.0)]) for labels in series]
        await engine.append(tools.batch(rows, keyspace))
        await engine.flush()
    engine._flusher.release()
    await clock.advance((2 * DAY + 90_000) / 1000)
    await engine.compact()
    assert [b.meta.samples for b in engine._blocks.all] == [4]
    assert engine.select("default", DEBUG.matchers, *EVER).timestamps.tolist() == [tools.now + 120_000]


async def test_samples_are_taken_as_long_as_any_series_is_kept(open_with, tools, keyspace):
    engine = await open_with([RetentionRule((Matcher("keep", "=", "long"),), 100 * DAY)], retention=DAY)
    batch = SampleBatch.of(keyspace, [tools.metric("m"), tools.metric("n")], [tools.now - 50 * DAY, tools.now - 101 * DAY], [1.0, 1.0])
    assert (await engine.append(batch)).dropped == {"too_old": 1}


async def test_what_is_beyond_its_time_is_not_answered_though_it_is_still_there(open_with, tools, keyspace, clock: ManualClock):
    """In memory, in the log's block and in listings alike; a clock that goes on hides more."""
    engine = await open_with([DEBUG, RetentionRule((Matcher("__name__", "=", "short"),), 60_000)], retention=10 * DAY)
    rows = [tools.metric("debug_a", i="0"), tools.metric("plain", i="1"), tools.metric("short", i="2")]
    for at in (0, 30_000):
        await engine.append(SampleBatch.of(keyspace, rows, [tools.now + at] * 3, [1.0] * 3))

    def there():
        found = engine.select("default", [], *EVER)
        counts = {found.labels.row(i).metric: int(found.offsets[i + 1] - found.offsets[i]) for i in range(len(found))}
        assert {labels.metric for labels in engine.series("default", [[]], *EVER)} == set(counts)
        assert set(engine.label_values("default", "i", [], *EVER)) == {str(rows.index(r)) for r in rows if r.metric in counts}
        return counts

    async def both():
        before = there()
        await engine.flush()
        engine._flusher.release()
        assert there() == before, "what is in a block is answered as what is in memory is"
        return before

    assert there() == {"debug_a": 2, "plain": 2, "short": 2}
    await clock.advance(75)
    assert await both() == {"debug_a": 2, "plain": 2, "short": 1}
    await clock.advance(60)
    assert there() == {"debug_a": 2, "plain": 2}
    await clock.advance(2 * DAY / 1000)
    assert there() == {"plain": 2}
    assert sum(b.meta.samples for b in engine._blocks.all) == 6, "nothing was written again for it"
    assert engine.series("default", [[Matcher("__name__", "=", "debug_a")]], *EVER) == []


async def test_hiding_asks_only_for_series_that_may_be_old(open_with, tools, keyspace):
    engine = await open_with([DEBUG], retention=10 * DAY)
    await engine.append(SampleBatch.of(keyspace, [tools.metric("debug_a")], [tools.now], [1.0]))
    _, view = engine._memory.index("default")
    assert engine._retention.hidden(view, view.all_ids, tools.now + DAY, tools.now) is None
    gone = engine._retention.hidden(view, view.all_ids, tools.now + 3 * DAY, tools.now)
    assert (gone.rows.tolist(), gone.ends.tolist()) == ([0], [tools.now + DAY - 1])
    assert Retention(DAY).hidden(view, view.all_ids, tools.now + 3 * DAY, tools.now) is None
