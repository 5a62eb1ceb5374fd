"""What blocks need of arrays: texts and series in order, rows out of pages, and several sources merged to one.

Not here: files, compression (`storage/block.py`, `storage/block_writer.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.head import ensure_increasing

_STALE = 0x7FF0000000000002


@njit(cache=True, nogil=True)
def _text_less(texts: Any, offsets: Any, a: int, b: int) -> Any:
    i, i_end, j, j_end = offsets[a], offsets[a + 1], offsets[b], offsets[b + 1]
    while i < i_end and j < j_end:
        if texts[i] != texts[j]:
            return texts[i] < texts[j]
        i += 1
        j += 1
    return i_end - i < j_end - j


@njit(cache=True, nogil=True)
def sort_texts(symbols: Any, texts: Any, offsets: Any) -> Any:
    """`symbols` int64[n] in byte order of their texts `texts[offsets[s]:offsets[s + 1]]`. A merge sort."""
    n = len(symbols)
    source, target = symbols.copy(), np.empty(n, np.int64)
    width = 1
    while width < n:
        for left in range(0, n, 2 * width):
            mid, right = min(left + width, n), min(left + 2 * width, n)
            i, j = left, mid
            for k in range(left, right):
                if i < mid and (j >= right or not _text_less(texts, offsets, source[j], source[i])):
                    target[k] = source[i]
                    i += 1
                else:
                    target[k] = source[j]
                    j += 1
        source, target = target, source
        width *= 2
    return source


@njit(cache=True, nogil=True)
def _series_less(first: Any, offsets: Any, names: Any, values: Any, a: int, b: int) -> Any:
    if first[a] != first[b]:
        return first[a] < first[b]
    i, i_end, j, j_end = offsets[a], offsets[a + 1], offsets[b], offsets[b + 1]
    while i < i_end and j < j_end:
        if names[i] != names[j]:
            return names[i] < names[j]
        if values[i] != values[j]:
            return values[i] < values[j]
        i += 1
        j += 1
    return i_end - i < j_end - j


@njit(cache=True, nogil=True)
def sort_series(first: Any, offsets: Any, names: Any, values: Any) -> Any:
    """The order (int64[n]) of n series by `first` int64[n], then by their pairs, whose symbols sort as their texts do."""
    n = len(first)
    source, target = np.arange(n), np.empty(n, np.int64)
    width = 1
    while width < n:
        for left in range(0, n, 2 * width):
            mid, right = min(left + width, n), min(left + 2 * width, n)
            i, j = left, mid
            for k in range(left, right):
                if i < mid and (j >= right or not _series_less(first, offsets, names, values, source[j], source[i])):
                    target[k] = source[i]
                    i += 1
                else:
                    target[k] = source[j]
                    j += 1
        source, target = target, source
        width *= 2
    return source


@njit(cache=True, nogil=True)
def _lower(times: Any, lo: int, hi: int, bound: int) -> int:
    """The first place in ascending `times[lo:hi]` that is not below `bound`."""
    while lo < hi:
        mid = (lo + hi) // 2
        if times[mid] < bound:
            lo = mid + 1
        else:
            hi = mid
    return lo


@njit(cache=True, nogil=True)
def copy_rows(
    times: Any,
    bits: Any,
    page_first: int,
    rows: Any,
    row: int,
    places: Any,
    start: int,
    end: int,
    at: int,
    out_offsets: Any,
    out_times: Any,
    out_bits: Any,
) -> tuple[int, int]:
    """Copy from one page what `rows` (ascending) have in [start, end]; answers (row to go on with, next place in `out`).

    The page holds the block's samples from `page_first` on; row r has the samples `places[r]:places[r + 1]`. `row` is the
    first of `rows` that is not finished; a row that goes on beyond the page is answered as the one to go on with.
    """
    page_end = page_first + len(times)
    while row < len(rows):
        lo, hi = places[rows[row]], places[rows[row] + 1]
        if lo >= page_end:
            break
        first = max(lo, page_first) - page_first
        last = min(hi, page_end) - page_first
        first = _lower(times, first, last, start)
        while first < last and times[first] <= end:
            out_times[at] = times[first]
            out_bits[at] = bits[first]
            at += 1
            first += 1
        out_offsets[row + 1] = at
        if hi > page_end:
            break
        row += 1
    return row, at


@njit(cache=True, nogil=True)
def _copy(times: Any, bits: Any, out_times: Any, out_bits: Any) -> bool:
    """Copy samples to arrays of the same length; answers whether stale markers are among them."""
    stale = 0
    # Arrays of their own, counted from 0 on: loops that need not ask whether a place counts from the end.
    for i in range(len(times)):
        out_times[i] = times[i]
    for i in range(len(times)):
        found = bits[i]
        out_bits[i] = found
        stale |= int(found == _STALE)
    return stale != 0


@njit(cache=True, nogil=True)
def _last_not_below(times: Any, lo: int, hi: int, bound: int) -> int:
    """As `_lower`, found from the end on: quick where it is near."""
    leap = 1
    while hi - leap > lo and times[hi - leap] >= bound:
        leap *= 2
    return _lower(times, max(lo, hi - leap), hi - leap // 2, bound)


@njit(cache=True, nogil=True)
def measure_wanted(
    times: Any, stamps: Any, begins: Any, ends: Any, targets: Any, first: int, step: int, n: int, range_ms: int, sizes: Any, totals: Any
) -> None:
    """How many samples windows `(t - range_ms, t]`, t = first + k * step for k < n, want of some rows of a page: `sizes` int64[m].

    Row i has the values `begins[i]:ends[i]` (int64[m]) of the page, at the times from `stamps[i]` (int64[m]) on. It is row `targets[i]`
    (int32[m]) of all, to whose `totals` (int64) its size is added.
    """
    last = first + (n - 1) * step
    apart = n > 1 and range_ms < step
    for row in range(len(begins)):
        stop = stamps[row] + ends[row] - begins[row]
        begin = _lower(times, stamps[row], stop, first - range_ms + 1)
        end = _lower(times, begin, stop, last + 1)
        size = 0
        if apart:
            while begin < end:
                # The last window that begins before the newest sample that is left.
                k = min(n - 1, (times[end - 1] - first + range_ms - 1) // step)
                hi = _last_not_below(times, begin, end, first + k * step + 1)
                end = _last_not_below(times, begin, hi, first + k * step - range_ms + 1)
                size += hi - end
        else:
            size = end - begin
        sizes[row] = size
        totals[targets[row]] += size


@njit(cache=True, nogil=True)
def put_wanted(
    times: Any,
    bits: Any,
    stamps: Any,
    begins: Any,
    ends: Any,
    targets: Any,
    first: int,
    step: int,
    n: int,
    range_ms: int,
    sizes: Any,
    cursor: Any,
    out_times: Any,
    out_bits: Any,
) -> bool:
    """Copy from a page what `measure_wanted` (see there) counted; answers whether stale markers are among it.

    What row i has goes before place `cursor[targets[i]]` (int64) of `out_times` and `out_bits`, and becomes the place where it begins.
    """
    stale = False
    last = first + (n - 1) * step
    apart = n > 1 and range_ms < step
    for row in range(len(begins)):
        own = begins[row] - stamps[row]
        at, end = cursor[targets[row]], stamps[row] + ends[row] - begins[row]
        low = at - sizes[row]
        end = _lower(times, stamps[row], end, last + 1)
        while at > low:
            hi, lo = end, end - (at - low)
            if apart:
                k = min(n - 1, (times[end - 1] - first + range_ms - 1) // step)
                hi = _last_not_below(times, stamps[row], end, first + k * step + 1)
                lo = _last_not_below(times, stamps[row], hi, first + k * step - range_ms + 1)
            # No more than was counted, whatever happens.
            lo = max(lo, hi - (at - low))
            at -= hi - lo
            stale |= _copy(times[lo:hi], bits[own + lo : own + hi], out_times[at : at + hi - lo], out_bits[at : at + hi - lo])
            end = lo
        cursor[targets[row]] = low
    return stale


@njit(cache=True, nogil=True)
def untangle(times: Any, bits: Any, offsets: Any) -> None:
    """Make rows strictly increasing, of equal times the first stays; row r is `offsets[r]:offsets[r + 1]` (int64[n + 1]) of the arrays.

    What is left ends where the last row ended; `offsets` become those of it.
    """
    n = len(offsets) - 1
    stop = end = offsets[n]
    for row in range(n - 1, -1, -1):
        begin = offsets[row]
        upto = ensure_increasing(times, bits, begin, end)
        by = stop - upto
        if by:
            for i in range(upto - 1, begin - 1, -1):
                times[i + by] = times[i]
                bits[i + by] = bits[i]
        end = begin
        stop = begin + by
        offsets[row] = stop


@njit(cache=True, nogil=True)
def merge(targets: Any, offsets: Any, times: Any, bits: Any, out_offsets: Any, out_times: Any, out_bits: Any) -> None:
    """Rows of several sources, end to end, as one row a target, times strictly increasing; of equal times the first stays.

    Source row i has the samples `offsets[i]:offsets[i + 1]` and belongs to `targets[i]`; targets are 0 to t - 1 and
    `out_offsets` is int64[t + 1]; `out_times` and `out_bits` are as long as `times`.
    """
    t = len(out_offsets) - 1
    out_offsets[:] = 0
    for i in range(len(targets)):
        out_offsets[targets[i] + 1] += offsets[i + 1] - offsets[i]
    cursor = np.empty(t, np.int64)
    for k in range(t):
        cursor[k] = out_offsets[k]
        out_offsets[k + 1] += out_offsets[k]
    for i in range(len(targets)):
        at = cursor[targets[i]]
        for j in range(offsets[i], offsets[i + 1]):
            out_times[at] = times[j]
            out_bits[at] = bits[j]
            at += 1
        cursor[targets[i]] = at
    shift = 0
    begin = 0
    for k in range(t):
        end = out_offsets[k + 1]
        stop = ensure_increasing(out_times, out_bits, begin, end)
        if shift > 0:
            for j in range(begin, stop):
                out_times[j - shift] = out_times[j]
                out_bits[j - shift] = out_bits[j]
        shift += end - stop
        begin = end
        out_offsets[k + 1] = end - shift


@njit(cache=True, nogil=True)
def erase(rows: Any, offsets: Any, times: Any, bits: Any, gone_rows: Any, gone_starts: Any, gone_ends: Any) -> int:
    """Take out of CSR rows, in place, what lies in a deleted range; answers how many samples are left.

    Row i (`offsets[i]:offsets[i + 1]`, int64[n + 1]) is number `rows[i]` (int64, ascending) of the block; range k, inclusive,
    `gone_starts[k]:gone_ends[k]`, is deleted of number `gone_rows[k]` (int64, ascending; of one row in order of their starts).
    """
    at, g, begin = 0, 0, offsets[0]
    for i in range(len(rows)):
        end = offsets[i + 1]
        while g < len(gone_rows) and gone_rows[g] < rows[i]:
            g += 1
        stop = g
        while stop < len(gone_rows) and gone_rows[stop] == rows[i]:
            stop += 1
        for j in range(begin, end):
            kept = True
            for k in range(g, stop):
                if gone_starts[k] <= times[j] <= gone_ends[k]:
                    kept = False
                    break
            if kept:
                times[at] = times[j]
                bits[at] = bits[j]
                at += 1
        begin = end
        offsets[i + 1] = at
        g = stop
    return at


@njit(cache=True, nogil=True)
def remaining(rows: Any, firsts: Any, lasts: Any, start: int, end: int, gone_rows: Any, gone_starts: Any, gone_ends: Any, out: Any) -> None:
    """`out` bool[n]: whether deleted ranges (as for `erase`) leave anything of [firsts[i], lasts[i]] within [start, end]."""
    g = 0
    for i in range(len(rows)):
        lo, hi = max(firsts[i], start), min(lasts[i], end)
        while g < len(gone_rows) and gone_rows[g] < rows[i]:
            g += 1
        while g < len(gone_rows) and gone_rows[g] == rows[i]:
            if gone_starts[g] <= lo <= gone_ends[g]:
                lo = gone_ends[g] + 1
            g += 1
        out[i] = lo <= hi
