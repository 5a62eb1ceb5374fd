"""Where the buckets of native histograms begin and end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vedette.model.histograms import Histogram, Layout

Floats = NDArray[np.float64]

_LARGEST = 1.7976931348623157e308


def exponential_bounds(schema: int, indices: NDArray[np.int32]) -> Floats:
    """Upper bounds of exponential buckets: 2**(index * 2**-schema). The last bucket below infinity ends at the largest float."""
    wide = indices.astype(np.int64)
    if schema <= 0:
        exponent = wide << -schema
        return np.where(exponent == 1024, _LARGEST, _scaled(np.ones(len(wide)), exponent))
    part = wide & ((1 << schema) - 1)
    exponent = (wide >> schema) + 1
    return np.where((part == 0) & (exponent == 1025), _LARGEST, _scaled(0.5 * np.exp2(part / (1 << schema)), exponent))


def _scaled(mantissas: Floats, exponents: NDArray[np.int64]) -> Floats:
    # Indices come from outside and may lie far beyond any float: infinity and zero are right then.
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(mantissas, np.clip(exponents, -5000, 5000).astype(np.int32))


def bounds(layout: Layout, indices: NDArray[np.int32]) -> tuple[Floats, Floats]:
    """Lower and upper bounds of buckets, as absolute values for exponential ones."""
    if not layout.custom:
        return exponential_bounds(layout.schema, indices - 1), exponential_bounds(layout.schema, indices)
    edges = np.concatenate([[-np.inf], layout.bounds, [np.inf]])
    at = np.clip(indices, 0, len(layout.bounds))
    return edges[at], edges[at + 1]


class Buckets(NamedTuple):
    """Buckets from the lowest to the highest: float64[n] each."""

    lower: Floats
    upper: Floats
    counts: Floats


def all_buckets(h: Histogram) -> Buckets:
    """Every bucket of a histogram, the zero bucket only where it holds anything; none reaches into the zero bucket."""
    layout, width = h.layout, h.layout.threshold
    low, high = bounds(layout, layout.positive)
    if layout.custom:
        return Buckets(low, high, h.positive)
    low = np.where((low > 0) & (low < width), width, low)
    near, far = bounds(layout, layout.negative)
    near = np.where((near > 0) & (near < width), width, near)
    zero = [width] if h.zero_count > 0 else []
    return Buckets(
        np.concatenate([-far[::-1], [-w for w in zero], low]),
        np.concatenate([-near[::-1], zero, high]),
        np.concatenate([h.negative[::-1], [h.zero_count] if zero else [], h.positive]),
    )
