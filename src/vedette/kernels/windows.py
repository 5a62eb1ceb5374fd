"""Windows over series in CSR form: the last sample before each step, and functions of the samples of `(t - range, t]`.

Series r has samples `offsets[r]:offsets[r+1]` of `ts` (int64 ms, increasing) and `vals` (float64). Steps are
`first + k * step` for k < n (step 0: all the same). Kernels fill rows `lo <= r < hi` into `out[r - lo, k]` (float64)
and `present[r - lo, k]` (bool); where nothing is present, `out` is left as it was. All are plain loops without the GIL.

Stale markers: `last_sample` reads them as absence; the others want series without them (`without_stale`).
Sums are Kahan-Neumaier sums, averages and variances follow the same incremental schemes as Prometheus 3, so that
results agree to the last digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_STALE = np.int64(0x7FF0000000000002)

SUM, AVG, COUNT, MIN, MAX, STDVAR, STDDEV, LAST, FIRST, PRESENT, CHANGES, RESETS = range(12)
DERIV, PREDICT, IRATE, IDELTA, TS_FIRST, TS_LAST, TS_MIN, TS_MAX, QUANTILE, MAD, SMOOTH = range(12, 23)
"""Codes of `over_time`. A cached kernel freezes them; they never change."""

RATE, INCREASE, DELTA, EXT_CHANGES, EXT_RESETS = range(5)
"""Codes of `extrapolated` (the first three) and `extended`."""


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def kahan(inc: float, total: float, c: float) -> tuple[float, float]:
    """One step of a Kahan-Neumaier sum: the new total and the new compensation."""
    t = total + inc
    if np.isinf(t):
        c = 0.0
    elif abs(total) >= abs(inc):
        c += (total - t) + inc
    else:
        c += (inc - t) + total
    return t, c


@njit(cache=True, nogil=True)
def last_sample(
    offsets: Any,
    ts: Any,
    vals: Any,
    lo: int,
    hi: int,
    first: int,
    step: int,
    n: int,
    lookback: int,
    want_time: bool,
    out: Any,
    present: Any,
) -> None:
    """The last sample in `(t - lookback, t]` unless it is a stale marker; its time in seconds with `want_time`."""
    raw = vals.view(np.int64)
    for r in range(lo, hi):
        begin, end = offsets[r], offsets[r + 1]
        i = begin
        t = first
        for k in range(n):
            while i < end and ts[i] <= t:
                i += 1
            found = i > begin and ts[i - 1] > t - lookback and raw[i - 1] != _STALE
            present[r - lo, k] = found
            if found:
                out[r - lo, k] = ts[i - 1] / 1000.0 if want_time else vals[i - 1]
            t += step


@njit(cache=True, nogil=True)
def count_stale(vals: Any) -> int:
    """How many of `vals` are stale markers."""
    raw = vals.view(np.int64)
    n = 0
    for i in range(len(raw)):
        if raw[i] == _STALE:
            n += 1
    return n


@njit(cache=True, nogil=True)
def without_stale(offsets: Any, ts: Any, vals: Any, out_offsets: Any, out_ts: Any, out_vals: Any) -> None:
    """Copy all series without their stale markers; the outputs are sized by `count_stale`."""
    raw = vals.view(np.int64)
    at = 0
    for r in range(len(offsets) - 1):
        out_offsets[r] = at
        for i in range(offsets[r], offsets[r + 1]):
            if raw[i] != _STALE:
                out_ts[at] = ts[i]
                out_vals[at] = vals[i]
                at += 1
    out_offsets[len(offsets) - 1] = at


@njit(cache=True, nogil=True)
def to_series(values: Any, present: Any, first: int, step: int, offsets: Any, ts: Any, vals: Any) -> None:
    """A matrix (what a subquery gave) as CSR series; `offsets` is filled too, the others are sized by `present.sum()`."""
    at = 0
    for r in range(values.shape[0]):
        offsets[r] = at
        for k in range(values.shape[1]):
            if present[r, k]:
                ts[at] = first + k * step
                vals[at] = values[r, k]
                at += 1
    offsets[values.shape[0]] = at


@njit(cache=True, nogil=True, error_model="numpy")
def extrapolated(
    kind: int, offsets: Any, ts: Any, vals: Any, lo: int, hi: int, first: int, step: int, n: int, range_ms: int, out: Any, present: Any
) -> None:
    """`rate` (0), `increase` (1), `delta` (2): the change over the window, extrapolated to its borders.

    Counter resets are listed once per series, so that a step adds what lies in its window in order of time, as a
    scan would, at a cost of the resets and not of the samples in it.
    """
    counter = kind != DELTA
    longest = 0
    for r in range(lo, hi):
        longest = max(longest, offsets[r + 1] - offsets[r])
    resets = np.empty(longest, dtype=np.int64)
    seconds = range_ms / 1000.0
    for r in range(lo, hi):
        begin, end = offsets[r], offsets[r + 1]
        found = 0
        if counter:
            for i in range(begin + 1, end):
                if vals[i] < vals[i - 1]:
                    resets[found] = i
                    found += 1
        a = begin
        b = begin
        reset = 0
        t = first
        for k in range(n):
            while b < end and ts[b] <= t:
                b += 1
            while a < end and ts[a] <= t - range_ms:
                a += 1
            present[r - lo, k] = b - a >= 2
            if b - a >= 2:
                change = vals[b - 1] - vals[a]
                if counter:
                    while reset < found and resets[reset] <= a:
                        reset += 1
                    j = reset
                    while j < found and resets[j] < b:
                        change += vals[resets[j] - 1]
                        j += 1
                to_start = (ts[a] - (t - range_ms)) / 1000.0
                to_end = (t - ts[b - 1]) / 1000.0
                sampled = (ts[b - 1] - ts[a]) / 1000.0
                spacing = sampled / (b - a - 1)
                threshold = spacing * 1.1
                if to_start >= threshold:
                    to_start = spacing / 2
                if counter:
                    # A counter is not below zero: extrapolate no further back than to where it would have been zero.
                    to_zero = to_start
                    if change > 0 and vals[a] >= 0:
                        to_zero = sampled * (vals[a] / change)
                    if to_zero < to_start:
                        to_start = to_zero
                if to_end >= threshold:
                    to_end = spacing / 2
                factor = (sampled + to_start + to_end) / sampled
                if kind == RATE:
                    factor /= seconds
                out[r - lo, k] = change * factor
            t += step


@njit(cache=True, nogil=True, error_model="numpy")
def sorted_quantile(q: float, scratch: Any, n: int) -> Any:
    """Quantile of `scratch[:n]`, which is sorted in place, NaN as the least value; by linear interpolation."""
    if n == 0 or np.isnan(q):
        return np.nan
    if q < 0:
        return -np.inf
    if q > 1:
        return np.inf
    nans = 0
    for i in range(n):
        if np.isnan(scratch[i]):
            scratch[i] = scratch[nans]
            scratch[nans] = np.nan
            nans += 1
    scratch[nans:n].sort()
    rank = q * (n - 1)
    below = int(max(0.0, np.floor(rank)))
    above = min(n - 1, below + 1)
    weight = rank - np.floor(rank)
    return scratch[below] * (1 - weight) + scratch[above] * weight


@njit(cache=True, nogil=True, error_model="numpy")
def _mean(vals: Any, a: int, b: int) -> Any:
    total, count, c, mean = vals[a], 1.0, 0.0, 0.0
    incremental = False
    for i in range(a + 1, b):
        count = float(i - a + 1)
        if not incremental:
            new_total, new_c = kahan(vals[i], total, c)
            if not np.isinf(new_total):
                total, c = new_total, new_c
                continue
            # The sum would overflow: go on with the running mean.
            incremental = True
            mean = total / (count - 1)
            c /= count - 1
        q = (count - 1) / count
        mean, c = kahan(vals[i] / count, q * mean, q * c)
    return mean + c if incremental else total / count + c / count


@njit(cache=True, nogil=True, error_model="numpy")
def _variance(vals: Any, a: int, b: int) -> Any:
    count, mean, c_mean, aux, c_aux = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(a, b):
        count += 1.0
        delta = vals[i] - (mean + c_mean)
        mean, c_mean = kahan(delta / count, mean, c_mean)
        aux, c_aux = kahan(delta * (vals[i] - (mean + c_mean)), aux, c_aux)
    return (aux + c_aux) / count


@njit(cache=True, nogil=True, error_model="numpy")
def _regression(ts: Any, vals: Any, a: int, b: int, origin: int) -> tuple[float, float]:
    """Slope per second and value at `origin` of the least-squares line."""
    n = 0.0
    sx, cx, sy, cy, sxy, cxy, sxx, cxx = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    constant = True
    for i in range(a, b):
        if constant and i > a and vals[i] != vals[a]:
            constant = False
        n += 1.0
        x = (ts[i] - origin) / 1e3
        sx, cx = kahan(x, sx, cx)
        sy, cy = kahan(vals[i], sy, cy)
        sxy, cxy = kahan(x * vals[i], sxy, cxy)
        sxx, cxx = kahan(x * x, sxx, cxx)
    if constant:
        if np.isinf(vals[a]):
            return np.nan, np.nan
        return 0.0, vals[a]
    sx += cx
    sy += cy
    sxy += cxy
    sxx += cxx
    slope = (sxy - sx * sy / n) / (sxx - sx * sx / n)
    return slope, sy / n - slope * sx / n


@njit(cache=True, nogil=True, error_model="numpy")
def _extreme(ts: Any, vals: Any, a: int, b: int, code: int) -> Any:
    """Least or greatest value, or the time of the last such; NaN only where all are NaN."""
    best, at = vals[a], ts[a]
    for i in range(a, b):
        v = vals[i]
        if code == MAX:
            better = v > best or np.isnan(best)
        elif code == MIN:
            better = v < best or np.isnan(best)
        elif code == TS_MAX:
            better = v >= best or np.isnan(best)
        else:
            better = v <= best or np.isnan(best)
        if better:
            best, at = v, ts[i]
    return best if code in (MAX, MIN) else at / 1000.0


@njit(cache=True, nogil=True, error_model="numpy")
def _count_events(vals: Any, a: int, b: int, code: int) -> Any:
    n = 0
    for i in range(a + 1, b):
        if code == RESETS:
            if vals[i] < vals[i - 1]:
                n += 1
        elif vals[i] != vals[i - 1] and not (np.isnan(vals[i]) and np.isnan(vals[i - 1])):
            n += 1
    return float(n)


@njit(cache=True, nogil=True, error_model="numpy")
def _instant(ts: Any, vals: Any, b: int, code: int) -> Any:
    change = vals[b - 1]
    if code == IDELTA or not vals[b - 1] < vals[b - 2]:
        change = vals[b - 1] - vals[b - 2]
    return change / ((ts[b - 1] - ts[b - 2]) / 1000.0) if code == IRATE else change


@njit(cache=True, nogil=True, error_model="numpy")
def _smoothed(vals: Any, a: int, b: int, sf: float, tf: float) -> Any:
    """Holt's double exponential smoothing: smoothing factor `sf`, trend factor `tf`."""
    s0, s1, trend = 0.0, vals[a], vals[a + 1] - vals[a]
    for i in range(a + 1, b):
        x = sf * vals[i]
        if i > a + 1:
            trend = tf * (s1 - s0) + (1 - tf) * trend
        y = (1 - sf) * (s1 + trend)
        s0, s1 = s1, x + y
    return s1


