"""Datadog's series in JSON, of version 1 (`points` are pairs, `host` a field) and 2 (`points` and `resources` are objects), and version 2
in protobuf, which is what its agents send.

Tags are labels, and so are host and device and the resources; a tag `host` is `exported_host`, beside which the series' own stands, and a
tag without a value has `no_label_value`. What a point counts (a rate, a count of an interval) it stays. A series that cannot be read
leaves only itself out. Not here: HTTP, sketches.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from vedette.errors import BadInput
from vedette.model.samples import KeySpace
from vedette.wire.naming import Names, labels_of
from vedette.wire.protobuf import BYTES, FIXED64, VARINT, fields, signed, text
from vedette.wire.rows import Rows

MOST_TOLD = 20
"""Series that cannot be read of which it is said what is wrong: a body has room for millions of them."""

_LATEST_S = 1 << 43


class _Series1(msgspec.Struct):
    metric: str
    points: list[tuple[float, float]]
    tags: list[str] | None = None
    host: str | None = None
    device: str | None = None


class _Value(msgspec.Struct):
    value: float
    timestamp: float = 0.0


class _Resource(msgspec.Struct):
    type: str = ""
    name: str = ""


class _Series2(msgspec.Struct):
    metric: str
    points: list[_Value]
    tags: list[str] | None = None
    resources: list[_Resource] | None = None
    source_type_name: str | None = None


class _Body(msgspec.Struct):
    series: list[msgspec.Raw]


_BODY = msgspec.json.Decoder(_Body)
_OF_1, _OF_2 = msgspec.json.Decoder(_Series1), msgspec.json.Decoder(_Series2)


@dataclass(slots=True)
class Series:
    """The series of a body: those that can be read, how many others there are, and what is wrong with the first of them."""

    rows: Rows
    failed: int = 0
    bad: list[str] = field(default_factory=list)
    """By their numbers, of `MOST_TOLD` at most."""

    def note(self, number: int, problem: str) -> None:
        """Count a series that cannot be read."""
        self.failed += 1
        if len(self.bad) < MOST_TOLD:
            self.bad.append(f"series[{number}]: {problem}")


def parse(body: bytes, keyspace: KeySpace, now_ms: int, *, version: int, names: Names, more: tuple[tuple[str, str], ...] = ()) -> Series:
    """The series of a body; `keyspace` is a canonical one, `more` labels stand where no tag does. Raises `BadInput` for no such body."""
    try:
        raw = _BODY.decode(body).series
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(str(error) or "JSON is nested too deeply") from None
    found = Series(Rows(keyspace))
    add = _add_1 if version == 1 else _add_2
    for number, one in enumerate(raw):
        try:
            add(found.rows, one, now_ms, names, more)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            found.note(number, str(error) or "nested too deeply")
        except BadInput as error:
            found.note(number, str(error))
    return found


def parse_protobuf(body: bytes, keyspace: KeySpace, now_ms: int, *, names: Names, more: tuple[tuple[str, str], ...] = ()) -> Series:
    """As `parse`, of a `MetricPayload` of github.com/DataDog/agent-payload. Raises `BadInput` for what is not made of fields."""
    found = Series(Rows(keyspace))
    series = [(start, end) for tag, kind, start, end in fields(body) if (tag, kind) == (1, BYTES)]
    for number, (start, end) in enumerate(series):
        try:
            _put(found.rows, _series_of(body, start, end), now_ms, names, more)
        except BadInput as error:
            found.note(number, str(error))
    return found


def _series_of(body: bytes, start: int, end: int) -> _Series2:
    """A `MetricSeries`; type, unit, interval and origin, of which nothing is stored, are passed over."""
    resources: list[_Resource] = []
    tags: list[str] = []
    points: list[_Value] = []
    metric = source = ""
    for tag, kind, lo, hi in fields(body, start, end):
        if kind != BYTES:
            continue
        if tag == 1:
            resources.append(_resource(body, lo, hi))
        elif tag == 2:
            metric = text(body, lo, hi)
        elif tag == 3:
            tags.append(text(body, lo, hi))
        elif tag == 4:
            points.append(_point(body, lo, hi))
        elif tag == 7:
            source = text(body, lo, hi)
    return _Series2(metric, points, tags, resources, source)


def _resource(body: bytes, start: int, end: int) -> _Resource:
    found = {tag: text(body, lo, hi) for tag, kind, lo, hi in fields(body, start, end) if kind == BYTES}
    return _Resource(found.get(1, ""), found.get(2, ""))


def _point(body: bytes, start: int, end: int) -> _Value:
    value, stamp = 0.0, 0
    for tag, kind, found, _ in fields(body, start, end):
        if (tag, kind) == (1, FIXED64):
            (value,) = struct.unpack("<d", struct.pack("<Q", found))
        elif (tag, kind) == (2, VARINT):
            stamp = signed(found)
    return _Value(value, stamp)


def _add_1(rows: Rows, raw: msgspec.Raw, now_ms: int, names: Names, more: tuple[tuple[str, str], ...]) -> None:
    one = _OF_1.decode(raw)
    own = [("host", one.host or ""), ("device", one.device or "")]
    labels = labels_of(one.metric, [*own, *_tags(one.tags)], names, more)
    rows.add(labels, [_time(stamp, now_ms) for stamp, _ in one.points], [value for _, value in one.points])


def _add_2(rows: Rows, raw: msgspec.Raw, now_ms: int, names: Names, more: tuple[tuple[str, str], ...]) -> None:
    _put(rows, _OF_2.decode(raw), now_ms, names, more)


def _put(rows: Rows, one: _Series2, now_ms: int, names: Names, more: tuple[tuple[str, str], ...]) -> None:
    own = [(resource.type, resource.name) for resource in one.resources or () if resource.type]
    own.append(("source_type_name", one.source_type_name or ""))
    labels = labels_of(one.metric, [*own, *_tags(one.tags)], names, more)
    rows.add(labels, [_time(point.timestamp, now_ms) for point in one.points], [point.value for point in one.points])


def _tags(tags: list[str] | None) -> Iterator[tuple[str, str]]:
    for tag in tags or ():
        name, colon, value = tag.partition(":")
        if not name:
            raise BadInput(f"a tag without a name: {tag[:100]!r}")
        yield "exported_host" if name == "host" else name, value if colon else "no_label_value"


def _time(stamp: float, now_ms: int) -> int:
    if stamp <= 0:
        return now_ms
    if stamp >= _LATEST_S:
        raise BadInput(f"not a time: {stamp}", hint="expected Unix seconds")
    return round(stamp * 1000)
