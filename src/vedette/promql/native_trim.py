"""The trim operators: native histograms' observations below (`</`) or above (`>/`) a value, many histograms at a time.

A bucket that holds the value is split as quantiles would split it. Count and sum are made anew from the buckets where
anything was cut off: the sum as if observations lay in the middle of what is left of their bucket. What lies in a bucket
without an end is kept or dropped whole.
"""

from __future__ import annotations

import numpy as np

from vedette.kernels import native_trim as kernel
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_layouts import Layouts
from vedette.promql.native_pool import Pool
from vedette.promql.values import Floats, Ints


def trimmed(ev: Evaluation, pool: Pool, items: Ints, values: Floats, *, upper: bool) -> Pool:
    """The observations of each of the histograms `items` below its value with `upper`, else those above it.

    Without empty buckets where anything was cut off; else as it was.
    """
    table, to = pool.table, pool.layout[items].astype(np.int64)
    widths = table.widths[to]
    at = np.cumsum(widths) - widths
    cells, cut = np.empty(int(widths.sum())), np.empty(len(items), dtype=np.bool_)
    ev.count(0, cells.nbytes)
    custom = np.array([x.custom for x in pool.layouts], dtype=np.bool_)
    kernel.trimmed(items, values, upper, pool.columns[:3], table.shapes, custom, table.thresholds, _bounds(pool, table), cells, at, cut)
    return Pool.made(pool.layouts, to, at, cells, pool.hints[items], cut | pool.slim[items])


def _bounds(pool: Pool, table: Layouts) -> tuple[Floats, Floats]:
    """The lower and the upper bounds of the buckets of all layouts, in the order of their cells."""
    lower, upper = [np.zeros(0)], [np.zeros(0)]
    for layout in pool.layouts:
        (low, high), (near, far) = layout.positive_bounds, layout.negative_bounds
        lower += [low, -far]
        upper += [high, -near]
    return np.concatenate(lower), np.concatenate(upper)
