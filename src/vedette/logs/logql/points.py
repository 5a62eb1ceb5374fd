"""Which points of a series are there: NaN is a value, as of 0 / 0, so that a point without any has a bit pattern of its own."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

# A quiet NaN, which every copy leaves as it is, with a payload that no operation makes.
_BITS = 0x7FF8_0000_A85E_0000
ABSENT: float = struct.unpack("<d", struct.pack("<Q", _BITS))[0]
"""What stands where a series has no value."""


def absent(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a series has no value; of the shape of `values`, which are contiguous."""
    found: NDArray[np.bool_] = values.view(np.int64) == _BITS
    return found
