"""The bytes on disk are what FORMAT.md says: golden files are read, and read the way a stranger would."""

from __future__ import annotations

import itertools
import json
import shutil
import struct
import sys
import zlib
from pathlib import Path

import cramjam
import numpy as np
import pytest
from pcodec import standalone

from vedette.model.labels import Labels
from vedette.model.samples import STALE, MetricMetadata, SampleBatch, canonical
from vedette.storage import wal
from vedette.storage.interface import Coarse
from vedette.storage.queue import Queue
from vedette.storage.sections import Sections

sys.path.insert(0, str(Path(__file__).parent))
import page_twin

GOLDEN = Path(__file__).parent / "golden"
NOW = 1_700_000_000_000
A, B = Labels.of(__name__="up", job="é"), Labels.of(__name__="up", job="z")
COUNTERS = [Labels.of(__name__="counted", job="z", n=str(n)) for n in range(3)]


def expected() -> dict:
    return {A: [(NOW, 1.0), (NOW + 15_000, STALE)], B: [(NOW, 2.5)]}


async def fill(engine) -> None:
    """What the golden files hold; written by this function when the format was fixed."""
    space, other = canonical(), canonical("other")
    metadata = [MetricMetadata("up", "gauge", "Whether it is.", "")]
    await engine.append(SampleBatch.of(space, [A, B], [NOW, NOW], [1.0, 2.5], metadata=metadata))
    await engine.append(SampleBatch.of(space, [A], [NOW + 15_000], [STALE]))
    await engine.append(SampleBatch.of(other, [B], [NOW], [7.0]))


def counted(n: int) -> list[tuple[int, float]]:
    """A counter that drifts, with a reset, and stale in between."""
    at = [NOW + 15_000 * i for i in range(100)]
    return [(t, STALE if i == 50 else float((i * (40 + i % 3)) % 3000 + n)) for i, t in enumerate(at)]


async def fill_third(engine) -> None:
    """What the golden block of format 3 holds; written by this function when the format was fixed."""
    await fill(engine)
    space = canonical()
    for samples in zip(*(counted(n) for n in range(3)), strict=True):
        await engine.append(SampleBatch.of(space, COUNTERS, [t for t, _ in samples], [v for _, v in samples]))


def bits(samples) -> list:
    return [(t, struct.pack("<d", v)) for t, v in samples]


@pytest.mark.parametrize("kind", ["wal", "blocks"])
async def test_golden_files_are_read(open_engine, tools, tmp_path, kind):
    shutil.copytree(GOLDEN / kind, tmp_path / "data")
    engine = await open_engine(retention=0)
    got = {labels: [(t, struct.pack("<q", b)) for t, b in rows] for labels, rows in tools.contents(engine).items()}
    assert got == {labels: bits(samples) for labels, samples in expected().items()}
    assert engine.select("other", [], 0, NOW).values.tolist() == [7.0]
    assert engine.metadata("default") == [MetricMetadata("up", "gauge", "Whether it is.", "")]
    assert engine.counters()["wal_corrupt_records"] == engine.counters()["damaged_blocks"] == 0


async def test_a_golden_block_of_the_third_format_is_read(open_engine, tools, tmp_path):
    shutil.copytree(GOLDEN / "blocks_3", tmp_path / "data")
    engine = await open_engine(retention=0)
    got = {labels: [(t, struct.pack("<q", b)) for t, b in rows] for labels, rows in tools.contents(engine).items()}
    wanted = expected() | {labels: counted(n) for n, labels in enumerate(COUNTERS)}
    assert got == {labels: bits(samples) for labels, samples in wanted.items()}
    assert engine.select("other", [], 0, NOW).values.tolist() == [7.0]
    assert engine.counters()["damaged_blocks"] == 0


