"""Functions of windows that hold native histograms, all windows at a time; what is odd is done window by window (`native_windows.py`).

Windows of floats alone are the kernels' work; what is here replaces their result where a window holds a histogram.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from vedette.kernels import native as kernel
from vedette.model.histogram_arithmetic import equal
from vedette.model.histograms import GAUGE, Histogram
from vedette.model.labels import METRIC_NAME
from vedette.promql import annotations as say
from vedette.promql import native_rates, native_reconciled, native_smoothed, native_sums
from vedette.promql.evaluation import Evaluation
from vedette.promql.native_pool import Natives, Objects, Pool, differ
from vedette.promql.native_rates import Samples, Spans
from vedette.promql.native_windows import FLOATS_ONLY, STARTED, Speaker, Window, result
from vedette.promql.nodes import Call
from vedette.promql.values import Bools, Floats, Grid, Ints, Matrix, Windows

_Bounds = tuple[Ints, Ints]
"""The first and the one after the last sample of each window: int64[rows, n]."""


@dataclass
class _Answer:
    """What comes of the windows [rows, n]: values and presence, histograms, and the windows that are still to be done."""

    values: Floats
    present: Bools
    natives: Natives
    left: Bools

    def put(self, at: tuple[Ints, Ints], found: Natives) -> None:
        """The histograms of the windows `at`; nothing where there is none."""
        self.natives.index[at] = found.index
        self.natives = Natives(self.natives.index, found.pool)
        self.present[at] = found.index >= 0
        self.left[at] = False


class _Told:
    """Says things about the metrics of some rows, each once."""

    def __init__(self, ev: Evaluation, call: Call, over: Windows) -> None:
        self._ev, self._node = ev, call.args[0]
        self._names = over.labels.column(METRIC_NAME)
        self._text = over.labels.symbols.text

    def speaker(self, row: int) -> Speaker:
        """Who speaks of one row."""
        name = int(self._names[row])
        return Speaker(self._ev, self._node, self._text(name) if name >= 0 else "")

    def of(self, rows: Ints) -> Iterator[Speaker]:
        """Who speaks of the metrics of `rows`."""
        _, first = np.unique(self._names[rows], return_index=True)
        return (self.speaker(int(rows[i])) for i in first.tolist())


def replaced(ev: Evaluation, call: Call, over: Windows, grid: Grid, base: Matrix) -> Matrix:
    """`base`, which is the function's result for the floats alone, with the windows that hold histograms put right."""
    name, shape = call.func.name, base.present.shape
    mask = np.zeros(len(over.values), dtype=np.bool_) if over.natives is None else over.natives.mask
    extended = over.anchored or over.smoothed
    starts = _starts(name, over)
    lo, hi = _extended_bounds(ev, over, grid) if extended else _bounds(over, grid)
    ev.count(0, lo.nbytes + hi.nbytes)
    known = np.concatenate([[0], np.cumsum(mask if starts is None else mask | (starts != 0), dtype=np.int64)])
    native = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
    left = known[hi] > known[lo]
    natives = Natives(np.full(len(over.values), -1, dtype=np.int64), Pool.empty()) if over.natives is None else over.natives
    answer = _Answer(base.values, base.present, Natives(np.full(shape, -1, dtype=np.int64), natives.pool), left)
    told = _Told(ev, call, over)
    if name in FLOATS_ONLY:
        some = np.flatnonzero((left & (native[hi] - native[lo] < hi - lo)).any(axis=1))
        for speaker in told.of(some):
            speaker.inform(say.ignored_in_range(speaker.name))
        answer.left[:] = False
    elif starts is None and native[-1]:
        samples = Samples(over.offsets, over.timestamps, natives)
        within = _bounds(over, grid) if extended else None
        in_columns(ev, name, over, samples, (lo, hi), answer, told, within=within)
    objects = one_by_one(ev, name, over, (lo, hi), answer, told)
    histograms = answer.natives if objects is None else answer.natives.replaced(answer.left, objects)
    return Matrix(base.labels, answer.values, answer.present, base.drop, histograms if native[-1] else None)


def _starts(name: str, over: Windows) -> Ints | None:
    """The start timestamps, where the function heeds them."""
    return over.starts if name in STARTED and (name == "resets" or not (over.anchored or over.smoothed)) else None


def _bounds(over: Windows, grid: Grid) -> _Bounds:
    shape = (len(over.labels), grid.n)
    lo, hi = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
    kernel.spans(over.offsets, over.timestamps, over.first, over.step, over.range, lo, hi)
    return lo, hi


def _extended_bounds(ev: Evaluation, over: Windows, grid: Grid) -> tuple[Ints, Ints]:
    """The same of windows that see further: back by the lookback, and ahead by it where they are smoothed."""
    further = ev.bounds.lookback
    ahead = further if over.smoothed else 0
    shape = (len(over.labels), grid.n)
    lo, hi = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
    kernel.spans(over.offsets, over.timestamps, over.first + ahead, over.step, over.range + further + ahead, lo, hi)
    return lo, hi


