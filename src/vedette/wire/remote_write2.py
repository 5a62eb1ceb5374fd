"""Remote write 2.0 (`io.prometheus.write.v2.Request`): snappy-compressed protobuf with a table of symbols, to a columnar batch.

Everything here takes untrusted bytes and refuses with `BadInput` in memory bounded by the stated limit. Not here: HTTP; snappy
and version 1.0 (`remote_write.py`); native histograms (`native.py`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.kernels import remote_write as shared
from vedette.kernels import remote_write2 as kernel
from vedette.kernels import write_request2 as onward
from vedette.kernels.hashing import PROCESS_KEY
from vedette.model.exemplars import Exemplar
from vedette.model.histograms import Histogram
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import KeySpace, MetricMetadata, SampleBatch
from vedette.model.tenants import DEFAULT_TENANT
from vedette.wire import native
from vedette.wire.remote_write import MAX_BYTES, compress, decompress, extended, faults, fields

_TYPES = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "gaugehistogram": ("_bucket", "_gsum", "_gcount"), "summary": ("_sum", "_count")}
_FAULTS = faults() | {
    kernel.UTF8: "a symbol is not UTF-8 text",
    kernel.ODD: "the labels of a series are not pairs of symbols",
    kernel.RANGE: "a series names a symbol that is not there",
}
# Symbols are shared, so that a small request may name as much as it likes: its keys come to no more than this times its limit.
_KEYS_PER_BYTE = 4


CONTENT_TYPE = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
VERSION = "2.0.0"
"""What a request says that it is, in `Content-Type` and `X-Prometheus-Remote-Write-Version`."""


def remote_write2_keyspace(tenant: str = DEFAULT_TENANT) -> KeySpace:
    """A key space whose keys are the labels of a series in the order sent: name, 0xff, value, 0xff for each."""
    return KeySpace(tenant, parse_labels, resolve_many=_canonical_keys)


def _canonical_keys(
    buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    lengths = ends - starts
    offsets = np.zeros(len(starts) + 1, dtype=np.int64)
    if kernel.canonical_pairs(buffer, starts, ends) < 0:
        np.cumsum(lengths, out=offsets[1:])
        return buffer[np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)], offsets
    keys = [parse_labels(buffer[lo:hi].tobytes()).encode() for lo, hi in zip(starts.tolist(), ends.tolist(), strict=True)]
    np.cumsum([len(k) for k in keys], out=offsets[1:])
    return np.frombuffer(bytearray().join(keys), dtype=np.uint8), offsets


def parse_labels(key: bytes) -> Labels:
    """The label set of a key, sorted. Raises `BadInput` for an empty name, a label given twice, a series without a metric name."""
    texts = [part.decode() for part in key.split(b"\xff")[:-1]]
    pairs = list(zip(texts[::2], texts[1::2], strict=True))
    labels = Labels(sorted(pairs))
    where = f"series {str(labels)[:200]}"
    if key[:1] == b"\xff" and len(texts) == 2 and len(texts[1]) == 1 and (fault := ord(texts[1])) in (kernel.ODD, kernel.RANGE):
        raise BadInput(_FAULTS[fault], where="its labels_refs")
    if any(not name for name, _ in pairs):
        raise BadInput("a label of a series has an empty name", where=where)
    if len({name for name, _ in pairs}) < len(pairs):
        raise BadInput("a label of a series is given twice", where=where)
    if not labels.metric:
        raise BadInput("a series has no metric name", where=where, hint=f"expected a label {METRIC_NAME} that is not empty")
    return labels


def parse(body: bytes, keyspace: KeySpace, *, max_bytes: int = MAX_BYTES) -> SampleBatch:
    """The batch in a request's body. Raises `BadInput` naming the byte (of the decoded message) that is wrong."""
    return decode(decompress(body, max_bytes=max_bytes), keyspace, max_bytes=max_bytes)


