"""OTLP metrics (`ExportMetricsServiceRequest`), protobuf and JSON, as the same plain dicts: a message's fields by their JSON names.

Both are read by one table of what there is; what is not in it is passed over. Not here: what the metrics are called and stored as
(`otlp_names.py`, `ingest/otlp.py`), logs (`otlp_logs.py`).
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Mapping
from typing import Any

import orjson

from vedette.errors import BadInput
from vedette.wire.protobuf import BYTES, FIXED64, VARINT, fields, signed, text, varint

Message = dict[str, Any]
"""A message: its fields that are there, by their JSON names; numbers are int or float, bytes are bytes, lists lists."""

_MOST_DEPTH = 40
_MOST_MESSAGES = 1_000_000
"""In one request: two bytes of it may be a message, which takes a hundred times as much in memory."""

_POINT = {2: ("startTimeUnixNano", "fixed"), 3: ("timeUnixNano", "fixed")}
_KINDS: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "Request": {1: ("resourceMetrics", "*ResourceMetrics")},
    "ResourceMetrics": {1: ("resource", "Resource"), 2: ("scopeMetrics", "*ScopeMetrics"), 3: ("schemaUrl", "text")},
    "Resource": {1: ("attributes", "*KeyValue")},
    "ScopeMetrics": {1: ("scope", "Scope"), 2: ("metrics", "*Metric"), 3: ("schemaUrl", "text")},
    "Scope": {1: ("name", "text"), 2: ("version", "text"), 3: ("attributes", "*KeyValue")},
    "Metric": {
        1: ("name", "text"), 2: ("description", "text"), 3: ("unit", "text"), 5: ("gauge", "Gauge"), 7: ("sum", "Sum"),
        9: ("histogram", "HistogramData"), 10: ("exponentialHistogram", "ExponentialData"), 11: ("summary", "SummaryData"),
    },
    "Gauge": {1: ("dataPoints", "*Number")},
    "Sum": {1: ("dataPoints", "*Number"), 2: ("aggregationTemporality", "temporality"), 3: ("isMonotonic", "bool")},
    "HistogramData": {1: ("dataPoints", "*Histogram"), 2: ("aggregationTemporality", "temporality")},
    "ExponentialData": {1: ("dataPoints", "*Exponential"), 2: ("aggregationTemporality", "temporality")},
    "SummaryData": {1: ("dataPoints", "*Summary")},
    "Number": _POINT | {
        7: ("attributes", "*KeyValue"), 4: ("asDouble", "double"), 6: ("asInt", "sfixed"), 5: ("exemplars", "*Exemplar"),
        8: ("flags", "uint"),
    },
    "Histogram": _POINT | {
        9: ("attributes", "*KeyValue"), 4: ("count", "fixed"), 5: ("sum", "double"), 6: ("bucketCounts", "*fixed"),
        7: ("explicitBounds", "*double"), 8: ("exemplars", "*Exemplar"), 10: ("flags", "uint"),
    },
    "Exponential": _POINT | {
        1: ("attributes", "*KeyValue"), 4: ("count", "fixed"), 5: ("sum", "double"), 6: ("scale", "sint"), 7: ("zeroCount", "fixed"),
        8: ("positive", "Buckets"), 9: ("negative", "Buckets"), 10: ("flags", "uint"), 11: ("exemplars", "*Exemplar"),
        14: ("zeroThreshold", "double"),
    },
    "Buckets": {1: ("offset", "sint"), 2: ("bucketCounts", "*uint")},
    "Summary": _POINT | {
        7: ("attributes", "*KeyValue"), 4: ("count", "fixed"), 5: ("sum", "double"), 6: ("quantileValues", "*Quantile"),
        8: ("flags", "uint"),
    },
    "Quantile": {1: ("quantile", "double"), 2: ("value", "double")},
    "Exemplar": {
        7: ("filteredAttributes", "*KeyValue"), 2: ("timeUnixNano", "fixed"), 3: ("asDouble", "double"), 6: ("asInt", "sfixed"),
        4: ("spanId", "hex"), 5: ("traceId", "hex"),
    },
    "KeyValue": {1: ("key", "text"), 2: ("value", "AnyValue")},
    "AnyValue": {
        1: ("stringValue", "text"), 2: ("boolValue", "bool"), 3: ("intValue", "int"), 4: ("doubleValue", "double"),
        5: ("arrayValue", "Array"), 6: ("kvlistValue", "Pairs"), 7: ("bytesValue", "bytes"),
    },
    "Array": {1: ("values", "*AnyValue")},
    "Pairs": {1: ("values", "*KeyValue")},
}  # fmt: skip
_NAMED: Mapping[str, Mapping[str, str]] = {message: dict(known.values()) for message, known in _KINDS.items()}
_WIRE = {"fixed": FIXED64, "sfixed": FIXED64, "double": FIXED64, "text": BYTES, "bytes": BYTES, "hex": BYTES}
_TEMPORALITIES = {"AGGREGATION_TEMPORALITY_UNSPECIFIED": 0, "AGGREGATION_TEMPORALITY_DELTA": 1, "AGGREGATION_TEMPORALITY_CUMULATIVE": 2}
_REALS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def parse(body: bytes) -> Message:
    """The request in a protobuf body. Raises `BadInput` naming the byte."""
    return _Reader().message("Request", body, 0, len(body), 0)


def parse_json(body: bytes) -> Message:
    """The request in a JSON body. Raises `BadInput` naming the field."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"not JSON: {error}", where="the body") from None
    return _Reader().object("Request", found, "request", 0)


