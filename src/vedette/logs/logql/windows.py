"""Functions of the samples within a window, at many points in time: (t - range, t], as Loki has it.

Samples are columns, times int64[n] in ns, ascending, and values float64[n]. A point without samples is `ABSENT`. Not here: where
samples come from (`evaluate.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from vedette.errors import LimitExceeded
from vedette.logs.logql.points import ABSENT

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_MOST_WORK = 2_000_000_000


def over(op: str, times: Ints, values: Floats, *, ends: Ints, range_ns: int, parameter: float = 0.0) -> Floats:
    """`op` (`sum_over_time`, …) over the windows that end at `ends`. Raises `LimitExceeded`."""
    first = np.searchsorted(times, ends - range_ns, side="right")
    last = np.searchsorted(times, ends, side="right")
    out = np.full(len(ends), ABSENT)
    some = np.flatnonzero(last > first)
    if not len(some):
        return out
    first, last = first[some], last[some]
    if int((last - first).sum()) > _MOST_WORK:
        raise LimitExceeded("too many samples in too many windows: choose a longer step, or a shorter range")
    seconds = range_ns / 1e9
    if op in _REDUCED:
        out[some] = _reduced(_REDUCED[op], values, first, last)
    elif op == "avg_over_time":
        out[some] = _reduced(np.add, values, first, last) / (last - first)
    elif op in ("rate", "bytes_rate"):
        out[some] = _reduced(np.add, values, first, last) / seconds
    elif op == "first_over_time":
        out[some] = values[first]
    elif op == "last_over_time":
        out[some] = values[last - 1]
    elif op == "rate_counter":
        out[some] = _counter_rates(times, values, first, last, ends=ends[some], range_ns=range_ns)
    else:
        each = _EACH[op]
        out[some] = [each(values[a:b], parameter) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    return out


_REDUCED: Mapping[str, np.ufunc] = {
    "sum_over_time": np.add,
    "count_over_time": np.add,
    "bytes_over_time": np.add,
    "min_over_time": np.minimum,
    "max_over_time": np.maximum,
}


def _reduced(ufunc: np.ufunc, values: Floats, first: Ints, last: Ints) -> Floats:
    """`ufunc` over values[first:last], none of which is empty."""
    bounds = np.ravel(np.column_stack([first, last]))
    found: Floats = ufunc.reduceat(np.append(values, 0.0), bounds)[::2]
    return found


def quantile(values: Floats, q: float) -> float:
    """Prometheus' quantile: between neighbours in proportion; beyond 0 and 1 infinite."""
    if q < 0 or q > 1 or np.isnan(q):
        return float("nan") if np.isnan(q) else float("-inf") if q < 0 else float("inf")
    ordered = np.sort(values)
    rank = q * (len(ordered) - 1)
    low = int(np.floor(rank))
    high = min(low + 1, len(ordered) - 1)
    weight = rank - low
    return float(ordered[low] * (1 - weight) + ordered[high] * weight)


_EACH: Mapping[str, Callable[[Floats, float], float]] = {
    "stddev_over_time": lambda values, _: float(np.std(values)),
    "stdvar_over_time": lambda values, _: float(np.var(values)),
    "quantile_over_time": quantile,
}


def _counter_rates(times: Ints, values: Floats, first: Ints, last: Ints, *, ends: Ints, range_ns: int) -> Floats:
    """Prometheus' `rate`: increases with resets, drawn out to the window's ends where samples come near them; `ABSENT` for one sample."""
    drops = np.where(values[1:] < values[:-1], values[:-1], 0.0)
    risen = values + np.concatenate([[0.0], np.cumsum(drops)])
    out = np.full(len(ends), ABSENT)
    two = np.flatnonzero(last - first > 1)
    a, b = first[two], last[two] - 1
    increase = risen[b] - risen[a]
    sampled = (times[b] - times[a]) / 1e9
    gap = sampled / (b - a)
    before = (times[a] - (ends[two] - range_ns)) / 1e9
    after = (ends[two] - times[b]) / 1e9
    limit = gap * 1.1
    before = np.where(before >= limit, gap / 2, before)
    after = np.where(after >= limit, gap / 2, after)
    with np.errstate(divide="ignore", invalid="ignore"):
        # A counter begins at zero: it is not drawn out below that.
        to_zero = np.where((increase > 0) & (values[a] >= 0), sampled * (values[a] / increase), np.inf)
        before = np.minimum(before, to_zero)
        rates = increase * ((sampled + before + after) / sampled) / (range_ns / 1e9)
    out[two] = np.where(sampled > 0, rates, ABSENT)
    return out
