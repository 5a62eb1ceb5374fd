"""Prometheus remote write 1.0: snappy-compressed protobuf, to a columnar batch and back.

Everything here takes untrusted bytes and refuses with `BadInput` in memory bounded by the stated limit. Label sets
are parsed and checked only when storage first meets their bytes (`remote_write_keyspace`). Native histograms are read in
`native.py`, version 2.0 of the protocol in `remote_write2.py`. Not here: HTTP, tenants' tokens, storage.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import cramjam
import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.kernels import remote_write as kernel
from vedette.kernels.hashing import PROCESS_KEY
from vedette.model.exemplars import Exemplar
from vedette.model.histograms import Histogram
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import KeySpace, MetricMetadata, SampleBatch
from vedette.model.tenants import DEFAULT_TENANT
from vedette.wire import native

MAX_BYTES = 64 << 20
"""The default limit on a request's decoded size."""

_TYPES = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")
_FAULTS = {
    kernel.TRUNCATED: "the message ends before a field does",
    kernel.VARINT: "a varint of more than ten bytes",
    kernel.WIRE_TYPE: "an unknown wire type",
    kernel.SPLIT_LABELS: "a series' labels do not stand together",
    kernel.FIELD_ZERO: "not a valid field number",
}
# No snappy element makes more than 64 bytes of three, so what claims more than this lies.
_MAX_RATIO = 22


def remote_write_keyspace(tenant: str = DEFAULT_TENANT) -> KeySpace:
    """A key space whose keys are the label fields of a `TimeSeries`, as they stand on the wire."""
    return KeySpace(tenant, parse_labels, resolve_many=_canonical_keys)


