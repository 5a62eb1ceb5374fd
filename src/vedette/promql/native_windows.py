"""Functions of windows that hold native histograms, one window at a time.

Windows of floats alone are the kernels' work; what is here replaces their result where a window holds a histogram. What
becomes of a histogram beside floats differs: some functions leave histograms out (and say so), some refuse the mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from vedette.model.histogram_arithmetic import (
    RunningMean,
    RunningSum,
    added,
    coarsened,
    compacted,
    compatible,
    divided,
    equal,
    is_reset,
    multiplied,
    subtracted,
)
from vedette.model.histograms import GAUGE, Histogram, bare
from vedette.model.labels import METRIC_NAME
from vedette.promql import annotations as say
from vedette.promql.evaluation import Evaluation
from vedette.promql.nodes import Call, Node
from vedette.promql.values import Bools, Floats, Grid, Matrix, Objects, Windows, native_mask

Sample = float | Histogram
Result = Sample | None


class Window(NamedTuple):
    """The samples of one series in one window: `times` int64 ms, and a sample for each. `(start, end]` is the window itself,
    beyond which anchored and smoothed ones see a little further."""

    times: list[int]
    samples: list[Sample]
    start: int
    end: int


class Speaker(NamedTuple):
    """Says things about the windows of one metric."""

    ev: Evaluation
    node: Node
    name: str

    def warn(self, message: str) -> None:
        """Add a warning."""
        self.ev.annotations.warn(message, self.node)

    def inform(self, message: str) -> None:
        """Add an info."""
        self.ev.annotations.inform(message, self.node)

    def mixed_schemas(self) -> None:
        """Warn that exponential and custom buckets met."""
        self.warn(say.mixed_schemas(self.name))


def replaced(ev: Evaluation, call: Call, over: Windows, grid: Grid, base: Matrix) -> Matrix:
    """`base`, which is the function's result for the floats alone, with the windows that hold histograms put right."""
    assert over.histograms is not None
    name = call.func.name
    node = call.args[0]
    names = over.labels.column(METRIC_NAME)
    histograms = np.full(base.present.shape, None, dtype=object)
    values, present = base.values, base.present
    native = np.concatenate([[0], np.cumsum(native_mask(over.histograms), dtype=np.int64)])
    for row in np.flatnonzero(native[over.offsets[1:]] > native[over.offsets[:-1]]).tolist():
        ev.check()
        metric = over.labels.symbols.text(int(names[row])) if names[row] >= 0 else ""
        speaker = Speaker(ev, node, metric)
        for k, lo, hi in _bounds(ev, over, row, grid):
            held = int(native[hi] - native[lo])
            if not held:
                continue
            if name in _FLOATS_ONLY:
                if held < hi - lo:
                    speaker.inform(say.ignored_in_range(metric))
                continue
            end = over.first + k * over.step
            pairs = zip(over.histograms[lo:hi].tolist(), over.values[lo:hi].tolist(), strict=True)
            window = Window(over.timestamps[lo:hi].tolist(), [v if h is None else h for h, v in pairs], end - over.range, end)
            _set(values, present, histograms, (row, k), _result(speaker, name, window, over))
    return Matrix(base.labels, values, present, base.drop, histograms)


def _set(values: Floats, present: Bools, histograms: Objects, at: tuple[int, int], result: Result) -> None:
    present[at] = result is not None
    if isinstance(result, Histogram):
        histograms[at] = result
    elif result is not None:
        values[at] = result


def _bounds(ev: Evaluation, over: Windows, row: int, grid: Grid) -> Iterator[tuple[int, int, int]]:
    """Each step with the first and the one after the last of its window's samples."""
    lo, hi = int(over.offsets[row]), int(over.offsets[row + 1])
    times = over.timestamps[lo:hi]
    ends = over.first + over.step * np.arange(grid.n, dtype=np.int64)
    further = ev.bounds.lookback if over.anchored or over.smoothed else 0
    starts = lo + np.searchsorted(times, ends - over.range - further, side="right")
    stops = lo + np.searchsorted(times, ends + (further if over.smoothed else 0), side="right")
    return zip(range(grid.n), starts.tolist(), stops.tolist(), strict=True)


_FLOATS_ONLY = frozenset(
    (
        "min_over_time", "max_over_time", "ts_of_min_over_time", "ts_of_max_over_time", "stddev_over_time", "stdvar_over_time",
        "quantile_over_time", "mad_over_time", "deriv", "predict_linear", "double_exponential_smoothing",
    )
)  # fmt: skip
"""Functions that leave histograms out."""

TIMES_ONLY = frozenset(("count_over_time", "present_over_time", "ts_of_first_over_time", "ts_of_last_over_time"))
"""Functions that do not look at what a sample is."""


def _result(speaker: Speaker, name: str, window: Window, over: Windows) -> Result:
    if over.anchored or over.smoothed:
        return _extended(speaker, name, window, smoothed=over.smoothed)
    return _FUNCTIONS[name](speaker, name, window)


