"""Deletion: what it hides, what it leaves, how long it lasts, and what is left of it on disk."""

from __future__ import annotations

import asyncio
import random

import pytest

from vedette.errors import Corrupt, LimitExceeded
from vedette.model.matchers import Matcher
from vedette.model.samples import SampleBatch, canonical
from vedette.storage import tombstones
from vedette.storage.disk import Disk

EVER = (-(1 << 62), 1 << 62)
DAY = 86_400_000


def by(name: str, value: str, op: str = "=") -> list[Matcher]:
    return [Matcher(name, op, value)]


async def fill(engine, tools, keyspace, blocks=2, series=6, samples=20, start=0):
    for k in range(blocks):
        rows = [
            (tools.metric("m", i=str(i)), [(tools.now + start + k * 60_000 + t * 1000, float(t)) for t in range(samples)])
            for i in range(series)
        ]
        await engine.append(tools.batch(rows, keyspace))
        if k < blocks - 1:
            await engine.flush()


@pytest.mark.parametrize("where", ["memory", "blocks", "released", "merged"])
async def test_what_is_deleted_is_gone_and_the_rest_is_not(open_engine, tools, keyspace, clock, where):
    engine = await open_engine()
    await fill(engine, tools, keyspace)
    if where != "memory":
        await engine.flush()
    if where in ("released", "merged"):
        engine._flusher.release()
    if where == "merged":
        await clock.advance(2 * DAY / 1000)
        await engine.compact()
    before = tools.contents(engine)
    lo, hi = tools.now + 5000, tools.now + 63_000
    await engine.delete("default", [by("i", "2"), by("i", "[45]", "=~")], lo, hi)
    expected = {
        labels: [s for s in samples if labels.get("i") not in ("2", "4", "5") or not lo <= s[0] <= hi] for labels, samples in before.items()
    }
    assert tools.contents(engine) == expected
    assert sum(map(len, expected.values())) == sum(map(len, before.values())) - 3 * 19
    await engine.close()
    engine = await open_engine()
    assert tools.contents(engine) == expected


async def test_a_series_of_which_nothing_is_left_is_not_listed(open_engine, tools, keyspace):
    engine = await open_engine()
    await fill(engine, tools, keyspace)
    await engine.delete("default", [by("i", "3")], *EVER)
    assert engine.label_values("default", "i", [], *EVER) == ["0", "1", "2", "4", "5"]
    assert [s.get("i") for s in engine.series("default", [[]], *EVER)] == ["0", "1", "2", "4", "5"]
    await engine.delete("default", [by("i", "4")], tools.now, tools.now + 30_000)
    assert engine.label_values("default", "i", [], *EVER) == ["0", "1", "2", "4", "5"]
    assert engine.label_values("default", "i", [], tools.now, tools.now + 30_000) == ["0", "1", "2", "5"]
    assert engine.label_names("default", [by("i", "3")], *EVER) == []


async def test_what_is_stored_later_is_not_deleted(open_engine, tools, keyspace):
    engine = await open_engine()
    await fill(engine, tools, keyspace, blocks=1)
    await engine.delete("default", [by("i", "0")], *EVER)
    again = SampleBatch.of(keyspace, [tools.metric("m", i="0")], [tools.now + 5000], [9.0])
    assert (await engine.append(again)).samples == 1
    for _ in range(2):
        assert engine.select("default", by("i", "0"), *EVER).values.tolist() == [9.0]
        await engine.flush()
        engine._flusher.release()
    await engine.compact(clean=True)
    assert engine.select("default", by("i", "0"), *EVER).values.tolist() == [9.0]


async def test_only_the_tenants_own_is_deleted(open_engine, tools):
    engine = await open_engine()
    for tenant in ("alice", "bob"):
        await engine.append(SampleBatch.of(canonical(tenant), [tools.metric("m", i="0")], [tools.now], [1.0]))
    await engine.delete("alice", [by("i", "0")], *EVER)
    await engine.delete("charlie", [by("i", "0")], *EVER)
    assert len(engine.select("alice", [], *EVER)) == 0
    assert len(engine.select("bob", [], *EVER)) == 1
    await engine.compact(clean=True)
    assert [b.meta.tenants for b in engine._blocks.all] == [("bob",)]


