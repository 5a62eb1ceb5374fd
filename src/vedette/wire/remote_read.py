"""Prometheus' remote read: snappy-compressed `ReadRequest`s in, `ReadResponse`s of raw samples out.

Answers are of type SAMPLES, which every reader takes; chunks are Prometheus' own and are not made. Not here: HTTP, storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.kernels import write_request as kernel
from vedette.model.histograms import Histogram
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, MatchOp
from vedette.model.series import SeriesSet
from vedette.wire import native
from vedette.wire.remote_write import compress, decompress, fields, time_series

MAX_BYTES = 4 << 20
"""The limit on a request's decoded size."""

_OPS: tuple[MatchOp, ...] = ("=", "!=", "=~", "!~")
_SAMPLES = 0


@dataclass(frozen=True, slots=True)
class ReadQuery:
    """All samples in [start, end] (ms) of the series that pass `matchers`."""

    start: int
    end: int
    matchers: tuple[Matcher, ...]


def parse(body: bytes) -> list[ReadQuery]:
    """The queries of a request. Raises `BadInput` for bytes that are none, and where none but chunks are accepted."""
    found: list[ReadQuery] = []
    accepted: list[int | bytes] = []
    for tag, content in fields(decompress(body, max_bytes=MAX_BYTES).tobytes()):
        if tag == 0x0A and isinstance(content, bytes):
            found.append(_query(content, len(found)))
        elif tag == 0x10:
            accepted.append(content)
        elif tag == 0x12 and isinstance(content, bytes):
            accepted += content  # packed; types are below 128
    if accepted and _SAMPLES not in accepted:
        raise BadInput("server does not support any of the requested response types", hint="accept SAMPLES")
    return found


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


def render(results: Sequence[SeriesSet], external: Mapping[str, str]) -> bytes:
    """The body that answers with `results`, one a query, series in order of their labels.

    `external` labels are added to series that have none of their name.
    """
    return compress(b"".join(native.field(1, 2, _result(found, external)) for found in results))


def _result(found: SeriesSet, external: Mapping[str, str]) -> bytes:
    labels = [Labels.of({**external, **row.as_dict()}) for row in found.labels]
    order = sorted((row for row in range(len(labels)) if found.offsets[row] < found.offsets[row + 1]), key=labels.__getitem__)
    own = {} if found.histograms is None else {int(at): found.histograms.sample(j) for j, at in enumerate(found.histograms.at)}
    rows = np.searchsorted(found.offsets, np.array(sorted(own), dtype=np.int64), side="right") - 1
    mixed = set(rows.tolist())
    parts: list[bytes] = []
    run: list[int] = []
    for row in order:
        if row not in mixed:
            run.append(row)
            continue
        parts += [_floats(found, labels, run), _mixed(found, labels[row], row, own)]
        run = []
    return b"".join([*parts, _floats(found, labels, run)])


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
