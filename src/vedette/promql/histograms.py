"""Quantiles and fractions of histograms: classic ones, which are series that differ in their bucket's upper bound `le`, and
native ones, which are samples. Where both stand for the same series at the same step, neither counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vedette.kernels import buckets as k
from vedette.model.histograms import Histogram
from vedette.model.labels import METRIC_NAME
from vedette.model.labeltable import LabelTable, remembered
from vedette.promql import annotations as say
from vedette.promql import labelsets, native_numbers
from vedette.promql.errors import ExecutionError
from vedette.promql.evaluation import BLOCK_CELLS, Evaluation, scalar
from vedette.promql.format import go_float
from vedette.promql.lexer import quoted
from vedette.promql.native_quantiles import fraction, quantile
from vedette.promql.nodes import Call, Node, text_of
from vedette.promql.values import Bools, Floats, Grid, Ints, Matrix, Value
from vedette.promql.window_functions import shown

LE = "le"


@dataclass(frozen=True, slots=True)
class _Buckets:
    """Histograms: group g's buckets are `rows[starts[g]:starts[g+1]]` of `matrix`, by rising bound; labels lack `le`."""

    matrix: Matrix
    labels: LabelTable
    drop: Bools | None
    starts: Ints
    rows: Ints
    bounds: Floats


def _bound(text: str) -> float:
    """A bucket's bound, NaN for what Go's ParseFloat would not read (NaN itself it does)."""
    if not text.isascii() or "_" in text or text != text.strip():
        return math.nan
    try:
        return float(text)
    except ValueError:
        return math.nan


@remembered
def bounds_of(labels: LabelTable) -> tuple[list[str], Ints, Floats]:
    """The distinct texts of `le` ("" where there is none), which of them each row has, and each row's bound, NaN where it is none."""
    distinct, inverse = np.unique(labels.column(LE), return_inverse=True)
    texts = [labels.symbols.text(s) if s >= 0 else "" for s in distinct.tolist()]
    parsed = np.array([_bound(t) for t in texts])
    return texts, inverse, parsed[inverse] if len(distinct) else np.zeros(0)


@remembered
def by_bound(labels: LabelTable, bounds: Floats, good: Ints) -> tuple[Ints, Ints, Ints]:
    """Histograms of the rows `good`, which have bounds: the first row of each; where each begins among these by rising bound; these."""
    groups, first = labelsets.grouped(labels.take(good), (LE,), without=True)
    order = np.lexsort((bounds[good], groups))
    starts = np.zeros(len(first) + 1, dtype=np.int64)
    np.cumsum(np.bincount(groups, minlength=len(first)), out=starts[1:])
    return good[first], starts, good[order].astype(np.int64, copy=False)


def _buckets(ev: Evaluation, matrix: Matrix, node: Node) -> _Buckets:
    matrix = matrix.found()
    texts, inverse, bounds = bounds_of(matrix.labels)
    bad = np.isnan(bounds)
    if bad.any():
        for i in np.unique(inverse[bad]).tolist():
            rows = inverse == i
            # What is given still has its name, whether or not the result keeps it to its end.
            for name in labelsets.metric_names(matrix.labels, rows) or [""]:
                ev.annotations.warn(say.bad_bucket_label(texts[i], name), node)
    first, starts, rows = by_bound(matrix.labels, bounds, np.flatnonzero(~bad))
    labels = labelsets.kept(matrix.labels.take(first), (LE,), without=True)
    drop = None if matrix.drop is None else matrix.drop[first]
    return _Buckets(matrix, labels, drop, starts, rows, np.ascontiguousarray(bounds))


@dataclass(frozen=True, slots=True)
class _Both:
    """The classic and the native histograms of a vector; `native` holds these samples alone, None where there are none."""

    classic: _Buckets
    native: Matrix | None


