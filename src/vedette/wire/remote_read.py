"""Prometheus' remote read: snappy-compressed `ReadRequest`s in; out `ReadResponse`s of raw samples (`render`), or a stream of chunks.

A stream (`STREAMED_XOR_CHUNKS`) is a frame a series: the length of a `ChunkedReadResponse`, its CRC-32C, itself. Native histograms are
chunks of their own kind (`histogram_chunks.py`). Not here: HTTP, storage, the bits of chunks (`kernels/xor_chunks.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.kernels import write_request as kernel
from vedette.kernels import xor_chunks
from vedette.model.histograms import Histogram
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, MatchOp
from vedette.model.series import SeriesSet
from vedette.wire import histogram_chunks, native
from vedette.wire.remote_write import compress, decompress, fields, time_series

MAX_BYTES = 4 << 20
"""The limit on a request's decoded size."""

_OPS: tuple[MatchOp, ...] = ("=", "!=", "=~", "!~")
SAMPLES, CHUNKS = 0, 1
"""The types of answers."""

_FRAME_BYTES = 1 << 20
"""A frame is no larger, nearly: a series of more chunks goes on in the next, as Prometheus has it by default."""

_RUN = 1 << 18
"""Samples that are written at a time: what is put in order beside them takes some 60 bytes of each."""

_XOR = 1


@dataclass(frozen=True, slots=True)
class ReadQuery:
    """All samples in [start, end] (ms) of the series that pass `matchers`."""

    start: int
    end: int
    matchers: tuple[Matcher, ...]


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """The queries, and the types of answers that the reader takes, in its order; never empty."""

    queries: list[ReadQuery]
    accepted: tuple[int, ...]


def parse(body: bytes) -> ReadRequest:
    """A request. Raises `BadInput` for bytes that are none, and where it accepts no answer that there is."""
    found: list[ReadQuery] = []
    accepted: list[int | bytes] = []
    for tag, content in fields(decompress(body, max_bytes=MAX_BYTES).tobytes()):
        if tag == 0x0A and isinstance(content, bytes):
            found.append(_query(content, len(found)))
        elif tag == 0x10:
            accepted.append(content)
        elif tag == 0x12 and isinstance(content, bytes):
            accepted += content  # packed; types are below 128
    known = tuple(int(kind) for kind in accepted if kind in (SAMPLES, CHUNKS))
    if accepted and not known:
        raise BadInput("server does not support any of the requested response types", hint="accept SAMPLES or STREAMED_XOR_CHUNKS")
    return ReadRequest(found, known or (SAMPLES,))


def _query(message: bytes, number: int) -> ReadQuery:
    start = end = 0
    matchers: list[Matcher] = []
    for tag, content in fields(message):
        if tag == 0x08:
            start = _signed(content)
        elif tag == 0x10:
            end = _signed(content)
        elif tag == 0x1A and isinstance(content, bytes):
            matchers.append(_matcher(content, f"query {number}, matcher {len(matchers)}"))
    return ReadQuery(start, end, tuple(matchers))


def _signed(content: int | bytes) -> int:
    assert isinstance(content, int), "the tag says so"
    return content - (1 << 64) if content >= 1 << 63 else content


def _matcher(message: bytes, where: str) -> Matcher:
    kind, name, value = 0, "", ""
    try:
        for tag, content in fields(message):
            if tag == 0x08 and isinstance(content, int):
                kind = content
            elif tag == 0x12 and isinstance(content, bytes):
                name = content.decode()
            elif tag == 0x1A and isinstance(content, bytes):
                value = content.decode()
    except UnicodeDecodeError as error:
        raise BadInput("a matcher is not UTF-8 text", where=where) from error
    if not 0 <= kind < len(_OPS):
        raise BadInput(f"unknown matcher type {kind}", where=where)
    return Matcher(name, _OPS[kind], value)


def render(results: Iterable[SeriesSet], external: Mapping[str, str]) -> bytes:
    """The body that answers with `results`, one a query, series in order of their labels; each is let go of once it is written.

    `external` labels are added to series that have none of their name.
    """
    parts: list[bytes] = []
    for found in results:
        written = _result(found, external)
        parts += [native.varint(1 << 3 | 2), native.varint(sum(map(len, written))), *written]
    # The parts are not needed beside what they make together: each is as large as what was read.
    whole = b"".join(parts)
    parts.clear()
    return compress(whole)


def frames(results: Iterable[SeriesSet], external: Mapping[str, str]) -> Iterator[bytes]:
    """The stream that answers with `results`: series in order of their labels.

    One is asked for when the one before is written.
    """
    for number, found in enumerate(results):
        index = native.field(2, 0, native.varint(number)) if number else b""
        labels, order = _ordered(found, external)
        for row in order:
            series = b"".join(native.field(1, 2, native.field(1, 2, n.encode()) + native.field(2, 2, v.encode())) for n, v in labels[row])
            for chunks in _chunks(found, row):
                yield _framed(native.field(1, 2, series + chunks) + index)


def _framed(message: bytes) -> bytes:
    crc = int(xor_chunks.crc32c(np.frombuffer(bytearray(message), dtype=np.uint8)))
    return native.varint(len(message)) + crc.to_bytes(4, "big") + message


