"""Time series as a small PNG, for mails: lines, a threshold, an axis of values and one of times. Drawn here; pure.

Mail programs show neither SVG nor scripts, and a plotting library would weigh more than all of Vedette. Everything is drawn at
twice the size and averaged, which makes smooth lines of hard ones. Not here: which series (`plotted.py`).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 600, 200
_FINE = 2
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 10, 24
_INK, _GRID, _RED = (85, 99, 108), (226, 232, 236), (179, 38, 30)
COLOURS = ((3, 103, 209), (222, 116, 14), (23, 112, 63), (88, 39, 87), (167, 127, 80))
_THICK = 4
_GLYPH = 3
# Five columns of seven dots, the lowest bit on top.
_FONT = {
    "0": (62, 81, 73, 69, 62),
    "1": (0, 66, 127, 64, 0),
    "2": (66, 97, 81, 73, 70),
    "3": (33, 65, 69, 75, 49),
    "4": (24, 20, 18, 127, 16),
    "5": (39, 69, 69, 69, 57),
    "6": (60, 74, 73, 73, 48),
    "7": (1, 113, 9, 5, 3),
    "8": (54, 73, 73, 73, 54),
    "9": (6, 73, 73, 41, 30),
    "-": (8, 8, 8, 8, 8),
    "+": (8, 8, 62, 8, 8),
    ".": (0, 96, 96, 0, 0),
    ":": (0, 54, 54, 0, 0),
    "e": (56, 84, 84, 84, 24),
    "k": (127, 16, 40, 68, 0),
    "M": (127, 2, 12, 2, 127),
    "G": (62, 65, 73, 73, 122),
    "T": (1, 1, 127, 1, 1),
    "m": (124, 4, 24, 4, 120),
    "u": (60, 64, 64, 32, 124),
    " ": (0, 0, 0, 0, 0),
}
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"))


@dataclass(frozen=True, slots=True)
class Line:
    """One series: `times` int64[n], Unix ms, rising; `values` float64[n], NaN where there is a gap."""

    times: NDArray[np.int64]
    values: NDArray[np.float64]


def png(lines: Sequence[Line], *, start: int, end: int, threshold: float | None = None) -> bytes | None:
    """The lines from `start` to `end` (Unix ms) as a PNG of `WIDTH` x `HEIGHT`; None where there is nothing finite to draw."""
    given = np.concatenate([line.values[np.isfinite(line.values)] for line in lines]) if lines else np.empty(0)
    if not len(given) or end <= start:
        return None
    low, high = float(given.min()), float(given.max())
    if threshold is not None and math.isfinite(threshold):
        low, high = min(low, threshold), max(high, threshold)
    ticks = _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    canvas = np.full((HEIGHT * _FINE, WIDTH * _FINE, 3), 255, dtype=np.uint8)
    x0, x1 = _LEFT * _FINE, (WIDTH - _RIGHT) * _FINE
    y0, y1 = _TOP * _FINE, (HEIGHT - _BOTTOM) * _FINE

    def row(value: float) -> int:
        return round(y1 - (value - low) / (high - low) * (y1 - y0))

    for tick in ticks:
        at = row(tick)
        canvas[at : at + 2, x0:x1] = _GRID
        text = shortened(tick, ticks[1] - ticks[0])
        _write(canvas, text, x0 - 8 - _length(text), at - 7 * _GLYPH // 2, _INK)
    for i in range(4):
        when, at = start + (end - start) * i // 3, x0 + (x1 - x0) * i // 3
        text = f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=when):%H:%M}"
        _write(canvas, text, min(at - _length(text) // 2, x1 - _length(text)), y1 + 14, _INK)
    if threshold is not None and math.isfinite(threshold):
        at = row(threshold)
        for x in range(x0, x1, 16):
            canvas[max(0, at - 1) : at + 2, x : x + 9] = _RED
    for i, line in enumerate(lines):
        _draw(canvas, line, COLOURS[i % len(COLOURS)], (x0, x1, y0, y1), (start, end, low, high))
    return _encoded(canvas.reshape(HEIGHT, _FINE, WIDTH, _FINE, 3).mean(axis=(1, 3)).astype(np.uint8))


def _draw(
    canvas: NDArray[np.uint8],
    line: Line,
    colour: tuple[int, int, int],
    box: tuple[int, int, int, int],
    window: tuple[int, int, float, float],
) -> None:
    (x0, x1, y0, y1), (start, end, low, high) = box, window
    good = np.isfinite(line.values) & (line.times >= start) & (line.times <= end)
    if not good.any():
        return
    xs = x0 + (line.times[good] - start) / (end - start) * (x1 - x0)
    ys = np.clip(y1 - (line.values[good] - low) / (high - low) * (y1 - y0), y0, y1)
    places = np.flatnonzero(good)
    # Where samples are missing between two, the line is broken.
    for part in np.split(np.arange(len(places)), np.flatnonzero(np.diff(places) > 1) + 1):
        columns = np.arange(math.floor(xs[part[0]]), math.ceil(xs[part[-1]]) + 1)
        heights = np.interp(columns, xs[part], ys[part])
        after = np.append(heights[1:], heights[-1])
        for x, one, other in zip(columns.tolist(), heights.tolist(), after.tolist(), strict=True):
            top, bottom = math.floor(min(one, other)) - _THICK // 2, math.ceil(max(one, other)) + _THICK // 2
            canvas[max(0, top) : bottom, max(0, x - 1) : x + 2] = colour


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round values that span the range."""
    size = max(abs(low), abs(high))
    if not size:
        low, high = 0.0, 1.0
    elif high - low < size * 1e-6 or high - low < 1e-12:
        low, high = low - max(size * 0.1, 1e-12), high + max(size * 0.1, 1e-12)
    raw = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * f for f in (1, 2, 2.5, 5, 10) if size * f >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [i * step for i in range(first, last + 1)]


def shortened(value: float, step: float) -> str:
    """A value for an axis, as exact as its step: `1.5k`, `250m`, `0`."""
    if abs(value) < step / 1e6:
        return "0"
    scale, unit = next(((s, u) for s, u in _UNITS if abs(value) >= s), _UNITS[-1])
    if not 1e-6 <= abs(value) < 1e15:
        return f"{value:.1e}"
    digits = max(0, min(3, math.ceil(-math.log10(step / scale)))) if step < scale else 0
    return f"{value / scale:.{digits}f}{unit}"


def _length(text: str) -> int:
    return len(text) * 6 * _GLYPH - _GLYPH


def _write(canvas: NDArray[np.uint8], text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    for i, letter in enumerate(text):
        for column, dots in enumerate(_FONT[letter]):
            for line in range(7):
                if dots >> line & 1:
                    left, top = x + (i * 6 + column) * _GLYPH, y + line * _GLYPH
                    canvas[max(0, top) : max(0, top + _GLYPH), max(0, left) : max(0, left + _GLYPH)] = colour


def _encoded(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of RGB pixels, uint8[height, width, 3]."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = np.zeros((height, 1 + width * 3), dtype=np.uint8)
    rows[:, 1:] = pixels.reshape(height, width * 3)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
