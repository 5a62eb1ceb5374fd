"""Which part of a pipeline the store's own query does, over columns; the rest is done line by line (`stages.py`).

Conditions are only ever moved to the store where they mean the same there. Not here: the store's query (`logs.query`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from vedette.logs.logql import extract
from vedette.logs.logql.nodes import Chosen, Condition, Joined, LabelFilter, LabelFormat, LineFilter, LineFormat, Parser, Pipeline
from vedette.logs.logql.stages import ERROR
from vedette.logs.query import Captures, FieldFilter, LogQuery, Paths, Reader
from vedette.logs.query import LineFilter as Stored

SERVICE = ("service", "service_name")
LEVEL = ("level", "detected_level")
_UNQUOTABLE = frozenset('"\\')
_PUSHED_LINES = ("|=", "!=", "|~", "!~")


@dataclass(frozen=True, slots=True)
class Pushed:
    """What the store is asked; `whole` says that it is all of the pipeline, whose `parser` names labels."""

    query: LogQuery
    whole: bool
    parser: Reader = ""


@dataclass(slots=True)
class _Gathered:
    lines: list[Stored] = field(default_factory=list)
    fields: list[FieldFilter] = field(default_factory=list)
    columns: list[FieldFilter] = field(default_factory=list)
    parser: Reader = ""
    same_text: bool = True
    same_labels: bool = True
    whole: bool = True
    unread: bool = False


def column_of(name: str) -> str:
    """The column that a label is, "" where it is a field."""
    return "service" if name in SERVICE else "level" if name in LEVEL else ""


def pushed(pipeline: Pipeline, *, unread: bool = False) -> Pushed:
    """What of a pipeline the store can do; with `unread` it leaves the lines whose value for a condition on numbers is none (`stages`)."""
    found = _Gathered(unread=unread)
    for matcher in pipeline.matchers:
        _text(found, matcher.name, matcher.op, matcher.value, "")
    for stage in pipeline.stages:
        done = False
        match stage:
            case LineFilter():
                done = found.same_text and _line(found, stage)
            case Parser():
                done = _parser(found, stage)
            case LabelFilter():
                done = found.same_labels and _conditions(found, stage.condition)
            case Chosen():
                # Labels nobody but the answer sees: those of errors, which a stage done by the store does not set.
                done = stage.kind == "drop" and all(isinstance(item, str) and item.startswith(ERROR[:-2]) for item in stage.items)
                found.same_labels = found.same_labels and done
            case LabelFormat():
                found.same_labels = False
            case _:
                found.same_text = False
                # A template that fails leaves an error, which lets conditions on numbers pass.
                found.same_labels = found.same_labels and isinstance(stage, LineFormat) and not found.unread
        found.whole = found.whole and done
    query = LogQuery(lines=tuple(found.lines), fields=tuple(found.fields), columns=tuple(found.columns))
    return Pushed(query, found.whole, found.parser)


def _line(found: _Gathered, stage: LineFilter) -> bool:
    if stage.ip or stage.op not in _PUSHED_LINES:
        return False
    regex, texts = stage.op[1] == "~", stage.texts
    if len(texts) > 1:
        alternatives = "|".join(f"(?:{text})" if regex else _plain(text) for text in texts)
        found.lines.append(Stored("regex", alternatives, negated=stage.negated, heed_case=True))
    elif texts[0] or stage.negated:  # Grafana's builder begins with |= ""
        found.lines.append(Stored("regex" if regex else "contains", texts[0], negated=stage.negated, heed_case=True))
    return True


def _plain(text: str) -> str:
    return re.sub(r"(\W)", lambda m: f"\\x{{{ord(m[1]):x}}}", text)


def _parser(found: _Gathered, stage: Parser) -> bool:
    plain = stage.kind in ("json", "logfmt") and not stage.chosen and not stage.strict and not stage.keep_empty
    if plain and found.same_text and found.same_labels and found.parser in ("", stage.kind):
        found.parser = stage.kind
        return True
    reader = _reader(stage)
    if reader and found.same_text and found.same_labels and not found.parser:
        found.parser = reader
        return True
    found.same_labels = False
    found.same_text = found.same_text and stage.kind != "unpack"
    return False


def _reader(stage: Parser) -> Reader:
    """What the store reads as this parser does, "" where it has nothing of the kind."""
    if stage.kind == "regexp":
        return Captures(tuple((name, stage.expression, group) for name, group in extract.groups_of(stage.expression)))
    if stage.kind == "pattern":
        return Captures(tuple((name, text, 1) for name, text in extract.pattern_as_regexes(stage.expression).items()))
    if stage.kind == "json" and stage.chosen:
        paths = [(name, extract.path_of(path)) for name, path in stage.chosen]
        if all(steps and isinstance(steps[0], str) and not _UNQUOTABLE.intersection("".join(map(str, steps))) for _, steps in paths):
            return Paths(tuple((name, "$" + "".join(_step(one) for one in steps)) for name, steps in paths))
    return ""


def _step(step: str | int) -> str:
    return f"[{step}]" if isinstance(step, int) else f'."{step}"'


def _conditions(found: _Gathered, asked: Condition | Joined) -> bool:
    parts = asked.parts if isinstance(asked, Joined) else (asked,)
    if isinstance(asked, Joined) and asked.op == "or":
        return False
    # All of them are tried: what can be done by the store spares the rest its lines.
    done = [_conditions(found, part) if isinstance(part, Joined) else _condition(found, part) for part in parts]
    return all(done)


def _condition(found: _Gathered, asked: Condition) -> bool:
    if asked.name.startswith("__") or asked.name.endswith("_extracted"):
        return False
    if asked.kind == "text":
        _text(found, asked.name, asked.op, asked.text, found.parser)
        return True
    if asked.kind != "number" or column_of(asked.name):
        return False
    if found.unread:
        # What one condition could not be told of passes all later ones on numbers: only the first can spare lines.
        if not any(one.unread for one in found.fields):
            found.fields.append(FieldFilter(asked.name, asked.op, asked.text, found.parser, unread=True))  # type: ignore[arg-type]
        return False
    _field(found.fields, asked.name, asked.op, asked.text, found.parser)
    return True


def _text(found: _Gathered, name: str, op: str, value: str, parser: Reader) -> None:
    column = column_of(name)
    if column:
        # Loki's name of what names no service.
        value = "" if column == "service" and value == "unknown_service" and op in ("=", "!=") else value
        _field(found.columns, column, op, value, "")
    else:
        _field(found.fields, name, op, value, parser)


def _field(into: list[FieldFilter], name: str, op: Any, value: str, parser: Reader) -> None:
    into.append(FieldFilter(name, op, value, parser))