def _histograms(speaker: Speaker, window: Window) -> list[Histogram] | None:
    """The window's samples where all are histograms; else a warning is given."""
    found = [s for s in window.samples if isinstance(s, Histogram)]
    if len(found) == len(window.samples):
        return found
    speaker.warn(say.mixed_for_metric(speaker.name))
    return None


def _edge(speaker: Speaker, name: str, window: Window) -> Result:
    return window.samples[-1 if name == "last_over_time" else 0]


def _accumulated(speaker: Speaker, name: str, window: Window) -> Result:
    """`sum_over_time`, `avg_over_time`."""
    samples = _histograms(speaker, window)
    if samples is None:
        return None
    total = RunningSum(samples[0]) if name == "sum_over_time" else RunningMean(samples[0])
    for h in samples[1:]:
        if not total.add(h):
            speaker.mixed_schemas()
            return None
    seen = total if isinstance(total, RunningSum) else total.sum
    if seen.collided:
        speaker.warn(say.colliding_resets("aggregation"))
    if seen.reconciled:
        speaker.inform(say.reconciled_bounds("aggregation"))
    return total.result()


def _events(speaker: Speaker, name: str, window: Window) -> Result:
    """`changes`, `resets`: a histogram after a float, or the other way round, is either."""
    count = 0
    for before, now in zip(window.samples, window.samples[1:], strict=False):
        if isinstance(before, Histogram) != isinstance(now, Histogram):
            count += 1
        elif isinstance(before, Histogram) and isinstance(now, Histogram):
            count += is_reset(now, before) if name == "resets" else not equal(now, before)
        elif name == "resets":
            count += now < before  # type: ignore[operator]
        else:
            count += now != before and not (now != now and before != before)
    return float(count)


def _sub(speaker: Speaker, a: Histogram, b: Histogram) -> Histogram | None:
    if not compatible(a, b):
        speaker.mixed_schemas()
        return None
    result = subtracted(a, b)
    if result.reconciled:
        speaker.inform(say.reconciled_bounds("subtraction"))
    return result.histogram


def _add(speaker: Speaker, a: Histogram, b: Histogram) -> Histogram | None:
    if not compatible(a, b):
        speaker.mixed_schemas()
        return None
    result = added(a, b)
    if result.reconciled:
        speaker.inform(say.reconciled_bounds("addition"))
    return result.histogram


def _instant(speaker: Speaker, name: str, window: Window) -> Result:
    """`irate`, `idelta`: of the last two samples."""
    if len(window.samples) < 2:
        return None
    before, now = window.samples[-2:]
    rate = name == "irate"
    if not isinstance(before, Histogram) or not isinstance(now, Histogram):
        if isinstance(before, Histogram) or isinstance(now, Histogram):
            speaker.warn(say.mixed_for_metric(speaker.name))
            return None
        change = now if rate and now < before else now - before
        return change / ((window.times[-1] - window.times[-2]) / 1000.0) if rate else change
    gauges = [h.hint == GAUGE for h in (before, now)]
    if rate and any(gauges):
        speaker.warn(say.not_a_counter_histogram(speaker.name))
    if not rate and not all(gauges):
        speaker.warn(say.not_a_gauge_histogram(speaker.name))
    result: Histogram | None = now
    if not rate or not is_reset(now, before):
        result = _sub(speaker, now, before)
    if result is None:
        return None
    result = compacted(result).hinted(GAUGE)
    return divided(result, (window.times[-1] - window.times[-2]) / 1000.0) if rate else result


def _extrapolated(speaker: Speaker, name: str, window: Window) -> Result:
    """`rate`, `increase`, `delta`, with the extrapolation of floats: the count is what must not fall below zero."""
    samples = _histograms(speaker, window)
    if samples is None or len(samples) < 2:
        return None
    counter = name != "delta"
    change = _change(speaker, samples, counter=counter)
    if change is None:
        return None
    to_start, to_end = (window.times[0] - window.start) / 1000.0, (window.end - window.times[-1]) / 1000.0
    sampled = (window.times[-1] - window.times[0]) / 1000.0
    spacing = sampled / (len(samples) - 1)
    if to_start >= spacing * 1.1:
        to_start = spacing / 2
    if counter and change.count > 0 and samples[0].count >= 0:
        to_start = min(to_start, sampled * (samples[0].count / change.count))
    if to_end >= spacing * 1.1:
        to_end = spacing / 2
    factor = (sampled + to_start + to_end) / sampled
    return multiplied(change, factor / ((window.end - window.start) / 1000.0) if name == "rate" else factor)


