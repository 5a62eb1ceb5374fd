"""The series table: from a sender's raw bytes to a series id, and from an id to its labels.

A batch's keys are looked up by hash; only keys never seen before are parsed, made canonical and registered, in
arrays. Ids are dense and ascending; they mean something within one table only, since series that are gone are left out of
its successor (`forgetting.py`). What callers get are handles, which are never given out twice in the life of the process. One
writer, under the engine's lock wherever readers look. Not here: samples (`head.py`), postings (`index.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import series_table as kernel
from vedette.kernels.hashing import hash_regions
from vedette.model.labels import Labels
from vedette.model.labeltable import Symbols
from vedette.model.samples import KeySpace, SampleBatch
from vedette.storage.columns import Column

_I64, _U64 = np.int64, np.uint64
T = TypeVar("T", bound=np.generic)


def writable(array: NDArray[Any], dtype: type[T]) -> NDArray[T]:
    """`array` as kernels take it: contiguous and not read-only, or each would be compiled twice."""
    return np.require(array, dtype, ("C", "W"))


class KeyTable:
    """A growing table of hashes to ids (`kernels/series_table.py`), 16 to 25 bytes a key."""

    def __init__(self, capacity: int = 64) -> None:
        self._table = np.zeros((capacity, 2), dtype=_U64)
        self._used = 0

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self._table.nbytes

    def __len__(self) -> int:
        return self._used

    def find(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], int]:
        """(ids int64[n], how many of them are `MISSING`) of `hashes` uint64[n, 2]."""
        out = np.empty(len(hashes), dtype=_I64)
        return out, int(kernel.find(self._table, hashes, out))

    def insert(self, hashes: NDArray[np.uint64], ids: NDArray[np.int64]) -> None:
        """Set the ids of keys."""
        self.reserve(len(hashes))
        self._used += int(kernel.insert(self._table, hashes, ids))

    def find_or_add(self, hashes: NDArray[np.uint64], next_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(ids int64[n], the rows that are new, whose ids count up from `next_id`)."""
        self.reserve(len(hashes))
        out, new = np.empty(len(hashes), dtype=_I64), np.empty(len(hashes), dtype=_I64)
        added = int(kernel.find_or_add(self._table, hashes, next_id, out, new))
        self._used += added
        return out, new[:added]

    def reserve(self, more: int) -> None:
        """Make room for `more` keys."""
        needed, capacity = (self._used + more) * 5 // 4 + 1, len(self._table)
        if needed > capacity:
            # By a quarter: what is empty is memory all the same, and filling one table from another costs 10 ns a key.
            self._table = self._refilled(max(needed, capacity * 5 // 4), np.zeros(0, dtype=_I64))._table

    def renumbered(self, ids: NDArray[np.int64]) -> KeyTable:
        """A table with `ids[i]` in place of the id i, without the keys for which that is below 0."""
        return self._refilled(len(self._table), ids)

    def _refilled(self, capacity: int, ids: NDArray[np.int64]) -> KeyTable:
        made = KeyTable(capacity)
        made._used = int(kernel.refill(self._table, made._table, ids))
        return made


class SymbolTable:
    """Label texts as ids, for Python (`symbols`) and for kernels (hashes to ids, and the texts' bytes end to end)."""

    def __init__(self) -> None:
        self.symbols = Symbols()
        self.texts: Column[np.uint8] = Column(np.uint8, 1 << 16)
        self.offsets: Column[np.int64] = Column(np.int64)
        self.offsets.extend(np.zeros(1, dtype=_I64))
        self._table = KeyTable()
        self.borrowed = 0
        """How many texts were interned that no series had."""

    def intern(self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ids of the texts `buffer[starts[i]:ends[i]]`, valid UTF-8: int64[n]."""
        hashes = hash_regions(buffer, starts, ends, _U64(0))
        first = len(self.symbols)
        ids, new = self._table.find_or_add(hashes, first)
        if len(new):
            spans = [buffer[lo:hi].tobytes() for lo, hi in zip(starts[new].tolist(), ends[new].tolist(), strict=True)]
            for text in spans:
                self.symbols.intern(text.decode("utf-8"))
            assert len(self.symbols) == first + len(new), "texts were interned behind the table's back"
            self.texts.extend(np.frombuffer(b"".join(spans), dtype=np.uint8))
            lengths = (ends - starts)[new]
            self.offsets.extend(np.cumsum(lengths) + self.offsets.view()[-1])
        return ids

    def intern_texts(self, texts: Sequence[bytes]) -> NDArray[np.int64]:
        """The ids of `texts`, which some series in a block has."""
        before = len(self.symbols)
        ends = np.cumsum([len(t) for t in texts], dtype=_I64)
        starts = np.concatenate([np.zeros(1, dtype=_I64), ends[:-1]])
        ids = self.intern(np.frombuffer(bytearray(b"".join(texts)), dtype=np.uint8), starts, ends)
        self.borrowed += len(self.symbols) - before
        return ids

    @property
    def nbytes(self) -> int:
        """Bytes held, the Python texts estimated."""
        return self._table.nbytes + self.texts.nbytes + self.offsets.nbytes + len(self.symbols) * 120


class SeriesTable:
    """All series known to the head, of all tenants."""

    def __init__(self) -> None:
        self.names = SymbolTable()
        self.label_offsets: Column[np.int64] = Column(np.int64)
        self.label_offsets.extend(np.zeros(1, dtype=_I64))
        self.label_at: Column[np.int64] = Column(np.int64)
        self.label_names: Column[np.int32] = Column(np.int32, 1 << 14)
        self.label_values: Column[np.int32] = Column(np.int32, 1 << 14)
        self.tenant_of: Column[np.int32] = Column(np.int32)
        self.tenants: list[str] = []
        self.ids_of: list[Column[np.uint32]] = []
        # None as long as no series is gone: handles are the ids then.
        self._handles: Column[np.int64] | None = None
        self._by_handle: Column[np.int64] | None = None
        self._tenant_numbers: dict[str, int] = {}
        self._keys: dict[int, KeyTable] = {}
        self._canonical = KeyTable()
        # Which sequences of names there are, and where each begins in `label_names`: series have few.
        self._sequences = KeyTable()
        self._sequence_at: Column[np.int64] = Column(np.int64, 64)
        self._keyspaces: dict[int, KeySpace] = {}

    def __len__(self) -> int:
        return len(self.tenant_of)

    def of_tenant(self, tenant: str) -> int:
        """How many series a tenant has."""
        number = self._tenant_numbers.get(tenant, -1)
        return len(self.ids_of[number]) if number >= 0 else 0

    def tenant_number(self, tenant: str) -> int:
        """The tenant's number, -1 where it has no series."""
        return self._tenant_numbers.get(tenant, -1)

    def find(self, batch: SampleBatch) -> tuple[NDArray[np.int64], int]:
        """(ids int64[n] with DROPPED and MISSING, how many are missing): the steady state, no label parsed."""
        keys = self._keys.get(batch.keyspace.id)
        if keys is None:
            return np.full(batch.series_count, kernel.MISSING, dtype=_I64), batch.series_count
        return keys.find(batch.hashes)

    def canonical(self, batch: SampleBatch, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The canonical keys of `rows`, end to end, with offsets; an empty one is a series to drop.

        Raises `BadInput` for a key that names no valid series. Changes nothing.
        """
        return batch.keyspace.canonicalise(batch.buffer, batch.key_start[rows], batch.key_end[rows])

    def learn(
        self, batch: SampleBatch, rows: NDArray[np.int64], keys: NDArray[np.uint8], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], int]:
        """(ids of `rows`, how many series are new) once their canonical keys are known."""
        keyspace = batch.keyspace
        ids, new = self.register(keyspace.tenant, keys, offsets)
        self._keyspaces[keyspace.id] = keyspace
        self._keys.setdefault(keyspace.id, KeyTable()).insert(batch.hashes[rows], ids)
        return ids, new

    def register(self, tenant: str, keys: NDArray[np.uint8], offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """(ids, how many are new) of the series with these canonical keys (uint8[...] end to end, int64[n + 1]); empty: DROPPED."""
        number = self._tenant_numbers.get(tenant)
        if number is None:
            number = self._tenant_numbers[tenant] = len(self.tenants)
            self.ids_of.append(Column(np.uint32))
            self.tenants.append(tenant)
        starts, ends = offsets[:-1], offsets[1:]
        hashes = hash_regions(keys, starts, ends, _U64(number))
        named = np.flatnonzero(ends > starts)
        ids = np.full(len(starts), kernel.DROPPED, dtype=_I64)
        ids[named], new = self._canonical.find_or_add(hashes[named], len(self))
        if len(new):
            self._add(number, keys, offsets, named[new])
        return ids, len(new)

    def beyond(self, tenant: str, keys: NDArray[np.uint8], offsets: NDArray[np.int64], most: int) -> NDArray[np.int64]:
        """Of the series with these canonical keys the rows for which there is no room, where the tenant may have `most`."""
        number = self.tenant_number(tenant)
        room = max(0, most - (len(self.ids_of[number]) if number >= 0 else 0))
        if len(offsets) - 1 <= room:
            return np.zeros(0, dtype=_I64)
        hashes = hash_regions(keys, offsets[:-1], offsets[1:], _U64(max(number, 0)))
        missing = np.diff(offsets) > 0
        if number >= 0:
            missing &= self._canonical.find(hashes)[0] == kernel.MISSING
        rows = np.flatnonzero(missing)
        _, first, which = np.unique(hashes[rows], axis=0, return_index=True, return_inverse=True)
        # Those that come first in the batch get in.
        rank = np.argsort(np.argsort(first))
        return rows[rank[which.reshape(-1)] >= room]

    def _add(self, number: int, keys: NDArray[np.uint8], offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        size = int((offsets[rows + 1] - offsets[rows]).sum())
        out_offsets, starts, ends = np.empty(len(rows) + 1, _I64), np.empty(size, _I64), np.empty(size, _I64)
        texts = int(kernel.split_canonical(keys, offsets, rows, out_offsets, starts, ends))
        firsts, like = np.empty(texts, _I64), np.empty(texts, _I64)
        firsts = firsts[: int(kernel.first_texts(keys, out_offsets, starts, ends, firsts, like))]
        symbols = self.names.intern(keys, starts[firsts], ends[firsts]).astype(np.int32)[like]
        first = len(self)
        self.label_at.extend(self._names_at(np.ascontiguousarray(symbols[0::2]), out_offsets // 2))
        self.label_values.extend(symbols[1::2])
        self.label_offsets.extend(out_offsets[1:] // 2 + self.label_offsets.view()[-1])
        self.ids_of[number].extend(np.arange(first, first + len(rows), dtype=np.uint32))
        if self._handles is not None and self._by_handle is not None:
            count = np.arange(len(rows))
            self._handles.extend(len(self._by_handle) + count)
            self._by_handle.extend(first + count)
        # Last, since its length is what says that a series is there.
        self.tenant_of.extend(np.full(len(rows), number, dtype=np.int32))

    def _names_at(self, names: NDArray[np.int32], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in `label_names` the names of each of some series begin; `offsets` int64[n + 1] into `names`."""
        hashes = hash_regions(names.view(np.uint8), offsets[:-1] * 4, offsets[1:] * 4, _U64(0))
        numbers, new = self._sequences.find_or_add(hashes, len(self._sequence_at))
        for row in new.tolist():
            self._sequence_at.extend(np.array([len(self.label_names)], dtype=_I64))
            self.label_names.extend(names[offsets[row] : offsets[row + 1]])
        return self._sequence_at.view()[numbers]

    def label_columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
        """All series' labels, as `kernels/postings.py` has them."""
        return self.label_offsets.view(), self.label_at.view(), self.label_names.view(), self.label_values.view()

    def handles(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The handles of series `ids`; DROPPED stays."""
        return np.where(ids >= 0, self._handles.view()[ids], ids) if self._handles is not None and len(self) else ids

    @property
    def handed_out(self) -> int:
        """How many series there have ever been: handles are below it."""
        return len(self) if self._by_handle is None else len(self._by_handle)

    def ids_by(self, handles: NDArray[np.int64]) -> NDArray[np.int64]:
        """The series of `handles` int64[n], DROPPED where it is gone."""
        assert len(handles) == 0 or (handles.min() >= kernel.DROPPED and handles.max() < self.handed_out), "never given out"
        if self._by_handle is None or not len(self._by_handle):
            return handles
        return np.where(handles >= 0, self._by_handle.view()[handles], kernel.DROPPED)

    def without(self, gone: NDArray[np.bool_]) -> tuple[SeriesTable, NDArray[np.int64]]:
        """(a table of the series that are not `gone`, the new id of each of the first len(gone), below 0 for those).

        Texts that no series has any more are not in it, nor are senders' keys: `succeed` completes it. May run beside the writer.
        """
        made = SeriesTable()
        new_ids = np.full(len(gone), kernel.DROPPED, dtype=_I64)
        made._take_over(self, np.flatnonzero(~gone), new_ids)
        return made, new_ids

    def _take_over(self, old: SeriesTable, ids: NDArray[np.int64], new_ids: NDArray[np.int64]) -> None:
        tenants = old.tenant_of.view()[ids]
        for number, tenant in enumerate(list(old.tenants)):
            mine = ids[tenants == number]
            # A tenant without series, too, so that tenants keep their numbers.
            for lo in range(0, max(1, len(mine)), 1 << 16):
                part = mine[lo : lo + (1 << 16)]
                new_ids[part], _ = self.register(tenant, *old.canonical_of(part))

    def succeed(self, old: SeriesTable, new_ids: NDArray[np.int64], needed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Complete the table that `old.without` made: take over the series `needed`, too, senders' keys and handles.

        `new_ids` is what `without` answered. Answers the id in `old` of each series.
        """
        all_ids = np.full(len(old), kernel.DROPPED, dtype=_I64)
        all_ids[: len(new_ids)] = new_ids
        self._take_over(old, needed[all_ids[needed] < 0], all_ids)
        self._keys = {keyspace: keys.renumbered(all_ids) for keyspace, keys in old._keys.items()}
        self._keyspaces = old._keyspaces
        kept = np.flatnonzero(all_ids >= 0)
        old_ids = np.empty(len(self), dtype=_I64)
        old_ids[all_ids[kept]] = kept
        handles = old.handles(old_ids)
        by_handle = np.full(old.handed_out, kernel.DROPPED, dtype=_I64)
        by_handle[handles] = np.arange(len(self))
        self._handles, self._by_handle = Column(np.int64), Column(np.int64)
        self._handles.extend(handles)
        self._by_handle.extend(by_handle)
        return old_ids

    def canonical_of(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The canonical keys of series `ids`, end to end, with offsets int64[n + 1]."""
        columns = self.label_columns()
        symbols = (self.names.offsets.view(), self.names.texts.view())
        offsets = np.empty(len(ids) + 1, dtype=_I64)
        size = int(kernel.join_canonical(ids, *columns, *symbols, offsets, np.empty(0, np.uint8)))
        out = np.empty(size, dtype=np.uint8)
        kernel.join_canonical(ids, *columns, *symbols, offsets, out)
        return out, offsets

    def labels_of(self, series: int) -> Labels:
        """One series' labels."""
        lo, hi = self.label_offsets.view()[series : series + 2].tolist()
        text = self.names.symbols.text
        at = int(self.label_at.view()[series])
        names, values = self.label_names.view()[at : at + hi - lo].tolist(), self.label_values.view()[lo:hi].tolist()
        return Labels((text(n), text(v)) for n, v in zip(names, values, strict=True))

    def forget_closed(self) -> None:
        """Drop the keys of key spaces that were closed; their series stay."""
        for closed in [k for k, space in self._keyspaces.items() if space.closed]:
            del self._keys[closed], self._keyspaces[closed]

    @property
    def nbytes(self) -> int:
        """Bytes held by the tables and columns."""
        columns: list[Column[Any]] = [self.label_offsets, self.label_at, self.label_names, self.label_values, self.tenant_of, *self.ids_of]
        columns += [c for c in (self._handles, self._by_handle) if c is not None]
        # A copy, since the writer may learn of another key space meanwhile.
        tables = [self._canonical, *self._keys.copy().values()]
        return self.names.nbytes + sum(c.nbytes for c in columns) + sum(t.nbytes for t in tables)
