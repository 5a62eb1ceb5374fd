"""Native histograms as columns: chains of records in memory, the samples they belong to, cells turned for compression.

Not here: the bytes of the wire (`native_wire.py`), what PromQL makes of histograms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def kept(ids: Any, offsets: Any, times: Any, bits: Any, log_ids: Any, log_times: Any, log_bits: Any, out: Any) -> None:
    """Which samples of a batch were kept, given what the head logged of it, which is in the batch's order: `out` int64.

    Row i (series `ids[i]`) has the samples `offsets[i]:offsets[i + 1]`; `out[j]` becomes the place of sample j in the log, or -1.
    """
    at = 0
    for row in range(len(ids)):
        for j in range(offsets[row], offsets[row + 1]):
            out[j] = -1
            if at < len(log_ids) and log_ids[at] == ids[row] and log_times[at] == times[j] and log_bits[at] == bits[j]:
                out[j] = at
                at += 1


@njit(cache=True, nogil=True)
def link(ids: Any, first: int, tails: Any, previous: Any) -> None:
    """Append records `first`, `first + 1`, ... of series `ids` int64[n] to their chains; `tails` holds each chain's last, -1 for none."""
    for i in range(len(ids)):
        previous[i] = tails[ids[i]]
        tails[ids[i]] = first + i


@njit(cache=True, nogil=True)
def walk(ids: Any, tails: Any, previous: Any, times: Any, start: int, end: int, out_rows: Any, out: Any) -> int:
    """The records of the chains of `ids` in [start, end], row by row, within a row as they came; answers how many.

    Nothing is written where `out` is too small (call again with as much room).
    """
    total = 0
    for row in range(len(ids)):
        record = tails[ids[row]] if ids[row] < len(tails) else -1
        begin = total
        while record >= 0:
            if start <= times[record] <= end:
                if total < len(out):
                    out[total] = record
                    out_rows[total] = row
                total += 1
            record = previous[record]
        if total <= len(out):
            for k in range((total - begin) // 2):
                out[begin + k], out[total - 1 - k] = out[total - 1 - k], out[begin + k]
    return total


@njit(cache=True, nogil=True)
def described(records: Any, ends: Any, layout: Any, hints: Any, starts: Any, offsets: Any, out_layout: Any, out_hints: Any) -> None:
    """Of `records` of a chain, whose cells end at `ends`: where the cells begin, `offsets[n + 1]` of them end to end, layouts and hints."""
    offsets[0] = 0
    for i in range(len(records)):
        record = records[i]
        starts[i] = ends[record - 1] if record > 0 else 0
        offsets[i + 1] = offsets[i] + ends[record] - starts[i]
        out_layout[i], out_hints[i] = layout[record], hints[record]


@njit(cache=True, nogil=True)
def copied(starts: Any, offsets: Any, cells: Any, out: Any) -> None:
    """Copy the cells of histograms, from `starts[i]` on in `cells`, to `out[offsets[i]:offsets[i + 1]]`."""
    for i in range(len(starts)):
        # Without a sign no index counts from the end, and the compiler copies several cells at a time.
        source, into = np.uint64(starts[i]), np.uint64(offsets[i])
        for c in range(np.uint64(offsets[i + 1]) - into):
            out[into + c] = cells[source + c]


@njit(cache=True, nogil=True)
def locate(rows: Any, stamps: Any, sums: Any, offsets: Any, times: Any, bits: Any, out: Any) -> None:
    """`out[j]`: the sample of row `rows[j]` at the time `stamps[j]` whose bits are `sums[j]`, -1 where there is none.

    Row r has the samples `offsets[r]:offsets[r + 1]`, `times` ascending within it.
    """
    next_one = -1
    for j in range(len(rows)):
        lo, hi = offsets[rows[j]], offsets[rows[j] + 1]
        end = hi
        # Mostly each is the sample after the one before.
        if lo <= next_one < hi and times[next_one] == stamps[j]:
            lo = hi = next_one
        while lo < hi:
            mid = (lo + hi) // 2
            if times[mid] < stamps[j]:
                lo = mid + 1
            else:
                hi = mid
        next_one = lo + 1
        out[j] = lo if lo < end and times[lo] == stamps[j] and bits[lo] == sums[j] else -1


@njit(cache=True, nogil=True)
def turn(layout: Any, widths: Any, cells: Any, out: Any, back: bool) -> None:
    """Turn runs of histograms of one layout from rows to columns (each cell's values together), or `back`.

    `layout` int32[n]; a histogram of layout l has `widths[l]` cells; all in `cells` and `out` float64 end to end.
    """
    at, i = 0, 0
    while i < len(layout):
        j = i + 1
        while j < len(layout) and layout[j] == layout[i]:
            j += 1
        width, run = widths[layout[i]], j - i
        for a in range(run):
            for c in range(width):
                if back:
                    out[at + a * width + c] = cells[at + c * run + a]
                else:
                    out[at + c * run + a] = cells[at + a * width + c]
        at += run * width
        i = j
