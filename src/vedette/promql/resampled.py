"""Subqueries that go to a function of windows, a few rows at a time: computed, used and forgotten on the thread that asks.

What a subquery gives as a whole is a matrix of all its steps, and a copy of it as samples, before anything is made of them. Not here:
subqueries with native histograms, and those that something else wants (`selectors.subquery`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from vedette.kernels import windows as k
from vedette.promql.evaluation import SLAB
from vedette.promql.nodes import Call, Subquery
from vedette.promql.plan import Plan
from vedette.promql.values import Bools, Floats, Grid, Ints, Rows, Slab, Value
from vedette.promql.window_functions import WINDOW_FUNCTIONS
from vedette.storage.interface import Steps

_FEWEST = 1 << 15
"""Cells of a subquery from which on it is not made as a whole."""
_LONGEST = 1 << 18
"""Steps of a subquery up to which a row of it may be held by each thread without being counted: 4 MiB."""


def passed_on(plan: Plan) -> frozenset[int]:
    """The subqueries of a plan, as places of their operations, that go to one function of windows, without parameters, and nowhere else."""
    found = {at for at, operation in enumerate(plan.operations) if isinstance(operation.node, Subquery) and at != plan.result}
    users: dict[int, list[int]] = {at: [] for at in found}
    for at, operation in enumerate(plan.operations if found else ()):
        for used in operation.inputs:
            if used in found:
                users[used].append(at)
    return frozenset(at for at, by in users.items() if len(by) == 1 and _suits(plan, by[0]))


def _suits(plan: Plan, at: int) -> bool:
    operation = plan.operations[at]
    return isinstance(operation.node, Call) and operation.node.func.name in WINDOW_FUNCTIONS and len(operation.inputs) == 1


class Resampled:
    """See `values.Slabs`: of rows computed at the steps of a subquery."""

    def __init__(self, rows: Rows, own: Grid) -> None:
        self._rows = rows
        self._own = own
        self.samples = max(rows.samples, len(rows) * own.n)
        self.begins = rows.begins
        self.depth = rows.depth + 1
        self.read = 0
        """Samples of storage are counted where they are read."""

    @classmethod
    def of_value(cls, value: Value, own: Grid) -> Resampled | None:
        """Rows that are not made yet, as slabs; None of anything else, and of what is small, or longer than a thread should hold."""
        if not isinstance(value, Rows) or value.made is not None or own.n > _LONGEST or len(value) * own.n < _FEWEST:
            return None
        return cls(value, own)

    def of(self, lo: int, hi: int, steps: Steps, *, stale: bool) -> Iterator[Slab]:
        """See `values.Slabs.of`: there are no stale markers among results."""
        own = self._own
        cuts = self._rows.cuts(max(1, SLAB // own.n), lo, hi)
        for begin, end in itertools.pairwise(cuts):
            shape = end - begin, own.n
            values, present = np.empty(shape), np.empty(shape, dtype=np.bool_)
            self._rows.fill(begin, end, values, present)
            yield Slab(begin, end, 0, steps.n, *as_samples(values, present, own))

    def streamed(
        self,
        code: int,
        lo: int,
        hi: int,
        steps: Steps,
        params: tuple[Floats, Floats, Ints],
        into: tuple[Floats, Bools],
        check: Callable[[], None],
    ) -> bool:
        """See `values.Slabs.streamed`: it is not."""
        return False


def as_samples(values: Floats, present: Bools, own: Grid) -> tuple[Ints, Ints, Floats]:
    """A matrix at the steps of `own`, as series in CSR form."""
    rows, total = len(values), int(np.count_nonzero(present))
    if total == present.size:
        # All rows have all steps: the matrix is the samples.
        return np.arange(rows + 1, dtype=np.int64) * own.n, np.tile(own.times, rows), np.ascontiguousarray(values).reshape(-1)
    offsets = np.zeros(rows + 1, dtype=np.int64)
    timestamps, found = np.empty(total, dtype=np.int64), np.empty(total)
    k.to_series(np.ascontiguousarray(values), np.ascontiguousarray(present), own.start, own.step, offsets, timestamps, found)
    return offsets, timestamps, found
