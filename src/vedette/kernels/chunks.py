"""Chunks: samples of one series end to end, in two bytes each or so, written one by one and read from the front.

An arena is int64 words, in units of eight (64 bytes). A chunk is one unit or two, and is known by its first unit's number, 0
for none:

    byte  0  the first sample's time, int64 ms
          8  the chunk before it in its series, int32
         12  how much newer than the first its newest sample is, int32 ms
         16  its samples; 17 the bytes in use from 20 on; 18 its units, `| FALLS`; 19 the scale that holds after them, `| CLOSED`
         20  the samples

A sample is, each where it is needed, `SCALE` and the scale from here on (value = whole / 10^scale); `TIME` and by how much
the distance to the sample before differs from the last one, as a zigzag varint; then its value: below 192 the zigzag
difference of the wholes, in the lower six bits and 0, 1 or 2 bytes more (least significant first) as the upper two say;
`WHOLE + n - 1` the same in n bytes (least significant first); `BITS + n - 1` the lower n bytes of the exclusive or of the bit
patterns. The sample before the first is 0 at scale 0. What is no decimal number (stale markers, ratios) costs up to 9 bytes, a value like
the last one 1. Times need not ascend. Not here: which chunk belongs to whom (`head.py`); nothing of this is ever written to disk.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.hashing import load_u64

UNIT_WORDS = 8
UNIT_BYTES = 64
HEADER_BYTES = 20

PREVIOUS, SPAN = 2, 3
"""Places in a chunk as int32s."""
SAMPLES, USED, UNITS, AT_SCALE = 16, 17, 18, 19
"""Places in a chunk as bytes."""

FALLS = 128
"""Said beside the units: one of its samples is below the one before it in its series, or one of both is no number."""

MOST_SAMPLES = 255
LONGEST = 32
"""No sample takes more bytes."""

WHOLE, BITS, SCALE, TIME = 192, 200, 208, 209
CLOSED = 128
"""Said beside a scale: a value was no decimal number, and the search is not repeated in this chunk."""

SCALES = 10
_SHORT = 1 << 22
_TENS = np.array([float(10**k) for k in range(SCALES)])
_LARGEST = float(1 << 50)
_TWO_BITS = np.uint64(0xC0C0C0C0C0C0C0C0)
"""Of eight bytes, those that say how many more a sample has."""
_U1, _U2, _U4, _U8, _BYTE = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(8), np.uint64(255)
_ONES, _FIVE_BITS = np.uint64(0x0101010101010101), np.uint64(0x1F1F1F1F1F1F1F1F)
_HALF, _ALL = np.uint64((1 << 32) - 1), np.uint64((1 << 64) - 1)


@njit(cache=True, nogil=True, error_model="numpy")
def _nearest(value: float, scale: Any) -> int:
    """The whole number at `scale` that stands for `value` to its successor; 0 for what is too large or no number."""
    scaled = value * _TENS[scale]
    if -_LARGEST < scaled < _LARGEST:
        return int(np.rint(scaled))
    return 0


@njit(cache=True, nogil=True, error_model="numpy")
def _fits(value: float, bits: int, whole: int, scale: int) -> bool:
    """Whether `whole` at `scale` is exactly `value`; minus zero is not 0."""
    return whole / _TENS[scale] == value and (whole != 0 or bits == 0)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def short(value: float, bits: int, before: float, scale: Any) -> int:
    """The zigzag difference of `value` and the one before it, -1 where that is not what stands for it, or does not fit `put_short`."""
    whole = _nearest(value, scale)
    step = whole - _nearest(before, scale)
    zigzag = step << 1 ^ step >> 63
    return zigzag if zigzag < _SHORT and _fits(value, bits, whole, scale) else -1


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def put_short(data: Any, at: Any, zigzag: int) -> int:
    """Write what `short` answered at `at`, where three bytes are free; answers how many are used."""
    # Without a branch for the length, since it is anyone's guess.
    more = int(zigzag >= 64) + int(zigzag >= 16384)
    data[at] = more << 6 | zigzag & 63
    data[at + 1] = zigzag >> 6 & 255
    data[at + 2] = zigzag >> 14
    return 1 + more


@njit(cache=True, nogil=True, error_model="numpy")
def _encode(out: Any, value: float, bits: int, before: float, before_bits: int, scale: Any, bend: Any) -> tuple[int, int]:
    """Write one sample to `out` uint8[LONGEST]; answers (its bytes, the scale after it, `| CLOSED` maybe).

    `before` is the sample before it in the chunk, `scale` what holds after that, `bend` by how much the distance of times changed.
    """
    n, at = 0, scale & 15
    whole = _nearest(value, at)
    fits = _fits(value, bits, whole, at)
    if not fits and scale < CLOSED and value - value == 0.0:
        for finer in range(at + 1, SCALES):
            whole = _nearest(value, finer)
            fits = _fits(value, bits, whole, finer)
            if fits:
                out[0], out[1] = SCALE, finer
                n, at, scale = 2, finer, finer
                break
        if not fits:
            scale |= CLOSED
    if bend != 0:
        out[n] = TIME
        n += 1
        rest = np.uint64(bend << 1 ^ bend >> 63)
        while rest >= np.uint64(128):
            out[n] = np.uint8(rest & np.uint64(127) | np.uint64(128))
            rest >>= np.uint64(7)
            n += 1
        out[n] = np.uint8(rest)
        n += 1
    if fits:
        step = whole - _nearest(before, at)
        zigzag = step << 1 ^ step >> 63
        if zigzag < _SHORT:
            return n + put_short(out, n, zigzag), scale
        token, rest = WHOLE, np.uint64(zigzag)
    else:
        token, rest = BITS, np.uint64(bits ^ before_bits)
    size = 0
    while size == 0 or rest != np.uint64(0):
        size += 1
        out[n + size] = np.uint8(rest & np.uint64(255))
        rest >>= np.uint64(8)
    out[n] = token + size - 1
    return n + size + 1, scale


@njit(cache=True, nogil=True, error_model="numpy")
def put(
    data: Any, at: Any, room: Any, value: float, bits: int, before: float, before_bits: int, scale: Any, bend: Any, code: Any
) -> tuple[int, int]:
    """Write one sample to `data` uint8[...] at `at`; answers (its bytes, the scale after it, `| CLOSED` maybe), 0 bytes where it needs
    more than `room`: then nothing was written.

    `before` is the sample before it in the chunk, `scale` what holds after that, `bend` by how much the distance of times changed.
    `code` is uint8[LONGEST], to work in.
    """
    size, after = _encode(code, value, bits, before, before_bits, scale, bend)
    if size > room:
        return 0, scale
    for i in range(size):
        data[at + i] = code[i]
    return size, after


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def eight(word: Any) -> Any:
    """The differences plus 32 of eight samples of a byte each, a byte each: none waits until it is known where the one before ends."""
    sign = word & _ONES
    return (word >> np.uint64(1) & _FIVE_BITS ^ sign * np.uint64(31)) | (sign ^ _ONES) << np.uint64(5)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def difference(word: Any) -> tuple[Any, Any]:
    """(the bytes, uint64, the difference of the wholes) of a sample that begins with one below `WHOLE + 7`; `word` is its first eight."""
    # Of either form, without a branch for its length, which is anyone's guess. Of a long one (`long` is all ones) the bytes behind
    # the token are the whole of it.
    token = word & _BYTE
    long = np.uint64(0) - (token + np.uint64(64) >> np.uint64(8))
    more = (token >> np.uint64(6)) + ((token & np.uint64(7)) - np.uint64(2) & long)
    low = np.uint64(6) & ~long
    kept = (_U1 << low + np.uint64(8) * more) - _U1
    zigzag = np.int64((word & np.uint64(63) & ~long | word >> np.uint64(8) << low) & kept)
    return _U1 + more, zigzag >> 1 ^ -(zigzag & 1)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def scaled(scale: Any, value: float) -> tuple[Any, Any]:
    """(ten to the power of `scale`, the sample before, `value`, as a whole number at it)."""
    return _TENS[scale], np.int64(_nearest(value, scale))


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def bend(data: Any, i: Any) -> tuple[Any, Any]:
    """(the byte behind it, the zigzag varint at byte i)."""
    zigzag: Any = np.uint64(0)
    shift = np.uint64(0)
    byte = load_u64(data, i) & _BYTE
    while byte >= np.uint64(128):
        zigzag |= (byte & np.uint64(127)) << shift
        shift += np.uint64(7)
        i += _U1
        byte = load_u64(data, i) & _BYTE
    zigzag |= byte << shift
    return i + _U1, np.int64(zigzag >> _U1) ^ -np.int64(zigzag & _U1)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def long(data: Any, i: Any, bits: Any, whole: Any, scale: Any) -> tuple[Any, Any, Any, Any]:
    """A sample of `WHOLE + 7` or `BITS` at byte i, behind one of `bits` and `whole`: (the byte behind it, whether it is of bits, its
    whole number, its bits if so)."""
    head = np.int64(load_u64(data, i) & _BYTE)
    size = (head - WHOLE & 7) + 1
    rest: Any = np.int64(load_u64(data, i + _U1) & _ALL >> np.uint64(64 - 8 * size))
    if head < BITS:
        whole += rest >> 1 ^ -(rest & 1)
        rest = np.int64(0)
    else:
        rest ^= bits
        whole = np.int64(_nearest(np.int64(rest).view(np.float64), scale))
    return i + np.uint64(1 + size), head >= BITS, whole, rest


@njit(cache=True, nogil=True, error_model="numpy")
def decode(words: Any, data: Any, chunk: Any, count: Any, until: Any, times: Any, bits: Any, values: Any, at: int) -> int:
    """Read a chunk's first `count` samples to `times` and `bits` (int64; `values` are the same as float64) from `at` on; answers how many.

    `words` is the arena, `data` its bytes, of which seven are read beyond the chunk. The order is that in which they came. What follows
    these samples may be written meanwhile. Of samples that come after one later than `until` some or all are left out. The answer is
    negative where some are no decimal numbers: none else is a stale marker.
    """
    # Places are unsigned, for of others it is asked each time whether they count from the end.
    i: Any = np.uint64(chunk * UNIT_BYTES + HEADER_BYTES)
    time: Any = words[chunk * UNIT_WORDS]
    delta: Any = np.int64(0)
    whole: Any = np.int64(0)
    scale: Any = np.int64(0)
    power = 1.0
    place: Any = np.uint64(at)
    stop: Any = np.uint64(at + count)
    begin: Any = place
    numbers = True
    while place < stop and time <= until:
        word = load_u64(data, i)
        if word & _TWO_BITS == np.uint64(0) and place > begin and place + _U8 <= stop:
            # As of a counter. A product adds up four of them, which stay below 256.
            above = eight(word)
            for half in range(2):
                sums = (above >> np.uint64(32 * half) & _HALF) * _ONES
                base = whole - 32
                whole += np.int64(sums >> np.uint64(24) & _BYTE) - 128
                to = place + _U4 * np.uint64(half)
                if scale == 0:
                    for k in range(4):
                        values[to + np.uint64(k)] = float(base - 32 * k + np.int64(sums >> np.uint64(8 * k) & _BYTE))
                else:
                    for k in range(4):
                        values[to + np.uint64(k)] = float(base - 32 * k + np.int64(sums >> np.uint64(8 * k) & _BYTE)) / power
            for k in range(8):
                times[place + np.uint64(k)] = time + (k + 1) * delta
            time += 8 * delta
            i += _U8
            place += _U8
            continue
        if word & _BYTE >= np.uint64(WHOLE + 7):
            if data[i] == SCALE:
                scale = np.int64(data[i + _U1])
                power, whole = scaled(scale, values[place - _U1] if place > begin else 0.0)
                i += _U2
            if data[i] == TIME:
                i, by = bend(data, i + _U1)
                delta += by
            head = np.int64(data[i])
            if head >= WHOLE + 7:
                # `long`, spelled out: a call of it costs whoever has short ones a tenth more.
                width = (head - WHOLE & 7) + 1
                rest: Any = np.int64(load_u64(data, i + _U1) & _ALL >> np.uint64(64 - 8 * width))
                i += np.uint64(1 + width)
                if place > begin:
                    time += delta
                times[place] = time
                if head < BITS:
                    whole += rest >> 1 ^ -(rest & 1)
                    values[place] = whole / power
                else:
                    numbers = False
                    bits[place] = rest ^ (bits[place - _U1] if place > begin else 0)
                    whole = _nearest(values[place], scale)
                place += _U1
                continue
            word = load_u64(data, i)
        if place > begin:
            time += delta
        times[place] = time
        size, step = difference(word)
        i += size
        whole += step
        values[place] = whole / power
        place += _U1
    read = np.int64(place - begin)
    return int(read if numbers else -read)
