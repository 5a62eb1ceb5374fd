"""The access layer's `GET /metrics?aggregated=true`: each series over the last window as a few gauges.

A counter gives `_avg` (its increase a minute) and `_sum` (its increase), a gauge `_avg`, `_sum`, `_min` and `_max` of its
samples, a histogram and a summary `_avg`, their average observation. The aggregated names are new ones, so nothing that is
exposed without `aggregated` changes its meaning. Not here: the latest values (`api.exposition`), whose endpoint this wraps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import finishing
from vedette.api.endpoint import Endpoint, Handler, Param
from vedette.api.params import form_of
from vedette.api.params import matcher_sets as selector_sets
from vedette.api.prometheus import matchers_of
from vedette.api.services.shared import Backend, Kinds, choice_of, flag_of
from vedette.clock import now_ms
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import MetricMetadata, is_stale
from vedette.model.series import SeriesSet
from vedette.wire import exposition

FORMATS = ("prometheus", "json")
_PARTS = ("_bucket", "_sum", "_count")


@dataclass(slots=True)
class Exports:
    """What was exported since the start; `windows` and `aggregated_series` are of aggregated exports, the latter of the last one."""

    total: int = 0
    last_ms: int = 0
    windows: int = 0
    aggregated_series: int = 0


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One gauge that a window comes to."""

    labels: Labels
    value: float
    about: str


def increases(found: SeriesSet, begin: int) -> NDArray[np.float64]:
    """How much each series rose from the last sample at or before `begin` (ms), or its first after it: float64[n], NaN for a single sample.

    A fall is a reset to 0, as `increase` takes it; nothing is extrapolated.
    """
    out = np.full(len(found), np.nan)
    for row in range(len(found)):
        lo, hi = int(found.offsets[row]), int(found.offsets[row + 1])
        times, values = found.timestamps[lo:hi], found.values[lo:hi]
        good = ~is_stale(values)
        times, values = times[good], values[good]
        first = max(int(np.searchsorted(times, begin, side="right")) - 1, 0)
        inside = values[first:]
        if len(inside) > 1:
            rises = np.diff(inside)
            out[row] = float(np.where(rises < 0, inside[1:], rises).sum())
    return out


def aggregated(found: SeriesSet, kinds: Kinds, begin: int, end: int) -> list[Aggregate]:
    """The aggregates of the window (begin, end] in ms; `found` also holds the window before, for what a rise is measured from."""
    risen = increases(found, begin)
    minutes = (end - begin) / 60_000
    sums: dict[Labels, dict[str, float]] = {}
    out: list[Aggregate] = []
    for row in range(len(found)):
        labels = found.labels.row(row)
        metric, kind = labels.metric, kinds.of(labels.metric)
        if kind in ("histogram", "summary"):
            if metric.endswith(_PARTS[1:]) and np.isfinite(risen[row]):
                base, _, part = metric.rpartition("_")
                sums.setdefault(labels.with_({METRIC_NAME: base}), {})[part] = float(risen[row])
        elif kind == "counter":
            if np.isfinite(risen[row]):
                rise = float(risen[row])
                out.append(_named(labels, "avg", rise / minutes, f"Average increase of {metric} per minute."))
                out.append(_named(labels, "sum", rise, f"Increase of {metric}."))
        else:
            out += _of_gauge(labels, found, row, begin)
    for labels, parts in sums.items():
        if parts.get("count"):
            out.append(_named(labels, "avg", parts.get("sum", 0.0) / parts["count"], f"Average observation of {labels.metric}."))
    return out


def _of_gauge(labels: Labels, found: SeriesSet, row: int, begin: int) -> list[Aggregate]:
    lo, hi = int(found.offsets[row]), int(found.offsets[row + 1])
    values = found.values[lo:hi]
    values = values[~is_stale(values) & (found.timestamps[lo:hi] > begin)]
    if not len(values):
        return []
    figures = {"avg": values.mean(), "sum": values.sum(), "min": values.min(), "max": values.max()}
    words = {"avg": "Average", "sum": "Sum", "min": "Least", "max": "Greatest"}
    return [_named(labels, name, float(v), f"{words[name]} of the samples of {labels.metric}.") for name, v in figures.items()]


def _named(labels: Labels, suffix: str, value: float, about: str) -> Aggregate:
    return Aggregate(labels.with_({METRIC_NAME: f"{labels.metric}_{suffix}"}), value, about)


@dataclass(frozen=True, slots=True)
class Exporter:
    """`/metrics` with and without `aggregated`, counted; `latest` answers without. `window` in ms."""

    backend: Backend
    latest: Handler
    exports: Exports
    window: int

    async def latest_values(self, request: Request) -> Response:
        """The latest values."""
        response = await self.latest(request)
        if response.status_code == 200:
            self._count()
        return response

    async def aggregates(self, request: Request) -> Response:
        """The last window's aggregates."""
        form = await form_of(request)
        flag_of(form, "aggregated")
        shape = choice_of(form, "format", "prometheus", FORMATS)
        sets = selector_sets(form, matchers_of) or [[Matcher(METRIC_NAME, "!=", "")]]
        found = await self.backend.run(self._aggregates, self.backend.tenant_of(request.scope), sets)
        self._count()
        self.exports.windows += 1
        self.exports.aggregated_series = len(found)
        body = await self.backend.run(_text if shape == "prometheus" else _json, found)
        return Response(body, media_type=exposition.TEXT_TYPE if shape == "prometheus" else "application/json")

    def _count(self) -> None:
        self.exports.total += 1
        self.exports.last_ms = now_ms(self.backend.clock)

    def _aggregates(self, tenant: str, sets: Sequence[Sequence[Matcher]]) -> list[Aggregate]:
        """Runs on a worker thread."""
        end = now_ms(self.backend.clock)
        kinds = Kinds(self.backend.storage.metadata(tenant))
        found: dict[Labels, Aggregate] = {}
        for matchers in sets:
            selected = self.backend.storage.select(tenant, matchers, end - 2 * self.window, end)
            found |= {one.labels: one for one in aggregated(selected, kinds, end - self.window, end)}
        return list(found.values())


def _text(found: Sequence[Aggregate]) -> bytes:
    metadata = {one.labels.metric: MetricMetadata(one.labels.metric, "gauge", one.about) for one in found}
    return exposition.render([one.labels for one in found], [one.value for one in found], metadata=list(metadata.values()))


def _json(found: Sequence[Aggregate]) -> bytes:
    return orjson.dumps(
        {
            "metrics": [
                {"name": one.labels.metric, "type": "gauge", "labels": one.labels.without(METRIC_NAME).as_dict(), "value": one.value}
                for one in found
            ]
        }
    )


def endpoint(backend: Backend, latest: Endpoint, exports: Exports, *, window: int, cors_origin: str) -> Endpoint:
    """`latest` (`/metrics`) with `aggregated`, every answer of it counted."""
    exporter = Exporter(backend, cast(Handler, latest.handler), exports, window)
    # The latest values are finished (compressed, with CORS headers) already.
    aggregates = finishing(backend.handled(exporter.aggregates), backend.run, cors_origin)

    async def exposed(request: Request) -> Response:
        wanted = request.query_params.get("aggregated", "").lower() not in ("", "0", "false")
        return await (aggregates if wanted else exporter.latest_values)(request)

    param = Param("aggregated", "boolean", f"Aggregates of the last {window // 1000} seconds instead of the latest values.")
    return dataclasses.replace(latest, handler=exposed, params=(*latest.params, param))
