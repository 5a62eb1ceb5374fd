"""Native histograms from protobuf to columns: remote write's messages and those of expositions, untrusted to the last byte.

Both say a histogram alike and number their fields differently, so a table gives each number its meaning. Counts are
checked as Prometheus checks them (`model/histogram`, `Validate`). Not here: what a fault means in words (`wire/native.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.hashing import load_u64
from vedette.kernels.remote_write import OK, TRUNCATED, VARINT, WIRE_TYPE, read_field, read_varint

NOTHING, COUNT_INT, COUNT_FLOAT, SUM, SCHEMA, THRESHOLD, ZERO_INT, ZERO_FLOAT, HINT, TIME, BOUNDS = range(11)
NEGATIVE_SPANS, NEGATIVE_DELTAS, NEGATIVE_COUNTS, POSITIVE_SPANS, POSITIVE_DELTAS, POSITIVE_COUNTS = range(11, 17)
START = 17
"""What a field is."""

SCHEMA_AT, TIME_AT, HINT_AT, POSITIVE_AT, NEGATIVE_AT, BOUNDS_AT, FAULT, DETAIL, OTHER, START_AT = range(10)
"""Columns of `heads`: schema, timestamp, hint, how many buckets and bounds, what is wrong with two numbers to it, start timestamp."""

FINE, BAD_SCHEMA, EXPONENTIAL_BOUNDS, COUNT_SMALL, COUNT_OTHER, NEGATIVE_COUNT, NEGATIVE_ZERO, INDEX_RANGE = range(8)
NEGATIVE_SIDE_COUNT, POSITIVE_SIDE_COUNT = range(21, 23)
NEGATIVE_SIDE_OFFSET, POSITIVE_SIDE_OFFSET, NEGATIVE_SIDE_BUCKETS, POSITIVE_SIDE_BUCKETS = range(9, 13)
CUSTOM_ZERO_COUNT, CUSTOM_ZERO_THRESHOLD, CUSTOM_NEGATIVE_SPANS, CUSTOM_NEGATIVE_BUCKETS = range(13, 17)
BOUNDS_ORDER, BOUNDS_INFINITE, BOUNDS_NAN, BOUNDS_FEW = range(17, 21)
"""What may be wrong with a histogram that is well-formed."""

_CUSTOM = -53


@njit(cache=True, nogil=True)
def _zigzag(value: int) -> int:
    """A sint field's number."""
    raw = np.uint64(value)
    return int(np.int64(raw >> np.uint64(1)) ^ -np.int64(raw & np.uint64(1)))


@njit(cache=True, nogil=True)
def _numbers(data: Any, tag: int, first: int, stop: int, at: int, out: Any) -> tuple[int, int]:
    """(how many, fault) after the zigzag numbers of one field, packed or alone, were put to `out` from `at` on."""
    if tag & 7 == 0:
        out[at] = _zigzag(first)
        return at + 1, OK
    if tag & 7 != 2:
        return at, WIRE_TYPE
    while first < stop:
        value, after = read_varint(data, first, stop)
        if after < 0:
            return at, TRUNCATED if after == -1 else VARINT
        out[at] = _zigzag(value)
        at, first = at + 1, after
    return at, OK


@njit(cache=True, nogil=True)
def _doubles(data: Any, tag: int, first: int, stop: int, at: int, out: Any) -> tuple[int, int]:
    """As `_numbers`, of float64 whose bits are put to `out` (uint64)."""
    if tag & 7 not in (1, 2) or (stop - first) % 8 != 0:
        return at, WIRE_TYPE
    while first < stop:
        out[at] = load_u64(data, first)
        at, first = at + 1, first + 8
    return at, OK


@njit(cache=True, nogil=True)
def _span(data: Any, at: int, end: int, number: int, spans: Any) -> int:
    """One BucketSpan to `spans[number]` (offset, length); answers a fault."""
    spans[number, 0], spans[number, 1] = 0, 0
    while at < end:
        tag, first, stop, fault = read_field(data, at, end)
        if fault != OK:
            return fault
        if tag == 0x08:
            spans[number, 0] = _zigzag(first)
        elif tag == 0x10:
            spans[number, 1] = first & 0xFFFFFFFF
        at = stop
    return OK