@njit(cache=True, nogil=True, error_model="numpy")
def _total(vals: Any, a: int, b: int) -> Any:
    total, c = 0.0, 0.0
    for i in range(a, b):
        total, c = kahan(vals[i], total, c)
    return total if np.isinf(total) else total + c


@njit(cache=True, nogil=True, error_model="numpy")
def _extremes(
    code: int, offsets: Any, ts: Any, vals: Any, lo: int, hi: int, first: int, step: int, n: int, range_ms: int, out: Any, present: Any
) -> None:
    """Least or greatest value of each window, at a cost of the samples and not of the windows' lengths.

    `best` holds the places of those samples that no later one in the window outdoes, so the first of them is the answer; of
    equal ones (0 and -0) the earliest. NaN is the answer only where there is nothing else.
    """
    longest = 0
    for r in range(lo, hi):
        longest = max(longest, offsets[r + 1] - offsets[r])
    best = np.empty(longest, dtype=np.int64)
    for r in range(lo, hi):
        a = offsets[r]
        b = offsets[r]
        end = offsets[r + 1]
        head, tail = 0, 0
        t = first
        for k in range(n):
            while b < end and ts[b] <= t:
                v = vals[b]
                if not np.isnan(v):
                    if code == MAX:
                        while tail > head and vals[best[tail - 1]] < v:
                            tail -= 1
                    else:
                        while tail > head and vals[best[tail - 1]] > v:
                            tail -= 1
                    best[tail] = b
                    tail += 1
                b += 1
            while a < end and ts[a] <= t - range_ms:
                a += 1
            while head < tail and best[head] < a:
                head += 1
            present[r - lo, k] = b > a
            if b > a:
                out[r - lo, k] = vals[best[head]] if head < tail else vals[b - 1]
            t += step