async def test_cleaning_writes_blocks_again_and_forgets_the_deletions(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine()
    start = 200_000  # all in one quarter of an hour, which is not over
    await fill(engine, tools, keyspace, series=100, blocks=3, start=start)
    await engine.flush()
    engine._flusher.release()
    await engine.delete("default", [by("i", "7")], tools.now, tools.now + start + 60_000)
    before = tools.contents(engine)
    sizes = [b.meta.samples for b in engine._blocks.all]
    await engine.compact()
    assert [b.meta.samples for b in engine._blocks.all] == sizes, "one series in a hundred is not worth it"
    assert engine.counters()["tombstones"] == 1
    await engine.compact(clean=True)
    assert [b.meta.samples for b in engine._blocks.all] == [1980, 1999, 2000]
    assert engine.counters()["tombstones"] == 0
    assert tools.contents(engine) == before
    for block in engine._blocks.all:
        block.verify()
    assert tombstones.read(tmp_path / "data" / "tombstones") == ()


async def test_a_block_of_which_nothing_is_left_is_deleted(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine()
    await fill(engine, tools, keyspace)
    await engine.delete("default", [[]], *EVER)
    assert tools.contents(engine) == {}
    await engine.compact()
    assert list((tmp_path / "data" / "blocks").iterdir()) == []
    assert engine.stats().blocks == 0


async def test_random_deletions_agree_with_a_dict(open_engine, tools, keyspace, clock):
    rng = random.Random(11)
    engine = await open_engine()
    twin: dict = {}
    for step in range(40):
        rows = []
        for i in rng.sample(range(8), 5):
            labels = tools.metric("m", i=str(i))
            times = sorted(rng.sample(range(tools.now + step * 60_000, tools.now + (step + 1) * 60_000, 500), 10))
            rows.append((labels, [(t, 1.0) for t in times]))
            twin.setdefault(labels, set()).update(times)
        await engine.append(tools.batch(rows, keyspace))
        action = rng.random()
        if action < 0.3:
            pattern = rng.choice(["0", "1|2", "[3-7]", ".*5"])
            lo = tools.now + rng.randrange(step * 60_000 + 1)
            hi = lo + rng.randrange(600_000)
            await engine.delete("default", [by("i", pattern, "=~")], lo, hi)
            matcher = Matcher("i", "=~", pattern)
            for labels, times in twin.items():
                if matcher.matches(labels.get("i")):
                    times -= {t for t in times if lo <= t <= hi}
        elif action < 0.5:
            await engine.flush()
        elif action < 0.65:
            await engine.compact(clean=rng.random() < 0.5)
        elif action < 0.7:
            await engine.close()
            engine = await open_engine()
        elif action < 0.75:
            await clock.advance(900)
        got = {labels: {t for t, _ in samples} for labels, samples in tools.contents(engine).items()}
        assert got == {labels: times for labels, times in twin.items() if times}


async def test_a_deletion_that_cannot_be_kept_is_refused(open_engine, tools, keyspace, monkeypatch):
    disk = Disk()
    engine = await open_engine(disk=disk)
    await fill(engine, tools, keyspace)
    before = tools.contents(engine)

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "replace_file", full)
    with pytest.raises(LimitExceeded, match="No space left") as caught:
        await engine.delete("default", [by("i", "0")], *EVER)
    assert caught.value.retry_after
    assert tools.contents(engine) == before


async def test_damaged_deletions_are_reported_and_set_aside(open_engine, tools, keyspace, tmp_path):
    engine = await open_engine()
    await fill(engine, tools, keyspace)
    await engine.delete("default", [by("i", "0")], *EVER)
    await engine.close()
    path = tmp_path / "data" / "tombstones"
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        bent = bytearray(whole)
        bent[at] ^= 16
        path.write_bytes(bent)
        with pytest.raises(Corrupt):
            tombstones.read(path)
    engine = await open_engine()
    assert engine.counters()["damaged_blocks"] == 1
    assert not path.exists()
    assert path.with_name("tombstones.damaged").exists()
    assert engine.select("default", [], *EVER).sample_count > 0


def test_a_file_is_replaced_whole(tmp_path, monkeypatch):
    path, disk = tmp_path / "file", Disk()
    disk.replace_file(path, b"one")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "sync", full)
    with pytest.raises(OSError, match="No space"):
        disk.replace_file(path, b"two")
    assert path.read_bytes() == b"one"


