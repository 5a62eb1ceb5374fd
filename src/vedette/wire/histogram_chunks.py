"""Native histograms of one series as Prometheus' chunks of float histograms. Not here: the messages around them (`remote_read.py`)."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import histogram_chunks as kernel
from vedette.model.histograms import Histograms, Layout
from vedette.wire.native import spans

ENCODING = 3
"""What Prometheus calls chunks of float histograms."""

_WIDTHS = (3, 6, 9, 12, 18, 25, 56)
_LARGEST_BOUND = 33_554_430
"""In thousandths: larger bounds take no less room as such than as floats."""


class _Bits:
    """Bits one after the other."""

    def __init__(self) -> None:
        self._value = self.count = 0

    def put(self, value: int, count: int) -> None:
        """The lowest `count` bits of `value`."""
        self._value = self._value << count | value & (1 << count) - 1
        self.count += count

    def put_varbit(self, value: int, *, unsigned: bool = False) -> None:
        """A number, with as many bits as it needs, about."""
        if value == 0:
            self.put(0, 1)
            return
        for ones, width in enumerate(_WIDTHS, 1):
            low, high = (1, (1 << width) - 1) if unsigned else (1 - (1 << width - 1), 1 << width - 1)
            if low <= value <= high:
                self.put((1 << ones + 1) - 2, ones + 1)
                self.put(value, width)
                return
        self.put(0xFF, 8)
        self.put(value, 64)

    def put_float(self, value: float) -> None:
        """A float's own bits."""
        self.put(int.from_bytes(struct.pack(">d", value), "big"), 64)

    @property
    def bytes(self) -> bytes:
        """All of them; the last byte is filled up with 0."""
        size = (self.count + 7) // 8
        return (self._value << size * 8 - self.count).to_bytes(size, "big")


def layout_bits(layout: Layout) -> tuple[bytes, int]:
    """A layout as a chunk has it, and how many bits that are."""
    bits = _Bits()
    # A power of two that is not unusual takes a byte: its exponent.
    fraction, exponent = math.frexp(layout.threshold)
    if layout.threshold == 0:
        bits.put(0, 8)
    elif fraction == 0.5 and -242 <= exponent <= 11:
        bits.put(exponent + 243, 8)
    else:
        bits.put(0xFF, 8)
        bits.put_float(layout.threshold)
    bits.put_varbit(layout.schema)
    for side in (layout.positive, layout.negative):
        runs = spans(side)
        bits.put_varbit(len(runs), unsigned=True)
        for offset, length in runs:
            bits.put_varbit(length, unsigned=True)
            bits.put_varbit(offset)
    if layout.custom:
        bits.put_varbit(len(layout.bounds), unsigned=True)
        for bound in layout.bounds:
            _put_bound(bits, bound)
    return bits.bytes, bits.count


def _put_bound(bits: _Bits, bound: float) -> None:
    thousandths = bound * 1000
    if 0 <= thousandths <= _LARGEST_BOUND and (whole := math.floor(thousandths + 0.5)) / 1000 == bound:
        bits.put_varbit(whole + 1, unsigned=True)
    else:
        bits.put(0, 1)
        bits.put_float(bound)


def chunks(histograms: Histograms, which: slice, times: NDArray[np.int64]) -> Iterator[tuple[int, int, bytes]]:
    """(first sample, the one after the last, data) of each chunk of the histograms `which`, one after another at `times` (int64 ms)."""
    kinds, layout = np.unique(histograms.layout[which], return_inverse=True)
    told = [layout_bits(histograms.layouts[kind]) for kind in kinds.tolist()]
    widths = np.array([histograms.layouts[kind].width for kind in kinds.tolist()], dtype=np.int64)
    heads = _ends([len(head) for head, _ in told])
    begin, end = int(histograms.offsets[which.start]), int(histograms.offsets[which.stop])
    # Copies, since the kernel is compiled for arrays that are writable and in one piece.
    cells = histograms.cells[begin:end].copy()
    room = kernel.MOST_BYTES * (len(cells) + 2 * len(times)) + int(np.diff(heads)[layout].sum())
    out, found = np.zeros(room, dtype=np.uint8), np.empty((len(times), 3), dtype=np.int64)
    count = kernel.encode(
        times.copy(),
        layout.reshape(-1).astype(np.int64),
        histograms.offsets[which] - begin,
        histograms.hints[which].copy(),
        cells,
        cells.view(np.int64),
        widths,
        np.frombuffer(bytearray().join(head for head, _ in told), dtype=np.uint8),
        heads,
        np.array([bits for _, bits in told], dtype=np.int64),
        out,
        found,
    )
    raw, start = out.tobytes(), 0
    for first, last, stop in found[:count].tolist():
        yield first, last, raw[start:stop]
        start = stop


def _ends(sizes: Sequence[int]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)])
