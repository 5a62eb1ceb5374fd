"""Selects of which samples are read a few rows at a time: what `select` answers, as of the moment when it was asked."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from vedette.model.histograms import Histogram, Histograms, Layout
from vedette.model.matchers import Matcher
from vedette.model.samples import STALE
from vedette.storage import engine as module
from vedette.storage.interface import Divisible, Steps

M = (Matcher("__name__", "=", "m"),)
EVER = (-(1 << 61), 1 << 61)
MINUTE = 60_000


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LARGE", 0)


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


async def two_generations(open_engine, tools, keyspace, **settings):
    """An engine whose samples are in the generation that takes some, in the one before, or in both; the block of that is not asked."""
    engine = await open_engine(retention=0, **settings)
    await engine.append(tools.batch(rows_of(tools, 60, since=tools.now - 90 * MINUTE, samples=40), keyspace))
    await engine.flush()
    await engine.append(tools.batch(rows_of(tools, 80, since=tools.now - 50 * MINUTE, samples=45, seed=2)[20:], keyspace))
    return engine


@pytest.mark.parametrize(("start", "end"), [EVER, (-70, -30), (-50, -50), (-45, 0), (-200, -100), (-62, -49)])
async def test_it_is_what_a_select_answers(open_engine, tools, keyspace, start, end):
    engine = await two_generations(open_engine, tools, keyspace)
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


@pytest.mark.parametrize("cuts", [(0, 12), (0, 5, 12), (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), (0, 11, 12)])
@pytest.mark.parametrize(("step", "span"), [(9, 9), (9, 2), (9, 25), (3, 30), (40, 1)])
async def test_windows_from_the_last_to_the_first_have_their_samples(open_engine, tools, keyspace, cuts, step, span):
    engine = await two_generations(open_engine, tools, keyspace)
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


async def test_several_rows_without_room_for_all_may_be_asked_again(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace)
    steps = Steps(tools.now - 60 * MINUTE, 10 * MINUTE, 7, 10 * MINUTE)
    pieces, part = engine.in_pieces("default", M, *EVER), steps.part(4, 7)
    everything = {labels: (times, bits) for labels, times, bits in selected(engine, *EVER)}
    n = len(pieces.labels)
    rows, room = pieces.rows(0, n), int(pieces.upto[n])
    times, bits = np.empty((2, room), np.int64)
    needed = int(np.diff(pieces.rows(0, n).read(part, times, bits)).sum())
    assert rows.read(part, times[: needed // 2], bits[: needed // 2], resume=part.first - steps.step) is None
    for part, resume in ((part, part.first - steps.step), (steps.part(0, 4), None)):
        offsets = rows.read(part, times, bits, resume=resume).tolist()
        for labels, lo, hi in zip(pieces.labels, offsets, offsets[1:], strict=False):
            assert wanted_by(part, times[lo:hi].tolist(), bits[lo:hi].tolist()) == wanted_by(part, *everything[labels])


async def test_it_is_as_of_one_moment_whatever_comes_then(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace)
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


async def test_readers_and_a_writer_do_not_disturb_each_other(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace)
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


async def test_what_was_late_is_read_at_once(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace)
    assert engine.in_pieces("default", M, *EVER) is not None
    await engine.append(tools.batch([(tools.metric("m", i="79"), [(tools.now - 49 * MINUTE + 1, 1.0)])], keyspace))
    late = [labels for labels, times, _ in selected(engine, *EVER) if tools.now - 49 * MINUTE + 1 in times]
    assert late and engine.in_pieces("default", M, *EVER) is None
    others = (*M, Matcher("i", "!=", "79"))
    assert engine.in_pieces("default", others, *EVER) is not None


async def test_what_is_in_blocks_too_is_read_at_once(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace)
    engine._flusher.release()
    since = tools.now - 45 * MINUTE
    assert engine.in_pieces("default", M, *EVER) is None
    meets = [b.meta.max_time for b in engine._blocks.all]
    assert engine.in_pieces("default", M, max(meets) + 1, tools.now) is not None, "the block ends before"
    assert engine.in_pieces("default", M, since, max(meets)) is None


async def test_of_native_histograms_all_is_read_at_once(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace)
    layout = Layout(3, 0.001, (), np.array([-3, -2, 5], dtype=np.int32), np.array([7], dtype=np.int32))
    native = Histogram(layout, np.arange(layout.width, dtype=np.float64))
    batch = tools.batch([(tools.metric("m", i="h"), [(tools.now, 0.0)])], keyspace)
    await engine.append(replace(batch, histograms=Histograms.of([0], [native])))
    assert engine.in_pieces("default", M, *EVER) is None
    assert engine.in_pieces("default", (*M, Matcher("i", "!=", "h")), *EVER) is not None


async def test_more_than_a_select_may_answer_is_left_to_it(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace, select_samples=500)
    assert engine.in_pieces("default", M, *EVER) is None
    assert engine.in_pieces("default", (*M, Matcher("i", "=", "71")), *EVER) is not None


async def test_nothing_of_another_tenant(open_engine, tools, keyspace):
    engine = await two_generations(open_engine, tools, keyspace)
    assert engine.in_pieces("other", M, *EVER) is None
    assert engine.in_pieces("default", (Matcher("__name__", "=", "absent"),), *EVER) is None
