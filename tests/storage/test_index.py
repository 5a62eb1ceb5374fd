"""The label index as series come in, and pages where series are long: both against what a list would say."""

from __future__ import annotations

import random

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, match_labels
from vedette.model.samples import SampleBatch, canonical
from vedette.storage import block_writer, index, pages
from vedette.storage.index import IndexView
from vedette.storage.memory import Memory
from vedette.storage.page_cache import PageCache

EVER = (-(1 << 62), 1 << 62)


@pytest.fixture(autouse=True, params=[1, index.PACKED], ids=["packed", "plain"])
def packed(request, monkeypatch):
    """Large pieces are packed; here all of them, and none."""
    monkeypatch.setattr(index, "PACKED", request.param)


def take(memory: Memory, space, rows: list[Labels]) -> None:
    batch = SampleBatch.of(space, rows, [1] * len(rows), [0.0] * len(rows))
    memory.take(batch, window=0, oldest=0, scope=1)


def found(view: IndexView, matchers: list[Matcher]) -> set[Labels]:
    return set(view.table(view.matching(matchers)))


@pytest.mark.parametrize("seed", range(3))
def test_series_are_found_however_they_came_in(seed):
    rng = random.Random(seed)
    memory, space, known = Memory(), canonical(), set()
    for _ in range(40):
        rows = [
            Labels.of(__name__=f"m{rng.randrange(4)}", a=str(rng.randrange(6)), b=rng.choice(["", "x", "y"]), c=str(rng.randrange(500)))
            for _ in range(rng.choice([1, 2, 30, 200]))
        ]
        take(memory, space, rows)
        known.update(rows)
        _, view = memory.index("default")
        assert view is not None
        assert len(view.all_ids) == len(known)
        matchers = []
        for name in rng.sample(["__name__", "a", "b", "c", "nowhere"], rng.randint(0, 3)):
            op = rng.choice(["=", "!=", "=~", "!~"])
            matchers.append(
                Matcher(name, op, rng.choice(["m1", "3", "x", "", "x|"] if op in ("=", "!=") else [".*", ".+", "m[12]", "1.*|2", ""]))
            )
        assert found(view, matchers) == {labels for labels in known if match_labels(tuple(matchers), labels)}
        ids = view.matching(matchers).tolist()
        assert ids == sorted(set(ids))
        assert len(view.pieces) <= 12, "pieces are merged as they grow"


def test_values_and_names_are_told_of_what_is_present():
    memory, space = Memory(), canonical()
    rows = [Labels.of(__name__="m", i=str(i), **({"odd": "yes"} if i % 2 else {"even": str(i % 4)})) for i in range(200)]
    take(memory, space, rows)
    _, view = memory.index("default")
    assert view is not None
    text, find = memory.series.names.symbols.text, memory.series.names.symbols.find

    def values(name: str, present) -> set[str]:
        return {text(s) for s in view.values_where(find(name), present)}

    def late(ids):
        return ids >= 150

    assert values("i", late) == {str(i) for i in range(150, 200)}
    assert values("even", late) == {"0", "2"}
    assert values("odd", lambda ids: ids % 2 == 0) == set()
    assert values("odd", lambda ids: ids == 199) == {"yes"}
    assert {text(s) for s in view.names_where(late)} == {"__name__", "i", "odd", "even"}
    assert {text(s) for s in view.names_where(lambda ids: ids == 4)} == {"__name__", "i", "even"}


def test_packed_postings_take_a_byte_for_most():
    plain = index.Postings(
        np.array([1, 2], np.uint64),
        np.array([0, 5000, 10_000]),
        np.concatenate([np.arange(5000), np.arange(0, 500_000, 100)]).astype(np.uint32),
    )
    made = index.PackedPostings.of_plain(plain)
    assert len(made.data) == 10_000
    assert made.of(0, 2).tolist() == plain.of(0, 2).tolist()
    assert made.of(0, 3).tolist() == []
    assert made.between(0, 2).tolist() == plain.between(0, 2).tolist()
    assert made.firsts(0, 2).tolist() == plain.firsts(0, 2).tolist()
    for pairs in ([], [1], [1, 0]):
        chosen = np.array(pairs, dtype=np.int64)
        assert made.of_pairs(chosen).tolist() == plain.of_pairs(chosen).tolist()


def test_a_view_does_not_change_while_series_come_in():
    memory, space = Memory(), canonical()
    take(memory, space, [Labels.of(__name__="m", i=str(i)) for i in range(10)])
    _, view = memory.index("default")
    take(memory, space, [Labels.of(__name__="m", i=str(i)) for i in range(10, 5000)])
    assert view is not None
    assert len(found(view, [Matcher("__name__", "=", "m")])) == 10
    assert view.table(view.all_ids).row(9) == Labels.of(__name__="m", i="9")


