"""Functions of windows: one number for each window of each series, with what is to be said of it.

A row is computed when it is asked for, by the kernel of its function, native histograms beside floats. Not here: what windows are
and what they are made of (`selectors.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import rollup, streamed
from vedette.kernels import windows as k
from vedette.model.histograms import NOT_RESET, RESET, UNKNOWN
from vedette.model.labels import METRIC_NAME
from vedette.promql import annotations as say
from vedette.promql.errors import ExecutionError
from vedette.promql.evaluation import Evaluation, scalar
from vedette.promql.format import go_g
from vedette.promql.native_pool import Natives
from vedette.promql.native_spans import replaced
from vedette.promql.native_windows import STARTED, TIMES_ONLY
from vedette.promql.nodes import Call, Subquery, unwrapped
from vedette.promql.values import (
    Bools,
    Floats,
    Grid,
    Matrix,
    Rows,
    Scalar,
    Slab,
    Value,
    Windows,
)
from vedette.storage.interface import Steps

OVER_TIME = {
    "sum_over_time": k.SUM,
    "avg_over_time": k.AVG,
    "count_over_time": k.COUNT,
    "min_over_time": k.MIN,
    "max_over_time": k.MAX,
    "stdvar_over_time": k.STDVAR,
    "stddev_over_time": k.STDDEV,
    "last_over_time": k.LAST,
    "first_over_time": k.FIRST,
    "present_over_time": k.PRESENT,
    "changes": k.CHANGES,
    "resets": k.RESETS,
    "deriv": k.DERIV,
    "predict_linear": k.PREDICT,
    "irate": k.IRATE,
    "idelta": k.IDELTA,
    "ts_of_first_over_time": k.TS_FIRST,
    "ts_of_last_over_time": k.TS_LAST,
    "ts_of_min_over_time": k.TS_MIN,
    "ts_of_max_over_time": k.TS_MAX,
    "quantile_over_time": k.QUANTILE,
    "mad_over_time": k.MAD,
    "double_exponential_smoothing": k.SMOOTH,
}
"""The codes of functions of windows as `kernels.windows.over_time` takes them."""
EXTRAPOLATED = {"rate": k.RATE, "increase": k.INCREASE, "delta": k.DELTA}
"""And as `extrapolated` does."""
_WEIGHTED = {**EXTRAPOLATED, "avg_over_time": rollup.AVG}
_EXTENDED = {**EXTRAPOLATED, "changes": k.EXT_CHANGES, "resets": k.EXT_RESETS}
WINDOW_FUNCTIONS = frozenset((*OVER_TIME, *EXTRAPOLATED))
"""The functions that give one number for each window."""

COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")
"""How the names of counters end."""


@dataclass(frozen=True, slots=True)
class _Params:
    p0: Floats
    p1: Floats


_IN_PASSING = frozenset((k.COUNT, k.LAST, k.FIRST, k.PRESENT, k.TS_FIRST, k.TS_LAST, k.IRATE, k.IDELTA, k.MIN, k.MAX))
SCANNING = frozenset(name for name, code in OVER_TIME.items() if code not in _IN_PASSING)
"""The functions that visit each sample of each window; the others cost no more than the samples and the steps."""


class _Piece(NamedTuple):
    """Rows `[lo, hi)` at steps `[first, last)`."""

    lo: int
    hi: int
    first: int
    last: int


MAX_VISITS = 4 << 20
"""Samples that a window function may visit before it looks whether the query is to end: at most a third of a second."""
_STREAMED = 1 << 18
"""Samples of a row that is read at once, at most."""


def _pieces(data: Windows | Slab, range_ms: int, step: int, of: _Piece) -> Iterator[_Piece]:
    """A piece in pieces of some `MAX_VISITS` each, however many samples a window of `range_ms` has, one every `step` ms."""
    # A sample is in no more windows than fit beside each other over it.
    shared = min(of.last - of.first, range_ms // step + 1) if step else of.last - of.first
    if int(data.offsets[of.hi] - data.offsets[of.lo]) * shared <= MAX_VISITS:
        yield of
        return
    bounds, n = data.offsets[of.lo : of.hi + 1], of.last - of.first
    counts = np.diff(bounds)
    filled = np.flatnonzero(counts)
    spans = np.zeros(len(counts))
    spans[filled] = data.timestamps[bounds[1:][filled] - 1] - data.timestamps[bounds[:-1][filled]]
    visits = np.minimum(counts, counts * (range_ms / np.maximum(spans, 1)) + 1) * n
    upto = np.cumsum(visits)
    begin = 0
    while begin < len(counts):
        before = upto[begin - 1] if begin else 0.0
        end = max(begin + 1, int(np.searchsorted(upto, before + MAX_VISITS, side="right")))
        if visits[begin] <= MAX_VISITS:
            yield _Piece(of.lo + begin, of.lo + end, of.first, of.last)
        else:
            # One row alone is too much: step after step.
            end, part = begin + 1, max(1, int(MAX_VISITS / (visits[begin] / n)))
            for first in range(of.first, of.last, part):
                yield _Piece(of.lo + begin, of.lo + end, first, min(first + part, of.last))
        begin = end


def _streamed(name: str, steps: Steps) -> int | None:
    """The code of a function for `kernels.streamed`; None where windows overlap so much that it must be looked whether time is up."""
    if name in EXTRAPOLATED:
        return streamed.EXTRAPOLATED + EXTRAPOLATED[name]
    shared = min(steps.n, steps.range // steps.step + 1) if steps.step else steps.n
    return OVER_TIME[name] if name not in SCANNING or shared * _STREAMED <= MAX_VISITS else None


def window_function(ev: Evaluation, call: Call, args: Sequence[Value], grid: Grid) -> Value:
    """A function of windows, computed when its rows are asked for. Names are dropped, save by first and last."""
    name = call.func.name
    over = next(a for a in args if isinstance(a, Windows))
    if over.natives is not None and any(isinstance(unwrapped(a), Subquery) for a in call.args):
        over = replace(over, natives=_without_reset_hints(over.natives))
    numbers = [scalar(a) for a in args if isinstance(a, Scalar)]
    nothing = np.zeros(grid.n)
    params = _Params(
        np.ascontiguousarray(numbers[0]) if numbers else nothing, np.ascontiguousarray(numbers[1]) if len(numbers) > 1 else nothing
    )
    _check_params(ev, call, params, over)
    times = grid.times

    refuse_extended(name, over)
    whole, over = over, over if name in TIMES_ONLY else over.floats()

    def of_samples(data: Windows | Slab, of: _Piece, values: Floats, present: Bools) -> None:
        """A piece of the rows of `data`, which are those of `over`, or some of them."""
        lo, hi, first, n = of.lo, of.hi, over.first + of.first * over.step, of.last - of.first
        if over.anchored or over.smoothed:
            k.extended(
                _EXTENDED[name], data.offsets, data.timestamps, data.values, lo, hi, first, over.step, n, over.range,
                ev.bounds.lookback, over.smoothed, values, present,
            )  # fmt: skip
        elif over.weights is not None and name in _WEIGHTED:
            rollup.weighted(
                _WEIGHTED[name], data.offsets, data.timestamps, data.values, over.weights, lo, hi, first, over.step, n,
                over.range, values, present,
            )  # fmt: skip
        elif name in EXTRAPOLATED:
            k.extrapolated(
                EXTRAPOLATED[name], data.offsets, data.timestamps, data.values, lo, hi, first, over.step, n, over.range, values, present
            )
        else:
            for piece in _pieces(data, over.range, over.step, of) if name in SCANNING else (of,):
                ev.check()
                rows, steps = slice(piece.lo - lo, piece.hi - lo), slice(piece.first - of.first, piece.last - of.first)
                over_time(data, piece, values[rows, steps], present[rows, steps])

    def over_time(data: Windows | Slab, piece: _Piece, values: Floats, present: Bools) -> None:
        first, last = piece.first, piece.last
        # What rollups have counted is added up.
        code = k.SUM if over.counted else OVER_TIME[name]
        # Kernels write contiguous rows: a part of the steps of several goes through arrays of its own.
        whole = values.flags.c_contiguous
        into = (values, present) if whole else (np.empty(values.shape), np.empty(values.shape, dtype=np.bool_))
        k.over_time(
            code, data.offsets, data.timestamps, data.values, piece.lo, piece.hi, over.first + first * over.step, over.step,
            last - first, over.range, params.p0[first:last], params.p1[first:last], times[first:last], *into,
        )  # fmt: skip
        if not whole:
            values[:], present[:] = into

    steps = Steps(over.first, over.step, grid.n, over.range)
    code = _streamed(name, steps)

    def fill(lo: int, hi: int, values: Floats, present: Bools) -> None:
        if over.slabs is None:
            of_samples(over, _Piece(lo, hi, 0, grid.n), values, present)
            return
        if code is not None and over.slabs.streamed(code, lo, hi, steps, (params.p0, params.p1, times), (values, present), ev.check):
            return
        for slab in over.slabs.of(lo, hi, steps, stale=False):
            ev.check()
            rows, cut = slice(slab.lo - lo, slab.hi - lo), slice(slab.begin, slab.end)
            of_samples(slab, _Piece(0, slab.hi - slab.lo, slab.begin, slab.end), values[rows, cut], present[rows, cut])

    begins, depth = (None, 0) if over.slabs is None else (over.slabs.begins, over.slabs.depth)
    rows = Rows(over.labels, grid.n, fill, over.drop, samples=over.samples, begins=begins, depth=depth)
    counter = name in ("rate", "increase")
    if (whole.natives is not None and name not in TIMES_ONLY) or (whole.starts is not None and name in STARTED):
        matrix = replaced(ev, call, whole, grid, ev.matrix(rows))
        if counter:
            # A window of both kinds has no result, whatever its floats would have given.
            counted = np.logical_or.reduce(matrix.present & ~matrix.native, axis=1)
            _doubt_counters(ev, call, lambda chosen: bool(counted[chosen].any()), over)
        return matrix if name in ("last_over_time", "first_over_time") else ev.renamed(matrix, strict=True)
    if counter:
        _doubt_counters(ev, call, lambda chosen: _any_present(rows, chosen), over)
    if name in ("last_over_time", "first_over_time"):
        return rows
    return ev.renamed_rows(rows)


def _without_reset_hints(natives: Natives) -> Natives:
    """Histograms that say nothing of resets: between the steps of a subquery there may be samples that it did not return, or one
    may be returned twice."""
    pool = natives.pool
    said = (pool.hints == RESET) | (pool.hints == NOT_RESET)
    return Natives(natives.index, replace(pool, hints=np.where(said, np.uint8(UNKNOWN), pool.hints)))


def refuse_extended(name: str, over: Windows) -> None:
    """Raise `ExecutionError` where a function makes nothing of anchored or smoothed windows."""
    if not (over.anchored or over.smoothed):
        return
    word, able = (
        ("smoothed", ("delta", "increase", "rate")) if over.smoothed else ("anchored", ("changes", "delta", "increase", "rate", "resets"))
    )
    if name not in able:
        raise ExecutionError(f"{word} modifier can only be used with: {', '.join(able)} - not with {name}")


def _check_params(ev: Evaluation, call: Call, params: _Params, over: Windows) -> None:
    if call.func.name == "quantile_over_time" and over.samples:
        odd = ~((params.p0 >= 0) & (params.p0 <= 1))
        if odd.any():
            # Where there is no float nothing is asked of the quantile, and so nothing is said of it.
            floats = over.floats()
            asked = odd if floats.slabs is not None else odd & _any_sample(floats, len(odd))
            for q in params.p0[asked]:
                ev.annotations.warn(say.bad_quantile(shown(float(q))), call.args[0])
    if call.func.name == "double_exponential_smoothing" and over.samples:
        _check_factors(params, over)


def _check_factors(params: _Params, over: Windows) -> None:
    """Refuse factors that are out of range where they are used: series by series, step by step, smoothing before trend."""
    factors = (("smoothing", params.p0), ("trend", params.p1))
    bad = np.logical_or.reduce([(column <= 0) | (column >= 1) for _, column in factors])
    if not bad.any():
        return
    used = bad[None, :] if over.slabs is not None else _filled(over, len(bad)) & bad
    if used.any():
        step = int(np.argwhere(used)[0, 1])
        what, number = next((what, column[step]) for what, column in factors if column[step] <= 0 or column[step] >= 1)
        raise ExecutionError(f"invalid {what} factor. Expected: 0 < {what[0]}f < 1, got: {_fixed(float(number))}")


def _fixed(value: float) -> str:
    """A number as Go's `%f` writes it."""
    return f"{value:f}" if math.isfinite(value) else "+Inf" if value > 0 else "-Inf"


