"""Rates of windows in which the custom bounds of native histograms change once, as where a new release of a program has others.

The samples of such a window are brought to the bounds that both have in common, and are rated there. Where bounds change more than
once, what is in common depends on which samples are looked at: that is left to those who take one window after another, whose results
these are to the bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vedette.model.histograms import CUSTOM_SCHEMA, HEAD, NO_BUCKETS, Layout
from vedette.promql import native_rates
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_pool import Natives, Pool
from vedette.promql.native_rates import OF_ENDS, Samples, Spans
from vedette.promql.values import Bools, Floats, Ints

_Bounds = tuple[float, ...]


class Reconciled(NamedTuple):
    """The rates of some windows, where they are made, and in which of these what was before a reset had other bounds than are in common."""

    natives: Natives
    made: Bools
    added: Bools


class _Lines(NamedTuple):
    """Rows of samples of two sets of bounds each: `of` (int64[lines, 2]) are those, and line l has `places[at[l]:at[l + 1]]`."""

    of: Ints
    at: Ints
    places: Ints
    owner: Ints


def of_windows(ev: Evaluation, name: str, samples: Samples, spans: Spans, *, width: int) -> Reconciled:
    """The rates of windows of `width` ms that hold histograms alone, of unlike families; neither anchored nor smoothed ones."""
    pool, index = samples.natives.pool, samples.natives.index
    kinds, bounds = _kinds(pool)
    kind = np.where(index >= 0, kinds[pool.layout[index]], -1)
    if name in ("irate", "idelta"):
        spans = spans._replace(lo=spans.hi - 2)
    first, last = kind[spans.lo], kind[spans.hi - 1]
    good = (first >= 0) & (last >= 0) & (first != last)
    changes = np.cumsum(np.concatenate([[0], kind[1:] != kind[:-1]]))
    if name not in OF_ENDS:
        good &= changes[spans.hi - 1] == changes[spans.lo] + 1
    which = np.flatnonzero(good)
    if not len(which):
        return Reconciled(Natives(np.full(len(good), -1, dtype=np.int64), pool), good, good)
    some = spans.some(which)
    keys = np.stack([some.rows, changes[some.lo], first[which], last[which]], axis=1)
    told, line = np.unique(keys, axis=0, return_inverse=True)
    line = line.reshape(-1)
    lines, shift = _lines(some, line, told[:, 2:])
    ev.count(0, 32 * len(lines.places))
    shared = _shared(lines.of, bounds)
    here = kind[lines.places]
    mine = (here == lines.of[lines.owner, 0]) | (here == lines.of[lines.owner, 1])
    moved = _moved(ev, pool, index[lines.places[mine]], (kinds, bounds), shared, lines.owner[mine])
    numbers = np.full(len(here), -1, dtype=np.int64)
    numbers[mine] = np.arange(len(moved))
    reset = np.zeros(len(index), dtype=np.uint8)
    if name not in OF_ENDS:
        reset = native_rates.resets(samples.natives, native_rates.followers(samples))
    row = Samples(lines.at, samples.times[lines.places], Natives(numbers, moved))
    windows = Spans(some.lo + shift, some.hi + shift, some.ends, line)
    found, odd = native_rates.of_windows(ev, name, row, windows, width=width, known=reset[lines.places])
    made = np.full(len(good), -1, dtype=np.int64)
    made[which] = np.where(odd, -1, found.index)
    good[which] = ~odd
    # What is added to a difference is what was before a reset.
    unlike = np.array([[bounds[one] != common for one in pair] for pair, common in zip(lines.of.tolist(), shared, strict=True)])
    lost = np.zeros(len(here), dtype=np.bool_)
    lost[1:] = (reset[lines.places[1:]] == 1) & unlike[lines.owner, (here == lines.of[lines.owner, 1]).astype(np.int64)][:-1]
    upto = np.concatenate([[0], np.cumsum(lost)])
    added = np.zeros(len(good), dtype=np.bool_)
    if name in ("rate", "increase"):
        added[which] = ~odd & (upto[windows.hi] > upto[windows.lo + 1])
    return Reconciled(Natives(made, found.pool), good, added)


def _kinds(pool: Pool) -> tuple[Ints, list[_Bounds]]:
    """The number of each layout's bounds among these; -1 of exponential buckets, and of custom ones that are not as they should be."""
    known: dict[_Bounds, int] = {}
    kinds = np.full(len(pool.layouts), -1, dtype=np.int64)
    for i, layout in enumerate(pool.layouts):
        if layout.custom and layout.threshold == 0 and not len(layout.negative):
            kinds[i] = known.setdefault(layout.bounds, len(known))
    return kinds, list(known)


