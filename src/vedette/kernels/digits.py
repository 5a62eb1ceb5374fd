"""Whole numbers and decimals to text, eight digits at a time, and texts into one another in words of eight bytes.

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


# Their typing context argument is numba's own, so no signature of ours fits them.
store_u64: Any = _store_u64
_zeros: Any = _trailing_zeros

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


# Without a call that takes an array: to count who holds one is an atomic operation, which takes longer than the digits.
@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def write_integer(out: Any, at: Any, n: int) -> Any:
    """Decimal digits of n >= 0."""
    low = np.uint64(n)
    high = low // np.uint64(100_000_000)
    if high != np.uint64(0):
        low -= high * np.uint64(100_000_000)
        if high >= np.uint64(100_000_000):
            top = high // np.uint64(100_000_000)
            high -= top * np.uint64(100_000_000)
            digits = _eight(top)
            absent = _absent(digits)
            store_u64(out, at, (digits | _ASCII) >> (absent << np.uint64(3)))
            at += 8 - np.int64(absent)
            store_u64(out, at, _eight(high) | _ASCII)
            at += 8
        else:
            digits = _eight(high)
            absent = _absent(digits)
            store_u64(out, at, (digits | _ASCII) >> (absent << np.uint64(3)))
            at += 8 - np.int64(absent)
        store_u64(out, at, _eight(low) | _ASCII)
        at += 8
    else:
        digits = _eight(low)
        absent = _absent(digits)
        store_u64(out, at, (digits | _ASCII) >> (absent << np.uint64(3)))
        at += 8 - np.int64(absent)
    return at


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def write_decimal(out: Any, at: int, whole: int, places: int) -> int:
    """`whole / 10**places`, whose last place is not 0; at most four places."""
    if whole < 0:
        out[at] = 45
        at += 1
        whole = -whole
    if places == 0:
        # Apart from the others, or their divisions are made for it too.
        at = write_integer(out, at, whole)
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
        integer: Any = np.int64(top)
        at = write_integer(out, at, integer)
        # The point, and as many digits behind it.
        store_u64(out, at, (_eight(rest) | _ASCII) >> np.uint64(64 - 8 * places) << np.uint64(8) | np.uint64(46))
        at += 1 + places
    return at
