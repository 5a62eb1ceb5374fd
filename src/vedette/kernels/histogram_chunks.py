"""Prometheus' chunks of native histograms (`tsdb/chunkenc/float_histogram.go`), to be sent to who reads them as such.

A chunk has histograms of one layout, gauges or counters without a reset in between:

    uint16 samples | flags | layout | time, count, zero bucket, sum, buckets | time's delta of deltas, XOR of each with the one before | …

What stands behind the flags are bits, not bytes. Not here: the bits of a layout (`wire/histogram_chunks.py`), reading chunks; nothing is
stored so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.xor_chunks import CHUNK_SAMPLES, put, put_change

MOST_BYTES = 10
"""What a number of a sample takes at most; its time does, too, and more than a chunk's own head without the layout."""

_RESET, _GAUGE = 1, 3  # as `model.histograms` has them
_RESET_FLAG, _NOT_RESET_FLAG, _GAUGE_FLAG = 0x80, 0x40, 0xC0
_COUNT, _SUM, _ZERO = 0, 1, 2
_STALE = np.int64(0x7FF0000000000002)  # `model.samples.STALE_BITS`, which a kernel may not import


@njit(cache=True, nogil=True)
def put_varbit(out: Any, at: int, value: int) -> int:
    """Write a number with as many bits as it needs, about; answers the bit after them."""
    bits = np.uint64(value)
    if value == 0:
        return put(out, at, np.uint64(0), 1)
    if -3 <= value <= 4:
        return put(out, put(out, at, np.uint64(0b10), 2), bits, 3)
    if -31 <= value <= 32:
        return put(out, put(out, at, np.uint64(0b110), 3), bits, 6)
    if -255 <= value <= 256:
        return put(out, put(out, at, np.uint64(0b1110), 4), bits, 9)
    if -2047 <= value <= 2048:
        return put(out, put(out, at, np.uint64(0b11110), 5), bits, 12)
    if -131071 <= value <= 131072:
        return put(out, put(out, at, np.uint64(0b111110), 6), bits, 18)
    if -16777215 <= value <= 16777216:
        return put(out, put(out, at, np.uint64(0b1111110), 7), bits, 25)
    if -36028797018963967 <= value <= 36028797018963968:
        return put(out, put(out, at, np.uint64(0b11111110), 8), bits, 56)
    return put(out, put(out, at, np.uint64(0b11111111), 8), bits, 64)


@njit(cache=True, nogil=True)
def _fell(cells: Any, now: int, before: int, width: int) -> bool:
    """Whether the count or a bucket is less than before; a sum may be."""
    fell = cells[now + _COUNT] < cells[before + _COUNT]
    for c in range(_ZERO, width):
        fell |= cells[now + c] < cells[before + c]
    return bool(fell)


@njit(cache=True, nogil=True)
def _flags(j: int, first: int, layout: Any, starts: Any, hints: Any, cells: Any, bits: Any, width: int) -> int:
    """The flags of the chunk that sample j begins, -1 where it stands in the one that began with sample `first`."""
    gauge = hints[j] == _GAUGE
    begun = _GAUGE_FLAG if gauge else _RESET_FLAG if hints[j] == _RESET else 0
    if j == 0 or gauge != (hints[j - 1] == _GAUGE):
        return begun
    now, before = starts[j], starts[j - 1]
    # A stale one stands alone: it says nothing of those beside it.
    if bits[now + _SUM] == _STALE or bits[before + _SUM] == _STALE:
        return begun
    if layout[j] != layout[j - 1]:
        return _RESET_FLAG if not gauge and cells[now + _COUNT] < cells[before + _COUNT] else begun
    if not gauge and (hints[j] == _RESET or _fell(cells, now, before, width)):
        return _RESET_FLAG
    if j - first == CHUNK_SAMPLES:
        return _GAUGE_FLAG if gauge else _NOT_RESET_FLAG
    return -1


@njit(cache=True, nogil=True)
def encode(
    times: Any, layout: Any, starts: Any, hints: Any, cells: Any, bits: Any, widths: Any, heads: Any, heads_at: Any, head_bits: Any,
    out: Any, chunks: Any,
) -> int:  # fmt: skip
    """The chunks of histograms at `times` (int64 ms), at least one: sample j has `widths[layout[j]]` cells from `starts[j]` on.

    `cells` are float64 and `bits` the same as int64. Layout l is written as the first `head_bits[l]` bits of `heads[heads_at[l]:]`
    (uint8). Chunks go to `out` uint8, all 0 before, with room for `MOST_BYTES` times a sample's cells and two more, and a chunk's head;
    `chunks` int64[n, 3] has the first sample of each, the one after its last, and where it ends in `out`. Answers how many there are.
    """
    leading, trailing = np.empty(widths.max(), np.int64), np.empty(widths.max(), np.int64)
    count, byte, at, first, step = 0, 0, 0, 0, 0
    for j in range(len(times) + 1):
        flags = -1 if j == len(times) else _flags(j, first, layout, starts, hints, cells, bits, widths[layout[j]])
        if j == len(times) or flags >= 0:
            if j > 0:
                out[byte], out[byte + 1] = (j - first) >> 8, (j - first) & 0xFF
                byte = (at + 7) >> 3
                chunks[count, 0], chunks[count, 1], chunks[count, 2] = first, j, byte
                count += 1
            if j == len(times):
                break
            first, step = j, 0
            out[byte + 2] = flags
            at = (byte + 3) * 8
            head, left = heads_at[layout[j]], head_bits[layout[j]]
            while left >= 8:
                at = put(out, at, np.uint64(heads[head]), 8)
                head, left = head + 1, left - 8
            if left:
                at = put(out, at, np.uint64(heads[head] >> (8 - left)), left)
            at = put_varbit(out, at, times[j])
        else:
            now = times[j] - times[j - 1]
            at = put_varbit(out, at, now - step)
            step = now
        for c in range(widths[layout[j]]):
            cell = c if c == _COUNT or c > _ZERO else 3 - c  # the zero bucket stands before the sum
            if j == first:
                at = put(out, at, np.uint64(bits[starts[j] + cell]), 64)
                leading[cell], trailing[cell] = -1, 0
            else:
                change = np.uint64(bits[starts[j] + cell] ^ bits[starts[j - 1] + cell])
                at, leading[cell], trailing[cell] = put_change(out, at, change, leading[cell], trailing[cell])
    return count
