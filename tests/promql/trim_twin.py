"""The trim operators, one histogram and one bucket at a time: what the kernel is held against, to the bit."""

from __future__ import annotations

import math

import numpy as np

from vedette.model.buckets import log2
from vedette.model.histogram_arithmetic import compacted
from vedette.model.histograms import COUNT, HEAD, SUM, ZERO, Histogram

Piece = tuple[float, float]
"""What is kept of a bucket: how many observations, and their presumed mean."""


def trimmed(h: Histogram, value: float, *, upper: bool) -> Histogram:
    """The observations below `value` with `upper`, else those above it."""
    layout = h.layout
    cells = h.cells.copy()
    count = total = 0.0
    at = HEAD
    full = []
    for sign in (1, -1):
        near, far = layout.positive_bounds if sign > 0 else layout.negative_bounds
        low, high = (near, far) if sign > 0 else (-far, -near)
        held = h.cells[at : at + len(near)]
        full.append(bool((held != 0).any()))
        for i in np.flatnonzero(held):
            kept, middle = _piece(float(low[i]), float(high[i]), float(held[i]), value, (sign > 0, layout.custom, upper))
            cells[at + i] = kept
            count += kept
            total += middle * kept
        at += len(near)
    if h.zero_count > 0:
        kept, middle = _zero_piece(h, value, full, upper=upper)
        cells[ZERO] = kept
        count += kept
        total += middle * kept
    if np.array_equal(cells[ZERO:], h.cells[ZERO:], equal_nan=True):
        return h
    cells[COUNT], cells[SUM] = count, total
    return compacted(Histogram(layout, cells, h.hint))


def _piece(low: float, high: float, count: float, value: float, how: tuple[bool, bool, bool]) -> Piece:
    positive, linear, upper = how
    if (high <= value) if upper else (low >= value):
        return count, _middle(low, high, positive, linear)
    if not ((low < value) if upper else (high > value)):
        return 0.0, 0.0
    if low == -math.inf or high == math.inf:
        return _endless_piece(low, high, count, value, upper=upper)
    below = count * _share(low, high, value, positive, linear)
    if upper:
        return below, _middle(low, value, positive, linear)
    return count - below, _middle(value, high, positive, linear)


def _share(low: float, high: float, value: float, positive: bool, linear: bool) -> float:
    if linear:
        return (value - low) / (high - low)
    near, far, at = (log2(v) for v in (low, high, value))
    return (at - near) / (far - near) if positive else 1 - (at - far) / (near - far)


def _endless_piece(low: float, high: float, count: float, value: float, *, upper: bool) -> Piece:
    """What is kept of a bucket that reaches to infinity. One that ends above zero is taken to begin there."""
    if low == -math.inf:
        finite = high not in (math.inf, -math.inf)
        if upper:
            if value > 0 and high > 0 and finite:
                return count * value / high, value / 2
            return (count, value) if high <= 0 else (0.0, 0.0)
        if value == -math.inf:
            return count, 0.0
        if value >= 0 and finite:
            return count * (1 - value / high), (value + high) / 2
        return 0.0, 0.0
    return (0.0, 0.0) if upper else (count, value)


def _zero_piece(h: Histogram, value: float, full: list[bool], *, upper: bool) -> Piece:
    positive, negative = full
    low = 0.0 if positive and not negative else -h.layout.threshold
    high = 0.0 if negative and not positive else h.layout.threshold
    # Either trim looks at the lower bound first: what counts of a bucket without width.
    if value <= low:
        return (0.0, 0.0) if upper else (h.zero_count, (low + high) / 2)
    if value >= high:
        return (h.zero_count, (low + high) / 2) if upper else (0.0, 0.0)
    # Only a value that is no number falls into a zero bucket without width.
    part = ((value - low) if upper else (high - value)) / (high - low) if high > low else math.nan
    return h.zero_count * part, ((low + value) if upper else (value + high)) / 2


def _middle(low: float, high: float, positive: bool, linear: bool) -> float:
    if math.isinf(low):
        if math.isinf(high):
            return 0.0
        return high / 2 if high > 0 else high
    if math.isinf(high):
        return low
    if linear:
        return (low + high) / 2
    return math.copysign(math.sqrt(abs(low * high)), 1.0 if positive else -1.0)
