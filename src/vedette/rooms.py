"""The rooms of a server, put together and not started: which is handed what.

Rooms never import their consumers; here each is given the callables it needs. Not here: what is asked of them over HTTP
(`listeners.py`), in which order they start, reload and close (`app.py`).
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from vedette import selfmetrics
from vedette.access.audit import Audit
from vedette.access.guard import tenant_of
from vedette.access.identity import Identities
from vedette.alerting import Alerting
from vedette.api.intake import Intake
from vedette.api.services.limits import RedisCounts
from vedette.api.tracing import Tracing
from vedette.api.turns import Lane, Turns
from vedette.api.updates import Updates
from vedette.asking import Asking, engine_of
from vedette.clock import Clock
from vedette.collect.collector import Collector
from vedette.dependencies import Dependencies
from vedette.forward.forwards import Forwards
from vedette.health.watch import Watch
from vedette.ingest.door import Door
from vedette.ingest.exemplars import Exemplars
from vedette.ingest.graphite import Graphite
from vedette.ingest.pushed import Pushed
from vedette.ingest.statsd import Statsd
from vedette.ingest.track import Tracker
from vedette.kernels.compiling import Compilers
from vedette.logways import LogWays, store_of
from vedette.plan import Plan, retention_of
from vedette.selfmetrics import Reading
from vedette.settings import Settings
from vedette.storage.backends import open_backend
from vedette.storage.limits import Limits
from vedette.storage.upkeep import Upkeep
from vedette.warm import Warming

T = TypeVar("T")

_QUERY_THREADS = 4
_LIST_THREADS = 2
_WRITE_THREADS = 2


class Rooms:
    """Every room of one server, by name.

    `plan` is what is in force, `ready` whether the server is open to its users, `warm` whether no kernel is being compiled ahead any more,
    `warming` how far that is, None before it begins: who starts and reloads it sets them.
    `closing` is set once it is to end. Raises `BadInput` for settings that do not go together.
    """

    def __init__(self, plan: Plan, clock: Clock, log_ways: LogWays) -> None:
        self.plan, self.clock, self.log_ways = plan, clock, log_ways
        self.started = clock.now()
        self.ready = self.warm = False
        self.compilers = Compilers()
        self.warming: Warming | None = None
        self.closing = threading.Event()
        settings = plan.settings
        room = settings.vedette
        # One for each query that may run, and some for what else reads: rules, and lists of series.
        self._queries = ThreadPoolExecutor(room.promql.max_concurrency + _QUERY_THREADS, thread_name_prefix="query")
        self._writes = ThreadPoolExecutor(_WRITE_THREADS, thread_name_prefix="write")
        self._lists = ThreadPoolExecutor(_LIST_THREADS, thread_name_prefix="list")
        most = room.promql.max_queued_per_tenant
        self.run_list = Lane(self._on_list_threads, Turns(concurrency=_LIST_THREADS, per_tenant=_LIST_THREADS, queued=most))
        """Runs a blocking read of much at once, such as of all series."""
        self.limits = Limits(room.limits, window=room.storage.out_of_order_window)
        self.storage = open_backend(room.samples, clock, retention=retention_of(room.storage), limits=self.limits, remote=room.remote)
        self.exemplars = Exemplars(max(0, settings.config.storage.exemplars.max_exemplars), room.storage.data / "exemplars")
        self.forwards = Forwards(clock, room.storage.data / "forward", room.forward)
        self.door = Door(self.storage, clock, limits=self.limits, exemplars=self.exemplars, tee=self.forwards.take)
        self.promql = engine_of(room, self.storage, clock)
        self.asking = Asking(self.promql, self.storage, self.run_query, clock)
        self._ways_in(settings)
        self.tracing = Tracing(room.tracing, clock, version=version("vedette"))
        self.identities = Identities(room.access, clock)
        self.counts = RedisCounts(room.access.redis_url) if room.access.redis_url else None
        self.audit = Audit(clock, retention_ms=room.access.audit_retention)
        self.logs = store_of(room.storage.data / "logs", room.logs, clock)
        if self.logs is not None:
            places = room.storage.data / "logs" / "places.json"
            log_ways.open(self.logs, self.door.append, places, interval_ms=room.host.interval)
        self.dependencies = Dependencies(clock, self.started, lambda: self.plan.settings, self.storage, self.logs)
        self.health = Watch(room.health, clock, self.door.append, own=self.dependencies.probes(room.health))
        services = room.services
        self.updates = Updates(self.asking.evaluate, clock, interval_ms=services.live_interval, most=services.live_clients)
        self.upkeep = Upkeep(clock, self.run_query)
        self.alerting = Alerting(clock, asking=self.asking, append=self.door.append, plan=lambda: self.plan, ready=lambda: self.ready)

    def _ways_in(self, settings: Settings) -> None:
        """What takes samples in and hands them to the door."""
        room, append, clock = settings.vedette, self.door.append, self.clock
        self.intake = Intake(append, self.run_write, clock, tenant_of, lambda: self.plan.settings.vedette.intake)
        base = settings.path.parent if settings.path else Path()  # where files that the configuration names are looked for
        self.graphite = Graphite(append, clock, run=self.run_write, base=base, insecure=room.server.insecure)
        self.statsd = Statsd(append, clock, run=self.run_write, base=base, insecure=room.server.insecure)
        self.pushed = Pushed(append, clock, lambda: self.plan.settings.vedette.pushed)
        self.collector = Collector(append, clock, starts=room.storage.start_timestamps or room.storage.start_zeros)
        self.tracker = Tracker(
            self.storage,
            append,
            run=self.run_query,
            clock=clock,
            settings=room.track,
            window=room.services.aggregation_window,
            retention=room.services.retention_hours * 3_600_000,
        )

    def run_query(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]:
        """Run a blocking read on the query threads, known by the request that asks."""
        return asyncio.get_running_loop().run_in_executor(self._queries, contextvars.copy_context().run, function, *args)

    def _on_list_threads(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._lists, contextvars.copy_context().run, function, *args)

    def run_write(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]:
        """Run a blocking decode on threads that no query can occupy."""
        return asyncio.get_running_loop().run_in_executor(self._writes, function, *args)

    def compiling(self) -> tuple[int, int, float] | None:
        """While kernels are compiled, on a new machine: steps done, of how many, and about how many seconds are left."""
        progress = self.warming.progress() if self.warming else None
        return None if progress is None else (progress.done, progress.total, progress.left)

    def let_threads_go(self) -> None:
        """Begin nothing more on the threads: what still runs there reads or compiles; nobody waits for its answer any more."""
        self._queries.shutdown(wait=False, cancel_futures=True)
        self._writes.shutdown(wait=False, cancel_futures=True)
        self._lists.shutdown(wait=False, cancel_futures=True)

    def readings(self) -> Iterator[Reading]:
        """What all rooms count of themselves."""
        yield from selfmetrics.of_storage(self.storage.stats(), self.storage.counters())
        yield from selfmetrics.of_door(self.door.counts)
        yield from selfmetrics.of_intake(self.intake.unread, self.intake.left_out)
        yield from selfmetrics.of_sockets(self.graphite, self.statsd)
        yield from selfmetrics.of_pushed(self.pushed)
        yield from selfmetrics.of_forwards(self.forwards.states())
        yield from selfmetrics.of_exemplars(self.exemplars)
        yield from selfmetrics.of_limits(self.storage.tenant_series(), self.limits.in_series)
        yield from selfmetrics.of_tracker(self.tracker)
        yield from selfmetrics.of_spans(self.tracing.counts)
        yield from self.log_ways.readings()
        yield from selfmetrics.of_live(self.updates)
        yield from selfmetrics.of_targets(self.collector.targets(), self.collector.failures)
        yield from self.alerting.readings()
