"""Binary operators: arithmetic, comparisons and set operators between vectors and scalars.

Rows of two vectors are matched once for the whole query (`matching.py`); then one kernel runs over all pairs and steps, or, of many
rows, over a block of them at a time (`joins.py`). What Prometheus refuses at a step (two series on the "one" side, ambiguous results) is
refused here when it happens at any step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import groups as gk
from vedette.kernels import joins as k
from vedette.model.labels import Labels, quote
from vedette.promql import labelsets, native_binary
from vedette.promql.errors import ExecutionError
from vedette.promql.evaluation import Evaluation
from vedette.promql.joins import CODES, by_blocks
from vedette.promql.matching import KEEP_NAMES, matched_on, pairs, result_labels, signatures
from vedette.promql.native_pool import Natives
from vedette.promql.nodes import COMPARISONS, SET_OPERATORS, TRIMS, Binary
from vedette.promql.streamed import Change, changed
from vedette.promql.values import Bools, Floats, Grid, Ints, Matrix, Rows, Scalar, Value, joined_histograms


def binary(ev: Evaluation, node: Binary, args: Sequence[Value], grid: Grid) -> Value:
    """The operator `node` between its evaluated sides."""
    lhs, rhs = args
    if isinstance(lhs, Scalar) and isinstance(rhs, Scalar):
        values, _, _ = _combined(ev, node, _row(lhs), _row(rhs), as_bool=True)
        return Scalar(values[0])
    if isinstance(rhs, Scalar):
        return _with_scalar(ev, node, lhs, rhs, swapped=False)
    if isinstance(lhs, Scalar):
        return _with_scalar(ev, node, rhs, lhs, swapped=True)
    if (rows := by_blocks(ev, node, lhs, rhs, grid)) is not None:
        return rows
    left, right = ev.matrix(lhs).found(), ev.matrix(rhs).found()
    ev.count((len(left) + len(right)) * grid.n)
    if node.op in SET_OPERATORS:
        return _set_operator(ev, node, left, right)
    return _joined(ev, node, left, right)


def _row(value: Scalar) -> Matrix:
    # The labels are never looked at.
    return Matrix(None, value.values.reshape(1, -1), np.ones((1, len(value.values)), dtype=np.bool_))  # type: ignore[arg-type]


def _combined(
    ev: Evaluation,
    node: Binary,
    left: Matrix,
    right: Matrix,
    rows: tuple[Ints, Ints] | None = None,
    *,
    as_bool: bool = False,
    keep_right: bool = False,
) -> tuple[Floats, Bools, Natives | None]:
    """Values, presence and histograms of `left op right` for the pairs of `rows` (row by row without)."""
    n = max(left.values.shape[1], right.values.shape[1])
    count = max(len(left), len(right)) if rows is None else len(rows[0])
    if rows is None:
        every = np.arange(count, dtype=np.int64)
        rows = (every if len(left) == count else every * 0, every if len(right) == count else every * 0)
    values, present = np.empty((count, n)), np.empty((count, n), dtype=np.bool_)
    if node.op in TRIMS:
        # Only histograms can be trimmed: the kernel has no such operator.
        present[:] = False
        return values, present, native_binary.overlaid(ev, node, (left, right), rows, (values, present), as_bool=as_bool)
    k.combine(
        CODES[node.op], np.ascontiguousarray(left.values), np.ascontiguousarray(left.present), np.ascontiguousarray(right.values),
        np.ascontiguousarray(right.present), rows[0], rows[1], as_bool, keep_right, values, present,
    )  # fmt: skip
    if left.histograms is None and right.histograms is None:
        return values, present, None
    return values, present, native_binary.overlaid(ev, node, (left, right), rows, (values, present), as_bool=as_bool)


UFUNCS: dict[str, Callable[..., NDArray[Any]]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "==": np.equal,
    "!=": np.not_equal,
    ">": np.greater,
    "<": np.less,
    ">=": np.greater_equal,
    "<=": np.less_equal,
}
"""What NumPy does as the kernel does it."""


def _with_scalar(ev: Evaluation, node: Binary, value: Value, number: Scalar, *, swapped: bool) -> Matrix | Rows:
    renamed = node.bool_ or node.op not in KEEP_NAMES
    if node.op in UFUNCS and (rows := changed(ev, value, change_by(node, number.values, swapped=swapped), renamed=renamed)) is not None:
        return rows
    vector = ev.matrix(value)
    if not len(vector):
        return vector
    ev.count(len(vector) * len(number.values))
    left, right = (_row(number), vector) if swapped else (vector, _row(number))
    values, present, histograms = _combined(ev, node, left, right, as_bool=node.bool_, keep_right=swapped)
    result = Matrix(vector.labels, values, present, vector.drop, histograms)
    return ev.renamed(result) if renamed else result


def change_by(node: Binary, number: Floats, *, swapped: bool) -> Change:
    """The operator with a number at one side, as a change of blocks of rows."""
    function = UFUNCS[node.op]

    def change(values: Floats, present: Bools) -> None:
        left, right = (number, values) if swapped else (values, number)
        if node.op not in COMPARISONS:
            function(left, right, out=values)
        elif node.bool_:
            values[:] = function(left, right)
        else:
            # Whichever side it stands on, the sample is what stays.
            present &= function(left, right)

    return change


def _set_operator(ev: Evaluation, node: Binary, left: Matrix, right: Matrix) -> Matrix:
    if node.op == "or" and not (len(left) and len(right)):
        return left if len(left) else right
    left_groups, right_groups, count = signatures(node, left.labels, right.labels)
    n = left.values.shape[1]
    there = np.zeros((count, n), dtype=np.bool_)
    if node.op == "or":
        gk.any_present(np.ascontiguousarray(left.present), left_groups, there)
        extra = replace(right, present=right.present & ~there[right_groups]).found()
        drop = None
        if left.drop is not None or extra.drop is not None:
            drop = np.concatenate([np.zeros(len(m), dtype=np.bool_) if m.drop is None else m.drop for m in (left, extra)])
        both = Matrix(
            labelsets.stacked(left.labels, extra.labels),
            np.concatenate([left.values, extra.values]),
            np.concatenate([left.present, extra.present]),
            drop,
            joined_histograms(left, extra),
        )
        return ev.merged(both)
    gk.any_present(np.ascontiguousarray(right.present), right_groups, there)
    mask = there[left_groups]
    return replace(left, present=left.present & (mask if node.op == "and" else ~mask)).found()


def _joined(ev: Evaluation, node: Binary, left: Matrix, right: Matrix) -> Matrix:
    left_groups, right_groups, count = signatures(node, left.labels, right.labels)
    matching = node.matching
    swapped = matching.group == "right"
    many, one = (right, left) if swapped else (left, right)
    many_groups, one_groups = (right_groups, left_groups) if swapped else (left_groups, right_groups)
    _refuse_duplicates(node, many, one, one_groups, count)
    tables = many.labels, one.labels
    key = "pairs", *map(id, tables), *matched_on(node)
    many_rows, one_rows = ev.symbols.recalled(key, lambda: pairs(ev, many_groups, one_groups, count), tables)
    pair_groups = many_groups[many_rows]
    real = many_rows, one_rows, pair_groups
    # Prometheus swaps the sides for `group_right`, but not what they are filled with: `fill_left` stands in for the "many" side.
    fill_many, fill_one = matching.fill_left, matching.fill_right
    refused = None
    if fill_many is not None and (left.histograms is not None or right.histograms is not None or node.op in TRIMS):
        sides = ((one, one_rows), (many, many_rows)) if swapped else ((many, many_rows), (one, one_rows))
        refused = native_binary.refused(node, *sides)
    if fill_one is not None:
        extra = _filled(node, many, many_groups, (one.present, one_groups), count, fill_one)
        every = np.arange(len(many), dtype=np.int64)
        many_rows, one_rows = np.concatenate([many_rows, every]), np.concatenate([one_rows, len(one) + every])
        pair_groups = np.concatenate([pair_groups, many_groups])
    if fill_many is not None:
        # What an operator does not apply to has not matched: that is filled in, too.
        met = (many.present, many_groups) if refused is None else (many.present[real[0]] & one.present[real[1]] & ~refused, real[2])
        more = _filled(node, one, one_groups, met, count, fill_many)
        every = np.arange(len(one), dtype=np.int64)
        many_rows, one_rows = np.concatenate([many_rows, len(many) + every]), np.concatenate([one_rows, every])
        pair_groups = np.concatenate([pair_groups, one_groups])
        many = _stacked(many, more)
    if fill_one is not None:
        one = _stacked(one, extra)
    rows = (one_rows, many_rows) if swapped else (many_rows, one_rows)
    ev.count(len(many_rows) * left.values.shape[1])
    values, present, histograms = _combined(ev, node, one if swapped else many, many if swapped else one, rows, as_bool=node.bool_)
    tables = many.labels, one.labels
    labels = ev.symbols.recalled(
        ("joined", id(node), *map(id, tables)),
        lambda: result_labels(node, tables[0].take(many_rows), tables[1].take(one_rows), delayed=ev.delayed_names),
        tables,
    )
    drop = np.ones(len(values), dtype=np.bool_) if node.bool_ and ev.delayed_names else None
    result = Matrix(labels, values, present, drop, histograms)
    if len(pair_groups) and np.bincount(pair_groups).max() > 1:
        both = many.present[many_rows] & one.present[one_rows]
        if histograms is not None:
            both &= _applied(node, one if swapped else many, many if swapped else one, rows, present)
        _refuse_ambiguity(node, result, pair_groups, count, both)
    return ev.merged(result).found()


def _applied(node: Binary, left: Matrix, right: Matrix, rows: tuple[Ints, Ints], present: Bools) -> Bools:
    """Of pairs of which some are histograms, where the operator applies; elsewhere they say nothing of what is ambiguous."""
    if node.op not in COMPARISONS:
        return present
    a, b = left.native[rows[0]], right.native[rows[1]]
    applies: Bools = (a == b) & (~a | (node.op in ("==", "!=")))
    return applies


def _filled(node: Binary, side: Matrix, groups: Ints, met: tuple[Bools, Ints], count: int, value: float) -> Matrix:
    """For each row of `side` a row of `value`, there where nothing `met` the row: presence of rows and the groups of these."""
    there = np.zeros((count, side.values.shape[1]), dtype=np.bool_)
    gk.any_present(np.ascontiguousarray(met[0]), met[1], there)
    names, without = matched_on(node)
    labels = labelsets.kept(side.labels, names, without=without)
    return Matrix(labels, np.full(side.values.shape, value), side.present & ~there[groups])


def _stacked(a: Matrix, b: Matrix) -> Matrix:
    return Matrix(
        labelsets.stacked(a.labels, b.labels),
        np.concatenate([a.values, b.values]),
        np.concatenate([a.present, b.present]),
        None,
        joined_histograms(a, b),
    )


def _refuse_duplicates(node: Binary, many: Matrix, one: Matrix, groups: Ints, count: int) -> None:
    """Raise `ExecutionError` where two series of the "one" side have the same signature at a step at which there is anything to match."""
    if not len(groups) or np.bincount(groups).max() < 2:
        return
    filled = node.matching.fill_left is not None or node.matching.fill_right is not None
    busy = one.present if filled else one.present & many.present.any(axis=0)
    row = k.collision(busy, groups, np.zeros((count, busy.shape[1]), dtype=np.bool_))
    if row < 0:
        return
    earlier = np.flatnonzero((groups[:row] == groups[row]) & (busy[:row] & busy[row]).any(axis=1))[0]
    names, without = matched_on(node)
    signature = labelsets.kept(one.labels.take(np.array([row])), names, without=without).row(0)
    side = "left" if node.matching.group == "right" else "right"
    pair = ", ".join(_braced(labels) for labels in sorted((one.labels.row(row), one.labels.row(int(earlier)))))
    raise ExecutionError(
        f"found duplicate series for the match group {_braced(signature)} on the {side} hand-side of the operation: "
        f"[{pair}];many-to-many matching not allowed: matching labels must be unique on one side"
    )


def _braced(labels: Labels) -> str:
    """Labels as Prometheus writes them in messages: the name is a label like others."""
    return "{" + ", ".join(f"{n}={quote(v)}" for n, v in labels) + "}"


def _refuse_ambiguity(node: Binary, result: Matrix, pair_groups: Ints, count: int, both: Bools) -> None:
    """Raise `ExecutionError` where a signature matches twice at a step and the results cannot be told apart."""
    n = both.shape[1]
    if node.matching.group is None:
        if k.collision(both, pair_groups, np.zeros((count, n), dtype=np.bool_)) >= 0:
            raise ExecutionError("multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)")
        return
    names, _ = labelsets.grouped(result.labels, (), without=True)
    _, groups = np.unique(names * count + pair_groups, return_inverse=True)
    seen = np.zeros((int(groups.max()) + 1, n), dtype=np.bool_)
    if k.collision(both, groups.astype(np.int64, copy=False), seen) >= 0:
        raise ExecutionError("multiple matches for labels: grouping labels must ensure unique matches")
