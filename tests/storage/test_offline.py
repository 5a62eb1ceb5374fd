"""Snapshots and verifying: a link is a copy, and a flipped bit in any kind of file is found where it is."""

from __future__ import annotations

import random
import shutil

import pytest

from vedette.errors import BadInput, LimitExceeded
from vedette.model.matchers import Matcher
from vedette.model.samples import MetricMetadata, SampleBatch
from vedette.storage import offline, snapshots
from vedette.storage.disk import Disk
from vedette.storage.queue import Item, Queue

DAY = 86_400_000


async def fill(engine, tools, keyspace, clock):
    """A block, deletions from it, metadata, and something in the log alone."""
    rows = [(tools.metric("m", i=str(i)), [(tools.now + t * 1000, float(t)) for t in range(50)]) for i in range(5)]
    await engine.append(tools.batch(rows, keyspace))
    await engine.append(SampleBatch.of(keyspace, [], [], [], metadata=[MetricMetadata("m", "gauge", "One.")]))
    await engine.delete("default", [[Matcher("i", "=", "3")]], tools.now, tools.now + 9000)
    await engine.append(SampleBatch.of(keyspace, [tools.metric("late")], [tools.now + 60_000], [1.0]))


@pytest.mark.parametrize("skip_head", [False, True])
async def test_a_snapshot_is_a_data_directory_of_its_moment(open_engine, tools, keyspace, clock, tmp_path, skip_head):
    engine = await open_engine()
    await fill(engine, tools, keyspace, clock)
    before = tools.contents(engine)
    name = await engine.snapshot(skip_head=skip_head)
    assert name.startswith("20231114T221320Z-")
    # Whatever happens afterwards, the snapshot stays as it is.
    await engine.delete("default", [[]], -(1 << 62), 1 << 62)
    await clock.advance(2 * DAY / 1000)
    await engine.compact(clean=True)
    assert tools.contents(engine) == {}
    shutil.copytree(tmp_path / "data" / "snapshots" / name, tmp_path / "copy")
    copy = await open_engine(data=tmp_path / "copy")
    expected = before if not skip_head else {labels: s for labels, s in before.items() if labels.metric == "m"}
    assert tools.contents(copy) == expected
    assert copy.metadata("default") == [MetricMetadata("m", "gauge", "One.")]


async def test_a_snapshot_beside_merging_misses_no_file(open_engine, tools, keyspace, clock, tmp_path):
    import asyncio

    engine = await open_engine()
    for k in range(12):
        await engine.append(tools.batch([(tools.metric("m"), [(tools.now + k * 60_000, float(k))])], keyspace))
        await engine.flush()
    before = tools.contents(engine)
    await clock.advance(2 * DAY / 1000)
    names = await asyncio.gather(engine.snapshot(), engine.compact(), engine.snapshot(), engine.compact(clean=True), engine.snapshot())
    for i, name in enumerate(n for n in names if n):
        snapshots.restore(tmp_path / "data" / "snapshots" / name, tmp_path / f"copy{i}")
        copy = await open_engine(data=tmp_path / f"copy{i}")
        assert tools.contents(copy) == before


async def test_a_snapshot_that_cannot_be_written_leaves_nothing(open_engine, tools, keyspace, clock, monkeypatch, tmp_path):
    disk = Disk()
    engine = await open_engine(disk=disk)
    await fill(engine, tools, keyspace, clock)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "link", full)
    with pytest.raises(LimitExceeded, match="No space left"):
        await engine.snapshot()
    assert list((tmp_path / "data" / "snapshots").iterdir()) == []


async def test_only_a_snapshot_is_restored_and_only_to_an_empty_place(open_engine, tools, keyspace, clock, tmp_path):
    engine = await open_engine()
    await fill(engine, tools, keyspace, clock)
    source = tmp_path / "data" / "snapshots" / await engine.snapshot()
    done = []
    snapshots.restore(source, tmp_path / "new", progress=lambda path, size: done.append(size))
    assert sum(done) == sum(f.stat().st_size for f in snapshots.files_of(source)) > 0
    with pytest.raises(BadInput, match="holds samples already"):
        snapshots.restore(source, tmp_path / "new")
    with pytest.raises(BadInput, match="not a snapshot"):
        snapshots.restore(tmp_path, tmp_path / "other")


async def test_what_is_whole_is_called_whole(open_engine, tools, keyspace, clock, tmp_path):
    engine = await open_engine()
    await fill(engine, tools, keyspace, clock)
    await engine.close()
    found = list(offline.verify(tmp_path / "data"))
    assert [damage for _, _, damage in found] == [[]] * len(found)
    assert {path.name.split("-")[0] for path, _, _ in found} == {"00000001", "00000002.wal", "tombstones", "metadata.json"}


