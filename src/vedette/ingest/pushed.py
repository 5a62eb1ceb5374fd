"""Pushed groups: kept in the records until they are deleted, and written into the storage at once and then every interval.

A push is on disk before it is answered, so groups survive `kill -9`. Series that a push leaves out, or whose group is deleted, end
with a stale marker. Not here: what may be pushed (`pushgroups.py`), HTTP (`api/pushgateway.py`).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import orjson
import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import LimitExceeded, VedetteError
from vedette.ingest.pushgroups import Family, Group, Groups, Inconsistent, Row, Value, loaded, merged
from vedette.ingest.rounds import Rounds
from vedette.ingest.socket_settings import PushedSettings
from vedette.model.labels import Labels
from vedette.model.samples import STALE, Appended, KeySpace, MetricMetadata, SampleBatch, canonical
from vedette.records.rows import PushedGroupRow
from vedette.storage.limits import REASONS, TenantLimit

if TYPE_CHECKING:
    from vedette.records.database import Records

log = structlog.get_logger(__name__)

T = TypeVar("T")
Append = Callable[[SampleBatch], Awaitable[Appended]]
_FULL_S = 60.0
_MUCH = 200
"""Series, or families, that take a millisecond."""


@dataclass(slots=True)
class PushedCounts:
    """Since the start: pushes and deletions taken, and pushes refused."""

    pushes: int = 0
    refused: int = 0


@dataclass(slots=True)
class _Tenant:
    """One tenant's groups; `batch` is what an interval writes of them, None where they changed; `owed` series still to end."""

    keyspace: KeySpace
    groups: Groups = field(default_factory=Groups)
    batch: SampleBatch | None = None
    owed: set[Labels] = field(default_factory=set)
    last_ms: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Pushed:
    """All tenants' groups. `open` with the records, `start` to write them every interval, `close` at the end."""

    def __init__(self, append: Append, clock: Clock, settings: Callable[[], PushedSettings]) -> None:
        self.counts = PushedCounts()
        self._append = append
        self._clock = clock
        self._settings = settings
        self._records: Records | None = None
        self._tenants: dict[str, _Tenant] = {}
        self._rounds = Rounds(self.write, clock, seconds=lambda: settings().interval / 1000, problem="pushed groups are not written")

    async def open(self, records: Records) -> None:
        """Take up what was pushed before."""
        for row in await records.load(PushedGroupRow):
            self._of(row.tenant).groups.put(loaded(row.labels, row.families, row.pushed_at, row.failed_at))
        self._records = records

    def start(self) -> None:
        """Begin to write; needs a running loop."""
        self._rounds.start()

    async def close(self) -> None:
        """Stop writing, once what is being written is."""
        await self._rounds.close()

    @property
    def failures(self) -> int:
        """Intervals in which groups could not be written."""
        return self._rounds.failures

    @property
    def count(self) -> int:
        """How many groups there are."""
        return sum(len(tenant.groups.groups) for tenant in self._tenants.values())

    def groups(self, tenant: str) -> list[Group]:
        """A tenant's groups, in the order of their keys."""
        found = self._tenants.get(tenant)
        return [] if found is None else sorted(found.groups.groups.values(), key=lambda group: group.labels)

    def _of(self, tenant: str) -> _Tenant:
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = _Tenant(canonical(tenant))
        return found

    async def push(self, tenant: str, key: Labels, families: Mapping[str, Family] | Inconsistent, *, replace: bool) -> None:
        """Change a group to `families`: wholly (`replace`), or those of the same names. Durable when it returns.

        Raises `Inconsistent` for what contradicts other groups, or where it is that; the group then says that a push failed, and is as it
        was otherwise. Raises `LimitExceeded` where it cannot be kept or stored now.
        """
        found = self._of(tenant)
        async with found.lock:
            before, now = found.groups.groups.get(key), now_ms(self._clock)
            if before is None and len(found.groups.groups) >= (most := self._settings().max_groups):
                raise TenantLimit(f"more than {most} groups (pushed.max_groups)", retry_after=_FULL_S)
            try:
                if isinstance(families, Inconsistent):
                    raise families
                group = Group(key, merged(before, families, replace=replace), now, before.failed_at if before else 0)
                found.groups.check(group)
            except Inconsistent:
                self.counts.refused += 1
                failed = dataclasses.replace(before, failed_at=now) if before else Group(key, failed_at=now)
                await self._keep(tenant, found, failed)
                raise
            self.counts.pushes += 1
            await self._keep(tenant, found, group)

    async def delete(self, tenant: str, keys: Sequence[Labels] | None = None) -> None:
        """Delete groups, those that are not there included; None: all. Durable when it returns. Raises `LimitExceeded`."""
        found = self._of(tenant)
        async with found.lock:
            there = [key for key in (found.groups.groups if keys is None else keys) if key in found.groups.groups]
            if there:
                await self._kept().save(drop=[_row(tenant, found.groups.groups[key]) for key in there])
                for key in there:
                    found.owed.update(found.groups.drop(key))
                found.batch = None
                await self._write(found, (), ())

    def _kept(self) -> Records:
        if self._records is None:
            raise LimitExceeded("the server is starting", retry_after=1.0)
        return self._records

    async def _keep(self, tenant: str, found: _Tenant, group: Group) -> None:
        await self._kept().save([await _aside(len(group.families), _row, tenant, group)])
        found.owed.update(found.groups.put(group))
        found.batch = None
        appended = await self._write(found, group.rows(), group.metadata())
        if reasons := [f"{count} {reason.replace('_', ' ')}" for reason in REASONS if (count := appended.dropped.get(reason, 0))]:
            raise TenantLimit(
                f"the group is kept, and samples of it are not stored: {', '.join(reasons)} (see limits)", retry_after=_FULL_S
            )

    async def _write(self, found: _Tenant, rows: Sequence[Row], metadata: Sequence[MetricMetadata]) -> Appended:
        """Store values now, and the end of the series that are no more."""
        stamp = found.last_ms = max(now_ms(self._clock), found.last_ms + 1)
        # Under another key a series may have come back meanwhile.
        gone = [labels for labels in found.owed if labels not in found.groups.owners]
        names = [*(labels for labels, _ in rows), *gone]
        values = [*(value for _, value in rows), *(STALE for _ in gone)]
        batch = await _aside(len(names), _batch, found.keyspace, names, values)
        batch.timestamps[:] = stamp
        batch.metadata, batch.partial = metadata, True
        appended = await self._append(batch)
        found.owed.clear()
        return appended

    async def write(self) -> None:
        """Write the values of all groups once more. Raises what storage raised first, once all tenants had their turn.

        The next interval writes what could not be written.
        """
        problem: VedetteError | None = None
        for found in list(self._tenants.values()):
            try:
                await self._write_again(found)
            except VedetteError as error:  # what one tenant may not is not to hold up the others
                problem = problem or error
        if problem is not None:
            raise problem

    async def _write_again(self, found: _Tenant) -> None:
        async with found.lock:
            if found.owed:
                await self._write(found, (), ())
            if not found.groups.groups:
                return
            stamp = found.last_ms = max(now_ms(self._clock), found.last_ms + 1)
            batch = found.batch
            if batch is None:
                batch = found.batch = await _all(found.keyspace, found.groups)
            stamps = np.full(batch.sample_count, stamp, dtype=np.int64)
            again = dataclasses.replace(batch, timestamps=stamps)
            again.partial = True
            await self._append(again)


async def _all(keyspace: KeySpace, groups: Groups) -> SampleBatch:
    rows = [row for group in groups.groups.values() for row in group.rows()]
    return await _aside(len(rows), _batch, keyspace, [labels for labels, _ in rows], [value for _, value in rows])


def _batch(keyspace: KeySpace, names: Sequence[Labels], values: Sequence[Value]) -> SampleBatch:
    return SampleBatch.of(keyspace, names, np.zeros(len(names), dtype=np.int64), values)


async def _aside(size: int, function: Callable[..., T], *args: Any) -> T:
    """What a function gives; on a thread where it has much to do."""
    return await asyncio.to_thread(function, *args) if size > _MUCH else function(*args)


def _row(tenant: str, group: Group) -> PushedGroupRow:
    return PushedGroupRow(tenant, orjson.dumps(dict(group.labels)).decode(), group.kept(), group.pushed_at, group.failed_at)
