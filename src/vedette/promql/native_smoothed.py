"""What lies between two native histograms, for `smoothed` selectors: on the line from one to the other, many at a time.

A counter that was reset in between starts from zero. Where two are of unlike families, or the schema changes within a window, it is left
to those who take one after another, whose results these are to the bit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from vedette.model.histograms import GAUGE, UNKNOWN
from vedette.promql import native_rates
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_binary import moved
from vedette.promql.native_pool import Natives, Pool
from vedette.promql.native_rates import Samples, Spans
from vedette.promql.values import Bools, Floats, Ints

Windows = tuple[Ints, Ints, Ints, Ints]
"""The first and the one after the last sample that each window sees, and those within it alone: int64 all."""


class Found(NamedTuple):
    """The rates of some windows; those in which there is nothing, those that are left to others, and those of which there is a warning."""

    natives: Natives
    nothing: Bools
    left: Bools
    warned: Bools


def between(ev: Evaluation, pool: Pool, pair: tuple[Ints, Ints], fraction: Floats, fell: Bools) -> Pool:
    """The histograms at `fraction` of the way from those of `pair[0]` to those of `pair[1]`, which are of one family each.

    Of a pair that `fell` the way begins at zero.
    """
    now = pair[1]
    before = np.where(fell, now, pair[0])
    table = pool.table
    to = table.paired(pool.layout[before].astype(np.int64), pool.layout[now].astype(np.int64))
    (cells, at), (later, _) = moved(ev, pool, before, to), moved(ev, pool, now, to)
    widths = table.widths[to]
    part, risen = np.repeat(fraction, widths), np.repeat(~fell, widths)
    with np.errstate(all="ignore"):
        made = np.where(risen, (later - cells) * part + cells, later * part)
    return Pool.made(table.layouts, to, at, made, joint(pool.hints[before], pool.hints[now]), np.zeros(len(now), dtype=np.bool_))


def joint(a: native_rates.Flags, b: native_rates.Flags) -> native_rates.Flags:
    """The hints of what is made of two."""
    either = np.where((a == GAUGE) | (b == GAUGE), np.uint8(GAUGE), np.uint8(UNKNOWN))
    return np.where(a == b, a, either)


def alike(pool: Pool, before: Ints, now: Ints) -> Bools:
    """Which histograms of two are of one family."""
    families = pool.table.families
    same: Bools = families[pool.layout[before]] == families[pool.layout[now]]
    return same


def instants(ev: Evaluation, samples: Samples, at: tuple[Ints, Ints], times: Ints) -> tuple[Natives, Bools]:
    """The histograms at `times` (ms) between the samples `at[0]`, which are no later, and those after them; and which are left to others.

    `at[1]` is one after the last sample that each sees: where there is none ahead, what was last is carried on.
    """
    place, hi = at
    index, pool = samples.natives.index, samples.natives.pool
    before = index[place]
    apart = samples.times[place] < times
    some = np.flatnonzero(apart & (place + 1 < hi))
    here, now = place[some], index[place[some] + 1]
    good = alike(pool, before[some], now)
    left = np.zeros(len(place), dtype=np.bool_)
    left[some[~good]] = True
    some, here, now = some[good], here[good], now[good]
    counter = (pool.hints[before[some]] != GAUGE) | (pool.hints[now] != GAUGE)
    reset = native_rates.resets(samples.natives, np.unique(here + 1))[here + 1] == 1
    fraction = (times[some] - samples.times[here]) / (samples.times[here + 1] - samples.times[here])
    made = between(ev, pool, (before[some], now), fraction, counter & reset)
    # What is carried on says nothing of what came before it.
    carried = np.flatnonzero(apart & (place + 1 >= hi))
    items = before.copy()
    items[carried] = len(pool) + np.arange(len(carried))
    items[some] = len(pool) + len(carried) + np.arange(len(some))
    return Natives(items, _unhinted(pool, before[carried]).with_(made)), left


def _unhinted(pool: Pool, items: Ints) -> Pool:
    """A pool, and after its histograms `items` of it again, without a hint; the cells are the same."""
    return replace(
        pool,
        layout=np.concatenate([pool.layout, pool.layout[items]]),
        starts=np.concatenate([pool.starts, pool.starts[items]]),
        hints=np.concatenate([pool.hints, np.full(len(items), UNKNOWN, dtype=np.uint8)]),
        slim=np.concatenate([pool.slim, pool.slim[items]]),
    )


def of_windows(ev: Evaluation, name: str, samples: Samples, rows: Ints, windows: Windows, ends: Ints, width: int) -> Found:
    """`rate`, `increase` or `delta` of windows of `width` ms up to `ends` (ms), of `rows`, which see histograms alone."""
    lo, hi, inner, upto = windows
    times, index, pool, counter = samples.times, samples.natives.index, samples.natives.pool, name != "delta"
    starts = ends - width
    # A sample at the window's end is its last; else it is the one after it that the way leads to.
    first = lo + np.maximum(np.minimum(inner, hi - 1) - lo - 1, 0)
    last = np.minimum(upto - ((upto > lo) & (times[upto - 1] == ends)), hi - 1)
    nothing = (times[last] <= starts) | (times[first] > ends)
    layout = pool.layout[np.maximum(index, 0)]
    kinds = pool.table.families[layout] * 128 + pool.table.schemas[layout]
    changes = np.cumsum(np.concatenate([[0], kinds[1:] != kinds[:-1]]))
    left = ~nothing & (changes[first] != changes[last])
    good = np.flatnonzero(~nothing & ~left)
    made, warned = np.full(len(lo), -1, dtype=np.int64), np.zeros(len(lo), dtype=np.bool_)
    if not len(good):
        return Found(Natives(made, pool), nothing, left, warned)
    first, last, begin, end, rows = first[good], last[good], starts[good], ends[good], rows[good]
    followers = native_rates.followers(samples)
    reset = native_rates.resets(samples.natives, followers) == 1
    lead, trail = times[first] < begin, (last > lo[good]) & (times[last] > end)
    sizes = last - first + 1
    at = np.cumsum(sizes) - sizes
    places = np.arange(int(sizes.sum())) + np.repeat(first - at, sizes)
    items = index[places]
    for which, place, moment, target in ((lead, first, begin, at), (trail, last - 1, end, at + sizes - 1)):
        some = np.flatnonzero(which)
        here = place[some]
        fraction = (moment[some] - times[here]) / (times[here + 1] - times[here])
        ends_of_way = between(ev, samples.natives.pool, (index[here], index[here + 1]), fraction, counter & reset[here + 1])
        items[target[some]] = len(pool) + np.arange(len(some))
        pool = pool.with_(ends_of_way)
    # The border lies beyond the reset that is first of all: what comes from it began at zero already.
    begun = counter & lead & (sizes > 1) & reset[np.minimum(first + 1, len(times) - 1)]
    gauge = pool.hints[items] == GAUGE
    if counter:
        held = np.concatenate([[0], np.cumsum(pool.hints[np.maximum(index, 0)] == GAUGE)])
        warned[good] = held[last + 1] > held[first]
    else:
        warned[good] = ~(gauge[at] & gauge[at + sizes - 1])
    line = Samples(np.append(at, len(items)), times[places], Natives(items, pool))
    spans = Spans(at, at + sizes, end, rows)
    found, odd = native_rates.of_windows(ev, name, line, spans, width=width, anchored=True, unbroken=at[begun] + 1)
    made[good] = found.index
    left[good] |= odd
    return Found(Natives(made, found.pool), nothing, left, warned & ~left)
