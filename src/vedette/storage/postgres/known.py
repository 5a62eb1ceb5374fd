"""The series that this process has met: senders' keys, labels as symbols, and their ids in the database.

In the steady state neither an append nor a select moves a label: senders' keys are found by hash, and of the series that a
query finds the database sends ids alone. Not here: the database.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.kernels import postings as kernel
from vedette.kernels.series_table import DROPPED
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.storage.columns import Column
from vedette.storage.names import Names

_I64 = np.int64


class Known(Names):
    """The table. Any thread may call any method."""

    def __init__(self) -> None:
        super().__init__()
        self._ids: Column[np.int32] = Column(np.int32)
        self._order: NDArray[np.int64] = np.zeros(0, dtype=_I64)
        self._sorted: NDArray[np.int32] = np.zeros(0, dtype=np.int32)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._series.nbytes + self._ids.nbytes + self._order.nbytes + self._sorted.nbytes

    def _check(self, keys: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        if (nul := np.flatnonzero(keys == 0)).size:
            row = int(np.searchsorted(offsets, nul[0], side="right")) - 1
            key = keys[offsets[row] : offsets[row + 1]].tobytes()
            problem = "a label has the character NUL, which PostgreSQL's texts cannot have"
            raise BadInput(problem, where=f"series {str(Labels.decode(key))[:200]!r}")

    def _learned(self) -> None:
        self._ids.extend(np.zeros(len(self._series) - len(self._ids), dtype=np.int32))

    def without_id(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The local numbers among `rows` that have no id yet, each once."""
        with self._lock:
            numbers = rows[rows >= 0]
            return np.unique(numbers[self._ids.view()[numbers] == 0])

    def assign(self, numbers: NDArray[np.int64], ids: NDArray[np.int32]) -> None:
        """The ids of series in the database."""
        with self._lock:
            self._ids.view()[numbers] = ids
            self._sorted = self._sorted[:0]

    def learn(self, tenant: str, keys: list[bytes], ids: NDArray[np.int32]) -> None:
        """Series that the database told of: their canonical keys and ids."""
        offsets = np.zeros(len(keys) + 1, dtype=_I64)
        np.cumsum([len(k) for k in keys], out=offsets[1:])
        with self._lock:
            numbers, _ = self._series.register(tenant, np.frombuffer(bytearray().join(keys), dtype=np.uint8), offsets)
            self._learned()
        self.assign(numbers, ids)

    def ids_of(self, tenant: str, keys: list[bytes]) -> NDArray[np.int32]:
        """The ids of series by their canonical keys, 0 where one is not known."""
        offsets = np.zeros(len(keys) + 1, dtype=_I64)
        np.cumsum([len(k) for k in keys], out=offsets[1:])
        with self._lock:
            numbers, _ = self._series.register(tenant, np.frombuffer(bytearray().join(keys), dtype=np.uint8), offsets)
            self._learned()
            return self._ids.view()[numbers]

    def ids(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The ids of local numbers; DROPPED stays, 0 is none yet."""
        with self._lock:
            return np.where(rows >= 0, self._ids.view()[rows].astype(_I64), DROPPED) if len(self._ids) else rows

    def numbers_of(self, ids: NDArray[np.int32]) -> NDArray[np.int64]:
        """The local numbers of ids, -1 where an id is not known."""
        with self._lock:
            if len(self._sorted) == 0:
                column = self._ids.view()
                self._order = np.argsort(column, kind="stable")
                self._sorted = column[self._order]
            if len(self._sorted) == 0:
                return np.full(len(ids), -1, dtype=_I64)
            at = np.minimum(np.searchsorted(self._sorted, ids), len(self._sorted) - 1)
            return np.where(self._sorted[at] == ids, self._order[at], -1)

    def labels(self, numbers: NDArray[np.int64]) -> LabelTable:
        """The label sets of series, in their order."""
        with self._lock:
            table = self._series
            columns = table.label_columns()
        rows, none = numbers.astype(np.uint32), np.empty(0, dtype=np.int32)
        offsets = np.empty(len(numbers) + 1, dtype=_I64)
        pairs = int(kernel.take_labels(rows, *columns, offsets, none, none))
        names, values = np.empty(pairs, dtype=np.int32), np.empty(pairs, dtype=np.int32)
        kernel.take_labels(rows, *columns, offsets, names, values)
        return LabelTable(table.names.symbols, offsets, names, values)

    def forget(self, ids: NDArray[np.int32]) -> None:
        """Drop series that the database has deleted."""
        with self._lock:
            gone = np.isin(self._ids.view(), ids)
            if not gone.any():
                return
            kept = self._ids.view()
            made, new = self._series.without(gone)
            old = made.succeed(self._series, new, np.zeros(0, dtype=_I64))
            self._series, self._ids = made, Column(np.int32)
            self._ids.extend(kept[old])
            self._sorted = self._sorted[:0]
