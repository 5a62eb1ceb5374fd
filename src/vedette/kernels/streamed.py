"""Functions of windows right out of chunks in memory: what `head.gather_surveyed` reads and a kernel of windows makes of it, slab by slab.

Each slab is read, used and written over by the next one without coming back to Python, where two threads would wait for each other
every fifth of a millisecond. Not here: reads from blocks and functions that are given whole columns (`promql/window_functions.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.bordered import bordered
from vedette.kernels.codes import AVG, DERIV, MAX, MIN, PREDICT, STDDEV, STDVAR, SUM
from vedette.kernels.extremes import extreme_values
from vedette.kernels.head import NEVER, gather_surveyed
from vedette.kernels.skim import LINES, SUMMED
from vedette.kernels.summed import summed
from vedette.kernels.tallied import tallied
from vedette.kernels.thinned import AT, KEPT_ROWS, STANDS, thinned
from vedette.kernels.windows import each, extrapolated, last_sample

EXTRAPOLATED = 100
"""Codes from here on are `windows.extrapolated`'s."""
LAST_VALUE, LAST_TIME = 200, 201
"""The codes of `windows.last_sample`."""

_SPARSE, _BETWEEN = 64, 12
"""Samples for each border, from which on the others are passed by: for sums, and where only those at the borders count."""
BORDERED = 2
"""What is wanted besides `skim.SUMMED` and `LINES`."""
_SHARED = 5
"""What windows on both sides of a cut share is read twice, a fifth of all at most."""


@njit(cache=True, nogil=True)
def _drop_stale(offsets: Any, times: Any, values: Any) -> None:
    """Move samples over the stale markers before them; `offsets` are changed."""
    bits = values.view(np.int64)
    at: Any = np.int64(offsets[0])
    begin: Any = at
    for r in range(len(offsets) - 1):
        end: Any = np.int64(offsets[r + 1])
        for i in range(begin, end):
            if bits[i] != 0x7FF0000000000002:
                times[at], bits[at] = times[i], bits[i]
                at += 1
        begin = end
        offsets[r + 1] = at


@njit(cache=True, nogil=True)
def _thinly(code: int, step: int, n: int, range_ms: int, samples: float) -> int:
    """As what rows of so many samples each are read at the windows' borders alone: `BORDERED`, `skim.SUMMED` or `LINES`; -1 for not."""
    if code < EXTRAPOLATED and code not in (SUM, AVG, DERIV, PREDICT):
        return -1
    borders = n if code >= LAST_VALUE or (step and range_ms % step == 0) else 2 * n
    if code >= EXTRAPOLATED:
        return BORDERED if borders * _BETWEEN <= samples else -1
    return (SUMMED if code in (SUM, AVG) else LINES) if borders * _SPARSE <= samples else -1