async def test_what_is_written_now_is_what_was_written_then(open_engine, tmp_path):
    engine = await open_engine(retention=0)
    await fill_third(engine)
    await engine.flush()
    (block,) = (tmp_path / "data" / "blocks").iterdir()
    (golden,) = (GOLDEN / "blocks_3" / "blocks").iterdir()
    assert block.name == golden.name
    for name in ("pages", "index"):
        assert (block / name).read_bytes() == (golden / name).read_bytes(), name


async def test_an_earlier_format_becomes_the_present_one_when_it_is_merged(open_engine, tools, clock, tmp_path):
    shutil.copytree(GOLDEN / "blocks", tmp_path / "data")
    engine = await open_engine(retention=0)
    assert [b.meta.format for b in engine._blocks.all] == [1]
    before = tools.contents(engine)
    later = [(NOW + 30_000 + i, float(i)) for i in range(5)]
    await engine.append(tools.batch([(A, later)], canonical()))
    await engine.flush()
    await clock.advance(3 * 86_400)
    await engine.compact()
    assert [b.meta.format for b in engine._blocks.all] == [3]
    assert tools.contents(engine) == {**before, A: [*before[A], *((t, page_twin.bits_of(v)) for t, v in later)]}


def test_a_log_is_read_as_it_is_drawn():
    data = (GOLDEN / "wal" / "wal" / "00000001.wal").read_bytes()
    magic, number, _, crc = struct.unpack_from("<8sQQI", data)
    assert (magic, number, crc) == (b"VDTWAL\x00\x01", 1, zlib.crc32(data[:24]))
    at, found = 32, []
    while at < len(data):
        magic, size, crc, kind, form, padding = struct.unpack_from("<IIIBBH", data, at)
        assert (magic, at % 8) == (0x4C415756, 0)
        assert crc == zlib.crc32(data[at + 12 : at + 16 + size])
        found.append((kind, form, data[at + 16 : at + 16 + size - padding]))
        at += 16 + size
    assert [(kind, form) for kind, form, _ in found] == [(1, 0), (2, 1), (3, 0), (2, 1), (1, 0), (2, 1)]
    _, _, series = found[0]
    n, tenant = struct.unpack_from("<II", series)
    offsets, numbers = struct.unpack_from("<3q", series, 8), struct.unpack_from("<2I", series, 32)
    keys = series[40 + tenant :]
    assert (n, series[40 : 40 + tenant], numbers) == (2, b"default", (0, 1))
    assert [keys[lo:hi] for lo, hi in itertools.pairwise(offsets)] == [A.encode(), B.encode()]
    n, time, one, two, *ids = struct.unpack("<QqddII", found[1][2])
    assert (n, time, one, two, ids) == (2, NOW, 1.0, 2.5, [0, 1])
    assert json.loads(found[2][2]) == ["default", [["up", "gauge", "Whether it is.", ""]]]


def test_a_block_is_read_as_it_is_drawn():
    (block,) = (GOLDEN / "blocks_3" / "blocks").iterdir()
    meta = json.loads((block / "meta.json").read_bytes())
    assert (meta["format"], meta["series"], meta["samples"], meta["tenants"]) == (3, 6, 304, ["default", "other"])
    index, data = Sections(block / "index"), (block / "pages").read_bytes()
    assert index.take("places", np.int64).tolist() == [0, 100, 200, 300, 301, 303, 304]
    assert data.startswith(b"VDTPAG\x00\x02")
    first, offset, size = index.take("pages", np.int64).tolist()
    rows = page_twin.read(data[offset : offset + size])
    # The counters share their times, and so do the two series that have one sample at the same moment.
    assert (first, [vector for vector, _ in rows]) == (0, [0, 0, 0, 1, 2, 1])
    wanted = [counted(0), counted(1), counted(2), expected()[B], expected()[A], [(NOW, 7.0)]]
    assert [found for _, found in rows] == [[page_twin.bits_of(v) for _, v in samples] for samples in wanted]
    assert index.take("vectors", np.int64).tolist() == [0, 100, 101, 103]
    first, offset, size = index.take("time_pages", np.int64).tolist()
    crc, count = struct.unpack_from("<II", data, offset)
    assert (first, count, crc) == (0, 103, zlib.crc32(data[offset + 4 : offset + size]))
    times = standalone.simple_decompress(data[offset + 8 : offset + size]).tolist()
    assert times == [t for t, _ in [*counted(0), *expected()[B], *expected()[A]]]


