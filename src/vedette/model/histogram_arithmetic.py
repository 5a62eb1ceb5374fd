"""Arithmetic of native histograms: sums and differences of unlike layouts, scaling, equality, counter resets.

Where layouts differ, both are brought to one that either can be expressed in: the coarser schema, the wider zero bucket, the
custom bounds that both have. A change of layout is a map from old cells to new ones, under which cells add up; so it serves
counts and the compensations of their sums alike. Histograms with exponential and with custom buckets cannot be combined.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vedette.model.histograms import COUNT, GAUGE, HEAD, NO_BUCKETS, NOT_RESET, RESET, UNKNOWN, ZERO, Histogram, Layout, bare

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Combined(NamedTuple):
    """A sum or difference. `collision`: one hint was a reset and the other its absence; `reconciled`: custom bounds differed."""

    histogram: Histogram
    collision: bool
    reconciled: bool


class _Laid(NamedTuple):
    """Cells (float64[..., layout.width]) and their layout."""

    layout: Layout
    cells: Floats

    def moved(self, layout: Layout, to: Ints) -> _Laid:
        """The cells in another layout; cell i goes to cell `to[i]`."""
        out = np.zeros((*self.cells.shape[:-1], layout.width))
        if self.cells.ndim == 1:
            np.add.at(out, to, self.cells)
        else:
            for row, cells in zip(out, self.cells, strict=True):
                np.add.at(row, to, cells)
        return _Laid(layout, out)

    @property
    def counts(self) -> Floats:
        """The cells without their compensation."""
        return self.cells if self.cells.ndim == 1 else self.cells[0]


def _side(indices: NDArray[np.int32]) -> tuple[NDArray[np.int32], Ints]:
    """Distinct indices and where each of the given ones stands among them; given in rising order, repeats allowed."""
    if not len(indices):
        return NO_BUCKETS, np.zeros(0, dtype=np.int64)
    new = np.concatenate([[True], indices[1:] != indices[:-1]])
    return indices[new], np.cumsum(new, dtype=np.int64) - 1


def _cells_of(positive: Ints, negative: Ints, width: int) -> Ints:
    """A map of cells: the head stays, buckets go to where the sides' maps say."""
    return np.concatenate([np.arange(HEAD, dtype=np.int64), HEAD + positive, HEAD + width + negative])


def _coarser(laid: _Laid, schema: int) -> _Laid:
    layout = laid.layout
    shift = layout.schema - schema
    if shift <= 0:
        return laid
    positive, p = _side(((layout.positive - 1) >> shift) + 1)
    negative, n = _side(((layout.negative - 1) >> shift) + 1)
    return laid.moved(Layout(schema, layout.threshold, (), positive, negative), _cells_of(p, n, len(positive)))


def _wider(laid: _Laid, threshold: float) -> _Laid:
    """With a zero bucket of at least `threshold`: more where that would lie inside a bucket that is not empty."""
    layout = laid.layout
    if threshold == layout.threshold:
        return laid
    counts = laid.counts
    sides = []
    at = HEAD
    for low, high in (layout.positive_bounds, layout.negative_bounds):
        sides.append((low, high, counts[at : at + len(low)] != 0))
        at += len(low)
    while True:
        inside = [high[(low < threshold) & (high > threshold) & full] for low, high, full in sides]
        further = [float(highs[0]) for highs in inside if len(highs)]
        if not further:
            break
        threshold = max(further)
    (keep_p, keep_n) = (low >= threshold for low, _, _ in sides)
    positive, negative = layout.positive[keep_p], layout.negative[keep_n]
    p = np.where(keep_p, np.cumsum(keep_p) - 1, ZERO - HEAD)
    n = np.where(keep_n, np.cumsum(keep_n) - 1, ZERO - HEAD - len(positive))
    return laid.moved(Layout(layout.schema, threshold, (), positive, negative), _cells_of(p, n, len(positive)))


def _remapped(laid: _Laid, common: tuple[float, ...]) -> _Laid:
    """Custom buckets with the bounds in `common` alone."""
    layout = laid.layout
    edges = np.array(layout.bounds)
    last = layout.positive >= len(edges)
    target = np.full(len(layout.positive), len(common), dtype=np.int64)
    target[~last] = np.searchsorted(np.array(common), edges[layout.positive[~last]], side="left")
    positive, p = _side(target.astype(np.int32))
    return laid.moved(Layout(layout.schema, layout.threshold, common, positive, NO_BUCKETS), _cells_of(p, p[:0], len(positive)))


