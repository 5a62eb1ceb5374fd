"""Figures about the head's index, as `/api/v1/status/tsdb` shows them: what makes it large.

The definitions are Prometheus' (`tsdb/index/postings.go`, `MemPostings.Stats`), over all tenants. Not here: figures
of blocks and of the log (`engine.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.model.labels import METRIC_NAME
from vedette.storage.memory import Memory

_LOW = np.uint64(0xFFFFFFFF)

Ranking = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class IndexFigures:
    """`label_pairs` is the number of distinct ones; each ranking has the largest, largest first."""

    label_pairs: int = 0
    series_by_metric: Ranking = ()
    values_by_label: Ranking = ()
    memory_by_label: Ranking = ()
    """Bytes of the label's values, counted once for each series."""
    series_by_pair: Ranking = ()


def index_figures(memory: Memory, *, top: int = 10) -> IndexFigures:
    """The figures now, `top` of each ranking: some ten milliseconds for a million label pairs."""
    series = memory.series
    indexes = [memory.index(tenant) for tenant in list(series.tenants)]
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
