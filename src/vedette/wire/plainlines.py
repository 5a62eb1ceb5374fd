"""Plain text lines, as files hold them: a time at the start and a level near it are read, the line stays whole.

A line that is a JSON object is read as `jsonlines` reads it; one that only looks like it stays text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from vedette.errors import BadInput
from vedette.model.logs import LogBatch, LogBuilder
from vedette.wire.jsonlines import Reader
from vedette.wire.loglines import Times, fields_json, level_in, parse_time, pieces, read_json

_TIME = re.compile(r"[\[(]?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)(?=[\s\])]|\Z)", re.ASCII)


def parse(lines: Iterable[bytes], *, now_ns: int, max_line: int, service: str, fields: Mapping[str, Any]) -> LogBatch:
    """Lines without their newlines; `service` and `fields` are those of all of them. One that is too long becomes several."""
    builder = LogBuilder(max_bytes=4 * max_line)
    times = Times(now_ns)
    reader = Reader(builder, times, service)
    common = fields_json(fields)
    for line in lines:
        first, *rest = pieces(line.rstrip(b"\r"), max_line)
        if not rest and first[:1] == b"{" and _json(reader, first, fields):
            continue
        text = first.decode("utf-8", "replace")
        builder.add(_time(text, times, now_ns), level_in(text), service, text, common)
        for piece in rest:
            builder.go_on(piece.decode("utf-8", "replace"))
    return builder.build()


def _json(reader: Reader, line: bytes, fields: Mapping[str, Any]) -> bool:
    try:
        row = read_json(line)
        if not isinstance(row, dict):
            return False
        reader.add({**fields, **row})
    except (orjson.JSONDecodeError, BadInput):
        return False
    return True


def _time(text: str, times: Times, now_ns: int) -> int:
    found = _TIME.match(text)
    if found is None:
        return now_ns
    try:
        return times.read(found[1]) if "," not in found[1] else min(parse_time(found[1]), now_ns)
    except BadInput:
        return now_ns
