"""The collector: every job of the configuration and this process' own expositions, scraped on time."""

from __future__ import annotations

import asyncio
import secrets

from vedette.clock import Clock
from vedette.collect.config import CollectConfig
from vedette.collect.pool import InternalPool, Means, Pool
from vedette.collect.scrape import Append, ScrapeLoop, TargetState
from vedette.collect.targets import DroppedTarget
from vedette.model.samples import canonical
from vedette.model.tenants import DEFAULT_TENANT


class Collector:
    """Scrapes by the configuration last applied; samples go to `append` under `tenant`, where `starts` with what `_created` lines say.

    `mark` is what its scrapes say in the header `own.SCRAPER`: no other collector's say the same.
    """

    def __init__(self, append: Append, clock: Clock, *, tenant: str = DEFAULT_TENANT, starts: bool = False) -> None:
        self.mark = secrets.token_hex(8)
        self._means = Means(append, clock, canonical(tenant), self.mark, starts)
        self._pools: dict[str, Pool] = {}
        self._internal = InternalPool(self._means)
        self._turn = asyncio.Lock()

    async def apply(self, config: CollectConfig) -> None:
        """Start, change and stop what the configuration asks for; unchanged targets go on undisturbed."""
        async with self._turn:
            jobs = {job.job_name: job for job in config.jobs}
            gone = [name for name in self._pools if name not in jobs]
            await asyncio.gather(*(self._pools.pop(name).close(gone=True) for name in gone))
            for name, job in jobs.items():
                if name not in self._pools:
                    self._pools[name] = Pool(self._means)
                await self._pools[name].apply(job)
            await self._internal.apply(config.internal)

    def targets(self) -> list[TargetState]:
        """All targets being scraped, by pool and labels."""
        return sorted((loop.state for loop in self._loops()), key=lambda state: (state.pool, state.labels))

    def dropped(self) -> list[DroppedTarget]:
        """The targets that relabelling dropped or that are none, by pool."""
        return [target for _, pool in sorted(self._pools.items()) for target in pool.dropped]

    def dropped_counts(self) -> dict[str, int]:
        """How many targets each job dropped, those that `keep_dropped_targets` leaves out of `dropped` included."""
        return {name: pool.dropped_count for name, pool in sorted(self._pools.items())}

    @property
    def failures(self) -> int:
        """Scrapes that broke inside or whose report could not be stored, and discoveries that failed, of what is at work."""
        return sum(loop.failures for loop in self._loops()) + sum(pool.failures for pool in self._pools.values())

    async def close(self) -> None:
        """Stop all loops, waiting for what is being stored; as at any shutdown, nothing turns stale."""
        async with self._turn:
            await asyncio.gather(*(pool.close(gone=False) for pool in self._pools.values()), self._internal.close())
            self._pools.clear()

    def _loops(self) -> list[ScrapeLoop]:
        return [*(loop for pool in self._pools.values() for loop in pool.loops), *self._internal.loops]
