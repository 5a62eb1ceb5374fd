"""Functions of instant vectors and scalars; those of windows are in `window_functions.py`, those of labels in `relabel.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vedette.model.histograms import COUNT, SUM
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.matchers import Matcher
from vedette.promql import annotations as say
from vedette.promql import labelsets, relabel
from vedette.promql.calendar import PARTS
from vedette.promql.evaluation import Evaluation, scalar
from vedette.promql.histograms import histogram_fraction, histogram_quantile, histogram_quantiles
from vedette.promql.info import info
from vedette.promql.native_numbers import variances
from vedette.promql.native_pool import Natives
from vedette.promql.nodes import Call, Range, Selector, unwrapped
from vedette.promql.sorting import sort, sort_by_label
from vedette.promql.streamed import changed
from vedette.promql.values import Bools, Floats, Grid, Matrix, Rows, Scalar, Value, Windows
from vedette.promql.window_functions import WINDOW_FUNCTIONS, absent_over_time, refuse_extended, window_function

Args = Sequence[Value]


def _sgn(v: Floats) -> Floats:
    return np.where(v < 0, -1.0, np.where(v > 0, 1.0, v))


_SIMPLE: dict[str, Callable[[Floats], Floats]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "floor": np.floor,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "ln": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sgn": _sgn,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "rad": lambda v: v * np.pi / 180,
    "deg": lambda v: v * 180 / np.pi,
}


def call(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Value:
    """The function call `node` of its evaluated arguments."""
    name = node.func.name
    if name in WINDOW_FUNCTIONS:
        return window_function(ev, node, args, grid)
    if name in _SIMPLE:
        return _mapped(ev, args[0], _SIMPLE[name])
    if name in PARTS:
        return _date_part(ev, args, grid, name)
    return _OTHERS[name](ev, node, args, grid)


def _mapped(ev: Evaluation, value: Value, function: Callable[[Floats], Floats]) -> Matrix | Rows:
    def change(values: Floats, present: Bools) -> None:
        values[:] = function(values)

    if (rows := changed(ev, value, change, renamed=True)) is not None:
        return rows
    matrix = ev.matrix(value).floats()
    ev.count(matrix.values.size)
    with np.errstate(all="ignore"):
        return ev.renamed(replace(matrix, values=function(matrix.values)))


def _date_part(ev: Evaluation, args: Args, grid: Grid, name: str) -> Value:
    if not args:
        return ev.one_row(PARTS[name](np.floor_divide(grid.times, 1000).astype(np.float64)))
    return _mapped(ev, args[0], PARTS[name])


def _least(values: Floats, bound: Floats) -> Floats:
    """The smaller of both as Go's `math.Min` has it: -Inf counts before NaN, and -0 is smaller than 0."""
    least: Floats = np.minimum(values, bound)
    if np.isfinite(bound).all() and bound.all():
        return least
    least = np.where((values == 0) & (bound == 0), np.where(np.signbit(values), values, bound), least)
    return np.where(np.isneginf(values) | np.isneginf(bound), -np.inf, least)


