"""What can be asked of lines, and the conditions that it becomes: fixed fragments of SQL with bound values.

Nothing that a client sends is ever part of the SQL's text. Regular expressions are RE2's, so they take linear time; they
are checked here, so that a bad one is refused in the words of this house. Not here: running it (`database.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from vedette.errors import BadInput
from vedette.logs.literals import required
from vedette.model.logs import LEVELS
from vedette.model.matchers import compile_regex

MIN_TIME, MAX_TIME = -(1 << 63), (1 << 63) - 1
_MOST_REGEX = 2_000
_MOST_CONDITIONS = 50
_CASELESS = re.compile(r"[^a-zA-Z\x80-\U0010FFFF]{3,}")
_PLAIN = re.compile(r"[A-Za-z0-9_.:@/ -]{3,}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class LineFilter:
    """A condition on the message. `contains` heeds case only where told to; a `regex` need not match all of it.

    `spellings` are the only ways of writing a `contains` that can be where it is looked for, empty where that is not known.
    """

    kind: Literal["contains", "regex"]
    text: str
    negated: bool = False
    heed_case: bool = False
    spellings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Captures:
    """A parser whose fields, (name, expression, group), are what groups of RE2 expressions hold where these first match in the message."""

    fields: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class Paths:
    """A parser whose fields, (name, JSON path), are what stands there in a message that is JSON."""

    fields: tuple[tuple[str, str], ...]


Reader = str | Captures | Paths
"""What looks for fields in a message: `json`, `logfmt`, captures, paths, or "" for nothing."""


@dataclass(frozen=True, slots=True)
class FieldFilter:
    """A condition on a field: `name` as it stands, or else a dotted path into nested objects. An absent field is empty text.

    Behind a `parser` a field that is absent is looked for in the message. `==` and the orders compare numbers;
    what is none fulfils none of them, or all of them with `unread`, as then do all fields of a message that is no JSON for `json`.
    """

    name: str
    op: Literal["=", "!=", "=~", "!~", "==", ">", "<", ">=", "<="]
    value: str
    parser: Reader = ""
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page ended: the time and the number of its last line."""

    time: int
    seq: int


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines: times in ns, `start` inclusive, `end` exclusive; no levels or services are all; all filters hold.

    `after` is where the page before ended, in this query's direction; `since_seq` leaves out lines with a smaller number.
    """

    start: int = MIN_TIME
    end: int = MAX_TIME
    levels: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    lines: tuple[LineFilter, ...] = ()
    fields: tuple[FieldFilter, ...] = ()
    columns: tuple[FieldFilter, ...] = ()
    """Conditions on `service` and `level` themselves."""
    limit: int = 100
    newest_first: bool = True
    after: Place | None = None
    since_seq: int = 0
    total: bool = True
    """Whether all lines are to be counted, beyond those answered."""

    def __post_init__(self) -> None:
        for level in self.levels:
            if level not in LEVELS:
                raise BadInput(f"not a level: {level!r}", where="level", hint=f"expected one of {', '.join(LEVELS)}")
        if len(self.lines) + len(self.fields) + len(self.columns) > _MOST_CONDITIONS or len(self.services) > 1000:
            raise BadInput(f"more than {_MOST_CONDITIONS} conditions")
        for line in self.lines:
            if line.kind == "regex":
                _checked(line.text, "regex")
        assert all(c.name in ("service", "level") for c in self.columns), self.columns
        for item in (*self.fields, *self.columns):
            if item.op in ("=~", "!~"):
                _checked(item.value, f"field {item.name}")


def _checked(pattern: str, where: str) -> None:
    if len(pattern) > _MOST_REGEX:
        raise BadInput(f"a regular expression of more than {_MOST_REGEX:,} characters", where=where)
    compile_regex(pattern, where=where)


class Where:
    """Conditions joined by AND, and the values they bind, in order."""

    def __init__(self) -> None:
        self._parts: list[str] = ["true"]
        self.values: list[Any] = []

    def add(self, condition: str, *values: Any) -> None:
        """One condition, a `?` in it for each value."""
        self._parts.append(condition)
        self.values += values

    @property
    def sql(self) -> str:
        """What follows WHERE."""
        return " and ".join(self._parts)


def where_of(query: LogQuery) -> Where:
    """The conditions of a query: the cheap ones first."""
    where = Where()
    if query.start > MIN_TIME:
        where.add("time >= ?", query.start)
    if query.end < MAX_TIME:
        where.add("time < ?", query.end)
    if query.since_seq:
        where.add("seq >= ?", query.since_seq)
    if query.after is not None:
        ahead = "<" if query.newest_first else ">"
        where.add(f"time {ahead}= ?", query.after.time)
        where.add(f"(time {ahead} ? or seq {ahead} ?)", query.after.time, query.after.seq)
    for column, values in (("level", query.levels), ("service", query.services)):
        if values:
            where.add(f"{column} in ({', '.join('?' * len(values))})", *values)
    for line in query.lines:
        _line(where, line)
    for item in query.columns:
        compared = {"=": "{} = ?", "!=": "{} <> ?", "=~": "regexp_full_match({}, ?)", "!~": "not regexp_full_match({}, ?)"}
        where.add(compared[item.op].format(item.name), item.value)
    for item in query.fields:
        _field(where, item)
    return where


def _line(where: Where, line: LineFilter) -> None:
    no = "not " if line.negated else ""
    if line.kind == "regex":
        if not line.negated and (text := required(line.text)):
            # Searching bytes is several times as fast as RE2, and leaves it only the lines that may match.
            where.add("contains(message, ?)", text)
        where.add(f"{no}regexp_matches(message, ?)", line.text)
        return
    if line.heed_case:
        where.add(f"{no}contains(message, ?)", line.text)
        return
    if line.spellings:
        where.add(f"{no}({' or '.join(['contains(message, ?)'] * len(line.spellings))})", *line.spellings)
        return
    runs = _CASELESS.findall(line.text)
    if runs and not line.negated:
        where.add("contains(message, ?)", max(runs, key=len))
    where.add(f"{no}regexp_matches(message, ?, 's')", "(?i)" + _quoted(line.text))


def _quoted(text: str) -> str:
    return "".join(c if c.isalnum() or c in "_ " or ord(c) > 127 else f"\\x{{{ord(c):x}}}" for c in text)


def _field(where: Where, item: FieldFilter) -> None:
    found, paths = text_of(item.name, item.parser)
    if item.op in ("=", "!="):
        if item.op == "=" and not item.parser and _PLAIN.match(item.value):
            # A value without anything to escape stands in the JSON as it is: most lines need no parsing.
            where.add("contains(fields, ?)", item.value)
        where.add(f"{found} {'=' if item.op == '=' else '<>'} ?", *paths, item.value)
    elif item.op in ("=~", "!~"):
        where.add(f"{'not ' if item.op == '!~' else ''}regexp_full_match({found}, ?)", *paths, item.value)
    else:
        number = f"try_cast({found} as double)"
        holds = f"coalesce({number} {item.op.replace('==', '=')} ?, false)"
        if not item.unread:
            where.add(holds, *paths, float(item.value))
            return
        none = f"({number} is null and {found} <> '')"
        if item.parser == "json" or isinstance(item.parser, Paths):
            none += " or case when json_valid(message) then json_type(message) <> 'OBJECT' else true end"
        where.add(f"({holds} or {none})", *paths, float(item.value), *paths, *paths)


def text_of(name: str, parser: Reader = "") -> tuple[str, list[str]]:
    """(SQL for the text of a field, empty where it is absent; the values that it binds)."""
    names = [name] if "." not in name else [name, name.replace(".", "\0")]
    sources, values = ["json_extract_string(fields, ?)"] * len(names), [_pointer(n) for n in names]
    if parser == "json":
        # Nested names are joined by underscores where Loki's parser names them.
        inside = [_pointer(name), *([_pointer(name.replace("_", "\0"))] if "_" in name else [])]
        sources += ["case when json_valid(message) then json_extract_string(message, ?) end"] * len(inside)
        values += inside
    elif isinstance(parser, Paths):
        inside = [path for field, path in parser.fields if field == name]
        sources += ["case when json_valid(message) then json_extract_string(message, ?) end"] * len(inside)
        values += inside
    elif isinstance(parser, Captures):
        for _, expression, group in (one for one in parser.fields if one[0] == name):
            sources.append(f"nullif(regexp_extract(message, ?, {group:d}), '')")
            values.append(expression)
    elif parser == "logfmt":
        key = rf"(?:^|\s){_quoted(name)}="
        # What stands in quotes may hold escaped ones.
        sources.append("nullif(regexp_replace(regexp_extract(message, ?, 1), '\\\\(.)', '\\1', 'g'), '')")
        sources.append("nullif(regexp_extract(message, ?, 1), '')")
        values += [key + r'"((?:[^"\\]|\\.)*)"', key + r'([^\s"]+)']
    return "coalesce(" + ", ".join(sources) + ", '')", values


def _pointer(name: str) -> str:
    """A JSON pointer to a name, in which NUL stands between the names of nested objects."""
    return "/" + name.replace("~", "~0").replace("/", "~1").replace("\0", "/")
