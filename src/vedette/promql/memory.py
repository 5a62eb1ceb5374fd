"""Series held in memory, behind the read half of `Storage`: what test scripts and rule unit tests query.

Not a backend: nothing is durable, and there are no tenants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vedette.model.histogram_arithmetic import is_reset
from vedette.model.histograms import GAUGE, NOT_RESET, RESET, UNKNOWN, Histogram, Histograms
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable, Symbols
from vedette.model.matchers import match_labels
from vedette.model.samples import Appended, MetricMetadata, SampleBatch
from vedette.model.series import SeriesSet
from vedette.storage.interface import Matchers, StorageStats


class _Columns:
    """The samples of one series in order of time; `histograms` by the number of the sample, with the hints of stored ones."""

    def __init__(self, points: Mapping[int, float | Histogram]) -> None:
        order = sorted(points)
        samples = [points[t] for t in order]
        self.times = np.array(order, dtype=np.int64)
        self.values = np.array([s.sum if isinstance(s, Histogram) else s for s in samples], dtype=np.float64)
        self.histograms: dict[int, Histogram] = {}
        before: Histogram | None = None
        for i, sample in enumerate(samples):
            if not isinstance(sample, Histogram):
                before = None
                continue
            hint = _stored_hint(sample, before)
            before = self.histograms[i] = sample.hinted(hint)


def _stored_hint(h: Histogram, before: Histogram | None) -> int:
    """What a store of chunks answers: it begins a new one at a reset, after which it does not say what was before."""
    if h.hint == GAUGE:
        return GAUGE
    if h.hint == RESET or before is None or before.hint == GAUGE:
        return UNKNOWN
    a, b = h.layout, before.layout
    if (a.schema, a.threshold, a.bounds) != (b.schema, b.threshold, b.bounds) or is_reset(h.hinted(UNKNOWN), before):
        return UNKNOWN
    return NOT_RESET


class MemoryStorage:
    """Samples as `{labels: {time: value}}`; series are selected one at a time, in order of their first sample."""

    def __init__(self) -> None:
        self.samples: dict[Labels, dict[int, float | Histogram]] = {}
        self.starts: dict[Labels, dict[int, int]] = {}
        self._columns: dict[Labels, _Columns] = {}
        self._symbols = Symbols()

    def add(self, labels: Labels, time: int, value: float | Histogram, *, start: int = 0) -> None:
        """Store one sample (ms); a later one at the same time replaces it. A histogram's hint is answered as a store of chunks would.

        `start` is the start timestamp (ms), 0 where it is unknown.
        """
        self.samples.setdefault(labels, {})[time] = value
        if start or labels in self.starts:
            self.starts.setdefault(labels, {})[time] = start
        self._columns.pop(labels, None)

    def clear(self) -> None:
        """Forget all samples."""
        self.samples.clear()
        self.starts.clear()
        self._columns.clear()

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        """As `Storage.select`; the tenant is not looked at."""
        rows: list[Labels] = []
        offsets, times, values = [0], [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        starts = [np.zeros(0, dtype=np.int64)]
        at: list[int] = []
        histograms: list[Histogram] = []
        for labels, points in self.samples.items():
            if not match_labels(tuple(matchers), labels):
                continue
            columns = self._columns.get(labels) or self._columns.setdefault(labels, _Columns(points))
            lo, hi = int(np.searchsorted(columns.times, start, side="left")), int(np.searchsorted(columns.times, end, side="right"))
            rows.append(labels)
            times.append(columns.times[lo:hi])
            values.append(columns.values[lo:hi])
            known = self.starts.get(labels, {})
            starts.append(np.array([known.get(t, 0) for t in columns.times[lo:hi].tolist()] if known else [0] * (hi - lo), dtype=np.int64))
            for i, h in columns.histograms.items():
                if lo <= i < hi:
                    at.append(offsets[-1] + i - lo)
                    histograms.append(h)
            offsets.append(offsets[-1] + hi - lo)
        return SeriesSet(
            LabelTable.from_labels(rows, self._symbols),
            np.array(offsets, dtype=np.int64),
            np.concatenate(times),
            np.concatenate(values),
            Histograms.of(at, histograms) if histograms else None,
            np.concatenate(starts) if self.starts else None,
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