@njit(cache=True, nogil=True, error_model="numpy")
def windows(
    code: int, tails: Any, held: Any, newest: Any, old_tails: Any, upto: Any, arena: Any, old_arena: Any,
    first: int, step: int, n: int, range_ms: int, share: float, slab: int, p0: Any, p1: Any, at: Any,
    times: Any, bits: Any, counts: Any, out: Any, present: Any,
) -> int:  # fmt: skip
    """The function `code` of the windows `(t - range_ms, t]`, t = first + k * step for k < n, of rows as `head.survey` found them.

    `upto` int64[rows + 1] is how many samples the rows before have at most, about a `share` of which is wanted; some `slab` samples are
    read at once, into `times` and `bits` (int64). `p0`, `p1` float64[n] and `at` int64[n] are `windows.over_time`'s parameters and
    times. Sets `counts` (int64[rows], samples read), `out` and `present` ([rows, n]). Answers how many rows were done: all, or those before
    one for which there is no room.
    """
    values = bits.view(np.float64)
    rows = len(tails)
    most_cuts = min(n, 1 + n * step // max(1, _SHARED * range_ms)) if step else 1
    kept = np.empty((0, 0), dtype=np.int64)
    lo = 0
    while lo < rows:
        stop = lo + 1
        while stop < rows and upto[stop + 1] - upto[lo] <= slab:
            stop += 1
        samples = (upto[stop] - upto[lo]) * share / (stop - lo)
        kind = _thinly(code, step, n, range_ms, samples)
        done = False
        if kind == BORDERED:
            done = bordered(
                tails[lo:stop], held[lo:stop], newest[lo:stop], old_tails[lo:stop], arena, old_arena, first, step, n, range_ms,
                code - EXTRAPOLATED if code < LAST_VALUE else -1, code == LAST_TIME, counts[lo:stop], out[lo:stop], present[lo:stop],
            )  # fmt: skip
        elif kind >= 0:
            offsets, bases = np.empty(stop - lo + 1, dtype=np.int64), np.empty(stop - lo, dtype=np.int64)
            if kept.shape[1] == 0:
                # Of what is not used of it there is no memory; the rest is used by all slabs.
                kept = np.empty((KEPT_ROWS, len(times)), dtype=np.int64)
            size = thinned(
                tails[lo:stop], held[lo:stop], newest[lo:stop], old_tails[lo:stop], arena, old_arena, first, step, n, range_ms, kind,
                offsets, bases, kept,
            )  # fmt: skip
            done = size >= 0 and tallied(code, offsets, bases, kept, size, first, step, n, range_ms, p0, at, out[lo:stop], present[lo:stop])
            if done:
                few, stands = kept[AT], kept[STANDS].view(np.float64)
                for r in range(stop - lo):
                    counts[lo + r] = 0
                    for i in range(offsets[r], offsets[r + 1]):
                        if first - range_ms < few[i] <= first + (n - 1) * step:
                            counts[lo + r] += np.int64(stands[i])
        if done:
            lo = stop
            continue
        cuts: Any = min(np.int64((upto[stop] - upto[lo]) * share / slab) + 1, most_cuts)
        chains = tails[lo:stop].copy(), held[lo:stop].copy(), newest[lo:stop].copy(), old_tails[lo:stop].copy()
        offsets = np.empty(stop - lo + 1, dtype=np.int64)
        counts[lo:stop] = 0
        end: Any = np.int64(n)
        for cut in range(cuts - 1, -1, -1):
            begin: Any = np.int64(n * cut // cuts)
            start = first + begin * step
            some: Any = end - begin
            resume = start - step if cut else NEVER
            # Between the windows there may be nothing that no one wants: then one of all is looked for in less time.
            wide: Any = (some - 1) * step if range_ms >= step else 0
            told = gather_surveyed(
                chains[0], chains[1], chains[2], chains[3], arena, old_arena, start + wide, step, 1 if wide else some, range_ms + wide,
                resume, offsets, times, bits,
            )  # fmt: skip
            if told < 0:
                return lo
            for r in range(stop - lo):
                counts[lo + r] += offsets[r + 1] - offsets[r]
            if told and code < LAST_VALUE:
                _drop_stale(offsets, times, values)
            whole = some == n
            into = out[lo:stop] if whole else np.empty((stop - lo, some))
            there = present[lo:stop] if whole else np.empty((stop - lo, some), dtype=np.bool_)
            if code >= LAST_VALUE:
                last_sample(offsets, times, values, 0, stop - lo, start, step, some, range_ms, code == LAST_TIME, into, there)
            elif code >= EXTRAPOLATED:
                extrapolated(code - EXTRAPOLATED, offsets, times, values, 0, stop - lo, start, step, some, range_ms, into, there)
            elif code in (MIN, MAX):
                extreme_values(code, offsets, times, values, 0, stop - lo, start, step, some, range_ms, into, there)
            elif code in (SUM, AVG, STDVAR, STDDEV, DERIV, PREDICT):
                summed(code, offsets, times, values, 0, stop - lo, start, step, some, range_ms, p0[begin:end], at[begin:end], into, there)
            else:
                each(code, offsets, times, values, 0, stop - lo, start, step, some, range_ms, p0[begin:end], p1[begin:end], into, there)
            if not whole:
                out[lo:stop, begin:end] = into
                present[lo:stop, begin:end] = there
            end = begin
        lo = stop
    return rows
