"""Native histograms of one layout at a time, evaluated as rows of cells: rates, sums, quantiles.

Cells are count, sum, zero bucket, positive and negative buckets (`model/histograms.py`). What histograms of unlike layouts come
to, and all that is seldom asked, is done one by one (`promql/native_*.py`), whose results these kernels give to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

_COUNT, _SUM, _ZERO, _HEAD = 0, 1, 2, 3
_UNKNOWN, _RESET, _NOT_RESET = 0, 1, 2


@njit(cache=True, nogil=True)
def _resets(lo: int, hi: int, starts: Any, cells: Any, hints: Any, width: int, out: Any) -> None:
    """`out[i - lo]`: whether the counter was reset between samples i - 1 and i, for lo < i < hi."""
    for i in range(lo + 1, hi):
        if hints[i] == _RESET or hints[i] == _NOT_RESET:
            out[i - lo] = hints[i] == _RESET
            continue
        now, before = starts[i], starts[i - 1]
        reset = cells[now + _COUNT] < cells[before + _COUNT]
        for c in range(_ZERO, width):
            reset = reset or cells[now + c] < cells[before + c]
        out[i - lo] = reset


@njit(cache=True, nogil=True)
def compared(starts: Any, cells: Any, layout: Any, rows: Any, hints: Any) -> None:
    """Let `hints` (uint8) that say nothing say whether the counter was reset since the sample before, in its row and of its layout.

    Sample i has its cells from `starts[i]` on, `layout[i]` (int32) is its layout's number, `rows[i]` (int64) its row, ascending.
    What cannot be compared so is left as it is.
    """
    for i in range(len(rows) - 1, 0, -1):
        if hints[i] == _UNKNOWN and rows[i] == rows[i - 1] and layout[i] == layout[i - 1]:
            now, before = starts[i], starts[i - 1]
            width = now - before
            reset = cells[now + _COUNT] < cells[before + _COUNT]
            for c in range(_ZERO, width):
                reset = reset or cells[now + c] < cells[before + c]
            hints[i] = _RESET if reset else _NOT_RESET


@njit(cache=True, nogil=True)
def rates(
    rows: Any,
    offsets: Any,
    times: Any,
    starts: Any,
    cells: Any,
    hints: Any,
    width: int,
    first: int,
    step: int,
    span: int,
    per_second: bool,
    out: Any,
    present: Any,
) -> None:
    """`rate` or `increase` over `(t - span, t]` at t = `first + k * step`, of rows whose samples are all histograms of `width` cells.

    Row r has the samples `offsets[r]:offsets[r + 1]` at `times` (int64 ms), with cells from `starts[j]` on in `cells` and `hints[j]`
    (uint8, none of a gauge). `out` float64[len(rows), n, width], `present` bool[len(rows), n].
    """
    for a in range(len(rows)):
        lo, hi = offsets[rows[a]], offsets[rows[a] + 1]
        reset = np.zeros(max(1, hi - lo), np.bool_)
        _resets(lo, hi, starts, cells, hints, width, reset)
        begin, end = lo, lo
        for k in range(out.shape[1]):
            t = first + k * step
            while end < hi and times[end] <= t:
                end += 1
            while begin < end and times[begin] <= t - span:
                begin += 1
            present[a, k] = end - begin >= 2
            if not present[a, k]:
                continue
            change, last, base = out[a, k], starts[end - 1], starts[begin]
            restarted = reset[begin + 1 - lo]
            for c in range(width):
                # What was before a reset at once after the first sample does not count, nor does that sample.
                change[c] = cells[last + c] if restarted else cells[last + c] - cells[base + c]
            for i in range(begin + 2, end):
                if reset[i - lo]:
                    for c in range(width):
                        change[c] += cells[starts[i - 1] + c]
            sampled = (times[end - 1] - times[begin]) / 1000.0
            spacing = sampled / max(1, end - begin - 1)
            to_start, to_end = (times[begin] - (t - span)) / 1000.0, (t - times[end - 1]) / 1000.0
            if to_start >= spacing * 1.1:
                to_start = spacing / 2
            if change[_COUNT] > 0 and cells[base + _COUNT] >= 0:
                to_start = min(to_start, sampled * (cells[base + _COUNT] / change[_COUNT]))
            if to_end >= spacing * 1.1:
                to_end = spacing / 2
            factor = (sampled + to_start + to_end) / sampled
            if per_second:
                factor /= span / 1000.0
            for c in range(width):
                change[c] *= factor


@njit(cache=True, nogil=True)
def kahan(rows: Any, total: Any, rest: Any) -> None:
    """Add `rows` float64[n, width] in order to `total`, with Kahan and Neumaier's compensation in `rest`; both begin as given."""
    for i in range(len(rows)):
        for c in range(len(total)):
            inc = rows[i, c]
            new = total[c] + inc
            lost = (total[c] - new) + inc if abs(total[c]) >= abs(inc) else (inc - new) + total[c]
            rest[c] = 0.0 if np.isinf(new) else rest[c] + lost
            total[c] = new


