"""Quantiles and fractions of classic histograms: groups of rows that are cumulative bucket counts.

Group g has rows `rows[starts[g]:starts[g+1]]`, sorted by upper bound; `bounds` float64[rows of the matrix] are the bounds.
Interpolation within a bucket is linear; a lowest bucket with a positive bound starts at 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_TOLERANCE = 1e-12
_SMALLEST = 2.2250738585072014e-308


@njit(cache=True, nogil=True, error_model="numpy")
def _almost(a: float, b: float) -> bool:
    """Equal up to rounding, relative to their sum."""
    if a == b:
        return True
    total = abs(a) + abs(b)
    diff = abs(a - b)
    if a == 0 or b == 0 or total < _SMALLEST:
        return bool(diff < _TOLERANCE * _SMALLEST)
    return bool(diff / min(total, 1.7976931348623157e308) < _TOLERANCE)


@njit(cache=True, nogil=True)
def _gather(values: Any, present: Any, rows: Any, bounds: Any, lo: int, hi: int, k: int, upper: Any, counts: Any) -> int:
    """The buckets present at step k, those with equal bounds added up; returns how many."""
    n = 0
    for i in range(lo, hi):
        r = rows[i]
        if not present[r, k]:
            continue
        if n > 0 and upper[n - 1] == bounds[r]:
            counts[n - 1] += values[r, k]
        else:
            upper[n] = bounds[r]
            counts[n] = values[r, k]
            n += 1
    return n


@njit(cache=True, nogil=True, error_model="numpy")
def _monotonic(upper: Any, counts: Any, n: int, fixed: Any) -> None:
    """Remove decreases from the counts; `fixed` gets (whether any mattered, first bound, last bound, greatest decrease)."""
    fixed[0] = 0.0
    prev = counts[0]
    for i in range(1, n):
        now = counts[i]
        if now == prev:
            continue
        if _almost(prev, now):
            counts[i] = prev
        elif now < prev:
            counts[i] = prev
            if fixed[0] == 0.0:
                fixed[1] = upper[i]
                fixed[3] = 0.0
            fixed[0] = 1.0
            fixed[2] = upper[i]
            fixed[3] = max(fixed[3], prev - now)
        else:
            prev = now


@njit(cache=True, nogil=True, error_model="numpy")
def _quantile(q: float, upper: Any, counts: Any, n: int, fixed: Any) -> Any:
    fixed[0] = 0.0
    if np.isnan(q):
        return np.nan
    if q < 0:
        return -np.inf
    if q > 1:
        return np.inf
    if not np.isinf(upper[n - 1]) or upper[n - 1] < 0:
        return np.nan
    if n < 2:
        return np.nan
    _monotonic(upper, counts, n, fixed)
    total = counts[n - 1]
    if total == 0 or np.isnan(total):
        return np.nan
    rank = q * total
    b = 0
    while b < n - 1 and not counts[b] >= rank:
        b += 1
    if b == n - 1:
        return upper[n - 2]
    if b == 0 and upper[0] <= 0:
        return upper[0]
    start = 0.0
    count = counts[b]
    if b > 0:
        start = upper[b - 1]
        count -= counts[b - 1]
        rank -= counts[b - 1]
    return start + (upper[b] - start) * (rank / count)


@njit(cache=True, nogil=True, error_model="numpy")
def quantiles(
    values: Any, present: Any, starts: Any, rows: Any, bounds: Any, q: Any, lo: int, hi: int, out: Any, out_present: Any, forced: Any
) -> None:
    """The quantile `q[k]` of the groups `[lo, hi)` at each step; `forced[g, k]` (float64[G, n, 4]) says how decreases were removed."""
    longest = 1
    for g in range(lo, hi):
        longest = max(longest, starts[g + 1] - starts[g])
    upper = np.empty(longest, dtype=np.float64)
    counts = np.empty(longest, dtype=np.float64)
    for g in range(lo, hi):
        for k in range(values.shape[1]):
            n = _gather(values, present, rows, bounds, starts[g], starts[g + 1], k, upper, counts)
            out_present[g, k] = n > 0
            forced[g, k, 0] = 0.0
            if n > 0:
                out[g, k] = _quantile(q[k], upper, counts, n, forced[g, k])


@njit(cache=True, nogil=True, error_model="numpy")
def _fraction(low: float, high: float, upper: Any, counts: Any, n: int) -> Any:
    if not np.isinf(upper[n - 1]) or upper[n - 1] < 0:
        return np.nan
    total = counts[n - 1]
    if total == 0 or np.isnan(total) or np.isnan(low) or np.isnan(high):
        return np.nan
    if low >= high:
        return 0.0
    rank, low_rank, high_rank = 0.0, 0.0, 0.0
    low_set, high_set = False, False
    for i in range(n):
        start = -np.inf
        if i > 0:
            start = upper[i - 1]
        elif upper[0] > 0:
            start = 0.0
        end = upper[i]
        if not low_set and start >= low:
            low_rank, low_set = rank, True
        if not high_set and start >= high:
            high_rank, high_set = rank, True
        if low_set and high_set:
            break
        inside = counts[i] - rank
        if not low_set and start < low and end > low:
            low_rank, low_set = (
                (rank if np.isinf(end) else counts[i] if np.isinf(start) else rank + inside * (low - start) / (end - start)),
                True,
            )
        if not high_set and start < high and end > high:
            high_rank, high_set = (
                (rank if np.isinf(end) else counts[i] if np.isinf(start) else rank + inside * (high - start) / (end - start)),
                True,
            )
        if low_set and high_set:
            break
        rank = counts[i]
    if not low_set or low_rank > total:
        low_rank = total
    if not high_set or high_rank > total:
        high_rank = total
    return (high_rank - low_rank) / total


@njit(cache=True, nogil=True, error_model="numpy")
def fractions(values: Any, present: Any, starts: Any, rows: Any, bounds: Any, low: Any, high: Any, out: Any, out_present: Any) -> None:
    """The fraction of observations between `low[k]` and `high[k]`, for each group at each step."""
    longest = 1
    for g in range(len(starts) - 1):
        longest = max(longest, starts[g + 1] - starts[g])
    upper = np.empty(longest, dtype=np.float64)
    counts = np.empty(longest, dtype=np.float64)
    for g in range(len(starts) - 1):
        for k in range(values.shape[1]):
            n = _gather(values, present, rows, bounds, starts[g], starts[g + 1], k, upper, counts)
            out_present[g, k] = n > 0
            if n > 0:
                out[g, k] = _fraction(low[k], high[k], upper, counts, n)
