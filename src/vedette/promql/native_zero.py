"""Zero buckets that are made wider, so that histograms whose zero buckets are not of one width go together, many at a time.

Where the wider one ends within a bucket, how wide it becomes depends on which buckets are empty: that is left to those who take one
histogram after another.
"""

from __future__ import annotations

import numpy as np

from vedette.kernels import native as kernel
from vedette.model.histograms import Layout, exponential_bounds
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_layouts import Layouts
from vedette.promql.native_pool import Natives, Pool
from vedette.promql.values import Bools, Floats, Ints


def of_groups(ev: Evaluation, natives: Natives, groups: Ints, count: int) -> Natives:
    """Histograms [rows, n] with the zero buckets of the widest in the same of `count` groups at the same step, as far as may be."""
    pool = natives.pool
    if not pool.table.reaching:
        return natives
    rows, steps = np.nonzero(natives.mask)
    items = natives.index[rows, steps]
    widest = np.full((count, natives.shape[1]), -np.inf)
    np.maximum.at(widest, (groups[rows], steps), pool.table.thresholds[pool.layout[items]])
    made, items = widened(ev, pool, items, widest[groups[rows], steps])
    index = natives.index.copy()
    index[rows, steps] = items
    return Natives(index, made)


def widened(ev: Evaluation, pool: Pool, items: Ints, thresholds: Floats) -> tuple[Pool, Ints]:
    """A pool, and the numbers in it of the histograms `items` with zero buckets of `thresholds`, where these are wider and may be."""
    table = pool.table
    layout = pool.layout[items].astype(np.int64)
    short = np.flatnonzero(table.thresholds[layout] < thresholds)
    values, which = np.unique(thresholds[short], return_inverse=True)
    clear = _clear(table, values)[which.reshape(-1)]
    short, which = short[clear], which.reshape(-1)[clear]
    if not len(short):
        return pool, items
    # A histogram may stand in several places.
    keys, place = np.unique(items[short] * len(values) + which, return_inverse=True)
    sources, value = np.divmod(keys, len(values))
    kinds, kind = np.unique(pool.layout[sources] * np.int64(len(values)) + value, return_inverse=True)
    layouts, taken = [], np.empty((len(kinds), 2), dtype=np.int64)
    for i, (number, v) in enumerate(zip(*(side.tolist() for side in np.divmod(kinds, len(values))), strict=True)):
        like, threshold = pool.layouts[number], float(values[v])
        p, n = (int(np.count_nonzero(low < threshold)) for low, _ in (like.positive_bounds, like.negative_bounds))
        layouts.append(Layout(like.schema, threshold, (), like.positive[p:], like.negative[n:]))
        taken[i] = p, n
    kind = kind.reshape(-1)
    widths = np.array([x.width for x in layouts], dtype=np.int64)[kind]
    at = np.cumsum(widths) - widths
    cells = np.empty(int(widths.sum()))
    ev.count(0, cells.nbytes)
    kernel.widened(table.shapes, sources, pool.layout, pool.starts, pool.cells, taken[kind], cells, at)
    made = Pool(layouts, kind.astype(np.int32), at, cells, pool.hints[sources], pool.slim[sources])
    out = items.copy()
    out[short] = len(pool) + place.reshape(-1)
    return pool.with_(made), out


def _clear(table: Layouts, thresholds: Floats) -> Bools:
    """Which thresholds lie within no bucket of any layout, made as coarse as the coarsest."""
    some = [x for x in table.layouts if not x.custom]
    coarsest = min((x.schema for x in some), default=0)
    found = [((side - 1) >> x.schema - coarsest) + 1 for x in some for side in (x.positive, x.negative)]
    indices = np.unique(np.concatenate([*found, np.zeros(0, dtype=np.int32)])).astype(np.int32)
    low, high = exponential_bounds(coarsest, indices - 1), exponential_bounds(coarsest, indices)
    # Buckets do not overlap: the one that could hold a value is the first that ends behind it.
    first = np.searchsorted(high, thresholds, side="right")
    within: Bools = first < len(high)
    within[within] = low[first[within]] < thresholds[within]
    return ~within
