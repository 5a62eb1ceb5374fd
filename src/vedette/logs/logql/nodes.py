"""What a LogQL query says, as a tree. `str` of a node is the query again, in its plainest spelling.

Not here: reading (`parser.py`), running (`stages.py`, `evaluate.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

RANGE_OPS = ("rate", "rate_counter", "count_over_time", "bytes_rate", "bytes_over_time", "absent_over_time")
UNWRAPPED_OPS = (
    "sum_over_time", "avg_over_time", "min_over_time", "max_over_time", "stdvar_over_time", "stddev_over_time",
    "quantile_over_time", "first_over_time", "last_over_time",
)  # fmt: skip
"""What needs `unwrap`, beside `rate_counter`; `rate` may have it."""
GROUPED_OPS = tuple(op for op in UNWRAPPED_OPS if op != "sum_over_time")
"""What may have `by` or `without` of its own."""
AGGREGATIONS = ("sum", "avg", "min", "max", "count", "stddev", "stdvar", "topk", "bottomk", "approx_topk", "sort", "sort_desc")
RANKED = ("topk", "bottomk", "approx_topk")
UNGROUPED = ("approx_topk", "sort", "sort_desc")
"""What has no `by` or `without`."""
COMPARISONS = ("==", "!=", ">", ">=", "<", "<=")
SETS = ("and", "or", "unless")


_UNITS = (("d", 86_400 * 10**9), ("h", 3_600 * 10**9), ("m", 60 * 10**9), ("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1))


def quoted(text: str) -> str:
    """Text as a string of LogQL."""
    return json.dumps(text, ensure_ascii=False)


def spelt_duration(ns: int) -> str:
    """A duration in the largest units that say it."""
    if ns == 0:
        return "0s"
    text, left = "-" if ns < 0 else "", abs(ns)
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text


def spelt_number(value: float) -> str:
    """A number without a fraction it does not need."""
    return str(int(value)) if math.isfinite(value) and value == int(value) and abs(value) < 1e15 else repr(value)


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition of a selector."""

    name: str
    op: Literal["=", "!=", "=~", "!~"]
    value: str

    def __str__(self) -> str:
        return f"{self.name}{self.op}{quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class LineFilter:
    """`|=`, `!=`, `|~`, `!~`, `|>`, `!>` with texts of which one must hold (none, where it is negated); `ip` are addresses."""

    op: str
    texts: tuple[str, ...]
    ip: bool = False

    @property
    def negated(self) -> bool:
        """Whether it is for lines that do not match."""
        return self.op[0] == "!"

    def __str__(self) -> str:
        return f"{self.op} " + " or ".join(f"ip({quoted(t)})" if self.ip else quoted(t) for t in self.texts)


@dataclass(frozen=True, slots=True)
class Parser:
    """`json`, `logfmt`, `unpack`, `regexp`, `pattern`: labels from the line; of the first two perhaps only these, (label, path)."""

    kind: str
    expression: str = ""
    chosen: tuple[tuple[str, str], ...] = ()
    strict: bool = False
    keep_empty: bool = False

    def __str__(self) -> str:
        words = [f"| {self.kind}", *(["--strict"] * self.strict), *(["--keep-empty"] * self.keep_empty)]
        if self.expression:
            words.append(quoted(self.expression))
        if self.chosen:
            words.append(", ".join(f"{label}={quoted(path)}" for label, path in self.chosen))
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Condition:
    """A label compared with text, a number (durations in seconds, sizes in bytes) or addresses."""

    name: str
    op: str
    text: str
    kind: Literal["text", "number", "duration", "bytes", "ip"]
    number: float = 0.0

    def __str__(self) -> str:
        value = {"text": quoted(self.text), "ip": f"ip({quoted(self.text)})"}.get(self.kind, self.text)
        return f"{self.name}{self.op}{value}" if self.kind in ("text", "ip") else f"{self.name} {self.op} {value}"


@dataclass(frozen=True, slots=True)
class Joined:
    """Conditions joined by `and` or `or`."""

    op: Literal["and", "or"]
    parts: tuple[Condition | Joined, ...]

    def __str__(self) -> str:
        return "(" + f" {self.op} ".join(map(str, self.parts)) + ")"


@dataclass(frozen=True, slots=True)
class LabelFilter:
    """A stage that keeps the lines whose labels fulfil a condition."""

    condition: Condition | Joined

    def __str__(self) -> str:
        return f"| {self.condition}"


@dataclass(frozen=True, slots=True)
class LineFormat:
    """The line becomes what a template says."""

    template: str

    def __str__(self) -> str:
        return f"| line_format {quoted(self.template)}"


@dataclass(frozen=True, slots=True)
class LabelFormat:
    """Labels become what a template says, or another label under a new name (`renamed`)."""

    items: tuple[tuple[str, str, bool], ...]
    """(label, template or other label, whether it is a label)."""

    def __str__(self) -> str:
        return "| label_format " + ", ".join(f"{n}={v if renamed else quoted(v)}" for n, v, renamed in self.items)


