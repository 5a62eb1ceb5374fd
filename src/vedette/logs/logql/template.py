"""The templates of `line_format` and `label_format`: Go's, with the functions Loki has beside the built-in ones.

All are pure and bounded (`gotemplate.evaluate.Limits`): a template reads the labels, the line and its time, and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import re2

from vedette.gotemplate.evaluate import Limits, render
from vedette.gotemplate.functions import Function
from vedette.gotemplate.parser import parse
from vedette.gotemplate.shared import replace_all, title
from vedette.gotemplate.times import Moment, moment_of
from vedette.gotemplate.values import Map, type_name
from vedette.logs.logql.tokens import bytes_of, duration_of
from vedette.regex import bounded

_LIMITS = Limits(steps=20_000, output=256 << 10, depth=20)
_MOST_PADDING = 4_096
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = 8 << 20


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"wrong type for value; expected string; got {type_name(value)}")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0.0
    try:
        return float(value)
    except ValueError:
        return 0.0  # as the functions of Loki's templates have it


def _whole(value: Any) -> int:
    """Wrapped to 64 bits as Go's are: a few products of products would fill the memory otherwise."""
    if not isinstance(value, int):
        found = _number(value)
        value = int(found) if math.isfinite(found) else 0
    return (int(value) + (1 << 63)) % (1 << 64) - (1 << 63)


def _padding(value: Any) -> int:
    found = _whole(value)
    if not 0 <= found <= _MOST_PADDING:
        raise ValueError(f"{found} is not from 0 to {_MOST_PADDING}")
    return found


