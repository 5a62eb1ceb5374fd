"""The notation of series in test files: `metric{label="value"} 1 2+3x4 _x2 stale`.

Used by PromQL test scripts and by rule unit tests. Histogram literals (`{{…}}`) are recognised, and stand as `HISTOGRAM`:
the engine holds no native histograms yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.model.labels import Labels
from vedette.model.samples import STALE
from vedette.promql.actions import parse_number
from vedette.promql.nodes import Selector
from vedette.promql.parse import parse_unchecked

HISTOGRAM = "histogram"

Item = float | str | None
"""A float, None for a position left out, or `HISTOGRAM`."""

MAX_ITEMS = 1_000_000

_NUM = r"(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?|[iI][nN][fF]|[nN][aA][nN]|(?:[0-9]+(?:ms|[smhdwy]))+"
_BLANK = re.compile(r"_(?:x([0-9]+))?\Z")
_VALUE = re.compile(rf"([+-]?)({_NUM})(?:([+-])({_NUM}))?(?:x([0-9]+))?\Z")
_HISTOGRAM = re.compile(r"\{\{.*?\}\}(?:[+-]\{\{.*?\}\})?(?:x([0-9]+))?")


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """One line: the labels, and its items with repetitions written out."""

    labels: Labels
    items: list[Item]

    @property
    def has_histograms(self) -> bool:
        """Whether any item is a histogram."""
        return HISTOGRAM in self.items


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
    """The labels of a series as written. Raises `BadInput`."""
    node = parse_unchecked(text)
    if not isinstance(node, Selector) or any(m.op != "=" for m in node.matchers):
        raise BadInput(f"not a series: {text!r}", hint='expected metric{label="value"}')
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
            items += [HISTOGRAM] * (int(found.group(1)) + 1 if found.group(1) else 1)
            at = found.end()
            continue
        word = text[at:].split(None, 1)[0]
        items += _expanded(word)
        at += len(word)
        if len(items) > MAX_ITEMS:
            raise BadInput(f"more than {MAX_ITEMS} values in one series")
    return items


def _expanded(word: str) -> list[Item]:
    if word == "stale":
        return [STALE]
    if blank := _BLANK.match(word):
        return [None] * (min(int(blank.group(1)), MAX_ITEMS + 1) if blank.group(1) else 1)
    found = _VALUE.match(word)
    if found is None:
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
