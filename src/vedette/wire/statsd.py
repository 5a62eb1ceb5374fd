"""A line of StatsD and its dialects: counters, gauges, timers, histograms, distributions, sets; tags as DogStatsD, Librato, InfluxDB and
SignalFX write them. What is taken and refused is statsd_exporter's choice, besides sets, which it does not know.

Not here: what lines add up to (`ingest/aggregates.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from vedette.errors import BadInput

KINDS = {"c": "counter", "g": "gauge", "ms": "timer", "h": "histogram", "d": "distribution", "s": "set"}
_OBSERVED = frozenset(("ms", "h", "d"))


@dataclass(frozen=True, slots=True)
class Sent:
    """One value of one metric. `kind` is StatsD's letter; `weight` is how many it stands for, having been sampled; `relative` a change
    of a gauge; `text` the value as it was sent, which is what a set counts."""

    name: str
    tags: tuple[tuple[str, str], ...]
    kind: str
    value: float
    weight: float = 1.0
    relative: bool = False
    text: str = ""


class Bad(BadInput):
    """A line that is none; `problem` is the reason that it is counted under."""


def parse_line(line: bytes) -> list[Sent]:
    """The values of a line, which has no line feed. Raises `Bad`."""
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise Bad("not_utf8", where=repr(line[:200])) from None
    if text.startswith(("_e{", "_sc|")):
        raise Bad("event", where=text[:200], hint="events and service checks are no metrics")
    head, colon, rest = text.partition(":")
    if not colon or not head:
        raise Bad("malformed_line", where=text[:200])
    name, tags = _named(head)
    if not name:
        raise Bad("malformed_line", where=text[:200])
    dog = "|#" in rest
    if dog and tags:
        raise Bad("mixed_tagging_styles", where=text[:200])
    values, bar, after = rest.partition("|")
    if not bar:
        raise Bad("malformed_line", where=text[:200])
    kind = after.partition("|")[0]
    if ":" in values and kind != "s":
        samples = [f"{value}|{after}" for value in values.split(":")]
    elif dog or kind == "s":
        samples = [rest]
    else:
        samples = rest.split(":")
    return [_sample(name, tags, sample, text) for sample in samples]


def _sample(name: str, tags: dict[str, str], sample: str, line: str) -> Sent:
    parts = sample.split("|")
    if len(parts) < 2 or not all(parts[1:]):
        raise Bad("malformed_component", where=line[:200])
    text, kind, *more = parts
    if kind not in KINDS:
        raise Bad("unknown_type", where=line[:200], hint="expected one of " + ", ".join(KINDS))
    weight = 1.0
    for part in more:
        if part[0] == "@":
            weight = 1.0 / sampling(part[1:], line)
        elif part[0] == "#":
            tags = {**tags, **_tags(part[1:], ":")}
        # Other fields (a container's id, a time) say nothing of the value.
    if kind == "s":
        if not text:
            raise Bad("bad_value", where=line[:200])
        return Sent(name, tuple(sorted(tags.items())), kind, 0.0, text=text)
    value = number(text.encode(), line)
    if kind == "c" and value < 0:
        raise Bad("negative_counter", where=line[:200])
    if kind == "g":
        weight = 1.0
    return Sent(name, tuple(sorted(tags.items())), kind, value, weight, kind == "g" and text[:1] in ("+", "-"), text)


def number(text: bytes, line: str) -> float:
    """A finite number. Raises `Bad`."""
    try:
        value = float(text)
    except ValueError:
        raise Bad("bad_value", where=line[:200]) from None
    # Not finite, or Python's own ways to write a number.
    if value - value != 0.0 or b"_" in text or text.strip() != text:
        raise Bad("bad_value", where=line[:200])
    return value


def sampling(text: str, line: str) -> float:
    """A sample rate: above 0 and at most 1; 0 counts as 1, as it does elsewhere. Raises `Bad`."""
    rate = number(text.encode(), line)
    if rate == 0:
        return 1.0
    if not 1e-6 <= rate <= 1:
        raise Bad("bad_sample_rate", where=line[:200])
    return rate


def _named(head: str) -> tuple[str, dict[str, str]]:
    """The name and its tags in the styles that have them there: `a#b=c`, `a,b=c`, `a[b=c].d`."""
    if head.endswith("]") or "]" in head:
        before, opened, inside = head.partition("[")
        within, closed, behind = inside.partition("]")
        if opened and closed:
            return before + behind, _tags(within, "=")
    for sign in "#,":
        name, found, rest = head.partition(sign)
        if found:
            return name, _tags(rest, "=")
    return head, {}


def _tags(text: str, sign: str) -> dict[str, str]:
    """`a:b,c` to {a: b, c: true}: a tag that has no value says that it is there."""
    found = {}
    for part in text.split(","):
        name, _, value = part.partition(sign)
        if name:
            found[name] = value if _ else "true"
    return found
