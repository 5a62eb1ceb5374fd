"""Series held in memory, behind the read half of `Storage`: what test scripts and rule unit tests query.

Not a backend: nothing is durable, and there are no tenants.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vedette.model.labels import Labels, LabelTable, Symbols
from vedette.model.matchers import match_labels
from vedette.model.samples import Appended, MetricMetadata, SampleBatch
from vedette.model.series import SeriesSet
from vedette.storage.interface import Matchers, StorageStats


class MemoryStorage:
    """Samples as `{labels: {time: value}}`; series are selected one at a time, in order of their first sample."""

    def __init__(self) -> None:
        self.samples: dict[Labels, dict[int, float]] = {}
        self._symbols = Symbols()

    def add(self, labels: Labels, time: int, value: float) -> None:
        """Store one sample (ms); a later one at the same time replaces it."""
        self.samples.setdefault(labels, {})[time] = value

    def clear(self) -> None:
        """Forget all samples."""
        self.samples.clear()

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        """As `Storage.select`; the tenant is not looked at."""
        rows: list[Labels] = []
        offsets, times, values = [0], [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for labels, points in self.samples.items():
            if not match_labels(tuple(matchers), labels):
                continue
            inside = np.array(sorted(t for t in points if start <= t <= end), dtype=np.int64)
            rows.append(labels)
            times.append(inside)
            values.append(np.array([points[int(t)] for t in inside], dtype=np.float64))
            offsets.append(offsets[-1] + len(inside))
        return SeriesSet(
            LabelTable.from_labels(rows, self._symbols), np.array(offsets, dtype=np.int64), np.concatenate(times), np.concatenate(values)
        )

    def _matching(self, sets: Sequence[Matchers], start: int, end: int) -> Iterable[Labels]:
        for labels, points in self.samples.items():
            if (not sets or any(match_labels(tuple(m), labels) for m in sets)) and any(start <= t <= end for t in points):
                yield labels

    def series(self, tenant: str, sets: Sequence[Matchers], start: int, end: int, limit: int = 0) -> list[Labels]:
        """As `Storage.series`."""
        found = sorted(self._matching(sets, start, end))
        return found[:limit] if limit else found

    def label_names(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """As `Storage.label_names`."""
        return sorted({name for labels in self._matching(sets, start, end) for name, _ in labels})

    def label_values(self, tenant: str, name: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """As `Storage.label_values`."""
        return sorted({labels.get(name) for labels in self._matching(sets, start, end)} - {""})

    def metadata(self, tenant: str, metric: str | None = None) -> list[MetricMetadata]:
        """As `Storage.metadata`: nothing is known."""
        return []

    def stats(self) -> StorageStats:
        """As `Storage.stats`."""
        return StorageStats(series=len(self.samples))

    async def append(self, batch: SampleBatch) -> Appended:
        """Samples come in by `add` here."""
        raise AssertionError("a memory storage is filled by add()")

    async def close(self) -> None:
        """Nothing to let go of."""
