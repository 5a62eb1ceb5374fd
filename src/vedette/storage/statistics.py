"""Figures about the head's index, as `/api/v1/status/tsdb` shows them: what makes it large, and what makes it grow.

The definitions are Prometheus' (`tsdb/index/postings.go`, `MemPostings.Stats`), over all tenants. Not here: figures
of blocks and of the log (`engine.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.model.labels import METRIC_NAME
from vedette.storage.memory import Memory
from vedette.storage.starts import shown_tenant

_LOW = np.uint64(0xFFFFFFFF)

Ranking = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class BlockFigures:
    """What a block holds; `histograms` of its `samples` are native ones. Times in ms, both ends inclusive."""

    name: str
    min_time: int
    max_time: int
    series: int
    samples: int
    histograms: int
    level: int


@dataclass(frozen=True, slots=True)
class IndexFigures:
    """`label_pairs` is the number of distinct ones; each ranking has the largest, largest first."""

    label_pairs: int = 0
    series_by_metric: Ranking = ()
    values_by_label: Ranking = ()
    memory_by_label: Ranking = ()
    """Bytes of the label's values, counted once for each series."""
    series_by_pair: Ranking = ()


@dataclass(frozen=True, slots=True)
class GrowthFigures:
    """What series that are new brought; each ranking has the largest, largest first, and nothing that did not grow.

    `since` is for how many seconds they are counted: an hour, less soon after a start.
    """

    since: float
    series: int = 0
    series_by_metric: Ranking = ()
    values_by_label: Ranking = ()
    """Values of the label that no older series has."""
    series_by_pair: Ranking = ()


class Growth:
    """Remembers how many series there had been, a mark a minute, for an hour."""

    HOUR = 3600.0
    _EVERY = 60.0

    def __init__(self, now: float) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self._again = now

    def mark(self, now: float, series: int) -> None:
        """There had been `series` until `now` (s, monotonic), those included that are gone. Called again and again; quick."""
        if now < self._again and self._marks:
            return
        self._again = now + self._EVERY
        self._marks.append((now, series))
        # One mark from before the hour stays: it says how many there were when it began.
        while len(self._marks) > 1 and self._marks[1][0] <= now - self.HOUR:
            self._marks.popleft()

    def before(self, now: float) -> tuple[float, int]:
        """(for how many seconds the marks reach back, an hour at most; how many series there had been then)."""
        if not self._marks:
            return 0.0, 0
        marked, series = self._marks[0]
        return min(self.HOUR, now - marked), series


def growth_figures(memory: Memory, *, first: int, since: float, top: int = 10) -> GrowthFigures:
    """What the series brought whose handle is `first` or more: some ten milliseconds for a million label pairs."""
    with memory.lock:
        series = memory.series
        new = series.handles(np.arange(len(series), dtype=np.int64)) >= first
        offsets, at, names, values = series.label_columns()
    count = int(np.count_nonzero(new))
    if count == 0:
        return GrowthFigures(since)
    lengths = np.diff(offsets[: len(new) + 1])
    owned = np.repeat(new, lengths)
    name_of = names[np.arange(offsets[len(new)]) + np.repeat(at[: len(new)] - offsets[: len(new)], lengths)]
    pairs = name_of.astype(np.uint64) << np.uint64(32) | values[: offsets[len(new)]].astype(np.uint64)
    keys, counts = np.unique(pairs[owned], return_counts=True)
    of_name, of_value = (keys >> np.uint64(32)).astype(np.int64), (keys & _LOW).astype(np.int64)
    text = series.names.symbols.text
    fresh = of_name[~np.isin(keys, pairs[~owned])]
    labels, fresh_values = np.unique(fresh, return_counts=True)
    metric = of_name == series.names.symbols.find(METRIC_NAME)
    return GrowthFigures(
        since,
        count,
        series_by_metric=_ranked(counts[metric], lambda i: text(int(of_value[metric][i])), top),
        values_by_label=_ranked(fresh_values, lambda i: text(int(labels[i])), top),
        series_by_pair=_ranked(counts, lambda i: f"{text(int(of_name[i]))}={text(int(of_value[i]))}", top),
    )


def index_figures(memory: Memory, *, top: int = 10) -> IndexFigures:
    """The figures now, `top` of each ranking: some ten milliseconds for a million label pairs."""
    series = memory.series
    indexes = [memory.index(tenant) for tenant in list(series.tenants) if shown_tenant(tenant) == tenant]
    # Of a table that took this one's place meanwhile, the symbols mean something else: the next call counts its series.
    pieces = [piece for of, view in indexes if of is series and view is not None for piece in view.pieces]
    if not pieces:
        return IndexFigures()
    keys, place = np.unique(np.concatenate([p.keys for p in pieces]), return_inverse=True)
    counts = np.bincount(place, weights=np.concatenate([np.diff(p.starts) for p in pieces]), minlength=len(keys)).astype(np.int64)
    names, values = (keys >> np.uint64(32)).astype(np.int64), (keys & _LOW).astype(np.int64)
    text = series.names.symbols.text
    lengths = np.diff(series.names.offsets.view())[values]
    labels, first = np.unique(names, return_index=True)
    metric = names == series.names.symbols.find(METRIC_NAME)
    return IndexFigures(
        label_pairs=len(keys),
        series_by_metric=_ranked(counts[metric], lambda i: text(int(values[metric][i])), top),
        values_by_label=_ranked(np.diff([*first, len(names)]), lambda i: text(int(labels[i])), top),
        memory_by_label=_ranked(np.add.reduceat(lengths * counts, first), lambda i: text(int(labels[i])), top),
        series_by_pair=_ranked(counts, lambda i: f"{text(int(names[i]))}={text(int(values[i]))}", top),
    )


def _ranked(counts: NDArray[np.int64], name: Callable[[int], str], top: int) -> Ranking:
    places = np.argsort(-counts, kind="stable")[:top].tolist()
    return sorted(((name(i), int(counts[i])) for i in places), key=lambda pair: (-pair[1], pair[0]))
