"""Grouping rows of a label table by their label sets, and aggregating matrices by group.

Label tables are CSR: row r has pairs `offsets[r]:offsets[r+1]` of `names`, `values` (int32 symbols), in one fixed order
of names, so two rows are equal exactly when their pairs are. Groups are numbered in order of first appearance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.lanes import kahan
from vedette.kernels.quantiles import quantile_of

SUM, AVG, COUNT, MIN, MAX, GROUP, STDVAR, STDDEV, MEAN = range(9)
"""Codes of `accumulate`."""


@njit(cache=True, nogil=True, inline="always")
def _in(wanted: Any, name: int) -> bool:
    for i in range(len(wanted)):  # noqa: SIM110 - a kernel cannot be a generator expression
        if wanted[i] == name:
            return True
    return False


@njit(cache=True, nogil=True)
def _same(offsets: Any, names: Any, values: Any, wanted: Any, without: bool, a: int, b: int) -> bool:
    """Whether rows a and b have the same pairs, of those looked at."""
    i, i_end = offsets[a], offsets[a + 1]
    j, j_end = offsets[b], offsets[b + 1]
    while True:
        while i < i_end and _in(wanted, names[i]) == without:
            i += 1
        while j < j_end and _in(wanted, names[j]) == without:
            j += 1
        if i == i_end or j == j_end:
            return bool(i == i_end and j == j_end)
        if names[i] != names[j] or values[i] != values[j]:
            return False
        i += 1
        j += 1


@njit(cache=True, nogil=True)
def group_rows(offsets: Any, names: Any, values: Any, wanted: Any, without: bool, groups: Any, first: Any) -> int:
    """Number rows by their labels in `wanted` (int32 name symbols), or by all others with `without`.

    `groups` int64[n] gets each row's group, `first` int64[n] each group's first row; returns the number of groups.
    """
    n = len(offsets) - 1
    size = 16
    while size < 2 * n:
        size *= 2
    slots = np.full(size, -1, dtype=np.int64)
    hashes = np.empty(n, dtype=np.uint64)
    mask = np.uint64(size - 1)
    count = 0
    for r in range(n):
        h = np.uint64(0x9E3779B97F4A7C15)
        for i in range(offsets[r], offsets[r + 1]):
            if _in(wanted, names[i]) != without:
                h = (h ^ (np.uint64(names[i]) << np.uint64(32) | np.uint64(np.uint32(values[i])))) * np.uint64(0xD6E8FEB86659FD93)
                h ^= h >> np.uint64(29)
        at = (h ^ (h >> np.uint64(32))) & mask
        while True:
            g = slots[at]
            if g < 0:
                slots[at] = count
                hashes[count] = h
                first[count] = r
                groups[r] = count
                count += 1
                break
            if hashes[g] == h and _same(offsets, names, values, wanted, without, first[g], r):
                groups[r] = g
                break
            at = (at + np.uint64(1)) & mask
    return count


@njit(cache=True, nogil=True)
def keep_pairs(offsets: Any, names: Any, values: Any, wanted: Any, without: bool, out_offsets: Any, out_names: Any, out_values: Any) -> int:
    """Copy a table with only the labels in `wanted`, or without them; returns how many pairs were written."""
    at = 0
    for r in range(len(offsets) - 1):
        out_offsets[r] = at
        for i in range(offsets[r], offsets[r + 1]):
            if _in(wanted, names[i]) != without:
                out_names[at] = names[i]
                out_values[at] = values[i]
                at += 1
    out_offsets[len(offsets) - 1] = at
    return at


@njit(cache=True, nogil=True, error_model="numpy")
def _add(values: Any, present: Any, acc: Any, comp: Any, count: Any) -> None:
    """One row into Kahan sums; without branches, so that it runs in vector registers. Adding 0 leaves a sum as it is."""
    for k in range(len(values)):
        v = values[k] if present[k] else 0.0
        total = acc[k]
        t = total + v
        large = (total - t) + v
        small = (v - t) + total
        c = comp[k] + (large if abs(total) >= abs(v) else small)
        comp[k] = 0.0 if np.isinf(t) else c
        acc[k] = t
        count[k] += 1.0 if present[k] else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _extremes(values: Any, present: Any, acc: Any, count: Any, sign: float) -> None:
    """One row into greatest (sign 1) or least (-1) values."""
    for k in range(len(values)):
        v = values[k]
        a = acc[k]
        taken = present[k] and (count[k] == 0.0 or a * sign < v * sign or np.isnan(a))
        acc[k] = v if taken else a
        count[k] += 1.0 if present[k] else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _deviate(values: Any, present: Any, acc: Any, mean: Any, count: Any) -> None:
    """One row into sums of squared deviations and means, by Welford's scheme; without branches."""
    for k in range(len(values)):
        v, m = values[k], count[k] + 1.0
        first = m == 1.0
        delta = v - mean[k]
        new = v if first else mean[k] + delta / m
        more = acc[k] + delta * (v - new)
        start = 0.0 if abs(v) < np.inf else np.nan
        there = present[k]
        acc[k] = (start if first else more) if there else acc[k]
        mean[k] = new if there else mean[k]
        count[k] = m if there else count[k]


