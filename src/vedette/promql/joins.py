"""Operators between two vectors of many rows, block by block: no matrix is held of either side, nor of what comes of them.

A join of 20,000 series with as many held both sides, the pairs and what is merged of them: 60 MB at 54 steps. Labels alone mostly tell
that there is nothing to refuse at any step, and then a block of the pairs is computed of a block of either side. Not here: what the
operators mean, and all that must look at the samples to tell whether it is allowed (`binary.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vedette.kernels import groups as gk
from vedette.kernels import joins as k
from vedette.promql import labelsets
from vedette.promql.evaluation import BLOCK_CELLS, Evaluation
from vedette.promql.matching import matched_on, pairs, result_labels, signatures
from vedette.promql.nodes import TRIMS, Binary
from vedette.promql.ordered import in_order
from vedette.promql.values import Block, Bools, Floats, Grid, Ints, Matrix, Rows, Value

CODES = {
    "+": k.ADD,
    "-": k.SUB,
    "*": k.MUL,
    "/": k.DIV,
    "%": k.MOD,
    "^": k.POW,
    "atan2": k.ATAN2,
    "==": k.EQ,
    "!=": k.NE,
    ">": k.GT,
    "<": k.LT,
    ">=": k.GE,
    "<=": k.LE,
}
"""The operators of floats, as the kernel knows them."""

_FEW = 16
"""Rows of the smallest blocks that are asked for."""
_APART = 2
"""Times as many rows as are wanted of a side may lie between them: what is computed in vain."""


def by_blocks(ev: Evaluation, node: Binary, left: Value, right: Value, grid: Grid) -> Rows | None:
    """`left op right`, not yet computed; None where it is little, or where only the samples tell whether it is allowed."""
    if not (isinstance(left, (Matrix, Rows)) and isinstance(right, (Matrix, Rows))) or not (_large(left) or _large(right)):
        return None
    left, right = _made(left), _made(right)
    if node.op in TRIMS or any(isinstance(side, Matrix) and side.histograms is not None for side in (left, right)):
        return None
    if node.op == "or":
        return _either(ev, node, left, right, grid)
    if node.op in ("and", "unless"):
        return _filtered(ev, node, left, right, grid)
    return _joined(ev, node, left, right, grid)


def _large(side: Matrix | Rows) -> bool:
    return isinstance(side, Rows) and side.made is None and len(side) * side.n > BLOCK_CELLS


def _made(side: Matrix | Rows) -> Matrix | Rows:
    return side.made if isinstance(side, Rows) and side.made is not None else side


@dataclass(frozen=True, slots=True)
class _Side:
    """Rows of one side, as a result wants them: `rows` says which one stands in each of its rows."""

    value: Matrix | Rows
    rows: Ints

    @classmethod
    def of(cls, ev: Evaluation, value: Matrix | Rows, rows: Ints, n: int) -> _Side:
        """The side; computed at once where the result wants its rows all over the place."""
        if isinstance(value, Rows) and not all(_near(rows, block) for block in (_FEW, max(_FEW, BLOCK_CELLS // max(1, n)))):
            value = ev.matrix(value)
        if isinstance(value, Matrix):
            value = Matrix(value.labels, np.ascontiguousarray(value.values), np.ascontiguousarray(value.present), value.drop)
        return cls(value, rows)

    def block(self, wanted: Ints) -> tuple[Floats, Bools, Ints]:
        """Values and presence of some rows, and where among these are those that are `wanted`, one at least."""
        if isinstance(self.value, Matrix):
            return self.value.values, self.value.present, wanted
        first, last = int(wanted.min()), int(wanted.max()) + 1
        values, present = np.empty((last - first, self.value.n)), np.empty((last - first, self.value.n), dtype=np.bool_)
        self.value.fill(first, last, values, present)
        return values, present, wanted - first

    @property
    def samples(self) -> int:
        """About how many they are computed from."""
        return self.value.samples if isinstance(self.value, Rows) else 0

    @property
    def depth(self) -> int:
        """How many rows stand one behind the other, with those that are computed of it."""
        return self.value.depth + 1 if isinstance(self.value, Rows) else 0

    @property
    def begins(self) -> Ints | None:
        """Where rows begin that are best computed together."""
        return self.value.begins if isinstance(self.value, Rows) else None

    @property
    def held(self) -> tuple[int, int]:
        """The samples that are held for it, and their bytes."""
        if isinstance(self.value, Rows):
            return self.value.held
        return self.value.values.size, self.value.values.nbytes + self.value.present.nbytes


def _near(rows: Ints, block: int) -> bool:
    """Whether blocks of `rows` (-1: none) are mostly of rows that lie beside one another."""
    if not len(rows):
        return True
    cuts = np.arange(0, len(rows), block)
    least, most = np.minimum.reduceat(np.where(rows < 0, len(rows), rows), cuts), np.maximum.reduceat(rows, cuts)
    return int(np.maximum(most - least + 1, 0).sum()) <= _APART * len(rows) + block


def _joined(ev: Evaluation, node: Binary, left: Matrix | Rows, right: Matrix | Rows, grid: Grid) -> Rows | None:
    """Arithmetic and comparisons: None where a signature may be found twice, or two pairs may have the same labels."""
    matching = node.matching
    if matching.fill_left is not None or matching.fill_right is not None:
        return None
    left_groups, right_groups, count = signatures(node, left.labels, right.labels)
    swapped = matching.group == "right"
    many, one = (right, left) if swapped else (left, right)
    many_groups, one_groups = (right_groups, left_groups) if swapped else (left_groups, right_groups)
    if len(one_groups) and np.bincount(one_groups).max() > 1:
        return None
    tables = many.labels, one.labels
    key = "pairs", *map(id, tables), *matched_on(node)
    many_rows, one_rows = ev.symbols.recalled(key, lambda: pairs(ev, many_groups, one_groups, count), tables)
    if not len(many_rows) or (matching.group is None and np.bincount(many_groups[many_rows]).max() > 1):
        return None
    # In order of the "many" side, each at most once.
    whole = len(many_rows) == len(many)
    paired = many.labels if whole else many.labels.take(many_rows), one.labels.take(one_rows) if matching.include else one.labels
    labels = result_labels(node, *paired, delayed=ev.delayed_names)
    if len(labelsets.grouped(labels, (), without=True)[1]) < len(labels):
        return None
    sides = _Side.of(ev, many, many_rows, grid.n), _Side.of(ev, one, one_rows, grid.n)
    code, as_bool, of_left, of_right = CODES[node.op], node.bool_, sides[swapped], sides[not swapped]

    def fill(lo: int, hi: int, values: Floats, present: Bools) -> None:
        if lo == hi:
            return
        a, a_present, a_rows = of_left.block(of_left.rows[lo:hi])
        b, b_present, b_rows = of_right.block(of_right.rows[lo:hi])
        k.combine(code, a, a_present, b, b_present, a_rows, b_rows, as_bool, False, values[: hi - lo], present[: hi - lo])

    drop = np.ones(len(labels), dtype=np.bool_) if as_bool and ev.delayed_names else None
    begins = sides[0].begins if whole else None
    held = _sum(of_left.held, of_right.held)
    samples, depth = of_left.samples + of_right.samples, max(of_left.depth, of_right.depth)
    return Rows(labels, grid.n, fill, drop, samples=samples, begins=begins, held=held, depth=depth)


def _filtered(ev: Evaluation, node: Binary, left: Matrix | Rows, right: Matrix | Rows, grid: Grid) -> Rows:
    """`and`, `unless`: of the right side only is kept at which steps each signature is there."""
    left_groups, right_groups, count = signatures(node, left.labels, right.labels)
    there = _present(ev, right, right_groups, count, grid)
    first, own, wanted = _Side(left, left_groups), _filling(left), node.op == "and"

    def fill(lo: int, hi: int, values: Floats, present: Bools) -> None:
        own(lo, hi, values, present)
        met = there[left_groups[lo:hi]]
        present[: hi - lo] &= met if wanted else ~met

    held = _sum(first.held, (0, there.nbytes))
    return Rows(left.labels, grid.n, fill, left.drop, samples=first.samples, begins=first.begins, held=held, depth=first.depth)


def _either(ev: Evaluation, node: Binary, left: Matrix | Rows, right: Matrix | Rows, grid: Grid) -> Rows | None:
    """`or`: the rows of the left side, each with that of the right side that has its labels; then those of the right side alone."""
    if not (len(left) and len(right)) or left.drop is not None or right.drop is not None:
        return None
    left_groups, right_groups, count = signatures(node, left.labels, right.labels)
    both = labelsets.stacked(left.labels, right.labels)
    alike, _ = labelsets.grouped(both, (), without=True)
    # Groups are numbered as they come: where no two rows of a side are equal, the left side's are its rows' numbers.
    of_left, of_right = alike[: len(left)], alike[len(left) :]
    shared = of_right < len(left)
    if of_left[-1] != len(left) - 1 or np.bincount(of_right).max() > 1:
        return None
    only = np.flatnonzero(~shared)
    partners = np.full(len(left) + len(only), -1, dtype=np.int64)
    partners[of_right[shared]] = np.flatnonzero(shared)
    partners[len(left) :] = only
    there = _present(ev, left, left_groups, count, grid)
    first, second, own = _Side(left, left_groups), _Side.of(ev, right, partners, grid.n), _filling(left)

    def fill(lo: int, hi: int, values: Floats, present: Bools) -> None:
        upto = min(hi, len(left))
        if lo < upto:
            own(lo, upto, values, present)
        present[max(0, upto - lo) : hi - lo] = False
        at = np.flatnonzero(partners[lo:hi] >= 0)
        if len(at):
            wanted = partners[lo:hi][at]
            others, found, rows = second.block(wanted)
            found = found[rows] & ~there[right_groups[wanted]]
            values[at] = np.where(found, others[rows], values[at])
            present[at] |= found

    labels = both.take(np.concatenate([np.arange(len(left)), len(left) + only])) if len(only) else left.labels
    begins = None if len(only) else first.begins
    held = _sum(first.held, second.held, (0, there.nbytes))
    samples, depth = first.samples + second.samples, max(first.depth, second.depth)
    return Rows(labels, grid.n, fill, samples=samples, begins=begins, held=held, depth=depth)


def _filling(side: Matrix | Rows) -> Block:
    """What fills in the rows of a side."""
    if isinstance(side, Rows):
        return side.fill

    def copied(lo: int, hi: int, values: Floats, present: Bools) -> None:
        values[: hi - lo], present[: hi - lo] = side.values[lo:hi], side.present[lo:hi]

    return copied


def _present(ev: Evaluation, side: Matrix | Rows, groups: Ints, count: int, grid: Grid) -> Bools:
    """At which steps any row of each of `count` groups is there: bool[count, n]."""
    there = np.zeros((count, grid.n), dtype=np.bool_)
    ev.count(0, there.nbytes)

    def take(lo: int, values: Floats, present: Bools) -> None:
        gk.any_present(present, groups[lo : lo + len(present)], there)

    if len(side):
        in_order(ev, side, take)
    return there


def _sum(*held: tuple[int, int]) -> tuple[int, int]:
    return sum(samples for samples, _ in held), sum(size for _, size in held)