def _chunks(found: SeriesSet, row: int) -> Iterator[bytes]:
    """The chunks of one series as fields of its message, a frame's worth at a time."""
    parts: list[bytes] = []
    size = 0
    for kind, first, last, data in _each_chunk(found, row):
        span = native.field(1, 0, native.varint(first)) + native.field(2, 0, native.varint(last))
        parts.append(native.field(2, 2, span + native.field(3, 0, native.varint(kind)) + native.field(4, 2, data)))
        size += len(parts[-1])
        if size >= _FRAME_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _each_chunk(found: SeriesSet, row: int) -> Iterator[tuple[int, int, int, bytes]]:
    """(kind, first ms, last ms, data) of each chunk of one series: floats and histograms have chunks of their own, in order of time."""
    lo, hi = int(found.offsets[row]), int(found.offsets[row + 1])
    # Copies, since kernels are compiled for arrays that are writable and in one piece.
    times, bits = found.timestamps[lo:hi].copy(), found.values[lo:hi].copy().view(np.int64)
    own = np.zeros(hi - lo, dtype=np.bool_)
    before = 0
    if found.histograms is not None:
        before, upto = np.searchsorted(found.histograms.at, [lo, hi]).tolist()
        own[found.histograms.at[before:upto] - lo] = True
    edges = [0, *(np.flatnonzero(own[1:] != own[:-1]) + 1).tolist(), hi - lo]
    for begin, end in itertools.pairwise(edges):
        now = times[begin:end]
        if found.histograms is not None and own[begin]:
            made, kind = histogram_chunks.chunks(found.histograms, slice(before, before + end - begin), now), histogram_chunks.ENCODING
            before += end - begin
        else:
            made, kind = _xor(now, bits[begin:end]), _XOR
        for first, last, data in made:
            yield kind, int(now[first]), int(now[last - 1]), data


def _xor(times: NDArray[np.int64], bits: NDArray[np.int64]) -> Iterator[tuple[int, int, bytes]]:
    """(first sample, the one after the last, data) of each chunk of floats, given as their bits."""
    firsts = np.arange(0, len(times), xor_chunks.CHUNK_SAMPLES)
    lasts = np.minimum(firsts + xor_chunks.CHUNK_SAMPLES, len(times))
    out, ends = np.zeros((len(times) + len(firsts)) * xor_chunks.MOST_BYTES, dtype=np.uint8), np.empty(len(firsts), dtype=np.int64)
    xor_chunks.encode(times, bits, firsts, lasts, out, ends)
    raw, start = out.tobytes(), 0
    for first, last, end in zip(firsts.tolist(), lasts.tolist(), ends.tolist(), strict=True):
        yield first, last, raw[start:end]
        start = end


def _ordered(found: SeriesSet, external: Mapping[str, str]) -> tuple[list[Labels], list[int]]:
    """(each row's labels with the external ones, the rows that have samples in the order of these)."""
    labels = [Labels.of({**external, **row.as_dict()}) for row in found.labels]
    return labels, sorted((row for row in range(len(labels)) if found.offsets[row] < found.offsets[row + 1]), key=labels.__getitem__)


def _result(found: SeriesSet, external: Mapping[str, str]) -> list[bytes]:
    """The `TimeSeries` of one query's result, in parts."""
    labels, order = _ordered(found, external)
    own = {} if found.histograms is None else {int(at): found.histograms.sample(j) for j, at in enumerate(found.histograms.at)}
    rows = np.searchsorted(found.offsets, np.array(sorted(own), dtype=np.int64), side="right") - 1
    mixed = set(rows.tolist())
    parts: list[bytes] = []
    run: list[int] = []
    samples = 0
    for row in order:
        if row not in mixed:
            run.append(row)
            samples += int(found.offsets[row + 1] - found.offsets[row])
            if samples >= _RUN:
                parts.append(_floats(found, labels, run))
                run, samples = [], 0
            continue
        parts += [_floats(found, labels, run), _mixed(found, labels[row], row, own)]
        run, samples = [], 0
    return [*parts, _floats(found, labels, run)]


def _mixed(found: SeriesSet, labels: Labels, row: int, own: Mapping[int, Histogram]) -> bytes:
    """One series that has native histograms."""
    span = range(int(found.offsets[row]), int(found.offsets[row + 1]))
    return time_series(labels, [(int(found.timestamps[j]), own.get(j, float(found.values[j]))) for j in span])


def _floats(found: SeriesSet, labels: Sequence[Labels], rows: Sequence[int]) -> bytes:
    """Series of floats, by a kernel."""
    if not rows:
        return b""
    keys = [labels[row].encode() for row in rows]
    key_offsets = np.cumsum([0, *(len(k) for k in keys)], dtype=np.int64)
    lengths = np.diff(found.offsets)[rows]
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    at = np.arange(offsets[-1]) + np.repeat(found.offsets[rows] - offsets[:-1], lengths)
    bits: NDArray[np.int64] = found.values[at].view(np.int64)
    columns = (
        np.frombuffer(bytearray().join(keys), dtype=np.uint8),
        key_offsets,
        np.arange(len(rows)),
        offsets,
        found.timestamps[at],
        bits,
    )
    out = np.empty(int(kernel.encode(*columns, np.empty(0, np.uint8))), dtype=np.uint8)
    kernel.encode(*columns, out)
    return out.tobytes()
