"""The commands of a PromQL test script (`.test` files), read from its text: what is loaded, what is evaluated, what is expected.

Not here: running them (`testscript.py`), and how series and their values are written (`seriesnotation.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import re2

from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.model.labels import Labels
from vedette.model.matchers import go_regex_problem
from vedette.promql.lexer import Token, unquote
from vedette.promql.seriesnotation import SeriesLine, parse_labels, parse_series, parse_starts, parse_value

_LOAD = re.compile(r"load(?:_(with_nhcb))?\s+(.+?)$")
_INSTANT = re.compile(r"eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?))?\s+(.+)$")
_RANGE = re.compile(r"eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$")
_EXPECT = re.compile(r"expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?$")
_STARTS = re.compile(r"([^\s{]*(?:\{[^}]*\})?)@st\s+(.*)")
_RANGE_VECTOR = re.compile(r"expect range vector\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+)$")
_STRING = re.compile(r'expect string\s+(["`].*["`])$')


_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


class Wanted:
    """What a message has to be: anything, a text (`msg:`), or one in which an expression of RE2 is found (`regex:`)."""

    def __init__(self, kind: str, text: str) -> None:
        """Raises `BadInput` for an expression that is none."""
        self.text = text
        self._kind = kind
        self._pattern: Any = None
        if kind == "regex":
            if problem := go_regex_problem(text):
                raise BadInput(problem, hint="RE2 syntax")
            self._pattern = re2.compile(text, _OPTIONS)

    def met(self, message: str) -> bool:
        """Whether a message is such."""
        if self._pattern is not None:
            return self._pattern.search(message) is not None
        return not self._kind or message == self.text

    def __str__(self) -> str:
        return {"msg": repr(self.text), "regex": f"one like {self.text!r}"}.get(self._kind, "any")


@dataclass(slots=True)
class Expectation:
    """What an `eval` block asks for."""

    rows: list[SeriesLine] = field(default_factory=list)
    scalar: float | None = None
    string: str | None = None
    ordered: bool = False
    fail: Wanted | None = None
    annotations: dict[str, list[Wanted]] = field(default_factory=dict)
    vector_range: tuple[int, int, int] | None = None


@dataclass(slots=True)
class Eval:
    """One `eval` command: the expression, its times (ms; start = end for instants) and what is expected."""

    line: int
    expr: str
    start: int
    end: int
    step: int
    instant: bool
    expect: Expectation


@dataclass(slots=True)
class Load:
    """One `load` command."""

    line: int
    interval: int
    with_nhcb: bool
    rows: list[SeriesLine]
    starts: dict[Labels, list[int | None]]


Command = Load | Eval | Literal["clear"]


def parse_script(text: str, name: str = "<script>") -> list[Command]:
    """The commands of a script. Raises `BadInput` with the line of what cannot be read."""
    lines = [line.strip() for line in text.split("\n")]
    lines = ["" if line.startswith("#") else line for line in lines]
    commands: list[Command] = []
    at = 0
    while at < len(lines):
        if not lines[at]:
            at += 1
            continue
        end = at + 1
        word = lines[at].split()[0].lower()
        try:
            if word == "clear":
                commands.append("clear")
            elif word.startswith("load"):
                end = _block_end(lines, at)
                commands.append(_load(lines, at, end))
            elif word.startswith("eval"):
                end = _block_end(lines, at)
                command, end = _eval(lines, at, end)
                commands.append(command)
            else:
                raise BadInput(f"unknown command {word!r}", hint="expected load, eval or clear")
        except BadInput as error:
            where = error.where if error.where.startswith("line ") else f"line {at + 1}"
            raise BadInput(error.problem, where=f"{name}:{where.removeprefix('line ')}", hint=error.hint) from None
        at = end
    return commands


def _block_end(lines: Sequence[str], at: int) -> int:
    end = at + 1
    while end < len(lines) and lines[end]:
        end += 1
    return end


@contextmanager
def _at(line: int) -> Iterator[None]:
    """Errors within are those of line number `line`, from 0 on."""
    try:
        yield
    except BadInput as error:
        raise BadInput(error.problem, where=f"line {line + 1}", hint=error.hint) from None


def _load(lines: Sequence[str], at: int, end: int) -> Load:
    found = _LOAD.match(lines[at])
    if found is None:
        raise BadInput("not a load command", hint="expected load <interval>")
    rows: dict[Labels, SeriesLine] = {}
    starts: dict[Labels, list[int | None]] = {}
    pending: tuple[Labels, list[int | None]] | None = None
    for number, line in enumerate(lines[at + 1 : end], at + 1):
        with _at(number):
            begun = _STARTS.match(line)
            if begun and pending is None:
                pending = parse_labels(begun.group(1)), parse_starts(begun.group(2))
                continue
            row = None if begun else parse_series(line)
            if pending is not None:
                _refuse_other_starts(*pending, row)
                starts[pending[0]], pending = pending[1], None
            assert row is not None, "a second line of start timestamps was refused"
            rows[row.labels] = row
    if pending is not None:
        with _at(end - 1):
            _refuse_other_starts(*pending, None)
    return Load(at + 1, parse_duration(found.group(2)), found.group(1) is not None, list(rows.values()), starts)


def _refuse_other_starts(labels: Labels, starts: Sequence[int | None], row: SeriesLine | None) -> None:
    if row is None or row.labels != labels:
        other = "none" if row is None else row.labels
        raise BadInput(f"the start timestamps of {labels} stand before the values of {other}", hint="its own come next")
    if len(starts) != len(row.items):
        raise BadInput(f"{len(starts)} start timestamps for {len(row.items)} values of {labels}")


def _eval(lines: Sequence[str], at: int, end: int) -> tuple[Eval, int]:
    if found := _INSTANT.match(lines[at]):
        how, time, expr = found.groups()
        start = parse_duration(time) if time else 0
        command = Eval(at + 1, expr, start, start, 1, True, Expectation())
    elif found := _RANGE.match(lines[at]):
        how, first, last, step, expr = found.groups()
        command = Eval(at + 1, expr, parse_duration(first), parse_duration(last), parse_duration(step), False, Expectation())
    else:
        raise BadInput("not an eval command", hint="expected eval instant at <time> <expr> or eval range from <t> to <t> step <d> <expr>")
    expect = command.expect
    if how == "fail":
        expect.fail = Wanted("", "")
    elif how == "ordered":
        expect.ordered = True
    elif how:
        expect.annotations[how] = [Wanted("", "")]
    for i in range(at + 1, end):
        with _at(i):
            more = _expectation(lines[i], expect)
        if not more:
            end = i + 1
            break
    _refuse_nonsense(command)
    return command, end


def _refuse_nonsense(command: Eval) -> None:
    """Raise `BadInput` for what no result could meet."""
    expect = command.expect
    if command.end < command.start:
        raise BadInput("the range ends before it begins", hint="eval range from <first> to <last> step <duration> <expr>")
    if expect.ordered and not command.instant:
        raise BadInput("a range query has no order to expect", hint="its series are always in order of their labels")
    for kind in ("warn", "info"):
        if {kind, f"no_{kind}"} <= expect.annotations.keys():
            raise BadInput(f"expects {kind} and no_{kind} at once")
    if command.instant and expect.vector_range is None:
        for row in expect.rows:
            if len(row.items) > 1:
                raise BadInput(f"{len(row.items)} values of {row.labels} at one time", hint="expect range vector, or one value")


def _expectation(line: str, expect: Expectation) -> bool:
    """Take in one line of an eval block; False where it ends the block."""
    if found := _RANGE_VECTOR.match(line):
        first, last, step = (parse_duration(g) for g in found.groups())
        expect.vector_range = (first, last, step)
    elif found := _STRING.match(line):
        text = found.group(1)
        expect.string = unquote(Token("STRING", text, 0, len(text)), text)
    elif line.startswith("expected_fail_"):
        kind, _, text = line.partition(" ")
        expect.fail = Wanted("regex" if kind.endswith("regexp") else "msg", text.strip())
    elif line.split()[0] == "expect":
        found = _EXPECT.match(line)
        if found is None:
            raise BadInput(f"not an expectation: {line!r}")
        what, kind, text = found.group(1), found.group(2) or "", (found.group(3) or "").strip()
        if what == "ordered":
            expect.ordered = True
        elif what == "fail":
            if expect.fail:
                raise BadInput("expects to fail twice")
            expect.fail = Wanted(kind, text)
        else:
            expect.annotations.setdefault(what, []).append(Wanted(kind, text))
    else:
        try:
            expect.scalar = parse_value(line)
        except BadInput:
            expect.rows.append(parse_series(line))
        else:
            return False
    return True