def one_by_one(ev: Evaluation, name: str, over: Windows, spans: _Bounds, answer: _Answer, told: _Told) -> Objects | None:
    """Do the windows that are left; their histograms are answered, None where none was left."""
    if not answer.left.any():
        return None
    lo, hi = spans
    index = np.full(len(over.values), -1, dtype=np.int64) if over.natives is None else over.natives.index
    starts = _starts(name, over)
    out = np.full(answer.left.shape, None, dtype=object)
    for row in np.flatnonzero(answer.left.any(axis=1)).tolist():
        speaker = told.speaker(row)
        made: dict[int, Histogram] = {}
        for k in np.flatnonzero(answer.left[row]).tolist():
            ev.check()
            a, b = int(lo[row, k]), int(hi[row, k])
            end = over.first + k * over.step
            samples: list[float | Histogram] = over.values[a:b].tolist()
            for place, j in enumerate(index[a:b].tolist()):
                if j >= 0 and over.natives is not None:
                    # Windows overlap: each is made once.
                    samples[place] = made[j] = made.get(j) or over.natives.pool.sample(j)
            begun = [] if starts is None else starts[a:b].tolist()
            window = Window(over.timestamps[a:b].tolist(), samples, end - over.range, end, begun)
            found = result(speaker, name, window, over)
            answer.present[row, k] = found is not None
            if isinstance(found, float):
                answer.values[row, k] = found
            else:
                out[row, k] = found
    return out


def in_columns(
    ev: Evaluation,
    name: str,
    over: Windows,
    samples: Samples,
    spans: _Bounds,
    answer: _Answer,
    told: _Told,
    *,
    within: _Bounds | None = None,
) -> None:
    """Do what windows can be done together. Of anchored and smoothed ones `within` are the samples in them; `spans` reach further."""
    if within is not None and over.anchored:
        _anchored(ev, name, over, samples, spans, answer, told, within[0])
    elif within is not None:
        _smoothed(ev, name, over, samples, spans, answer, told, within)
    elif name in ("first_over_time", "last_over_time"):
        _edges(over, samples, spans, answer, last=name == "last_over_time")
    elif name in ("resets", "changes"):
        _events(over, samples, spans, answer, of_resets=name == "resets")
    else:
        windows = _whole(over, samples, spans, answer, told, pair=name in ("irate", "idelta"))
        done = _sums if name in ("sum_over_time", "avg_over_time") else _rates
        if len(windows[0]):
            done(ev, name, over, samples, spans, answer, told, windows)


def _anchored(
    ev: Evaluation, name: str, over: Windows, samples: Samples, spans: _Bounds, answer: _Answer, told: _Told, anchors: Ints
) -> None:  # fmt: skip
    # The last sample from before the window is the first one that counts; what is further back only must not be of floats and histograms.
    counted = np.maximum(spans[0], anchors - 1), spans[1]
    of_events = name in ("resets", "changes")
    if not of_events:
        _whole(over, samples, spans, answer, told, pair=False)
    empty = answer.left & (anchors == spans[1])
    answer.present[empty] = False
    answer.left &= ~empty
    if of_events:
        _events(over, samples, counted, answer, of_resets=name == "resets")
    else:
        rows, steps = np.nonzero(answer.left)
        _rates(ev, name, over, samples, counted, answer, told, (rows, steps))


def _smoothed(
    ev: Evaluation, name: str, over: Windows, samples: Samples, spans: _Bounds, answer: _Answer, told: _Told, within: _Bounds
) -> None:
    if name not in ("rate", "increase", "delta"):
        return
    at = _whole(over, samples, spans, answer, told, pair=False)
    if not len(at[0]):
        return
    lo, hi, inner, upto = (side[at] for side in (*spans, *within))
    ends = over.first + at[1] * over.step
    found = native_smoothed.of_windows(ev, name, samples, at[0], (lo, hi, inner, upto), ends, over.range)
    answer.put(at, found.natives)
    answer.left[at] = found.left
    _warn(told, at[0][found.warned], say.not_a_counter_histogram if name != "delta" else say.not_a_gauge_histogram)


def _edges(over: Windows, samples: Samples, spans: _Bounds, answer: _Answer, *, last: bool) -> None:
    at = np.nonzero(answer.left)
    assert len(at) == 2, "windows are rows and steps"
    place = spans[1][at] - 1 if last else spans[0][at]
    answer.put(at, samples.natives.at(place))
    answer.present[at] = True
    answer.values[at] = over.values[place]


def _events(over: Windows, samples: Samples, spans: _Bounds, answer: _Answer, *, of_resets: bool) -> None:
    """`changes`, `resets`: a histogram after a float, or the other way round, is either."""
    natives, values = samples.natives, over.values
    there = natives.mask
    event = np.zeros(len(there), dtype=np.bool_)
    if not len(event):
        return
    before, now = values[:-1], values[1:]
    event[1:] = (now < before) if of_resets else (now != before) & ~(np.isnan(now) & np.isnan(before))
    places = native_rates.followers(samples)
    event[places] = native_rates.resets(natives, places)[places] == 1 if of_resets else _changed(natives, places)
    event[1:] |= there[1:] != there[:-1]
    upto = np.concatenate([[0], np.cumsum(event, dtype=np.int64)])
    at = np.nonzero(answer.left)
    lo, hi = spans[0][at], spans[1][at]
    answer.values[at] = upto[hi] - upto[np.minimum(lo + 1, hi)]
    answer.present[at] = True
    answer.left[at] = False


