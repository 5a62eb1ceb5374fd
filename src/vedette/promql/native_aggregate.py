"""`sum` and `avg` of native histograms. The other aggregations count samples, or leave histograms out with an info."""

from __future__ import annotations

import numpy as np

from vedette.model.histogram_arithmetic import RunningMean, RunningSum, compacted
from vedette.model.histograms import Histogram
from vedette.model.labels import METRIC_NAME
from vedette.promql import annotations as say
from vedette.promql import native_bounds, native_sums, native_zero
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_pool import Natives
from vedette.promql.nodes import Aggregate
from vedette.promql.values import Bools, Ints, Matrix


def summed(ev: Evaluation, node: Aggregate, matrix: Matrix, groups: Ints, count: int) -> tuple[Natives, Bools]:
    """The sum or average of each group's histograms at each step, and where there is none though there were histograms.

    [count, n] both. Samples are added in order of the rows: what stands behind the first histogram that does not fit is not looked
    at, and where a float is first no histogram is.
    """
    assert matrix.histograms is not None
    natives = Natives(np.where(matrix.present, matrix.histograms.index, -1), matrix.histograms.pool)
    wide = native_zero.of_groups(ev, natives, groups, count)
    sums = native_sums.of_groups(ev, wide, groups, count, mean=node.op == "avg")
    first_float, left, mixed = np.zeros(0, dtype=np.int64), sums.left, np.zeros(sums.left.shape, dtype=np.bool_)
    floats = matrix.present & ~natives.mask
    if floats.any():
        first_float = _first(floats, groups, count)
        mixed = (_first(natives.mask, groups, count) < len(groups)) & (first_float < len(groups))
        left = left | mixed
    found, collided = sums.natives, sums.collided & ~left
    if (left & ~mixed).any() and (more := native_bounds.of_groups(ev, natives, groups, left & ~mixed, mean=node.op == "avg")) is not None:
        found, left, collided = found.merged(more.made, more.natives), left & ~more.made, collided | more.collided
        if more.unlike.any():
            ev.annotations.inform(say.reconciled_bounds("aggregation"), node.expr)
    if collided.any():
        ev.annotations.warn(say.colliding_resets("aggregation"), node.expr)
    failed = np.zeros(left.shape, dtype=np.bool_)
    if not left.any():
        return found, failed
    out = np.full(failed.shape, None, dtype=object)
    members = np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups, minlength=count))[:-1])
    mask = natives.mask
    for group, k in np.argwhere(left).tolist():
        ev.check()
        rows = members[group][mask[members[group], k]]
        out[group, k] = _one_by_one(ev, node, matrix, rows, k, alone=int(first_float[group, k]) if len(first_float) else len(groups))
        failed[group, k] = out[group, k] is None
    return found.replaced(left, out), failed


def _one_by_one(ev: Evaluation, node: Aggregate, matrix: Matrix, rows: Ints, step: int, *, alone: int) -> Histogram | None:
    """The sum or average of one group's histograms at one step, which are those of `rows`; None where they do not go together.

    `alone` is the first row with a float, behind all where there is none.
    """
    assert matrix.histograms is not None
    samples: list[Histogram] = matrix.histograms.at((rows[: 1 if alone < rows[0] else len(rows)], step)).objects.tolist()
    total: RunningSum | RunningMean = (RunningSum if node.op == "sum" else RunningMean)(samples[0])
    upto = len(matrix)
    for row, h in zip(rows[1:].tolist(), samples[1:], strict=False):
        if not total.add(h):
            upto = row
            symbol = int(matrix.labels.column(METRIC_NAME)[row])
            name = matrix.labels.symbols.text(symbol) if symbol >= 0 else ""
            ev.annotations.warn(say.mixed_schemas(name), node.expr)
            break
    if alone < upto:
        ev.annotations.warn(say.MIXED_IN_AGGREGATION, node.expr)
    seen = total if isinstance(total, RunningSum) else total.sum
    if seen.reconciled:
        ev.annotations.inform(say.reconciled_bounds("aggregation"), node.expr)
    if min(alone, upto) < len(matrix):
        return None
    if seen.collided:
        ev.annotations.warn(say.colliding_resets("aggregation"), node.expr)
    return compacted(total.result())


def _first(there: Bools, groups: Ints, count: int) -> Ints:
    """The first row of each group in which something is there at each step, behind all rows where there is none: int64[groups, n]."""
    first = np.full((count, there.shape[1]), len(groups), dtype=np.int64)
    rows, steps = np.nonzero(there)
    np.minimum.at(first, (groups[rows], steps), rows)
    return first