def _divided(first: Any, second: Any) -> int:
    a, b = _whole(first), _whole(second)
    if b == 0:
        raise ValueError("division by zero")
    return int(math.copysign(abs(a) // abs(b), a * b)) if a else 0


def _rest(first: Any, second: Any) -> int:
    return _whole(first) - _whole(second) * _divided(first, second)


def _folded(fold: Callable[[Any, Any], Any], kind: Callable[[Any], Any]) -> Function:
    def function(first: Any, *others: Any) -> Any:
        found = kind(first)
        for other in others:
            found = kind(fold(found, kind(other)))
        return found

    return function


def _rounded(value: Any, digits: Any, half: Any = 0.5) -> float:
    scale = 10.0 ** max(-300, min(300, _whole(digits)))
    number = _number(value) * scale
    if not math.isfinite(number):
        return _number(value)
    low = math.floor(abs(number))
    return math.copysign(low + (abs(number) - low >= _number(half)), number) / scale


def _substr(start: Any, end: Any, text: Any) -> str:
    first, last, data = _whole(start), _whole(end), _text(text)
    if first < 0:
        return data[: max(0, last)]
    return data[first:] if last < 0 or last > len(data) else data[first : max(first, last)]


def _trunc(length: Any, text: Any) -> str:
    count, data = _whole(length), _text(text)
    return data[count:] if count < 0 and len(data) + count > 0 else data if count < 0 else data[:count]


def _aligned(left: bool) -> Function:
    def function(count: Any, text: Any) -> str:
        width, data = _padding(count), _text(text)
        return data[:width].ljust(width) if left else (data[-width:] if width else "").rjust(width)

    return function


def _indented(spaces: Any, text: Any) -> str:
    pad = " " * _padding(spaces)
    return pad + _text(text).replace("\n", "\n" + pad)


def _count(pattern: Any, text: Any) -> int:
    try:
        return sum(1 for _ in bounded(_text(pattern), _OPTIONS).finditer(_text(text)))
    except re2.error:
        raise ValueError(f"error parsing regexp: {pattern!r}") from None


def _decoded(text: Any) -> str:
    try:
        return base64.b64decode(_text(text), validate=True).decode("utf-8", "replace")
    except binascii.Error as error:
        raise ValueError(f"illegal base64 data: {error}") from None


def _from_json(text: Any) -> Any:
    try:
        return json.loads(_text(text))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None


def _seconds(text: Any) -> float:
    found = duration_of(_text(text))
    if found is None:
        raise ValueError(f"invalid duration {text!r}")
    return found


def _size(text: Any) -> float:
    found = bytes_of(_text(text))
    if found is None:
        raise ValueError(f"invalid size {text!r}")
    return found


def _date(layout: Any, moment: Any) -> str:
    return str(moment_of(moment).methods["Format"](layout))


def _upright(way: Callable[[float], int]) -> Function:
    def function(value: Any) -> float:
        found = _number(value)
        return float(way(found)) if math.isfinite(found) else found

    return function


def _quotient(first: float, second: float) -> float:
    if second:
        return first / second
    return math.copysign(math.inf, first) if first else math.nan


FUNCTIONS: dict[str, Function] = {
    "ToLower": lambda text: _text(text).lower(),
    "ToUpper": lambda text: _text(text).upper(),
    "lower": lambda text: _text(text).lower(),
    "upper": lambda text: _text(text).upper(),
    "title": title,
    "Replace": lambda text, old, new, count: _text(text).replace(_text(old), _text(new), max(-1, _whole(count))),
    "replace": lambda old, new, text: _text(text).replace(_text(old), _text(new)),
    "Trim": lambda text, cut: _text(text).strip(_text(cut)),
    "TrimLeft": lambda text, cut: _text(text).lstrip(_text(cut)),
    "TrimRight": lambda text, cut: _text(text).rstrip(_text(cut)),
    "TrimPrefix": lambda text, cut: _text(text).removeprefix(_text(cut)),
    "TrimSuffix": lambda text, cut: _text(text).removesuffix(_text(cut)),
    "TrimSpace": lambda text: _text(text).strip(),
    "trim": lambda text: _text(text).strip(),
    "trimAll": lambda cut, text: _text(text).strip(_text(cut)),
    "trimPrefix": lambda cut, text: _text(text).removeprefix(_text(cut)),
    "trimSuffix": lambda cut, text: _text(text).removesuffix(_text(cut)),
    "trunc": _trunc,
    "substr": _substr,
    "alignLeft": _aligned(True),
    "alignRight": _aligned(False),
    "indent": _indented,
    "nindent": lambda spaces, text: "\n" + _indented(spaces, text),
    "repeat": lambda count, text: _text(text) * _padding(count),
    "contains": lambda part, text: _text(part) in _text(text),
    "hasPrefix": lambda part, text: _text(text).startswith(_text(part)),
    "hasSuffix": lambda part, text: _text(text).endswith(_text(part)),
    "default": lambda other, value=None: value if value else other,
    "regexReplaceAll": lambda pattern, text, new: replace_all(pattern, new, text),
    "regexReplaceAllLiteral": lambda pattern, text, new: replace_all(pattern, _text(new).replace("$", "$$"), text),
    "count": _count,
    "urlencode": lambda text: urllib.parse.quote_plus(_text(text), safe="-_.~"),
    "urldecode": lambda text: urllib.parse.unquote_plus(_text(text)),
    "b64enc": lambda text: base64.b64encode(_text(text).encode()).decode(),
    "b64dec": _decoded,
    "fromJson": _from_json,
    "int": _whole,
    "float64": _number,
    "add": _folded(lambda a, b: a + b, _whole),
    "sub": lambda a, b: _whole(_whole(a) - _whole(b)),
    "mul": _folded(lambda a, b: a * b, _whole),
    "div": _divided,
    "mod": _rest,
    "max": _folded(max, _whole),
    "min": _folded(min, _whole),
    "addf": _folded(lambda a, b: a + b, _number),
    "subf": _folded(lambda a, b: a - b, _number),
    "mulf": _folded(lambda a, b: a * b, _number),
    "divf": _folded(_quotient, _number),
    "maxf": _folded(max, _number),
    "minf": _folded(min, _number),
    "ceil": _upright(math.ceil),
    "floor": _upright(math.floor),
    "round": _rounded,
    "duration": _seconds,
    "duration_seconds": _seconds,
    "bytes": _size,
    "date": _date,
    "unixEpoch": lambda moment: str(moment_of(moment).ms // 1000),
    "unixEpochMillis": lambda moment: str(moment_of(moment).ms),
    "unixEpochNanos": lambda moment: str(moment_of(moment).ms * 1_000_000),
}
"""By the names that Loki gives them; each raises `ValueError` for what it cannot take."""


class LineTemplate:
    """A template over the labels of a line."""

    def __init__(self, source: str, *, name: str) -> None:
        """Raises `BadInput` with the position for what is no template."""
        self._template = parse(source, name=name, functions=[*FUNCTIONS, "__line__", "__timestamp__"])

    def render(self, labels: Mapping[str, str], line: str, time: int) -> str:
        """The text for one line of Unix ns `time`. Raises `BadInput` where a function cannot take its argument, or it is too long."""
        functions = {**FUNCTIONS, "__line__": lambda: line, "__timestamp__": lambda: Moment(time // 1_000_000)}
        return render(self._template, Map(labels, zero=""), functions=functions, limits=_LIMITS)
