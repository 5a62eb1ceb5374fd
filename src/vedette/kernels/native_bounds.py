"""Sums of native histograms with custom buckets of unlike bounds. Histograms are as in `native.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.native import accumulated

_HEAD = 3


@njit(cache=True, nogil=True)
def _moved(column: Any, width: int, to: Any, begin: int, wider: int, scratch: Any) -> None:
    """Bring the first `width` cells of a column to where `to` says, from `begin` on, where there are `wider`."""
    scratch[:wider] = 0.0
    scratch[:_HEAD] = column[:_HEAD]
    for c in range(width - _HEAD):
        scratch[_HEAD + to[begin + c]] += column[_HEAD + c]
    column[:wider] = scratch[:wider]


@njit(cache=True, nogil=True, error_model="numpy")
def summed(
    lo: Any, counts: Any, stride: int, index: Any, layout: Any, starts: Any, cells: Any, hints: Any, indices: Any, at: Any, kinds: Any,
    widths: Any, meets: Any, maps: Any, maps_at: Any, mean: bool, out: Any, out_at: Any, found: Any, bounds: Any, seen: Any, odd: Any,
    unlike: Any,
) -> None:  # fmt: skip
    """The sum (or mean) of the histograms `index[lo[t] + i * stride]` for `i < counts[t]`, in this order; -1 is none.

    Layout l has the bounds `kinds[l]` (int64), its buckets are `indices[at[l]:at[l + 1]]` (int32). Bounds b take `widths[b]` cells, all
    buckets that they make; bounds a and b have the bounds `meets[a, b]` in common, and bucket i of those of a is
    `maps[maps_at[a, m] + i]` (int64) of those of m, which a has all. `found[t]` histograms came to the cells from `out_at[t]` on in
    `out`, in all buckets of `bounds[t]`, with the bits of their hints in `seen[t]`; `unlike[t]`: some had other bounds. `odd[t]`: a
    mean would overflow, and is for others to find out.
    """
    room = widths.max()
    total, rest, inc = np.empty(room), np.empty(room), np.empty(room)
    for t in range(len(lo)):
        now, width = -1, 0
        for i in range(counts[t]):
            j = index[lo[t] + i * stride]
            if j < 0:
                continue
            own, source = layout[j], starts[j]
            kind = kinds[own]
            seen[t] |= np.uint8(1) << hints[j]
            found[t] += 1
            first = now < 0
            met = kind if first else meets[now, kind]
            if first:
                width = widths[met]
                total[:width] = 0.0
                rest[:width] = 0.0
            elif met != now:
                for column in (total, rest):
                    _moved(column, width, maps, maps_at[now, met], widths[met], inc)
                width = widths[met]
            unlike[t] |= not first and kind != now
            now = met
            inc[:width] = 0.0
            last, begin = widths[kind] - _HEAD - 1, maps_at[kind, met]
            for c in range(_HEAD):
                inc[c] = cells[source + c]
            for b in range(at[own], at[own + 1]):
                inc[_HEAD + maps[begin + min(indices[b], last)]] += cells[source + _HEAD + b - at[own]]
            if first:
                total[:width] = inc[:width]
                for c in range(width):
                    odd[t] |= mean and counts[t] > 1 and np.isinf(total[c])
                continue
            odd[t] |= accumulated(total, rest, 0, inc, 0, width, True) and mean
        if found[t] == 0 or odd[t]:
            continue
        bounds[t] = now
        into, much = out_at[t], float(found[t])
        for c in range(width):
            out[into + c] = total[c] / much + rest[c] / much if mean else total[c] + rest[c]
