"""Sums and means of native histograms with custom buckets whose bounds differ, many at a time.

What two have in common are the bounds that both have: a sum is kept in those of all that came so far, as one histogram after another
would be. Where that makes very many sets of bounds it is left to those who add one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vedette.kernels import native_bounds as kernel
from vedette.model.histograms import CUSTOM_SCHEMA, HEAD, NO_BUCKETS, Layout
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_pool import Natives, Pool
from vedette.promql.native_sums import BOTH, HINT_OF, Wanted, wanted_of
from vedette.promql.values import Bools, Ints

_MOST = 64
"""Sets of bounds; each is compared with each."""
_AT_ONCE = 1 << 10
_WORTH = 1 << 18


class Reconciled(NamedTuple):
    """The sums that were wanted; where they are made, where some were resets and others expressly not, and where bounds differed."""

    natives: Natives
    made: Bools
    collided: Bools
    unlike: Bools


class _Meets(NamedTuple):
    """Sets of bounds, the number of what each has in common with each, and where the buckets of each lie among those of that."""

    bounds: Sequence[tuple[float, ...]]
    meets: Ints
    maps: Ints
    maps_at: Ints


def of_groups(ev: Evaluation, natives: Natives, groups: Ints, left: Bools, *, mean: bool) -> Reconciled | None:
    """The sums (or means) of the groups of rows at the steps that are `left` [groups, n], without empty buckets.

    Those of custom buckets alone are made; None where there are none, or where bounds are too many.
    """
    pool, count = natives.pool, len(left)
    good = np.array([_whole(layout) for layout in pool.layouts], dtype=np.bool_)
    if not good.any():
        return None
    kept = left.copy()
    odd_one = natives.mask & ~good[pool.layout[natives.index]]
    np.logical_and.at(kept, groups, ~odd_one)
    own = np.unique(pool.layout[natives.index[natives.mask & kept[groups]]]).tolist()
    known: dict[tuple[float, ...], int] = {}
    kinds = np.zeros(len(pool.layouts), dtype=np.int64)
    for i in own:
        kinds[i] = known.setdefault(pool.layouts[i].bounds, len(known))
    met = _meets(ev, known) if known else None
    return None if met is None else _summed(ev, pool, (wanted_of(natives, groups, count), kept), kinds, met, mean=mean)


def _whole(layout: Layout) -> bool:
    """Whether a layout is of custom buckets as they should be."""
    return layout.custom and layout.threshold == 0 and bool(((layout.positive >= 0) & (layout.positive <= len(layout.bounds))).all())


def _summed(ev: Evaluation, pool: Pool, sums: tuple[Wanted, Bools], kinds: Ints, met: _Meets, *, mean: bool) -> Reconciled:
    wanted, kept = sums
    which = np.flatnonzero(kept.reshape(-1))
    widths = np.array([HEAD + 1 + len(bounds) for bounds in met.bounds], dtype=np.int64)
    total, most = len(which), int(widths.max())
    ev.count(0, 8 * total * most)
    out, at = np.empty(total * most), np.arange(total) * most
    found, bounds, seen = np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.uint8)
    odd, unlike = np.zeros(total, dtype=np.bool_), np.zeros(total, dtype=np.bool_)
    lo, sizes = wanted.lo[which], wanted.sizes[which]
    _schemas, indices, indices_at, _negative, _negative_at = pool.table.shapes
    of_pool = (pool.layout, pool.starts, pool.cells, pool.hints, indices, indices_at, kinds)

    def part(first: int, end: int) -> None:
        for begin in range(first, end, _AT_ONCE):
            ev.check()
            now = slice(begin, min(end, begin + _AT_ONCE))
            kernel.summed(
                lo[now], sizes[now], wanted.stride, wanted.items, *of_pool, widths, met.meets, met.maps, met.maps_at,
                mean, out, at[now], found[now], bounds[now], seen[now], odd[now], unlike[now],
            )  # fmt: skip

    ev.in_two(part, total, worth=int(sizes.sum()) * most > _WORTH)
    good = (found > 0) & ~odd
    made = np.flatnonzero(good)
    index = np.full(kept.size, -1, dtype=np.int64)
    index[which[made]] = np.arange(len(made))
    full = [Layout(CUSTOM_SCHEMA, 0.0, one, np.arange(len(one) + 1, dtype=np.int32), NO_BUCKETS) for one in met.bounds]
    results = Pool.made(full, bounds[made], at[made], out, HINT_OF[seen[made]], np.ones(len(made), dtype=np.bool_))
    told = np.zeros((3, kept.size), dtype=np.bool_)
    told[:, which] = good, good & (seen & BOTH == BOTH), good & unlike
    return Reconciled(Natives(index.reshape(kept.shape), results), *(one.reshape(kept.shape) for one in told))


def _meets(ev: Evaluation, known: dict[tuple[float, ...], int]) -> _Meets | None:
    """What the sets of bounds that are `known`, and what they have in common, have in common; None where that is too much."""
    numbers = dict(known)
    bounds, first = list(known), [frozenset(one) for one in known]
    pairs: dict[tuple[int, int], int] = {}
    done = 0
    while done < len(bounds):
        if len(bounds) > _MOST:
            return None
        ev.check()
        for other, others in enumerate(first):
            common = tuple(v for v in bounds[done] if v in others)
            pairs[done, other] = numbers.setdefault(common, len(bounds))
            if numbers[common] == len(bounds):
                bounds.append(common)
        done += 1
    count = len(bounds)
    meets, maps_at = np.zeros((count, count), dtype=np.int64), np.zeros((count, count), dtype=np.int64)
    maps: list[Ints] = []
    held = 0
    needed = {(one, one) for one in range(count)}
    for (one, other), number in pairs.items():
        meets[one, other] = number
        needed |= {(one, number), (other, number)}
    for one, number in sorted(needed):
        edges = np.array(bounds[number])
        # The last bucket, which has no end, is the last one of any bounds.
        maps.append(np.append(np.searchsorted(edges, np.array(bounds[one]), side="left"), len(edges)).astype(np.int64))
        maps_at[one, number] = held
        held += len(maps[-1])
    return _Meets(bounds, meets, np.concatenate(maps), maps_at)
