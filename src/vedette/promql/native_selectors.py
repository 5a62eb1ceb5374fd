"""What selectors and rates give of native histograms as columns (`values.NativeRows`), where they are plain; else their matrix is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import windows as k
from vedette.kernels.native import compared
from vedette.model.samples import is_stale
from vedette.promql import labelsets
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_columns import rated_rows
from vedette.promql.nodes import Selector
from vedette.promql.plan import window_grid
from vedette.promql.values import Grid, Matrix, NativeRows, Windows

if TYPE_CHECKING:
    from vedette.promql.selectors import Fetched


def latest(
    ev: Evaluation, node: Selector, grid: Grid, data: Fetched, *, counts_only: bool, whole: Callable[[], Matrix]
) -> NativeRows | None:
    """The last native histograms as columns, where all samples are such, and those of a series share their layout.

    `whole` makes their matrix.
    """
    found = data.histograms
    assert found is not None, "only where there are any"
    if len(found) != len(data.values) or is_stale(data.values).any():
        return None
    rows, offsets = len(data.labels), data.offsets
    filled = np.flatnonzero(np.diff(offsets))
    layout_of = np.full(rows, -1, dtype=np.int64)
    layout_of[filled] = found.layout[offsets[filled]]
    row_of = np.repeat(np.arange(rows), np.diff(offsets))
    if (found.layout != layout_of[row_of]).any():
        return None
    hints = found.hints.copy()
    if counts_only:
        compared(*(writable(column) for column in (found.offsets[:-1], found.cells, found.layout, row_of, hints)))
    ends = window_grid(node, grid, ev.bounds)
    ev.count(rows * grid.n)
    # The kernel looks for numbers of samples instead of their values.
    numbers = np.arange(len(data.values), dtype=np.float64)
    latest, present = np.zeros((rows, grid.n)), np.empty((rows, grid.n), dtype=np.bool_)
    k.last_sample(offsets, data.timestamps, numbers, 0, rows, ends.start, ends.step, ends.n, ev.bounds.lookback, False, latest, present)
    at = np.where(present, latest, 0.0).astype(np.int64)
    starts = np.where(present, found.offsets[:-1][at] if len(numbers) else 0, -1)

    there = hints[at] if len(numbers) else np.zeros(at.shape, dtype=np.uint8)
    return NativeRows(data.labels, writable(found.cells), starts, layout_of, found.layouts, there, whole)


def rated(ev: Evaluation, name: str, over: Windows, grid: Grid) -> NativeRows | None:
    """Rates of native histograms as columns, where all series are plain, and are told apart without their names."""
    if name not in ("rate", "increase") or over.natives is None or over.starts is not None or over.anchored or over.smoothed:
        return None
    if ev.delayed_names or over.drop is not None or not labelsets.unique_without_names(over.labels):
        return None
    rows = rated_rows(ev, over, grid, per_second=name == "rate")
    if rows is not None:
        rows.labels = labelsets.kept(rows.labels, labelsets.METADATA, without=True)
    return rows


def writable(array: NDArray[Any]) -> NDArray[Any]:
    """As kernels are compiled for it: a read-only array would be compiled for anew."""
    return np.require(array, requirements=("C", "W"))
