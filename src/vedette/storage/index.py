"""Which series pass a set of matchers: postings as arrays, for the head and for blocks alike.

The head's postings are built in pieces: what was registered since the last read becomes a piece, and pieces of
similar size are merged, so registration itself costs nothing here; large pieces are packed. Not here: samples, time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import postings as kernel
from vedette.model.labeltable import LabelTable, Symbols
from vedette.model.matchers import Matcher, Patience, verdicts

_U32 = np.uint32


class Texts(Protocol):
    """Symbol ids and their texts."""

    def find(self, text: str) -> int:
        """The id of `text`, -1 where it has none."""
        ...

    def text(self, symbol: int) -> str:
        """The text of an id."""
        ...


Among = Callable[[NDArray[np.uint32]], NDArray[np.bool_]]
"""Which of some series (no two the same, in any order) are meant."""
PACKED = 1 << 16
"""So many postings of a piece are packed: what is smaller is read a little quicker as it is."""
_SHORT, _RECENT = 4096, 64
"""Of so many pairs the series are kept once they were looked up, where they are no more than these."""


@dataclass(frozen=True, slots=True)
class Postings:
    """Pair keys uint64[k] ascending; the series with pair i are `ids[starts[i]:starts[i + 1]]` (uint32, ascending)."""

    keys: NDArray[np.uint64]
    starts: NDArray[np.int64]
    ids: NDArray[np.uint32]

    def of(self, name: int, value: int) -> NDArray[np.uint32]:
        """The series with one pair."""
        key = np.uint64(name << 32 | value)
        at = int(self.keys.searchsorted(key))
        if at == len(self.keys) or self.keys[at] != key:
            return np.zeros(0, dtype=_U32)
        return self.between(at, at + 1)

    def between(self, lo: int, hi: int) -> NDArray[np.uint32]:
        """The series of the pairs `[lo, hi)`, those of one after those of another."""
        return self.ids[self.starts[lo] : self.starts[hi]]

    def of_pairs(self, pairs: NDArray[np.int64]) -> NDArray[np.uint32]:
        """The series of some pairs, those of one after those of another."""
        bounds = np.stack([self.starts[pairs], self.starts[pairs + 1]], axis=1).tolist()
        return np.concatenate([self.ids[a:b] for a, b in bounds]) if bounds else np.zeros(0, dtype=_U32)

    def firsts(self, lo: int, hi: int) -> NDArray[np.uint32]:
        """The first series of each of the pairs `[lo, hi)`."""
        return self.ids[self.starts[lo:hi]]

    def where(self, lo: int, hi: int, present: Among) -> NDArray[np.bool_]:
        """Which of the pairs `[lo, hi)`, all of one name, a series has that is `present`: mostly the first one that has it is."""
        found = present(self.firsts(lo, hi))
        missing = np.flatnonzero(~found) + lo
        if len(missing):
            there = present(self.of_pairs(missing))
            lengths = self.starts[missing + 1] - self.starts[missing]
            found[missing - lo] = np.logical_or.reduceat(there, np.cumsum(lengths) - lengths)
        return found

    def span(self, name: int) -> tuple[int, int]:
        """The places in `keys` of all pairs of one name."""
        lo, hi = np.searchsorted(self.keys, np.array([name << 32, (name + 1) << 32], dtype=np.uint64)).tolist()
        return lo, hi


@dataclass(frozen=True, slots=True)
class PackedPostings(Postings):
    """Postings of many series, most in a byte: `ids` is empty, list i is in `data` (uint8) from `places[i]` on (`kernels/postings.py`)."""

    places: NDArray[np.int64]
    data: NDArray[np.uint8]

    @classmethod
    def of_plain(cls, plain: Postings) -> PackedPostings:
        """The same, packed."""
        places, room = np.empty(len(plain.starts), dtype=np.int64), np.empty(5 * len(plain.ids), dtype=np.uint8)
        used = int(kernel.pack(plain.starts, plain.ids, places, room))
        return cls(plain.keys.copy(), plain.starts, np.zeros(0, dtype=_U32), places, room[:used].copy())

    def between(self, lo: int, hi: int) -> NDArray[np.uint32]:
        """See `Postings`."""
        out = np.empty(int(self.starts[hi] - self.starts[lo]), dtype=_U32)
        kernel.unpack(self.data, self.places, self.starts, np.arange(lo, hi), False, out)
        return out

    def of_pairs(self, pairs: NDArray[np.int64]) -> NDArray[np.uint32]:
        """See `Postings`."""
        out = np.empty(int((self.starts[pairs + 1] - self.starts[pairs]).sum()), dtype=_U32)
        kernel.unpack(self.data, self.places, self.starts, pairs, False, out)
        return out

    def firsts(self, lo: int, hi: int) -> NDArray[np.uint32]:
        """See `Postings`."""
        out = np.empty(hi - lo, dtype=_U32)
        kernel.unpack(self.data, self.places, self.starts, np.arange(lo, hi), True, out)
        return out


@dataclass(frozen=True, slots=True)
class IndexView:
    """One tenant's index at one moment: pieces with ascending, disjoint id ranges, and the label columns behind them."""

    symbols: Texts
    pieces: Sequence[Postings]
    all_ids: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    at: NDArray[np.int64]
    names: NDArray[np.int32]
    values: NDArray[np.int32]
    recent: dict[tuple[int, int], NDArray[np.uint32]] = field(default_factory=dict, compare=False, repr=False)
    """The series with some pairs that were asked for: a metric's name comes with one host after another."""

    def matching(self, matchers: Sequence[Matcher]) -> NDArray[np.uint32]:
        """The series that pass all of `matchers`, ascending."""
        found = self.soon_matching(matchers, None)
        assert found is not None, "None only where there is a limit"
        return found

    def soon_matching(self, matchers: Sequence[Matcher], few: int | None) -> NDArray[np.uint32] | None:
        """The same, None where more than `few` series would have to be looked at one by one."""
        found: NDArray[np.uint32] | None = None
        patience = Patience()
        # Equality first: it is cheap, and what is left bounds the cost of the others.
        for matcher in sorted(matchers, key=_cost):
            if few is not None and (found is None or len(found) > few) and _cost(matcher):
                return None
            found = self._narrow(found, matcher, patience)
            if len(found) == 0:
                break
        return self.all_ids if found is None else found

    def among(self, found: NDArray[np.uint32], matchers: Sequence[Matcher]) -> NDArray[np.uint32]:
        """Those of the series `found` (ascending) that pass all of `matchers`."""
        patience = Patience()
        for matcher in matchers:
            found = self._narrow(found, matcher, patience)
        return found

    def _narrow(self, found: NDArray[np.uint32] | None, matcher: Matcher, patience: Patience) -> NDArray[np.uint32]:
        name = self.symbols.find(matcher.name)
        if name >= 0 and matcher.op == "=" and matcher.value:
            ids = self._equal(name, matcher.value)
            return ids if found is None else intersection(found, ids, keep=True)
        empty = matcher.matches_empty
        if name < 0:
            return (self.all_ids if found is None else found) if empty else self.all_ids[:0]
        if matcher.op == "!=" and empty:
            # All but the series of one value: no other is looked at.
            return intersection(self.all_ids if found is None else found, self._equal(name, matcher.value), keep=False)
        spans = [piece.span(name) for piece in self.pieces]
        if found is not None and len(found) < sum(hi - lo for lo, hi in spans):
            return self._narrow_by_column(found, name, matcher, patience)
        ids = self._union(spans, matcher, patience, passing=not empty)
        if empty:
            return intersection(self.all_ids if found is None else found, ids, keep=False)
        return ids if found is None else intersection(found, ids, keep=True)

    def _equal(self, name: int, value: str) -> NDArray[np.uint32]:
        symbol = self.symbols.find(value)
        if symbol < 0:
            return self.all_ids[:0]
        if (known := self.recent.get((name, symbol))) is not None:
            return known
        parts = [ids for piece in self.pieces if len(ids := piece.of(name, symbol))]
        found = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else self.all_ids[:0]
        if len(found) <= _SHORT:
            if len(self.recent) >= _RECENT:
                self.recent.clear()
            self.recent[name, symbol] = found
        return found

    def _union(self, spans: Sequence[tuple[int, int]], matcher: Matcher, patience: Patience, *, passing: bool) -> NDArray[np.uint32]:
        """The series that have the label, with a value that passes (or does not)."""
        known: dict[int, bool] = {}
        parts: list[NDArray[np.uint32]] = []
        for piece, (lo, hi) in zip(self.pieces, spans, strict=True):
            symbols = (piece.keys[lo:hi] & np.uint64(0xFFFFFFFF)).tolist()
            new = [symbol for symbol in symbols if symbol not in known]
            known.update(zip(new, verdicts(matcher, map(self.symbols.text, new), patience), strict=True))
            wanted = np.array([known[symbol] for symbol in symbols], dtype=np.bool_) == passing
            if wanted.all():
                parts.append(piece.between(lo, hi))
            else:
                parts.append(piece.of_pairs(np.flatnonzero(wanted) + lo))
        # One series has one value of a name, so nothing occurs twice.
        return np.sort(np.concatenate(parts)) if parts else self.all_ids[:0]

    def values_where(self, name: int, present: Among) -> list[int]:
        """The values (symbols) of label `name` (a symbol, -1 for none) of the series that are `present`; one may occur twice."""
        found: list[int] = []
        for piece in self.pieces if name >= 0 else ():
            lo, hi = piece.span(name)
            if hi > lo:
                found += (piece.keys[lo:hi] & np.uint64(0xFFFFFFFF))[piece.where(lo, hi, present)].tolist()
        return found

    def names_where(self, present: Among) -> set[int]:
        """The names (symbols) of the labels of the series that are `present`."""
        found: set[int] = set()
        for piece in self.pieces:
            names = piece.keys >> np.uint64(32)
            first = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]])) if len(names) else np.zeros(0, dtype=np.int64)
            for name, lo, hi in zip(names[first].tolist(), first.tolist(), [*first[1:].tolist(), len(names)], strict=True):
                # Mostly the first pair does: the others are not looked at.
                if name not in found and (piece.where(lo, lo + 1, present)[0] or (hi > lo + 1 and piece.where(lo + 1, hi, present).any())):
                    found.add(name)
        return found

    def _narrow_by_column(self, found: NDArray[np.uint32], name: int, matcher: Matcher, patience: Patience) -> NDArray[np.uint32]:
        symbols, rows = np.unique(self.column(found, name), return_inverse=True)
        passed = verdicts(matcher, ("" if s < 0 else self.symbols.text(s) for s in symbols.tolist()), patience)
        return found[np.array(passed, dtype=np.bool_)[rows]]

    def column(self, ids: NDArray[np.uint32], name: int) -> NDArray[np.int32]:
        """The value's symbol of label `name` (a symbol) for each of `ids`, -1 where it is absent."""
        out = np.empty(len(ids), dtype=np.int32)
        kernel.label_column(ids, self.offsets, self.at, self.names, self.values, name, out)
        return out

    def labels(self, ids: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
        """(offsets, names, values) of the label sets of `ids`, as a `LabelTable` holds them."""
        offsets, none = np.empty(len(ids) + 1, dtype=np.int64), np.empty(0, dtype=np.int32)
        pairs = int(kernel.take_labels(ids, self.offsets, self.at, self.names, self.values, offsets, none, none))
        names, values = np.empty(pairs, dtype=np.int32), np.empty(pairs, dtype=np.int32)
        kernel.take_labels(ids, self.offsets, self.at, self.names, self.values, offsets, names, values)
        return offsets, names, values

    def table(self, ids: NDArray[np.uint32]) -> LabelTable:
        """The label sets of `ids`, for a view whose symbols are the model's."""
        assert isinstance(self.symbols, Symbols)
        return LabelTable(self.symbols, *self.labels(ids))


def _cost(matcher: Matcher) -> int:
    """0 for what is looked up; of what looks at values, more for what a series without the label passes."""
    return 0 if matcher.op == "=" and matcher.value else 1 + matcher.matches_empty


def intersection(a: NDArray[np.uint32], b: NDArray[np.uint32], *, keep: bool) -> NDArray[np.uint32]:
    """What of `a` is in `b`, or (not `keep`) is not; both ascending."""
    out = np.empty(len(a), dtype=_U32)
    return out[: int(kernel.intersect(a, b, keep, out))]


class TenantIndex:
    """The head's index of one tenant, extended when it is read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pieces: list[tuple[int, int, Postings]] = []

    def view(
        self,
        symbols: Symbols,
        ids: NDArray[np.uint32],
        offsets: NDArray[np.int64],
        at: NDArray[np.int64],
        names: NDArray[np.int32],
        values: NDArray[np.int32],
    ) -> IndexView:
        """The index over `ids`, all the tenant's series so far, whose labels are in the columns."""
        with self._lock:
            done = self._pieces[-1][1] if self._pieces else 0
            if done < len(ids):
                lo = done
                # Each piece is more than twice its successor, so a series is indexed again a logarithmic number of times.
                while self._pieces and self._pieces[-1][1] - self._pieces[-1][0] <= 2 * (len(ids) - lo):
                    lo = self._pieces.pop()[0]
                piece = Postings(*kernel.build(ids[lo:], offsets, at, names, values))
                self._pieces.append((lo, len(ids), PackedPostings.of_plain(piece) if len(piece.ids) >= PACKED else piece))
            pieces = [p for _, _, p in self._pieces]
        return IndexView(symbols, pieces, ids, offsets, at, names, values)
