"""The functions every Go template has, and those that Prometheus and Alertmanager share.

`BUILTINS` are always there; `TEXT` and `HUMANIZE` are what a caller hands to `parse` and `render`. A function raises
`ValueError` for arguments it cannot take; the evaluator turns that into an error with a position. `and` and `or` are
only named here: they do not evaluate all their arguments, so they belong to the evaluator.
"""

from __future__ import annotations

import html
import json
import urllib.parse
from collections.abc import Callable
from typing import Any

from vedette.gotemplate.printf import sprint, sprintf, sprintln
from vedette.gotemplate.values import NO_VALUE, Map, NoValue, Struct, truth, type_name

Function = Callable[..., Any]


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "string"
    return "nil" if value is None or isinstance(value, NoValue) else "other"


def _equal(first: Any, second: Any) -> bool:
    a, b = _kind(first), _kind(second)
    if "other" in (a, b):
        if isinstance(first, dict | list | Struct) or isinstance(second, dict | list | Struct):
            raise ValueError(f"non-comparable type {type_name(first)}")
        return bool(first is second)
    if a != b:
        if "nil" in (a, b):
            return False
        raise ValueError("incompatible types for comparison")
    return a == "nil" or bool(first == second)


def _eq(first: Any, *others: Any) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    return any(_equal(first, other) for other in others)


def _less(first: Any, second: Any) -> bool:
    a, b = _kind(first), _kind(second)
    if a not in ("int", "float", "string") or b not in ("int", "float", "string"):
        raise ValueError("invalid type for comparison")
    if a != b:
        raise ValueError("incompatible types for comparison")
    return bool(first < second)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            if not isinstance(key, str):
                raise ValueError(f"value has type {type_name(key)}; should be string")
            value = dict.get(value, key, value.zero if isinstance(value, Map) else NO_VALUE)
        elif isinstance(value, list | tuple | str):
            value = _at(value, key)
        else:
            raise ValueError("index of untyped nil" if value is None else f"can't index item of type {type_name(value)}")
    return value


def _at(value: Any, key: Any) -> Any:
    if not isinstance(key, int) or isinstance(key, bool):
        raise ValueError(f"cannot index slice/array with type {type_name(key)}")
    items: Any = value.encode() if isinstance(value, str) else value
    if not 0 <= key < len(items):
        raise ValueError(f"index out of range: {key}")
    return items[key]


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, list | tuple | str) or len(bounds) > 2:
        raise ValueError(f"can't slice item of type {type_name(value)}")
    if any(not isinstance(b, int) or isinstance(b, bool) for b in bounds):
        raise ValueError("cannot index slice/array with that type")
    items: Any = value.encode() if isinstance(value, str) else value
    low = bounds[0] if bounds else 0
    high = bounds[1] if len(bounds) == 2 else len(items)
    if not 0 <= low <= high <= len(items):
        raise ValueError(f"index out of range: {high if not 0 <= high <= len(items) else low}")
    cut = items[low:high]
    return cut.decode("utf-8", "replace") if isinstance(value, str) else cut


def _len(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict | list | tuple):
        return len(value)
    raise ValueError(f"len of type {type_name(value)}")


def _printf(form: Any, *values: Any) -> str:
    if not isinstance(form, str):
        raise ValueError(f"wrong type for value; expected string; got {type_name(form)}")
    return sprintf(form, values)


def _html(*values: Any) -> str:
    return html.escape(sprint(values)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")


def _js(*values: Any) -> str:
    text = json.dumps(sprint(values))[1:-1]
    return text.replace("'", "\\'").replace("<", "\\u003C").replace(">", "\\u003E").replace("&", "\\u0026").replace("=", "\\u003D")


def _call(*_: Any) -> Any:
    raise ValueError("error calling call: no value here is a function")


def _lazy(*_: Any) -> Any:
    raise AssertionError("and/or belong to the evaluator")


BUILTINS: dict[str, Function] = {
    "and": _lazy,
    "or": _lazy,
    "not": lambda value: not truth(value),
    "eq": _eq,
    "ne": lambda a, b: not _equal(a, b),
    "lt": _less,
    "le": lambda a, b: _less(a, b) or _equal(a, b),
    "gt": lambda a, b: _less(b, a),
    "ge": lambda a, b: _less(b, a) or _equal(a, b),
    "index": _index,
    "slice": _slice,
    "len": _len,
    "print": lambda *values: sprint(values),
    "println": lambda *values: sprintln(values),
    "printf": _printf,
    "html": _html,
    "js": _js,
    "urlquery": lambda *values: urllib.parse.quote_plus(sprint(values), safe="-_.~"),
    "call": _call,
}
