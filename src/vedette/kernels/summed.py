"""Sums, averages, variances and least-squares lines of windows, row by row: of whole numbers by running sums, of others side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels import whole
from vedette.kernels.codes import AVG, DERIV, PREDICT, STDDEV, STDVAR, SUM
from vedette.kernels.lanes import LANES, calm, kahan, line_times, lines, means, sums, variances
from vedette.kernels.spans import bounds, runs, same_times

_APART = 2
"""How many windows a sample is in, on average, up to which each window is added up by itself."""


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
def _times_of_lines(
    code: int, ts: Any, begin: int, end: int, every: Any, left: Any, right: Any, times: Any, widest: Any, count: int, at: Any,
    lanes: Any, origins: Any, shifts: Any, sx: Any, sxx: Any,
) -> Any:  # fmt: skip
    """What lines need that is the same for all rows of the same times: fills `origins`, `sx` and `sxx`, all [n]. The `count` runs are `at`.

    Answers what `whole.reach_of_lines` does. The longest window has `widest` samples.
    """
    starts, lengths = np.empty(len(left), dtype=np.int64), np.empty(len(left), dtype=np.int64)
    for k in range(len(left)):
        some = right[k] > left[k]
        starts[k], lengths[k] = (begin + left[k], right[k] - left[k]) if some else (begin, 1)
        origins[k] = times[k] if code == PREDICT else ts[starts[k]]
    reach = whole.reach_of_lines(ts, begin, end, every, left, right, origins, shifts)
    if reach >= 0 and float(reach) * float(reach) * float(widest) < whole.EXACT:
        whole.times_of_lines(ts, begin, every, shifts, left, right, sx, sxx)
        return reach
    for i in range(count):
        a, b = at[i], at[i + 1]
        # An int64 from the start: what is called with it is compiled for each type that it might have.
        longest: Any = np.int64(0)
        for k in range(a, b):
            longest = max(longest, lengths[k])
        line_times(ts, starts[a:b], lengths[a:b], longest, b - a, origins[a:b], lanes, sx[a:b], sxx[a:b])
    return reach


@njit(cache=True, nogil=True, error_model="numpy")
def summed(
    code: int, offsets: Any, ts: Any, vals: Any, lo: int, hi: int, first: int, step: int, n: int, range_ms: int,
    p0: Any, times: Any, out: Any, present: Any,
) -> None:  # fmt: skip
    """`SUM`, `AVG`, `STDVAR`, `STDDEV`, `DERIV` or `PREDICT` of the windows of rows `[lo, hi)`, as `windows.over_time`."""
    longest = 0
    for r in range(lo, hi):
        longest = max(longest, offsets[r + 1] - offsets[r])
    line = code in (DERIV, PREDICT)
    upto, timed = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    shifts, ys, xys = np.empty(n, dtype=np.int64), np.empty(n), np.empty(n)
    lanes = np.empty((8, LANES))
    left, right = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    at, strides = np.empty(n + 1, dtype=np.int64), np.empty(n + 1, dtype=np.int64)
    starts, lengths, origins = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    sx, sxx = np.empty(n), np.empty(n)
    before: Any = np.int64(-1)
    samples: Any = np.int64(-1)
    count: Any = np.int64(0)
    widest: Any = np.int64(0)
    reach: Any = np.int64(0)
    visits: Any = np.int64(0)
    every: Any = np.int64(0)
    needs = 2 if line else 1
    for r in range(lo, hi):
        begin, end = offsets[r], offsets[r + 1]
        there, row = present[r - lo], out[r - lo]
        if begin == end:
            there[:] = False
            continue
        if end - begin != samples or not same_times(ts, begin, before, samples):
            bounds(ts, begin, end, first, step, n, range_ms, left, right)
            count = runs(left, right, n, LANES, at, strides)
            widest, reach, visits = 1, 1, 0
            for k in range(n):
                widest = max(widest, right[k] - left[k])
                visits += right[k] - left[k]
            if line:
                every = whole.regular(ts, begin, end)
                reach = _times_of_lines(
                    code, ts, begin, end, every, left, right, times, widest, count, at, lanes, origins, shifts, sx, sxx
                )  # fmt: skip
        before, samples = begin, end - begin
        for k in range(n):
            there[k] = right[k] - left[k] >= needs
        if reach >= 0 and code not in (STDVAR, STDDEV):
            apart = visits <= _APART * (end - begin)
            if not apart and len(upto) == 0:
                # Not before it is needed: fresh memory takes longer than the sums.
                upto, timed = np.empty(longest + 1, dtype=np.int64), np.empty(longest + 1 if line else 0, dtype=np.int64)
            if not apart:
                size = whole.running(vals, begin, end, upto)
            elif line:
                size = whole.products_apart(ts, vals, begin, every, shifts, left, right, ys, xys)
            else:
                size = whole.sums_apart(vals, begin, left, right, there, code == AVG, row)
            if size >= 0 and float(size) * float(widest) * float(max(reach, 1)) < whole.EXACT:
                if line and not apart:
                    whole.products(ts, vals, begin, end, upto, timed, shifts, left, right, ys, xys)
                elif not apart:
                    whole.sums(upto, left, right, there, code == AVG, row)
                if line:
                    whole.lines(vals, begin, left, right, there, sx, sxx, ys, xys, code == PREDICT, p0, row)
                continue
        for k in range(n):
            # An empty window is taken for one of the first sample: its result is not looked at.
            starts[k] = begin + left[k] if there[k] else begin
            lengths[k] = right[k] - left[k] if there[k] else 1
        steady = calm(vals, begin, end)
        for i in range(count):
            a, b = at[i], at[i + 1]
            if strides[i] >= 0 and not there[a]:
                continue
            even, m = strides[i] == 1, b - a
            widest_here: Any = np.int64(0)
            for k in range(a, b):
                widest_here = max(widest_here, lengths[k])
            if code == SUM:
                sums(vals, starts[a:b], lengths[a:b], widest_here, even, steady, m, lanes)
            elif code == AVG:
                means(vals, starts[a:b], lengths[a:b], widest_here, even, steady, m, lanes)
                for j in range(m):
                    if not np.isfinite(lanes[0, j]):
                        lanes[0, j] = _mean(vals, starts[a + j], starts[a + j] + lengths[a + j])
            elif line:
                lines(
                    ts, vals, starts[a:b], lengths[a:b], widest_here, even, steady, m, origins[a:b], sx[a:b], sxx[a:b], lanes
                )  # fmt: skip
                for j in range(m if code == PREDICT else 0):
                    lanes[0, j] = lanes[0, j] * p0[a + j] + lanes[1, j]
            else:
                variances(vals, starts[a:b], lengths[a:b], widest_here, even, steady, m, lanes)
                for j in range(m if code == STDDEV else 0):
                    lanes[0, j] = np.sqrt(lanes[0, j])
            for j in range(m):
                row[a + j] = lanes[0, j]
