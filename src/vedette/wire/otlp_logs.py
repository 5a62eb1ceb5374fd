"""OTLP logs (`ExportLogsServiceRequest`), protobuf and JSON.

The service is the resource's `service.name`; the other attributes of resource and record become fields, those of a
record winning, with `trace_id`, `span_id`, `scope` and `event_name` where they are given. A body that is no string is the
message as JSON. Severity numbers follow the data model: 1-4 trace, 5-8 debug, 9-12 info, 13-16 warn, 17-20 error, 21-24 fatal.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Any

import orjson

from vedette.errors import BadInput
from vedette.model.logs import DEBUG, ERROR, FATAL, INFO, TRACE, UNKNOWN, WARN, LogBatch, LogBuilder, level_of
from vedette.wire.loglines import fields_json, level_in, not_ahead
from vedette.wire.protobuf import BYTES, FIXED64, VARINT, fields, signed, text

_SEVERITIES = (UNKNOWN, *(level for level in (TRACE, DEBUG, INFO, WARN, ERROR, FATAL) for _ in range(4)))
_MOST_DEPTH = 32


def parse(body: bytes, *, now_ns: int, max_line: int) -> LogBatch:
    """The records of a protobuf body. Raises `BadInput`."""
    builder = LogBuilder(max_bytes=max_line)
    for number, kind, start, end in fields(body):
        if number == 1 and kind == BYTES:
            _resource_logs(body, start, end, builder, now_ns)
    return builder.build()


def _resource_logs(data: bytes, start: int, end: int, builder: LogBuilder, now_ns: int) -> None:
    resource: dict[str, Any] = {}
    scopes = []
    for number, kind, a, b in fields(data, start, end):
        if number == 1 and kind == BYTES:
            resource = _attributes(data, a, b, 1)
        elif number == 2 and kind == BYTES:
            scopes.append((a, b))
    for a, b in scopes:
        common = dict(resource)
        records = []
        for number, kind, c, d in fields(data, a, b):
            if number == 1 and kind == BYTES:
                name = next((text(data, e, f) for n, k, e, f in fields(data, c, d) if n == 1 and k == BYTES), "")
                if name:
                    common["scope"] = name
            elif number == 2 and kind == BYTES:
                records.append((c, d))
        for c, d in records:
            _record(data, c, d, common, builder, now_ns)


def _record(data: bytes, start: int, end: int, common: dict[str, Any], builder: LogBuilder, now_ns: int) -> None:
    time = observed = severity = 0
    name, body = "", ""
    found = dict(common)
    for number, kind, a, b in fields(data, start, end):
        if number == 1 and kind == FIXED64:
            time = a
        elif number == 11 and kind == FIXED64:
            observed = a
        elif number == 2 and kind == VARINT:
            severity = a
        elif number == 3 and kind == BYTES:
            name = text(data, a, b)
        elif number == 5 and kind == BYTES:
            body = _message(_value(data, a, b, 0))
        elif number == 6 and kind == BYTES:
            key, value = _pair(data, a, b, 0)
            found[key] = value
        elif number in (9, 10) and kind == BYTES and b > a:
            found["trace_id" if number == 9 else "span_id"] = data[a:b].hex()
        elif number == 12 and kind == BYTES and b > a:
            found["event_name"] = text(data, a, b)
    _add(builder, time or observed or now_ns, now_ns, severity, name, body, found)


def _add(builder: LogBuilder, time: int, now_ns: int, severity: int, name: str, message: str, found: dict[str, Any]) -> None:
    level = _SEVERITIES[severity] if 0 < severity < len(_SEVERITIES) else level_of(name) or level_in(message)
    service = found.pop("service.name", "")
    try:
        time = not_ahead(time, now_ns)
    except BadInput as error:
        raise BadInput(error.problem, where=f"record {len(builder) + 1}: time", hint=error.hint) from None
    builder.add(time, level, service if isinstance(service, str) else str(service), message, fields_json(found))


def _message(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else orjson.dumps(value).decode()


def _attributes(data: bytes, start: int, end: int, wanted: int, depth: int = 0) -> dict[str, Any]:
    return dict(_pair(data, a, b, depth) for number, kind, a, b in fields(data, start, end) if number == wanted and kind == BYTES)


def _pair(data: bytes, start: int, end: int, depth: int) -> tuple[str, Any]:
    key, value = "", None
    for number, kind, a, b in fields(data, start, end):
        if number == 1 and kind == BYTES:
            key = text(data, a, b)
        elif number == 2 and kind == BYTES:
            value = _value(data, a, b, depth)
    return key, value


def _value(data: bytes, start: int, end: int, depth: int) -> Any:
    """An AnyValue."""
    if depth > _MOST_DEPTH:
        raise BadInput(f"values nested more than {_MOST_DEPTH} deep", where=f"byte {start}")
    for number, kind, a, b in fields(data, start, end):
        if number == 1 and kind == BYTES:
            return text(data, a, b)
        if number == 2 and kind == VARINT:
            return bool(a)
        if number == 3 and kind == VARINT:
            return signed(a)
        if number == 4 and kind == FIXED64:
            return struct.unpack("<d", a.to_bytes(8, "little"))[0]
        if number == 5 and kind == BYTES:
            return [_value(data, c, d, depth + 1) for n, k, c, d in fields(data, a, b) if n == 1 and k == BYTES]
        if number == 6 and kind == BYTES:
            return _attributes(data, a, b, 1, depth + 1)
        if number == 7 and kind == BYTES:
            return base64.b64encode(data[a:b]).decode()
    return None


def parse_json(body: bytes, *, now_ns: int, max_line: int) -> LogBatch:
    """The records of a JSON body. Raises `BadInput` naming the place: `resourceLogs.0.scopeLogs.0.logRecords.2: …`."""
    try:
        root = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"not JSON: {error.msg}", where=f"line {error.lineno}, column {error.colno}") from None
    builder = LogBuilder(max_bytes=max_line)
    for i, group in _items(root, "resourceLogs", ""):
        place = f"resourceLogs.{i}.resource"
        resource = _pairs(_object(group.get("resource") or {}, place).get("attributes"), place)
        for j, scope in _items(group, "scopeLogs", f"resourceLogs.{i}."):
            where = f"resourceLogs.{i}.scopeLogs.{j}."
            name = _object(scope.get("scope") or {}, where + "scope").get("name")
            common = {**resource, "scope": name} if name else resource
            for k, record in _items(scope, "logRecords", where):
                _json_record(record, f"{where}logRecords.{k}", common, builder, now_ns)
    return builder.build()


def _json_record(record: dict[str, Any], where: str, common: dict[str, Any], builder: LogBuilder, now_ns: int) -> None:
    found = {**common, **_pairs(record.get("attributes"), where)}
    for name, key in (("trace_id", "traceId"), ("span_id", "spanId"), ("event_name", "eventName")):
        if record.get(key):
            found[name] = str(record[key])
    time = _integer(record, "timeUnixNano", where) or _integer(record, "observedTimeUnixNano", where) or now_ns
    severity: Any = record.get("severityNumber") or 0
    named = ""
    if isinstance(severity, str):  # JSON may name the constant: SEVERITY_NUMBER_INFO2
        severity, named = 0, severity.removeprefix("SEVERITY_NUMBER_").rstrip("234")
    if type(severity) is not int:
        raise BadInput("not a whole number", where=f"{where}.severityNumber")
    message = _message(_json_value(record.get("body"), where, 0))
    _add(builder, time, now_ns, severity, str(record.get("severityText") or named), message, found)


def _items(parent: Any, key: str, where: str) -> list[tuple[int, dict[str, Any]]]:
    found = _object(parent, where.rstrip(".") or "the body").get(key) or []
    if not isinstance(found, list):
        raise BadInput("expected a list", where=where + key)
    return [(i, _object(item, f"{where}{key}.{i}")) for i, item in enumerate(found)]


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput("expected an object", where=where)
    return value


def _integer(record: dict[str, Any], key: str, where: str) -> int:
    value = record.get(key) or 0
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise BadInput("expected whole nanoseconds", where=f"{where}.{key}")
    return value


def _pairs(given: Any, where: str, depth: int = 0) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, list):
        raise BadInput("expected a list", where=f"{where}.attributes")
    return {
        str(_object(p, f"{where}.attributes.{i}").get("key", "")): _json_value(p.get("value"), f"{where}.attributes.{i}", depth)
        for i, p in enumerate(given)
    }


def _json_value(value: Any, where: str, depth: int) -> Any:
    if value is None:
        return None
    if depth > _MOST_DEPTH:
        raise BadInput(f"values nested more than {_MOST_DEPTH} deep", where=where)
    for kind, inner in _object(value, where).items():
        if kind == "intValue" and isinstance(inner, str) and inner.lstrip("-").isdecimal() and len(inner) < 21:
            return int(inner)
        if kind in ("stringValue", "boolValue", "doubleValue", "intValue"):
            return inner
        if kind == "arrayValue":
            return [_json_value(v, where, depth + 1) for v in _list(_object(inner, where).get("values"), where)]
        if kind == "kvlistValue":
            return _pairs(_list(_object(inner, where).get("values"), where), where, depth + 1)
        if kind == "bytesValue":
            try:
                base64.b64decode(inner, validate=True)
            except (binascii.Error, TypeError, ValueError):
                raise BadInput("not base64", where=where) from None
            return inner
    return None


def _list(value: Any, where: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise BadInput("expected a list", where=where)
    return value or []
