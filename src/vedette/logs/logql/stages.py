"""The stages of a pipeline, run on one line after another: whether it stays, what it says then, which labels it has.

Each stage becomes one function once for a query. Labels of the stream, and fields that came with the line, are there from the start; a
parser's label of such a name is called `…_extracted`. Not here: reading (`parser.py`), which part the store does itself (`pushed.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from vedette.errors import BadInput
from vedette.logs.logql import extract
from vedette.logs.logql.nodes import (
    Chosen,
    Condition,
    Decolorize,
    Joined,
    LabelFilter,
    LabelFormat,
    LineFilter,
    LineFormat,
    Matcher,
    Parser,
    Stage,
)
from vedette.logs.logql.template import LineTemplate
from vedette.logs.logql.tokens import bytes_of, duration_of
from vedette.model.matchers import compile_regex

STREAM = ("level", "service_name")
"""The labels of a stream."""
ERROR, DETAILS = "__error__", "__error_details__"
_ALIASES = {"service": "service_name", "detected_level": "level"}
_NO_OBJECT = "Value looks like object, but can't find closing '}' symbol"
_FAILED = {"json": ("JSONParserErr", _NO_OBJECT), "unpack": ("JSONParserErr", "expecting json object(6), but it is not")}
"""`__error__` and `__error_details__`, by the parser that could not read a line, in Loki's words."""


class Line:
    """One line on its way: its Unix ns, its number, its text, its labels; `touched` are those that stages set."""

    __slots__ = ("labels", "own", "seq", "text", "time", "touched")

    def __init__(self, time: int, seq: int, level: str, service: str, message: str, *, fields: Mapping[str, Any]) -> None:
        self.time = time
        self.seq = seq
        self.text = message
        self.labels: dict[str, str] = {k: v if isinstance(v, str) else extract.text_of(v) for k, v in fields.items()}
        self.labels["service_name"] = service or "unknown_service"
        self.labels["level"] = level
        self.own = frozenset(self.labels)
        self.touched: set[str] = set()

    def get(self, name: str) -> str:
        """A label's value, "" where it has none; dots lead into nested fields."""
        found = self.labels.get(name)
        if found is None:
            found = self.labels.get(_ALIASES.get(name, ""), "")
            if not found and "." in name:
                return self._nested(name)
        return found

    def _nested(self, name: str) -> str:
        outer, *steps = name.split(".")
        try:
            value: Any = orjson.loads(self.labels.get(outer, ""))
        except orjson.JSONDecodeError:
            return ""
        for step in steps:
            value = value.get(step) if isinstance(value, dict) else None
        return "" if value is None else extract.text_of(value)

    def set(self, name: str, value: str) -> None:
        """Give it a label, or take one away with ""."""
        self.touched.add(name)
        if value:
            self.labels[name] = value
        else:
            self.labels.pop(name, None)

    def extracted(self, found: Mapping[str, str]) -> None:
        """Give it what a parser found."""
        for name, value in found.items():
            self.set(f"{name}_extracted" if name in self.own else name, value)

    def failed(self, kind: str, details: str) -> None:
        """Say that a stage could not read it, and why; the last one counts."""
        self.set(ERROR, kind)
        self.set(DETAILS, details)


Step = Callable[[Line], bool]
"""What a stage does to a line; whether it stays."""


def check(stages: Sequence[Stage]) -> None:
    """Raise `BadInput` where an expression, a template or an address of the stages is none."""
    program(stages)


def program(stages: Sequence[Stage], *, filters: bool = True, unread: bool = True) -> list[Step]:
    """The stages as functions; without `filters` only those that change a line; `unread` as of `condition`. Raises `BadInput`."""
    return [_step(stage, unread) for stage in stages if filters or not isinstance(stage, LineFilter | LabelFilter)]


def run(steps: Sequence[Step], line: Line) -> bool:
    """Put a line through the steps; whether it stays."""
    return all(step(line) for step in steps)


def _step(stage: Stage, unread: bool) -> Step:
    match stage:
        case LineFilter():
            return _line_filter(stage)
        case Parser():
            return _parser(stage)
        case LabelFilter():
            return condition(stage.condition, unread=unread)
        case LineFormat():
            return _line_format(stage)
        case LabelFormat():
            return _label_format(stage)
        case Decolorize():
            return _decolorized
        case Chosen():
            return _chosen(stage)


def _decolorized(line: Line) -> bool:
    line.text = extract.without_colours(line.text)
    return True


def _line_filter(stage: LineFilter) -> Step:
    texts, negated = stage.texts, stage.negated
    if stage.ip:
        tests = [extract.addresses(text) for text in texts]
        return lambda line: any(test(one) for one in extract.addresses_in(line.text) for test in tests) != negated
    if stage.op[1] == "=":
        return lambda line: any(text in line.text for text in texts) != negated
    if stage.op[1] == ">":
        parts = [extract.matches_pattern(text) for text in texts]
        return lambda line: any(part(line.text) for part in parts) != negated
    patterns = [extract.regex(text, where="regex") for text in texts]
    return lambda line: any(pattern.search(line.text) is not None for pattern in patterns) != negated


def _parser(stage: Parser) -> Step:
    if stage.kind == "unpack":
        return _unpacked
    read = _reader(stage)
    logfmt = stage.kind == "logfmt"

    def step(line: Line) -> bool:
        found = read(line.text)
        if found is None and logfmt:
            line.failed("LogfmtParserErr", extract.logfmt_problem(line.text))
        elif found is None:
            line.failed(*_FAILED["json"])
        else:
            line.extracted(found)
        return True

    return step