def _canonical_keys(
    buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Many label regions to canonical keys at once; what a kernel refuses, `parse_labels` explains."""
    out, offsets = np.empty(int((ends - starts).sum()), dtype=np.uint8), np.empty(len(starts) + 1, dtype=np.int64)
    bad = int(kernel.canonical_keys(buffer, starts, ends, out, offsets))
    if bad >= 0:
        _explain(buffer, int(starts[bad]), int(ends[bad]))
    return out[: offsets[-1]], offsets


def _explain(data: NDArray[np.uint8], lo: int, hi: int) -> NoReturn:
    """Raise what is wrong with a label region that a kernel refused."""
    try:
        parse_labels(data[lo:hi].tobytes())
    except BadInput as error:
        where = f"{error.where}, at byte {lo} of the decoded message"
        raise BadInput(error.problem, where=where, hint=error.hint) from None
    raise AssertionError("a kernel refused a label set that is valid")


def parse(body: bytes, keyspace: KeySpace, *, max_bytes: int = MAX_BYTES) -> SampleBatch:
    """The batch in a request's body. Raises `BadInput` naming the byte (of the decoded message) that is wrong."""
    return decode(decompress(body, max_bytes=max_bytes), keyspace, max_bytes=max_bytes)


def decode(data: NDArray[np.uint8], keyspace: KeySpace, *, max_bytes: int = MAX_BYTES) -> SampleBatch:
    """The batch in a request's message, of which `max_bytes` may come here. Raises `BadInput` as `parse` does."""
    assert len(data) <= max_bytes, "`decompress` refuses what is larger"
    # Typical requests fit at once (a series of several labels, a sample of 16 bytes); others are read again with more room.
    rows, samples, metas, extras = len(data) // 64 + 64, len(data) // 14 + 64, len(data) // 512 + 64, 64
    while True:
        columns = _Columns.empty(rows, samples, metas, extras)
        fault = columns.decode(data, keyspace)
        if fault != kernel.FULL:
            break
        rows, samples, metas, extras = rows * 4, samples * 4, metas * 8, extras * 64
    counts = columns.counts
    if fault != kernel.OK:
        raise BadInput(f"remote write: {_FAULTS[fault]}", where=f"byte {counts[kernel.WHERE]} of the decoded message")
    batch = columns.batch(data, keyspace)
    if counts[kernel.EXTRAS]:
        batch = extended(
            batch, batch.buffer, columns.extras[: int(counts[kernel.EXTRAS])], _exemplar, tags=(kernel.HISTOGRAM, kernel.EXEMPLAR)
        )
    if counts[kernel.SHORT_KEY]:
        _leave_out(batch, data, counts)
    return batch


def _leave_out(batch: SampleBatch, data: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
    """Note what was left out of a batch since its keys are too short. Raises `BadInput` where there is nothing else."""
    try:
        _explain(data, int(counts[kernel.SHORT_START]), int(counts[kernel.SHORT_END]))
    except BadInput as error:
        if not batch.series_count:
            raise
        batch.bad_series, batch.bad_series_samples = int(counts[kernel.SHORT_KEY]), int(counts[kernel.SHORT_SAMPLES])
        batch.problem = batch.problem or str(error)


def extended(
    batch: SampleBatch,
    data: NDArray[np.uint8],
    extras: NDArray[np.int64],
    exemplar: Callable[[bytes, int, int], Exemplar],
    *,
    tags: tuple[int, int],
) -> SampleBatch:
    """The batch with its native histograms and exemplars, which lie in `data` where the kernels' rows of `extras` say.

    `exemplar` reads one: (its message, its row, where in `data` it is); `tags` say which are histograms, and which exemplars. Raises
    `BadInput`.
    """
    places = extras[extras[:, 0] == tags[0]]
    decoded = native.decode(data, np.ascontiguousarray(places[:, 2:]), native.REMOTE_WRITE)

    def named(i: int) -> str:
        row = int(places[i, 1])
        try:
            return str(batch.keyspace.resolve(batch.buffer[batch.key_start[row] : batch.key_end[row]].tobytes()))
        except BadInput as error:  # its sender hears of that, too
            return f"a series that is not valid ({error})"

    longer, rows = native.with_histograms(batch, places[:, 1], decoded, named)
    found = extras[extras[:, 0] == tags[1]].tolist()
    longer.exemplars = [exemplar(data[lo:hi].tobytes(), int(rows[row]), lo) for _, row, lo, hi in found]
    return longer


def _exemplar(message: bytes, row: int, offset: int) -> Exemplar:
    pairs: list[tuple[str, str]] = []
    value, time = 0.0, 0
    try:
        for tag, content in fields(message):
            if tag == 0x0A and isinstance(content, bytes):
                pairs.append(_parse_label(content, len(pairs)))
            elif tag == 0x11 and isinstance(content, bytes):
                (value,) = struct.unpack("<d", content)
            elif tag == 0x18 and isinstance(content, int):
                time = content - (1 << 64) if content >= 1 << 63 else content
    except BadInput as error:
        raise BadInput(error.problem, where=f"exemplar at byte {offset} of the decoded message, {error.where}") from None
    return Exemplar(row, Labels.from_pairs(pairs), value, time)


def decompress(body: bytes, *, max_bytes: int = MAX_BYTES) -> NDArray[np.uint8]:
    """The content of a snappy block. The size it declares is checked before anything is allocated. Raises `BadInput`."""
    declared, at = _declared_size(body)
    if declared > max_bytes:
        raise BadInput(f"snappy: declares {declared} bytes", where="byte 0", hint=f"at most {max_bytes} bytes are taken in one request")
    if declared > len(body) * _MAX_RATIO:
        raise BadInput(f"snappy: declares {declared} bytes, more than {len(body)} can hold", where="byte 0")
    out = np.empty(declared, dtype=np.uint8)
    if declared == 0:
        if len(body) > at:
            raise BadInput("snappy: bytes after the end", where=f"byte {at}")
        return out
    try:
        written = cramjam.snappy.decompress_raw_into(body, out.data)
    except cramjam.DecompressionError as error:
        raise BadInput(f"snappy: {error}", where="the body") from None
    if written != declared:
        raise BadInput(f"snappy: {written} bytes where {declared} are declared", where="byte 0")
    return out


def _declared_size(body: bytes) -> tuple[int, int]:
    size = 0
    for i, byte in enumerate(body[:5]):
        size |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return size, i + 1
    where = f"byte {min(len(body), 5)}"
    if len(body) < 5:
        raise BadInput("snappy: the body ends inside its length", where=where, hint="remote write bodies are snappy blocks")
    raise BadInput("snappy: not a length", where=where, hint="remote write bodies are snappy blocks, without framing")


@dataclass(slots=True)
class _Columns:
    key_start: NDArray[np.int64]
    key_end: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    bits: NDArray[np.uint64]
    meta_spans: NDArray[np.int64]
    extras: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, rows: int, samples: int, metas: int, extras: int) -> _Columns:
        i64, u64 = np.int64, np.uint64
        return cls(
            key_start=np.empty(rows, i64),
            key_end=np.empty(rows, i64),
            hashes=np.empty((rows, 2), u64),
            offsets=np.empty(rows + 1, i64),
            timestamps=np.empty(samples, i64),
            bits=np.empty(samples, u64),
            meta_spans=np.empty((metas, 2), i64),
            extras=np.empty((extras, 4), i64),
            counts=np.empty(9, i64),
        )

    def decode(self, data: NDArray[np.uint8], keyspace: KeySpace) -> int:
        outs = (self.key_start, self.key_end, self.hashes, self.offsets, self.timestamps, self.bits, self.meta_spans, self.extras)
        return int(kernel.decode(data, np.uint64(keyspace.id), PROCESS_KEY, *outs, self.counts))

    def batch(self, data: NDArray[np.uint8], keyspace: KeySpace) -> SampleBatch:
        rows, samples = int(self.counts[kernel.SERIES]), int(self.counts[kernel.SAMPLES])
        spans = self.meta_spans[: int(self.counts[kernel.METADATA])].tolist()
        return SampleBatch(
            keyspace=keyspace,
            buffer=data,
            key_start=self.key_start[:rows],
            key_end=self.key_end[:rows],
            hashes=self.hashes[:rows],
            offsets=self.offsets[: rows + 1],
            timestamps=self.timestamps[:samples],
            values=self.bits[:samples].view(np.float64),
            metadata=[_parse_metadata(data[lo:hi].tobytes(), lo) for lo, hi in spans],
        )


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise BadInput(f"remote write: {_FAULTS[kernel.TRUNCATED]}", where=f"byte {at} of the message")
        value |= (message[at] & 0x7F) << shift
        at += 1
        if message[at - 1] < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise BadInput(f"remote write: {_FAULTS[kernel.VARINT]}", where=f"byte {at} of the message")


Field = tuple[int, int | bytes]
"""A field's tag and its content: an int for varints, bytes for the rest."""


def fields(message: bytes) -> list[Field]:
    """(tag, content) of each field of a message: an int for varints, bytes for the rest. Raises `BadInput`."""
    found: list[Field] = []
    at = 0
    end = len(message)
    while at < end:
        begin = at
        # Nearly every tag and every length is one byte.
        tag = message[at]
        if 8 <= tag < 0x80:
            at += 1
            if tag & 7 == 2 and at < end and (size := message[at]) < 0x80 and size < end - at:
                found.append((tag, message[at + 1 : at + 1 + size]))
                at += 1 + size
                continue
        else:
            tag, at = _read_varint(message, at)
        kind = tag & 7
        if tag < 8 or tag > 0xFFFFFFFF:
            raise BadInput(f"remote write: {_FAULTS[kernel.FIELD_ZERO]}", where=f"byte {begin} of the message")
        if kind == 0:
            value, at = _read_varint(message, at)
            found.append((tag, value))
            continue
        if kind not in (1, 2, 5):
            raise BadInput(f"remote write: {_FAULTS[kernel.WIRE_TYPE]}", where=f"byte {begin} of the message")
        size, at = _read_varint(message, at) if kind == 2 else (8 if kind == 1 else 4, at)
        if size > len(message) - at:
            raise BadInput(f"remote write: {_FAULTS[kernel.TRUNCATED]}", where=f"byte {at} of the message")
        found.append((tag, message[at : at + size]))
        at += size
    return found


def _text(content: int | bytes, what: str) -> str:
    assert isinstance(content, bytes)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{what} is not UTF-8 text", where=f"byte {error.start} of it") from None


def parse_labels(key: bytes) -> Labels:
    """The label set in a series' label fields, empty values left out.

    Raises `BadInput` for labels out of order or repeated, an empty or missing name, and bytes that are not UTF-8.
    """
    pairs: list[tuple[str, str]] = []
    previous: str | None = None
    for number, (tag, content) in enumerate(fields(key)):
        assert tag == 0x0A and isinstance(content, bytes), "a label region holds labels only"
        name, value = _parse_label(content, number)
        if not name:
            raise BadInput(f"label {number} of a series has an empty name", where=f"value {value[:60]!r}")
        if previous is not None and name <= previous:
            problem = f"label {name!r} is given twice" if name == previous else f"labels out of order: {name!r} after {previous!r}"
            raise BadInput(problem, where=_shown(pairs), hint="remote write wants labels sorted by name, each once")
        previous = name
        if value:
            pairs.append((name, value))
    labels = Labels(pairs)
    if not labels.metric:
        raise BadInput("a series has no metric name", where=_shown(pairs), hint=f"expected a label {METRIC_NAME} that is not empty")
    return labels


def _parse_label(message: bytes, number: int) -> tuple[str, str]:
    # As every sender writes it, both texts short: 0a n name 12 m value.
    if len(message) > 2 and message[0] == 0x0A and (n := message[1]) < 0x80 and len(message) > n + 3 and message[n + 2] == 0x12:
        m = message[n + 3]
        if m < 0x80 and len(message) == n + 4 + m:
            return _text(message[2 : n + 2], f"the name of label {number}"), _text(message[n + 4 :], f"the value of label {number}")
    name = value = ""
    for tag, content in fields(message):
        if tag == 0x0A:
            name = _text(content, f"the name of label {number}")
        elif tag == 0x12:
            value = _text(content, f"the value of label {name!r}")
    return name, value


def _shown(pairs: Sequence[tuple[str, str]]) -> str:
    text = str(Labels(pairs))
    return f"series {text if len(text) <= 200 else text[:200] + '…'}"


def _parse_metadata(message: bytes, offset: int) -> MetricMetadata:
    kind, metric, help_text, unit = 0, "", "", ""
    try:
        for tag, content in fields(message):
            if tag == 0x08:
                assert isinstance(content, int)
                kind = content
            elif tag == 0x12:
                metric = _text(content, "a metadata's metric name")
            elif tag == 0x22:
                help_text = _text(content, "a metadata's help")
            elif tag == 0x2A:
                unit = _text(content, "a metadata's unit")
    except BadInput as error:
        raise BadInput(error.problem, where=f"metadata at byte {offset} of the decoded message, {error.where}") from None
    # A type that this version of the protocol does not know is a type we do not know.
    return MetricMetadata(metric, _TYPES[kind] if 0 <= kind < len(_TYPES) else "unknown", help_text, unit)


def _field(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + native.varint(len(content)) + content


def render_labels(labels: Labels) -> bytes:
    """A series' label fields: the key that `parse_labels` reads."""
    return b"".join(_field(0x0A, _field(0x0A, n.encode()) + _field(0x12, v.encode())) for n, v in labels)


def _sample(value: float | Histogram, time: int) -> bytes:
    if isinstance(value, Histogram):
        return _field(kernel.HISTOGRAM, native.render(value, time))
    return _field(0x12, b"\x09" + struct.pack("<d", value) + b"\x10" + native.varint(time))


def time_series(labels: Labels, samples: Sequence[tuple[int, float | Histogram]]) -> bytes:
    """The field of one `TimeSeries` with samples (ms, value), as requests and answers of remote read hold it."""
    return _field(0x0A, render_labels(labels) + b"".join(_sample(value, time) for time, value in samples))


def render(
    series: Sequence[Labels],
    offsets: Sequence[int] | NDArray[np.int64],
    timestamps: Sequence[int] | NDArray[np.int64],
    values: Sequence[float | Histogram] | NDArray[np.float64],
    *,
    metadata: Sequence[MetricMetadata] = (),
) -> bytes:
    """The body of a request that holds these samples; series i owns `offsets[i]:offsets[i + 1]`. One Python step a sample."""
    parts: list[bytes] = []
    for i, labels in enumerate(series):
        parts.append(time_series(labels, [(int(timestamps[j]), values[j]) for j in range(int(offsets[i]), int(offsets[i + 1]))]))
    for m in metadata:
        kind = _TYPES.index(m.type)
        texts = ((0x12, m.metric), (0x22, m.help), (0x2A, m.unit))
        content = b"\x08" + native.varint(kind) + b"".join(_field(tag, text.encode()) for tag, text in texts)
        parts.append(_field(0x1A, content))
    return compress(b"".join(parts))


def compress(message: bytes) -> bytes:
    """A message as the body of a request."""
    return bytes(cramjam.snappy.compress_raw(message))


def faults() -> dict[int, str]:
    """What the answers of kernels mean."""
    return dict(_FAULTS)
