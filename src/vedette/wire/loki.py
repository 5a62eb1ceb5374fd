"""Loki's push API: `PushRequest` as snappy protobuf, and its JSON form; and stream selectors of its queries' labels.

The labels of a stream become fields, those named like a service or a level these; structured metadata are fields too.
A line is the message as it stands; its level is looked for in it where no label says it.
"""

from __future__ import annotations

import re
from typing import Any

import cramjam
import orjson

from vedette.errors import BadInput
from vedette.model.logs import LogBatch, LogBuilder, level_of
from vedette.wire.loglines import LEVEL_NAMES, SERVICE_NAMES, fields_json, level_in, named, not_ahead, read_json
from vedette.wire.protobuf import BYTES, VARINT, fields, signed, text

_LABEL = re.compile(r'\s*([a-zA-Z_][\w.]*)\s*=\s*"((?:[^"\\\n]|\\.)*)"\s*(,|\Z)', re.ASCII)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_SERVICES = ("service_name", *SERVICE_NAMES)


def parse(body: bytes, *, now_ns: int, max_line: int, max_bytes: int) -> LogBatch:
    """The lines of a snappy protobuf body. Raises `BadInput`."""
    builder = LogBuilder(max_bytes=max_line)
    data = unsnapped(body, max_bytes)
    for number, kind, start, end in fields(data):
        if number != 1 or kind != BYTES:
            continue
        labels = ""
        entries = []
        for n, k, a, b in fields(data, start, end):
            if n == 1 and k == BYTES:
                labels = text(data, a, b)
            elif n == 2 and k == BYTES:
                entries.append((a, b))
        stream = _Stream(read_labels(labels), builder, now_ns)
        for a, b in entries:
            _entry(data, a, b, stream)
    return builder.build()


def unsnapped(body: bytes, max_bytes: int) -> bytes:
    """A snappy block, unpacked. Raises `BadInput` where it is none, or is larger than `max_bytes`."""
    try:
        size = cramjam.snappy.decompress_raw_len(body)
        if size > max_bytes:
            raise BadInput(f"{size:,} bytes unpacked, at most {max_bytes:,} are taken")
        return bytes(cramjam.snappy.decompress_raw(body))
    except cramjam.DecompressionError:
        raise BadInput("not a snappy block", hint="snappy without framing is expected, as Loki's clients send it") from None


class _Stream:
    """What the lines of one stream have in common."""

    def __init__(self, labels: dict[str, str], builder: LogBuilder, now_ns: int) -> None:
        self.builder = builder
        self.now_ns = now_ns
        self.service = named(labels, _SERVICES)
        self.level = level_of(named(labels, LEVEL_NAMES))
        self.labels = labels
        self.fields = fields_json(labels)

    def add(self, time: int, line: str, more: dict[str, Any]) -> None:
        """One line with its structured metadata."""
        level = self.level or (level_of(named(more, LEVEL_NAMES)) if more else 0) or level_in(line)
        found = fields_json({**self.labels, **more}) if more else self.fields
        try:
            time = not_ahead(time or self.now_ns, self.now_ns)
        except BadInput as error:
            raise BadInput(error.problem, where=f"line {len(self.builder) + 1}: timestamp", hint=error.hint) from None
        self.builder.add(time, level, self.service, line, found)


def _entry(data: bytes, start: int, end: int, stream: _Stream) -> None:
    time, line = 0, ""
    more: dict[str, Any] = {}
    for number, kind, a, b in fields(data, start, end):
        if number == 1 and kind == BYTES:
            parts = {n: signed(v) for n, k, v, _ in fields(data, a, b) if k == VARINT}
            time = parts.get(1, 0) * 10**9 + parts.get(2, 0)
            if not 0 <= time < 1 << 63:
                raise BadInput("a time that cannot be stored", where=f"line {len(stream.builder) + 1}: timestamp")
        elif number == 2 and kind == BYTES:
            line = data[a:b].decode("utf-8", "replace")
        elif number == 3 and kind == BYTES:
            pair = {n: text(data, c, d) for n, k, c, d in fields(data, a, b) if k == BYTES}
            more[pair.get(1, "")] = pair.get(2, "")
    stream.add(time, line, more)


def parse_json(body: bytes, *, now_ns: int, max_line: int) -> LogBatch:
    """The lines of a JSON body. Raises `BadInput` naming the place: `streams.0.values.3: …`."""
    try:
        root = read_json(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"not JSON: {error.msg}", where=f"line {error.lineno}, column {error.colno}") from None
    streams = root.get("streams") if isinstance(root, dict) else None
    if not isinstance(streams, list):
        raise BadInput("expected a list", where="streams")
    builder = LogBuilder(max_bytes=max_line)
    for i, item in enumerate(streams):
        labels = item.get("stream", {}) if isinstance(item, dict) else None
        values = item.get("values", []) if isinstance(item, dict) else None
        if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
            raise BadInput("expected an object of texts", where=f"streams.{i}.stream")
        if not isinstance(values, list):
            raise BadInput("expected a list", where=f"streams.{i}.values")
        stream = _Stream(labels, builder, now_ns)
        for j, value in enumerate(values):
            _value(value, f"streams.{i}.values.{j}", stream)
    return builder.build()


def _value(value: Any, where: str, stream: _Stream) -> None:
    if not isinstance(value, list) or len(value) not in (2, 3) or not isinstance(value[1], str):
        raise BadInput('expected ["<ns>", "<line>"], structured metadata after them', where=where)
    time = value[0]
    if not isinstance(time, str) or not time.isdecimal() or len(time) > 19 or int(time) >= 1 << 63:
        raise BadInput("expected Unix nanoseconds as text", where=f"{where}.0")
    more = value[2] if len(value) == 3 else {}
    if not isinstance(more, dict):
        raise BadInput("expected an object", where=f"{where}.2")
    stream.add(int(time), value[1], more)


def read_labels(given: str) -> dict[str, str]:
    """The labels of `{app="web", env="prod"}`. Raises `BadInput` with the column."""
    inner = given.strip()
    if inner[:1] != "{" or inner[-1:] != "}":
        raise BadInput(f"not labels: {given[:80]!r}", where="labels", hint='expected {name="value", …}')
    inner = inner[1:-1].strip()
    found: dict[str, str] = {}
    at = 0
    while at < len(inner):
        label = _LABEL.match(inner, at)
        if label is None:
            raise BadInput(f"not a label: {inner[at : at + 40]!r}", where=f"labels, column {at + 2}", hint='expected name="value"')
        found[label[1]] = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), label[2])
        at = label.end()
    return found
