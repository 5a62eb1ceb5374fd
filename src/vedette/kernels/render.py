"""Series to JSON bytes: `{"metric":{…},"values":[[t,"v"],…]}`, without a Python object per point.

The kernels lay values out as Go does: shortest digits, no exponent from 1e-6 up to 1e21, `+Inf`, `-Inf`, `NaN`, always quoted. They
are given as decimals (`shortest.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.digits import (
    ABSENT,
    SPARE,
    address_of,
    digit_count,
    get_word,
    number_size,
    paste,
    put_number,
    put_word,
    write_integer,
)

POINT_BYTES = 64
"""No point takes more: 22 of time, 2 brackets, 2 quotes, 2 commas, 30 of value."""
_ENDED = np.uint64(34 | 93 << 8)
"""What ends a point: a quote and a bracket."""
HEAD_BYTES = 32
"""Room for what stands before a value: `,[time,"`."""


@njit(cache=True, nogil=True)
def write_time(out: Any, at: int, ms: int) -> int:
    """Milliseconds as seconds, with three decimals unless whole."""
    if ms < 0:
        out[at] = 45
        at += 1
        ms = -ms
    at = write_integer(out, at, ms // 1000)
    rest = ms % 1000
    if rest != 0:
        out[at] = 46
        out[at + 1] = 48 + rest // 100
        out[at + 2] = 48 + rest // 10 % 10
        out[at + 3] = 48 + rest % 10
        at += 4
    return at


@njit(cache=True, nogil=True, inline="always")
def _write_labels(
    out: Any, at: Any, r: Any, label_offsets: Any, names: Any, values: Any, pool: Any, pool_offsets: Any, frame: Any, ends: Any, single: Any
) -> Any:
    """A row up to its points: what opens it, its labels, and what stands between them and the points."""
    at = paste(out, at, frame, ends[0], ends[1])
    for i in range(label_offsets[r], label_offsets[r + 1]):
        if i > label_offsets[r]:
            out[at] = 44
            at += 1
        at = paste(out, at, pool, pool_offsets[names[i]], pool_offsets[names[i] + 1])
        if values[i] >= 0:
            out[at] = 58
            at = paste(out, at + 1, pool, pool_offsets[values[i]], pool_offsets[values[i] + 1])
    middle = 2 if single else 1
    return paste(out, at, frame, ends[middle], ends[middle + 1])


@njit(cache=True, nogil=True, inline="always")
def _write_end(out: Any, at: Any, frame: Any, ends: Any, single: Any) -> Any:
    """What ends a row, and a comma."""
    tail = 4 if single else 3
    at = paste(out, at, frame, ends[tail], ends[tail + 1])
    out[at] = 44
    return at + 1


@njit(cache=True, nogil=True, inline="always")
def _put_point(to: Any, at: Any, head: Any, size: Any, whole: Any, places: Any) -> Any:
    """A point whose head, of so many bytes, is at an address."""
    put_word(to, at, get_word(head, 0))
    put_word(to, at + 8, get_word(head, 8))
    put_word(to, at + 16, get_word(head, 16))
    if size > 24:
        put_word(to, at + 24, get_word(head, 24))
    at = put_number(to, at + size, whole, np.int64(places))
    put_word(to, at, _ENDED)
    return at + 2


@njit(cache=True, nogil=True, inline="always")
def _write_head(heads: Any, since: Any, ms: Any) -> Any:
    heads[since], heads[since + 1] = 44, 91
    end = write_time(heads, since + 2, ms)
    heads[end], heads[end + 1] = 44, 34
    return end + 2 - since


@njit(cache=True, nogil=True)
def write_heads(times: Any, heads: Any, sizes: Any) -> None:
    """What stands before a value of each of the times (int64 ms), `,[time,"`: the k-th at `heads[k * HEAD_BYTES:]`, of `sizes[k]` bytes.

    `heads` has `SPARE` more bytes.
    """
    for k in range(len(times)):
        sizes[k] = _write_head(heads, HEAD_BYTES * k, times[k])


@njit(cache=True, nogil=True, error_model="numpy")
def render_grid(
    rows: Any,
    label_offsets: Any,
    names: Any,
    values: Any,
    pool: Any,
    pool_offsets: Any,
    frame: Any,
    frame_offsets: Any,
    cells: Any,
    heads: Any,
    head_sizes: Any,
    whole: Any,
    places: Any,
    single: bool,
    out: Any,
) -> int:
    """As `render_rows`, the points of row j being those of row `cells[j]` of a matrix of decimals, where they are not `ABSENT`.

    That is `whole` int64[R, n] and `places` int16[R, n]; `heads` and `head_sizes` are of `write_heads`.
    """
    at: Any = np.int64(0)
    to, head = address_of(out), address_of(heads)
    for j in range(len(rows)):
        r = cells[j]
        at = _write_labels(out, at, rows[j], label_offsets, names, values, pool, pool_offsets, frame, frame_offsets, single)
        # No comma stands before the first one.
        skipped = 1
        for k in range(whole.shape[1]):
            if places[r, k] != ABSENT:
                at = _put_point(to, at, head + np.uint64(HEAD_BYTES * k + skipped), head_sizes[k] - skipped, whole[r, k], places[r, k])
                skipped = 0
        at = _write_end(out, at, frame, frame_offsets, single)
    return int(at)


@njit(cache=True, nogil=True, error_model="numpy")
def render_rows(
    rows: Any,
    label_offsets: Any,
    names: Any,
    values: Any,
    pool: Any,
    pool_offsets: Any,
    frame: Any,
    frame_offsets: Any,
    offsets: Any,
    times: Any,
    whole: Any,
    places: Any,
    single: bool,
    out: Any,
) -> int:
    """Write series `rows` as JSON objects, each followed by a comma; returns the number of bytes.

    Row r has labels `label_offsets[r]:label_offsets[r+1]` of `names`, `values` (indices into the quoted texts in
    `pool[pool_offsets[i]:pool_offsets[i+1]]`; where the value is -1, the name stands for all of the pair), and the points that
    `offsets[j]:offsets[j+1]` bounds in `times`, `whole`, `places` (of `shortest.decimals`), where j counts rows. `frame` holds the fixed
    pieces: before the labels, between labels and points (list, single), and after them (list, single). `pool` and `frame` end with `SPARE`
    more bytes.
    """
    at: Any = np.int64(0)
    to = address_of(out)
    # What stands before a row's k-th value: of the next row it is mostly the same.
    most = 0
    for j in range(len(rows)):
        most = max(most, offsets[j + 1] - offsets[j])
    heads = np.empty(HEAD_BYTES * most + SPARE, dtype=np.uint8)
    head = address_of(heads)
    head_of, head_sizes = np.empty(most, dtype=np.int64), np.zeros(most, dtype=np.int64)
    for j in range(len(rows)):
        at = _write_labels(out, at, rows[j], label_offsets, names, values, pool, pool_offsets, frame, frame_offsets, single)
        first = offsets[j]
        for p in range(first, offsets[j + 1]):
            k = p - first
            if head_sizes[k] == 0 or head_of[k] != times[p]:
                head_of[k], head_sizes[k] = times[p], _write_head(heads, HEAD_BYTES * k, times[p])
            skipped = np.int64(p == first)
            at = _put_point(to, at, head + np.uint64(HEAD_BYTES * k + skipped), head_sizes[k] - skipped, whole[p], places[p])
        at = _write_end(out, at, frame, frame_offsets, single)
    return int(at)


@njit(cache=True, nogil=True, error_model="numpy")
def measure_rows(offsets: Any, times: Any, whole: Any, places: Any, sizes: Any) -> None:
    """How many bytes `render_rows` writes for the points of each row: `sizes` int64[rows]."""
    for j in range(len(sizes)):
        total: Any = np.int64(0)
        for p in range(offsets[j], offsets[j + 1]):
            ms = abs(times[p])
            time = digit_count(np.uint64(ms // 1000)) + np.int64(times[p] < 0) + (4 if ms % 1000 != 0 else 0)
            total += time + number_size(whole[p], np.int64(places[p]))
        count = offsets[j + 1] - offsets[j]
        # Around the time and the value two brackets, two quotes and a comma; commas between.
        sizes[j] = total + 5 * count + max(0, count - 1)


@njit(cache=True, nogil=True)
def flatten(values: Any, present: Any, order: Any, start: int, step: int, offsets: Any, times: Any, floats: Any) -> None:
    """The points of matrix rows `order`, one after the other; `offsets` int64[len(order) + 1] is filled too."""
    at = 0
    for j in range(len(order)):
        offsets[j] = at
        r = order[j]
        for k in range(values.shape[1]):
            if present[r, k]:
                times[at] = start + k * step
                floats[at] = values[r, k]
                at += 1
    offsets[len(order)] = at


@njit(cache=True, nogil=True)
def _row_less(a: int, b: int, offsets: Any, names: Any, values: Any) -> bool:
    i, j = offsets[a], offsets[b]
    while i < offsets[a + 1] and j < offsets[b + 1]:
        if names[i] != names[j]:
            return bool(names[i] < names[j])
        if values[i] != values[j]:
            return bool(values[i] < values[j])
        i += 1
        j += 1
    return bool(offsets[a + 1] - offsets[a] < offsets[b + 1] - offsets[b])


@njit(cache=True, nogil=True)
def sort_rows(offsets: Any, names: Any, values: Any, order: Any, scratch: Any) -> None:
    """Sort `order` (row numbers) by the rows' label sets; `names`, `values` are ranks, so that comparing numbers compares texts."""
    n = len(order)
    width = 1
    while width < n:
        for lo in range(0, n, 2 * width):
            mid, hi = min(lo + width, n), min(lo + 2 * width, n)
            if mid >= hi or not _row_less(order[mid], order[mid - 1], offsets, names, values):
                # In order already, as series mostly are that were first seen together.
                scratch[lo:hi] = order[lo:hi]
                continue
            i, j = lo, mid
            for k in range(lo, hi):
                if i < mid and (j >= hi or not _row_less(order[j], order[i], offsets, names, values)):
                    scratch[k] = order[i]
                    i += 1
                else:
                    scratch[k] = order[j]
                    j += 1
        order[:] = scratch
        width *= 2
