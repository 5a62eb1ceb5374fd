"""The start timestamps of OpenMetrics text: `_created` lines, which say since when the series beside them have been counting.

Only where start timestamps are wanted; else such lines are series like others, as in Prometheus. Not here: protobuf, whose messages
hold them (`wire/exposition_proto.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from vedette.model.labels import METRIC_NAME, Labels
from vedette.wire.exposition import Exposition, parse_pairs

_SUFFIX = "_created"
_OWN = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "summary": ("", "_count", "_sum")}
"""What the names of a family's series end with, those that count."""
_APART = {"histogram": "le", "summary": "quantile"}
_FAR = float(1 << 53)


@dataclass(frozen=True, slots=True)
class _Place:
    """The family and labels that a series belongs to, and whether it says when that began."""

    of: Labels
    created: bool


@dataclass(slots=True)
class Created:
    """Takes the `_created` lines out of a target's expositions. What keys mean is remembered from scrape to scrape."""

    _types: dict[str, str] = field(default_factory=dict)
    _places: dict[bytes, _Place | None] = field(default_factory=dict)

    def taken(self, exposition: Exposition) -> Exposition:
        """The exposition without `_created` lines, its samples with the starts that they gave."""
        batch = exposition.batch
        if batch.metadata:
            self._types = {m.metric: m.type for m in batch.metadata if m.type in _OWN}
            self._places = {}
        data = batch.buffer.tobytes()
        keys = [data[lo:hi] for lo, hi in zip(batch.key_start.tolist(), batch.key_end.tolist(), strict=True)]
        places = [self._place(key) for key in keys]
        rows = [row for row, place in enumerate(places) if place is not None and place.created]
        if not rows:
            return exposition
        self._places = dict(zip(keys, places, strict=True))  # what is gone need not be remembered
        values = batch.values.tolist()
        began = {place.of: _ms(values[row]) for row in rows if (place := places[row]) is not None}
        starts = np.array([0 if p is None else began.get(p.of, 0) for p in places], dtype=np.int64)
        kept = np.setdiff1d(np.arange(batch.series_count), np.array(rows, dtype=np.int64))
        return replace(exposition, batch=replace(batch, starts=starts).rows(kept), explicit=exposition.explicit[kept])

    def _place(self, key: bytes) -> _Place | None:
        if key in self._places:
            return self._places[key]
        labels = Labels.from_pairs(parse_pairs(key))
        found = self._places[key] = self._placed(labels)
        return found

    def _placed(self, labels: Labels) -> _Place | None:
        metric = labels.metric
        family = metric.removesuffix(_SUFFIX)
        if family != metric and family in self._types:
            return _Place(labels.with_({METRIC_NAME: family}), created=True)
        for suffix in ("_total", "_bucket", "_count", "_sum", ""):
            family = metric.removesuffix(suffix)
            kind = self._types.get(family, "") if metric.endswith(suffix) else ""
            if kind and suffix in _OWN[kind]:
                apart = _APART.get(kind, "")
                return _Place((labels.without(apart) if apart else labels).with_({METRIC_NAME: family}), created=False)
        return None


def _ms(seconds: float) -> int:
    """A time in seconds as ms; 0, which is none, for what is no time."""
    return round(seconds * 1000) if 0 < seconds * 1000 < _FAR else 0
