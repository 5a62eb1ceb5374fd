"""Aggregation operators. Sums and their like read their argument in blocks; the others need the whole matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vedette.kernels import groups as k
from vedette.kernels import tops
from vedette.model.labels import METRIC_NAME
from vedette.promql import annotations as say
from vedette.promql import labelsets, native_aggregate
from vedette.promql.errors import ExecutionError
from vedette.promql.evaluation import BLOCK_CELLS, HEAVY, Evaluation, scalar
from vedette.promql.format import go_float
from vedette.promql.lexer import quoted
from vedette.promql.native_pool import Natives
from vedette.promql.native_render import text
from vedette.promql.nodes import Aggregate, text_of
from vedette.promql.ordered import in_order
from vedette.promql.sampling import ratio_offsets
from vedette.promql.sorting import comparable
from vedette.promql.values import Bools, Floats, Grid, Ints, Matrix, Rows, Value
from vedette.promql.window_functions import shown

_CODES = {
    "sum": k.SUM,
    "avg": k.AVG,
    "count": k.COUNT,
    "min": k.MIN,
    "max": k.MAX,
    "group": k.GROUP,
    "stdvar": k.STDVAR,
    "stddev": k.STDDEV,
}
_IN_ORDER = frozenset((k.MEAN, k.STDVAR, k.STDDEV))
"""What two threads that add half of the rows each would give other last digits than Prometheus."""


def aggregate(ev: Evaluation, node: Aggregate, args: Sequence[Value], grid: Grid) -> Matrix:
    """The aggregation `node` of its evaluated arguments (the parameter first, where there is one)."""
    value = args[-1]
    if node.op == "count_values":
        assert isinstance(args[0], str)
        return _count_values(ev, node, args[0], ev.matrix(value))
    if node.op in _CODES:
        assert isinstance(value, (Matrix, Rows))
        if isinstance(value, Matrix) and value.histograms is not None and node.op not in ("count", "group"):
            return _of_mixed(ev, node, value, grid)
        return _accumulated(ev, node, value, grid)
    if node.op in ("topk", "bottomk"):
        assert isinstance(value, (Matrix, Rows))
        return _top(ev, node, scalar(args[0]), value, grid)
    matrix = ev.matrix(value).found()
    if node.op == "limitk":
        return _limitk(ev, node, scalar(args[0]), matrix)
    if node.op == "limit_ratio":
        return _limit_ratio(ev, node, scalar(args[0]), matrix)
    return _quantile(ev, node, scalar(args[0]), _without_histograms(ev, node, matrix))


def _without_histograms(ev: Evaluation, node: Aggregate, matrix: Matrix) -> Matrix:
    """The floats alone; an info says where that leaves something out."""
    if matrix.native.any():
        ev.annotations.inform(say.ignored_in_aggregation(node.op), node if node.op in ("topk", "bottomk") else node.expr)
    return matrix.floats().found()


def _of_mixed(ev: Evaluation, node: Aggregate, matrix: Matrix, grid: Grid) -> Matrix:
    """Sums and averages of histograms beside those of floats; the other operators are of floats alone."""
    if node.op not in ("sum", "avg"):
        return _accumulated(ev, node, _without_histograms(ev, node, matrix), grid)
    matrix = matrix.found()
    groups, first = _grouping(ev, node, matrix)
    histograms, failed = native_aggregate.summed(ev, node, matrix, groups, len(first))
    ev.count(7 * len(first) * grid.n)
    code = _CODES[node.op]
    floats = matrix.floats()
    sums = _running(ev, code, floats, groups, (len(first), grid.n))
    if code == k.AVG and np.isinf(sums[0]).any():
        code = k.MEAN
        sums = _running(ev, code, floats, groups, (len(first), grid.n))
    present = np.empty(histograms.shape, dtype=np.bool_)
    k.finish(code, *sums, present)
    native = histograms.mask
    result = _result(node, matrix, groups, first, sums[0], (present | native) & ~failed, histograms)
    return result.found()


def _by(node: Aggregate) -> tuple[str, ...]:
    return (*node.grouping, METRIC_NAME) if node.without else node.grouping


def _grouping(ev: Evaluation, node: Aggregate, value: Matrix | Rows) -> tuple[Ints, Ints]:
    if not node.without and not node.grouping:
        return np.zeros(len(value), dtype=np.int64), np.zeros(min(1, len(value)), dtype=np.int64)
    return ev.recurring.grouped(value.labels, _by(node), without=node.without)


def _result(
    node: Aggregate,
    value: Matrix | Rows,
    groups: Ints,
    first: Ints,
    values: Floats,
    present: Bools,
    histograms: Natives | None = None,
) -> Matrix:
    labels = labelsets.kept(value.labels.take(first), _by(node), without=node.without)
    drop = None
    if value.drop is not None:
        drop = np.zeros(len(first), dtype=np.bool_)
        np.logical_or.at(drop, groups, value.drop)
    return Matrix(labels, values, present, drop, histograms).found()


def _small(rows: Rows) -> bool:
    """Whether rows are made already, or little beside what they are computed from, which two threads then do."""
    return rows.made is not None or rows.samples > max(HEAVY, 4 * len(rows) * rows.n)


def _accumulated(ev: Evaluation, node: Aggregate, value: Matrix | Rows, grid: Grid) -> Matrix:
    if isinstance(value, Matrix):
        value = value.found()
    elif _small(value):
        value = ev.matrix(value)
    if not len(value):
        return ev.empty(grid.n)
    code = _CODES[node.op]
    groups, first = _grouping(ev, node, value)
    shape = (len(first), grid.n)
    ev.count(6 * shape[0] * shape[1])
    sums = _running(ev, code, value, groups, shape)
    if code == k.AVG and np.isinf(sums[0]).any():
        code = k.MEAN
        sums = _running(ev, code, value, groups, shape)
    result = np.empty(shape, dtype=np.bool_)
    k.finish(code, *sums, result)
    return _result(node, value, groups, first, sums[0], result)


def _running(ev: Evaluation, code: int, value: Matrix | Rows, groups: Ints, shape: tuple[int, int]) -> tuple[Floats, Floats, Floats]:
    """The running aggregates of all rows. Many rows are computed by two threads."""
    sums = (np.zeros(shape), np.zeros(shape), np.zeros(shape))

    def take(lo: int, values: Floats, present: Bools) -> None:
        k.accumulate(code, values, present, groups[lo : lo + len(values)], *sums)

    # Partial sums must be small beside what is summed, or merging them costs more than two threads that add save.
    if isinstance(value, Rows) and len(value) * shape[1] > 1 << 20 and len(value) > 8 * shape[0] and code not in _IN_ORDER:
        return _in_halves(ev, code, value, groups, shape)
    in_order(ev, value, take)
    return sums


def _in_halves(ev: Evaluation, code: int, rows: Rows, groups: Ints, shape: tuple[int, int]) -> tuple[Floats, Floats, Floats]:
    """The same by two threads that add as well, each half of the rows."""
    half, total = len(rows) // 2, len(rows)

    def part(first: int, last: int) -> tuple[Floats, Floats, Floats]:
        sums = (np.zeros(shape), np.zeros(shape), np.zeros(shape))
        step = min(max(16, BLOCK_CELLS // max(1, shape[1])), max(1, last - first))
        values, present = np.empty((step, shape[1])), np.empty((step, shape[1]), dtype=np.bool_)
        for lo in range(first, last, step):
            ev.check()
            hi = min(lo + step, last)
            rows.fill(lo, hi, values, present)
            k.accumulate(code, values[: hi - lo], present[: hi - lo], groups[lo:hi], *sums)
        return sums

    other = ev.pool.submit(part, half, total)
    sums = part(0, half)
    k.merge(code, *sums, *other.result())
    return sums


def _members(groups: Ints, count: int) -> tuple[Ints, Ints]:
    """The rows of each group, in CSR form."""
    starts = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(groups, minlength=count), out=starts[1:])
    return starts, np.argsort(groups, kind="stable").astype(np.int64, copy=False)


def _quantile(ev: Evaluation, node: Aggregate, q: Floats, matrix: Matrix) -> Matrix:
    assert node.param is not None
    if np.isnan(q).any():
        ev.annotations.warn(say.bad_quantile("NaN"), node.param)
    # As Go's `math.Max` and `math.Min` find them: of NaN and another number NaN is the extreme, but not of NaN and Inf.
    for top, bound in ((float(q.max(initial=-np.inf)), np.inf), (float(q.min(initial=np.inf)), -np.inf)):
        extreme = bound if (q == bound).any() else top
        if extreme > 1 if bound > 0 else extreme < 0:
            ev.annotations.warn(say.bad_quantile(shown(extreme)), node.param)
    groups, first = _grouping(ev, node, matrix)
    starts, rows = _members(groups, len(first))
    values, present = np.empty((len(first), len(q))), np.empty((len(first), len(q)), dtype=np.bool_)
    table, there, n = np.ascontiguousarray(matrix.values), np.ascontiguousarray(matrix.present), len(q)

    def part(first: int, last: int) -> None:
        ev.check()
        k.group_quantile(table, there, starts, rows, np.ascontiguousarray(q), first, last, values, present)

    ev.in_two(part, n, worth=table.size > BLOCK_CELLS)
    return _result(node, matrix, groups, first, values, present)


def _limits(ev: Evaluation, param: Floats) -> Ints | None:
    """The parameter of topk and its like as whole numbers; None where nothing can be asked for."""
    if np.isnan(param).any():
        raise ExecutionError("Parameter value is NaN")
    if not len(param) or param.max() < 1:
        return None
    if param.min() <= -9.223372036854775808e18:
        raise ExecutionError(f"Scalar value {shown(float(param.min()))} underflows int64")
    if param.max() >= 9223372036854774784:
        raise ExecutionError(f"Scalar value {shown(float(param.max()))} overflows int64")
    return np.trunc(param).astype(np.int64)


def _top(ev: Evaluation, node: Aggregate, param: Floats, value: Matrix | Rows, grid: Grid) -> Matrix:
    if isinstance(value, Rows) and _small(value):
        value = ev.matrix(value)
    if isinstance(value, Matrix):
        value = _without_histograms(ev, node, value)
    limits = _limits(ev, param)
    if limits is None or not len(value):
        return ev.empty(grid.n)
    groups, first = _grouping(ev, node, value)
    starts = np.zeros(len(first) + 1, dtype=np.int64)
    np.cumsum(np.minimum(np.bincount(groups, minlength=len(first)), limits.max()), out=starts[1:])
    ev.count(2 * int(starts[-1]) * grid.n)
    shape, largest = (int(starts[-1]), grid.n), node.op == "topk"
    kept, rows = np.empty(shape), np.empty(shape, dtype=np.int64)
    sizes, bar = np.zeros((len(first), grid.n), dtype=np.int64), np.full((len(first), grid.n), np.nan)

    def take(lo: int, values: Floats, present: Bools) -> None:
        tops.best(values, present, groups[lo : lo + len(values)], lo, starts, limits, largest, kept, rows, sizes, bar)

    in_order(ev, value, take)
    made = _of_heaps(value, starts, kept, rows, sizes)
    if grid.n > 1:
        return made
    order = np.empty(len(rows), dtype=np.int64)
    chosen = order[: tops.ranked(starts, sizes, *comparable(-kept[:, 0] if largest else kept[:, 0]), rows, order)]
    return made.take(np.searchsorted(np.sort(chosen), chosen))


def _of_heaps(value: Matrix | Rows, starts: Ints, kept: Floats, rows: Ints, sizes: Ints) -> Matrix:
    """The rows of which anything is in a heap, and what is, in the order of `value`."""
    caps = np.diff(starts)
    of = np.repeat(np.arange(len(caps)), caps)
    filled = (np.arange(len(of)) - starts[of])[:, None] < sizes[of]
    steps, numbers = np.nonzero(filled)[1], rows[filled]
    seen = np.zeros(len(value), dtype=np.bool_)
    seen[numbers] = True
    chosen = np.flatnonzero(seen)
    at = (np.cumsum(seen) - 1)[numbers]
    values, present = np.zeros((len(chosen), kept.shape[1])), np.zeros((len(chosen), kept.shape[1]), dtype=np.bool_)
    values[at, steps], present[at, steps] = kept[filled], True
    return Matrix(value.labels.take(chosen), values, present, None if value.drop is None else value.drop[chosen])


def _limitk(ev: Evaluation, node: Aggregate, param: Floats, matrix: Matrix) -> Matrix:
    limits = _limits(ev, param)
    if limits is None or not len(matrix):
        return ev.empty(matrix.values.shape[1])
    groups, first = _grouping(ev, node, matrix)
    keep = np.empty(matrix.present.shape, dtype=np.bool_)
    k.first_of(np.ascontiguousarray(matrix.present), groups, limits, np.zeros((len(first), len(limits)), dtype=np.int64), keep)
    return replace(matrix, present=keep).found()


def _limit_ratio(ev: Evaluation, node: Aggregate, ratio: Floats, matrix: Matrix) -> Matrix:
    assert node.param is not None
    n = matrix.values.shape[1]
    if not len(ratio) or not np.any(ratio != 0):
        return ev.empty(n)
    if np.isnan(ratio).any():
        raise ExecutionError("Ratio value is NaN")
    for bound, value in ((1.0, float(ratio.max())), (-1.0, float(ratio.min()))):
        if abs(value) > 1 and (value > 0) == (bound > 0):
            message = f"ratio value should be between -1 and 1, got {shown(value)}, capping to {shown(bound)}"
            ev.annotations.warn(message, node.param)
    capped = np.clip(ratio, -1.0, 1.0)
    offsets = ratio_offsets(matrix.labels)
    low = (capped >= 0) & (offsets[:, None] < capped)
    high = (capped < 0) & (offsets[:, None] >= 1.0 + capped)
    return replace(matrix, present=matrix.present & (low | high)).found()


def _count_values(ev: Evaluation, node: Aggregate, label: str, matrix: Matrix) -> Matrix:
    assert node.param is not None
    if (param := text_of(node.param)).broken or not label:
        raise ExecutionError(f"invalid label name {quoted(param.broken)}")
    n = matrix.values.shape[1]
    if not matrix.present.any():
        return ev.empty(n)
    numbers, table = (matrix.values, None) if matrix.histograms is None else _numbered(matrix)
    # The label is given by the value, whatever it was before.
    names = (*_by(node), label) if node.without else tuple(name for name in node.grouping if name != label)
    groups, first = ev.recurring.grouped(matrix.labels, names, without=node.without)
    group_of, value_of, counts = _counted(ev, numbers, matrix.present, groups)
    distinct, which = np.unique(value_of.view(np.int64), return_inverse=True)
    shown_as = [table[int(v)] if table is not None else go_float(v) for v in distinct.view(np.float64).tolist()]
    texts = np.array([ev.symbols.intern(t) for t in shown_as], dtype=np.int32)
    kept = labelsets.kept(matrix.labels.take(first), names, without=node.without)
    labels = labelsets.with_label(kept.take(group_of), label, texts[which.reshape(-1)])
    return Matrix(labels, counts, counts > 0)


def _numbered(matrix: Matrix) -> tuple[Floats, list[str]]:
    """The samples' texts as numbers, where some are native histograms, and the texts by number."""
    assert matrix.histograms is not None
    at = np.nonzero(matrix.present)
    samples = zip(matrix.histograms.at(at).objects.tolist(), matrix.values[at].tolist(), strict=True)
    distinct, which = np.unique(np.array([go_float(v) if h is None else text(h) for h, v in samples]), return_inverse=True)
    numbers = np.zeros(matrix.present.shape)
    numbers[at] = which.reshape(-1)
    return numbers, distinct.tolist()


def _counted(ev: Evaluation, values: Floats, present: Bools, groups: Ints) -> tuple[Ints, Floats, Floats]:
    """(group, value, counts at each step) of each pair of a group and a value that occurs."""
    n = values.shape[1]
    most = 64
    while True:
        # Each pair makes a series: refuse too many before they are written out as labels.
        ev.count(most * n)
        slots = np.full(4 * most, -1, dtype=np.int64)
        group_of, value_of, counts = np.empty(most, dtype=np.int64), np.empty(most), np.zeros((most, n))
        found = k.count_values(np.ascontiguousarray(values), np.ascontiguousarray(present), groups, slots, group_of, value_of, counts)
        if found >= 0:
            return group_of[:found], value_of[:found], counts[:found]
        ev.release(most * n)
        most *= 2
        ev.check()
