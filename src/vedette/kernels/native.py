"""Native histograms many at a time: cells moved from layout to layout, counter resets, rates, sums, and what is told of buckets.

Cells are count, sum, zero bucket, positive and negative buckets (`model/histograms.py`). A pool of histograms is `layout` int32,
`starts` int64 and `hints` uint8 of each, and `cells` float64. `shapes` are the layouts: (schema int64[l], positive int32, where those
of each begin int64[l + 1], negative, where those begin). Layouts between which cells are moved, or that are compared, are of one
family: they differ in their schema and in which buckets they have, and in nothing else. What histograms of unlike families come to is
found one by one (`promql/native_*.py`), whose results these kernels give to the bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

_COUNT, _SUM, _ZERO, _HEAD = 0, 1, 2, 3
_RESET, _NOT_RESET = 1, 2
_RATE, _DELTA, _IRATE, _IDELTA, _ANCHORED, _ANCHORED_RATE, _ANCHORED_DELTA = 0, 2, 3, 4, 5, 6, 7


@njit(cache=True, nogil=True)
def _coarse(index: int, shift: int) -> int:
    """The bucket that bucket `index` lies in where the schema is smaller by `shift`."""
    return ((index - 1) >> shift) + 1


@njit(cache=True, nogil=True)
def _width(shapes: Any, layout: int) -> Any:
    return _HEAD + shapes[2][layout + 1] - shapes[2][layout] + shapes[4][layout + 1] - shapes[4][layout]


@njit(cache=True, nogil=True)
def _merged(indices: Any, lo: int, hi: int, shift: int, out: Any, size: int, scratch: Any) -> int:
    """Bring the ascending `indices[lo:hi]`, made coarser, into the ascending `out[:size]`; answers the new size."""
    scratch[:size] = out[:size]
    at, made = 0, 0
    for b in range(lo, hi):
        index = _coarse(indices[b], shift)
        while at < size and scratch[at] < index:
            out[made] = scratch[at]
            at += 1
            made += 1
        if at < size and scratch[at] == index:
            at += 1
        if made == 0 or out[made - 1] != index:
            out[made] = index
            made += 1
    while at < size:
        out[made] = scratch[at]
        at += 1
        made += 1
    return made


@njit(cache=True, nogil=True)
def unite(shapes: Any, members: Any, offsets: Any, schemas: Any, room: int, out: Any) -> None:
    """The buckets that any layout of the set `members[offsets[s]:offsets[s + 1]]` has, each made as coarse as `schemas[s]` (int64).

    `out` are the shapes of the unions but for their schemas, with room enough; no union has more than `room` buckets.
    """
    schema, positive, positive_at, negative, negative_at = shapes
    united, scratch = np.empty(room, np.int32), np.empty(room, np.int32)
    for s in range(len(offsets) - 1):
        for side in range(2):
            indices, at = (positive, positive_at) if side == 0 else (negative, negative_at)
            into, into_at = (out[0], out[1]) if side == 0 else (out[2], out[3])
            size = 0
            for m in range(offsets[s], offsets[s + 1]):
                layout = members[m]
                size = _merged(indices, at[layout], at[layout + 1], schema[layout] - schemas[s], united, size, scratch)
            for u in range(size):
                into[into_at[s] + u] = united[u]
            into_at[s + 1] = into_at[s] + size


@njit(cache=True, nogil=True)
def _add_side(indices: Any, at: Any, layout: int, to: int, shift: int, cells: Any, source: int, out: Any, into: int) -> None:
    u, end = at[to], at[to + 1] - 1
    for b in range(at[layout], at[layout + 1]):
        index = _coarse(indices[b], shift)
        while u < end and indices[u] < index:
            u += 1
        out[into + u - at[to]] += cells[source + b - at[layout]]


@njit(cache=True, nogil=True)
def _add_moved(shapes: Any, layout: int, to: int, cells: Any, source: int, out: Any, into: int) -> None:
    """Add the buckets from `source` on, of `layout`, to those of layout `to`, which has them all; the head goes with them."""
    for c in range(_HEAD):
        out[into + c] += cells[source + c]
    shift = shapes[0][layout] - shapes[0][to]
    positive = shapes[2][layout + 1] - shapes[2][layout]
    wide = shapes[2][to + 1] - shapes[2][to]
    _add_side(shapes[1], shapes[2], layout, to, shift, cells, source + _HEAD, out, into + _HEAD)
    _add_side(shapes[3], shapes[4], layout, to, shift, cells, source + _HEAD + positive, out, into + _HEAD + wide)


@njit(cache=True, nogil=True)
def moved(shapes: Any, items: Any, layout: Any, starts: Any, cells: Any, to: Any, out: Any, out_at: Any) -> None:
    """The cells of histograms `items` (int64) in the layouts `to` (int64), from `out_at` (int64) on in `out`, which is 0 before."""
    for i in range(len(items)):
        own, source, into = layout[items[i]], starts[items[i]], out_at[i]
        if own == to[i]:
            for c in range(_width(shapes, own)):
                out[into + c] = cells[source + c]
        else:
            _add_moved(shapes, own, to[i], cells, source, out, into)


@njit(cache=True, nogil=True)
def widened(shapes: Any, items: Any, layout: Any, starts: Any, cells: Any, taken: Any, out: Any, out_at: Any) -> None:
    """The cells of histograms `items` (int64), from `out_at` (int64) on in `out`, whose zero buckets take others in.

    Of histogram i those are the first `taken[i, 0]` positive and the first `taken[i, 1]` negative ones (int64).
    """
    for i in range(len(items)):
        own, source, into = layout[items[i]], starts[items[i]], out_at[i]
        for c in range(_HEAD):
            out[into + c] = cells[source + c]
        at, put = source + _HEAD, into + _HEAD
        for side in range(2):
            ends = shapes[2] if side == 0 else shapes[4]
            count = ends[own + 1] - ends[own]
            for b in range(count):
                if b < taken[i, side]:
                    out[into + _ZERO] += cells[at + b]
                else:
                    out[put] = cells[at + b]
                    put += 1
            at += count


@njit(cache=True, nogil=True)
def spans(offsets: Any, times: Any, first: int, step: int, width: int, lo: Any, hi: Any) -> None:
    """The samples `lo[r, k]:hi[r, k]` of each row r in `(t - width, t]` at t = `first + k * step`; rows are `offsets` of `times`."""
    for r in range(len(offsets) - 1):
        begin, end = offsets[r], offsets[r]
        for k in range(lo.shape[1]):
            t = first + k * step
            while end < offsets[r + 1] and times[end] <= t:
                end += 1
            while begin < end and times[begin] <= t - width:
                begin += 1
            lo[r, k], hi[r, k] = begin, end


@njit(cache=True, nogil=True)
def _side_fell(indices: Any, at: Any, now: int, before: int, shift: int, cells: Any, mine: int, theirs: int) -> bool:
    i, end, k, last = at[now], at[now + 1], at[before], at[before + 1]
    if shift == 0:
        # Mostly buckets are as they were up to where one has come.
        alike, most = 0, min(end - i, last - k)
        while alike < most and indices[i + alike] == indices[k + alike]:
            alike += 1
        fell, a, b = False, np.uint64(mine), np.uint64(theirs)
        for c in range(np.uint64(alike)):
            fell |= cells[a + c] < cells[b + c]
        if fell:
            return True
        i, k = i + alike, k + alike
    while k < last:
        index, total = _coarse(indices[k], shift), 0.0
        while k < last and _coarse(indices[k], shift) == index:
            total += cells[theirs + k - at[before]]
            k += 1
        while i < end and indices[i] < index:
            if cells[mine + i - at[now]] < 0:
                return True
            i += 1
        value = 0.0
        if i < end and indices[i] == index:
            value = cells[mine + i - at[now]]
            i += 1
        if value < total:
            return True
    while i < end:
        if cells[mine + i - at[now]] < 0:
            return True
        i += 1
    return False


@njit(cache=True, nogil=True)
def resets(places: Any, index: Any, layout: Any, starts: Any, cells: Any, hints: Any, shapes: Any, zero: Any, out: Any) -> None:
    """`out[p]` (uint8): 1 where the counter was reset between histogram `index[p - 1]` and `index[p]`, 0 where not, for each of `places`.

    2 where that is for others to find out, since the two are of unlike families: `zero` are those and the widths of zero buckets, by
    layout, and in a family one may differ in the width of a zero bucket that takes no other in.
    """
    families, thresholds = zero
    # Taken out of their tuple once: each time costs a count of who holds them.
    schema, positive, positive_at, negative, negative_at = shapes
    for i in range(len(places)):
        p = places[i]
        now, before = index[p], index[p - 1]
        if hints[now] == _RESET or hints[now] == _NOT_RESET:
            out[p] = hints[now] == _RESET
            continue
        mine, theirs, a, b = starts[now], starts[before], layout[now], layout[before]
        out[p] = 1
        if cells[mine + _COUNT] < cells[theirs + _COUNT]:
            continue
        if a == b:
            fell = False
            near, far = np.uint64(mine + _ZERO), np.uint64(theirs + _ZERO)
            held = _HEAD - _ZERO + positive_at[a + 1] - positive_at[a] + negative_at[a + 1] - negative_at[a]
            for c in range(np.uint64(held)):
                fell |= cells[near + c] < cells[far + c]
            out[p] = fell
        elif families[a] != families[b]:
            out[p] = 2
        elif schema[a] <= schema[b] and not thresholds[a] < thresholds[b] and not cells[mine + _ZERO] < cells[theirs + _ZERO]:
            shift, near, far = schema[b] - schema[a], mine + _HEAD, theirs + _HEAD
            fell = _side_fell(positive, positive_at, a, b, shift, cells, near, far)
            near, far = near + positive_at[a + 1] - positive_at[a], far + positive_at[b + 1] - positive_at[b]
            out[p] = fell or _side_fell(negative, negative_at, a, b, shift, cells, near, far)


@njit(cache=True, nogil=True, error_model="numpy")
def rates(
    lo: Any, hi: Any, ends: Any, times: Any, starts: Any, cells: Any, counts: Any, reset: Any, widths: Any, span: int, how: int,
    out: Any, at: Any,
) -> None:  # fmt: skip
    """`rate` (`how` 0), `increase` (1), `delta` (2), `irate` (3) or `idelta` (4) of windows of histograms, two at least.

    Of anchored windows, which may hold a single one, `increase` is 5, `rate` 6 and `delta` 7: nothing is extrapolated.

    Window w has the samples `lo[w]:hi[w]` (for the last two functions the last two) of `times` (int64 ms) with the counts `counts`, and
    ends at `ends[w]`, `span` ms after it began. Sample j has `widths[w]` cells from `starts[j]` on in `cells`, all of a window in
    one layout; that need not be so of one after which the counter was `reset[j + 1]` at once. They go to `out` from `at[w]` on.
    """
    for w in range(len(lo)):
        begin, end, into, width = lo[w], hi[w], at[w], widths[w]
        last, base = starts[end - 1], starts[begin]
        restarted = how < _ANCHORED and how != _DELTA and how != _IDELTA and reset[begin + 1] == 1
        for c in range(width):
            # What was before a reset at once after the first sample does not count, nor does that sample.
            out[into + c] = cells[last + c] if restarted else cells[last + c] - cells[base + c]
        if how >= _ANCHORED:
            if how != _ANCHORED_DELTA:
                for i in range(begin + 1, end):
                    if reset[i] == 1:
                        for c in range(width):
                            out[into + c] += cells[starts[i - 1] + c]
            if how == _ANCHORED_RATE:
                for c in range(width):
                    out[into + c] /= span / 1000.0
            continue
        sampled = (times[end - 1] - times[begin]) / 1000.0
        if how >= _IRATE:
            if how == _IRATE:
                for c in range(width):
                    out[into + c] /= sampled
            continue
        if how != _DELTA:
            for i in range(begin + 2, end):
                if reset[i] == 1:
                    for c in range(width):
                        out[into + c] += cells[starts[i - 1] + c]
        spacing = sampled / max(1, end - begin - 1)
        to_start, to_end = (times[begin] - (ends[w] - span)) / 1000.0, (ends[w] - times[end - 1]) / 1000.0
        if to_start >= spacing * 1.1:
            to_start = spacing / 2
        if how != _DELTA and out[into + _COUNT] > 0 and counts[begin] >= 0:
            to_start = min(to_start, sampled * (counts[begin] / out[into + _COUNT]))
        if to_end >= spacing * 1.1:
            to_end = spacing / 2
        factor = (sampled + to_start + to_end) / sampled
        if how == _RATE:
            factor /= span / 1000.0
        for c in range(width):
            out[into + c] *= factor


@njit(cache=True, nogil=True)
def accumulated(total: Any, rest: Any, into: int, cells: Any, source: int, count: int, careful: bool) -> bool:
    """Add `count` of `cells`, from `source` on, to `total` from `into` on, with Kahan and Neumaier's compensation in `rest`.

    What is lost of a sum is exact either way: this is Knuth's, which needs not know which of the two is larger. Of an infinite sum
    it is no number, which stays; only where this is `careful`, and slower, is it 0, and is it answered that there is one.
    """
    if not careful:
        # Without a sign no index counts from the end, and the compiler takes several cells at a time.
        a, b = np.uint64(into), np.uint64(source)
        for c in range(np.uint64(count)):
            before, inc = total[a + c], cells[b + c]
            new = before + inc
            part = new - before
            rest[a + c] += (before - (new - part)) + (inc - part)
            total[a + c] = new
        return False
    endless = False
    for i in range(count):
        before, inc = total[into + i], cells[source + i]
        new = before + inc
        part = new - before
        lost = (before - (new - part)) + (inc - part)
        rest[into + i] = 0.0 if np.isinf(new) else rest[into + i] + lost
        total[into + i] = new
        endless |= np.isinf(new)
    return endless


@njit(cache=True, nogil=True)
def _stretches(shapes: Any, own: int, to: int, out: Any, begin: int) -> int:
    """The stretches of cells that stand side by side in layout `own` as they do in layout `to`, which has them all and is of one schema.

    They go to `out` from `begin` on: the first cell in `own`, that in `to`, how many; the end of them is answered.
    """
    out[0, begin], out[1, begin], out[2, begin] = 0, 0, _HEAD
    last, cell, far = begin, _HEAD, _HEAD
    for side in range(2):
        indices, at = (shapes[1], shapes[2]) if side == 0 else (shapes[3], shapes[4])
        u = at[to]
        for b in range(at[own], at[own + 1]):
            while indices[u] < indices[b]:
                u += 1
            if out[1, last] + out[2, last] == far + u - at[to]:
                out[2, last] += 1
            else:
                last += 1
                out[0, last], out[1, last], out[2, last] = cell, far + u - at[to], 1
            cell += 1
        far += at[to + 1] - at[to]
    return last + 1


@njit(cache=True, nogil=True)
def _unsure(total: Any, rest: Any, width: int, mean: bool) -> bool:
    """Whether a sum that was not `careful` may have been infinite somewhere on its way."""
    unsure = False
    for c in range(width):
        # A sum that is no number is none however it came to be; of a mean, who makes it depends on it.
        unsure |= np.isinf(total[c]) or (np.isnan(rest[c]) and (mean or not np.isnan(total[c])))
    return unsure


@njit(cache=True, nogil=True, error_model="numpy")
def summed(
    lo: Any, counts: Any, stride: int, index: Any, layout: Any, starts: Any, cells: Any, hints: Any, shapes: Any, families: Any,
    kinds: int, thresholds: Any, groups: Any, levels: Any, numbers: Any, room: int, mean: bool, out: Any, at: Any, found: Any,
    unions: Any, seen: Any, widest: Any, odd: Any,
) -> None:  # fmt: skip
    """The sum (or mean) of the histograms `index[lo[t] + i * stride]` for `i < counts[t]`, in this order; -1 is none.

    A sum is kept in the union of its group's layouts, of the schema of the coarsest histogram so far: those of group g and family f (of
    `kinds`) are the shapes `numbers[levels[g * kinds + f]:]`, finest first, none with more than `room` cells. `found[t]` histograms
    (int64) came to the cells from `at[t]` on in `out`, in the layout `unions[t]`, with the bits of their hints in `seen[t]` (uint8).
    The zero bucket of the widest of them, of `thresholds` by layout, is `widest[t]`. `odd[t]`: that is for others to find out, since
    families are unlike or a mean would overflow. Here layouts of a family may differ in the width of zero buckets that take no other in.
    """
    total, rest, inc = np.empty(room), np.empty(room), np.empty(room)
    # The stretches of each layout that came, in the union that it came to last.
    made_for, ends = np.full(len(shapes[0]), -1), np.empty(len(shapes[0]), np.int64)
    begins = shapes[2][:-1] + shapes[4][:-1] + np.arange(len(shapes[0]))
    stretches = np.empty((3, len(shapes[1]) + len(shapes[3]) + len(shapes[0])), np.int64)
    for t in range(len(lo)):
        careful = False
        while True:
            now, family, width = -1, -1, 0
            found[t], seen[t], odd[t] = 0, 0, False
            for i in range(counts[t]):
                j = index[lo[t] + i * stride]
                if j < 0:
                    continue
                own, source = layout[j], starts[j]
                seen[t] |= np.uint8(1) << hints[j]
                widest[t] = thresholds[own] if found[t] == 0 else max(widest[t], thresholds[own])
                found[t] += 1
                if now >= 0 and families[own] != family:
                    odd[t] = True
                    break
                schema = shapes[0][own]
                if now < 0 or schema < shapes[0][now]:
                    level = levels[groups[t] * kinds + families[own]]
                    while shapes[0][numbers[level]] > schema:
                        level += 1
                    to = numbers[level]
                    width = _width(shapes, to)
                    if now < 0:
                        family = families[own]
                        total[:width] = 0.0
                        rest[:width] = 0.0
                        _add_moved(shapes, own, to, cells, source, total, 0)
                    else:
                        for column in (total, rest):
                            inc[:width] = 0.0
                            _add_moved(shapes, now, to, column, 0, inc, 0)
                            column[:width] = inc[:width]
                    first, now = now < 0, to
                    if first:
                        for c in range(width):
                            odd[t] |= mean and counts[t] > 1 and np.isinf(total[c])
                        continue
                endless = False
                if schema == shapes[0][now]:
                    if made_for[own] != now:
                        made_for[own], ends[own] = now, _stretches(shapes, own, now, stretches, begins[own])
                    for r in range(begins[own], ends[own]):
                        a, b, few = stretches[0, r], stretches[1, r], stretches[2, r]
                        endless |= accumulated(total, rest, b, cells, source + a, few, careful)
                else:
                    inc[:width] = 0.0
                    _add_moved(shapes, own, now, cells, source, inc, 0)
                    endless |= accumulated(total, rest, 0, inc, 0, width, careful)
                if careful and mean and own != now:
                    for c in range(width):
                        endless |= np.isinf(total[c])
                odd[t] |= mean and endless
            if careful or not _unsure(total, rest, width, mean):
                break
            careful = True
        if found[t] == 0 or odd[t]:
            continue
        unions[t] = now
        into, much = at[t], float(found[t])
        for c in range(width):
            out[into + c] = total[c] / much + rest[c] / much if mean else total[c] + rest[c]


@njit(cache=True, nogil=True)
def ordered(shapes: Any, custom: Any, at: Any, order: Any, index: Any, side: Any) -> None:
    """The buckets of each layout l from the lowest on, from `at[l]` on: the cell, the index, and the sign (0 of the zero bucket).

    Custom buckets (`custom[l]`) are positive ones, and have no zero bucket beside them.
    """
    _schema, positive, positive_at, negative, negative_at = shapes
    for layout in range(len(custom)):
        b, few = at[layout], positive_at[layout + 1] - positive_at[layout]
        for i in range(negative_at[layout + 1] - 1, negative_at[layout] - 1, -1):
            order[b], index[b], side[b] = _HEAD + few + i - negative_at[layout], negative[i], -1
            b += 1
        if not custom[layout]:
            order[b], index[b], side[b] = _ZERO, 0, 0
            b += 1
        for i in range(positive_at[layout], positive_at[layout + 1]):
            order[b], index[b], side[b] = _HEAD + i - positive_at[layout], positive[i], 1
            b += 1


@njit(cache=True, nogil=True)
def log2(value: float) -> float:
    """The logarithm of a bound's size; -infinity of 0, which is where the lowest buckets of all begin."""
    return math.log2(abs(value)) if value != 0.0 else -np.inf


