"""Sums and means of native histograms many at a time: of the rows of an aggregation, and of the samples of windows.

Histograms may differ in which buckets they have and in their schema. Where zero buckets or custom bounds differ, or a mean would
overflow, the sums are left to those who add one histogram after another, whose results these are to the bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vedette.kernels import native as kernel
from vedette.model.histograms import GAUGE, NOT_RESET, RESET, UNKNOWN
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_layouts import distinct
from vedette.promql.native_pool import Natives, Pool
from vedette.promql.values import Bools, Ints

_CELLS_AT_ONCE = 4 << 20
_WORTH = 1 << 18
BOTH = 1 << RESET | 1 << NOT_RESET
"""The bits of hints that contradict one another."""
HINT_OF = np.array(
    [GAUGE if seen >> GAUGE else seen.bit_length() - 1 if seen.bit_count() == 1 else UNKNOWN for seen in range(16)], dtype=np.uint8
)
"""The hint of a sum, by the bits of those that went in."""


class Sums(NamedTuple):
    """The sums, where they are left to others, and where some of the histograms were resets and others expressly not."""

    natives: Natives
    left: Bools
    collided: Bools


class Wanted(NamedTuple):
    """Sum t is that of `items[lo[t] + i * stride]` for `i < sizes[t]`, of the group `groups[t]` of sums."""

    items: Ints
    lo: Ints
    sizes: Ints
    stride: int
    groups: Ints


def wanted_of(natives: Natives, groups: Ints, count: int) -> Wanted:
    """The sums of each of `count` groups of rows at each step, in order of the rows: group after group."""
    n = natives.shape[1]
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups, minlength=count).astype(np.int64)
    begins = (np.cumsum(sizes) - sizes) * n
    index = natives.index if bool((order[1:] > order[:-1]).all()) else natives.index[order]
    lo = (begins[:, None] + np.arange(n)).reshape(-1)
    return Wanted(np.ascontiguousarray(index).reshape(-1), lo, np.repeat(sizes, n), n, np.repeat(np.arange(count), n))


def of_groups(ev: Evaluation, natives: Natives, groups: Ints, count: int, *, mean: bool) -> Sums:
    """The sum (or mean) of each group's histograms at each step, in order of the rows, without empty buckets: [count, n]."""
    n = natives.shape[1]
    wanted = wanted_of(natives, groups, count)
    layouts = natives.pool.table.layouts
    there = natives.index >= 0
    of_row = np.broadcast_to(groups[:, None], there.shape)[there]
    pairs = distinct(of_row * len(layouts) + natives.pool.layout[natives.index[there]], count * len(layouts))
    slim = np.ones(len(wanted.lo), dtype=np.bool_)
    sums = _sums(ev, natives.pool, wanted, pairs, count, mean=mean, slim=slim)
    made = Natives(sums.natives.index.reshape(count, n), sums.natives.pool)
    return Sums(made, sums.left.reshape(count, n), sums.collided.reshape(count, n))


def of_windows(ev: Evaluation, natives: Natives, offsets: Ints, windows: tuple[Ints, Ints], *, mean: bool) -> Sums:
    """The sum (or mean) of the samples `lo:hi` of each of some windows, which are histograms all: [windows].

    `natives` are those of all samples, in rows of `offsets`. Sums have the empty buckets that the samples have.
    """
    lo, hi = windows
    pool = natives.pool
    layout = np.where(natives.index >= 0, pool.layout[natives.index], -1) if len(pool) else natives.index
    new = np.ones(len(layout), dtype=np.bool_)
    new[1:] = layout[1:] != layout[:-1]
    new[offsets[:-1][offsets[:-1] < len(new)]] = True
    runs = np.cumsum(new) - 1
    of_run = layout[new]
    # Windows over the same runs of layouts make a group.
    first, last = runs[lo], runs[hi - 1]
    keys, groups = np.unique(first * len(of_run) + last, return_inverse=True)
    a, b = np.divmod(keys, len(of_run))
    members = np.concatenate([*(of_run[i : j + 1] for i, j in zip(a.tolist(), b.tolist(), strict=True)), np.zeros(0, dtype=np.int64)])
    count = len(pool.table.layouts)
    pairs = np.unique(np.repeat(np.arange(len(keys)), b - a + 1) * count + members)
    wanted = Wanted(natives.index, lo, hi - lo, 1, groups.reshape(-1))
    slims = np.concatenate([[0], np.cumsum((natives.index >= 0) & pool.slim[natives.index], dtype=np.int64)])
    slim = slims[hi] - slims[lo]
    sums = _sums(ev, pool, wanted, pairs, len(keys), mean=mean, slim=slim > 0)
    # What is empty in one and none in another is a question of which buckets each has.
    mixed = (slim > 0) & (slim < hi - lo)
    index = np.where(mixed, -1, sums.natives.index)
    return Sums(Natives(index, sums.natives.pool), sums.left | mixed, sums.collided & ~mixed)


def _sums(ev: Evaluation, pool: Pool, wanted: Wanted, pairs: Ints, count: int, *, mean: bool, slim: Bools) -> Sums:
    table = pool.table
    total = len(wanted.lo)
    odd, seen = np.zeros(total, dtype=np.bool_), np.zeros(total, dtype=np.uint8)
    found, unions = np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.int64)
    if not len(pairs):
        return Sums(Natives(np.full(total, -1, dtype=np.int64), pool), odd, odd)
    families, kinds = table.summable
    thresholds, widest = table.thresholds, np.empty(total)
    levels, numbers = table.levels(pairs, count)
    widths = table.widths
    # A sum has as much room as the widest of its group's unions takes.
    most = np.zeros(count, dtype=np.int64)
    np.maximum.at(most, np.repeat(np.arange(count * kinds), np.diff(levels)) // kinds, widths[numbers])
    sizes = most[wanted.groups]
    at = np.cumsum(sizes) - sizes
    ev.count(0, 8 * int(sizes.sum()))
    out = np.empty(int(sizes.sum()))
    work = np.cumsum(sizes * np.maximum(wanted.sizes, 1))
    numbered = (pool.layout, pool.starts, pool.cells, pool.hints, table.shapes, families, kinds, thresholds)

    def part(begin: int, end: int) -> None:
        while begin < end:
            ev.check()
            done = int(work[begin - 1]) if begin else 0
            upto = min(end, max(begin + 1, int(np.searchsorted(work, done + _CELLS_AT_ONCE, side="right"))))
            now = slice(begin, upto)
            kernel.summed(
                wanted.lo[now], wanted.sizes[now], wanted.stride, wanted.items, *numbered, wanted.groups[now], levels, numbers,
                int(widths.max()), mean, out, at[now], found[now], unions[now], seen[now], widest[now],
                odd[now],
            )  # fmt: skip
            begin = upto

    ev.in_two(part, total, worth=bool(len(work)) and int(work[-1]) > _WORTH)
    there = (found > 0) & ~odd
    made = np.flatnonzero(there)
    index = np.full(total, -1, dtype=np.int64)
    index[made] = np.arange(len(made))
    layouts, numbers = table.widened(unions[made], widest[made])
    sums = Pool.made(layouts, numbers, at[made], out, HINT_OF[seen[made]], slim[made])
    return Sums(Natives(index, sums), odd, there & (seen & BOTH == BOTH))
