"""What a select would answer is told from the index, near enough to refuse what is far too much."""

from __future__ import annotations

from vedette.model.matchers import Matcher
from vedette.storage.interface import Estimating, Locking

HOUR = 3_600_000


async def test_in_memory_and_in_blocks(open_engine, tools, keyspace):
    engine = await open_engine(retention=0, out_of_order_window=0)
    assert isinstance(engine, Estimating)
    m, everything = [Matcher("__name__", "=", "m")], (tools.now - 10 * HOUR, tools.now)
    assert engine.estimate("default", m, *everything).samples == 0
    rows = [(tools.metric(name, i=str(i)), [(tools.now - HOUR + k * 60_000, 1.0) for k in range(60)]) for name in "mn" for i in range(10)]
    await engine.append(tools.batch(rows, keyspace))
    for _ in range(2):
        found = engine.estimate("default", m, *everything)
        assert (found.series, found.samples) == (10, 600)
        half = engine.estimate("default", m, tools.now - HOUR // 2, tools.now)
        assert half.series == 10
        assert 250 <= half.samples <= 350
        assert engine.estimate("default", m, tools.now - 9 * HOUR, tools.now - 8 * HOUR).samples == 0
        assert engine.estimate("default", [Matcher("__name__", "=", "absent")], *everything).series == 0
        assert engine.estimate("other", m, *everything).series == 0
        most = engine.estimate("default", None, 0, 0)
        assert most.series >= 20
        assert most.samples >= 1200
        # Once more, with the samples in a block.
        await engine.flush()
    more = [(labels, [(tools.now, 2.0)]) for labels, _ in rows]
    await engine.append(tools.batch(more, keyspace))
    found = engine.estimate("default", m, *everything)
    assert (found.series, found.samples) == (10, 610)


async def test_it_is_busy_while_somebody_reads_or_writes(open_engine):
    engine = await open_engine()
    assert isinstance(engine, Locking) and not engine.busy()
    with engine._memory.lock:
        assert engine.busy()
    assert not engine.busy()
