"""Open-addressing tables from 96-bit hashes to small integers, and the splitting of canonical label bytes.

A table is uint64[capacity, 2], at most four fifths full: the first hash, and the upper half of the second above 0 for an
empty slot or else `2 + id` (uint32). A key's place is that part of the table that its first hash is of all that there are, so that a larger
table, of any size, is filled from a smaller one in order. Two keys with equal hashes are taken as one.
Not here: growth and what ids mean (`storage/series.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.hashing import load_u64

DROPPED = -1
"""The id of a key that is known and not stored."""

MISSING = -2
"""What `find` answers for a key that it does not know."""


_ID = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


@njit(cache=True, nogil=True)
def _slot(table: Any, h1: np.uint64, h2: np.uint64) -> int:
    """The slot that holds the key, or the empty one where it belongs. Only the upper half of `h2` counts."""
    i = np.int64((h1 >> _HALF) * np.uint64(len(table)) >> _HALF)
    while table[i, 1] != 0 and (table[i, 0] != h1 or table[i, 1] >> _HALF != h2 >> _HALF):
        i += 1
        if i == len(table):
            i = np.int64(0)
    return int(i)


@njit(cache=True, nogil=True)
def find(table: Any, hashes: Any, out: Any) -> int:
    """`out` int64[n]: the id of each of `hashes` uint64[n, 2], DROPPED or MISSING. Answers how many are missing."""
    missing = 0
    for row in range(len(hashes)):
        i = _slot(table, hashes[row, 0], hashes[row, 1])
        out[row] = np.int64(table[i, 1] & _ID) - 2
        if table[i, 1] == 0:
            missing += 1
    return missing


@njit(cache=True, nogil=True)
def insert(table: Any, hashes: Any, ids: Any) -> int:
    """Set `ids` int64[n] (or DROPPED) as the ids of `hashes`; answers how many were not there. There must be room."""
    added = 0
    for row in range(len(hashes)):
        i = _slot(table, hashes[row, 0], hashes[row, 1])
        if table[i, 1] == 0:
            added += 1
        table[i, 0] = hashes[row, 0]
        table[i, 1] = hashes[row, 1] >> _HALF << _HALF | np.uint64(ids[row] + 2)
    return added


@njit(cache=True, nogil=True)
def find_or_add(table: Any, hashes: Any, next_id: int, out: Any, new_rows: Any) -> int:
    """As `find`, but a key that is missing gets the next id from `next_id` on, its row noted in `new_rows`.

    Answers how many are new. There must be room.
    """
    added = 0
    for row in range(len(hashes)):
        i = _slot(table, hashes[row, 0], hashes[row, 1])
        if table[i, 1] == 0:
            table[i, 0] = hashes[row, 0]
            table[i, 1] = hashes[row, 1] >> _HALF << _HALF | np.uint64(next_id + added + 2)
            new_rows[added] = row
            added += 1
        out[row] = np.int64(table[i, 1] & _ID) - 2
    return added


@njit(cache=True, nogil=True)
def refill(old: Any, new: Any, ids: Any) -> int:
    """Fill the empty table `new` from `old`, with `ids[i]` (int64) in place of i unless `ids` is empty. Answers the entries.

    What is below 0 there is left out; keys that are known and not stored stay.
    """
    count = 0
    for row in range(len(old)):
        if old[row, 1] == 0:
            continue
        value = np.int64(old[row, 1] & _ID) - 2
        if value >= 0 and len(ids) > 0:
            value = ids[value]
            if value < 0:
                continue
        i = _slot(new, old[row, 0], old[row, 1])
        new[i, 0] = old[row, 0]
        new[i, 1] = old[row, 1] >> _HALF << _HALF | np.uint64(value + 2)
        count += 1
    return count


@njit(cache=True, nogil=True)
def split_canonical(buffer: Any, offsets: Any, rows: Any, out_offsets: Any, starts: Any, ends: Any) -> int:
    """Where the texts of canonical keys lie: name and value of each pair in turn.

    Key r is `buffer[offsets[r]:offsets[r + 1]]`; of the keys `rows` int64[k], key j's texts are `out_offsets[j]:
    out_offsets[j + 1]` of `starts` and `ends` (int64, as many as the keys have bytes at most). Answers their number.
    """
    at = 0
    out_offsets[0] = 0
    for j in range(len(rows)):
        begin = offsets[rows[j]]
        for i in range(begin, offsets[rows[j] + 1]):
            if buffer[i] == 0xFF:
                starts[at] = begin
                ends[at] = i
                at += 1
                begin = i + 1
        out_offsets[j + 1] = at
    return at


@njit(cache=True, nogil=True)
def first_texts(buffer: Any, offsets: Any, starts: Any, ends: Any, firsts: Any, like: Any) -> int:
    """Which texts are not those at the same place of the key before: neighbours have most of their labels in common.

    As `split_canonical` answers: key j's texts are `offsets[j]:offsets[j + 1]` of `starts` and `ends`. `firsts` int64 gets the
    texts that differ from it, `like` int64 for each text which of those it is. Answers how many differ.
    """
    count = 0
    for j in range(len(offsets) - 1):
        for t in range(offsets[j], offsets[j + 1]):
            before = t - offsets[j] + offsets[j - 1] if j > 0 else -1
            same = before >= 0 and before < offsets[j] and ends[t] - starts[t] == ends[before] - starts[before]
            if same:
                a, b, stop = starts[t], starts[before], ends[t]
                while same and a + 8 <= stop:
                    same = load_u64(buffer, a) == load_u64(buffer, b)
                    a += 8
                    b += 8
                while same and a < stop:
                    same = buffer[a] == buffer[b]
                    a += 1
                    b += 1
            if same:
                like[t] = like[before]
            else:
                firsts[count] = t
                like[t] = count
                count += 1
    return count


@njit(cache=True, nogil=True)
def join_canonical(
    ids: Any, offsets: Any, at: Any, names: Any, values: Any, text_offsets: Any, texts: Any, out_offsets: Any, out: Any
) -> int:
    """The canonical keys of series `ids`, end to end: `out_offsets` int64[n + 1] always, `out` uint8[...] where it is long enough.

    Label columns are as in `postings.py`. Answers the bytes needed; nothing is written beyond `out`, so a first call with an empty
    `out` measures.
    """
    place = 0
    out_offsets[0] = 0
    for j in range(len(ids)):
        shift = at[ids[j]] - offsets[ids[j]]
        for p in range(offsets[ids[j]], offsets[ids[j] + 1]):
            for symbol in (names[p + shift], values[p]):
                lo, hi = text_offsets[symbol], text_offsets[symbol + 1]
                if place + (hi - lo) + 1 <= len(out):
                    for k in range(lo, hi):
                        out[place + k - lo] = texts[k]
                    out[place + hi - lo] = 0xFF
                place += hi - lo + 1
        out_offsets[j + 1] = place
    return place
