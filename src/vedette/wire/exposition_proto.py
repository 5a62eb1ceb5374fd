"""Protobuf exposition (`io.prometheus.client.MetricFamily`, delimited) to a `SampleBatch`: classic series, native histograms, exemplars.
And last samples as such an exposition (`render`), as another server federates them.

Keys are those of the text format (`name{a="b"}`), so that a series keeps its name whatever its target speaks. One Python step a
message (6 µs a series that is known), which text is spared, and so asked for only where native histograms are wanted. Not here: HTTP,
relabelling.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from vedette.errors import BadInput
from vedette.kernels.hashing import hash_regions
from vedette.model.exemplars import Exemplar
from vedette.model.histograms import GAUGE, Histogram, Histograms
from vedette.model.labels import METRIC_NAME, Labels, is_legacy_label_name, is_legacy_metric_name, quote
from vedette.model.samples import KeySpace, MetricMetadata, SampleBatch
from vedette.wire import native
from vedette.wire.exposition import Exposition, format_value
from vedette.wire.remote_write import Field, fields

MEDIA_TYPE = "application/vnd.google.protobuf"
"""What a target says that it sends, with `proto=io.prometheus.client.MetricFamily` and `encoding=delimited`."""

_TYPES = ("counter", "gauge", "summary", "unknown", "histogram", "gaugehistogram")
_MOST_KNOWN = 200_000
_COUNTER, _GAUGE, _SUMMARY, _UNTYPED, _HISTOGRAM, _GAUGE_HISTOGRAM = range(6)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of a histogram that has both forms: `native` takes the native one, `classic` then the classic series as well.

    `limited` changes the native histograms before they are stored; it may raise `BadInput`.
    """

    native: bool = False
    classic: bool = False
    limited: Callable[[Histograms], Histograms] | None = None


@dataclass(slots=True)
class _Rows:
    """What was read so far: a row one sample; `messages` are native histograms, whose rows are `native_rows`."""

    keys: list[bytes] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    times: list[int | None] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    native_rows: list[int] = field(default_factory=list)
    gauges: list[bool] = field(default_factory=list)
    exemplars: list[Exemplar] = field(default_factory=list)
    metadata: list[MetricMetadata] = field(default_factory=list)
    known: dict[bytes, list[str]] = field(default_factory=dict)
    """The labels, as keys have them, of what metrics begin with."""

    def add(self, key: str, value: float, time: int | None, start: int = 0) -> int:
        self.keys.append(key.encode())
        self.values.append(value)
        self.times.append(time)
        self.starts.append(start)
        return len(self.keys) - 1


def parse(
    body: bytes,
    keyspace: KeySpace,
    now_ms: int,
    *,
    wanted: Wanted,
    honor_timestamps: bool = True,
    metadata_known: int | None = None,
    known: dict[bytes, list[str]] | None = None,
) -> Exposition:
    """The samples of an exposition, as `exposition.parse` answers them. `known` remembers label sets from one to the next.

    Raises `BadInput` for bytes that are no such messages, and for a native histogram that cannot be.
    """
    if known is not None and len(known) > _MOST_KNOWN:
        known.clear()
    rows = _Rows(known={} if known is None else known)
    for message in _delimited(body):
        _family(message, rows, wanted)
    times = [now_ms if t is None or not honor_timestamps else t for t in rows.times]
    ends = np.cumsum([len(k) for k in rows.keys], dtype=np.int64)
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]]) if len(ends) else ends
    buffer = np.frombuffer(bytearray().join(rows.keys), dtype=np.uint8)
    explicit = np.array([t is not None and honor_timestamps for t in rows.times], dtype=np.bool_)
    metadata_hash = zlib.crc32(repr(rows.metadata).encode())
    batch = SampleBatch(
        keyspace=keyspace,
        buffer=buffer,
        key_start=starts,
        key_end=ends,
        hashes=hash_regions(buffer, starts, ends, np.uint64(keyspace.id)),
        offsets=np.arange(len(rows.keys) + 1, dtype=np.int64),
        timestamps=np.array(times, dtype=np.int64),
        values=np.array(rows.values, dtype=np.float64),
        metadata=() if metadata_hash == metadata_known else rows.metadata,
        exemplars=[e if e.timestamp else e._replace(timestamp=times[e.row]) for e in rows.exemplars],
        starts=np.array(rows.starts, dtype=np.int64) if any(rows.starts) else None,
    )
    if rows.messages:
        batch.histograms = _histograms(rows, wanted)
        batch.values[batch.histograms.at] = batch.histograms.sums
    return Exposition(batch, explicit, metadata_hash)