@njit(cache=True, nogil=True, error_model="numpy")
def accumulate(code: int, values: Any, present: Any, groups: Any, acc: Any, comp: Any, count: Any) -> None:
    """Add the rows of `values` to the groups' running aggregates.

    `acc`, `comp`, `count` float64[G, n], zero at first: the aggregate, its compensation (the mean, for variances), and how many
    samples went in; `finish` makes the result. `AVG` is a sum here; where that overflows, start again with `MEAN`, whose count
    is below zero once it has turned to the incremental scheme.
    """
    for r in range(values.shape[0]):
        g = groups[r]
        if code in (SUM, AVG):
            _add(values[r], present[r], acc[g], comp[g], count[g])
            continue
        if code in (MAX, MIN):
            _extremes(values[r], present[r], acc[g], count[g], 1.0 if code == MAX else -1.0)
            continue
        if code in (COUNT, GROUP):
            there, counts = present[r], count[g]
            for k in range(len(there)):
                counts[k] += 1.0 if there[k] else 0.0
            continue
        if code in (STDVAR, STDDEV):
            _deviate(values[r], present[r], acc[g], comp[g], count[g])
            continue
        for k in range(values.shape[1]):
            if not present[r, k]:
                continue
            c = count[g, k]
            v = values[r, k]
            if c == 0.0:
                count[g, k] = 1.0
                acc[g, k] = v
                continue
            m = abs(c) + 1.0
            if c > 0.0:
                total, rest = kahan(v, acc[g, k], comp[g, k])
                if not np.isinf(total):
                    acc[g, k] = total
                    comp[g, k] = rest
                    count[g, k] = m
                    continue
                acc[g, k] /= m - 1.0
                comp[g, k] /= m - 1.0
            q = (m - 1.0) / m
            acc[g, k], comp[g, k] = kahan(v / m, q * acc[g, k], q * comp[g, k])
            count[g, k] = -m


@njit(cache=True, nogil=True, error_model="numpy")
def merge(code: int, acc: Any, comp: Any, count: Any, more: Any, more_comp: Any, more_count: Any) -> None:
    """Add another thread's running aggregates to the first's; for all codes but MEAN and the variances."""
    for g in range(acc.shape[0]):
        if code in (SUM, AVG):
            _add(more[g], more_count[g] > 0.0, acc[g], comp[g], count[g])
            for k in range(acc.shape[1]):
                comp[g, k] += more_comp[g, k]
                count[g, k] += max(0.0, more_count[g, k] - 1.0)
        elif code in (MAX, MIN):
            _extremes(more[g], more_count[g] > 0.0, acc[g], count[g], 1.0 if code == MAX else -1.0)
        else:
            for k in range(acc.shape[1]):
                count[g, k] += more_count[g, k]


@njit(cache=True, nogil=True, error_model="numpy")
def finish(code: int, acc: Any, comp: Any, count: Any, present: Any) -> None:
    """Turn running aggregates into results, in place of `acc`; `present` where any sample went in."""
    for g in range(acc.shape[0]):
        for k in range(acc.shape[1]):
            c = count[g, k]
            present[g, k] = c != 0.0
            if c == 0.0:
                continue
            if code == SUM:
                acc[g, k] += comp[g, k]
            elif code == COUNT:
                acc[g, k] = c
            elif code == GROUP:
                acc[g, k] = 1.0
            elif code in (AVG, MEAN):
                acc[g, k] = acc[g, k] / c + comp[g, k] / c if c > 0.0 else acc[g, k] + comp[g, k]
            elif code == STDVAR:
                acc[g, k] /= c
            elif code == STDDEV:
                acc[g, k] = np.sqrt(acc[g, k] / c)