def names_of(memory: Memory, matchers: tuple[Matcher, ...], *, view: bool = False, tenant: str = "default") -> list[str]:
    selection = memory.selected(tenant, matchers, view=view)
    return [] if selection is None else [labels.get("i") for labels in selection.labels]


def test_what_was_selected_before_is_known_until_another_series_comes():
    memory, space = Memory(), canonical()
    few, none = (Matcher("__name__", "=", "m"),), (Matcher("__name__", "=", "n"),)
    assert memory.selected("default", few, view=False) is None
    take(memory, space, [Labels.of(__name__="m", i=str(i)) for i in range(3)])
    assert names_of(memory, few) == ["0", "1", "2"]
    assert names_of(memory, none) == []
    again = memory.selected("default", few, view=False)
    assert again is not None and again.view is None, "the index was not asked"
    assert names_of(memory, few) == ["0", "1", "2"]
    assert memory.selected("default", few, view=True).view is not None
    assert names_of(memory, few, tenant="other") == []
    take(memory, space, [Labels.of(__name__="m", i="0"), Labels.of(__name__="n", i="3"), Labels.of(__name__="m", i="4")])
    assert names_of(memory, none) == ["3"]
    assert names_of(memory, few) == ["0", "1", "2", "4"]


def test_a_view_is_made_anew_when_series_came():
    memory, space = Memory(), canonical()
    take(memory, space, [Labels.of(__name__="m", i=str(i)) for i in range(10)])
    take(memory, canonical("other"), [Labels.of(__name__="m", i="theirs")])
    series, view = memory.index("default")
    assert memory.index("default") == (series, view)
    assert memory.index("default")[1] is view
    assert [labels.get("i") for labels in memory.index("other")[1].table(memory.index("other")[1].all_ids)] == ["theirs"]
    take(memory, space, [Labels.of(__name__="m", i="3")])
    assert memory.index("default")[1] is view, "it was known"
    take(memory, canonical("other"), [Labels.of(__name__="m", i="another")])
    assert not memory._views, "what is kept holds no arrays that grew since"
    take(memory, space, [Labels.of(__name__="m", i="10")])
    assert len(memory.index("default")[1].all_ids) == 11


def test_views_of_few_tenants_are_kept():
    memory = Memory()
    for i in range(100):
        take(memory, canonical(f"t{i}"), [Labels.of(__name__="m", i=str(i))])
    for i in range(100):
        view = memory.index(f"t{i}")[1]
        assert found(view, [Matcher("__name__", "=", "m")]) == {Labels.of(__name__="m", i=str(i))}
        assert 0 < len(memory._views) <= 64


def test_pairs_that_were_looked_up_are_found_again_and_few_of_them_are_kept():
    memory, space = Memory(), canonical()
    take(memory, space, [Labels.of(__name__="m" if i % 10 else "n", i=str(i), j=str(i % 300)) for i in range(6000)])
    _, view = memory.index("default")
    for i in (*range(300), *range(280, 300), *range(20)):
        wanted = {str(n) for n in range(i, 6000, 300) if n % 10}
        assert {x.get("i") for x in found(view, [Matcher("__name__", "=", "m"), Matcher("j", "=", str(i))])} == wanted
        assert 0 < len(view.recent) <= 64
    assert not any(len(ids) > 4096 for ids in view.recent.values()), "long lists are not kept"
    assert len(view.matching([Matcher("__name__", "=", "m")])) == 5400


def test_few_are_looked_at_one_by_one_where_that_is_asked():
    memory, space = Memory(), canonical()
    take(memory, space, [Labels.of(__name__="m", i=str(i), j=str(i % 4)) for i in range(40)])
    name, regex, absent = Matcher("__name__", "=", "m"), Matcher("i", "=~", "1|2.?"), Matcher("k", "=", "")
    for matchers, few, known in (
        ((name, regex), 40, True),
        ((name, regex), 39, False),
        ((name, Matcher("j", "=", "2"), regex), 10, True),
        ((name, Matcher("j", "=", "2"), regex), 9, False),
        ((name,), 0, True),
        ((regex,), 1000, False),
        ((absent,), 1000, False),
        ((name, absent), 40, True),
        ((Matcher("i", "=", "none"), regex), 0, True),
    ):
        selection = memory.selected("default", matchers, view=True, few=few)
        assert (selection is not None) == known
        if selection is not None:
            assert selection.ids.tolist() == memory.selected("default", matchers, view=True).ids.tolist()


