"""A disk that does not take what is written, a directory that is taken, a tick that is due."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from vedette.clock import SystemClock
from vedette.errors import BadInput, LimitExceeded
from vedette.model.samples import SampleBatch
from vedette.storage import wal as wal_module
from vedette.storage.directory import DirectoryLock
from vedette.storage.disk import Disk
from vedette.storage.settings import StorageSettings, parse_size, parse_sync

EVER = (-(1 << 62), 1 << 62)


class FullDisk(Disk):
    """A disk of which `room` bytes are left (None: plenty), whose syncs may fail, and that may take no file but the log's."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.sync_fails = False
        self.blocks_fail = False
        self.synced = 0

    def create(self, path):
        if self.blocks_fail and path.suffix != ".wal":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().create(path)

    def write(self, fd, data):
        if self.room is None:
            return super().write(fd, data)
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = super().write(fd, data[: self.room])
        self.room -= done
        return done

    def sync(self, fd):
        if self.sync_fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.synced += 1
        super().sync(fd)


@pytest.fixture
def disk():
    return FullDisk()


async def append(engine, tools, keyspace, k, name="m"):
    return await engine.append(SampleBatch.of(keyspace, [tools.metric(name, k=str(k % 3))], [tools.now + k], [float(k)]))


@pytest.mark.parametrize("room", [0, 1, 50, 120])
async def test_a_full_disk_refuses_and_recovers(open_engine, tools, keyspace, disk, room):
    engine = await open_engine(disk=disk)
    await append(engine, tools, keyspace, 0)
    disk.room = room
    acknowledged = {0}
    for k in range(1, 6):
        try:
            await append(engine, tools, keyspace, k)
            acknowledged.add(k)
        except LimitExceeded as refusal:
            assert "No space left on device" in str(refusal)
            assert refusal.retry_after > 0
    assert len(acknowledged) < 4
    disk.room = None
    # A refused batch is sent again, as senders do; what the head has of it already must be durable too.
    for k in range(1, 10):
        await append(engine, tools, keyspace, k)
    await engine.close()
    engine = await open_engine()
    assert engine.counters()["wal_corrupt_records"] == 0
    assert set(engine.select("default", [], *EVER).timestamps.tolist()) == {tools.now + k for k in range(10)}


async def test_a_failed_sync_refuses_and_what_it_covered_is_written_again(open_engine, tools, keyspace, disk):
    engine = await open_engine(disk=disk)
    await append(engine, tools, keyspace, 0)
    disk.sync_fails = True
    with pytest.raises(LimitExceeded, match="Input/output error"):
        await append(engine, tools, keyspace, 1)
    disk.sync_fails = False
    assert (await append(engine, tools, keyspace, 1)).samples == 1
    await engine.close()
    # As if the pages of the failed sync never reached the disk.
    first = wal_module.segments(engine.settings.data / "wal")[0].path
    _, records = wal_module.read_segment(wal_module.segments(first.parent)[0])
    last = list(records)[-1]
    first.write_bytes(first.read_bytes()[: last.offset])
    engine = await open_engine()
    assert set(engine.select("default", [], *EVER).timestamps.tolist()) == {tools.now, tools.now + 1}


async def test_a_block_that_cannot_be_written_is_tried_again(open_engine, tools, keyspace, disk):
    engine = await open_engine(disk=disk)
    await append(engine, tools, keyspace, 0)
    blocks = engine.settings.data / "blocks"
    disk.blocks_fail = True
    with pytest.raises(OSError, match="No space left"):
        await engine.flush()
    await append(engine, tools, keyspace, 1)
    assert engine.select("default", [], *EVER).sample_count == 2
    disk.blocks_fail = False
    await engine.flush()
    await engine.flush()
    assert engine.stats().blocks == 2
    assert engine.select("default", [], *EVER).sample_count == 2
    assert len(list(blocks.iterdir())) == 2, "something half written was left behind"


async def test_a_flush_after_one_that_failed_holds_what_came_since(open_engine, tools, keyspace, disk):
    engine = await open_engine(disk=disk)
    await append(engine, tools, keyspace, 0)
    disk.blocks_fail = True
    with pytest.raises(OSError, match="No space left"):
        await engine.flush()
    await append(engine, tools, keyspace, 1)
    disk.blocks_fail = False
    await engine.flush()
    assert engine._memory.head.now.samples == 0
    assert [b.meta.samples for b in engine._blocks.all] == [1, 1]


