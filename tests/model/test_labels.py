"""Label sets and label tables."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vedette.model.labels import EMPTY, Labels
from vedette.model.labeltable import LabelTable, Symbols

texts = st.text(st.characters(codec="utf-8"), max_size=8)
label_sets = st.dictionaries(texts.filter(bool), texts, max_size=5).map(Labels.of)


def test_sorted_and_without_empty_values():
    assert Labels.of(b="2", a="1", c="") == (("a", "1"), ("b", "2"))


def test_prints_as_promql():
    assert str(Labels.of(__name__="up", job='a"\n\\')) == 'up{job="a\\"\\n\\\\"}'
    assert str(Labels.of(__name__="up")) == "up"
    assert str(EMPTY) == "{}"
    assert str(Labels.of({"__name__": "my.metric", "a b": "1"})) == '{"my.metric", "a b"="1"}'


def test_fingerprint_is_the_published_fnv_1a():
    # FNV-1a 64 of nothing is its offset basis; of "a" 0xff "b" 0xff computed by the definition.
    assert EMPTY.fingerprint() == 0xCBF29CE484222325
    h = 0xCBF29CE484222325
    for byte in b"a\xffb\xff":
        h = ((h ^ byte) * 0x100000001B3) % 2**64
    assert Labels.of(a="b").fingerprint() == h


@given(label_sets)
def test_canonical_bytes_come_back(labels: Labels):
    assert Labels.decode(labels.encode()) == labels


def test_with_and_without():
    labels = Labels.of(a="1", b="2")
    assert labels.with_({"b": "", "c": "3"}) == Labels.of(a="1", c="3")
    assert labels.without("a", "z") == Labels.of(b="2")


@given(st.lists(label_sets, max_size=8), st.data())
def test_table_holds_what_it_was_given(rows: list[Labels], data: st.DataObject):
    table = LabelTable.from_labels(rows)
    assert list(table) == rows
    picks = data.draw(st.lists(st.integers(0, max(0, len(rows) - 1)), max_size=6)) if rows else []
    assert list(table.take(np.array(picks, dtype=np.int64))) == [rows[i] for i in picks]
    for name in {n for row in rows for n, _ in row} | {"absent"}:
        column = table.column(name)
        assert [table.symbols.text(s) if s >= 0 else "" for s in column.tolist()] == [
            row.get(name) if any(n == name for n, _ in row) else "" for row in rows
        ]


def test_the_column_of_what_all_begin_with():
    """Read without looking for it in each series; but not where a series has no label, or another first one."""
    named = [Labels.of(__name__=n, zone=z) for n, z in (("up", "a"), ("down", "b"), ("up", "c"))]
    for extra, wanted in (
        ([], ["up", "down", "up"]),
        ([Labels.of()], ["up", "down", "up", ""]),
        ([Labels.of(A="1", __name__="x")], ["up", "down", "up", "x"]),
    ):
        table = LabelTable.from_labels([*named, *extra])
        assert [table.symbols.text(s) if s >= 0 else "" for s in table.column("__name__").tolist()] == wanted


def test_a_fork_adds_without_touching_its_base():
    base = Symbols()
    one = base.intern("one")
    fork = base.fork()
    two = fork.intern("two")
    late = base.intern("late")
    assert fork.intern("one") == one and fork.find("late") == late
    assert (fork.text(one), fork.text(two), fork.text(late)) == ("one", "two", "late")
    assert base.find("two") == -1 and len(base) == 2
