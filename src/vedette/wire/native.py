"""Native histograms as protobuf messages, to columns and back: remote write's and those of protobuf expositions.

A histogram that is well-formed and impossible (counts that do not add up, buckets without spans) is left out and named,
as Prometheus names it; bytes that are no message raise `BadInput`. Not here: the messages around histograms.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.kernels import native_wire as kernel
from vedette.kernels.hashing import PROCESS_KEY
from vedette.model.histogram_arithmetic import coarsened
from vedette.model.histograms import Histogram, Histograms, Layout
from vedette.model.samples import SampleBatch

_HIGHEST = 8
"""The finest schema that is kept: finer ones are brought to it."""


def _meanings(**numbers: int) -> NDArray[np.int64]:
    table = np.zeros(32, dtype=np.int64)
    for name, number in numbers.items():
        table[number] = getattr(kernel, name.upper())
    return table


REMOTE_WRITE = _meanings(
    count_int=1,
    count_float=2,
    sum=3,
    schema=4,
    threshold=5,
    zero_int=6,
    zero_float=7,
    hint=14,
    time=15,
    start=17,
    negative_spans=8,
    negative_deltas=9,
    negative_counts=10,
    positive_spans=11,
    positive_deltas=12,
    positive_counts=13,
    bounds=16,
)
"""The fields of `prometheus.Histogram` and `io.prometheus.write.v2.Histogram`."""

EXPOSITION = _meanings(
    count_int=1,
    sum=2,
    count_float=4,
    schema=5,
    threshold=6,
    zero_int=7,
    zero_float=8,
    negative_spans=9,
    negative_deltas=10,
    negative_counts=11,
    positive_spans=12,
    positive_deltas=13,
    positive_counts=14,
)
"""Those of `io.prometheus.client.Histogram`."""

_FAULTS = {
    kernel.BAD_SCHEMA: "schema {0}: histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, "
    "or -53 for custom buckets",
    kernel.CUSTOM_ZERO_COUNT: "custom buckets: must have zero count of 0",
    kernel.CUSTOM_ZERO_THRESHOLD: "custom buckets: must have zero threshold of 0",
    kernel.CUSTOM_NEGATIVE_SPANS: "custom buckets: must not have negative spans",
    kernel.CUSTOM_NEGATIVE_BUCKETS: "custom buckets: must not have negative buckets",
    kernel.BOUNDS_ORDER: "custom buckets: histogram custom bounds must be in strictly increasing order",
    kernel.BOUNDS_INFINITE: "custom buckets: histogram custom bounds must be finite",
    kernel.BOUNDS_NAN: "custom buckets: histogram custom bounds must not be NaN",
    kernel.BOUNDS_FEW: "custom buckets: only {0} custom bounds defined which is insufficient to cover total span length of {1}: "
    "histogram custom bounds are too few",
    kernel.EXPONENTIAL_BOUNDS: "histogram with exponential schema must not have custom bounds",
    kernel.NEGATIVE_SIDE_OFFSET: "negative side: span number {0} with offset {1}: histogram has a span whose offset is negative",
    kernel.POSITIVE_SIDE_OFFSET: "positive side: span number {0} with offset {1}: histogram has a span whose offset is negative",
    kernel.NEGATIVE_SIDE_BUCKETS: "negative side: spans need {0} buckets, have {1} buckets: "
    "histogram spans specify different number of buckets than provided",
    kernel.POSITIVE_SIDE_BUCKETS: "positive side: spans need {0} buckets, have {1} buckets: "
    "histogram spans specify different number of buckets than provided",
    kernel.NEGATIVE_SIDE_COUNT: "negative side: bucket number {0} has observation count of {2}: "
    "histogram has a bucket whose observation count is negative",
    kernel.POSITIVE_SIDE_COUNT: "positive side: bucket number {0} has observation count of {2}: "
    "histogram has a bucket whose observation count is negative",
    kernel.COUNT_SMALL: "{0} observations found in buckets, but the Count field is {1}: "
    "histogram's observation count should be at least the number of observations found in the buckets",
    kernel.COUNT_OTHER: "{0} observations found in buckets, but the Count field is {1}: "
    "histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)",
    kernel.NEGATIVE_COUNT: "observation count is {2}: histogram's observation count is negative",
    kernel.NEGATIVE_ZERO: "zero bucket has observation count of {2}: histogram has a bucket whose observation count is negative",
    kernel.INDEX_RANGE: "bucket index {0} does not fit 32 bits",
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """The good ones of some messages: message `which[j]` (int64[m], ascending) is histogram j of `columns`, at `times[j]` (ms).

    `faults` are (message, what is wrong) of the others; `starts` are start timestamps (ms), 0 where there is none.
    """

    which: NDArray[np.int64]
    times: NDArray[np.int64]
    starts: NDArray[np.int64]
    columns: Histograms
    faults: Sequence[tuple[int, str]] = ()


def decode(data: NDArray[np.uint8], places: NDArray[np.int64], meanings: NDArray[np.int64]) -> Decoded:
    """The histograms in the messages `data[places[i, 0]:places[i, 1]]` (int64[n, 2]).

    Raises `BadInput` where one of them is no message, saying at which byte of `data` it begins.
    """
    n, size = len(places), int((places[:, 1] - places[:, 0]).sum())
    heads, thresholds = np.empty((n, 10), dtype=np.int64), np.empty(n)
    cells, indices, bounds = np.empty(3 * n + size), np.empty(size, dtype=np.int32), np.empty(size // 8 + 1)
    ends, where = np.empty((n, 3), dtype=np.int64), np.zeros(1, dtype=np.int64)
    fault = int(
        kernel.decode_histograms(data, places, meanings, meanings is REMOTE_WRITE, heads, thresholds, cells, indices, bounds, ends, where)
    )
    if fault:
        raise BadInput("a native histogram is not well-formed", where=f"the message at byte {places[int(where[0]), 0]}")
    table, layout, firsts = np.full(1 << (2 * n).bit_length(), -1), np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int64)
    bits = (thresholds.view(np.uint64), indices, bounds.view(np.uint64))
    count = int(kernel.layouts(heads, *bits, ends, PROCESS_KEY, table, layout, firsts))
    found = tuple(_layout(heads[i], float(thresholds[i]), indices, bounds, ends[i]) for i in firsts[:count].tolist())
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), ends[:, 0]])
    columns = Histograms(np.arange(n), found, layout, offsets, cells[: offsets[-1]], heads[:, kernel.HINT_AT].astype(np.uint8))
    good = np.flatnonzero(heads[:, kernel.FAULT] == kernel.FINE)
    faults = [(i, _fault(heads[i], float(thresholds[i]))) for i in np.flatnonzero(heads[:, kernel.FAULT]).tolist()]
    if faults:
        columns = columns.take(good, np.arange(len(good)))
    if any(layout.schema > _HIGHEST for layout in found):
        columns = Histograms.of(columns.at, [_kept(columns.sample(j)) for j in range(len(columns))])
    return Decoded(good, heads[good, kernel.TIME_AT], heads[good, kernel.START_AT], columns, faults)


def _layout(
    head: NDArray[np.int64], threshold: float, indices: NDArray[np.int32], bounds: NDArray[np.float64], ends: NDArray[np.int64]
) -> Layout:
    positive, negative, edges = head[[kernel.POSITIVE_AT, kernel.NEGATIVE_AT, kernel.BOUNDS_AT]].tolist()
    own = indices[int(ends[1]) - positive - negative : int(ends[1])].copy()
    return Layout(
        int(head[kernel.SCHEMA_AT]), threshold, tuple(bounds[int(ends[2]) - edges : int(ends[2])].tolist()), own[:positive], own[positive:]
    )


def _fault(head: NDArray[np.int64], count: float) -> str:
    return _FAULTS[int(head[kernel.FAULT])].format(int(head[kernel.DETAIL]), int(head[kernel.OTHER]), repr(count).removesuffix(".0"))


def _kept(h: Histogram) -> Histogram:
    return coarsened(h, _HIGHEST).hinted(h.hint) if h.layout.schema > _HIGHEST else h


def varint(value: int) -> bytes:
    """A number as protobuf writes it; a negative one takes ten bytes."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> bytes:
    """A number as a sint field has it."""
    return varint((value << 1) ^ (value >> 63))


