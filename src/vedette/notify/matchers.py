"""Matchers as `alertmanager.yml` and `amtool` write them: `foo=bar`, `{foo="bar", "bär"!~"b.*"}`.

The syntax of Alertmanager 0.27 with UTF-8 names is tried first, the classic one (which allows more in bare values and less
in names) where that fails. Not here: PromQL's selectors.
"""

from __future__ import annotations

import re

from vedette.errors import BadInput
from vedette.gotemplate.literals import unquote
from vedette.model.matchers import Matcher, MatchOp

_SPACE = re.compile(r"\s*")
_OPERATOR = re.compile(r"=~|!~|!=|=")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BARE = re.compile(r"[^\s{}!=~,\\\"'`]+")
_CLASSIC = re.compile(r'\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|=|!=|!~)\s*("(?:[^"\\]|\\.)*"|[^"].*?|)\s*\Z', re.DOTALL)


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """The matchers of a text, at least one. Raises `BadInput` with the column."""
    try:
        return _Parser(text).all()
    except BadInput as error:
        try:
            return _classic(text)
        except BadInput:
            raise error from None


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def bad(self, problem: str) -> BadInput:
        return BadInput(
            f"bad matcher {self.text!r}: {problem}", where=f"1:{self.at + 1}", hint='expected something like severity="critical"'
        )

    def eat(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return match.group()

    def skip(self, char: str) -> bool:
        self.eat(_SPACE)
        if self.text.startswith(char, self.at):
            self.at += 1
            return True
        return False

    def word(self, what: str) -> str:
        self.eat(_SPACE)
        quoted = self.eat(_QUOTED)
        if quoted is not None:
            try:
                return unquote(quoted.replace("\n", "\\n"))
            except ValueError as error:
                raise self.bad(str(error)) from None
        bare = self.eat(_BARE)
        if bare is None:
            raise self.bad(f"expected {what}")
        return bare

    def one(self) -> Matcher:
        name = self.word("a label name")
        if not name:
            raise self.bad("a label name cannot be empty")
        self.eat(_SPACE)
        operator = self.eat(_OPERATOR)
        if operator is None:
            raise self.bad("expected an operator: =, !=, =~ or !~")
        return _matcher(name, operator, self.word("a value; an empty one is written in quotes"))

    def all(self) -> tuple[Matcher, ...]:
        braces = self.skip("{")
        found: list[Matcher] = []
        while not (braces and self.skip("}")):
            found.append(self.one())
            if self.skip(","):
                continue
            if braces and not self.skip("}"):
                raise self.bad("expected a comma or a closing brace")
            break
        self.eat(_SPACE)
        if self.at != len(self.text):
            raise self.bad("expected a comma or the end")
        if not found and not braces:
            raise self.bad("expected a matcher")
        return tuple(found)


def _classic(text: str) -> tuple[Matcher, ...]:
    body = text.strip()
    if body.startswith("{") and body.endswith("}"):
        body = body[1:-1]
    found = []
    for part in _split(body):
        match = _CLASSIC.match(part)
        if match is None:
            raise BadInput(f"bad matcher format: {part}")
        name, operator, value = match.groups()
        if value.startswith('"'):
            try:
                value = unquote(value.replace("\n", "\\n"))
            except ValueError as error:
                raise BadInput(str(error)) from None
        found.append(_matcher(name, operator, value))
    if not found and not text.strip():
        raise BadInput("no matcher")
    return tuple(found)


def _split(body: str) -> list[str]:
    """The parts between commas that stand outside quotes; a trailing comma ends nothing."""
    parts = re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+', body, re.DOTALL)
    return [p for p in parts if p.strip()]


def _matcher(name: str, operator: str, value: str) -> Matcher:
    op: MatchOp = operator  # type: ignore[assignment]  # the pattern admits only operators
    return Matcher(name, op, value)
