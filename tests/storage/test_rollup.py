"""Rollup tiers: made once a day is over, answered from where that is exact, kept longer than samples, never showing what was deleted."""

from __future__ import annotations

import itertools

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import BadInput
from vedette.kernels import rollup as kernel
from vedette.model.matchers import Matcher
from vedette.model.samples import STALE, STALE_BITS, SampleBatch, canonical
from vedette.promql.coarse import EXACT, NEARLY
from vedette.promql.engine import Engine as Promql
from vedette.promql.errors import TooManySamples
from vedette.promql.settings import PromqlSettings
from vedette.storage import engine as engine_module
from vedette.storage import offline, snapshots, tiered
from vedette.storage.engine import Engine
from vedette.storage.interface import Coarse
from vedette.storage.pieces import HeadPieces
from vedette.storage.retention import RetentionRule
from vedette.storage.rollup import COLUMNS, DAY, TIERS, Rollups, hidden_tenant
from vedette.storage.settings import StorageSettings
from vedette.storage.starts import hidden_tenant as hidden_start

# The first run compiles all kernels of these queries.
pytestmark = [pytest.mark.usefixtures("only_when_asked"), pytest.mark.timeout(240)]

EVER = (-(1 << 62), 1 << 62)
MINUTE, HOUR = 60_000, 3_600_000
MIDNIGHT = 1_700_006_400_000  # of the day that begins an hour and three quarters after the tests' clock
BITS = np.array([STALE_BITS], dtype=np.uint64).view(np.int64)[0]


