"""The layouts of native histograms as kernels take them, and unions of layouts that differ in their buckets and schema alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import native as kernel
from vedette.model.histograms import HEAD, Layout, exponential_bounds

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Shapes = tuple[Ints, NDArray[np.int32], Ints, NDArray[np.int32], Ints]
"""As `kernels.native` has them."""
Buckets = tuple[Ints, NDArray[np.float64], NDArray[np.float64], Ints, Ints, Ints, Bools]
"""As `kernels.native.quantiles` has them."""


def _ends(sizes: Sequence[int] | Ints) -> Ints:
    """Where runs of these sizes begin and end: int64[n + 1]."""
    out = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=out[1:])
    return out


def _end_to_end(parts: Sequence[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.ascontiguousarray(np.concatenate([*parts, np.zeros(0, dtype=np.int32)]), dtype=np.int32)


class Layouts:
    """Layouts by number: those given, and after them unions that they do not have themselves."""

    def __init__(self, layouts: Sequence[Layout]) -> None:
        self.layouts = list(layouts)
        known: dict[tuple[bool, bytes, tuple[float, ...]], int] = {}
        self.families: Ints = np.array([known.setdefault(x.family, len(known)) for x in self.layouts], dtype=np.int64)
        """Layouts of one family differ in their schema and in which buckets they have, and in nothing else."""
        self.kinds = len(known)
        """How many families there are."""
        self.shapes = self._shapes(0)
        self._known: dict[bytes, int] = {}

    def _shapes(self, first: int) -> Shapes:
        some = self.layouts[first:]
        sides = ([x.positive for x in some], [x.negative for x in some])
        (positive, p), (negative, n) = ((_end_to_end(side), _ends([len(indices) for indices in side])) for side in sides)
        return np.array([x.schema for x in some], dtype=np.int64), positive, p, negative, n

    @property
    def widths(self) -> Ints:
        """How many cells a histogram of each layout has."""
        return HEAD + np.diff(self.shapes[2]) + np.diff(self.shapes[4])

    @property
    def schemas(self) -> Ints:
        """The schema of each layout."""
        return self.shapes[0]

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """How wide the zero bucket of each layout is."""
        return np.array([x.threshold for x in self.layouts])

    @cached_property
    def summable(self) -> tuple[Ints, int]:
        """The families, and how many, where a wider zero bucket takes no other bucket in: then exponential layouts are one family.

        Of sums the widest zero bucket counts. Where one could reach a bucket, what it takes in depends on which buckets are empty.
        """
        some = [x for x in self.layouts if not x.custom]
        if len({x.threshold for x in some}) < 2:
            return self.families, self.kinds
        coarsest = min(x.schema for x in some)
        # The lowest bucket of all is so at the coarsest schema, too.
        first = [((int(side[0]) - 1) >> x.schema - coarsest) for x in some for side in (x.positive, x.negative) if len(side)]
        lowest = float(exponential_bounds(coarsest, np.array([min(first)], dtype=np.int32))[0]) if first else np.inf
        if not all(x.threshold <= lowest for x in some):
            return self.families, self.kinds
        families = np.where([x.custom for x in self.layouts], self.families + 1, 0)
        return families, self.kinds + 1

    @cached_property
    def reaching(self) -> bool:
        """Whether there are zero buckets of several widths, and the widest may take other buckets in."""
        return len({x.threshold for x in self.layouts if not x.custom}) > 1 and self.summable[1] == self.kinds

    @cached_property
    def alike(self) -> Ints:
        """A number for each layout, the same for those that are `same`: a number's sign, where it is 0, makes a layout another one."""
        known: dict[tuple[int, float, tuple[float, ...], bytes, bytes], int] = {}
        keys = [(x.schema, x.threshold, x.bounds, x.positive.tobytes(), x.negative.tobytes()) for x in self.layouts]
        return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)

    def widened(self, numbers: Ints, thresholds: NDArray[np.float64]) -> tuple[Sequence[Layout], Ints]:
        """The layouts `numbers` with zero buckets of `thresholds`, and the number of each of these."""
        own = self.thresholds
        if (own[numbers] == thresholds).all():
            return self.layouts, numbers
        distinct_of, which = np.unique(thresholds, return_inverse=True)
        keys, number = np.unique(numbers * len(distinct_of) + which.reshape(-1), return_inverse=True)
        layouts = []
        for key in keys.tolist():
            like = self.layouts[key // len(distinct_of)]
            layouts.append(Layout(like.schema, float(distinct_of[key % len(distinct_of)]), like.bounds, like.positive, like.negative))
        return layouts, number.reshape(-1)

    def united(self, members: Ints, offsets: Ints, schemas: Ints) -> Ints:
        """The number of the union of each set `members[offsets[s]:offsets[s + 1]]` of layouts, made as coarse as `schemas[s]`."""
        out = np.empty(len(offsets) - 1, dtype=np.int64)
        single = (np.diff(offsets) == 1) & (self.schemas[members[offsets[:-1]]] == schemas)
        out[single] = members[offsets[:-1][single]]
        left = np.flatnonzero(~single)
        if len(left):
            rest = np.concatenate([members[offsets[s] : offsets[s + 1]] for s in left.tolist()])
            out[left] = self._united(rest, _ends(np.diff(offsets)[left]), schemas[left])
        return out

    def paired(self, one: Ints, two: Ints) -> Ints:
        """The number of the union of each two layouts, which are of one family, as coarse as the coarser one."""
        count = len(self.layouts)
        keys, which = np.unique(one * count + two, return_inverse=True)
        pairs = np.stack(np.divmod(keys, count), axis=1)
        schemas = np.minimum(self.schemas[pairs[:, 0]], self.schemas[pairs[:, 1]])
        unions = pairs[:, 0].copy()
        unlike = np.flatnonzero(pairs[:, 0] != pairs[:, 1])
        unions[unlike] = self.united(pairs[unlike].reshape(-1), np.arange(len(unlike) + 1) * 2, schemas[unlike])
        union: Ints = unions[which.reshape(-1)]
        return union

    def _united(self, members: Ints, offsets: Ints, schemas: Ints) -> Ints:
        sizes = self.widths[members] - HEAD
        rooms = np.add.reduceat(sizes, offsets[:-1])
        total, count = int(rooms.sum()), len(schemas)
        positive, negative = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.int32)
        p, n = np.zeros(count + 1, dtype=np.int64), np.zeros(count + 1, dtype=np.int64)
        kernel.unite(self.shapes, members, offsets, schemas, int(rooms.max()), (positive, p, negative, n))
        first, out = len(self.layouts), np.empty(count, dtype=np.int64)
        known = self._known = self._known or {x.key: number for number, x in enumerate(self.layouts)}
        like = self.families[members[offsets[:-1]]]
        families: list[int] = []
        for s in range(count):
            one = self.layouts[members[offsets[s]]]
            sides = (positive[p[s] : p[s + 1]].copy(), negative[n[s] : n[s + 1]].copy())
            made = Layout(int(schemas[s]), one.threshold, one.bounds, *sides)
            out[s] = known.setdefault(made.key, len(self.layouts))
            if out[s] == len(self.layouts):
                self.layouts.append(made)
                families.append(int(like[s]))
        self.families = np.concatenate([self.families, np.array(families, dtype=np.int64)])
        more = self._shapes(first)
        old = self.shapes
        self.shapes = (
            np.concatenate([old[0], more[0]]),
            np.concatenate([old[1], more[1]]),
            np.concatenate([old[2], old[2][-1] + more[2][1:]]),
            np.concatenate([old[3], more[3]]),
            np.concatenate([old[4], old[4][-1] + more[4][1:]]),
        )
        return out

    def levels(self, pairs: Ints, count: int) -> tuple[Ints, Ints]:
        """The unions of the layouts of each of `count` groups, of which `pairs` tells by `group * len(layouts) + layout`, ascending.

        (offsets int64[count * families + 1], numbers): those of group g and family f (of the `summable` ones) begin at
        `offsets[g * families + f]`, one for each schema, finest first, each of the layouts that are at least as fine.
        """
        groups, members = np.divmod(pairs, len(self.layouts))
        families, kinds = self.summable
        groups, schemas = groups * kinds + families[members], self.schemas[members]
        order = np.lexsort((-schemas, groups))
        groups, members, schemas = groups[order], members[order], schemas[order]
        last = np.ones(len(groups), dtype=np.bool_)
        last[:-1] = (groups[1:] != groups[:-1]) | (schemas[1:] != schemas[:-1])
        ends = np.flatnonzero(last) + 1
        begins = np.searchsorted(groups, groups[ends - 1])
        sets = [members[a:b] for a, b in zip(begins.tolist(), ends.tolist(), strict=True)]
        numbers = self.united(np.concatenate([*sets, np.zeros(0, dtype=np.int64)]), _ends(ends - begins), schemas[ends - 1])
        return _ends(np.bincount(groups[ends - 1], minlength=count * kinds)), numbers

    def buckets(self, count: int) -> Buckets:
        """All buckets of each of the first `count` layouts from the lowest on, as `model.buckets.all_buckets` has them."""
        some = self.layouts[:count]
        custom = np.array([x.custom for x in some], dtype=np.bool_)
        positives, negatives = np.diff(self.shapes[2])[:count], np.diff(self.shapes[4])[:count]
        at = _ends(positives + negatives + ~custom)
        total = int(at[-1])
        order, index, side = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int32), np.empty(total, dtype=np.int8)
        kernel.ordered(self.shapes, custom, at, order, index, side)
        near, far = np.zeros(len(order)), np.zeros(len(order))
        owner = np.repeat(np.arange(count), np.diff(at))
        threshold = np.array([x.threshold for x in some])[owner]
        schemas = self.schemas[owner]
        for schema in np.unique(self.schemas[:count][~custom]).tolist():
            chosen = np.flatnonzero((schemas == schema) & (side != 0))
            near[chosen], far[chosen] = exponential_bounds(schema, index[chosen] - 1), exponential_bounds(schema, index[chosen])
        near = np.where((near > 0) & (near < threshold), threshold, near)
        lower = np.where(side > 0, near, np.where(side < 0, -far, -threshold))
        upper = np.where(side > 0, far, np.where(side < 0, -near, threshold))
        for number in np.flatnonzero(custom).tolist():
            here = slice(at[number], at[number + 1])
            lower[here], upper[here] = some[number].positive_bounds
        return order, lower, upper, at, positives, negatives, custom


def distinct(keys: Ints, most: int) -> Ints:
    """The keys in [0, most) that occur, ascending: without sorting them, where there are not too many to mark each."""
    if most > 1 << 26:
        return np.unique(keys)
    marks = np.zeros(most, dtype=np.bool_)
    marks[keys] = True
    return np.flatnonzero(marks)
