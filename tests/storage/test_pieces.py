"""Selects of which samples are read a few rows at a time: what `select` answers, as of the moment when it was asked."""

from __future__ import annotations

import asyncio
import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest

from vedette.errors import Corrupt
from vedette.model.histograms import Histogram, Histograms, Layout
from vedette.model.matchers import Matcher
from vedette.model.samples import STALE
from vedette.storage import block_writer, pages
from vedette.storage import engine as module
from vedette.storage import pieces as pieces_module
from vedette.storage.block_pieces import BlockPieces
from vedette.storage.interface import Divisible, Steps
from vedette.storage.pieces import HeadPieces

M = (Matcher("__name__", "=", "m"),)
EVER = (-(1 << 61), 1 << 61)
MINUTE = 60_000


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(module, "_CACHED", 1 << 40)  # no page is to be found in the cache the next time


def rows_of(tools, count: int, *, since: int, samples: int, seed: int = 1):
    """Series `m` with up to so many samples a minute apart, of all kinds of values, and some of another metric between them."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(count):
        own = int(rng.integers(1, samples + 1))
        values = rng.choice([1.0, 2.5, 1e9, 1 / 3, -0.0, STALE], own) if i % 3 else np.cumsum(rng.integers(0, 9, own)).astype(float)
        rows.append((tools.metric("m" if i % 5 else "n", i=str(i)), [(since + k * MINUTE, float(v)) for k, v in enumerate(values)]))
    return rows


def read(pieces, *, at_once: int = 7, span: tuple[int, int] = EVER):
    """What is in `span`, as (labels, times, bits) of each series, `at_once` rows at a time."""
    found = []
    steps = Steps(span[1], 0, 1, span[1] - span[0] + 1)
    labels = list(pieces.labels)
    for lo in range(0, len(labels), at_once):
        hi = min(lo + at_once, len(labels))
        room = int(pieces.upto[hi] - pieces.upto[lo])
        times, bits = np.empty(room, np.int64), np.empty(room, np.int64)
        offsets = pieces.rows(lo, hi).read(steps, times, bits)
        assert offsets[-1] == room, "at the end of the room"
        spans = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        found += [(labels[lo + i], times[a:b].tolist(), bits[a:b].tolist()) for i, (a, b) in enumerate(spans)]
    return sorted(found, key=lambda row: row[0])


def selected(engine, start: int, end: int):
    """The same of a select."""
    found = engine.select("default", M, start, end)
    bits, at = found.values.view(np.int64), found.offsets.tolist()
    rows = [(labels, found.timestamps[a:b].tolist(), bits[a:b].tolist()) for labels, a, b in zip(found.labels, at, at[1:], strict=False)]
    return sorted(rows, key=lambda row: row[0])


WHERE = pytest.mark.parametrize("where", ["head", "both", "blocks"])


async def two_generations(open_engine, tools, keyspace, where="head", **settings):
    """An engine whose samples are in the generation that takes some, in the one before, or in both; the block of that is not asked.

    Where `both` have some, the generation before is gone, so the block is asked; with `blocks`, nothing else is left.
    """
    engine = await open_engine(retention=0, **settings)
    await engine.append(tools.batch(rows_of(tools, 60, since=tools.now - 90 * MINUTE, samples=40), keyspace))
    await engine.flush()
    if where != "head":
        engine._flusher.release()
    await engine.append(tools.batch(rows_of(tools, 80, since=tools.now - 50 * MINUTE, samples=45, seed=2)[20:], keyspace))
    if where == "blocks":
        await engine.flush()
        engine._flusher.release()
    return engine


@WHERE
@pytest.mark.parametrize(("start", "end"), [EVER, (-70, -30), (-50, -50), (-45, 0), (-200, -100), (-62, -49)])
async def test_it_is_what_a_select_answers(open_engine, tools, keyspace, where, start, end):
    engine = await two_generations(open_engine, tools, keyspace, where)
    assert isinstance(engine, Divisible)
    span = (start, end) if (start, end) == EVER else (tools.now + start * MINUTE, tools.now + end * MINUTE)
    pieces, wanted = engine.in_pieces("default", M, *span), selected(engine, *span)
    assert (pieces is None) == (not wanted)
    if pieces is not None:
        assert pieces.sample_count == 0
        assert read(pieces, span=span) == read(pieces, at_once=1, span=span) == read(pieces, at_once=1000, span=span) == wanted
        assert pieces.sample_count == sum(len(times) for _, times, _ in wanted), "each counted once, however often it was read"


def wanted_by(steps: Steps, times: list[int], bits: list[int]):
    """For each window its samples."""
    ends = [steps.first + k * steps.step for k in range(steps.n)]
    return [[(t, b) for t, b in zip(times, bits, strict=True) if end - steps.range < t <= end] for end in ends]


@WHERE
@pytest.mark.parametrize("cuts", [(0, 12), (0, 5, 12), (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), (0, 11, 12)])
@pytest.mark.parametrize(("step", "span"), [(9, 9), (9, 2), (9, 25), (3, 30), (40, 1)])
async def test_windows_from_the_last_to_the_first_have_their_samples(open_engine, tools, keyspace, where, cuts, step, span):
    engine = await two_generations(open_engine, tools, keyspace, where)
    steps = Steps(tools.now - 95 * MINUTE + 11_000, step * MINUTE, 12, span * MINUTE)
    start, end = steps.first - steps.range + 1, steps.first + 11 * steps.step
    pieces = engine.in_pieces("default", M, start, end)
    everything = {labels: (times, bits) for labels, times, bits in selected(engine, start, end)}
    skipped = 0
    for row, labels in enumerate(pieces.labels):
        room = int(pieces.upto[row + 1] - pieces.upto[row])
        times, bits = np.full((2, room), -1, np.int64)
        rows, times_of, bits_of = pieces.rows(row, row + 1), *everything[labels]
        for begin, stop in zip(reversed(cuts[:-1]), reversed(cuts[1:]), strict=True):
            part = steps.part(begin, stop)
            if (first := rows.read(part, times[:1], bits[:1], resume=part.first - steps.step)) is None:
                assert rows.read(part, times[:0], bits[:0], resume=part.first - steps.step) is None, "no room: it may be asked again"
                first = rows.read(part, times, bits, resume=part.first - steps.step)
                lo, hi = first.tolist()
                read_times, read_bits = times[lo:hi].tolist(), bits[lo:hi].tolist()
            else:
                lo, hi = first.tolist()
                read_times, read_bits = times[:1][lo:hi].tolist(), bits[:1][lo:hi].tolist()
            assert read_times == sorted(set(read_times))
            assert wanted_by(part, read_times, read_bits) == wanted_by(part, times_of, bits_of)
            skipped += len(times_of) - len(read_times)
    assert skipped or (cuts == (0, 12) and span >= step), "what no window wants is mostly left out"


@WHERE
async def test_several_rows_without_room_for_all_may_be_asked_again(open_engine, tools, keyspace, where):
    engine = await two_generations(open_engine, tools, keyspace, where)
    steps = Steps(tools.now - 60 * MINUTE, 10 * MINUTE, 7, 10 * MINUTE)
    pieces, part = engine.in_pieces("default", M, *EVER), steps.part(4, 7)
    everything = {labels: (times, bits) for labels, times, bits in selected(engine, *EVER)}
    n = len(pieces.labels)
    rows, room = pieces.rows(0, n), int(pieces.upto[n])
    times, bits = np.empty((2, room), np.int64)
    needed = int(np.diff(pieces.rows(0, n).read(part, times, bits)).sum())
    assert rows.read(part, times[: needed // 2], bits[: needed // 2], resume=part.first - steps.step) is None
    for now, resume in ((part, part.first - steps.step), (steps.part(0, 4), None)):
        offsets = rows.read(now, times, bits, resume=resume).tolist()
        for labels, lo, hi in zip(pieces.labels, offsets, offsets[1:], strict=False):
            assert wanted_by(now, times[lo:hi].tolist(), bits[lo:hi].tolist()) == wanted_by(now, *everything[labels])


@WHERE
async def test_it_is_as_of_one_moment_whatever_comes_then(open_engine, tools, keyspace, where):
    engine = await two_generations(open_engine, tools, keyspace, where)
    wanted = selected(engine, *EVER)
    pieces = engine.in_pieces("default", M, *EVER)
    assert pieces is not None
    # More samples of the same series, so many that the arena is made anew; then late ones, and a generation that ends.
    more = [(labels, [(tools.now + k * 1000, k / 3) for k in range(2000)]) for labels, _ in rows_of(tools, 80, since=0, samples=1)]
    await engine.append(tools.batch(more, keyspace))
    assert read(pieces) == wanted
    late = [(labels, [(tools.now - 5 * MINUTE + 7, 1.0), (tools.now - 9 * MINUTE + 7, 2.0)]) for labels, _ in more]
    await engine.append(tools.batch(late, keyspace))
    assert read(pieces) == wanted
    await engine.flush()
    engine._flusher.release()
    await engine.append(tools.batch([(labels, [(tools.now + 4_000_000, 1.0)]) for labels, _ in more], keyspace))
    assert read(pieces) == wanted


@pytest.mark.parametrize("where", ["head", "both"])
@pytest.mark.parametrize(("start", "end"), [EVER, (-70, -30), (-45, 0), (-200, -190), (10, 20)])
async def test_a_large_select_does_not_hold_up_who_writes(open_engine, tools, keyspace, where, start, end, monkeypatch):
    engine = await two_generations(open_engine, tools, keyspace, where)
    span = (start, end) if (start, end) == EVER else (tools.now + start * MINUTE, tools.now + end * MINUTE)
    wanted = selected(engine, *span)
    monkeypatch.setattr(pieces_module, "LARGE", 0)
    more = tools.batch([(tools.metric("m", i="1"), [(tools.now + k * 1000, k / 3) for k in range(2000)])], keyspace)

    def reader(*asked: object):
        read = pieces_module.reader(*asked)
        written = asyncio.run_coroutine_threadsafe(engine.append(more), loop)

        def after() -> object:
            # What is read has no use for the lock: a write comes to its end before.
            written.result(60)
            return read()

        return after

    monkeypatch.setattr(module, "reader", reader)
    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(selected, engine, *span) == wanted
    monkeypatch.setattr(module, "reader", pieces_module.reader)
    assert span != EVER or selected(engine, *EVER) != wanted, "it was written"


@WHERE
async def test_readers_and_a_writer_do_not_disturb_each_other(open_engine, tools, keyspace, where):
    engine = await two_generations(open_engine, tools, keyspace, where)
    wanted = selected(engine, *EVER)
    pieces = engine.in_pieces("default", M, *EVER)
    wrong: list[object] = []
    done = threading.Event()

    def reader() -> None:
        while not done.is_set():
            if read(pieces) != wanted:
                wrong.append("another answer")
                return

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    for k in range(60):
        await engine.append(tools.batch([(labels, [(tools.now + k * 1000, float(k))]) for labels, _, _ in wanted], keyspace))
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(selected(engine, tools.now, tools.now + 59_000)) == len(wanted), "all were written meanwhile"


async def test_a_few_samples_are_read_at_once(open_engine, tools, keyspace, monkeypatch):
    engine = await two_generations(open_engine, tools, keyspace)
    monkeypatch.setattr(module, "LARGE", 1 << 18)
    assert engine.in_pieces("default", M, *EVER) is None


@WHERE
async def test_of_blocks_an_eighth_is_worth_it(open_engine, tools, keyspace, monkeypatch, where):
    engine = await two_generations(open_engine, tools, keyspace, where)
    samples = int(engine.in_pieces("default", M, *EVER).upto[-1])
    for least, answers in ((samples, True), (8 * samples, where != "head"), (8 * samples + 8, False)):
        monkeypatch.setattr(module, "LARGE", least)
        assert (engine.in_pieces("default", M, *EVER) is not None) == answers, least


async def test_what_was_late_is_read_at_once(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace)
    assert engine.in_pieces("default", M, *EVER) is not None
    await engine.append(tools.batch([(tools.metric("m", i="79"), [(tools.now - 49 * MINUTE + 1, 1.0)])], keyspace))
    late = [labels for labels, times, _ in selected(engine, *EVER) if tools.now - 49 * MINUTE + 1 in times]
    assert late and engine.in_pieces("default", M, *EVER) is None
    others = (*M, Matcher("i", "!=", "79"))
    assert engine.in_pieces("default", others, *EVER) is not None


async def test_blocks_are_asked_where_they_hold_what_the_head_does_not(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace)
    assert isinstance(engine.in_pieces("default", M, *EVER), HeadPieces)
    engine._flusher.release()
    assert isinstance(engine.in_pieces("default", M, *EVER), BlockPieces)
    ends = max(b.meta.max_time for b in engine._blocks.all)
    assert isinstance(engine.in_pieces("default", M, ends + 1, tools.now), HeadPieces), "the block ends before"


async def test_samples_that_came_late_lie_in_later_blocks_and_are_read_in_order(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace, "blocks")
    # Between those that are there, at their times (the first that came counts), and before them all.
    late = [(tools.metric("m", i=str(i)), [(tools.now - k * 30_000, k + i / 7) for k in range(240, 0, -3)]) for i in range(1, 70, 2)]
    await engine.append(tools.batch(late, keyspace))
    wanted = selected(engine, *EVER)
    assert engine.in_pieces("default", M, *EVER) is None, "late in the head"
    await engine.flush()
    engine._flusher.release()
    pieces = engine.in_pieces("default", M, *EVER)
    assert read(pieces, at_once=1) == read(pieces, at_once=1000) == wanted == selected(engine, *EVER)
    assert sum(len(row[1]) for row in wanted) < pieces.upto[-1], "of two at one time one is left"


async def test_windows_have_what_came_late(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace, "blocks")
    for since in (80, 60):
        late = [(tools.metric("m", i=str(i)), [(tools.now - (since - k) * MINUTE + 500, k + i / 7) for k in range(40)]) for i in range(30)]
        await engine.append(tools.batch(late, keyspace))
        await engine.flush()
        engine._flusher.release()
    pieces, steps = engine.in_pieces("default", M, *EVER), Steps(tools.now - 90 * MINUTE, 9 * MINUTE, 10, 6 * MINUTE)
    everything = {labels: (times, bits) for labels, times, bits in selected(engine, *EVER)}
    rows = pieces.rows(0, len(pieces.labels))
    times, bits = np.empty((2, int(pieces.upto[-1])), np.int64)
    for lo, hi in ((6, 10), (3, 6), (0, 3)):
        part = steps.part(lo, hi)
        offsets = rows.read(part, times, bits, resume=part.first - steps.step if lo else None).tolist()
        for labels, a, b in zip(pieces.labels, offsets, offsets[1:], strict=False):
            assert wanted_by(part, times[a:b].tolist(), bits[a:b].tolist()) == wanted_by(part, *everything[labels])


async def test_blocks_that_are_merged_and_deleted_meanwhile_are_read_all_the_same(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace, "blocks")
    wanted, pieces = selected(engine, *EVER), engine.in_pieces("default", M, *EVER)
    before = [block.path for block in engine._blocks.all]
    await engine.delete("default", [M], *EVER)
    await engine.compact(clean=True)
    assert not any(path.exists() for path in before)
    assert selected(engine, *EVER) == []
    assert read(pieces) == wanted


async def test_series_of_which_something_was_deleted_are_read_at_once(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace, "blocks")
    await engine.delete("default", [(*M, Matcher("i", "=", "31"))], tools.now - 60 * MINUTE, tools.now - 45 * MINUTE)
    assert engine.in_pieces("default", M, *EVER) is None
    assert engine.in_pieces("default", (*M, Matcher("i", "!=", "31")), *EVER) is not None


async def test_pages_that_are_read_once_are_found_in_the_cache_but_not_put_there(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace, "blocks")
    cache, wanted = engine._blocks.cache, selected(engine, *EVER)
    hits, held = cache.hits, cache.nbytes
    assert read(engine.in_pieces("default", M, *EVER, keep=False)) == wanted
    assert cache.hits > hits and cache.nbytes == held
    emptied(cache)
    misses = cache.misses
    assert read(engine.in_pieces("default", M, *EVER, keep=False), at_once=1000) == wanted
    assert {number < 0 for _, number in cache._pages} == {True}, "times alone, which others have too"
    assert cache.misses - misses == len(cache._pages), "what is not kept was not missed"


def emptied(cache) -> None:
    cache._pages.clear()
    cache._asked.clear()
    cache.nbytes = 0


async def test_damage_is_told_also_of_pages_that_were_read_before(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace, "blocks")
    wanted = selected(engine, *EVER)
    emptied(engine._blocks.cache)
    assert read(engine.in_pieces("default", M, *EVER)) == wanted
    for block in engine._blocks.all:
        data = bytearray((block.path / "pages").read_bytes())
        data[len(data) // 3 :] = bytes(len(data) - len(data) // 3)
        (block.path / "pages").write_bytes(data)
    emptied(engine._blocks.cache)
    with pytest.raises(Corrupt, match="page"):
        read(engine.in_pieces("default", M, *EVER))
    assert all(key[1] < 0 for key in engine._blocks.cache._pages if len(key) == 2), "nothing damaged is kept"


async def test_few_samples_of_many_go_through_the_cache(open_engine, tools, keyspace, monkeypatch):
    engine = await two_generations(open_engine, tools, keyspace, "blocks")
    monkeypatch.setattr(module, "_CACHED", 32)
    assert engine.in_pieces("default", M, tools.now - 5 * MINUTE, tools.now) is None
    assert engine.in_pieces("default", M, *EVER) is not None


async def test_rows_longer_than_a_page_are_read_at_once(open_engine, tools, keyspace, monkeypatch):
    monkeypatch.setattr(pages, "LARGEST", 16)
    monkeypatch.setattr(block_writer, "PAGE_SAMPLES", 16)
    engine = await two_generations(open_engine, tools, keyspace, "blocks")
    assert engine.in_pieces("default", M, *EVER) is None
    short = next(labels for labels, times, _ in selected(engine, *EVER) if len(times) < 16)
    only = (*M, Matcher("i", "=", dict(short)["i"]))
    assert engine.in_pieces("default", only, *EVER) is not None


async def test_rows_that_share_pages_are_best_read_together(open_engine, tools, keyspace, monkeypatch):
    monkeypatch.setattr(block_writer, "PAGE_SAMPLES", 64)
    engine = await two_generations(open_engine, tools, keyspace, "blocks")
    pieces = engine.in_pieces("default", M, *EVER)
    begins = pieces.begins.tolist()
    assert begins[0] == 0 and begins[-1] == len(pieces.labels) and begins == sorted(set(begins))
    decoded: list[int] = []
    for part in pieces.parts:
        original = part.block.page
        monkeypatch.setattr(
            part.block, "page", lambda number, room, original=original, **how: decoded.append(number) or original(number, room, **how)
        )
    for lo, hi in itertools.pairwise(begins):
        room = np.empty((2, int(pieces.upto[hi] - pieces.upto[lo])), np.int64)
        pieces.rows(lo, hi).read(Steps(EVER[1], 0, 1, EVER[1] - EVER[0] + 1), *room)
    held = sum(len(np.unique(part.pages)) for part in pieces.parts)
    assert held <= len(decoded) < 1.5 * held < sum(len(part.rows) for part in pieces.parts)


async def test_a_page_that_two_reads_want_is_decoded_once(open_engine, tools, keyspace, monkeypatch):
    engine = await two_generations(open_engine, tools, keyspace, "blocks")
    pieces, decoded = engine.in_pieces("default", M, *EVER), []
    for part in pieces.parts:
        original = part.block.page
        monkeypatch.setattr(
            part.block, "page", lambda number, room, original=original, **how: decoded.append(number) or original(number, room, **how)
        )
    steps = Steps(tools.now - 89 * MINUTE, MINUTE, 90, 5 * MINUTE)
    rows, room = pieces.rows(0, 5), np.empty((2, int(pieces.upto[5])), np.int64)
    for lo in range(80, -1, -10):
        part = steps.part(lo, lo + 10)
        assert rows.read(part, *room, resume=part.first - MINUTE if lo else None) is not None
    assert len(decoded) == sum(len(np.unique(part.pages[part.targets < 5])) for part in pieces.parts)


async def test_damage_is_told_when_it_is_met(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace, "blocks")
    pieces = engine.in_pieces("default", M, *EVER)
    for block in engine._blocks.all:
        file = block.path / "pages"
        data = bytearray(file.read_bytes())
        data[len(data) // 3 :] = bytes(len(data) - len(data) // 3)
        file.write_bytes(data)
    with pytest.raises(Corrupt, match="page"):
        read(pieces)


async def test_of_native_histograms_all_is_read_at_once(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace)
    layout = Layout(3, 0.001, (), np.array([-3, -2, 5], dtype=np.int32), np.array([7], dtype=np.int32))
    native = Histogram(layout, np.arange(layout.width, dtype=np.float64))
    batch = tools.batch([(tools.metric("m", i="h"), [(tools.now, 1.0)])], keyspace)  # the sum of it
    await engine.append(replace(batch, histograms=Histograms.of([0], [native])))
    assert engine.in_pieces("default", M, *EVER) is None
    assert engine.in_pieces("default", (*M, Matcher("i", "!=", "h")), *EVER) is not None
    await engine.flush()
    engine._flusher.release()
    assert engine.in_pieces("default", M, *EVER) is None
    assert isinstance(engine.in_pieces("default", (*M, Matcher("i", "!=", "h")), *EVER), BlockPieces)


async def test_more_than_a_select_may_answer_is_left_to_it(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace, select_samples=500)
    assert engine.in_pieces("default", M, *EVER) is None
    assert engine.in_pieces("default", (*M, Matcher("i", "=", "71")), *EVER) is not None


async def test_nothing_of_another_tenant(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace)
    assert engine.in_pieces("other", M, *EVER) is None
    assert engine.in_pieces("default", (Matcher("__name__", "=", "absent"),), *EVER) is None
