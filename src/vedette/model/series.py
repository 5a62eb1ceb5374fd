"""Samples on their way out: what a select answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vedette.model.histograms import Histograms
from vedette.model.labeltable import LabelTable
from vedette.model.samples import is_stale


@dataclass(frozen=True, slots=True)
class SeriesSet:
    """The samples of n series in CSR form.

    Series i has labels `labels.row(i)` and samples `offsets[i]:offsets[i+1]` (int64[n+1]) of `timestamps`
    (int64 ms, strictly increasing within a series) and `values` (float64, stale markers included).
    Series come in no particular order; a label set occurs once; a series without samples may occur.
    `histograms` are those of the samples that are native histograms, None where there are none. `start_timestamps` (int64
    ms for each sample, None where none is known) say since when a counter has been counting, 0 where that is not known.
    """

    labels: LabelTable
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]
    histograms: Histograms | None = None
    start_timestamps: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sample_count(self) -> int:
        """How many samples all series have together."""
        return len(self.timestamps)

    def latest(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(rows, the places of their last samples) of the series whose last sample is a float: no stale marker, no native histogram."""
        rows = np.flatnonzero(np.diff(self.offsets))
        last = self.offsets[rows + 1] - 1
        keep = ~is_stale(self.values[last])
        if self.histograms is not None:
            keep &= ~np.isin(last, self.histograms.at)
        return rows[keep], last[keep]
