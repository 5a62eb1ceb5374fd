"""Native histograms as Prometheus writes them: in JSON answers, and as text."""

from __future__ import annotations

import math

import numpy as np

from vedette.model.buckets import all_buckets
from vedette.model.histogram_arithmetic import compacted
from vedette.model.histograms import Histogram, Layout
from vedette.promql.format import go_g, json_float


def _ends(h: Histogram, low: float, high: float) -> tuple[bool, bool]:
    """Whether a bucket includes its lower and its upper bound."""
    if h.layout.custom:
        return low == -math.inf, True
    return low < 0, high > 0


def text(h: Histogram) -> str:
    """`{count:4, sum:5, (1,2]:4}`: buckets that hold anything, from the lowest on."""
    parts = [f"count:{go_g(h.count)}", f"sum:{go_g(h.sum)}"]
    for low, high, count in zip(*(c.tolist() for c in all_buckets(h)), strict=True):
        if count != 0:
            first, last = _ends(h, low, high)
            parts.append(f"{'[' if first else '('}{go_g(low)},{go_g(high)}{']' if last else ')'}:{go_g(count)}")
    return "{" + ", ".join(parts) + "}"


_RULES = {(False, True): 0, (True, False): 1, (False, False): 2, (True, True): 3}
"""How JSON numbers which bounds a bucket includes."""


class JsonHistograms:
    """Writes histograms as the objects of Prometheus' JSON: count, sum, and the buckets that hold anything.

    Bounds are written once for each layout, which the samples of a series mostly share.
    """

    def __init__(self) -> None:
        # Layouts are kept, so that no other can come to have the same id.
        self._known: dict[tuple[int, bool], tuple[Layout, list[str]]] = {}

    def write(self, h: Histogram) -> bytes:
        """One histogram."""
        key = (id(h.layout), h.zero_count > 0)
        every = all_buckets(h)
        if key not in self._known:
            ends = zip(every.lower.tolist(), every.upper.tolist(), strict=True)
            heads = [f'[{_RULES[_ends(h, low, high)]},"{json_float(low)}","{json_float(high)}","' for low, high in ends]
            self._known[key] = (h.layout, heads)
        counts = every.counts.tolist()
        buckets = [f'{head}{json_float(count)}"]' for head, count in zip(self._known[key][1], counts, strict=True) if count != 0]
        text = f'{{"count":"{json_float(h.count)}","sum":"{json_float(h.sum)}"'
        return (f'{text},"buckets":[{",".join(buckets)}]}}' if buckets else text + "}").encode()


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
