"""Go's view of values: what templates may look into, what is true, and how `%v` prints.

Only these can be looked into: `dict` (a `map[string]any`), `Map` (a map whose missing keys have a zero value), lists and
tuples, `Struct` and `Slice` (named fields and methods that the caller listed). No attribute of a Python object is
ever read, so a template cannot reach the interpreter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

MAX_TEXT = 256 << 10
"""The longest text a function may build, in characters: a template must not ask for all memory."""

Method = Callable[..., Any]


class Map(dict[str, Any]):
    """A map whose missing keys read as `zero` (a `map[string]string` has ""), with the methods the caller lists."""

    __slots__ = ("methods", "zero")

    def __init__(self, values: Mapping[str, Any], *, zero: Any = "", methods: Mapping[str, Method] | None = None) -> None:
        super().__init__(values)
        self.zero = zero
        self.methods = methods or {}


class Slice(tuple[Any, ...]):
    """A list with methods (`.Alerts.Firing`). Build it with `Slice.of`."""

    methods: Mapping[str, Method]

    @classmethod
    def of(cls, items: Sequence[Any], **methods: Method) -> Slice:
        """The list of `items` with `methods` by name."""
        made = cls(items)
        made.methods = methods
        return made


class Struct:
    """Named fields; asking for another one is an error, as in Go. `kind` is the type's name in that error."""

    __slots__ = ("fields", "kind", "methods")

    def __init__(self, kind: str, fields: Mapping[str, Any], *, methods: Mapping[str, Method] | None = None) -> None:
        self.kind = kind
        self.fields = fields
        self.methods = methods or {}


class SafeText(str):
    """Text that an HTML template would not escape (`safeHtml`)."""

    __slots__ = ()


class NoValue:
    """What a missing key of a `map[string]any` yields: it prints `<no value>` and is false."""

    __slots__ = ()


NO_VALUE = NoValue()


def bounded(parts: Iterable[str], separator: str = "") -> str:
    """The parts joined. Raises `ValueError` as soon as they exceed `MAX_TEXT`, before they are in memory together."""
    kept: list[str] = []
    size = 0
    for part in parts:
        size += len(part) + len(separator)
        if size > MAX_TEXT:
            raise ValueError(f"a text of more than {MAX_TEXT} characters")
        kept.append(part)
    return separator.join(kept)


def truth(value: Any) -> bool:
    """Go templates' truth: false, 0, "", nil and anything empty are false; a struct is true."""
    if value is None or isinstance(value, NoValue):
        return False
    if isinstance(value, Struct):
        return True
    if isinstance(value, bool | int | float | str | dict | list | tuple):
        return bool(value)
    return True


def type_name(value: Any) -> str:
    """The type as `%T` prints it."""
    if value is None or isinstance(value, NoValue):
        return "<nil>"
    for python, go in ((bool, "bool"), (int, "int"), (float, "float64"), (str, "string")):
        if isinstance(value, python):
            return go
    if isinstance(value, Map):
        return "map[string]string" if value.zero == "" else "map[string]interface {}"
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, list | tuple):
        return "[]interface {}"
    return value.kind if isinstance(value, Struct) else "func"


def format_float(value: float, verb: str = "g", precision: int | None = None) -> str:
    """A float as strconv prints it for `e`, `f`, `g` (and upper case); without precision the shortest that reads back."""
    if value != value:
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    upper, kind = verb.isupper(), verb.lower()
    text = f"{value:.{precision}{kind}}" if precision is not None else _shortest(value, kind)
    return text.upper() if upper else text


def _shortest(value: float, kind: str) -> str:
    digits, exponent = f"{value!r}".lower(), 0
    sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
    if "e" in digits:
        digits, power = digits.split("e")
        exponent = int(power)
    whole, _, fraction = digits.partition(".")
    fraction = "" if fraction == "0" else fraction
    exponent += len(whole) - 1
    figures = whole + fraction
    stripped = figures.lstrip("0")
    exponent -= len(figures) - len(stripped) if stripped else 0
    figures = stripped.rstrip("0") or "0"
    exponent = exponent if stripped else 0
    # Go turns to an exponent below -4 and from 6 on where the precision is the shortest: 1e+06, but 123456.
    if kind == "e" or (kind == "g" and not -4 <= exponent < 6):
        mantissa = figures[0] + ("." + figures[1:] if len(figures) > 1 else "")
        return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{figures}"
    if len(figures) <= exponent + 1:
        return sign + figures + "0" * (exponent + 1 - len(figures))
    return f"{sign}{figures[: exponent + 1]}.{figures[exponent + 1 :]}"
