"""Native histograms many at a time, by kernels: the plain cases of rates, sums and quantiles.

Plain is what nearly all data are: the samples of a series share their layout, histograms that are summed differ in which buckets
they have and in nothing else. What is not plain is left to the modules that take one histogram after another, whose results
these are to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vedette.kernels import native as kernel
from vedette.model.histogram_arithmetic import compacted
from vedette.model.histograms import COUNT, GAUGE, HEAD, NOT_RESET, RESET, SUM, UNKNOWN, ZERO, Histogram, Layout
from vedette.promql.evaluation import Evaluation
from vedette.promql.values import Bools, Floats, Grid, Ints, Matrix, Objects, Windows

_CELLS_AT_ONCE = 4 << 20
_ROWS_AT_ONCE = 4096


def rates(ev: Evaluation, over: Windows, grid: Grid, *, per_second: bool) -> Iterator[tuple[Ints, Objects, Bools]]:
    """(rows, their histograms, where there are any) of `rate` or `increase`, for the series that are plain."""
    columns = None if over.natives is None else over.natives.columns
    if columns is None or not len(columns):
        return
    count = len(over.labels)
    row_of = np.searchsorted(over.offsets, columns.at, side="right") - 1
    layout_of = np.full(count, -1, dtype=np.int32)
    layout_of[row_of[::-1]] = columns.layout[::-1]
    odd = (columns.layout != layout_of[row_of]) | (columns.hints == GAUGE)
    plain = np.bincount(row_of, minlength=count) == np.diff(over.offsets)
    plain &= (np.bincount(row_of[odd], minlength=count) == 0) & (layout_of >= 0)
    starts, hints = np.zeros(len(over.values), dtype=np.int64), np.zeros(len(over.values), dtype=np.uint8)
    starts[columns.at], hints[columns.at] = columns.offsets[:-1], columns.hints
    cells = np.require(columns.cells, requirements="W")
    for number in np.unique(layout_of[plain]).tolist():
        layout = columns.layouts[number]
        rows = np.flatnonzero(plain & (layout_of == number))
        some = max(1, _CELLS_AT_ONCE // (layout.width * grid.n))
        for lo in range(0, len(rows), some):
            ev.check()
            part = rows[lo : lo + some]
            out, there = np.zeros((len(part), grid.n, layout.width)), np.zeros((len(part), grid.n), dtype=np.bool_)
            samples = (over.offsets, over.timestamps, starts, cells, hints)
            kernel.rates(part, *samples, layout.width, over.first, over.step, over.range, per_second, out, there)
            yield part, _compacted(layout, out, there), there


def _compacted(layout: Layout, cells: Floats, there: Bools) -> Objects:
    """Gauges of one layout without their empty buckets; those with the same buckets share a layout."""
    out = np.full(there.shape, None, dtype=object)
    full = cells[..., HEAD:] != 0
    whole = full.all(axis=-1)
    split = len(layout.positive)
    known: dict[bytes, tuple[Layout, Ints]] = {}
    for i, k in np.argwhere(there).tolist():
        if whole[i, k]:
            out[i, k] = Histogram(layout, cells[i, k], GAUGE)
            continue
        key = full[i, k].tobytes()
        if key not in known:
            mask = full[i, k]
            slim = Layout(layout.schema, layout.threshold, layout.bounds, layout.positive[mask[:split]], layout.negative[mask[split:]])
            known[key] = slim, np.concatenate([np.arange(HEAD), HEAD + np.flatnonzero(mask)])
        slim, kept = known[key]
        out[i, k] = Histogram(slim, cells[i, k][kept], GAUGE)
    return out


def summed(samples: Sequence[Histogram], *, mean: bool) -> Histogram | None:
    """The sum (or mean) of histograms in their order; None where they are not plain, overflow, or something is to be said of them."""
    hints = {h.hint for h in samples}
    layouts = {id(h.layout): h.layout for h in samples}
    one = samples[0].layout
    if {RESET, NOT_RESET} <= hints or any(not _alike(one, other) for other in layouts.values()):
        return None
    positive, negative = one.positive, one.negative
    if len(layouts) > 1:
        positive = np.unique(np.concatenate([x.positive for x in layouts.values()]))
        negative = np.unique(np.concatenate([x.negative for x in layouts.values()]))
    union = Layout(one.schema, one.threshold, one.bounds, positive, negative)
    places = {key: _places(layout, union) for key, layout in layouts.items()}
    total, rest = np.zeros(union.width), np.zeros(union.width)
    total[places[id(one)]] = samples[0].cells
    for lo in range(1, len(samples), _ROWS_AT_ONCE):
        part = samples[lo : lo + _ROWS_AT_ONCE]
        rows = np.zeros((len(part), union.width))
        for row, h in zip(rows, part, strict=True):
            row[places[id(h.layout)]] = h.cells
        kernel.kahan(rows, total, rest)
    if mean and np.isinf(total).any():
        return None  # then means are taken as one goes along
    with np.errstate(all="ignore"):
        cells = total / float(len(samples)) + rest / float(len(samples)) if mean else total + rest
    hint = GAUGE if GAUGE in hints else hints.pop() if len(hints) == 1 else UNKNOWN
    return compacted(Histogram(union, cells, hint))


def _alike(a: Layout, b: Layout) -> bool:
    """Whether they differ in which buckets they have and in nothing else."""
    return a is b or (a.schema == b.schema and a.threshold == b.threshold and a.bounds == b.bounds)


def _places(layout: Layout, union: Layout) -> Ints:
    """The cells of `union` that the cells of `layout` are."""
    positive = HEAD + np.searchsorted(union.positive, layout.positive)
    negative = HEAD + len(union.positive) + np.searchsorted(union.negative, layout.negative)
    return np.concatenate([np.arange(HEAD), positive, negative])


def quantiles(native: Matrix, q: Floats) -> tuple[Floats, Bools]:
    """(the quantile `q[k]` of the histograms at step k, where it is known): of exponential ones that hold anything and have a sum."""
    assert native.histograms is not None
    values, done = np.zeros(native.present.shape), np.zeros(native.present.shape, dtype=np.bool_)
    # By what layouts are, not by which: sums make one for each.
    by_layout: dict[bytes, list[tuple[int, int, Histogram]]] = {}
    for row, k in np.argwhere(native.present & ((q >= 0) & (q <= 1))).tolist():
        h: Histogram = native.histograms[row, k]
        if not h.layout.custom:
            by_layout.setdefault(h.layout.key, []).append((row, k, h))
    for found in by_layout.values():
        layout = found[0][2].layout
        cells = np.stack([h.cells for _, _, h in found])
        good = (cells[:, COUNT] != 0) & ~np.isnan(cells[:, SUM])
        at = np.array([(row, k) for row, k, _ in found])[good]
        out, sign = np.empty(len(at)), np.empty(len(at), dtype=np.int8)
        sides = (len(layout.positive), len(layout.negative))
        kernel.quantiles(q[at[:, 1]], np.ascontiguousarray(cells[good]), *_buckets(layout), *sides, out, sign)
        with np.errstate(all="ignore"):
            values[at[:, 0], at[:, 1]] = np.where(sign == 0, out, sign * np.exp2(out))
        done[at[:, 0], at[:, 1]] = True
    return values, done


def _buckets(layout: Layout) -> tuple[Ints, Floats, Floats]:
    """All buckets from the lowest on: their cells and bounds, as `model.buckets.all_buckets` has them, the zero bucket among them."""
    positive, negative, width = len(layout.positive), len(layout.negative), layout.threshold
    order = np.concatenate([HEAD + positive + np.arange(negative)[::-1], [ZERO], HEAD + np.arange(positive)])
    (low, high), (near, far) = layout.positive_bounds, layout.negative_bounds
    low, near = (np.where((edge > 0) & (edge < width), width, edge) for edge in (low, near))
    return order, np.concatenate([-far[::-1], [-width], low]), np.concatenate([-near[::-1], [width], high])
