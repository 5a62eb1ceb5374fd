"""What is in memory and was selected before is read again without waiting; anything else is left to a select."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import numpy as np
import pytest

from vedette.errors import LimitExceeded
from vedette.model.matchers import Matcher
from vedette.model.samples import canonical
from vedette.storage.engine import Engine
from vedette.storage.interface import AtHand
from vedette.storage.retention import RetentionRule
from vedette.storage.settings import StorageSettings

HOUR = 3_600_000
M = (Matcher("__name__", "=", "m"),)


def same(found, other):
    """Whether two answers have the same series in the same order, and the same samples."""
    return (
        list(found.labels) == list(other.labels)
        and np.array_equal(found.offsets, other.offsets)
        and np.array_equal(found.timestamps, other.timestamps)
        and np.array_equal(found.values.view(np.int64), other.values.view(np.int64))
    )


def at_hand(engine, *asked):
    """What is at hand, of which some is: the engine's own upkeep may have the lock for a moment, and then nothing is."""
    deadline = time.monotonic() + 30
    while (found := engine.at_hand(*asked)) is None and time.monotonic() < deadline:
        time.sleep(0.001)
    return found


@pytest.fixture
async def engine(open_engine, tools, keyspace):
    engine = await open_engine(retention=0)
    rows = [(tools.metric("m", i=str(i)), [(tools.now - HOUR + k * 60_000, float(k * i)) for k in range(50)]) for i in range(5)]
    await engine.append(tools.batch(rows, keyspace))
    return engine