@njit(cache=True, nogil=True)
def summed(
    groups: Any, starts: Any, hints: Any, cells: Any, sizes: Any, place_at: Any, places: Any, begin: Any, widths: Any, total: Any,
    rest: Any, counts: Any, seen: Any,
) -> None:  # fmt: skip
    """Add the histograms of each group at each step in order of the rows, as `kahan` does.

    Row r, of group `groups[r]`, has at step k its `sizes[r]` cells from `starts[r, k]` on (none where below 0), of which the c-th is cell
    `places[place_at[r] + c]` of its group's: these begin at `begin[g] + k * widths[g]` in `total` and `rest` (0 at first). `counts[g, k]`
    (int64) counts them, and `seen[g, k]` (uint8) has the bit of each of their `hints[r, k]`.
    """
    for r in range(starts.shape[0]):
        g, size, first = groups[r], sizes[r], place_at[r]
        for k in range(starts.shape[1]):
            source = starts[r, k]
            if source < 0:
                continue
            into = begin[g] + k * widths[g]
            seen[g, k] |= np.uint8(1) << hints[r, k]
            counts[g, k] += 1
            if counts[g, k] == 1:
                for c in range(size):
                    total[into + places[first + c]] = cells[source + c]
                continue
            for c in range(size):
                at = into + places[first + c]
                inc, before = cells[source + c], total[at]
                new = before + inc
                lost = (before - new) + inc if abs(before) >= abs(inc) else (inc - new) + before
                rest[at] = 0.0 if np.isinf(new) else rest[at] + lost
                total[at] = new


@njit(cache=True, nogil=True)
def _log2(value: float) -> float:
    return math.log2(abs(value)) if value != 0.0 else -np.inf


@njit(cache=True, nogil=True)
def quantiles(
    q: Any, cells: Any, order: Any, lower: Any, upper: Any, positive: int, negative: int, slim: bool, out: Any, sign: Any
) -> None:  # fmt: skip
    """The quantile `q[i]` (within [0, 1]) of each exponential histogram `cells[i]` float64[n, width] with a count above 0 and a sum.

    Bucket b of the layout, from the lowest on, is cell `order[b]` and lies between `lower[b]` and `upper[b]`; the zero bucket counts
    only where it holds anything. The layout has `positive` and `negative` buckets to either side. Where `sign[i]` (int8) is not 0,
    the quantile is `sign[i] * 2 ** out[i]`: powers are the caller's, whose library the other way of quantiles uses, too. With `slim`
    an empty bucket is none.
    """
    n = len(order)
    above, below = positive, negative
    for i in range(len(cells)):
        h = cells[i]
        if slim:
            positive = int(np.count_nonzero(h[_HEAD : _HEAD + above]))
            negative = int(np.count_nonzero(h[_HEAD + above : _HEAD + above + below]))
        count = h[_COUNT]
        forward = q[i] < 0.5
        rank = q[i] * count if forward else (1 - q[i]) * count
        seen, bucket = 0.0, -1
        sign[i] = 0
        for m in range(n):
            b = m if forward else n - 1 - m
            if (order[b] == _ZERO and h[_ZERO] <= 0) or (slim and h[order[b]] == 0):
                continue
            bucket = b
            if h[order[b]] == 0:
                continue
            seen += h[order[b]]
            if seen >= rank:
                break
        low, high, inside = 0.0, 0.0, 0.0
        if bucket >= 0:
            low, high, inside = lower[bucket], upper[bucket], h[order[bucket]]
        if low < 0 < high:
            # A zero bucket beside buckets of one sign alone reaches only to that side.
            if negative == 0 and positive > 0:
                low = 0.0
            elif positive == 0 and negative > 0:
                high = 0.0
        seen = min(seen, count)
        if seen < rank:
            out[i] = high
            continue
        rank = rank - (seen - inside) if forward else seen - rank
        fraction = rank / inside if inside != 0 else np.nan
        if low <= 0 <= high:
            out[i] = low + (high - low) * fraction
        else:
            near, far = _log2(low), _log2(high)
            sign[i] = 1 if low > 0 else -1
            out[i] = near + (far - near) * fraction if low > 0 else far + (near - far) * (1 - fraction)
