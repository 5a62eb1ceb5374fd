"""Go's constants: quoted and raw strings, character constants, numbers."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.?))", re.DOTALL)
_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, "'": 39, '"': 34}


def unquote(literal: str) -> str:
    """The value of a quoted (`"…"`) or raw (`` `…` ``) string. Raises `ValueError` for a bad escape."""
    body = literal[1:-1]
    if literal[0] == "`":
        return body.replace("\r", "")
    if "\\" not in body:
        return body
    out, at = bytearray(), 0
    for match in _ESCAPE.finditer(body):
        out += body[at : match.start()].encode()
        out += _escaped(match)
        at = match.end()
    out += body[at:].encode()
    # `\xff` may build bytes that are no UTF-8; Go keeps them, text here cannot.
    return out.decode("utf-8", "replace")


def _escaped(match: re.Match[str]) -> bytes:
    simple, hexa, short, long, octal, other = match.groups()
    if simple is not None:
        return bytes([_SIMPLE[simple]])
    if hexa is not None:
        return bytes([int(hexa, 16)])
    if octal is not None and int(octal, 8) < 256:
        return bytes([int(octal, 8)])
    if short is not None or long is not None:
        code = int(short or long, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise ValueError(f"invalid syntax: {match.group()} is no character")
        return chr(code).encode()
    raise ValueError(f"invalid syntax: unknown escape \\{other or octal}")


def char(literal: str) -> int:
    """The code point of `'x'`. Raises `ValueError` where it is not exactly one character."""
    value = unquote(literal)
    if len(value) != 1:
        raise ValueError(f"malformed character constant: {literal}")
    return ord(value)


def number(literal: str) -> int | float:
    """An integer (decimal, 0x, 0o, 0b, leading 0 for octal) or a float. Raises `ValueError` for bad syntax or overflow."""
    text = literal.replace("_", "")
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
    if re.fullmatch(r"0[0-7]+", digits):
        value = sign * int(digits, 8)
    elif re.fullmatch(r"0[xXoObB][0-9a-fA-F]+|[0-9]+", digits):
        try:
            value = sign * int(digits, 0)
        except ValueError:
            raise ValueError(f"bad number syntax: {literal!r}") from None
    else:
        try:
            return sign * float(digits)
        except ValueError:
            raise ValueError(f"bad number syntax: {literal!r}") from None
    if not -(1 << 63) <= value < 1 << 64:
        raise ValueError(f"integer overflow: {literal}")
    return value
