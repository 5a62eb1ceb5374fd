"""Remote write 2.0 as columns: one pass over the symbols of a `Request`, one over its series, untrusted to the last byte.

Series name their labels by numbers in a table that each request brings anew, so the key of a series is written out:
`name 0xff value 0xff` for each label, which is the canonical key where the labels are sorted. Not here: snappy, what makes
a label set valid (`canonical_pairs` finds the plain cases), what histograms and exemplars hold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.hashing import hash_region, load_u64
from vedette.kernels.remote_write import (
    EXTRAS,
    FULL,
    METADATA,
    METRIC_NAME_BYTES,
    OK,
    SAMPLES,
    SERIES,
    TRUNCATED,
    VARINT,
    WHERE,
    _decode_sample,
    _name_order,
    _plain_time,
    _valid_utf8,
    read_field,
    read_varint,
)

KEY_BYTES, SYMBOLS, STARTS = 6, 7, 8
"""Further slots of `counts`: bytes of keys, symbols, whether any sample has a start timestamp."""

UTF8, ODD, RANGE, KEYS_FULL = 16, 17, 18, 19
"""Further answers: a symbol is not UTF-8, labels are not pairs, a number of no symbol, more keys than there is room for."""

HISTOGRAM, EXEMPLAR = 0x1A, 0x22
"""What an extra is: the tag of its field."""


@njit(cache=True, nogil=True)
def read_refs(data: Any, at: int, end: int, out: Any, n: int) -> tuple[int, int]:
    """(how many, fault) after the varints of a packed field were put to `out` from `n` on."""
    while at < end:
        if n >= len(out):
            return n, FULL
        if data[at] < 0x80:
            out[n] = int(data[at])
            at += 1
        else:
            value, at = read_varint(data, at, end)
            if at < 0:
                return n, TRUNCATED if at == -1 else VARINT
            out[n] = value
        n += 1
    return n, OK


@njit(cache=True, nogil=True)
def _metadata(data: Any, at: int, end: int, out: Any) -> int:
    """One Metadata message to `out` (name is the caller's, type, help, unit); answers a fault."""
    out[1], out[2], out[3] = 0, 0, 0
    while at < end:
        tag, first, stop, fault = read_field(data, at, end)
        if fault != OK:
            return fault
        if tag == 0x08:
            out[1] = first
        elif tag == 0x18:
            out[2] = first
        elif tag == 0x20:
            out[3] = first
        at = stop
    return OK


@njit(cache=True, nogil=True)
def _symbols(data: Any, symbols: Any, counts: Any) -> int:
    """Where each symbol lies, to `symbols`; answers a code."""
    at, end, n = 0, len(data), 0
    while at < end:
        tag, first, stop, fault = read_field(data, at, end)
        if fault != OK:
            counts[WHERE] = stop
            return fault
        if tag == 0x22:
            if n >= len(symbols):
                return FULL
            if not _valid_utf8(data, first, stop):
                counts[WHERE] = first
                return UTF8
            symbols[n, 0], symbols[n, 1] = first, stop
            n += 1
        at = stop
    counts[SYMBOLS] = n
    return OK


@njit(cache=True, nogil=True)
def _write_key(data: Any, symbols: Any, count: int, refs: Any, n: int, keys: Any, at: int) -> tuple[int, int, int]:
    """(end of the key, symbol of the metric's name or -1, fault) after the key of labels `refs[:n]` was written from `at` on."""
    name = -1
    if n % 2 != 0:
        return at, name, ODD
    for k in range(0, n, 2):
        if refs[k] < 0 or refs[k] >= count or refs[k + 1] < 0 or refs[k + 1] >= count:
            return at, name, RANGE
        lo, hi = symbols[refs[k], 0], symbols[refs[k], 1]
        low, high = symbols[refs[k + 1], 0], symbols[refs[k + 1], 1]
        if low == high:
            continue  # an empty value is no label
        if at + hi - lo + high - low + 2 > len(keys):
            return at, name, KEYS_FULL
        if hi - lo == 8 and load_u64(data, lo) == METRIC_NAME_BYTES:
            name = refs[k + 1]
        for i in range(lo, hi):
            keys[at] = data[i]
            at += 1
        keys[at] = 0xFF
        at += 1
        for i in range(low, high):
            keys[at] = data[i]
            at += 1
        keys[at] = 0xFF
        at += 1
    return at, name, OK


@njit(cache=True, nogil=True)
def _start(data: Any, at: int, end: int) -> int:
    """The start timestamp in a Sample message that `_decode_sample` has read whole."""
    start = 0
    while at < end:
        tag, first, stop, _ = read_field(data, at, end)
        if tag == 0x18:
            start = first
        at = stop
    return start


@njit(cache=True, nogil=True)
def decode(
    data: Any,
    seed: np.uint64,
    hash_key: Any,
    symbols: Any,
    refs: Any,
    keys: Any,
    key_end: Any,
    hashes: Any,
    offsets: Any,
    timestamps: Any,
    bits: Any,
    starts: Any,
    metadata: Any,
    extras: Any,
    counts: Any,
) -> int:
    """Fill the columns of a `SampleBatch` from `data` (uint8[...]); answers a code from `OK` on.

    As in `remote_write.decode`, but for `symbols` int64[s, 2] (where each lies), `refs` int64 (room for one series' labels),
    `keys` uint8 (all series' keys, that of row i ending at `key_end[i]`), `metadata` int64[r, 4] (symbols of name, type, help and
    unit; name -1 where a series has none) and `counts` int64[9]. `starts` int64[s], all 0 before, is written to where a sample has
    a start timestamp (its own, or that of its series).
    """
    counts[:] = 0
    fault = _symbols(data, symbols, counts)
    if fault != OK:
        return fault
    row, sample, meta, key_at = 0, 0, 0, 0
    at, end = 0, len(data)
    offsets[0] = 0
    while at < end:
        tag, first, stop, _ = read_field(data, at, end)
        at = stop
        if tag != 0x2A:
            continue
        if row >= len(key_end):
            return FULL
        n, i, described, created = 0, first, -1, 0
        while i < stop:
            # A sample as nearly every sender writes it.
            if stop - i >= 13 and data[i] == 0x12 and data[i + 1] < 0x80 and data[i + 2] == 0x09 and data[i + 11] == 0x10:
                after = i + 2 + int(data[i + 1])
                time = _plain_time(data, i + 12, after) if after <= stop and sample < len(timestamps) else -1
                if time >= 0:
                    timestamps[sample], bits[sample] = time, load_u64(data, i + 3)
                    sample, i = sample + 1, after
                    continue
            tag, lo, hi, fault = read_field(data, i, stop)
            if fault != OK:
                counts[WHERE] = hi
                return fault
            if tag == 0x0A:
                n, fault = read_refs(data, lo, hi, refs, n)
            elif tag == 0x08:
                if n >= len(refs):
                    return FULL
                refs[n] = lo
                n += 1
            elif tag == 0x12:
                if sample >= len(timestamps):
                    return FULL
                timestamps[sample], bits[sample], _, fault = _decode_sample(data, lo, hi)
                start = _start(data, lo, hi) if fault == OK else 0
                if start != 0:
                    starts[sample] = start
                    counts[STARTS] = 1
                sample += 1
            elif tag == 0x30:
                created = lo
            elif tag in (HISTOGRAM, EXEMPLAR):
                if counts[EXTRAS] >= len(extras):
                    return FULL
                extra = counts[EXTRAS]
                extras[extra, 0], extras[extra, 1], extras[extra, 2], extras[extra, 3] = tag, row, lo, hi
                counts[EXTRAS] += 1
            elif tag == 0x2A:
                if meta >= len(metadata):
                    return FULL
                fault = _metadata(data, lo, hi, metadata[meta])
                described = meta
            if fault != OK:
                counts[WHERE] = lo
                return fault
            i = hi
        if created != 0:
            counts[STARTS] = 1
            for k in range(offsets[row], sample):
                if starts[k] == 0:
                    starts[k] = created
        begin = key_at
        key_at, name, fault = _write_key(data, symbols, counts[SYMBOLS], refs, n, keys, begin)
        if fault in (ODD, RANGE):
            if begin + 3 > len(keys):
                return KEYS_FULL
            # The others of the request are not at fault: this one gets a key that is no series', and that says why.
            keys[begin], keys[begin + 1], keys[begin + 2] = 0xFF, fault, 0xFF
            key_at, name, fault = begin + 3, -1, OK
        if fault != OK:
            counts[WHERE] = first
            return fault
        if described >= 0 and name >= 0:
            metadata[meta, 0] = name
            # Series of one metric mostly stand together, and say the same of it.
            same = meta > 0
            for k in range(4):
                same = same and metadata[meta, k] == metadata[meta - 1, k]
            if not same:
                meta += 1
        key_end[row] = key_at
        hashes[row, 0], hashes[row, 1] = hash_region(keys, begin, key_at, seed, hash_key)
        row += 1
        offsets[row] = sample
    counts[SERIES], counts[SAMPLES], counts[METADATA], counts[KEY_BYTES] = row, sample, meta, key_at
    return OK


@njit(cache=True, nogil=True)
def canonical_pairs(keys: Any, starts: Any, ends: Any) -> int:
    """The first key `keys[starts[i]:ends[i]]` that is not canonical or names no metric, -1 where all are and do. Symbols are UTF-8."""
    for row in range(len(starts)):
        at, end = starts[row], ends[row]
        previous, previous_end, named = -1, -1, False
        while at < end:
            stop = at
            while keys[stop] != 0xFF:
                stop += 1
            if stop == at or (previous >= 0 and _name_order(keys, previous, previous_end, at, stop) >= 0):
                return row
            if stop - at == 8 and load_u64(keys, at) == METRIC_NAME_BYTES:
                named = True
            previous, previous_end = at, stop
            at = stop + 1
            while keys[at] != 0xFF:
                at += 1
            at += 1
        if not named:
            return row
    return -1
