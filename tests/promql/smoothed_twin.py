"""`smoothed` instants of native histograms, one step of one series after another: what the columns are held against, to the bit."""

from __future__ import annotations

import numpy as np

from vedette.kernels import windows as k
from vedette.model.histograms import GAUGE, UNKNOWN
from vedette.model.labels import METRIC_NAME
from vedette.promql import annotations as say
from vedette.promql.native_pool import Natives
from vedette.promql.native_windows import Speaker, Window, interpolated
from vedette.promql.selectors import WHOLE
from vedette.promql.values import Matrix


def smoothed(ev, node, ends, data, matrix) -> Matrix:
    """The values between samples: floats as the kernel has them, histograms in between two. A mixture of both gives nothing."""
    offsets, times, samples = data.clean()
    natives = data.natives(WHOLE)
    assert natives is not None, "only where there are any"
    objects = natives.objects
    lookback = ev.bounds.lookback
    values, present = np.empty(matrix.values.shape), np.empty(matrix.present.shape, dtype=np.bool_)
    k.interpolated(offsets, times, samples, 0, len(matrix), ends.start, ends.step, ends.n, lookback, values, present)
    histograms = np.full(present.shape, None, dtype=object)
    names = data.labels.column(METRIC_NAME)
    native = np.concatenate([[0], np.cumsum(natives.mask, dtype=np.int64)])
    for row in np.flatnonzero(native[offsets[1:]] > native[offsets[:-1]]).tolist():
        speaker = Speaker(ev, node, data.labels.symbols.text(int(names[row])) if names[row] >= 0 else "")
        own = times[offsets[row] : offsets[row + 1]]
        for step in range(ends.n):
            t = ends.start + step * ends.step
            lo, hi = (int(offsets[row] + np.searchsorted(own, edge, side="right")) for edge in (t - lookback, t + lookback))
            held = int(native[hi] - native[lo])
            if not held:
                continue
            if held < hi - lo:
                speaker.warn(say.mixed_for_metric(speaker.name))
                present[row, step] = False
                continue
            now = int(offsets[row] + np.searchsorted(own, t, side="right"))
            if not present[row, step]:
                continue
            histograms[row, step] = objects[now - 1]
            if times[now - 1] < t and now < hi:
                pair = Window(times[now - 1 : now + 1].tolist(), objects[now - 1 : now + 1].tolist(), t, t)
                counter = any(h.hint != GAUGE for h in objects[now - 1 : now + 1])
                histograms[row, step] = interpolated(speaker, pair, 0, t, counter=counter)
                present[row, step] = histograms[row, step] is not None
            elif times[now - 1] < t:
                # What is carried on says nothing of what came before it.
                histograms[row, step] = objects[now - 1].hinted(UNKNOWN)
    return Matrix(matrix.labels, values, present, None, Natives.of(histograms))
