"""Senders' keys to series, for backends whose samples are elsewhere: in the steady state no label is parsed.

Series that nobody has sent for long may be forgotten (`forget_idle`), which numbers the others anew. Not here: samples.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vedette.kernels.series_table import DROPPED, MISSING
from vedette.model.samples import SampleBatch
from vedette.storage.limits import SERIES_LIMIT, TenantLimits
from vedette.storage.oversize import too_large
from vedette.storage.series import SeriesTable

_I64 = np.int64
_LEAST = 10_000
"""So many series are worth the trouble of forgetting them, and a quarter of all."""

Refused = dict[str, NDArray[np.int64]]
"""Rows of a batch by the reason why they are not stored."""


class Names:
    """The series that this process has met, by local numbers. Any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series = SeriesTable()
        self._free = threading.Condition()
        self._held = 0
        self._waiting = False
        # How many looks of `forget_idle` ago each series was met.
        self._age: NDArray[np.uint8] = np.zeros(1024, dtype=np.uint8)
        self.forgotten = 0
        """How many series have been forgotten."""

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

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While it is entered, numbers stay what they are: `forget_idle` waits."""
        with self._free:
            self._free.wait_for(lambda: not self._waiting)
            self._held += 1
        try:
            yield
        finally:
            with self._free:
                self._held -= 1
                self._free.notify_all()

    def met(self, rows: NDArray[np.int64]) -> None:
        """These series (below 0: none) were sent just now."""
        with self._lock:
            self._meet(rows)

    def _meet(self, rows: NDArray[np.int64]) -> None:
        if len(self._series) > len(self._age):
            grown = np.zeros(max(len(self._series), len(self._age) * 2), dtype=np.uint8)
            grown[: len(self._age)] = self._age
            self._age = grown
        self._age[rows[rows >= 0]] = 0

    def forget_idle(self, looks: int = 2) -> NDArray[np.int64] | None:
        """Forget the series that were met in none of the last `looks` times between two calls of this.

        Answers the new number of each series, below 0 where it is forgotten; None where all stay as they are, since few would go.
        Handles go on to mean what they meant. Not called while numbers are `held` by the same thread.
        """
        with self._free:
            self._waiting = True
            try:
                self._free.wait_for(lambda: self._held == 0)
                with self._lock:
                    return self._forget(looks)
            finally:
                self._waiting = False
                self._free.notify_all()

    def _forget(self, looks: int) -> NDArray[np.int64] | None:
        count = len(self._series)
        self._meet(np.zeros(0, dtype=_I64))
        ages = self._age[:count]
        gone = ages >= looks
        ages[~gone] += 1
        if np.count_nonzero(gone) <= max(_LEAST, count // 4):
            return None
        made, numbers = self._series.without(gone)
        old = made.succeed(self._series, numbers, np.zeros(0, dtype=_I64))
        self._age = np.concatenate([ages[old], np.zeros(1024, dtype=np.uint8)])
        self._series = made
        self.forgotten += count - len(made)
        self._learned()
        return numbers

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
            self._meet(rows)
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
            self._meet(rows[new])
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
        """The series of handles, which are met by that; DROPPED where one is gone."""
        with self._lock:
            rows = self._series.ids_by(handles)
            self._meet(rows)
            return rows

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
