"""Whole numbers and decimals to text, eight digits at a time, and texts into one another in words of eight bytes.

A decimal is a whole number and how many of its digits are decimals (`shortest.py` finds them).

All that writes here may write up to `SPARE` bytes behind what it answers, and what is copied from is read as far: whoever calls leaves
them at the end of both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from vedette.kernels.hashing import load_u64

SPARE = 8


@intrinsic
def _store_u64(typingctx: Any, array: Any, offset: Any, word: Any) -> Any:
    """`array[offset:offset+8] = word`, little-endian; the caller has checked that it lies inside."""
    signature = types.void(array, types.intp, types.uint64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        at = builder.gep(builder.bitcast(data, ir.IntType(8).as_pointer()), [args[1]])
        builder.store(args[2], builder.bitcast(at, ir.IntType(64).as_pointer()), align=1)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _trailing_zeros(typingctx: Any, word: Any) -> Any:
    """How many of the lowest bits of a word are 0; the word is not 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), codegen


@intrinsic
def _address_of(typingctx: Any, array: Any) -> Any:
    """Where an array's bytes are; whoever has it holds the array meanwhile."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.uint64(array), codegen


def _pointer(builder: Any, to: Any, at: Any, bits: int) -> Any:
    return builder.inttoptr(builder.add(to, at), ir.IntType(bits).as_pointer())


@intrinsic
def _put_word(typingctx: Any, to: Any, at: Any, word: Any) -> Any:
    """Eight bytes, little-endian, to an address; as `store_u64`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(builder, args[0], args[1], 64), align=1)
        return context.get_dummy_value()

    return types.void(types.uint64, types.int64, types.uint64), codegen


@intrinsic
def _put_byte(typingctx: Any, to: Any, at: Any, byte: Any) -> Any:
    """One byte to an address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(builder.trunc(args[2], ir.IntType(8)), _pointer(builder, args[0], args[1], 8))
        return context.get_dummy_value()

    return types.void(types.uint64, types.int64, types.uint64), codegen


@intrinsic
def _get_word(typingctx: Any, to: Any, at: Any) -> Any:
    """The eight bytes at an address, little-endian."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_pointer(builder, args[0], args[1], 64), align=1)

    return types.uint64(types.uint64, types.int64), codegen


# Their typing context argument is numba's own, so no signature of ours fits them.
store_u64: Any = _store_u64
_zeros: Any = _trailing_zeros
# To give an array to a function is to count who holds it, an atomic operation that takes longer than the digits: these take addresses.
address_of: Any = _address_of
put_word: Any = _put_word
put_byte: Any = _put_byte
get_word: Any = _get_word

_ASCII = np.uint64(0x3030303030303030)


@njit(cache=True, nogil=True)
def paste(out: Any, at: int, pool: Any, lo: int, hi: int) -> int:
    """Copy `pool[lo:hi]`, and up to seven bytes behind it, which the next text covers."""
    size = hi - lo
    i = 0
    while i < size:
        store_u64(out, at + i, load_u64(pool, lo + i))
        i += 8
    return at + size


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _eight(n: Any) -> Any:
    """The eight digits of a number below 10**8, the first in the lowest byte: three steps, each halving all pieces at once."""
    high = n // np.uint64(10_000)
    v = high | (n - high * np.uint64(10_000)) << np.uint64(32)
    high = v * np.uint64(10_486) >> np.uint64(20) & np.uint64(0x7F_0000_007F)
    v = high | (v - high * np.uint64(100)) << np.uint64(16)
    high = v * np.uint64(103) >> np.uint64(10) & np.uint64(0xF_000F_000F_000F)
    return high | (v - high * np.uint64(10)) << np.uint64(8)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _absent(digits: Any) -> Any:
    """How many of eight digits are leading zeros; of nothing but zeros, the last one is none."""
    # A digit takes four of a byte's bits, so that the first one that counts is in the byte of the lowest bit.
    return _zeros(digits | np.uint64(1 << 56)) >> np.uint64(3)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def put_integer(to: Any, at: Any, n: Any) -> Any:
    """Decimal digits of n >= 0, to an address; answers where they end."""
    low = np.uint64(n)
    high = low // np.uint64(100_000_000)
    if high != np.uint64(0):
        low -= high * np.uint64(100_000_000)
        if high >= np.uint64(100_000_000):
            top = high // np.uint64(100_000_000)
            high -= top * np.uint64(100_000_000)
            digits = _eight(top)
            absent = _absent(digits)
            put_word(to, at, (digits | _ASCII) >> (absent << np.uint64(3)))
            at += 8 - np.int64(absent)
            put_word(to, at, _eight(high) | _ASCII)
            at += 8
        else:
            digits = _eight(high)
            absent = _absent(digits)
            put_word(to, at, (digits | _ASCII) >> (absent << np.uint64(3)))
            at += 8 - np.int64(absent)
        put_word(to, at, _eight(low) | _ASCII)
        at += 8
    else:
        digits = _eight(low)
        absent = _absent(digits)
        put_word(to, at, (digits | _ASCII) >> (absent << np.uint64(3)))
        at += 8 - np.int64(absent)
    return at


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def write_integer(out: Any, at: Any, n: Any) -> Any:
    """Decimal digits of n >= 0."""
    return put_integer(address_of(out), np.int64(at), n)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _put_decimal(to: Any, at: Any, whole: Any, places: Any) -> Any:
    """`whole / 10**places`, whose last place is not 0; at most four places."""
    # A sign is written over where there is none.
    put_byte(to, at, np.uint64(45))
    at += np.int64(whole < 0)
    whole = abs(whole)
    if places == 0:
        # Apart from the others, or their divisions are made for it too.
        at = put_integer(to, at, whole)
    else:
        n = np.uint64(whole)
        # Numbers that the compiler knows are divided by without a division.
        if places == 1:
            top = n // np.uint64(10)
            rest = n - top * np.uint64(10)
        elif places == 2:
            top = n // np.uint64(100)
            rest = n - top * np.uint64(100)
        elif places == 3:
            top = n // np.uint64(1000)
            rest = n - top * np.uint64(1000)
        else:
            top = n // np.uint64(10_000)
            rest = n - top * np.uint64(10_000)
        at = put_integer(to, at, top)
        # The point, and as many digits behind it.
        put_word(to, at, (_eight(rest) | _ASCII) >> np.uint64(64 - 8 * places) << np.uint64(8) | np.uint64(46))
        at += 1 + places
    return at


