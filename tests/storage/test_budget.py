"""What one select may hold: refused before much more than that is read, and histograms count as what they take."""

from __future__ import annotations

import numpy as np
import pytest

from vedette.errors import LimitExceeded
from vedette.model.histograms import NO_BUCKETS, Histogram, Layout
from vedette.model.samples import SampleBatch
from vedette.storage import engine as module
from vedette.storage.block import Block

EVER = (-(1 << 62), 1 << 62)


@pytest.fixture
def read(monkeypatch) -> list[int]:
    """How many samples each reading of a block gave, from now on."""
    found: list[int] = []
    inner = Block.read

    def noted(self, rows, start, end):
        columns = inner(self, rows, start, end)
        found.append(len(columns[1]))
        return columns

    monkeypatch.setattr(Block, "read", noted)
    return found


async def test_a_block_that_is_too_much_is_not_read_whole(open_engine, tools, keyspace, read, monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 300)
    engine = await open_engine(retention=0, select_samples=1000)
    rows = [(tools.metric("m", i=f"{i:03}"), [(tools.now + k * 1000, float(k)) for k in range(100)]) for i in range(50)]
    await engine.append(tools.batch(rows, keyspace))
    await engine.flush()
    engine._flusher.release()
    with pytest.raises(LimitExceeded, match="more than 1000"):
        engine.select("default", [], *EVER)
    assert sum(read) < 1500, "of 5,000"
    # A part of the time is within it, though the series have more: in pieces all the same, and the answer is whole.
    read.clear()
    found = engine.select("default", [], tools.now, tools.now + 9000)
    assert len(read) > 1
    assert (len(found), found.sample_count) == (50, 500)
    assert [row.get("i") for row in sorted(found.labels)] == [f"{i:03}" for i in range(50)]
    for i in range(50):
        assert found.values[found.offsets[i] : found.offsets[i + 1]].tolist() == [float(k) for k in range(10)]


@pytest.mark.parametrize("flushed", [False, True])
async def test_native_histograms_count_as_what_they_take(open_engine, tools, keyspace, flushed):
    engine = await open_engine(retention=0, select_samples=1000)
    layout = Layout(0, 0.001, (), np.arange(197, dtype=np.int32), NO_BUCKETS)
    samples = [Histogram(layout, np.full(200, float(k))) for k in range(20)]
    times = [tools.now + k * 1000 for k in range(20)]
    for time, sample in zip(times, samples, strict=True):
        await engine.append(SampleBatch.of(keyspace, [tools.metric("native")], [time], [sample]))
    if flushed:
        await engine.flush()
        engine._flusher.release()
    assert len(engine.select("default", [], tools.now, tools.now + 8000).histograms) == 9
    with pytest.raises(LimitExceeded, match="more than 1000"):
        engine.select("default", [], *EVER)
