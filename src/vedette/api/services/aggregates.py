"""The access layer's `GET /metrics?aggregated=true`: each series over the last window as a few gauges.

A counter gives `_avg` (its increase a minute) and `_sum` (its increase), a gauge `_avg`, `_sum`, `_min` and `_max` of its
samples, a histogram and a summary `_avg`, their average observation. The aggregated names are new ones, so nothing that is
exposed without `aggregated` changes its meaning. Not here: the latest values (`api.exposition`), whose endpoint this wraps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import orjson
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import finishing
from vedette.api.endpoint import Endpoint, Handler, Param
from vedette.api.exposition import FORMATS, spelling
from vedette.api.params import form_of
from vedette.api.params import matcher_sets as selector_sets
from vedette.api.prometheus import matchers_of
from vedette.api.services.settings import ServicesSettings
from vedette.api.services.shared import Backend, Kinds, choice_of, flag_of
from vedette.api.services.sparing import Sparing
from vedette.clock import now_ms
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import MetricMetadata, is_stale
from vedette.model.series import SeriesSet
from vedette.wire import exposition
from vedette.wire.escaping import Spell

Floats = NDArray[np.float64]

_PARTS = ("_sum", "_count")
_WORDS = {"avg": "Average", "sum": "Sum", "min": "Least", "max": "Greatest"}


@dataclass(slots=True)
class Exported:
    """What one tenant was answered since the start, and when last."""

    total: int = 0
    last_ms: int = 0


@dataclass(frozen=True, slots=True)
class Exports:
    """Answers of `/metrics`, by tenant."""

    tenants: dict[str, Exported] = field(default_factory=dict)

    def of(self, tenant: str) -> Exported:
        """One tenant's counts, to read and to count on."""
        return self.tenants.setdefault(tenant, Exported())

    @property
    def total(self) -> int:
        """Answers to all tenants."""
        return sum(one.total for one in self.tenants.values())


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One gauge that a window comes to."""

    labels: Labels
    value: float
    about: str


def increases(found: SeriesSet, begin: int) -> Floats:
    """How much each series rose from the last sample at or before `begin` (ms), or its first after it: float64[n], NaN for a single sample.

    A fall is a reset to 0, as `increase` takes it; nothing is extrapolated.
    """
    rows, times, values = samples_of(found)
    n = len(found)
    counts, before = np.bincount(rows, minlength=n), np.bincount(rows, times <= begin, minlength=n).astype(np.int64)
    skipped = np.maximum(before - 1, 0)
    first = np.cumsum(counts) - counts + skipped
    with np.errstate(invalid="ignore"):  # of two infinities; the series then has no number for its rise
        rises = np.diff(values)
    rises = np.where(rises < 0, values[1:], rises)
    inside = (rows[1:] == rows[:-1]) & (np.arange(len(rises)) >= first[rows[1:]])
    total = np.bincount(rows[1:][inside], rises[inside], minlength=n).astype(np.float64)
    return np.where(counts - skipped > 1, total, np.nan)


def extents(found: SeriesSet, begin: int) -> dict[str, Floats]:
    """`avg`, `sum`, `min` and `max` of each series' samples after `begin` (ms): float64[n] each, NaN where it has none."""
    rows, times, values = samples_of(found)
    rows, values = rows[times > begin], values[times > begin]
    n = len(found)
    counts = np.bincount(rows, minlength=n)
    filled = np.flatnonzero(counts)
    out = {name: np.full(n, np.nan) for name in ("avg", "sum", "min", "max")}
    if len(filled):
        starts = (np.cumsum(counts) - counts)[filled]
        with np.errstate(invalid="ignore"):
            out["sum"][filled] = np.add.reduceat(values, starts)
        out["avg"][filled] = out["sum"][filled] / counts[filled]
        out["min"][filled], out["max"][filled] = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    return out


def samples_of(found: SeriesSet) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """(row, time, value) of all samples but stale markers, in order of the rows and of time."""
    lo, hi = int(found.offsets[0]), int(found.offsets[-1])
    rows = np.repeat(np.arange(len(found), dtype=np.int64), np.diff(found.offsets))
    keep = ~is_stale(found.values[lo:hi])
    return rows[keep], found.timestamps[lo:hi][keep], found.values[lo:hi][keep]


