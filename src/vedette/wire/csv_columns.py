"""CSV in, as VictoriaMetrics takes it: `format` says what stands in which column (`1:time:unix_s,2:label:host,3:metric:load`).

Columns that it does not name are passed over, and so are empty cells of metrics. Not here: HTTP; the CSV that exports write, which has
a head (`wire/dump.py`).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from vedette.errors import BadInput
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import KeySpace, SampleBatch
from vedette.model.times import iso_ns
from vedette.wire.rows import Rows
from vedette.wire.told import Told

_MOST_COLUMNS = 65_536
_PIECE = 1 << 18
_MOST_KEPT = 1 << 16
_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf(?:inity)?|nan)\Z", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?\d{1,19}\Z", re.ASCII)
_UNITS = {"unix_s": (1000, 1), "unix_ms": (1, 1), "unix_us": (1, 1000), "unix_ns": (1, 1_000_000)}
# Go's reference time, 2006-01-02 15:04:05 -0700, piece by piece; the longest first.
_GO = (
    ("January", "%B"), ("Monday", "%A"), ("2006", "%Y"), ("-07:00", "%z"), ("Z07:00", "%z"), ("-0700", "%z"), ("Jan", "%b"), ("Mon", "%a"),
    ("MST", "%Z"), (".000000", ".%f"), (".000", ".%f"), (".999999", ".%f"), ("01", "%m"), ("02", "%d"), ("15", "%H"), ("03", "%I"),
    ("04", "%M"), ("05", "%S"), ("06", "%y"), ("PM", "%p"),
)  # fmt: skip
_GO_PIECES = re.compile("|".join(re.escape(piece) for piece, _ in _GO))


@dataclass(frozen=True, slots=True)
class Columns:
    """What stands in which column (from 0): the time, labels and metrics by their names."""

    time: tuple[int, Callable[[str], int]] | None = None
    labels: tuple[tuple[int, str], ...] = ()
    metrics: tuple[tuple[int, str], ...] = ()
    count: int = field(init=False)
    """As many columns a row must have, unless it has a metric before its end."""

    def __post_init__(self) -> None:
        places = [at for at, _ in (*self.labels, *self.metrics)] + ([self.time[0]] if self.time else [])
        object.__setattr__(self, "count", max(places) + 1)


def columns_of(text: str) -> Columns:
    """The columns that `format` describes. Raises `BadInput` naming the entry."""
    time: tuple[int, Callable[[str], int]] | None = None
    labels: list[tuple[int, str]] = []
    metrics: list[tuple[int, str]] = []
    seen: set[int] = set()
    for number, entry in enumerate(text.split(","), 1):
        where = f"format, entry {number}"
        parts = entry.split(":", 2)
        if len(parts) != 3:
            raise BadInput(f"not a column: {entry!r}", where=where, hint="expected position:time|label|metric:name, such as 2:metric:load")
        position, kind, name = parts
        if not position.isdecimal() or not 1 <= int(position) <= _MOST_COLUMNS:
            raise BadInput(f"not a position: {position!r}", where=where, hint=f"expected 1 to {_MOST_COLUMNS}")
        at = int(position) - 1
        if at in seen:
            raise BadInput(f"column {position} is described twice", where=where)
        seen.add(at)
        if kind == "time":
            if time is not None:
                raise BadInput("a second column of times", where=where)
            time = at, _time_reader(name, where)
        elif kind not in ("label", "metric"):
            raise BadInput(f"not a kind of column: {kind!r}", where=where, hint="expected time, label or metric")
        elif not name:
            raise BadInput(f"a {kind} without a name", where=where)
        elif kind == "label" and name == METRIC_NAME:
            raise BadInput(f"a label is called {METRIC_NAME}", where=where, hint="a metric's name stands in its own entry")
        else:
            (labels if kind == "label" else metrics).append((at, name))
    if not metrics:
        raise BadInput("no column is a metric", where="format")
    return Columns(time, tuple(labels), tuple(metrics))


def parse(
    body: bytes, columns: Columns, keyspace: KeySpace, now_ms: int, told: Told, *, more: Mapping[str, str] | None = None
) -> Iterator[SampleBatch]:
    """The batches of a text; `now_ms` is the time of rows where no column has one, `more` labels are laid over each row's.

    A row that cannot be read is left out and told. Raises `BadInput` where the text is no UTF-8, or is no CSV at all from some line on.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise BadInput("not UTF-8 text", where=f"line {line}") from None
    rows = Rows(keyspace)
    keys: dict[tuple[str, ...], list[bytes]] = {}
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            told.bad(line, str(error))
            row = []
        if row is None:
            break
        if row:
            try:
                _add(rows, row, columns, keys, more or {}, now_ms)
                told.lines += 1
            except BadInput as error:
                told.bad(line, str(error), ",".join(row))
        line = reader.line_num + 1
        if len(rows) >= _PIECE:
            yield rows.batch()
            rows = Rows(keyspace)
    if len(rows):
        yield rows.batch()


