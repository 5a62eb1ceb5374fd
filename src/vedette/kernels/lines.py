"""Series to lines of exposition text, a piece of them at a time, and what they need first: which texts, in which order.

Texts are copied in words of eight bytes, so that a short one takes a step or two: what is read from ends with eight bytes to spare, and
so does what is written to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.digits import ABSENT, paste, write_number
from vedette.kernels.digits import SPARE as SPARE

_ROOM = 32
"""A value of few digits takes up to 24 bytes, and a line's own marks four."""


@njit(cache=True, nogil=True)
def survey(rows: Any, offsets: Any, names: Any, values: Any, metric: int, used_names: Any, used_values: Any, rank: Any, which: Any) -> int:
    """What lines of `rows` need of a label table; answers how many metrics they are of, -1 where one is of none.

    `used_names`, `used_values` (bool, by symbol) become true for all but the metrics' own pair; `rank` (int32, by symbol, -1 before) tells
    which metric comes first, second and so on, and `which` (int32[n]) that of each row. `metric` is the symbol of the metric's label.
    """
    count = 0
    for j in range(len(rows)):
        which[j] = -1
        for i in range(offsets[rows[j]], offsets[rows[j] + 1]):
            if names[i] == metric:
                if rank[values[i]] < 0:
                    rank[values[i]] = count
                    count += 1
                which[j] = rank[values[i]]
            else:
                used_names[names[i]] = True
                used_values[values[i]] = True
        if which[j] < 0:
            return -1
    return count


@njit(cache=True, nogil=True)
def in_places(which: Any, place: Any, starts: Any, order: Any) -> None:
    """Rows by the places of their metrics, those of one place as they come: `order` int64[n]; `starts` int64[places + 1], zeros before."""
    for j in range(len(which)):
        starts[place[which[j]] + 1] += 1
    for k in range(1, len(starts)):
        starts[k] += starts[k - 1]
    at = starts.copy()
    for j in range(len(which)):
        k = place[which[j]]
        order[at[k]] = j
        at[k] += 1


@njit(cache=True, nogil=True)
def lines(
    begin: int,
    rows: Any,
    which: Any,
    offsets: Any,
    names: Any,
    values: Any,
    metric: int,
    name_at: Any,
    value_at: Any,
    heads: Any,
    inside: Any,
    pool: Any,
    pool_offsets: Any,
    before: Any,
    whole: Any,
    places: Any,
    hard: Any,
    hard_offsets: Any,
    hard_begin: int,
    out: Any,
) -> tuple[int, int, int]:
    """Lines of `rows`, from `begin` on, while `out` has room: `name{a="b"} 1`; answers (the next row, the next of `hard`, bytes written).

    `name_at` and `value_at` (by symbol), `heads` (by metric, which row j has `which[j]`) and `before[j]` (what is to stand before line j,
    -1 for nothing) are indices into the texts of the pool: `a=`, `"b"`, the metric, which stands within the braces where `inside`. Values
    are `whole[j]` and `places[j]` (`shortest.decimals`), or where these are `ABSENT` the next text of `hard`.
    """
    at, h = 0, hard_begin
    end = len(out) - SPARE - _ROOM
    for j in range(begin, len(rows)):
        line = at
        if before[j] >= 0:
            lo, hi = pool_offsets[before[j]], pool_offsets[before[j] + 1]
            if at + hi - lo > end:
                return j, h, line
            at = paste(out, at, pool, lo, hi)
        opened = inside[which[j]]
        if opened:
            out[at] = 123
            at += 1
        lo, hi = pool_offsets[heads[which[j]]], pool_offsets[heads[which[j]] + 1]
        if at + hi - lo > end:
            return j, h, line
        at = paste(out, at, pool, lo, hi)
        for i in range(offsets[rows[j]], offsets[rows[j] + 1]):
            if names[i] == metric:
                continue
            n, v = name_at[names[i]], value_at[values[i]]
            lo, hi = pool_offsets[n], pool_offsets[n + 1]
            from_, to = pool_offsets[v], pool_offsets[v + 1]
            if at + (hi - lo) + (to - from_) + 1 > end:
                return j, h, line
            out[at] = 44 if opened else 123
            opened = True
            at = paste(out, at + 1, pool, lo, hi)
            at = paste(out, at, pool, from_, to)
        if opened:
            out[at] = 125
            at += 1
        out[at] = 32
        at += 1
        if places[j] != ABSENT:
            at = write_number(out, at, whole[j], np.int64(places[j]))
        else:
            lo, hi = hard_offsets[h], hard_offsets[h + 1]
            if at + hi - lo > end:
                return j, h, line
            at = paste(out, at, hard, lo, hi)
            h += 1
        out[at] = 10
        at += 1
    return len(rows), h, at
