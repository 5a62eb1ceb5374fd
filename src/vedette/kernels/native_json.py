"""Native histograms to the JSON of Prometheus' answers, without a Python object for each bucket.

`[time,{"count":"4","sum":"5","buckets":[[0,"1","2","4"]]}]` for each: buckets that hold anything, from the lowest on. Numbers are laid out
as `render.py` does it; what stands before a bucket's count, its bounds, is given as text (`heads`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vedette.kernels.digits import paste, write_number
from vedette.kernels.render import write_time

_COUNT, _SUM, _ZERO = 0, 1, 2
NUMBER_BYTES = 36
"""No number takes more, with its quotes and what follows it."""
POINT_BYTES = 96
"""What a histogram takes without its numbers and the heads of its buckets, at most."""


@njit(cache=True, nogil=True)
def listed(items: Any, pool: Any, buckets: Any, floats: Any, bucket: Any, ends: Any) -> int:
    """The numbers of the histograms `items`, in order: count, sum, and the buckets that hold anything; answers how many.

    They go to `floats`, the numbers of their buckets (in `buckets`, of which `kernels.native.quantiles` tells, as of `pool`) to `bucket`
    int64, those of histogram i end before `ends[i]` int64.
    """
    layouts, starts, cells, _slim = pool
    order, at = buckets[0], buckets[3]
    n = 0
    for i in range(len(items)):
        layout, source = layouts[items[i]], starts[items[i]]
        floats[n], floats[n + 1] = cells[source + _COUNT], cells[source + _SUM]
        bucket[n], bucket[n + 1] = -1, -1
        n += 2
        for b in range(at[layout], at[layout + 1]):
            count = cells[source + order[b]]
            if count != 0 and (order[b] != _ZERO or count > 0):
                floats[n], bucket[n] = count, b
                n += 1
        ends[i] = n
    return n


@njit(cache=True, nogil=True)
def _write_text(out: Any, at: int, text: Any, which: Any, piece: int) -> int:
    return paste(out, at, text, which[piece], which[piece + 1])


@njit(cache=True, nogil=True)
def render_histograms(times: Any, ends: Any, numbers: Any, bucket: Any, heads: Any, frame: Any, out: Any, upto: Any) -> int:
    """Write each histogram at `times` int64 ms, each followed by a comma, the i-th up to `upto[i]` int64; returns the number of bytes.

    `numbers` are (whole, places) of what is `listed`, as of `shortest.decimals`. `heads` and `frame` are (text,
    where its pieces begin): a piece for each bucket, and what stands before count, sum and buckets, and after all of it without
    buckets and with.
    """
    whole, places = numbers
    at, n = 0, 0
    for i in range(len(times)):
        out[at] = 91
        at = write_time(out, at + 1, times[i])
        first = n
        while n < ends[i]:
            place = n - first
            if place < 2:
                at = _write_text(out, at, frame[0], frame[1], place)
            else:
                if place == 2:
                    at = _write_text(out, at, frame[0], frame[1], 2)
                else:
                    out[at] = 44
                    at += 1
                at = _write_text(out, at, heads[0], heads[1], bucket[n])
            at = write_number(out, at, whole[n], np.int64(places[n]))
            out[at] = 34
            at += 1
            if place >= 2:
                out[at] = 93
                at += 1
            n += 1
        at = _write_text(out, at, frame[0], frame[1], 3 if n - first == 2 else 4)
        upto[i] = at
    return at
