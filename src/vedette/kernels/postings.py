"""The label index as arrays: pair keys to ascending series ids, and sets of ids.

A pair key is uint64: the name's symbol in the upper half, the value's in the lower. Label columns are four arrays: series s has the values
`values[offsets[s]:offsets[s + 1]]` and as many names from `names[at[s]]` on, which series with the same names may share; where
none do, `at` is `offsets`. Not here: which series a tenant has, and matchers (`storage/index.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _place(table: Any, keys: Any, key: np.uint64, mask: np.uint64) -> int:
    """Where in the table `key` is, or belongs."""
    mixed = key * np.uint64(0x9E3779B97F4A7C15)
    i = (mixed ^ (mixed >> np.uint64(32))) & mask
    while table[i] >= 0 and keys[table[i]] != key:
        i = (i + np.uint64(1)) & mask
    return int(np.int64(i))


@njit(cache=True, nogil=True)
def build(ids: Any, offsets: Any, at: Any, names: Any, values: Any) -> tuple[Any, Any, Any]:
    """(keys uint64[k] ascending, starts int64[k + 1], postings uint32[...]) of the series `ids` (uint32[n], ascending).

    The series with pair k are `postings[starts[k]:starts[k + 1]]`, ascending.
    """
    pairs = 0
    for j in range(len(ids)):
        pairs += offsets[ids[j] + 1] - offsets[ids[j]]
    # Few pairs are distinct: the table grows with them, and of what is as long as the pairs only what they need is touched.
    table = np.full(1024, -1, np.int32)
    keys = np.empty(pairs, np.uint64)
    counts = np.empty(pairs, np.int64)
    slots = np.empty(pairs, np.int32)
    mask = np.uint64(len(table) - 1)
    distinct, done = 0, 0
    for j in range(len(ids)):
        shift = at[ids[j]] - offsets[ids[j]]
        for p in range(offsets[ids[j]], offsets[ids[j] + 1]):
            key = np.uint64(names[p + shift]) << np.uint64(32) | np.uint64(values[p])
            i = _place(table, keys, key, mask)
            if table[i] < 0:
                if 2 * distinct >= len(table):
                    table = np.full(2 * len(table), -1, np.int32)
                    mask = np.uint64(len(table) - 1)
                    for known in range(distinct):
                        table[_place(table, keys, keys[known], mask)] = known
                    i = _place(table, keys, key, mask)
                table[i] = distinct
                keys[distinct] = key
                counts[distinct] = 0
                distinct += 1
            counts[table[i]] += 1
            slots[done] = table[i]
            done += 1
    order = np.argsort(keys[:distinct])
    sorted_keys = np.empty(distinct, np.uint64)
    starts = np.zeros(distinct + 1, np.int64)
    cursor = np.empty(distinct, np.int64)
    for rank in range(distinct):
        sorted_keys[rank] = keys[order[rank]]
        cursor[order[rank]] = starts[rank]
        starts[rank + 1] = starts[rank] + counts[order[rank]]
    postings = np.empty(pairs, np.uint32)
    done = 0
    for j in range(len(ids)):
        for _ in range(offsets[ids[j]], offsets[ids[j] + 1]):
            postings[cursor[slots[done]]] = ids[j]
            cursor[slots[done]] += 1
            done += 1
    return sorted_keys, starts, postings


@njit(cache=True, nogil=True)
def pack(starts: Any, ids: Any, places: Any, out: Any) -> int:
    """Each list `ids[starts[k]:starts[k + 1]]` (uint32, ascending) as varints of what lies between one id and the next.

    List k's bytes begin at `places[k]`, int64[k + 1]; `out` uint8 has five bytes for each id. Answers the bytes used.
    """
    at = 0
    for k in range(len(starts) - 1):
        places[k] = at
        before: Any = -1
        for j in range(starts[k], starts[k + 1]):
            gap = np.int64(ids[j]) - before - 1
            before = np.int64(ids[j])
            while gap >= 128:
                out[at] = gap & 127 | 128
                gap >>= 7
                at += 1
            out[at] = gap
            at += 1
    places[len(starts) - 1] = at
    return at


@njit(cache=True, nogil=True)
def unpack(data: Any, places: Any, starts: Any, lists: Any, only_first: bool, out: Any) -> None:
    """The ids of the packed `lists` (int64[m], as `pack` numbers them) end to end, to `out` uint32; of each the first alone, if
    `only_first`.
    """
    done = 0
    for m in range(len(lists)):
        k = lists[m]
        at, before = places[k], np.int64(-1)
        for _ in range(1 if only_first else starts[k + 1] - starts[k]):
            gap, shift = np.int64(data[at] & 127), 7
            while data[at] >= 128:
                at += 1
                gap |= np.int64(data[at] & 127) << shift
                shift += 7
            at += 1
            before += gap + 1
            out[done] = before
            done += 1


@njit(cache=True, nogil=True)
def intersect(a: Any, b: Any, keep: bool, out: Any) -> int:
    """What of `a` is in `b` (`keep`) or is not (otherwise), both ascending uint32; answers how many `out` got."""
    n, j, m = 0, 0, len(b)
    for i in range(len(a)):
        x = a[i]
        if j < m and b[j] < x:
            # Leap ahead in doubling steps, so that a short list against a long one costs its own length.
            step = 1
            while j + step < m and b[j + step] < x:
                j += step
                step *= 2
            hi = min(j + step, m)
            while j < hi:
                mid = (j + hi) // 2
                if b[mid] < x:
                    j = mid + 1
                else:
                    hi = mid
        if (j < m and b[j] == x) == keep:
            out[n] = x
            n += 1
    return n


@njit(cache=True, nogil=True)
def label_column(ids: Any, offsets: Any, at: Any, names: Any, values: Any, name: int, out: Any) -> None:
    """`out` int32[n]: the value's symbol of label `name` for series `ids`, -1 where it is absent."""
    for j in range(len(ids)):
        out[j] = -1
        shift = at[ids[j]] - offsets[ids[j]]
        for p in range(offsets[ids[j]], offsets[ids[j] + 1]):
            if names[p + shift] == name:
                out[j] = values[p]
                break


@njit(cache=True, nogil=True)
def take_labels(ids: Any, offsets: Any, at: Any, names: Any, values: Any, out_offsets: Any, out_names: Any, out_values: Any) -> int:
    """The label pairs of series `ids` as CSR, names beside values. Answers the pairs needed; a first call with empty outputs measures."""
    place = 0
    out_offsets[0] = 0
    for j in range(len(ids)):
        lo, hi = offsets[ids[j]], offsets[ids[j] + 1]
        if place + hi - lo <= len(out_names):
            first = at[ids[j]]
            for k in range(hi - lo):
                out_names[place + k] = names[first + k]
                out_values[place + k] = values[lo + k]
        place += hi - lo
        out_offsets[j + 1] = place
    return place
