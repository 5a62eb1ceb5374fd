"""Rule files: Prometheus' format, checked as Prometheus checks it, every mistake with its file, line and column.

Structure (unknown keys, wrong types) is refused by `configfile` at the first mistake; names, expressions and templates are
all checked, and all their mistakes told together. One thing is ours: an alert may say `type` and `metric` in place of `expr`
(`typed.py`). Not here: evaluating rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import structlog
import yaml

from vedette import configfile
from vedette.configfile import option
from vedette.errors import BadInput
from vedette.gotemplate.parser import Template
from vedette.model.durations import parse_duration
from vedette.model.labels import EMPTY, METRIC_NAME, Labels
from vedette.promql.nodes import Call, Node, Selector, walk
from vedette.promql.parse import NO_FEATURES
from vedette.promql.parse import parse as parse_expr
from vedette.promql.printer import to_text
from vedette.promql.settings import Features
from vedette.rules.template import prepare
from vedette.rules.typed import Analysis, Kind, Typed, compiled

log = structlog.get_logger(__name__)

DEFAULT_INTERVAL_MS = 60_000


@dataclass(frozen=True, slots=True)
class Rule:
    """A checked rule.

    `templates` are those of labels and annotations of an alerting rule, by `labels.x`, `annotations.x`; `reads` are the metrics
    its expression selects, None where it may select any; `shown` is the expression in Prometheus' normal form. With an
    `analysis` what counts is not the expression's value but what the analysis makes of its values.
    """

    kind: Literal["alerting", "recording"]
    name: str
    expr: str
    shown: str = ""
    hold_ms: int = 0
    keep_firing_ms: int = 0
    labels: Labels = EMPTY
    annotations: Labels = EMPTY
    templates: dict[str, Template | str] = field(default_factory=dict, compare=False, repr=False)
    reads: frozenset[str] | None = field(default=None, compare=False, repr=False)
    analysis: Analysis | None = None


MADE = "api:"
"""What stands before a namespace where another group has its file: a group that was made over the API."""

NOTIFY_LABEL = "vedette_notify"
"""What the alerts of a group with `notify` carry, so that a route finds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Whom the alerts of a group made over the API are told, besides those whom the routes name."""

    email: tuple[str, ...] = ()
    webhook: str = option("", secret=True)

    def __post_init__(self) -> None:
        for address in self.email:
            if not _ADDRESS.match(address):
                raise BadInput(f"not a mail address: {address[:100]!r}", where="email")
        if self.webhook and not self.webhook.startswith(("http://", "https://")):
            raise BadInput("not a URL", where="webhook", hint="expected http:// or https://")


_ADDRESS = re.compile(r"[^@\s,<>]+@[^@\s,<>]+\Z")


@dataclass(frozen=True, slots=True)
class Group:
    """A checked group. `file` is where it stands, "" for one that Vedette brings along; `limit` 0 is none."""

    name: str
    file: str
    interval_ms: int
    limit: int
    query_offset_ms: int
    rules: tuple[Rule, ...]
    notify: Notify | None = None


class RuleErrors(BadInput):
    """Several mistakes of one file; `errors` has them one by one, in order of the file."""

    def __init__(self, errors: list[BadInput]) -> None:
        super().__init__("\n".join(str(e) for e in errors))
        self.errors = tuple(errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RuleEntry:
    record: str = ""
    alert: str = ""
    expr: str = ""
    for_: int = option(0, key="for", convert=parse_duration)
    keep_firing_for: int = option(0, convert=parse_duration)
    labels: dict[str, str] = option(factory=dict)
    annotations: dict[str, str] = option(factory=dict)
    type: Kind | None = None
    metric: str = ""
    condition: str = ""
    threshold: float | None = None
    window: int = option(0, convert=parse_duration)
    ahead: int = option(0, convert=parse_duration)
    season: int = option(0, convert=parse_duration)
    step: int = option(0, convert=parse_duration)
    each: bool = False

    @property
    def typed(self) -> dict[str, Any]:
        """The keys that belong to a type, those that are given."""
        values = {name: getattr(self, name) for name in ("metric", "condition", "threshold", "window", "ahead", "season", "step", "each")}
        return {name: value for name, value in values.items() if value or (name == "threshold" and value is not None)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupEntry:
    name: str
    interval: int = option(0, convert=parse_duration)
    query_offset: int | None = option(None, convert=parse_duration)
    limit: int = 0
    labels: dict[str, str] = option(factory=dict)
    rules: list[_RuleEntry] = option(factory=list)
    notify: Notify | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _RuleFile:
    groups: list[_GroupEntry] = option(factory=list)


def load(path: Path, *, interval_ms: int = DEFAULT_INTERVAL_MS, query_offset_ms: int = 0, features: Features = NO_FEATURES) -> list[Group]:
    """The groups of a file; `interval_ms` and `query_offset_ms` are for groups that do not say, `features` as in `parse`.

    Raises `BadInput`, a `RuleErrors` where there are several mistakes.
    """
    return parse(configfile.read(path), name=str(path), interval_ms=interval_ms, query_offset_ms=query_offset_ms, features=features)


def parse(
    text: str | bytes,
    *,
    name: str,
    interval_ms: int = DEFAULT_INTERVAL_MS,
    query_offset_ms: int = 0,
    features: Features = NO_FEATURES,
    lenient: bool = False,
) -> list[Group]:
    """As `load`, of a text; `name` stands for the file. `features` are on in expressions; `lenient` passes over unknown keys."""
    entries = configfile.parse(text, _RuleFile, name=name, on_more=_further, lenient=lenient).groups
    checker = _Checker(features)
    groups = [checker.group(e, ("groups", i), name, (interval_ms, query_offset_ms)) for i, e in enumerate(entries)]
    seen: set[str] = set()
    for i, entry in enumerate(entries):
        if not entry.name:
            checker.mistake(("groups", i, "name"), "groupname must not be empty")
        elif entry.name in seen:
            checker.mistake(("groups", i, "name"), f'groupname: "{entry.name}" is repeated in the same file')
        seen.add(entry.name)
    if checker.mistakes:
        raise checker.located(text, name)
    return groups


def parse_group(
    text: str | bytes,
    *,
    name: str,
    file: str,
    interval_ms: int = DEFAULT_INTERVAL_MS,
    query_offset_ms: int = 0,
    features: Features = NO_FEATURES,
) -> Group:
    """One group alone, as YAML or JSON, as it stands in `groups`; it is to stand in `file`. `name` is the text's, for errors."""
    entry = configfile.parse(text, _GroupEntry, name=name)
    checker = _Checker(features)
    group = checker.group(entry, (), file, (interval_ms, query_offset_ms))
    if not entry.name:
        checker.mistake(("name",), "groupname must not be empty")
    if checker.mistakes:
        raise checker.located(text, name)
    return group