def _delimited(body: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        size, shift, begin = 0, 0, at
        while True:
            if at >= len(body) or shift > 35:
                raise BadInput("protobuf exposition: a message without its length", where=f"byte {begin}")
            byte = body[at]
            size |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                break
        if size > len(body) - at:
            raise BadInput("protobuf exposition: the body ends inside a message", where=f"byte {begin}")
        yield body[at : at + size]
        at += size


def _histograms(rows: _Rows, wanted: Wanted) -> Histograms:
    ends = np.cumsum([len(m) for m in rows.messages], dtype=np.int64)
    places = np.stack([np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]]), ends], axis=1)
    data = np.frombuffer(bytearray().join(rows.messages), dtype=np.uint8)
    decoded = native.decode(data, np.ascontiguousarray(places), native.EXPOSITION)
    for number, problem in decoded.faults:
        raise BadInput(f"native histogram: {problem}", where=f"series {rows.keys[rows.native_rows[number]].decode()}")
    found = decoded.columns
    found.hints[np.array(rows.gauges, dtype=np.bool_)] = GAUGE
    found = Histograms(np.array(rows.native_rows), found.layouts, found.layout, found.offsets, found.cells, found.hints)
    return found if wanted.limited is None else wanted.limited(found)


def _family(message: bytes, rows: _Rows, wanted: Wanted) -> None:
    name, help_text, kind, unit = "", "", 0, ""
    metrics: list[bytes] = []
    for tag, content in fields(message):
        if tag == 0x22 and isinstance(content, bytes):
            metrics.append(content)
        elif tag == 0x0A:
            name = _text(content)
        elif tag == 0x12:
            help_text = _text(content)
        elif tag == 0x18 and isinstance(content, int):
            kind = content
        elif tag == 0x2A:
            unit = _text(content)
    if not name:
        raise BadInput("protobuf exposition: a metric family without a name", where=f"help {help_text[:60]!r}")
    kind = kind if 0 <= kind < len(_TYPES) else _UNTYPED
    rows.metadata.append(MetricMetadata(name, _TYPES[kind], help_text, unit))
    for metric in metrics:
        _metric(name, kind, metric, rows, wanted)


_VALUES = {_COUNTER: 0x1A, _GAUGE: 0x12, _SUMMARY: 0x22, _UNTYPED: 0x2A, _HISTOGRAM: 0x3A, _GAUGE_HISTOGRAM: 0x3A}
"""The field of a metric that holds its value, for each type."""


def _metric(name: str, kind: int, message: bytes, rows: _Rows, wanted: Wanted) -> None:
    labels, at = _labels(message, rows.known)
    content = b""
    time: int | None = None
    for tag, value in fields(message[at:]):
        if tag == 0x0A:
            labels = [*labels, "{}={}".format(*_pair(value))]
        elif tag == _VALUES[kind] and isinstance(value, bytes):
            content = value
        elif tag == 0x30 and isinstance(value, int):
            time = value - (1 << 64) if value >= 1 << 63 else value
    if kind == _SUMMARY:
        _summary(name, labels, content, time, rows)
    elif kind in (_HISTOGRAM, _GAUGE_HISTOGRAM):
        _histogram(name, labels, content, time, rows, wanted, gauge=kind == _GAUGE_HISTOGRAM)
    else:
        number = 0.0
        exemplar, start = b"", 0
        for tag, value in fields(content):
            if tag == 0x09:
                number = _real(value)
            elif tag == 0x12 and kind == _COUNTER and isinstance(value, bytes):
                exemplar = value
            elif tag == 0x1A and kind == _COUNTER:
                start = _stamp(value)
        row = rows.add(_key(name, labels), number, time, start)
        if exemplar:
            rows.exemplars.append(_exemplar(exemplar, row))


def _labels(message: bytes, known: dict[bytes, list[str]]) -> tuple[list[str], int]:
    """The labels that a metric begins with, and where they end. They change far less often than values."""
    at, end = 0, len(message)
    while end - at >= 2 and message[at] == 0x0A and message[at + 1] < 0x80 and message[at + 1] + 2 <= end - at:
        at += 2 + message[at + 1]
    prefix = message[:at]
    found = known.get(prefix)
    if found is None:
        found = known[prefix] = ["{}={}".format(*_pair(value)) for _, value in fields(prefix)]
    return found, at


