"""Selectors: instants and windows over what storage answered. Not here: the functions of windows (`window_functions.py`)."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import streamed
from vedette.kernels import windows as k
from vedette.kernels.native import spans
from vedette.model.histograms import GAUGE, NOT_RESET, RESET, UNKNOWN, Histograms
from vedette.model.labels import METRIC_NAME
from vedette.model.labeltable import LabelTable
from vedette.model.samples import STALE, is_stale
from vedette.promql import annotations as say
from vedette.promql import native_smoothed
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_pool import Natives, Pool
from vedette.promql.native_rates import Samples, resets
from vedette.promql.native_windows import Speaker, Window, interpolated
from vedette.promql.nodes import Range, Selector, Subquery
from vedette.promql.plan import subquery_grid, window_grid
from vedette.promql.resampled import Resampled, as_samples
from vedette.promql.values import (
    Bools,
    Floats,
    Grid,
    Ints,
    Matrix,
    Rows,
    Slabs,
    Value,
    Windows,
)
from vedette.storage.interface import Steps


class Heed(NamedTuple):
    """What is looked at of a selector's native histograms, as `plan.Operation` has it."""

    counts_only: bool = False
    bucketless: bool = False


WHOLE = Heed()
"""All of each histogram."""


class Fetched:
    """The series of one read, with the query's symbols; a copy without stale markers is made when first wanted.

    `histograms` are the native histograms among the samples, `starts` the samples' start timestamps (ms, 0 where unknown);
    None where there are none. Where there are `slabs`, they give the samples, and there are none here (`piecewise.py`).
    """

    __slots__ = ("_clean", "_pools", "counted", "histograms", "labels", "offsets", "slabs", "starts", "timestamps", "values", "weights")

    def __init__(
        self,
        labels: LabelTable,
        offsets: Ints,
        timestamps: Ints,
        values: Floats,
        *,
        histograms: Histograms | None = None,
        starts: Ints | None = None,
        counted: bool = False,
        weights: Floats | None = None,
        slabs: Slabs | None = None,
    ) -> None:
        self.slabs = slabs
        self.counted = counted
        self.weights = weights
        self.histograms = histograms
        self.starts = starts
        self.labels = labels
        self.offsets = offsets
        self.timestamps = timestamps
        self.values = values
        self._clean: tuple[Ints, Ints, Floats] | None = None
        self._pools: dict[Heed, Pool] = {}

    @classmethod
    def in_slabs(cls, labels: LabelTable, slabs: Slabs) -> Fetched:
        """A read of which samples are read in slabs."""
        return cls(labels, np.zeros(len(labels) + 1, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0), slabs=slabs)

    def clean(self) -> tuple[Ints, Ints, Floats]:
        """Offsets, timestamps and values without stale markers."""
        if self._clean is None:
            stale = k.count_stale(self.values)
            if not stale:
                self._clean = (self.offsets, self.timestamps, self.values)
            else:
                offsets = np.empty_like(self.offsets)
                timestamps = np.empty(len(self.timestamps) - stale, dtype=np.int64)
                values = np.empty(len(self.values) - stale)
                k.without_stale(self.offsets, self.timestamps, self.values, offsets, timestamps, values)
                self._clean = (offsets, timestamps, values)
        return self._clean

    def natives(self, heed: Heed, *, clean: bool = True) -> Natives | None:
        """The histograms among the samples of `clean()`, or among all samples, where a stale one is none.

        Where counts alone matter, one whose hint says nothing is compared with the one before it, so that it says.
        """
        found = self.histograms
        if found is None:
            return None
        if heed not in self._pools:
            pool = Pool.of(found)
            if heed.counts_only:
                pool = replace(pool, hints=self._told(pool, found.at))
            self._pools[heed] = pool.bucketless() if heed.bucketless else pool
        good = ~is_stale(self.values)
        index = np.full(len(good), -1, dtype=np.int64)
        index[found.at] = np.where(good[found.at], np.arange(len(found)), -1)
        return Natives(index[good] if clean and not good.all() else index, self._pools[heed])

    def _told(self, pool: Pool, at: Ints) -> NDArray[np.uint8]:
        follows = np.ones(len(at), dtype=np.bool_)
        first = np.searchsorted(at, self.offsets[:-1])
        follows[first[first < len(at)]] = False
        follows &= pool.hints == UNKNOWN
        fell = resets(Natives(np.arange(len(at)), pool), np.flatnonzero(follows)) == 1
        return np.where(follows, np.where(fell, np.uint8(RESET), np.uint8(NOT_RESET)), pool.hints)


