"""`sum` and `avg` of native histograms. The other aggregations count samples, or leave histograms out with an info."""

from __future__ import annotations

import numpy as np

from vedette.model.histogram_arithmetic import RunningMean, RunningSum, compacted
from vedette.model.labels import METRIC_NAME
from vedette.promql import annotations as say
from vedette.promql import native_columns
from vedette.promql.evaluation import Evaluation
from vedette.promql.nodes import Aggregate
from vedette.promql.values import Bools, Ints, Matrix, Objects, native_mask


def summed(ev: Evaluation, node: Aggregate, matrix: Matrix, groups: Ints, count: int) -> tuple[Objects, Bools]:
    """The sum or average of each group's histograms at each step, and where there is none though there were histograms.

    object[count, n] and bool[count, n]. Samples are added in order of the rows: what stands behind the first histogram that does
    not fit is not looked at, and where a float is first no histogram is.
    """
    assert matrix.histograms is not None
    shape = (count, matrix.present.shape[1])
    totals = np.full(shape, None, dtype=object)
    failed = np.zeros(shape, dtype=np.bool_)
    names = matrix.labels.column(METRIC_NAME)
    kind = RunningSum if node.op == "sum" else RunningMean
    out = np.full(shape, None, dtype=object)
    first_float = _first_floats(matrix, groups, shape)
    for k in range(shape[1]):
        ev.check()
        rows = np.flatnonzero(matrix.native[:, k])
        rows = rows[np.argsort(groups[rows], kind="stable")]
        cuts = np.flatnonzero(np.diff(groups[rows])) + 1
        for part in np.split(rows, cuts) if len(rows) else ():
            group, samples = int(groups[part[0]]), matrix.histograms[part, k].tolist()
            alone = int(first_float[group, k])
            quick = native_columns.summed(samples, mean=node.op == "avg") if alone == len(groups) else None
            if quick is not None:
                out[group, k] = quick
                continue
            totals[group, k] = kind(samples[0])
            upto = len(groups)
            for row, h in zip(part[1:].tolist(), samples[1:], strict=True) if alone > part[0] else ():
                if not totals[group, k].add(h):
                    failed[group, k], upto = True, row
                    name = matrix.labels.symbols.text(int(names[row])) if names[row] >= 0 else ""
                    ev.annotations.warn(say.mixed_schemas(name), node.expr)
                    break
            if alone < upto:
                failed[group, k] = True
                ev.annotations.warn(say.MIXED_IN_AGGREGATION, node.expr)
    for group, k in np.argwhere(native_mask(totals)).tolist():
        total: RunningSum | RunningMean = totals[group, k]
        seen = total if isinstance(total, RunningSum) else total.sum
        if seen.reconciled:
            ev.annotations.inform(say.reconciled_bounds("aggregation"), node.expr)
        if failed[group, k]:
            continue
        if seen.collided:
            ev.annotations.warn(say.colliding_resets("aggregation"), node.expr)
        out[group, k] = compacted(total.result())
    return out, failed


def _first_floats(matrix: Matrix, groups: Ints, shape: tuple[int, int]) -> Ints:
    """The first row of each group with a float at each step, behind all rows where there is none: int64[groups, n]."""
    first = np.full(shape, len(groups), dtype=np.int64)
    rows, steps = np.nonzero(matrix.present & ~matrix.native)
    np.minimum.at(first, (groups[rows], steps), rows)
    return first