def test_what_was_selected_of_many_series_is_kept_as_long_as_there_is_room(monkeypatch: pytest.MonkeyPatch):
    memory, space = Memory(), canonical()
    take(memory, space, [Labels.of(__name__="m", i=str(i)) for i in range(1000)])
    every, most = (Matcher("__name__", "=", "m"),), (Matcher("i", "!=", "7"),)
    first, other = (memory.selected("default", one, view=False) for one in (every, most))
    again = memory.selected("default", every, view=False)
    assert first is not None and again is not None and other is not None
    assert first.view is not None and again.view is None, "the index was not asked again"
    assert again.labels.values is first.labels.values and len(again.labels) == 1000, "what was made of the labels is known by them"
    assert memory.kept("default", every) is None, "whoever must not wait has nothing to do with it"
    room = other.nbytes + memory.selected("default", every, view=False).nbytes
    monkeypatch.setattr("vedette.storage.memory._MANY_BYTES", room + 100)
    third = (Matcher("i", "!=", "8"),)
    memory.selected("default", third, view=False)
    assert memory.selected("default", most, view=False).view is not None, "the one that was not asked for the longest made room"
    take(memory, space, [Labels.of(__name__="m", i="1000")])
    assert len(memory.selected("default", every, view=False).labels) == 1001
    monkeypatch.setattr("vedette.storage.memory._MANY_SERIES", 1000)
    assert len(memory.selected("default", every, view=False).labels) == 1001
    take(memory, space, [Labels.of(__name__="m", i="1001")])
    for _ in range(2):
        found = memory.selected("default", every, view=False)
        assert found.view is not None and len(found.labels) == 1002, "too many are looked for each time"


def test_few_selections_are_kept_of_few_series():
    memory, space = Memory(), canonical()
    take(memory, space, [Labels.of(__name__="m", i=str(i)) for i in range(1000)])
    ones = [(Matcher("i", "=", str(i)),) for i in range(600)]
    for one in ones:
        assert names_of(memory, one) == [one[0].value]
    assert memory.selected("default", ones[-1], view=False).view is None
    assert memory.selected("default", ones[0], view=False).view is not None, "the oldest made room"


def test_a_table_that_another_replaced_is_not_kept():
    memory, space = Memory(), canonical()
    take(memory, space, [Labels.of(__name__="m", i=str(i)) for i in range(4)])
    matchers = (Matcher("i", "=~", "0|2"),)
    assert names_of(memory, matchers) == ["0", "2"]
    memory.head.freeze()
    memory.head.drop_before()
    series, new_ids = memory.series.without(np.array([False, True, False, True]))
    memory.succeed(series, new_ids, since=1 << 60)
    assert memory.selected("default", matchers, view=False).series is series
    assert names_of(memory, matchers) == ["0", "2"]


def test_closed_key_spaces_are_forgotten_and_their_series_stay():
    memory, space, other = Memory(), canonical(), canonical()
    rows = [Labels.of(__name__="m", i=str(i)) for i in range(100)]
    take(memory, space, rows)
    take(memory, other, rows)
    space.close()
    memory.series.forget_closed()
    again = SampleBatch.of(space, rows, [2] * 100, [0.0] * 100)
    assert memory.series.find(again)[1] == 100
    assert memory.series.find(SampleBatch.of(other, rows, [2] * 100, [0.0] * 100))[1] == 0
    assert len(memory.series) == 100


async def test_long_series_span_pages(open_engine, tools, keyspace, monkeypatch, clock: ManualClock):
    monkeypatch.setattr(pages, "LARGEST", 100)
    monkeypatch.setattr(block_writer, "PAGE_SAMPLES", 150)
    engine = await open_engine()
    lengths = [1, 99, 100, 101, 350, 2, 1000, 5]
    rows = [(tools.metric("m", i=str(i)), [(tools.now + k, float(k)) for k in range(n)]) for i, n in enumerate(lengths)]
    await engine.append(tools.batch(rows, keyspace))
    whole = tools.contents(engine)
    await engine.flush()
    engine._flusher.release()
    assert tools.contents(engine) == whole
    assert [len(whole[labels]) for labels, _ in rows] == lengths
    for wanted in ("0|3|6", "4", "5|7", "6"):
        got = engine.select("default", [Matcher("i", "=~", wanted)], tools.now + 90, tools.now + 340)
        expected = {labels: [t for t, _ in samples if tools.now + 90 <= t <= tools.now + 340] for labels, samples in rows}
        answer = {labels: got.timestamps[got.offsets[i] : got.offsets[i + 1]].tolist() for i, labels in enumerate(got.labels)}
        assert answer == {labels: times for labels, times in expected.items() if times and labels.get("i") in wanted.split("|")}
    engine._blocks.all[0].verify()
    assert np.diff(engine._blocks.all[0]._take("pages", np.int64).reshape(-1, 3)[:, 0]).max() <= 150