def instants(ev: Evaluation, node: Selector, grid: Grid, data: Fetched, *, want_time: bool = False, heed: Heed = WHOLE) -> Rows | Matrix:
    """An instant vector selector over `grid`: the last sample within the lookback, unless stale."""
    if data.histograms is not None:
        return _with_histograms(ev, node, grid, data, want_time=want_time, heed=heed)
    ends = window_grid(node, grid, ev.bounds)
    lookback = ev.bounds.lookback
    offsets, timestamps, samples = data.clean() if node.smoothed else (data.offsets, data.timestamps, data.values)
    nothing = np.zeros(ends.n)
    no_params = nothing, nothing, ends.times

    def fill(lo: int, hi: int, values: Floats, present: Bools) -> None:
        if node.smoothed and not want_time:
            k.interpolated(offsets, timestamps, samples, lo, hi, ends.start, ends.step, ends.n, lookback, values, present)
            return
        k.last_sample(
            data.offsets, data.timestamps, data.values, lo, hi, ends.start, ends.step, ends.n, lookback, want_time, values, present
        )

    def fill_slabs(lo: int, hi: int, values: Floats, present: Bools) -> None:
        assert data.slabs is not None, "chosen below"
        code = streamed.LAST_TIME if want_time else streamed.LAST_VALUE
        if data.slabs.streamed(code, lo, hi, Steps(*ends, lookback), no_params, (values, present), ev.check):
            return
        for slab in data.slabs.of(lo, hi, Steps(*ends, lookback), stale=True):
            ev.check()
            part = slice(slab.lo - lo, slab.hi - lo), slice(slab.begin, slab.end)
            k.last_sample(
                slab.offsets, slab.timestamps, slab.values, 0, slab.hi - slab.lo, ends.start + slab.begin * ends.step, ends.step,
                slab.end - slab.begin, lookback, want_time, values[part], present[part],
            )  # fmt: skip

    if data.slabs is not None:
        return Rows(data.labels, grid.n, fill_slabs, samples=data.slabs.samples, begins=data.slabs.begins)
    return Rows(data.labels, grid.n, fill, samples=len(data.timestamps))


def _with_histograms(ev: Evaluation, node: Selector, grid: Grid, data: Fetched, *, want_time: bool, heed: Heed) -> Matrix:
    """The same where some samples are native histograms. With `want_time`, these remain marked as what they are."""
    ends = window_grid(node, grid, ev.bounds)
    lookback, rows = ev.bounds.lookback, len(data.labels)
    ev.count(rows * grid.n)
    # The kernel looks for numbers of samples instead of their values.
    numbers = np.where(is_stale(data.values), STALE, np.arange(len(data.values), dtype=np.float64))
    found, present = np.zeros((rows, grid.n)), np.empty((rows, grid.n), dtype=np.bool_)
    k.last_sample(data.offsets, data.timestamps, numbers, 0, rows, ends.start, ends.step, ends.n, lookback, False, found, present)
    at = np.where(present, found, 0.0).astype(np.int64)
    if not len(data.values):
        return Matrix(data.labels, found, present)
    natives = data.natives(heed, clean=False)
    histograms = None if natives is None else Natives(np.where(present, natives.index[at], -1), natives.pool)
    values = data.timestamps[at] / 1000.0 if want_time else data.values[at]
    matrix = Matrix(data.labels, values, present, None, histograms)
    return _smoothed(ev, node, ends, data, matrix) if node.smoothed and not want_time else matrix


def _smoothed(ev: Evaluation, node: Selector, ends: Grid, data: Fetched, matrix: Matrix) -> Matrix:
    """The values between samples: floats as the kernel has them, histograms in between two. A mixture of both gives nothing."""
    offsets, times, samples = data.clean()
    natives = data.natives(WHOLE)
    assert natives is not None, "only where there are any"
    lookback = ev.bounds.lookback
    values, present = np.empty(matrix.values.shape), np.empty(matrix.present.shape, dtype=np.bool_)
    k.interpolated(offsets, times, samples, 0, len(matrix), ends.start, ends.step, ends.n, lookback, values, present)
    native = np.concatenate([[0], np.cumsum(natives.mask, dtype=np.int64)])
    (lo, hi), (_, after) = (
        _seen(offsets, times, ends, values.shape, (back, ahead)) for back, ahead in ((lookback, lookback), (lookback, 0))
    )
    held = native[hi] - native[lo]
    mixed = (held > 0) & (held < hi - lo)
    names = data.labels.column(METRIC_NAME)

    def speaker(row: int) -> Speaker:
        return Speaker(ev, node, data.labels.symbols.text(int(names[row])) if names[row] >= 0 else "")

    for row in np.flatnonzero(mixed.any(axis=1)).tolist():
        speaker(row).warn(say.mixed_for_metric(speaker(row).name))
    present &= ~mixed
    rows, steps = np.nonzero(present & (held > 0))
    index = np.full(present.shape, -1, dtype=np.int64)
    moments = ends.start + steps * ends.step
    all_samples = Samples(offsets, times, natives)
    found, left = native_smoothed.instants(ev, all_samples, (after[rows, steps] - 1, hi[rows, steps]), moments)
    index[rows, steps] = found.index
    objects = np.full(present.shape, None, dtype=object)
    others = np.zeros(present.shape, dtype=np.bool_)
    for row, step, t in zip(rows[left].tolist(), steps[left].tolist(), moments[left].tolist(), strict=True):
        pair = slice(int(after[row, step]) - 1, int(after[row, step]) + 1)
        both = natives.at(pair).objects.tolist()
        made = interpolated(speaker(row), Window(times[pair].tolist(), both, t, t), 0, t, counter=any(h.hint != GAUGE for h in both))
        others[row, step], objects[row, step], present[row, step] = True, made, made is not None
    return Matrix(matrix.labels, values, present, None, Natives(index, found.pool).replaced(others, objects))


