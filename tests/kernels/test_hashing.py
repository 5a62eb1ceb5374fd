"""The key hash against a naive twin."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vedette.kernels.hashing import PROCESS_KEY, hash_regions

MASK = 2**64 - 1


def fold(x: int) -> int:
    x ^= x >> 32
    x = x * 0xFF51AFD7ED558CCD & MASK
    return x ^ x >> 29


def naive(region: bytes, seed: int) -> tuple[int, int]:
    key = [int(k) for k in PROCESS_KEY]
    n = len(region)
    a = (seed + n & MASK) * 0x9E3779B97F4A7C15 & MASK ^ key[0]
    b = (seed ^ n) * 0xD6E8FEB86659FD93 & MASK ^ key[1]
    whole = n - n % 8
    for i in range(0, whole, 8):
        w = int.from_bytes(region[i : i + 8], "little")
        a = (a ^ w) * 0x9E3779B97F4A7C15 & MASK
        a ^= a >> 32
        b = (b + w & MASK) * 0xD6E8FEB86659FD93 & MASK
        b = (b << 29 | b >> 35) & MASK
    tail = int.from_bytes(region[whole:], "little")
    a = (a ^ tail) * 0x9E3779B97F4A7C15 & MASK
    b = (b + tail & MASK) * 0xD6E8FEB86659FD93 & MASK
    return fold(a ^ key[1]), fold(b ^ b >> 31 ^ key[0])


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(0, 2**32))
def test_equals_the_naive_twin(regions: list[bytes], seed: int):
    buffer = np.frombuffer(b"".join(regions), dtype=np.uint8)
    ends = np.cumsum([len(r) for r in regions], dtype=np.int64) if regions else np.zeros(0, dtype=np.int64)
    starts = ends - np.array([len(r) for r in regions], dtype=np.int64)
    got = hash_regions(buffer, starts, ends, np.uint64(seed))
    assert [tuple(map(int, row)) for row in got] == [naive(r, seed) for r in regions]


def test_similar_keys_differ_in_both_lanes():
    keys = [f'metric{{host="host_{i}",cpu="{i % 8}"}}'.encode() for i in range(50_000)]
    ends = np.cumsum([len(k) for k in keys], dtype=np.int64)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    hashes = hash_regions(np.frombuffer(b"".join(keys), dtype=np.uint8), starts, ends, np.uint64(1))
    assert len(np.unique(hashes[:, 0])) == len(np.unique(hashes[:, 1])) == len(keys)
    # No bit is stuck: an open-addressing table takes its slot from the low bits.
    shares = np.unpackbits(hashes[:, :1].copy().view(np.uint8), axis=1).mean(axis=0)
    assert shares.min() > 0.48 and shares.max() < 0.52