def _further(where: str) -> None:
    log.warning("rule file has several YAML documents, only the first counts", where=where)


_Path = tuple[str | int, ...]


class _Checker:
    """Collects mistakes with the path of what they are about; positions are looked up only if there are any."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self.mistakes: list[tuple[_Path, str, str]] = []
        self.prepared: dict[str, Template | str] = {}
        """Templates by their texts: those of a file are mostly the same few."""

    def mistake(self, path: _Path, problem: str, hint: str = "") -> None:
        self.mistakes.append((path, problem, hint))

    def group(self, entry: _GroupEntry, path: _Path, file: str, defaults: tuple[int, int]) -> Group:
        """A group at `path`; `defaults` are the interval and the query offset (ms) of one that does not say."""
        interval, offset = defaults
        if entry.notify is not None:
            if not file.startswith(MADE):
                self.mistake((*path, "notify"), "only groups made over the API have 'notify'", "name receivers in alertmanager.yml")
            entry = replace(entry, labels={**entry.labels, NOTIFY_LABEL: f"{file.removeprefix(MADE)}/{entry.name}"})
        rules = tuple(self.rule(rule, entry, (*path, "rules", j)) for j, rule in enumerate(entry.rules))
        self.label_names(entry.labels, (*path, "labels"))
        return Group(
            name=entry.name,
            file=file,
            interval_ms=entry.interval or interval,
            limit=entry.limit,
            query_offset_ms=offset if entry.query_offset is None else entry.query_offset,
            rules=rules,
            notify=entry.notify,
        )

    def rule(self, entry: _RuleEntry, group: _GroupEntry, path: _Path) -> Rule:
        alerting = bool(entry.alert)
        if entry.record and entry.alert:
            self.mistake((*path, "alert"), "only one of 'record' and 'alert' must be set")
        elif not entry.record and not entry.alert:
            self.mistake(path, "one of 'record' or 'alert' must be set")
        expr, analysis = self.typed(entry, path)
        shown, reads = "", None
        if expr.strip():
            try:
                root = parse_expr(expr, self.features)
                shown, reads = to_text(root), _reads(root)
            except BadInput as error:
                self.mistake((*path, "expr"), f"could not parse expression: {error.where}: {error.problem}", error.hint)
        if entry.record:
            self.recording(entry, path)
        self.label_names(entry.labels, (*path, "labels"))
        for label in entry.annotations:
            if not label:
                self.mistake((*path, "annotations", label), f"invalid annotation name: {label}")
        templates = dict(self.templates(entry, group, path)) if alerting else {}
        return Rule(
            kind="alerting" if alerting else "recording",
            name=entry.alert or entry.record,
            expr=expr.strip(),
            shown=shown,
            analysis=analysis,
            hold_ms=entry.for_,
            keep_firing_ms=entry.keep_firing_for,
            labels=Labels.of({**group.labels, **entry.labels}),
            annotations=Labels.of(entry.annotations),
            templates=templates,
            # A template may query anything.
            reads=None if any("query" in t for t in (*entry.labels.values(), *entry.annotations.values())) else reads,
        )

    def typed(self, entry: _RuleEntry, path: _Path) -> tuple[str, Analysis | None]:
        """The expression of a rule, written or made from its type; empty where there is none."""
        given = entry.typed
        if entry.type is None:
            if given:
                self.mistake((*path, next(iter(given))), "means nothing without 'type'", "expected expr, or type and metric")
            elif not entry.expr.strip():
                self.mistake((*path, "expr"), "field 'expr' must be set in rule")
            return entry.expr, None
        if entry.record:
            self.mistake((*path, "type"), "invalid field 'type' in recording rule")
        if entry.expr:
            self.mistake((*path, "expr"), "only one of 'expr' and 'type' must be set")
        try:
            return compiled(Typed(kind=entry.type, **{"metric": "", **given}), features=self.features)
        except BadInput as error:
            self.mistake((*path, error.where), error.problem, error.hint)
            return "", None

    def recording(self, entry: _RuleEntry, path: _Path) -> None:
        for key, given in (("annotations", entry.annotations), ("for", entry.for_), ("keep_firing_for", entry.keep_firing_for)):
            if given:
                self.mistake((*path, key), f"invalid field '{key}' in recording rule")
        if "{" in entry.record or "}" in entry.record:
            problem = f"braces present in the recording rule name; should it be in expr?: {entry.record}"
            self.mistake((*path, "record"), problem)

    def label_names(self, labels: dict[str, str], path: _Path) -> None:
        for label in labels:
            if not label or label == METRIC_NAME:
                self.mistake((*path, label), f"invalid label name: {label}")

    def templates(self, entry: _RuleEntry, group: _GroupEntry, path: _Path) -> Iterator[tuple[str, Template | str]]:
        for part, texts in (("labels", {**group.labels, **entry.labels}), ("annotations", entry.annotations)):
            for label, text in texts.items():
                try:
                    if text not in self.prepared:
                        self.prepared[text] = prepare(text, name="template")
                    yield f"{part}.{label}", self.prepared[text]
                except BadInput as error:
                    self.mistake((*path, part, label), f"{error.where}: {error.problem}", error.hint)

    def located(self, text: str | bytes, name: str) -> BadInput:
        """The mistakes as one error, each with file, line, column and the path of its key."""
        root = configfile.compose(text, name=name, on_more=lambda _where: None)
        errors = [(_find(root, path), path, problem, hint) for path, problem, hint in self.mistakes]
        errors.sort(key=lambda e: e[0])
        found = [
            BadInput(problem, where=f"{name}:{line}:{column}: {_dotted(path)}", hint=hint) for (line, column), path, problem, hint in errors
        ]
        return found[0] if len(found) == 1 else RuleErrors(found)


def _reads(root: Node) -> frozenset[str] | None:
    names = set()
    for node in walk(root):
        if isinstance(node, Call) and node.func.name == "info":
            return None  # it reads info metrics that it need not name
        if isinstance(node, Selector):
            name = node.name or next((m.value for m in node.matchers if m.name == METRIC_NAME and m.op == "="), "")
            if not name:
                return None
            names.add(name)
    return frozenset(names)


def _dotted(path: _Path) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")


def _find(node: yaml.Node | None, path: _Path) -> tuple[int, int]:
    """Line and column of the node at `path`, or of the nearest one above it that exists."""
    assert node is not None, "an empty document has no mistakes"
    for step in path:
        below: yaml.Node | None = None
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            below = node.value[step]
        elif isinstance(node, yaml.MappingNode):
            below = next((v for k, v in node.value if k.value == step), None)
        if below is None:
            break
        node = below
    return node.start_mark.line + 1, node.start_mark.column + 1
