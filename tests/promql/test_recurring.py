"""What is made of a label table is made once as long as the table is there, and is what is made anew."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.promql import labelsets
from vedette.promql.recurring import Recurring

ROWS = 1200


def table(rows: int = ROWS) -> LabelTable:
    return LabelTable.from_labels([Labels.of(__name__="m", zone=f"z{i * 7 % 5}", host=f"h{i * 31 % rows}") for i in range(rows)])


def again(of: LabelTable) -> LabelTable:
    """The same arrays with the symbols of another query."""
    return LabelTable(of.symbols.fork(), of.offsets, of.names, of.values)


def test_order_groups_and_what_is_left_are_what_is_made_anew_and_made_once() -> None:
    known, labels = Recurring(), table()
    for one in (labels, again(labels)):
        assert known.order(one).tolist() == labelsets.sorted_rows(labels).tolist()
        for names, without in ((("zone",), False), (("zone",), True), (("host", "zone"), False), (("gone",), False)):
            groups, first = known.grouped(one, names, without=without)
            plainly = labelsets.grouped(labels, names, without=without)
            assert groups.tolist() == plainly[0].tolist() and first.tolist() == plainly[1].tolist()
        left = known.kept(one, ("__name__",), without=True)
        assert left.symbols is one.symbols
        assert list(left) == list(labelsets.kept(labels, ("__name__",), without=True))
    assert known.order(again(labels)) is known.order(labels)
    assert known.grouped(again(labels), ("zone", "host"), without=False)[0] is known.grouped(labels, ("host", "zone"), without=False)[0]
    left = known.kept(labels, ("__name__",), without=True)
    assert known.kept(again(labels), ("__name__",), without=True).values is left.values
    assert known.order(left) is known.order(known.kept(labels, ("__name__",), without=True)), "what is left is a table that is kept, too"


def test_a_table_of_the_same_length_is_another_one() -> None:
    known = Recurring()
    one, other = table(), LabelTable.from_labels([Labels.of(__name__="m", host=f"{ROWS - i:05}") for i in range(ROWS)])
    assert known.order(one).tolist() != known.order(other).tolist()
    crossed = LabelTable(one.symbols, one.offsets, one.names[::-1].copy(), one.values)
    assert known.grouped(crossed, ("zone",), without=False)[0].tolist() == labelsets.grouped(crossed, ("zone",), without=False)[0].tolist()


def test_nothing_is_kept_of_a_table_that_is_gone() -> None:
    known, labels = Recurring(), table()
    left = known.kept(labels, ("__name__",), without=True)
    known.order(left)
    known.order(labels)
    assert known.bytes > 2 * 8 * ROWS
    del labels, left
    gc.collect()
    assert known.bytes == 0


def test_small_tables_are_not_kept() -> None:
    known, labels = Recurring(), table(20)
    assert known.order(labels).tolist() == labelsets.sorted_rows(labels).tolist()
    assert known.bytes == 0


def test_what_was_not_asked_for_the_longest_makes_room() -> None:
    known, labels = Recurring(most_bytes=3 * 8 * ROWS), table()
    order = known.order(labels)
    known.grouped(labels, ("zone",), without=False)
    assert known.order(labels) is order
    host = known.grouped(labels, ("host",), without=False)[0]
    assert known.bytes <= 3 * 8 * ROWS
    assert known.grouped(labels, ("host",), without=False)[0] is host or known.order(labels) is order
    nothing = Recurring(most_bytes=0)
    assert nothing.order(labels).tolist() == order.tolist()
    assert nothing.bytes == 0


def test_a_table_that_makes_room_takes_along_what_was_made_of_it() -> None:
    known, labels, other = Recurring(most_bytes=100_000), table(), table(ROWS + 1)
    for _ in range(3):
        known.order(known.kept(labels, ("__name__",), without=True))
        for names in (("zone",), ("host",), ("zone", "host"), ("__name__",)):
            known.grouped(other, names, without=False)
            known.kept(other, names, without=True)
        assert 0 < known.bytes <= 100_000
    del labels, other
    gc.collect()
    assert known.bytes == 0


def test_anything_that_is_made_of_labels_is_made_once() -> None:
    known, labels = Recurring(), table()
    first = known.made(labels, "length", lambda: [len(labels)], len)
    assert first == [ROWS] and known.bytes == 1
    assert known.made(again(labels), "length", lambda: [0], len) is first


@pytest.mark.parametrize("most_bytes", [1 << 20, 20_000])
def test_several_threads_get_what_is_right(most_bytes: int) -> None:
    known, tables = Recurring(most_bytes=most_bytes), [table(ROWS + i) for i in range(3)]
    expected = [labelsets.sorted_rows(one).tolist() for one in tables]
    wrong: list[int] = []

    def ask(shift: int) -> None:
        for k in range(30):
            number = (k + shift) % 3
            if known.order(tables[number]).tolist() != expected[number]:
                wrong.append(number)
            known.grouped(table(ROWS), ("zone",), without=False)

    threads = [threading.Thread(target=ask, args=(shift,)) for shift in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong
    tables.clear()
    gc.collect()
    assert known.bytes == 0
    assert np.array_equal(known.order(table()), labelsets.sorted_rows(table()))