def naive_roll(samples, after, end, width, column):
    """What `roll` does, one sample at a time, of one series' (time, value) pairs."""
    stretches: dict[int, list[tuple[int, float]]] = {}
    for t, v in samples:
        if after < t <= end:
            stretches.setdefault(-(-t // width) * width, []).append((t, v))
    out = []
    for edge, inside in stretches.items():
        numbers = [(t, v) for t, v in inside if np.float64(v).view(np.int64) != BITS]
        values = [v for _, v in numbers]
        real = [v for v in values if not np.isnan(v)]
        if column == kernel.LAST:
            out += numbers[-1:] + ([inside[-1]] if inside[-1] not in numbers[-1:] else [])
        elif column == kernel.COUNTER:
            everything = [v for t, v in samples if after < t <= end and np.float64(v).view(np.int64) != BITS]
            falls = sum(b < a for a, b in itertools.pairwise(everything))
            if len(everything) > kernel.FEW and falls * 4 > len(everything):
                return []
            keep = {0, len(numbers) - 1} | {j for i in range(1, len(numbers)) if not values[i] >= values[i - 1] for j in (i - 1, i)}
            out += [numbers[i] for i in sorted(keep) if 0 <= i < len(numbers)]
        elif numbers:
            made = {kernel.COUNT: len(values), kernel.SUM: sum(values)}
            made |= {kernel.MIN: min(real, default=np.nan), kernel.MAX: max(real, default=np.nan)}
            out.append((edge, float(made[column])))
    return out


VALUES = st.one_of(st.integers(-50, 50).map(float), st.sampled_from([STALE, float("nan")]))
SERIES = st.dictionaries(st.integers(-3000, 3000), VALUES, max_size=40).map(lambda d: sorted(d.items()))


LONG = st.lists(VALUES, min_size=60, max_size=90).map(lambda values: list(enumerate(values, -40)))


@given(
    rows=st.lists(st.one_of(SERIES, LONG), max_size=4),
    column=st.sampled_from(list(COLUMNS.values())),
    width=st.sampled_from([1, 7, 300, 5000]),
)
def test_the_kernel_is_its_naive_twin(rows, column, width):
    times = np.array([t for row in rows for t, _ in row], dtype=np.int64)
    values = np.array([v for row in rows for _, v in row], dtype=np.float64)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    out_offsets, out_times, out_values = np.empty_like(offsets), np.empty_like(times), np.empty_like(values)
    kernel.roll(offsets, times, values, -2000, 1500, width, column, out_offsets, out_times, out_values)
    for i, row in enumerate(rows):
        span = slice(int(out_offsets[i]), int(out_offsets[i + 1]))
        wanted = naive_roll(row, -2000, 1500, width, column)
        assert out_times[span].tolist() == [t for t, _ in wanted]
        np.testing.assert_array_equal(out_values[span], [v for _, v in wanted])
        stale = [np.float64(v).view(np.int64) == BITS for _, v in wanted]
        assert (out_values[span].view(np.int64) == BITS).tolist() == stale


@pytest.fixture
async def open_with(tmp_path, clock):
    opened = []

    async def open_(rules=(), **settings):
        made = StorageSettings(**({"data": tmp_path / "data", "out_of_order_window": 10 * DAY} | settings))
        engine = Engine(made, clock, retention=rules)
        await engine.start()
        opened.append(engine)
        return engine

    yield open_
    for engine in opened:
        await engine.close()


async def days_of(engine, tools, keyspace, clock, *, days=3, step=2 * MINUTE, gaps=True):
    """Days of a gauge that goes up and down, a counter that is reset, and a series that ends now and then; then all is rolled up."""
    rng = np.random.default_rng(5)
    times = np.arange(MIDNIGHT + 17_000, MIDNIGHT + days * DAY, step)
    gauge = rng.normal(size=len(times)) * 100
    counter = np.cumsum(rng.integers(0, 9, len(times))).astype(float) % 1000
    ending = np.where(rng.random(len(times)) < 0.1, STALE, rng.integers(0, 5, len(times)).astype(float))
    rows = [(tools.metric("gauge", i="0"), gauge), (tools.metric("requests_total"), counter), (tools.metric("ending"), ending)]
    for lo in range(0, len(times), 400):
        part = slice(lo, lo + 400)
        keep = rng.random(len(times[part])) < (0.7 if gaps else 2)
        samples = [(labels, list(zip(times[part][keep].tolist(), values[part][keep], strict=True))) for labels, values in rows]
        await engine.append(tools.batch(samples, keyspace))
    await engine.flush()
    engine._flusher.release()
    await clock.advance((MIDNIGHT + days * DAY + 2 * HOUR) / 1000 - clock.now())
    await engine.compact()


def answers(engine, clock, expr, start, end, step):
    promql = Promql(engine, PromqlSettings(experimental_functions=True), clock)
    try:
        return promql.range("default", expr, start, end, step).json()
    finally:
        promql.close()


def raw_only(engine, monkeypatch):
    monkeypatch.setattr(engine, "coarse_select", lambda *_: None)


def used(engine, monkeypatch):
    """The stretches that queries read from tiers, from now on."""
    found, inner = [], engine._tiers.of_stretch

    def noted(names, stretch, *more):
        if stretch.day is not None:
            found.append(stretch)
        return inner(names, stretch, *more)

    monkeypatch.setattr(engine._tiers, "of_stretch", noted)
    return found


async def test_functions_are_exact_from_tiers(open_with, tools, keyspace, clock, monkeypatch):
    engine = await open_with(retention=0)
    await days_of(engine, tools, keyspace, clock)
    assert {(d.tier, d.day) for d in engine._rollups.days} == {(t, MIDNIGHT + k * DAY) for t in TIERS for k in range(3)}
    stretches = used(engine, monkeypatch)
    exprs = [f"{name}({metric}[{r}])" for name in EXACT for metric, r in (("gauge", "1h"), ("requests_total", "5m"), ("ending", "6h"))]
    exprs += [
        "gauge",
        "sum(requests_total)",
        "timestamp(ending)",
        "ending offset 1h",
        "max_over_time(gauge[1h] offset 2h)",
        "gauge @ 1700100000",
    ]
    exprs += ["count_over_time(gauge[1h]) / count_over_time(gauge[2h])", "max_over_time(sum(gauge)[6h:1h])", "absent(ending)"]
    grids = [
        (MIDNIGHT + HOUR, MIDNIGHT + 2 * DAY, HOUR),
        (MIDNIGHT + 5 * MINUTE, MIDNIGHT + DAY, 5 * MINUTE),
        (MIDNIGHT - DAY, MIDNIGHT + 4 * DAY, HOUR),
    ]
    for expr in exprs:
        for grid in grids:
            before = len(stretches)
            from_tiers = answers(engine, clock, expr, *grid)
            assert len(stretches) > before, expr
            with monkeypatch.context() as patch:
                raw_only(engine, patch)
                assert answers(engine, clock, expr, *grid) == from_tiers, expr
    assert {TIERS[s.day.tier] for s in stretches} == set(TIERS.values())


@pytest.fixture
def few_are_many(monkeypatch):
    """Hundreds of samples are rolled up as they are read, and read in pieces."""
    monkeypatch.setattr(tiered, "_FEW", 100)
    monkeypatch.setattr(tiered, "_MANY", 1000)
    monkeypatch.setattr(engine_module, "LARGE", 0)


async def without_days(engine, *gone):
    """As if these days were not rolled up."""
    for key, day in list(engine._rollups._days.items()):
        if day.day in [MIDNIGHT + k * DAY for k in gone]:
            del engine._rollups._days[key]


@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("gone", [(0,), (1,), (2,), (0, 2), (1, 2)])
async def test_functions_are_exact_partly_from_tiers_and_partly_from_samples_rolled_up_as_they_are_read(
    open_with, tools, keyspace, clock, monkeypatch, gone
):
    engine = await open_with(retention=0)
    await days_of(engine, tools, keyspace, clock)
    await without_days(engine, *gone)
    stretches, most, rolled, roll = used(engine, monkeypatch), [0], [], tiered._rolled
    select = engine.select
    in_pieces, divided = engine.in_pieces, []
    monkeypatch.setattr(engine, "select", lambda *of: most.append((found := select(*of)).sample_count) or found)
    monkeypatch.setattr(engine, "in_pieces", lambda *of, **how: divided.append(found := in_pieces(*of, **how)) or found)
    monkeypatch.setattr(tiered, "_rolled", lambda *of: rolled.append(made := roll(*of)) or made)
    whole = select("default", [Matcher("__name__", "=", "gauge")], *EVER).sample_count
    for name in EXACT:
        for metric, span in (("gauge", "1h"), ("requests_total", "5m"), ("ending", "6h")):
            for grid in ((MIDNIGHT + HOUR, MIDNIGHT + 3 * DAY, HOUR), (MIDNIGHT + 5 * MINUTE, MIDNIGHT + 2 * DAY, 5 * MINUTE)):
                expr, before = f"{name}({metric}[{span}])", len(stretches)
                most[:], divided[:] = [0], []
                found = answers(engine, clock, expr, *grid)
                assert len(stretches) > before and max(most) <= whole / 2, "a day of samples at a time"
                if EXACT[name] != "counter" or metric == "requests_total":
                    assert all(pieces.sample_count <= whole / 2 for pieces in divided if pieces is not None)
                with monkeypatch.context() as patch:
                    raw_only(engine, patch)
                    assert answers(engine, clock, expr, *grid) == found, expr
    assert any(made is not None for made in rolled) and any(made is None for made in rolled)


@pytest.mark.usefixtures("few_are_many")
async def test_samples_are_read_in_pieces_where_no_tier_serves(open_with, tools, keyspace, clock, monkeypatch):
    engine = await open_with(retention=0, page_cache=0)
    await days_of(engine, tools, keyspace, clock)
    inner, read = engine.in_pieces, []
    monkeypatch.setattr(engine, "in_pieces", lambda *of, **how: read.append(found := inner(*of, **how)) or found)
    grid = (MIDNIGHT + HOUR, MIDNIGHT + 3 * DAY, HOUR)
    for expr in ("sum_over_time(requests_total[1h])", "avg_over_time(gauge[2h])", "rate(gauge[1h])", "first_over_time(gauge[1h])"):
        found = answers(engine, clock, expr, *grid)
        assert read and not isinstance(read.pop(), HeadPieces | None), expr
        monkeypatch.setattr(tiered, "_MANY", 1 << 20)
        monkeypatch.setattr(engine_module, "LARGE", 1 << 20)
        assert answers(engine, clock, expr, *grid) == found, "as what is read whole"
        monkeypatch.setattr(tiered, "_MANY", 1000)
        monkeypatch.setattr(engine_module, "LARGE", 0)
        read.clear()
    assert answers(engine, clock, "max_over_time(gauge[1h])", *grid) and not any(read), "a tier serves"


async def test_what_is_not_exact_is_read_from_samples_as_long_as_they_are_there(open_with, tools, keyspace, clock, monkeypatch):
    engine = await open_with(retention=0)
    await days_of(engine, tools, keyspace, clock)
    stretches = used(engine, monkeypatch)
    exprs = [f"{name}(requests_total[1h])" for name in NEARLY] + [
        "stddev_over_time(gauge[1h])",
        "irate(requests_total[1h])",
        "changes(gauge[1h])",
    ]
    for expr in exprs:
        answers(engine, clock, expr, MIDNIGHT + HOUR, MIDNIGHT + DAY, HOUR)
    for grid in ((MIDNIGHT + 1000, MIDNIGHT + DAY, HOUR), (MIDNIGHT, MIDNIGHT + DAY, MINUTE)):
        answers(engine, clock, "max_over_time(gauge[1h])", *grid)
    answers(engine, clock, "max_over_time(gauge[61m])", MIDNIGHT, MIDNIGHT + DAY, HOUR)
    assert stretches == []


async def test_tiers_outlive_samples(open_with, tools, keyspace, clock, monkeypatch):
    engine = await open_with(retention=10 * DAY, rollups={"5m": 20 * DAY, "1h": 40 * DAY})
    await days_of(engine, tools, keyspace, clock, gaps=False)
    grid = (MIDNIGHT + HOUR, MIDNIGHT + 2 * DAY, HOUR)
    exprs = {name: f"{name}(requests_total[2h])" for name in (*EXACT, *NEARLY)}
    before = {name: answers(engine, clock, expr, *grid) for name, expr in exprs.items()}
    await clock.advance(14 * DAY / 1000)
    await engine.compact()
    assert engine.select("default", [], *EVER).sample_count == 0
    for name in EXACT:
        assert answers(engine, clock, exprs[name], *grid) == before[name], name
    for name in NEARLY:
        assert answers(engine, clock, exprs[name], *grid) == before[name], f"{name}: whole numbers add up exactly"
    assert answers(engine, clock, "gauge", MIDNIGHT, MIDNIGHT + DAY, MINUTE) == answers(
        engine, clock, "none", MIDNIGHT, MIDNIGHT + DAY, MINUTE
    )
    await clock.advance(10 * DAY / 1000)
    await engine.compact()
    assert {d.tier for d in engine._rollups.days} == {"1h"}
    assert answers(engine, clock, exprs["max_over_time"], *grid) == before["max_over_time"]
    await clock.advance(20 * DAY / 1000)
    await engine.compact()
    assert engine._rollups.days == []
    assert not [p for p in (engine.settings.data / "rollups").iterdir() if p.is_dir()]


async def test_late_samples_are_seen_at_once_and_rolled_up_again(open_with, tools, keyspace, clock, monkeypatch):
    engine = await open_with(retention=0)
    await days_of(engine, tools, keyspace, clock)
    query = ("max_over_time(gauge[1h])", MIDNIGHT + HOUR, MIDNIGHT + DAY, HOUR)
    await engine.append(SampleBatch.of(keyspace, [tools.metric("gauge", i="0")], [MIDNIGHT + 5 * HOUR - 1], [1e9]))
    for settle in (engine.flush, engine.compact):
        assert b'"1000000000"' in answers(engine, clock, *query)
        await settle()
        engine._flusher.release()
    stretches = used(engine, monkeypatch)
    assert b'"1000000000"' in answers(engine, clock, *query)
    assert stretches, "the day was made anew"
    assert engine.counters()["rolled_up_days"] > 6


async def test_what_was_deleted_is_in_no_tier(open_with, tools, keyspace, clock):
    engine = await open_with(retention=10 * DAY)
    await days_of(engine, tools, keyspace, clock)
    query = ("count_over_time(gauge[1h])", MIDNIGHT + HOUR, MIDNIGHT + 2 * DAY, HOUR)
    before = answers(engine, clock, *query)
    await engine.delete("default", [[Matcher("__name__", "=", "gauge")]], MIDNIGHT + 2 * HOUR + 1000, MIDNIGHT + 3 * HOUR + 1000)
    after = answers(engine, clock, *query)
    assert after != before
    await engine.compact(clean=True)
    assert answers(engine, clock, *query) == after, "made anew, the tiers say what the samples say"
    await clock.advance(14 * DAY / 1000)
    await engine.compact()
    assert answers(engine, clock, *query) == after
    await engine.delete("default", [[Matcher("__name__", "=", "gauge")]], *EVER)
    nothing = answers(engine, clock, "none", *query[1:])
    assert answers(engine, clock, *query) == nothing
    await engine.close()
    engine = await open_with(retention=10 * DAY)
    assert answers(engine, clock, *query) == nothing
    assert answers(engine, clock, "count_over_time(requests_total[1h])", *query[1:]) != nothing


async def test_a_selectors_retention_holds_for_tiers(open_with, tools, keyspace, clock):
    rule = RetentionRule((Matcher("__name__", "=", "gauge"),), 5 * DAY)
    engine = await open_with([rule], retention=30 * DAY)
    await days_of(engine, tools, keyspace, clock)
    query = ("count_over_time({__name__=~'gauge|ending'}[1h])", MIDNIGHT + HOUR, MIDNIGHT + DAY, HOUR)
    assert answers(engine, clock, *query).count(b'"metric"') == 2
    await clock.advance(6 * DAY / 1000)
    assert answers(engine, clock, *query).count(b'"metric"') == 1


async def test_merges_and_restarts_keep_days_and_the_wrong_ones_are_not_read(open_with, tools, keyspace, clock, monkeypatch):
    engine = await open_with(retention=0)
    await days_of(engine, tools, keyspace, clock)
    made = engine.counters()["rolled_up_days"]
    await engine.close()
    engine = await open_with(retention=0)
    stretches = used(engine, monkeypatch)
    answers(engine, clock, "gauge", MIDNIGHT + HOUR, MIDNIGHT + 2 * DAY, HOUR)
    assert len(stretches) == 2
    await engine.compact()
    assert (made, engine.counters()["rolled_up_days"]) == (6, 0)


@pytest.mark.parametrize("name", ["index.json", "pages", "index", "meta.json"])
async def test_damage_to_a_tier_is_reported_and_the_samples_are_read(open_with, tools, keyspace, clock, name, tmp_path):
    engine = await open_with(retention=0)
    await days_of(engine, tools, keyspace, clock, days=1)
    query = ("max_over_time(gauge[1h])", MIDNIGHT + HOUR, MIDNIGHT + DAY, HOUR)
    right = answers(engine, clock, *query)
    await engine.close()
    rollups = tmp_path / "data" / "rollups"
    blocks = sorted(p for p in rollups.iterdir() if p.is_dir())
    file = rollups / name if name == "index.json" else blocks[1] / name
    raw = bytearray(file.read_bytes())
    for at in range(40, min(len(raw), 400)):
        raw[at] ^= 1
    file.write_bytes(raw)
    damage = [d for _, _, found in offline.verify(tmp_path / "data") for d in found]
    assert {d.path for d in damage} == {file}
    engine = await open_with(retention=0)
    assert answers(engine, clock, *query) == right
    assert engine.counters()["damaged_rollups"] >= 1
    await engine.compact()
    assert engine.counters()["rolled_up_days"] >= 1, "it is made anew"
    assert answers(engine, clock, *query) == right


async def test_without_its_index_a_tier_still_serves_what_is_nowhere_else(open_with, tools, keyspace, clock, tmp_path):
    engine = await open_with(retention=10 * DAY)
    await days_of(engine, tools, keyspace, clock)
    query = ("max_over_time(gauge[1h])", MIDNIGHT + HOUR, MIDNIGHT + DAY, HOUR)
    right = answers(engine, clock, *query)
    await clock.advance(14 * DAY / 1000)
    await engine.compact()
    await engine.close()
    (tmp_path / "data" / "rollups" / "index.json").write_text("00000000\n[]")
    for _ in range(2):  # and at the next start, too
        engine = await open_with(retention=10 * DAY)
        await engine.compact()
        assert answers(engine, clock, *query) == right
        await engine.close()


async def test_snapshots_have_the_tiers(open_with, tools, keyspace, clock, tmp_path):
    engine = await open_with(retention=10 * DAY)
    await days_of(engine, tools, keyspace, clock)
    query = ("max_over_time(gauge[1h])", MIDNIGHT + HOUR, MIDNIGHT + DAY, HOUR)
    right = answers(engine, clock, *query)
    await clock.advance(14 * DAY / 1000)
    await engine.compact()
    name = await engine.snapshot()
    snapshots.restore(tmp_path / "data" / "snapshots" / name, tmp_path / "new")
    assert [d for _, _, found in offline.verify(tmp_path / "new") for d in found] == []
    engine = await open_with(retention=10 * DAY, data=tmp_path / "new")
    assert answers(engine, clock, *query) == right


async def test_tiers_count_among_what_may_be_stored_and_the_oldest_days_go(open_with, tools, keyspace, clock):
    engine = await open_with(retention=0)
    await days_of(engine, tools, keyspace, clock)
    blocks = engine.stats().block_bytes
    sizes = {(d.tier, d.day): d.block.nbytes for d in engine._rollups.days}
    await engine.close()

    async def left(limit):
        engine = await open_with(retention=0, retention_size=limit)
        for _ in range(2):  # and the second time nothing is made anew
            await engine.compact()
        await engine.close()
        return {(d.tier, d.day) for d in engine._rollups.days}, engine.stats().blocks, engine.counters()["rolled_up_days"]

    tiers = sum(sizes.values())
    assert tiers > blocks, "tiers are more than half of all"
    assert await left(blocks + tiers + 4096) == (set(sizes), 1, 0)
    assert await left(blocks + tiers - 1) == (set(sizes) - {("5m", MIDNIGHT)}, 1, 0), "one day is enough"
    assert await left(2000) == (set(), 0, 0), "where no block is left, all of them"


async def test_of_what_is_no_counter_no_column_of_counters_is_kept_and_its_rate_is_read_from_samples(
    open_with, tools, keyspace, clock, monkeypatch
):
    engine = await open_with(retention=10 * DAY)
    await days_of(engine, tools, keyspace, clock, days=1, gaps=False)
    kept = {tenant: day.block.index(tenant) for day in engine._rollups.days for tenant in (hidden_tenant("default", "counter"),)}
    assert [len(view.all_ids) for view in kept.values()] == [1], "the counter alone"
    grid = (MIDNIGHT + HOUR, MIDNIGHT + DAY, HOUR)
    before = {}
    for expr in ("rate({__name__=~'gauge|requests_total'}[2h])", "resets(gauge[2h])", "delta(gauge[2h])"):
        before[expr] = answers(engine, clock, expr, *grid)
        with monkeypatch.context() as patch:
            raw_only(engine, patch)
            assert answers(engine, clock, expr, *grid) == before[expr]
    await clock.advance(14 * DAY / 1000)
    await engine.compact()
    assert answers(engine, clock, "rate(gauge[2h])", *grid) == answers(engine, clock, "none", *grid), "gone with the samples"
    assert b'"requests_total"' not in answers(engine, clock, "rate(requests_total[2h])", *grid)
    assert len(orjson.loads(answers(engine, clock, "rate({__name__=~'gauge|requests_total'}[2h])", *grid))["result"]) == 1


def test_a_tier_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no rollup tier '2h'"):
        Rollups(tmp_path, None, keep={"2h": 1}, page_cache=0)


async def test_without_tiers_none_are_made(open_with, tools, keyspace, clock):
    engine = await open_with(retention=0, rollups={})
    await days_of(engine, tools, keyspace, clock)
    assert not (engine.settings.data / "rollups").exists()
    assert engine.coarse_select("default", [], *EVER, Coarse(HOUR, "min", True)) is None


@pytest.mark.parametrize("name", ["rate", "increase", "delta", "resets", "first_over_time"])
async def test_rates_are_exact_whatever_the_counter_does(open_with, tools, keyspace, clock, monkeypatch, name):
    """Resets, NaN among the samples, stale ends, fractions, gaps, one sample alone; windows across days and into what is not rolled up."""
    engine = await open_with(retention=0)
    await days_of(engine, tools, keyspace, clock, days=2)
    rng = np.random.default_rng(9)
    times = np.arange(MIDNIGHT + 7_000, MIDNIGHT + 2 * DAY + HOUR, 47_123)
    values = np.cumsum(rng.random(len(times))) % 20
    values[rng.random(len(times)) < 0.02] = np.nan
    values[rng.random(len(times)) < 0.02] = STALE
    keep = rng.random(len(times)) < np.where(np.arange(len(times)) // 100 % 2, 0.02, 0.9)
    rows = list(zip(times[keep].tolist(), values[keep], strict=True))
    for lo in range(0, len(rows), 400):
        await engine.append(tools.batch([(tools.metric("odd_total"), rows[lo : lo + 400])], keyspace))
    await engine.flush()
    engine._flusher.release()
    await engine.compact()
    stretches = used(engine, monkeypatch)
    for window, offset in (("1h", ""), ("7h", ""), ("5m", ""), ("1d", " offset 1h")):
        for metric in ("odd_total", "requests_total", "gauge", "ending"):
            expr = f"{name}({metric}[{window}]{offset})"
            for step in (HOUR, 5 * MINUTE):
                grid = (MIDNIGHT + HOUR, MIDNIGHT + 2 * DAY + 2 * HOUR, step)
                before = len(stretches)
                from_tiers = answers(engine, clock, expr, *grid)
                assert len(stretches) > before, expr
                with monkeypatch.context() as patch:
                    raw_only(engine, patch)
                    assert answers(engine, clock, expr, *grid) == from_tiers, (expr, step)


async def test_averages_outlive_samples(open_with, tools, keyspace, clock):
    engine = await open_with(retention=10 * DAY)
    await days_of(engine, tools, keyspace, clock)

    def averages():
        (series,) = orjson.loads(answers(engine, clock, "avg_over_time(gauge[6h])", MIDNIGHT + HOUR, MIDNIGHT + 2 * DAY, HOUR))["result"]
        return np.array([[t, float(v)] for t, v in series["values"]])

    before = averages()
    await clock.advance(14 * DAY / 1000)
    await engine.compact()
    assert engine.select("default", [], *EVER).sample_count == 0
    after = averages()
    assert after[:, 0].tolist() == before[:, 0].tolist()
    np.testing.assert_allclose(after[:, 1], before[:, 1], rtol=1e-10)


async def test_what_a_query_costs_is_told_by_the_tier_it_reads(open_with, tools, keyspace, clock):
    engine = await open_with(retention=0)
    await days_of(engine, tools, keyspace, clock, gaps=False)
    selector, span = [Matcher("__name__", "=", "requests_total")], (MIDNIGHT + 1, MIDNIGHT + 3 * DAY)
    assert 2000 <= engine.estimate("default", selector, *span).samples <= 2200
    for column, weighted in (("max", False), ("counter", True)):
        coarse = Coarse(HOUR, column, True, weighted)
        found = engine.estimate("default", selector, *span, coarse)
        answer = engine.coarse_select("default", selector, *span, coarse)
        assert found.series == len(answer.series) == 1
        assert answer.series.sample_count <= found.samples <= 4 * answer.series.sample_count < 2000
    promql = Promql(engine, PromqlSettings(max_samples=600), clock)
    query = (MIDNIGHT + HOUR, MIDNIGHT + 3 * DAY, HOUR)
    assert promql.range("default", "max_over_time(requests_total[1h])", *query).json()
    with pytest.raises(TooManySamples):
        promql.range("default", "stddev_over_time(requests_total[1h])", *query)
    promql.close()


def naive_weights(samples, counts, width):
    """What `weigh` says of one series' samples (time, value), of which `counts` says (time, count) how many there were."""
    out, edges = [], [-(-t // width) * width for t, _ in samples]
    good = [np.float64(v).view(np.int64) != BITS for _, v in samples]
    for i, edge in enumerate(edges):
        mine = [j for j, e in enumerate(edges) if e == edge and good[j]]
        total = sum(c for t, c in counts if edge - width < t <= edge)
        out.append(float(good[i]) + (max(0, total - len(mine)) if mine and i == mine[-1] else 0))
    return out


@given(rows=st.lists(st.tuples(SERIES, SERIES), max_size=4), width=st.sampled_from([1, 7, 300, 5000]), order=st.randoms())
def test_weights_are_those_of_the_naive_twin(rows, width, order):
    counts = [[(t, float(abs(np.nan_to_num(v)))) for t, v in counted] for _, counted in rows]
    places = list(range(len(rows)))
    order.shuffle(places)
    shuffled = [counts[places.index(i)] for i in range(len(rows))]
    flat = [column(series) for series in ([s for s, _ in rows], shuffled) for column in COLUMNS_OF_CSR]
    out = np.full(len(flat[1]), -1.0)
    kernel.weigh(*flat, np.array(places, dtype=np.int64), width, out)
    wanted = [w for (samples, _), counted in zip(rows, counts, strict=True) for w in naive_weights(samples, counted, width)]
    assert out.tolist() == wanted


COLUMNS_OF_CSR = (
    lambda rows: np.cumsum([0, *map(len, rows)], dtype=np.int64),
    lambda rows: np.array([t for row in rows for t, _ in row], dtype=np.int64),
    lambda rows: np.array([v for row in rows for _, v in row], dtype=np.float64),
)


async def test_start_timestamps_are_not_rolled_up(open_with, tools, keyspace, clock):
    """They lie among samples as a hidden tenant's: no figures are made of them."""
    engine = await open_with(retention=0)
    hidden = canonical(hidden_start("default"))
    await engine.append(tools.batch([(tools.metric("started"), [(MIDNIGHT + 5000 * k, 1.0) for k in range(1, 50)])], hidden))
    await days_of(engine, tools, keyspace, clock, days=1)
    tenants = {tenant for day in engine._rollups.days for tenant in day.block.meta.tenants}
    assert tenants == {hidden_tenant("default", column) for column in COLUMNS}
    gauge = [Matcher("__name__", "=", "gauge")]
    stretch = engine.coarse_select("default", gauge, MIDNIGHT + 1, MIDNIGHT + DAY, Coarse(HOUR, "count", True))
    assert stretch.series.values.sum() == engine.select("default", gauge, *EVER).sample_count