@njit(cache=True, nogil=True)
def _buckets(spans: Any, n: int, count: int, indices: Any, at: int) -> tuple[int, int, int]:
    """(fault, two numbers to it) after the indices of the buckets that spans name were put to `indices` from `at` on.

    Faults are 0 none, 1 an offset, 2 the number of buckets, 3 an index beyond 32 bits.
    """
    named = 0
    for k in range(n):
        if k > 0 and spans[k, 0] < 0:
            return 1, k + 1, spans[k, 0]
        named += spans[k, 1]
    if named != count:
        return 2, named, count
    index = 0
    for k in range(n):
        index += spans[k, 0]
        for _ in range(spans[k, 1]):
            if index < -(1 << 31) or index >= 1 << 31:
                return 3, index, 0
            indices[at] = index
            at, index = at + 1, index + 1
    return 0, 0, 0


@njit(cache=True, nogil=True)
def _counts(deltas: Any, floats: Any, n: int, whole: bool, cells: Any, at: int) -> int:
    """The first bucket that is negative, from 1 on, or 0, after counts were put to `cells` from `at` on."""
    value = 0
    for k in range(n):
        if whole:
            value += deltas[k]
            cells[at + k] = value
        else:
            cells[at + k] = floats[k]
        if cells[at + k] < 0:
            return k + 1
    return 0


@njit(cache=True, nogil=True)
def _bounds_fault(bounds: Any, lo: int, hi: int) -> int:
    for k in range(lo, hi):
        if np.isnan(bounds[k]):
            return BOUNDS_NAN
        if k > lo and bounds[k] <= bounds[k - 1]:
            return BOUNDS_ORDER
    if hi > lo and np.isinf(bounds[hi - 1]):
        return BOUNDS_INFINITE
    return FINE


@njit(cache=True, nogil=True)
def _kind_fault(schema: int, threshold: float, zero: float, spans: int, negative: int, bounds: Any, lo: int, hi: int) -> int:
    """What is wrong with the parts that a histogram of this schema has."""
    if schema == _CUSTOM:
        fault = _bounds_fault(bounds, lo, hi)
        if fault != FINE:
            return fault
        if zero != 0:
            return CUSTOM_ZERO_COUNT
        if threshold != 0:
            return CUSTOM_ZERO_THRESHOLD
        if spans > 0:
            return CUSTOM_NEGATIVE_SPANS
        return CUSTOM_NEGATIVE_BUCKETS if negative > 0 else FINE
    if schema < -4 or schema > 52:
        return BAD_SCHEMA
    return EXPONENTIAL_BOUNDS if hi > lo else FINE