def decode(data: NDArray[np.uint8], keyspace: KeySpace, *, max_bytes: int = MAX_BYTES) -> SampleBatch:
    """The batch in a request's message, of which `max_bytes` may come here. Raises `BadInput` as `parse` does."""
    # Typical requests fit at once; others are read again with more room.
    room, keys = len(data) // 24 + 64, 4 * len(data) + 1024
    most = max(_KEYS_PER_BYTE * max_bytes, 1024)
    while True:
        columns = _Columns.empty(room, min(keys, most))
        fault = columns.decode(data, keyspace)
        if fault == kernel.KEYS_FULL and keys < most:
            keys *= 4
        elif fault == shared.FULL:
            room *= 4
        else:
            break
    if fault == kernel.KEYS_FULL:
        raise BadInput(f"remote write: the labels come to more than {most} bytes", where="the request", hint="send fewer series at once")
    if fault != shared.OK:
        raise BadInput(f"remote write: {_FAULTS[fault]}", where=f"byte {columns.counts[shared.WHERE]} of the decoded message")
    return columns.batch(data, keyspace)


@dataclass(slots=True)
class _Columns:
    symbols: NDArray[np.int64]
    refs: NDArray[np.int64]
    keys: NDArray[np.uint8]
    key_end: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    bits: NDArray[np.uint64]
    starts: NDArray[np.int64]
    metadata: NDArray[np.int64]
    extras: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, room: int, keys: int) -> _Columns:
        i64, u64 = np.int64, np.uint64
        return cls(
            symbols=np.empty((room, 2), i64),
            refs=np.empty(room, i64),
            keys=np.empty(keys, np.uint8),
            key_end=np.empty(room, i64),
            hashes=np.empty((room, 2), u64),
            offsets=np.empty(room + 1, i64),
            timestamps=np.empty(room, i64),
            bits=np.empty(room, u64),
            # Not written to unless there are any, so that these pages are not even there.
            starts=np.zeros(room, i64),
            metadata=np.empty((room, 4), i64),
            extras=np.empty((room, 4), i64),
            counts=np.empty(9, i64),
        )

    def decode(self, data: NDArray[np.uint8], keyspace: KeySpace) -> int:
        outs = (self.symbols, self.refs, self.keys, self.key_end, self.hashes, self.offsets, self.timestamps, self.bits)
        return int(kernel.decode(data, np.uint64(keyspace.id), PROCESS_KEY, *outs, self.starts, self.metadata, self.extras, self.counts))

    def batch(self, data: NDArray[np.uint8], keyspace: KeySpace) -> SampleBatch:
        counts = self.counts
        rows, samples = int(counts[shared.SERIES]), int(counts[shared.SAMPLES])
        ends = self.key_end[:rows]
        batch = SampleBatch(
            keyspace=keyspace,
            buffer=self.keys[: int(counts[kernel.KEY_BYTES])],
            key_start=np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]]) if rows else ends,
            key_end=ends,
            hashes=self.hashes[:rows],
            offsets=self.offsets[: rows + 1],
            timestamps=self.timestamps[:samples],
            values=self.bits[:samples].view(np.float64),
            metadata=self._described(data),
            starts=self.starts[:samples] if self.counts[kernel.STARTS] else None,
        )
        extras = self.extras[: int(counts[shared.EXTRAS])]
        if not len(extras):
            return batch
        return extended(batch, data, extras, partial(self._exemplar, data), tags=(kernel.HISTOGRAM, kernel.EXEMPLAR))

    def _text(self, data: NDArray[np.uint8], symbol: int) -> str:
        if not 0 <= symbol < int(self.counts[kernel.SYMBOLS]):
            raise BadInput(f"remote write: {_FAULTS[kernel.RANGE]}", where=f"symbol {symbol}")
        lo, hi = self.symbols[symbol].tolist()
        return data[lo:hi].tobytes().decode()

    def _described(self, data: NDArray[np.uint8]) -> list[MetricMetadata]:
        """What the series say of their metrics, once each. A series that says nothing leaves what is known as it is."""
        rows = self.metadata[: int(self.counts[shared.METADATA])]
        found = {}
        for name, kind, help_text, unit in np.unique(rows, axis=0).tolist() if len(rows) else ():
            kind_name = _TYPES[kind] if 0 <= kind < len(_TYPES) else "unknown"
            about = MetricMetadata(
                _family(self._text(data, name), kind_name), kind_name, self._text(data, help_text), self._text(data, unit)
            )
            if about.type != "unknown" or about.help or about.unit:
                found[about.metric] = about
        return list(found.values())

    def _exemplar(self, data: NDArray[np.uint8], message: bytes, row: int, lo: int) -> Exemplar:
        refs: list[int] = []
        value, time = 0.0, 0
        for tag, content in fields(message):
            if tag == 0x0A and isinstance(content, bytes):
                room = np.empty(len(content), dtype=np.int64)
                count, fault = kernel.read_refs(np.frombuffer(bytearray(content), dtype=np.uint8), 0, len(content), room, 0)
                if fault != shared.OK:
                    raise BadInput(f"remote write: {_FAULTS[fault]}", where=f"exemplar at byte {lo} of the decoded message")
                refs += room[:count].tolist()
            elif tag == 0x08 and isinstance(content, int):
                refs.append(content)
            elif tag == 0x11 and isinstance(content, bytes):
                (value,) = struct.unpack("<d", content)
            elif tag == 0x18 and isinstance(content, int):
                time = content - (1 << 64) if content >= 1 << 63 else content
        if len(refs) % 2:
            raise BadInput("remote write: the labels of an exemplar are not pairs", where=f"byte {lo} of the decoded message")
        texts = [self._text(data, ref) for ref in refs]
        return Exemplar(row, Labels.from_pairs(zip(texts[::2], texts[1::2], strict=True)), value, time)


