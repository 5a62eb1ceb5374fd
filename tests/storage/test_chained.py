"""What is asked of blocks again is kept as chains of chunks: what they give is what a select answers, whatever becomes of the blocks."""

from __future__ import annotations

import itertools
import math
import threading

import numpy as np
import pytest

from vedette.errors import Corrupt
from vedette.model.matchers import Matcher
from vedette.model.samples import STALE
from vedette.promql.engine import Engine as Promql
from vedette.promql.settings import PromqlSettings
from vedette.storage import block_writer, chained, pages
from vedette.storage import engine as module
from vedette.storage.block_pieces import BlockPieces
from vedette.storage.interface import Steps
from vedette.storage.page_cache import PageCache
from vedette.storage.pieces import HeadPieces

from .test_pieces import EVER, MINUTE, M, read, rows_of, selected, two_generations, wanted_by

HOUR = 60 * MINUTE
WHERE = pytest.mark.parametrize("where", ["blocks", "both", "all three"])


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(module, "_CACHED", 1 << 40)  # no page is to be found in the cache the next time


def again(engine, start: int = EVER[0], end: int = EVER[1], matchers=M) -> HeadPieces:
    """What is asked for the second time, of chains."""
    first = engine.in_pieces("default", matchers, start, end)
    found = engine.in_pieces("default", matchers, start, end) if isinstance(first, BlockPieces) else first
    assert isinstance(found, HeadPieces)
    return found


async def stored(open_engine, tools, keyspace, where: str = "blocks", **settings):
    """Two blocks; `both`: a block and the head; `all three`: two blocks, a generation that ended, whose block is not asked, the head."""
    engine = await two_generations(open_engine, tools, keyspace, "both" if where == "both" else "blocks", **settings)
    if where == "all three":
        for since in (0, 60):
            batch = tools.batch(rows_of(tools, 70, since=tools.now + since * MINUTE, samples=40, seed=3 + since)[10:], keyspace)
            await engine.append(batch)
            if not since:
                await engine.flush()
    return engine


def page_reads(monkeypatch) -> list[int]:
    """Grows with each page of values that is decoded."""
    decoded: list[int] = []
    read_values = pages.read_values
    monkeypatch.setattr(pages, "read_values", lambda *args: decoded.append(1) or read_values(*args))
    return decoded


@WHERE
async def test_it_is_what_a_select_answers(open_engine, tools, keyspace, where, monkeypatch):
    monkeypatch.setattr(chained, "_FEW", 0)  # however much of it is in memory
    engine = await stored(open_engine, tools, keyspace, where)
    decoded = page_reads(monkeypatch)
    for start, end in (None, None), (-70, -30), (-50, -48), (-45, 90), (-88, -49):
        span = EVER if start is None else (tools.now + start * MINUTE, tools.now + end * MINUTE)
        wanted = selected(engine, *span)
        pieces = again(engine, *span)
        decoded.clear()
        for at_once in (1, 7, 1000):
            assert [row for row in read(pieces, at_once=at_once, span=span) if row[1]] == wanted
        assert pieces.sample_count == sum(len(times) for _, times, _ in wanted), "each counted once, however often it was read"
        assert not decoded


@WHERE
async def test_windows_have_their_samples_from_the_last_to_the_first(open_engine, tools, keyspace, where, monkeypatch):
    monkeypatch.setattr(chained, "_FEW", 0)
    engine = await stored(open_engine, tools, keyspace, where)
    everything = {labels: (times, bits) for labels, times, bits in selected(engine, *EVER)}
    pieces = again(engine)
    for width, cuts in itertools.product((3, 20), ((0, 12), (0, 5, 12), tuple(range(13)))):
        steps = Steps(tools.now - 80 * MINUTE, 9 * MINUTE, 12, width * MINUTE)
        rows, room = pieces.rows(0, len(pieces.labels)), np.empty((2, int(pieces.upto[-1])), np.int64)
        for lo, hi in reversed(list(itertools.pairwise(cuts))):
            part = steps.part(lo, hi)
            offsets = rows.read(part, *room, resume=part.first - steps.step if lo else None).tolist()
            for labels, a, b in zip(pieces.labels, offsets, offsets[1:], strict=False):
                assert wanted_by(part, room[0, a:b].tolist(), room[1, a:b].tolist()) == wanted_by(part, *everything[labels])