def _lines(spans: Spans, line: Ints, of: Ints) -> tuple[_Lines, Ints]:
    """The samples that the windows of each line reach over, end to end, and how far each window's samples are from where they were."""
    begin, end = np.full(len(of), np.iinfo(np.int64).max), np.zeros(len(of), dtype=np.int64)
    np.minimum.at(begin, line, spans.lo)
    np.maximum.at(end, line, spans.hi)
    lengths = end - begin
    at = np.concatenate([[0], np.cumsum(lengths)])
    owner = np.repeat(np.arange(len(of)), lengths)
    return _Lines(of, at, np.arange(len(owner)) + (begin - at[:-1])[owner], owner), (at[:-1] - begin)[line]


def _shared(pairs: Ints, bounds: list[_Bounds]) -> list[_Bounds]:
    """The bounds that both of each pair have."""
    known: dict[tuple[int, int], _Bounds] = {}
    out = []
    for one, other in pairs.tolist():
        if (one, other) not in known:
            others = frozenset(bounds[other])
            known[one, other] = tuple(v for v in bounds[one] if v in others)
        out.append(known[one, other])
    return out


def _moved(ev: Evaluation, pool: Pool, items: Ints, told: tuple[Ints, list[_Bounds]], shared: list[_Bounds], owner: Ints) -> Pool:
    """The histograms `items` of the lines `owner` with all buckets of the bounds that are `shared` in their line."""
    numbers: dict[_Bounds, int] = {}
    target = np.array([numbers.setdefault(common, len(numbers)) for common in shared], dtype=np.int64)[owner]
    own = pool.layout[items].astype(np.int64)
    pairs, pair = np.unique(own * len(numbers) + target, return_inverse=True)
    kinds, bounds = told
    maps: list[Ints] = []
    commons = list(numbers)
    for layout, common in zip(*(side.tolist() for side in np.divmod(pairs, len(numbers))), strict=True):
        edges = np.append(np.array(bounds[kinds[layout]]), np.inf)
        at = np.minimum(pool.layouts[layout].positive, len(edges) - 1)
        to = np.searchsorted(np.array(commons[common]), edges[at], side="left")
        to[at == len(edges) - 1] = len(commons[common])
        maps.append(np.concatenate([np.arange(HEAD), HEAD + to]).astype(np.int64))
    map_at = np.concatenate([[0], np.cumsum([len(one) for one in maps])])[:-1][pair.reshape(-1)]
    widths = pool.table.widths[own]
    sizes = np.array([HEAD + 1 + len(common) for common in commons], dtype=np.int64)[target]
    at = np.cumsum(sizes) - sizes
    holder = np.repeat(np.arange(len(items)), widths)
    within = np.arange(len(holder)) - (np.cumsum(widths) - widths)[holder]
    ev.count(0, 8 * (int(sizes.sum()) + 4 * len(holder)))
    cells: Floats = np.zeros(int(sizes.sum()))
    np.add.at(cells, at[holder] + np.concatenate(maps)[map_at[holder] + within], pool.cells[pool.starts[items][holder] + within])
    full = [Layout(CUSTOM_SCHEMA, 0.0, common, np.arange(len(common) + 1, dtype=np.int32), NO_BUCKETS) for common in commons]
    return Pool(full, target.astype(np.int32), at, cells, pool.hints[items], np.zeros(len(items), dtype=np.bool_))
