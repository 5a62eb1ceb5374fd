"""Which blocks become one: those that end within the same quarter of an hour, then two hours, then day.

Only neighbours in the order of storing are merged, so that of two samples at one time the one stored first still counts.
A block belongs to the window in which its newest sample lies, and so retention, which goes by that, loses nothing by a merge.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from vedette.storage.block_meta import Meta

_MINUTE = 60_000
WINDOWS = (15 * _MINUTE, 120 * _MINUTE, 1440 * _MINUTE)
"""Spans in ms, each a multiple of the one before."""


def due(metas: Sequence[Meta], now: int, *, fixed: Set[int] = frozenset()) -> tuple[int, int] | None:
    """The run `metas[lo:hi]` to be merged next, None where nothing is due.

    `metas` in order of storing, `now` in ms, `fixed` the sequence numbers of blocks that stay as they are.

    A run to which nothing can be added any more is merged at once. The last run, which late samples may still prolong, is
    merged when its window is over and its first block is no larger than the others together: each sample is then rewritten
    a logarithmic number of times, however long somebody fills in the past.
    """
    for window in WINDOWS:
        places = [(0, m.sequence) if m.sequence in fixed else (1, m.max_time // window) for m in metas]
        lo = 0
        while lo < len(metas):
            hi = lo + 1
            while hi < len(metas) and places[hi] == places[lo]:
                hi += 1
            if hi == len(metas) and (places[lo][1] + 1) * window > now:
                break
            while hi == len(metas) and hi - lo > 1 and metas[lo].samples > sum(m.samples for m in metas[lo + 1 :]):
                lo += 1
            if hi - lo > 1:
                return lo, hi
            lo = hi
    return None
