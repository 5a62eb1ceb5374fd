"""Decimal text to float64, exactly as Python's `float` reads it, inside kernels.

Three steps, each exact or passing on: a mantissa below 2^53 with a small power of ten (Clinger's fast path), then the
Eisel-Lemire algorithm (D. Lemire, "Number Parsing at a Gigabyte per Second", 2021), then `SLOW`: the caller asks Python.
Not here: printing floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

OK, SLOW, BAD = 0, 1, 2
"""How `parse_float` ended: bits are final; only Python's `float` can tell; not a number."""

NAN_BITS = 0x7FF8000000000001
"""The NaN that text stands for: Prometheus' canonical one, so that no text can spell a stale marker."""

_MIN_EXP, _MAX_EXP = -348, 347

_EXACT_POWERS = np.array([float(10**e) for e in range(23)], dtype=np.float64)  # 10^22 is the last exact one


def _powers() -> NDArray[np.uint64]:
    """uint64[696, 2]: the upper 128 bits of 10^e (low word, high word), rounded down, for e from -348."""
    out = np.empty((_MAX_EXP - _MIN_EXP + 1, 2), dtype=np.uint64)
    for e in range(_MIN_EXP, _MAX_EXP + 1):
        if e >= 0:
            value = 10**e
            mantissa = value >> (value.bit_length() - 128) if value.bit_length() > 128 else value << (128 - value.bit_length())
        else:
            # floor(2^k / 10^-e) with k such that the quotient has 128 bits.
            divisor = 10**-e
            mantissa = (1 << (127 + divisor.bit_length())) // divisor
        assert mantissa.bit_length() == 128
        out[e - _MIN_EXP] = (mantissa & 0xFFFFFFFFFFFFFFFF, mantissa >> 64)
    return out


POWERS = _powers()
"""The table that `parse_float` takes as its argument (a constant, passed so that the compiled code stays small)."""


