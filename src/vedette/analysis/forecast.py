"""Where a series will be if it goes on as before: its baseline continued, with an interval.

The interval is that of a linear regression's prediction (N. R. Draper, H. Smith, Applied Regression Analysis, 1.4) with
the robust scale in place of the standard error: it widens with the distance from what is known. Pure functions on columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.analysis.baseline import Baseline

_Z95 = 1.959964
FEWEST = 3
"""Two points fit any line exactly, and say nothing of how well."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """`value`, `lower` and `upper` are float64[k]: the expected value and the bounds of 95 of 100 values."""

    value: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def forecast(x: NDArray[np.float64], y: NDArray[np.float64], ahead: NDArray[np.float64], *, period: int = 1) -> Forecast | None:
    """What finite points float64[n] at whole steps `x` lead one to expect at the steps `ahead`; None for fewer than `FEWEST`."""
    if len(x) < FEWEST:
        return None
    usual = Baseline.of(x, y, period)
    value = usual.at(ahead)
    distance = (ahead - usual.mean_x) ** 2 / usual.spread_x if usual.spread_x else np.zeros(len(ahead))
    half = _Z95 * usual.scale * np.sqrt(1 + 1 / usual.n + distance)
    return Forecast(value, value - half, value + half)
