"""Native histograms with custom buckets, made of the series of classic ones: `load_with_nhcb` of test scripts.

The samples of `x_bucket`, `x_count` and `x_sum` at one time make one histogram of `x`. A missing +Inf bucket holds the
whole count, a missing count is that of the highest bucket, and a missing sum is 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from vedette.errors import BadInput
from vedette.model.histograms import CUSTOM_SCHEMA, NO_BUCKETS, Histogram, Layout
from vedette.model.labels import METRIC_NAME, Labels

LE = "le"


@dataclass(slots=True)
class _Classic:
    """What is known of one histogram at one time; bucket counts are cumulative."""

    buckets: dict[float, float] = field(default_factory=dict)
    count: float | None = None
    sum: float = 0.0


def converted(samples: Iterable[tuple[Labels, int, float]]) -> Iterator[tuple[Labels, int, Histogram]]:
    """The histograms that `samples` (series, time, value) make, by series and time. Raises `BadInput` for counts that cannot be."""
    found: dict[Labels, dict[int, _Classic]] = {}
    for labels, time, value in samples:
        base, _, part = labels.metric.rpartition("_")
        if part not in ("bucket", "count", "sum") or not base:
            continue
        bound = _bound(labels.get(LE)) if part == "bucket" else 0.0
        if math.isnan(bound):
            continue
        series = labels.without(LE).with_({METRIC_NAME: base}) if part == "bucket" else labels.with_({METRIC_NAME: base})
        classic = found.setdefault(series, {}).setdefault(time, _Classic())
        if part == "bucket":
            classic.buckets.setdefault(bound, value)
        elif part == "count":
            classic.count = value
        else:
            classic.sum = value
    for series, times in found.items():
        layouts: dict[tuple[float, ...], Layout] = {}
        for time in sorted(times):
            yield series, time, _histogram(series, times[time], layouts)


def _bound(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _histogram(series: Labels, classic: _Classic, layouts: dict[tuple[float, ...], Layout]) -> Histogram:
    bounds = sorted(classic.buckets)
    counts = [classic.buckets[b] for b in bounds]
    total = classic.count if classic.count is not None else counts[-1] if counts else 0.0
    if not bounds or bounds[-1] != math.inf:
        bounds, counts = [*bounds, math.inf], [*counts, total]
    each = np.diff([0.0, *counts])
    if (each < 0).any() or counts[-1] != total:
        raise BadInput(f"buckets of {series} are not cumulative, or their count is not that of the last", where=str(series))
    key = tuple(bounds[:-1])
    # One layout object for all samples that share it, as columns share it.
    layout = layouts.setdefault(key, Layout(CUSTOM_SCHEMA, 0.0, key, np.arange(len(bounds), dtype=np.int32), NO_BUCKETS))
    return Histogram(layout, np.array([total, classic.sum, 0.0, *each]))