def _changed(natives: Natives, places: Ints) -> Bools:
    """Whether the histogram in each of `places` is another than the one in the place before."""
    pool = natives.pool
    now, before = natives.index[places], natives.index[places - 1]
    out, known = differ(pool, now, before)
    for i in np.flatnonzero(~known).tolist():
        out[i] = not equal(pool.sample(int(now[i])), pool.sample(int(before[i])))
    return out


def _whole(over: Windows, samples: Samples, spans: _Bounds, answer: _Answer, told: _Told, *, pair: bool) -> tuple[Ints, Ints]:
    """The windows that are left and hold histograms alone; those that hold floats, too, are done: a warning is all they give.

    With `pair` the last two samples are what counts; two floats are those of the floats alone.
    """
    lo, hi = spans
    native = np.concatenate([[0], np.cumsum(samples.natives.mask, dtype=np.int64)])
    first = np.maximum(lo, hi - 2) if pair else lo
    held, size = native[hi] - native[first], hi - first
    mixed = answer.left & (held > 0) & (held < size)
    for speaker in told.of(np.flatnonzero(mixed.any(axis=1))):
        speaker.warn(say.mixed_for_metric(speaker.name))
    answer.present[mixed] = False
    answer.left &= held == size
    rows, steps = np.nonzero(answer.left)
    return rows, steps


def _sums(
    ev: Evaluation, name: str, over: Windows, samples: Samples, spans: _Bounds, answer: _Answer, told: _Told, at: tuple[Ints, Ints]
) -> None:
    lo, hi = (side[at] for side in spans)
    made = native_sums.of_windows(ev, samples.natives, samples.offsets, (lo, hi), mean=name == "avg_over_time")
    for speaker in told.of(at[0][made.collided]):
        speaker.warn(say.colliding_resets("aggregation"))
    answer.put(at, made.natives)
    answer.left[at] = made.left


def _rates(
    ev: Evaluation, name: str, over: Windows, samples: Samples, spans: _Bounds, answer: _Answer, told: _Told, at: tuple[Ints, Ints]
) -> None:
    lo, hi = (side[at] for side in spans)
    rows, steps = at
    if not over.anchored:
        # A single sample has no rate.
        few = hi - lo < 2
        answer.present[at] &= ~few
        answer.left[at] = ~few
        rows, steps, lo, hi = rows[~few], steps[~few], lo[~few], hi[~few]
    if not len(lo):
        return
    windows = Spans(lo, hi, over.first + steps * over.step, rows)
    made, odd = native_rates.of_windows(ev, name, samples, windows, width=over.range, anchored=over.anchored)
    if odd.any() and not over.anchored:
        made, odd = _reconciled(ev, name, samples, windows, (made, odd), told, width=over.range)
    answer.put((rows, steps), made)
    answer.left[rows, steps] = odd
    natives = samples.natives
    gauge = natives.mask & (natives.pool.hints[natives.index] == GAUGE)
    if name in ("delta", "idelta"):
        first = lo if name == "delta" else hi - 2
        said, message = ~(gauge[first] & gauge[hi - 1]), say.not_a_gauge_histogram
    else:
        upto = np.concatenate([[0], np.cumsum(gauge, dtype=np.int64)])
        first = lo if name != "irate" else hi - 2
        said, message = upto[hi] > upto[first], say.not_a_counter_histogram
    _warn(told, rows[said & ~odd], message)


def _reconciled(
    ev: Evaluation, name: str, samples: Samples, windows: Spans, made: tuple[Natives, Bools], told: _Told, *, width: int
) -> tuple[Natives, Bools]:  # fmt: skip
    """What is made of windows, and which are left, where bounds change in some of these."""
    natives, odd = made
    some = np.flatnonzero(odd)
    more = native_reconciled.of_windows(ev, name, samples, windows.some(some), width=width)
    if not more.made.any():
        return natives, odd
    speaker = told.speaker(int(windows.rows[some[more.made][0]]))
    speaker.inform(say.reconciled_bounds("subtraction"))
    if more.added.any():
        speaker.inform(say.reconciled_bounds("addition"))
    index, where = np.full(len(odd), -1, dtype=np.int64), np.zeros(len(odd), dtype=np.bool_)
    index[some], where[some] = more.natives.index, more.made
    return natives.merged(where, Natives(index, more.natives.pool)), odd & ~where


def _warn(told: _Told, rows: Ints, message: Callable[[str], str]) -> None:
    for speaker in told.of(rows):
        speaker.warn(message(speaker.name))
