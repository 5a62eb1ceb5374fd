"""Operators over native histograms, one pair of samples after another: what the columns are held against, to the bit."""

from __future__ import annotations

import numpy as np
from trim_twin import trimmed

from vedette.model import histogram_arithmetic as arithmetic
from vedette.model.histograms import GAUGE, Histogram
from vedette.promql import annotations as say
from vedette.promql.native_pool import Natives

Sample = float | Histogram


def overlaid(ev, node, sides, rows, result, *, as_bool) -> Natives:
    """As `native_binary.overlaid`."""
    values, present = result
    objects = np.full(values.shape, None, dtype=object)
    last = {}
    for p, k in np.ndindex(*values.shape):
        pair = [sample(m, int(at[p]), k) for m, at in zip(sides, rows, strict=True)]
        if None in pair or (not any(isinstance(s, Histogram) for s in pair) and node.op not in ("</", ">/")):
            continue
        given, word = combined(node.op, *pair)
        if word is not None:
            last[k] = word
        kept = given is not None and given is not False
        present[p, k] = kept or (as_bool and given is False)
        if as_bool and given is not None:
            values[p, k] = float(kept)
        elif isinstance(given, Histogram):
            objects[p, k] = given
    for warns, message in last.values():
        (ev.annotations.warn if warns else ev.annotations.inform)(message, node)
    return Natives.of(objects)


def refused(node, left, right) -> np.ndarray:
    """As `native_binary.refused`."""
    out = np.zeros((len(left[1]), left[0].values.shape[1]), dtype=np.bool_)
    for p, k in np.ndindex(*out.shape):
        pair = [sample(m, int(at[p]), k) for m, at in (left, right)]
        native = any(isinstance(s, Histogram) for s in pair) or node.op in ("</", ">/")
        out[p, k] = None not in pair and native and combined(node.op, *pair)[0] is None
    return out


def sample(matrix, row: int, step: int) -> Sample | None:
    """What stands there; a scalar has one column for all steps."""
    k = min(step, matrix.values.shape[1] - 1)
    if not matrix.present[row, k]:
        return None
    h = None if matrix.histograms is None else matrix.histograms.sample(row, k)
    return float(matrix.values[row, k]) if h is None else h


def combined(op: str, a: Sample, b: Sample) -> tuple:
    """(the result, None where the operator does not apply, False where a comparison does not hold; what is said)."""
    native = isinstance(a, Histogram), isinstance(b, Histogram)
    if native == (True, True):
        if op in ("==", "!="):
            return (a if arithmetic.equal(a, b) == (op == "==") else False), None
        if op in ("+", "-"):
            return sum_of(op, a, b)
    elif native[0] and op in ("*", "/"):
        return arithmetic.compacted((arithmetic.multiplied if op == "*" else arithmetic.divided)(a, b)), None
    elif native[1] and op == "*":
        return arithmetic.compacted(arithmetic.multiplied(b, a)), None
    elif native[0] and op in ("</", ">/"):
        return trimmed(a, b, upper=op == "</"), None
    left, right = ("histogram" if one else "float" for one in native)
    return None, (False, say.incompatible_types(left, op, right))


def sum_of(op: str, a: Histogram, b: Histogram) -> tuple:
    """The sum or difference of two, and what is said."""
    if not arithmetic.compatible(a, b):
        return None, (True, say.incompatible_layouts(op))
    result = arithmetic.added(a, b) if op == "+" else arithmetic.subtracted(a, b)
    operation = "addition" if op == "+" else "subtraction"
    if result.collision:
        return None, (True, say.colliding_resets(operation))
    h = arithmetic.compacted(result.histogram)
    return (h.hinted(GAUGE) if op == "-" else h), ((False, say.reconciled_bounds(operation)) if result.reconciled else None)
