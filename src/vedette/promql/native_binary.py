"""Binary operators where native histograms take part: sums, differences, scaling, equality, trimming.

What an operator does not apply to gives no sample and an info. Pairs of floats are the kernels' work (`binary.py`).
"""

from __future__ import annotations

import numpy as np

from vedette.model import histogram_arithmetic as arithmetic
from vedette.model.histograms import GAUGE, Histogram
from vedette.promql import annotations as say
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_trim import trimmed
from vedette.promql.nodes import TRIMS, Binary
from vedette.promql.values import Bools, Floats, Ints, Matrix, Objects

Sample = float | Histogram


def overlaid(
    ev: Evaluation,
    node: Binary,
    sides: tuple[Matrix, Matrix],
    rows: tuple[Ints, Ints],
    result: tuple[Floats, Bools],
    *,
    as_bool: bool,
) -> Objects:
    """The histograms of `left op right` for the pairs of `rows`.

    `result`, values and presence as if all samples were floats, is put right where one is a histogram (everywhere, for the
    trim operators, which do not apply to floats).
    """
    left, right = sides
    values, present = result
    shape = values.shape
    native = [m.native[r] for m, r in zip(sides, rows, strict=True)]
    there = left.present[rows[0]] & right.present[rows[1]]
    histograms = np.full(shape, None, dtype=object)
    for p, k in np.argwhere(there & (native[0] | native[1] | (node.op in TRIMS))).tolist():
        a, b = (_sample(m, int(r[p]), k) for m, r in zip(sides, rows, strict=True))
        given = _combined(ev, node, a, b)
        kept = given is not None and given is not False
        present[p, k] = kept or (as_bool and given is False)
        if as_bool and given is not None:
            values[p, k] = float(kept)
        elif isinstance(given, Histogram):
            histograms[p, k] = given
    return histograms


def _sample(matrix: Matrix, row: int, k: int) -> Sample:
    if matrix.histograms is not None and matrix.histograms[row, k] is not None:
        found: Histogram = matrix.histograms[row, k]
        return found
    return float(matrix.values[row, k])


def _combined(ev: Evaluation, node: Binary, a: Sample, b: Sample) -> Histogram | bool | None:
    """The result; for a comparison the left side where it holds and False where not; None where the operator does not apply."""
    op = node.op
    if isinstance(a, Histogram):
        if isinstance(b, Histogram):
            return _of_two(ev, node, a, b)
        if op == "*":
            return arithmetic.compacted(arithmetic.multiplied(a, b))
        if op == "/":
            return arithmetic.compacted(arithmetic.divided(a, b))
        if op in TRIMS:
            return trimmed(a, b, upper=op == "</")
    elif isinstance(b, Histogram) and op == "*":
        return arithmetic.compacted(arithmetic.multiplied(b, a))
    kinds = ("histogram" if isinstance(s, Histogram) else "float" for s in (a, b))
    ev.annotations.inform(say.incompatible_types(next(kinds), op, next(kinds)), node)
    return None


def _of_two(ev: Evaluation, node: Binary, a: Histogram, b: Histogram) -> Histogram | bool | None:
    op = node.op
    if op in ("==", "!="):
        return a if arithmetic.equal(a, b) == (op == "==") else False
    if op not in ("+", "-"):
        ev.annotations.inform(say.incompatible_types("histogram", op, "histogram"), node)
        return None
    if not arithmetic.compatible(a, b):
        ev.annotations.warn(say.incompatible_layouts(op), node)
        return None
    result = arithmetic.added(a, b) if op == "+" else arithmetic.subtracted(a, b)
    operation = "addition" if op == "+" else "subtraction"
    if result.collision:
        ev.annotations.warn(say.colliding_resets(operation), node)
    if result.reconciled:
        ev.annotations.inform(say.reconciled_bounds(operation), node)
    h = arithmetic.compacted(result.histogram)
    return h.hinted(GAUGE) if op == "-" else h
