"""What is made of tables of labels is kept where their symbols say so, and is the same as where nothing is kept."""

from __future__ import annotations

import gc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable, Symbols
from vedette.promql import labelsets

ROWS = [Labels.of(__name__="m", a="x", b="1"), Labels.of(__name__="m", a="y"), Labels.of(__name__="n", a="x", c="2"), Labels()]


def shown(table: LabelTable) -> list[Labels]:
    return list(table)


def test_what_was_made_before_is_not_made_again() -> None:
    symbols = Symbols()
    symbols.memory = {}
    table = LabelTable.from_labels(ROWS, symbols)
    rows = np.array([2, 0], dtype=np.int64)
    taken = table.take(rows)
    assert taken is table.take(rows.copy())
    assert taken is not table.take(rows[::-1].copy())
    assert shown(taken) == [ROWS[2], ROWS[0]]
    # What is made of what was remembered is remembered, too.
    assert labelsets.kept(taken, ("a",), without=True) is labelsets.kept(table.take(rows), ("a",), without=True)
    assert labelsets.kept(taken, ("a",), without=False) is not labelsets.kept(taken, ("a",), without=True)
    assert labelsets.stacked(table, taken) is labelsets.stacked(table, taken)
    assert shown(labelsets.stacked(taken, table)) == [ROWS[2], ROWS[0], *ROWS]
    assert labelsets.empty(symbols, 1) is labelsets.empty(symbols, 1)


def test_nothing_is_kept_unless_somebody_asks_for_it() -> None:
    table = LabelTable.from_labels(ROWS)
    rows = np.array([1], dtype=np.int64)
    assert table.take(rows) is not table.take(rows)
    assert table.symbols.fork().memory is None


def test_another_table_at_the_same_address_is_another() -> None:
    symbols = Symbols()
    symbols.memory = {}
    for row in ROWS * 50:
        table = LabelTable.from_labels([row, row], symbols)
        groups, first = labelsets.grouped(table, ("a",), without=False)
        assert groups.tolist() == [0, 0]
        assert first.tolist() == [0]
        assert shown(labelsets.kept(table, ("a",), without=False))[0].get("a") == row.get("a")
        del table
        gc.collect(0)


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(ROWS), max_size=5), st.lists(st.sampled_from(["a", "b", "c", "none"]), max_size=2), st.booleans(), st.data()
)
def test_it_is_what_it_would_be(rows: list[Labels], names: list[str], without: bool, data: st.DataObject) -> None:
    plain, keeping = Symbols(), Symbols()
    keeping.memory = {}
    tables = [LabelTable.from_labels(rows, symbols) for symbols in (plain, keeping)]
    chosen = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=4)) if rows else [], dtype=np.int64)
    for _ in range(2):
        one, other = (shown(labelsets.kept(t.take(chosen), tuple(names), without=without)) for t in tables)
        assert one == other
        grouped = [labelsets.grouped(t, tuple(names), without=without) for t in tables]
        assert [a.tolist() for a in grouped[0]] == [a.tolist() for a in grouped[1]]
        columns = [t.column("a") for t in tables]
        renamed = [shown(labelsets.with_label(t, "b", c)) for t, c in zip(tables, columns, strict=True)]
        assert renamed[0] == renamed[1]
        assert len({labelsets.unique_without_names(t) for t in tables}) == 1
