"""Two independent 64-bit hashes of byte regions, keyed by a seed.

A multiply-fold hash over 8-byte words (after the construction of wyhash and fxhash), with two lanes. The keys
are drawn once per process, so that a sender cannot prepare collisions; equal hashes in both lanes are taken
as equal bytes (2^-128 by chance).
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

PROCESS_KEY = np.array([secrets.randbits(64) | 1, secrets.randbits(64) | 1], dtype=np.uint64)
"""uint64[2], odd: passed to kernels as an argument, since a cached kernel would freeze a global."""


@intrinsic
def _load_u64(typingctx: Any, array: Any, offset: Any) -> Any:
    """`array[offset:offset+8]` as one little-endian uint64; the caller has checked that it lies inside."""
    signature = types.uint64(array, types.intp)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        at = builder.gep(builder.bitcast(data, ir.IntType(8).as_pointer()), [args[1]])
        return builder.load(builder.bitcast(at, ir.IntType(64).as_pointer()), align=1)

    return signature, codegen


load_u64: Any = _load_u64  # its typing context argument is numba's own, so no signature of ours fits it


@njit(cache=True, nogil=True, inline="always")
def _fold(x: np.uint64) -> np.uint64:
    x ^= x >> np.uint64(32)
    x *= np.uint64(0xFF51AFD7ED558CCD)
    x ^= x >> np.uint64(29)
    return x


@njit(cache=True, nogil=True)
def hash_region(buffer: Any, start: int, end: int, seed: np.uint64, key: Any) -> tuple[np.uint64, np.uint64]:
    """(h1, h2) of `buffer[start:end]`; `key` is `PROCESS_KEY`. Reads nothing outside the region."""
    n = end - start
    a = (seed + np.uint64(n)) * np.uint64(0x9E3779B97F4A7C15) ^ key[0]
    b = (seed ^ np.uint64(n)) * np.uint64(0xD6E8FEB86659FD93) ^ key[1]
    i = start
    while i + 8 <= end:
        w = load_u64(buffer, i)
        a = (a ^ w) * np.uint64(0x9E3779B97F4A7C15)
        a ^= a >> np.uint64(32)
        b = (b + w) * np.uint64(0xD6E8FEB86659FD93)
        b = (b << np.uint64(29)) | (b >> np.uint64(35))
        i += 8
    tail = np.uint64(0)
    shift = np.uint64(0)
    while i < end:
        tail |= np.uint64(buffer[i]) << shift
        shift += np.uint64(8)
        i += 1
    a = (a ^ tail) * np.uint64(0x9E3779B97F4A7C15)
    b = (b + tail) * np.uint64(0xD6E8FEB86659FD93)
    return _fold(a ^ key[1]), _fold(b ^ (b >> np.uint64(31)) ^ key[0])


@njit(cache=True, nogil=True)
def _hash_regions(buffer: Any, starts: Any, ends: Any, seed: np.uint64, key: Any, out: Any) -> None:
    for i in range(len(starts)):
        out[i, 0], out[i, 1] = hash_region(buffer, starts[i], ends[i], seed, key)


def hash_regions(buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], seed: np.uint64) -> NDArray[np.uint64]:
    """uint64[n, 2]: the hashes of `buffer[starts[i]:ends[i]]`. Raises `AssertionError` for a region outside."""
    assert len(starts) == 0 or (int(starts.min()) >= 0 and int(ends.max()) <= len(buffer)), "region outside the buffer"
    out = np.empty((len(starts), 2), dtype=np.uint64)
    _hash_regions(buffer, starts, ends, seed, PROCESS_KEY, out)
    return out
