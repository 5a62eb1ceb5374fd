"""Label sets: one series' (`Labels`), and those of many series as columns (`LabelTable`).

Names and values are UTF-8 text; any name is allowed, as in Prometheus 3. Sorting is by code point, which
for UTF-8 is byte order. Not here: matching (`matchers.py`) and the postings index (`storage`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

METRIC_NAME = "__name__"

_LEGACY_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LEGACY_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def quote(text: str) -> str:
    """`text` as a double-quoted label value, escaped as the exposition format and PromQL escape it."""
    return f'"{text.translate(_ESCAPES)}"'


def is_legacy_metric_name(name: str) -> bool:
    """Whether `name` can stand unquoted as a metric name."""
    return _LEGACY_METRIC.match(name) is not None


def is_legacy_label_name(name: str) -> bool:
    """Whether `name` can stand unquoted as a label name."""
    return _LEGACY_LABEL.match(name) is not None


class Labels(tuple[tuple[str, str], ...]):
    """An immutable label set: (name, value) pairs sorted by name, names unique, no empty values.

    A tuple, so equality, hashing and order cost what a tuple's do. Build it with `of` or `from_pairs`;
    the bare constructor trusts its argument to be sorted and clean.
    """

    __slots__ = ()

    @classmethod
    def of(cls, mapping: Mapping[str, str] | None = None, /, **labels: str) -> Self:
        """From a mapping and/or keywords; empty values are left out, as an empty label is no label."""
        merged = {**(mapping or {}), **labels} if labels else (mapping or {})
        pairs = sorted(merged.items())
        return cls([p for p in pairs if p[1] != ""] if "" in merged.values() else pairs)

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """From pairs in any order; of a repeated name the last counts."""
        return cls.of(dict(pairs))

    @classmethod
    def decode(cls, key: bytes) -> Self:
        """The inverse of `encode`. Raises `UnicodeDecodeError` on bytes that `encode` never wrote."""
        parts = key.split(b"\xff")
        assert len(parts) % 2 == 1 and parts[-1] == b"", "not a canonical key"
        texts = [p.decode("utf-8") for p in parts[:-1]]
        return cls(zip(texts[::2], texts[1::2], strict=True))

    def encode(self) -> bytes:
        """The canonical bytes of this set: name, 0xff, value, 0xff for each pair (0xff never occurs in UTF-8)."""
        return b"".join(n.encode() + b"\xff" + v.encode() + b"\xff" for n, v in self)

    def get(self, name: str, default: str = "") -> str:
        """The value of `name`; `default` where it is absent."""
        for n, v in self:
            if n == name:
                return v
        return default

    @property
    def metric(self) -> str:
        """The metric name, empty where there is none."""
        return self.get(METRIC_NAME)

    def as_dict(self) -> dict[str, str]:
        """A new dict in sorted order."""
        return dict(self)

    def with_(self, mapping: Mapping[str, str]) -> Labels:
        """A copy with `mapping` laid over it; an empty value removes the label."""
        return Labels.of({**dict(self), **mapping})

    def without(self, *names: str) -> Labels:
        """A copy that lacks `names`."""
        return Labels(p for p in self if p[0] not in names)

    def fingerprint(self) -> int:
        """FNV-1a 64 over name, 0xff, value, 0xff: the identity that Alertmanager prints as 16 hex digits."""
        h = 0xCBF29CE484222325
        for byte in self.encode():
            h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        return h

    def __str__(self) -> str:
        """As PromQL writes a series: `name{a="b"}`; names that need it are quoted."""
        metric = self.metric
        parts = []
        head = metric
        if metric and not is_legacy_metric_name(metric):
            head, parts = "", [quote(metric)]
        for n, v in self:
            if n != METRIC_NAME:
                parts.append(f"{n if is_legacy_label_name(n) else quote(n)}={quote(v)}")
        return head + "{" + ", ".join(parts) + "}" if parts or not head else head


EMPTY = Labels()


class Symbols:
    """Texts interned to small integers, append-only: id `i` names the same text for the table's life.

    `fork` gives a query a private extension: it reads its base and adds from `FORK` upwards, so what a
    query makes up (`label_replace`) never stays in the engine. Reading is safe beside one writer.
    """

    FORK = 1 << 30

    def __init__(self, base: Symbols | None = None) -> None:
        self._base: Symbols | None = base
        self._texts: list[str] = []
        self._ids: dict[str, int] = {}

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

    def text(self, symbol: int) -> str:
        """The text of an id that this table (or its base) gave out."""
        if self._base is None:
            return self._texts[symbol]
        return self._texts[symbol - self.FORK] if symbol >= self.FORK else self._base._texts[symbol]


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

    def take(self, rows: NDArray[np.int64]) -> LabelTable:
        """The table of `rows`, in their order (repeats allowed)."""
        lengths = (self.offsets[1:] - self.offsets[:-1])[rows]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        at = np.arange(offsets[-1], dtype=np.int64) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return LabelTable(self.symbols, offsets, self.names[at], self.values[at])
