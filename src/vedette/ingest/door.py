"""The one door in: every sample, whoever sends it, goes to storage through here and is counted.

Not here: parsing (`wire`), who may send (`access`), durability (`storage`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest.exemplars import Exemplars
from vedette.model.samples import Appended, SampleBatch
from vedette.storage.interface import Storage
from vedette.storage.limits import REASONS, Limits

log = structlog.get_logger(__name__)

# As far ahead as Prometheus takes samples. Beyond it a sender's clock is wrong, and one such sample would make all that
# its series gets from then on too old.
_AHEAD_MS = 600_000


@dataclass(slots=True)
class Counts:
    """What has come through the door since the start; read by the server's own metrics."""

    batches: int = 0
    samples: int = 0
    new_series: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Samples not stored, by reason (`Appended.dropped`)."""
    refused: Counter[str] = field(default_factory=Counter)
    """Batches refused whole: `bad_input`, `limit`, `too_large`, `rate_limit`."""
    limited: Counter[str] = field(default_factory=Counter)
    """Samples that a limit of their tenant kept out, by tenant."""


class Door:
    """Takes batches for one storage. `max_samples` is the most samples one batch may hold, 0 for no limit.

    `limits` are the tenants': here only how many samples a second; storage looks after the others. `exemplars` keeps those that
    come with what was stored; without it they are forgotten. `tee` is handed what was stored, before that is acknowledged.
    """

    def __init__(
        self,
        storage: Storage,
        clock: Clock,
        *,
        max_samples: int = 0,
        limits: Limits | None = None,
        exemplars: Exemplars | None = None,
        tee: Callable[[SampleBatch, Appended], Awaitable[None]] | None = None,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._max_samples = max_samples
        self._limits = limits or Limits()
        self._exemplars = exemplars
        self._tee = tee
        self.counts = Counts()

    async def append(self, batch: SampleBatch) -> Appended:
        """Store a batch; durable when it returns. Samples more than ten minutes ahead are dropped as `too_far_ahead`.

        Of a `partial` batch series that are not valid are left out, as `invalid_labels`. Raises `BadInput` where there is one in
        another batch and `LimitExceeded` where it is too large or storage cannot take it now or (`TenantLimit`) its tenant sends
        too much; nothing of it is stored then.
        """
        counts = self.counts
        if self._max_samples and batch.sample_count > self._max_samples:
            counts.refused["too_large"] += 1
            raise LimitExceeded(f"a batch of {batch.sample_count} samples; at most {self._max_samples} are taken at once")
        tenant = batch.keyspace.tenant
        try:
            self._limits.count(tenant, batch.sample_count, self._clock.monotonic())
        except LimitExceeded:
            counts.refused["rate_limit"] += 1
            counts.limited[tenant] += batch.sample_count
            raise
        batch, ahead = _without_future(batch, now_ms(self._clock) + _AHEAD_MS)
        try:
            batch, invalid, appended = await self._stored(batch)
        except BadInput:
            counts.refused["bad_input"] += 1
            raise
        except LimitExceeded:
            counts.refused["limit"] += 1
            raise
        if ahead:
            appended.dropped["too_far_ahead"] = ahead
        if batch.bad_histograms:
            appended.dropped["bad_histogram"] = batch.bad_histograms
        if lost := batch.bad_series_samples + (invalid.samples if invalid is not None else 0):
            appended.dropped["invalid_labels"] = lost
        appended.problem = batch.problem if invalid is None else invalid.problem
        counts.batches += 1
        counts.samples += appended.samples
        counts.new_series += appended.new_series
        counts.dropped.update(appended.dropped)
        if batch.exemplars and self._exemplars is not None:
            appended.exemplars = await self._exemplars.keep(batch, appended.ids.tolist())
        if limited := sum(appended.dropped.get(reason, 0) for reason in REASONS):
            counts.limited[tenant] += limited
        if self._tee is not None:
            await self._tee(batch, appended)
        return appended

    async def _stored(self, batch: SampleBatch) -> tuple[SampleBatch, _Invalid | None, Appended]:
        """(what was stored of a batch, what was left out since it is not valid, what became of it)."""
        try:
            return batch, None, await self._storage.append(batch)
        except BadInput as error:
            if not batch.partial or batch.ids is not None:
                raise
            # Only now, when storage has met a key that it cannot read, are keys looked at: all that it knows are valid.
            batch, invalid = await asyncio.to_thread(_without_invalid, batch)
            if invalid is None:
                raise
            log.info("series that are not valid were left out", tenant=batch.keyspace.tenant, series=invalid.series, problem=str(error))
            return batch, invalid, await self._storage.append(batch)


@dataclass(frozen=True, slots=True)
class _Invalid:
    """What a batch had of series that are not valid, and what is wrong with the first."""

    series: int
    samples: int
    problem: str


def _without_invalid(batch: SampleBatch) -> tuple[SampleBatch, _Invalid | None]:
    """The batch without the series whose keys its key space refuses, and what those were (None where there were none)."""
    bad: list[int] = []
    problems: list[str] = []
    spans = [(0, batch.series_count)]
    while spans:  # halves, since most are valid and many at once are read fast
        lo, hi = spans.pop()
        try:
            batch.keyspace.canonicalise(batch.buffer, batch.key_start[lo:hi], batch.key_end[lo:hi])
        except BadInput as error:
            if hi - lo == 1:
                bad.append(lo)
                problems.append(str(error))
            else:
                middle = (lo + hi) // 2
                spans += [(middle, hi), (lo, middle)]
    if not bad:
        return batch, None
    samples = int(np.diff(batch.offsets)[bad].sum())
    more = f" (and {len(bad) - 1} more series)" if len(bad) > 1 else ""
    good = np.setdiff1d(np.arange(batch.series_count), np.array(bad, dtype=np.int64))
    return batch.rows(good), _Invalid(len(bad), samples, problems[0] + more)


def _without_future(batch: SampleBatch, latest: int) -> tuple[SampleBatch, int]:
    """The batch without samples later than `latest` (its rows stay), and how many those were."""
    good = batch.timestamps <= latest
    kept = int(np.count_nonzero(good))
    if kept == len(good):
        return batch, 0
    return batch.only(good), len(good) - kept
