"""What a query cost: times, samples, and (for `--explain`) each of its operations. Times are seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vedette.kernels.queryable import queryable
from vedette.model.durations import format_duration
from vedette.promql.cost import Cost
from vedette.promql.nodes import Aggregate, Binary, Call, Number, Range, Selector, Subquery, Text, Unary
from vedette.promql.plan import Bounds, Fetch, Operation, Plan, window_grid
from vedette.promql.printer import to_text
from vedette.promql.values import Grid, Ints, Matrix, Rows, Scalar, Value, Windows

_SHOWN = 120


@dataclass(slots=True)
class OperationCost:
    """One operation: seconds, and its result's rows, steps and bytes. `streamed`: its rows were computed by who read them."""

    seconds: float
    rows: int
    steps: int
    bytes: int
    streamed: bool


@dataclass(slots=True)
class ReadCost:
    """One read of storage."""

    seconds: float
    series: int
    samples: int


@dataclass(slots=True)
class Statistics:
    """The costs of one query; filled as it runs. `per_step` int64[n] is counted only where it is asked for."""

    per_step: Ints | None = None
    peak: int = 0
    peak_bytes: int = 0
    preparing_s: float = 0.0
    evaluating_s: float = 0.0
    sorting_s: float = 0.0
    plan: Plan | None = None
    estimate: Cost | None = None
    operations: list[OperationCost] = field(default_factory=list)
    reads: list[ReadCost] = field(default_factory=list)

    @property
    def samples_read(self) -> int:
        """Samples that storage gave."""
        return sum(r.samples for r in self.reads)

    def note(self, seconds: float, value: Value) -> None:
        """Note an operation that gave `value`."""
        self.operations.append(OperationCost(seconds, *_measures(value)))

    def explained(self) -> dict[str, Any]:
        """The plan with its costs: `operations`, each with the ids of its `inputs`, the `result`'s id, `reads`, and `peakBytes` held."""
        plan = self.plan
        assert plan is not None, "a query that ran had a plan"
        operations = [
            {
                "id": i,
                "operation": _operation(operation),
                "position": [operation.node.start, operation.node.end],
                "inputs": list(operation.inputs),
                "read": operation.fetch if operation.fetch >= 0 else None,
                "rows": cost.rows,
                "steps": cost.steps,
                "bytes": cost.bytes,
                "seconds": cost.seconds,
                "streamed": cost.streamed,
            }
            for i, (operation, cost) in enumerate(zip(plan.operations, self.operations, strict=True))
        ]
        reads = [
            {
                "selector": _selector(fetch),
                "start": fetch.start / 1000,
                "end": fetch.end / 1000,
                "series": cost.series,
                "samples": cost.samples,
                "seconds": cost.seconds,
            }
            for fetch, cost in zip(plan.fetches, self.reads, strict=True)
        ]
        return {"result": plan.result, "operations": operations, "reads": reads, "peakBytes": self.peak_bytes}


def _measures(value: Value) -> tuple[int, int, int, bool]:
    """Rows, steps, bytes and whether the rows are still to be computed."""
    if isinstance(value, Matrix):
        native = 0 if value.histograms is None else value.histograms.nbytes
        return len(value), value.present.shape[1], value.values.nbytes + value.present.nbytes + native, False
    if isinstance(value, Rows):
        return len(value), value.n, 0, True
    if isinstance(value, Windows):
        return len(value.labels), 0, value.timestamps.nbytes + value.values.nbytes + value.offsets.nbytes, False
    if isinstance(value, Scalar):
        return 1, len(value.values), value.values.nbytes, False
    return 1, 1, len(value), False


def _operation(operation: Operation) -> str:
    """One line naming an operation without what is below it."""
    node = operation.node
    if operation.spread:
        return "the same at every step"
    if isinstance(node, (Selector, Range, Number, Text)):
        return _cut(to_text(node))
    if isinstance(node, Call):
        return f"{node.func.name}()"
    if isinstance(node, Aggregate):
        grouping = f" {'without' if node.without else 'by'} ({', '.join(node.grouping)})" if node.without or node.grouping else ""
        return _cut(node.op + grouping)
    if isinstance(node, Binary):
        return node.op + (" bool" if node.bool_ else "")
    if isinstance(node, Subquery):
        return f"subquery [{format_duration(node.range)}:{format_duration(node.step) if node.step else ''}]"
    assert isinstance(node, Unary), f"no name for a {type(node).__name__}"
    return f"unary {node.op}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _selector(fetch: Fetch) -> str:
    return _cut("{" + ", ".join(map(str, fetch.matchers)) + "}")


def count_queryable(plan: Plan, reads: Sequence[tuple[Ints, Ints, Any]], bounds: Bounds, grid: Grid) -> Ints:
    """The samples that each step of the query could see: int64[n]. `reads` are offsets, timestamps and values of the fetches.

    What the selectors of a subquery see, at its own steps, counts for the last step.
    """
    total = np.zeros(grid.n, dtype=np.int64)
    for operation in plan.operations:
        node = operation.node
        if operation.fetch < 0 or not isinstance(node, (Selector, Range)):
            continue
        selector = node.selector if isinstance(node, Range) else node
        ends = window_grid(selector, operation.grid, bounds)
        range_ms = node.range if isinstance(node, Range) else bounds.lookback
        seen = np.zeros(operation.grid.n, dtype=np.int64)
        offsets, timestamps, values = reads[operation.fetch]
        queryable(offsets, timestamps, values, ends.start, ends.step, ends.n, range_ms, isinstance(node, Selector), seen)
        if operation.grid == grid:
            total += seen
        else:
            total[-1] += seen.sum()
    return total
