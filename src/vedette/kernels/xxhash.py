"""XXH64 of byte regions: the hash by which Prometheus samples series, so that both choose the same ones.

Written after the algorithm's published description (seed 0). Not for tables of untrusted keys: see `hashing.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)


@njit(cache=True, nogil=True, inline="always")
def _rotated(x: np.uint64, by: int) -> np.uint64:
    return (x << np.uint64(by)) | (x >> np.uint64(64 - by))


@njit(cache=True, nogil=True, inline="always")
def _round(lane: np.uint64, word: np.uint64) -> np.uint64:
    return _rotated(lane + word * _P2, 31) * _P1


@njit(cache=True, nogil=True, boundscheck=True)
def _word(data: Any, at: int, size: int) -> np.uint64:
    """`size` bytes as a little-endian number."""
    found = np.uint64(0)
    for i in range(size):
        found |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return found


@njit(cache=True, nogil=True)
def xxh64(data: Any, offsets: Any, out: Any) -> None:
    """The hash of each `data[offsets[i]:offsets[i + 1]]` (uint8, int64[n + 1]) into `out` uint64[n]."""
    for r in range(len(out)):
        at, end = offsets[r], offsets[r + 1]
        length = np.uint64(end - at)
        if end - at >= 32:
            a, b, c, d = _P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1
            while end - at >= 32:
                a = _round(a, _word(data, at, 8))
                b = _round(b, _word(data, at + 8, 8))
                c = _round(c, _word(data, at + 16, 8))
                d = _round(d, _word(data, at + 24, 8))
                at += 32
            h = _rotated(a, 1) + _rotated(b, 7) + _rotated(c, 12) + _rotated(d, 18)
            for lane in (a, b, c, d):
                h = (h ^ _round(np.uint64(0), lane)) * _P1 + _P4
        else:
            h = _P5
        h += length
        while end - at >= 8:
            h = _rotated(h ^ _round(np.uint64(0), _word(data, at, 8)), 27) * _P1 + _P4
            at += 8
        if end - at >= 4:
            h = _rotated(h ^ _word(data, at, 4) * _P1, 23) * _P2 + _P3
            at += 4
        while at < end:
            h = _rotated(h ^ np.uint64(data[at]) * _P5, 11) * _P1
            at += 1
        h = (h ^ (h >> np.uint64(33))) * _P2
        h = (h ^ (h >> np.uint64(29))) * _P3
        out[r] = h ^ (h >> np.uint64(32))
