"""Exemplars: what is kept, what is refused, what goes first; and how they are asked for."""

from __future__ import annotations

import pytest

from vedette.ingest.exemplars import Exemplars
from vedette.model.exemplars import Exemplar
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import KeySpace, SampleBatch, canonical

A, B = Labels.of(__name__="a", job="x"), Labels.of(__name__="b", job="x")
EVER = (-(1 << 62), 1 << 62)
SPACE = canonical()


def mark(row: int, time: int, trace: str = "t", value: float = 1.0) -> Exemplar:
    return Exemplar(row, Labels.of(trace_id=trace), value, time)


def add(store: Exemplars, *exemplars: Exemplar, space: KeySpace = SPACE, ids: tuple[int, ...] = (0, 1)) -> int:
    batch = SampleBatch.of(space, [A, B], [0, 0], [1.0, 1.0])
    batch.exemplars = exemplars
    return store.add(batch, ids)


def found(store: Exemplars, name: str = "a|b", *, tenant: str = "default", span: tuple[int, int] = EVER) -> list:
    rows = store.select(tenant, [[Matcher("__name__", "=~", name)]], *span)
    return [(labels.metric, [(e.timestamp, e.labels.get("trace_id")) for e in exemplars]) for labels, exemplars in rows]


def test_they_come_back_by_series_and_in_order():
    store = Exemplars()
    assert add(store, mark(1, 20, "2"), mark(0, 10, "1"), mark(1, 30, "3")) == 3
    assert found(store) == [("a", [(10, "1")]), ("b", [(20, "2"), (30, "3")])]
    assert found(store, "b", span=(25, 35)) == [("b", [(30, "3")])]
    assert found(store, "c") == found(store, tenant="other") == []
    assert (len(store), store.series, store.appended) == (3, 2, 3)


def test_one_that_comes_again_is_no_news():
    store = Exemplars()
    assert [add(store, mark(0, 10)) for _ in range(3)] == [1, 0, 0]
    assert not store.dropped


def test_an_older_one_is_refused_and_counted():
    store = Exemplars()
    add(store, mark(0, 10))
    assert add(store, mark(0, 9), mark(1, 9)) == 1
    assert add(store, mark(0, 10, value=0.5)) == 0
    assert store.dropped == {"out_of_order": 2}


@pytest.mark.parametrize(("length", "kept"), [(120, 1), (121, 0)])
def test_labels_are_128_characters_at_most(length, kept):
    store = Exemplars()
    assert add(store, mark(0, 10, "ü" * length)) == kept
    assert store.dropped["too_long"] == 1 - kept


def test_the_oldest_of_all_goes_first():
    store = Exemplars(3)
    for time in range(5):
        add(store, mark(time % 2, time, str(time)))
    assert found(store) == [("a", [(2, "2"), (4, "4")]), ("b", [(3, "3")])]
    store.resize(1)
    assert found(store) == [("a", [(4, "4")])]
    store.resize(0)
    assert (found(store), len(store), store.series) == ([], 0, 0)
    add(store, mark(0, 50))
    assert len(store) == 0


def test_those_of_series_that_were_not_stored_are_not_kept():
    store = Exemplars()
    assert add(store, mark(0, 10), mark(1, 10), ids=(-1, 5)) == 1
    assert add(store, mark(-1, 20)) == 0
    assert found(store) == [("b", [(10, "t")])]


def test_tenants_keep_their_own():
    store = Exemplars()
    add(store, mark(0, 10), space=canonical("other"))
    assert found(store) == []
    assert found(store, tenant="other") == [("a", [(10, "t")])]


def test_relabelling_names_them_too():
    store = Exemplars()
    space = KeySpace("default", lambda key: Labels.decode(key).with_({"job": "new"}) if b"\xffa\xff" in key else None)
    assert add(store, mark(0, 10), mark(1, 10), space=space) == 1
    ((labels, _),) = store.select("default", [[Matcher("job", "=", "new")]], *EVER)
    assert labels == A.with_({"job": "new"})