def aggregated(found: SeriesSet, kinds: Kinds, window: tuple[int, int], types: Collection[str]) -> list[Aggregate]:
    """The aggregates of these types over a window (begin, end] in ms; `found` also holds the time before it, where rises begin."""
    begin, end = window
    risen, figures = increases(found, begin).tolist(), {name: values.tolist() for name, values in extents(found, begin).items()}
    minutes = (end - begin) / 60_000
    sums: dict[Labels, dict[str, float]] = {}
    out: list[Aggregate] = []
    for row in range(len(found)):
        labels = found.labels.row(row)
        metric, kind, rise = labels.metric, kinds.of(labels.metric), risen[row]
        if kind in ("histogram", "summary"):
            if metric.endswith(_PARTS) and rise == rise:
                base, _, part = metric.rpartition("_")
                sums.setdefault(labels.with_({METRIC_NAME: base}), {})[part] = rise
        elif kind == "counter":
            if rise == rise:
                out.append(_named(labels, "avg", rise / minutes, f"Average increase of {metric} per minute."))
                out.append(_named(labels, "sum", rise, f"Increase of {metric}."))
        elif figures["sum"][row] == figures["sum"][row]:
            out += [_named(labels, name, figures[name][row], f"{word} of the samples of {metric}.") for name, word in _WORDS.items()]
    for labels, parts in sums.items():
        if parts.get("count"):
            out.append(_named(labels, "avg", parts.get("sum", 0.0) / parts["count"], f"Average observation of {labels.metric}."))
    return [one for one in out if one.labels.metric.endswith(tuple(f"_{kind}" for kind in types))]


def _named(labels: Labels, suffix: str, value: float, about: str) -> Aggregate:
    return Aggregate(labels.with_({METRIC_NAME: f"{labels.metric}_{suffix}"}), value, about)


@dataclass(frozen=True, slots=True)
class Exporter:
    """`/metrics` with and without `aggregated`, counted; `latest` answers without. `window` in ms, `types` of `AGGREGATION_TYPES`."""

    backend: Backend
    latest: Handler
    exports: Exports
    window: int
    types: Collection[str]
    told: Sparing

    async def latest_values(self, request: Request) -> Response:
        """The latest values."""
        response = await self.latest(request)
        if response.status_code == 200:
            self._count(request)
            self.told.say("Metrics exported", action="export")
        return response

    async def aggregates(self, request: Request) -> Response:
        """The last window's aggregates."""
        form = await form_of(request)
        flag_of(form, "aggregated")
        shape = choice_of(form, "format", "prometheus", FORMATS)
        sets = selector_sets(form, matchers_of) or [[Matcher(METRIC_NAME, "!=", "")]]
        found = await self.backend.run(self._aggregates, self.backend.tenant_of(request.scope), sets)
        self._count(request)
        self.told.say("Aggregates exported", action="aggregation export", series=len(found))
        spell, media = spelling(request, FORMATS[shape])
        body = await (self.backend.run(_json, found) if shape == "json" else self.backend.run(_text, found, spell))
        return Response(exposition.as_openmetrics(body) if shape == "openmetrics" else body, media_type=media)

    def _count(self, request: Request) -> None:
        counts = self.exports.of(self.backend.tenant_of(request.scope))
        counts.total += 1
        counts.last_ms = now_ms(self.backend.clock)

    def _aggregates(self, tenant: str, sets: Sequence[Sequence[Matcher]]) -> list[Aggregate]:
        """Runs on a worker thread."""
        end = now_ms(self.backend.clock)
        kinds = Kinds(self.backend.storage.metadata(tenant))
        found: dict[Labels, Aggregate] = {}
        for matchers in sets:
            selected = self.backend.storage.select(tenant, matchers, end - 2 * self.window, end)
            found |= {one.labels: one for one in aggregated(selected, kinds, (end - self.window, end), self.types)}
        return list(found.values())


def _text(found: Sequence[Aggregate], spell: Spell) -> bytes:
    metadata = {one.labels.metric: MetricMetadata(one.labels.metric, "gauge", one.about) for one in found}
    return exposition.render([one.labels for one in found], [one.value for one in found], metadata=list(metadata.values()), spell=spell)


def _json(found: Sequence[Aggregate]) -> bytes:
    return orjson.dumps(
        {
            "metrics": [
                {"name": one.labels.metric, "type": "gauge", "labels": one.labels.without(METRIC_NAME).as_dict(), "value": one.value}
                for one in found
            ]
        }
    )


def endpoint(backend: Backend, latest: Endpoint, exports: Exports, *, settings: ServicesSettings, cors_origin: str) -> Endpoint:
    """`latest` (`/metrics`) with `aggregated`, every answer of it counted."""
    told = Sparing(backend.clock.monotonic)
    exporter = Exporter(backend, cast(Handler, latest.handler), exports, settings.aggregation_window, settings.aggregation_types, told)
    # The latest values are finished (compressed, with CORS headers) already.
    aggregates = finishing(backend.handled(exporter.aggregates), backend.run, cors_origin)

    async def exposed(request: Request) -> Response:
        wanted = request.query_params.get("aggregated", "").lower() not in ("", "0", "false")
        return await (aggregates if wanted else exporter.latest_values)(request)

    param = Param(
        "aggregated", "boolean", f"Aggregates of the last {settings.aggregation_window // 1000} seconds instead of the latest values."
    )
    return dataclasses.replace(latest, handler=exposed, params=(*latest.params, param))