@njit(cache=True, nogil=True, error_model="numpy")
def group_quantile(values: Any, present: Any, starts: Any, rows: Any, q: Any, first: int, last: int, out: Any, out_present: Any) -> None:
    """`quantile` by group, of the steps `first` to `last`: group g has rows `rows[starts[g]:starts[g+1]]`; `q` float64[n]."""
    longest = 0
    for g in range(len(starts) - 1):
        longest = max(longest, starts[g + 1] - starts[g])
    # Eight steps at once: a row's are beside one another in memory.
    scratch = np.empty((8, longest), dtype=np.float64)
    counts = np.empty(8, dtype=np.int64)
    for g in range(len(starts) - 1):
        for k in range(first, last, 8):
            m = min(8, last - k)
            counts[:] = 0
            for i in range(starts[g], starts[g + 1]):
                r = rows[i]
                for j in range(m):
                    if present[r, k + j]:
                        scratch[j, counts[j]] = values[r, k + j]
                        counts[j] += 1
            for j in range(m):
                out_present[g, k + j] = counts[j] > 0
                if counts[j] > 0:
                    out[g, k + j] = quantile_of(q[k + j], scratch[j], counts[j])


@njit(cache=True, nogil=True)
def merge_rows(values: Any, present: Any, groups: Any, out: Any, out_present: Any) -> int:
    """Lay rows of the same group over one another; returns a row that collides with an earlier one at some step, or -1."""
    for r in range(values.shape[0]):
        g = groups[r]
        for k in range(values.shape[1]):
            if present[r, k]:
                if out_present[g, k]:
                    return r
                out_present[g, k] = True
                out[g, k] = values[r, k]
    return -1


@njit(cache=True, nogil=True)
def any_present(present: Any, groups: Any, out: Any) -> None:
    """`out[g, k]` (bool, False at first) says whether any row of the group is present."""
    for r in range(present.shape[0]):
        g = groups[r]
        for k in range(present.shape[1]):
            if present[r, k]:
                out[g, k] = True


@njit(cache=True, nogil=True)
def first_of(present: Any, groups: Any, limits: Any, taken: Any, keep: Any) -> None:
    """`keep[r, k]` (bool) says whether row r is among the first `limits[k]` of its group that are present at step k.

    `taken` int64[G, n], zero at first, counts them.
    """
    for r in range(present.shape[0]):
        counts = taken[groups[r]]
        for k in range(present.shape[1]):
            keep[r, k] = present[r, k] and counts[k] < limits[k]
            counts[k] += keep[r, k]


@njit(cache=True, nogil=True, error_model="numpy")
def count_values(values: Any, present: Any, groups: Any, slots: Any, group_of: Any, value_of: Any, counts: Any) -> int:
    """How often each value stands in each group at each step: one entry for each pair of a group and a value, in the order found.

    `slots` int64[size] (-1 at first, a power of two of them), `group_of` int64[most], `value_of` float64[most] and `counts`
    float64[most, n] (0 at first) are filled; returns how many entries there are, or -1 where there are more than `most`, at most half
    of the slots. All NaN are one value; 0 and -0 are two.
    """
    mask = np.uint64(len(slots) - 1)
    bits = values.view(np.int64)
    found = 0
    for r in range(values.shape[0]):
        g = groups[r]
        last: Any = np.int64(0)
        entry: Any = np.int64(-1)
        for k in range(values.shape[1]):
            if not present[r, k]:
                continue
            b = bits[r, k] if values[r, k] == values[r, k] else np.int64(0x7FF8000000000001)
            if entry < 0 or b != last:
                last = b
                h = (np.uint64(b) ^ (np.uint64(g) * np.uint64(0xD6E8FEB86659FD93))) * np.uint64(0x9E3779B97F4A7C15)
                at = (h ^ (h >> np.uint64(32))) & mask
                while True:
                    entry = slots[at]
                    if entry < 0:
                        if found == len(group_of):
                            return -1
                        entry = found
                        slots[at] = entry
                        group_of[entry] = g
                        value_of[entry] = values[r, k]
                        found += 1
                        break
                    v = value_of[entry]
                    if group_of[entry] == g and (
                        (v != v and values[r, k] != values[r, k]) or value_of[entry : entry + 1].view(np.int64)[0] == b
                    ):
                        break
                    at = (at + np.uint64(1)) & mask
            counts[entry, k] += 1.0
    return found