async def test_a_flipped_bit_in_any_kind_of_file_is_found_where_it_is(open_engine, tools, keyspace, clock, tmp_path):
    engine = await open_engine()
    await fill(engine, tools, keyspace, clock)
    before = tools.contents(engine)
    await engine.close()
    data = tmp_path / "data"
    rng, found_in, missed = random.Random(9), {}, []
    for file in snapshots.files_of(data):
        whole = file.read_bytes()
        for _ in range(30):
            at, bit = rng.randrange(len(whole)), rng.randrange(8)
            bent = bytearray(whole)
            bent[at] ^= 1 << bit
            file.write_bytes(bent)
            damage = [d for _, _, found in offline.verify(data) for d in found]
            assert {d.path for d in damage} <= {file}
            assert all(0 <= d.offset <= len(whole) for d in damage)
            found_in[file.suffix or file.name] = found_in.get(file.suffix or file.name, 0) + bool(damage)
            if not damage:
                missed.append((file, at, bent))
        file.write_bytes(whole)
    # JSON that is bent may still be JSON; sections are padded, and so is a segment's header.
    assert {kind: n > 15 for kind, n in found_in.items() if kind != ".json"} == dict.fromkeys(
        ("pages", "index", "tombstones", ".wal"), True
    )
    for file, at, bent in missed:
        if file.suffix == ".json":
            continue
        whole = file.read_bytes()
        file.write_bytes(bent)
        shutil.copytree(data, tmp_path / "bent")
        engine = await open_engine(data=tmp_path / "bent")
        assert tools.contents(engine) == before, f"byte {at} of {file} was bent, and nobody noticed"
        await engine.close()
        shutil.rmtree(tmp_path / "bent")
        file.write_bytes(whole)


async def test_several_damaged_pages_are_all_told(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine()
    rows = [(tools.metric("m", i=str(i)), [(tools.now + t, float(t)) for t in range(2000)]) for i in range(50)]
    await engine.append(tools.batch(rows, keyspace))
    await engine.flush()
    table = engine._blocks.all[0]._take("pages", "i8").reshape(-1, 3).tolist()
    await engine.close()
    (block,) = offline.block_paths(tmp_path / "data")
    raw = bytearray((block / "pages").read_bytes())
    for _, offset, size in (table[0], table[3]):
        raw[offset + size - 1] ^= 1
    (block / "pages").write_bytes(raw)
    damage = [d for _, _, found in offline.verify(tmp_path / "data") for d in found]
    assert [(d.path, d.offset) for d in damage] == [(block / "pages", table[0][1]), (block / "pages", table[3][1])]


async def test_figures_count_a_series_once_wherever_it_lies(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine()
    rows = [tools.metric("m", i=str(i)) for i in range(7)] + [tools.metric("n", i="0")]
    for k in range(2):
        await engine.append(SampleBatch.of(keyspace, rows, [tools.now + k] * 8, [1.0] * 8))
        await engine.flush()
    await engine.append(SampleBatch.of(keyspace, [*rows, tools.metric("n", i="1")], [tools.now + 5] * 9, [1.0] * 9))
    await engine.close()
    total, figures, _ = offline.figures(tmp_path / "data", since=0, top=1)
    assert (total, list(figures.series_by_metric), list(figures.values_by_label)) == (9, [("m", 7)], [("i", 7)])
    assert offline.figures(tmp_path / "data", since=tools.now + 1, top=5)[1].series_by_metric == [("m", 7), ("n", 2)]


def test_queues_are_read_too(tmp_path):
    for place in ("exemplars", "remote/queue", "forward/there/queue"):
        directory = tmp_path / place
        directory.parent.mkdir(parents=True, exist_ok=True)
        queue = Queue(directory, limit=1 << 20, added=lambda _: None)
        queue.open()
        queue.put([Item("default", 1, 2, b"body" * 10)])
        queue.close()
    assert [d for _, _, found in offline.verify(tmp_path) for d in found] == []
    (segment,) = (tmp_path / "exemplars").glob("*.wal")
    raw = segment.read_bytes()
    segment.write_bytes(raw[:-4] + bytes([raw[-4] ^ 1]) + raw[-3:])
    (damage,) = [d for _, _, found in offline.verify(tmp_path) for d in found]
    assert damage.path == segment
    # Cut off in its last record it is what a crash leaves, and a copy that is made beside writes.
    segment.write_bytes(raw[:-4])
    assert [d for _, _, found in offline.verify(tmp_path) for d in found] == []


def test_a_snapshots_log_lines_and_exemplars_are_restored(tmp_path):
    for file in ("blocks/.keep", "logs/segments/a%2Fb/1.parquet", "logs/wal/1.wal", "exemplars/1.wal"):
        (tmp_path / "snap" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "snap" / file).write_text(file)
    snapshots.restore(tmp_path / "snap", tmp_path / "data")
    for file in ("logs/segments/a%2Fb/1.parquet", "logs/wal/1.wal", "exemplars/1.wal"):
        assert (tmp_path / "data" / file).read_text() == file
    with pytest.raises(BadInput, match="holds samples already"):
        snapshots.restore(tmp_path / "snap", tmp_path / "data")


async def test_a_restore_that_was_interrupted_is_no_data_directory_and_begins_again(open_engine, tools, keyspace, clock, tmp_path):
    engine = await open_engine()
    await fill(engine, tools, keyspace, clock)
    before = tools.contents(engine)
    snapshot = tmp_path / "data" / "snapshots" / await engine.snapshot()
    target = tmp_path / "new"
    count = len(snapshots.files_of(snapshot))
    for stop in range(count + 1):
        done = []

        def progress(path, size, done=done, stop=stop):
            done.append(path)
            if len(done) == stop:
                raise KeyboardInterrupt

        def beside(stop=stop):
            if stop == 0:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            snapshots.restore(snapshot, target, progress=progress, beside=beside)
        with pytest.raises(BadInput, match="not restored completely here"):
            await open_engine(data=target)
    snapshots.restore(snapshot, target)
    copy = await open_engine(data=target)
    assert tools.contents(copy) == before
