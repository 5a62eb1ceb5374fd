"""Native histograms in the log: a record that holds samples and their histograms together, so that neither is there alone."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from vedette.model.histograms import Histograms
from vedette.storage import histogram_layouts, wal

_HEAD = struct.Struct("<QII")
"""How many histograms, bytes of their layouts with padding, how much of that is padding."""


def histograms_record(ids: NDArray[np.uint32], times: NDArray[np.int64], columns: Histograms) -> bytes:
    """The record of the histograms `columns` of series `ids` at `times`, not empty."""
    used, numbers = np.unique(columns.layout, return_inverse=True)
    layouts = histogram_layouts.render([columns.layouts[i] for i in used.tolist()])
    padding = -len(layouts) % 8
    head = _HEAD.pack(len(ids), len(layouts) + padding, padding)
    cells = columns.cells[columns.offsets[0] : columns.offsets[-1]]
    return wal.record(wal.HISTOGRAMS, 0, head, layouts + bytes(padding), times, cells, ids, numbers.astype(np.uint32), columns.hints)


def read_histograms(item: wal.Record) -> tuple[NDArray[np.uint32], NDArray[np.int64], Histograms]:
    """(ids, timestamps, histograms) of a record; `at` counts them. Raises `ValueError` where its lengths do not fit."""
    payload = item.payload
    if len(payload) < _HEAD.size:
        raise ValueError("a histograms record that ends inside its counts")
    n, size, padding = _HEAD.unpack_from(payload)
    at = _HEAD.size
    if n == 0 or size < padding or at + size + 17 * n > len(payload):
        raise ValueError("a histograms record whose counts do not fit its length")
    layouts = histogram_layouts.parse(bytes(payload[at : at + size - padding]))
    at += size
    tail = len(payload) - 9 * n
    if (tail - at) % 8:
        raise ValueError("a histograms record whose counts do not fit its length")
    times = np.frombuffer(payload, dtype=np.int64, offset=at, count=n)
    cells = np.frombuffer(payload, dtype=np.float64, offset=at + 8 * n, count=(tail - at) // 8 - n)
    ids = np.frombuffer(payload, dtype=np.uint32, offset=tail, count=n)
    numbers = np.frombuffer(payload, dtype=np.uint32, offset=tail + 4 * n, count=n)
    hints = np.frombuffer(payload, dtype=np.uint8, offset=tail + 8 * n, count=n)
    if int(numbers.max()) >= len(layouts):
        raise ValueError("a histogram of a layout that is not there")
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.array([layout.width for layout in layouts], dtype=np.int64)[numbers], out=offsets[1:])
    if offsets[-1] != len(cells):
        raise ValueError("a histograms record whose cells do not fit its layouts")
    columns = Histograms(np.arange(n, dtype=np.int64), layouts, numbers.astype(np.int32), offsets, cells.copy(), hints.copy())
    return ids, times.copy(), columns
