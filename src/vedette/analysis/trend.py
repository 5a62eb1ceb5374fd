"""Where a series is going: a robust line through its points, and whether it goes anywhere at all.

The line is Theil and Sen's: the median of the slopes between all pairs of points (H. Theil 1950; P. K. Sen 1968), which
up to 29 % of wild points do not move. Whether it means anything is asked of Mann and Kendall's test (H. B. Mann 1945;
M. G. Kendall 1975), with the correction for ties. Pure functions on columns; not here: where the points come from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vedette.errors import BadInput

Floats = NDArray[np.float64]
Direction = Literal["increasing", "decreasing", "stable"]

MAX_POINTS = 4000
"""Most points of a line: its slopes are as many as there are pairs, 8 million of them (64 MB) at this number."""

SIGNIFICANCE = 0.05
_FROM_ON = 8
"""The test's normal approximation holds from about so many points on; the line of fewer is taken at its word."""
_STABLE_PERCENT = 1.0


@dataclass(frozen=True, slots=True)
class Trend:
    """A line `intercept + slope * x` and what it says.

    `change_percent` is from the first to the last fitted value, in per cent of the first's size; None where that is 0.
    """

    slope: float
    intercept: float
    direction: Direction
    change_percent: float | None

    def at(self, x: Floats) -> Floats:
        """The line's values: float64, of the shape of `x`."""
        return self.intercept + self.slope * x


def theil_sen(x: Floats, y: Floats) -> tuple[float, float]:
    """(slope, intercept) of the robust line through points float64[n], n >= 1; slope 0 where all `x` are the same.

    The intercept is the median of `y - slope * x`. Raises `BadInput` above `MAX_POINTS` points.
    """
    n = len(x)
    assert n == len(y) and n >= 1, "as many x as y, and at least one"
    if n > MAX_POINTS:
        raise BadInput(f"{n} points for one line", hint=f"at most {MAX_POINTS}")
    first, second = np.triu_indices(n, 1)
    dx = x[second] - x[first]
    apart = dx != 0
    slope = float(np.median((y[second] - y[first])[apart] / dx[apart])) if apart.any() else 0.0
    return slope, float(np.median(y - slope * x))


def seasonal_slope(x: Floats, y: Floats, period: int) -> float:
    """The median slope between points at the same place of a period, so that the season does not bend it; 0 where there is no pair.

    R. M. Hirsch, J. R. Slack, R. A. Smith 1982; `x`, `y` float64[n], `x` whole steps.
    """
    places = np.mod(x, period)
    slopes = []
    for place in np.unique(places):
        at = places == place
        first, second = np.triu_indices(int(at.sum()), 1)
        dx = x[at][second] - x[at][first]
        slopes.append((y[at][second] - y[at][first])[dx != 0] / dx[dx != 0])
    every = np.concatenate(slopes)
    return float(np.median(every)) if len(every) else 0.0


def mann_kendall(y: Floats) -> float:
    """The two-sided p-value of values in order having no monotonic trend; 1 where fewer than 3 or all equal.

    Normal approximation with continuity correction, variance corrected for ties.
    """
    n = len(y)
    if n < 3:
        return 1.0
    first, second = np.triu_indices(n, 1)
    s = float(np.sign(y[second] - y[first]).sum())
    ties = np.unique(y, return_counts=True)[1].astype(np.float64)
    variance = (n * (n - 1) * (2 * n + 5) - float((ties * (ties - 1) * (2 * ties + 5)).sum())) / 18
    if variance <= 0 or s == 0:
        return 1.0
    z = (s - math.copysign(1, s)) / math.sqrt(variance)
    return math.erfc(abs(z) / math.sqrt(2))


def trend_of(x: Floats, y: Floats) -> Trend:
    """The trend of finite points float64[n] in rising order of `x`; stable and flat at 0 for none.

    Stable is what changes by less than 1 % over all, and what Mann and Kendall's test does not tell from chance at 5 %
    (asked of 8 points and more).
    """
    if len(x) == 0:
        return Trend(0.0, 0.0, "stable", None)
    slope, intercept = theil_sen(x, y)
    begin, end = intercept + slope * float(x[0]), intercept + slope * float(x[-1])
    change = (end - begin) / abs(begin) * 100 if begin != 0 else (None if end else 0.0)
    small = change is not None and abs(change) < _STABLE_PERCENT
    by_chance = len(y) >= _FROM_ON and mann_kendall(y) > SIGNIFICANCE
    if slope == 0 or small or by_chance:
        return Trend(slope, intercept, "stable", change)
    return Trend(slope, intercept, "increasing" if slope > 0 else "decreasing", change)
