"""Dotted names to metrics with labels: the mapping rules of statsd_exporter and graphite_exporter, whose files are read as they are.

A glob `a.*.b` matches component by component, a regular expression (google-re2's) the whole name; the first rule of the file that
matches counts, and `$1` in its name and labels is what the first star or group matched. Not here: protocols.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import re2

from vedette import configfile
from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.model.labels import Labels
from vedette.wire.naming import Names, labels_of

Kind = Literal["", "counter", "gauge", "observer", "timer"]

_GLOB = re.compile(r"[^\s.;]+(\.[^\s.;]+)*")
_REFERENCE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def labels_for(mapped: Mapped, tags: Iterable[tuple[str, str]], names: Names, more: Mapping[str, str]) -> Labels:
    """What a metric with tags is stored under; `more` stand where neither a tag nor the rule says otherwise. Raises `BadInput`."""
    found = labels_of(mapped.name, tags, names, more.items())
    ours = {name: value for name, value in mapped.labels.items() if not (mapped.honor and found.get(name))}
    return found.with_(ours) if ours else found


@dataclass(frozen=True, slots=True)
class QuantileRule:
    """One quantile of a summary; `error` is what statsd_exporter allows it to be wrong by, here it is exact over what is kept."""

    quantile: float
    error: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.quantile <= 1:
            raise BadInput(f"not a quantile: {self.quantile}", where="quantile", hint="expected a number from 0 to 1")


DEFAULT_QUANTILES = (QuantileRule(0.5), QuantileRule(0.9), QuantileRule(0.99))
DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SKETCHES = "quantiles are exact over the observations that are kept (max_points); remove the key"


@dataclass(frozen=True, slots=True)
class SummaryOptions:
    """How observations become quantiles."""

    UNSUPPORTED: ClassVar[dict[str, str]] = {"age_buckets": _SKETCHES, "buf_cap": _SKETCHES}

    quantiles: tuple[QuantileRule, ...] = DEFAULT_QUANTILES
    max_age: int = option(600_000, convert=parse_duration)
    """Over how long quantiles are taken."""


def _rising(bounds: Sequence[float]) -> None:
    if not bounds or not all(map(math.isfinite, bounds)) or sorted(set(bounds)) != list(bounds):
        raise BadInput(f"not bucket bounds: {list(bounds)}", where="buckets", hint="expected rising finite numbers")


@dataclass(frozen=True, slots=True)
class HistogramOptions:
    """How observations become buckets."""

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "native_histogram_bucket_factor": "observations become classic buckets; remove the key",
        "native_histogram_max_buckets": "observations become classic buckets; remove the key",
    }

    buckets: tuple[float, ...] = DEFAULT_BUCKETS

    def __post_init__(self) -> None:
        _rising(self.buckets)


Observer = Literal["histogram", "summary"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One mapping; `None` where the defaults of the file count."""

    match: str
    name: str = ""
    labels: dict[str, str] = option(factory=dict)
    match_type: Literal["glob", "regex"] | None = None
    match_metric_type: Literal["counter", "gauge", "observer", "timer"] | None = None
    """Which metrics it is for; empty: all. `timer` means `observer`, as it does there."""
    action: Literal["map", "drop"] = "map"
    help: str = ""
    observer_type: Observer | None = None
    timer_type: Observer | None = None
    """The older name of `observer_type`."""
    buckets: tuple[float, ...] = ()
    """The older form of `histogram_options`."""
    quantiles: tuple[QuantileRule, ...] = ()
    """The older form of `summary_options`."""
    histogram_options: HistogramOptions | None = None
    summary_options: SummaryOptions | None = None
    ttl: int | None = option(None, convert=parse_duration)
    scale: float | None = None
    """What values are multiplied by."""
    honor_labels: bool = False
    """Whether a tag that was sent wins over a label of the same name from here."""

    def __post_init__(self) -> None:
        if self.action == "map" and not self.name:
            raise BadInput("a mapping needs a name", where="name", hint="or action: drop")
        if self.buckets:
            _rising(self.buckets)


@dataclass(frozen=True, slots=True)
class Defaults:
    """What counts for the mappings of a file, and for names that none matches."""

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "glob_disable_ordering": "the first mapping of the file that matches counts; order them and remove the key",
        "age_buckets": _SKETCHES,
    }

    match_type: Literal["glob", "regex"] = "glob"
    observer_type: Observer | None = None
    timer_type: Observer | None = None
    buckets: tuple[float, ...] = ()
    quantiles: tuple[QuantileRule, ...] = ()
    histogram_options: HistogramOptions | None = None
    summary_options: SummaryOptions | None = None
    ttl: int | None = option(None, convert=parse_duration)

    def __post_init__(self) -> None:
        if self.buckets:
            _rising(self.buckets)