class _Reader:
    """Reads one request, of no more messages than it may have."""

    def __init__(self) -> None:
        self._left = _MOST_MESSAGES
        # Attributes are said again with each point: who says the same gets the same message.
        self._pairs: dict[bytes, Message] = {}

    def _count(self, depth: int, where: str) -> None:
        self._left -= 1
        if self._left < 0:
            raise BadInput(f"more than {_MOST_MESSAGES} messages in one request", where=where, hint="send fewer metrics at once")
        if depth > _MOST_DEPTH:
            raise BadInput(f"values nested more than {_MOST_DEPTH} deep", where=where)

    def message(self, kind: str, data: bytes, start: int, end: int, depth: int) -> Message:
        """The message in `data[start:end]`."""
        self._count(depth, f"byte {start}")
        known = _KINDS[kind]
        found: Message = {}
        for number, wire, a, b in fields(data, start, end):
            if number not in known:
                continue
            name, shape = known[number]
            if shape[0] == "*":
                values = found.setdefault(name, [])
                inner = shape[1:]
                if inner == "KeyValue" and wire == BYTES:
                    pair = self._pairs.get(key := data[a:b])
                    if pair is None:
                        pair = self._pairs[key] = self.message(inner, data, a, b, depth + 1)
                    values.append(pair)
                elif inner in _KINDS and wire == BYTES:
                    values.append(self.message(inner, data, a, b, depth + 1))
                elif inner not in _KINDS and wire == BYTES:
                    _packed(inner, data, a, b, values)
                else:
                    values.append(_single(inner, wire, a, name))
            elif shape in _KINDS and wire == BYTES:
                found[name] = self.message(shape, data, a, b, depth + 1)
            elif wire == BYTES and shape in ("text", "bytes", "hex"):
                found[name] = text(data, a, b) if shape == "text" else data[a:b]
            else:
                found[name] = _single(shape, wire, a, name)
        return found

    def object(self, kind: str, given: Any, where: str, depth: int) -> Message:
        """The message that JSON has as an object."""
        self._count(depth, where)
        if not isinstance(given, dict):
            raise BadInput("not an object", where=where)
        known = _NAMED[kind]
        found: Message = {}
        for name, value in given.items():
            shape = known.get(name)
            if shape is None or value is None:
                continue
            place = f"{where}.{name}"
            if shape[0] == "*":
                if not isinstance(value, list):
                    raise BadInput("not a list", where=place)
                found[name] = [self._value(shape[1:], item, f"{place}[{i}]", depth) for i, item in enumerate(value)]
            else:
                found[name] = self._value(shape, value, place, depth)
        return found

    def _value(self, shape: str, given: Any, where: str, depth: int) -> Any:
        return self.object(shape, given, where, depth + 1) if shape in _KINDS else _plain(shape, given, where)


def _single(shape: str, wire: int, value: int, name: str) -> int | float | bool:
    """A number that stands alone, of its bits."""
    if shape in _KINDS or wire != _WIRE.get(shape, VARINT):
        raise BadInput(f"field {name} has the wrong wire type", where="the body", hint="is this protobuf of OTLP metrics?")
    if shape == "double":
        (real,) = struct.unpack("<d", struct.pack("<Q", value))
        return float(real)
    if shape in ("int", "sfixed"):
        return signed(value)
    if shape == "sint":
        return (value >> 1) ^ -(value & 1)
    return bool(value) if shape == "bool" else value


def _packed(shape: str, data: bytes, start: int, end: int, out: list[Any]) -> None:
    """Numbers one after the other."""
    if shape == "uint":
        while start < end:
            value, start = varint(data, start, end)
            out.append(value)
        return
    if (end - start) % 8:
        raise BadInput("numbers of eight bytes whose length is no multiple of that", where=f"byte {start}")
    out += struct.unpack_from(f"<{(end - start) // 8}{'d' if shape == 'double' else 'Q'}", data, start)


def _plain(shape: str, given: Any, where: str) -> Any:
    """A JSON value of a kind; numbers may be written as text."""
    try:
        if shape == "text" and isinstance(given, str):
            return given
        if shape == "bool" and isinstance(given, bool):
            return given
        if shape == "hex" and isinstance(given, str):
            return bytes.fromhex(given)
        if shape == "bytes" and isinstance(given, str):
            return base64.b64decode(given, validate=True)
        if shape == "temporality" and isinstance(given, str):
            return _TEMPORALITIES.get(given, 0)
        if shape == "double" and isinstance(given, int | float | str) and not isinstance(given, bool):
            return _REALS[given] if given in _REALS else float(given)
        if shape not in ("text", "bool", "hex", "bytes", "double") and isinstance(given, int | str | float) and not isinstance(given, bool):
            number = int(given)
            low = -(1 << 63) if shape in ("int", "sfixed", "sint") else 0
            if (not isinstance(given, float) or number == given) and low <= number < 1 << 64:
                return number
    except (ValueError, OverflowError, binascii.Error):
        pass  # told below, like any other value that is none
    raise BadInput(f"not a value of kind {shape}: {str(given)[:60]!r}", where=where)
