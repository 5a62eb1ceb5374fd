"""What StatsD's values add up to: counters, gauges, sets, and observations as buckets or quantiles.

Pure state, one object a metric and label set: `take` a value, `values` of the series that it is written as. Not here: lines, time.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from bisect import bisect_left
from typing import Protocol

import numpy as np

from vedette.ingest.accumulate import bound_text, part
from vedette.ingest.mapping import Observing
from vedette.model.labels import Labels

_FIRST_ROOM = 16
_LONG = 64
"""Characters of a set's member that are kept as they are."""


class Aggregate(Protocol):
    """One metric's state. `type` is Prometheus' name of what it is; `rises` says which of its series begin at zero."""

    type: str

    def take(self, value: float, weight: float, now: float) -> None:
        """One value, which stands for `weight` of them; `now` in seconds."""
        ...

    def rows(self, labels: Labels) -> list[Labels]:
        """The series that it is written as, `labels` being the metric's own."""
        ...

    def rises(self) -> list[bool]:
        """Which of them only rise."""
        ...

    def values(self, now: float) -> list[float]:
        """Their values now."""
        ...

    def written(self) -> None:
        """What belongs to one interval alone begins anew."""
        ...


class CounterSum:
    """A counter: the sum of all that was counted."""

    __slots__ = ("total",)
    type = "counter"

    def __init__(self) -> None:
        self.total = 0.0

    def take(self, value: float, weight: float, now: float) -> None:
        self.total += value * weight

    def rows(self, labels: Labels) -> list[Labels]:
        return [labels]

    def rises(self) -> list[bool]:
        return [True]

    def values(self, now: float) -> list[float]:
        return [self.total]

    def written(self) -> None:
        pass


class GaugeLast:
    """A gauge: the value last set, and changes since."""

    __slots__ = ("value",)
    type = "gauge"

    def __init__(self) -> None:
        self.value = 0.0

    def take(self, value: float, weight: float, now: float) -> None:
        self.value = value

    def change(self, by: float) -> None:
        """Add to the value last set, 0 where there is none."""
        self.value += by

    def rows(self, labels: Labels) -> list[Labels]:
        return [labels]

    def rises(self) -> list[bool]:
        return [False]

    def values(self, now: float) -> list[float]:
        return [self.value]

    def written(self) -> None:
        pass


class SetSize:
    """A set: how many different values came in this interval; `most` are told apart."""

    __slots__ = ("before", "members", "most")
    type = "gauge"

    def __init__(self, most: int) -> None:
        self.most = most
        self.members: set[str | bytes] = set()
        self.before: set[str | bytes] = set()

    def take(self, value: float, weight: float, now: float) -> None:
        raise AssertionError("a set has members, not values")

    def add(self, member: str) -> None:
        """Count a member, unless there are as many as may be told apart."""
        if len(self.members) < self.most:
            # Of a long one a digest does: a set of the longest that lines hold would take gigabytes.
            long = len(member) > _LONG
            self.members.add(hashlib.blake2b(member.encode("utf-8"), digest_size=16).digest() if long else member)

    def rows(self, labels: Labels) -> list[Labels]:
        return [labels]

    def rises(self) -> list[bool]:
        return [False]

    def values(self, now: float) -> list[float]:
        return [float(len(self.members))]

    def written(self) -> None:
        self.before, self.members = self.members, set()

    def unwritten(self) -> None:
        """What was said last could not be stored: its interval goes on."""
        self.members |= self.before


class Buckets:
    """Observations as a classic histogram."""

    __slots__ = ("bounds", "counts", "total")
    type = "histogram"

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0.0] * (len(bounds) + 1)
        self.total = 0.0

    def take(self, value: float, weight: float, now: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += weight
        self.total += value * weight

    def rows(self, labels: Labels) -> list[Labels]:
        buckets = [part(labels, "_bucket", le=bound_text(bound)) for bound in (*self.bounds, math.inf)]
        return [*buckets, part(labels, "_sum"), part(labels, "_count")]

    def rises(self) -> list[bool]:
        return [True] * (len(self.counts) + 2)

    def values(self, now: float) -> list[float]:
        upto = np.cumsum(self.counts).tolist()
        return [*upto, self.total, upto[-1]]

    def written(self) -> None:
        pass


class Quantiles:
    """Observations as a summary: quantiles are observed values, of the last `most` that are not older than `max_age` ms."""

    __slots__ = ("at", "count", "max_age", "most", "points", "quantiles", "times", "total")
    type = "summary"

    def __init__(self, quantiles: tuple[float, ...], max_age: int, most: int) -> None:
        self.quantiles = quantiles
        self.max_age = max_age / 1000
        self.most = most
        # Arrays of Python's own, since single elements of NumPy's take three times as long.
        self.points = array("d", bytes(8 * min(_FIRST_ROOM, most)))
        self.times = array("d", [-math.inf]) * len(self.points)
        self.at = 0
        self.total = self.count = 0.0

    def take(self, value: float, weight: float, now: float) -> None:
        at = self.at
        if at == len(self.points):
            at = self._grown_or_turned()
        self.points[at] = value
        self.times[at] = now
        self.at = at + 1
        self.total += value * weight
        self.count += weight

    def _grown_or_turned(self) -> int:
        """Where the next one goes when there is no room: behind the others in twice the room, or in the place of the oldest."""
        if len(self.points) == self.most:
            return 0
        at = len(self.points)
        room = min(2 * at, self.most) - at
        self.points.extend(bytes(room))
        self.times.extend([-math.inf] * room)
        return at

    def rows(self, labels: Labels) -> list[Labels]:
        found = [labels.with_({"quantile": bound_text(q)}) for q in self.quantiles]
        return [*found, part(labels, "_sum"), part(labels, "_count")]

    def rises(self) -> list[bool]:
        return [False] * len(self.quantiles) + [True, True]

    def values(self, now: float) -> list[float]:
        found = np.sort(np.array(self.points)[np.array(self.times) >= now - self.max_age])
        n = len(found)
        ranks = [math.nan if not n else float(found[max(0, math.ceil(q * n) - 1)]) for q in self.quantiles]
        return [*ranks, self.total, self.count]

    def written(self) -> None:
        pass


def aggregate_of(kind: str, observing: Observing, *, max_points: int, max_members: int) -> Aggregate:
    """An empty one for a kind of StatsD's."""
    if kind == "c":
        return CounterSum()
    if kind == "g":
        return GaugeLast()
    if kind == "s":
        return SetSize(max_members)
    if observing.bounds is not None:
        return Buckets(observing.bounds)
    return Quantiles(observing.quantiles, observing.max_age, max_points)
