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
def changes(
    kind: int, since: Any, change: Any, samples: Any, oldest: Any, newest: Any, first: int, step: int, range_ms: int, out: Any
) -> None:
    """`rate` (0), `increase` (1), `delta` (2) of the windows `(t - range_ms, t]`, t = first + k * step for k < n.

    Each begins with the value `since`, rises by `change` and has so many `samples`, from the time `oldest` to `newest` (int64, ms); those
    of less than two give anything. All are [n], as is `out`. In the order of operations of `windows.extrapolated`.
    """
    seconds = range_ms / 1000.0
    counter, per_second = kind != DELTA, kind == RATE
    for k in range(len(out)):
        t = first + k * step
        sampled = (newest[k] - oldest[k]) / 1000.0
        spacing = sampled / (samples[k] - 1.0)
        threshold = spacing * 1.1
        start, rest = (oldest[k] - (t - range_ms)) / 1000.0, (t - newest[k]) / 1000.0
        begin = spacing / 2 if start >= threshold else start
        ahead = spacing / 2 if rest >= threshold else rest
        to_zero = sampled * (since[k] / change[k])
        back = to_zero if to_zero < begin else begin
        back = back if since[k] >= 0.0 else begin
        back = back if change[k] > 0.0 else begin
        back = back if counter else begin
        factor = (sampled + back + ahead) / sampled
        out[k] = change[k] * (factor / seconds) if per_second else change[k] * factor


@njit(cache=True, nogil=True, error_model="numpy")
def _average(vals: Any, a: int, b: int, samples: float) -> float:
    """Neumaier's sum of `[a, b)`, as in `roll`, over so many samples."""
    total, lost = 0.0, 0.0
    for i in range(a, b):
        v = vals[i]
        new = total + v
        if np.isinf(new):
            lost = 0.0
        elif abs(total) >= abs(v):
            lost += (total - new) + v
        else:
            lost += (v - new) + total
        total = new
    return (total + lost) / samples


@njit(cache=True, nogil=True, error_model="numpy")
def weighted(
    kind: int, offsets: Any, ts: Any, vals: Any, weights: Any, lo: int, hi: int,
    first: int, step: int, n: int, range_ms: int, out: Any, present: Any,
) -> None:  # fmt: skip
    """`rate` (0), `increase` (1), `delta` (2) as `windows.extrapolated` has them, and the average (3), of samples that stand for several.

    In the same order of operations, so that the first three are the same to the bit.
    """
    since, change, many = np.empty(n), np.empty(n), np.empty(n)
    oldest, newest = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for r in range(lo, hi):
        a, b, end = offsets[r], offsets[r], offsets[r + 1]
        there, row = present[r - lo], out[r - lo]
        if a == end:
            there[:] = False
            continue
        falls = False
        for i in range(a + 1, end if kind != DELTA else a):
            falls |= vals[i] < vals[i - 1]
        # Of samples before a window's end, and before its begin: whole numbers, so that the difference is exact.
        ended, begun = 0.0, 0.0
        for k in range(n):
            t = first + k * step
            while b < end and ts[b] <= t:
                ended += weights[b]
                b += 1
            while a < end and ts[a] <= t - range_ms:
                begun += weights[a]
                if a == b:
                    ended += weights[a]
                    b += 1
                a += 1
            many[k] = ended - begun
            if kind == AVG:
                there[k] = many[k] > 0
                row[k] = _average(vals, a, b, many[k])
                continue
            there[k] = many[k] >= 2
            # Where there is no window, whatever there is: it is not looked at.
            least, most = (a, b - 1) if there[k] else (end - 1, end - 1)
            since[k], change[k] = vals[least], vals[most] - vals[least]
            oldest[k], newest[k] = ts[least], ts[most]
            for i in range(a + 1, b if falls and there[k] else a):
                if vals[i] < vals[i - 1]:
                    change[k] += vals[i - 1]
        if kind != AVG:
            changes(kind, since, change, many, oldest, newest, first, step, range_ms, row)