def _seen(offsets: Ints, times: Ints, ends: Grid, shape: tuple[int, ...], further: tuple[int, int]) -> tuple[Ints, Ints]:
    """The samples that are seen at each step, so much (ms) further back, exclusive, and ahead: the first and one after the last."""
    back, ahead = further
    lo, hi = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
    spans(offsets, times, ends.start + ahead, ends.step, back + ahead, lo, hi)
    return lo, hi


def windows(ev: Evaluation, node: Range, grid: Grid, data: Fetched, *, heed: Heed = WHOLE) -> Windows:
    """A range vector selector over `grid`."""
    ends = window_grid(node.selector, grid, ev.bounds)
    offsets, timestamps, values = data.clean()
    selector = node.selector
    starts = None if data.starts is None else data.starts[~is_stale(data.values)]
    return Windows(
        data.labels,
        offsets,
        timestamps,
        values,
        ends.start,
        ends.step,
        node.range,
        None,
        selector.anchored,
        selector.smoothed,
        data.natives(heed),
        starts,
        data.counted,
        None if data.weights is None else data.weights[~is_stale(data.values)],
        data.slabs,
    )


def extended(ev: Evaluation, over: Windows) -> Windows:
    """A raw anchored or smoothed range vector at one step: its samples, and one at either border of the window."""
    start, end, lookback = over.first - over.range, over.first, ev.bounds.lookback
    rows: list[tuple[list[int], list[float]]] = []
    for r in range(len(over.labels)):
        lo, hi = int(over.offsets[r]), int(over.offsets[r + 1])
        times, values = over.timestamps[lo:hi], over.values[lo:hi]
        inside = (times > start - lookback) & (times <= end + (lookback if over.smoothed else 0))
        rows.append(_with_borders(times[inside].tolist(), values[inside].tolist(), start, end, smoothed=over.smoothed))
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(t) for t, _ in rows], out=offsets[1:])
    timestamps = np.array([t for ts, _ in rows for t in ts], dtype=np.int64)
    # The border itself belongs to the answer, so the window opens a millisecond earlier.
    return Windows(over.labels, offsets, timestamps, np.array([v for _, vs in rows for v in vs]), end, 0, over.range + 1)


def _with_borders(times: list[int], values: list[float], start: int, end: int, *, smoothed: bool) -> tuple[list[int], list[float]]:
    if not times or (max(t for t in times if t <= end or t == times[0]) <= start and not (smoothed and times[-1] > start)):
        return [], []
    first = max(0, sum(t <= start for t in times[:-1]) - 1)
    last = len(times) - 1
    if smoothed:
        last = min(last, sum(t < end for t in times[:-1]))

    def at(t: int, a: int, b: int) -> float:
        return values[a] + (values[b] - values[a]) * (t - times[a]) / (times[b] - times[a])

    left = at(start, first, first + 1) if smoothed and times[first] < start and first + 1 < len(times) else values[first]
    right = at(end, last - 1, last) if smoothed and last > 0 and times[last] > end else values[last]
    inner = [i for i in range(first, last + 1) if start < times[i] < end]
    return [start, *(times[i] for i in inner), end], [left, *(values[i] for i in inner), right]


def subquery(ev: Evaluation, node: Subquery, grid: Grid, inner: Value, *, passed_on: bool = False) -> Windows:
    """A subquery over `grid`: what its expression gave on the subquery's own grid, as windows.

    With `passed_on` a function of windows alone is going to read it, row by row: then it may be computed as it is read.
    """
    ends = window_grid(node, grid, ev.bounds)
    own = subquery_grid(node, grid, ev.bounds)
    if passed_on and (slabs := Resampled.of_value(inner, own)) is not None:
        assert isinstance(inner, Rows), "as looked above"
        none = np.zeros(0, dtype=np.int64)
        return Windows(inner.labels, none, none, np.zeros(0), ends.start, ends.step, node.range, inner.drop, slabs=slabs)
    matrix = ev.matrix(inner)
    offsets, timestamps, values = as_samples(matrix.values, matrix.present, own)
    # Row by row, as the kernel writes them.
    natives = None if matrix.histograms is None else matrix.histograms.at(matrix.present)
    return Windows(matrix.labels, offsets, timestamps, values, ends.start, ends.step, node.range, matrix.drop, natives=natives)
