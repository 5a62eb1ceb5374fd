"""Histograms made of observations, one at a time: what arithmetic on buckets is held against."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vedette.model.histograms import CUSTOM_SCHEMA, NO_BUCKETS, Histogram, Layout


def index_of(value: float, schema: int) -> int:
    """The exponential bucket of a positive value, by searching."""
    i = math.ceil(math.log2(value) * 2.0**schema)
    while 2.0 ** (i * 2.0**-schema) < value:
        i += 1
    while 2.0 ** ((i - 1) * 2.0**-schema) >= value:
        i -= 1
    return i


def observed(values: Sequence[float], schema: int, threshold: float = 0.0, hint: int = 0) -> Histogram:
    """An exponential histogram of `values`."""
    sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
    zero = 0
    for v in values:
        if abs(v) <= threshold:
            zero += 1
        else:
            side = sides[v < 0]
            i = index_of(abs(v), schema)
            side[i] = side.get(i, 0) + 1
    positive, negative = (sorted(side) for side in sides)
    layout = Layout(schema, threshold, (), np.array(positive, dtype=np.int32), np.array(negative, dtype=np.int32))
    counts = [*(sides[0][i] for i in positive), *(sides[1][i] for i in negative)]
    return Histogram(layout, np.array([len(values), sum(values), zero, *counts], dtype=np.float64), hint)


def observed_custom(values: Sequence[float], limits: Sequence[float], hint: int = 0) -> Histogram:
    """A histogram of `values` with custom buckets."""
    counts = [0] * (len(limits) + 1)
    for v in values:
        counts[sum(limit < v for limit in limits)] += 1
    layout = Layout(CUSTOM_SCHEMA, 0.0, tuple(limits), np.arange(len(counts), dtype=np.int32), NO_BUCKETS)
    return Histogram(layout, np.array([len(values), sum(values), 0, *counts], dtype=np.float64), hint)


def expected_cells(layout: Layout, values: Sequence[float]) -> list[float]:
    """Zero bucket and buckets that a histogram of this layout has of `values`."""
    inside = [0.0 if layout.custom else float(sum(abs(v) <= layout.threshold for v in values))]
    for sign, bounds in ((1, layout.positive_bounds), (-1, layout.negative_bounds)):
        for low, high in zip(*(b.tolist() for b in bounds), strict=True):
            inside.append(float(sum(low < sign * v <= high and (layout.custom or abs(v) > layout.threshold) for v in values)))
    return inside
