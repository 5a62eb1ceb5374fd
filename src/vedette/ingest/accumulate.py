"""What a tracked series comes to: the pure state of a counter, gauge, histogram or summary, and the samples it makes.

Copies (`copy.copy`) are independent, so that a state can be tried and thrown away. Not here: where states are kept and
stored (`track.py`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from vedette.model.labels import METRIC_NAME, Labels

Kind = Literal["counter", "gauge", "histogram", "summary"]
KINDS: tuple[Kind, ...] = ("counter", "gauge", "histogram", "summary")
QUANTILES = (0.5, 0.9, 0.95, 0.99)


class State(Protocol):
    """What has come together of one series; `used` is when it last was observed, on the monotonic clock.

    `born` says that nothing of it is stored yet.
    """

    kind: Kind
    used: float
    born: bool

    def observe(self, value: float) -> None:
        """Take one value."""
        ...

    def samples(self, labels: Labels) -> Iterable[tuple[Labels, float]]:
        """The series that are stored, `labels` being those of the metric itself."""
        ...


@dataclass(slots=True)
class CounterState:
    """The sum of all increments."""

    total: float = 0.0
    used: float = 0.0
    kind: Kind = "counter"
    born: bool = False

    def observe(self, value: float) -> None:
        self.total += value

    def samples(self, labels: Labels) -> Iterable[tuple[Labels, float]]:
        return ((labels, self.total),)


@dataclass(slots=True)
class GaugeState:
    """The value last set."""

    value: float = 0.0
    used: float = 0.0
    kind: Kind = "gauge"
    born: bool = False

    def observe(self, value: float) -> None:
        self.value = value

    def samples(self, labels: Labels) -> Iterable[tuple[Labels, float]]:
        return ((labels, self.value),)


@dataclass(slots=True)
class HistogramState:
    """`counts[i]` observations are in (bounds[i-1], bounds[i]]; the last is above all bounds."""

    bounds: Sequence[float]
    counts: list[float]
    sum: float = 0.0
    used: float = 0.0
    kind: Kind = "histogram"
    born: bool = False

    def __copy__(self) -> HistogramState:
        return HistogramState(self.bounds, list(self.counts), self.sum, self.used, born=self.born)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def samples(self, labels: Labels) -> Iterable[tuple[Labels, float]]:
        total = 0.0
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            total += count
            yield part(labels, "_bucket", le=bound_text(bound)), total
        yield part(labels, "_sum"), self.sum
        yield part(labels, "_count"), total


@dataclass(slots=True)
class SummaryState:
    """Quantiles of the `recent` observations, sum and count of all."""

    recent: deque[float]
    sum: float = 0.0
    count: float = 0.0
    used: float = 0.0
    kind: Kind = "summary"
    born: bool = False

    def __copy__(self) -> SummaryState:
        return SummaryState(deque(self.recent, self.recent.maxlen), self.sum, self.count, self.used, born=self.born)

    def observe(self, value: float) -> None:
        self.recent.append(value)
        self.sum += value
        self.count += 1

    def samples(self, labels: Labels) -> Iterable[tuple[Labels, float]]:
        if self.recent:
            values = np.quantile(np.fromiter(self.recent, np.float64), QUANTILES)
            for quantile, value in zip(QUANTILES, values.tolist(), strict=True):
                yield labels.with_({"quantile": repr(quantile)}), value
        yield part(labels, "_sum"), self.sum
        yield part(labels, "_count"), self.count


def bound_text(bound: float) -> str:
    """A bucket's `le` as Prometheus writes it: `0.005`, `1`, `+Inf`."""
    if math.isinf(bound):
        return "+Inf"
    return str(int(bound)) if bound.is_integer() and abs(bound) < 1e15 else repr(bound)


def part(labels: Labels, suffix: str, **more: str) -> Labels:
    """The labels of one of the series that make a histogram or summary up."""
    return labels.with_({METRIC_NAME: labels.metric + suffix, **more})
