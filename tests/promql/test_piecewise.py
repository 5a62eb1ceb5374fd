"""Queries whose samples are read a few rows at a time give what they give when all is read at once."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from vedette.clock import ManualClock
from vedette.kernels import streamed
from vedette.kernels import windows as k
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.samples import STALE, SampleBatch, canonical
from vedette.promql import evaluation, piecewise
from vedette.promql.engine import Engine
from vedette.promql.errors import QueryCanceled, TooManySamples
from vedette.promql.parse import parse
from vedette.promql.piecewise import Scratch, divisible
from vedette.promql.plan import Bounds, Prepared, make_plan
from vedette.promql.settings import PromqlSettings
from vedette.promql.values import Grid, Rows
from vedette.promql.window_functions import WINDOW_FUNCTIONS
from vedette.storage import block_writer
from vedette.storage import engine as storage_engine
from vedette.storage.engine import Engine as Storage
from vedette.storage.interface import Steps
from vedette.storage.settings import StorageSettings

NOW = 1_700_000_000_000
SERIES, SAMPLES, EVERY = 40, 130, 15_000
START = NOW - SAMPLES * EVERY

PARAMETERS = {"quantile_over_time": "0.7, {}", "predict_linear": "{}, 60", "double_exponential_smoothing": "{}, 0.5, 0.5"}
QUERIES = (
    "m",
    "sum by (zone) (m)",
    "avg(m)",
    "stddev by (zone) (m)",
    "topk(3, m)",
    "quantile(0.3, m)",
    "timestamp(m)",
    "count(m offset 2m)",
    "m @ end()",
    "absent(m)",
    "absent_over_time(m[1m])",
    "label_replace(m, 'z', '$1', 'zone', '(.*)')",
    "sum(rate(m[2m])) / sum(increase(m[2m]))",
    "max_over_time(rate(m[1m])[5m:30s])",
    "sum_over_time(m[3m] offset 1m)",
    "rate(m[1m]) > 1 or m",
    "count_values('v', changes(m[1m]))",
    *(f"{name}({PARAMETERS.get(name, '{}').format('m[90s]')})" for name in sorted(WINDOW_FUNCTIONS)),
)


def batch(rows: list[tuple[Labels, list[tuple[int, float]]]]) -> SampleBatch:
    whole = SampleBatch.of(canonical(), [labels for labels, _ in rows], [0] * len(rows), [0.0] * len(rows))
    whole.offsets = np.cumsum([0, *(len(samples) for _, samples in rows)], dtype=np.int64)
    whole.timestamps = np.array([t for _, samples in rows for t, _ in samples], dtype=np.int64)
    whole.values = np.array([v for _, samples in rows for _, v in samples], dtype=np.float64)
    return whole


def samples_of(i: int) -> list[tuple[int, float]]:
    """Counters with resets, gauges, ratios; gaps, stale markers, other times of scrapes; one series is of stale markers alone."""
    rng = np.random.default_rng(i)
    counter = np.cumsum(rng.integers(0, 40, SAMPLES)).astype(float)
    counter[SAMPLES // 2 :] -= counter[SAMPLES // 2] if i % 2 else 0.0
    values = (counter, np.round(rng.normal(50, 20, SAMPLES), 2), rng.random(SAMPLES), np.full(SAMPLES, 7.0))[i % 4].copy()
    if i % 7 == 3:
        values[rng.integers(0, SAMPLES, 5)] = STALE
    if i == 11:
        values[:] = STALE
    kept = np.flatnonzero(rng.random(SAMPLES) > 0.1) if i % 5 == 2 else np.arange(SAMPLES)
    return [(START + int(at) * EVERY + i % 3 * 1000, float(values[at])) for at in kept]


@pytest.fixture(params=[(200, "head"), (20, "head"), (200, "both"), (20, "blocks")], ids=str)
async def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AsyncIterator[Storage]:
    """An engine that gives pieces of however little, so that each slab has a row or two, or some steps of one.

    Samples are in memory, in a block of two rows a page, or one half in each.
    """
    slab, where = request.param
    monkeypatch.setattr(storage_engine, "LARGE", 0)
    monkeypatch.setattr(storage_engine, "_CACHED", 1 << 40)
    monkeypatch.setattr(block_writer, "PAGE_SAMPLES", SAMPLES)
    monkeypatch.setattr(piecewise, "SLAB", slab)
    monkeypatch.setattr(evaluation, "SLAB", 200)
    monkeypatch.setattr(evaluation, "HEAVY", 100)
    made = Storage(StorageSettings(data=tmp_path / "data", retention=0), ManualClock(NOW / 1000))
    await made.start()
    rows = [(Labels.of(__name__="m", i=str(i), zone="ab"[i % 2]), samples_of(i)) for i in range(SERIES)]
    half = SAMPLES // 2
    await made.append(batch([(labels, samples[:half]) for labels, samples in rows]))
    await made.flush()
    if where != "head":
        made._flusher.release()
    await made.append(batch([(labels, samples[half:]) for labels, samples in rows]))
    if where == "blocks":
        await made.flush()
        made._flusher.release()
    yield made
    await made.close()


class Counting:
    """A storage, and how often it was read in pieces and at once; with `whole` never in pieces."""

    def __init__(self, storage: Storage, *, whole: bool = False) -> None:
        self._storage = storage
        self.whole, self.pieces, self.selects = whole, 0, 0

    def in_pieces(self, *arguments):
        found = None if self.whole else self._storage.in_pieces(*arguments)
        self.pieces += found is not None
        return found

    def select(self, *arguments):
        self.selects += 1
        return self._storage.select(*arguments)

    def __getattr__(self, name: str):
        return getattr(self._storage, name)


def engine(storage: Storage | Counting, **settings: object) -> Engine:
    given = PromqlSettings(**({"experimental_functions": True} | settings))  # type: ignore[arg-type]
    return Engine(storage, given, ManualClock(NOW / 1000))  # type: ignore[arg-type]


def answer(engine: Engine, expr: str):
    """What the API would send of a range query, rows in order, and what is said beside it."""
    result = engine.range("default", expr, START, NOW, 20_000)
    data = orjson.loads(b"".join(result.pieces()))
    return sorted(data["result"], key=lambda row: sorted(row["metric"].items())), result.warnings, result.infos


@pytest.mark.parametrize("expr", QUERIES)
async def test_the_answer_is_the_same(storage: Storage, expr: str) -> None:
    divided, whole = Counting(storage), Counting(storage, whole=True)
    assert answer(engine(divided), expr) == answer(engine(whole), expr)
    assert whole.selects and not whole.pieces
    first, *_ = answer(engine(storage), expr)
    assert first or expr.startswith("absent"), "there is something to compare"


async def test_samples_are_read_in_pieces_where_they_can_be(storage: Storage) -> None:
    for expr, pieces, selects in (
        ("sum(rate(m[1m]))", 1, 0),
        ("m", 1, 0),
        ("max_over_time(rate(m[1m])[5m:30s])", 1, 0),
        ("rate(m[1m]) + m", 0, 1),  # read once for both
        ("absent_over_time(m[1m])", 0, 1),
    ):
        counting = Counting(storage)
        answer(engine(counting), expr)
        assert (counting.pieces, counting.selects) == (pieces, selects), expr


async def test_a_counter_named_otherwise_is_doubted_all_the_same(storage: Storage) -> None:
    told = [answer(engine(Counting(storage, whole=whole)), "rate(m[1m])")[1:] for whole in (False, True)]
    assert told[0] == told[1] and "might not be a counter" in str(told[0])


async def test_what_was_read_is_told_when_it_is_known(storage: Storage) -> None:
    costs = []
    for whole in (False, True):
        result = engine(Counting(storage, whole=whole)).range("default", "sum(m)", START + 300_000, NOW - 300_000, 20_000)
        (cost,) = result.statistics.reads
        costs.append((cost.series, cost.samples))
    assert costs[0] == costs[1]


async def test_near_the_limit_samples_are_counted_exactly(storage: Storage) -> None:
    held = sum(len(samples_of(i)) for i in range(SERIES))
    with pytest.raises(TooManySamples):
        answer(engine(storage, max_samples=held - 1), "sum(m)")
    near, far = Counting(storage), Counting(storage)
    assert answer(engine(near, max_samples=held + 5000), "sum(m)") == answer(engine(far, max_samples=2 * held + 5000), "sum(m)")
    assert near.selects == 1, "read at once"
    assert far.pieces == 1 and not far.selects


async def test_it_ends_between_two_slabs_when_it_is_cancelled(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel, seen = threading.Event(), []

    def seeing(kernel):
        def call(*arguments: object) -> object:
            seen.append(1)
            cancel.set()
            return kernel(*arguments)

        return call

    monkeypatch.setattr(piecewise, "_AT_ONCE", 100)
    monkeypatch.setattr(k, "last_sample", seeing(k.last_sample))
    monkeypatch.setattr(streamed, "windows", seeing(streamed.windows))
    with pytest.raises(QueryCanceled):
        engine(storage).range("default", "m", START, NOW, 20_000, cancel=cancel)
    assert 1 <= len(seen) <= 2, "each of two threads may be in one"


@pytest.mark.parametrize("expr", ["m", "rate(m[90s])", "deriv(m[90s])", "max_over_time(m[90s])", "quantile_over_time(0.7, m[90s])"])
async def test_room_grows_until_a_slab_fits(storage: Storage, monkeypatch: pytest.MonkeyPatch, expr: str) -> None:
    wanted = answer(engine(storage), expr)
    calls = []

    def windows(*arguments: object) -> int:
        calls.append(original(*arguments))
        return calls[-1]

    original = streamed.windows
    monkeypatch.setattr(streamed, "windows", windows)
    monkeypatch.setattr(piecewise, "_LARGEST", 3)
    monkeypatch.setattr(piecewise, "_AT_ONCE", 300)
    found = engine(storage)
    assert answer(found, expr) == wanted
    assert not calls or min(calls) == 0 < max(calls), "what found no room was begun again"


async def test_what_each_step_could_see_is_counted_of_all(storage: Storage) -> None:
    counting = Counting(storage)
    result = engine(counting).range("default", "sum(m)", START, NOW, 20_000, queryable=True)
    assert result.statistics.per_step is not None and int(result.statistics.per_step.sum()) > 0
    assert counting.pieces == 0


async def test_room_is_used_again_and_large_room_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piecewise, "_MOST_KEPT", 100)
    scratch = Scratch()
    first, second = scratch.take(50), scratch.take(60)
    assert first[0] is not second[0]
    times = {id(first[0]), id(second[0])}
    scratch.give(first)
    scratch.give(second)
    again = scratch.take(10)
    assert id(again[0]) in times
    large = scratch.take(1000)
    assert len(large[0]) == len(large[1]) == 1000
    for room in (again, large, scratch.take(0), scratch.take(5), scratch.take(6)):
        scratch.give(room)
    assert all(0 < len(room[0]) <= 100 for room in scratch._free)
    assert len(scratch._free) <= 2


def test_rows_are_cut_into_what_the_caches_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piecewise, "SLAB", 1000)
    hourly = Steps(NOW, 3_600_000, 720, 3_600_000)
    assert piecewise._cuts(hourly, 999) == [0, 720]
    assert piecewise._cuts(hourly, 2500) == [0, 240, 480, 720]
    assert piecewise._cuts(hourly._replace(range=24 * 3_600_000), 1e9) == [720 * k // 7 for k in range(8)], "what is read twice is little"
    assert piecewise._cuts(hourly._replace(range=720 * 3_600_000), 1e9) == [0, 720]
    assert piecewise._cuts(hourly._replace(n=2), 1e9) == [0, 2]
    assert piecewise._cuts(hourly._replace(step=0), 1e9) == [0, 720], "all steps see the same"
    every = piecewise._cuts(hourly._replace(range=1), 1e9)
    assert every == sorted(set(every)) and every[-1] == 720


class Fixed:
    """Pieces of rows that have so many samples each, and are asked for only as far as where they are cut."""

    share, sample_count = 1.0, 0

    def __init__(self, counts: list[int], begins: list[int] | None) -> None:
        self.upto = np.cumsum([0, *counts])
        self.begins = None if begins is None else np.array(begins)
        self.asked: list[tuple[int, int]] = []

    def chains(self, lo: int, hi: int) -> None:
        """Not all is in memory."""

    def rows(self, lo: int, hi: int):
        self.asked.append((lo, hi))
        return self

    doubtful = False

    def read(self, steps, times, bits, *, resume=None):
        return np.full(self.asked[-1][1] - self.asked[-1][0] + 1, len(times))


@pytest.mark.parametrize(
    ("counts", "begins", "n", "slabs"),
    [
        ([30] * 6, None, 100, [(0, 3), (3, 6)]),
        ([30] * 6, [0, 2, 4, 6], 100, [(0, 2), (2, 4), (4, 6)]),
        ([30] * 6, [0, 1, 3, 6], 100, [(0, 3), (3, 6)]),
        ([90] * 6, [0, 2, 4, 6], 100, [(0, 2), (2, 4), (4, 6)]),
        ([90] * 6, None, 100, [(i, i + 1) for i in range(6)]),
        # One window takes all at once: rows that need too much room are read each by itself.
        ([1900] * 4, [0, 2, 4], 1, [(i, i + 1) for i in range(4)]),
        ([1900] * 4, [0, 2, 4], 100, [(0, 2), (2, 4)]),
    ],
)
def test_rows_that_lie_together_are_read_together(monkeypatch: pytest.MonkeyPatch, counts, begins, n, slabs) -> None:
    monkeypatch.setattr(piecewise, "SLAB", 100)
    pieces = Fixed(counts, begins)
    steps = Steps(0, 1000, n, 1000)
    found = [(slab.lo, slab.hi) for slab in piecewise.PiecewiseSlabs(pieces, Scratch()).of(0, len(counts), steps, stale=True)]
    assert pieces.asked == slabs
    assert list(dict.fromkeys(found)) == slabs


@pytest.mark.parametrize(
    ("begins", "step", "lo", "hi", "cuts"),
    [
        (None, 4, 0, 10, [0, 4, 8, 10]),
        ([0, 3, 6, 9, 10], 4, 0, 10, [0, 3, 6, 10]),
        ([0, 3, 6, 9, 10], 1, 0, 10, [0, 3, 6, 9, 10]),
        ([0, 3, 6, 9, 10], 4, 4, 8, [4, 6, 8]),
        ([0, 9, 10], 2, 0, 10, [0, 2, 9, 10]),
        (None, 4, 0, 0, [0]),
        ([0], 4, 0, 0, [0]),
    ],
)
def test_blocks_of_rows_end_between_those_that_lie_together(begins, step, lo, hi, cuts) -> None:
    labels = Labels.of(__name__="m")
    table = LabelTable.from_labels([labels] * 10)
    rows = Rows(table, 1, lambda *_: None, begins=None if begins is None else np.array(begins))
    assert rows.cuts(step, lo, hi) == cuts


@pytest.mark.parametrize(
    ("expr", "reads"),
    [
        ("m", {0}),
        ("m[5m]", set()),
        ("rate(m[5m])", {0}),
        ("rate(m[5m]) + n", {0, 1}),
        ("rate(m[5m]) + m", set()),
        ("sum(m) + sum(m)", {0}),
        ("absent_over_time(m[5m])", set()),
        ("rate(m[5m] anchored)", set()),
        ("rate(m[5m] smoothed)", set()),
        ("m smoothed", set()),
        ("quantile_over_time(0.5, m[5m])", {0}),
        ("last_over_time(m[5m:1m])", {0}),
        ("start_timestamp(m)", set()),
        ("1 + 1", set()),
    ],
)
def test_which_reads_may_be_in_pieces(expr: str, reads: set[int]) -> None:
    features = PromqlSettings(extended_range_selectors=True, experimental_functions=True).features
    plan = make_plan(Prepared.of(parse(expr, features)), Grid(NOW, 60_000, 10), Bounds(NOW, NOW + 540_000, 300_000, 60_000, 60_000))
    assert divisible(plan) == reads
