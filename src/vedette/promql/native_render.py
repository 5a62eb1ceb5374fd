"""Native histograms as Prometheus writes them: in JSON answers, and as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import native_json as kernel
from vedette.kernels.digits import SPARE
from vedette.kernels.shortest import decimals
from vedette.model.buckets import all_buckets
from vedette.model.histogram_arithmetic import compacted
from vedette.model.histograms import Histogram
from vedette.promql.format import go_g, json_float
from vedette.promql.native_pool import Ints, Pool


def _ends(custom: bool, low: float, high: float) -> tuple[bool, bool]:
    """Whether a bucket includes its lower and its upper bound."""
    if custom:
        return low == -math.inf, True
    return low < 0, high > 0


def text(h: Histogram) -> str:
    """`{count:4, sum:5, (1,2]:4}`: buckets that hold anything, from the lowest on."""
    parts = [f"count:{go_g(h.count)}", f"sum:{go_g(h.sum)}"]
    for low, high, count in zip(*(c.tolist() for c in all_buckets(h)), strict=True):
        if count != 0:
            first, last = _ends(h.layout.custom, low, high)
            parts.append(f"{'[' if first else '('}{go_g(low)},{go_g(high)}{']' if last else ')'}:{go_g(count)}")
    return "{" + ", ".join(parts) + "}"


_RULES = {(False, True): 0, (True, False): 1, (False, False): 2, (True, True): 3}
"""How JSON numbers which bounds a bucket includes."""


_FRAME = (b',{"count":"', b',"sum":"', b',"buckets":[', b"}],", b"]}],")


class JsonHistograms:
    """Writes the histograms of a pool as points of Prometheus' JSON: time, count, sum, and the buckets that hold anything."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._buckets = pool.buckets
        texts, self._head_of = self._head_texts()
        self._heads = _text(texts)
        self._frame = _text(_FRAME)

    def _head_texts(self) -> tuple[list[bytes], Ints]:
        """What can stand before the count of a bucket, which bounds it includes and these; and which of that each bucket has."""
        _order, lower, upper, at, _positive, _negative, custom = self._buckets
        # By their bits: -0 is shown as such.
        numbers, which = np.unique(np.concatenate([lower, upper]).view(np.int64), return_inverse=True)
        low, high = which.reshape(2, -1)
        linear = np.repeat(custom, np.diff(at))
        kinds, kind_of = np.unique((low * len(numbers) + high) * 2 + linear, return_inverse=True)
        shown = [(number, json_float(number)) for number in numbers.view(np.float64).tolist()]
        texts = []
        for kind in kinds.tolist():
            (a, first), (b, last) = shown[kind // 2 // len(numbers)], shown[kind // 2 % len(numbers)]
            texts.append(f'[{_RULES[_ends(kind % 2 == 1, a, b)]},"{first}","{last}","'.encode())
        return texts, kind_of.reshape(-1).astype(np.int64)

    def points(self, items: Ints, times: Ints) -> tuple[memoryview, Ints]:
        """The histograms `items` of the pool at `times` (int64 ms), each followed by a comma, and where each ends: int64."""
        most = int(self._pool.table.widths[self._pool.layout[items]].sum())
        floats, bucket = np.empty(most), np.empty(most, dtype=np.int64)
        ends = np.empty(len(items), dtype=np.int64)
        count = kernel.listed(items, self._pool.columns, self._buckets, floats, bucket, ends)
        floats, bucket = floats[:count], bucket[:count]
        bucket = np.where(bucket >= 0, self._head_of[bucket], -1) if len(self._head_of) else bucket
        numbers = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int16)
        decimals(floats, *numbers)
        sizes = np.diff(self._heads[1])
        room = kernel.NUMBER_BYTES * count + kernel.POINT_BYTES * len(items) + int(sizes[bucket[bucket >= 0]].sum()) + SPARE
        out, upto = np.empty(room, dtype=np.uint8), np.empty(len(items), dtype=np.int64)
        size = kernel.render_histograms(np.ascontiguousarray(times), ends, numbers, bucket, self._heads, self._frame, out, upto)
        return out[:size].data, upto


def _spared(text: bytes) -> NDArray[np.uint8]:
    """A text as kernels read it: with bytes to spare, and writable, as they are compiled for."""
    return np.frombuffer(bytearray(text + bytes(SPARE)), dtype=np.uint8)


def _text(pieces: Sequence[bytes]) -> tuple[NDArray[np.uint8], Ints]:
    """Pieces end to end, and where they begin."""
    return _spared(b"".join(pieces)), np.cumsum([0, *map(len, pieces)], dtype=np.int64)


def literal(h: Histogram) -> str:
    """`{{count:4 sum:5 buckets:[1 2 1]}}`, as test files write histograms and promtool compares them; gaps are shown as zeros."""
    h = compacted(h)
    layout = h.layout
    numbers = {"count": h.count, "sum": h.sum, "z_bucket": h.zero_count, "z_bucket_w": layout.threshold}
    parts = [f"schema:{layout.schema}"] if layout.schema else []
    parts += [f"{key}:{go_g(value)}" for key, value in numbers.items() if value != 0]
    if layout.custom:
        parts.append(f"custom_values:[{' '.join(map(go_g, layout.bounds))}]")
    if h.hint:
        parts.append(f"counter_reset_hint:{('', 'reset', 'not_reset', 'gauge')[h.hint]}")
    for prefix, indices, counts in (("", layout.positive, h.positive), ("n_", layout.negative, h.negative)):
        if len(indices):
            dense = np.zeros(int(indices[-1] - indices[0]) + 1)
            dense[indices - indices[0]] = counts
            if indices[0]:
                parts.append(f"{prefix}offset:{indices[0]}")
            parts.append(f"{prefix}buckets:[{' '.join(map(go_g, dense.tolist()))}]")
    return "{{" + " ".join(parts) + "}}"