QUERIES = (
    "rate(m[10m])",
    "increase(m[40m])",
    "sum by (i) (avg_over_time(m[7m]))",
    "max_over_time(m[1h])",
    "quantile_over_time(0.9, m[11m])",
    "m",
    "timestamp(m)",
    "resets(m[20m])",
    "last_over_time(rate(m[3m])[10m:1m])",
)


@WHERE
async def test_queries_answer_the_same_from_pages_and_from_chains(open_engine, tools, keyspace, where):
    engine = await stored(open_engine, tools, keyspace, where)
    promql = Promql(engine, PromqlSettings(), engine.clock)
    start, end = tools.now - 90 * MINUTE, tools.now + 90 * MINUTE
    for query in QUERIES:
        engine._chains = chained.ChainCache(PageCache(1 << 20))
        answers = [bytes(promql.range("default", query, start, end, 13 * MINUTE).json()) for _ in range(3)]
        assert answers[0] == answers[1] == answers[2]
        assert b'"values":[' in answers[0]
    promql.close()


async def test_counters_that_fall_between_blocks_are_seen_to(open_engine, tools, keyspace):
    engine = await open_engine(retention=0)
    for part in range(4):
        values = [float(100 * k + part) for k in range(300)]  # each block begins with less than the one before had
        samples = [(tools.now + (300 * part + k) * 15_000, v) for k, v in enumerate(values)]
        await engine.append(tools.batch([(tools.metric("m", i="1"), samples)], keyspace))
        await engine.flush()
        engine._flusher.release()
    promql = Promql(engine, PromqlSettings(), engine.clock)
    start, end = tools.now + HOUR, tools.now + 5 * HOUR
    for query in ("increase(m[4h])", "resets(m[5h])", "rate(m[70m])"):
        answers = [bytes(promql.range("default", query, start, end, HOUR).json()) for _ in range(4)]
        assert len(set(answers)) == 1
    assert isinstance(engine.in_pieces("default", M, start - 4 * HOUR, end), HeadPieces | BlockPieces)
    promql.close()


