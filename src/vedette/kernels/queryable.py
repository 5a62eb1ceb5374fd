"""How many samples a query's selectors could see, step by step: the figure of a query's statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_STALE = np.int64(0x7FF0000000000002)  # `model.samples.STALE_BITS`, which a kernel may not import


@njit(cache=True, nogil=True)
def queryable(offsets: Any, ts: Any, vals: Any, first: int, step: int, n: int, range_ms: int, instant: bool, out: Any) -> None:
    """Add to `out` int64[n], for each step, the samples in `(t - range_ms, t]` of all series, or (`instant`) the last unless stale.

    `offsets` int64[series + 1], `ts` int64[samples] ascending within a series, `vals` float64[samples]; t is `first + k * step`.
    """
    bits = vals.view(np.int64)
    for r in range(len(offsets) - 1):
        a = offsets[r]
        b = offsets[r]
        end = offsets[r + 1]
        for k in range(n):
            t = first + k * step
            while b < end and ts[b] <= t:
                b += 1
            while a < end and ts[a] <= t - range_ms:
                a += 1
            if not instant:
                out[k] += b - a
            elif b > a and bits[b - 1] != _STALE:
                out[k] += 1
