"""Start timestamps: kept beside their samples through log, blocks, restart and deletion; and the zeros that may stand for them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.model.histograms import NO_BUCKETS, RESET, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import KeySpace, canonical
from vedette.promql.engine import Engine as Promql
from vedette.promql.settings import PromqlSettings
from vedette.storage import offline
from vedette.storage.backends import open_backend
from vedette.storage.limits import Limits
from vedette.storage.merging import Merged
from vedette.storage.rollup import COLUMNS, RolledUp
from vedette.storage.settings import StorageSettings

NOW = 1_700_000_000_000
EVER = (-(1 << 62), 1 << 62)
M = [Matcher("__name__", "=", "m")]
KEPT = {"start_timestamps": True}


def counter(**labels: str) -> Labels:
    return Labels.of({"__name__": "m", **labels})


def started(tools, keyspace, rows, starts):
    """A batch of `rows` whose samples began to count at `starts`."""
    return dataclasses.replace(tools.batch(rows, keyspace), starts=np.array(starts, dtype=np.int64))


def told(engine, tenant="default", span=EVER):
    """What storage has: each series' (time, value, start)."""
    found = engine.select(tenant, M, *span)
    found = engine.with_starts(tenant, M, *span, found)
    if found.start_timestamps is None:
        return None
    columns = list(zip(found.timestamps.tolist(), found.values.tolist(), found.start_timestamps.tolist(), strict=True))
    lo = found.offsets.tolist()
    return {labels.get("i"): columns[a:b] for labels, a, b in zip(found.labels, lo, lo[1:], strict=False) if b > a}


async def test_each_sample_has_its_own_through_restarts_blocks_and_merges(open_engine, tools, keyspace, only_when_asked):
    engine = await open_engine(**KEPT)
    rows = [(counter(i="0"), [(NOW, 1.0), (NOW + 10, 2.0)]), (counter(i="1"), [(NOW, 5.0)])]
    await engine.append(started(tools, keyspace, rows, [NOW - 50, 0, NOW - 7]))
    wanted = {"0": [(NOW, 1.0, NOW - 50), (NOW + 10, 2.0, 0)], "1": [(NOW, 5.0, NOW - 7)]}
    assert told(engine) == wanted
    await engine.close()
    engine = await open_engine(**KEPT)
    assert told(engine) == wanted, "read back from the log"
    await engine.flush()
    await engine.append(started(tools, keyspace, [(counter(i="0"), [(NOW + 20, 0.5)])], [NOW + 15]))
    wanted["0"].append((NOW + 20, 0.5, NOW + 15))
    assert told(engine) == wanted, "from a block and from memory"
    await engine.flush()
    await engine.compact()
    assert told(engine) == wanted, "from a merged block"
    assert told(engine, span=(NOW + 5, NOW + 15)) == {"0": [(NOW + 10, 2.0, 0)]}
    await engine.close()


async def test_they_are_nobodys_series(open_engine, tools, keyspace):
    engine = await open_engine(**KEPT)
    await engine.append(started(tools, keyspace, [(counter(i="0"), [(NOW, 1.0)])], [NOW - 50]))
    stats = engine.stats()
    assert (stats.series, stats.samples_appended, list(stats.series_by_metric)) == (1, 1, [("m", 1)])
    assert engine.tenant_series() == {"default": 1}
    assert engine.series("default", [[]], *EVER) == [counter(i="0")]
    assert engine.select("default", [], *EVER).start_timestamps is None, "only for who asks"
    await engine.close()


