"""Damage on disk: detected, reported, confined. What is whole is always there."""

from __future__ import annotations

import random

import numpy as np
import orjson
import pytest

from vedette.errors import Corrupt
from vedette.model.samples import MetricMetadata, SampleBatch
from vedette.storage import offline, wal
from vedette.storage.block_meta import read_meta

EVER = (-(1 << 62), 1 << 62)


async def write(engine, tools, keyspace, batches=10, series=5) -> None:
    for k in range(batches):
        rows = [tools.metric("m", i=str(i)) for i in range(series)]
        await engine.append(SampleBatch.of(keyspace, rows, [tools.now + k] * series, [float(k)] * series))


def times(engine) -> set[int]:
    return set(engine.select("default", [], *EVER).timestamps.tolist())


def segment(tmp_path):
    (path,) = (tmp_path / "data" / "wal").glob("*.wal")
    return path


async def test_a_torn_tail_is_cut(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine()
    await write(engine, tools, keyspace)
    await engine.close()
    path = segment(tmp_path)
    whole = path.read_bytes()
    for cut in range(1, 60, 7):
        path.write_bytes(whole[:-cut])
        engine = await open_engine()
        assert times(engine) == {tools.now + k for k in range(9)}
        assert (engine.counters()["wal_torn_tails"], engine.counters()["wal_corrupt_records"]) == (1, 0)
        await engine.close()
        for later in (tmp_path / "data" / "wal").glob("*.wal"):
            if later != path:
                later.unlink()


async def test_what_is_appended_after_a_torn_tail_is_kept(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine()
    await write(engine, tools, keyspace, batches=3)
    await engine.close()
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    engine = await open_engine()
    await engine.append(SampleBatch.of(keyspace, [tools.metric("m", i="0")], [tools.now + 100], [1.0]))
    await engine.close()
    engine = await open_engine()
    assert times(engine) == {tools.now, tools.now + 1, tools.now + 100}


async def test_a_flipped_bit_costs_one_record(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine()
    await write(engine, tools, keyspace)
    await engine.close()
    path = segment(tmp_path)
    whole = path.read_bytes()
    _, records = wal.read_segment(wal.segments(path.parent)[0])
    places = [(r.kind, r.offset) for r in records]
    assert [kind for kind, _ in places] == [wal.SERIES] + [wal.SAMPLES] * 10
    rng = random.Random(1)
    for number in (1, 4, 9):
        at = places[number][1] + rng.randrange(wal.RECORD_HEADER.size + 40)
        bent = bytearray(whole)
        bent[at] ^= 1 << rng.randrange(8)
        path.write_bytes(bent)
        engine = await open_engine()
        assert times(engine) == {tools.now + k for k in range(10) if k != number - 1}
        assert engine.counters()["wal_corrupt_records"] == 1
        await engine.close()
        for later in (tmp_path / "data" / "wal").glob("*.wal"):
            if later != path:
                later.unlink()


async def test_samples_whose_series_record_is_lost_are_counted(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine()
    await write(engine, tools, keyspace, batches=2)
    await engine.close()
    path = segment(tmp_path)
    bent = bytearray(path.read_bytes())
    bent[wal.SEGMENT_HEADER.size + wal.RECORD_HEADER.size + 60] ^= 4
    path.write_bytes(bent)
    engine = await open_engine()
    counters = engine.counters()
    assert (counters["wal_corrupt_records"], counters["wal_orphan_samples"]) == (1, 10)
    assert times(engine) == set()


async def test_random_damage_to_the_log_never_stops_the_start(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine()
    await write(engine, tools, keyspace)
    await engine.close()
    path = segment(tmp_path)
    whole = path.read_bytes()
    rng = random.Random(2)
    for _ in range(40):
        bent = bytearray(whole[: rng.choice([len(whole), rng.randrange(len(whole))])])
        for _ in range(rng.randint(0, 6)):
            if bent:
                bent[rng.randrange(len(bent))] = rng.choice([0, 255, rng.randrange(256)])
        path.write_bytes(bent)
        engine = await open_engine()
        found = engine.select("default", [], *EVER)
        assert set(found.timestamps.tolist()) <= {tools.now + k for k in range(10)}
        assert (found.values == (found.timestamps - tools.now).astype(np.float64)).all()
        await engine.close()
        for later in (tmp_path / "data" / "wal").glob("*.wal"):
            if later != path:
                later.unlink()


async def flushed(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine()
    await write(engine, tools, keyspace, batches=50)
    await engine.flush()
    await engine.close()
    (block,) = (tmp_path / "data" / "blocks").iterdir()
    return block


@pytest.mark.parametrize("name", ["pages", "index"])
async def test_a_flipped_bit_in_a_block_is_noticed(open_engine, tools, keyspace, tmp_path, name):
    block = await flushed(open_engine, tools, keyspace, tmp_path)
    whole = (block / name).read_bytes()
    rng = random.Random(3)
    noticed = 0
    for _ in range(25):
        bent = bytearray(whole)
        at = rng.randrange(len(bent))
        bent[at] ^= 1 << rng.randrange(8)
        (block / name).write_bytes(bent)
        engine = await open_engine()
        try:
            found = engine.select("default", [], *EVER)
        except Corrupt as damage:
            noticed += 1
            assert damage.path == block / name
        else:
            # Padding and what this select does not read may be bent; what it answers is right.
            assert (found.values == (found.timestamps - tools.now).astype(np.float64)).all()
            assert found.sample_count == 250
        await engine.close()
    assert noticed > 10


@pytest.mark.parametrize("name", ["pages", "index", "meta.json"])
async def test_a_cut_off_or_missing_file_of_a_block_is_noticed(open_engine, tools, keyspace, tmp_path, name):
    block = await flushed(open_engine, tools, keyspace, tmp_path)
    whole = (block / name).read_bytes()
    for content in (whole[: len(whole) // 2], b"", None):
        if content is None:
            (block / name).unlink()
        else:
            (block / name).write_bytes(content)
        engine = await open_engine()
        try:
            assert engine.select("default", [], *EVER).sample_count == 0
        except Corrupt as damage:
            assert damage.path == block / name
        else:
            assert engine.counters()["damaged_blocks"] == 1
        await engine.append(SampleBatch.of(keyspace, [tools.metric("still")], [tools.now], [1.0]))
        await engine.close()
        for later in (tmp_path / "data" / "wal").glob("*.wal"):
            later.unlink()


async def test_a_block_half_written_when_the_process_died_is_removed(open_engine, tools, keyspace, tmp_path):
    block = await flushed(open_engine, tools, keyspace, tmp_path)
    half = block.with_name("tmp-00000002-abcd")
    half.mkdir()
    (half / "pages").write_bytes(b"half")
    engine = await open_engine()
    assert not half.exists()
    assert engine.stats().blocks == 1


async def test_the_log_of_a_block_that_was_finished_is_not_replayed(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine()
    await write(engine, tools, keyspace)
    log = segment(tmp_path)
    saved = log.read_bytes()
    await engine.flush()
    await engine.close()
    # As a crash between the rename of the block and the deletion of the log leaves it.
    log.write_bytes(saved)
    engine = await open_engine()
    assert not log.exists()
    assert engine.replayed.samples == 0
    assert engine.select("default", [], *EVER).sample_count == 50


async def test_damaged_metadata_is_reported_and_the_samples_stay(open_engine, tools, keyspace, tmp_path):
    await flushed(open_engine, tools, keyspace, tmp_path)
    (tmp_path / "data" / "metadata.json").write_bytes(b'{"default": 5')
    engine = await open_engine()
    assert engine.counters()["damaged_blocks"] == 1
    assert engine.select("default", [], *EVER).sample_count == 250


async def test_a_flipped_bit_in_metadata_is_noticed_and_what_earlier_versions_wrote_is_read(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine()
    about = [MetricMetadata("m", "gauge", "One.")]
    await engine.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now], [1.0], metadata=about))
    await engine.flush()
    await engine.close()
    path = tmp_path / "data" / "metadata.json"
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        (damage,) = [d for found, _, damage in offline.verify(tmp_path / "data") for d in damage if found == path]
        assert damage.path == path
    path.write_bytes(whole.partition(b"\n")[2])
    assert [d for _, _, damage in offline.verify(tmp_path / "data") for d in damage] == []
    engine = await open_engine()
    assert engine.metadata("default") == about


async def test_a_flipped_bit_in_what_is_said_of_a_block_is_noticed(open_engine, tools, keyspace, tmp_path):
    block = await flushed(open_engine, tools, keyspace, tmp_path)
    whole = (block / "meta.json").read_bytes()
    meant = read_meta(block)
    noticed = 0
    for at in range(len(whole)):
        bent = bytearray(whole)
        bent[at] ^= 1
        (block / "meta.json").write_bytes(bent)
        try:
            # A blank between two words may become another one.
            assert read_meta(block) == meant, bent.decode()
        except Corrupt as damage:
            assert (damage.path, damage.offset) == (block / "meta.json", 0)
            noticed += 1
    assert noticed > len(whole) // 2


async def test_a_block_of_before_there_was_a_checksum_is_read(open_engine, tools, keyspace, tmp_path):
    block = await flushed(open_engine, tools, keyspace, tmp_path)
    meant = read_meta(block)
    said = orjson.loads((block / "meta.json").read_bytes())
    assert said.pop("checksum")
    (block / "meta.json").write_bytes(orjson.dumps(said))
    assert read_meta(block) == meant
