"""Binary operators where native histograms take part: sums, differences, scaling, equality, trimming.

What an operator does not apply to gives no sample and an info. Pairs of floats are the kernels' work (`binary.py`). As in
Prometheus an operator says one thing at a step: what it had to say last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import native as kernel
from vedette.model import histogram_arithmetic as arithmetic
from vedette.model.histograms import GAUGE, HEAD, NOT_RESET, RESET, UNKNOWN, Histogram, bare
from vedette.promql import annotations as say
from vedette.promql import native_zero
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_pool import Natives, Pool, differ
from vedette.promql.native_trim import trimmed
from vedette.promql.nodes import TRIMS, Binary
from vedette.promql.values import Bools, Floats, Ints, Matrix, joined_histograms

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
) -> Natives:
    """The histograms of `left op right` for the pairs of `rows`.

    `result`, values and presence as if all samples were floats, is put right where one is a histogram (everywhere, for the
    trim operators, which do not apply to floats).
    """
    left, right = sides
    values, present = result
    there = left.present[rows[0]] & right.present[rows[1]]
    both = joined_histograms(left, right)
    pool = Pool.empty() if both is None else both.pool
    nothing = np.full(values.shape, -1, dtype=np.int64)
    index = [nothing if both is None else np.where(there, both.index[at], -1) for at in (rows[0], rows[1] + len(left))]
    native = index[0] >= 0, index[1] >= 0
    floats = [np.broadcast_to(m.values[at], values.shape) for m, at in zip(sides, rows, strict=True)]
    unfit = there & _unfit(node.op, native)
    present[unfit] = False
    wanted = there & (native[0] | native[1]) & ~unfit
    last = _told_unfit(node.op, native, unfit)
    if node.op in ("==", "!="):
        found, left_over = _compared(node, pool, (index[0], index[1]), result, wanted, as_bool=as_bool)
    else:
        found, left_over = in_columns(ev, node, pool, (index[0], index[1]), (floats[0], floats[1]), wanted)
        present[wanted & ~left_over] = found.mask[wanted & ~left_over]
    objects = np.full(values.shape, None, dtype=object)
    for p, k in np.argwhere(left_over).tolist():
        given, word = _of_two(node.op, *(pool.sample(int(i[p, k])) for i in index))
        if word is not None:
            last[k] = max(last.get(k, (-1, word)), (p, word), key=lambda told: told[0])
        kept = given is not None and given is not False
        present[p, k] = kept or (as_bool and given is False)
        if as_bool and given is not None:
            values[p, k] = float(kept)
        elif isinstance(given, Histogram):
            objects[p, k] = given
    for warns, message in dict.fromkeys(word for _, word in last.values()):
        (ev.annotations.warn if warns else ev.annotations.inform)(message, node)
    return found.replaced(left_over, objects)


def _unfit(op: str, native: tuple[Bools, Bools]) -> Bools:
    """Of pairs of samples, of which it is told whether they are histograms: where the operator does not apply to the two."""
    left, right = native
    if op in TRIMS:
        return ~left | right
    if op == "*":
        return left & right
    if op == "/":
        return right
    return left != right if op in ("+", "-", "==", "!=") else left | right


def _told_unfit(op: str, native: tuple[Bools, Bools], unfit: Bools) -> dict[int, tuple[int, Word]]:
    """What is said at each step of the last of the pairs that are `unfit`, and which pair that is."""
    last: dict[int, tuple[int, Word]] = {}
    if not len(unfit):
        return last
    steps = np.flatnonzero(unfit.any(axis=0))
    pairs = len(unfit) - 1 - np.argmax(unfit[::-1, steps], axis=0)
    for p, k in zip(pairs.tolist(), steps.tolist(), strict=True):
        left, right = ("histogram" if side[p, k] else "float" for side in native)
        last[k] = p, (False, say.incompatible_types(left, op, right))
    return last


def refused(node: Binary, left: tuple[Matrix, Ints], right: tuple[Matrix, Ints]) -> Bools:
    """Of the pairs of rows of two sides: where both are there and nothing comes of the operator. Says nothing."""
    there = left[0].present[left[1]] & right[0].present[right[1]]
    native = left[0].native[left[1]], right[0].native[right[1]]
    result = there & _unfit(node.op, native)
    at = np.nonzero(there & native[0] & native[1] & ~result)
    if node.op not in ("+", "-") or not len(at[0]):
        return result
    assert left[0].histograms is not None and right[0].histograms is not None, "there are some"
    sides = [(m.histograms.pool, m.histograms.index[rows][at]) for m, rows in (left, right) if m.histograms is not None]
    custom = [np.array([x.custom for x in pool.layouts], dtype=np.bool_)[pool.layout[items]] for pool, items in sides]
    hints = [pool.hints[items] for pool, items in sides]
    result[at] = (custom[0] != custom[1]) | _collided(hints[0], hints[1])
    return result


def _collided(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Bools:
    """Where one of two was a reset and the other expressly not."""
    collided: Bools = ((a == RESET) & (b == NOT_RESET)) | ((a == NOT_RESET) & (b == RESET))
    return collided


def in_columns(
    ev: Evaluation, node: Binary, pool: Pool, index: tuple[Ints, Ints], floats: tuple[Floats, Floats], wanted: Bools
) -> tuple[Natives, Bools]:
    """What can be done all at a time of the `wanted` pairs, and the pairs that are left. There is nothing to be said of the former."""
    a, b = index
    left, out = wanted.copy(), np.full(wanted.shape, -1, dtype=np.int64)
    if not len(pool):
        return Natives(out, pool), left
    if node.op in ("*", "/"):
        at = np.nonzero(wanted)
        number = np.where(a < 0, floats[0], floats[1])[at]
        made = scaled(ev, pool, np.maximum(a, b)[at], number, divided=node.op == "/")
    elif node.op in ("+", "-"):
        at = np.nonzero(wanted)
        done, made = _added(ev, pool, a[at], b[at], negative=node.op == "-")
        at = (at[0][done], at[1][done])
    elif node.op in TRIMS:
        at = np.nonzero(wanted)
        made = trimmed(ev, pool, a[at], np.broadcast_to(floats[1], wanted.shape)[at], upper=node.op == "</")
    else:
        return Natives(out, pool), left
    out[at] = np.arange(len(at[0]))
    left[at] = False
    return Natives(out, made), left


def _compared(
    node: Binary, pool: Pool, index: tuple[Ints, Ints], result: tuple[Floats, Bools], wanted: Bools, *, as_bool: bool
) -> tuple[Natives, Bools]:
    """What is left of the left side, and the pairs that are left to be done."""
    a, b = index
    values, present = result
    some = wanted.copy()
    at = np.nonzero(some)
    other, known = differ(pool, a[at], b[at])
    some[at] = known
    at, kept = np.nonzero(some), other[known] == (node.op == "!=")
    present[at] = kept | as_bool
    out = np.full(wanted.shape, -1, dtype=np.int64)
    if as_bool:
        values[at] = kept
    else:
        out[at] = np.where(kept, a[at], -1)
    return Natives(out, pool), wanted & ~some


def moved(ev: Evaluation, pool: Pool, items: Ints, to: Ints) -> tuple[Floats, Ints]:
    """The cells of the histograms `items` in the layouts `to`, end to end, and where each begins."""
    table = pool.table
    widths = table.widths[to]
    at = np.cumsum(widths) - widths
    size = int(widths.sum())
    ev.count(0, 8 * size)
    cells = np.zeros(size)
    kernel.moved(table.shapes, items, pool.layout, pool.starts, pool.cells, to, cells, at)
    return cells, at


def scaled(ev: Evaluation, pool: Pool, items: Ints, number: Floats, *, divided: bool) -> Pool:
    """The histograms `items`, each times (or by) its number, without empty buckets; what is divided by 0 has no buckets at all."""
    to = pool.layout[items].astype(np.int64)
    cells, at = moved(ev, pool, items, to)
    widths = pool.table.widths[to]
    # Nothing comes of an empty bucket that is none, whatever it is multiplied by.
    none = np.repeat(pool.slim[items] & ~np.isfinite(number), widths)
    none &= (cells == 0) & (np.arange(len(cells)) - np.repeat(at, widths) >= HEAD)
    with np.errstate(all="ignore"):
        (np.divide if divided else np.multiply)(cells, np.repeat(number, widths), out=cells)
    cells[none] = 0.0
    layouts = pool.layouts
    if divided and (zero := number == 0).any():
        layouts = [*layouts, *(bare(x.schema, x.threshold, x.bounds) for x in layouts)]
        to = np.where(zero, to + len(pool.layouts), to)
    hints = np.where(number < 0, np.uint8(GAUGE), pool.hints[items])
    return Pool.made(layouts, to, at, cells, hints, np.ones(len(items), dtype=np.bool_))


def _added(ev: Evaluation, pool: Pool, a: Ints, b: Ints, *, negative: bool) -> tuple[Ints, Pool]:
    """Which sums (or differences) are made, and these: histograms of one family, of which no warning is to be given."""
    if pool.table.reaching:
        own = pool.table.thresholds
        widest = np.maximum(own[pool.layout[a]], own[pool.layout[b]])
        pool, items = native_zero.widened(ev, pool, np.concatenate([a, b]), np.concatenate([widest, widest]))
        a, b = items[: len(a)], items[len(a) :]
    table = pool.table
    one, two = (pool.layout[items].astype(np.int64) for items in (a, b))
    hints = pool.hints[a], pool.hints[b]
    collided = _collided(hints[0], hints[1])
    families, _ = table.summable
    done = np.flatnonzero((families[one] == families[two]) & ~collided)
    a, b, one, two = a[done], b[done], one[done], two[done]
    to = table.paired(one, two)
    (cells, at), (others, _) = moved(ev, pool, a, to), moved(ev, pool, b, to)
    with np.errstate(all="ignore"):
        (np.subtract if negative else np.add)(cells, others, out=cells)
    first, second = hints[0][done], hints[1][done]
    joint = np.where(first == second, first, np.where((first == GAUGE) | (second == GAUGE), np.uint8(GAUGE), np.uint8(UNKNOWN)))
    told = np.full(len(a), GAUGE, dtype=np.uint8) if negative else joint.astype(np.uint8)
    thresholds = table.thresholds
    layouts, numbers = table.widened(to, np.maximum(thresholds[one], thresholds[two]))
    return done, Pool.made(layouts, numbers, at, cells, told, np.ones(len(a), dtype=np.bool_))


def negated(natives: Natives) -> Natives:
    """Gauges of the opposite numbers; empty buckets stay."""
    pool = natives.pool
    hints = np.full(len(pool), GAUGE, dtype=np.uint8)
    return Natives(natives.index, Pool(pool.layouts, pool.layout, pool.starts, -pool.cells, hints, pool.slim))


def _of_two(op: str, a: Histogram, b: Histogram) -> tuple[Result, Word | None]:
    if op in ("==", "!="):
        return (a if arithmetic.equal(a, b) == (op == "==") else False), None
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