def _split(ev: Evaluation, value: Value, node: Node) -> _Both:
    matrix = ev.matrix(value)
    if matrix.histograms is None:
        return _Both(_buckets(ev, matrix, node), None)
    native = replace(matrix, present=matrix.native).found()
    floats = matrix.floats()
    classic = _buckets(ev, replace(floats, present=floats.present.copy()), node)
    if not len(classic.labels):
        return _Both(classic, native)
    both, count = labelsets.stacked(classic.labels, native.labels), len(classic.labels)
    groups, _ = labelsets.grouped(both, (), without=True)
    where = {group: i for i, group in enumerate(groups[:count].tolist())}
    names = native.labels.column(METRIC_NAME)
    for row, group in enumerate(groups[count:].tolist()):
        if group not in where:
            continue
        rows = classic.rows[classic.starts[where[group]] : classic.starts[where[group] + 1]]
        clash = native.present[row] & classic.matrix.present[rows].any(axis=0)
        if clash.any():
            name = ev.symbols.text(int(names[row])) if names[row] >= 0 else ""
            ev.annotations.warn(say.mixed_classic_native(name), node)
            native.present[row, clash] = False
            classic.matrix.present[np.ix_(rows, np.flatnonzero(clash))] = False
    return _Both(classic, native)


def _with_native(
    ev: Evaluation,
    classic: Matrix,
    native: Matrix | None,
    node: Node,
    number: Callable[[Histogram, int, str], tuple[float, str]],
    *,
    known: tuple[Floats, Bools] | None,
) -> Matrix:
    """The results of both kinds; `number(histogram, step, metric)` gives that of a native one, and an info to be given at `node`.

    `known` are results that need not be asked for, and where they are.
    """
    if native is None or not len(native):
        return classic
    assert native.histograms is not None
    assert known is not None, "known of what is native"
    values, done = known
    names = native.labels.column(METRIC_NAME)
    for row, step in np.argwhere(native.present & ~done).tolist():
        name = ev.symbols.text(int(names[row])) if names[row] >= 0 and ev.delayed_names else ""
        h = native.histograms.sample(row, step)
        assert h is not None, "only what is native is left of the vector"
        values[row, step], info = number(h, step, name)
        if info:
            ev.annotations.inform(info, node)
    return ev.merged(_stacked(classic, Matrix(native.labels, values, native.present, native.drop)))


def _stacked(a: Matrix, b: Matrix) -> Matrix:
    drop = None
    if a.drop is not None or b.drop is not None:
        drop = np.concatenate([np.zeros(len(m), dtype=np.bool_) if m.drop is None else m.drop for m in (a, b)])
    labels = labelsets.stacked(a.labels, b.labels)
    return Matrix(labels, np.concatenate([a.values, b.values]), np.concatenate([a.present, b.present]), drop)


def _arrays(found: _Buckets, n: int) -> tuple[Floats, Bools]:
    shape = (len(found.starts) - 1, n)
    return np.empty(shape), np.empty(shape, dtype=np.bool_)


def _quantile_matrix(ev: Evaluation, both: _Both, q: Floats, grid: Grid, node: Node | None, native_node: Node) -> Matrix:
    found = both.classic
    values, present = _arrays(found, grid.n)
    forced = np.zeros((*values.shape, 4))
    table, there, wanted = (np.ascontiguousarray(a) for a in (found.matrix.values, found.matrix.present, q))

    def part(lo: int, hi: int) -> None:
        ev.check()
        k.quantiles(table, there, found.starts, found.rows, found.bounds, wanted, lo, hi, values, present, forced)

    ev.in_two(part, len(values), worth=table.size > BLOCK_CELLS)
    if node is not None and forced[:, :, 0].any():
        _say_forced(ev, found, forced, grid, node)
    classic = Matrix(found.labels, values, present, found.drop)
    known = None if both.native is None else native_numbers.quantiles(ev, both.native, q)
    return _with_native(ev, classic, both.native, native_node, lambda h, k, name: quantile(float(q[k]), h, name), known=known)


