"""Samples to one row of figures for each stretch of time: what the rollup tiers hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

COUNT, SUM, MIN, MAX, LAST, COUNTER = range(6)
"""What `roll` makes of a stretch. The first four are one number at its end; the others keep real samples: the last one (and, behind
it, a stale marker that ends the stretch), and those between which a counter's increase is the same as between all."""


@njit(cache=True, nogil=True)
def roll(
    offsets: Any, times: Any, values: Any, after: int, end: int, width: int, column: int, out_offsets: Any, out_times: Any, out_values: Any
) -> int:
    """Roll up the samples in (after, end] of each series i, `offsets[i]:offsets[i + 1]`; answers how many were written.

    Stretches are (k * width - width, k * width], ms. `values` and `out_values` are float64; stale markers count for nothing but
    `LAST`. `out_times` and `out_values` have room for as many as there are samples.
    """
    bits, out_bits = values.view(np.int64), out_values.view(np.int64)
    stale = 0x7FF0000000000002
    at = 0
    for row in range(len(offsets) - 1):
        out_offsets[row] = at
        p, stop = offsets[row], offsets[row + 1]
        while p < stop and times[p] <= after:
            p += 1
        while p < stop and times[p] <= end:
            edge = -((-times[p]) // width) * width
            q = p
            while q < stop and times[q] <= edge and times[q] <= end:
                q += 1
            if column <= MAX:
                count, total, lost, best = 0, 0.0, 0.0, np.nan
                for i in range(p, q):
                    if bits[i] == stale:
                        continue
                    v = values[i]
                    count += 1
                    if column == SUM:
                        # Neumaier's sum, as Prometheus adds.
                        new = total + v
                        if np.isinf(new):
                            lost = 0.0
                        elif abs(total) >= abs(v):
                            lost += (total - new) + v
                        else:
                            lost += (v - new) + total
                        total = new
                    elif count == 1 or np.isnan(best) or (v < best if column == MIN else v > best):
                        best = v
                if count > 0:
                    out_times[at] = edge
                    out_values[at] = float(count) if column == COUNT else total + lost if column == SUM else best
                    at += 1
            elif column == LAST:
                i = q - 1
                while i >= p and bits[i] == stale:
                    i -= 1
                if i >= p:
                    out_times[at] = times[i]
                    out_bits[at] = bits[i]
                    at += 1
                if i < q - 1:
                    out_times[at] = times[q - 1]
                    out_bits[at] = bits[q - 1]
                    at += 1
            else:
                before, written = -1, -1
                for i in range(p, q):
                    if bits[i] == stale:
                        continue
                    if before < 0 or values[i] < values[before]:
                        if before >= 0 and written != before:
                            out_times[at] = times[before]
                            out_bits[at] = bits[before]
                            at += 1
                        out_times[at] = times[i]
                        out_bits[at] = bits[i]
                        at += 1
                        written = i
                    before = i
                if before >= 0 and written != before:
                    out_times[at] = times[before]
                    out_bits[at] = bits[before]
                    at += 1
            p = q
    out_offsets[len(offsets) - 1] = at
    return at