def _add(
    rows: Rows, row: list[str], columns: Columns, keys: dict[tuple[str, ...], list[bytes]], more: Mapping[str, str], now_ms: int
) -> None:
    width = len(row)
    metrics = [(i, _number(row[at], name)) for i, (at, name) in enumerate(columns.metrics) if at < width and row[at]]
    if not metrics:
        if width < columns.count:
            raise BadInput(f"{width} columns where {columns.count} are expected")
        raise BadInput("no value in any column of a metric")
    if columns.time is None:
        time = now_ms
    else:
        at, read = columns.time
        if at >= width or not row[at]:
            raise BadInput("no time")
        time = read(row[at])
    cells = tuple(row[at] if at < width else "" for at, _ in columns.labels)
    known = keys.get(cells)
    if known is None:
        labels = {name: cell for (_, name), cell in zip(columns.labels, cells, strict=True)} | dict(more)
        known = [Labels.of(labels | {METRIC_NAME: name}).encode() for _, name in columns.metrics]
        if len(keys) < _MOST_KEPT:
            keys[cells] = known
    for i, value in metrics:
        rows.add_key(known[i], (time,), (value,))


def _number(text: str, name: str) -> float:
    text = text.strip()
    if not _NUMBER.match(text):
        raise BadInput(f"not a number: {text[:100]!r}", where=f"metric {name}")
    return float(text)


def _time_reader(form: str, where: str) -> Callable[[str], int]:
    """What reads times (to ms) of a form: `unix_s`, `unix_ms`, `unix_us`, `unix_ns`, `rfc3339` or `custom:` and a layout of Go's."""
    if form in _UNITS:
        times, by = _UNITS[form]
        return lambda text: _unix(text, times, by)
    if form == "rfc3339":
        return _rfc3339
    if form.startswith("custom:"):
        layout = form.removeprefix("custom:")
        pattern = _GO_PIECES.sub(lambda piece: dict(_GO)[piece.group()], layout.replace("%", "%%"))
        if pattern == layout or re.search(r"\d", pattern):
            raise BadInput(f"not a layout: {layout!r}", where=where, hint="expected Go's reference time, such as 2006-01-02 15:04:05")
        return lambda text: _custom(text, pattern, layout)
    raise BadInput(f"not a form of times: {form!r}", where=where, hint=f"expected {', '.join(_UNITS)}, rfc3339 or custom:LAYOUT")


def _unix(text: str, times: int, by: int) -> int:
    text = text.strip()
    if _WHOLE.match(text):
        return int(text) * times // by
    if _NUMBER.match(text) and abs(number := float(text)) < 1e15:
        return int(number * times // by)
    raise BadInput(f"not a time: {text[:100]!r}")


def _rfc3339(text: str) -> int:
    found = iso_ns(text)
    if found is None:
        raise BadInput(f"not a time: {text[:100]!r}", hint="expected RFC 3339, such as 2024-01-02T15:04:05Z")
    return found // 1_000_000


def _custom(text: str, pattern: str, layout: str) -> int:
    try:
        found = datetime.strptime(text, pattern)
    except ValueError:
        raise BadInput(f"not a time: {text[:100]!r}", hint=f"expected {layout}") from None
    moment = found if found.tzinfo else found.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