async def test_what_is_asked_for_once_is_read_from_pages_and_not_kept_where_its_values_are_no_whole_numbers(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    held = lambda: sorted(str(key[0]) for key in engine._blocks.cache._pages if key[0] != "not plain" and key[1] >= 0)  # noqa: E731
    assert isinstance(engine.in_pieces("default", M, *EVER), BlockPieces)
    others = (*M, Matcher("i", "=~", "2."))
    assert isinstance(engine.in_pieces("default", others, *EVER), BlockPieces), "other series"
    assert isinstance(engine.in_pieces("default", M, tools.now - 89 * MINUTE, tools.now - 52 * MINUTE), BlockPieces), "other blocks"
    assert not held()


def plain(tools, count: int, *, since: int, samples: int):
    """Series `m` of counters, gauges and constants, some of which are stale at times."""
    rows, rng = [], np.random.default_rng(since % 1000 + count)
    for i in range(count):
        values = (np.cumsum(rng.poisson(20, samples)) * 1.0, np.round(rng.normal(40, 9, samples), 2), np.full(samples, 3.0))[i % 3].copy()
        if i % 4 == 1:
            values[rng.integers(0, samples, 2)] = STALE
        rows.append((tools.metric("m", i=str(i)), [(since + k * MINUTE, float(v)) for k, v in enumerate(values)]))
    return rows


async def plain_blocks(open_engine, tools, keyspace, count: int = 9, blocks: int = 4, samples: int = 300, **settings):
    """Blocks one after the other, each of 300 minutes."""
    engine = await open_engine(retention=0, **settings)
    for k in range(blocks):
        await engine.append(tools.batch(plain(tools, count, since=tools.now + k * 300 * MINUTE, samples=samples), keyspace))
        await engine.flush()
        engine._flusher.release()
    return engine


@pytest.mark.parametrize("large", [1 << 18, 0], ids=["one thread", "two"])
@pytest.mark.parametrize("page", [400, 16_384])
async def test_whole_numbers_are_chained_when_they_are_first_asked_for(open_engine, tools, keyspace, monkeypatch, large, page):
    monkeypatch.setattr(chained, "LARGE", large)
    monkeypatch.setattr(block_writer, "PAGE_SAMPLES", page)
    engine = await plain_blocks(open_engine, tools, keyspace)
    decoded = page_reads(monkeypatch)
    found = engine.in_pieces("default", M, *EVER)
    assert isinstance(found, HeadPieces) and not decoded, "no value is made on the way"
    assert read(found) == selected(engine, *EVER)
    some = (*M, Matcher("i", "=~", "[258]"))
    found = engine.in_pieces("default", some, *EVER)
    assert isinstance(found, HeadPieces) and read(found) == [row for row in selected(engine, *EVER) if dict(row[0])["i"] in "258"]
    promql, start, end = Promql(engine, PromqlSettings(), engine.clock), tools.now, tools.now + 20 * HOUR
    for query in QUERIES:
        answer = bytes(promql.range("default", query, start, end, HOUR).json())
        engine._chains, chains = chained.ChainCache(PageCache(0)), engine._chains
        assert answer == bytes(promql.range("default", query, start, end, HOUR).json())
        engine._chains = chains
    promql.close()


async def test_a_small_part_of_blocks_is_not_chained_at_once(open_engine, tools, keyspace):
    engine = await plain_blocks(open_engine, tools, keyspace)
    last = engine._blocks.all[-1].meta
    span = last.min_time, last.min_time + 100 * MINUTE
    assert isinstance(engine.in_pieces("default", M, *span), BlockPieces)
    assert isinstance(engine.in_pieces("default", M, *span), HeadPieces), "when it is asked for again"


@pytest.mark.parametrize("large", [1 << 18, 0], ids=["one thread", "two"])
async def test_chains_are_of_pages_and_of_rows_where_some_are_no_whole_numbers(open_engine, tools, keyspace, monkeypatch, large):
    monkeypatch.setattr(chained, "LARGE", large)
    monkeypatch.setattr(block_writer, "PAGE_SAMPLES", 400)
    engine = await plain_blocks(open_engine, tools, keyspace, samples=250)
    for k in range(3):
        ratios = [(tools.now + (2000 + k * 100 + j) * MINUTE, j / 7 + k) for j in range(90)]
        await another_block(engine, tools, keyspace, [(tools.metric("m", i=str(i)), ratios) for i in (3, 4, 77)])
    assert isinstance(engine.in_pieces("default", M, *EVER), BlockPieces), "which takes longer"
    decoded = page_reads(monkeypatch)
    found = engine.in_pieces("default", M, *EVER)
    assert isinstance(found, HeadPieces) and 0 < len(decoded) < 10, "of ratios alone"
    assert read(found) == selected(engine, *EVER)


@pytest.mark.parametrize("which", [0, -1], ids=["the first", "the last"])
async def test_a_damaged_block_of_whole_numbers_is_told_by_whoever_wants_it(open_engine, tools, keyspace, monkeypatch, which):
    monkeypatch.setattr(chained, "LARGE", 0)
    engine = await plain_blocks(open_engine, tools, keyspace)
    spoil(engine._blocks.all[which])
    for _ in range(3):
        found = engine.in_pieces("default", M, *EVER)
        assert isinstance(found, BlockPieces)
        with pytest.raises(Corrupt, match="page"):
            read(found)
    assert engine._chains.of(asked_of(engine)) is None


async def test_where_the_other_thread_is_busy_one_reads_all(open_engine, tools, keyspace, monkeypatch):
    monkeypatch.setattr(chained, "LARGE", 0)
    engine = await plain_blocks(open_engine, tools, keyspace)
    go_on = threading.Event()
    busy = engine._chains._other.submit(go_on.wait, 60)
    found = engine.in_pieces("default", M, *EVER)
    assert not busy.done()
    go_on.set()
    assert isinstance(found, HeadPieces) and read(found) == selected(engine, *EVER)


async def test_both_halves_together_take_no_more_than_half_of_the_cache(open_engine, tools, keyspace, monkeypatch):
    monkeypatch.setattr(chained, "LARGE", 0)
    monkeypatch.setattr(chained, "_LEAST", 0)
    engine = await plain_blocks(open_engine, tools, keyspace)
    cache, kept = engine._blocks.cache, engine.in_pieces("default", M, *EVER)
    assert isinstance(kept, HeadPieces)
    cache._pages.clear()
    cache.nbytes, cache.limit = 0, 3 * kept._found.arena.nbytes // 2
    engine._chains = chained.ChainCache(cache)
    for _ in range(4):
        found = engine.in_pieces("default", M, *EVER)
        assert isinstance(found, BlockPieces) and read(found) == selected(engine, *EVER)


async def test_whoever_wants_nothing_kept_neither_keeps_nor_has_chains(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    for _ in range(3):
        assert isinstance(engine.in_pieces("default", M, *EVER, keep=False), BlockPieces)
    again(engine)
    assert isinstance(engine.in_pieces("default", M, *EVER, keep=False), BlockPieces)


async def test_a_range_within_is_served_by_what_is_kept_and_counts_no_more(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    again(engine)
    older, newer = engine._blocks.all
    span = newer.meta.min_time, newer.meta.max_time
    found = engine.in_pieces("default", M, *span)
    assert isinstance(found, HeadPieces)
    assert [row for row in read(found, span=span) if row[1]] == selected(engine, *span)
    assert found.upto[-1] <= int(again(engine).upto[-1])
    own = engine.in_pieces("default", M, *span, keep=False)
    assert int(own.upto[-1]) <= found.upto[-1] <= int(own.upto[-1]) + 255 * len(found.labels)
    assert 0.9 * own.share * own.upto[-1] < found.share * found.upto[-1] * 300, "about the same share"
    assert older.meta.max_time < span[0]


async def test_the_heads_samples_come_on_top_as_they_come(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    kept = again(engine)
    for k in range(3):
        rows = [(tools.metric("m", i=str(i)), [(tools.now + (k + 1) * MINUTE, i / 3 + k)]) for i in (1, 2, 17, 500)]
        await engine.append(tools.batch(rows, keyspace))
        found = engine.in_pieces("default", M, *EVER)
        assert isinstance(found, HeadPieces) and len(found.labels) == len(kept.labels) + 1, "one is new"
        assert read(found) == selected(engine, *EVER)
    assert engine._chains.of(asked_of(engine)).found.arena is not found._found.arena, "what is kept is not written to"


def asked_of(engine, start=EVER[0], end=EVER[1], matchers=M) -> chained.Asked:
    near = [b for b in engine._blocks.all if b.meta.min_time <= end and b.meta.max_time >= start]
    return chained.Asked("default", matchers, near, start, end, engine._tombstones.now.items, engine._memory.series.names)


async def test_of_two_samples_at_one_time_that_of_the_block_counts(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    labels, times, _ = next(row for row in selected(engine, *EVER) if len(row[1]) > 30)
    # Late, and in a generation of its own: all in order there, among and at the times of those of the blocks.
    late = [(times[0] + k * 30_000, -1.0 - k) for k in range(40)]
    await engine.append(tools.batch([(tools.metric("n", i="later"), [(tools.now, 1.0)])], keyspace))
    await engine.append(tools.batch([(labels, late)], keyspace))
    wanted = selected(engine, *EVER)
    engine._chains = chained.ChainCache(engine._blocks.cache)
    for _ in range(3):
        if (found := engine.in_pieces("default", M, *EVER)) is not None:
            assert read(found) == wanted
    await engine.flush()
    engine._flusher.release()
    assert read(again(engine)) == wanted == selected(engine, *EVER)


async def test_where_a_generation_that_ended_has_much_pages_are_read(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace, "all three")
    for _ in range(3):
        found = engine.in_pieces("default", M, *EVER)
        assert isinstance(found, BlockPieces)
        assert read(found) == selected(engine, *EVER)


async def another_block(engine, tools, keyspace, rows):
    await engine.append(tools.batch(rows, keyspace))
    await engine.flush()
    engine._flusher.release()


async def test_chains_grow_by_a_block_that_comes_and_whoever_asks_does_not_wait(open_engine, tools, keyspace, monkeypatch):
    engine = await stored(open_engine, tools, keyspace)
    before = again(engine)
    wanted, decoded = read(before), page_reads(monkeypatch)
    for k in range(1, 6):
        # Of series that are there, one that falls, and of new ones.
        rows = [
            (tools.metric("m", i=str(i)), [(tools.now + (10 * k + j) * MINUTE, 9.0 - j + i / 3) for j in range(9)]) for i in (1, 2, 900 + k)
        ]
        await another_block(engine, tools, keyspace, rows)
        decoded.clear()
        found = engine.in_pieces("default", M, *EVER)
        assert isinstance(found, HeadPieces), "when it is asked for the first time"
        assert len(decoded) == 1, "of the new block alone"
        assert read(found) == selected(engine, *EVER)
    assert len(found.labels) == len(before.labels) + 5
    (kept,) = engine._chains._kept(asked_of(engine))
    assert [m.sequence for m in kept.blocks] == [b.meta.sequence for b in engine._blocks.all], "what was superseded has gone"
    assert read(before) == wanted, "and is as it was for those who have it"
    # A window that has left the oldest blocks behind is served, too, and goes on growing.
    start = engine._blocks.all[1].meta.min_time
    await another_block(engine, tools, keyspace, [(tools.metric("m", i="1"), [(tools.now + HOUR + MINUTE, 7.0)])])
    found = engine.in_pieces("default", M, start, EVER[1])
    assert isinstance(found, HeadPieces)
    assert [row for row in read(found, span=(start, EVER[1])) if row[1]] == selected(engine, start, EVER[1])


async def test_rates_over_chains_that_grew_are_those_of_pages(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    again(engine)
    for k in range(3):
        values = [(tools.now + (20 * k + j + 1) * MINUTE, float(j)) for j in range(20)]  # begins with less than the last one had
        await another_block(engine, tools, keyspace, [(tools.metric("m", i=str(i)), values) for i in (1, 3, 950)])
        assert isinstance(engine.in_pieces("default", M, *EVER), HeadPieces)
    promql, start, end = Promql(engine, PromqlSettings(), engine.clock), tools.now - HOUR, tools.now + HOUR
    for query in QUERIES:
        found = bytes(promql.range("default", query, start, end, 7 * MINUTE).json())
        engine._chains, chains = chained.ChainCache(PageCache(0)), engine._chains
        assert found == bytes(promql.range("default", query, start, end, 7 * MINUTE).json())
        engine._chains = chains
    promql.close()


@pytest.mark.parametrize("rows", [40, 1])
async def test_many_samples_more_or_older_ones_make_chains_anew(open_engine, tools, keyspace, rows):
    engine = await stored(open_engine, tools, keyspace)
    again(engine)
    since = tools.now + MINUTE if rows > 1 else tools.now - 70 * MINUTE + 1  # the one within the others' time
    new = [(tools.metric("m", i=str(i)), [(since + k * MINUTE, k / 7) for k in range(30)]) for i in range(rows)]
    await another_block(engine, tools, keyspace, new)
    wanted = selected(engine, *EVER)
    assert isinstance(engine.in_pieces("default", M, *EVER), BlockPieces)
    assert read(again(engine)) == wanted
    kept, blocks = engine._chains._kept(asked_of(engine)), engine._blocks.all
    assert [[m.sequence for m in one.blocks] for one in kept] == [[b.meta.sequence for b in blocks]]


async def test_a_damaged_block_that_comes_is_told_where_it_is_met(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    again(engine)
    await another_block(engine, tools, keyspace, [(tools.metric("m", i="1"), [(tools.now + MINUTE, 7.0)])])
    spoil(engine._blocks.all[-1])
    for _ in range(3):
        found = engine.in_pieces("default", M, *EVER)
        assert isinstance(found, BlockPieces)
        with pytest.raises(Corrupt, match="page"):
            read(found)
    span = EVER[0], tools.now
    found = engine.in_pieces("default", M, *span)
    assert isinstance(found, HeadPieces) and read(found, span=span) == selected(engine, *span), "of the others all is there"


async def test_a_block_that_has_none_of_the_series_makes_chains_anew(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    wanted = read(again(engine))
    await another_block(engine, tools, keyspace, [(tools.metric("other"), [(tools.now + MINUTE, 7.0)])])
    assert isinstance(engine.in_pieces("default", M, *EVER), BlockPieces)
    assert read(again(engine)) == wanted


async def test_what_is_deleted_is_no_longer_answered_nor_after_a_merge(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    kept = again(engine)
    before = read(kept)
    gone = (*M, Matcher("i", "=", "31"))
    await engine.delete("default", [gone], tools.now - 60 * MINUTE, tools.now - 45 * MINUTE)
    wanted = selected(engine, *EVER)
    assert wanted != before
    for _ in range(3):
        assert engine.in_pieces("default", M, *EVER) is None, "where something was deleted all is read at once"
    await engine.compact(clean=True)
    assert read(again(engine)) == wanted == selected(engine, *EVER)
    assert read(kept) == before, "whoever had it finishes undisturbed"


async def test_blocks_that_were_merged_are_read_again(open_engine, tools, keyspace, clock):
    engine = await stored(open_engine, tools, keyspace)
    wanted = read(again(engine))
    await clock.advance(3 * 86_400)
    await engine.compact(clean=True)
    assert len(engine._blocks.all) == 1
    assert isinstance(engine.in_pieces("default", M, *EVER), BlockPieces)
    assert read(again(engine)) == wanted


def spoil(block) -> None:
    file = block.path / "pages"
    data = bytearray(file.read_bytes())
    data[len(data) // 3 :] = bytes(len(data) - len(data) // 3)
    file.write_bytes(data)


async def test_damage_is_told_where_it_is_met_and_nothing_of_it_kept(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    for block in engine._blocks.all:
        spoil(block)
    for _ in range(3):
        found = engine.in_pieces("default", M, *EVER)
        assert isinstance(found, BlockPieces)
        with pytest.raises(Corrupt, match="page"):
            read(found)
    assert engine._chains.of(asked_of(engine)) is None


async def test_damage_that_no_window_wants_disturbs_nobody(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    older, newer = engine._blocks.all
    spoil(older)
    wanted = selected(engine, newer.meta.min_time, newer.meta.max_time)
    # Two windows, neither of which reaches into the block between them.
    steps = Steps(
        older.meta.min_time - HOUR, newer.meta.max_time - older.meta.min_time + HOUR, 2, newer.meta.max_time - newer.meta.min_time + 1
    )
    for _ in range(3):
        pieces = engine.in_pieces("default", M, steps.first - steps.range + 1, steps.last)
        room = np.empty((2, int(pieces.upto[-1])), np.int64)
        assert isinstance(pieces, BlockPieces)
        offsets = pieces.rows(0, len(pieces.labels)).read(steps, *room)
        assert int(np.diff(offsets).sum()) == sum(len(row[1]) for row in wanted)


async def test_what_would_fill_the_cache_is_not_kept_nor_tried_again(open_engine, tools, keyspace, monkeypatch):
    engine = await stored(open_engine, tools, keyspace, page_cache=24_000)
    cache, wanted, made = engine._blocks.cache, selected(engine, *EVER), []
    make = chained._chained
    monkeypatch.setattr(chained, "_chained", lambda *args, **how: made.append(make(*args, **how)) or made[-1])
    monkeypatch.setattr(chained, "_AT_ONCE", 100)
    for least, tried in ((2, [None] * 2), (16, [None] * 4)):
        # At first it is found out on the way, then before; once from the pages' own numbers, once when it is asked for again.
        monkeypatch.setattr(chained, "_LEAST", least)
        cache._pages.clear()
        cache.nbytes = 0
        for _ in range(6):
            found = engine.in_pieces("default", M, *EVER)
            assert isinstance(found, BlockPieces) and read(found) == wanted
        assert made == tried
    few = (*M, Matcher("i", "=~", "2."))
    monkeypatch.setattr(chained, "_LEAST", 2)
    assert read(again(engine, matchers=few)) == [row for row in wanted if len(i := dict(row[0])["i"]) == 2 and i[0] == "2"]
    assert cache.nbytes <= cache.limit


async def test_ranges_of_the_same_take_no_more_than_half_of_the_cache(open_engine, tools, keyspace):
    engine = await open_engine(retention=0)
    starts = [tools.now + k * 10 * HOUR for k in range(4)]
    for since in starts:
        await engine.append(tools.batch(rows_of(tools, 20, since=since, samples=40), keyspace))
        await engine.flush()
        engine._flusher.release()
    again(engine, starts[0], starts[0] + 5 * HOUR)
    (kept,) = engine._chains._kept(asked_of(engine))
    engine._blocks.cache.limit = 5 * kept.nbytes
    engine._chains = chained.ChainCache(engine._blocks.cache)
    for since in starts[1:]:
        again(engine, since, since + 5 * HOUR)
    assert [one.span[0] for one in engine._chains._kept(asked_of(engine))] == [starts[3], starts[2]], "two and a half would fit"


async def test_chains_make_room_for_what_was_asked_for_later(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    again(engine)
    cache = engine._blocks.cache
    cache.put("something large", b"", cache.limit)
    assert cache.nbytes == cache.limit and engine._chains.of(asked_of(engine)) is None
    again(engine)
    assert cache.nbytes < cache.limit


async def test_two_ranges_apart_are_both_kept_and_at_most_four(open_engine, tools, keyspace):
    engine = await open_engine(retention=0)
    starts = [tools.now + k * 10 * HOUR for k in range(6)]
    for since in starts:
        await engine.append(tools.batch(rows_of(tools, 20, since=since, samples=40), keyspace))
        await engine.flush()
        engine._flusher.release()
    for since in starts[:2] * 2:
        again(engine, since, since + 5 * HOUR)
    kept = engine._chains._kept(asked_of(engine))
    assert [one.span[0] for one in kept] == [starts[1], starts[0]]
    for since in starts:
        span = since, since + 5 * HOUR
        assert [row for row in read(again(engine, *span), span=span) if row[1]] == selected(engine, *span)
    assert len(engine._chains._kept(asked_of(engine))) == 4
    again(engine)
    assert len(engine._chains._kept(asked_of(engine))) == 1, "all of them within one"
    assert isinstance(engine.in_pieces("default", M, starts[3], starts[3] + 5 * HOUR), HeadPieces)


async def test_while_one_thread_makes_chains_another_reads_pages(open_engine, tools, keyspace, monkeypatch):
    engine = await stored(open_engine, tools, keyspace)
    wanted, begun, go_on = selected(engine, *EVER), threading.Event(), threading.Event()
    make = chained._chained

    def slowly(*args, **how):
        begun.set()
        assert go_on.wait(30)
        return make(*args, **how)

    assert isinstance(engine.in_pieces("default", M, *EVER), BlockPieces)
    monkeypatch.setattr(chained, "_chained", slowly)
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(engine.in_pieces("default", M, *EVER)))
    thread.start()
    assert begun.wait(30)
    for _ in range(3):
        pieces = engine.in_pieces("default", M, *EVER)
        assert isinstance(pieces, BlockPieces) and read(pieces) == wanted
    go_on.set()
    thread.join()
    assert isinstance(found[0], HeadPieces) and read(found[0]) == wanted
    assert isinstance(engine.in_pieces("default", M, *EVER), HeadPieces)


async def test_series_of_other_numbers_have_chains_anew(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    kept = again(engine)
    asked = asked_of(engine)
    assert engine._chains.of(asked) is not None
    other = asked._replace(names=type(asked.names)())
    assert engine._chains.of(other) is None, "by another table of symbols the labels would say something else"
    assert engine._chains.of(asked._replace(tenant="other")) is None
    assert len(kept.labels) == len(selected(engine, *EVER))


@pytest.mark.parametrize(("at_once", "piece"), [(1, 1), (50, 7), (300, 1 << 14), (1 << 16, 64)])
async def test_however_few_are_read_and_chained_at_once(open_engine, tools, keyspace, monkeypatch, at_once, piece):
    monkeypatch.setattr(chained, "_AT_ONCE", at_once)
    monkeypatch.setattr(chained, "_PIECE", piece)
    engine = await stored(open_engine, tools, keyspace)
    # A third block within the time of the others.
    late = [(tools.metric("m", i=str(i)), [(tools.now - (70 - k) * MINUTE + 500, k + i / 7) for k in range(30)]) for i in range(0, 40, 3)]
    await engine.append(tools.batch(late, keyspace))
    await engine.flush()
    engine._flusher.release()
    assert read(again(engine)) == selected(engine, *EVER)


async def test_values_of_all_kinds_keep_their_bits(open_engine, tools, keyspace):
    engine = await open_engine(retention=0)
    rng = np.random.default_rng(5)
    odd = [0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 2.0**53 + 2, -1e15, 0.1, 1e-9]
    rows = []
    for i in range(30):
        times = tools.now + np.cumsum(rng.integers(1, 40_000 if i % 2 else 2, 200))
        own = rng.choice([*odd, *rng.integers(0, 1 << 62, 9).astype(np.int64).view(np.float64)], 200)
        rows.append((tools.metric("m", i=str(i)), list(zip(times.tolist(), own.tolist(), strict=True))))
    await engine.append(tools.batch(rows, keyspace))
    await engine.flush()
    engine._flusher.release()
    assert read(again(engine)) == selected(engine, *EVER)


def test_what_is_kept_takes_less_than_what_it_says(tmp_path) -> None:
    cache = PageCache(100)
    chains = chained.ChainCache(cache)
    asked = chained.Asked("default", M, [], 0, 1, (), None)
    assert chains.of(asked) is None and not chains.again(asked) and chains.again(asked)
    assert cache.nbytes == 0


async def test_the_cache_counts_what_chains_take(open_engine, tools, keyspace):
    engine = await stored(open_engine, tools, keyspace)
    again(engine)
    kept, cache = engine._chains.of(asked_of(engine)), engine._blocks.cache
    assert {size for key, (_, size) in cache._pages.items() if key[0] == "chains"} == {kept.nbytes}
    assert cache.nbytes == sum(size for _, size in cache._pages.values()) > kept.nbytes > kept.found.arena.nbytes
    samples = int(kept.found.upto[-1])
    assert samples == sum(len(row[1]) for row in selected(engine, *EVER))
    assert kept.found.arena.nbytes < 16 * samples, "less than decoded pages, though many of these values are no decimal numbers"


async def test_what_another_thread_made_meanwhile_is_taken(open_engine, tools, keyspace, monkeypatch):
    engine = await stored(open_engine, tools, keyspace)
    again(engine)
    await another_block(engine, tools, keyspace, [(tools.metric("m", i="1"), [(tools.now + MINUTE, 7.0)])])
    asked, chains, made = asked_of(engine), engine._chains, []
    make = chained._chained
    monkeypatch.setattr(chained, "_chained", lambda *args, **how: made.append(1) or make(*args, **how))
    assert isinstance(engine.in_pieces("default", M, *EVER), HeadPieces) and made == [1]
    monkeypatch.setattr(chains, "of", lambda asked: None)  # as it was when the other thread began
    assert isinstance(engine.in_pieces("default", M, *EVER), HeadPieces) and made == [1]
    assert chains.grown(asked, lambda of: None) is chains._kept(asked)[0]


@pytest.mark.parametrize("width", [3, 25])
async def test_what_comes_after_a_restart_may_lie_among_what_blocks_have(open_engine, tools, keyspace, width):
    engine = await stored(open_engine, tools, keyspace)
    await engine.close()
    engine = await open_engine(retention=0)
    # The head knows of no sample of theirs: for it these are in order. Some are at the times of others, some between them.
    rows = [(tools.metric("m", i=str(i)), [(tools.now - (70 - k) * MINUTE // 2, -k - i / 7) for k in range(90)]) for i in range(1, 60, 2)]
    await engine.append(tools.batch(rows, keyspace))
    wanted = {labels: (times, bits) for labels, times, bits in selected(engine, *EVER)}
    pieces = again(engine)
    assert read(pieces) == read(pieces, at_once=1) == selected(engine, *EVER)
    steps, room = Steps(tools.now - 80 * MINUTE, 9 * MINUTE, 12, width * MINUTE), np.empty((2, int(pieces.upto[-1])), np.int64)
    offsets = pieces.rows(0, len(pieces.labels)).read(steps, *room).tolist()
    for labels, a, b in zip(pieces.labels, offsets, offsets[1:], strict=False):
        assert wanted_by(steps, room[0, a:b].tolist(), room[1, a:b].tolist()) == wanted_by(steps, *wanted[labels])
    promql, start, end = Promql(engine, PromqlSettings(), engine.clock), tools.now - HOUR, tools.now + HOUR
    for query in QUERIES:
        found = bytes(promql.range("default", query, start, end, 7 * MINUTE).json())
        engine._chains, chains = chained.ChainCache(PageCache(0)), engine._chains
        assert found == bytes(promql.range("default", query, start, end, 7 * MINUTE).json())
        engine._chains = chains
    promql.close()
