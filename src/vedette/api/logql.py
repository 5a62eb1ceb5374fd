"""LogQL read: selectors, line filters, `json` and `logfmt`, label filters, and counts of lines over time with aggregations.

`service`, `service_name` and `level` (`detected_level`) are columns; any other name is a field, or after a parser what the parser
finds in the message. What LogQL has beyond that is refused at its column. Not here: the answers (`logs_loki.py`), the store.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from vedette.errors import BadInput
from vedette.logs.query import FieldFilter, LineFilter, LogQuery
from vedette.model.durations import parse_duration

SERVICE = ("service", "service_name")
LEVEL = ("level", "detected_level")
RANGES = ("count_over_time", "rate", "bytes_over_time", "bytes_rate")
AGGREGATIONS = ("sum", "avg", "min", "max", "count", "topk", "bottomk")
INSTEAD = (
    "selectors, line filters, json, logfmt, label filters, and of metric queries "
    + ", ".join(RANGES)
    + " with "
    + ", ".join(AGGREGATIONS)
    + " are taken"
)

_STRING = r'"(?:[^"\\\n]|\\.)*"|`[^`]*`'
_MATCHER = re.compile(rf"\s*([a-zA-Z_][\w.]*)\s*(=~|!~|!=|=)\s*({_STRING})\s*(,|(?=\}}))", re.ASCII)
_CLOSED = re.compile(r"\s*\}")
_LINE = re.compile(rf"\s*(\|=|!=|\|~|!~)\s*({_STRING})")
_OR = re.compile(rf"\s*or\s*({_STRING})")
_STAGE = re.compile(r"\s*\|\s*(json|logfmt)\b(?!\s*[=!<>])\s*")
_DROPPED = re.compile(r"\s*\|\s*(?:drop|keep)\s+[a-zA-Z_]\w*(?:\s*,\s*[a-zA-Z_]\w*)*", re.ASCII)
_LABEL = re.compile(
    rf"\s*(?:\||,|\band\b)\s*([a-zA-Z_][\w.]*)\s*(=~|!~|!=|==|>=|<=|=|>|<)\s*({_STRING}|-?\d+(?:\.\d+)?(?![\w.]))", re.ASCII
)
_RANGE = re.compile(r"\s*\[\s*(\w+)\s*\]")
_OFFSET = re.compile(r"\s*offset\s+(-?\w+)")
_CALL = re.compile(r"\s*([a-z_]+)\s*\(")
_GROUPING = re.compile(r"\s*(by|without)\s*\(([\w\s,]*)\)")
_NUMBER = re.compile(r"\s*(\d+)\s*,")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_DEEPEST = 20


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Which lines; `parser` is `json`, `logfmt` or empty, and what it finds are labels of the lines, too."""

    query: LogQuery
    parser: str = ""


@dataclass(frozen=True, slots=True)
class Counted:
    """`function` (one of `RANGES`) of a pipeline over the `range_ns` up to a time, `offset_ns` before it."""

    function: str
    pipeline: Pipeline
    range_ns: int
    offset_ns: int = 0


@dataclass(frozen=True, slots=True)
class Aggregated:
    """One of `AGGREGATIONS` over what `of` gives; `k` is that of `topk` and `bottomk`. Without `labels` all series are one group."""

    op: str
    of: Counted | Aggregated
    labels: tuple[str, ...] = ()
    without: bool = False
    k: int = 0


def parse(text: str) -> Pipeline | Counted | Aggregated:
    """What a query asks for. Raises `BadInput` with the column."""
    at = len(text) - len(text.lstrip())
    found: Pipeline | Counted | Aggregated
    if text[at : at + 1] == "{":
        found, at = _pipeline(text, at, ends="")
    else:
        found, at = _metric(text, at, 0)
    if text[at:].strip():
        raise _at(text, at, "something follows the query")
    return found


def of_selector(text: str) -> Pipeline:
    """A query for lines. Raises `BadInput` for one that counts them, too."""
    found = parse(text)
    if not isinstance(found, Pipeline):
        raise BadInput("not a log query", where="column 1", hint='expected a stream selector, such as {service_name="shop"}')
    return found


def _at(text: str, at: int, problem: str, hint: str = INSTEAD) -> BadInput:
    at += len(text[at:]) - len(text[at:].lstrip())
    return BadInput(problem, where=f"column {at + 1}", hint=hint)


def _metric(text: str, at: int, depth: int) -> tuple[Counted | Aggregated, int]:
    call = re.compile(r"\s*([a-z_]+)\b").match(text, at)
    if call is None or call[1] not in (*RANGES, *AGGREGATIONS) or depth > _DEEPEST:
        raise _at(text, at, "not a log query")
    if call[1] in RANGES:
        opened = _CALL.match(text, at)
        if opened is None:
            raise _at(text, call.end(), "not a parenthesis")
        return _counted(text, opened.end(), call[1])
    labels, without, at = _grouping(text, call.end())
    opening = re.compile(r"\s*\(").match(text, at)
    if opening is None:
        raise _at(text, at, "not a parenthesis")
    at, k = opening.end(), 0
    if call[1] in ("topk", "bottomk"):
        number = _NUMBER.match(text, at)
        if number is None or not 0 < int(number[1]) <= 1000:
            raise _at(text, at, "not a number of series", "expected 1 to 1000 and a comma")
        k, at = int(number[1]), number.end()
    inner, at = _metric(text, at, depth + 1)
    at = _close(text, at)
    if not labels and not without:
        labels, without, at = _grouping(text, at)
    return Aggregated(call[1], inner, labels, without, k), at