@dataclass(frozen=True, slots=True)
class MappingFile:
    """A whole file of mappings."""

    defaults: Defaults = field(default_factory=Defaults)
    mappings: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Observing:
    """How one metric's observations are kept: `bounds` of buckets, or (None) `quantiles` over `max_age` ms."""

    bounds: tuple[float, ...] | None
    quantiles: tuple[float, ...]
    max_age: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a name came to; `labels` win over tags unless `honor`. `ttl` in ms, None for what the settings say."""

    name: str
    labels: Mapping[str, str]
    observing: Observing
    help: str = ""
    ttl: int | None = None
    scale: float = 1.0
    honor: bool = False


class Mapper:
    """The rules of one file, made ready. Raises `BadInput` naming the rule that cannot be."""

    def __init__(self, file: MappingFile, *, where: str, strict: bool = False, observer: Observer = "summary") -> None:
        """`where` names the file in errors; `strict` drops what no rule matches; `observer` counts where the file says nothing."""
        self._strict = strict
        self._rules = file.mappings
        self._defaults = file.defaults
        self._unmapped = _observing(None, file.defaults, observer)
        self._observing = [_observing(rule, file.defaults, observer) for rule in file.mappings]
        self._patterns = []
        options = re2.Options()
        options.log_errors = False
        options.max_mem = 64 << 20
        self._which = re2.Set.FullMatchSet(options) if self._rules else None
        for i, rule in enumerate(self._rules):
            pattern = _pattern(rule, file.defaults.match_type, f"{where}: mappings[{i}]")
            self._patterns.append(pattern)
            assert self._which is not None, "made where there are rules"
            self._which.Add(pattern.pattern)
        if self._which is not None:
            self._which.Compile()

    @property
    def plain(self) -> bool:
        """Whether every name is taken as it is."""
        return not self._rules and not self._strict

    def find(self, name: str, kind: Kind) -> Mapped | None:
        """What a name becomes; None where it is dropped."""
        # All rules at once, however many there are: a set of them is one automaton.
        for i in sorted(self._which.Match(name) or ()) if self._which is not None else ():
            rule = self._rules[i]
            wanted = "observer" if rule.match_metric_type == "timer" else rule.match_metric_type
            if kind and wanted not in (None, kind):
                continue
            if rule.action == "drop":
                return None
            found = self._patterns[i].fullmatch(name)
            assert found is not None, "the set says that it matches"
            given = [found[0], *(group or "" for group in found.groups())]
            names = {key: value or "" for key, value in found.groupdict().items()}
            labels = {key: _filled(text, given, names) for key, text in rule.labels.items()}
            ttl = self._defaults.ttl if rule.ttl is None else rule.ttl
            scale = 1.0 if rule.scale is None else rule.scale
            metric = _filled(rule.name, given, names)
            return Mapped(metric, labels, self._observing[i], rule.help, ttl, scale, rule.honor_labels)
        return None if self._strict else Mapped(name, {}, self._unmapped, ttl=self._defaults.ttl)


def _observing(rule: Rule | None, defaults: Defaults, fallback: Observer) -> Observing:
    """The first that says something, the rule before the defaults, and the newer key before the older."""
    parts: list[Rule | Defaults] = [defaults] if rule is None else [rule, defaults]
    kind = next((k for part in parts for k in (part.observer_type, part.timer_type) if k), fallback)
    bounds = next(
        (b for part in parts for b in (part.histogram_options.buckets if part.histogram_options else (), part.buckets) if b),
        DEFAULT_BUCKETS,
    )
    quantiles = next(
        (q for part in parts for q in (part.summary_options.quantiles if part.summary_options else (), part.quantiles) if q),
        DEFAULT_QUANTILES,
    )
    age = next((part.summary_options.max_age for part in parts if part.summary_options), SummaryOptions().max_age)
    return Observing(tuple(bounds) if kind == "histogram" else None, tuple(float(q.quantile) for q in quantiles), age)


def _pattern(rule: Rule, match_type: str, where: str) -> re2._Regexp:
    if (rule.match_type or match_type) == "glob":
        if not _GLOB.fullmatch(rule.match):
            raise BadInput(
                f"not a pattern: {rule.match!r}", where=where, hint="expected names and stars between dots, such as app.*.requests"
            )
        text = r"\.".join("([^.]*)".join(map(re2.escape, part.split("*"))) for part in rule.match.split("."))
    else:
        text = rule.match
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 << 20
    try:
        pattern = re2.compile(text, options)
    except re2.error as error:
        raise BadInput(f"not a regular expression: {rule.match!r}: {error.args[0]!s}", where=where) from None
    for reference in (found for value in (rule.name, *rule.labels.values()) for found in _REFERENCE.findall(value)):
        name = reference[0] or reference[1]
        if (int(name) > pattern.groups) if name.isdigit() else (name not in pattern.groupindex):
            raise BadInput(f"${name} names nothing that {rule.match!r} matches", where=where)
    return pattern


def _filled(text: str, given: Sequence[str], names: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        return given[int(name)] if name.isdigit() else names[name]

    return _REFERENCE.sub(value, text) if "$" in text else text


def mapper_of(mappings: Sequence[Rule], file: Path | None, *, where: str, strict: bool, observer: Observer = "summary") -> Mapper:
    """The rules of the settings (`where` they are), or of the file that these name. Raises `BadInput`."""
    if file is None:
        return Mapper(MappingFile(mappings=tuple(mappings)), where=where, strict=strict, observer=observer)
    return Mapper(configfile.load(file, MappingFile), where=str(file), strict=strict, observer=observer)
