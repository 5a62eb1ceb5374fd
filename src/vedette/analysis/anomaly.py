"""Which points of a series are not as usual: by their distance from a robust baseline.

The score is Iglewicz and Hoaglin's modified z-score (1993): the distance from what is usual in robust standard
deviations, which of many points are no smaller than their rarest ones say; above 3.5 it is an anomaly. Pure functions on
columns; not here: detection as samples come in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.analysis.baseline import Baseline

THRESHOLD = 3.5
FEWEST = 8
"""Of fewer points nothing is usual yet."""


@dataclass(frozen=True, slots=True)
class Anomalies:
    """`rows` int64[k] index the points, rising; `expected` and `score` float64[k] belong to them."""

    rows: NDArray[np.int64]
    expected: NDArray[np.float64]
    score: NDArray[np.float64]


def anomalies(x: NDArray[np.float64], y: NDArray[np.float64], *, period: int = 1, threshold: float = THRESHOLD) -> Anomalies:
    """The anomalies among finite points float64[n] at whole steps `x`, rising; `period` in steps, 1 for no season."""
    if len(x) < FEWEST:
        return Anomalies(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    usual = Baseline.of(x, y, period)
    expected = usual.at(x)
    score = np.abs(y - expected) / usual.reach if usual.reach else np.zeros(len(x))
    rows = np.flatnonzero(score > threshold)
    return Anomalies(rows, expected[rows], score[rows])