def shown(value: float) -> str:
    """A number as messages have it."""
    return go_g(value)


def _doubt_counters(ev: Evaluation, call: Call, any_of: Callable[[NDArray[np.int64]], bool], over: Windows) -> None:
    """Say which metrics are not named (or typed) as counters are, of those with a result: `any_of` tells whether some rows have any."""
    if not len(over.labels):
        return
    names = over.labels.column(METRIC_NAME)
    text = over.labels.symbols.text
    # Rows of native histograms alone have no floats.
    filled = np.diff(over.offsets) > 0 if over.slabs is None else np.ones(len(names), dtype=np.bool_)
    types = over.labels.column("__type__") if ev.type_labels else names
    # Mostly it is one metric: then nothing is sorted.
    one = bool(len(names)) and bool((names == names[0]).all()) and bool((types == types[0]).all())
    pairs = [(int(names[0]), int(types[0]))] if one else sorted(set(zip(names.tolist(), types.tolist(), strict=True)))
    for name_symbol, type_symbol in pairs:
        if name_symbol < 0:
            continue
        name = text(name_symbol)
        kind = text(type_symbol) if type_symbol >= 0 else ""
        if (kind in ("counter", "histogram")) if ev.type_labels else name.endswith(COUNTER_SUFFIXES):
            continue
        chosen = np.flatnonzero((names == name_symbol) & (types == type_symbol) & filled)
        if any_of(chosen):
            message = say.not_a_counter_type(name, kind) if ev.type_labels else say.not_a_counter(name)
            ev.annotations.inform(message, call.args[0])


