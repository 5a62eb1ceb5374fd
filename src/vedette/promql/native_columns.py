"""Native histograms many at a time, by kernels: the plain cases of rates, sums and quantiles.

Plain is what nearly all data are: the samples of a series share their layout, histograms that are summed differ in which buckets
they have and in nothing else. What is not plain is left to the modules that take one histogram after another, whose results
these are to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import native as kernel
from vedette.model.histogram_arithmetic import compacted
from vedette.model.histograms import COUNT, GAUGE, HEAD, NOT_RESET, RESET, SUM, UNKNOWN, ZERO, Histogram, Layout
from vedette.promql.evaluation import Evaluation
from vedette.promql.values import Bools, Floats, Grid, Ints, Matrix, NativeRows, Objects, Windows

_CELLS_AT_ONCE = 4 << 20
_ROWS_AT_ONCE = 4096
_BOTH = 1 << RESET | 1 << NOT_RESET
_HINT_OF = np.array(
    [GAUGE if seen >> GAUGE else seen.bit_length() - 1 if seen.bit_count() == 1 else UNKNOWN for seen in range(16)], dtype=np.uint8
)
"""The hint of a sum, by the bits of those that went in."""


class _Rated(NamedTuple):
    """Rates of rows that share a layout, the `number`th: float64[len(rows), n, width], and which are there."""

    rows: Ints
    number: int
    layout: Layout
    cells: Floats
    there: Bools


def rates(ev: Evaluation, over: Windows, grid: Grid, *, per_second: bool) -> Iterator[tuple[Ints, Objects, Bools]]:
    """(rows, their histograms, where there are any) of `rate` or `increase`, for the series that are plain."""
    plain, layout_of = _plain(over)
    for part in _rated(ev, over, grid, plain, layout_of, per_second=per_second):
        yield part.rows, compacted_rows(part.layout, part.cells, part.there), part.there


def _plain(over: Windows) -> tuple[Bools, Ints]:
    """Which series are plain, and the numbers of their layouts."""
    count = len(over.labels)
    columns = None if over.natives is None else over.natives.columns
    layout_of = np.full(count, -1, dtype=np.int64)
    if columns is None or not len(columns):
        return np.zeros(count, dtype=np.bool_), layout_of
    row_of = np.searchsorted(over.offsets, columns.at, side="right") - 1
    layout_of[row_of[::-1]] = columns.layout[::-1]
    odd = (columns.layout != layout_of[row_of]) | (columns.hints == GAUGE)
    plain = np.bincount(row_of, minlength=count) == np.diff(over.offsets)
    plain &= (np.bincount(row_of[odd], minlength=count) == 0) & (layout_of >= 0)
    return plain, layout_of


def _rated(
    ev: Evaluation, over: Windows, grid: Grid, plain: Bools, layout_of: Ints, *, per_second: bool, room: Floats | None = None
) -> Iterator[_Rated]:
    """The rates of the plain series, layout by layout, a few series at a time; in `room`, which is full of 0, where it is given."""
    if not plain.any():
        return
    assert over.natives is not None and over.natives.columns is not None, "plain series are columns"
    columns = over.natives.columns
    starts, hints = np.zeros(len(over.values), dtype=np.int64), np.zeros(len(over.values), dtype=np.uint8)
    starts[columns.at], hints[columns.at] = columns.offsets[:-1], columns.hints
    cells = np.require(columns.cells, requirements="W")
    used = 0
    for number in np.unique(layout_of[plain]).tolist():
        layout = columns.layouts[number]
        rows = np.flatnonzero(plain & (layout_of == number))
        some = max(1, _CELLS_AT_ONCE // (layout.width * grid.n))
        for lo in range(0, len(rows), some):
            ev.check()
            part = rows[lo : lo + some]
            shape = (len(part), grid.n, layout.width)
            size = shape[0] * shape[1] * shape[2]
            out = np.zeros(shape) if room is None else room[used : used + size].reshape(shape)
            used += size
            there = np.zeros(shape[:2], dtype=np.bool_)
            samples = (over.offsets, over.timestamps, starts, cells, hints)
            kernel.rates(part, *samples, layout.width, over.first, over.step, over.range, per_second, out, there)
            yield _Rated(part, number, layout, out, there)


def rated_rows(ev: Evaluation, over: Windows, grid: Grid, *, per_second: bool) -> NativeRows | None:
    """The same as columns; None where some series are not plain."""
    plain, layout_of = _plain(over)
    if not plain.any() or not (plain | (np.diff(over.offsets) == 0)).all():
        return None
    assert over.natives is not None and over.natives.columns is not None, "plain series are columns"
    layouts, n = over.natives.columns.layouts, grid.n
    widths = np.array([layout.width for layout in layouts], dtype=np.int64)
    total = int(widths[layout_of[plain]].sum()) * n
    ev.count(0, 8 * total)
    room, starts = np.zeros(total), np.full((len(plain), n), -1, dtype=np.int64)
    parts, used = list(_rated(ev, over, grid, plain, layout_of, per_second=per_second, room=room)), 0
    for part in parts:
        at = used + part.layout.width * np.arange(part.there.size, dtype=np.int64).reshape(part.there.shape)
        starts[part.rows] = np.where(part.there, at, -1)
        used += part.cells.size

    def whole() -> Matrix:
        histograms = np.full(starts.shape, None, dtype=object)
        for part in parts:
            histograms[part.rows] = compacted_rows(part.layout, part.cells, part.there)
        return Matrix(over.labels, np.zeros(starts.shape), starts >= 0, None, histograms)

    return NativeRows(over.labels, room, starts, layout_of, layouts, np.full(starts.shape, GAUGE, dtype=np.uint8), whole, slim=True)


def compacted_rows(layout: Layout, cells: Floats, there: Bools, hints: NDArray[np.uint8] | None = None) -> Objects:
    """Histograms (gauges, but for `hints`) of one layout without their empty buckets; those with the same buckets share a layout."""
    out = np.full(there.shape, None, dtype=object)
    full = cells[..., HEAD:] != 0
    whole = full.all(axis=-1)
    split = len(layout.positive)
    known: dict[bytes, tuple[Layout, Ints]] = {}
    for i, k in np.argwhere(there).tolist():
        hint = GAUGE if hints is None else int(hints[i, k])
        if whole[i, k]:
            out[i, k] = Histogram(layout, cells[i, k], hint)
            continue
        key = full[i, k].tobytes()
        if key not in known:
            mask = full[i, k]
            slim = Layout(layout.schema, layout.threshold, layout.bounds, layout.positive[mask[:split]], layout.negative[mask[split:]])
            known[key] = slim, np.concatenate([np.arange(HEAD), HEAD + np.flatnonzero(mask)])
        slim, kept = known[key]
        out[i, k] = Histogram(slim, cells[i, k][kept], hint)
    return out


def summed_rows(ev: Evaluation, value: NativeRows, groups: Ints, count: int, *, mean: bool) -> Objects | None:
    """The sums (or means) of each group's histograms at each step, in order of the rows: object[count, n].

    None where they are not plain, overflow, or something is to be said of them.
    """
    n, some = value.starts.shape[1], np.flatnonzero(value.layout_of >= 0)
    pairs, pair_of = np.unique(groups[some] * len(value.layouts) + value.layout_of[some], return_inverse=True)
    of_group: list[list[int]] = [[] for _ in range(count)]
    for group, number in zip(*np.divmod(pairs, len(value.layouts)), strict=True):
        of_group[int(group)].append(int(number))
    unions: dict[tuple[int, ...], Layout] = {}
    for numbers in map(tuple, of_group):
        if numbers and numbers not in unions:
            layouts = [value.layouts[number] for number in numbers]
            if not all(_alike(layouts[0], other) for other in layouts):
                return None
            unions[numbers] = _union(layouts)
    union_of = [unions.get(tuple(numbers)) for numbers in of_group]
    widths = np.array([0 if union is None else union.width for union in union_of], dtype=np.int64)
    begin = np.concatenate([[0], np.cumsum(widths * n)])
    ev.count(0, 16 * int(begin[-1]))
    found = [_places(value.layouts[number], unions[tuple(numbers)]) for numbers in of_group for number in numbers]
    place_at, sizes = np.zeros(len(value), dtype=np.int64), np.zeros(len(value), dtype=np.int64)
    bounds = np.concatenate([[0], np.cumsum([len(places) for places in found], dtype=np.int64)])
    place_at[some] = bounds[:-1][pair_of.reshape(-1)]
    sizes[some] = np.diff(bounds)[pair_of.reshape(-1)]
    total, rest = np.zeros(begin[-1]), np.zeros(begin[-1])
    counts, seen = np.zeros((count, n), dtype=np.int64), np.zeros((count, n), dtype=np.uint8)
    places = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
    kernel.summed(groups, value.starts, value.hints, value.cells, sizes, place_at, places, begin, widths, total, rest, counts, seen)
    if (seen & _BOTH == _BOTH).any() or (mean and np.isinf(total).any()):
        return None
    out = np.full((count, n), None, dtype=object)
    for group, union in enumerate(union_of):
        if union is None:
            continue
        cells, more = (column[begin[group] : begin[group + 1]].reshape(1, n, union.width) for column in (total, rest))
        much = counts[group].astype(np.float64)[:, None]
        with np.errstate(all="ignore"):
            made = cells / much + more / much if mean else cells + more
        out[group] = compacted_rows(union, made, counts[group : group + 1] > 0, _HINT_OF[seen[group : group + 1]])[0]
    return out


def _union(layouts: Sequence[Layout]) -> Layout:
    """The layout of all buckets of layouts that are alike."""
    one = layouts[0]
    if len(layouts) == 1:
        return one
    positive, negative = (np.unique(np.concatenate(side)) for side in ([x.positive for x in layouts], [x.negative for x in layouts]))
    return Layout(one.schema, one.threshold, one.bounds, positive, negative)


def summed(samples: Sequence[Histogram], *, mean: bool) -> Histogram | None:
    """The sum (or mean) of histograms in their order; None where they are not plain, overflow, or something is to be said of them."""
    hints = {h.hint for h in samples}
    layouts = {id(h.layout): h.layout for h in samples}
    one = samples[0].layout
    if {RESET, NOT_RESET} <= hints or any(not _alike(one, other) for other in layouts.values()):
        return None
    union = _union(list(layouts.values()))
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
        kernel.quantiles(q[at[:, 1]], np.ascontiguousarray(cells[good]), *_buckets(layout), *sides, False, out, sign)
        with np.errstate(all="ignore"):
            values[at[:, 0], at[:, 1]] = np.where(sign == 0, out, sign * np.exp2(out))
        done[at[:, 0], at[:, 1]] = True
    return values, done


def quantiles_of_rows(ev: Evaluation, value: NativeRows, q: Floats) -> Floats | None:
    """The quantile `q[k]` of the histograms at step k: float64[rows, n]; None where some are custom ones, or there is an info to give."""
    starts, there = value.starts, value.starts >= 0
    at = np.where(there, starts, 0)
    if not there.any():
        return np.zeros(there.shape)
    held = there & (value.cells[at + COUNT] != 0) & (q >= 0) & (q <= 1)
    values = np.where(q < 0, -np.inf, np.where(q > 1, np.inf, np.where(np.isnan(q), q, np.nan))) * np.ones(there.shape)
    for number in np.unique(value.layout_of[held.any(axis=1)]).tolist():
        layout = value.layouts[number]
        rows = np.flatnonzero(value.layout_of == number)
        sides, buckets = (len(layout.positive), len(layout.negative)), _buckets(layout)
        some = max(1, _CELLS_AT_ONCE // (layout.width * starts.shape[1]))
        for part in (rows[lo : lo + some] for lo in range(0, len(rows), some)):
            ev.check()
            row, k = np.nonzero(held[part])
            cells = value.cells[starts[part][row, k][:, None] + np.arange(layout.width)]
            if layout.custom or np.isnan(cells[:, SUM]).any():
                return None
            out, sign = np.empty(len(row)), np.empty(len(row), dtype=np.int8)
            kernel.quantiles(q[k], cells, *buckets, *sides, value.slim, out, sign)
            with np.errstate(all="ignore"):
                values[part[row], k] = np.where(sign == 0, out, sign * np.exp2(out))
    return values


def _buckets(layout: Layout) -> tuple[Ints, Floats, Floats]:
    """All buckets from the lowest on: their cells and bounds, as `model.buckets.all_buckets` has them, the zero bucket among them."""
    positive, negative, width = len(layout.positive), len(layout.negative), layout.threshold
    order = np.concatenate([HEAD + positive + np.arange(negative)[::-1], [ZERO], HEAD + np.arange(positive)])
    (low, high), (near, far) = layout.positive_bounds, layout.negative_bounds
    low, near = (np.where((edge > 0) & (edge < width), width, edge) for edge in (low, near))
    return order, np.concatenate([-far[::-1], [-width], low]), np.concatenate([-near[::-1], [width], high])