def _clamp(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Matrix | Rows:
    name = node.func.name
    low = np.full(grid.n, np.nan) if name == "clamp_max" else scalar(args[1])
    high = np.full(grid.n, np.nan) if name == "clamp_min" else scalar(args[-1])
    possible = ~(high < low)

    def clamped(values: Floats) -> Floats:
        values = values if name == "clamp_min" else _least(values, high)
        return values if name == "clamp_max" else -_least(-values, -low)

    def change(values: Floats, present: Bools) -> None:
        values[:] = clamped(values)
        present &= possible

    if (rows := changed(ev, args[0], change, renamed=True)) is not None:
        return rows
    matrix = ev.matrix(args[0]).floats()
    with np.errstate(all="ignore"):
        values = clamped(matrix.values)
    return ev.renamed(replace(matrix, values=values, present=matrix.present & possible))


def _round(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Matrix | Rows:
    with np.errstate(all="ignore"):
        inverse = 1.0 / (scalar(args[1]) if len(args) > 1 else np.ones(grid.n))

    def rounded(values: Floats) -> Floats:
        made: Floats = values * inverse
        made += 0.5
        np.floor(made, out=made)
        made /= inverse
        return made

    return _mapped(ev, args[0], rounded)


def _timestamp(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Matrix:
    # A plain selector was evaluated to its samples' times already (plan.py).
    if isinstance(unwrapped(node.args[0]), Selector):
        return ev.renamed(replace(ev.matrix(args[0]), histograms=None))
    times = grid.times / 1000.0
    matrix = ev.matrix(args[0])
    return ev.renamed(replace(matrix, values=np.broadcast_to(times, matrix.values.shape), histograms=None))


def _start_timestamp(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Matrix:
    # Only samples of a selector have start timestamps, and these it was evaluated to already (plan.py).
    direct = isinstance(unwrapped(node.args[0]), Selector)
    if not direct or not ev.started:
        ev.annotations.warn(say.START_OF_EXPRESSION if not direct else say.STARTS_ARE_OFF, node)
        return ev.empty(grid.n)
    return ev.renamed(ev.matrix(args[0]))


def _scalar(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Scalar:
    matrix = ev.matrix(args[0]).floats()
    if not len(matrix):
        return Scalar(np.full(grid.n, np.nan))
    single = matrix.present.sum(axis=0) == 1
    row = matrix.present.argmax(axis=0)
    return Scalar(np.where(single, matrix.values[row, np.arange(grid.n)], np.nan))


def absent_labels(node: Call) -> Labels:
    """The labels that a selector's matchers pin down, for `absent`."""
    arg = unwrapped(node.args[0])
    selector = arg.selector if isinstance(arg, Range) else arg
    return pinned(selector.matchers) if isinstance(selector, Selector) else Labels()


def pinned(matchers: Sequence[Matcher]) -> Labels:
    """The labels that a series has which passes them, as far as `absent` tells: of one `=` and no other matcher each, without the name."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for m in matchers:
        if m.name == METRIC_NAME:
            continue
        if m.op == "=" and m.name not in seen:
            found[m.name] = m.value
            seen.add(m.name)
        else:
            found.pop(m.name, None)
    return Labels.of(found)


def _absent(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Matrix:
    value = args[0]
    if isinstance(value, Windows):
        refuse_extended("absent_over_time", value)
        result = absent_over_time(ev, value, grid)
    else:
        result = ev.one_row(np.ones(grid.n), np.logical_not(ev.matrix(value).present.any(axis=0)))
    return replace(result, labels=labelsets.of(ev.symbols, [absent_labels(node)])).found()


def _vector(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Matrix:
    return ev.one_row(scalar(args[0]))


def _time(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Scalar:
    return Scalar(grid.times / 1000.0)


def _bound(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Scalar:
    """`start()`, `end()`, `range()`, `step()`: of the query, not of a subquery around them."""
    start, end = ev.bounds.start, ev.bounds.end
    value = {"start": start, "end": end, "range": end - start, "step": ev.bounds.step}[node.func.name]
    return Scalar(np.full(grid.n, value / 1000.0))


def _extreme_of(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Scalar:
    one, other = scalar(args[0]), scalar(args[1])
    return Scalar(_least(one, other) if node.func.name == "min_of" else -_least(-one, -other))


def _pi(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Scalar:
    return Scalar(np.full(grid.n, np.pi))


def _sort(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Matrix:
    if grid.n > 1:
        ev.annotations.warn(say.SORT_IN_RANGE, node)
    matrix = ev.matrix(args[0]).floats()
    return sort(matrix, descending=node.func.name.endswith("desc")) if grid.n == 1 else matrix


def _sort_by_label(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Matrix:
    matrix = ev.matrix(args[0])
    if grid.n > 1:
        ev.annotations.warn(say.SORT_IN_RANGE, node)
        return matrix
    return sort_by_label(matrix, [a for a in args[1:] if isinstance(a, str)], descending=node.func.name.endswith("desc"))


def _of_histogram(ev: Evaluation, node: Call, args: Args, grid: Grid) -> Matrix:
    """A number of each native histogram; floats are left out."""
    matrix = ev.matrix(args[0])
    if matrix.histograms is None:
        return ev.empty(grid.n)
    native = matrix.native
    values = np.zeros(native.shape)
    natives = matrix.histograms.at(native)
    with np.errstate(all="ignore"):
        values[native] = _NUMBERS[node.func.name](ev, natives)
    return _only_unnamed(ev, Matrix(matrix.labels, values, native, matrix.drop).found())


def _only_unnamed(ev: Evaluation, matrix: Matrix) -> Matrix:
    """The matrix without metric names. Unlike other functions these keep `__type__` and `__unit__` as Prometheus' do."""
    if ev.delayed_names:
        return ev.renamed(matrix)
    return ev.merged(replace(matrix, labels=labelsets.kept(matrix.labels, (METRIC_NAME,), without=True)))


def _cells(natives: Natives, cell: int) -> Floats:
    """One of the cells that every histogram has."""
    return natives.pool.cells[natives.pool.starts[natives.index] + cell]


_NUMBERS: dict[str, Callable[[Evaluation, Natives], Floats]] = {
    "histogram_count": lambda ev, natives: _cells(natives, COUNT),
    "histogram_sum": lambda ev, natives: _cells(natives, SUM),
    "histogram_avg": lambda ev, natives: _cells(natives, SUM) / _cells(natives, COUNT),
    "histogram_stddev": lambda ev, natives: np.sqrt(variances(ev, natives, natives.index)),
    "histogram_stdvar": lambda ev, natives: variances(ev, natives, natives.index),
}

_OTHERS: dict[str, Callable[[Evaluation, Call, Args, Grid], Value]] = {
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "round": _round,
    "timestamp": _timestamp,
    "start_timestamp": _start_timestamp,
    "scalar": _scalar,
    "absent": _absent,
    "absent_over_time": _absent,
    "vector": _vector,
    "time": _time,
    "pi": _pi,
    "start": _bound,
    "end": _bound,
    "step": _bound,
    "range": _bound,
    "max_of": _extreme_of,
    "min_of": _extreme_of,
    "info": info,
    "sort": _sort,
    "sort_desc": _sort,
    "sort_by_label": _sort_by_label,
    "sort_by_label_desc": _sort_by_label,
    "label_replace": relabel.label_replace,
    "label_join": relabel.label_join,
    "histogram_quantile": histogram_quantile,
    "histogram_quantiles": histogram_quantiles,
    "histogram_fraction": histogram_fraction,
    "histogram_avg": _of_histogram,
    "histogram_count": _of_histogram,
    "histogram_sum": _of_histogram,
    "histogram_stddev": _of_histogram,
    "histogram_stdvar": _of_histogram,
}
