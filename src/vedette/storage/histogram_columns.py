"""Native histograms beside the samples they belong to.

Storage keeps a histogram as a sample whose value is its sum, as it keeps any float, and its cells in columns of their own.
A histogram belongs to the sample of its series at its time whose value is its sum, bit by bit: so whatever takes samples
away (deletion, a duplicate, retention) takes their histograms with them, and the ways of floats know nothing of histograms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vedette.kernels import histograms as kernel
from vedette.model.histograms import Histograms
from vedette.storage.series import writable

_I64 = np.int64


@dataclass(frozen=True, slots=True)
class Found:
    """Histograms of the rows of some read: `rows`, `times` int64[m] of each, by row; `columns.at` says nothing yet."""

    rows: NDArray[np.int64]
    times: NDArray[np.int64]
    columns: Histograms

    def of_rows(self, numbers: NDArray[np.int64]) -> Found:
        """The same where row i has become row `numbers[i]`; those of rows that are below 0 are left out."""
        rows = numbers[self.rows]
        if len(rows) == 0 or rows.min() >= 0:
            return replace(self, rows=rows)
        which = np.flatnonzero(rows >= 0)
        return Found(rows[which], self.times[which], self.columns.take(which, self.columns.at[which]))


def attached(
    found: Sequence[Found], offsets: NDArray[np.int64], times: NDArray[np.int64], bits: NDArray[np.int64]
) -> tuple[NDArray[np.int64], Histograms] | None:
    """(rows, histograms) that belong to samples in CSR form, `at` being their place, ascending; None where there are none.

    Of two for one sample that in the earlier of `found` counts.
    """
    filled = [f for f in found if len(f.rows)]
    if not filled:
        return None
    all_rows = np.concatenate([f.rows for f in filled])
    columns = Histograms.joined([f.columns for f in filled])
    at = np.empty(len(all_rows), dtype=_I64)
    stamps = np.concatenate([f.times for f in filled])
    sums = writable(columns.sums, np.float64).view(_I64)
    kernel.locate(all_rows, stamps, sums, writable(offsets, _I64), writable(times, _I64), writable(bits, _I64), at)
    if at[0] >= 0 and bool(np.all(at[1:] > at[:-1])):
        # So it is of what one part alone has.
        return all_rows, replace(columns, at=at)
    places, which = np.unique(at, return_index=True)
    if len(places) and places[0] < 0:
        places, which = places[1:], which[1:]
    if not len(places):
        return None
    return all_rows[which], _taken(columns, which, places)


def _taken(columns: Histograms, which: NDArray[np.int64], at: NDArray[np.int64]) -> Histograms:
    """The histograms `which`, in this order, as the samples at `at`."""
    starts = columns.offsets[which]
    offsets = np.zeros(len(which) + 1, dtype=_I64)
    np.cumsum(columns.offsets[which + 1] - starts, out=offsets[1:])
    cells = np.empty(int(offsets[-1]))
    kernel.copied(starts, offsets, writable(columns.cells, np.float64), cells)
    return Histograms(at, columns.layouts, columns.layout[which], offsets, cells, columns.hints[which])


Sent = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Samples: the number of the series of each (or the samples' offsets, in CSR form), time and value bits."""


def located(sent: Sent, offsets: NDArray[np.int64], times: NDArray[np.int64], bits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where the samples `sent` stand among those in CSR form: series, time and bits are the same; -1 where nothing is."""
    at = np.empty(len(sent[0]), dtype=_I64)
    rows, stamps, values = (writable(c, _I64) for c in sent)
    kernel.locate(rows, stamps, values, writable(offsets, _I64), writable(times, _I64), writable(bits, _I64), at)
    return at


def _in_order(found: Sequence[Found], rows: int) -> tuple[Histograms, Sent] | None:
    """(histograms of at least `rows` rows, row by row and within each by time, the same as samples in CSR form); None without any."""
    filled = [f for f in found if len(f.rows)]
    if not filled:
        return None
    known = Histograms.joined([f.columns for f in filled])
    known_rows, stamps = np.concatenate([f.rows for f in filled]), np.concatenate([f.times for f in filled])
    order = np.lexsort((stamps, known_rows))
    known = known.take(order, order)
    offsets = np.searchsorted(known_rows[order], np.arange(max(rows, int(known_rows.max()) + 1) + 1)).astype(_I64)
    return known, (offsets, stamps[order], writable(known.sums, np.float64).view(_I64))


def standing(found: Sequence[Found], sent: Sent) -> int:
    """How many of the samples `sent` have a histogram of theirs as their sum in `found` in their place."""
    ordered = _in_order(found, int(sent[0].max()) + 1)
    return 0 if ordered is None else int(np.count_nonzero(located(sent, *ordered[1]) >= 0))


def other_than(
    found: Sequence[Found], rows: NDArray[np.int64], times: NDArray[np.int64], sent: Histograms
) -> tuple[int, NDArray[np.int64]]:
    """(how many of the histograms `sent`, of `rows` at `times`, find another one of the same sum in their place in `found`, which none)."""
    ordered = _in_order(found, int(rows.max()) + 1)
    if ordered is None:
        return 0, np.arange(len(rows))
    known, samples = ordered
    at = located((rows, times, writable(sent.sums, np.float64).view(_I64)), *samples)
    met = np.flatnonzero(at >= 0)
    both = Histograms.joined([sent.take(met, met), known.take(at[met], met)])
    half = len(met)
    other = both.layout[:half] != both.layout[half:]
    widths = np.diff(both.offsets)
    alike = np.flatnonzero(~other)
    mine, theirs = (both.take(alike + shift, alike).cells.view(_I64) for shift in (0, half))
    owner = np.repeat(np.arange(len(alike)), widths[alike])
    other[alike[np.unique(owner[mine != theirs])]] = True
    return int(np.count_nonzero(other)), np.flatnonzero(at < 0)