def test_a_packed_array_is_read_as_it_is_drawn():
    (block,) = (GOLDEN / "blocks_3" / "blocks").iterdir()
    data = (block / "index").read_bytes()
    magic, count, crc = struct.unpack_from("<8sII", data)
    assert (magic, crc) == (b"VDTIDX\x00\x02", zlib.crc32(data[16 : 16 + 40 * count]))
    index, kinds = Sections(block / "index"), set()
    for i in range(count):
        name, offset, size, crc, kind = struct.unpack_from("<16sQQI4s", data, 16 + 40 * i)
        body, kind = data[offset : offset + size], kind.rstrip(b"\0").decode()
        assert (offset % 8, crc) == (0, zlib.crc32(body))
        raw = {"z": lambda b: bytes(cramjam.zstd.decompress(b)), "p": lambda b: standalone.simple_decompress(b).tobytes(), "": bytes}[
            kind[2:]
        ](body)
        assert index.take(name.rstrip(b"\0").decode(), np.dtype(kind[:2]).type).tobytes() == raw
        kinds.add(kind[2:])
    assert kinds == {"z", "p", ""}


def test_a_block_of_the_first_format_is_read_as_it_is_drawn():
    (block,) = (GOLDEN / "blocks" / "blocks").iterdir()
    meta = json.loads((block / "meta.json").read_bytes())
    assert (meta["format"], meta["series"], meta["samples"], meta["tenants"]) == (1, 3, 4, ["default", "other"])
    index = Sections(block / "index")
    texts, offsets = index.take("texts", np.uint8).tobytes(), index.take("text_offsets", np.int64).tolist()
    symbols = [texts[lo:hi].decode() for lo, hi in itertools.pairwise(offsets)]
    assert symbols == sorted(["__name__", "job", "up", "é", "z"], key=str.encode)
    assert index.take("places", np.int64).tolist() == [0, 1, 3, 4]
    assert index.take("tenants", np.int64).tolist() == [0, 0, 2, 3, 3, 5]
    first, offset, size = index.take("pages", np.int64).tolist()
    page = (block / "pages").read_bytes()[offset : offset + size]
    crc, count, times, values = struct.unpack_from("<IIII", page)
    assert (first, count, crc) == (0, 4, zlib.crc32(page[4:]))
    assert standalone.simple_decompress(page[16 : 16 + times]).tolist() == [NOW, NOW, NOW + 15_000, NOW]
    assert (
        standalone.simple_decompress(page[16 + times :]).view(np.int64).tolist() == np.array([2.5, 1.0, STALE, 7.0]).view(np.int64).tolist()
    )
    assert values == len(page) - 16 - times


@pytest.mark.parametrize("one_time", [True, False])
def test_samples_records_go_both_ways(one_time):
    ids, bits_ = np.array([3, 1, 2], dtype=np.uint32), np.array([1, -5, 7])
    times = np.array([9, 9, 9] if one_time else [9, -8, 10])
    raw = wal.samples_record(ids, times, bits_)
    assert len(raw) % 8 == 0
    item = wal._record_at(memoryview(raw), 0)
    assert isinstance(item, wal.Record)
    assert [a.tolist() for a in wal.read_samples(item)] == [ids.tolist(), times.tolist(), bits_.tolist()]


DAY = 86_400_000
MIDNIGHT = NOW // DAY * DAY


def rolled(i: int) -> float:
    return float(i % 7)


