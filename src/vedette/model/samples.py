"""Samples on their way in: struct-of-arrays batches, and the key spaces that give their series a name.

A batch does not carry labels. It carries, for each series, the raw bytes by which its sender names it (a protobuf
label region, an exposition prefix, canonical label bytes) and their hash; storage knows the bytes again and
parses them only once, through the batch's `KeySpace`.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vedette.kernels.hashing import hash_regions
from vedette.model.exemplars import Exemplar
from vedette.model.histograms import Histogram, Histograms
from vedette.model.labels import Labels
from vedette.model.tenants import DEFAULT_TENANT

STALE_BITS = 0x7FF0000000000002
"""The bit pattern of Prometheus' stale marker; compare bits, never with `isnan`: NaN is a legal value."""

STALE: float = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]

ResolveMany = Callable[[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]], tuple[NDArray[np.uint8], NDArray[np.int64]]]
"""(buffer, starts, ends) of keys to (canonical keys end to end, offsets int64[n + 1])."""

_keyspace_ids = itertools.count(1)


def is_stale(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of `values` are stale markers, by their bits."""
    stale: NDArray[np.bool_] = np.ascontiguousarray(values).view(np.uint64) == np.uint64(STALE_BITS)
    return stale


class KeySpace:
    """What a sender's raw series bytes mean: the tenant, and how bytes become labels.

    `resolve(key)` gives the labels to store under, or None for a series that is dropped (by relabelling, say);
    it may raise `BadInput`, which refuses the whole batch before anything of it is stored. It is called once
    for each new key, never in the steady state. Equal bytes in two key spaces are unrelated. `close()` says
    that no more batches will come, so storage may forget the keys (not the series).

    `resolve_many(buffer, starts, ends)`, where given, does the same for many keys at once and in arrays; see `canonicalise`.
    """

    __slots__ = ("_many", "closed", "id", "resolve", "tenant")

    def __init__(self, tenant: str, resolve: Callable[[bytes], Labels | None], *, resolve_many: ResolveMany | None = None) -> None:
        self.id = next(_keyspace_ids)
        self.tenant = tenant
        self.resolve = resolve
        self._many = resolve_many
        self.closed = False

    def canonicalise(
        self, buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """`Labels.encode()` of the keys `buffer[starts[i]:ends[i]]`, end to end, and offsets int64[n + 1]; empty where dropped.

        Raises `BadInput` as `resolve` does.
        """
        if self._many is not None:
            return self._many(buffer, starts, ends)
        labels = [self.resolve(buffer[lo:hi].tobytes()) for lo, hi in zip(starts.tolist(), ends.tolist(), strict=True)]
        keys = [b"" if found is None else found.encode() for found in labels]
        offsets = np.zeros(len(keys) + 1, dtype=np.int64)
        np.cumsum([len(k) for k in keys], out=offsets[1:])
        # A bytearray, since kernels would be compiled a second time for an array that is read-only.
        return np.frombuffer(bytearray().join(keys), dtype=np.uint8), offsets

    def twin(self, tenant: str) -> KeySpace:
        """A key space of another tenant in which the same bytes mean the same."""
        return KeySpace(tenant, self.resolve, resolve_many=self._many)

    def close(self) -> None:
        """No more batches will come from this key space."""
        self.closed = True


@dataclass(frozen=True, slots=True, weakref_slot=True)
class MetricMetadata:
    """What a metric is: `type` is one of counter, gauge, histogram, gaugehistogram, summary, info, stateset, unknown."""

    metric: str
    type: str = "unknown"
    help: str = ""
    unit: str = ""


@dataclass(slots=True)
class SampleBatch:
    """Samples of n series from one sender, as columns.

    `buffer` uint8[...]; series i is named by `buffer[key_start[i]:key_end[i]]` (int64[n] each) in `keyspace`, with
    `hashes` uint64[n, 2] of those bytes seeded by the keyspace's id; its samples are
    `timestamps[offsets[i]:offsets[i+1]]` (int64 ms) and `values[...]` (float64), `offsets` int64[n+1].
    The same series may occur more than once in a batch. `histograms` are those of the samples that are native histograms,
    None where there are none; `values` hold their sums.

    `ids`, where given (int64[n], as `Appended.ids` answered), stands in for keys and hashes, which are then empty.
    """

    keyspace: KeySpace
    buffer: NDArray[np.uint8]
    key_start: NDArray[np.int64]
    key_end: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    values: NDArray[np.float64]
    metadata: Sequence[MetricMetadata] = ()
    ids: NDArray[np.int64] | None = None
    histograms: Histograms | None = None
    exemplars: Sequence[Exemplar] = ()
    starts: NDArray[np.int64] | None = None
    """Since when each sample's counter has been counting (int64 ms, 0 where that is not known), None where none says so."""
    bad_histograms: int = 0
    """How many native histograms were left out because they cannot be, and `problem`, what is wrong with the first."""
    problem: str = ""
    bad_series: int = 0
    bad_series_samples: int = 0
    """How many series, and samples of theirs, were left out already since they cannot be; `problem` tells of the first."""
    partial: bool = False
    """Whether a series that is not valid keeps only itself out, instead of the whole batch: who sent it is told which it was."""

    @property
    def series_count(self) -> int:
        """How many series rows the batch has."""
        return len(self.offsets) - 1

    @property
    def sample_count(self) -> int:
        """How many samples the batch has."""
        return len(self.timestamps)

    @classmethod
    def of(
        cls,
        keyspace: KeySpace,
        series: Sequence[Labels],
        timestamps: Sequence[int] | NDArray[np.int64],
        values: Sequence[float | Histogram] | NDArray[np.float64],
        *,
        metadata: Sequence[MetricMetadata] = (),
    ) -> SampleBatch:
        """One sample a series, for producers that hold labels (rules, tracked metrics); `keyspace` from `canonical`."""
        found = () if isinstance(values, np.ndarray) else [(i, v) for i, v in enumerate(values) if isinstance(v, Histogram)]
        keys = [s.encode() for s in series]
        ends = np.cumsum([len(k) for k in keys], dtype=np.int64) if keys else np.zeros(0, dtype=np.int64)
        starts = np.concatenate([np.zeros(1, dtype=np.int64), ends[:-1]]) if keys else ends
        # A bytearray, since kernels would be compiled a second time for an array that is read-only.
        buffer = np.frombuffer(bytearray().join(keys), dtype=np.uint8)
        return cls(
            keyspace=keyspace,
            buffer=buffer,
            key_start=starts,
            key_end=ends,
            hashes=hash_regions(buffer, starts, ends, np.uint64(keyspace.id)),
            offsets=np.arange(len(keys) + 1, dtype=np.int64),
            timestamps=np.asarray(timestamps, dtype=np.int64),
            values=np.array([v.sum if isinstance(v, Histogram) else v for v in values]) if found else np.asarray(values, dtype=np.float64),
            metadata=metadata,
            histograms=Histograms.of([i for i, _ in found], [h for _, h in found]) if found else None,
        )

    def only(self, good: NDArray[np.bool_]) -> SampleBatch:
        """The batch with those of its samples that are `good` (bool, one for each); its rows stay."""
        before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(good, dtype=np.int64)])
        histograms = self.histograms
        if histograms is not None:
            which = np.flatnonzero(good[histograms.at])
            histograms = histograms.take(which, before[histograms.at[which]]) if len(which) else None
        return replace(
            self,
            offsets=before[self.offsets],
            timestamps=self.timestamps[good],
            values=self.values[good],
            histograms=histograms,
            starts=None if self.starts is None else self.starts[good],
        )

    def rows(self, which: NDArray[np.int64]) -> SampleBatch:
        """The batch of the rows `which` (ascending)."""
        good = np.zeros(self.series_count, dtype=np.bool_)
        good[which] = True
        numbers = np.cumsum(good) - 1
        lengths = np.diff(self.offsets)
        return replace(
            self.only(np.repeat(good, lengths)),
            key_start=self.key_start[which],
            key_end=self.key_end[which],
            hashes=self.hashes[which],
            offsets=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths[which])]),
            exemplars=[e._replace(row=int(numbers[e.row])) for e in self.exemplars if good[e.row]],
        )

    @classmethod
    def by_id(
        cls,
        keyspace: KeySpace,
        ids: NDArray[np.int64],
        timestamps: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> SampleBatch:
        """One sample for each of the series `ids` that an earlier append answered: how stale markers are written."""
        nothing = np.zeros(0, dtype=np.int64)
        return cls(
            keyspace=keyspace,
            buffer=np.zeros(0, dtype=np.uint8),
            key_start=nothing,
            key_end=nothing,
            hashes=np.zeros((0, 2), dtype=np.uint64),
            offsets=np.arange(len(ids) + 1, dtype=np.int64),
            timestamps=timestamps,
            values=values,
            ids=ids,
        )


def canonical(tenant: str = DEFAULT_TENANT) -> KeySpace:
    """A key space whose keys are `Labels.encode()` bytes."""
    return KeySpace(tenant, Labels.decode)


@dataclass(slots=True)
class Appended:
    """What became of a batch. `ids` int64[n]: each row's series, -1 where the row was dropped whole."""

    ids: NDArray[np.int64]
    samples: int = 0
    new_series: int = 0
    histograms: int = 0
    """How many of the samples are native histograms."""
    exemplars: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Samples not stored, by reason: `duplicate`, `too_old`, `too_far_ahead`, `relabelled`, `series_limit`,
    `too_many_labels`, `label_name_too_long`, `label_value_too_long`, `invalid_labels`, `bad_histogram`."""
    problem: str = ""
    """What is wrong with the first series or histogram that was left out as not valid, empty where none was."""
