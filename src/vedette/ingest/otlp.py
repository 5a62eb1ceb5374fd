"""OTLP metrics as Prometheus stores them: names, labels of resource and scope, `target_info`, histograms, start timestamps.

Sums and histograms must be cumulative; deltas are refused, point by point, and counted. Not here: reading the bytes
(`wire/otlp_metrics.py`), what things are called (`wire/otlp_names.py`), HTTP.
"""

from __future__ import annotations

import base64
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from vedette.ingest.settings import OtlpConfig
from vedette.model.exemplars import Exemplar
from vedette.model.histogram_arithmetic import coarsened
from vedette.model.histograms import CUSTOM_SCHEMA, NO_BUCKETS, Histogram, Layout
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import STALE, KeySpace, MetricMetadata, SampleBatch
from vedette.wire.otlp_metrics import Message
from vedette.wire.otlp_names import Kind, Names

CURE = "set OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=cumulative, or have a collector's deltatocumulative processor before it"
"""What to do about deltas."""
_CUMULATIVE = 2
_FINEST, _COARSEST = 8, -4
_THRESHOLD = 1e-128
"""The width of the zero bucket where a histogram does not say: as Prometheus has it."""
_IDENTIFYING = ("service.namespace", "service.name", "service.instance.id")
_INFO_EVERY_NS = 150 * 10**9
"""Half of PromQL's look-back: so that `target_info` is seen at all times between a request's first and last point."""
_MOST_INFO = 1000
_EXEMPLAR_LENGTH = 128


@dataclass(slots=True)
class Translated:
    """What a request comes to; `rejected` points are left out, by reason, `problem` says what is wrong with the first of them.

    `deltas` are the jobs and scopes that sent any.
    """

    batch: SampleBatch
    rejected: Counter[str]
    problem: str
    deltas: frozenset[tuple[str, str]]


def translated(request: Message, keyspace: KeySpace, config: OtlpConfig, now_ms: int) -> Translated:
    """The samples of a request, of `canonical` key space `keyspace`; a point without a time is of `now_ms`."""
    rows = _Rows(config, now_ms * 1_000_000)
    for resource in request.get("resourceMetrics", ()):
        rows.resource(resource)
    batch = SampleBatch.of(keyspace, rows.series, rows.times, rows.values, metadata=list(rows.metadata.values()))
    if any(rows.starts):
        batch.starts = np.array(rows.starts, dtype=np.int64)
    batch.exemplars = rows.exemplars
    batch.partial = True
    return Translated(batch, rows.rejected, rows.problem, frozenset(rows.deltas))


