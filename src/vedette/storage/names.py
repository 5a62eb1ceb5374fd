"""Senders' keys to series, for backends whose samples are elsewhere: in the steady state no label is parsed. Not here: samples."""

from __future__ import annotations

import itertools
import threading

import numpy as np
from numpy.typing import NDArray

from vedette.kernels.series_table import DROPPED, MISSING
from vedette.model.samples import SampleBatch
from vedette.storage.limits import SERIES_LIMIT, TenantLimits, too_large
from vedette.storage.series import SeriesTable

_I64 = np.int64

Refused = dict[str, NDArray[np.int64]]
"""Rows of a batch by the reason why they are not stored."""


class Names:
    """The series that this process has met, by local numbers. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series = SeriesTable()

    def __len__(self) -> int:
        return len(self._series)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._series.nbytes

    def by_tenant(self) -> dict[str, int]:
        """How many series of each tenant there are."""
        with self._lock:
            return {tenant: len(ids) for tenant, ids in zip(self._series.tenants, self._series.ids_of, strict=True)}

    def _check(self, keys: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        """Raise `BadInput` for canonical keys that the backend cannot keep."""

    def _learned(self) -> None:
        """Series were added; under the lock."""

    def rows_of(self, batch: SampleBatch, limits: TenantLimits) -> tuple[NDArray[np.int64], Refused, int]:
        """(the local number of each of a batch's rows, DROPPED where it is to be dropped; rows that `limits` refuse; how many are new).

        Raises `BadInput` for a key that names no valid series; nothing is learned then.
        """
        with self._lock:
            rows, missing = self._series.find(batch)
        if not missing:
            return rows, {}, 0
        new = np.flatnonzero(rows == MISSING)
        keys, offsets = self._series.canonical(batch, new)
        self._check(keys, offsets)
        refused = {why: new[beyond] for why, beyond in too_large(limits, keys, offsets).items()}
        new, keys, offsets = _without(refused, rows, new, keys, offsets)
        with self._lock:
            if limits.max_series and len(beyond := self._series.beyond(batch.keyspace.tenant, keys, offsets, limits.max_series)):
                full = {SERIES_LIMIT: new[beyond]}
                new, keys, offsets = _without(full, rows, new, keys, offsets)
                refused |= full
            rows[new], added = self._series.learn(batch, new, keys, offsets)
            self._learned()
        return rows, refused, added

    def canonical_of(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The canonical keys of series, end to end, with offsets int64[n + 1]."""
        with self._lock:
            return self._series.canonical_of(numbers)

    def keys_of(self, numbers: NDArray[np.int64]) -> list[bytes]:
        """The same, one by one."""
        keys, offsets = self.canonical_of(numbers)
        raw, bounds = keys.tobytes(), offsets.tolist()
        return [raw[lo:hi] for lo, hi in itertools.pairwise(bounds)]

    def handles(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The handles of series, which mean them for the process' life; DROPPED stays."""
        with self._lock:
            return self._series.handles(rows)

    def by_handle(self, handles: NDArray[np.int64]) -> NDArray[np.int64]:
        """The series of handles, DROPPED where one is gone."""
        with self._lock:
            return self._series.ids_by(handles)

    def forget_closed(self) -> None:
        """Drop the keys of senders that are gone."""
        with self._lock:
            self._series.forget_closed()


def dropped_of(batch: SampleBatch, rows: NDArray[np.int64], refused: Refused) -> dict[str, int]:
    """How many of a batch's samples are not stored for their rows' sake, by reason."""
    lengths = np.diff(batch.offsets)
    found = {why: int(lengths[which].sum()) for why, which in refused.items()}
    found["relabelled"] = int(lengths[rows < 0].sum()) - sum(found.values())
    return {why: count for why, count in found.items() if count}


def _without(
    refused: Refused, rows: NDArray[np.int64], new: NDArray[np.int64], keys: NDArray[np.uint8], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """The new rows with their keys without those that are refused, which are DROPPED in `rows`.

    They are not learned, so that they are looked at again the next time, and their sender hears of it again.
    """
    if not refused:
        return new, keys, offsets
    out = np.isin(new, np.concatenate(list(refused.values())))
    rows[new[out]] = DROPPED
    lengths = np.diff(offsets)
    return new[~out], keys[np.repeat(~out, lengths)], np.concatenate([offsets[:1], np.cumsum(lengths[~out])])
