"""What queries make of the same label tables again and again: their order, their groups, what is left of them without some labels.

A dashboard asks for the same series every few seconds, and storage answers with the same table as long as no series comes or
goes. What depends on labels alone is kept beside such a table, as long as somebody else keeps the table. Not here: how any of it is made
(`labelsets.py`).
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

from vedette.model.labeltable import LabelTable
from vedette.promql import labelsets
from vedette.promql.values import Ints

_T = TypeVar("_T")
_LEAST_ROWS = 1024
"""Of fewer rows it is made as quickly as it is found."""
_MOST_BYTES = 8 << 20
"""What is kept, of all tables together."""


class _Beside:
    """What is kept beside one table: how large each is, and what was made."""

    __slots__ = ("made", "table")

    def __init__(self, table: LabelTable, gone: Callable[[Any], None]) -> None:
        # Of the three arrays the values alone are held weakly: with them the table is gone, and no other can have its numbers before.
        self.table = table.offsets, table.names, weakref.ref(table.values, gone)
        self.made: OrderedDict[Hashable, tuple[int, object]] = OrderedDict()


class Recurring:
    """See above. Thread-safe; what it answers is shared, and nobody writes to it."""

    def __init__(self, *, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most_bytes
        # The end of a table, at which it is taken too, may come on this very thread while it is held.
        self._lock = threading.RLock()
        self._tables: OrderedDict[tuple[int, int, int], _Beside] = OrderedDict()
        self.bytes = 0
        """What is kept now."""

    def order(self, table: LabelTable) -> Ints:
        """See `labelsets.sorted_rows`."""
        return self.made(table, "order", lambda: labelsets.sorted_rows(table), lambda order: order.nbytes)

    def grouped(self, table: LabelTable, names: tuple[str, ...], *, without: bool) -> tuple[Ints, Ints]:
        """See `labelsets.grouped`."""
        if len(table) < _LEAST_ROWS:
            return labelsets.grouped(table, names, without=without)

        def size(made: tuple[Ints, Ints]) -> int:
            return made[0].nbytes + made[1].nbytes

        def make() -> tuple[Ints, Ints]:
            groups, first = labelsets.grouped(table, names, without=without)
            return groups, first.copy()

        return self.made(table, ("groups", frozenset(names), without), make, size)

    def kept(self, table: LabelTable, names: tuple[str, ...], *, without: bool) -> LabelTable:
        """See `labelsets.kept`."""
        if len(table) < _LEAST_ROWS:
            return labelsets.kept(table, names, without=without)

        def make() -> tuple[Any, Any, Any]:
            made = labelsets.kept(table, names, without=without)
            return made.offsets, made.names, made.values

        def size(made: tuple[Any, Any, Any]) -> int:
            return sum(array.nbytes for array in made)

        # Each query has symbols of its own that begin alike.
        return LabelTable(table.symbols, *self.made(table, ("kept", frozenset(names), without), make, size))

    def made(self, table: LabelTable, what: Hashable, make: Callable[[], _T], size: Callable[[_T], int]) -> _T:
        """What `make` gives of a table's labels alone, which `what` names; `size` says how many bytes of memory it takes."""
        if len(table) < _LEAST_ROWS:
            return make()
        key = id(table.offsets), id(table.names), id(table.values)
        with self._lock:
            if (beside := self._tables.get(key)) is not None and what in beside.made:
                self._tables.move_to_end(key)
                beside.made.move_to_end(what)
                return cast(_T, beside.made[what][1])
        made = make()
        with self._lock:
            if (beside := self._tables.get(key)) is None:
                beside = self._tables[key] = _Beside(table, lambda _: self._gone(key))
            if what not in beside.made:
                beside.made[what] = (size(made), made)
                self.bytes += size(made)
            self._tables.move_to_end(key)
            while self.bytes > self._most:
                self._drop_oldest()
        return made

    def _drop_oldest(self) -> None:
        """Let go of what was not asked for the longest, of the table of which nothing was."""
        key, beside = next(iter(self._tables.items()))
        _, (nbytes, made) = beside.made.popitem(last=False)
        self.bytes -= nbytes
        if not beside.made:
            del self._tables[key]
        # Only now: a table that goes with it takes what was kept beside it along.
        del made

    def _gone(self, key: tuple[int, int, int]) -> None:
        with self._lock:
            if (beside := self._tables.pop(key, None)) is not None:
                self.bytes -= sum(nbytes for nbytes, _ in beside.made.values())
