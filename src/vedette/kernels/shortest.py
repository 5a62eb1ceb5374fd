"""Floats as decimals: the fewest digits that read back as the same number, as a whole number and how many of its digits are decimals.

Most values are whole or have few decimals, which a division tells; the digits of the others are found by Schubfach (R. Giulietti, "The
Schubfach way to render doubles", 2020): three products with a power of ten, no loop. Where several decimals of fewest digits read back,
it is the one closest to the float, so that both ways agree, with each other and with Go and Python. Not here: how decimals are
written (`digits.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from vedette.kernels.digits import ABSENT, INFINITE, MINUS_ZERO, NAN, number_size
from vedette.kernels.floats import POWERS

_FIRST_POWER = -348
_EXACT_UNTIL = 55
"""The last power of ten that 128 bits hold whole."""


def _rounded_up() -> NDArray[np.uint64]:
    """`floats.POWERS`, rounded up: uint64[696, 2]."""
    out = POWERS.copy()
    exponents = np.arange(len(out)) + _FIRST_POWER
    inexact = (exponents < 0) | (exponents > _EXACT_UNTIL)
    out[inexact, 0] += np.uint64(1)
    out[inexact & (out[:, 0] == 0), 1] += np.uint64(1)
    return out


_POWERS = _rounded_up()


@intrinsic
def _high_word(typingctx: Any, a: Any, b: Any) -> Any:
    """The upper word of the product of two."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def _bits_of(typingctx: Any, value: Any) -> Any:
    """The bits of a float."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.uint64(types.float64), codegen


# Their typing context argument is numba's own, so no signature of ours fits them.
_high: Any = _high_word
_bits: Any = _bits_of


@njit(cache=True, nogil=True, inline="always")
def _to_odd(high: Any, low: Any, n: Any) -> Any:
    """The upper word of the product of a power of ten and `n`, its last bit set where anything of what is cut off is."""
    carried = _high(low, n)
    middle = high * n + carried
    top = _high(high, n) + np.uint64(middle < carried)
    return top | np.uint64(middle > np.uint64(1))


@njit(cache=True, nogil=True, error_model="numpy")
def digits_of(v: float) -> tuple[Any, Any]:
    """(m, p): `m / 10**p` is the shortest decimal that reads back as |v|, which is finite and not 0; m does not end with 0."""
    bits = _bits(v) & np.uint64(0x7FFF_FFFF_FFFF_FFFF)
    fraction, exponent = bits & np.uint64(0x000F_FFFF_FFFF_FFFF), np.int64(bits >> np.uint64(52))
    c = fraction
    q = np.int64(-1074)
    if exponent != 0:
        c |= np.uint64(1) << np.uint64(52)
        q = exponent - 1075
    closer = fraction == np.uint64(0) and exponent > 1
    odd = c & np.uint64(1)
    k = (q * 1262611 - (524031 if closer else 0)) >> 22
    h = np.uint64(q + ((-k * 1741647) >> 19) + 1)
    low, high = _POWERS[-k - _FIRST_POWER, 0], _POWERS[-k - _FIRST_POWER, 1]
    four = c << np.uint64(2)
    # The number, and half way to its neighbours, as multiples of a quarter of 10**k.
    lower = _to_odd(high, low, (four - np.uint64(2) + np.uint64(closer)) << h) + odd
    at = _to_odd(high, low, four << h)
    upper = _to_odd(high, low, (four + np.uint64(2)) << h) - odd
    s = at >> np.uint64(2)
    shorter = s // np.uint64(10)
    below = s >= np.uint64(10) and lower <= np.uint64(40) * shorter
    above = s >= np.uint64(10) and np.uint64(40) * shorter + np.uint64(40) <= upper
    if below != above:
        m, k = shorter + np.uint64(above), k + 1
    else:
        below = lower <= np.uint64(4) * s
        above = np.uint64(4) * s + np.uint64(4) <= upper
        middle = np.uint64(4) * s + np.uint64(2)
        if below == above:
            above = at > middle or (at == middle and s & np.uint64(1) != np.uint64(0))
        m = s + np.uint64(above)
    # One digit less may be several.
    while True:
        tenth = m // np.uint64(10)
        if tenth * np.uint64(10) != m:
            return m, -k
        m, k = tenth, k + 1


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def decimal_of(v: Any, hard: Any) -> Any:
    """(whole, places, whether it was hard): `v` is `whole / 10**places`, or places are one of `digits.ABSENT` and beyond.

    Of at most four decimals it ends with a digit that is not 0; whole numbers below 2**53 have no places. Below 2**53 no two decimals of as
    many places are one float, so the first that divides back to it has its shortest digits. `hard` tells that the value before was
    not of few decimals, so that this one is not looked at for them: that is a matter of time alone.
    """
    whole = np.int64(0)
    places = np.int64(0)
    rounded = np.rint(v)
    if rounded == v and abs(v) < 9007199254740992.0 and v != 0.0:
        return np.int64(rounded), places, False
    if v == 0.0:
        return whole, np.int64(MINUS_ZERO if np.signbit(v) else 0), hard
    if v != v:
        return whole, np.int64(NAN), hard
    if np.isinf(v):
        return np.int64(1 if v > 0 else -1), np.int64(INFINITE), hard
    if not hard and abs(v) < 9e11:
        scale = 10.0
        for k in range(1, 5):
            scaled = np.rint(v * scale)
            if scaled / scale == v:
                return np.int64(scaled), np.int64(k), False
            scale *= 10.0
    digits, found = digits_of(v)
    whole = -np.int64(digits) if v < 0 else np.int64(digits)
    return whole, np.int64(found), not 0 <= found <= 4


@njit(cache=True, nogil=True, error_model="numpy")
def decimals(floats: Any, whole: Any, places: Any) -> None:
    """Of each of `floats` (float64[n]) the decimal: `whole` int64[n] and `places` int16[n], as `decimal_of` has them."""
    hard = False
    for i in range(len(floats)):
        digits, found, hard = decimal_of(floats[i], hard)
        whole[i], places[i] = digits, found


@njit(cache=True, nogil=True, error_model="numpy")
def settle(values: Any, present: Any, time_sizes: Any, whole: Any, places: Any, counts: Any, sizes: Any) -> None:
    """The decimals of a block of rows: of `values` float64[r, n] where `present` bool[r, n], else places are `ABSENT`.

    `whole` int64[r, n] may be the memory of `values`; `places` int16[r, n]. Of each row `counts` int64[r] is how many values there are and
    `sizes` int64[r] how many bytes they take as JSON, `[time,"number"]` and commas between them, times taking `time_sizes` int64[n].
    """
    hard = False
    for r in range(values.shape[0]):
        size: Any = np.int64(0)
        count: Any = np.int64(0)
        for k in range(values.shape[1]):
            if not present[r, k]:
                places[r, k] = ABSENT
                continue
            digits, found, hard = decimal_of(values[r, k], hard)
            whole[r, k], places[r, k] = digits, found
            count += 1
            size += number_size(digits, found) + time_sizes[k]
        counts[r] = count
        sizes[r] = size + 5 * count + max(0, count - 1)