def _say_forced(ev: Evaluation, found: _Buckets, forced: Floats, grid: Grid, node: Node) -> None:
    marked = forced[:, :, 0] > 0
    names = labelsets.metric_names(found.labels, np.atleast_1d(marked.any(axis=1))) if ev.delayed_names else []
    for name in names or [""]:
        rows = marked
        if name:
            symbol = ev.symbols.find(name)
            rows = marked & (found.labels.column("__name__") == symbol)[:, None]
        steps = np.flatnonzero(rows.any(axis=0))
        low, high, most = (float(f) for f in (forced[rows][:, 1].min(), forced[rows][:, 2].max(), forced[rows][:, 3].max()))
        first, last = (grid.start + grid.step * int(s) for s in (steps[0], steps[-1]))
        ev.annotations.force(name, say.Forced(low, high, most, int(rows.sum()), first, last), node)


def _warn_quantiles(ev: Evaluation, q: Floats, node: Node) -> None:
    for value in np.unique(q[~((q >= 0) & (q <= 1))]):
        ev.annotations.warn(say.bad_quantile(shown(float(value))), node)


def histogram_quantile(ev: Evaluation, node: Call, args: Sequence[Value], grid: Grid) -> Matrix:
    """`histogram_quantile(q, v)`."""
    q = scalar(args[0])
    _warn_quantiles(ev, q, node.args[0])
    found = _split(ev, args[1], node.args[1])
    return ev.renamed(_quantile_matrix(ev, found, q, grid, node.args[1], node.args[0]))


def histogram_quantiles(ev: Evaluation, node: Call, args: Sequence[Value], grid: Grid) -> Matrix:
    """`histogram_quantiles(v, label, q…)`: one series a quantile, told apart by `label`."""
    label = args[1]
    assert isinstance(label, str)
    if not label or text_of(node.args[1]).broken:
        raise ExecutionError(f"invalid label name {quoted(text_of(node.args[1]).broken)}")
    found = _split(ev, args[0], node.args[0])
    parts: list[Matrix] = []
    told = False
    for arg, number in zip(node.args[2:], args[2:], strict=True):
        q = scalar(number)
        _warn_quantiles(ev, q, arg)
        # Buckets are put right once for all quantiles, and so it is said once.
        made = _quantile_matrix(ev, found, q, grid, None if told else node.args[0], node.args[0])
        told = told or bool(((q >= 0) & (q <= 1)).any())
        for value in np.unique(q):
            at = (q == value) | (np.isnan(q) & np.isnan(value))
            text = go_float(float(value))
            symbol = ev.symbols.intern(text if "." in text or not text.lstrip("-").isdigit() else text + ".0")
            column = np.full(len(made), symbol, dtype=np.int32)
            parts.append(Matrix(labelsets.with_label(made.labels, label, column), made.values, made.present & at, made.drop))
        if not len(q):
            # A subquery that has no time to be evaluated at, as in `[20s:1m]` away from full minutes.
            parts.append(made)
    whole = parts[0]
    for part in parts[1:]:
        whole = _stacked(whole, part)
    return ev.renamed(ev.merged(whole))


def histogram_fraction(ev: Evaluation, node: Call, args: Sequence[Value], grid: Grid) -> Matrix:
    """`histogram_fraction(lower, upper, v)`."""
    low, high = scalar(args[0]), scalar(args[1])
    both = _split(ev, args[2], node.args[2])
    found = both.classic
    values, present = _arrays(found, grid.n)
    matrix = found.matrix
    k.fractions(
        np.ascontiguousarray(matrix.values), np.ascontiguousarray(matrix.present), found.starts, found.rows, found.bounds,
        np.ascontiguousarray(low), np.ascontiguousarray(high), values, present,
    )  # fmt: skip
    classic = Matrix(found.labels, values, present, found.drop)
    known = None if both.native is None else native_numbers.fractions(ev, both.native, low, high)
    one = lambda h, k, name: fraction(float(low[k]), float(high[k]), h, name)  # noqa: E731  # as for quantiles
    made = _with_native(ev, classic, both.native, node.args[0], one, known=known)
    return ev.renamed(made)
