"""A naive storage for query tests: dicts of lists, matched one label set at a time."""

from __future__ import annotations

import numpy as np

from vedette.model.labels import Labels, LabelTable
from vedette.model.matchers import match_labels
from vedette.model.samples import Appended, MetricMetadata, SampleBatch
from vedette.model.series import SeriesSet
from vedette.storage.interface import Matchers, StorageStats


class MemoryStorage:
    """Holds samples of one tenant as `{labels: {time: value}}`; reads copy everything."""

    def __init__(self, samples: dict[Labels, dict[int, float]] | None = None) -> None:
        self.samples: dict[Labels, dict[int, float]] = samples or {}
        self.selects: list[tuple[str, tuple[str, ...], int, int]] = []

    def add(self, labels: Labels, time: int, value: float) -> None:
        self.samples.setdefault(labels, {})[time] = value

    def clear(self) -> None:
        self.samples = {}

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        self.selects.append((tenant, tuple(map(str, matchers)), start, end))
        rows, offsets, times, values = [], [0], [], []
        for labels, points in self.samples.items():
            if not match_labels(tuple(matchers), labels):
                continue
            inside = sorted(t for t in points if start <= t <= end)
            rows.append(labels)
            times += inside
            values += [points[t] for t in inside]
            offsets.append(len(times))
        return SeriesSet(
            LabelTable.from_labels(rows),
            np.array(offsets, dtype=np.int64),
            np.array(times, dtype=np.int64),
            np.array(values, dtype=np.float64),
        )

    def series(self, tenant: str, sets: object, start: int, end: int, limit: int = 0) -> list[Labels]:
        raise NotImplementedError

    def label_names(self, tenant: str, sets: object, start: int, end: int) -> list[str]:
        raise NotImplementedError

    def label_values(self, tenant: str, name: str, sets: object, start: int, end: int) -> list[str]:
        raise NotImplementedError

    def metadata(self, tenant: str, metric: str | None = None) -> list[MetricMetadata]:
        raise NotImplementedError

    def stats(self) -> StorageStats:
        raise NotImplementedError

    async def append(self, batch: SampleBatch) -> Appended:
        raise NotImplementedError

    async def close(self) -> None:
        pass
