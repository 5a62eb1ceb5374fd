"""The embedded engine: `storage.interface.Storage` over one data directory.

`lock` takes the directory, `start` replays the log and begins to take appends, `close` finishes. Reads work from
any thread. Not here: HTTP, limits of tenants, PromQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vedette.clock import Clock
from vedette.errors import LimitExceeded
from vedette.model.labels import Labels, LabelTable
from vedette.model.samples import Appended, MetricMetadata, SampleBatch
from vedette.model.series import SeriesSet
from vedette.storage import wal
from vedette.storage.directory import DirectoryLock
from vedette.storage.index import IndexView
from vedette.storage.interface import Matchers, StorageStats
from vedette.storage.memory import Memory
from vedette.storage.replay import Replay, Replayed
from vedette.storage.settings import StorageSettings
from vedette.storage.writer import Writer

_FAR = (1 << 63) - 1


class Engine:
    """Samples in memory and in a log, later in blocks."""

    def __init__(self, settings: StorageSettings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.replayed: Replayed | None = None
        self._memory = Memory()
        self._lock = DirectoryLock(settings.data)
        self._writer: Writer | None = None
        self._wal: wal.Wal | None = None

    def lock(self) -> None:
        """Take the data directory. Raises `BadInput`, one line, where another process holds it or it cannot be written."""
        if not self._lock.held:
            self._lock.take()

    async def start(self) -> None:
        """Replay the log, on a thread, and begin to take appends."""
        self.lock()
        self.replayed = await asyncio.to_thread(self._replay)
        self._wal = wal.Wal(
            self.settings.data / "wal",
            segment_size=self.settings.segment_size,
            keep_unsynced=self.settings.sync == 0,
            next_number=self.replayed.last_segment + 1,
        )
        self._wal.begin_scope(self.replayed.last_scope + 1)
        self._writer = Writer(self._memory, self._wal, self.settings, self.clock, housekeeping=self._housekeeping)
        self._writer.start()

    def _replay(self) -> Replayed:
        return Replay(self._memory).run(self.settings.data / "wal", after_segment=lambda _: None)

    def _housekeeping(self) -> None:
        pass

    async def append(self, batch: SampleBatch) -> Appended:
        """See `Storage.append`. `LimitExceeded` too before `start` has replayed the log."""
        if self._writer is None:
            raise LimitExceeded("the storage is still reading its log", retry_after=1.0)
        return await self._writer.submit(batch)

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        """See `Storage.select`."""
        view = self._memory.index(tenant)
        if view is None:
            return _nothing()
        ids = view.matching(matchers)
        if len(ids) > self.settings.select_series:
            raise LimitExceeded(f"the query selects {len(ids)} series, more than {self.settings.select_series}")
        with self._memory.lock:
            offsets, times, bits = self._memory.head.gather(ids.astype(np.int64), start, end)
        if len(times) > self.settings.select_samples:
            raise LimitExceeded(f"the query reads {len(times)} samples, more than {self.settings.select_samples}")
        filled = offsets[1:] > offsets[:-1]
        if not filled.all():
            ids, offsets = ids[filled], np.concatenate([offsets[:1], offsets[1:][filled]])
        return SeriesSet(view.table(ids), offsets, times, bits.view(np.float64))

    def _present(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> tuple[IndexView, NDArray[np.uint32]] | None:
        """(index, ids) of the series that pass any of `sets` (all, where it is empty) and have samples in [start, end]."""
        view = self._memory.index(tenant)
        if view is None:
            return None
        found = [view.matching(matchers) for matchers in sets] if sets else [view.all_ids]
        ids = found[0] if len(found) == 1 else np.unique(np.concatenate(found))
        with self._memory.lock:
            return view, ids[self._memory.head.present(ids.astype(np.int64), start, end)]

    def series(self, tenant: str, sets: Sequence[Matchers], start: int, end: int, limit: int = 0) -> list[Labels]:
        """See `Storage.series`."""
        found = self._present(tenant, sets, start, end) if sets else None
        if found is None:
            return []
        rows = sorted(found[0].table(found[1]))
        return rows[:limit] if limit else rows

    def label_names(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """See `Storage.label_names`."""
        found = self._present(tenant, sets, start, end)
        if found is None:
            return []
        view, ids = found
        return sorted(view.symbols.text(s) for s in np.unique(view.labels(ids)[1]).tolist())

    def label_values(self, tenant: str, name: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """See `Storage.label_values`."""
        found = self._present(tenant, sets, start, end)
        if found is None or (symbol := found[0].symbols.find(name)) < 0:
            return []
        view, ids = found
        return sorted(view.symbols.text(s) for s in np.unique(view.column(ids, symbol)).tolist() if s >= 0)

    def metadata(self, tenant: str, metric: str | None = None) -> list[MetricMetadata]:
        """See `Storage.metadata`."""
        with self._memory.lock:
            known = self._memory.metadata.known.get(tenant, {})
            if metric is not None:
                return [known[metric]] if metric in known else []
            return [known[name] for name in sorted(known)]

    def stats(self) -> StorageStats:
        """See `Storage.stats`."""
        memory, head = self._memory, self._memory.head
        return StorageStats(
            series=len(memory.series),
            chunks=head.now.used + head.before.used,
            min_time=head.min_time if head.min_time != _FAR else 0,
            max_time=head.max_time if head.max_time != -_FAR else 0,
            samples_appended=memory.samples_appended,
            wal_bytes=self._wal.bytes_written if self._wal else 0,
            replayed=self._writer is not None,
        )

    async def close(self) -> None:
        """Finish what is in flight, sync, release the directory. Appends after it raise `LimitExceeded`."""
        if self._writer is not None and not self._writer.closing:
            await asyncio.to_thread(self._stop)
        self._lock.release()

    def _stop(self) -> None:
        assert self._writer is not None
        assert self._wal is not None
        self._writer.stop()
        self._wal.close()


def _nothing() -> SeriesSet:
    return SeriesSet(LabelTable.from_labels([]), np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float64))
