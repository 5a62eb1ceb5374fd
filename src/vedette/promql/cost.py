"""What a query will cost, told from its plan and the sizes of its reads before anything is read.

Only what is certain to be held counts: the samples of each read, and the matrices of selectors and of what keeps their rows.
What an aggregation or a join leaves over is not guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vedette.promql.nodes import TRIMS, Aggregate, Binary, Call, Range, Selector, Subquery, Unary
from vedette.promql.plan import Operation, Plan
from vedette.storage.interface import Estimate

_STREAMED = frozenset(("sum", "avg", "count", "min", "max", "group", "stddev", "stdvar", "topk", "bottomk"))
"""Aggregations that read their argument in blocks, so that it is never held whole."""

ONE_BY_ONE = frozenset(
    ("abs", "ceil", "floor", "exp", "sqrt", "ln", "log2", "log10", "sgn", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
     "tanh", "asinh", "acosh", "atanh", "rad", "deg", "clamp", "clamp_min", "clamp_max", "round", "label_replace", "label_join", "minute",
     "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year")
)  # fmt: skip
"""Functions that change a block of rows as it is read (`streamed.py`)."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Series and samples read, and the cells of the largest matrix that is held."""

    series: int
    samples: int
    cells: int


def expected(plan: Plan, reads: Sequence[Estimate]) -> Cost:
    """The cost of `plan`, whose fetches answer as `reads` say."""
    rows: list[int] = []
    streamed = {at for operation in plan.operations for at in operation.inputs if _streams(operation)}
    cells = 0
    for at, operation in enumerate(plan.operations):
        rows.append(_rows(operation, rows, reads))
        if not isinstance(operation.node, Range) and at not in streamed:
            cells = max(cells, rows[at] * operation.grid.n)
    return Cost(sum(r.series for r in reads), sum(r.samples for r in reads), cells)


def work(plan: Plan, reads: Sequence[Estimate]) -> int:
    """About how much `plan` is to do: the samples of its reads, and the values that operations compute of rows that are certain."""
    rows: list[int] = []
    total = sum(r.samples for r in reads)
    for operation in plan.operations:
        rows.append(_rows(operation, rows, reads))
        total += rows[-1] * operation.grid.n
    return total


def _streams(operation: Operation) -> bool:
    """Whether the operation reads blocks of rows, to give blocks itself or what is left of all of them."""
    node = operation.node
    if isinstance(node, Aggregate):
        return node.op in _STREAMED
    if isinstance(node, Binary):
        return "scalar" in (node.lhs.type, node.rhs.type) and node.op not in TRIMS | {"^", "atan2"}
    return isinstance(node, Unary) or (isinstance(node, Call) and node.func.name in ONE_BY_ONE)


def _rows(operation: Operation, rows: Sequence[int], reads: Sequence[Estimate]) -> int:
    """How many rows an operation has where that is certain, else 0."""
    node = operation.node
    if isinstance(node, (Selector, Range)) and not operation.spread:
        return reads[operation.fetch].series
    vectors = [rows[i] for i in operation.inputs if rows[i]]
    if isinstance(node, (Call, Unary, Subquery)) or operation.spread:
        return vectors[0] if len(vectors) == 1 and not _reduces(operation) else 0
    if isinstance(node, Binary):
        return vectors[0] if len(vectors) == 1 and "scalar" in (node.lhs.type, node.rhs.type) else 0
    return 0


def _reduces(operation: Operation) -> bool:
    node = operation.node
    return isinstance(node, Call) and (node.type != "vector" or node.func.name.startswith(("absent", "histogram_", "info", "vector")))
