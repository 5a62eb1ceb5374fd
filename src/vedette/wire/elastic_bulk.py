"""Elasticsearch's `_bulk`: action lines and documents in turn; documents to lines, and the answer's items.

`create` and `index` store a document; the other actions are refused one by one, as Elasticsearch refuses what it cannot
do, and the rest is stored. Names follow ECS (`@timestamp`, `log.level`, `service.name`, `message`), dotted or nested.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import orjson

from vedette.errors import BadInput
from vedette.model.logs import LogBatch, LogBuilder, level_of
from vedette.wire.loglines import LEVEL_NAMES, MESSAGE_NAMES, SERVICE_NAMES, Times, fields_json, level_in, priority_level, read_json

_STORING = ("create", "index")
_ACTIONS = (*_STORING, "update", "delete")


@dataclass(slots=True)
class Bulk:
    """What a body asks for: the lines, and the answer's `items` in the body's order."""

    batch: LogBatch
    items: list[dict[str, Any]] = field(default_factory=list)

    @property
    def errors(self) -> bool:
        """Whether any item failed."""
        return any("error" in result for item in self.items for result in item.values())


def parse(body: bytes, *, index: str, now_ns: int, max_line: int) -> Bulk:
    """The actions of a body; `index` is the one of the path, "" for none. Raises `BadInput` where lines do not pair up."""
    builder = LogBuilder(max_bytes=2 * max_line)  # the index is added to a document's fields
    times = Times(now_ns)
    items: list[dict[str, Any]] = []
    lines = body.split(b"\n")
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        action, about = _action(lines[at], at + 1)
        source = b""
        if action != "delete":
            at += 1
            source = lines[at] if at < len(lines) else b""
            if not source.strip():
                raise BadInput("the document is missing", where=f"line {at + 1}", hint="a line must follow each action")
        at += 1
        name, made = str(about.get("_index") or index), str(about.get("_id") or made_id())
        result: dict[str, Any] = {"_index": name, "_id": made}
        problem = _problem(action, name) or store(source, name, builder, times, max_line)
        if problem is None:
            done = {"_version": 1, "result": "created", "_shards": {"total": 1, "successful": 1, "failed": 0}, "status": 201}
            items.append({action: {**result, **done, "_seq_no": len(items), "_primary_term": 1}})
        else:
            items.append({action: {**result, "status": 400, "error": {"type": problem[0], "reason": problem[1]}}})
    return Bulk(builder.build(), items)


def made_id() -> str:
    """The id of a document that names none."""
    return uuid.uuid4().hex[:20]


def _action(line: bytes, number: int) -> tuple[str, dict[str, Any]]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"malformed action/metadata line: {error.msg}", where=f"line {number}") from None
    if not isinstance(found, dict) or len(found) != 1:
        raise BadInput("malformed action/metadata line", where=f"line {number}", hint='expected {"create": {}} or {"index": {}}')
    ((action, about),) = found.items()
    if action not in _ACTIONS or not isinstance(about, dict):
        raise BadInput(f"malformed action/metadata line: {action!r}", where=f"line {number}", hint=f"expected one of {', '.join(_ACTIONS)}")
    return action, about


def _problem(action: str, index: str) -> tuple[str, str] | None:
    if action not in _STORING:
        return "illegal_argument_exception", f"log lines cannot be changed: {action} is not taken"
    if not index:
        return "action_request_validation_exception", "Validation Failed: 1: index is missing;"
    return None


def store(source: bytes, index: str, builder: LogBuilder, times: Times, max_line: int) -> tuple[str, str] | None:
    """One document into `builder`; (type, reason) of why it cannot be."""
    if len(source) > max_line:
        return "illegal_argument_exception", f"the document has {len(source):,} bytes, at most {max_line:,} are taken"
    try:
        row = read_json(source)
    except orjson.JSONDecodeError as error:
        return "document_parsing_exception", f"[1:{error.colno}] failed to parse: {error.msg}"
    if not isinstance(row, dict):
        return "document_parsing_exception", "[1:1] failed to parse: expected an object"
    try:
        time = times.read(row.pop("@timestamp", None) or row.pop("timestamp", None))
    except BadInput as error:
        return "document_parsing_exception", f"failed to parse field [@timestamp] of type [date]: {error}"
    message = next((row.pop(n) for n in MESSAGE_NAMES if isinstance(row.get(n), str)), "")
    level = level_of(_named(row, LEVEL_NAMES)) or priority_level(row.get("PRIORITY")) or level_in(message)
    row["_index"] = index
    builder.add(time, level, _named(row, SERVICE_NAMES) or index, message, fields_json(row))
    return None


def _named(row: dict[str, Any], names: tuple[str, ...]) -> str:
    """The first text of these fields, of ECS' objects too: `{"service": {"name": "web"}}`."""
    for name in names:
        value = row.get(name)
        outer, _, inner = name.partition(".")
        if value is None and inner and isinstance(row.get(outer), dict):
            value = row[outer].get(inner)
        elif isinstance(value, dict):
            value = value.get("name")
        if value and isinstance(value, str):
            return value
    return ""
