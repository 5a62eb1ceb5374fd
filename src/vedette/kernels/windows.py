"""Windows over series in CSR form: the last sample before each step, and functions of the samples of `(t - range, t]`.

Series r has samples `offsets[r]:offsets[r+1]` of `ts` (int64 ms, increasing) and `vals` (float64). Steps are
`first + k * step` for k < n (step 0: all the same). Kernels fill rows `lo <= r < hi` into `out[r - lo, k]` (float64)
and `present[r - lo, k]` (bool); where nothing is present, `out` means nothing. All are plain loops without the GIL. Where windows
begin and end is told by `spans.py`.

Stale markers: `last_sample` reads them as absence; the others want series without them (`without_stale`).
Sums are Kahan-Neumaier sums, averages and variances follow the same incremental schemes as Prometheus 3, so that
results agree to the last digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.codes import (
    AVG,
    CHANGES,
    COUNT,
    DELTA,
    DERIV,
    EXT_CHANGES,
    EXT_RESETS,
    FIRST,
    IDELTA,
    INCREASE,
    IRATE,
    LAST,
    MAD,
    MAX,
    MIN,
    PREDICT,
    PRESENT,
    QUANTILE,
    RATE,
    RESETS,
    SMOOTH,
    STDDEV,
    STDVAR,
    SUM,
    TS_FIRST,
    TS_LAST,
    TS_MAX,
    TS_MIN,
)
from vedette.kernels.extremes import extreme_values
from vedette.kernels.quantiles import quantile_of, quantile_of_window, sliding
from vedette.kernels.spans import bounds, same_times
from vedette.kernels.summed import summed

__all__ = [
    "AVG",
    "CHANGES",
    "COUNT",
    "DELTA",
    "DERIV",
    "EXT_CHANGES",
    "EXT_RESETS",
    "FIRST",
    "IDELTA",
    "INCREASE",
    "IRATE",
    "LAST",
    "MAD",
    "MAX",
    "MIN",
    "PREDICT",
    "PRESENT",
    "QUANTILE",
    "RATE",
    "RESETS",
    "SMOOTH",
    "STDDEV",
    "STDVAR",
    "SUM",
    "TS_FIRST",
    "TS_LAST",
    "TS_MAX",
    "TS_MIN",
    "count_stale",
    "extended",
    "extrapolated",
    "interpolated",
    "last_sample",
    "over_time",
    "to_series",
    "without_stale",
]

_STALE = np.int64(0x7FF0000000000002)

_OF_FEW = (COUNT, LAST, FIRST, PRESENT, TS_FIRST, TS_LAST, IRATE, IDELTA)
"""Those that look at the first or last samples of a window alone."""


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
    left, right = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    last, within = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.bool_)
    before: Any = np.int64(-1)
    samples: Any = np.int64(-1)
    paced = False
    for r in range(lo, hi):
        begin, end = offsets[r], offsets[r + 1]
        there, row = present[r - lo], out[r - lo]
        if begin == end:
            there[:] = False
            continue
        if end - begin != samples or not same_times(ts, begin, before, samples):
            bounds(ts, begin, end, first, step, n, lookback, left, right)
            astray = 0
            for k in range(n):
                within[k] = right[k] > left[k]
                last[k] = right[k] - 1 if within[k] else 0
                astray += last[k] != last[0] + k or not within[k]
            paced = astray == 0
        before, samples = begin, end - begin
        if paced and not want_time:
            # A step for each sample, as of a panel that shows all there is: then they are copied.
            bits, values = raw[begin + last[0] : end], vals[begin + last[0] : end]
            for k in range(n):
                there[k] = bits[k] != _STALE
                row[k] = values[k]
            continue
        bits, values, times = raw[begin:end], vals[begin:end], ts[begin:end]
        # Without branches: where nothing is there, a value is written that is not looked at.
        for k in range(n):
            there[k] = within[k] & (bits[last[k]] != _STALE)
        if want_time:
            for k in range(n):
                row[k] = times[last[k]] / 1000.0
        else:
            for k in range(n):
                row[k] = values[last[k]]


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
def _reach(
    ts: Any, begin: int, first: int, step: int, n: int, range_ms: int, left: Any, right: Any, sampled: Any, to_start: Any, to_end: Any
) -> None:
    """For each window, seconds that its samples cover, and by which to extrapolate them to its start and its end."""
    t = first
    for k in range(n):
        sampled[k], to_start[k], to_end[k] = 1.0, 0.0, 0.0
        if right[k] - left[k] >= 2:
            a, b = begin + left[k], begin + right[k]
            sampled[k] = (ts[b - 1] - ts[a]) / 1000.0
            spacing = sampled[k] / (b - a - 1)
            threshold = spacing * 1.1
            start, end = (ts[a] - (t - range_ms)) / 1000.0, (t - ts[b - 1]) / 1000.0
            to_start[k] = spacing / 2 if start >= threshold else start
            to_end[k] = spacing / 2 if end >= threshold else end
        t += step


@njit(cache=True, nogil=True, error_model="numpy")
def extrapolated(
    kind: int, offsets: Any, ts: Any, vals: Any, lo: int, hi: int, first: int, step: int, n: int, range_ms: int, out: Any, present: Any
) -> None:
    """`rate` (0), `increase` (1), `delta` (2): the change over the window, extrapolated to its borders.

    What depends on times alone is computed once for series of the same times. Counter resets are listed once per series, so
    that a step adds what lies in its window in order of time, as a scan would, at a cost of the resets and not of the samples.
    """
    counter = kind != DELTA
    longest = 0
    for r in range(lo, hi):
        longest = max(longest, offsets[r + 1] - offsets[r])
    resets = np.empty(longest, dtype=np.int64)
    left, right = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    since, change, sampled, to_start, to_end = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    seconds = range_ms / 1000.0
    before: Any = np.int64(-1)
    samples: Any = np.int64(-1)
    for r in range(lo, hi):
        begin, end = offsets[r], offsets[r + 1]
        if end - begin != samples or not same_times(ts, begin, before, samples):
            bounds(ts, begin, end, first, step, n, range_ms, left, right)
            _reach(ts, begin, first, step, n, range_ms, left, right, sampled, to_start, to_end)
        before, samples = begin, end - begin
        found = 0
        if counter:
            some = 0
            earlier, later = vals[begin : max(begin, end - 1)], vals[begin + 1 : end]
            for i in range(len(earlier)):
                some |= later[i] < earlier[i]
            for i in range(begin + 1, end if some else begin):
                if vals[i] < vals[i - 1]:
                    resets[found] = i - begin
                    found += 1
        there, row = present[r - lo], out[r - lo]
        for k in range(n):
            there[k] = right[k] - left[k] >= 2
        if begin == end:
            continue
        for k in range(n):
            # Where there is no window, whatever there is: it is not looked at.
            since[k] = vals[begin + (left[k] if there[k] else 0)]
            change[k] = vals[begin + (right[k] - 1 if there[k] else 0)] - since[k]
        reset = 0
        for k in range(n if found else 0):
            if there[k]:
                while reset < found and resets[reset] <= left[k]:
                    reset += 1
                j = reset
                while j < found and resets[j] < right[k]:
                    change[k] += vals[begin + resets[j] - 1]
                    j += 1
        if counter:
            for k in range(n):
                # A counter is not below zero: extrapolate no further back than to where it would have been zero.
                to_zero = sampled[k] * (since[k] / change[k])
                back = to_zero if to_zero < to_start[k] else to_start[k]
                back = back if since[k] >= 0.0 else to_start[k]
                back = back if change[k] > 0.0 else to_start[k]
                row[k] = (sampled[k] + back + to_end[k]) / sampled[k]
        else:
            for k in range(n):
                row[k] = (sampled[k] + to_start[k] + to_end[k]) / sampled[k]
        if kind == RATE:
            for k in range(n):
                row[k] = change[k] * (row[k] / seconds)
        else:
            for k in range(n):
                row[k] = change[k] * row[k]


@njit(cache=True, nogil=True, error_model="numpy")
def _extreme_time(ts: Any, vals: Any, a: int, b: int, code: int) -> Any:
    """The time of the last of the least or greatest values, in seconds; NaN counts only where all are NaN."""
    best, at = vals[a], ts[a]
    for i in range(a, b):
        v = vals[i]
        if (v >= best if code == TS_MAX else v <= best) or np.isnan(best):
            best, at = v, ts[i]
    return at / 1000.0


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
def _running_events(vals: Any, begin: int, end: int, code: int, out: Any) -> None:
    """How many changes, or resets, there are up to each sample; `out` float64[end - begin]."""
    n = 0.0
    if end > begin:
        out[0] = 0.0
    for i in range(begin + 1, end):
        if code == RESETS:
            n += 1.0 if vals[i] < vals[i - 1] else 0.0
        else:
            n += 1.0 if vals[i] != vals[i - 1] and not (np.isnan(vals[i]) and np.isnan(vals[i - 1])) else 0.0
        out[i - begin] = n


@njit(cache=True, nogil=True, error_model="numpy")
def _of_few(code: int, ts: Any, vals: Any, begin: int, left: Any, right: Any, there: Any, row: Any) -> None:
    """The functions that look at the first or the last samples of each window of a row."""
    for k in range(len(row)):
        if not there[k]:
            continue
        a, b = begin + left[k], begin + right[k]
        if code == COUNT:
            row[k] = float(b - a)
        elif code == LAST:
            row[k] = vals[b - 1]
        elif code == FIRST:
            row[k] = vals[a]
        elif code == PRESENT:
            row[k] = 1.0
        elif code == TS_FIRST:
            row[k] = ts[a] / 1000.0
        elif code == TS_LAST:
            row[k] = ts[b - 1] / 1000.0
        else:
            change = vals[b - 1]
            if code == IDELTA or not vals[b - 1] < vals[b - 2]:
                change = vals[b - 1] - vals[b - 2]
            row[k] = change / ((ts[b - 1] - ts[b - 2]) / 1000.0) if code == IRATE else change


@njit(cache=True, nogil=True)
def _overlapping(left: Any, right: Any, n: int) -> bool:
    """Whether a window has mostly the samples of the one before, so few others that moving them costs less than looking at all."""
    moved: Any = right[n - 1]
    held: Any = np.int64(0)
    for k in range(n):
        held += right[k] - left[k]
    # A number that comes or goes moves half of those that stay, some eight at once; looking at one costs some eight moves.
    return n > 1 and moved * (held // n) < 64 * held


@njit(cache=True, nogil=True, error_model="numpy")
def _of_window(code: int, ts: Any, vals: Any, a: int, b: int, p0: float, p1: float, scratch: Any) -> Any:
    """The functions that look at all samples of a window in an order of their own."""
    if code in (TS_MIN, TS_MAX):
        return _extreme_time(ts, vals, a, b, code)
    if code == SMOOTH:
        return _smoothed(vals, a, b, p0, p1)
    if code == MAD:
        # Among numbers NaN is the least, and so would be lost in a median.
        for i in range(a, b):
            if np.isnan(vals[i]):
                return np.nan
    v = quantile_of_window(p0 if code == QUANTILE else 0.5, vals[a:b], scratch)
    if code == MAD:
        for i in range(a, b):
            scratch[i - a] = abs(vals[i] - v)
        v = quantile_of(0.5, scratch, b - a)
    return v


@njit(cache=True, nogil=True, error_model="numpy")
def each(
    code: int, offsets: Any, ts: Any, vals: Any, lo: int, hi: int, first: int, step: int, n: int, range_ms: int,
    p0: Any, p1: Any, out: Any, present: Any,
) -> None:  # fmt: skip
    """The functions that are neither sums nor extremes, as `over_time`."""
    longest = 0
    if code in (QUANTILE, MAD, CHANGES, RESETS):
        for r in range(lo, hi):
            longest = max(longest, offsets[r + 1] - offsets[r])
    scratch = np.empty(longest, dtype=np.float64)
    left, right = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    before: Any = np.int64(-1)
    samples: Any = np.int64(-1)
    needs = 2 if code in (IRATE, IDELTA, SMOOTH) else 1
    for r in range(lo, hi):
        begin, end = offsets[r], offsets[r + 1]
        there, row = present[r - lo], out[r - lo]
        if begin == end:
            there[:] = False
            continue
        if end - begin != samples or not same_times(ts, begin, before, samples):
            bounds(ts, begin, end, first, step, n, range_ms, left, right)
        before, samples = begin, end - begin
        for k in range(n):
            there[k] = right[k] - left[k] >= needs
        if code in (CHANGES, RESETS):
            _running_events(vals, begin, end, code, scratch)
            for k in range(n):
                if there[k]:
                    row[k] = scratch[right[k] - 1] - scratch[left[k]]
        elif code == QUANTILE and _overlapping(left, right, n):
            sliding(p0, vals, begin, left, right, there, scratch, row)
        elif code in _OF_FEW:
            _of_few(code, ts, vals, begin, left, right, there, row)
        else:
            for k in range(n):
                if there[k]:
                    row[k] = _of_window(code, ts, vals, begin + left[k], begin + right[k], p0[k], p1[k], scratch)


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
    """One of the functions of `codes` of each window. `p0`, `p1` float64[n] are its parameters, `times` int64[n] the evaluation times.

    Not a kernel itself: one of all would take as long to compile as its parts, again.
    """
    if code in (MIN, MAX):
        extreme_values(code, offsets, ts, vals, lo, hi, first, step, n, range_ms, out, present)
    elif code in (SUM, AVG, STDVAR, STDDEV, DERIV, PREDICT):
        summed(code, offsets, ts, vals, lo, hi, first, step, n, range_ms, p0, times, out, present)
    else:
        each(code, offsets, ts, vals, lo, hi, first, step, n, range_ms, p0, p1, out, present)


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
                if ts[j] > begin and not (smoothed and ts[i] > t):
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
