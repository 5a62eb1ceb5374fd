"""A server that speaks Prometheus' API as the store of samples: `storage.interface.Storage` over Prometheus, VictoriaMetrics, Mimir,
Thanos, or another Vedette.

An append returns once the samples are on this machine's disk, in a bounded queue that is sent on by remote write until the server
has them. PromQL is evaluated there (`ask`, through `promql/pushdown.py`). Samples that are still queued are not seen by queries. Not here:
deletion and snapshots, which are that server's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog

from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded, NotFound, VedetteError
from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import Appended, MetricMetadata, SampleBatch
from vedette.model.series import SeriesSet
from vedette.model.tenants import DEFAULT_TENANT
from vedette.storage.bridge import LoopThread
from vedette.storage.directory import DirectoryLock
from vedette.storage.interface import Matchers, StorageStats
from vedette.storage.limits import Limits
from vedette.storage.names import Names, Refused, dropped_of
from vedette.storage.queue import Item, Putter, Queue
from vedette.storage.remote import answers, writing
from vedette.storage.remote.client import Client, in_path, seconds
from vedette.storage.remote.settings import RemoteSettings
from vedette.storage.sending import Sender, SendSettings
from vedette.storage.settings import StorageSettings

log = structlog.get_logger(__name__)

_STATS_S = 15.0
_FORGET_S = 3600.0
"""How often series are looked through for those that are gone: what was not sent twice between is."""
_AHEAD_MS = 3_600_000
_SOME = Matcher(METRIC_NAME, "!=", "")


class Remote:
    """Samples in another server. `lock`, then `start`; `close` at the end, which leaves what is not sent yet in the queue."""

    def __init__(self, settings: StorageSettings, remote: RemoteSettings, clock: Clock, *, limits: Limits | None = None) -> None:
        """Raises `BadInput` for settings that this backend cannot keep."""
        for name in ("retention_by_selector", "retention_size", "url"):
            if getattr(settings, name):
                raise BadInput("the remote backend cannot do this", where=f"storage.{name}", hint="what is kept is the server's business")
        if not remote.url:
            raise BadInput("lacks the server", where="remote.url", hint="http://host:9090")
        self.settings = settings
        self.clock = clock
        self.limits = limits or Limits(window=settings.out_of_order_window)
        self._remote = remote
        self._directory = DirectoryLock(settings.data)
        self._loop = LoopThread("storage-remote")
        self._names = Names()
        self._client = Client(remote)
        sending = SendSettings(
            max_samples=remote.max_samples, min_backoff_s=remote.min_backoff / 1000, max_backoff_s=remote.max_backoff / 1000
        )
        self._sender = Sender(self._client.write, clock, settings.data / "remote" / "dead", sending)
        self._queue = Queue(settings.data / "remote" / "queue", limit=remote.queue_size, added=self._sender.add)
        self._putter = Putter(self._queue)
        self._told: dict[tuple[str, str], MetricMetadata] = {}
        self._appended = 0
        self._closing = False
        self._stats = StorageStats(replayed=False)
        self._stats_again = clock.monotonic()
        self._forget_again = clock.monotonic() + _FORGET_S

    def lock(self) -> None:
        """Take the data directory, where the queue is. Raises `BadInput` where another process holds it."""
        if not self._directory.held:
            self._directory.take()

    async def start(self) -> None:
        """Read the queue, and begin to send it and to take appends; the server need not be there. Raises `BadInput`."""
        self.lock()
        try:
            await asyncio.to_thread(self._queue.open)
        except OSError as error:
            raise BadInput(f"the queue cannot be read: {error.strerror}", where=str(self._queue.directory), hint="see --data") from error
        self._loop.start()
        await self._loop.ask(self._begin())

    async def _begin(self) -> None:
        self._sender.start(self._queue)

    async def append(self, batch: SampleBatch) -> Appended:
        """See `Storage.append`; durable here. What the server says of duplicates and times it says to its log and to `dead/`."""
        if self._closing:
            raise LimitExceeded("the storage is closing")
        tenant = batch.keyspace.tenant
        self._client.check_tenant(tenant)
        appended, items = await asyncio.to_thread(self._made, batch)
        if items:
            await self._loop.ask(self._putter.put(items))
        self._told.update(((tenant, m.metric), m) for m in batch.metadata)
        self._appended += appended.samples
        return appended

    def _made(self, batch: SampleBatch) -> tuple[Appended, list[Item]]:
        with self._names.held():
            return self._encoded(batch)

    def _encoded(self, batch: SampleBatch) -> tuple[Appended, list[Item]]:
        tenant = batch.keyspace.tenant
        refused: Refused = {}
        new = 0
        if batch.ids is not None:
            rows = self._names.by_handle(batch.ids)
        else:
            rows, refused, new = self._names.rows_of(batch, self.limits.of(tenant))
        dropped = dropped_of(batch, rows, refused)
        metadata = [m for m in batch.metadata if self._told.get((tenant, m.metric)) != m]
        items = writing.requests(self._names, batch, rows, self._remote.lanes, metadata)
        stored = batch.sample_count - sum(dropped.values())
        return Appended(self._names.handles(rows), samples=stored, new_series=new, dropped=dropped), items

    def ask(self, tenant: str, path: str, params: Sequence[tuple[str, str]] = (), *, post: bool = True) -> dict[str, Any]:
        """The server's answer to an operation of the API (`data`, `warnings`, `infos`). Raises as `Client.ask` does."""
        return self._loop.call(self._client.ask(tenant, path, params, post=post))

    def _range(self, start: int, end: int) -> tuple[int, int]:
        """The range as servers take it: after 1970 (to VictoriaMetrics 0 is no time), not far into the future."""
        return max(start, 1000), min(end, now_ms(self.clock) + _AHEAD_MS)

    def _about(self, sets: Sequence[Matchers], start: int, end: int) -> list[tuple[str, str]]:
        low, high = self._range(start, end)
        return [*(("match[]", selector(matchers)) for matchers in sets), ("start", seconds(low)), ("end", seconds(high))]

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        """See `Storage.select`; stale markers are not told by the API, and are not among the samples."""
        low, high = self._range(start, end)
        if high < low or not self._client.has(tenant):
            return answers.series_set([], start, end)
        # One more, since newer servers take a range without its beginning, older ones with it.
        query = f"{selector(matchers)}[{high - low + 1}ms]"
        result = self.ask(tenant, "query", [("query", query), ("time", seconds(high)), ("nocache", "1")])["data"]["result"]
        found = answers.series_set(result, low, high)
        if len(found) > self.settings.select_series:
            raise LimitExceeded(f"the query selects {len(found)} series, more than {self.settings.select_series}; narrow its matchers")
        if found.sample_count > self.settings.select_samples:
            raise LimitExceeded(f"the query reads more than {self.settings.select_samples} samples; narrow its matchers or its range")
        return found

    def series(self, tenant: str, sets: Sequence[Matchers], start: int, end: int, limit: int = 0) -> list[Labels]:
        """See `Storage.series`; what counts as having samples in a range, the server decides."""
        if not sets or not self._client.has(tenant):
            return []
        found = sorted(Labels.of(row) for row in self.ask(tenant, "series", self._about(sets, start, end))["data"])
        return found[:limit] if limit else found

    def label_names(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """See `Storage.label_names`."""
        if not self._client.has(tenant):
            return []
        return sorted(self.ask(tenant, "labels", self._about(sets, start, end))["data"] or ())

    def label_values(self, tenant: str, name: str, sets: Sequence[Matchers], start: int, end: int) -> list[str]:
        """See `Storage.label_values`."""
        if not self._client.has(tenant):
            return []
        path = f"label/{in_path(name)}/values"
        return sorted(self.ask(tenant, path, self._about(sets, start, end), post=False)["data"] or ())

    def metadata(self, tenant: str, metric: str | None = None) -> list[MetricMetadata]:
        """See `Storage.metadata`: what the server knows, over it what went through here since the start."""
        if not self._client.has(tenant):
            return []
        params = [] if metric is None else [("metric", metric)]
        found = {m.metric: m for m in answers.metadata(self.ask(tenant, "metadata", params, post=False)["data"] or {})}
        found.update({name: m for (whose, name), m in list(self._told.items()) if whose == tenant and metric in (None, name)})
        return [found[name] for name in sorted(found)]

    def stats(self) -> StorageStats:
        """See `Storage.stats`: the server's figures, asked for at most every 15 s, and the queue's size as that of the log."""
        now = self.clock.monotonic()
        if self._loop.running and now >= self._stats_again:
            self._stats_again = now + _STATS_S
            self._names.forget_closed()
            self._forget(now)
            try:
                self._stats = self._asked()
            except VedetteError as error:
                log.warning("the server's figures are old", problem=str(error))
        time = now_ms(self.clock)
        known = self._stats
        return StorageStats(
            series=max(known.series, len(self._names)),
            label_pairs=known.label_pairs,
            min_time=time - self.settings.retention if self.settings.retention else 0,
            max_time=time,
            samples_appended=self._appended,
            wal_bytes=self._queue.nbytes,
            replayed=self._loop.running,
            series_by_metric=known.series_by_metric,
            values_by_label=known.values_by_label,
            series_by_pair=known.series_by_pair,
        )

    def _forget(self, now: float) -> None:
        """Forget series that were sent for hours by nobody; not while samples wait, which are in their series' lanes."""
        if now >= self._forget_again and not self._queue.samples:
            self._forget_again = now + _FORGET_S
            before = len(self._names)
            if self._names.forget_idle() is not None:
                log.debug("series that are gone were forgotten", before=before, now=len(self._names))

    def _asked(self) -> StorageStats:
        try:
            data = self.ask(DEFAULT_TENANT, "status/tsdb", post=False)["data"]
        except NotFound:
            return self._stats  # a cluster that has no such figures
        head = data.get("headStats") or {}
        return StorageStats(
            series=answers.series_count(data),
            label_pairs=int(head.get("numLabelPairs", data.get("totalLabelValuePairs", 0))),
            series_by_metric=answers.ranking(data, "seriesCountByMetricName"),
            values_by_label=answers.ranking(data, "labelValueCountByLabelName"),
            series_by_pair=answers.ranking(data, "seriesCountByLabelValuePair"),
        )

    async def delete(self, tenant: str, sets: Sequence[Matchers], start: int, end: int) -> None:
        """Raises `BadInput`: deletion is the server's."""
        raise BadInput("samples are in another server", hint="delete them there")

    async def compact(self, *, clean: bool = False) -> None:
        """Nothing: what is stored is the server's."""

    async def snapshot(self, *, skip_head: bool = False, beside: Callable[[Path], None] | None = None) -> str:
        """Raises `BadInput`: snapshots are the server's."""
        raise BadInput("samples are in another server", hint="take a snapshot there")

    @property
    def queued(self) -> int:
        """Samples that wait to be sent."""
        return self._queue.samples

    @property
    def problem(self) -> str:
        """Why nothing can be queued or sent now, empty where it can: what health tells."""
        return self._putter.problem or self._sender.problem

    def tenant_series(self) -> dict[str, int]:
        """How many series each tenant has, of those that this process has met."""
        return self._names.by_tenant()

    def counters(self) -> dict[str, int]:
        """Counts since the start, by name, for the server's own metrics."""
        sent = self._sender.sent
        return {
            "write_failures": self._putter.failures,
            "memory_bytes": self._names.nbytes,
            "forgotten_series": self._names.forgotten,
            "queued_samples": self._queue.samples,
            "sent_samples": sent.samples,
            "sent_requests": sent.requests,
            "send_retries": sent.retries,
            "dead_samples": sent.refused_samples,
            "dead_requests": sent.refused_requests,
            "queue_corrupt_records": self._queue.corrupt + sent.unreadable,
        }

    async def close(self) -> None:
        """Stop; what is queued is sent after the next start."""
        self._closing = True
        if self._loop.running:
            await self._loop.ask(self._shut())
            self._loop.stop()
            await asyncio.to_thread(self._queue.close)
        self._directory.release()

    async def _shut(self) -> None:
        await self._putter.finish()
        await self._sender.close()
        await self._client.close()


def selector(matchers: Matchers) -> str:
    """Matchers as PromQL writes them, with one more where they would select by what is absent alone, which servers refuse."""
    given = [*matchers] if any(not m.matches_empty for m in matchers) else [*matchers, _SOME]
    return "{" + ",".join(map(str, given)) + "}"
