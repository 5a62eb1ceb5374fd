"""Alertmanager's fingerprints of many label sets at once: FNV-1a 64 over each set's canonical bytes.

Not here: the fingerprint of a single set (`Labels.fingerprint`), which is this kernel's naive twin.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def _fnv1a(buffer: Any, ends: Any, out: Any) -> None:
    start = 0
    for i in range(len(ends)):
        h = np.uint64(0xCBF29CE484222325)
        for at in range(start, ends[i]):
            h = (h ^ np.uint64(buffer[at])) * np.uint64(0x100000001B3)
        out[i] = h
        start = ends[i]


def fnv1a(buffer: bytes, ends: NDArray[np.int64]) -> NDArray[np.uint64]:
    """uint64[n]: the hash of each of n regions that lie one after the other, the first from 0, the i-th up to `ends[i]`.

    Raises `AssertionError` for ends that fall or lie outside.
    """
    assert len(ends) == 0 or (bool((np.diff(ends, prepend=0) >= 0).all()) and int(ends[-1]) <= len(buffer)), "region outside the buffer"
    out = np.empty(len(ends), dtype=np.uint64)
    _fnv1a(np.frombuffer(buffer, dtype=np.uint8), ends, out)
    return out