def _united(a: _Laid, b: _Laid) -> tuple[_Laid, _Laid]:
    """Both with the buckets of either; they differ in nothing else."""
    if a.layout.same(b.layout):
        return a, _Laid(a.layout, b.cells)
    positive = np.union1d(a.layout.positive, b.layout.positive)
    negative = np.union1d(a.layout.negative, b.layout.negative)
    layout = Layout(a.layout.schema, a.layout.threshold, a.layout.bounds, positive, negative)

    def moved(laid: _Laid) -> _Laid:
        p, n = np.searchsorted(positive, laid.layout.positive), np.searchsorted(negative, laid.layout.negative)
        return laid.moved(layout, _cells_of(p, n, len(positive)))

    return moved(a), moved(b)


def _reconciled(a: _Laid, b: _Laid) -> tuple[_Laid, _Laid, bool]:
    """Both in one layout, and whether custom bounds had to give way. They are of the same kind."""
    if a.layout.same(b.layout):
        return a, b, False
    differ = a.layout.bounds != b.layout.bounds
    if a.layout.custom:
        if differ:
            others = set(b.layout.bounds)
            common = tuple(v for v in a.layout.bounds if v in others)
            a, b = _remapped(a, common), _remapped(b, common)
        return (*_united(a, b), differ)
    # One that is no number, which nobody refuses to store, is neither wider nor narrower.
    while a.layout.threshold < b.layout.threshold or b.layout.threshold < a.layout.threshold:
        if a.layout.threshold < b.layout.threshold:
            a = _wider(a, b.layout.threshold)
        else:
            b = _wider(b, a.layout.threshold)
    schema = min(a.layout.schema, b.layout.schema)
    return (*_united(_coarser(a, schema), _coarser(b, schema)), False)


def _joint_hint(a: int, b: int) -> tuple[int, bool]:
    """The hint of a combination, and whether the hints contradict one another."""
    if a == b:
        return a, False
    if GAUGE in (a, b):
        return GAUGE, False
    return UNKNOWN, UNKNOWN not in (a, b)


def compatible(a: Histogram, b: Histogram) -> bool:
    """Whether both have exponential buckets, or both custom ones."""
    return a.layout.custom == b.layout.custom


def added(a: Histogram, b: Histogram) -> Combined:
    """a + b, which are `compatible`. May leave empty buckets."""
    left, right, reconciled = _reconciled(_Laid(a.layout, a.cells), _Laid(b.layout, b.cells))
    hint, collision = _joint_hint(a.hint, b.hint)
    return Combined(Histogram(left.layout, left.cells + right.cells, hint), collision, reconciled)


def subtracted(a: Histogram, b: Histogram) -> Combined:
    """a - b, which are `compatible`. The hint is that of a sum: a difference of samples in time is the caller's to call a gauge."""
    left, right, reconciled = _reconciled(_Laid(a.layout, a.cells), _Laid(b.layout, b.cells))
    hint, collision = _joint_hint(a.hint, b.hint)
    return Combined(Histogram(left.layout, left.cells - right.cells, hint), collision, reconciled)


def multiplied(h: Histogram, factor: float) -> Histogram:
    """All cells times `factor`; a negative one makes a gauge."""
    return Histogram(h.layout, h.cells * factor, GAUGE if factor < 0 else h.hint)


def divided(h: Histogram, divisor: float) -> Histogram:
    """All cells by `divisor`; a negative one makes a gauge, and 0 leaves no buckets."""
    with np.errstate(all="ignore"):
        if divisor == 0:
            layout = h.layout
            return Histogram(bare(layout.schema, layout.threshold, layout.bounds), h.cells[:HEAD] / divisor, h.hint)
        return Histogram(h.layout, h.cells / divisor, GAUGE if divisor < 0 else h.hint)


def compacted(h: Histogram) -> Histogram:
    """Without empty buckets."""
    full = h.cells[HEAD:] != 0
    if full.all():
        return h
    layout = h.layout
    split = len(layout.positive)
    slim = Layout(layout.schema, layout.threshold, layout.bounds, layout.positive[full[:split]], layout.negative[full[split:]])
    return Histogram(slim, np.concatenate([h.cells[:HEAD], h.cells[HEAD:][full]]), h.hint)


def coarsened(h: Histogram, schema: int) -> Histogram:
    """At a lower resolution (exponential buckets alone); the hint is forgotten."""
    laid = _coarser(_Laid(h.layout, h.cells), schema)
    return h if laid.layout is h.layout else Histogram(laid.layout, laid.cells)


