"""JSON lines, a JSON array of objects, or one object: any logger's fields to columns, and back.

A line's time, level, service and message are taken from the usual names (`loglines`); `fields` or `metadata`, if it is
an object, is unfolded; all others are kept as fields. A line that is no JSON object is an error that names it; bytes that are no
UTF-8 become U+FFFD.
"""

from __future__ import annotations

from typing import Any

import orjson

from vedette.errors import BadInput
from vedette.model.logs import UNKNOWN, LogBatch, LogBuilder, level_of
from vedette.wire.loglines import (
    LEVEL_NAMES,
    MESSAGE_NAMES,
    SERVICE_NAMES,
    TIME_NAMES,
    Times,
    fields_json,
    level_in,
    priority_level,
    read_json,
)

_UNFOLDED = ("metadata", "fields")
# Python's logging (10 to 50), bunyan and pino (10 to 60) count alike but for the last.
_NUMBERED = {10: "debug", 20: "info", 30: "warn", 40: "error", 50: "fatal"}
_MOST_SHAPES = 1_000


def parse(body: bytes, *, now_ns: int, max_line: int, service: str = "") -> LogBatch:
    """The lines of a body. `service` is theirs where they name none. Raises `BadInput`: `line 3: level: …`."""
    rows, positions = _objects(body)
    builder = LogBuilder(max_bytes=max_line)
    reader = Reader(builder, Times(now_ns), service)
    for i, row in enumerate(rows):
        try:
            reader.add(row)
        except BadInput as error:
            where = f"line {positions[i] if positions else i + 1}"
            raise BadInput(error.problem, where=f"{where}: {error.where}" if error.where else where, hint=error.hint) from None
    return builder.build()


def _objects(body: bytes) -> tuple[list[Any], list[int]]:
    """The objects of a body, and the line of each where that is not simply its number."""
    text = body.strip()
    if text.startswith(b"\xef\xbb\xbf"):
        text = text[3:].lstrip()
    if not text:
        raise BadInput("the body is empty", hint="expected one JSON object a line")
    if text[:1] == b"[":
        try:
            found = read_json(text)
        except orjson.JSONDecodeError as error:
            raise BadInput(f"not JSON: {error.msg}", where=f"line {error.lineno}, column {error.colno}") from None
        return found, []
    try:
        # Newlines cannot stand inside JSON strings, so this is the same lines, read in one go.
        return orjson.loads(b"[" + text.replace(b"\n", b",") + b"]"), []
    except orjson.JSONDecodeError:
        return _one_by_one(body, text)


def _one_by_one(body: bytes, text: bytes) -> tuple[list[Any], list[int]]:
    rows, positions = [], []
    for number, line in enumerate(body.split(b"\n"), 1):
        line = line.strip().removeprefix(b"\xef\xbb\xbf")
        if not line:
            continue
        try:
            rows.append(read_json(line))
        except orjson.JSONDecodeError as error:
            try:
                return [read_json(text)], []  # one object over several lines
            except orjson.JSONDecodeError:
                pass
            raise BadInput(f"not JSON: {error.msg}", where=f"line {number}, column {error.colno}") from None
        positions.append(number)
    return rows, positions


class Reader:
    """Objects to lines. Loggers write few shapes of objects, so which field is what is found out once a shape."""

    def __init__(self, builder: LogBuilder, times: Times, service: str) -> None:
        self._builder = builder
        self._times = times
        self._service = service
        self._shapes: dict[tuple[str, ...], tuple[str | None, str | None, str | None, str | None, str | None]] = {}

    def add(self, row: Any) -> None:
        """One object. Raises `BadInput` naming the field."""
        if type(row) is not dict:
            raise BadInput(f"{_kind(row)} where a JSON object is expected")
        shape = tuple(row)
        names = self._shapes.get(shape)
        if names is None:
            names = (
                _first(row, TIME_NAMES), _first(row, LEVEL_NAMES), _first(row, SERVICE_NAMES), _first(row, MESSAGE_NAMES),
                next((n for n in _UNFOLDED if n in row), None),
            )  # fmt: skip
            if len(self._shapes) < _MOST_SHAPES:
                self._shapes[shape] = names
        time_name, level_name, service_name, message_name, unfolded = names
        try:
            time = self._times.read(row.pop(time_name) if time_name is not None else None)
        except BadInput as error:
            raise BadInput(error.problem, where=str(time_name), hint=error.hint) from None
        message = row.pop(message_name) if message_name is not None else ""
        if type(message) is not str:
            message = "" if message is None else orjson.dumps(message).decode()
        level = _level(row.pop(level_name), level_name) if level_name is not None else UNKNOWN
        if level == UNKNOWN:
            level = priority_level(row.get("PRIORITY")) or level_in(message)
        service = row.pop(service_name) if service_name is not None else self._service
        if type(service) is not str:
            # ECS has an object there: {"service": {"name": "web"}}.
            service = service.get("name", "") if isinstance(service, dict) else "" if service is None else service
            service = service if isinstance(service, str) else str(service)
        if unfolded is not None and type(row[unfolded]) is dict:
            inner = row.pop(unfolded)
            row = {**inner, **row} if row else inner
        self._builder.add(time, level, service or self._service, message, fields_json(row) if row else b"{}")


def _first(row: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((n for n in names if n in row), None)


def _level(value: Any, name: str | None) -> int:
    if type(value) is str:
        return level_of(value)
    if value is None:
        return UNKNOWN
    if type(value) is int:
        return level_of(_NUMBERED.get(value, ""))
    raise BadInput(f"{_kind(value)} where a level's name is expected", where=str(name), hint="such as error, warn, info or debug")


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