def from_first(body: bytes, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The body of a request of version 1.0 as one of 2.0, without exemplars. Raises `BadInput` for what is none."""
    data = decompress(body, max_bytes=max_bytes)
    n = len(data)
    texts = n // 3 + 2
    slots, spans = np.full(1 << (2 * texts).bit_length(), -1, dtype=np.int64), np.empty((texts, 2), dtype=np.int64)
    refs, out, sizes = np.empty(n + 2, dtype=np.int64), np.empty(8 * n + 64, dtype=np.uint8), np.zeros(2, dtype=np.int64)
    about, about_of = np.empty((n // 2 + 1, 3), dtype=np.int64), np.full(texts, -1, dtype=np.int64)
    fault = int(onward.transcode(data, PROCESS_KEY, slots, spans, refs, about, about_of, out, sizes))
    if fault != shared.OK:
        raise BadInput(f"remote write: {_FAULTS[fault]}", where="the message of version 1.0")
    raw = data.tobytes()
    symbols = b"".join(native.field(4, 2, raw[lo:hi]) for lo, hi in spans[: sizes[1]].tolist())
    return compress(symbols + out[: sizes[0]].tobytes())


def _family(metric: str, kind: str) -> str:
    for suffix in _SUFFIXES.get(kind, ()):
        if metric.endswith(suffix):
            return metric.removesuffix(suffix)
    return metric


def render(
    series: Sequence[Labels],
    offsets: Sequence[int],
    timestamps: Sequence[int],
    values: Sequence[float | Histogram],
    *,
    metadata: Sequence[MetricMetadata | None] = (),
    exemplars: Sequence[Exemplar] = (),
    starts: Sequence[int] = (),
) -> bytes:
    """The body of a request that holds these samples; series i owns `offsets[i]:offsets[i + 1]`, `metadata[i]` and its exemplars.

    `starts`, where given, are the start timestamps of all samples.
    """
    table: dict[str, int] = {"": 0}

    def refs(labels: Labels) -> bytes:
        return b"".join(native.varint(table.setdefault(text, len(table))) for pair in labels for text in pair)

    def ref(text: str) -> bytes:
        return native.varint(table.setdefault(text, len(table)))

    parts = []
    for i, labels in enumerate(series):
        content = native.field(1, 2, refs(labels))
        for j in range(offsets[i], offsets[i + 1]):
            value = values[j]
            if isinstance(value, Histogram):
                since = native.field(17, 0, native.varint(starts[j])) if starts and starts[j] else b""
                content += native.field(3, 2, native.render(value, timestamps[j]) + since)
            else:
                stamped = native.field(1, 1, struct.pack("<d", value)) + native.field(2, 0, native.varint(timestamps[j]))
                since = native.field(3, 0, native.varint(starts[j])) if starts and starts[j] else b""
                content += native.field(2, 2, stamped + since)
        for e in exemplars:
            if e.row == i:
                inner = native.field(1, 2, refs(e.labels)) + native.field(2, 1, struct.pack("<d", e.value))
                content += native.field(4, 2, inner + native.field(3, 0, native.varint(e.timestamp)))
        if metadata and (about := metadata[i]) is not None:
            told = native.field(1, 0, native.varint(_TYPES.index(about.type)))
            content += native.field(5, 2, told + native.field(3, 0, ref(about.help)) + native.field(4, 0, ref(about.unit)))
        parts.append(native.field(5, 2, content))
    return compress(b"".join([*(native.field(4, 2, text.encode()) for text in table), *parts]))