async def test_rollups_and_figures_leave_them_out(open_engine, tools, keyspace, tmp_path, only_when_asked):
    engine = await open_engine(**KEPT)
    rows = [(counter(i=str(i)), [(NOW, 1.0)]) for i in range(3)]
    await engine.append(started(tools, keyspace, rows, [1, 2, 3]))
    await engine.flush()
    await engine.append(started(tools, keyspace, [(counter(i="9"), [(NOW, 1.0)])], [4]))
    blocks = engine._blocks.all
    assert any(len(block.meta.tenants) == 2 for block in blocks)
    rolled = RolledUp(Merged(blocks, [None] * len(blocks)), 300_000, NOW // 86_400_000 * 86_400_000)
    assert len(rolled.ids) == 3 * len(COLUMNS)
    names = {rolled.snapshot.tenants[n].partition("\x00")[0] for n in rolled.snapshot.tenant_of[rolled.ids]}
    assert names == {"default"}
    data = engine.settings.data
    await engine.close()
    series, figures, _ = offline.figures(data, since=0, top=5)
    assert (series, list(figures.series_by_metric)) == (4, [("m", 4)])


async def test_none_are_kept_unless_they_are_wanted(open_engine, tools, keyspace):
    engine = await open_engine()
    appended = await engine.append(started(tools, keyspace, [(counter(i="0"), [(NOW, 1.0)])], [NOW - 50]))
    assert appended.samples == 1
    assert told(engine) is None
    await engine.close()


async def test_late_samples_and_other_key_spaces_keep_theirs(open_engine, tools, keyspace):
    engine = await open_engine(**KEPT)
    for time, start, space in ((NOW, 100, keyspace), (NOW - 20, 200, canonical()), (NOW - 10, 0, keyspace), (NOW, 300, keyspace)):
        await engine.append(started(tools, space, [(counter(i="0"), [(time, 1.0)])], [start]))
    # The last is a repetition: what came first counts, of its start as of its value.
    assert told(engine) == {"0": [(NOW - 20, 1.0, 200), (NOW - 10, 1.0, 0), (NOW, 1.0, 100)]}
    await engine.close()


async def test_tenants_have_their_own(open_engine, tools):
    engine = await open_engine(**KEPT)
    for tenant, start in (("a", 11), ("b", 22)):
        await engine.append(started(tools, canonical(tenant), [(counter(i="0"), [(NOW, 1.0)])], [start]))
    assert told(engine, "a") == {"0": [(NOW, 1.0, 11)]}
    assert told(engine, "b") == {"0": [(NOW, 1.0, 22)]}
    await engine.close()


async def test_what_is_deleted_takes_its_start_along(open_engine, tools, keyspace, only_when_asked):
    engine = await open_engine(**KEPT)
    rows = [(counter(i=str(i)), [(NOW, 1.0)]) for i in range(3)]
    await engine.append(started(tools, keyspace, rows, [1, 2, 3]))
    await engine.delete("default", [[Matcher("i", "=", "1")]], *EVER)
    await engine.append(started(tools, keyspace, [(counter(i="1"), [(NOW + 5, 9.0)])], [0]))
    assert told(engine) == {"0": [(NOW, 1.0, 1)], "1": [(NOW + 5, 9.0, 0)], "2": [(NOW, 1.0, 3)]}
    await engine.compact(clean=True)
    assert told(engine)["1"] == [(NOW + 5, 9.0, 0)]
    await engine.close()


async def test_a_batch_that_is_refused_leaves_no_start_behind(open_engine, tools):
    def resolve(key: bytes) -> Labels:
        raise BadInput("not that one", where="series 0")

    engine = await open_engine(**KEPT)
    with pytest.raises(BadInput, match="not that one"):
        await engine.append(started(tools, KeySpace("default", resolve), [(counter(i="0"), [(NOW, 1.0)])], [5]))
    assert told(engine) is None
    await engine.close()
    with pytest.raises(LimitExceeded):
        await engine.append(started(tools, canonical(), [(counter(i="0"), [(NOW, 1.0)])], [5]))


async def test_a_closed_key_space_is_let_go_of(open_engine, tools):
    engine = await open_engine(**KEPT)
    for i in range(5):
        space = canonical()
        await engine.append(started(tools, space, [(counter(i=str(i)), [(NOW, 1.0)])], [5]))
        space.close()
    assert len(engine._starts._spaces) == 1
    await engine.close()


async def test_rate_heeds_them_where_it_is_told_to(open_engine, tools, keyspace):
    """A counter that began to count within the range, and one that was reset to a higher value: only its start tells."""
    engine = await open_engine(**KEPT)
    minute = 60_000
    rows = [(counter(i="0"), [(NOW + minute, 60.0), (NOW + 2 * minute, 90.0)])]
    await engine.append(started(tools, keyspace, rows, [NOW, NOW + minute + 1000]))
    answers: list[float] = []
    for heeded in (False, True):
        promql = Promql(engine, PromqlSettings(use_start_timestamps=heeded), ManualClock(NOW / 1000))
        ((_, _, values),) = promql.instant("default", "increase(m[2m1s])", NOW + 2 * minute).rows()
        answers += values.tolist()
        promql.close()
    # From 60 to 90 and on to the window's edge; or 60 since its start, and then 90 after a reset that no value shows.
    assert answers == [60.5, 150.0]
    await engine.close()


@pytest.mark.parametrize("setting", ["start_timestamps", "start_zeros"])
@pytest.mark.parametrize("backend", ["postgres", "remote"])
def test_other_backends_say_that_they_keep_none(tmp_path, backend, setting):
    settings = StorageSettings(data=tmp_path, backend=backend, **{setting: True})
    with pytest.raises(BadInput, match="keeps no start timestamps"):
        open_backend(settings, ManualClock(0), retention=(), limits=Limits())


# Zeros


ZEROS = {"start_zeros": True}


def samples(engine, i="0"):
    found = engine.select("default", [*M, Matcher("i", "=", i)], *EVER)
    return list(zip(found.timestamps.tolist(), found.values.tolist(), strict=True))


async def test_a_zero_stands_where_a_counter_began_once(open_engine, tools, keyspace):
    engine = await open_engine(**ZEROS)
    for step in range(3):
        row = [(counter(i="0"), [(NOW + step * 10, 7.0 + step)])]
        appended = await engine.append(started(tools, keyspace, row, [NOW - 50]))
        assert (appended.samples, appended.dropped) == (1, {}), "what was put in is nobody's concern"
    assert samples(engine) == [(NOW - 50, 0.0), (NOW, 7.0), (NOW + 10, 8.0), (NOW + 20, 9.0)]
    reset = started(tools, keyspace, [(counter(i="0"), [(NOW + 40, 1.0)])], [NOW + 35])
    await engine.append(reset)
    assert samples(engine)[-2:] == [(NOW + 35, 0.0), (NOW + 40, 1.0)]
    await engine.close()
    engine = await open_engine(**ZEROS)
    assert len(samples(engine)) == 6, "and is in the log"
    await engine.close()


@pytest.mark.parametrize("start", [0, -5, NOW, NOW + 5])
async def test_no_zero_for_a_start_that_is_none(open_engine, tools, keyspace, start):
    engine = await open_engine(**ZEROS)
    await engine.append(started(tools, keyspace, [(counter(i="0"), [(NOW, 7.0)])], [start]))
    assert samples(engine) == [(NOW, 7.0)]
    await engine.close()


async def test_no_zero_goes_before_what_is_there(open_engine, tools, keyspace):
    engine = await open_engine(**ZEROS)
    await engine.append(started(tools, keyspace, [(counter(i="0"), [(NOW, 7.0)])], [0]))
    await engine.append(started(tools, keyspace, [(counter(i="0"), [(NOW + 10, 8.0)])], [NOW - 50]))
    await engine.append(started(tools, keyspace, [(counter(i="0"), [(NOW + 20, 9.0)])], [NOW + 10]))
    assert samples(engine) == [(NOW, 7.0), (NOW + 10, 8.0), (NOW + 20, 9.0)]
    await engine.close()


async def test_one_batch_of_many_rows_gets_its_zeros_in_place(open_engine, tools, keyspace):
    engine = await open_engine(**ZEROS)
    rows = [
        (counter(i="0"), [(NOW, 1.0), (NOW + 10, 2.0), (NOW + 20, 0.5)]),
        (counter(i="1"), [(NOW, 3.0)]),
        (counter(i="2"), [(NOW, 4.0), (NOW + 10, 5.0)]),
    ]
    appended = await engine.append(started(tools, keyspace, rows, [NOW - 9, NOW - 9, NOW + 15, 0, NOW - 3, NOW - 3]))
    assert appended.samples == 6
    assert samples(engine) == [(NOW - 9, 0.0), (NOW, 1.0), (NOW + 10, 2.0), (NOW + 15, 0.0), (NOW + 20, 0.5)]
    assert samples(engine, "1") == [(NOW, 3.0)]
    assert samples(engine, "2") == [(NOW - 3, 0.0), (NOW, 4.0), (NOW + 10, 5.0)]
    await engine.close()


async def test_the_zero_of_a_histogram_is_a_histogram(open_engine, tools, keyspace):
    engine = await open_engine(**ZEROS)
    layout = Layout(1, 0.001, (), np.array([0, 2], dtype=np.int32), NO_BUCKETS)
    h = Histogram(layout, np.array([5.0, 9.5, 1, 2, 2]))
    batch = type(tools.batch([], keyspace)).of(keyspace, [counter(i="0"), counter(i="1"), counter(i="2")], [NOW] * 3, [1.0, h, h])
    appended = await engine.append(dataclasses.replace(batch, starts=np.array([NOW - 5, NOW - 5, 0], dtype=np.int64)))
    assert (appended.samples, appended.histograms) == (3, 2)
    assert samples(engine) == [(NOW - 5, 0.0), (NOW, 1.0)]
    found = engine.select("default", [*M, Matcher("i", "=", "1")], *EVER)
    assert found.histograms is not None
    zero, one = (found.histograms.sample(j) for j in range(2))
    assert (zero.count, zero.sum, zero.hint, zero.layout.schema, zero.layout.threshold) == (0.0, 0.0, RESET, 1, 0.001)
    assert (found.timestamps.tolist(), one.cells.tolist()) == ([NOW - 5, NOW], h.cells.tolist())
    assert len(samples(engine, "2")) == 1
    await engine.close()


async def test_both_may_be_on(open_engine, tools, keyspace):
    engine = await open_engine(**ZEROS, **KEPT)
    await engine.append(started(tools, keyspace, [(counter(i="0"), [(NOW, 7.0)])], [NOW - 50]))
    assert told(engine) == {"0": [(NOW - 50, 0.0, 0), (NOW, 7.0, NOW - 50)]}
    await engine.close()