@njit(cache=True, nogil=True)
def _sides(buckets: Any, layout: int, cells: Any, source: int, slim: bool) -> Any:
    """(whether there are positive buckets, and negative ones); with `slim` an empty bucket is none."""
    order, at, positive, negative = buckets[0], buckets[3], buckets[4][layout], buckets[5][layout]
    if not slim:
        return positive > 0, negative > 0
    above, below = False, False
    for b in range(at[layout], at[layout + 1]):
        cell = order[b]
        if cell >= _HEAD and cells[source + cell] != 0:
            if cell < _HEAD + positive:
                above = True
            else:
                below = True
    return above, below


@njit(cache=True, nogil=True, error_model="numpy")
def quantiles(q: Any, items: Any, pool: Any, buckets: Any, out: Any, sign: Any) -> None:
    """The quantile `q[i]` (within [0, 1]) of each of the histograms `items` (int64), with a count other than 0 and a sum.

    `pool` is (layout, starts, cells, slim), with slim (bool) an empty bucket is none. `buckets` are those of each layout from the lowest
    on: (cells int64, lower and upper bounds float64, where a layout's begin int64[l + 1], how many positive and negative ones int64[l],
    whether they are custom ones bool[l]); the zero bucket counts only where it holds anything. Where `sign[i]` (int8) is not 0,
    the quantile is `sign[i] * 2 ** out[i]`: powers are the caller's, whose library the other way of quantiles uses, too.
    """
    layouts, starts, cells, slims = pool
    order, lower, upper, at, _positive, _negative, custom = buckets
    for i in range(len(items)):
        j = items[i]
        layout, source, slim = layouts[j], starts[j], slims[j]
        first, n = at[layout], at[layout + 1] - at[layout]
        count = cells[source + _COUNT]
        forward = q[i] < 0.5
        rank = q[i] * count if forward else (1 - q[i]) * count
        seen, bucket = 0.0, -1
        sign[i] = 0
        for m in range(n):
            b = first + (m if forward else n - 1 - m)
            inside = cells[source + order[b]]
            if (order[b] == _ZERO and inside <= 0) or (slim and inside == 0):
                continue
            bucket = b
            if inside == 0:
                continue
            seen += inside
            if seen >= rank:
                break
        low, high, inside = 0.0, 0.0, 0.0
        if bucket >= 0:
            low, high, inside = lower[bucket], upper[bucket], cells[source + order[bucket]]
        if custom[layout]:
            if low == -np.inf:
                if high <= 0:
                    out[i] = high
                    continue
                low = 0.0
            elif high == np.inf:
                out[i] = low
                continue
        elif low < 0 < high:
            # A zero bucket beside buckets of one sign alone reaches only to that side.
            above, below = _sides(buckets, layout, cells, source, slim)
            if not below and above:
                low = 0.0
            elif not above and below:
                high = 0.0
        seen = min(seen, count)
        if seen < rank:
            out[i] = high
            continue
        rank = rank - (seen - inside) if forward else seen - rank
        fraction = rank / inside if inside != 0 else np.nan
        if custom[layout] or low <= 0 <= high:
            out[i] = low + (high - low) * fraction
        else:
            near, far = log2(low), log2(high)
            sign[i] = 1 if low > 0 else -1
            out[i] = near + (far - near) * fraction if low > 0 else far + (near - far) * (1 - fraction)


