"""Running a plan: operations in order, each value dropped after its last use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vedette.promql import aggregate, binary, functions, labelsets, native_binary, selectors, start_times
from vedette.promql.decimals import LARGE, Decimals
from vedette.promql.evaluation import READ_BYTES, Evaluation
from vedette.promql.native_pool import Natives
from vedette.promql.nodes import Aggregate, Binary, Call, Number, Range, Selector, Subquery, Text, Unary
from vedette.promql.plan import Operation, Plan
from vedette.promql.resampled import passed_on
from vedette.promql.selectors import Fetched
from vedette.promql.streamed import changed
from vedette.promql.values import Bools, Floats, Matrix, Rows, Scalar, Value, Windows

_ANSWERED = 4
"""Bytes that a character of a made label value takes in an answer: the answer and its pieces, as measured."""
_DEEPEST = 24
"""Rows that may stand one behind another: each calls the next and keeps its labels. Thousands took gigabytes, and Python's whole stack."""


def evaluate(ev: Evaluation, plan: Plan, data: Sequence[Fetched]) -> Value | Decimals:
    """The value of the plan's result; `data` are its fetches' answers. Raises the errors of `errors.py`."""
    last_use = {i: at for at, operation in enumerate(plan.operations) for i in operation.inputs}
    values: list[Value | None] = []
    passed = passed_on(plan)
    for at, operation in enumerate(plan.operations):
        ev.check()
        args = [values[i] for i in operation.inputs]
        assert all(a is not None for a in args), "an operation's inputs live until its own turn"
        before = (ev.samples, ev.bytes)
        began = ev.clock.monotonic()
        value = run(ev, operation, [a for a in args if a is not None], data, passed_on=at in passed)
        if isinstance(value, Rows) and value.depth >= _DEEPEST:
            value = ev.matrix(value)
        ev.statistics.note(ev.clock.monotonic() - began, value)
        # What an operation held in passing is gone; what it gives is held until its last reader is done.
        ev.samples, ev.bytes = before
        ev.count(*_size(value))
        values.append(value)
        for i in operation.inputs:
            if last_use[i] == at and i != plan.result:
                ev.release(*_size(values[i]))
                values[i] = None
    result = values[plan.result]
    assert result is not None
    return finished(ev, result)


def finished(ev: Evaluation, result: Value) -> Value | Decimals:
    """The value of a query whose last operation gave `result`; one that is large, and wanted as text alone, as decimals."""
    if isinstance(result, Windows) and (result.anchored or result.smoothed):
        return selectors.extended(ev, result)
    large = ev.as_text and isinstance(result, (Rows, Matrix)) and len(result) * ev.grid.n > LARGE
    if not (large and isinstance(result, Rows) and result.made is None and result.drop is None):
        result = ev.settled(result)
    if isinstance(result, (Rows, Matrix)):
        # One long text that a query made may stand in every row: the answer writes it out as often, and is held while it is sent.
        ev.count(0, _ANSWERED * labelsets.made_characters(result.labels))
        if large and (isinstance(result, Rows) or result.histograms is None or not result.native.any()):
            return Decimals.of(ev, result, ev.grid)
    return result


def _size(value: Value | None) -> tuple[int, int]:
    """The samples that a value holds, and their bytes."""
    if isinstance(value, Rows):
        return value.held if value.made is None else _size(value.made)
    if isinstance(value, Matrix):
        native = 0 if value.histograms is None else value.histograms.nbytes
        return int(value.values.size), value.values.nbytes + value.present.nbytes + native
    return (len(value.timestamps), READ_BYTES * len(value.timestamps)) if isinstance(value, Windows) else (0, 0)


def run(ev: Evaluation, operation: Operation, args: list[Value], data: Sequence[Fetched], *, passed_on: bool = False) -> Value:
    """The value of one operation, given those of its inputs; of a subquery it is said whether it is `resampled.passed_on`."""
    node, grid = operation.node, operation.grid
    if operation.spread:
        return _spread(ev, args[0], grid.n)
    if isinstance(node, Selector) and operation.begun:
        return start_times.instants(ev, node, grid, data[operation.fetch])
    if isinstance(node, Selector):
        heed = selectors.Heed(operation.counts_only, operation.bucketless)
        return selectors.instants(ev, node, grid, data[operation.fetch], want_time=operation.timed, heed=heed)
    if isinstance(node, Range):
        heed = selectors.Heed(operation.counts_only, operation.bucketless)
        return selectors.windows(ev, node, grid, data[operation.fetch], heed=heed)
    if isinstance(node, Subquery):
        return selectors.subquery(ev, node, grid, args[0], passed_on=passed_on)
    if isinstance(node, Number):
        return Scalar(np.full(grid.n, node.value))
    if isinstance(node, Text):
        return node.value
    if isinstance(node, Aggregate):
        return aggregate.aggregate(ev, node, args, grid)
    if isinstance(node, Call):
        return functions.call(ev, node, args, grid)
    if isinstance(node, Binary):
        return binary.binary(ev, node, args, grid)
    assert isinstance(node, Unary), f"no way to evaluate a {type(node).__name__}"
    return _unary(ev, node, args[0])


def _spread(ev: Evaluation, value: Value, n: int) -> Value:
    """A value of one step, as that of n steps."""
    if isinstance(value, Scalar):
        return Scalar(np.repeat(value.values, n))
    matrix = ev.matrix(value)
    ev.count(len(matrix) * n)
    histograms = None if matrix.histograms is None else Natives(np.repeat(matrix.histograms.index, n, axis=1), matrix.histograms.pool)
    return Matrix(matrix.labels, np.repeat(matrix.values, n, axis=1), np.repeat(matrix.present, n, axis=1), matrix.drop, histograms)


def _unary(ev: Evaluation, node: Unary, value: Value) -> Value:
    if node.op == "+":
        return value
    if isinstance(value, Scalar):
        return Scalar(-value.values)

    def negated(values: Floats, present: Bools) -> None:
        np.negative(values, out=values)

    if (rows := changed(ev, value, negated, renamed=True)) is not None:
        return rows
    matrix = ev.matrix(value)
    histograms = None if matrix.histograms is None else native_binary.negated(matrix.histograms)
    return ev.renamed(Matrix(matrix.labels, -matrix.values, matrix.present, matrix.drop, histograms))
