"""Running PromQL test scripts (`.test` files): load series, evaluate, compare with what is expected.

The language is that of Prometheus' own test files (`scriptfile.py`). A script runs on an engine over memory; each `eval` has its own
`Outcome`, and one that fails does not stop the rest; a `load` that fails does.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vedette.clock import SystemClock
from vedette.errors import BadInput, VedetteError
from vedette.model.histogram_arithmetic import compacted
from vedette.model.histograms import Histogram
from vedette.model.labels import Labels
from vedette.model.samples import STALE_BITS
from vedette.promql.engine import Engine
from vedette.promql.errors import ParseError
from vedette.promql.memory import MemoryStorage
from vedette.promql.native_render import literal
from vedette.promql.nhcb import converted
from vedette.promql.nodes import Call, Node, walk
from vedette.promql.printer import pinned
from vedette.promql.result import QueryResult
from vedette.promql.scriptfile import Command, Eval, Expectation, Load, parse_script
from vedette.promql.seriesnotation import HistogramLiteral, Item
from vedette.promql.settings import PromqlSettings

SCRIPT_SETTINGS = PromqlSettings(
    delayed_name_removal=True,
    use_start_timestamps=True,
    experimental_functions=True,
    extended_range_selectors=True,
    binop_fill_modifiers=True,
)
"""What Prometheus' own scripts assume."""

_UNSAFE_AT = frozenset((*Call.UNSAFE_AT, "start", "end", "range", "step"))
_OF_QUERY = re.compile(r"(?i)\b(?:start|end|range|step)\s*\(")
_EPSILON = 1e-6
_SMALLEST = 2.2250738585072014e-308


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one `eval` came out. `problem` says what was got and wanted."""

    line: int
    expr: str
    passed: bool
    problem: str = ""


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
        """The outcome of each `eval`, in order, and of a `load` that cannot be made, which is the last."""
        for command in commands:
            if command == "clear":
                self._storage.clear()
            elif isinstance(command, Load):
                try:
                    self._load(command)
                except BadInput as error:
                    yield Outcome(command.line, "load", False, str(error))
                    return
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
        return "" if expect.fail.met(str(error)) else f"wanted the failure to be {expect.fail}, got {str(error)!r}"


def _annotated(expect: Expectation, result: QueryResult) -> str:
    for kind, got in (("warn", result.warnings), ("info", result.infos)):
        if f"no_{kind}" in expect.annotations and got:
            return f"wanted no {kind}, got {got}"
        wanted = expect.annotations.get(kind)
        if wanted is None:
            continue
        if missing := [want for want in wanted if not any(map(want.met, got))]:
            return f"wanted {kind} {missing[0]}, got {got or 'none'}"
        for text in got:
            if not any(want.met(text) for want in wanted):
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


__all__ = ["SCRIPT_SETTINGS", "Eval", "Load", "Outcome", "Script", "almost_equal", "parse_script", "run_script"]
