"""Binary operators where native histograms take part: sums, differences, scaling, equality, trimming.

What an operator does not apply to gives no sample and an info. Pairs of floats are the kernels' work (`binary.py`). As in
Prometheus an operator says one thing at a step: what it had to say last.
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
Word = tuple[bool, str]
"""What is said of a pair: whether it is a warning, and the text."""
Result = Histogram | bool | None
"""The result; for a comparison the left side where it holds and False where not; None where the operator does not apply."""


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
    last: dict[int, Word] = {}
    for p, k in np.argwhere(there & (native[0] | native[1] | (node.op in TRIMS))).tolist():
        a, b = (_sample(m, int(r[p]), k) for m, r in zip(sides, rows, strict=True))
        given, word = _combined(node.op, a, b)
        if word is not None:
            last[k] = word
        kept = given is not None and given is not False
        present[p, k] = kept or (as_bool and given is False)
        if as_bool and given is not None:
            values[p, k] = float(kept)
        elif isinstance(given, Histogram):
            histograms[p, k] = given
    for warns, message in dict.fromkeys(last.values()):
        (ev.annotations.warn if warns else ev.annotations.inform)(message, node)
    return histograms


def _sample(matrix: Matrix, row: int, k: int) -> Sample:
    if matrix.histograms is not None and matrix.histograms[row, k] is not None:
        found: Histogram = matrix.histograms[row, k]
        return found
    return float(matrix.values[row, k])


def _combined(op: str, a: Sample, b: Sample) -> tuple[Result, Word | None]:
    if isinstance(a, Histogram):
        if isinstance(b, Histogram):
            return _of_two(op, a, b)
        if op == "*":
            return arithmetic.compacted(arithmetic.multiplied(a, b)), None
        if op == "/":
            return arithmetic.compacted(arithmetic.divided(a, b)), None
        if op in TRIMS:
            return trimmed(a, b, upper=op == "</"), None
    elif isinstance(b, Histogram) and op == "*":
        return arithmetic.compacted(arithmetic.multiplied(b, a)), None
    left, right = ("histogram" if isinstance(s, Histogram) else "float" for s in (a, b))
    return None, (False, say.incompatible_types(left, op, right))


def _of_two(op: str, a: Histogram, b: Histogram) -> tuple[Result, Word | None]:
    if op in ("==", "!="):
        return (a if arithmetic.equal(a, b) == (op == "==") else False), None
    if op not in ("+", "-"):
        return None, (False, say.incompatible_types("histogram", op, "histogram"))
    if not arithmetic.compatible(a, b):
        return None, (True, say.incompatible_layouts(op))
    result = arithmetic.added(a, b) if op == "+" else arithmetic.subtracted(a, b)
    operation = "addition" if op == "+" else "subtraction"
    if result.collision:
        # Prometheus has this warning in place of the sample.
        return None, (True, say.colliding_resets(operation))
    h = arithmetic.compacted(result.histogram)
    word = (False, say.reconciled_bounds(operation)) if result.reconciled else None
    return (h.hinted(GAUGE) if op == "-" else h), word
