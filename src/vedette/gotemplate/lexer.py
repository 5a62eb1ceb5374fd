"""Go template text into tokens with positions: plain text, delimiters, and what stands between them.

Trim markers (`{{- `, ` -}}`) and comments are dealt with here, so the parser never sees them. Not here: which
tokens may follow which (`parser.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

from vedette.errors import BadInput

Kind = Literal["text", "open", "close", "space", "field", "variable", "name", "number", "char", "string", "op", "end"]

KEYWORDS = frozenset(("define", "block", "template", "if", "else", "end", "range", "with", "break", "continue", "nil", "true", "false"))

_SPACE = " \t\r\n"
_INSIDE = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
  | (?P<char>'(?:[^'\\\n]|\\.)+')
  | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:[0-9][0-9_]*)?\.?[0-9][0-9_]*\.?(?:[eE][+-]?[0-9]+)?)(?![\w.]))
  | (?P<field>\.[^\W\d]\w*)
  | (?P<variable>\$\w*)
  | (?P<name>[^\W\d]\w*)
  | (?P<op>:=|[.=|(),])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `at` is its offset in the source, in characters."""

    kind: Kind
    text: str
    at: int


def position(source: str, at: int) -> str:
    """`line:column` of an offset, both from 1."""
    return f"{source.count(chr(10), 0, at) + 1}:{at - (source.rfind(chr(10), 0, at) + 1) + 1}"


def bad(name: str, source: str, at: int, problem: str, hint: str = "") -> BadInput:
    """The error that points at offset `at` of the template called `name`."""
    return BadInput(problem, where=f"{name}:{position(source, at)}", hint=hint)


def tokens(source: str, *, name: str) -> Iterator[Token]:
    """The tokens of a template, the last of kind `end`. Raises `BadInput` for what is no token."""
    at, trim_left = 0, False
    while True:
        start = source.find("{{", at)
        text = source[at:] if start < 0 else source[at:start]
        trim_right = start >= 0 and source.startswith("-", start + 2) and source[start + 3 : start + 4] in tuple(_SPACE)
        if trim_left:
            text = text.lstrip(_SPACE)
        if trim_right:
            text = text.rstrip(_SPACE)
        if text:
            yield Token("text", text, at)
        if start < 0:
            yield Token("end", "", len(source))
            return
        inside = start + (3 if trim_right else 2)
        body = inside + (len(source[inside:]) - len(source[inside:].lstrip(_SPACE)) if trim_right else 0)
        if source.startswith("/*", body):
            at, trim_left = _comment(source, body, name)
            continue
        yield Token("open", "{{", start)
        for token in _action(source, inside, name):
            yield token
            if token.kind == "close":
                at, trim_left = token.at + len(token.text), len(token.text) > 2


def _comment(source: str, at: int, name: str) -> tuple[int, bool]:
    end = source.find("*/", at + 2)
    if end < 0:
        raise bad(name, source, at, "unclosed comment")
    closing = re.compile(r"(?:[ \t\r\n]+-)?\}\}").match(source, end + 2)
    if closing is None:
        raise bad(name, source, at, "comment ends before closing delimiter", "a comment fills its action: {{/* … */}}")
    return closing.end(), len(closing.group()) > 2


_CLOSE = re.compile(r"[ \t\r\n]+-\}\}|\}\}")


def _action(source: str, at: int, name: str) -> Iterator[Token]:
    start, depth = at, 0
    while True:
        if closing := _CLOSE.match(source, at):
            if depth:
                raise bad(name, source, at, "unclosed left parenthesis")
            yield Token("close", closing.group(), at)
            return
        match = _INSIDE.match(source, at)
        if match is None:
            raise _no_token(source, at, start, name)
        kind, text = match.lastgroup, match.group()
        if kind == "op" and text in "()":
            depth += 1 if text == "(" else -1
            if depth < 0:
                raise bad(name, source, at, "unexpected right parenthesis")
        yield Token(cast(Kind, kind), text, at)
        at = match.end()


def _no_token(source: str, at: int, start: int, name: str) -> BadInput:
    if at >= len(source):
        return bad(name, source, start, "unclosed action", "it lacks its }}")
    char = source[at]
    if char in "\"`'":
        kind = {"`": "unterminated raw quoted string", '"': "unterminated quoted string", "'": "unterminated character constant"}[char]
        return bad(name, source, at, kind)
    if char.isdigit() or char in "+-":
        word = re.compile(r"[+-]?[\w.]*").match(source, at)
        assert word is not None
        return bad(name, source, at, f"bad number syntax: {word.group() or char!r}")
    return bad(name, source, at, f"unexpected {char!r} in an action")
