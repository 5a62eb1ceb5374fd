"""OpenTSDB's JSON points, in: `{"metric":"sys.cpu","timestamp":1700000000,"value":1,"tags":{"host":"a"}}`, one or an array of them.

A timestamp is in seconds, or in milliseconds where it is too large for that; now where it is missing. A point that cannot be read
leaves only itself out. Not here: HTTP.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from vedette.errors import BadInput
from vedette.model.samples import KeySpace
from vedette.wire.naming import Names, labels_of
from vedette.wire.rows import Rows

MOST_TOLD = 100
"""Points that cannot be read of which it is said what is wrong: a body has room for millions of them."""

_SECONDS = 1 << 32
"""Times below are seconds (until 2106), others milliseconds, as OpenTSDB has it."""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)


class _Point(msgspec.Struct):
    metric: str
    value: float | str
    timestamp: float | str | None = None
    tags: dict[str, str | float | bool] = {}


_POINT = msgspec.json.Decoder(_Point)
_POINTS = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(slots=True)
class Points:
    """The points of a body: those that can be read, how many others there are, and what is wrong with the first `MOST_TOLD` of them."""

    rows: Rows
    failed: int = 0
    bad: list[tuple[bytes, str]] = field(default_factory=list)
    """(the point as it came, what is wrong with it)."""


def parse(body: bytes, keyspace: KeySpace, now_ms: int, *, names: Names, more: tuple[tuple[str, str], ...] = ()) -> Points:
    """The points of a body; `keyspace` is a canonical one, `more` labels stand where no tag does. Raises `BadInput` for no JSON at all."""
    found = Points(Rows(keyspace))
    if body.lstrip()[:1] != b"[":
        _add(found.rows, body, now_ms, names, more)
        return found
    try:
        points = _POINTS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(str(error) or "JSON is nested too deeply") from None
    for one in points:
        try:
            _add(found.rows, one, now_ms, names, more)
        except BadInput as error:
            found.failed += 1
            if len(found.bad) < MOST_TOLD:
                found.bad.append((bytes(one), str(error)))
    return found


def _add(rows: Rows, raw: bytes | msgspec.Raw, now_ms: int, names: Names, more: tuple[tuple[str, str], ...]) -> None:
    try:
        point = _POINT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(str(error) or "JSON is nested too deeply") from None
    tags = [(name, _text(value)) for name, value in point.tags.items()]
    if any(not name for name, _ in tags):
        raise BadInput("a tag without a name")
    labels = labels_of(point.metric, tags, names, more)
    rows.add(labels, (_time(point.timestamp, now_ms),), (_number(point.value, "value"),))


def _text(value: str | float | bool) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if value.is_integer() else repr(value)


def _number(value: float | str, what: str) -> float:
    if isinstance(value, str):
        if not _NUMBER.match(value):
            raise BadInput(f"not a number: {value[:100]!r}", where=what)
        return float(value)
    return value


def _time(stamp: float | str | None, now_ms: int) -> int:
    if stamp is None:
        return now_ms
    number = _number(stamp, "timestamp")
    if not 0 <= number < 1 << 53:
        raise BadInput(f"not a time: {stamp}", where="timestamp", hint="expected Unix seconds or milliseconds")
    return round(number * 1000) if number < _SECONDS else int(number)
