"""What an operation has at hand while it runs: settings, annotations, symbols, limits, and the upkeep of matrices.

Dropping metric names is here, since every operation that changes what a metric means does it: at once (Prometheus'
default), or marked and done at the end of the query (delayed name removal).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from vedette.clock import Clock
from vedette.kernels.groups import merge_rows
from vedette.model.labeltable import LabelTable, Symbols
from vedette.promql import labelsets
from vedette.promql.annotations import Annotations
from vedette.promql.errors import ExecutionError, QueryCanceled, QueryTimeout, TooManySamples, TooMuchMemory
from vedette.promql.native_pool import Natives
from vedette.promql.plan import Bounds
from vedette.promql.recurring import Recurring
from vedette.promql.running import Ticket
from vedette.promql.statistics import Statistics
from vedette.promql.values import Bools, Floats, Grid, Ints, Matrix, Rows, Scalar, Value, Windows

SAME_LABELSET = "vector cannot contain metrics with the same labelset"

TOO_MANY = "query processing would load too many samples into memory in query execution"

CELL_BYTES, READ_BYTES = 9, 16
"""Bytes of a cell of a matrix (a value and whether it is there) and of a sample read (time and value)."""

BLOCK_CELLS = 1 << 17
"""Cells of a block of a matrix: 1 MiB of values, which stays in the second-level cache."""

SLAB = 1 << 16
"""Samples of a slab: times and values of so many stay in the second-level cache."""

HEAVY = 1 << 18
"""Samples of which rows are computed by two threads."""


@dataclass(slots=True)
class Evaluation:
    """One run of one query. Not shared between queries; `pool` serves kernels of large operations."""

    annotations: Annotations
    symbols: Symbols
    bounds: Bounds
    grid: Grid
    clock: Clock
    deadline: float
    max_samples: int
    max_bytes: int
    delayed_names: bool
    type_labels: bool
    pool: ThreadPoolExecutor
    ticket: Ticket
    statistics: Statistics
    recurring: Recurring = field(default_factory=Recurring)
    """What was made before of large label tables that come again."""
    started: bool = False
    """Whether start timestamps are heeded, where storage keeps them."""
    as_text: bool = False
    """Whether the answer is wanted as text alone."""
    max_matching: int | None = None
    """Most groups × instructions × bytes of all matches of one `label_replace`, each about a nanosecond; None: of one match alone."""
    samples: int = 0
    bytes: int = 0

    def check(self) -> None:
        """Raise `QueryTimeout` or `QueryCanceled` where the query has no business running on."""
        if self.ticket.cancel.is_set():
            raise QueryCanceled("query was canceled in expression evaluation")
        if self.clock.monotonic() > self.deadline:
            raise QueryTimeout("query timed out in expression evaluation")

    def count(self, samples: int, nbytes: int | None = None) -> None:
        """Note that `samples` more are held, in `nbytes` (None: as cells of a matrix).

        Raises `TooManySamples` or `TooMuchMemory` beyond the query's limits, `LimitExceeded` beyond that of all queries.
        """
        self.samples += samples
        self.bytes += samples * CELL_BYTES if nbytes is None else nbytes
        if self.samples > self.max_samples:
            raise TooManySamples(TOO_MANY)
        if self.bytes > self.max_bytes:
            raise TooMuchMemory(f"the query needs more than {self.max_bytes >> 20} MiB of memory (promql.max_query_memory)")
        self.statistics.peak = max(self.statistics.peak, self.samples)
        self.statistics.peak_bytes = max(self.statistics.peak_bytes, self.bytes)
        self.ticket.hold(self.samples, self.bytes)

    def release(self, samples: int, nbytes: int | None = None) -> None:
        """Note that `samples` are held no longer."""
        self.samples -= samples
        self.bytes -= samples * CELL_BYTES if nbytes is None else nbytes

    def matrix(self, value: Value) -> Matrix:
        """A vector value as a matrix, made if need be."""
        if isinstance(value, Rows):
            if value.made is None:
                self.count(len(value) * value.n)
                value.made = self.computed(value)
            return value.made
        assert isinstance(value, Matrix), "the plan feeds vectors where vectors are wanted"
        return value

    def computed(self, rows: Rows) -> Matrix:
        """Compute all rows, on two threads where there are many."""
        n = len(rows)
        values = np.empty((n, rows.n))
        present = np.empty((n, rows.n), dtype=np.bool_)

        def fill(part: tuple[int, int]) -> None:
            self.check()
            rows.fill(part[0], part[1], values[part[0] : part[1]], present[part[0] : part[1]])

        self.each_block(rows, fill)
        return Matrix(rows.labels, values, present, rows.drop)

    def each_block(self, rows: Rows, fill: Callable[[tuple[int, int]], None]) -> None:
        """Call `fill` for each block of the rows, on two threads where there are many."""
        n = len(rows)
        step = max(64, BLOCK_CELLS // max(1, rows.n))
        heavy = rows.samples > HEAVY
        if heavy:
            # Few rows of many samples are as much work as many rows.
            step = max(1, min(step, n * SLAB // rows.samples))
        parts = list(itertools.pairwise(rows.cuts(step)))
        if heavy and n * rows.n <= BLOCK_CELLS:
            parts = coarser(parts)
        if len(parts) > (1 if heavy else 4):
            self.in_turns(fill, parts)
        else:
            for part in parts:
                fill(part)

    def in_turns(self, fill: Callable[[tuple[int, int]], None], parts: Sequence[tuple[int, int]]) -> None:
        """Call `fill` for each of the parts, on this thread and on one of the pool's where that is free, each taking the next."""
        left = iter(parts)

        def work() -> None:
            try:
                for part in left:
                    fill(part)
            finally:
                # Where one has failed, the other does not go on.
                for _ in left:
                    pass

        other = self.pool.submit(work)
        try:
            work()
        finally:
            if not other.cancel():
                other.result()

    def in_two(self, part: Callable[[int, int], None], n: int, *, worth: bool) -> None:
        """Call `part(lo, hi)` for the halves of `range(n)` on two threads where that is worth it, else for the whole."""
        if not worth or n < 2:
            part(0, n)
            return
        other = self.pool.submit(part, n // 2, n)
        part(0, n // 2)
        other.result()

    def empty(self, n: int) -> Matrix:
        """A matrix without rows."""
        return Matrix(labelsets.empty(self.symbols), np.empty((0, n)), np.empty((0, n), dtype=np.bool_))

    def one_row(self, values: Floats, present: Bools | None = None) -> Matrix:
        """A matrix of one row without labels: float64[n]."""
        there = np.ones((1, len(values)), dtype=np.bool_) if present is None else present.reshape(1, -1)
        return Matrix(labelsets.empty(self.symbols, 1), np.ascontiguousarray(values, dtype=np.float64).reshape(1, -1), there)

    def renamed(self, matrix: Matrix, *, strict: bool = False) -> Matrix:
        """The matrix with metric names dropped, now or at the end. Rows that become equal are merged.

        Raises `ExecutionError` where two of them are present at the same step (at any step, with `strict`).
        """
        if self.delayed_names:
            return replace(matrix, drop=np.ones(len(matrix), dtype=np.bool_))
        unique = labelsets.unique_without_names(matrix.labels)
        dropped = replace(matrix, labels=self.recurring.kept(matrix.labels, labelsets.METADATA, without=True))
        return dropped if unique else self.merged(dropped, strict=strict)

    def renamed_rows(self, rows: Rows) -> Rows | Matrix:
        """As `renamed(strict=True)`, without computing the rows where names cannot make them collide."""
        if self.delayed_names:
            rows.drop = np.ones(len(rows), dtype=np.bool_)
            return rows
        if not labelsets.unique_without_names(rows.labels):
            return self.renamed(self.matrix(rows), strict=True)
        rows.labels = self.recurring.kept(rows.labels, labelsets.METADATA, without=True)
        return rows

    def merged(self, matrix: Matrix, *, strict: bool = False) -> Matrix:
        """Lay rows with equal labels over one another. Raises `ExecutionError` where they collide."""
        groups, first = labelsets.grouped(matrix.labels, (), without=True)
        if len(first) == len(matrix):
            return matrix
        matrix = matrix.found()
        groups, first = labelsets.grouped(matrix.labels, (), without=True)
        if len(first) == len(matrix):
            return matrix
        if strict:
            raise ExecutionError(SAME_LABELSET)
        return self.overlaid(matrix, groups, first)

    def overlaid(self, matrix: Matrix, groups: Ints, first: Ints) -> Matrix:
        """One row for each group of rows. Raises `ExecutionError` where two are present at the same step."""
        shape = (len(first), matrix.values.shape[1])
        values, present = np.empty(shape), np.zeros(shape, dtype=np.bool_)
        if merge_rows(np.ascontiguousarray(matrix.values), np.ascontiguousarray(matrix.present), groups, values, present) >= 0:
            raise ExecutionError(SAME_LABELSET)
        drop = None
        if matrix.drop is not None:
            drop = np.zeros(len(first), dtype=np.bool_)
            np.logical_or.at(drop, groups, matrix.drop)
        histograms = None
        if matrix.histograms is not None:
            index = np.full(shape, -1, dtype=np.int64)
            row, step = np.nonzero(matrix.present)
            index[groups[row], step] = matrix.histograms.index[row, step]
            histograms = Natives(index, matrix.histograms.pool)
        return Matrix(matrix.labels.take(first), values, present, drop, histograms)

    def settled(self, value: Value) -> Value:
        """The query's result with delayed names dropped."""
        if isinstance(value, Windows) and value.drop is not None and value.drop.any():
            return self._settled_windows(value)
        if not isinstance(value, (Matrix, Rows)):
            return value
        matrix = self.matrix(value)
        if matrix.drop is None or not matrix.drop.any():
            return matrix
        return self.merged(replace(matrix, labels=_without_marked_names(matrix.labels, matrix.drop), drop=None))

    def _settled_windows(self, over: Windows) -> Windows:
        """A raw range vector with its marked names dropped. Raises `ExecutionError` for series that become equal."""
        assert over.drop is not None
        labels = _without_marked_names(over.labels, over.drop)
        filled = np.flatnonzero(np.diff(over.offsets))
        _, first = labelsets.grouped(labels.take(filled), (), without=True)
        if len(first) < len(filled):
            raise ExecutionError(SAME_LABELSET)
        return replace(over, labels=labels, drop=None)


def coarser(parts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same rows in fewer parts, each a third of what is left: for each of them one of two threads waits for the interpreter.

    Both are done at about the same time all the same, also where one begins late or has rows of more samples.
    """
    found, at = [], 0
    while at < len(parts):
        last = at + (len(parts) - at - 1) // 3
        found.append((parts[at][0], parts[last][1]))
        at = last + 1
    return found


def _without_marked_names(table: LabelTable, marked: Bools) -> LabelTable:
    keep, gone = np.flatnonzero(~marked), np.flatnonzero(marked)
    both = labelsets.stacked(table.take(keep), labelsets.kept(table.take(gone), labelsets.METADATA, without=True))
    return both.take(np.argsort(np.concatenate([keep, gone]), kind="stable"))


def scalar(value: Value) -> Floats:
    """The numbers of a scalar value: float64[n]."""
    assert isinstance(value, Scalar), "the plan feeds scalars where scalars are wanted"
    return value.values


Elementwise = Callable[[Floats], Floats]