def spans(indices: NDArray[np.int32]) -> list[tuple[int, int]]:
    """(offset, length) of runs of indices, offsets being gaps after the first."""
    found: list[tuple[int, int]] = []
    after = 0
    for index in indices.tolist():
        if found and index == after:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((index - after if found else index, 1))
        after = index + 1
    return found


def render(h: Histogram, time: int, *, whole: bool | None = None) -> bytes:
    """The message of remote write for a histogram at `time` (ms).

    `whole` has it counted in integers, which its counts must then be; by default it is where they are.
    """
    layout = h.layout
    counts = np.delete(h.cells, 1)
    if whole is None:
        whole = bool((counts == np.floor(counts)).all() and (counts >= 0).all() and (counts < 2**53).all())
    out = [field(1, 0, varint(int(h.count))) if whole else field(2, 1, struct.pack("<d", h.count))]
    out += [field(3, 1, struct.pack("<d", h.sum)), field(4, 0, zigzag(layout.schema)), field(5, 1, struct.pack("<d", layout.threshold))]
    out.append(field(6, 0, varint(int(h.zero_count))) if whole else field(7, 1, struct.pack("<d", h.zero_count)))
    for first, indices, values in ((8, layout.negative, h.negative), (11, layout.positive, h.positive)):
        out += [field(first, 2, field(1, 0, zigzag(o)) + field(2, 0, varint(n))) for o, n in spans(indices)]
        if len(values) and whole:
            deltas = np.diff(values, prepend=0).astype(np.int64).tolist()
            out.append(field(first + 1, 2, b"".join(map(zigzag, deltas))))
        elif len(values):
            out.append(field(first + 2, 2, np.asarray(values, dtype="<f8").tobytes()))
    out += [field(14, 0, varint(h.hint)), field(15, 0, varint(time))]
    if layout.bounds:
        out.append(field(16, 2, np.array(layout.bounds, dtype="<f8").tobytes()))
    return b"".join(out)


