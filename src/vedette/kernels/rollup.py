"""Samples to one row of figures for each stretch of time: what the rollup tiers hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.windows import DELTA, RATE

COUNT, SUM, MIN, MAX, LAST, COUNTER = range(6)
"""What `roll` makes of a stretch. The first four are one number at its end; the others keep real samples: the last one (and, behind
it, a stale marker that ends the stretch), and those between which a counter's increase is the same as between all: none of a series
that is no counter, going by how often it falls."""


FEW = 64


@njit(cache=True, nogil=True)
def _no_counter(times: Any, values: Any, bits: Any, p: int, stop: int, end: int) -> bool:
    """Whether more than a quarter of the samples are below those before them: of a gauge, nearly all would be kept."""
    stale = 0x7FF0000000000002
    numbers, falls, before = 0, 0, np.nan
    i = p
    while i < stop and times[i] <= end:
        if bits[i] != stale:
            numbers += 1
            falls += values[i] < before
            before = values[i]
        i += 1
    return numbers > FEW and falls * 4 > numbers


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
        if column == COUNTER and _no_counter(times, values, bits, p, stop, end):
            p = stop
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
                    # A NaN is kept with what stands before and after it: neither is less than the other.
                    if before < 0 or not (values[i] >= values[before]):
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


@njit(cache=True, nogil=True)
def weigh(
    offsets: Any, times: Any, values: Any, count_offsets: Any, count_times: Any, counts: Any, rows: Any, width: int, out: Any
) -> None:
    """For how many samples each of series i stands (0 for a stale marker), where row `rows[i]` (-1 for none) of `counts` counts them.

    Each stands for itself, the last one of a stretch (k * width - width, k * width] for those that were left out, too.
    """
    stale = 0x7FF0000000000002
    bits, count_bits = values.view(np.int64), counts.view(np.int64)
    for i in range(len(offsets) - 1):
        row = rows[i]
        p, stop = offsets[i], offsets[i + 1]
        q = count_offsets[row] if row >= 0 else 0
        end = count_offsets[row + 1] if row >= 0 else 0
        while p < stop:
            edge = -((-times[p]) // width) * width
            kept, last = 0, -1
            while p < stop and times[p] <= edge:
                out[p] = 0.0 if bits[p] == stale else 1.0
                if bits[p] != stale:
                    kept += 1
                    last = p
                p += 1
            total = 0.0
            while q < end and count_times[q] <= edge:
                if count_times[q] > edge - width and count_bits[q] != stale:
                    total += counts[q]
                q += 1
            if last >= 0 and total > kept:
                out[last] += total - kept


AVG = 3


@njit(cache=True, nogil=True, error_model="numpy")
def weighted(
    kind: int, offsets: Any, ts: Any, vals: Any, weights: Any, lo: int, hi: int,
    first: int, step: int, n: int, range_ms: int, out: Any, present: Any,
) -> None:  # fmt: skip
    """`rate` (0), `increase` (1), `delta` (2) as `windows.extrapolated` has them, and the average (3), of samples that stand for several.

    In the same order of operations, so that the first three are the same to the bit.
    """
    seconds = range_ms / 1000.0
    for r in range(lo, hi):
        a, b, end = offsets[r], offsets[r], offsets[r + 1]
        falls = False
        for i in range(a + 1, end):
            falls |= vals[i] < vals[i - 1]
        # Whole numbers: what is added and taken away again leaves no trace.
        samples = 0.0
        for k in range(n):
            t = first + k * step
            while b < end and ts[b] <= t:
                samples += weights[b]
                b += 1
            while a < end and ts[a] <= t - range_ms:
                if a == b:
                    b += 1
                else:
                    samples -= weights[a]
                a += 1
            if kind == AVG:
                present[r - lo, k] = samples > 0
                total, lost = 0.0, 0.0
                for i in range(a, b):
                    # Neumaier's sum, as in `roll`.
                    v = vals[i]
                    new = total + v
                    if np.isinf(new):
                        lost = 0.0
                    elif abs(total) >= abs(v):
                        lost += (total - new) + v
                    else:
                        lost += (v - new) + total
                    total = new
                out[r - lo, k] = (total + lost) / samples
                continue
            present[r - lo, k] = samples >= 2
            if samples < 2:
                continue
            since = vals[a]
            change = vals[b - 1] - since
            if kind != DELTA and falls:
                for i in range(a + 1, b):
                    if vals[i] < vals[i - 1]:
                        change += vals[i - 1]
            sampled = (ts[b - 1] - ts[a]) / 1000.0
            spacing = sampled / (samples - 1)
            threshold = spacing * 1.1
            start, rest = (ts[a] - (t - range_ms)) / 1000.0, (t - ts[b - 1]) / 1000.0
            back = spacing / 2 if start >= threshold else start
            ahead = spacing / 2 if rest >= threshold else rest
            if kind != DELTA and change > 0.0 and since >= 0.0:
                back = min(back, sampled * (since / change))
            factor = (sampled + back + ahead) / sampled
            out[r - lo, k] = change * (factor / seconds) if kind == RATE else change * factor