async def test_what_was_selected_before(engine, tools):
    assert isinstance(engine, AtHand)
    whole = (tools.now - HOUR, tools.now)
    assert engine.at_hand("default", M, *whole, 1000) is None, "nobody has looked which series these are"
    selected = engine.select("default", M, *whole)
    assert selected.sample_count == 250
    for start, end in (whole, (tools.now - HOUR, tools.now - HOUR), (tools.now - HOUR // 2, tools.now)):
        assert same(at_hand(engine, "default", M, start, end, 1000), engine.select("default", M, start, end))
    assert len(at_hand(engine, "default", M, tools.now + 1, tools.now + 2, 1000)) == 0
    assert engine.at_hand("other", M, *whole, 1000) is None
    assert engine.at_hand("default", (Matcher("i", "=", "1"),), *whole, 1000) is None
    assert engine.at_hand("default", M, *whole, 100) is None, "more samples than asked for"


async def test_a_look_is_enough(engine, tools):
    whole = (tools.now - HOUR, tools.now)
    assert engine.look("default", M)
    assert same(at_hand(engine, "default", M, *whole, 1000), engine.select("default", M, *whole))
    assert not engine.look("nobody", M)
    assert engine.at_hand("nobody", M, *whole, 1000) is None


async def test_a_look_at_few(engine, tools):
    whole = (tools.now - HOUR, tools.now)
    some = (*M, Matcher("i", "=~", "1|3"))
    assert not engine.look("default", some, few=4)
    assert engine.at_hand("default", some, *whole, 1000) is None
    assert engine.look("default", some, few=5)
    assert same(at_hand(engine, "default", some, *whole, 1000), engine.select("default", some, *whole))


async def test_another_series_makes_it_look_again(engine, tools, keyspace):
    whole = (tools.now - HOUR, tools.now)
    engine.select("default", M, *whole)
    await engine.append(tools.batch([(tools.metric("m", i="new"), [(tools.now, 1.0)])], keyspace))
    assert engine.at_hand("default", M, *whole, 1000) is None
    engine.select("default", M, *whole)
    found = at_hand(engine, "default", M, *whole, 1000)
    assert len(found) == 6
    # A sample of a series that is known shows at once, and one out of order too.
    await engine.append(tools.batch([(tools.metric("m", i="new"), [(tools.now - 30_000, 7.0), (tools.now + 1, 8.0)])], keyspace))
    found = at_hand(engine, "default", M, tools.now - HOUR, tools.now + 1, 1000)
    assert same(found, engine.select("default", M, tools.now - HOUR, tools.now + 1))
    assert found.sample_count == 253
    # Another tenant's series change nothing.
    await engine.append(tools.batch([(tools.metric("m", i="theirs"), [(tools.now, 1.0)])], canonical("other")))
    assert len(at_hand(engine, "default", M, *whole, 1000)) == 6


async def test_series_without_samples_in_the_range_are_left_out(engine, tools, keyspace):
    await engine.append(tools.batch([(tools.metric("m", i="late"), [(tools.now, 1.0)])], keyspace))
    engine.select("default", M, tools.now - HOUR, tools.now)
    for start, end, series in ((tools.now - HOUR, tools.now - 1, 5), (tools.now, tools.now, 1), (tools.now - HOUR, tools.now, 6)):
        found = at_hand(engine, "default", M, start, end, 1000)
        assert len(found) == series
        assert same(found, engine.select("default", M, start, end))


async def test_blocks_once_their_pages_are_read(engine, tools, keyspace):
    whole = (tools.now - HOUR, tools.now)
    before = engine.select("default", M, *whole)
    await engine.flush()
    # The head holds still what the new block has.
    assert same(at_hand(engine, "default", M, *whole, 1000), before)
    engine._flusher.release()
    assert engine.at_hand("default", M, *whole, 1000) is None, "nobody has looked into the block"
    await engine.append(tools.batch([(labels, [(tools.now, 2.0)]) for labels in before.labels], keyspace))
    last = tools.now - HOUR + 49 * 60_000
    assert same(at_hand(engine, "default", M, last + 1, tools.now, 1000), engine.select("default", M, last + 1, tools.now)), (
        "past the block"
    )
    assert engine.at_hand("default", M, last, tools.now, 1000) is None
    assert same(engine.select("default", M, *whole), at_hand(engine, "default", M, *whole, 1000))
    for start, end in (whole, (last, tools.now), (last, last), (whole[0], whole[0]), (whole[0], last - 1)):
        assert same(at_hand(engine, "default", M, start, end, 1000), engine.select("default", M, start, end))
    assert engine.at_hand("default", M, *whole, 200) is None, "more samples than asked for"
    # Where pages were let go, they have to be read again.
    engine._blocks.cache._pages.clear()
    assert engine.at_hand("default", M, *whole, 1000) is None
    engine.select("default", M, *whole)
    assert at_hand(engine, "default", M, *whole, 1000) is not None
    (block,) = engine._blocks.all
    block.rest()
    block.rest()
    assert engine.at_hand("default", M, *whole, 1000) is None, "and so does the index"


async def test_several_blocks_of_which_some_have_only_some(engine, tools, keyspace):
    """Late samples, series that end and begin, a block without any: as a select has them, in its order."""
    step, everything = 60_000, (tools.now - HOUR, tools.now + 3 * HOUR)
    for number, ids in enumerate([(3, 1, 7), (8,), (0, 1, 2, 3, 4), (), (9, 0)]):
        await engine.flush()
        engine._flusher.release()
        at = tools.now + number * HOUR // 2
        rows = [(tools.metric("m", i=str(i)), [(at - step, float(i)), (at, 1.0 + i)]) for i in ids] or [(tools.metric("n"), [(at, 1.0)])]
        await engine.append(tools.batch(rows, keyspace))
    assert len(engine._blocks.all) == 5
    engine.select("default", M, *everything)
    for start in range(everything[0], everything[1], HOUR // 4):
        for end in (start, start + HOUR // 2, start + 2 * HOUR):
            found = engine.at_hand("default", M, start, end, 1000)
            assert found is not None
            assert same(found, engine.select("default", M, start, end))
    await engine.compact()
    engine.select("default", M, *everything)
    assert same(at_hand(engine, "default", M, *everything, 1000), engine.select("default", M, *everything))


async def test_a_block_with_deletions_is_left_to_a_select(engine, tools):
    whole = (tools.now - HOUR, tools.now)
    await engine.flush()
    engine._flusher.release()
    engine.select("default", M, *whole)
    assert len(at_hand(engine, "default", M, *whole, 1000)) == 5
    await engine.delete("default", [[Matcher("i", "=", "3")]], *whole)
    assert engine.at_hand("default", M, *whole, 1000) is None
    assert len(engine.select("default", M, *whole)) == 4
    assert engine.at_hand("default", M, *whole, 1000) is None


async def test_many_samples_of_which_few_are_asked_for(engine, tools, keyspace):
    times = range(tools.now - HOUR, tools.now, HOUR // 400)
    rows = [(tools.metric("long", i=str(i)), [(t, float(t % 7)) for t in times]) for i in range(3)]
    burst = [(tools.metric("burst"), [(tools.now - 1200 + i, 1.0) for i in range(1200)])]
    await engine.append(tools.batch([*rows, *burst], keyspace))
    long, burst = (Matcher("__name__", "=", "long"),), (Matcher("__name__", "=", "burst"),)
    for matchers in (long, burst):
        engine.select("default", matchers, tools.now - HOUR, tools.now)
    assert engine.at_hand("default", long, tools.now - HOUR, tools.now, 1000) is None
    late = tools.now - HOUR // 6, tools.now
    found = at_hand(engine, "default", long, *late, 1000)
    assert same(found, engine.select("default", long, *late))
    assert 150 < found.sample_count <= 201
    assert engine.at_hand("default", long, *late, found.sample_count - 1) is None
    # Of series that came late, more lie there than time says.
    assert engine.at_hand("default", burst, *late, 1000) is None
    assert same(at_hand(engine, "default", burst, *late, 1200), engine.select("default", burst, *late))
    assert same(at_hand(engine, "default", long, 0, 1, 1), engine.select("default", long, 0, 1))


async def test_many_series_are_not_kept(engine, tools, keyspace):
    rows = [(tools.metric("many", i=str(i)), [(tools.now - HOUR, 1.0), (tools.now, 2.0)]) for i in range(257)]
    await engine.append(tools.batch(rows, keyspace))
    name, span = Matcher("__name__", "=", "many"), (tools.now - HOUR, tools.now)
    # 257, 256, 65 and 64 of them; of a block fewer are kept.
    wanted = (
        (name,),
        (name, Matcher("i", "!=", "256")),
        (name, Matcher("i", "=~", ".|[1-5].|6[0-4]")),
        (name, Matcher("i", "=~", ".|[1-5].|6[0-3]")),
    )
    for kept in ((False, True, True, True), (False, False, False, True)):
        for matchers, there in zip(wanted, kept, strict=True):
            whole = engine.select("default", matchers, *span)
            found = engine.at_hand("default", matchers, *span, 1000)
            assert (found is not None) == there
            assert found is None or same(found, whole)
        await engine.flush()
        engine._flusher.release()


async def test_what_was_deleted_is_gone(engine, tools):
    whole = (tools.now - HOUR, tools.now)
    engine.select("default", M, *whole)
    await engine.delete("default", [[Matcher("i", "=", "3")]], *whole)
    found = engine.at_hand("default", M, *whole, 1000)
    assert found is None or len(found) == 4
    assert len(engine.select("default", M, *whole)) == 4
    found = engine.at_hand("default", M, *whole, 1000)
    assert found is None or len(found) == 4


async def test_nobody_waits(engine, tools):
    whole = (tools.now - HOUR, tools.now)
    engine.select("default", M, *whole)
    with engine._memory.lock:
        assert engine.at_hand("default", M, *whole, 1000) is None
    assert at_hand(engine, "default", M, *whole, 1000) is not None
    assert not engine.busy(), "and what was taken is given back, also where there is no answer"
    engine.at_hand("default", M, *whole, 1)
    assert not engine.busy()


@pytest.mark.parametrize(
    ("limits", "answered"),
    [({"select_series": 5, "select_samples": 10}, True), ({"select_series": 4}, False), ({"select_samples": 9}, False)],
)
async def test_a_selects_own_limits_hold(open_engine, tools, keyspace, limits, answered):
    engine = await open_engine(**limits)
    await engine.append(tools.batch([(tools.metric("m", i=str(i)), [(tools.now, 1.0), (tools.now + 1, 2.0)]) for i in range(5)], keyspace))
    with contextlib.nullcontext() if answered else pytest.raises(LimitExceeded):
        engine.select("default", M, tools.now, tools.now + 1)
    assert (engine.at_hand("default", M, tools.now, tools.now + 1, 1000) is not None) == answered


async def test_where_series_are_kept_for_different_times_a_select_tells(tools, keyspace, tmp_path, clock):
    rules = [RetentionRule((Matcher("i", "=", "1"),), HOUR)]
    engine = Engine(StorageSettings(data=tmp_path / "data", retention=0), clock, retention=rules)
    engine.lock()
    await engine.start()
    await engine.append(tools.batch([(tools.metric("m", i=str(i)), [(tools.now, 1.0)]) for i in range(3)], keyspace))
    assert len(engine.select("default", M, tools.now, tools.now)) == 3
    assert engine.at_hand("default", M, tools.now, tools.now, 1000) is None
    await engine.close()


async def test_beside_writers(engine, tools, keyspace):
    """While samples come, each answer is one that a select could give: a prefix of what is sent, in order."""
    labels = [tools.metric("m", i=str(i)) for i in range(5)]
    engine.select("default", M, tools.now, tools.now + 1000)
    answers = []

    async def write():
        for k in range(50):
            await engine.append(tools.batch([(one, [(tools.now + k, float(k))]) for one in labels], keyspace))

    async def read(done):
        while not done.is_set():
            found = engine.at_hand("default", M, tools.now, tools.now + 1000, 1000)
            if found is not None:
                answers.append(found)
            await asyncio.sleep(0)

    done = asyncio.Event()
    reading = asyncio.create_task(read(done))
    await write()
    done.set()
    await reading
    answers.append(engine.at_hand("default", M, tools.now, tools.now + 1000, 1000))
    for found in answers:
        for row in range(len(found)):
            values = found.values[found.offsets[row] : found.offsets[row + 1]]
            assert values.tolist() == [float(k) for k in range(len(values))]
    assert answers[-1].sample_count == 250


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_happens(open_engine, tools, keyspace, clock, seed):
    """Writes, flushes, merges, deletions in any order: what is at hand is what a select then gives."""
    draw = random.Random(seed)
    engine = await open_engine(retention=0, out_of_order_window=2 * HOUR)
    asked = [M, (Matcher("i", "=~", "[0-3]"),), (Matcher("__name__", "=~", "m|n"), Matcher("i", "!=", "2")), (Matcher("i", "=", "7"),)]
    answered = 0
    for step in range(60):
        now = tools.now + step * 60_000
        match draw.choice(["append", "append", "append", "append", "flush", "release", "compact", "delete"]):
            case "append":
                chosen = draw.sample(range(10), draw.randint(1, 6))
                times = sorted(draw.sample(range(0, 90 * 60_000, 7_000), 4))
                rows = [(tools.metric(draw.choice("mn"), i=str(i)), [(now - t, draw.random()) for t in reversed(times)]) for i in chosen]
                await engine.append(tools.batch(rows, keyspace))
            case "flush":
                await engine.flush()
            case "release":
                engine._flusher.release()
            case "compact":
                await engine.compact(clean=draw.random() < 0.3)
            case "delete" if draw.random() < 0.3:
                await engine.delete("default", [[Matcher("i", "=", str(draw.randrange(10)))]], now - HOUR, now - HOUR // 2)
        for matchers in draw.sample(asked, 2):
            start = now - draw.randrange(2 * HOUR)
            span = start, start + draw.randrange(2 * HOUR)
            for _ in range(2):
                found = engine.at_hand("default", matchers, *span, 10_000)
                selected = engine.select("default", matchers, *span)
                assert found is None or same(found, selected)
                answered += found is not None
    assert answered
