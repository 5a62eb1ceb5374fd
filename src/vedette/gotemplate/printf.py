"""Go's `fmt`: how values print (`%v`), and `printf` with its verbs, flags, widths and its marks for misuse."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from vedette.gotemplate.values import NO_VALUE, Map, NoValue, Slice, Struct, bounded, format_float, type_name

MAX_WIDTH = 10_000
"""The widest field and the longest precision; Go's own limit of a million would be a way to ask for memory."""

_VERB = re.compile(r"%([-+# 0]*)(?:\[(\d+)\])?(\*|\d+)?(?:(\.)(?:\[(\d+)\])?(\*|\d+)?)?(?:\[(\d+)\])?(.?)", re.DOTALL)


def show(value: Any, *, nested: bool = False) -> str:
    """A value as `%v` prints it; nil and missing values read `<nil>` inside a list or map, `<no value>` alone."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, NoValue):
        return "<nil>" if nested else "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return format_float(value)
    if isinstance(value, Map | Slice) and "String" in value.methods:  # what Go calls a Stringer
        return str(value.methods["String"]())
    if isinstance(value, dict):
        return "map[" + bounded((f"{show(k, nested=True)}:{show(v, nested=True)}" for k, v in sorted(value.items())), " ") + "]"
    if isinstance(value, list | tuple):
        return "[" + bounded((show(v, nested=True) for v in value), " ") + "]"
    if isinstance(value, Struct):
        if "String" in value.methods:
            return str(value.methods["String"]())
        return "{" + bounded((show(v, nested=True) for v in value.fields.values()), " ") + "}"
    return "<func>"


def quote(text: str) -> str:
    """A Go string literal (`%q`)."""
    named = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}
    return '"' + "".join(named.get(c) or (c if c.isprintable() else _escape(c)) for c in text) + '"'


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def sprint(values: Sequence[Any]) -> str:
    """`print`: a space between operands where neither is a string."""
    texts = [isinstance(v, str) for v in values]
    return bounded(("" if not i or texts[i] or texts[i - 1] else " ") + _nil(v) for i, v in enumerate(values))


def sprintln(values: Sequence[Any]) -> str:
    """`println`: spaces between operands, a newline at the end."""
    return bounded((_nil(v) for v in values), " ") + "\n"


def _nil(value: Any) -> str:
    return "<nil>" if value is None or value is NO_VALUE else show(value)


def sprintf(text: str, values: Sequence[Any]) -> str:
    """`printf`. Misuse is marked in the output as Go marks it (`%!d(string=hi)`).

    Raises `ValueError` for a field over `MAX_WIDTH` or a result over `values.MAX_TEXT`.
    """
    return bounded(_Printf(text, values).parts())


class _Printf:
    def __init__(self, text: str, values: Sequence[Any]) -> None:
        self.text, self.values = text, values
        self.argument, self.reordered = 0, False

    def parts(self) -> Iterator[str]:
        at = 0
        for match in _VERB.finditer(self.text):
            yield self.text[at : match.start()]
            at = match.end()
            yield self.directive(match)
        yield self.text[at:]
        if not self.reordered and self.argument < len(self.values):
            extra = self.values[self.argument :]
            yield "%!(EXTRA " + bounded(("<nil>" if v is None else f"{type_name(v)}={_nil(v)}" for v in extra), ", ") + ")"

    def directive(self, match: re.Match[str]) -> str:
        flags, first, width, dot, second, precision, last, verb = match.groups()
        wide, exact = self.size(first, width), self.size(second, precision)
        self.jump(last)
        if dot and exact is None:
            exact = 0
        if wide is not None and wide < 0:
            flags, wide = flags + "-", -wide
        if max(wide or 0, exact or 0) > MAX_WIDTH:
            raise ValueError(f"printf field of {max(wide or 0, exact or 0)} characters, at most {MAX_WIDTH}")
        if verb in ("%", ""):
            return verb or "%!(NOVERB)"
        if not 0 <= self.argument < len(self.values):
            return f"%!{verb}({'BADINDEX' if self.reordered else 'MISSING'})"
        value = self.values[self.argument]
        self.argument += 1
        return _pad(_verb(verb, value, flags, exact), flags, wide, value, verb)

    def size(self, index: str | None, given: str | None) -> int | None:
        self.jump(index)
        if given != "*":
            return int(given[:9]) if given else None
        star = self.values[self.argument] if 0 <= self.argument < len(self.values) else None
        self.argument += 1
        return star if isinstance(star, int) and not isinstance(star, bool) else None

    def jump(self, index: str | None) -> None:
        if index is not None:
            self.argument, self.reordered = int(index[:9]) - 1, True


def _pad(text: str, flags: str, width: int | None, value: Any, verb: str) -> str:
    if width is None or len(text) >= width:
        return text
    if "-" in flags:
        return text.ljust(width)
    numeric = isinstance(value, int | float) and not isinstance(value, bool) and verb in "bcdoOxXeEfFgGvU"
    if "0" in flags and (numeric or isinstance(value, str)) and text not in ("NaN", "+Inf", "-Inf"):
        sign = text[0] if numeric and text[:1] in ("-", "+", " ") else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.rjust(width)


def _verb(verb: str, value: Any, flags: str, precision: int | None) -> str:
    if verb == "T":
        return type_name(value)
    if value is None or isinstance(value, NoValue):
        return "<nil>" if verb == "v" else f"%!{verb}(<nil>)"
    formatted = _by_type(verb, value, flags, precision)
    return f"%!{verb}({type_name(value)}={show(value)})" if formatted is None else formatted


def _by_type(verb: str, value: Any, flags: str, precision: int | None) -> str | None:
    if isinstance(value, bool):
        return show(value) if verb in "vt" else None
    if isinstance(value, int):
        return _integer(verb, value, flags, precision)
    if isinstance(value, float):
        return _float(verb, value, flags, precision)
    if isinstance(value, str):
        return _text(verb, value, flags, precision)
    if verb == "v":
        return show(value)
    if isinstance(value, Map | Slice) and "String" in value.methods:  # what Go calls a Stringer
        return str(value.methods["String"]())
    if isinstance(value, list | tuple):
        return "[" + bounded((_verb(verb, v, flags, precision) for v in value), " ") + "]"
    if isinstance(value, dict):
        pairs = sorted(value.items())
        shown = (f"{_verb(verb, k, flags, precision)}:{_verb(verb, v, flags, precision)}" for k, v in pairs)
        return "map[" + bounded(shown, " ") + "]"
    return None


_BASES: dict[str, tuple[str, str]] = {"b": ("b", "0b"), "o": ("o", "0"), "x": ("x", "0x"), "X": ("X", "0X"), "O": ("o", "0o")}


def _integer(verb: str, value: int, flags: str, precision: int | None) -> str | None:
    sign = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
    if verb in "vd":
        return sign + str(abs(value)).rjust(precision or 0, "0")
    if verb in _BASES:
        code, prefix = _BASES[verb]
        return sign + (prefix if "#" in flags or verb == "O" else "") + format(abs(value), code).rjust(precision or 0, "0")
    if verb in ("c", "q"):
        char = chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else "�"
        return char if verb == "c" else "'" + ("\\'" if char == "'" else '"' if char == '"' else quote(char)[1:-1]) + "'"
    return f"U+{value:04X}" if verb == "U" else None


def _float(verb: str, value: float, flags: str, precision: int | None) -> str | None:
    if verb not in "veEfFgG":
        return None
    default = 6 if verb in "eEfF" else None
    text = format_float(value, {"v": "g", "F": "f"}.get(verb, verb), default if precision is None else precision)
    if "+" not in flags and text == "+Inf":
        text = "+Inf"
    elif text[0] not in "+-" and text != "NaN":
        text = ("+" if "+" in flags else " " if " " in flags else "") + text
    return text


def _text(verb: str, value: str, flags: str, precision: int | None) -> str | None:
    cut = value if precision is None else value[:precision]
    if verb in "vs":
        return cut
    if verb == "q":
        return f"`{cut}`" if "#" in flags and "`" not in cut else quote(cut)
    if verb in "xX":
        digits = cut.encode().hex()
        return digits.upper() if verb == "X" else digits
    return None
