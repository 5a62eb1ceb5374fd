"""Native histograms as PostgreSQL keeps them, in the column `histogram`: one value a sample.

    hint (uint8) | bytes of the layout (uint32) | layout (`Layout.key`) | cells (float64 each)

Little-endian. Not here: the sample's own value, which is the histogram's sum.
"""

from __future__ import annotations

import struct

import numpy as np

from vedette.model.histograms import Histogram, Layout

_HEAD = struct.Struct("<BI")
_LAYOUT = struct.Struct("<idII")


def render(h: Histogram) -> bytes:
    """The bytes of a histogram."""
    return _HEAD.pack(h.hint, len(h.layout.key)) + h.layout.key + h.cells.tobytes()


class Reader:
    """Reads histograms; those of one layout share its object."""

    def __init__(self) -> None:
        self._layouts: dict[bytes, Layout] = {}

    def parse(self, data: bytes) -> Histogram:
        """The histogram of these bytes, which `render` wrote."""
        hint, size = _HEAD.unpack_from(data)
        key = data[_HEAD.size : _HEAD.size + size]
        layout = self._layouts.get(key)
        if layout is None:
            layout = self._layouts[key] = _layout(key)
        return Histogram(layout, np.frombuffer(data, dtype=np.float64, offset=_HEAD.size + size).copy(), hint)


def _layout(key: bytes) -> Layout:
    schema, threshold, bounds, positive = _LAYOUT.unpack_from(key)
    at = _LAYOUT.size
    buckets = np.frombuffer(key, dtype=np.int32, offset=at + 8 * bounds)
    edges = struct.unpack_from(f"<{bounds}d", key, at)
    return Layout(schema, threshold, edges, buckets[:positive].copy(), buckets[positive:].copy())