def _key(name: str, labels: list[str]) -> str:
    if is_legacy_metric_name(name):
        return f"{name}{{{','.join(labels)}}}" if labels else name
    return f"{{{','.join([quote(name), *labels])}}}"


def _pair(content: int | bytes) -> tuple[str, str]:
    """A label pair's name and value, as a key has them."""
    name = value = ""
    for tag, text in _message(content):
        if tag == 0x0A:
            name = _text(text)
        elif tag == 0x12:
            value = _text(text)
    if not name:
        raise BadInput("protobuf exposition: a label without a name", where=f"value {value[:60]!r}")
    return name if is_legacy_label_name(name) else quote(name), quote(value)


def _bound(value: float) -> str:
    """A bucket's bound or a quantile as OpenMetrics writes it: whole numbers with a fraction."""
    text = format_value(value)
    return text if not math.isfinite(value) or any(c in text for c in ".e") else text + ".0"


def _summary(name: str, labels: list[str], message: bytes, time: int | None, rows: _Rows) -> None:
    count, total = 0.0, 0.0
    found = fields(message)
    start = _created(found, _SUMMARY_CREATED)
    for tag, value in found:
        if tag == 0x08:
            count = float(_whole(value))
        elif tag == 0x11:
            total = _real(value)
        elif tag == 0x1A:
            quantile, number = 0.0, 0.0
            for inner, part in _message(value):
                if inner == 0x09:
                    quantile = _real(part)
                elif inner == 0x11:
                    number = _real(part)
            rows.add(_key(name, [*labels, f'quantile="{_bound(quantile)}"']), number, time, start)
    rows.add(_key(f"{name}_sum", labels), total, time, start)
    rows.add(_key(f"{name}_count", labels), count, time, start)


_NATIVE = frozenset((0x31, 0x41, 0x4A, 0x62))
"""The fields by which a histogram is a native one: zero bucket's threshold and counts, spans."""

_EXEMPLARS = 16 << 3 | 2
_SUMMARY_CREATED, _HISTOGRAM_CREATED = 4 << 3 | 2, 15 << 3 | 2


def _created(found: list[Field], tag: int) -> int:
    """The start timestamp (ms) among a message's fields, 0 where there is none."""
    return next((_stamp(content) for at, content in found if at == tag), 0)


def _stamp(content: int | bytes) -> int:
    """A Timestamp message as ms."""
    time = 0
    for tag, part in _message(content):
        if tag == 0x08:
            time += _whole(part) * 1000
        elif tag == 0x10:
            time += _whole(part) // 1_000_000
    return time


def _histogram(name: str, labels: list[str], message: bytes, time: int | None, rows: _Rows, wanted: Wanted, *, gauge: bool) -> None:
    found = fields(message)
    if wanted.native and any((tag in _NATIVE and content != bytes(8)) or (tag == 0x38 and content) for tag, content in found):
        row = rows.add(_key(name, labels), 0.0, time, 0 if gauge else _created(found, _HISTOGRAM_CREATED))
        rows.messages.append(message)
        rows.native_rows.append(row)
        rows.gauges.append(gauge)
        own = [c for tag, c in found if tag == _EXEMPLARS and isinstance(c, bytes)]
        of_buckets = (part for tag, c in found if tag == 0x1A for inner, part in _message(c) if inner == 0x1A)
        rows.exemplars += [_exemplar(c, row) for c in own or of_buckets if isinstance(c, bytes)]
        if not wanted.classic or not any(tag == 0x1A for tag, _ in found):
            return
    _classic(name, labels, found, time, rows, start=0 if gauge else _created(found, _HISTOGRAM_CREATED))


def _classic(name: str, labels: list[str], found: list[Field], time: int | None, rows: _Rows, *, start: int) -> None:
    count, total, infinite = 0.0, 0.0, False
    for tag, value in found:
        if tag == 0x08:
            count = count or float(_whole(value))
        elif tag == 0x21:
            count = _real(value) or count
        elif tag == 0x11:
            total = _real(value)
        elif tag == 0x1A:
            bound, number, exemplar = 0.0, 0.0, b""
            for inner, part in _message(value):
                if inner == 0x08:
                    number = number or float(_whole(part))
                elif inner == 0x21:
                    number = _real(part) or number
                elif inner == 0x11:
                    bound = _real(part)
                elif inner == 0x1A and isinstance(part, bytes):
                    exemplar = part
            infinite = infinite or bound == math.inf
            row = rows.add(_key(f"{name}_bucket", [*labels, f'le="{_bound(bound)}"']), number, time, start)
            if exemplar:
                rows.exemplars.append(_exemplar(exemplar, row))
    if not infinite:
        rows.add(_key(f"{name}_bucket", [*labels, 'le="+Inf"']), count, time, start)
    rows.add(_key(f"{name}_sum", labels), total, time, start)
    rows.add(_key(f"{name}_count", labels), count, time, start)