def equal(a: Histogram, b: Histogram) -> bool:
    """Equality to the bit in everything but the hint; an empty bucket differs from none."""
    return a.layout.same(b.layout) and bool((a.cells.view(np.int64) == b.cells.view(np.int64)).all())


def is_reset(now: Histogram, before: Histogram) -> bool:
    """Whether the counter was reset between two samples: by the hint, or because some count went down."""
    if now.hint in (RESET, NOT_RESET):
        return now.hint == RESET
    if now.cells[COUNT] < before.cells[COUNT] or now.layout.custom != before.layout.custom:
        return True
    a, b = _Laid(now.layout, now.cells), _Laid(before.layout, before.cells)
    if a.layout.same(b.layout):
        return bool((now.cells[ZERO:] < before.cells[ZERO:]).any())
    if not a.layout.custom:
        if a.layout.schema > b.layout.schema or a.layout.threshold < b.layout.threshold:
            return True
        b = _wider(b, a.layout.threshold)
        if b.layout.threshold != a.layout.threshold:
            return True
    a, b, _ = _reconciled(a, b)
    return bool((a.cells[ZERO:] < b.cells[ZERO:]).any())


class RunningSum:
    """A sum of histograms with Kahan-Neumaier compensation, and what was seen on the way."""

    __slots__ = ("_laid", "hint", "not_reset_seen", "reconciled", "reset_seen")

    def __init__(self, first: Histogram) -> None:
        self._laid = _Laid(first.layout, np.stack([first.cells, np.zeros(first.layout.width)]))
        self.hint = first.hint
        self.reset_seen = first.hint == RESET
        self.not_reset_seen = first.hint == NOT_RESET
        self.reconciled = False

    @property
    def collided(self) -> bool:
        """Whether some of the histograms were resets and others expressly not."""
        return self.reset_seen and self.not_reset_seen

    def add(self, h: Histogram) -> bool:
        """Take in one more. False, and nothing done, where it is of the other kind of buckets."""
        if h.layout.custom != self._laid.layout.custom:
            return False
        self.reset_seen |= h.hint == RESET
        self.not_reset_seen |= h.hint == NOT_RESET
        self.hint, _ = _joint_hint(self.hint, h.hint)
        own, other, reconciled = _reconciled(self._laid, _Laid(h.layout, h.cells))
        self.reconciled |= reconciled
        total, rest = own.cells
        inc = other.cells
        with np.errstate(all="ignore"):
            new = total + inc
            lost = np.where(np.abs(total) >= np.abs(inc), (total - new) + inc, (inc - new) + total)
            self._laid = _Laid(own.layout, np.stack([new, np.where(np.isinf(new), 0.0, rest + lost)]))
        return True

    @property
    def overflown(self) -> bool:
        """Whether any cell has become infinite."""
        return bool(np.isinf(self._laid.cells[0]).any())

    def scale(self, factor: float) -> None:
        """Multiply what was summed up so far."""
        self._laid = _Laid(self._laid.layout, self._laid.cells * factor)

    def divide(self, divisor: float) -> None:
        """Divide what was summed up so far."""
        self._laid = _Laid(self._laid.layout, self._laid.cells / divisor)

    def copy(self) -> RunningSum:
        """An independent copy."""
        twin = object.__new__(RunningSum)
        twin._laid, twin.hint, twin.reconciled = self._laid, self.hint, self.reconciled
        twin.reset_seen, twin.not_reset_seen = self.reset_seen, self.not_reset_seen
        return twin

    def result(self) -> Histogram:
        """The sum as it stands."""
        with np.errstate(all="ignore"):
            return Histogram(self._laid.layout, self._laid.cells[0] + self._laid.cells[1], self.hint)


class RunningMean:
    """A mean of histograms: the sum by the count, or incremental once the sum would overflow."""

    __slots__ = ("_count", "_incremental", "sum")

    def __init__(self, first: Histogram) -> None:
        self.sum = RunningSum(first)
        self._count = 1.0
        self._incremental = False

    def add(self, h: Histogram) -> bool:
        """As `RunningSum.add`."""
        self._count += 1
        if not self._incremental:
            trial = self.sum.copy()
            if not trial.add(h):
                return False
            if not trial.overflown:
                self.sum = trial
                return True
            self._incremental = True
            self.sum.divide(self._count - 1)
        self.sum.scale((self._count - 1) / self._count)
        return self.sum.add(divided(h, self._count))

    def result(self) -> Histogram:
        """The mean as it stands."""
        mean = self.sum.copy()
        if not self._incremental:
            mean.divide(self._count)
        return mean.result()