async def test_the_page_cache_stays_within_its_bytes(open_engine, tools, keyspace):
    engine = await open_engine(page_cache=600_000)
    rows = [(tools.metric("m", i=str(i)), [(tools.now + k, float(k)) for k in range(2000)]) for i in range(50)]
    await engine.append(tools.batch(rows, keyspace))
    await engine.flush()
    engine._flusher.release()
    for _ in range(2):
        assert engine.select("default", [], *EVER).sample_count == 100_000
        assert 0 < engine.counters()["page_cache_bytes"] <= 600_000
    one = [Matcher("i", "=", "7")]
    engine.select("default", one, *EVER)
    before = engine.counters()["page_cache_hits"]
    engine.select("default", one, *EVER)
    assert engine.counters()["page_cache_hits"] == before + 1


async def test_pages_read_straight_to_their_place_hold_what_pages_from_the_cache_do(open_engine, tools, keyspace, monkeypatch):
    monkeypatch.setattr(block_writer, "PAGE_SAMPLES", 150)
    monkeypatch.setattr(block_writer, "_WHOLE_METRICS", 100)
    monkeypatch.setattr(pages, "LARGEST", 100)
    lengths = [1, 40, 40, 350, 99, 7, 120, 120, 3]
    rows = [
        (tools.metric(f"m{i % 3}", i=str(i)), [(tools.now + 10_000 * t + i % 2, float(t * i)) for t in range(n)])
        for i, n in enumerate(lengths)
    ]
    engine = await open_engine()
    await engine.append(tools.batch(rows, keyspace))
    await engine.flush()
    engine._flusher.release()
    (block,) = engine._blocks.all
    every = np.arange(len(lengths), dtype=np.uint32)
    for wanted in (every, every[1:], every[:-1], every[::2], every[3:5], every[4:4]):
        through = block.read(wanted, 0, 1 << 60, cache=PageCache(1 << 30))
        straight = block.read(wanted, 0, 1 << 60, cache=PageCache(0))
        assert [a.tolist() for a in straight] == [a.tolist() for a in through]
    assert tools.contents(engine) == {labels: [(t, np.float64(v).view(np.int64)) for t, v in samples] for labels, samples in rows}


@pytest.mark.parametrize("seed", range(4))
async def test_names_and_values_are_those_of_series_with_samples_in_the_range(open_engine, keyspace, clock: ManualClock, seed):
    """In memory, in blocks, partly deleted: as a list would say. A block counts the range of a series, whatever gaps it has."""
    rng = random.Random(seed)
    engine = await open_engine()
    start = int(clock.now() * 1000) - 3_600_000
    held: dict[Labels, list[tuple[int, int]]] = {}
    for part in range(3):
        rows = {
            Labels.of(__name__=f"m{rng.randrange(5)}", a=str(rng.randrange(300)), **{f"only{rng.randrange(40)}": "x"}): start
            + part * 600_000
            + rng.randrange(600_000)
            for _ in range(200)
        }
        await engine.append(SampleBatch.of(keyspace, list(rows), list(rows.values()), [1.0] * len(rows)))
        if part < 2:
            await engine.flush()
            for labels, at in rows.items():
                held.setdefault(labels, []).append((at, at))
        else:
            for labels, at in rows.items():
                held.setdefault(labels, []).append((at, at))
    await engine.delete("default", [[Matcher("__name__", "=", "m1")]], start, start + 400_000)
    for labels in list(held):
        if labels.metric == "m1":
            held[labels] = [(a, b) for a, b in held[labels] if a > start + 400_000]
    for lo, hi in ((start - 1, start + 10_000_000), (start + 300_000, start + 500_000), (start + 1_300_000, start + 1_400_000), (0, 1)):
        seen = [labels for labels, spans in held.items() if any(a <= hi and b >= lo for a, b in spans)]
        assert engine.label_names("default", [], lo, hi) == sorted({name for labels in seen for name, _ in labels})
        for name in ("__name__", "a", "only7", "nowhere"):
            assert engine.label_values("default", name, [], lo, hi) == sorted({labels.get(name) for labels in seen} - {""})
    assert engine.label_names("other", [], start, start + 10_000_000) == []
    assert engine.label_values("other", "a", [], start, start + 10_000_000) == []
