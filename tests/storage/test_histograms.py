"""Native histograms come back as they were stored: from memory, the log, blocks, merged blocks, after deletion."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pcodec import standalone

from vedette.errors import Corrupt
from vedette.model.histogram_arithmetic import equal
from vedette.model.histograms import (
    CUSTOM_SCHEMA,
    GAUGE,
    NO_BUCKETS,
    NOT_RESET,
    RESET,
    UNKNOWN,
    Histogram,
    Histograms,
    Layout,
    LayoutTable,
)
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import STALE, STALE_BITS, SampleBatch, canonical
from vedette.storage import histogram_layouts, offline, wal
from vedette.storage.histogram_head import HeadHistograms
from vedette.storage.histogram_wal import histograms_record, read_histograms
from vedette.storage.sections import Sections

NOW = 1_700_000_000_000
EVER = (-(1 << 62), 1 << 62)
GOLDEN = Path(__file__).parent / "golden" / "histograms"
A, B, C = (Labels.of(__name__="h", i=i) for i in "abc")
EXPONENTIAL = Layout(3, 2.0**-128, (), np.array([-2, -1, 5], dtype=np.int32), np.array([7], dtype=np.int32))
CUSTOM = Layout(CUSTOM_SCHEMA, 0.0, (0.1, 1.0, 10.0), np.arange(4, dtype=np.int32), NO_BUCKETS)


def sample(k: float, *, layout: Layout = EXPONENTIAL, hint: int = UNKNOWN) -> Histogram:
    """A histogram that says by its numbers which it is."""
    return Histogram(layout, np.array([10 * k, k + 0.25, *(k + np.arange(layout.width - 2))]), hint)


def read(engine, tenant: str = "default", start: int = EVER[0], end: int = EVER[1]) -> dict:
    """{series: [(time, value or histogram)]}."""
    found = engine.select(tenant, [], start, end)
    native = {} if found.histograms is None else {int(at): found.histograms.sample(j) for j, at in enumerate(found.histograms.at)}
    rows: dict = {}
    for i, labels in enumerate(found.labels):
        span = range(int(found.offsets[i]), int(found.offsets[i + 1]))
        rows[labels] = [(int(found.timestamps[j]), native.get(j, float(found.values[j]))) for j in span]
    return rows


def same(got: dict, wanted: dict) -> bool:
    """Equality to the bit, hints included."""
    assert got.keys() == wanted.keys()
    for labels, samples in wanted.items():
        assert [t for t, _ in got[labels]] == [t for t, _ in samples], labels
        for (_, g), (_, w) in zip(got[labels], samples, strict=True):
            assert isinstance(g, Histogram) == isinstance(w, Histogram), (labels, g, w)
            if isinstance(w, Histogram):
                assert equal(g, w), (g, w)
                assert g.hint == w.hint
            else:
                assert struct.pack("<d", g) == struct.pack("<d", w)
    return True


async def append(engine, *samples: tuple, keyspace=None):
    """Samples (series, time after NOW, value) in one batch."""
    labels, times, values = zip(*samples, strict=True)
    return await engine.append(SampleBatch.of(keyspace or canonical(), labels, [NOW + t for t in times], values))


async def reopened(open_engine, engine):
    await engine.close()
    return await open_engine()


WAYS = ("memory", "log", "block", "merged")


async def taken(engine, open_engine, way: str):
    """The engine with what it holds moved to where `way` says."""
    if way == "log":
        return await reopened(open_engine, engine)
    if way in ("block", "merged"):
        await engine.flush()
        engine._flusher.release()
    if way == "merged":
        await engine.compact(clean=True)
    return engine


@pytest.mark.parametrize("way", WAYS)
async def test_histograms_and_floats_come_back_as_they_came(open_engine, way):
    engine = await open_engine()
    wanted = {
        A: [(NOW, sample(1)), (NOW + 1000, sample(2, layout=CUSTOM, hint=GAUGE)), (NOW + 2000, 4.5), (NOW + 3000, sample(3, hint=RESET))],
        B: [(NOW, 7.0), (NOW + 1000, 8.0)],
        C: [(NOW + 1000, sample(4)), (NOW + 3000, sample(5))],
    }
    for t in (0, 1000, 2000, 3000):
        await append(engine, *((labels, t, v) for labels, samples in wanted.items() for at, v in samples if at == NOW + t))
    engine = await taken(engine, open_engine, way)
    assert same(read(engine), wanted)
    inside = {labels: [(t, v) for t, v in samples if NOW + 500 <= t <= NOW + 2500] for labels, samples in wanted.items()}
    assert same(read(engine, start=NOW + 500, end=NOW + 2500), inside)
    assert engine.counters()["wal_corrupt_records"] == engine.counters()["damaged_blocks"] == 0


@pytest.mark.parametrize("way", WAYS)
async def test_a_stale_histogram_is_a_stale_sample(open_engine, way):
    engine = await open_engine()
    stale = Histogram(EXPONENTIAL, np.array([0.0, STALE, *[0.0] * (EXPONENTIAL.width - 2)]))
    await append(engine, (A, 0, sample(1)), (A, 1000, stale))
    engine = await taken(engine, open_engine, way)
    found = engine.select("default", [], *EVER)
    assert found.values.view(np.uint64).tolist()[1] == STALE_BITS
    assert found.histograms is not None
    assert found.histograms.at.tolist() == [0, 1]


async def test_the_hint_that_there_was_no_reset_is_not_kept(open_engine):
    engine = await open_engine()
    await append(engine, (A, 0, sample(1, hint=NOT_RESET)), (A, 1000, sample(2, hint=RESET)), (A, 2000, sample(3, hint=GAUGE)))
    assert [h.hint for _, h in read(engine)[A]] == [UNKNOWN, RESET, GAUGE]


@pytest.mark.parametrize("way", WAYS)
async def test_late_histograms_take_their_place(open_engine, way):
    engine = await open_engine()
    await append(engine, (A, 60_000, sample(3)), (B, 60_000, 1.0))
    if way == "merged":
        await engine.flush()
    await append(engine, (A, 0, sample(1)), (A, 30_000, sample(2)), (B, 0, sample(9)))
    engine = await taken(engine, open_engine, way)
    assert same(
        read(engine),
        {A: [(NOW, sample(1)), (NOW + 30_000, sample(2)), (NOW + 60_000, sample(3))], B: [(NOW, sample(9)), (NOW + 60_000, 1.0)]},
    )


async def test_a_second_sample_at_one_time_is_refused(open_engine):
    engine = await open_engine()
    await append(engine, (A, 0, sample(1)))
    again = await append(engine, (A, 0, sample(1)))
    assert (again.samples, again.dropped) == (1, {})
    other = await append(engine, (A, 0, sample(2)))
    assert (other.samples, other.dropped) == (0, {"duplicate": 1})
    same_sum = Histogram(EXPONENTIAL, sample(1).cells + np.array([1, 0, 1, 0, 0, 0, 0]))
    other_layout = Histogram(CUSTOM, np.array([10.0, 1.25, 0, 1, 2, 3, 4]))
    for pretender in (same_sum, other_layout):
        refused = await append(engine, (A, 0, pretender), (B, 0, sample(3)))
        assert (refused.samples, refused.dropped) == (1, {"duplicate": 1}), "only the sum is the same"
    a_float = await append(engine, (A, 0, 5.0))
    assert a_float.dropped == {"duplicate": 1}
    too_late = await append(engine, (A, 10_000_000, sample(3)), (A, 0, sample(4)))
    assert too_late.dropped == {"too_old": 1}
    assert same(read(engine), {A: [(NOW, sample(1)), (NOW + 10_000_000, sample(3))], B: [(NOW, sample(3))]})


async def test_a_float_that_is_as_a_histogram_in_its_sum_alone_is_none(open_engine):
    engine = await open_engine(out_of_order_window=60_000)
    await append(engine, (A, 0, sample(1)), (A, 30_000, sample(2)), (B, 0, 5.0), (B, 30_000, 7.0))
    total = float(sample(1).cells[1])
    for at, pretender in ((0, total), (30_000, float(sample(2).cells[1]))):
        refused = await append(engine, (A, at, pretender), (B, at, 5.0 if at == 0 else 7.0), (C, at, 1.0))
        assert (refused.samples, refused.histograms, refused.dropped) == (2, 0, {"duplicate": 1}), "B's are repeated, C's are new"
    as_float = Histogram(EXPONENTIAL, np.array([9.0, 7.0, *sample(1).cells[2:]]))
    refused = await append(engine, (B, 30_000, as_float), (A, 30_000, sample(2)))
    assert (refused.samples, refused.dropped) == (1, {"duplicate": 1}), "a float stands there"
    both = Histogram(EXPONENTIAL, sample(3).cells + np.array([1, 0, 1, 0, 0, 0, 0]))
    twice = await append(engine, (A, 60_000, sample(3)), (A, 60_000, sample(3)), (A, 60_000, both))
    assert (twice.samples, twice.dropped) == (2, {"duplicate": 1}), "within one request, too"
    assert same(
        read(engine),
        {
            A: [(NOW, sample(1)), (NOW + 30_000, sample(2)), (NOW + 60_000, sample(3))],
            B: [(NOW, 5.0), (NOW + 30_000, 7.0)],
            C: [(NOW, 1.0), (NOW + 30_000, 1.0)],
        },
    )


async def test_of_two_at_one_time_in_two_blocks_the_first_stored_counts(open_engine, only_when_asked):
    engine = await open_engine(out_of_order_window=0)
    await append(engine, (A, 0, sample(1)), (B, 0, 5.0))
    await engine.flush()
    engine._flusher.release()
    # As an older version, or a restored log, may have left it: the head alone knows nothing of what is in blocks.
    engine._memory.head.now.state[:, 0] = -(1 << 63)
    await append(engine, (A, 0, 7.0), (B, 0, sample(2)))
    wanted = {A: [(NOW, sample(1))], B: [(NOW, 5.0)]}
    assert same(read(engine), wanted)
    await engine.flush()
    engine._flusher.release()
    assert same(read(engine), wanted)
    await engine.compact(clean=True)
    assert same(read(engine), wanted)


@pytest.mark.parametrize("rewritten", [False, True])
async def test_deletion_takes_histograms_with_it(open_engine, rewritten, tmp_path):
    engine = await open_engine()
    for k in range(4):
        await append(engine, (A, k * 1000, sample(k)), (B, k * 1000, sample(k, layout=CUSTOM)), (C, k * 1000, float(k)))
    await engine.delete("default", [[Matcher("i", "=", "a")]], NOW + 1000, NOW + 2000)
    await engine.delete("default", [[Matcher("i", "=", "b")]], *EVER)
    if rewritten:
        await engine.compact(clean=True)
        (block,) = engine._blocks.all
        assert (block.meta.series, block.meta.histograms) == (2, 2)
    wanted = {A: [(NOW, sample(0)), (NOW + 3000, sample(3))], C: [(NOW + k * 1000, float(k)) for k in range(4)]}
    assert same(read(engine), wanted)
    engine = await reopened(open_engine, engine)
    assert same(read(engine), wanted)
    assert all(not damage for _, _, damage in offline.verify(tmp_path / "data"))


async def test_many_histograms_fill_many_pages(open_engine):
    engine, series = await open_engine(), [Labels.of(__name__="h", i=f"{i:03}") for i in range(120)]
    layouts = [Layout(4, 0.0, (), np.arange(k, k + 100, dtype=np.int32), NO_BUCKETS) for k in range(3)]
    space = canonical()
    rng = np.random.default_rng(3)
    totals = np.zeros((len(series), layouts[0].width))
    wanted: dict = {labels: [] for labels in series}
    for t in range(20):
        totals += rng.integers(0, 5, totals.shape)
        values = [Histogram(layouts[(i + t // 8) % 3], totals[i].copy()) for i in range(len(series))]
        await append(engine, *((labels, t * 1000, v) for labels, v in zip(series, values, strict=True)), keyspace=space)
        for labels, v in zip(series, values, strict=True):
            wanted[labels].append((NOW + t * 1000, v))
    await engine.flush()
    engine._flusher.release()
    assert same(read(engine), wanted)
    some = {labels: [x for x in samples if NOW + 5000 <= x[0] <= NOW + 6000] for labels, samples in wanted.items()}
    assert same(read(engine, start=NOW + 5000, end=NOW + 6000), some)
    (block,) = engine._blocks.all
    assert len(block._reader()._pages) > 2
    size = (block.path / "histogram_pages").stat().st_size
    assert size < 2400 * layouts[0].width, "a cell takes more than a byte"


async def test_histograms_of_other_tenants_stay_theirs(open_engine):
    engine = await open_engine()
    await append(engine, (A, 0, sample(1)), keyspace=canonical("other"))
    await append(engine, (A, 0, sample(2)))
    await engine.flush()
    engine._flusher.release()
    assert same(read(engine, "other"), {A: [(NOW, sample(1))]})
    assert same(read(engine), {A: [(NOW, sample(2))]})


async def test_histograms_outlive_the_forgetting_of_other_series(open_engine, clock):
    engine = await open_engine()
    await append(engine, (A, 0, 1.0), (B, 0, sample(2)), (C, 0, sample(3)))
    memory = engine._memory
    memory.head.freeze()
    gone = np.array([True, False, False])
    memory.head.before.counts[0] = 0  # as if series a had no sample left
    table, new_ids = memory.series.without(gone)
    memory.succeed(table, new_ids, 1 << 60)
    assert same(read(engine), {B: [(NOW, sample(2))], C: [(NOW, sample(3))]})
    await append(engine, (C, 1000, sample(4)))
    assert same(read(engine), {B: [(NOW, sample(2))], C: [(NOW, sample(3)), (NOW + 1000, sample(4))]})


async def test_memory_for_histograms_is_bounded(open_engine):
    engine = await open_engine(head_samples=2000)
    space = canonical()
    for t in range(40):
        await append(engine, *((Labels.of(__name__="h", i=str(i)), t * 1000, sample(t)) for i in range(30)), keyspace=space)
    for _ in range(100):
        if engine.counters()["flushes"]:
            break
        await engine.flush()
    assert engine.counters()["flushes"] >= 1
    assert len(read(engine)) == 30


async def test_snapshots_hold_histograms(open_engine, tmp_path):
    engine = await open_engine()
    await append(engine, (A, 0, sample(1)))
    name = await engine.snapshot()
    other = await open_engine(data=tmp_path / "data" / "snapshots" / name)
    assert same(read(other), {A: [(NOW, sample(1))]})


@pytest.mark.parametrize("file", ["histograms", "histogram_pages"])
async def test_damage_is_found_and_told(open_engine, tmp_path, file):
    engine = await open_engine()
    await append(engine, (A, 0, sample(1)), (B, 0, sample(2)))
    await engine.flush()
    await engine.close()
    (block,) = (tmp_path / "data" / "blocks").iterdir()
    data = bytearray((block / file).read_bytes())
    data[-1 if file == "histogram_pages" else len(data) // 2] ^= 0x55
    (block / file).write_bytes(data)
    found = [damage for path, _, damage in offline.verify(tmp_path / "data") if path == block]
    assert len(found[0]) == 1
    again = await open_engine()
    with pytest.raises(Corrupt):
        read(again)


@pytest.mark.parametrize("file", ["histograms", "histogram_pages"])
async def test_a_missing_file_is_damage(open_engine, tmp_path, file):
    engine = await open_engine()
    await append(engine, (A, 0, sample(1)))
    await engine.flush()
    await engine.close()
    (block,) = (tmp_path / "data" / "blocks").iterdir()
    (block / file).unlink()
    found = [damage for path, _, damage in offline.verify(tmp_path / "data") if path == block]
    assert "cannot be opened" in str(found[0][0])


async def test_a_lost_histogram_record_leaves_no_float_behind(open_engine, tmp_path):
    engine = await open_engine()
    await append(engine, (A, 0, 1.0), (B, 0, sample(2)))
    await append(engine, (A, 1000, 2.0), (B, 1000, sample(3)))
    await engine.close()
    (path,) = (tmp_path / "data" / "wal").iterdir()
    data = bytearray(path.read_bytes())
    at = 32
    while data[at + 12] != wal.HISTOGRAMS:
        at += 16 + struct.unpack_from("<I", data, at + 4)[0]
    data[at + 40] ^= 1
    path.write_bytes(data)
    again = await open_engine()
    assert again.counters()["wal_corrupt_records"] == 1
    assert same(read(again), {A: [(NOW, 1.0), (NOW + 1000, 2.0)], B: [(NOW + 1000, sample(3))]})


def a_record() -> bytes:
    columns = Histograms.of([0, 1, 2], [sample(1), sample(2, layout=CUSTOM, hint=GAUGE), sample(3)])
    return histograms_record(np.array([4, 9, 4], dtype=np.uint32), np.array([NOW, NOW, NOW + 5]), columns)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_gathered_from_memory_is_what_came_row_by_row_in_order_of_time(seed):
    random = np.random.default_rng(seed)
    head, kept = HeadHistograms(), {}
    for _ in range(5):
        ids = random.permutation(7)[: random.integers(1, 7)].astype(np.int64)
        times = random.choice(np.setdiff1d(np.arange(1000), [t for _, t in kept]), len(ids), replace=False).astype(np.int64)
        some = [sample(float(random.integers(50)), layout=(EXPONENTIAL, CUSTOM)[random.integers(2)], hint=RESET) for _ in ids]
        kept |= dict(zip(zip(ids.tolist(), times.tolist(), strict=True), some, strict=True))
        head.append(ids, times, Histograms.of(np.arange(len(ids)), some))

    asked = np.array([5, 0, 3, 9, 1], dtype=np.int64)
    found = head.gather(asked, 200, 900)

    wanted = sorted((row, t, h) for row, i in enumerate(asked.tolist()) for (j, t), h in kept.items() if i == j and 200 <= t <= 900)
    assert found is not None and wanted
    assert [(int(r), int(t)) for r, t in zip(found.rows, found.times, strict=True)] == [(row, t) for row, t, _ in wanted]
    for j, (_, _, h) in enumerate(wanted):
        assert equal(found.columns.sample(j), h)
        assert found.columns.sample(j).hint == RESET


def test_records_go_both_ways():
    item = wal._record_at(memoryview(a_record()), 0)
    assert isinstance(item, wal.Record)
    ids, times, columns = read_histograms(item)
    assert (ids.tolist(), times.tolist(), columns.at.tolist()) == ([4, 9, 4], [NOW, NOW, NOW + 5], [0, 1, 2])
    assert columns.hints.tolist() == [UNKNOWN, GAUGE, UNKNOWN]
    for j, wanted in enumerate((sample(1), sample(2, layout=CUSTOM), sample(3))):
        assert equal(columns.sample(j), wanted)


def test_records_that_do_not_fit_are_refused():
    item = wal._record_at(memoryview(a_record()), 0)
    assert isinstance(item, wal.Record)
    payload = bytes(item.payload)
    for size in range(len(payload)):
        with pytest.raises(ValueError, match=r"end|fit|not there"):
            read_histograms(wal.Record(4, 0, memoryview(payload[:size]), 0))
    rng = np.random.default_rng(5)
    for _ in range(500):
        wrong = bytearray(payload)
        wrong[rng.integers(0, 40)] = rng.integers(0, 256)
        try:
            read_histograms(wal.Record(4, 0, memoryview(bytes(wrong)), 0))
        except ValueError:
            continue


def test_layouts_go_both_ways():
    layouts = [EXPONENTIAL, CUSTOM, Layout(-4, 0.0, (), NO_BUCKETS, NO_BUCKETS)]
    found = histogram_layouts.parse(histogram_layouts.render(layouts))
    assert all(a.same(b) for a, b in zip(found, layouts, strict=True))
    raw = histogram_layouts.render(layouts)
    for size in range(len(raw)):
        with pytest.raises(ValueError, match="layouts end"):
            histogram_layouts.parse(raw[:size])
    with pytest.raises(ValueError, match="after the last"):
        histogram_layouts.parse(raw + b"x")


def test_columns_join_layouts_that_are_the_same():
    twin = Layout(3, 2.0**-128, (), EXPONENTIAL.positive.copy(), EXPONENTIAL.negative.copy())
    joined = Histograms.joined([Histograms.of([0], [sample(1)]), Histograms.of([3, 4], [sample(2, layout=twin), sample(3, layout=CUSTOM)])])
    assert len(joined.layouts) == 2
    assert joined.at.tolist() == [0, 3, 4]
    assert equal(joined.sample(1), sample(2))
    assert equal(joined.take(np.array([2, 0]), np.array([0, 1])).sample(0), sample(3, layout=CUSTOM))
    table = LayoutTable()
    assert table.numbers([EXPONENTIAL, CUSTOM, twin]).tolist() == [0, 1, 0]


async def fill(engine) -> None:
    """What the golden block holds; written by this function when the format was fixed."""
    space = canonical()
    await append(engine, (A, 0, sample(1)), (B, 0, 3.0), (C, 0, sample(5, layout=CUSTOM)), keyspace=space)
    await append(engine, (A, 15_000, sample(2)), (C, 15_000, 6.0), keyspace=space)


async def test_the_golden_block_is_read(open_engine, tmp_path):
    shutil.copytree(GOLDEN, tmp_path / "data" / "blocks")
    (tmp_path / "data" / "wal").mkdir()
    engine = await open_engine(retention=0)
    wanted = {
        A: [(NOW, sample(1)), (NOW + 15_000, sample(2))],
        B: [(NOW, 3.0)],
        C: [(NOW, sample(5, layout=CUSTOM)), (NOW + 15_000, 6.0)],
    }
    assert same(read(engine), wanted)


async def test_what_is_written_now_is_what_was_written_then(open_engine, tmp_path):
    engine = await open_engine(retention=0)
    await fill(engine)
    await engine.flush()
    (block,) = (tmp_path / "data" / "blocks").iterdir()
    golden = GOLDEN / block.name
    assert (block / "histogram_pages").read_bytes() == (golden / "histogram_pages").read_bytes()
    # Arrays are packed since the golden block was written; what they hold is the same.
    now, then = Sections(block / "histograms"), Sections(golden / "histograms")
    for name, dtype in (("layouts", np.uint8), ("rows", np.int64), ("begins", np.int64), ("pages", np.int64)):
        assert now.take(name, dtype).tolist() == then.take(name, dtype).tolist(), name


def test_the_golden_block_is_as_it_is_drawn():
    (block,) = GOLDEN.iterdir()
    meta = json.loads((block / "meta.json").read_bytes())
    assert (meta["format"], meta["histograms"]) == (2, 3)
    index = Sections(block / "histograms")
    assert index.take("rows", np.int64).tolist() == [0, 2]
    assert index.take("begins", np.int64).tolist() == [0, 2, 3]
    first, offset, size = index.take("pages", np.int64).tolist()
    raw = (block / "histogram_pages").read_bytes()
    assert (raw[:8], first, offset, size) == (b"VDTHST\x00\x01", 0, 8, len(raw) - 8)
    crc, count, *lengths = struct.unpack_from("<6I", raw, 8)
    assert (count, crc) == (3, zlib.crc32(raw[12:]))
    at, chunks = 32, []
    for length in lengths:
        chunks.append(standalone.simple_decompress(raw[at : at + length]).tolist())
        at += length
    times, kinds, sums, cells = chunks
    assert times == [NOW, NOW + 15_000, NOW]
    assert kinds == [0, 0, 1 << 2]
    assert sums == [1.25, 2.25, 5.25]
    # Two of the first layout, cell after cell (count, zero bucket, three positive, one negative), then one of the second.
    assert cells == [10, 20, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 50, 5, 6, 7, 8, 9]
