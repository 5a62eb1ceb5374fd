"""Parts of queries that go the short way and whose rows depend on what others have not: `absent`, `vector`, `or`, `and`, `unless`.

As in `direct_parts.py`: told the labels once, computed as the long way does. Not here: which queries go that way (`direct.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vedette.kernels import groups as g
from vedette.model.labeltable import LabelTable
from vedette.promql import labelsets
from vedette.promql.direct_parts import Cells, Made, Part, Run, Tables
from vedette.promql.functions import pinned
from vedette.promql.matching import matched_on
from vedette.promql.nodes import Binary
from vedette.promql.values import Bools, Floats, Grid, Ints


@dataclass(frozen=True, slots=True)
class Absent:
    """`absent(below)`; the matchers of the leaf `number` say its labels (None: it has none)."""

    below: Part
    number: int | None

    @property
    def streams(self) -> bool:
        """See `Part`."""
        return False

    def made(self, tables: Tables, *, named: bool = True) -> Made | None:
        """See `Part`."""
        below = self.below.made(tables, named=False)
        if below is None:
            return None
        symbols, under = below.labels.symbols, below.cells
        labels = labelsets.empty(symbols, 1)
        if self.number is not None:
            labels = LabelTable.from_labels([pinned(tables.selected[self.number])], symbols)

        def cells(run: Run) -> Cells | None:
            found = under(run)
            if found is None:
                return None
            there: Bools = np.logical_or.reduce(found[1], axis=0, keepdims=True)
            ones = np.empty((1, run.grid.n))
            ones.fill(1.0)
            return ones, ~there

        return Made(labels, cells)


@dataclass(frozen=True, slots=True)
class Vector:
    """`vector(number)`."""

    number: Callable[[Grid], Floats]

    @property
    def streams(self) -> bool:
        """See `Part`."""
        return False

    def made(self, tables: Tables, *, named: bool = True) -> Made | None:
        """See `Part`."""

        def cells(run: Run) -> Cells:
            return self.number(run.grid).reshape(1, -1), np.ones((1, run.grid.n), dtype=np.bool_)

        return Made(labelsets.empty(tables.labels[0].symbols, 1), cells)


@dataclass(frozen=True, slots=True)
class Among:
    """The set operator `node` between `left` and `right`."""

    node: Binary
    left: Part
    right: Part

    @property
    def streams(self) -> bool:
        """See `Part`."""
        return False

    def made(self, tables: Tables, *, named: bool = True) -> Made | None:
        """See `Part`."""
        left, right = self.left.made(tables), self.right.made(tables)
        if left is None or right is None:
            return None
        node, rows = self.node, len(left.labels)
        names, without = matched_on(node)
        both = labelsets.stacked(left.labels, right.labels)
        groups, first = labelsets.grouped(both, names, without=without)
        here, there, count = groups[:rows], groups[rows:], len(first)
        if node.op == "or":
            return _either(left, right, both, (here, there, count))
        under, beside, wanted = left.cells, right.cells, node.op == "and"

        def cells(run: Run) -> Cells | None:
            one = under(run)
            other = None if one is None else beside(run)
            if one is None or other is None:
                return None
            met = np.zeros((count, run.grid.n), dtype=np.bool_)
            g.any_present(np.ascontiguousarray(other[1]), there, met)
            return one[0], one[1] & (met[here] == wanted)

        return Made(left.labels, cells)


def _either(left: Made, right: Made, both: LabelTable, matched: tuple[Ints, Ints, int]) -> Made:
    """The rows of `left`, then those of `right` where no row of their group was; rows with the same labels are one."""
    here, there, count = matched
    rows, under, beside = len(left.labels), left.cells, right.cells
    # No two rows of one side have the same labels: those of the left are the first.
    same, first = labelsets.grouped(both, (), without=True)
    target, total = same[rows:], len(first)
    shared = target[target < rows]

    def cells(run: Run) -> Cells | None:
        one = under(run)
        other = None if one is None else beside(run)
        if one is None or other is None:
            return None
        # At one time rows come in the order of the long way, for which such a row is one of the right side where the left has none.
        if len(shared) and total > 1 and not (run.ranged or one[1][shared].all()):
            return None
        met = np.zeros((count, run.grid.n), dtype=np.bool_)
        g.any_present(np.ascontiguousarray(one[1]), here, met)
        extra = other[1] & ~met[there]
        values, present = np.zeros((total, run.grid.n)), np.zeros((total, run.grid.n), dtype=np.bool_)
        values[:rows], present[:rows] = one
        values[target] = np.where(extra, other[0], values[target])
        present[target] |= extra
        return values, present

    return Made(both if total == len(both) else both.take(first), cells)