def _counted(text: str, at: int, function: str) -> tuple[Counted, int]:
    pipeline, at, spans = _ranged(text, at)
    if spans <= 0:
        raise _at(text, at, "not a range", "expected one such as [5m]")
    offset = _OFFSET.match(text, at)
    shift = 0
    if offset is not None:
        negative, digits = offset[1].startswith("-"), offset[1].removeprefix("-")
        shift, at = parse_duration(digits) * 1_000_000 * (-1 if negative else 1), offset.end()
    return Counted(function, pipeline, spans, shift), _close(text, at)


def _ranged(text: str, at: int) -> tuple[Pipeline, int, int]:
    """A pipeline with its range, which may stand behind the selector or at the end."""
    pipeline, at = _pipeline(text, at, ends="[)")
    found = _RANGE.match(text, at)
    if found is None:
        return pipeline, at, 0
    at = found.end()
    rest, at = _stages(text, at, pipeline, ends=")o")
    return rest, at, parse_duration(found[1]) * 1_000_000


def _grouping(text: str, at: int) -> tuple[tuple[str, ...], bool, int]:
    found = _GROUPING.match(text, at)
    if found is None:
        return (), False, at
    return tuple(n.strip() for n in found[2].split(",") if n.strip()), found[1] == "without", found.end()


def _close(text: str, at: int) -> int:
    found = re.compile(r"\s*\)").match(text, at)
    if found is None:
        raise _at(text, at, "not a closing parenthesis")
    return found.end()


def _pipeline(text: str, at: int, *, ends: str) -> tuple[Pipeline, int]:
    """A selector and its stages, up to the end or one of the characters `ends`."""
    at += len(text[at:]) - len(text[at:].lstrip())
    if text[at : at + 1] != "{":
        raise _at(text, at, "not a log query")
    at += 1
    columns: list[FieldFilter] = []
    fields: list[FieldFilter] = []
    while not (end := _CLOSED.match(text, at)):
        found = _MATCHER.match(text, at)
        if found is None:
            raise _at(text, at, "not a matcher", 'expected name="value", or !=, =~, !~')
        _add(columns, fields, found[1], found[2], unquoted(found[3]), "")
        at = found.end()
    pipeline = Pipeline(LogQuery(columns=tuple(columns), fields=tuple(fields)))
    return _stages(text, end.end(), pipeline, ends=ends)


def _stages(text: str, at: int, pipeline: Pipeline, *, ends: str) -> tuple[Pipeline, int]:
    query, parser = pipeline.query, pipeline.parser
    columns, fields, lines = list(query.columns), list(query.fields), list(query.lines)
    while (rest := text[at:].lstrip()) and rest[0] not in ends:
        if (line := _LINE.match(text, at)) is not None:
            at = _line(text, line, lines)
        elif (stage := _STAGE.match(text, at)) is not None:
            if parser not in ("", stage[1]):
                raise _at(text, at, "lines are parsed in one way only")
            parser, at = stage[1], stage.end()
        elif (dropped := _DROPPED.match(text, at)) is not None:
            at = dropped.end()
        elif (label := _LABEL.match(text, at)) is not None:
            op, value = label[2].replace("==", "="), label[3]
            if value[0] in '"`':
                if op in (">", "<", ">=", "<="):
                    raise _at(text, at, "text has no order", "compare with a number")
                _add(columns, fields, label[1], op, unquoted(value), parser)
            else:
                fields.append(FieldFilter(label[1], "==" if op == "=" else op, value, parser))  # type: ignore[arg-type]  # by the pattern
            at = label.end()
        else:
            raise _at(text, at, "not a line filter, parser or label filter")
    return Pipeline(replace(query, columns=tuple(columns), fields=tuple(fields), lines=tuple(lines)), parser), at


def _line(text: str, found: re.Match[str], lines: list[LineFilter]) -> int:
    """Add one line filter, with its `or`s; where it ends."""
    values, at = [unquoted(found[2])], found.end()
    while (more := _OR.match(text, at)) is not None:
        values.append(unquoted(more[1]))
        at = more.end()
    regex, negated = found[1].endswith("~"), found[1].startswith("!")
    if len(values) > 1:
        alternatives = "|".join(f"(?:{v})" if regex else re.sub(r"(\W)", lambda m: f"\\x{{{ord(m[1]):x}}}", v) for v in values)
        lines.append(LineFilter("regex", alternatives, negated=negated, heed_case=True))
    elif values[0]:  # Grafana's builder begins with |= ""
        lines.append(LineFilter("regex" if regex else "contains", values[0], negated=negated, heed_case=True))
    return at


def _add(columns: list[FieldFilter], fields: list[FieldFilter], name: str, op: str, value: str, parser: str) -> None:
    column = "service" if name in SERVICE else "level" if name in LEVEL else ""
    if column:
        columns.append(FieldFilter(column, op, value))  # type: ignore[arg-type]  # by the pattern
    else:
        fields.append(FieldFilter(name, op, value, parser))  # type: ignore[arg-type]


def unquoted(text: str) -> str:
    """What a quoted text says."""
    inner = text[1:-1]
    return inner if text[0] == "`" else re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), inner)
