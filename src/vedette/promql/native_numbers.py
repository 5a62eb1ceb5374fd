"""Quantiles, fractions and variances of native histograms many at a time, as `native_quantiles.py` has those of one, to the bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vedette.kernels import native as kernel
from vedette.model.histograms import COUNT, SUM
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_pool import Natives
from vedette.promql.values import Bools, Floats, Ints, Matrix

_AT_ONCE = 1 << 15
_WORTH = 1 << 13


def _in_parts(ev: Evaluation, count: int, part: Callable[[int, int], None]) -> None:
    """Do `part(lo, hi)` for all of `range(count)`, on two threads where there is much."""

    def half(begin: int, end: int) -> None:
        for lo in range(begin, end, _AT_ONCE):
            ev.check()
            part(lo, min(end, lo + _AT_ONCE))

    ev.in_two(half, count, worth=count > _WORTH)


def quantiles(ev: Evaluation, native: Matrix, q: Floats) -> tuple[Floats, Bools]:
    """(the quantile `q[k]` of the histograms at step k, where it is known): of those that hold anything and have a sum."""
    assert native.histograms is not None
    natives = native.histograms
    done = native.native & ((q >= 0) & (q <= 1))
    done = _good(natives, done)
    at, values = np.nonzero(done), np.zeros(done.shape)
    items, wanted = natives.index[at], q[at[1]]
    out, sign = np.empty(len(items)), np.empty(len(items), dtype=np.int8)
    pool, buckets = natives.pool.columns, natives.pool.buckets
    _in_parts(ev, len(items), lambda lo, hi: kernel.quantiles(wanted[lo:hi], items[lo:hi], pool, buckets, out[lo:hi], sign[lo:hi]))
    with np.errstate(all="ignore"):
        values[at] = np.where(sign == 0, out, sign * np.exp2(out))
    return values, done


def fractions(ev: Evaluation, native: Matrix, low: Floats, high: Floats) -> tuple[Floats, Bools]:
    """(the fraction of observations between `low[k]` and `high[k]` at step k, where it is known), as for `quantiles`."""
    assert native.histograms is not None
    natives = native.histograms
    done = _good(natives, native.native & (low < high))
    at, values = np.nonzero(done), np.zeros(done.shape)
    items, below, above = natives.index[at], low[at[1]], high[at[1]]
    out, pool, buckets = np.empty(len(items)), natives.pool.columns, natives.pool.buckets
    _in_parts(ev, len(items), lambda lo, hi: kernel.fractions(below[lo:hi], above[lo:hi], items[lo:hi], pool, buckets, out[lo:hi]))
    values[at] = out
    return values, done


def variances(ev: Evaluation, natives: Natives, items: Ints) -> Floats:
    """The variance of each of the histograms `items` of a pool."""
    out = np.full(len(items), np.nan)
    pool, buckets = natives.pool.columns, natives.pool.buckets
    filled = np.flatnonzero(natives.pool.cells[natives.pool.starts[items] + COUNT] != 0)
    items, made = items[filled], np.empty(len(filled))
    _in_parts(ev, len(items), lambda lo, hi: kernel.variances(items[lo:hi], pool, buckets, made[lo:hi]))
    out[filled] = made
    return out


def _good(natives: Natives, wanted: Bools) -> Bools:
    """Where histograms hold anything and have a sum: of others there is something to be said."""
    pool = natives.pool
    if not wanted.any():
        return wanted
    at = pool.starts[np.maximum(natives.index, 0)]
    good: Bools = wanted & (pool.cells[at + COUNT] != 0) & ~np.isnan(pool.cells[at + SUM])
    return good