def _change(speaker: Speaker, samples: list[Histogram], *, counter: bool) -> Histogram | None:
    """Last minus first, plus what was there before each reset of a counter."""
    first, last = samples[0], samples[-1]
    if counter:
        if any(h.hint == GAUGE for h in samples):
            speaker.warn(say.not_a_counter_histogram(speaker.name))
        if is_reset(samples[1], first):
            # What was before the reset does not count, so its buckets need not fit.
            empty = bare(samples[1].layout.schema, 0.0, samples[1].layout.bounds)
            first = Histogram(empty, np.zeros(empty.width))
    elif first.hint != GAUGE or last.hint != GAUGE:
        speaker.warn(say.not_a_gauge_histogram(speaker.name))
    inner = samples[1:-1] if counter else []
    if any(not compatible(h, first) for h in (last, *inner)):
        speaker.mixed_schemas()
        return None
    if not last.layout.custom:
        last = coarsened(last, min(h.layout.schema for h in (first, last, *inner)))
    change = _sub(speaker, last, first)
    before = first
    for now in samples[1:] if counter else ():
        if change is not None and is_reset(now, before):
            change = _add(speaker, change, before)
        before = now
    return None if change is None else compacted(change).hinted(GAUGE)


def interpolated(speaker: Speaker, window: Window, i: int, t: int, *, counter: bool) -> Histogram | None:
    """The histogram at t on the line from sample i to the next; a counter that was reset in between starts from zero."""
    before, now = window.samples[i], window.samples[i + 1]
    assert isinstance(before, Histogram) and isinstance(now, Histogram), "windows of mixed samples are refused before"
    fraction = (t - window.times[i]) / (window.times[i + 1] - window.times[i])
    if fraction in (0.0, 1.0):
        return now if fraction else before
    if not compatible(now, before):
        speaker.mixed_schemas()
        return None
    if counter and is_reset(now, before):
        return multiplied(now, fraction)
    change = _sub(speaker, now, before)
    return None if change is None else _add(speaker, multiplied(change, fraction), before)


def _extended(speaker: Speaker, name: str, window: Window, *, smoothed: bool) -> Result:
    """Functions of anchored and smoothed windows, which look at samples next to the window's borders."""
    if name in ("changes", "resets"):
        return _anchored_events(speaker, name, window)
    if _histograms(speaker, window) is None:
        return None
    counter = name != "delta"
    times = window.times
    last = len(times) - 1
    first = max(0, sum(t <= window.start for t in times[:-1]) - 1)
    if smoothed:
        last = sum(t < window.end for t in times[:-1])
    if times[last] <= window.start or (smoothed and times[first] > window.end):
        return None
    held = [s for s in window.samples[first : last + 1] if isinstance(s, Histogram)]
    if any(not compatible(h, held[0]) for h in held):
        speaker.mixed_schemas()
        return None
    if counter and any(h.hint == GAUGE for h in held):
        speaker.warn(say.not_a_counter_histogram(speaker.name))
    left, right = held[0], held[-1]
    if smoothed and times[first] < window.start:
        left = interpolated(speaker, window, first, window.start, counter=counter) or left
    if smoothed and last > 0 and times[last] > window.end:
        right = interpolated(speaker, window, last - 1, window.end, counter=counter) or right
    if not counter and (left.hint != GAUGE or right.hint != GAUGE):
        speaker.warn(say.not_a_gauge_histogram(speaker.name))
    change = _sub(speaker, right, left)
    if counter:
        within = smoothed and times[first] < window.start and last > first and is_reset(held[1], held[0])
        for lost in _lost(held, left, right, skip=within):
            change = None if change is None else _add(speaker, change, lost)
    if change is None:
        return None
    if name == "rate":
        change = divided(change, (window.end - window.start) / 1000.0)
    return compacted(change).hinted(GAUGE)


def _lost(held: list[Histogram], left: Histogram, right: Histogram, *, skip: bool) -> Iterator[Histogram]:
    """What was there before each reset between the borders. With `skip`, the left one lies on the far side of the first reset."""
    before = held[1] if skip else left
    inner = held[2:-1] if skip else held[1:-1]
    if len(held) < (3 if skip else 2):
        return
    for now in (*inner, right):
        if is_reset(now, before):
            yield before
        before = now


def _anchored_events(speaker: Speaker, name: str, window: Window) -> Result:
    """As for floats, from the last float before the window on; a window without floats gives nothing."""
    floats = [t for t, s in zip(window.times, window.samples, strict=True) if not isinstance(s, Histogram)]
    if not floats or floats[-1] <= window.start:
        return None
    first = max((t for t in floats if t <= window.start), default=floats[0])
    kept = [i for i, t in enumerate(window.times) if t >= first or isinstance(window.samples[i], Histogram)]
    return _events(speaker, name, window._replace(samples=[window.samples[i] for i in kept]))


_FUNCTIONS: dict[str, Callable[[Speaker, str, Window], Result]] = {
    "rate": _extrapolated,
    "increase": _extrapolated,
    "delta": _extrapolated,
    "irate": _instant,
    "idelta": _instant,
    "sum_over_time": _accumulated,
    "avg_over_time": _accumulated,
    "last_over_time": _edge,
    "first_over_time": _edge,
    "changes": _events,
    "resets": _events,
}
