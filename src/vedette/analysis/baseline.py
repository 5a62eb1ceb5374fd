"""What a series usually does: a robust line, a season laid over it, and how far values stray from both.

The decomposition of STL in its plainest robust form (R. B. Cleveland et al. 1990): Theil and Sen's line (in its seasonal form
where there is a season), then the median of what is left at each place of the period, then the spread of the rest as 1.4826
times its median absolute deviation (F. R. Hampel 1974), which estimates a standard deviation although half the points were
wild. Pure functions on columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.analysis.trend import seasonal_slope, theil_sen

Floats = NDArray[np.float64]

_MAD = 1.4826
_MEAN_AD = 1.2533
_NOISE = 1e-9
# Of a normal distribution 99.5 % lie within so many standard deviations.
_RARE, _RARE_AT = 0.995, 2.807
_TAIL_FROM = 200
"""So many points it takes for one of two hundred to be told from the greatest."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """`season` is float64[period] (one zero where the series has none); `scale` is a standard deviation, 0 for an exact fit.

    `x` counts whole steps; its place in the season is `x mod period`. `mean_x`, `spread_x` (the sum of squared distances
    from the mean) and `n` are those of the points it was made from.

    `reach` is the scale by which a value is judged: not less than makes what happens once in two hundred points usual. What
    programs measure has longer tails than a normal distribution, whose scale alone would call every burst an anomaly.
    """

    slope: float
    intercept: float
    season: Floats
    scale: float
    mean_x: float
    spread_x: float
    n: int
    reach: float

    @classmethod
    def of(cls, x: Floats, y: Floats, period: int) -> Baseline:
        """Of finite points float64[n], n >= 1; the season is taken where every place of two whole periods could be filled."""
        seasonal = period > 1 and x[-1] - x[0] >= 2 * period - 1 and len(x) >= 2 * period
        if seasonal:
            slope = seasonal_slope(x, y, period)
            intercept = float(np.median(y - slope * x))
        else:
            slope, intercept = theil_sen(x, y)
        rest = y - (intercept + slope * x)
        season = np.zeros(1)
        if seasonal:
            places = np.mod(x, period).astype(np.int64)
            season = np.array([np.median(rest[places == p]) if (places == p).any() else 0.0 for p in range(period)])
            season -= np.median(season)
            rest = rest - season[places]
        deviations = np.abs(rest - np.median(rest))
        # More than half of the points fit exactly: the median says nothing of the others, the mean does.
        scale = _MAD * float(np.median(deviations)) or _MEAN_AD * float(np.mean(deviations))
        if scale <= _NOISE * float(np.max(np.abs(y))):
            scale = 0.0
        reach = scale
        if scale and len(x) >= _TAIL_FROM:
            reach = max(scale, float(np.quantile(np.abs(rest), _RARE)) / _RARE_AT)
        centre = float(np.mean(x))
        return cls(slope, intercept, season, scale, centre, float(((x - centre) ** 2).sum()), len(x), reach)

    def at(self, x: Floats) -> Floats:
        """What is usual at `x`: float64 of its shape."""
        return np.asarray(self.intercept + self.slope * x + self.season[np.mod(x, len(self.season)).astype(np.int64)])