async def test_memory_stays_bounded_where_blocks_cannot_be_written(open_engine, tools, keyspace, disk):
    engine = await open_engine(head_samples=100, disk=disk)
    disk.blocks_fail = True
    refused = 0
    for k in range(600):
        try:
            await append(engine, tools, keyspace, k)
        except LimitExceeded as refusal:
            refused += 1
            assert refusal.retry_after > 0
    assert 150 < refused < 500
    assert engine.counters()["flush_failures"] > 0
    assert engine.select("default", [], *EVER).sample_count == 600 - refused


async def until(condition, seconds=20.0):
    """Poll until `condition()` holds."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come to pass"
        await asyncio.sleep(0.01)


async def test_a_generation_ends_by_age_and_by_size(open_engine, tools, keyspace, clock):
    engine = await open_engine(head_samples=50)
    for k in range(50):
        await append(engine, tools, keyspace, k)
    await until(lambda: engine.stats().blocks == 1)
    await append(engine, tools, keyspace, 60)
    await clock.advance(7201)
    await until(lambda: engine.stats().blocks == 2)
    assert engine.select("default", [], *EVER).sample_count == 51


async def test_blocks_beyond_the_retention_are_deleted(open_engine, tools, keyspace, clock):
    engine = await open_engine(retention=86_400_000)
    await append(engine, tools, keyspace, 0)
    await engine.flush()
    await clock.advance(86_000)
    await append(engine, tools, keyspace, 86_000_000)
    await engine.flush()
    assert engine.stats().blocks == 2
    await clock.advance(500)
    await until(lambda: engine.stats().blocks == 1)
    await clock.advance(700)
    await until(lambda: engine.select("default", [], *EVER).timestamps.tolist() == [tools.now + 86_000_000])
    await until(lambda: len(list((engine.settings.data / "blocks").iterdir())) == 1)


async def test_an_interval_syncs_later(open_engine, tools, keyspace, disk, clock):
    engine = await open_engine(sync=parse_sync("interval=5s"), disk=disk)
    before = disk.synced
    await append(engine, tools, keyspace, 0)
    assert disk.synced == before
    await clock.advance(6)
    await until(lambda: disk.synced == before + 1)


async def test_a_directory_in_use_is_refused_naming_the_process(open_engine, tmp_path):
    await open_engine()
    with pytest.raises(BadInput) as caught:
        DirectoryLock(tmp_path / "data").take()
    assert str(caught.value).startswith(f"{tmp_path / 'data'}: the data directory is locked by another process (pid {os.getpid()})")
    assert "\n" not in str(caught.value)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(BadInput, match="not writable: Not a directory"):
        DirectoryLock(tmp_path / "file" / "data").take()


def test_a_disk_that_takes_no_writes_is_refused_even_for_root(tmp_path, monkeypatch):
    def read_only(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "pwrite", read_only)
    with pytest.raises(BadInput, match="not writable: Read-only file system"):
        DirectoryLock(tmp_path / "data").take()


async def test_appends_before_the_start_are_told_to_wait(tmp_path, tools, keyspace):
    from vedette.storage.engine import Engine

    engine = Engine(StorageSettings(data=tmp_path / "data"), SystemClock())
    engine.lock()
    with pytest.raises(LimitExceeded) as caught:
        await append(engine, tools, keyspace, 0)
    assert caught.value.retry_after == 1.0
    assert not engine.stats().replayed
    await engine.close()


@pytest.mark.parametrize(("text", "value"), [("commit", 0), ("off", -1), ("interval=5s", 5000)])
def test_ways_to_sync(text, value):
    assert parse_sync(text) == value


@pytest.mark.parametrize("text", ["", "always", "interval=", "interval=0s", "interval=5"])
def test_other_ways_to_sync_are_refused(text):
    with pytest.raises(BadInput):
        parse_sync(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("512MB", 512 << 20), ("2GiB", 2 << 30), ("1k", 1024), ("7B", 7)])
def test_sizes(text, value):
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "MB", "-1", "1.5GB", "3X"])
def test_other_sizes_are_refused(text):
    with pytest.raises(BadInput, match="not a size"):
        parse_size(text)