@njit(cache=True, nogil=True, error_model="numpy")
def over_time(
    code: int,
    offsets: Any,
    ts: Any,
    vals: Any,
    lo: int,
    hi: int,
    first: int,
    step: int,
    n: int,
    range_ms: int,
    p0: Any,
    p1: Any,
    times: Any,
    out: Any,
    present: Any,
) -> None:
    """One of the functions above of each window. `p0`, `p1` float64[n] are its parameters, `times` int64[n] the evaluation times."""
    # Windows that overlap much are cheaper gone through once; short ones apart from each other are faster scanned.
    if code in (MIN, MAX) and range_ms * n > 10 * (step * (n - 1) + range_ms):
        _extremes(code, offsets, ts, vals, lo, hi, first, step, n, range_ms, out, present)
        return
    longest = 0
    if code in (QUANTILE, MAD):
        for r in range(lo, hi):
            longest = max(longest, offsets[r + 1] - offsets[r])
    scratch = np.empty(longest, dtype=np.float64)
    needs = 2 if code in (DERIV, PREDICT, IRATE, IDELTA, SMOOTH) else 1
    for r in range(lo, hi):
        begin, end = offsets[r], offsets[r + 1]
        a = begin
        b = begin
        t = first
        for k in range(n):
            while b < end and ts[b] <= t:
                b += 1
            while a < end and ts[a] <= t - range_ms:
                a += 1
            present[r - lo, k] = b - a >= needs
            if b - a >= needs:
                if code == SUM:
                    v = _total(vals, a, b)
                elif code == AVG:
                    v = _mean(vals, a, b)
                elif code == COUNT:
                    v = float(b - a)
                elif code in (MIN, MAX, TS_MIN, TS_MAX):
                    v = _extreme(ts, vals, a, b, code)
                elif code == STDVAR:
                    v = _variance(vals, a, b)
                elif code == STDDEV:
                    v = np.sqrt(_variance(vals, a, b))
                elif code == LAST:
                    v = vals[b - 1]
                elif code == FIRST:
                    v = vals[a]
                elif code == PRESENT:
                    v = 1.0
                elif code in (CHANGES, RESETS):
                    v = _count_events(vals, a, b, code)
                elif code == DERIV:
                    v = _regression(ts, vals, a, b, ts[a])[0]
                elif code == PREDICT:
                    slope, intercept = _regression(ts, vals, a, b, times[k])
                    v = slope * p0[k] + intercept
                elif code in (IRATE, IDELTA):
                    v = _instant(ts, vals, b, code)
                elif code == TS_FIRST:
                    v = ts[a] / 1000.0
                elif code == TS_LAST:
                    v = ts[b - 1] / 1000.0
                elif code == SMOOTH:
                    v = _smoothed(vals, a, b, p0[k], p1[k])
                else:
                    for i in range(a, b):
                        scratch[i - a] = vals[i]
                    v = sorted_quantile(p0[k] if code == QUANTILE else 0.5, scratch, b - a)
                    if code == MAD:
                        for i in range(a, b):
                            scratch[i - a] = abs(vals[i] - v)
                        v = sorted_quantile(0.5, scratch, b - a)
                out[r - lo, k] = v
            t += step


