"""The one door in: every sample, whoever sends it, goes to storage through here and is counted.

Not here: parsing (`wire`), who may send (`access`), durability (`storage`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from vedette.errors import BadInput, LimitExceeded
from vedette.model.samples import Appended, SampleBatch
from vedette.storage.interface import Storage


@dataclass(slots=True)
class Counts:
    """What has come through the door since the start; read by the server's own metrics."""

    batches: int = 0
    samples: int = 0
    new_series: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Samples not stored, by reason (`Appended.dropped`)."""
    refused: Counter[str] = field(default_factory=Counter)
    """Batches refused whole: `bad_input`, `limit`, `too_large`."""


class Door:
    """Takes batches for one storage. `max_samples` is the most samples one batch may hold, 0 for no limit."""

    def __init__(self, storage: Storage, *, max_samples: int = 0) -> None:
        self._storage = storage
        self._max_samples = max_samples
        self.counts = Counts()

    async def append(self, batch: SampleBatch) -> Appended:
        """Store a batch; durable when it returns.

        Raises `BadInput` where a series in it is not valid and `LimitExceeded` where it is too large or storage cannot
        take it now; nothing of it is stored then.
        """
        counts = self.counts
        if self._max_samples and batch.sample_count > self._max_samples:
            counts.refused["too_large"] += 1
            raise LimitExceeded(f"a batch of {batch.sample_count} samples; at most {self._max_samples} are taken at once")
        try:
            appended = await self._storage.append(batch)
        except BadInput:
            counts.refused["bad_input"] += 1
            raise
        except LimitExceeded:
            counts.refused["limit"] += 1
            raise
        counts.batches += 1
        counts.samples += appended.samples
        counts.new_series += appended.new_series
        counts.dropped.update(appended.dropped)
        return appended
