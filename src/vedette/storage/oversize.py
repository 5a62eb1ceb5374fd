"""Which series' labels are larger than their tenant may have them. Not here: the limits themselves (`limits.py`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vedette.kernels.series_table import split_canonical
from vedette.storage.limits import NAME_TOO_LONG, TOO_MANY_LABELS, VALUE_TOO_LONG, TenantLimits


def too_large(limits: TenantLimits, keys: NDArray[np.uint8], offsets: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Which of these series (canonical keys end to end, offsets int64[n + 1]) have labels beyond the limits: rows by reason.

    A row stands under one reason. All texts of a key are looked at only where the key is long enough to break a limit.
    """
    most, name, value = limits.max_labels or 0, limits.max_label_name_length or 0, limits.max_label_value_length or 0
    # A label takes four bytes at least (two of them ends), and a text no more than its key.
    shortest = min([most * 4 if most else 1 << 62, name or 1 << 62, value or 1 << 62])
    rows = np.flatnonzero(np.diff(offsets) > shortest)
    if len(rows) == 0:
        return {}
    size = int((offsets[rows + 1] - offsets[rows]).sum())
    parts, starts, ends = np.empty(len(rows) + 1, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    texts = int(split_canonical(keys, offsets, rows, parts, starts, ends))
    lengths = (ends - starts)[:texts]
    pairs = parts[:-1] // 2
    found: dict[str, NDArray[np.int64]] = {}
    left = np.ones(len(rows), dtype=np.bool_)
    for reason, limit, sizes in (
        (TOO_MANY_LABELS, most, np.diff(parts) // 2),
        (NAME_TOO_LONG, name, np.maximum.reduceat(lengths[0::2], pairs)),
        (VALUE_TOO_LONG, value, np.maximum.reduceat(lengths[1::2], pairs)),
    ):
        beyond = left & (sizes > limit) if limit else np.zeros_like(left)
        if beyond.any():
            found[reason] = rows[beyond]
            left &= ~beyond
    return found
