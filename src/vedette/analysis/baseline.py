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


def medians(rest: Floats, places: NDArray[np.int64], period: int) -> tuple[Floats, Floats]:
    """(the median of each place float64[period], 0 for one without points; how far each point is from the median of the others there).

    The latter is float64[n], NaN for the only point of its place, in no particular order. It is what says how far from the season
    a point to come will be: of few days each place lies nearer to its own points than to others.
    """
    order = np.lexsort((rest, places))
    value, place = rest[order], places[order]
    counts = np.bincount(places, minlength=period)
    starts = np.cumsum(counts) - counts
    season = np.zeros(period)
    filled = np.flatnonzero(counts)
    n, first = counts[filled], starts[filled]
    season[filled] = (value[first + (n - 1) // 2] + value[first + n // 2]) / 2
    # Without the point of rank r, the middle of the others is one further where r is below it.
    n, first = counts[place], starts[place]
    rank, half = np.arange(len(value)) - first, n // 2
    odd = n % 2 == 1
    low = np.where(rank < half, half, half - 1)
    high = np.where(odd, np.where(rank > half, half, half + 1), low)
    single = n == 1
    low, high = np.where(single, 0, low), np.where(single, 0, high)
    others = (value[first + low] + value[first + high]) / 2
    return season, np.where(single, np.nan, value - others)


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
        season, alone = np.zeros(1), rest
        if seasonal:
            places = np.mod(x, period).astype(np.int64)
            season, alone = medians(rest, places, period)
            # What the season's median was is the line's: else all that is usual would lie to one side of it.
            rest = rest - season[places]
            intercept += float(np.median(season)) + float(np.median(rest))
            season -= np.median(season)
            alone = alone[np.isfinite(alone)] if np.isfinite(alone).any() else rest
        deviations = np.abs(alone - np.median(alone))
        # More than half of the points fit exactly: the median says nothing of the others, the mean does.
        scale = _MAD * float(np.median(deviations)) or _MEAN_AD * float(np.mean(deviations))
        if scale <= _NOISE * float(np.max(np.abs(y))):
            scale = 0.0
        reach = scale
        if scale and len(x) >= _TAIL_FROM:
            reach = max(scale, float(np.quantile(np.abs(alone), _RARE)) / _RARE_AT)
        centre = float(np.mean(x))
        return cls(slope, intercept, season, scale, centre, float(((x - centre) ** 2).sum()), len(x), reach)

    def at(self, x: Floats) -> Floats:
        """What is usual at `x`: float64 of its shape."""
        return np.asarray(self.intercept + self.slope * x + self.season[np.mod(x, len(self.season)).astype(np.int64)])
