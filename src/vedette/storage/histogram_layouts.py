"""The layouts of native histograms as bytes, for the log and for blocks. `FORMAT.md` draws them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from vedette.model.histograms import Layout

_HEAD = struct.Struct("<idIII")
"""Schema, zero threshold, how many bounds, positive and negative buckets."""


def render(layouts: Sequence[Layout]) -> bytes:
    """The bytes of `layouts`, in order."""
    parts = [struct.pack("<I", len(layouts))]
    for layout in layouts:
        parts.append(_HEAD.pack(layout.schema, layout.threshold, len(layout.bounds), len(layout.positive), len(layout.negative)))
        parts += [np.array(layout.bounds, dtype="<f8").tobytes(), layout.positive.tobytes(), layout.negative.tobytes()]
    return b"".join(parts)


def parse(data: bytes) -> tuple[Layout, ...]:
    """What `render` wrote. Raises `ValueError` where it does not fit its length."""
    if len(data) < 4:
        raise ValueError("layouts end inside their count")
    (count,) = struct.unpack_from("<I", data)
    at, found = 4, []
    for _ in range(count):
        if len(data) - at < _HEAD.size:
            raise ValueError("layouts end inside one")
        schema, threshold, bounds, positive, negative = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if len(data) - at < 8 * bounds + 4 * (positive + negative):
            raise ValueError("layouts end inside one")
        edges = tuple(np.frombuffer(data, dtype="<f8", count=bounds, offset=at).tolist())
        at += 8 * bounds
        indices = np.frombuffer(data, dtype="<i4", count=positive + negative, offset=at).astype(np.int32)
        at += 4 * (positive + negative)
        found.append(Layout(schema, threshold, edges, indices[:positive], indices[positive:]))
    if at != len(data):
        raise ValueError("bytes after the last layout")
    return tuple(found)
