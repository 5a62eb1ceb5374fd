"""Quantiles, fractions and variance of one native histogram.

Within exponential buckets observations are taken to be spread evenly on a logarithmic scale, within custom buckets and the
zero bucket evenly as such. A zero bucket beside buckets of one sign alone reaches only to that side.
"""

from __future__ import annotations

import math

import numpy as np

from vedette.model.buckets import Buckets, all_buckets, log2
from vedette.model.histograms import Histogram
from vedette.promql import annotations as say


def _zero_limits(h: Histogram, low: float, high: float) -> tuple[float, float]:
    """The bounds of a bucket around zero, cut at zero where the histogram has buckets of the other sign alone."""
    if not len(h.negative) and len(h.positive):
        return 0.0, high
    return (low, 0.0) if not len(h.positive) and len(h.negative) else (low, high)


def _found(q: float, h: Histogram, every: Buckets) -> tuple[int, float, float, bool]:
    """The bucket that holds the quantile (-1 for none), the count up to it, the rank looked for, and whether counted from below."""
    forward = math.isnan(h.sum) or q < 0.5
    rank = q * h.count if forward else (1 - q) * h.count
    order = range(len(every.counts)) if forward else range(len(every.counts) - 1, -1, -1)
    count, bucket = 0.0, -1
    for i in order:
        bucket = i
        if every.counts[i] == 0:
            continue
        count += float(every.counts[i])
        if count >= rank:
            break
    return bucket, count, rank, forward


def quantile(q: float, h: Histogram, name: str) -> tuple[float, str]:
    """The quantile, and an info to give with it (of a metric `name`), if any."""
    if q < 0 or q > 1:
        return (-math.inf if q < 0 else math.inf), ""
    if h.count == 0 or math.isnan(q):
        return math.nan, ""
    every = all_buckets(h)
    bucket, count, rank, forward = _found(q, h, every)
    low, high, inside = (float(c[bucket]) for c in every) if bucket >= 0 else (0.0, 0.0, 0.0)
    if h.layout.custom:
        if low == -math.inf:
            if high <= 0:
                return high, ""
            low = 0.0
        elif high == math.inf:
            return low, ""
    elif low < 0 < high:
        low, high = _zero_limits(h, low, high)
    count = min(count, h.count)
    if count < rank:
        return (math.nan, say.nan_quantile(name, skewed=False)) if math.isnan(h.sum) else (high, "")
    rank = rank - (count - inside) if forward else count - rank
    skewed = math.isnan(h.sum) and count + float(every.counts[bucket + 1 :].sum()) < h.count
    fraction = rank / inside if inside else math.nan
    return _interpolated(h, low, high, fraction), say.nan_quantile(name, skewed=True) if skewed else ""


def _interpolated(h: Histogram, low: float, high: float, fraction: float) -> float:
    if h.layout.custom or low <= 0 <= high:
        return low + (high - low) * fraction
    near, far = log2(low), log2(high)
    if low > 0:
        return float(np.exp2(near + (far - near) * fraction))
    return -float(np.exp2(far + (near - far) * (1 - fraction)))


def fraction(low: float, high: float, h: Histogram, name: str) -> tuple[float, str]:
    """The fraction of observations between two values, and an info to give with it (of a metric `name`), if any."""
    if h.count == 0 or math.isnan(low) or math.isnan(high):
        return math.nan, ""
    if low >= high:
        return 0.0, ""
    every = all_buckets(h)
    below_low, below_high = (_rank(h, every, value) for value in (low, high))
    count, info = h.count, ""
    if math.isnan(h.sum):
        count = float(every.counts.sum())
        info = say.nan_fraction(name) if count < h.count else ""
    return (min(below_high, count) - min(below_low, count)) / h.count, info


def _rank(h: Histogram, every: Buckets, value: float) -> float:
    """How many observations lie below `value`; infinity where all do."""
    rank = 0.0
    low: float
    high: float
    count: float
    for low, high, count in zip(*(c.tolist() for c in every), strict=True):
        around_zero = low <= 0 <= high
        if around_zero:
            low, high = _zero_limits(h, low, high)
        if low >= value:
            return rank
        if high > value:
            if h.layout.custom or around_zero:
                # Nothing is known of where observations lie in a bucket without an end.
                return count if low == -math.inf else rank + count * (value - low) / (high - low)
            near, far, at = (log2(v) for v in (low, high, value))
            part = (at - near) / (far - near) if value > 0 else 1 - (at - far) / (near - far)
            return rank + count * part
        rank += count
    return math.inf


def variance(h: Histogram) -> float:
    """The variance, as if all observations of a bucket lay in its middle (the geometric one for exponential buckets)."""
    if h.count == 0:
        return math.nan
    mean = h.sum / h.count
    total = rest = 0.0
    for low, high, count in zip(*(c.tolist() for c in all_buckets(h)), strict=True):
        if count == 0:
            continue
        if h.layout.custom:
            middle = (high + low) / 2
        elif low <= 0 <= high:
            middle = 0.0
        else:
            middle = math.copysign(math.sqrt(high * low), high)
        inc = count * (middle - mean) * (middle - mean)
        new = total + inc
        if math.isinf(new):
            rest = 0.0
        elif abs(total) >= abs(inc):
            rest += (total - new) + inc
        else:
            rest += (inc - new) + total
        total = new
    return (total + rest) / h.count