def _exemplar(message: bytes, row: int) -> Exemplar:
    pairs: list[tuple[str, str]] = []
    value, time = 0.0, 0
    for tag, content in fields(message):
        if tag == 0x0A:
            name = text = ""
            for inner, part in _message(content):
                if inner == 0x0A:
                    name = _text(part)
                elif inner == 0x12:
                    text = _text(part)
            pairs.append((name, text))
        elif tag == 0x11:
            value = _real(content)
        elif tag == 0x1A:
            time = _stamp(content)
    return Exemplar(row, Labels.from_pairs(pairs), value, time)


# What a field's tag says it is, it is: a varint came as an int, anything else as bytes, of a float64 eight.


def _message(content: int | bytes) -> list[Field]:
    assert isinstance(content, bytes)
    return fields(content)


def _text(content: int | bytes) -> str:
    assert isinstance(content, bytes)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadInput("protobuf exposition: a text is not UTF-8", where=repr(content[:60])) from error


def _real(content: int | bytes) -> float:
    assert isinstance(content, bytes)
    (value,) = struct.unpack("<d", content)
    return float(value)


def _whole(content: int | bytes) -> int:
    assert isinstance(content, int)
    return content - (1 << 64) if content >= 1 << 63 else content


class Latest(NamedTuple):
    """A series' last sample, and its time (ms)."""

    value: float | Histogram
    time: int


def render(series: Sequence[tuple[Labels, Latest]]) -> bytes:
    """The exposition of series with their last samples, those of one metric in a row: floats untyped, histograms with counts in floats.

    Histograms with custom buckets are classic ones here, since the format has no others.
    """
    families: dict[tuple[str, int], list[bytes]] = {}
    for labels, (value, time) in series:
        kind, own = _UNTYPED, b""
        if isinstance(value, Histogram):
            kind = _GAUGE_HISTOGRAM if value.hint == GAUGE else _HISTOGRAM
            own = native.field(7, 2, _bounded(value) if value.layout.custom else _exponential(value))
        else:
            own = native.field(5, 2, _double(1, value))
        pairs = b"".join(
            native.field(1, 2, native.field(1, 2, n.encode()) + native.field(2, 2, v.encode())) for n, v in labels if n != METRIC_NAME
        )
        families.setdefault((labels.metric, kind), []).append(native.field(4, 2, pairs + own + native.field(6, 0, native.varint(time))))
    out = []
    for (metric, kind), metrics in families.items():
        body = native.field(1, 2, metric.encode()) + native.field(3, 0, native.varint(kind)) + b"".join(metrics)
        out.append(native.varint(len(body)) + body)
    return b"".join(out)


def _double(number: int, value: float) -> bytes:
    return native.field(number, 1, struct.pack("<d", value))


def _exponential(h: Histogram) -> bytes:
    layout = h.layout
    parts = [_double(4, h.count), _double(2, h.sum), native.field(5, 0, native.zigzag(layout.schema)), _double(6, layout.threshold)]
    parts.append(_double(8, h.zero_count))
    for spans, counts, indices, values in ((9, 11, layout.negative, h.negative), (12, 14, layout.positive, h.positive)):
        parts += [
            native.field(spans, 2, native.field(1, 0, native.zigzag(o)) + native.field(2, 0, native.varint(n)))
            for o, n in native.spans(indices)
        ]
        if len(values):
            parts.append(native.field(counts, 2, np.asarray(values, dtype="<f8").tobytes()))
    if not len(layout.positive) and not len(layout.negative) and not layout.threshold:
        # So that it is not taken for a classic one: as client libraries mark a native histogram of nothing.
        parts.append(native.field(12, 2, native.field(1, 0, b"\x00") + native.field(2, 0, b"\x00")))
    return b"".join(parts)


def _bounded(h: Histogram) -> bytes:
    counts = np.zeros(len(h.layout.bounds) + 1)
    counts[h.layout.positive] = h.positive
    buckets = zip([*h.layout.bounds, math.inf], np.cumsum(counts).tolist(), strict=True)
    inner = b"".join(native.field(3, 2, _double(4, total) + _double(2, bound)) for bound, total in buckets)
    return _double(4, h.count) + _double(2, h.sum) + inner
