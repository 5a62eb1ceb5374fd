"""Start timestamps: since when a counter has been counting, for each sample that says so.

They are kept as samples of their own: those of a tenant under the name `hidden_tenant`, by the same labels and at the same times,
the start (ms) as the value. So the log, blocks, compaction, retention and deletion treat them as they treat samples, and who
does not ask for them does not read them. Also the samples of zero that may stand for them. Not here: what PromQL makes of them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vedette.kernels.hashing import hash_regions
from vedette.model.histograms import RESET, Histogram, Histograms, bare
from vedette.model.samples import KeySpace, SampleBatch

_MARK = "\x00start"
_I64 = np.int64


def hidden_tenant(tenant: str) -> str:
    """As what tenant the engine knows the start timestamps of a tenant's samples."""
    return tenant + _MARK


def shown_tenant(tenant: str) -> str:
    """The tenant whose start timestamps a hidden one has; any other tenant is itself."""
    return tenant.removesuffix(_MARK)


class Starts:
    """Makes batches of start timestamps. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spaces: dict[int, tuple[KeySpace, KeySpace]] = {}

    def of(self, batch: SampleBatch) -> SampleBatch | None:
        """The start timestamps of a batch's samples, None where it has none."""
        if batch.starts is None or batch.ids is not None:
            return None
        known = batch.starts != 0
        rows = np.flatnonzero(np.diff(np.concatenate([np.zeros(1, _I64), np.cumsum(known)])[batch.offsets]))
        if not len(rows):
            return None
        made = replace(batch, histograms=None, exemplars=(), metadata=()).only(known).rows(rows)
        assert made.starts is not None
        space = self._hidden(batch.keyspace)
        hashes = hash_regions(made.buffer, made.key_start, made.key_end, np.uint64(space.id))
        return replace(made, keyspace=space, hashes=hashes, values=made.starts.astype(np.float64), starts=None)

    def _hidden(self, space: KeySpace) -> KeySpace:
        """The key space whose keys mean what they mean in `space`, of the hidden tenant."""
        with self._lock:
            found = self._spaces.get(space.id)
            if found is None:
                for number in [n for n, (original, _) in self._spaces.items() if original.closed]:
                    self._spaces.pop(number)[1].close()
                found = self._spaces[space.id] = (space, space.twin(hidden_tenant(space.tenant)))
            return found[1]


@dataclass(frozen=True, slots=True)
class Zeros:
    """A batch with zeros put in, how many they are, and how many of them are histograms."""

    batch: SampleBatch
    samples: int
    histograms: int


def with_zeros(batch: SampleBatch, newest: NDArray[np.int64], *, oldest: int) -> Zeros:
    """The batch with a sample of zero at each start that lies between a sample and the one before it.

    As Prometheus puts them in: `newest` int64[n] is the time of each row's newest stored sample (ms); none goes before that, or before
    `oldest`, or into a row whose `newest` is in the far future.
    """
    starts = batch.starts
    if starts is None or not starts.any():
        return Zeros(batch, 0, 0)
    rows = np.repeat(np.arange(batch.series_count), np.diff(batch.offsets))
    before = np.empty(batch.sample_count, dtype=_I64)
    before[1:] = batch.timestamps[:-1]
    begins = batch.offsets[:-1][np.diff(batch.offsets) > 0]
    before[begins] = newest[rows[begins]]
    before = np.maximum(before, newest[rows])
    at = np.flatnonzero((starts > 0) & (starts < batch.timestamps) & (starts > before) & (starts >= oldest))
    if not len(at):
        return Zeros(batch, 0, 0)
    moved: NDArray[np.int64] = np.cumsum(np.isin(np.arange(batch.sample_count), at), dtype=_I64)
    histograms = None if batch.histograms is None else _with_zero_histograms(batch.histograms, at, moved)
    added = np.concatenate([np.zeros(1, dtype=_I64), np.cumsum(np.bincount(rows[at], minlength=batch.series_count))])
    longer = replace(
        batch,
        offsets=batch.offsets + added,
        timestamps=np.insert(batch.timestamps, at, starts[at]),
        values=np.insert(batch.values, at, 0.0),
        starts=np.insert(starts, at, 0),
        histograms=histograms,
    )
    return Zeros(longer, len(at), len(histograms or ()) - len(batch.histograms or ()))


def _with_zero_histograms(histograms: Histograms, at: NDArray[np.int64], moved: NDArray[np.int64]) -> Histograms:
    """Those of a batch into which zeros went before the samples `at`; where such a sample is a histogram, its zero is one, too."""
    shifted = replace(histograms, at=histograms.at + moved[histograms.at])
    which = np.flatnonzero(np.isin(histograms.at, at))
    if not len(which):
        return shifted
    zeros = Histograms.of((shifted.at[which] - 1).tolist(), [_zero(histograms.sample(j)) for j in which.tolist()])
    both = Histograms.joined([shifted, zeros])
    order = np.argsort(both.at)
    return both.take(order, both.at[order])


def _zero(h: Histogram) -> Histogram:
    """A histogram of nothing, of the same kind."""
    layout = bare(h.layout.schema, h.layout.threshold, h.layout.bounds)
    return Histogram(layout, np.zeros(layout.width), RESET)
