"""The notation of series in test files: `metric{label="value"} 1 2+3x4 _x2 stale`.

Used by PromQL test scripts and by rule unit tests. Native histograms are written `{{schema:0 count:4 sum:5 buckets:[1 2 1]}}`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.model.histogram_arithmetic import added, compatible, subtracted
from vedette.model.histograms import CUSTOM_SCHEMA, GAUGE, NOT_RESET, RESET, UNKNOWN, Histogram, Layout
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import STALE
from vedette.promql.actions import parse_number
from vedette.promql.lexer import quoted
from vedette.promql.nodes import Selector
from vedette.promql.parse import parse_unchecked


@dataclass(frozen=True, slots=True)
class HistogramLiteral:
    """A histogram, and whether it was written with a counter reset hint."""

    histogram: Histogram
    hinted: bool


Item = float | HistogramLiteral | None
"""A float, None for a position left out, or a histogram."""

MAX_ITEMS = 1_000_000

_NUM = r"(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?|[iI][nN][fF]|[nN][aA][nN]|(?:[0-9]+(?:ms|[smhdwy]))+"
_BLANK = re.compile(r"_(?:x([0-9]+))?\Z")
_VALUE = re.compile(rf"([+-]?)({_NUM})(?:([+-])({_NUM}))?(?:x([0-9]+))?\Z")
_HISTOGRAM = re.compile(r"\{\{(.*?)\}\}(?:([+-])\{\{(.*?)\}\})?(?:x([0-9]+))?")
_PART = re.compile(r"\s*([a-z_]+):(?:\[([^\]]*)\]|(\S+))")
_HINTS = {"unknown": UNKNOWN, "reset": RESET, "not_reset": NOT_RESET, "gauge": GAUGE}
_NUMBERS = ("sum", "count", "z_bucket", "z_bucket_w")
_LISTS = ("buckets", "n_buckets", "custom_values")


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """One line: the labels, and its items with repetitions written out."""

    labels: Labels
    items: list[Item]

    @property
    def has_histograms(self) -> bool:
        """Whether any item is a histogram."""
        return any(isinstance(item, HistogramLiteral) for item in self.items)


def split(line: str) -> tuple[str, str]:
    """The series and the values of a line."""
    depth, quote, i = 0, "", 0
    while i < len(line):
        c = line[i]
        if quote:
            if c == "\\" and quote != "`":
                i += 1
            elif c == quote:
                quote = ""
        elif c in "\"'`":
            quote = c
        elif c in "{}":
            depth += 1 if c == "{" else -1
        elif (c in " \t" and depth == 0 and line[i:].lstrip()[:1] != "{") or (c in " \t" and depth == 0 and line[i:].lstrip()[:2] == "{{"):
            return line[:i], line[i:].strip()
        i += 1
    return line, ""


def parse_labels(text: str) -> Labels:
    """The labels of a series as written. Raises `BadInput`, also where a label is said twice: no series is stored with such."""
    node = parse_unchecked(text)
    if not isinstance(node, Selector) or any(m.op != "=" for m in node.matchers):
        raise BadInput(f"not a series: {text!r}", hint='expected metric{label="value"}')
    names = [m.name for m in node.matchers]
    for name in names:
        if names.count(name) > 1 and name != METRIC_NAME:
            raise BadInput(f"label name {quoted(name)} is not unique: invalid sample")
    return Labels.of({m.name: m.value for m in node.matchers})


def parse_value(text: str) -> float:
    """One number, as series lines and expected scalars have it; a duration counts in seconds. Raises `BadInput`."""
    sign, plain = (-1.0 if text[:1] == "-" else 1.0), text.lstrip("+-")
    try:
        return sign * parse_number(plain)
    except ValueError:
        return sign * parse_duration(plain) / 1000


def parse_items(text: str) -> list[Item]:
    """The items of a value list, written out. Raises `BadInput` naming the item."""
    items: list[Item] = []
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        if text.startswith("{{", at):
            found = _HISTOGRAM.match(text, at)
            if found is None:
                raise BadInput(f"histogram without its end: {text[at:]!r}", hint="expected {{…}}")
            items += _histograms(found)
            at = found.end()
            continue
        word = text[at:].split(None, 1)[0]
        items += _expanded(word)
        at += len(word)
        if len(items) > MAX_ITEMS:
            raise BadInput(f"more than {MAX_ITEMS} values in one series")
    return items


def _histograms(found: re.Match[str]) -> list[Item]:
    text, sign, step, times = found.groups()
    literal = parse_histogram(text)
    count = min(int(times), MAX_ITEMS) if times else 0
    if sign is None:
        return [literal] * (count + 1)
    if times is None:
        raise BadInput(f"not a value: {found.group()!r}", hint="expected how often to repeat it: {{…}}+{{…}}xN")
    change, now = parse_histogram(step), literal.histogram
    combine = added if sign == "+" else subtracted
    out: list[Item] = [HistogramLiteral(now, change.hinted)]
    for _ in range(count):
        if not compatible(now, change.histogram) or now.layout.schema > change.histogram.layout.schema:
            raise BadInput(f"cannot merge from schema {change.histogram.layout.schema} to {now.layout.schema}")
        now = combine(now, change.histogram).histogram
        out.append(HistogramLiteral(now, change.hinted))
    return out


def parse_histogram(text: str) -> HistogramLiteral:
    """What stands between `{{` and `}}`. Raises `BadInput` naming the key."""
    given: dict[str, str] = {}
    at = 0
    while text[at:].strip():
        found = _PART.match(text, at)
        if found is None or found.group(1) in given:
            raise BadInput(f"not a part of a histogram: {text[at:].strip()!r}", hint="expected key:value or key:[value …], each key once")
        given[found.group(1)] = found.group(2) if found.group(3) is None else found.group(3)
        at = found.end()
    if unknown := given.keys() - {*_NUMBERS, *_LISTS, "schema", "offset", "n_offset", "counter_reset_hint"}:
        raise BadInput(f"unknown key of a histogram: {min(unknown)!r}")
    hint = given.get("counter_reset_hint", "unknown")
    if hint not in _HINTS:
        raise BadInput(f"unknown counter reset hint: {hint!r}", hint=f"expected one of {', '.join(_HINTS)}")
    total, count, zero, width = (parse_value(given.get(key, "0")) for key in ("sum", "count", "z_bucket", "z_bucket_w"))
    positive, negative, bounds = ([parse_value(v) for v in given.get(key, "").split()] for key in _LISTS)
    sides = (_whole(given, "offset") + np.arange(len(positive)), _whole(given, "n_offset") + np.arange(len(negative)))
    layout = Layout(_whole(given, "schema"), width, tuple(bounds), *(side.astype(np.int32) for side in sides))
    if not (-4 <= layout.schema <= 8 or layout.custom):
        raise BadInput(f"unknown schema: {layout.schema}", hint=f"expected -4 to 8, or {CUSTOM_SCHEMA} for custom buckets")
    return HistogramLiteral(
        Histogram(layout, np.array([count, total, zero, *positive, *negative]), _HINTS[hint]), "counter_reset_hint" in given
    )


def _whole(given: dict[str, str], key: str) -> int:
    try:
        return int(given.get(key, "0"))
    except ValueError:
        raise BadInput(f"{key} of a histogram is not a whole number: {given[key]!r}") from None


def _expanded(word: str) -> list[Item]:
    if word == "stale":
        return [STALE]
    if blank := _BLANK.match(word):
        return [None] * (min(int(blank.group(1)), MAX_ITEMS + 1) if blank.group(1) else 1)
    found = _VALUE.match(word)
    # As in Prometheus NaN and Inf do not repeat: `NaNx3` reads as one word.
    if found is None or (found.group(2)[0] in "iInN" and found.group(5)):
        raise BadInput(f"not a value: {word!r}", hint="expected a number, _, stale, a+bxN or {{…}}")
    sign, first, step_sign, step, times = found.groups()
    value = parse_value(sign + first)
    if times is None:
        if step is not None:
            raise BadInput(f"not a value: {word!r}", hint="expected how often to repeat it: a+bxN")
        return [value]
    if step is None:
        return [value] * min(int(times) + 1, MAX_ITEMS + 1)
    delta = parse_value(step_sign + step)
    out: list[Item] = []
    for _ in range(min(int(times) + 1, MAX_ITEMS + 1)):
        out.append(value)
        value += delta  # repeated addition, as Prometheus' own runner does it
    return out


def parse_series(line: str) -> SeriesLine:
    """A whole line. Raises `BadInput`."""
    series, values = split(line)
    return SeriesLine(parse_labels(series), parse_items(values))


_START = re.compile(r"([+-]?)([0-9]+)(ms|[smhdwy]|)(?:([+-])([0-9]+(?:ms|[smhdwy])))?(?:x([0-9]+))?\Z")


def parse_starts(text: str) -> list[int | None]:
    """Start timestamps as offsets from the samples' times (ms), None for an unknown one: `_ -1m 0x2 -30s-1mx4`. Raises `BadInput`."""
    out: list[int | None] = []
    for word in text.split():
        if blank := _BLANK.match(word):
            out += [None] * (min(int(blank.group(1)), MAX_ITEMS) if blank.group(1) else 1)
            continue
        found = _START.match(word)
        if found is None or (not found.group(3) and int(found.group(2))):
            raise BadInput(f"not a start timestamp: {word!r}", hint="expected _ or a duration such as -1m, -1mx3 or -30s-1mx4")
        sign, size, unit, step_sign, step, times = found.groups()
        offset = (-1 if sign == "-" else 1) * (parse_duration(size + unit) if unit else 0)
        change = 0 if step is None else (-1 if step_sign == "-" else 1) * parse_duration(step)
        out += [offset + i * change for i in range((min(int(times), MAX_ITEMS) if times else 0) + 1)]
    return out
