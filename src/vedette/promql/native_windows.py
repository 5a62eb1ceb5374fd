"""Functions of windows that hold native histograms or start timestamps, one window at a time.

Windows of floats alone are the kernels' work; what is here replaces their result where a window holds a histogram. What
becomes of a histogram beside floats differs: some functions leave histograms out (and say so), some refuse the mixture.
A start timestamp tells a counter's reset, also where its value does not; functions of counters heed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from vedette.promql import annotations as say
from vedette.promql.evaluation import Evaluation
from vedette.promql.nodes import Node
from vedette.promql.values import Windows

Sample = float | Histogram
Result = Sample | None


class Window(NamedTuple):
    """The samples of one series in one window: `times` int64 ms, and a sample for each. `(start, end]` is the window itself,
    beyond which anchored and smoothed ones see a little further. `starts` are the samples' start timestamps, empty where none is known."""

    times: list[int]
    samples: list[Sample]
    start: int
    end: int
    starts: Sequence[int] = ()

    def restarted(self, i: int) -> bool:
        """Whether the counter was reset between sample i - 1 and sample i: by the start timestamps, or else by the samples."""
        before, now = self.samples[i - 1], self.samples[i]
        if self.starts and _begins_anew(self.starts[i - 1], self.times[i - 1], self.starts[i], self.times[i]):
            return True
        if isinstance(now, Histogram) and isinstance(before, Histogram):
            return is_reset(now, before)
        return not isinstance(now, Histogram) and not isinstance(before, Histogram) and now < before


def _begins_anew(start_before: int, before: int, start: int, now: int) -> bool:
    """Whether a sample's start timestamp says that it counts from after the sample before it.

    One at that sample's time does where that sample's own start is known (deltas), else it means an unknown start.
    """
    if start == 0 or start >= now or start < before:
        return False
    return start > before or (start_before not in (0, before) and start_before <= before)


def _overlaps(window: Window) -> bool:
    """Whether a sample claims to count from before the sample ahead of it, and that one from another time."""
    starts, times = window.starts, window.times
    return any(starts[i] != 0 and starts[i] < times[i - 1] and starts[i] != starts[i - 1] for i in range(1, len(starts)))


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


FLOATS_ONLY = frozenset(
    (
        "min_over_time", "max_over_time", "ts_of_min_over_time", "ts_of_max_over_time", "stddev_over_time", "stdvar_over_time",
        "quantile_over_time", "mad_over_time", "deriv", "predict_linear", "double_exponential_smoothing",
    )
)  # fmt: skip
"""Functions that leave histograms out."""

TIMES_ONLY = frozenset(("count_over_time", "present_over_time", "ts_of_first_over_time", "ts_of_last_over_time"))
"""Functions that do not look at what a sample is."""


STARTED = frozenset(("rate", "increase", "irate", "resets"))
"""Functions that heed start timestamps."""


def result(speaker: Speaker, name: str, window: Window, over: Windows) -> Result:
    """The function `name` of one window."""
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
    for i in range(1, len(window.samples)):
        before, now = window.samples[i - 1 : i + 1]
        if isinstance(before, Histogram) != isinstance(now, Histogram):
            count += 1
        elif name == "resets":
            count += window.restarted(i)
        elif isinstance(before, Histogram) and isinstance(now, Histogram):
            count += not equal(now, before)
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
        change = now if rate and window.restarted(len(window.samples) - 1) else now - before
        return change / ((window.times[-1] - window.times[-2]) / 1000.0) if rate else change
    gauges = [h.hint == GAUGE for h in (before, now)]
    if rate and any(gauges):
        speaker.warn(say.not_a_counter_histogram(speaker.name))
    if not rate and not all(gauges):
        speaker.warn(say.not_a_gauge_histogram(speaker.name))
    result: Histogram | None = now
    if not rate or not window.restarted(len(window.samples) - 1):
        result = _sub(speaker, now, before)
    if result is None:
        return None
    result = compacted(result).hinted(GAUGE)
    return divided(result, (window.times[-1] - window.times[-2]) / 1000.0) if rate else result