async def fill_tier(engine, clock) -> None:
    """What the golden tier holds: a day of a counter that is reset; written by this function when the format was fixed."""
    times = range(MIDNIGHT + 60_000, MIDNIGHT + DAY, 600_000)
    for i, at in enumerate(times):
        await engine.append(SampleBatch.of(canonical(), [A], [at], [rolled(i)]))
    await engine.flush()
    engine._flusher.release()
    await clock.advance(2 * DAY / 1000)
    await engine.compact()


async def test_a_golden_tier_is_read_and_written_as_it_was(open_engine, clock, tmp_path):
    shutil.copytree(GOLDEN / "rollups", tmp_path / "golden" / "rollups")
    engine = await open_engine(data=tmp_path / "golden", retention=DAY)
    found = engine.coarse_select("default", [], MIDNIGHT + 1, MIDNIGHT + DAY, Coarse(3_600_000, "counter", True, True))
    kept = [(i, rolled(i)) for i in range(144) if i % 6 in (0, 5) or i % 7 in (0, 6)]
    assert found.series.values.tolist() == [v for _, v in kept]
    assert found.series.timestamps.tolist() == [MIDNIGHT + 60_000 + i * 600_000 for i, _ in kept]
    assert found.weights.sum() == 144
    made = await open_engine(data=tmp_path / "made", retention=0, out_of_order_window=30 * DAY)
    await fill_tier(made, clock)
    for name in ("00000001", "00000002"):
        (ours,) = (tmp_path / "made" / "rollups").glob(f"{name}-*")
        for file in ("pages", "index"):
            assert (ours / file).read_bytes() == (GOLDEN / "rollups" / ours.name / file).read_bytes(), file


def test_a_tiers_index_is_read_as_it_is_drawn():
    crc, _, body = (GOLDEN / "rollups" / "index.json").read_bytes().partition(b"\n")
    assert crc == b"%08x" % zlib.crc32(body)
    rows = json.loads(body)
    assert [(tier, day, whole) for tier, day, _, _, whole in rows] == [("5m", MIDNIGHT, True), ("1h", MIDNIGHT, True)]
    meta = json.loads((GOLDEN / "rollups" / rows[1][2] / "meta.json").read_bytes())
    assert meta["tenants"] == [f"default\0{column}" for column in ("count", "counter", "last", "max", "min", "sum")]
    assert (meta["level"], meta["series"]) == (2, 6)


def test_a_queue_is_read_as_it_is_drawn(tmp_path):
    shutil.copytree(GOLDEN / "exemplars", tmp_path / "queue")
    entries = []
    queue = Queue(tmp_path / "queue", limit=1 << 20, added=entries.extend)
    queue.open()
    (entry,) = entries
    told = queue.read(entry)
    queue.close()
    assert (entry.tenant, entry.lane, entry.samples) == ("default", 0, 2)
    data = (GOLDEN / "exemplars" / "00000001.wal").read_bytes()
    _, size, _, kind, _, padding = struct.unpack_from("<IIIBBH", data, 32)
    payload = data[48 : 48 + size - padding]
    tenant, lane, samples = struct.unpack_from("<HHI", payload)
    assert (kind, lane, samples, payload[8 : 8 + tenant]) == (9, 0, 2, b"default")
    body, at, found = payload[8 + tenant :], 0, []
    assert body == told
    while at < len(body):
        series, own, value, time = struct.unpack_from("<IHdq", body, at)
        at += 22
        found.append((body[at : at + series], body[at + series : at + series + own], value, time))
        at += series + own
    trace = [Labels.of(trace_id=n).encode() for n in ("1", "2")]
    assert found == [(A.encode(), trace[0], 1.5, NOW), (A.encode(), trace[1], 2.5, NOW + 1)]
    segment, offset, crc = struct.unpack("<QQI", (GOLDEN / "exemplars" / "position").read_bytes())
    assert (segment, offset, crc) == (1, 32, zlib.crc32(struct.pack("<QQ", 1, 32)))