@njit(cache=True, nogil=True)
def decode_histograms(
    data: Any,
    places: Any,
    meanings: Any,
    one_of: bool,
    heads: Any,
    thresholds: Any,
    cells: Any,
    indices: Any,
    bounds: Any,
    ends: Any,
    where: Any,
) -> int:
    """Read the histogram messages `data[places[i, 0]:places[i, 1]]` (int64[n, 2]); answers `OK` or why one is not well-formed.

    `meanings` int64[32] says what a field's number means; with `one_of` a histogram counts in floats where its float count
    is there, else where it is not zero. Out come `heads` int64[n, 10], `thresholds` float64[n], and end to end `cells` float64
    (count, sum, zero bucket, buckets), `indices` int32 and `bounds` float64, `ends` int64[n, 3] saying where each one's end;
    `where[0]` is the number of the one that is not well-formed. Room for cells: three and a message's bytes for each histogram; for
    indices and bounds its bytes. A fault that leaves it well-formed stands in its head, and it has no buckets then; of a negative count,
    its threshold is that count.
    """
    longest = 0
    for i in range(len(places)):
        longest = max(longest, places[i, 1] - places[i, 0])
    deltas, raw = np.empty((2, longest + 1), np.int64), np.empty((2, longest + 1), np.uint64)
    floats = raw.view(np.float64)
    spans, raw_bounds = np.empty((2, longest + 1, 2), np.int64), np.empty(longest + 1, np.uint64)
    real_bounds = raw_bounds.view(np.float64)
    word = np.empty(1, np.uint64)
    real = word.view(np.float64)
    n_delta, n_float, n_span = np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(2, np.int64)
    cell, index, bound = 0, 0, 0
    for i in range(len(places)):
        where[0] = i
        at, end = places[i, 0], places[i, 1]
        n_delta[:], n_float[:], n_span[:] = 0, 0, 0
        n_bounds = 0
        count, total, zero, threshold, whole = 0.0, 0.0, 0.0, 0.0, True
        schema, time, hint, start = 0, 0, 0, 0
        while at < end:
            tag, first, stop, fault = read_field(data, at, end)
            if fault != OK:
                return fault
            number, kind = tag >> 3, tag & 7
            meaning = meanings[number] if number < len(meanings) else NOTHING
            if meaning in (SUM, COUNT_FLOAT, ZERO_FLOAT, THRESHOLD):
                if kind != 1:
                    return WIRE_TYPE
                word[0] = load_u64(data, first)
                if meaning == SUM:
                    total = real[0]
                elif meaning == THRESHOLD:
                    threshold = real[0]
                elif one_of or real[0] > 0:
                    if meaning == COUNT_FLOAT:
                        count, whole = real[0], False
                    else:
                        zero = real[0]
                        whole = whole and one_of
            elif meaning in (COUNT_INT, ZERO_INT, SCHEMA, HINT, TIME, START):
                if kind != 0:
                    return WIRE_TYPE
                if meaning == COUNT_INT:
                    if one_of or whole:
                        count, whole = float(np.uint64(first)), True
                elif meaning == ZERO_INT:
                    zero = float(np.uint64(first)) if one_of or zero == 0 else zero
                elif meaning == SCHEMA:
                    schema = _zigzag(first)
                elif meaning == HINT:
                    hint = first if 0 <= first <= 3 else 0
                elif meaning == START:
                    start = first
                else:
                    time = first
            elif meaning in (POSITIVE_SPANS, NEGATIVE_SPANS):
                if kind != 2:
                    return WIRE_TYPE
                side = 0 if meaning == POSITIVE_SPANS else 1
                fault = _span(data, first, stop, n_span[side], spans[side])
                if fault != OK:
                    return fault
                n_span[side] += 1
            elif meaning in (POSITIVE_DELTAS, NEGATIVE_DELTAS):
                side = 0 if meaning == POSITIVE_DELTAS else 1
                n_delta[side], fault = _numbers(data, tag, first, stop, n_delta[side], deltas[side])
                if fault != OK:
                    return fault
            elif meaning in (POSITIVE_COUNTS, NEGATIVE_COUNTS):
                side = 0 if meaning == POSITIVE_COUNTS else 1
                n_float[side], fault = _doubles(data, tag, first, stop, n_float[side], raw[side])
                if fault != OK:
                    return fault
            elif meaning == BOUNDS:
                n_bounds, fault = _doubles(data, tag, first, stop, n_bounds, raw_bounds)
                if fault != OK:
                    return fault
            at = stop
        positive, negative = (n_delta[0], n_delta[1]) if whole else (n_float[0], n_float[1])
        heads[i, SCHEMA_AT], heads[i, TIME_AT], heads[i, HINT_AT] = schema, time, hint
        heads[i, START_AT] = start
        thresholds[i] = threshold
        cells[cell], cells[cell + 1], cells[cell + 2] = count, total, zero
        wrong, detail, other = _kind_fault(schema, threshold, zero, n_span[1], negative, real_bounds, 0, n_bounds), schema, 0
        for side in range(2):
            if wrong == FINE:
                at_cell = cell + 3 + (0 if side == 0 else positive)
                at_index = index + (0 if side == 0 else positive)
                n = positive if side == 0 else negative
                fault, detail, other = _buckets(spans[side], n_span[side], n, indices, at_index)
                if fault == 1:
                    wrong = POSITIVE_SIDE_OFFSET if side == 0 else NEGATIVE_SIDE_OFFSET
                elif fault == 2:
                    wrong = POSITIVE_SIDE_BUCKETS if side == 0 else NEGATIVE_SIDE_BUCKETS
                elif fault == 3:
                    wrong = INDEX_RANGE
                if (
                    wrong == FINE
                    and schema == _CUSTOM
                    and side == 0
                    and n > 0
                    and (indices[index + n - 1] > n_bounds or indices[index] < 0)
                ):
                    wrong, detail, other = BOUNDS_FEW, n_bounds, indices[index + n - 1] + 1
                if wrong == FINE:
                    detail = _counts(deltas[side], floats[side], n, whole, cells, at_cell)
                    if detail > 0:
                        wrong = POSITIVE_SIDE_COUNT if side == 0 else NEGATIVE_SIDE_COUNT
                        thresholds[i] = cells[at_cell + detail - 1]
        if wrong == FINE:
            found = zero
            for k in range(positive + negative):
                found += cells[cell + 3 + k]
            if whole:
                if np.isnan(total):
                    wrong = COUNT_SMALL if found > count else FINE
                elif found != count:
                    wrong = COUNT_OTHER
                detail, other = int(found), int(count)
            elif count < 0:
                wrong, thresholds[i] = NEGATIVE_COUNT, count
            elif zero < 0:
                wrong, thresholds[i] = NEGATIVE_ZERO, zero
        heads[i, FAULT], heads[i, DETAIL], heads[i, OTHER] = wrong, detail, other
        if wrong != FINE:
            positive, negative, n_bounds = 0, 0, 0
        heads[i, POSITIVE_AT], heads[i, NEGATIVE_AT], heads[i, BOUNDS_AT] = positive, negative, n_bounds
        for k in range(n_bounds):
            bounds[bound + k] = real_bounds[k]
        cell += 3 + positive + negative
        index += positive + negative
        bound += n_bounds
        ends[i, 0], ends[i, 1], ends[i, 2] = cell, index, bound
    return OK


