"""Columns to the protobuf of remote write 1.0: the way out, as `remote_write.py` is the way in.

A `WriteRequest` of rows that have samples: `timeseries` (0a) of `labels` (0a: name 0a, value 12) and `samples` (12: value 09, time 10).
Source: `prompb/remote.proto`. Not here: metadata, histograms, snappy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

_END = 0xFF


@njit(cache=True, nogil=True)
def _varint_size(value: int) -> int:
    """Bytes of a varint."""
    left = np.uint64(value)
    size = 1
    while left >= np.uint64(128):
        left >>= np.uint64(7)
        size += 1
    return size


@njit(cache=True, nogil=True)
def _put_varint(out: Any, at: int, value: int) -> int:
    """Write a varint; answers where it ends."""
    left = np.uint64(value)
    while left >= np.uint64(128):
        out[at] = np.uint8((left & np.uint64(127)) | np.uint64(128))
        left >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(left)
    return at + 1


@njit(cache=True, nogil=True)
def _text_end(keys: Any, at: int) -> int:
    while keys[at] != _END:
        at += 1
    return at


@njit(cache=True, nogil=True)
def _labels_size(keys: Any, at: int, end: int) -> int:
    """Bytes of a canonical key's label fields."""
    size = 0
    while at < end:
        name_end = _text_end(keys, at)
        value_end = _text_end(keys, name_end + 1)
        name, value = name_end - at, value_end - name_end - 1
        label = 2 + _varint_size(name) + name + _varint_size(value) + value
        size += 1 + _varint_size(label) + label
        at = value_end + 1
    return size


@njit(cache=True, nogil=True)
def _put_text(keys: Any, start: int, end: int, tag: int, out: Any, at: int) -> int:
    out[at] = tag
    at = _put_varint(out, at + 1, end - start)
    out[at : at + end - start] = keys[start:end]
    return at + end - start


@njit(cache=True, nogil=True)
def _put_labels(keys: Any, at: int, end: int, out: Any, to: int) -> int:
    while at < end:
        name_end = _text_end(keys, at)
        value_end = _text_end(keys, name_end + 1)
        name, value = name_end - at, value_end - name_end - 1
        out[to] = 0x0A
        to = _put_varint(out, to + 1, 2 + _varint_size(name) + name + _varint_size(value) + value)
        to = _put_text(keys, at, name_end, 0x0A, out, to)
        to = _put_text(keys, name_end + 1, value_end, 0x12, out, to)
        at = value_end + 1
    return to


@njit(cache=True, nogil=True)
def encode(keys: Any, key_offsets: Any, rows: Any, offsets: Any, times: Any, bits: Any, out: Any) -> int:
    """The request of rows `rows` int64[n] (numbers of canonical keys `keys[key_offsets[r]:key_offsets[r + 1]]`; below 0: left out).

    Row i has the samples `offsets[i]:offsets[i + 1]` of `times` and `bits`; rows without any are left out. Answers the bytes
    needed; a first call with an empty `out` measures.
    """
    at = 0
    for i in range(len(rows)):
        r = rows[i]
        lo, hi = offsets[i], offsets[i + 1]
        if r < 0 or hi == lo:
            continue
        labels = _labels_size(keys, key_offsets[r], key_offsets[r + 1])
        size = labels
        for j in range(lo, hi):
            size += 12 + _varint_size(times[j])
        whole = 1 + _varint_size(size) + size
        if at + whole <= len(out):
            out[at] = 0x0A
            to = _put_varint(out, at + 1, size)
            to = _put_labels(keys, key_offsets[r], key_offsets[r + 1], out, to)
            for j in range(lo, hi):
                out[to] = 0x12
                out[to + 1] = 10 + _varint_size(times[j])
                out[to + 2] = 0x09
                value = np.uint64(bits[j])
                for k in range(8):
                    out[to + 3 + k] = np.uint8((value >> np.uint64(8 * k)) & np.uint64(255))
                out[to + 11] = 0x10
                to = _put_varint(out, to + 12, times[j])
        at += whole
    return at