@njit(cache=True, nogil=True, error_model="numpy")
def _between(ts: Any, vals: Any, i: int, t: int, counter: bool) -> Any:
    """The value at t on the line from sample i to the next; a counter that was reset in between starts from 0."""
    y1, y2 = vals[i], vals[i + 1]
    if counter and y2 < y1:
        y1 = 0.0
    return y1 + (y2 - y1) * (t - ts[i]) / (ts[i + 1] - ts[i])


@njit(cache=True, nogil=True, error_model="numpy")
def extended(
    kind: int,
    offsets: Any,
    ts: Any,
    vals: Any,
    lo: int,
    hi: int,
    first: int,
    step: int,
    n: int,
    range_ms: int,
    lookback: int,
    smoothed: bool,
    out: Any,
    present: Any,
) -> None:
    """Functions of anchored and smoothed windows: no extrapolation, but the samples next to the window's borders.

    Anchored: the value at the left border is that of the last sample before it. Smoothed: at both borders it is
    interpolated between the samples on either side, looking `lookback` ahead.
    """
    counter = kind in (RATE, INCREASE)
    for r in range(lo, hi):
        a = offsets[r]
        b = offsets[r]
        end = offsets[r + 1]
        t = first
        for k in range(n):
            begin = t - range_ms
            upto = t + lookback if smoothed else t
            while b < end and ts[b] <= upto:
                b += 1
            while a < end and ts[a] <= begin - lookback:
                a += 1
            present[r - lo, k] = False
            if b > a:
                i = a
                while i < b - 1 and ts[i] <= begin:
                    i += 1
                i = max(a, i - 1)
                j = b - 1
                if smoothed:
                    j = a
                    while j < b - 1 and ts[j] < t:
                        j += 1
                if ts[j] > begin:
                    present[r - lo, k] = True
                    if kind in (EXT_CHANGES, EXT_RESETS):
                        out[r - lo, k] = _count_events(vals, i, b, RESETS if kind == EXT_RESETS else CHANGES)
                    else:
                        left = _between(ts, vals, i, begin, counter) if smoothed and ts[i] < begin else vals[i]
                        right = _between(ts, vals, j - 1, t, counter) if smoothed and j > a and ts[j] > t else vals[j]
                        change = right - left
                        if counter:
                            prev = left
                            for p in range(i, j + 1):
                                if begin < ts[p] < t:
                                    if vals[p] < prev:
                                        change += prev
                                    prev = vals[p]
                            if right < prev:
                                change += prev
                        out[r - lo, k] = change / (range_ms / 1000.0) if kind == RATE else change
            t += step


@njit(cache=True, nogil=True, error_model="numpy")
def interpolated(
    offsets: Any, ts: Any, vals: Any, lo: int, hi: int, first: int, step: int, n: int, lookback: int, out: Any, present: Any
) -> None:
    """The value at t between the samples around it, no further than `lookback` away; the earlier one where there is no later."""
    for r in range(lo, hi):
        begin, end = offsets[r], offsets[r + 1]
        i = begin
        t = first
        for k in range(n):
            while i < end and ts[i] <= t:
                i += 1
            found = i > begin and ts[i - 1] > t - lookback
            present[r - lo, k] = found
            if found:
                near = ts[i - 1] < t and i < end and ts[i] <= t + lookback
                out[r - lo, k] = _between(ts, vals, i - 1, t, False) if near else vals[i - 1]
            t += step
