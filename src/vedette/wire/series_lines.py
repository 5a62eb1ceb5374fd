"""VictoriaMetrics' JSON lines, both ways: a series a line, `{"metric":{"__name__":"up"},"values":[1],"timestamps":[1700000000000]}`.

A stale marker is `null`, as VictoriaMetrics writes it and reads it; other values that JSON has no number for are `"NaN"`, `"Infinity"`
and `"-Infinity"`. A series may stand in several lines. Not here: HTTP, native histograms, for which the format has no room.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from vedette.errors import BadInput
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import STALE, KeySpace, SampleBatch, is_stale
from vedette.model.series import SeriesSet
from vedette.wire.rows import Rows
from vedette.wire.told import SHOWN, Told

MEDIA = "application/stream+json; charset=utf-8"
MOST_LINE = 10 << 20
"""Bytes of a line: each of its values is an object for a moment."""
MOST_ROWS = 100_000
"""Samples in a line that is written, unless another number is asked for."""

_PIECE = 1 << 20
_INFINITE = ("Infinity", "infinity", "Inf", "inf")
_SPECIAL = {**dict.fromkeys(_INFINITE, math.inf), **dict.fromkeys((f"-{name}" for name in _INFINITE), -math.inf)}
_SPECIAL |= {"NaN": math.nan, "nan": math.nan, "null": STALE, "Null": STALE}


_BARE = re.compile(rb"(?<=[\[,])\+?(-?)(Inf|NaN)(?=[\],])")


class _Line(msgspec.Struct):
    metric: dict[str, str]
    values: list[float | str | None]
    timestamps: list[int]


_DECODER = msgspec.json.Decoder(_Line)


def parse(body: bytes, keyspace: KeySpace, told: Told, *, more: Mapping[str, str] | None = None, before: int = 0) -> Iterator[SampleBatch]:
    """The batches of a text, each of about a million samples at the most; `more` labels are laid over each series'.

    A line that cannot be read is left out and told; `before` lines of the text were read already. `keyspace` is a canonical one.
    """
    rows = Rows(keyspace)
    at, line = 0, before
    while at < len(body):
        end = body.find(b"\n", at)
        end = len(body) if end < 0 else end
        line += 1
        if end > at and not (text := body[at : min(end, at + MOST_LINE + 1)]).isspace():
            try:
                _add(rows, text, more or {})
                told.lines += 1
            except BadInput as error:
                told.bad(line, str(error), text[:SHOWN].decode("utf-8", "replace"))
            if len(rows) >= _PIECE:
                yield rows.batch()
                rows = Rows(keyspace)
        at = end + 1
    if len(rows):
        yield rows.batch()


def _add(rows: Rows, text: bytes, more: Mapping[str, str]) -> None:
    if len(text) > MOST_LINE:
        raise BadInput(f"the line is longer than {MOST_LINE} bytes", hint="a series may stand in several lines")
    line = _decoded(text)
    if len(line.values) != len(line.timestamps):
        raise BadInput(f"{len(line.values)} values and {len(line.timestamps)} timestamps")
    if not line.values:
        raise BadInput("no values")
    labels = line.metric | dict(more) if more else line.metric
    if not labels.get(METRIC_NAME):
        raise BadInput("no metric name", hint=f"expected {METRIC_NAME} in metric")
    if "" in labels:
        raise BadInput("a label without a name")
    rows.add(Labels.of(labels), line.timestamps, _numbers(line.values))


def _decoded(text: bytes) -> _Line:
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        head, found, values = text.partition(b'"values":')
        if found and _BARE.search(values):
            # Older VictoriaMetrics write infinities as JSON does not.
            return _decoded(head + b'"values" :' + _BARE.sub(rb'"\1\2"', values))
        raise BadInput(str(error) or "nested too deeply") from None


def _numbers(values: list[float | str | None]) -> Iterable[float]:
    """The values as numbers. Raises `BadInput` for a text that stands for none."""
    if set(map(type, values)) == {float}:
        return values  # type: ignore[return-value]  # no other values are there
    return [_number(value) for value in values]


def _number(value: float | str | None) -> float:
    if value is None:
        return STALE
    if isinstance(value, str):
        if value not in _SPECIAL:
            raise BadInput(f"not a value: {value!r}", hint="expected a number, null, or one of NaN, Infinity and -Infinity as a text")
        return _SPECIAL[value]
    return value


def render(series: SeriesSet, *, most_rows: int = MOST_ROWS) -> Iterator[bytes]:
    """The lines of series, in pieces, each sample in its series' order; native histograms must not be among them.

    What JSON has no number for stands in lines of its own: older VictoriaMetrics pass over a line that has any.
    """
    parts: list[bytes] = []
    size = 0
    odd = ~np.isfinite(series.values)
    for i, labels in enumerate(series.labels):
        head = b'{"metric":' + orjson.dumps(labels.as_dict()) + b',"values":'
        lo, hi = int(series.offsets[i]), int(series.offsets[i + 1])
        changes = (np.flatnonzero(odd[lo + 1 : hi] != odd[lo : hi - 1]) + lo + 1).tolist() if hi - lo > 1 else []
        for begin, end in itertools.pairwise([lo, *changes, hi]):
            for at in range(begin, end, most_rows):
                stop = min(at + most_rows, end)
                times = orjson.dumps(np.ascontiguousarray(series.timestamps[at:stop]), option=orjson.OPT_SERIALIZE_NUMPY)
                values = _odd(series.values[at:stop]) if odd[at] else _plain(series.values[at:stop])
                part = b"".join((head, values, b',"timestamps":', times, b"}\n"))
                parts.append(part)
                size += len(part)
                if size >= _PIECE:
                    yield b"".join(parts)
                    parts, size = [], 0
    if parts:
        yield b"".join(parts)


def _plain(values: NDArray[np.float64]) -> bytes:
    return orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)


def _odd(values: NDArray[np.float64]) -> bytes:
    shown = []
    for value, stale in zip(values.tolist(), is_stale(values).tolist(), strict=True):
        shown.append(None if stale else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")
    return orjson.dumps(shown)
