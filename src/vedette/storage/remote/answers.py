"""The JSON of Prometheus' API as columns and label sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.model.samples import MetricMetadata
from vedette.model.series import SeriesSet


def series_set(result: Sequence[Mapping[str, Any]], start: int, end: int) -> SeriesSet:
    """The samples in [start, end] of a matrix; of several at one time, which some servers keep, the first."""
    labels: list[Labels] = []
    times: list[int] = []
    values: list[float] = []
    offsets = [0]
    for row in result:
        before = len(times)
        for when, text in row.get("values", ()):
            at = round(when * 1000)
            if start <= at <= end and (len(times) == before or at > times[-1]):
                times.append(at)
                values.append(float(text))
        if len(times) > before:
            labels.append(Labels.of(row["metric"]))
            offsets.append(len(times))
    return SeriesSet(
        LabelTable.from_labels(labels),
        np.array(offsets, dtype=np.int64),
        np.array(times, dtype=np.int64),
        np.array(values, dtype=np.float64),
    )


def metadata(data: Mapping[str, Sequence[Mapping[str, str]]]) -> list[MetricMetadata]:
    """What `/api/v1/metadata` tells, of several accounts of one metric the first."""
    first = [(metric, data[metric][0]) for metric in sorted(data) if data[metric]]
    return [MetricMetadata(metric, one.get("type") or "unknown", one.get("help", ""), one.get("unit", "")) for metric, one in first]


def series_count(data: Mapping[str, Any]) -> int:
    """How many series `/api/v1/status/tsdb` tells of, as Prometheus or as VictoriaMetrics words it."""
    head = data.get("headStats")
    found = head.get("numSeries") if isinstance(head, Mapping) else data.get("totalSeries")
    return int(found) if isinstance(found, int | float) else 0


def ranking(data: Mapping[str, Any], name: str) -> list[tuple[str, int]]:
    """One of its rankings."""
    rows = data.get(name) or ()
    return [(str(row["name"]), int(row.get("value", row.get("count", 0)))) for row in rows]
