"""Faults of ours, and memory that runs out, in the middle of what the writer does: told, counted, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import shutil
import time

import pytest

from vedette.errors import LimitExceeded
from vedette.model.samples import SampleBatch

EVER = (-(1 << 62), 1 << 62)


async def append(engine, tools, keyspace, k, name="m"):
    return await engine.append(SampleBatch.of(keyspace, [tools.metric(name, k=str(k % 3))], [tools.now + k], [float(k)]))


async def insist(engine, tools, keyspace, k):
    """Append as a sender does who is told to come again."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return await append(engine, tools, keyspace, k)
        except LimitExceeded as refused:
            assert refused.retry_after
            assert time.monotonic() < deadline, "it never was taken"
            await asyncio.sleep(0.01)


@pytest.fixture
def after_a_kill(tmp_path, open_engine):
    """Opens an engine on what the disk holds now, as a process would that follows one that was killed."""

    async def found(tools):
        copy = tmp_path / f"copy{time.monotonic_ns()}"
        shutil.copytree(tmp_path / "data", copy, ignore=shutil.ignore_patterns("lock"))
        return tools.contents(await open_engine(data=copy))

    return found


@pytest.mark.parametrize("fails", ["_records", "_ids"])
async def test_what_is_acknowledged_after_a_fault_outlives_a_kill(open_engine, tools, keyspace, monkeypatch, after_a_kill, fails):
    engine = await open_engine()
    await append(engine, tools, keyspace, 0)

    def fault(*_):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(engine._memory, fails, fault)
        with pytest.raises(MemoryError):
            await append(engine, tools, keyspace, 1)
    assert engine.counters()["write_failures"] == 1
    # Its sender repeats it, and another sends more of that series.
    assert (await insist(engine, tools, keyspace, 1)).samples == 1
    assert (await insist(engine, tools, keyspace, 4)).samples == 1
    held = tools.contents(engine)
    assert sum(map(len, held.values())) == 3
    assert await after_a_kill(tools) == held
    await engine.close()


async def test_until_a_block_holds_what_the_log_does_not_nothing_is_taken(open_engine, tools, keyspace, monkeypatch):
    engine = await open_engine()

    def fault(*_):
        raise MemoryError

    def refused(_job):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(engine._flusher, "_write_block", refused)
        with monkeypatch.context() as broken:
            broken.setattr(engine._memory, "_records", fault)
            with pytest.raises(MemoryError):
                await append(engine, tools, keyspace, 1)
        for _ in range(3):
            with pytest.raises(LimitExceeded, match="block"):
                await append(engine, tools, keyspace, 2)
    assert (await insist(engine, tools, keyspace, 2)).samples == 1
    assert sum(map(len, tools.contents(engine).values())) == 2


async def test_housekeeping_that_fails_is_counted_and_ends_no_writing(open_engine, tools, keyspace, monkeypatch):
    engine = await open_engine()

    def fault():
        raise ValueError("a fault of ours")

    with monkeypatch.context() as patched:
        patched.setattr(engine._flusher, "tick", fault)
        for k in range(3):
            assert (await append(engine, tools, keyspace, k)).samples == 1
        deadline = time.monotonic() + 30
        while not engine.counters()["housekeeping_failures"]:
            engine._writer.wake()
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    assert (await append(engine, tools, keyspace, 3)).samples == 1
    await engine.flush()
    assert sum(map(len, tools.contents(engine).values())) == 4