@njit(cache=True, nogil=True, error_model="numpy")
def _rank(value: float, layout: int, source: int, slim: bool, cells: Any, buckets: Any) -> Any:
    """How many observations lie below `value`; infinity where all do."""
    order, lower, upper, at, _positive, _negative, custom = buckets
    above, below = _sides(buckets, layout, cells, source, slim)
    rank = 0.0
    for b in range(at[layout], at[layout + 1]):
        count = cells[source + order[b]]
        if (order[b] == _ZERO and count <= 0) or (slim and count == 0):
            continue
        low, high = lower[b], upper[b]
        around_zero = low <= 0 <= high
        if around_zero:
            if not below and above:
                low = 0.0
            elif not above and below:
                high = 0.0
        if low >= value:
            return rank
        if high > value:
            if custom[layout] or around_zero:
                # Nothing is known of where observations lie in a bucket without an end.
                return count if low == -np.inf else rank + count * (value - low) / (high - low)
            near, far, place = log2(low), log2(high), log2(value)
            part = (place - near) / (far - near) if value > 0 else 1 - (place - far) / (near - far)
            return rank + count * part
        rank += count
    return np.inf


@njit(cache=True, nogil=True, error_model="numpy")
def fractions(low: Any, high: Any, items: Any, pool: Any, buckets: Any, out: Any) -> None:
    """The fraction of observations between `low[i]` and `high[i]` of each of the histograms `items`, as for `quantiles`."""
    layouts, starts, cells, slims = pool
    for i in range(len(items)):
        j = items[i]
        layout, source = layouts[j], starts[j]
        below_low = _rank(low[i], layout, source, slims[j], cells, buckets)
        below_high = _rank(high[i], layout, source, slims[j], cells, buckets)
        count = cells[source + _COUNT]
        out[i] = (min(below_high, count) - min(below_low, count)) / count


@njit(cache=True, nogil=True, error_model="numpy")
def variances(items: Any, pool: Any, buckets: Any, out: Any) -> None:
    """The variance of each of the histograms `items`, as for `quantiles`, as if all observations of a bucket lay in its middle."""
    layouts, starts, cells, _slims = pool
    order, lower, upper, at, _positive, _negative, custom = buckets
    for i in range(len(items)):
        layout, source = layouts[items[i]], starts[items[i]]
        mean = cells[source + _SUM] / cells[source + _COUNT]
        total, rest = 0.0, 0.0
        for b in range(at[layout], at[layout + 1]):
            count = cells[source + order[b]]
            if count == 0 or (order[b] == _ZERO and count < 0):
                continue
            low, high = lower[b], upper[b]
            if custom[layout]:
                middle = (high + low) / 2
            elif low <= 0 <= high:
                middle = 0.0
            else:
                middle = math.copysign(math.sqrt(high * low), high)
            inc = count * (middle - mean) * (middle - mean)
            new = total + inc
            if np.isinf(new):
                rest = 0.0
            elif abs(total) >= abs(inc):
                rest += (total - new) + inc
            else:
                rest += (inc - new) + total
            total = new
        out[i] = (total + rest) / cells[source + _COUNT]