def _any_present(rows: Rows, chosen: NDArray[np.int64]) -> bool:
    """Whether any of the chosen rows has a value at any step; stops at the first that has."""
    values, present = np.empty((1, rows.n)), np.empty((1, rows.n), dtype=np.bool_)
    for row in chosen.tolist():
        rows.fill(row, row + 1, values, present)
        if present.any():
            return True
    return False


def absent_over_time(ev: Evaluation, over: Windows, grid: Grid) -> Matrix:
    """1 at the steps whose windows hold no sample of any series; the labels are the caller's to set."""
    return ev.one_row(np.ones(grid.n), np.logical_not(_any_sample(over, grid.n)))


def _any_sample(over: Windows, n: int) -> Bools:
    """At which of the `n` steps any series has a sample in its window: bool[n]."""
    found: Bools = np.logical_or.reduce(_filled(over, n), axis=0)
    return found


def _filled(over: Windows, n: int) -> Bools:
    """At which of the `n` steps each series has a sample in its window: bool[series, n]."""
    values, present = np.empty((len(over.labels), n)), np.empty((len(over.labels), n), dtype=np.bool_)
    nothing, times = np.zeros(n), np.zeros(n, dtype=np.int64)
    k.over_time(
        k.PRESENT, over.offsets, over.timestamps, over.values, 0, len(over.labels), over.first, over.step, n, over.range,
        nothing, nothing, times, values, present,
    )  # fmt: skip
    return present
