"""Native histograms cut off below or above a value, many at a time. Histograms and layouts are as in `native.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.native import log2

_COUNT, _SUM, _ZERO, _HEAD = 0, 1, 2, 3


@njit(cache=True, nogil=True)
def _middle(low: float, high: float, positive: bool, linear: bool) -> float:
    if np.isinf(low):
        if np.isinf(high):
            return 0.0
        return high / 2 if high > 0 else high
    if np.isinf(high):
        return low
    if linear:
        return (low + high) / 2
    return math.sqrt(abs(low * high)) if positive else -math.sqrt(abs(low * high))


@njit(cache=True, nogil=True, error_model="numpy")
def _endless_piece(low: float, high: float, count: float, value: float, upper: bool) -> Any:
    """What is kept of a bucket that reaches to infinity. One that ends above zero is taken to begin there."""
    if low == -np.inf:
        finite = not np.isinf(high)
        if upper:
            if value > 0 and high > 0 and finite:
                return count * value / high, value / 2
            return (count, value) if high <= 0 else (0.0, 0.0)
        if value == -np.inf:
            return count, 0.0
        if value >= 0 and finite:
            return count * (1 - value / high), (value + high) / 2
        return 0.0, 0.0
    return (0.0, 0.0) if upper else (count, value)


@njit(cache=True, nogil=True, error_model="numpy")
def _piece(low: float, high: float, count: float, value: float, positive: bool, linear: bool, upper: bool) -> Any:
    """(how many of `count` observations of a bucket are kept, their presumed mean)."""
    if (high <= value) if upper else (low >= value):
        return count, _middle(low, high, positive, linear)
    if not ((low < value) if upper else (high > value)):
        return 0.0, 0.0
    if low == -np.inf or high == np.inf:
        return _endless_piece(low, high, count, value, upper)
    if linear:
        share = (value - low) / (high - low)
    else:
        near, far, at = log2(low), log2(high), log2(value)
        share = (at - near) / (far - near) if positive else 1 - (at - far) / (near - far)
    below = count * share
    if upper:
        return below, _middle(low, value, positive, linear)
    return count - below, _middle(value, high, positive, linear)


@njit(cache=True, nogil=True, error_model="numpy")
def _zero_piece(threshold: float, count: float, value: float, above: bool, below: bool, upper: bool) -> Any:
    """The same of the zero bucket; `above`, `below`: whether anything lies in positive and in negative buckets."""
    low = 0.0 if above and not below else -threshold
    high = 0.0 if below and not above else threshold
    # Either trim looks at the lower bound first: what counts of a bucket without width.
    if value <= low:
        return (0.0, 0.0) if upper else (count, (low + high) / 2)
    if value >= high:
        return (count, (low + high) / 2) if upper else (0.0, 0.0)
    # Only a value that is no number falls into a zero bucket without width.
    part = ((value - low) if upper else (high - value)) / (high - low) if high > low else np.nan
    return count * part, ((low + value) if upper else (value + high)) / 2


@njit(cache=True, nogil=True, error_model="numpy")
def trimmed(
    items: Any, values: Any, upper: bool, pool: Any, shapes: Any, custom: Any, thresholds: Any, bounds: Any, out: Any, at: Any, cut: Any
) -> None:  # fmt: skip
    """What lies below `values[i]` (with `upper`, else above) of each of the histograms `items` (int64), from `at[i]` on in `out`.

    `pool` is (layout, starts, cells). By layout: whether its buckets are `custom` ones (bool), the width of its zero bucket; `bounds`
    are the lower and the upper ones (float64) of all layouts' buckets, positive ones first. `cut[i]` (bool): something was cut off.
    """
    layouts, starts, cells = pool
    lower, higher = bounds
    _schemas, _positive, positive_at, _negative, negative_at = shapes
    for i in range(len(items)):
        layout, source, into, value = layouts[items[i]], starts[items[i]], at[i], values[i]
        first, few = positive_at[layout] + negative_at[layout], positive_at[layout + 1] - positive_at[layout]
        count, total, cut[i], above, below = 0.0, 0.0, False, False, False
        for b in range(few + negative_at[layout + 1] - negative_at[layout]):
            held = cells[source + _HEAD + b]
            out[into + _HEAD + b] = held
            if held == 0:
                continue
            if b < few:
                above = True
            else:
                below = True
            kept, middle = _piece(lower[first + b], higher[first + b], held, value, b < few, custom[layout], upper)
            out[into + _HEAD + b] = kept
            cut[i] |= kept != held and not (np.isnan(kept) and np.isnan(held))
            count += kept
            total += middle * kept
        held = cells[source + _ZERO]
        out[into + _ZERO] = held
        if held > 0:
            kept, middle = _zero_piece(thresholds[layout], held, value, above, below, upper)
            out[into + _ZERO] = kept
            cut[i] |= kept != held
            count += kept
            total += middle * kept
        out[into + _COUNT], out[into + _SUM] = (count, total) if cut[i] else (cells[source + _COUNT], cells[source + _SUM])
