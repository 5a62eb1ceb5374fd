"""Prometheus' XOR chunks (`tsdb/chunkenc/xor.go`): samples of a series as a stream of bits, to be sent to who reads them as such.

Times are deltas of deltas, values the bits in which they differ from the one before. Not here: the messages around chunks
(`wire/remote_read.py`), those of native histograms (`histogram_chunks.py`); nothing is stored so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

CHUNK_SAMPLES = 120
"""How many samples Prometheus has in a chunk."""

MOST_BYTES = 20
"""What a sample takes at most, and more than a chunk's own head."""

_ONE = np.uint64(1)


def _table() -> Any:
    """What a byte does to a CRC-32C (Castagnoli)."""
    found = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        found = np.where(found & np.uint32(1), (found >> np.uint32(1)) ^ np.uint32(0x82F63B78), found >> np.uint32(1)).astype(np.uint32)
    return found


_CRC = _table()


@njit(cache=True, nogil=True)
def crc32c(data: Any) -> int:
    """The CRC-32C (Castagnoli) of uint8[n]."""
    crc = np.uint32(0xFFFFFFFF)
    for i in range(len(data)):
        crc = (crc >> np.uint32(8)) ^ _CRC[(crc ^ np.uint32(data[i])) & np.uint32(0xFF)]
    return int(crc ^ np.uint32(0xFFFFFFFF))


@njit(cache=True, nogil=True)
def put(out: Any, at: int, value: np.uint64, count: int) -> int:
    """Write the lowest `count` bits of `value` at bit `at`, the highest first; answers the bit after them. `out` is 0 there."""
    for k in range(count - 1, -1, -1):
        if (value >> np.uint64(k)) & _ONE:
            out[at >> 3] |= np.uint8(0x80 >> (at & 7))
        at += 1
    return at


@njit(cache=True, nogil=True)
def _put_varint(out: Any, at: int, value: np.uint64) -> int:
    """Write an unsigned varint."""
    while value >= np.uint64(0x80):
        at = put(out, at, (value & np.uint64(0x7F)) | np.uint64(0x80), 8)
        value >>= np.uint64(7)
    return put(out, at, value, 8)


@njit(cache=True, nogil=True)
def _put_step(out: Any, at: int, step: int) -> int:
    """Write by how much the distance of two samples differs from that before."""
    if step == 0:
        return put(out, at, np.uint64(0), 1)
    bits = np.uint64(step)
    if -8191 <= step <= 8192:
        return put(out, put(out, at, np.uint64(2), 2), bits, 14)
    if -65535 <= step <= 65536:
        return put(out, put(out, at, np.uint64(6), 3), bits, 17)
    if -524287 <= step <= 524288:
        return put(out, put(out, at, np.uint64(14), 4), bits, 20)
    return put(out, put(out, at, np.uint64(15), 4), bits, 64)


@njit(cache=True, nogil=True)
def _zeros(value: np.uint64) -> tuple[int, int]:
    """(leading, trailing) zero bits of what is not 0."""
    leading, trailing = 0, 0
    while not (value >> np.uint64(63 - leading)) & _ONE:
        leading += 1
    while not (value >> np.uint64(trailing)) & _ONE:
        trailing += 1
    return leading, trailing


@njit(cache=True, nogil=True)
def put_change(out: Any, at: int, change: np.uint64, leading: int, trailing: int) -> tuple[int, int, int]:
    """Write the bits in which a value differs from the one before, of which the last that differed had so many zeros, -1 for none yet.

    (the bit after them, leading zeros, trailing ones) are answered.
    """
    if change == 0:
        return put(out, at, np.uint64(0), 1), leading, trailing
    at = put(out, at, np.uint64(1), 1)
    new_leading, new_trailing = _zeros(change)
    new_leading = min(new_leading, 31)  # five bits say how many
    if leading >= 0 and new_leading >= leading and new_trailing >= trailing:
        at = put(out, at, np.uint64(0), 1)
    else:
        leading, trailing = new_leading, new_trailing
        at = put(out, at, np.uint64(1), 1)
        at = put(out, at, np.uint64(leading), 5)
        at = put(out, at, np.uint64((64 - leading - trailing) & 63), 6)
    return put(out, at, change >> np.uint64(trailing), 64 - leading - trailing), leading, trailing


@njit(cache=True, nogil=True)
def encode(times: Any, bits: Any, firsts: Any, lasts: Any, out: Any, ends: Any) -> int:
    """Chunk i of the samples [firsts[i], lasts[i]) of `times` int64 and `bits` (values' bits, int64), at most 65535 each.

    The chunks go to `out` uint8, all 0 before, with room for `MOST_BYTES` a sample and a chunk; `ends` int64 says where each ends.
    Answers how many bytes there are.
    """
    byte = 0
    for i in range(len(firsts)):
        lo, hi = firsts[i], lasts[i]
        out[byte], out[byte + 1] = (hi - lo) >> 8, (hi - lo) & 0xFF
        at = (byte + 2) * 8
        leading, trailing = -1, 0
        distance = 0
        for j in range(lo, hi):
            if j == lo:
                at = _put_varint(out, at, np.uint64((times[j] << 1) ^ (times[j] >> 63)))
                at = put(out, at, np.uint64(bits[j]), 64)
                continue
            now = times[j] - times[j - 1]
            if j == lo + 1:
                at = _put_varint(out, at, np.uint64(now))
            else:
                at = _put_step(out, at, now - distance)
            distance = now
            at, leading, trailing = put_change(out, at, np.uint64(bits[j] ^ bits[j - 1]), leading, trailing)
        byte = (at + 7) >> 3
        ends[i] = byte
    return byte