def field(number: int, kind: int, content: bytes) -> bytes:
    """A field as protobuf writes it: `kind` is its wire type, `content` what follows (without its length)."""
    size = varint(len(content)) if kind == 2 else b""
    return varint(number << 3 | kind) + size + content


Named = Callable[[int], str]
"""What the series of a message is called."""


def with_histograms(batch: SampleBatch, rows: NDArray[np.int64], decoded: Decoded, named: Named) -> tuple[SampleBatch, NDArray[np.int64]]:
    """A batch with `decoded` histograms, of which message i belongs to row `rows[i]`; and what became of each row's number.

    A series with histograms has them in a row of their own, instead of an empty one.
    """
    empty = np.diff(batch.offsets) == 0
    concerned = np.zeros(batch.series_count, dtype=np.bool_)
    concerned[rows] = True
    kept = np.flatnonzero(~(empty & concerned))
    own, first = np.unique(rows[decoded.which], return_index=True)
    source = np.concatenate([kept, own])
    numbers = np.full(batch.series_count, -1, dtype=np.int64)
    numbers[own] = len(kept) + np.arange(len(own))
    numbers[kept] = np.arange(len(kept))
    samples, count = batch.sample_count, len(decoded.which)
    starts = batch.starts
    if starts is not None or decoded.starts.any():
        starts = np.concatenate([np.zeros(samples, dtype=np.int64) if starts is None else starts, decoded.starts])
    ends = samples + np.append(first[1:], count)[: len(own)]
    longer = replace(
        batch,
        key_start=batch.key_start[source],
        key_end=batch.key_end[source],
        hashes=batch.hashes[source],
        offsets=np.concatenate([batch.offsets[:1], batch.offsets[1:][kept], ends]),
        timestamps=np.concatenate([batch.timestamps, decoded.times]),
        values=np.concatenate([batch.values, decoded.columns.sums]),
        starts=starts,
        histograms=replace(decoded.columns, at=samples + np.arange(count)) if count else None,
        bad_histograms=len(decoded.faults),
        problem=_first_fault(decoded.faults, named),
    )
    return longer, numbers


def _first_fault(faults: Sequence[tuple[int, str]], named: Named) -> str:
    if not faults:
        return ""
    number, problem = faults[0]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"histogram of {named(number)}: {problem}{more}"
