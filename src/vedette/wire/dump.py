"""Whole series as files of text, both ways and to the bit: CSV, OpenMetrics and Prometheus text with timestamps.

CSV has a column for each label, then `timestamp` (Unix milliseconds) and `value`; a label that is absent is an empty cell. The text
formats have a line a sample, behind the metric's HELP and TYPE where they are known. NaNs are spelled as `kernels/dump.py` says. What
`promtool tsdb dump` and `dump-openmetrics` print is read, too. Not here: Parquet (`storage/parquet.py`), files (`storage/export.py`).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.kernels import dump as kernel
from vedette.kernels.digits import SPARE
from vedette.model.histograms import Histograms
from vedette.model.labels import METRIC_NAME, Labels, is_legacy_metric_name, quote
from vedette.model.samples import MetricMetadata
from vedette.model.series import SeriesSet
from vedette.wire.exposition import exposition_keyspace, format_series, parse, parse_series

TextFormat = Literal["csv", "openmetrics", "prometheus"]
MEDIA: Mapping[TextFormat, str] = {
    "csv": "text/csv; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
    "prometheus": "text/plain; version=0.0.4; charset=utf-8",
}

_AT_ONCE = 1 << 16
_STAMP, _VALUE = "timestamp", "value"


@dataclass(frozen=True, slots=True)
class Run:
    """Samples of some series as they come out of a file: `offsets` int64[n + 1] into `times` (int64 ms) and `values` (float64)."""

    labels: Sequence[Labels]
    offsets: NDArray[np.int64]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    metadata: Sequence[MetricMetadata] = ()
    histograms: Histograms | None = None


def render(series: SeriesSet, form: TextFormat, *, metadata: Sequence[MetricMetadata] = ()) -> Iterator[bytes]:
    """A file, in pieces: series by their labels, samples by time. Native histograms are left out; see `histogram_count`."""
    series = without_histograms(series)
    rows = [series.labels.row(i) for i in range(len(series))]
    order = [i for i in sorted(range(len(rows)), key=rows.__getitem__) if series.offsets[i + 1] > series.offsets[i]]
    if form == "csv":
        names = [METRIC_NAME, *sorted({n for row in rows for n, _ in row if n != METRIC_NAME})]
        yield _cells([*names, _STAMP, _VALUE]) + b"\n"
        prefixes = [_cells([dict(rows[i]).get(n, "") for n in names]) + b"," for i in order]
        heads = [b""] * len(order)
    else:
        prefixes = [format_series(rows[i]).encode() + b" " for i in order]
        heads = _heads([rows[i] for i in order], metadata, form)
    lo = 0
    while lo < len(order):
        hi, samples = lo, 0
        while hi < len(order) and (hi == lo or samples < _AT_ONCE):
            samples += int(series.offsets[order[hi] + 1] - series.offsets[order[hi]])
            hi += 1
        yield from _pieces(series, order[lo:hi], heads[lo:hi], prefixes[lo:hi], form)
        lo = hi
    if form == "openmetrics":
        yield b"# EOF\n"


def histogram_count(series: SeriesSet) -> int:
    """How many samples are native histograms, for which no format here has room."""
    return 0 if series.histograms is None else len(series.histograms)


def histogram_metrics(series: SeriesSet) -> list[str]:
    """The metrics that these are of, sorted."""
    if series.histograms is None:
        return []
    rows = np.unique(np.searchsorted(series.offsets, series.histograms.at, side="right") - 1)
    return sorted({series.labels.row(row).metric for row in rows.tolist()})


def without_histograms(series: SeriesSet) -> SeriesSet:
    """The samples that are numbers."""
    if series.histograms is None or len(series.histograms) == 0:
        return series
    keep = np.ones(len(series.timestamps), dtype=np.bool_)
    keep[series.histograms.at] = False
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(keep, dtype=np.int64)])
    return SeriesSet(series.labels, before[series.offsets], series.timestamps[keep], series.values[keep])


def _cells(texts: Sequence[str]) -> bytes:
    out = io.StringIO()
    # With both in its line's end the writer puts quotes around either.
    csv.writer(out, lineterminator="\r\n").writerow(texts)
    return out.getvalue()[:-2].encode()


def _heads(rows: Sequence[Labels], metadata: Sequence[MetricMetadata], form: TextFormat) -> list[bytes]:
    """HELP and TYPE before the first series of each metric of which they are known."""
    known = {m.metric: m for m in metadata}
    told: set[str] = set()
    heads = []
    for row in rows:
        about = known.get(row.metric)
        if about is None or row.metric in told or (form == "openmetrics" and about.type in ("histogram", "summary", "gaugehistogram")):
            heads.append(b"")
            continue
        told.add(row.metric)
        heads.append(_head(about, form))
    return heads


def _head(about: MetricMetadata, form: TextFormat) -> bytes:
    kind, metric = about.type, about.metric
    if form == "openmetrics" and kind == "counter":
        # The family of a counter is named without its suffix; without one it is no counter to OpenMetrics.
        kind, metric = ("counter", metric.removesuffix("_total")) if metric.endswith("_total") else ("unknown", metric)
    elif form == "prometheus" and kind not in ("counter", "gauge", "histogram", "summary"):
        kind = "gauge" if kind in ("info", "stateset") else "untyped"
    elif form == "openmetrics" and kind in ("info", "stateset"):
        kind = "gauge"
    name = metric if is_legacy_metric_name(metric) else quote(metric)
    text = about.help.replace("\\", "\\\\").replace("\n", "\\n")
    if form == "openmetrics":
        text = text.replace('"', '\\"')
    return (f"# HELP {name} {text}\n".encode() if text else b"") + f"# TYPE {name} {kind}\n".encode()


def _pieces(series: SeriesSet, rows: Sequence[int], heads: Sequence[bytes], prefixes: Sequence[bytes], form: TextFormat) -> Iterator[bytes]:
    """The lines of `rows`: a piece for all, or several where a single series has too many samples for one."""
    spans = [(int(series.offsets[r]), int(series.offsets[r + 1])) for r in rows]
    if len(rows) > 1:
        yield _lines(series, spans, heads, prefixes, form)
        return
    (lo, hi), head = spans[0], list(heads)
    for at in range(lo, hi, _AT_ONCE):
        yield _lines(series, [(at, min(at + _AT_ONCE, hi))], head, prefixes, form)
        head = [b""]


def _lines(
    series: SeriesSet, spans: Sequence[tuple[int, int]], heads: Sequence[bytes], prefixes: Sequence[bytes], form: TextFormat
) -> bytes:
    times = np.concatenate([series.timestamps[lo:hi] for lo, hi in spans])
    values = np.concatenate([series.values[lo:hi] for lo, hi in spans])
    offsets = np.cumsum([0, *(hi - lo for lo, hi in spans)], dtype=np.int64)
    room = sum(len(p) * (hi - lo) for p, (lo, hi) in zip(prefixes, spans, strict=True)) + sum(map(len, heads))
    out = np.empty(room + kernel.LINE_BYTES * len(times), dtype=np.uint8)
    size = kernel.lines(*_joined(heads), *_joined(prefixes), offsets, times, values, form == "csv", form == "openmetrics", out)
    return out[:size].tobytes()


def _joined(texts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return np.frombuffer(bytearray().join([*texts, bytes(SPARE)]), dtype=np.uint8), np.cumsum([0, *map(len, texts)], dtype=np.int64)


class TextReader:
    """Reads a file of text piece by piece: each piece whole lines. `name` and the line stand in what is raised."""

    def __init__(self, name: str, *, openmetrics: bool) -> None:
        self._name = name
        self._openmetrics = openmetrics
        self._keyspace = exposition_keyspace("")
        self._known: dict[tuple[int, int], Labels] = {}
        self._line = 0

    def read(self, piece: bytes) -> Run:
        """Raises `BadInput` for the first line that cannot be read or has no timestamp."""
        body = piece
        if self._openmetrics and not piece.rstrip().endswith(b"# EOF"):
            body = piece + b"# EOF\n"  # the end is told once, in the last piece
        try:
            found = parse(body, self._keyspace, 0, openmetrics=self._openmetrics)
        except BadInput as error:
            raise self._placed(error) from None
        batch = found.batch
        if not found.explicit.all():
            line = self._line + piece.count(b"\n", 0, int(batch.key_start[np.flatnonzero(~found.explicit)[0]])) + 1
            raise BadInput("a sample without a timestamp", where=f"{self._name}: line {line}", hint="history needs to know when")
        self._line += piece.count(b"\n")
        if self._openmetrics:
            kernel.exact_times(batch.buffer, batch.key_end, batch.timestamps)
        _spelled(batch.values, batch.buffer, batch.key_end)
        _, first, which = np.unique(batch.hashes, axis=0, return_index=True, return_inverse=True)
        labels = [self._labels(batch.hashes[i], piece[batch.key_start[i] : batch.key_end[i]]) for i in first.tolist()]
        order = np.lexsort((batch.timestamps, which.reshape(-1)))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(which.reshape(-1), minlength=len(first)))]).astype(np.int64)
        return Run(labels, offsets, batch.timestamps[order], batch.values[order], batch.metadata)

    def skip(self, piece: bytes) -> None:
        """Pass over a piece that was read before."""
        self._line += piece.count(b"\n")

    def _labels(self, hashes: NDArray[np.uint64], key: bytes) -> Labels:
        at = (int(hashes[0]), int(hashes[1]))
        if at not in self._known:
            try:
                self._known[at] = parse_series(key)
            except BadInput as error:
                raise BadInput(error.problem, where=f"{self._name}: {error.where}", hint=error.hint) from None
        return self._known[at]

    def _placed(self, error: BadInput) -> BadInput:
        line, _, column = error.where.removeprefix("line ").partition(",")
        where = f"line {int(line) + self._line},{column}" if line.isdigit() else error.where
        return BadInput(error.problem, where=f"{self._name}: {where}", hint=error.hint)


def _spelled(values: NDArray[np.float64], buffer: NDArray[np.uint8], key_end: NDArray[np.int64]) -> None:
    """Give NaNs the bits that their spelling means."""
    bits = values.view(np.int64)
    for row in np.flatnonzero(np.isnan(values)).tolist():
        text = buffer[key_end[row] : key_end[row] + 64].tobytes().split(maxsplit=1)[0]
        bits[row] = kernel.SPELLED.get(text, kernel.TEXT_NAN)


class CsvReader:
    """Reads a CSV file piece by piece; the first piece has the header. The last two columns must be `timestamp` and `value`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._header: list[str] = []
        self._known: dict[tuple[str, ...], Labels] = {}
        self._line = 0

    def read(self, piece: bytes) -> Run:
        """Raises `BadInput` for the first row that cannot be read."""
        try:
            rows = csv.reader(io.StringIO(piece.decode("utf-8"), newline=""), strict=True)
            return self._run(rows)
        except UnicodeDecodeError as error:
            line = self._line + piece.count(b"\n", 0, error.start) + 1
            raise BadInput("not UTF-8 text", where=f"{self._name}: line {line}") from None
        except csv.Error as error:
            raise BadInput(f"not CSV: {error}", where=f"{self._name}: line {self._line + rows.line_num}") from None

    def skip(self, piece: bytes) -> None:
        """Pass over a piece that was read before, but for the header in it."""
        if not self._header:
            self._header = next(csv.reader(io.StringIO(piece.decode("utf-8", "replace"), newline="")), [])
        self._line += piece.count(b"\n")

    def _run(self, rows: Any) -> Run:
        if not self._header:
            self._header = next(rows, [])
            if self._header[-2:] != [_STAMP, _VALUE] or len(set(self._header[:-2])) != len(self._header) - 2:
                hint = "expected a column for each label, then timestamp and value"
                raise BadInput(f"not the header of samples: {','.join(self._header)[:200]!r}", where=f"{self._name}: line 1", hint=hint)
        samples: dict[Labels, tuple[list[int], list[float]]] = {}
        for row in rows:
            if not row:
                continue
            if len(row) != len(self._header):
                raise self._bad(rows, f"{len(row)} cells where the header has {len(self._header)}")
            times, values = samples.setdefault(self._labels(tuple(row[:-2])), ([], []))
            try:
                times.append(int(row[-2]))
                values.append(_value(row[-1]))
            except ValueError as error:
                raise self._bad(rows, str(error)) from None
        self._line += rows.line_num
        offsets = np.cumsum([0, *(len(t) for t, _ in samples.values())], dtype=np.int64)
        all_times = np.array([t for times, _ in samples.values() for t in times], dtype=np.int64)
        return Run(list(samples), offsets, all_times, _floats([v for _, values in samples.values() for v in values]))

    def _labels(self, cells: tuple[str, ...]) -> Labels:
        found = self._known.get(cells)
        if found is None:
            found = self._known[cells] = Labels.of(dict(zip(self._header, cells, strict=False)))
        return found

    def _bad(self, rows: Any, problem: str) -> BadInput:
        return BadInput(problem, where=f"{self._name}: line {self._line + rows.line_num}")


def _value(text: str) -> float:
    return _Nan(_nan_bits(text)) if text[:3].lower() == "nan" else float(text)


class _Nan(float):
    """A NaN that remembers its bits: Python may lose them on the way."""

    bits: int

    def __new__(cls, bits: int) -> _Nan:
        made = super().__new__(cls, math.nan)
        made.bits = bits
        return made


def _nan_bits(text: str) -> int:
    if text.startswith("nan(") and text.endswith(")") and len(text) == 21:
        bits = int(text[4:-1], 16)
        if not (bits & 0x7FF0000000000000 == 0x7FF0000000000000 and bits & 0xFFFFFFFFFFFFF):
            raise ValueError(f"{text} is not a NaN")
        return bits
    if len(text) != 3:
        raise ValueError(f"could not convert string to float: {text!r}")
    return kernel.SPELLED.get(text.encode(), kernel.TEXT_NAN)


def _floats(values: Sequence[float]) -> NDArray[np.float64]:
    out = np.array(values, dtype=np.float64)
    bits = out.view(np.uint64)
    for i in np.flatnonzero(np.isnan(out)).tolist():
        value = values[i]
        bits[i] = value.bits if isinstance(value, _Nan) else kernel.TEXT_NAN
    return out
