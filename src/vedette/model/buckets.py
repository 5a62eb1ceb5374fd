"""The buckets of a native histogram in order, with their bounds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vedette.model.histograms import Histogram

Floats = NDArray[np.float64]


def log2(value: float) -> float:
    """The logarithm of a bound's size; -infinity of 0, which is where the lowest buckets of all begin."""
    return math.log2(abs(value)) if value else -math.inf


class Buckets(NamedTuple):
    """Buckets from the lowest to the highest: float64[n] each."""

    lower: Floats
    upper: Floats
    counts: Floats


def all_buckets(h: Histogram) -> Buckets:
    """Every bucket of a histogram, the zero bucket only where it holds anything; none reaches into the zero bucket."""
    layout, width = h.layout, h.layout.threshold
    low, high = layout.positive_bounds
    if layout.custom:
        return Buckets(low, high, h.positive)
    low = np.where((low > 0) & (low < width), width, low)
    near, far = layout.negative_bounds
    near = np.where((near > 0) & (near < width), width, near)
    zero = [width] if h.zero_count > 0 else []
    return Buckets(
        np.concatenate([-far[::-1], [-w for w in zero], low]),
        np.concatenate([-near[::-1], zero, high]),
        np.concatenate([h.negative[::-1], [h.zero_count] if zero else [], h.positive]),
    )