_TENS = np.array([10**e for e in range(20)], dtype=np.uint64)
NAN, INFINITE, MINUS_ZERO, ABSENT = 32767, 32766, 32765, 32764
"""What stands for the places of what has no digits (an infinity has its sign in the whole number), and of what is not there."""
NUMBER_BYTES = 32
"""No number takes more, with its sign: 17 digits, a point, and an exponent, or 21 digits before it; and what is written behind it."""
_TEXT_NAN, _TEXT_INFINITE, _TEXT_MINUS_ZERO = np.uint64(0x4E614E), np.uint64(0x666E492B), np.uint64(0x302D)
_TEXT_ZEROS = np.uint64(0x3030_3030_3030_2E30)


@intrinsic
def _leading_zeros(typingctx: Any, word: Any) -> Any:
    """How many of the highest bits of a word are 0; the word is not 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), codegen


_before: Any = _leading_zeros


@njit(cache=True, nogil=True, inline="always")
def digit_count(n: Any) -> Any:
    """How many digits a whole number below 10**19 has, 1 for 0."""
    # The logarithm to the base of two, divided by that of ten: too small by one at times.
    n |= np.uint64(1)
    some = (np.uint64(64) - _before(n)) * np.uint64(1233) >> np.uint64(12)
    return np.int64(some) + np.int64(n >= _TENS[some])


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def number_size(whole: Any, places: Any) -> Any:
    """How many bytes `write_number` writes."""
    sign = np.int64(whole < 0)
    digits = digit_count(np.uint64(abs(whole)))
    if places == 0:
        return sign + digits
    if places >= ABSENT:
        return np.int64(3 if places == NAN else 4 if places == INFINITE else 2)
    point = digits - places
    if point < -5 or point > 21:
        exponent = abs(point - 1)
        return sign + digits + np.int64(digits > 1) + 2 + (3 if exponent >= 100 else 2)
    if point <= 0:
        return sign + 2 - point + digits
    return sign + (digits + 1 if point < digits else point)


@njit(cache=True, nogil=True, error_model="numpy")
def _put_any(to: Any, at: Any, whole: Any, places: Any) -> Any:
    """As `put_number`, of more than four places, fewer than none, and what has no digits."""
    if places == NAN:
        put_word(to, at, _TEXT_NAN)
        return at + 3
    if places == INFINITE:
        put_word(to, at, _TEXT_INFINITE + np.uint64(2 if whole < 0 else 0))
        return at + 4
    if places == MINUS_ZERO:
        put_word(to, at, _TEXT_MINUS_ZERO)
        return at + 2
    put_byte(to, at, np.uint64(45))
    at += np.int64(whole < 0)
    n = np.uint64(abs(whole))
    digits = digit_count(n)
    point = digits - places
    plain = -5 <= point <= 21
    small = plain and point <= 0
    if small:
        put_word(to, at, _TEXT_ZEROS)
    # One byte further, where a point comes in between.
    inside = np.int64(0 < point < digits if plain else digits > 1)
    end = put_integer(to, at + (2 - point if small else inside), n)
    if inside:
        # What stands before the point is moved back.
        before = point if plain else np.int64(1)
        while before >= 8:
            put_word(to, at, get_word(to, at + 1))
            at, before = at + 8, before - 8
        cut = np.uint64(8 * before)
        moved = get_word(to, at + 1) & ((np.uint64(1) << cut) - np.uint64(1))
        behind = get_word(to, at) & (np.uint64(0xFFFF_FFFF_FFFF_FF00) << cut)
        put_word(to, at, moved | np.uint64(46) << cut | behind)
    if plain:
        for _ in range(-places):
            put_byte(to, end, np.uint64(48))
            end += 1
        return end
    exponent = point - 1
    put_byte(to, end, np.uint64(101))
    put_byte(to, end + 1, np.uint64(45 if exponent < 0 else 43))
    size = np.uint64(abs(exponent))
    end += 2
    if size >= np.uint64(100):
        put_byte(to, end, np.uint64(48) + size // np.uint64(100))
        end += 1
    put_byte(to, end, np.uint64(48) + size // np.uint64(10) % np.uint64(10))
    put_byte(to, end + 1, np.uint64(48) + size % np.uint64(10))
    return end + 2


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def put_number(to: Any, at: Any, whole: Any, places: Any) -> Any:
    """`whole / 10**places` to an address, as `write_number`."""
    if 0 <= places <= 4:
        return _put_decimal(to, at, whole, places)
    return _put_any(to, at, whole, places)


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def write_number(out: Any, at: Any, whole: Any, places: Any) -> Any:
    """`whole / 10**places` as JSON answers have it: no exponent from 1e-6 up to 1e21; `NaN`, `+Inf`, `-Inf` and `-0` by their codes.

    Whole numbers of places between 0 and 4 may be below 10**19, where there are places they do not end with 0.
    """
    return put_number(address_of(out), np.int64(at), whole, np.int64(places))
