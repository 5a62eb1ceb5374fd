"""The start timestamps of a selector's samples: what `start_timestamp()` reads instead of their values."""

from __future__ import annotations

import numpy as np

from vedette.kernels import windows as k
from vedette.model.samples import STALE, is_stale
from vedette.promql.evaluation import Evaluation
from vedette.promql.nodes import Selector
from vedette.promql.plan import window_grid
from vedette.promql.selectors import Fetched
from vedette.promql.values import Grid, Matrix


def instants(ev: Evaluation, node: Selector, grid: Grid, data: Fetched) -> Matrix:
    """Since when the last sample within the lookback has counted, floats and histograms alike: in seconds, 0 where that is unknown."""
    ends, rows = window_grid(node, grid, ev.bounds), len(data.labels)
    ev.count(rows * grid.n)
    # The kernel looks for numbers of samples instead of their values.
    numbers = np.where(is_stale(data.values), STALE, np.arange(len(data.values), dtype=np.float64))
    found, present = np.zeros((rows, grid.n)), np.empty((rows, grid.n), dtype=np.bool_)
    k.last_sample(
        data.offsets, data.timestamps, numbers, 0, rows, ends.start, ends.step, ends.n, ev.bounds.lookback, False, found, present
    )  # fmt: skip
    values = np.zeros(found.shape)
    if data.starts is not None:
        values[present] = data.starts[found[present].astype(np.int64)] / 1000.0
    return Matrix(data.labels, values, present)
