"""How many log lines came in, by service and level, as series of whoever sent them: `vedette_log_messages_total`.

Counters of each tenant, stored among its own series, so that its rules can use them and no other tenant sees them. A
counter's first sample is 0, a moment before, or the lines with which it begins would be no increase. Not here: counting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import VedetteError
from vedette.ingest.rounds import Rounds
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import Appended, KeySpace, SampleBatch, canonical

log = structlog.get_logger(__name__)

METRIC = "vedette_log_messages_total"


class LogSeries:
    """Stores the counts every `interval_ms`. `counts` gives them by tenant, by (service, level)."""

    def __init__(
        self,
        counts: Callable[[], Mapping[str, Mapping[tuple[str, str], int]]],
        append: Callable[[SampleBatch], Awaitable[Appended]],
        clock: Clock,
        *,
        interval_ms: int,
    ) -> None:
        self._counts = counts
        self._append = append
        self._clock = clock
        self._keyspaces: dict[str, KeySpace] = {}
        self._known: set[tuple[str, str, str]] = set()
        self._rounds = Rounds(self.store, clock, seconds=lambda: interval_ms / 1000, problem="the counts of log lines are not stored")
        self.failures = 0

    def start(self) -> None:
        """Begin."""
        self._rounds.start()

    async def close(self) -> None:
        """Store the last counts and end."""
        if self._rounds.started:
            await self._rounds.close()
            await self.store()

    async def store(self) -> None:
        """Store the counts as they are now; what cannot be stored is part of the next."""
        now = now_ms(self._clock)
        for tenant, counts in list(self._counts().items()):
            found = dict(counts)
            space = self._keyspaces.get(tenant) or self._keyspaces.setdefault(tenant, canonical(tenant))
            new = [key for key in found if (tenant, *key) not in self._known]
            try:
                if new:
                    await self._append(SampleBatch.of(space, [_labels(key) for key in new], [now - 1] * len(new), [0.0] * len(new)))
                    self._known.update((tenant, *key) for key in new)
                await self._append(
                    SampleBatch.of(space, [_labels(key) for key in found], [now] * len(found), [float(n) for n in found.values()])
                )
            except VedetteError as error:
                self.failures += 1
                log.warning("the counts of log lines are not stored", reason=str(error), tenant=tenant)


def _labels(key: tuple[str, str]) -> Labels:
    service, level = key
    found = {METRIC_NAME: METRIC, "level": level}
    return Labels.of({**found, "service": service} if service else found)
