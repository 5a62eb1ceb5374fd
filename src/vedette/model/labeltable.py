"""The label sets of many series as columns (`LabelTable`) over a table of texts (`Symbols`).

Apart from `labels.py`, since what only reads settings or asks a server needs no NumPy. Not here: the postings index (`storage`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from vedette.model.labels import Labels

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Symbols:
    """Texts interned to small integers, append-only: id `i` names the same text for the table's life.

    `fork` gives a query a private extension: it reads its base and adds from `FORK` upwards, so what a
    query makes up (`label_replace`) never stays in the engine. Reading is safe beside one writer.

    `memory` keeps what is made of tables over these symbols, for whoever makes the same again; None where nothing is kept.
    """

    FORK = 1 << 30

    def __init__(self, base: Symbols | None = None) -> None:
        self._base: Symbols | None = base
        self._texts: list[str] = []
        self._ids: dict[str, int] = {}
        self.memory: dict[Hashable, Any] | None = None

    def fork(self) -> Symbols:
        """A private extension of this table."""
        return Symbols(self)

    def __len__(self) -> int:
        return len(self._texts)

    def find(self, text: str) -> int:
        """The id of `text`, -1 where it was never interned."""
        if self._base is not None and (found := self._base.find(text)) >= 0:
            return found
        return self._ids.get(text, -1)

    def intern(self, text: str) -> int:
        """The id of `text`, new if need be."""
        if (found := self.find(text)) >= 0:
            return found
        new = len(self._texts) + (self.FORK if self._base is not None else 0)
        # The text first: a reader that sees the id must find the text behind it.
        self._texts.append(text)
        self._ids[text] = new
        return new

    def recalled(self, key: Hashable, make: Callable[[], _T], of: object = None) -> _T:
        """What `make` gives: what it gave for that key before, where that is kept, together with what it was made `of`."""
        if self.memory is None:
            return make()
        if (kept := self.memory.get(key)) is None:
            kept = self.memory[key] = make(), of
        found: _T = kept[0]
        return found

    def text(self, symbol: int) -> str:
        """The text of an id that this table (or its base) gave out."""
        if self._base is None:
            return self._texts[symbol]
        return self._texts[symbol - self.FORK] if symbol >= self.FORK else self._base._texts[symbol]

    def texts(self, symbols: Sequence[int]) -> list[str]:
        """The texts of several ids."""
        if self._base is None:
            texts = self._texts
            return [texts[symbol] for symbol in symbols]
        return [self.text(symbol) for symbol in symbols]


def remembered(make: Callable[Concatenate[LabelTable, _P], _T]) -> Callable[Concatenate[LabelTable, _P], _T]:
    """`make`, which makes something of a table, and of arrays, tables and what can be hashed: once, where its symbols keep that.

    What it gives must not be changed by anybody. The same tables are asked for again where they were remembered themselves.
    """

    @wraps(make)
    def known(table: LabelTable, /, *args: _P.args, **named: _P.kwargs) -> _T:
        if table.symbols.memory is None:
            return make(table, *args, **named)
        key = make, id(table), *map(_part, args), *map(_part, named.values())
        # With the tables, so that no others get their address.
        return table.symbols.recalled(key, lambda: make(table, *args, **named), (table, args))

    return known


def _part(given: object) -> Hashable:
    if isinstance(given, np.ndarray):
        return given.tobytes()
    return id(given) if isinstance(given, LabelTable) else given


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The label sets of n series, in CSR form over a symbol table.

    `offsets` int64[n+1]; `names`, `values` int32[offsets[n]]: symbol ids of each pair, the pairs of one
    series in order of the name's text. Rows are series; the same label set may stand in two rows.
    """

    symbols: Symbols
    offsets: NDArray[np.int64]
    names: NDArray[np.int32]
    values: NDArray[np.int32]

    @classmethod
    def from_labels(cls, rows: Sequence[Labels], symbols: Symbols | None = None) -> LabelTable:
        """The table of `rows`, interning into `symbols` (a new table if None). One Python step a pair."""
        table = Symbols() if symbols is None else symbols
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        names: list[int] = []
        values: list[int] = []
        for i, row in enumerate(rows):
            for n, v in row:
                names.append(table.intern(n))
                values.append(table.intern(v))
            offsets[i + 1] = len(names)
        return cls(table, offsets, np.array(names, dtype=np.int32), np.array(values, dtype=np.int32))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[Labels]:
        return (self.row(i) for i in range(len(self)))

    def row(self, i: int) -> Labels:
        """Series `i`'s labels as one object."""
        text = self.symbols.text
        lo, hi = int(self.offsets[i]), int(self.offsets[i + 1])
        return Labels((text(n), text(v)) for n, v in zip(self.names[lo:hi].tolist(), self.values[lo:hi].tolist(), strict=True))

    @remembered
    def column(self, name: str) -> NDArray[np.int32]:
        """The value's symbol id of label `name` for each series: int32[n], -1 where it is absent."""
        out = np.full(len(self), -1, dtype=np.int32)
        symbol = self.symbols.find(name)
        if symbol >= 0:
            first = self.offsets[:-1]
            if len(self) and (first < self.offsets[1:]).all() and (self.names[first] == symbol).all():
                # A metric's name is mostly the first label of all.
                return self.values[first]
            at = np.flatnonzero(self.names == symbol)
            out[np.searchsorted(self.offsets, at, side="right") - 1] = self.values[at]
        return out

    @remembered
    def take(self, rows: NDArray[np.int64]) -> LabelTable:
        """The table of `rows`, in their order (repeats allowed)."""
        lengths = (self.offsets[1:] - self.offsets[:-1])[rows]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        at = np.arange(offsets[-1], dtype=np.int64) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return LabelTable(self.symbols, offsets, self.names[at], self.values[at])
