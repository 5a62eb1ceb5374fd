"""Exemplars of the last while: a bounded store in memory, oldest out first.

What is kept and refused is what Prometheus keeps and refuses: label sets of up to 128 characters, rising times a series. They
are gone after a restart, as samples never are. Not here: reading them from what senders sent (`wire`).
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence

from vedette.errors import BadInput
from vedette.model.exemplars import Exemplar
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, match_labels
from vedette.model.samples import SampleBatch

DEFAULT_MOST = 100_000
"""As many as Prometheus keeps unless told otherwise."""

_LABELS_LENGTH = 128
_KEYS = 50_000

Series = tuple[str, Labels]
"""A tenant and the labels of one of its series."""


class Exemplars:
    """The store; safe from any thread. `most` exemplars are kept, 0 keeps none."""

    def __init__(self, most: int = DEFAULT_MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._found: dict[Series, deque[Exemplar]] = {}
        self._order: deque[Series] = deque()
        self._names: OrderedDict[tuple[int, bytes], Labels | None] = OrderedDict()
        self.appended = 0
        self.dropped: Counter[str] = Counter()
        """Those not kept, by reason: `out_of_order`, `too_long`."""

    def __len__(self) -> int:
        return len(self._order)

    @property
    def series(self) -> int:
        """How many series have exemplars."""
        return len(self._found)

    def resize(self, most: int) -> None:
        """Keep `most` from now on."""
        with self._lock:
            self._most = most
            self._shrink()

    def add(self, batch: SampleBatch, ids: Sequence[int]) -> int:
        """Take a batch's exemplars, whose rows were stored as `ids` (below 0: dropped); how many were kept."""
        kept = 0
        with self._lock:
            for exemplar in sorted(batch.exemplars, key=lambda e: (e.row, e.timestamp, e.value)):
                labels = self._labels(batch, exemplar.row) if exemplar.row >= 0 and ids[exemplar.row] >= 0 else None
                if labels is not None:
                    kept += self._take((batch.keyspace.tenant, labels), exemplar)
            self._shrink()
            self.appended += kept
        return kept

    def _labels(self, batch: SampleBatch, row: int) -> Labels | None:
        key = (batch.keyspace.id, batch.buffer[batch.key_start[row] : batch.key_end[row]].tobytes())
        if key not in self._names:
            try:
                self._names[key] = batch.keyspace.resolve(key[1])
            except BadInput:
                self._names[key] = None  # storage has refused the series, and said so
            while len(self._names) > _KEYS:
                self._names.popitem(last=False)
        return self._names[key]

    def _take(self, series: Series, exemplar: Exemplar) -> bool:
        if sum(len(name) + len(value) for name, value in exemplar.labels) > _LABELS_LENGTH:
            self.dropped["too_long"] += 1
            return False
        mine = self._found.get(series)
        if mine:
            newest = mine[-1]
            if newest[1:] == exemplar[1:]:
                return False  # scraped again: no news, and no mistake
            if (exemplar.timestamp, exemplar.value) < (newest.timestamp, newest.value):
                self.dropped["out_of_order"] += 1
                return False
        self._found.setdefault(series, deque()).append(exemplar)
        self._order.append(series)
        return True

    def _shrink(self) -> None:
        while len(self._order) > self._most:
            series = self._order.popleft()
            mine = self._found[series]
            mine.popleft()
            if not mine:
                del self._found[series]

    def select(self, tenant: str, sets: Sequence[Sequence[Matcher]], start: int, end: int) -> list[tuple[Labels, list[Exemplar]]]:
        """The exemplars in [start, end] (ms) of the series that pass any of `sets`, by series, rising in time."""
        with self._lock:
            mine = [(labels, list(found)) for (owner, labels), found in self._found.items() if owner == tenant]
        chosen = ((labels, found) for labels, found in mine if any(match_labels(tuple(m), labels) for m in sets))
        inside = ((labels, [e for e in found if start <= e.timestamp <= end]) for labels, found in chosen)
        return sorted(((labels, found) for labels, found in inside if found), key=lambda pair: pair[0])
