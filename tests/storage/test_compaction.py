"""Blocks become fewer and say the same; which ones, when, and what a crash in between leaves."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest

from vedette.errors import Corrupt
from vedette.model.matchers import Matcher
from vedette.model.samples import SampleBatch
from vedette.storage import block_writer, compaction, levels, pages
from vedette.storage.block_meta import Meta
from vedette.storage.blocks import Blocks
from vedette.storage.disk import Disk

pytestmark = pytest.mark.usefixtures("only_when_asked")

EVER = (-(1 << 62), 1 << 62)
HOUR = 3_600_000
DAY = 24 * HOUR
MIDNIGHT = 20_000 * DAY


def meta(sequence: int, max_time: int, samples: int = 10) -> Meta:
    return Meta(0, max_time, 1, samples, ("t",), (), sequence, 1, sequence)


def run_due(ends: list[int], now: int, sizes: list[int] | None = None, fixed: set[int] = frozenset()) -> tuple[int, int] | None:
    metas = [meta(i + 1, MIDNIGHT + end, (sizes or [10] * len(ends))[i]) for i, end in enumerate(ends)]
    return levels.due(metas, MIDNIGHT + now, fixed=fixed)


@pytest.mark.parametrize(
    ("ends", "now", "expected"),
    [
        ([], DAY, None),
        ([HOUR], 2 * DAY, None),
        ([1, 2, 20 * 60_000], 20 * 60_000, (0, 2)),
        ([1, 2], 14 * 60_000, None),
        ([1, 2], 15 * 60_000, (0, 2)),
        ([HOUR - 1, HOUR + 1, 2 * HOUR], 2 * HOUR, (0, 2)),
        ([HOUR, 3 * HOUR, 5 * HOUR], 23 * HOUR, None),
        ([HOUR, 3 * HOUR, 5 * HOUR], 24 * HOUR, (0, 3)),
        ([HOUR, 3 * HOUR, 5 * HOUR, DAY], 24 * HOUR, (0, 3)),
        ([HOUR, DAY + HOUR, 3 * HOUR], 9 * DAY, None),
    ],
)
def test_neighbours_in_one_window_are_due(ends, now, expected):
    assert run_due(ends, now) == expected


def test_a_large_first_block_waits_for_as_much_as_itself():
    assert run_due([1, 2, 3], DAY, sizes=[100, 10, 10]) == (1, 3)
    assert run_due([1, 2], DAY, sizes=[100, 10]) is None
    assert run_due([1, 2, DAY], DAY, sizes=[100, 10, 10]) == (0, 2)


def test_a_fixed_block_parts_its_neighbours():
    assert run_due([1, 2, 3, 4, 5], DAY, fixed={3}) == (0, 2)
    assert run_due([1, 2, 3], DAY, fixed={2}) is None


def test_late_data_is_rewritten_a_logarithmic_number_of_times():
    sizes: list[int] = []
    rewritten = 0
    for _ in range(1000):
        sizes.append(1)
        while (found := run_due([1] * len(sizes), DAY, sizes)) is not None:
            lo, hi = found
            rewritten += sum(sizes[lo:hi])
            sizes[lo:hi] = [sum(sizes[lo:hi])]
    assert len(sizes) <= 11
    assert rewritten <= 1000 * 11


async def fill(engine, tools, keyspace, clock, *, blocks=6, every=2 * HOUR, seed=1):
    """Blocks two hours apart, each with some series of its own, some samples late into the block before."""
    rng = random.Random(seed)
    for k in range(blocks):
        rows = []
        for i in rng.sample(range(30), 20):
            base = tools.now + k * every
            times = sorted(rng.sample(range(0, every, 1000), 40))
            late = [(base - rng.randrange(0, 600_000, 1000), rng.random()) for _ in range(rng.randrange(3))] if k else []
            rows.append(
                (tools.metric(f"m{i % 3}", i=str(i), only=str(k) if i == 7 else ""), [(base + t, rng.random()) for t in times] + late)
            )
        await engine.append(tools.batch(rows, keyspace))
        await clock.advance(every / 1000)
        await engine.flush()


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_merged_says_the_same(open_engine, tools, keyspace, clock, seed):
    engine = await open_engine()
    await fill(engine, tools, keyspace, clock, seed=seed)
    await engine.append(SampleBatch.of(keyspace, [tools.metric("m0", i="0")], [tools.now + DAY], [5.0]))
    before = tools.contents(engine)
    names = engine.label_values("default", "__name__", [], *EVER)
    assert engine.stats().blocks == 6
    await clock.advance(DAY / 1000)
    await engine.compact()
    # The samples lie in two days; the last block of all was held until it was released.
    assert engine.stats().blocks <= 2
    assert tools.contents(engine) == before
    assert engine.label_values("default", "__name__", [], *EVER) == names
    for block in engine._blocks.all:
        block.verify()
    await engine.close()
    again = await open_engine()
    assert tools.contents(again) == before
    matchers = [Matcher("i", "=~", "1.*"), Matcher("__name__", "!=", "m1")]
    lo, hi = tools.now + 3 * HOUR, tools.now + 7 * HOUR
    expected = {
        labels: inside
        for labels, samples in before.items()
        if all(m.matches(labels.get(m.name)) for m in matchers) and (inside := [s for s in samples if lo <= s[0] <= hi])
    }
    found = again.select("default", matchers, lo, hi)
    assert {labels: found.offsets[i + 1] - found.offsets[i] for i, labels in enumerate(found.labels)} == {
        labels: len(samples) for labels, samples in expected.items()
    }


async def test_of_two_samples_at_one_time_the_one_stored_first_stays(open_engine, tools, keyspace, clock):
    engine = await open_engine(out_of_order_window=DAY)
    labels = tools.metric("m")
    for k in range(4):
        # Memory forgets what is in a block, so the second generation after does not know the time again.
        rows = [(labels, [(tools.now + k * 60_000, float(k)), (tools.now - HOUR, float(k))])]
        await engine.append(tools.batch(rows, keyspace))
        await engine.flush()
        engine._flusher.release()
    before = tools.contents(engine)
    assert before[labels][0] == (tools.now - HOUR, 0)
    assert sum(b.meta.samples for b in engine._blocks.all) > len(before[labels])
    await clock.advance(2 * DAY / 1000)
    await engine.compact()
    assert engine.stats().blocks == 1
    assert tools.contents(engine) == before


async def test_long_series_and_tenants_are_merged(open_engine, tools, clock, monkeypatch):
    monkeypatch.setattr(pages, "LARGEST", 100)
    monkeypatch.setattr(block_writer, "PAGE_SAMPLES", 150)
    from vedette.model.samples import canonical

    engine = await open_engine()
    spaces = {tenant: canonical(tenant) for tenant in ("zoe", "alice", "bob")}
    for k in range(3):
        for space in list(spaces.values())[k and k - 1 :]:
            rows = [
                (tools.metric("m", i=str(i)), [(tools.now + k * 10_000 + t, t + k) for t in range(n)]) for i, n in enumerate([1, 350, 99])
            ]
            await engine.append(tools.batch([(labels, [(t, float(v)) for t, v in s]) for labels, s in rows], space))
        await engine.flush()
    before = {tenant: tools.contents(engine, tenant) for tenant in spaces}
    await clock.advance(2 * DAY / 1000)
    await engine.compact()
    (block,) = engine._blocks.all
    assert block.meta.tenants == ("alice", "bob", "zoe")
    assert (block.meta.level, block.meta.order, block.meta.replaces) == (2, 1, (1, 2, 3))
    assert {tenant: tools.contents(engine, tenant) for tenant in spaces} == before
    block.verify()


async def test_a_crash_between_the_rename_and_the_deletion_leaves_nothing_twice(open_engine, tools, keyspace, clock, tmp_path):
    engine = await open_engine()
    await fill(engine, tools, keyspace, clock, blocks=3)
    before = tools.contents(engine)
    directory = tmp_path / "data" / "blocks"
    shutil.copytree(directory, tmp_path / "sources")
    await clock.advance(2 * DAY / 1000)
    await engine.compact()
    await engine.close()
    (merged,) = directory.iterdir()
    for path in (tmp_path / "sources").iterdir():
        shutil.copytree(path, directory / path.name)
    engine = await open_engine()
    assert [p.name for p in directory.iterdir()] == [merged.name]
    assert tools.contents(engine) == before
    # Numbers go on beyond all that were ever given.
    await engine.append(SampleBatch.of(keyspace, [tools.metric("later")], [tools.now + 3 * DAY], [1.0]))
    await engine.flush()
    assert max(b.meta.sequence for b in engine._blocks.all) == 5


async def test_a_damaged_block_is_reported_and_left_as_it_is(open_engine, tools, keyspace, clock, tmp_path):
    engine = await open_engine()
    await fill(engine, tools, keyspace, clock, blocks=4, every=HOUR // 4)
    await engine.close()
    bent = sorted((tmp_path / "data" / "blocks").iterdir())[1]
    raw = bytearray((bent / "pages").read_bytes())
    raw[100] ^= 1
    (bent / "pages").write_bytes(raw)
    engine = await open_engine()
    await clock.advance(2 * DAY / 1000)
    with pytest.raises(Corrupt) as caught:
        await engine.compact()
    assert (caught.value.path, caught.value.offset) == (bent / "pages", 8)
    await engine.compact()
    assert bent.exists()
    assert engine.stats().blocks == 3, "the blocks beyond the damaged one are merged all the same"
    counters = engine.counters()
    assert (counters["compaction_failures"], counters["damaged_blocks"], counters["compactions"]) == (1, 1, 1)


async def test_without_room_nothing_is_merged(open_engine, tools, keyspace, clock, monkeypatch):
    engine = await open_engine()
    await fill(engine, tools, keyspace, clock, blocks=3)
    monkeypatch.setattr(compaction.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    await clock.advance(2 * DAY / 1000)
    await engine.compact()
    assert engine.stats().blocks == 3
    monkeypatch.undo()
    await engine.compact()
    assert engine.stats().blocks == 1


async def test_reads_beside_a_merge_see_everything_once(open_engine, tools, keyspace, clock):
    import asyncio

    engine = await open_engine()
    await fill(engine, tools, keyspace, clock, blocks=8)
    expected = sum(len(v) for v in tools.contents(engine).values())
    await clock.advance(2 * DAY / 1000)
    merging = asyncio.create_task(engine.compact())
    reads = 0
    while not merging.done() or reads < 3:
        found = await asyncio.to_thread(engine.select, "default", [], *EVER)
        assert found.sample_count == expected
        reads += 1
    await merging
    assert engine.stats().blocks == 1


async def test_a_block_that_was_deleted_stays_readable_for_whoever_holds_it(open_engine, tools, keyspace, clock):
    engine = await open_engine()
    await fill(engine, tools, keyspace, clock, blocks=2)
    await engine.close()
    engine = await open_engine()
    held = engine._blocks.all[0]
    await clock.advance(2 * DAY / 1000)
    await engine.compact()
    assert not held.path.exists()
    held.rest()
    held.rest()
    held.verify()
    rows = held.index("default").all_ids
    assert held.read(rows, *EVER)[0][-1] == held.meta.samples


async def test_an_index_that_nobody_asks_for_is_let_go(open_engine, tools, keyspace, clock):
    engine = await open_engine()
    await fill(engine, tools, keyspace, clock, blocks=2)
    await engine.compact()
    blocks = engine._blocks.all
    assert len(engine.select("default", [], *EVER)) > 0
    await engine.compact()
    assert any(block._views for block in blocks), "it was asked for a moment ago"
    await engine.compact()
    assert not any(block._views for block in blocks)
    assert len(engine.select("default", [], *EVER)) > 0, "whoever asks next maps it again"


def test_numbers_of_damaged_blocks_are_not_given_again(tmp_path):
    (tmp_path / "00000007-1-2").mkdir()
    blocks = Blocks(tmp_path, Disk(), page_cache=0)
    blocks.load()
    assert (blocks.damaged, blocks.take_sequence()) == (1, 8)


def test_erase_and_remaining_agree_with_lists():
    from vedette.kernels import block as kernel

    rng = random.Random(5)
    for _ in range(200):
        rows = sorted(rng.sample(range(12), rng.randint(1, 8)))
        samples = [sorted(rng.sample(range(40), rng.randint(0, 10))) for _ in rows]
        gone = sorted((rng.randrange(12), a := rng.randrange(40), a + rng.randrange(12)) for _ in range(rng.randint(0, 10)))
        g = [np.array([x[i] for x in gone], dtype=np.int64) for i in range(3)]
        offsets = np.cumsum([0, *map(len, samples)], dtype=np.int64)
        times = np.array([t for s in samples for t in s], dtype=np.int64)
        bits = times * 7
        left = kernel.erase(np.array(rows), offsets, times, bits, *g)
        expected = [[t for t in s if not any(r == row and a <= t <= b for r, a, b in gone)] for row, s in zip(rows, samples, strict=True)]
        assert [times[offsets[i] : offsets[i + 1]].tolist() for i in range(len(rows))] == expected
        assert left == offsets[-1] and (bits[:left] == times[:left] * 7).all()
        start, end = rng.randrange(30), rng.randrange(20, 50)
        firsts, lasts = (np.array([rng.randrange(20) for _ in rows]) for _ in range(2))
        lasts += firsts
        out = np.empty(len(rows), dtype=np.bool_)
        kernel.remaining(np.array(rows), firsts, lasts, start, end, *g, out)
        for i, row in enumerate(rows):
            ms = [t for t in range(max(firsts[i], start), min(lasts[i], end) + 1) if not any(r == row and a <= t <= b for r, a, b in gone)]
            assert out[i] == bool(ms)