@dataclass(frozen=True, slots=True)
class Decolorize:
    """The line without the colours of a terminal."""

    def __str__(self) -> str:
        return "| decolorize"


@dataclass(frozen=True, slots=True)
class Chosen:
    """`drop` or `keep` of labels by name, or only where a matcher holds."""

    kind: Literal["drop", "keep"]
    items: tuple[str | Matcher, ...]

    def __str__(self) -> str:
        return f"| {self.kind} " + ", ".join(map(str, self.items))


Stage = LineFilter | Parser | LabelFilter | LineFormat | LabelFormat | Decolorize | Chosen


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Which lines, and what becomes of them."""

    matchers: tuple[Matcher, ...]
    stages: tuple[Stage, ...] = ()

    def __str__(self) -> str:
        return " ".join(["{" + ", ".join(map(str, self.matchers)) + "}", *map(str, self.stages)])


@dataclass(frozen=True, slots=True)
class Unwrap:
    """The label whose number is a sample; `conversion` is "", `duration`, `duration_seconds` or `bytes`; conditions that follow."""

    label: str
    conversion: str = ""
    after: tuple[LabelFilter, ...] = ()

    def __str__(self) -> str:
        inner = f"{self.conversion}({self.label})" if self.conversion else self.label
        return " ".join([f"| unwrap {inner}", *map(str, self.after)])


@dataclass(frozen=True, slots=True)
class Grouping:
    """`by` or `without` labels."""

    labels: tuple[str, ...]
    without: bool = False

    def __str__(self) -> str:
        return f"{'without' if self.without else 'by'} (" + ", ".join(self.labels) + ")"


@dataclass(frozen=True, slots=True)
class Ranged:
    """A function of a pipeline's lines over the `range_ns` up to a time, `offset_ns` before it."""

    op: str
    pipeline: Pipeline
    range_ns: int
    offset_ns: int = 0
    unwrap: Unwrap | None = None
    grouping: Grouping | None = None
    parameter: float = 0.0

    def __str__(self) -> str:
        unwrap = f" {self.unwrap}" if self.unwrap else ""
        offset = f" offset {spelt_duration(self.offset_ns)}" if self.offset_ns else ""
        first = f"{spelt_number(self.parameter)}, " if self.op == "quantile_over_time" else ""
        grouping = f" {self.grouping}" if self.grouping else ""
        return f"{self.op}({first}{self.pipeline}{unwrap} [{spelt_duration(self.range_ns)}]{offset}){grouping}"


@dataclass(frozen=True, slots=True)
class Aggregated:
    """One of `AGGREGATIONS` over what `of` gives; `k` is that of `RANKED`. Without a grouping all series are one group."""

    op: str
    of: Metric
    grouping: Grouping = field(default_factory=lambda: Grouping(()))
    k: int = 0

    def __str__(self) -> str:
        grouping = f" {self.grouping} " if self.grouping.labels or self.grouping.without else ""
        return f"{self.op}{grouping}({f'{self.k}, ' if self.op in RANKED else ''}{self.of})"


@dataclass(frozen=True, slots=True)
class Number:
    """A scalar."""

    value: float

    def __str__(self) -> str:
        return spelt_number(self.value)


@dataclass(frozen=True, slots=True)
class Vector:
    """One series without labels, everywhere of one value."""

    value: float

    def __str__(self) -> str:
        return f"vector({spelt_number(self.value)})"


@dataclass(frozen=True, slots=True)
class Replaced:
    """`label_replace`."""

    of: Metric
    target: str
    replacement: str
    source: str
    regex: str

    def __str__(self) -> str:
        return f"label_replace({self.of}, " + ", ".join(map(quoted, (self.target, self.replacement, self.source, self.regex))) + ")"


@dataclass(frozen=True, slots=True)
class Binary:
    """An operation between two; `labels` are those of `on` (or of `ignoring`), `many` the side that may have several, with `included`."""

    op: str
    left: Metric
    right: Metric
    as_number: bool = False
    """`bool`: a comparison gives 0 or 1 in the place of leaving out."""
    on: bool = False
    labels: tuple[str, ...] = ()
    many: Literal["", "left", "right"] = ""
    included: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = [self.op, *(["bool"] * self.as_number)]
        if self.on or self.labels:
            words.append(f"{'on' if self.on else 'ignoring'} (" + ", ".join(self.labels) + ")")
        if self.many:
            words.append(f"group_{self.many} (" + ", ".join(self.included) + ")")
        return f"({self.left} {' '.join(words)} {self.right})"


Metric = Ranged | Aggregated | Number | Vector | Replaced | Binary
Query = Pipeline | Metric


def leaves(query: Query) -> Iterator[Metric]:
    """A metric query's nodes, each before those inside it."""
    if isinstance(query, Pipeline):
        return
    yield query
    if isinstance(query, Binary):
        yield from leaves(query.left)
        yield from leaves(query.right)
    elif isinstance(query, Aggregated | Replaced):
        yield from leaves(query.of)
