"""Warnings and infos of a query: what Prometheus says beside a result, in its words and with its positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from vedette.promql.errors import line_column
from vedette.promql.format import go_g
from vedette.promql.lexer import quoted
from vedette.promql.nodes import Node


@dataclass(frozen=True, slots=True)
class Forced:
    """Buckets whose counts were made to rise: the least and the greatest bound, the most that was added, how often, and when (ms)."""

    low: float
    high: float
    most: float
    times: int
    first: int
    last: int

    def joined(self, other: Forced) -> Forced:
        """Both together."""
        return Forced(
            min(self.low, other.low), max(self.high, other.high), max(self.most, other.most), self.times + other.times,
            min(self.first, other.first), max(self.last, other.last),
        )  # fmt: skip

    def __str__(self) -> str:
        first, last = (datetime.fromtimestamp(t / 1000, UTC) for t in (self.first, self.last))
        return (
            f", from buckets {go_g(self.low)} to {go_g(self.high)}, with a max diff of {self.most:.2g}, "
            f"over {self.times} samples from {first:%Y-%m-%dT%H:%M:%SZ} to {last:%Y-%m-%dT%H:%M:%SZ}"
        )


class Annotations:
    """Collects the annotations of one query. One that was given before, wherever, counts once: the position is that of the last."""

    def __init__(self, text: str, moved: Callable[[int], int] | None = None) -> None:
        """`moved` tells where in the text stands what nodes say stands at some place of theirs, where they are of another text."""
        self._text, self._moved = text, moved
        self._warnings: dict[str, int] = {}
        self._infos: dict[str, int] = {}
        self._forced: dict[str, Forced] = {}

    def warn(self, message: str, node: Node) -> None:
        """Add `PromQL warning: …` at a node."""
        self._warnings[message] = node.start

    def inform(self, message: str, node: Node) -> None:
        """Add `PromQL info: …` at a node."""
        self._infos[message] = node.start

    def force(self, name: str, forced: Forced, node: Node) -> None:
        """Add what `histogram_quantile` did to buckets of a metric. With what was said of it before it is one, where that was said."""
        message = _FORCED + for_metric(name)
        before = self._forced.get(message)
        self._forced[message] = forced if before is None else before.joined(forced)
        self._infos.setdefault(message, node.start)

    @property
    def warnings(self) -> list[str]:
        """In order of their first occurrence."""
        return [f"PromQL warning: {message} ({self._place(at)})" for message, at in self._warnings.items()]

    @property
    def infos(self) -> list[str]:
        """In order of their first occurrence."""
        return [f"PromQL info: {message}{self._forced.get(message, '')} ({self._place(at)})" for message, at in self._infos.items()]

    def _place(self, at: int) -> str:
        return line_column(self._text, at if self._moved is None else self._moved(at))


_FORCED = (
    "input to histogram_quantile needed to be fixed for monotonicity "
    "(see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
)


def for_metric(name: str) -> str:
    """` for metric name "x"`, or nothing where the name is unknown."""
    return f" for metric name {quoted(name)}" if name else ""


def not_a_counter(name: str) -> str:
    """What `rate` says of a metric whose name is not a counter's."""
    return f"metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {quoted(name)}"


def not_a_counter_type(name: str, type_: str) -> str:
    """What `rate` says of a metric whose `__type__` is not a counter's."""
    return f'metric might not be a counter, __type__ label is not set to "counter" or "histogram", got {quoted(type_)}: {quoted(name)}'


def bad_quantile(shown: str) -> str:
    """What a quantile outside [0, 1] says."""
    return f"quantile value should be between 0 and 1, got {shown}"


def bad_bucket_label(value: str, name: str) -> str:
    """What a histogram function says of a series without a usable `le`."""
    return f'bucket label "le" is missing or has a malformed value of {quoted(value)}{for_metric(name)}'


def mixed_for_metric(name: str) -> str:
    """What a function of windows says of one that holds floats and histograms."""
    return f"encountered a mix of histograms and floats for metric name {quoted(name)}"


MIXED_IN_AGGREGATION = "encountered a mix of histograms and floats for aggregation"


def mixed_classic_native(name: str) -> str:
    """What a histogram function says of buckets and a native histogram with the same name and labels."""
    return f"vector contains a mix of classic and native histograms{for_metric(name)}"


def mixed_schemas(name: str) -> str:
    """What is said where exponential and custom buckets would have to be combined."""
    return f"vector contains a mix of histograms with exponential and custom buckets schemas for metric name {quoted(name)}"


def not_a_counter_histogram(name: str) -> str:
    """What `rate` says of a gauge histogram."""
    return f"this native histogram metric is not a counter: {quoted(name)}"


def not_a_gauge_histogram(name: str) -> str:
    """What `delta` says of a counter histogram."""
    return f"this native histogram metric is not a gauge: {quoted(name)}"


def ignored_in_aggregation(op: str) -> str:
    """What an aggregation says that leaves histograms out."""
    return f"ignored histogram in {op} aggregation"


def ignored_in_range(name: str) -> str:
    """What a function of windows says that leaves out the histograms of one that has floats, too."""
    return f"ignored histograms in a range containing both floats and histograms for metric name {quoted(name)}"


def incompatible_types(left: str, op: str, right: str) -> str:
    """What a binary operator says of samples that it does not apply to."""
    return f"incompatible sample types encountered for binary operator {quoted(op)}: {left} {op} {right}"


def incompatible_layouts(op: str) -> str:
    """What a binary operator says of exponential and custom buckets."""
    return f"incompatible bucket layout encountered for binary operator {op}"


def colliding_resets(operation: str) -> str:
    """What is said where a counter reset meets its express absence; `operation` is addition, subtraction or aggregation."""
    return f"conflicting counter resets during histogram {operation}"


def reconciled_bounds(operation: str) -> str:
    """What is said where custom buckets differed; `operation` as for `colliding_resets`."""
    return f"mismatched custom buckets were reconciled during {operation}"


def nan_quantile(name: str, *, skewed: bool) -> str:
    """What `histogram_quantile` says of NaN among the observations."""
    outcome = "skewed higher" if skewed else "NaN"
    return f"input to histogram_quantile has NaN observations, result is {outcome}{for_metric(name)}"


def nan_fraction(name: str) -> str:
    """What `histogram_fraction` says of NaN among the observations."""
    return f"input to histogram_fraction has NaN observations, which are excluded from all fractions{for_metric(name)}"


def overlapping_start(name: str) -> str:
    """What `rate` says of samples that claim to count from before the sample ahead of them."""
    return f"sample has start time that overlaps with previous sample timestamp for metric {quoted(name)}"


START_OF_EXPRESSION = "start_timestamp() only works when used directly on an instant vector selector"
STARTS_ARE_OFF = "start_timestamp() finds nothing without the feature flag use-start-timestamps"

SORT_IN_RANGE = "sort is ineffective for range queries since results are always ordered by labels"
