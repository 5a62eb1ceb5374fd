"""The committer: batches that wait together become one transaction, and are acknowledged once it is committed.

Samples go in by COPY. Where one of them is there already, PostgreSQL refuses them all; they then go through a
temporary table, which tells repeated samples (fine) from those with another value (dropped, the first one stays). Not here: reads,
connections (`engine.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import orjson
import structlog
from numpy.typing import NDArray

from vedette.clock import Clock, now_ms
from vedette.errors import LimitExceeded, VedetteError
from vedette.kernels.series_table import DROPPED
from vedette.model.histograms import Histograms
from vedette.model.labels import Labels
from vedette.model.samples import Appended, MetricMetadata, SampleBatch
from vedette.storage.limits import Limits
from vedette.storage.names import Refused, dropped_of
from vedette.storage.postgres import binary, histograms, schema
from vedette.storage.postgres.failures import RETRY_AFTER, driver, translated
from vedette.storage.postgres.known import Known
from vedette.storage.postgres.newest import Newest, Sent

log = structlog.get_logger(__name__)

_I64 = np.int64
_GROUP_SAMPLES = 500_000
_SERIES_AT_ONCE = 5_000
_TIMEOUT_S = 120.0
# A sender that repeats itself does so in every request, and each attempt to go without the temporary table leaves dead rows.
_CAREFUL_GROUPS = 100
_COLUMNS = ("ts", "value", "id", "series_id")


@dataclass(slots=True)
class _Waiting:
    batch: SampleBatch
    done: asyncio.Future[Appended]
    rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=_I64))
    refused: Refused = field(default_factory=dict)
    appended: Appended | None = None

    def settle(self, outcome: Appended | BaseException) -> None:
        """Hand the outcome over, unless nobody waits any more."""
        if self.done.done():
            return
        if isinstance(outcome, BaseException):
            self.done.set_exception(outcome)
        else:
            self.done.set_result(outcome)


@dataclass(slots=True)
class _Samples:
    """Samples of a group on their way: `item` is the batch each belongs to, `at` its place there."""

    item: NDArray[np.int64]
    at: NDArray[np.int64]
    series: NDArray[np.int64]
    times: NDArray[np.int64]
    bits: NDArray[np.int64]

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> _Samples:
        return _Samples(self.item[which], self.at[which], self.series[which], self.times[which], self.bits[which])


@dataclass(slots=True)
class Written:
    """What was written since the start, and the range of its times."""

    samples: int = 0
    series: int = 0
    groups: int = 0
    careful_groups: int = 0
    failures: int = 0
    histograms: int = 0
    min_time: int | None = None
    max_time: int | None = None


class Writer:
    """Takes batches on the backend's loop. `connect` gives the one connection that writes; `keep` is the retention in ms, 0 for ever."""

    def __init__(
        self, known: Known, connect: Callable[[], Awaitable[Any]], clock: Clock, *, keep: int, limits: Limits, queue_samples: int
    ) -> None:
        self._known = known
        self._connect = connect
        self._clock = clock
        self._keep = keep
        self._limits = limits
        self._queue_samples = queue_samples
        self._waiting: list[_Waiting] = []
        self._waiting_samples = 0
        self._running: asyncio.Task[None] | None = None
        self._days: set[int] = set()
        self._ids = range(0)
        self._careful = 0
        self._newest = Newest()
        self._learned: dict[tuple[str, str], MetricMetadata] = {}
        self.turn = asyncio.Lock()
        """Held while a group is written; whoever else holds it has the database to himself."""
        self.written = Written()
        self.problem = ""
        """Why nothing can be written now, empty where it can."""

    async def submit(self, batch: SampleBatch) -> Appended:
        """Store a batch; returns once it is committed. Raises as `Storage.append` does."""
        if self._waiting_samples > self._queue_samples:
            raise LimitExceeded("more samples are waiting to be stored than the queue takes", retry_after=1.0)
        item = _Waiting(batch, asyncio.get_running_loop().create_future())
        self._waiting.append(item)
        self._waiting_samples += batch.sample_count
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await item.done

    async def finish(self) -> None:
        """Return once what waits is stored or refused."""
        if self._running is not None:
            await asyncio.wait([self._running])

    def forget_days(self, days: Sequence[int]) -> None:
        """These partitions are gone."""
        self._days.difference_update(days)

    async def _run(self) -> None:
        while self._waiting:
            group: list[_Waiting] = []
            samples = 0
            while self._waiting and (not group or samples + self._waiting[0].batch.sample_count <= _GROUP_SAMPLES):
                group.append(self._waiting.pop(0))
                samples += group[-1].batch.sample_count
            self._waiting_samples -= samples
            try:
                with translated():
                    async with asyncio.timeout(_TIMEOUT_S), self.turn:
                        await self._commit(group)
                self.problem = ""
            except VedetteError as error:
                self._refuse(group, error)
            except Exception as error:  # the edge of the loop: one group's fault must not end all writing
                log.exception("samples could not be stored", batches=len(group), samples=samples)
                self._refuse(group, error)

    def _refuse(self, group: Sequence[_Waiting], error: Exception) -> None:
        self.written.failures += 1
        # Whoever sends has to try again, even where the reason is one of settings: the samples are not at fault.
        problem = error if isinstance(error, LimitExceeded) else LimitExceeded(str(error), retry_after=RETRY_AFTER)
        if self.problem != str(problem):
            log.error("samples cannot be stored", problem=str(problem))
        self.problem = str(problem)
        for item in group:
            item.settle(problem)

    async def _commit(self, group: list[_Waiting]) -> None:
        connection = await self._connect()
        before = self.written.series
        named = [item for item in group if await self._name(connection, item)]
        sent = [
            Sent(np.repeat(item.rows, np.diff(item.batch.offsets)), item.batch.timestamps, self._limits.window(item.batch.keyspace.tenant))
            for item in named
        ]
        samples = self._gathered(named, sent, await self._newest.late(connection, sent, now_ms(self._clock)))
        fresh, repeats = _first_of_each(samples)
        for day in np.unique(fresh.times // schema.DAY).tolist():
            if day not in self._days:
                await schema.add_day(connection, day)
                self._days.add(day)
        duplicates = np.zeros(len(samples.times), dtype=np.bool_)
        if len(fresh.times):
            duplicates[repeats.kept] = await self._store(connection, named, fresh)
        # Of two in one group the later one is compared with the one that went in, and that with what was there.
        duplicates[repeats.again] = repeats.differs | duplicates[repeats.first]
        self._newest.advance(samples.series, samples.times, now_ms(self._clock), max((s.window for s in sent), default=0))
        await self._learn(connection, named)
        self._count(named, samples, duplicates, new_series=self.written.series - before)

    async def _name(self, connection: Any, item: _Waiting) -> bool:
        """Find the ids of a batch's rows, new ones from the database; False for a batch that was refused."""
        try:
            if item.batch.ids is not None:
                ids = item.batch.ids.astype(_I64)
                item.rows = np.where(self._known.numbers_of(ids.astype(np.int32)) >= 0, ids, DROPPED)
                return True
            tenant = item.batch.keyspace.tenant
            rows, item.refused, _ = self._known.rows_of(item.batch, self._limits.of(tenant))
        except VedetteError as error:
            item.settle(error)
            return False
        missing = self._known.without_id(rows)
        for lo in range(0, len(missing), _SERIES_AT_ONCE):
            await self._register(connection, tenant, missing[lo : lo + _SERIES_AT_ONCE])
        item.rows = self._known.ids(rows)
        return True

    async def _register(self, connection: Any, tenant: str, numbers: NDArray[np.int64]) -> None:
        keys = self._known.keys_of(numbers)
        digests = [hashlib.sha256(key).digest() for key in keys]
        rows = await connection.fetch(
            "SELECT digest, id FROM vedette_series WHERE tenant = $1 AND digest = ANY($2::bytea[])", tenant, digests
        )
        found = {row["digest"]: row["id"] for row in rows}
        new = [(d, k) for d, k in zip(digests, keys, strict=True) if d not in found]
        if new:
            labels = [orjson.dumps(dict(Labels.decode(key))).decode() for _, key in new]
            rows = await connection.fetch(
                """INSERT INTO vedette_series (tenant, digest, key, labels)
                   SELECT $1, d, k, l::jsonb FROM unnest($2::bytea[], $3::bytea[], $4::text[]) AS t (d, k, l) RETURNING digest, id""",
                *(tenant, [d for d, _ in new], [k for _, k in new], labels),
            )
            found.update((row["digest"], row["id"]) for row in rows)
            self.written.series += len(rows)
            self._newest.begin([row["id"] for row in rows])
        self._known.assign(numbers, np.array([found[d] for d in digests], dtype=np.int32))

    def _gathered(self, group: Sequence[_Waiting], sent: Sequence[Sent], late: Sequence[NDArray[np.bool_]]) -> _Samples:
        """The samples that are to be stored; what is too old, or of a row that is dropped, is counted in the batch's outcome."""
        oldest = now_ms(self._clock) - self._keep if self._keep else -(1 << 63)
        parts = []
        for number, item in enumerate(group):
            batch, series = item.batch, sent[number].series
            old, gone = (batch.timestamps < oldest) | late[number], series < 0
            item.appended = Appended(item.rows, dropped=_reasons(item, gone, old))
            at = np.flatnonzero(~(gone | old))
            bits = np.ascontiguousarray(batch.values).view(_I64)
            parts.append(_Samples(np.full(len(at), number), at, series[at], batch.timestamps[at], bits[at]))
        return _Samples(*(np.concatenate([np.zeros(0, _I64), *(getattr(p, c) for p in parts)]) for c in _Samples.__slots__))

    async def _store(self, connection: Any, group: Sequence[_Waiting], fresh: _Samples) -> NDArray[np.bool_]:
        """Commit samples of distinct series and times; answers which were there already with another value."""
        ids = await self._sample_ids(connection, len(fresh.times))
        values = fresh.bits.view(np.float64)
        columns = (fresh.times, values, ids, fresh.series.astype(np.int32))
        native = _native(group, fresh)
        if not self._careful:
            try:
                async with connection.transaction():
                    await _copy(connection, "vedette_samples", columns, _COLUMNS)
                    await self._keep_histograms(connection, native, fresh)
                return np.zeros(len(ids), dtype=np.bool_)
            except driver().UniqueViolationError:
                self._careful = _CAREFUL_GROUPS
        self._careful -= 1
        self.written.careful_groups += 1
        async with connection.transaction():
            await connection.execute(schema.TEMPORARY)
            numbers = np.arange(len(ids), dtype=np.int32)
            await _copy(connection, "vedette_incoming", (numbers, *columns), ("n", *_COLUMNS))
            names = ", ".join(_COLUMNS)
            await connection.execute(
                f"INSERT INTO vedette_samples ({names}) SELECT {names} FROM vedette_incoming ON CONFLICT (series_id, ts) DO NOTHING"  # noqa: S608
            )
            # Bit by bit: to PostgreSQL all NaNs are equal, and so are 0 and -0. Nor is a float the histogram whose sum it is.
            rows = await connection.fetch(
                """SELECT i.n FROM vedette_incoming i JOIN vedette_samples s ON s.series_id = i.series_id AND s.ts = i.ts
                   WHERE float8send(s.value) <> float8send(i.value)
                   OR (s.id <> i.id AND (s.histogram IS NOT NULL) <> (i.n = ANY($1::int[])))""",
                [place for place, _ in native],
            )
            out = np.zeros(len(ids), dtype=np.bool_)
            out[[row["n"] for row in rows]] = True
            await self._keep_histograms(connection, [one for one in native if not out[one[0]]], fresh)
        return out

    async def _keep_histograms(self, connection: Any, native: Sequence[tuple[int, bytes]], fresh: _Samples) -> None:
        """Put histograms to their samples: those whose sum is the sample's value, as one that is a duplicate is not."""
        if not native:
            return
        at = np.array([place for place, _ in native], dtype=_I64)
        await connection.execute(
            """UPDATE vedette_samples s SET histogram = t.h
               FROM unnest($1::int[], $2::bigint[], $3::float8[], $4::bytea[]) AS t (i, ts, v, h)
               WHERE s.series_id = t.i AND s.ts = t.ts AND s.histogram IS NULL AND float8send(s.value) = float8send(t.v)""",
            *(fresh.series[at].tolist(), fresh.times[at].tolist(), fresh.bits[at].view(np.float64).tolist(), [data for _, data in native]),
        )
        self.written.histograms += len(native)

    async def _sample_ids(self, connection: Any, count: int) -> NDArray[np.int64]:
        """Ids for `count` samples, never given out before; a step of the sequence is many, so the database is rarely asked."""
        parts = []
        while count:
            if not self._ids:
                first = await connection.fetchval("SELECT nextval('vedette_sample_ids')")
                self._ids = range(max(1, first), first + schema.IDS_AT_ONCE)
            some, self._ids = self._ids[:count], self._ids[count:]
            parts.append(np.arange(some.start, some.stop, dtype=_I64))
            count -= len(some)
        return np.concatenate(parts)

    async def _learn(self, connection: Any, group: Sequence[_Waiting]) -> None:
        new = {(item.batch.keyspace.tenant, m.metric): m for item in group for m in item.batch.metadata}
        new = {key: m for key, m in new.items() if self._learned.get(key) != m and "\0" not in m.metric}
        if not new:
            return
        rows = [
            (t, hashlib.sha256(m.metric.encode()).digest(), m.metric, m.type, _text(m.help), _text(m.unit)) for (t, _), m in new.items()
        ]
        await connection.executemany(
            """INSERT INTO vedette_metadata VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant, digest)
               DO UPDATE SET type = excluded.type, help = excluded.help, unit = excluded.unit""",
            rows,
        )
        self._learned.update(new)

    def _count(self, group: Sequence[_Waiting], samples: _Samples, duplicates: NDArray[np.bool_], *, new_series: int) -> None:
        written = self.written
        written.groups += 1
        stored = np.bincount(samples.item[~duplicates], minlength=len(group)).tolist()
        refused = np.bincount(samples.item[duplicates], minlength=len(group)).tolist()
        written.samples += sum(stored)
        if len(samples.times):
            low, high = int(samples.times.min()), int(samples.times.max())
            written.min_time = low if written.min_time is None else min(low, written.min_time)
            written.max_time = high if written.max_time is None else max(high, written.max_time)
        for number, item in enumerate(group):
            assert item.appended is not None
            item.appended.samples = stored[number]
            item.appended.new_series, new_series = new_series, 0
            if refused[number]:
                item.appended.dropped["duplicate"] = refused[number]
            item.settle(item.appended)


async def _copy(connection: Any, table: str, columns: Sequence[NDArray[Any]], names: Sequence[str]) -> None:
    data = BytesIO(binary.encode(*columns))
    await connection.copy_to_table(table, source=data, columns=list(names), format="binary")


def _text(text: str) -> str:
    # Help texts are for people: one with a character that PostgreSQL has not is better than none.
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _reasons(item: _Waiting, gone: NDArray[np.bool_], old: NDArray[np.bool_]) -> dict[str, int]:
    found = dropped_of(item.batch, item.rows, item.refused)
    if too_old := int((old & ~gone).sum()):
        found["too_old"] = too_old
    return found


@dataclass(slots=True)
class _Repeats:
    """`kept`: the samples that stand for themselves. `again`: those that came before at `first`; whether the value `differs`."""

    kept: NDArray[np.int64]
    again: NDArray[np.int64]
    first: NDArray[np.int64]
    differs: NDArray[np.bool_]


def _first_of_each(samples: _Samples) -> tuple[_Samples, _Repeats]:
    """The samples with each series and time once, in their order (which is the index's), and what became of the others."""
    order = np.lexsort((samples.times, samples.series))
    series, times = samples.series[order], samples.times[order]
    begins = np.ones(len(order), dtype=np.bool_)
    begins[1:] = (series[1:] != series[:-1]) | (times[1:] != times[:-1])
    kept = order[begins]
    again = order[~begins]
    first = kept[np.cumsum(begins) - 1][~begins]
    return samples.take(kept), _Repeats(kept, again, first, samples.bits[again] != samples.bits[first])


def _native(group: Sequence[_Waiting], fresh: _Samples) -> list[tuple[int, bytes]]:
    """(place among `fresh`, bytes) of the native histograms there."""
    out: list[tuple[int, bytes]] = []
    for number, item in enumerate(group):
        found: Histograms | None = item.batch.histograms
        if found is None:
            continue
        mine = np.flatnonzero(fresh.item == number)
        place_of = dict(zip(fresh.at[mine].tolist(), mine.tolist(), strict=True))
        out += [(place_of[at], histograms.render(found.sample(j))) for j, at in enumerate(found.at.tolist()) if at in place_of]
    return out
