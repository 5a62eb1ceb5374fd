"""Remote write 1.0 as columns: one pass over the protobuf of a `WriteRequest`, untrusted to the last byte.

Only structure is read: a series' labels stay bytes (`wire/remote_write.py` parses them, once). Wire format after
https://protobuf.dev/programming-guides/encoding and `prompb/remote.proto`. Where histograms and exemplars lie is
told, not what they hold (`native_wire.py`). Not here: snappy, UTF-8 and what makes a label set valid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.hashing import hash_region, load_u64

OK, FULL, TRUNCATED, VARINT, WIRE_TYPE, SPLIT_LABELS, FIELD_ZERO = range(7)
"""What `decode` answers: done, an output is too small, or what is wrong at the answered offset."""

METRIC_NAME_BYTES = np.uint64(int.from_bytes(b"__name__", "little"))

MIN_KEY = 15
"""The shortest label region that names a series: a Label of `__name__` and one character."""

SERIES, SAMPLES, METADATA, EXTRAS, SHORT_KEY, WHERE = range(6)
"""Slots of `counts`: rows, samples, metadata spans, extras, series whose keys are short, offset of a fault."""

SHORT_START, SHORT_END, SHORT_SAMPLES = 6, 7, 8
"""Further ones of this version: where the first short key lies, how many samples and histograms such series have."""

HISTOGRAM, EXEMPLAR = 0x22, 0x1A
"""What an extra is: the tag of its field."""


@njit(cache=True, nogil=True)
def read_varint(data: Any, at: int, end: int) -> tuple[int, int]:
    """(value, next offset) of the varint at `at`; the next offset is -1 where it is cut off, -2 where it has over ten bytes."""
    value = np.uint64(0)
    shift = np.uint64(0)
    for _ in range(10):
        if at >= end:
            return 0, -1
        byte = data[at]
        at += 1
        value |= np.uint64(byte & 0x7F) << shift
        if byte < 0x80:
            return int(np.int64(value)), at
        shift += np.uint64(7)
    return 0, -2


@njit(cache=True, nogil=True)
def read_field(data: Any, at: int, end: int) -> tuple[int, int, int, int]:
    """(tag, first byte, end, fault) of the field at `at`: where its content lies, or why it has none.

    `tag` holds number and wire type as on the wire; for a varint field `first byte` is its value. A fault is one of
    the codes above, and `end` is then where it was found.
    """
    tag, i = read_varint(data, at, end)
    if i < 0:
        return 0, 0, at, TRUNCATED if i == -1 else VARINT
    if tag < 8 or tag > 0xFFFFFFFF:
        return 0, 0, at, FIELD_ZERO
    kind = tag & 7
    if kind == 2:
        size, start = read_varint(data, i, end)
        if start < 0:
            return 0, 0, i, TRUNCATED if start == -1 else VARINT
        # Compared this way round, since start + size may overflow.
        if size < 0 or size > end - start:
            return 0, 0, i, TRUNCATED
        return tag, start, start + size, OK
    if kind == 0:
        value, stop = read_varint(data, i, end)
        if stop < 0:
            return 0, 0, i, TRUNCATED if stop == -1 else VARINT
        return tag, value, stop, OK
    if kind == 1 or kind == 5:
        width = 8 if kind == 1 else 4
        if end - i < width:
            return 0, 0, i, TRUNCATED
        return tag, i, i + width, OK
    return 0, 0, at, WIRE_TYPE


@njit(cache=True, nogil=True)
def _decode_sample(data: Any, at: int, end: int) -> tuple[int, np.uint64, int, int]:
    """(timestamp, value's bits, fault offset, fault) of one Sample message; absent fields are zero, the last of repeated ones counts."""
    timestamp, bits = 0, np.uint64(0)
    # As every sender writes it: a double, then a varint, and nothing else.
    if end - at >= 11 and data[at] == 0x09 and data[at + 9] == 0x10:
        value, stop = read_varint(data, at + 10, end)
        if stop == end:
            return value, load_u64(data, at + 1), 0, OK
    while at < end:
        tag, first, stop, fault = read_field(data, at, end)
        if fault != OK:
            return 0, bits, stop, fault
        if tag == 0x09:
            bits = load_u64(data, first)
        elif tag == 0x10:
            timestamp = first
        at = stop
    return timestamp, bits, 0, OK


@njit(cache=True, nogil=True)
def _decode_series(
    data: Any, at: int, end: int, row: int, sample: int, key_start: Any, key_end: Any, timestamps: Any, bits: Any, extras: Any, counts: Any
) -> tuple[int, int]:
    """(next sample, fault) after one TimeSeries message."""
    first_label, last_label, split = -1, -1, False
    while at < end:
        tag, first, stop, fault = read_field(data, at, end)
        if fault != OK:
            counts[WHERE] = stop
            return sample, fault
        if tag == 0x0A:
            if first_label < 0:
                first_label = at
            elif last_label != at:
                split = True
            last_label = stop
            if split:
                counts[WHERE] = at
                return sample, SPLIT_LABELS
        elif tag == 0x12:
            if sample >= len(timestamps):
                return sample, FULL
            timestamp, value, where, fault = _decode_sample(data, first, stop)
            if fault != OK:
                counts[WHERE] = where
                return sample, fault
            timestamps[sample] = timestamp
            bits[sample] = value
            sample += 1
        elif tag in (HISTOGRAM, EXEMPLAR):
            if counts[EXTRAS] >= len(extras):
                return sample, FULL
            extra = counts[EXTRAS]
            extras[extra, 0], extras[extra, 1], extras[extra, 2], extras[extra, 3] = tag, row, first, stop
            counts[EXTRAS] += 1
        at = stop
    if first_label < 0:
        first_label = last_label = at
    key_start[row] = first_label
    key_end[row] = last_label
    return sample, OK


@njit(cache=True, nogil=True)
def _plain_labels(data: Any, at: int, end: int) -> int:
    """The end of the labels at `at` where they are written as every sender writes them, -1 where the careful way is needed."""
    while end - at >= 2 and data[at] == 0x0A:
        size, at = int(data[at + 1]), at + 2
        if size >= 0x80:
            if at >= end or data[at] >= 0x80:
                return -1
            size, at = (size & 0x7F) | int(data[at]) << 7, at + 1
        at += size
        if at > end:
            return -1
    return at


@njit(cache=True, nogil=True)
def _plain_time(data: Any, at: int, end: int) -> int:
    """The varint that fills `data[at:end]`, -1 where it does not (or is negative): the careful way is needed then."""
    value, shift = 0, 0
    while at < end:
        byte = int(data[at])
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if byte < 0x80:
            return value if at == end and shift <= 56 else -1
    return -1


@njit(cache=True, nogil=True)
def _valid_utf8(data: Any, at: int, end: int) -> bool:
    """Whether `data[at:end]` is UTF-8 as the Unicode standard (table 3-7) has it: no overlong forms, no surrogates."""
    while at < end:
        # Nearly all text is ASCII: eight bytes at a time.
        if end - at >= 8 and load_u64(data, at) & np.uint64(0x8080808080808080) == 0:
            at += 8
            continue
        lead = data[at]
        at += 1
        if lead < 0x80:
            continue
        low, high = 0x80, 0xBF
        if 0xC2 <= lead <= 0xDF:
            more = 1
        elif 0xE0 <= lead <= 0xEF:
            more = 2
            if lead == 0xE0:
                low = 0xA0
            elif lead == 0xED:
                high = 0x9F
        elif 0xF0 <= lead <= 0xF4:
            more = 3
            if lead == 0xF0:
                low = 0x90
            elif lead == 0xF4:
                high = 0x8F
        else:
            return False
        if end - at < more:
            return False
        for k in range(more):
            if data[at + k] < low or data[at + k] > high:
                return False
            low, high = 0x80, 0xBF
        at += more
    return True


@njit(cache=True, nogil=True)
def _name_order(data: Any, a: int, a_end: int, b: int, b_end: int) -> int:
    """Below 0, 0 or above 0 as `data[a:a_end]` sorts before, with or after `data[b:b_end]`, by byte."""
    for k in range(min(a_end - a, b_end - b)):
        if data[a + k] != data[b + k]:
            return -1 if data[a + k] < data[b + k] else 1
    return (a_end - a) - (b_end - b)


@njit(cache=True, nogil=True)
def _label_spans(data: Any, at: int, end: int) -> tuple[int, int, int, int, int]:
    """(name, its end, value, its end, the label's end) of the Label field at `at`; the name is -1 where it is not one."""
    # As every sender writes it, both texts short: 0a size 0a n name 12 m value.
    if end - at >= 6 and data[at] == 0x0A and data[at + 2] == 0x0A and data[at + 1] < 0x80:
        stop = at + 2 + int(data[at + 1])
        name_end = at + 4 + int(data[at + 3])
        if stop <= end and name_end + 2 <= stop and data[name_end] == 0x12 and name_end + 2 + int(data[name_end + 1]) == stop:
            return at + 4, name_end, name_end + 2, stop, stop
    tag, label, label_end, fault = read_field(data, at, end)
    if fault != OK or tag != 0x0A:
        return -1, 0, 0, 0, 0
    name, name_end, value, value_end = label, label, label, label
    inner = label
    while inner < label_end:
        tag, first, stop, fault = read_field(data, inner, label_end)
        if fault != OK:
            return -1, 0, 0, 0, 0
        if tag == 0x0A:
            name, name_end = first, stop
        elif tag == 0x12:
            value, value_end = first, stop
        inner = stop
    return name, name_end, value, value_end, label_end


@njit(cache=True, nogil=True)
def _all_ascii(data: Any, at: int, end: int) -> Any:
    """Whether no byte of `data[at:end]` is above 127."""
    found = np.uint64(0)
    while end - at >= 8:
        found |= load_u64(data, at)
        at += 8
    while at < end:
        found |= np.uint64(data[at])
        at += 1
    return found & np.uint64(0x8080808080808080) == 0


@njit(cache=True, nogil=True)
def _canonical_labels(data: Any, at: int, end: int, out: Any, to: int) -> int:
    """Write one label region's canonical key to `out` from `to` on; answers its end, -1 where the region names no valid series."""
    previous, previous_end, named = -1, -1, False
    # Nearly all text is ASCII: looked at once, not text by text.
    ascii_only = _all_ascii(data, at, end)
    while at < end:
        name, name_end, value, value_end, label_end = _label_spans(data, at, end)
        if name < 0:
            return -1
        if name == name_end or (previous >= 0 and _name_order(data, previous, previous_end, name, name_end) >= 0):
            return -1
        if not ascii_only and not (_valid_utf8(data, name, name_end) and _valid_utf8(data, value, value_end)):
            return -1
        previous, previous_end = name, name_end
        if value < value_end:
            if name_end - name == 8 and load_u64(data, name) == METRIC_NAME_BYTES:
                named = True
            for k in range(name, name_end):
                out[to] = data[k]
                to += 1
            out[to] = 0xFF
            to += 1
            for k in range(value, value_end):
                out[to] = data[k]
                to += 1
            out[to] = 0xFF
            to += 1
        at = label_end
    return to if named else -1


@njit(cache=True, nogil=True)
def canonical_keys(data: Any, starts: Any, ends: Any, out: Any, offsets: Any) -> int:
    """The canonical keys of the label regions `data[starts[i]:ends[i]]`, end to end in `out`, `offsets` int64[n + 1].

    `out` uint8 must be as long as the regions together. Answers the first region that names no valid series, -1 if none.
    """
    offsets[0] = 0
    for row in range(len(starts)):
        to = _canonical_labels(data, starts[row], ends[row], out, offsets[row])
        if to < 0:
            return row
        offsets[row + 1] = to
    return -1


@njit(cache=True, nogil=True)
def decode(
    data: Any,
    seed: np.uint64,
    hash_key: Any,
    key_start: Any,
    key_end: Any,
    hashes: Any,
    offsets: Any,
    timestamps: Any,
    bits: Any,
    meta_spans: Any,
    extras: Any,
    counts: Any,
) -> int:
    """Fill the columns of a `SampleBatch` from `data` (uint8[...]); answers a code from `OK` on.

    `key_start`, `key_end` int64[r], `hashes` uint64[r, 2], `offsets` int64[r + 1], `timestamps` int64[s], `bits`
    uint64[s], `meta_spans` int64[m, 2], `extras` int64[x, 4] (what it is, its row, where it lies) bound what is taken: `FULL`
    says that one of them was too small. `counts` int64[9].
    """
    counts[:] = 0
    row, sample, meta = 0, 0, 0
    at, end = 0, len(data)
    offsets[0] = 0
    while at < end:
        tag, first, stop, fault = read_field(data, at, end)
        if fault != OK:
            counts[WHERE] = stop
            return fault
        if tag == 0x0A:
            if row >= len(key_start):
                return FULL
            labels_end = _plain_labels(data, first, stop)
            i, taken = labels_end, sample
            while first <= i < stop:
                # A sample as nearly every sender writes it; anything else sends the series the careful way, four times slower.
                after = i + 2 + int(data[i + 1]) if stop - i >= 13 else stop + 1
                time = _plain_time(data, i + 12, after) if after <= stop and taken < len(timestamps) else -1
                if time < 0 or data[i] != 0x12 or data[i + 1] >= 0x80 or data[i + 2] != 0x09 or data[i + 11] != 0x10:
                    i = -1
                else:
                    timestamps[taken] = time
                    bits[taken] = load_u64(data, i + 3)
                    taken += 1
                    i = after
            if i == stop:
                key_start[row], key_end[row] = first, labels_end
                sample = taken
            else:
                sample, fault = _decode_series(data, first, stop, row, sample, key_start, key_end, timestamps, bits, extras, counts)
                if fault != OK:
                    return fault
            if key_end[row] - key_start[row] < MIN_KEY:
                # Too short to name a series: left out, and the caller says what is wrong with it. So rows stay few.
                if counts[SHORT_KEY] == 0:
                    counts[SHORT_START], counts[SHORT_END] = key_start[row], key_end[row]
                counts[SHORT_KEY] += 1
                counts[SHORT_SAMPLES] += sample - offsets[row]
                sample = offsets[row]
                while counts[EXTRAS] > 0 and extras[counts[EXTRAS] - 1, 1] == row:
                    counts[EXTRAS] -= 1
                    counts[SHORT_SAMPLES] += 1 if extras[counts[EXTRAS], 0] == HISTOGRAM else 0
                at = stop
                continue
            hashes[row, 0], hashes[row, 1] = hash_region(data, key_start[row], key_end[row], seed, hash_key)
            row += 1
            offsets[row] = sample
        elif tag == 0x1A:
            if meta >= len(meta_spans):
                return FULL
            meta_spans[meta, 0] = first
            meta_spans[meta, 1] = stop
            meta += 1
        at = stop
    counts[SERIES] = row
    counts[SAMPLES] = sample
    counts[METADATA] = meta
    return OK