@dataclass(slots=True)
class _Rows:
    """What was read so far: a row one sample."""

    config: OtlpConfig
    now: int
    series: list[Labels] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[float | Histogram] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    exemplars: list[Exemplar] = field(default_factory=list)
    metadata: dict[str, MetricMetadata] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    problem: str = ""
    deltas: set[tuple[str, str]] = field(default_factory=set)
    names: Names = field(init=False)
    _base: dict[str, str] = field(init=False)
    _identity: dict[str, str] = field(init=False)
    _scope_name: str = ""
    _span: tuple[int, int] = (0, 0)
    _known: dict[tuple[int, ...], dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = self.config.names
        self._base, self._identity = {}, {}

    def resource(self, message: Message) -> None:
        """All metrics of a resource, and its `target_info`."""
        attributes = [(a.get("key", ""), a.get("value", {})) for a in message.get("resource", {}).get("attributes", ())]
        known = dict(attributes)
        self._identity = {}
        if "service.name" in known:
            space = _shown(known["service.namespace"]) + "/" if "service.namespace" in known else ""
            self._identity["job"] = space + _shown(known["service.name"])
        if "service.instance.id" in known:
            self._identity["instance"] = _shown(known["service.instance.id"])
        promoted = self._labels(self.config.promoted(attributes))
        self._span = (0, 0)
        for scope in message.get("scopeMetrics", ()):
            self._base, self._scope_name = promoted | self._scope(scope), scope.get("scope", {}).get("name", "")
            for metric in scope.get("metrics", ()):
                self._metric(metric)
        self._info(attributes)

    def _scope(self, message: Message) -> dict[str, str]:
        scope = message.get("scope", {})
        if not self.config.promote_scope_metadata or not scope.get("name"):
            return {}
        found = {"otel_scope_name": scope["name"], "otel_scope_version": scope.get("version", "")}
        found["otel_scope_schema_url"] = message.get("schemaUrl", "")
        for pair in scope.get("attributes", ()):
            found[self.names.label("otel_scope_" + pair.get("key", ""))] = _shown(pair.get("value", {}))
        return found

    def _info(self, attributes: list[tuple[str, Any]]) -> None:
        """`target_info`: what is known of the resource, at the times of its points."""
        first, last = self._span
        others = [(name, value) for name, value in attributes if name not in _IDENTIFYING]
        if not others or not self._identity or not last:
            return
        labels = self._labels(attributes if self.config.keep_identifying_resource_attributes else others)
        series = Labels.of(labels | self._identity | {METRIC_NAME: "target_info"})
        first = max(first, last - _MOST_INFO * _INFO_EVERY_NS)  # one wrong clock must not make a million samples
        for time in [*range(first, last, _INFO_EVERY_NS), last]:
            self._add(series, time, 1.0)
        self.metadata["target_info"] = MetricMetadata("target_info", "gauge", "Target metadata")

    def _labels(self, attributes: Sequence[tuple[str, Any]]) -> dict[str, str]:
        """Attributes as labels; of those that come to one name, all values."""
        found: dict[str, str] = {}
        for name, value in sorted(attributes, key=lambda pair: pair[0]):
            label, shown = self.names.label(name), _shown(value)
            if label:
                found[label] = f"{found[label]};{shown}" if label in found else shown
        return found

    def _metric(self, metric: Message) -> None:
        shape = next((s for s in ("gauge", "sum", "histogram", "exponentialHistogram", "summary") if s in metric), "")
        if not shape:
            return None
        data = metric[shape]
        points = data.get("dataPoints", ())
        kind: Kind = "gauge"
        if shape == "sum":
            kind = "counter" if data.get("isMonotonic") else "sum"
        elif shape != "gauge":
            kind = "summary" if shape == "summary" else "histogram"
        name = self.names.metric(metric.get("name", ""), metric.get("unit", ""), kind)
        if not name:
            return self._reject("no_name", len(points), "a metric without a name")
        if shape in ("sum", "histogram", "exponentialHistogram") and data.get("aggregationTemporality", 0) != _CUMULATIVE:
            problem = f"invalid temporality and type combination for metric {metric.get('name', '')!r}: only cumulative ones are taken"
            self.deltas.add((self._identity.get("job", ""), self._scope_name))
            return self._reject("delta", len(points), f"{problem} ({CURE})")
        if not points:
            return None
        told = MetricMetadata(name, "gauge" if kind == "sum" else kind, metric.get("description", ""), metric.get("unit", ""))
        self.metadata[name] = told
        for point in points:
            getattr(self, f"_{shape}")(name, point)
        return None

    def _reject(self, reason: str, points: int, problem: str) -> None:
        self.rejected[reason] += points
        self.problem = self.problem or problem

    def _point(self, point: Message) -> tuple[dict[str, str], int, int]:
        """(labels without the name, time, start) of a point, times in ns."""
        given = point.get("attributes", ())
        # Told by what it is, not by what it holds: a request's messages live as long as this does.
        key = tuple(map(id, given))
        labels = self._known.get(key)
        if labels is None:
            labels = self._known[key] = self._labels([(a.get("key", ""), a.get("value", {})) for a in given])
        time = point.get("timeUnixNano", 0) or self.now
        first, last = self._span
        self._span = min(first or time, time), max(last, time)
        return self._base | labels | self._identity, time, point.get("startTimeUnixNano", 0)

    def _add(self, series: Labels, time: int, value: float | Histogram, start: int = 0) -> int:
        self.series.append(series)
        self.times.append(time // 1_000_000)
        self.values.append(value)
        self.starts.append(start // 1_000_000)
        return len(self.series) - 1

    def _gauge(self, name: str, point: Message) -> None:
        labels, time, _ = self._point(point)
        self._add(Labels.of({**labels, METRIC_NAME: name}), time, _number(point))

    def _sum(self, name: str, point: Message) -> None:
        labels, time, start = self._point(point)
        row = self._add(Labels.of({**labels, METRIC_NAME: name}), time, _number(point), start)
        self.exemplars += _exemplars(point, lambda _: row)

    def _summary(self, name: str, point: Message) -> None:
        labels, time, start = self._point(point)
        stale = _stale(point)
        self._add(Labels.of({**labels, METRIC_NAME: f"{name}_sum"}), time, STALE if stale else point.get("sum", 0.0), start)
        self._add(Labels.of({**labels, METRIC_NAME: f"{name}_count"}), time, STALE if stale else float(point.get("count", 0)), start)
        for one in point.get("quantileValues", ()):
            series = Labels.of({**labels, METRIC_NAME: name, "quantile": _real(one.get("quantile", 0.0))})
            self._add(series, time, STALE if stale else one.get("value", 0.0), start)

    def _histogram(self, name: str, point: Message) -> None:
        counts, bounds = point.get("bucketCounts", []), point.get("explicitBounds", [])
        if len(counts) not in (0, len(bounds) + 1) or any(not a < b for a, b in itertools.pairwise(bounds)):
            return self._reject("bad_histogram", 1, f"a histogram of {name!r} whose buckets do not fit its bounds")
        if self.config.convert_histograms_to_nhcb:
            return self._custom(name, point, counts, bounds)
        labels, time, start = self._point(point)
        stale = _stale(point)
        if "sum" in point:
            self._add(Labels.of({**labels, METRIC_NAME: f"{name}_sum"}), time, STALE if stale else point["sum"], start)
        count = STALE if stale else float(point.get("count", 0))
        self._add(Labels.of({**labels, METRIC_NAME: f"{name}_count"}), time, count, start)
        total, rows = 0, []
        for bound, number in zip(bounds, counts, strict=False):
            total += number
            series = Labels.of({**labels, METRIC_NAME: f"{name}_bucket", "le": _real(bound)})
            rows.append(self._add(series, time, STALE if stale else float(total), start))
        rows.append(self._add(Labels.of({**labels, METRIC_NAME: f"{name}_bucket", "le": "+Inf"}), time, count, start))
        edges = np.array(bounds)
        self.exemplars += _exemplars(point, lambda value: rows[min(int(np.searchsorted(edges, value)), len(rows) - 1)])
        return None

    def _custom(self, name: str, point: Message, counts: list[int], bounds: list[float]) -> None:
        """A histogram with bounds as a native one."""
        used = np.flatnonzero(counts).astype(np.int32)
        layout = Layout(CUSTOM_SCHEMA, 0.0, tuple(bounds), used, NO_BUCKETS)
        self._native(name, point, layout, [0.0, *(float(counts[i]) for i in used.tolist())])

    def _exponentialHistogram(self, name: str, point: Message) -> None:  # noqa: N802 - as the field is called
        scale = point.get("scale", 0)
        if scale < _COARSEST:
            return self._reject("bad_histogram", 1, f"an exponential histogram of {name!r} of scale {scale}; at least {_COARSEST} is taken")
        try:
            positive, own = _buckets(point.get("positive", {}))
            negative, others = _buckets(point.get("negative", {}))
        except OverflowError:
            return self._reject("bad_histogram", 1, f"an exponential histogram of {name!r} whose buckets are beyond what there is")
        threshold = point.get("zeroThreshold", 0.0) or _THRESHOLD
        layout = Layout(scale, threshold, (), positive, negative)
        return self._native(name, point, layout, [float(point.get("zeroCount", 0)), *own, *others])

    def _native(self, name: str, point: Message, layout: Layout, cells: list[float]) -> None:
        labels, time, start = self._point(point)
        if _stale(point):
            h = Histogram(layout, np.array([STALE, STALE, *cells]))
        else:
            h = Histogram(layout, np.array([float(point.get("count", 0)), point.get("sum", 0.0), *cells]))
            if abs(math.fsum(cells) - h.count) > 1e-9 * h.count and not math.isnan(h.sum):
                return self._reject("bad_histogram", 1, f"a histogram of {name!r} counts {h.count:g}, and its buckets {math.fsum(cells):g}")
        if layout.schema > _FINEST:
            h = coarsened(h, _FINEST)
        row = self._add(Labels.of({**labels, METRIC_NAME: name}), time, h, start)
        self.exemplars += _exemplars(point, lambda _: row)
        return None


def _buckets(message: Message) -> tuple[NDArray[np.int32], list[float]]:
    """(indices, counts) of the buckets that are not empty. Raises `OverflowError` for one beyond int32."""
    counts = message.get("bucketCounts", [])
    # OTLP's bucket i lies above base**i, that of the same number here below it.
    first = message.get("offset", 0) + 1
    used = [i for i, count in enumerate(counts) if count]
    if used and (first + used[0] < -(1 << 31) or first + used[-1] >= 1 << 31):
        raise OverflowError
    return np.array([first + i for i in used], dtype=np.int32), [float(counts[i]) for i in used]


def _stale(point: Message) -> bool:
    """Whether a point says that there is no value."""
    return bool(point.get("flags", 0) & 1)


def _number(point: Message) -> float:
    return STALE if _stale(point) else float(point["asDouble"] if "asDouble" in point else point.get("asInt", 0))


def _exemplars(point: Message, row_of: Any) -> Iterator[Exemplar]:
    """A point's exemplars; attributes that were filtered out stay as long as there is room."""
    for one in point.get("exemplars", ()):
        pairs = [(name, one[key].hex()) for name, key in (("trace_id", "traceId"), ("span_id", "spanId")) if one.get(key)]
        others = [(a.get("key", ""), _shown(a.get("value", {}))) for a in one.get("filteredAttributes", ())]
        if sum(len(n) + len(v) for n, v in (*pairs, *others)) <= _EXEMPLAR_LENGTH:
            pairs += others
        value = float(one["asDouble"] if "asDouble" in one else one.get("asInt", 0))
        yield Exemplar(row_of(value), Labels.of(dict(pairs)), value, one.get("timeUnixNano", 0) // 1_000_000)


def _shown(value: Message) -> str:
    """An attribute's value as a label has it."""
    plain = _plain(value)
    if isinstance(plain, str):
        return plain
    return "" if plain is None else orjson.dumps(plain).decode()


def _plain(value: Message) -> Any:
    for key, content in value.items():
        if key == "arrayValue":
            return [_plain(item) for item in content.get("values", ())]
        if key == "kvlistValue":
            return {pair.get("key", ""): _plain(pair.get("value", {})) for pair in content.get("values", ())}
        if key == "bytesValue":
            return base64.b64encode(content).decode()
        if key == "doubleValue":
            return (
                _real(content) if not math.isfinite(content) else int(content) if content.is_integer() and abs(content) < 1e21 else content
            )
        return content
    return None


def _real(value: float) -> str:
    """A float as Go's `strconv.FormatFloat(v, 'f', -1, 64)` writes it."""
    if not math.isfinite(value):
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
    return np.format_float_positional(value, trim="-")