@njit(cache=True, nogil=True, inline="always")
def _mul64(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
    """The 128-bit product of two words: (high, low)."""
    mask = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    a0, a1 = a & mask, a >> half
    b0, b1 = b & mask, b >> half
    w0 = a0 * b0
    t = a1 * b0 + (w0 >> half)
    w1 = (t & mask) + a0 * b1
    return a1 * b1 + (t >> half) + (w1 >> half), a * b


@njit(cache=True, nogil=True)
def _eisel_lemire(mantissa: np.uint64, exp10: int, powers: Any) -> tuple[np.uint64, int]:
    """Bits of mantissa * 10^exp10 (mantissa > 0), or SLOW where 128 bits do not decide the rounding."""
    one = np.uint64(1)
    if exp10 < -348 or exp10 > 347:
        return np.uint64(0), 1
    man = mantissa
    shift = 0
    while man >> np.uint64(56) == np.uint64(0):
        man <<= np.uint64(8)
        shift += 8
    while man >> np.uint64(63) == np.uint64(0):
        man <<= one
        shift += 1
    exp2 = ((217706 * exp10) >> 16) + 64 + 1023 - shift
    low, high = powers[exp10 + 348, 0], powers[exp10 + 348, 1]
    x_hi, x_lo = _mul64(man, high)
    tail = np.uint64(0x1FF)
    if x_hi & tail == tail and x_lo + man < man:
        y_hi, y_lo = _mul64(man, low)
        merged_hi, merged_lo = x_hi, x_lo + y_hi
        if merged_lo < x_lo:
            merged_hi += one
        if merged_hi & tail == tail and merged_lo + one == np.uint64(0) and y_lo + man < man:
            return np.uint64(0), 1
        x_hi, x_lo = merged_hi, merged_lo
    msb = x_hi >> np.uint64(63)
    result = x_hi >> (msb + np.uint64(9))
    if msb == np.uint64(0):
        exp2 -= 1
    if x_lo == np.uint64(0) and x_hi & tail == np.uint64(0) and result & np.uint64(3) == one:
        return np.uint64(0), 1  # half way between two floats
    result += result & one
    result >>= one
    if result >> np.uint64(53) > np.uint64(0):
        result >>= one
        exp2 += 1
    if exp2 < 1 or exp2 >= 0x7FF:
        return np.uint64(0), 1  # subnormal, or out of range
    return (np.uint64(exp2) << np.uint64(52)) | (result & np.uint64(0x000FFFFFFFFFFFFF)), 0


@njit(cache=True, nogil=True)
def _special(buf: Any, i: int, end: int, signed: bool) -> np.uint64:
    """Bits of `inf`, `infinity`, `nan` in any case at [i, end), 0 for anything else."""
    n = end - i
    a, b, c = buf[i] | 32, buf[i + 1] | 32, buf[i + 2] | 32
    if n == 3 and a == 110 and b == 97 and c == 110 and not signed:
        return np.uint64(0x7FF8000000000001)
    if a == 105 and b == 110 and c == 102:
        if n == 3:
            return np.uint64(0x7FF0000000000000)
        if (
            n == 8
            and buf[i + 3] | 32 == 105
            and buf[i + 4] | 32 == 110
            and buf[i + 5] | 32 == 105
            and buf[i + 6] | 32 == 116
            and buf[i + 7] | 32 == 121
        ):
            return np.uint64(0x7FF0000000000000)
    return np.uint64(0)


@njit(cache=True, nogil=True)
def parse_float(buf: Any, start: int, end: int, powers: Any, scratch: Any) -> tuple[np.uint64, int]:
    """(IEEE bits, OK | SLOW | BAD) of the decimal text `buf[start:end]`, which must lie inside `buf`.

    `scratch` is a float64[1] and uint64[1] view pair (a tuple) of one word, for moving a float's bits. Accepts what Go's
    ParseFloat does without underscores and hexadecimal: optional sign, digits with an optional point, optional exponent,
    `inf`, `infinity`, `nan` (unsigned). Text beyond float64's range is SLOW: the caller decides what to make of it.
    """
    i = start
    sign = np.uint64(0)
    signed = False
    if i < end and (buf[i] == 45 or buf[i] == 43):
        signed = True
        if buf[i] == 45:
            sign = np.uint64(1) << np.uint64(63)
        i += 1
    mantissa = np.uint64(0)
    digits = 0  # significant ones, without leading zeros
    seen = False
    exp10 = 0
    while i < end:
        d = np.int64(buf[i]) - 48
        if d < 0 or d > 9:
            break
        seen = True
        if digits > 0 or d > 0:
            digits += 1
            if digits <= 19:
                mantissa = mantissa * np.uint64(10) + np.uint64(d)
        i += 1
    if i < end and buf[i] == 46:
        i += 1
        while i < end:
            d = np.int64(buf[i]) - 48
            if d < 0 or d > 9:
                break
            seen = True
            if digits > 0 or d > 0:
                digits += 1
                if digits <= 19:
                    mantissa = mantissa * np.uint64(10) + np.uint64(d)
            exp10 -= 1
            i += 1
    if not seen:
        if end - i >= 3 and i == start + int(signed):  # nothing but a sign before it: `.inf` is no number
            bits = _special(buf, i, end, signed)
            if bits != np.uint64(0):
                return bits | sign, 0
        return np.uint64(0), 2
    if i < end:
        if buf[i] | 32 != 101:
            return np.uint64(0), 2
        i += 1
        negative = False
        if i < end and (buf[i] == 45 or buf[i] == 43):
            negative = buf[i] == 45
            i += 1
        if i >= end:
            return np.uint64(0), 2
        exponent = 0
        while i < end:
            d = np.int64(buf[i]) - 48
            if d < 0 or d > 9:
                return np.uint64(0), 2
            if exponent < 100_000:
                exponent = exponent * 10 + int(d)
            i += 1
        exp10 += -exponent if negative else exponent
    if digits > 19:
        return np.uint64(0), 1
    if mantissa == np.uint64(0):
        return sign, 0
    if mantissa >> np.uint64(53) == np.uint64(0) and -22 <= exp10 <= 22:
        if exp10 < 0:
            scratch[0][0] = np.float64(mantissa) / _EXACT_POWERS[-exp10]
        else:
            scratch[0][0] = np.float64(mantissa) * _EXACT_POWERS[exp10]
        return scratch[1][0] | sign, 0
    bits, status = _eisel_lemire(mantissa, exp10, powers)
    return bits | sign, status
