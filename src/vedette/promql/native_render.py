"""Native histograms as Prometheus writes them: in JSON answers, and as text."""

from __future__ import annotations

import math

import numpy as np

from vedette.model.buckets import all_buckets
from vedette.model.histograms import Histogram
from vedette.promql.format import go_float, go_g, json_float


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


def json_object(h: Histogram) -> bytes:
    """The object of Prometheus' JSON: count, sum, and the buckets that hold anything."""
    parts = [f'"count":"{json_float(h.count)}","sum":"{json_float(h.sum)}"']
    buckets = [
        f'[{_RULES[_ends(h, low, high)]},"{json_float(low)}","{json_float(high)}","{json_float(count)}"]'
        for low, high, count in zip(*(c.tolist() for c in all_buckets(h)), strict=True)
        if count != 0
    ]
    if buckets:
        parts.append(f'"buckets":[{",".join(buckets)}]')
    return ("{" + ",".join(parts) + "}").encode()


def literal(h: Histogram) -> str:
    """`{{schema:0 count:4 …}}`, as test files write histograms; buckets beyond gaps are shown with the gaps as zeros."""
    layout = h.layout
    parts = [f"schema:{layout.schema}", f"count:{go_float(h.count)}", f"sum:{go_float(h.sum)}"]
    if layout.threshold or h.zero_count:
        parts.append(f"z_bucket:{go_float(h.zero_count)} z_bucket_w:{go_float(layout.threshold)}")
    if layout.bounds:
        parts.append(f"custom_values:[{' '.join(map(go_float, layout.bounds))}]")
    hint = ("", "reset", "not_reset", "gauge")[h.hint]
    if hint:
        parts.append(f"counter_reset_hint:{hint}")
    for prefix, indices, counts in (("", layout.positive, h.positive), ("n_", layout.negative, h.negative)):
        if len(indices):
            dense = np.zeros(int(indices[-1] - indices[0]) + 1)
            dense[indices - indices[0]] = counts
            parts.append(f"{prefix}offset:{indices[0]} {prefix}buckets:[{' '.join(map(go_float, dense.tolist()))}]")
    return "{{" + " ".join(parts) + "}}"
