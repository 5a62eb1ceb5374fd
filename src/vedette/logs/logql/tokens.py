"""The words of a LogQL query, with their places; numbers, durations and sizes read.

Not here: what they mean together (`parser.py`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from vedette.errors import BadInput

Kind = Literal["string", "number", "duration", "bytes", "name", "sign", "end"]

_WORD = re.compile(
    r"(?P<space>[ \t\r\n]+|\#[^\n]*)"
    r'|(?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)'
    r"|(?P<number>(?:0[xX][0-9a-fA-F]+(?![\w.])|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+(?![\w.]))?)[a-zA-Zµμ0-9.]*)"
    r"|(?P<name>[a-zA-Z_][\w.]*)"
    r"|(?P<flag>--(?:strict|keep-empty)\b)"
    r"|(?P<sign>\|=|\|~|\|>|!=|!~|!>|=~|==|>=|<=|[-+*/%^|=<>(){}\[\],])",
    re.ASCII,
)
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h|d|w|y)")
_UNITS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0,
    "y": 31_536_000.0,
}  # fmt: skip
_BYTES = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmgtpe]?)(i?)(b?)\Z", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_MOST = 131_072


@dataclass(frozen=True, slots=True)
class Token:
    """One word: `text` as it stands, `at` its place, `value` what a string says or a number is (seconds, bytes)."""

    kind: Kind
    text: str
    at: int
    string: str = ""
    value: float = 0.0


def misread(text: str, at: int, problem: str, hint: str = "") -> BadInput:
    """The refusal that points at a place."""
    before = text[:at]
    line, column = before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1
    return BadInput(f"syntax error: {problem}", where=f"parse error at line {line}, col {column}", hint=hint)


def tokens(text: str) -> list[Token]:
    """All words of a query, an `end` behind them. Raises `BadInput`."""
    if len(text) > _MOST:
        raise BadInput(f"a query of more than {_MOST:,} characters")
    found: list[Token] = []
    at = 0
    while at < len(text):
        word = _WORD.match(text, at)
        if word is None:
            said = "literal not terminated" if text[at] in '"`' else f"unexpected character {text[at]!r}"
            raise misread(text, at, said)
        kind = word.lastgroup
        if kind == "string":
            found.append(Token("string", word[0], at, unquoted(word[0])))
        elif kind == "number":
            found.append(_number(text, word[0], at))
        elif kind != "space":
            found.append(Token("name" if kind == "name" else "sign", word[0], at))
        at = word.end()
    return [*found, Token("end", "", len(text))]


def _number(text: str, word: str, at: int) -> Token:
    try:
        value = float.fromhex(word) if word[:2] in ("0x", "0X") else float(word)
    except (ValueError, OverflowError):
        value = math.nan
    if math.isfinite(value):
        return Token("number", word, at, value=value)
    if (seconds := duration_of(word)) is not None:
        return Token("duration", word, at, value=seconds)
    if (size := bytes_of(word)) is not None:
        return Token("bytes", word, at, value=size)
    raise misread(text, at, f"not a number, a duration or a size: {word[:40]!r}", "expected one such as 5, 1.5s, 10m or 20KB")


def duration_of(text: str) -> float | None:
    """Seconds of a duration such as `1h30m`, `1.5s` or `-20ms`; None where it is none."""
    negative = text.startswith("-")
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0.0
    total, at = 0.0, 0
    while at < len(rest):
        part = _DURATION.match(rest, at)
        if part is None:
            return None
        digits = re.match(r"[\d.]+", part[0])
        assert digits is not None
        total += float(digits[0]) * _UNITS[part[0][digits.end() :]]
        at = part.end()
    return (-total if negative else total) if rest else None


def bytes_of(text: str) -> float | None:
    """Bytes of a size such as `20KB` (1000s) or `5MiB` (1024s); None where it is none."""
    found = _BYTES.match(text.strip())
    if found is None:
        return None
    base = 1024 if found[3] else 1000
    return float(found[1]) * float(base ** (" kmgtpe".index(found[2].lower()) if found[2] else 0))


def unquoted(text: str) -> str:
    """What a quoted text says."""
    inner = text[1:-1]
    return inner if text[0] == "`" else _ESCAPE.sub(_escaped, inner)


def _escaped(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] in "xuU" and len(code) > 1:
        number = int(code[1:], 16)
        return chr(number) if number < 0x110000 else "\ufffd"
    if len(code) == 3:
        return chr(int(code, 8))
    # As written where it is no escape: people write regular expressions with one backslash.
    return _ESCAPES.get(code, code if code in "\"'\\" else found[0])
