"""PromQL test scripts (`.test` files): load series, evaluate, compare with what is expected.

The language is that of Prometheus' own test files. A script runs on an engine over memory; each `eval` has its own
`Outcome`, and one that fails does not stop the rest.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vedette.clock import SystemClock
from vedette.errors import BadInput, VedetteError
from vedette.model.durations import parse_duration
from vedette.model.histogram_arithmetic import compacted
from vedette.model.histograms import Histogram
from vedette.model.labels import Labels
from vedette.model.samples import STALE_BITS
from vedette.promql.engine import Engine
from vedette.promql.errors import ParseError
from vedette.promql.lexer import Token, unquote
from vedette.promql.memory import MemoryStorage
from vedette.promql.native_render import literal
from vedette.promql.nhcb import converted
from vedette.promql.nodes import Call, Node, walk
from vedette.promql.printer import pinned
from vedette.promql.result import QueryResult
from vedette.promql.seriesnotation import HistogramLiteral, Item, SeriesLine, parse_labels, parse_series, parse_starts, parse_value
from vedette.promql.settings import PromqlSettings

SCRIPT_SETTINGS = PromqlSettings(
    delayed_name_removal=True,
    use_start_timestamps=True,
    experimental_functions=True,
    extended_range_selectors=True,
    binop_fill_modifiers=True,
)
"""What Prometheus' own scripts assume."""

_LOAD = re.compile(r"load(?:_(with_nhcb))?\s+(.+?)$")
_INSTANT = re.compile(r"eval(?:_(fail|warn|ordered|info))?\s+instant\s+(?:at\s+(.+?))?\s+(.+)$")
_RANGE = re.compile(r"eval(?:_(fail|warn|info))?\s+range\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+?)\s+(.+)$")
_EXPECT = re.compile(r"expect\s+(ordered|fail|warn|no_warn|info|no_info)(?:\s+(regex|msg):(.+))?$")
_STARTS = re.compile(r"[^\s{]*(?:\{[^}]*\})?@st\s+(.*)")
_RANGE_VECTOR = re.compile(r"expect range vector\s+from\s+(.+)\s+to\s+(.+)\s+step\s+(.+)$")
_STRING = re.compile(r'expect string\s+(["`].*["`])$')
_UNSAFE_AT = frozenset((*Call.UNSAFE_AT, "start", "end", "range", "step"))
_OF_QUERY = re.compile(r"(?i)\b(?:start|end|range|step)\s*\(")
_EPSILON = 1e-6
_SMALLEST = 2.2250738585072014e-308


@dataclass(slots=True)
class Expectation:
    """What an `eval` block asks for."""

    rows: list[SeriesLine] = field(default_factory=list)
    scalar: float | None = None
    string: str | None = None
    ordered: bool = False
    fail: tuple[str, str] | None = None
    annotations: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one `eval` came out. `problem` says what was got and wanted."""

    line: int
    expr: str
    passed: bool
    problem: str = ""


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
            where = error.where if error.where.startswith(name) else f"{name}:{at + 1}"
            raise BadInput(error.problem, where=where, hint=error.hint) from None
        at = end
    return commands


def _block_end(lines: Sequence[str], at: int) -> int:
    end = at + 1
    while end < len(lines) and lines[end]:
        end += 1
    return end


def _load(lines: Sequence[str], at: int, end: int) -> Load:
    found = _LOAD.match(lines[at])
    if found is None:
        raise BadInput("not a load command", hint="expected load <interval>")
    rows: dict[Labels, SeriesLine] = {}
    starts: dict[Labels, list[int | None]] = {}
    pending: list[int | None] | None = None
    for line in lines[at + 1 : end]:
        if begun := _STARTS.match(line):
            pending = parse_starts(begun.group(1))
            continue
        row = parse_series(line)
        rows[row.labels] = row
        if pending is not None:
            if len(pending) != len(row.items):
                raise BadInput(f"{len(pending)} start timestamps for {len(row.items)} values of {row.labels}")
            starts[row.labels], pending = pending, None
    return Load(at + 1, parse_duration(found.group(2)), found.group(1) is not None, list(rows.values()), starts)


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
        expect.fail = ("", "")
    elif how == "ordered":
        expect.ordered = True
    elif how:
        expect.annotations[how] = [("", "")]
    for i in range(at + 1, end):
        if not _expectation(lines[i], expect):
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
        expect.fail = ("regex" if kind.endswith("regexp") else "msg", text.strip())
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
            expect.fail = (kind, text)
        else:
            expect.annotations.setdefault(what, []).append((kind, text))
    else:
        try:
            expect.scalar = parse_value(line)
        except BadInput:
            expect.rows.append(parse_series(line))
        else:
            return False
    return True


def almost_equal(a: float, b: float) -> bool:
    """Equality within a relative 1e-6 of the sum, as Prometheus' runner has it; a stale marker equals only itself."""
    bits: list[int] = [struct.unpack("<Q", struct.pack("<d", v))[0] for v in (a, b)]
    if STALE_BITS in bits:
        return bits[0] == bits[1]
    if math.isnan(a) and math.isnan(b):
        return True
    if a == b:
        return True
    total, diff = abs(a) + abs(b), abs(a - b)
    if a == 0 or b == 0 or total < _SMALLEST:
        return diff < _EPSILON * _SMALLEST
    return diff / min(total, 1.7976931348623157e308) < _EPSILON