def _reader(stage: Parser) -> Callable[[str], dict[str, str] | None]:
    if stage.kind == "regexp":
        return extract.by_regex(stage.expression)
    if stage.kind == "pattern":
        return extract.by_pattern(stage.expression)
    if stage.kind == "json":
        if not stage.chosen:
            return extract.of_json
        paths = tuple((label, extract.path_of(path)) for label, path in stage.chosen)
        return lambda text: extract.of_json_chosen(text, paths)
    strict, keep_empty, chosen = stage.strict, stage.keep_empty, stage.chosen

    def logfmt(text: str) -> dict[str, str] | None:
        found = extract.of_logfmt(text, strict=strict, keep_empty=keep_empty)
        return found if found is None or not chosen else {label: found.get(name, "") for label, name in chosen}

    return logfmt


def _unpacked(line: Line) -> bool:
    found = extract.of_packed(line.text)
    if found is None:
        line.failed(*_FAILED["unpack"])
    else:
        labels, line.text = found
        line.extracted(labels)
    return True


def _line_format(stage: LineFormat) -> Step:
    template = LineTemplate(stage.template, name="line_format")

    def step(line: Line) -> bool:
        try:
            line.text = template.render(line.labels, line.text, line.time)
        except BadInput as error:
            line.failed("TemplateFormatErr", str(error))
        return True

    return step


def _label_format(stage: LabelFormat) -> Step:
    made = [(name, value if renamed else LineTemplate(value, name="label_format"), renamed) for name, value, renamed in stage.items]

    def step(line: Line) -> bool:
        for name, source, _ in made:
            if isinstance(source, str):
                value = line.get(source)
                line.set(source, "")
                line.set(name, value)
                continue
            try:
                line.set(name, source.render(line.labels, line.text, line.time))
            except BadInput as error:
                line.failed("TemplateFormatErr", str(error))
        return True

    return step


def _chosen(stage: Chosen) -> Step:
    plain = {_ALIASES.get(item, item) for item in stage.items if isinstance(item, str)}
    tested = [(_ALIASES.get(item.name, item.name), matches(item)) for item in stage.items if isinstance(item, Matcher)]

    def named(name: str, value: str) -> bool:
        return name in plain or any(name == other and test(value) for other, test in tested)

    def drop(line: Line) -> bool:
        for name in [n for n, v in line.labels.items() if named(n, v)]:
            line.set(name, "")
        return True

    def keep(line: Line) -> bool:
        for name in [n for n, v in line.labels.items() if not named(n, v) and n not in (ERROR, DETAILS)]:
            line.set(name, "")
        return True

    return drop if stage.kind == "drop" else keep


def matches(matcher: Matcher | Condition) -> Callable[[str], bool]:
    """Whether a value fulfils a condition on text."""
    wanted = matcher.value if isinstance(matcher, Matcher) else matcher.text
    if matcher.op in ("=", "!="):
        equal = matcher.op == "="
        return lambda value: (value == wanted) == equal
    full, positive = compile_regex(wanted, where=f"label {matcher.name}"), matcher.op == "=~"
    return lambda value: full(value) == positive


def condition(asked: Condition | Joined, *, unread: bool) -> Step:
    """Whether a line's labels fulfil a condition.

    A label whose value is no number fulfils none on numbers. With `unread` a line stays of which that cannot be told, and says why; from
    there on conditions on text alone leave it out, as in Loki.
    """
    if isinstance(asked, Joined):
        steps = [condition(part, unread=unread) for part in asked.parts]
        if asked.op == "and":
            return lambda line: all(step(line) for step in steps)
        return lambda line: any(step(line) for step in steps)
    name = asked.name
    if asked.kind == "text":
        test = matches(asked)
        return lambda line: test(line.get(name))
    if asked.kind == "ip":
        inside, equal = extract.addresses(asked.text), asked.op == "="

        def on_address(line: Line) -> bool:
            if unread and ERROR in line.labels:
                return True
            text = line.get(name)
            one = extract.address_of(text)
            return bool(text) and (one is not None and inside(one)) == equal

        return on_address
    kind, compare, wanted = asked.kind, _COMPARE[asked.op], asked.number
    read = {"number": number_of, "duration": duration_of, "bytes": bytes_of}[kind]

    def on_number(line: Line) -> bool:
        if unread and ERROR in line.labels:
            return True
        text = line.get(name)
        value = read(text)
        if value is None and text and unread:
            line.failed("LabelFilterErr", _unread(kind, text))
            return True
        return value is not None and compare(value, wanted)

    return on_number


def _unread(kind: str, text: str) -> str:
    """Why a text is no number of a kind, as Go's library says it."""
    shown = text[:100].replace("\\", "\\\\").replace('"', '\\"')
    if kind == "duration":
        return f'time: missing unit in duration "{shown}"' if number_of(text) is not None else f'time: invalid duration "{shown}"'
    if kind == "bytes" and text[:1].isdigit():
        return f"unhandled size name: {shown.lstrip('0123456789., ').lower()}"
    return f'strconv.ParseFloat: parsing "{shown if kind == "number" else ""}": invalid syntax'


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}


def number_of(text: str) -> float | None:
    """The number that a text is, None where it is none."""
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None
