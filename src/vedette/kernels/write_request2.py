"""Remote write 1.0 to 2.0: a message whose labels are texts to one whose labels are numbers in a table of symbols.

Samples and histograms have the same fields in both, and are copied as they stand. Metadata, which 1.0 has apart, goes to each series of its
metric. Exemplars are left out. Not here: snappy, HTTP.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.hashing import hash_region, load_u64
from vedette.kernels.remote_write import METRIC_NAME_BYTES, OK, read_field
from vedette.kernels.write_request import _put_varint, _varint_size

LABEL, SAMPLE, HISTOGRAM = 0x0A, 0x12, 0x22
"""What a field of a 1.0 `TimeSeries` is."""

METADATA = 0x1A
"""The field of a 1.0 `WriteRequest` that tells of a metric."""

HISTOGRAM_TYPE, GAUGE_HISTOGRAM_TYPE, SUMMARY_TYPE = 3, 4, 5
"""Types whose metrics have parts of other names."""


@njit(cache=True, nogil=True)
def _same(data: Any, a: int, a_end: int, b: int, b_end: int) -> bool:
    if a_end - a != b_end - b:
        return False
    k = 0
    while k < a_end - a and data[a + k] == data[b + k]:
        k += 1
    return k == a_end - a


@njit(cache=True, nogil=True)
def _symbol(data: Any, lo: int, hi: int, hash_key: Any, slots: Any, spans: Any, count: int) -> tuple[int, int]:
    """(the number of the text `data[lo:hi]`, how many symbols there are then). The empty text is 0."""
    if lo == hi:
        return 0, count
    first, _ = hash_region(data, lo, hi, np.uint64(0), hash_key)
    mask = len(slots) - 1
    slot = np.int64(first & np.uint64(mask))
    while slots[slot] >= 0:
        known = slots[slot]
        if _same(data, spans[known, 0], spans[known, 1], lo, hi):
            return known, count
        slot = (slot + 1) & mask
    slots[slot] = count
    spans[count, 0], spans[count, 1] = lo, hi
    return count, count + 1


@njit(cache=True, nogil=True)
def _known(data: Any, lo: int, hi: int, hash_key: Any, slots: Any, spans: Any) -> int:
    """The number of the text `data[lo:hi]`, -1 where it is no symbol."""
    first, _ = hash_region(data, lo, hi, np.uint64(0), hash_key)
    mask = len(slots) - 1
    slot = np.int64(first & np.uint64(mask))
    while slots[slot] >= 0:
        known = slots[slot]
        if _same(data, spans[known, 0], spans[known, 1], lo, hi):
            return int(known)
        slot = (slot + 1) & mask
    return -1


@njit(cache=True, nogil=True)
def _about(data: Any, hash_key: Any, slots: Any, spans: Any, symbols: int, about: Any, about_of: Any) -> tuple[int, int]:
    """(how many symbols there are, fault) after the metadata of a message was put to `about` int64[m, 3] (type, help, unit)."""
    at, end, n = 0, len(data), 0
    while at < end:
        tag, first, stop, fault = read_field(data, at, end)
        if fault != OK:
            return symbols, fault
        if tag == METADATA:
            metric = 0
            about[n, 0], about[n, 1], about[n, 2] = 0, 0, 0
            i = first
            while i < stop:
                inner, lo, hi, fault = read_field(data, i, stop)
                if fault != OK:
                    return symbols, fault
                if inner == 0x08:
                    about[n, 0] = lo
                elif inner == 0x12:
                    metric, symbols = _symbol(data, lo, hi, hash_key, slots, spans, symbols)
                elif inner == 0x22:
                    about[n, 1], symbols = _symbol(data, lo, hi, hash_key, slots, spans, symbols)
                elif inner == 0x2A:
                    about[n, 2], symbols = _symbol(data, lo, hi, hash_key, slots, spans, symbols)
                i = hi
            if 0 <= about[n, 0] < 128:
                about_of[metric] = n
                n += 1
        at = stop
    return symbols, OK


@njit(cache=True, nogil=True)
def _of_metric(data: Any, metric: int, hash_key: Any, slots: Any, spans: Any, about: Any, about_of: Any) -> int:
    """The row of `about` that tells of a metric (a symbol), or of the histogram or summary that it is a part of; -1 where none does."""
    if about_of[metric] >= 0:
        return int(about_of[metric])
    lo, hi = spans[metric, 0], spans[metric, 1]
    for size in (4, 6, 7):  # _sum, _count, _bucket
        at = hi - size
        if at > lo and data[at] == 0x5F and data[at + 1] == (0x73 if size == 4 else 0x63 if size == 6 else 0x62):
            family = _known(data, lo, at, hash_key, slots, spans)
            if family > 0 and about_of[family] >= 0 and about[about_of[family], 0] in (HISTOGRAM_TYPE, GAUGE_HISTOGRAM_TYPE, SUMMARY_TYPE):
                return int(about_of[family])
    return -1


@njit(cache=True, nogil=True)
def transcode(data: Any, hash_key: Any, slots: Any, spans: Any, refs: Any, about: Any, about_of: Any, out: Any, sizes: Any) -> int:
    """The series of a 1.0 `WriteRequest` (uint8[n]) as those of a 2.0 `Request`, to `out`; answers `OK` or why it is none.

    `slots` int64, a power of two and at least twice as many as there may be texts, all -1 before; `spans` int64[t, 2] becomes where
    each symbol's text lies in `data` (the first is empty); `refs` int64[n + 2]; `about` int64[m, 3] has room for the metadata,
    `about_of` int64[t] is -1 before; `out` uint8[8 * n + 64]; `sizes` int64[2] becomes bytes of `out` and symbols. There are no more
    texts than n // 3 + 2.
    """
    spans[0, 0], spans[0, 1] = 0, 0
    symbols, fault = _about(data, hash_key, slots, spans, 1, about, about_of)
    if fault != OK:
        return fault
    to = 0
    at, end = 0, len(data)
    while at < end:
        tag, first, stop, fault = read_field(data, at, end)
        if fault != OK:
            return fault
        at = stop
        if tag != 0x0A:
            continue
        n, copied, i, told = 0, 0, first, -1
        while i < stop:
            inner, lo, hi, fault = read_field(data, i, stop)
            if fault != OK:
                return fault
            if inner == LABEL:
                name, name_end, value, value_end, k = 0, 0, 0, 0, lo
                while k < hi:
                    part, a, b, fault = read_field(data, k, hi)
                    if fault != OK:
                        return fault
                    if part == 0x0A:
                        name, name_end = a, b
                    elif part == 0x12:
                        value, value_end = a, b
                    k = b
                refs[n], symbols = _symbol(data, name, name_end, hash_key, slots, spans, symbols)
                refs[n + 1], symbols = _symbol(data, value, value_end, hash_key, slots, spans, symbols)
                if name_end - name == 8 and load_u64(data, name) == METRIC_NAME_BYTES:
                    told = _of_metric(data, refs[n + 1], hash_key, slots, spans, about, about_of)
                n += 2
            elif inner in (SAMPLE, HISTOGRAM):
                copied += hi - i
            i = hi
        packed = 0
        for k in range(n):
            packed += _varint_size(refs[k])
        size = 4 + _varint_size(about[told, 1]) + _varint_size(about[told, 2]) if told >= 0 else 0
        out[to] = 0x2A
        to = _put_varint(out, to + 1, 1 + _varint_size(packed) + packed + copied + (2 + size if told >= 0 else 0))
        out[to] = 0x0A
        to = _put_varint(out, to + 1, packed)
        for k in range(n):
            to = _put_varint(out, to, refs[k])
        i = first
        while i < stop:
            inner, _, hi, _ = read_field(data, i, stop)
            if inner in (SAMPLE, HISTOGRAM):
                out[to] = 0x12 if inner == SAMPLE else 0x1A
                for k in range(i + 1, hi):
                    out[to + k - i] = data[k]
                to += hi - i
            i = hi
        if told >= 0:
            # Metadata: type, help, unit.
            out[to], out[to + 1] = 0x2A, size
            out[to + 2], out[to + 3], out[to + 4] = 0x08, about[told, 0], 0x18
            to = _put_varint(out, to + 5, about[told, 1])
            out[to] = 0x20
            to = _put_varint(out, to + 1, about[told, 2])
    sizes[0], sizes[1] = to, symbols
    return OK