class Script:
    """Runs the commands of one script, which starts with an empty storage. `variants` adds, to each instant `eval`, the
    executions with `@` modifiers and as a range query that must give the same."""

    def __init__(self, settings: PromqlSettings = SCRIPT_SETTINGS, *, variants: bool = False) -> None:
        self._storage = MemoryStorage()
        self._engine = Engine(self._storage, settings, SystemClock())
        self._variants = variants

    def run(self, commands: Sequence[Command]) -> Iterator[Outcome]:
        """The outcome of each `eval`, in order."""
        for command in commands:
            if command == "clear":
                self._storage.clear()
            elif isinstance(command, Load):
                self._load(command)
            elif isinstance(command, Eval):
                yield self._eval(command)

    def close(self) -> None:
        """Let go of the engine's threads."""
        self._engine.close()

    def _load(self, command: Load) -> None:
        floats: list[tuple[Labels, int, float]] = []
        for row in command.rows:
            starts = command.starts.get(row.labels, [None] * len(row.items))
            for i, (item, offset) in enumerate(zip(row.items, starts, strict=True)):
                time = i * command.interval
                start = 0 if offset is None else time + offset
                if isinstance(item, float):
                    floats.append((row.labels, time, item))
                    self._storage.add(row.labels, time, item, start=start)
                elif item is not None:
                    self._storage.add(row.labels, time, item.histogram, start=start)
        if command.with_nhcb:
            for labels, time, histogram in converted(floats):
                self._storage.add(labels, time, histogram)

    def _eval(self, command: Eval) -> Outcome:
        try:
            root = self._engine.parse(command.expr)
        except ParseError as error:
            return Outcome(command.line, command.expr, False, f"does not parse: {error}")
        for expr, at in self._executions(root, command):
            if problem := self._judged(command, expr, at):
                shown = "" if expr == command.expr and at == command.start else f"as {expr} at {at} ms: "
                return Outcome(command.line, command.expr, False, shown + problem)
        return Outcome(command.line, command.expr, True)

    def _executions(self, root: Node, command: Eval) -> Iterator[tuple[str, int]]:
        yield command.expr, command.start
        if not self._variants or not command.instant or command.expect.vector_range or command.expect.string:
            return
        if any(isinstance(n, Call) and n.func.name in _UNSAFE_AT for n in walk(root)) or _OF_QUERY.search(command.expr):
            return
        variant = pinned(root, command.start)
        t = command.start
        for at in (-10 * t, 0, t // 5, t, 10 * t) if t else (-1000, 0, 1000):
            yield variant, at

    def _judged(self, command: Eval, expr: str, at: int) -> str:
        expect = command.expect
        try:
            if command.instant:
                time = expect.vector_range[1] if expect.vector_range else at
                result = self._engine.instant("test", expr, time)
            else:
                result = self._engine.range("test", expr, command.start, command.end, command.step)
        except VedetteError as error:
            return self._failed(expect, error)
        if expect.fail is not None:
            return "should have failed"
        annotated = "" if expr != command.expr else _annotated(expect, result)
        problem = _compared(command, result) or annotated
        if problem or not (self._variants and command.instant) or expect.ordered or expect.string is not None or expect.vector_range:
            return problem
        return self._in_range(command, expr, at)

    def _in_range(self, command: Eval, expr: str, at: int) -> str:
        """An instant query must give the same as the middle of a range query."""
        if _OF_QUERY.search(expr):
            return ""
        result = self._engine.range("test", expr, at - 60_000, at + 60_000, 60_000)
        got = {row: points[at] for row, points in _points(result).items() if at in points}
        if command.expect.scalar is not None:
            value = got.get(Labels())
            same = isinstance(value, float) and almost_equal(value, command.expect.scalar)
            return "" if same else f"in a range query: wanted {command.expect.scalar}, got {value}"
        problem = _same_rows(command.expect, got)
        return f"in a range query: {problem}" if problem else ""

    @staticmethod
    def _failed(expect: Expectation, error: VedetteError) -> str:
        if expect.fail is None:
            return f"failed: {error}"
        kind, text = expect.fail
        if kind == "msg" and str(error) != text:
            return f"wanted the failure {text!r}, got {str(error)!r}"
        if kind == "regex" and not re.search(text, str(error)):
            return f"wanted a failure like {text!r}, got {str(error)!r}"
        return ""


def _annotated(expect: Expectation, result: QueryResult) -> str:
    for kind, got in (("warn", result.warnings), ("info", result.infos)):
        if f"no_{kind}" in expect.annotations and got:
            return f"wanted no {kind}, got {got}"
        wanted = expect.annotations.get(kind)
        if wanted is None:
            continue
        if not got:
            return f"wanted {kind} {wanted}, got none"

        def matches(want: tuple[str, str], text: str) -> bool:
            how, what = want
            return not how or (what == text if how == "msg" else re.search(what, text) is not None)

        for want in wanted:
            if not any(matches(want, text) for text in got):
                return f"wanted {kind} {want[1]!r}, got {got}"
        for text in got:
            if not any(matches(want, text) for want in wanted):
                return f"unexpected {kind} {text!r}"
    return ""


def _compared(command: Eval, result: QueryResult) -> str:
    expect = command.expect
    if expect.string is not None:
        return "" if result.type == "string" and result.text == expect.string else f"wanted {expect.string!r}, got {result.text!r}"
    if expect.scalar is not None:
        if result.type != "scalar":
            return f"wanted a scalar, got a {result.type}"
        got = float(result.rows()[0][2][0])
        return "" if almost_equal(got, expect.scalar) else f"wanted {expect.scalar}, got {got}"
    if result.type == "vector":
        rows = {labels: next(iter(points.values())) for labels, points in _points(result).items()}
        problem = _same_rows(expect, rows)
        if not problem and expect.ordered and [r.labels for r in expect.rows] != list(rows):
            return f"wanted the order {[str(r.labels) for r in expect.rows]}, got {[str(labels) for labels in rows]}"
        return problem
    if result.type == "matrix":
        first, _, step = expect.vector_range or (command.start, command.end, command.step)
        return _same_matrix(expect, result, first, step)
    return f"wanted series, got a {result.type}"


Sample = float | Histogram


def _points(result: QueryResult) -> dict[Labels, dict[int, Sample]]:
    """Each series' samples by time, the series in the result's order (those with floats first)."""
    found: dict[Labels, dict[int, Sample]] = {
        labels: dict(zip(times.tolist(), values.tolist(), strict=True)) for labels, times, values in result.rows()
    }
    for labels, times, histograms in result.histogram_rows():
        found.setdefault(labels, {}).update(zip(times.tolist(), histograms, strict=True))
    return found


def same_histogram(want: HistogramLiteral, got: Histogram) -> bool:
    """Equality of all but empty buckets, counts and sum within the tolerance; of the hint only where one was written."""
    a, b = compacted(want.histogram), compacted(got)
    alike = a.layout.same(b.layout) and (not want.hinted or a.hint == b.hint)
    return alike and all(almost_equal(x, y) for x, y in zip(a.cells.tolist(), b.cells.tolist(), strict=True))


def _same(want: Item, got: Sample) -> bool:
    if isinstance(want, HistogramLiteral):
        return isinstance(got, Histogram) and same_histogram(want, got)
    return isinstance(want, float) and isinstance(got, float) and almost_equal(want, got)


def _written(value: Item | Sample) -> str:
    """A sample as a script would have it."""
    if isinstance(value, HistogramLiteral):
        return literal(value.histogram)
    return literal(value) if isinstance(value, Histogram) else repr(value)


def _same_rows(expect: Expectation, got: dict[Labels, Sample]) -> str:
    wanted = {r.labels: r.items[0] if r.items else None for r in expect.rows}
    for labels in wanted.keys() - got.keys():
        return f"lacks {labels} {_written(wanted[labels])}; got {_shown(got)}"
    for labels in got.keys() - wanted.keys():
        return f"did not want {labels} {_written(got[labels])}"
    for labels, value in wanted.items():
        if not _same(value, got[labels]):
            return f"wanted {labels} {_written(value)}, got {_written(got[labels])}"
    return ""


def _shown(got: dict[Labels, Sample]) -> str:
    return ", ".join(f"{labels} {_written(value)}" for labels, value in list(got.items())[:5]) or "nothing"


def _same_matrix(expect: Expectation, result: QueryResult, first: int, step: int) -> str:
    for rows in (result.rows(), result.histogram_rows()):
        order = [row[0] for row in rows]
        if order != sorted(order):
            return "series are not sorted by labels"
    got = _points(result)
    wanted = {r.labels: {first + i * step: v for i, v in enumerate(r.items) if v is not None} for r in expect.rows}
    for labels in wanted.keys() ^ got.keys():
        side = "lacks" if labels in wanted else "did not want"
        return f"{side} {labels} {wanted.get(labels) or got.get(labels)}"
    for labels, points in wanted.items():
        if points.keys() != got[labels].keys():
            return f"{labels}: wanted points at {sorted(points)}, got {sorted(got[labels])}"
        for time, value in points.items():
            if not _same(value, got[labels][time]):
                return f"{labels} at {time}: wanted {_written(value)}, got {_written(got[labels][time])}"
    return ""


def run_script(text: str, name: str = "<script>", *, settings: PromqlSettings = SCRIPT_SETTINGS, variants: bool = False) -> list[Outcome]:
    """Run a whole script. Raises `BadInput` where it cannot be read."""
    script = Script(settings, variants=variants)
    try:
        return list(script.run(parse_script(text, name)))
    finally:
        script.close()


__all__ = ["SCRIPT_SETTINGS", "Eval", "Load", "Outcome", "Script", "almost_equal", "parse_labels", "parse_script", "run_script"]