@pytest.mark.usefixtures("only_when_asked")
async def test_a_reader_that_has_a_block_still_knows_what_was_deleted_of_it(open_engine, tools, keyspace, monkeypatch):
    """The block is written again and the deletion forgotten between the reader's list of blocks and its reading them."""
    engine = await open_engine()
    rows = [tools.metric("m", i=str(i)) for i in range(3)]
    await engine.append(SampleBatch.of(keyspace, rows, [tools.now] * 3, [1.0] * 3))
    await engine.delete("default", [[Matcher("i", "=", "1")]], *EVER)
    loop, inner = asyncio.get_running_loop(), engine._presence.block_rows
    forgotten = []

    def interrupted(*arguments):
        asyncio.run_coroutine_threadsafe(engine.compact(clean=True), loop).result(timeout=20)
        forgotten.append(len(engine._tombstones))
        return inner(*arguments)

    monkeypatch.setattr(engine._presence, "block_rows", interrupted)
    found = await asyncio.to_thread(engine.select, "default", [], *EVER)
    assert sorted(labels.get("i") for labels in found.labels) == ["0", "2"]
    assert forgotten == [0], "the deletion was forgotten before the block was read"
    assert await asyncio.to_thread(engine.label_values, "default", "i", [], *EVER) == ["0", "2"]


async def test_a_deletion_that_is_added_while_others_are_forgotten_stays(open_engine, tools, keyspace):
    """What concerns the newest block alone is not forgotten for want of the blocks there were a moment before."""
    engine = await open_engine()
    tombs, blocks = engine._tombstones, engine._blocks

    def asked():
        assert tombs.lock.locked(), "nothing may be added between the list of blocks and what is forgotten by it"
        return blocks.all

    tombs.forget(asked)
    await engine.append(SampleBatch.of(keyspace, [tools.metric("m")], [tools.now], [1.0]))
    await engine.delete("default", [[Matcher("__name__", "=", "m")]], *EVER)
    tombs.forget(asked)
    assert len(tombs) == 1


async def test_deletions_beside_flushes_merges_and_appends(open_engine, tools, keyspace, clock):
    """What is deleted stays deleted, whatever is written to blocks meanwhile; what others append meanwhile stays."""
    engine = await open_engine(retention=0, out_of_order_window=1 << 40)
    gone, kept, going = 0, [], True

    async def append() -> None:
        for k in range(120):
            rows = [(tools.metric("m", i=i), [(tools.now + k * 1000, float(k))]) for i in ("0", "1")]
            await engine.append(tools.batch(rows, keyspace))
            kept.append(tools.now + k * 1000)
            while k == 60 and gone < tools.now:
                await asyncio.sleep(0)  # until something was deleted, however fast appends are

    async def shuffle() -> None:
        while going:
            await engine.flush()
            await engine.compact(clean=len(kept) % 2 == 0)

    async def delete() -> None:
        nonlocal gone
        while going:
            upto = kept[-1] if kept else tools.now - 1
            await engine.delete("default", [by("i", "1")], EVER[0], upto)
            gone = upto
            found = engine.select("default", by("i", "1"), *EVER).timestamps
            assert not len(found) or found.min() > gone

    writer = asyncio.create_task(append())
    others = [asyncio.create_task(shuffle()), asyncio.create_task(delete())]
    await writer
    going = False
    await asyncio.gather(*others)
    for _ in range(2):
        assert engine.select("default", by("i", "0"), *EVER).timestamps.tolist() == kept
        left = engine.select("default", by("i", "1"), *EVER).timestamps.tolist()
        assert left == [t for t in kept if t > gone]
        await engine.close()
        engine = await open_engine(retention=0)