@njit(cache=True, nogil=True)
def _same_layout(heads: Any, threshold_bits: Any, indices: Any, bound_bits: Any, ends: Any, a: int, b: int) -> bool:
    for c in (SCHEMA_AT, POSITIVE_AT, NEGATIVE_AT, BOUNDS_AT):
        if heads[a, c] != heads[b, c]:
            return False
    if threshold_bits[a] != threshold_bits[b]:
        return False
    n = heads[a, POSITIVE_AT] + heads[a, NEGATIVE_AT]
    for k in range(n):
        if indices[ends[a, 1] - n + k] != indices[ends[b, 1] - n + k]:
            return False
    m = heads[a, BOUNDS_AT]
    same = True
    for k in range(m):
        same &= bound_bits[ends[a, 2] - m + k] == bound_bits[ends[b, 2] - m + k]
    return same


@njit(cache=True, nogil=True)
def layouts(heads: Any, threshold_bits: Any, indices: Any, bound_bits: Any, ends: Any, key: Any, table: Any, out: Any, firsts: Any) -> int:
    """Number the layouts of what `decode_histograms` read: `out` int32[n]; `firsts` int64[n] is the first histogram of each number.

    `threshold_bits` and `bound_bits` are uint64 views; `table` int64, twice as long as n or more and a power of two, -1 throughout;
    `key` is `PROCESS_KEY`. Answers how many there are.
    """
    count = 0
    for i in range(len(heads)):
        h = key[0] ^ threshold_bits[i]
        for c in (SCHEMA_AT, POSITIVE_AT, NEGATIVE_AT, BOUNDS_AT):
            h = (h ^ np.uint64(heads[i, c])) * np.uint64(0x9E3779B97F4A7C15)
            h ^= h >> np.uint64(32)
        n = heads[i, POSITIVE_AT] + heads[i, NEGATIVE_AT]
        for k in range(n):
            h = (h ^ np.uint64(indices[ends[i, 1] - n + k])) * np.uint64(0x9E3779B97F4A7C15)
            h ^= h >> np.uint64(32)
        m = heads[i, BOUNDS_AT]
        for k in range(m):
            h = (h ^ bound_bits[ends[i, 2] - m + k]) * key[1]
            h ^= h >> np.uint64(32)
        slot = np.int64(h & np.uint64(len(table) - 1))
        while table[slot] >= 0 and not _same_layout(heads, threshold_bits, indices, bound_bits, ends, firsts[table[slot]], i):
            slot = (slot + 1) & (len(table) - 1)
        if table[slot] < 0:
            table[slot] = count
            firsts[count] = i
            count += 1
        out[i] = table[slot]
    return count