def _extrapolated(speaker: Speaker, name: str, window: Window) -> Result:
    """`rate`, `increase`, `delta`, with the extrapolation of floats: the count of a histogram is what must not fall below zero.

    Where the counter is known to have begun within the window, it was zero then, and nothing is extrapolated on that side.
    """
    samples, times, counter = window.samples, window.times, name != "delta"
    if len({isinstance(s, Histogram) for s in samples}) > 1:
        speaker.warn(say.mixed_for_metric(speaker.name))
        return None
    begun = counter and bool(window.starts) and window.start < window.starts[0] < times[0] and window.starts[0] != 0
    if len(samples) < 2 and not begun:
        return None
    if counter and _overlaps(window):
        speaker.warn(say.overlapping_start(speaker.name))
    change = _change(speaker, window, counter=counter) if len(samples) > 1 else None
    if change is None and len(samples) > 1:
        return None
    sampled = (times[-1] - times[0]) / 1000.0
    spacing = sampled / max(1, len(samples) - 1)
    to_start, to_end = (times[0] - window.start) / 1000.0, (window.end - times[-1]) / 1000.0
    if begun:
        to_start, sampled = 0.0, (times[-1] - window.starts[0]) / 1000.0
        change = samples[0] if change is None else _plus(speaker, change, samples[0])
    else:
        if to_start >= spacing * 1.1:
            to_start = spacing / 2
        if counter and change is not None and _size(change) > 0 and _size(samples[0]) >= 0:
            to_start = min(to_start, sampled * (_size(samples[0]) / _size(change)))
    if to_end >= spacing * 1.1:
        to_end = spacing / 2
    factor = (sampled + to_start + to_end) / sampled
    if name == "rate":
        factor /= (window.end - window.start) / 1000.0
    if change is None:
        return None
    return multiplied(change, factor) if isinstance(change, Histogram) else change * factor


def _size(sample: Sample) -> float:
    """A float, or the count of a histogram."""
    return sample.count if isinstance(sample, Histogram) else sample


def _plus(speaker: Speaker, a: Sample, b: Sample) -> Sample | None:
    if isinstance(a, Histogram) and isinstance(b, Histogram):
        return _add(speaker, a, b)
    assert not isinstance(a, Histogram) and not isinstance(b, Histogram), "mixtures are refused before"
    return a + b


def _change(speaker: Speaker, window: Window, *, counter: bool) -> Sample | None:
    """Last minus first, plus what was there before each reset of a counter."""
    first, last = window.samples[0], window.samples[-1]
    resets = [i for i in range(1, len(window.samples)) if window.restarted(i)] if counter else []
    if not isinstance(first, Histogram) or not isinstance(last, Histogram):
        floats = [s for s in window.samples if not isinstance(s, Histogram)]
        change = floats[-1] - floats[0]
        for i in resets:
            change += floats[i - 1]
        return change
    samples = [s for s in window.samples if isinstance(s, Histogram)]
    if counter:
        if any(h.hint == GAUGE for h in samples):
            speaker.warn(say.not_a_counter_histogram(speaker.name))
        if resets and resets[0] == 1:
            # What was before the reset does not count, so its buckets need not fit.
            empty = bare(samples[1].layout.schema, 0.0, samples[1].layout.bounds)
            first = samples[0] = Histogram(empty, np.zeros(empty.width))
    elif first.hint != GAUGE or last.hint != GAUGE:
        speaker.warn(say.not_a_gauge_histogram(speaker.name))
    inner = samples[1:-1] if counter else []
    if any(not compatible(h, first) for h in (last, *inner)):
        speaker.mixed_schemas()
        return None
    if not last.layout.custom:
        last = coarsened(last, min(h.layout.schema for h in (first, last, *inner)))
    difference = _sub(speaker, last, first)
    for i in resets:
        difference = None if difference is None else _add(speaker, difference, samples[i - 1])
    return None if difference is None else compacted(difference).hinted(GAUGE)


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
    """From the last sample before the window on, whatever it is."""
    if window.times[-1] <= window.start:
        return None
    first = max(0, sum(t <= window.start for t in window.times) - 1)
    return _events(speaker, name, window._replace(times=window.times[first:], samples=window.samples[first:], starts=window.starts[first:]))


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
