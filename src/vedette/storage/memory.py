"""What the engine holds in memory: series, their samples and metadata, and the lock over them.

`take` is the whole way of a batch through memory: names to ids, samples to chunks, and the log records that make
it durable. Not here: files, threads.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from vedette.kernels.series_table import MISSING
from vedette.model.samples import Appended, MetricMetadata, SampleBatch
from vedette.storage import wal
from vedette.storage.head import Head, Kept
from vedette.storage.index import IndexView, TenantIndex
from vedette.storage.series import SeriesTable, writable


class Metadata:
    """What is known of each tenant's metrics; of two reports the later counts."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, MetricMetadata]] = {}
        self._last: dict[int, Sequence[MetricMetadata]] = {}

    def learn(self, tenant: str, items: Sequence[MetricMetadata], *, source: int = 0) -> list[MetricMetadata]:
        """Which of `items` say something new; `source` (a key space's id) makes the same list again free."""
        if source and self._last.get(source) is items:
            return []
        self._last[source] = items
        known = self.known.setdefault(tenant, {})
        changed = [m for m in items if known.get(m.metric) != m]
        known.update((m.metric, m) for m in changed)
        return changed

    def forget(self, sources: Sequence[int]) -> None:
        """These key spaces send no more."""
        for source in sources:
            self._last.pop(source, None)


def metadata_record(tenant: str, items: Sequence[MetricMetadata]) -> bytes:
    """The log record of metadata."""
    return wal.record(wal.METADATA, 0, orjson.dumps([tenant, [[m.metric, m.type, m.help, m.unit] for m in items]]))


@dataclass(frozen=True, slots=True)
class _Named:
    """The series `ids` int64[n] and their canonical keys, end to end, with offsets int64[n + 1]."""

    tenant: str
    ids: NDArray[np.int64]
    keys: NDArray[np.uint8]
    offsets: NDArray[np.int64]


class Memory:
    """Series, head and metadata. `lock` is held by whoever changes them, and by readers while a kernel runs."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.series = SeriesTable()
        self.head = Head()
        self.metadata = Metadata()
        self.samples_appended = 0
        self._indexes: dict[str, TenantIndex] = {}

    def take(self, batch: SampleBatch, *, window: int, oldest: int, scope: int) -> tuple[Appended, list[bytes]]:
        """Take a batch; answers what became of it and the records that must be logged before it is acknowledged.

        Raises `BadInput` where a new key names no valid series; nothing is changed then.
        """
        ids, new, named = self._ids(batch)
        offsets, times, bits = _columns(batch)
        with self.lock:
            self.head.reserve(len(self.series), len(times) // 15 + min(len(ids), len(times)) + 1)
            kept = self.head.append(ids, offsets, times, bits, window=window, oldest=oldest, scope=scope)
            self.samples_appended += len(kept.ids)
        records = self._records(kept, named)
        if batch.metadata:
            with self.lock:
                changed = self.metadata.learn(batch.keyspace.tenant, batch.metadata, source=batch.keyspace.id)
            if changed:
                records.append(metadata_record(batch.keyspace.tenant, changed))
        return Appended(self.series.handles(ids), len(kept.ids) + kept.same, new, kept.dropped), records

    def _ids(self, batch: SampleBatch) -> tuple[NDArray[np.int64], int, _Named | None]:
        """(the series of each row, how many are new, what is known of the names of rows that were met for the first time)."""
        if batch.ids is not None:
            return self.series.ids_by(writable(batch.ids, np.int64)), 0, None
        ids, missing = self.series.find(batch)
        if not missing:
            return ids, 0, None
        rows = np.flatnonzero(ids == MISSING)
        # Parsed before the lock is taken and before anything changes: one bad series refuses the batch.
        keys, offsets = self.series.canonical(batch, rows)
        with self.lock:
            ids[rows], new = self.series.learn(batch, rows, keys, offsets)
        return ids, new, _Named(batch.keyspace.tenant, ids[rows], keys, offsets)

    def _records(self, kept: Kept, named: _Named | None) -> list[bytes]:
        records: list[bytes] = []
        if named is not None and np.array_equal(kept.defined, named.ids):
            # A batch of new series alone, as they come in bulk: their keys were just made.
            records.append(wal.series_record(named.tenant, kept.defined, named.keys, named.offsets))
        elif len(kept.defined):
            tenants = self.series.tenant_of.view()[kept.defined]
            for number in np.unique(tenants).tolist():
                ids = kept.defined[tenants == number]
                keys, offsets = self.series.canonical_of(ids.astype(np.int64))
                records.append(wal.series_record(self.series.tenants[number], ids, keys, offsets))
        if len(kept.ids):
            records.append(wal.samples_record(kept.ids, kept.times, kept.bits))
        return records

    def index(self, tenant: str) -> tuple[SeriesTable, IndexView | None]:
        """(the series table as it is now, the tenant's index over it, None where it has no series).

        The ids of the index mean something as long as `series` is that table: look again under the lock.
        """
        with self.lock:
            series = self.series
            number = series.tenant_number(tenant)
            if number < 0:
                return series, None
            index = self._indexes.setdefault(tenant, TenantIndex())
            ids = series.ids_of[number].view()
            columns = (series.label_offsets.view(), series.label_names.view(), series.label_values.view())
        return series, index.view(series.names.symbols, ids, *columns)

    def idle(self, since: int) -> NDArray[np.bool_]:
        """Which series have no sample in memory, and had their last before `since` (ms): bool[n]."""
        return self.head.idle(since)[: len(self.series)]

    def succeed(self, series: SeriesTable, new_ids: NDArray[np.int64], since: int) -> None:
        """Put `series` (`SeriesTable.without`), from which series that were idle are left out, in the place of the present table."""
        with self.lock:
            old_ids = series.succeed(self.series, new_ids, np.flatnonzero(~self.idle(since)))
            self.head.renumber(old_ids)
            self.series = series
            self._indexes = {}

    @property
    def nbytes(self) -> int:
        """Bytes held by series and samples."""
        return self.series.nbytes + self.head.nbytes


def _columns(batch: SampleBatch) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    values = writable(batch.values, np.float64)
    return writable(batch.offsets, np.int64), writable(batch.timestamps, np.int64), values.view(np.int64)
