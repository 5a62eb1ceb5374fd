"""The house put together: which room is handed what, in which order they start, reload and close.

Rooms never import their consumers; here each is given the callables it needs. Nothing in this module computes,
parses or stores. `uvicorn vedette.app:app` builds the server from the environment; `vedette serve` builds it from
the command line.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import functools
import os
import platform
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import structlog
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from vedette import selfmetrics, warm
from vedette.access.audit import Audit
from vedette.access.directory import Directory
from vedette.access.guard import Guard, may_listen, tenant_of
from vedette.access.identity import Identities
from vedette.access.sessions import Sessions
from vedette.api import access as access_api
from vedette.api import admin, export, exposition, federation, openapi, ops, prometheus, reference, remote_read, write
from vedette.api import alertmanager as alertmanager_api
from vedette.api import alerts as alerts_api
from vedette.api import backtest as backtest_api
from vedette.api import explaining as explaining_api
from vedette.api import live as live_api
from vedette.api import logs as logs_api
from vedette.api import logs_elastic as logs_elastic_api
from vedette.api import logs_in as logs_in_api
from vedette.api import logs_loki as logs_loki_api
from vedette.api import logs_loki_tail as logs_loki_tail_api
from vedette.api import notifications as notifications_api
from vedette.api import otlp as otlp_api
from vedette.api import pushes as pushes_api
from vedette.api import pushgateway as pushgateway_api
from vedette.api import ruler as ruler_api
from vedette.api import rules as rules_api
from vedette.api import silencing as silencing_api
from vedette.api.at_once import AtOnce
from vedette.api.direct import Direct
from vedette.api.endpoint import Endpoint
from vedette.api.endpoint import routes as endpoint_routes
from vedette.api.intake import Intake
from vedette.api.services import botserver, botserver_alerts, dialects
from vedette.api.services.dialects import DIALECTS as DIALECTS
from vedette.api.services.limits import RedisCounts
from vedette.api.services.shared import Backend
from vedette.api.status import Reloaded, StatusInfo
from vedette.api.tracing import Tracing
from vedette.api.unrouted import application
from vedette.api.updates import Updates
from vedette.api.watch import Sources
from vedette.asking import Asking, History, engine_of
from vedette.clock import Clock, SystemClock, now_ms
from vedette.collect.collector import Collector
from vedette.collect.host import host_target
from vedette.collect.own import own_target, read_own
from vedette.errors import BadInput, LimitExceeded, Undeliverable, VedetteError
from vedette.forward.forwards import Forwards
from vedette.health.check import HEALTHY, UNHEALTHY, Finding, Probe, State
from vedette.health.settings import HealthSettings
from vedette.health.watch import Watch
from vedette.ingest.door import Door
from vedette.ingest.exemplars import Exemplars
from vedette.ingest.graphite import Graphite
from vedette.ingest.pushed import Pushed
from vedette.ingest.statsd import Statsd
from vedette.ingest.track import Tracker
from vedette.logways import LogWays, store_of
from vedette.model.alerts import Alert
from vedette.model.durations import format_duration
from vedette.model.tenants import DEFAULT_TENANT
from vedette.net.addresses import public_address
from vedette.notify import made
from vedette.notify.config import Config as NotifyConfig
from vedette.plan import Plan, retention_of, waiting
from vedette.process import commit_of_checkout, configure_logging
from vedette.records.copy import copy_records
from vedette.rules.alerting import Outage
from vedette.rules.callbacks import Callbacks
from vedette.rules.files import MADE, Group
from vedette.rules.managed import Defaults, ManagedRules
from vedette.rules.state import Tally
from vedette.sdk import metrics_monitor
from vedette.selfmetrics import Reading
from vedette.settings import Settings, resolve
from vedette.storage import heap
from vedette.storage.backends import open_backend
from vedette.storage.disk import Disk
from vedette.storage.interface import Replaying
from vedette.storage.limits import Limits
from vedette.storage.replay import ReplayProgress
from vedette.storage.snapshots import copy_records_of
from vedette.tenants import Outside, Tenants
from vedette.web.routes import pages

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from vedette.notify.acknowledgements import Acknowledgement
    from vedette.notify.alertmanagers import Alertmanagers
    from vedette.notify.notifier import Notifier
    from vedette.records.database import Records
    from vedette.rules.engine import Rules
    from vedette.rules.state import GroupState

T = TypeVar("T")
log = structlog.get_logger(__name__)

_QUERY_THREADS = 4
_WRITE_THREADS = 2


class House:
    """The running server. `lock`, then `start`; `close` at the end. `read` gives the settings anew at each reload."""

    def __init__(self, settings: Settings, *, clock: Clock, read: Callable[[], Settings]) -> None:
        heap.economise(os.environ)
        self.log_ways = LogWays(settings.vedette.logs, clock)
        configure_logging(settings.vedette.server.log_level, keep=self.log_ways.keep)
        self.plan = Plan.of(settings)
        self._at_the_start = settings.vedette
        self.clock = clock
        self.started = clock.now()
        self.ready = False
        self._read = read
        self._reloaded = Reloaded(True, self.started)
        self._turn = asyncio.Lock()
        self._closing = threading.Event()
        # One for each query that may run, and some for what else reads: rules, and lists of series.
        threads = self.plan.settings.vedette.promql.max_concurrency + _QUERY_THREADS
        self._queries = ThreadPoolExecutor(threads, thread_name_prefix="query")
        self._writes = ThreadPoolExecutor(_WRITE_THREADS, thread_name_prefix="write")
        room = settings.vedette
        self.limits = Limits(room.limits, window=room.storage.out_of_order_window)
        self.storage = open_backend(room.samples, clock, retention=retention_of(room.storage), limits=self.limits, remote=room.remote)
        self.exemplars = Exemplars(max(0, settings.config.storage.exemplars.max_exemplars), room.storage.data / "exemplars")
        self.forwards = Forwards(clock, room.storage.data / "forward", room.forward)
        self.door = Door(self.storage, clock, limits=self.limits, exemplars=self.exemplars, tee=self.forwards.take)
        self.promql = engine_of(room, self.storage, clock)
        self.intake = Intake(self.door.append, self.run_write, clock, tenant_of, lambda: self.plan.settings.vedette.intake)
        sockets: dict[str, Any] = {"run": self.run_write, "base": self._base(settings), "insecure": room.server.insecure}
        self.graphite = Graphite(self.door.append, clock, **sockets)
        self.statsd = Statsd(self.door.append, clock, **sockets)
        self.pushed = Pushed(self.door.append, clock, lambda: self.plan.settings.vedette.pushed)
        self._asking = Asking(self.promql, self.storage, self.run_query, clock)
        started = room.storage.start_timestamps or room.storage.start_zeros
        self.collector = Collector(self.door.append, clock, starts=started)
        kept = {"window": room.services.aggregation_window, "retention": room.services.retention_hours * 3_600_000}
        self.tracker = Tracker(self.storage, self.door.append, run=self.run_query, clock=clock, settings=room.track, **kept)
        self.tracing = Tracing(room.tracing, clock, version=version("vedette"))
        self.identities = Identities(room.access, clock)
        self._counts = RedisCounts(room.access.redis_url) if room.access.redis_url else None
        self.audit = Audit(clock, retention_ms=room.access.audit_retention)
        self.logs = store_of(room.storage.data / "logs", room.logs, clock)
        if self.logs is not None:
            places = room.storage.data / "logs" / "places.json"
            self.log_ways.open(self.logs, self.door.append, places, interval_ms=room.host.interval)
        self._log_backend = logs_api.LogBackend(self.logs, self.run_write, clock, tenant_of, self._closing.is_set)
        self.health = Watch(room.health, clock, self.door.append, own=self._own_probes(room.health))
        services = room.services
        self.updates = Updates(self._asking.evaluate, clock, interval_ms=services.live_interval, most=services.live_clients)
        self._live = live_api.Live(self.updates, tenant_of, self._closing.is_set, self._asking.metrics)
        self.records: Records | None = None
        self.rules: Rules | None = None
        self._unwarmed: Callable[[], None] | None = None
        self._callbacks = Callbacks(metrics_monitor.announce, lambda: metrics_monitor.listening)
        self.managed: ManagedRules | None = None
        self._told: tuple[made.Made, ...] = ()
        self.notifier: Notifier | None = None
        self.alertmanagers: Alertmanagers | None = None
        self.tenants = Tenants(clock, ask=self._asking.ask, analyse=self._asking.analyse, append=self.door.append, outside=self._outside)
        self.registry = selfmetrics.registry(self._readings)
        self._dialects = self._services(self._operations())
        self._endpoints = self._dialects.union
        known = {e.path for e in self._endpoints}
        self._known = lambda path: path if path in known else "other"
        self._http = selfmetrics.HttpMetrics(self.registry, self._known)
        self._at_once: list[AtOnce] = []

    def lock(self) -> None:
        """Take the data directory. Raises `BadInput` where another process has it or it cannot be written."""
        self.storage.lock()

    async def start(self) -> None:
        """Replay the log, restore state, begin to scrape and to evaluate. Health answers meanwhile."""
        await self.storage.start()
        await self.exemplars.start()
        if self.logs is not None:
            await self.logs.start()
        from vedette.notify.alertmanagers import Alertmanagers
        from vedette.notify.notifier import Notifier
        from vedette.notify.plotted import Plotter
        from vedette.records.database import Records
        from vedette.rules.engine import Rules

        settings = self.plan.settings
        self.records = await Records.open_when_there(settings.records_place)
        self.audit.open(self.records)
        await self.identities.open(Directory(self.records, self.clock))
        self.managed = ManagedRules(self.records, self.clock, self._put_rules, admit=self._admit_rules, defaults=self._rule_defaults)
        await self.managed.start()
        self._told = self._told_by_rules()
        self.notifier = Notifier(
            self._whom(self.plan),
            self.records,
            self.clock,
            made.client,
            external_url=settings.external_url,
            settings=settings.vedette.notify,
            picture=Plotter(self._asking.plotted, settings.external_url),
        )
        await self.notifier.start()
        self.alertmanagers = Alertmanagers(settings.alerting, self.clock, external_labels=settings.external_labels)
        await self.alertmanagers.start()
        metrics_monitor.attach()
        self.rules = Rules(
            functools.partial(self._asking.ask, DEFAULT_TENANT),
            self.door.append,
            self._emit,
            self.records,
            self.clock,
            external_labels=settings.external_labels,
            external_url=settings.external_url,
            tenant=DEFAULT_TENANT,
            resend_ms=settings.vedette.rules.resend_delay,
            outage=Outage(tolerance_ms=settings.vedette.rules.outage_tolerance, grace_ms=settings.vedette.rules.grace_period),
            analyse=functools.partial(self._asking.analyse, DEFAULT_TENANT),
            noticed=self._noticed,
        )
        await self.tenants.start(self.records)
        await self.pushed.open(self.records)
        # One kernel compiles at a time in a process: without this, rules and scrapes that start together keep the first
        # write of a cold start waiting for kernels that it does not need.
        ingest, self._unwarmed = warm.in_two(self._closing.is_set)
        await self._compile(ingest)
        await self._apply(self.plan)
        self.tracing.start()
        self.tracker.start()
        self.pushed.start()
        self.health.start()
        self.updates.start()
        await self.log_ways.start()
        await self._listen_besides(self.plan.settings)
        self.ready = True
        rest, self._unwarmed = self._unwarmed, None
        self._warming = asyncio.create_task(self._compile(rest), name="warming")

    async def _compile(self, kernels: Callable[[], None]) -> None:
        """Compile kernels ahead of use, on a thread; where the disk does not allow it, their first users will."""
        try:
            await self.run_query(kernels)
        except (OSError, VedetteError) as error:
            log.warning("kernels are not compiled ahead", reason=str(error))

    async def _apply(self, plan: Plan) -> None:
        assert self.managed is not None and self.notifier is not None and self.alertmanagers is not None, "start comes first"
        if plan is not self.plan:
            await self._apply_ways_in(plan.settings)
        # First of all, so that nothing is stored that is not also forwarded.
        await self.forwards.apply(plan.settings.forwards(), external_labels=plan.settings.external_labels)
        host = plan.settings.vedette.host
        internal = [own_target(self.registry, platform.node(), host.interval)]
        if host.enabled:
            target = host_target(host.interval)
            # A job `node` of the operator's own keeps its name to itself: `sum by (job)` must not count this machine twice.
            taken = any(job.job_name == target.job for job in plan.collect.jobs)
            internal.append(dataclasses.replace(target, job="vedette_host") if taken else target)
        if plan is not self.plan:
            self.limits.replace(plan.settings.vedette.limits)
            self.exemplars.resize(max(0, plan.settings.config.storage.exemplars.max_exemplars))
            await self.notifier.apply(self._whom(plan), plan.settings.vedette.notify)
            await self.alertmanagers.apply(plan.settings.alerting, external_labels=plan.settings.external_labels)
        await self.collector.apply(dataclasses.replace(plan.collect, internal=tuple(internal)))
        again = plan is not self.plan
        self.plan = plan
        if again:
            self.managed.refresh()
            await self.tenants.apply()
            self.health.apply(plan.settings.vedette.health)
        await self._put_rules(at_once=False)

    async def _apply_ways_in(self, settings: Settings) -> None:
        """Put the settings of logs and of access in force. Raises `BadInput` where they would leave an open door, or none at all."""
        server, access = settings.vedette.server, settings.vedette.access
        may_listen(self.plan.settings.vedette.server.host, authenticated=access.authenticated, insecure=server.insecure)
        await self.log_ways.apply(settings.vedette.logs)
        await self._listen_besides(settings)
        if self.logs is not None:
            self.logs.apply(settings.vedette.logs)
        self.identities.apply(access)

    async def _listen_besides(self, settings: Settings) -> None:
        """Listen for what is pushed without HTTP as settings say. Raises `BadInput`."""
        await self.graphite.apply(settings.vedette.graphite)
        await self.statsd.apply(settings.vedette.statsd)

    @staticmethod
    def _base(settings: Settings) -> Path:
        """Where files that the configuration names are looked for."""
        return settings.path.parent if settings.path else Path()

    def _own_probes(self, settings: HealthSettings) -> dict[str, Probe]:
        """What is watched without being configured: the records, unless the database of applications takes their place."""
        return {} if settings.database_url else {"database": self._records_health}

    async def _records_health(self) -> Finding:
        if self.records is None:
            return Finding(UNHEALTHY, "not open yet")
        try:
            await self.records.ping()
        except LimitExceeded as error:
            return Finding(UNHEALTHY, str(error))
        pool = self.records.pool()
        figures: dict[str, Any] = {"connection_pool": {"active": pool.in_use, "idle": pool.idle, "max": pool.most}}
        if isinstance(self.plan.settings.records_place, Path):
            # A part of this process: as old as it, and without a port.
            figures |= {"version": sqlite3.sqlite_version, "uptime_seconds": int(self.clock.now() - self.started)}
        return Finding(HEALTHY, "", figures)

    def _health_states(self) -> list[State]:
        """What is watched, as it was last found; of the records also what went wrong since."""
        problem = self.records.problem if self.records is not None else ""
        own = set(self._own_probes(self.plan.settings.vedette.health)) if problem else set()
        return [
            dataclasses.replace(state, status=UNHEALTHY, reason=problem, figures={}) if state.name in own else state
            for state in self.health.states()
        ]

    async def _reach_database(self) -> None:
        """Raises `Unreachable` while the database that `DATABASE_URL` names does not answer."""
        if self.records is not None and not isinstance(self.plan.settings.records_place, Path):
            await self.records.ping()

    def _outside(self) -> Outside:
        """What other tenants' alerting takes from the configuration in force."""
        settings = self.plan.settings
        return Outside(settings.external_url, settings.external_labels, settings.vedette.notify, self.plan.tenants, self._rule_defaults())

    async def _put_rules(self, *, at_once: bool = True) -> None:
        """Put the rules of files and those made over the API in force; of the latter, what changed is evaluated `at_once`."""
        assert self.rules is not None and self.managed is not None, "start comes first"
        settings = self.plan.settings
        if (told := self._told_by_rules()) != self._told:
            assert self.notifier is not None, "start comes first"
            self._told = told
            await self.notifier.apply(self._whom(self.plan), settings.vedette.notify)
        await self.rules.apply(
            [*self.plan.groups, *self.managed.groups()],
            external_labels=settings.external_labels,
            external_url=settings.external_url,
            at_once=lambda group: at_once and group.file.startswith(MADE),
        )

    def _told_by_rules(self) -> tuple[made.Made, ...]:
        """Whom rules made over the API tell by themselves."""
        assert self.managed is not None, "start comes first"
        groups = ((g.file.removeprefix(MADE), g.name, g.notify) for g in self.managed.groups())
        return tuple(made.Made(f"{space}/{name}", notify.email, notify.webhook) for space, name, notify in groups if notify is not None)

    def _whom(self, plan: Plan) -> NotifyConfig | None:
        """Whom to tell: what the configuration says, and the addresses of rules made over the API."""
        notify, private = plan.settings.vedette.notify, plan.settings.vedette.rules.private_webhooks
        return made.with_made(plan.notify, self._told_by_rules(), server=notify.email_server, sender=notify.email_from, private=private)

    def _mails(self) -> bool:
        """Whether there is a mail server."""
        smarthost = self.plan.notify is not None and self.plan.notify.global_.smtp_smarthost
        return bool(smarthost or self.plan.settings.vedette.notify.email_server)

    async def _admit_rules(self, group: Group) -> None:
        """Refuse a group made over the API whose people could not be told. Raises `BadInput`."""
        settings = self.plan.settings.vedette
        if group.notify is None:
            return
        if group.notify.email and not self._mails():
            # It is taken all the same: a mail server may come later, and until then each mail's failure is counted and told.
            log.warning("a rule asks for mail, and no mail server is configured", rule=group.name, hint="set EMAIL_SERVER")
        if group.notify.webhook and not settings.rules.private_webhooks:
            try:
                await public_address(httpx.URL(group.notify.webhook))
            except (Undeliverable, httpx.InvalidURL) as error:
                if isinstance(error, Undeliverable) and error.retryable:
                    # A name that cannot be resolved just now is tried, and judged, again at each notification.
                    log.warning("webhook of a rule not checked", rule=group.name, reason=str(error))
                    return
                hint = "rules.private_webhooks allows private addresses"
                raise BadInput(str(error), where="notify.webhook", hint=hint) from None

    def _rule_defaults(self) -> Defaults:
        """What rules made over the API take from the configuration."""
        settings = self.plan.settings
        globals_ = settings.config.global_
        return Defaults(globals_.evaluation_interval, globals_.rule_query_offset, settings.vedette.promql.features)

    async def reload(self) -> None:
        """Read all files again and put them in force; where one is bad, raise `BadInput` and keep what was."""
        async with self._turn:
            try:
                plan = await asyncio.to_thread(lambda: Plan.of(self._read()))
                if self.rules is not None:
                    await self._apply(plan)
            except BadInput:
                self._reloaded = dataclasses.replace(self._reloaded, success=False)
                raise
            self._reloaded = Reloaded(True, self.clock.now())
            log.info("configuration reloaded", file=str(plan.settings.path or "none"))
            if later := waiting(self._at_the_start, plan.settings.vedette):
                log.warning("settings that were changed and wait for the next start", settings=later)

    async def reload_quietly(self) -> None:
        """`reload` for a signal: a bad file is logged, with the reason, and the old one stays in force."""
        try:
            await self.reload()
        except VedetteError as error:
            log.error("configuration not reloaded, the old one stays in force", reason=str(error))

    async def close(self) -> None:
        """Stop in the order in which data flows, so that nothing is produced that nobody takes; flush; let go."""
        self.ready = False
        self._closing.set()
        if self._unwarmed is not None:
            # A start that failed: what compiling was begun with ends here, on its thread. The interpreter's end could not do it.
            await self._compile(self._unwarmed)
        self._callbacks.close()
        metrics_monitor.detach()
        await self.identities.close()
        if self._counts is not None:
            await self._counts.close()
        for room in (
            self.tracing,
            self.collector,
            self.health,
            self.updates,
            self.graphite,
            self.statsd,
            self.pushed,
            self.tracker,
            self.log_ways,
            self.logs,
            self.rules,
            self.tenants,
            self.notifier,
            self.alertmanagers,
            self.records,
            self.forwards,
            self.exemplars,
            self.storage,
        ):
            if room is not None:
                await room.close()
        # What still runs there reads or compiles; nobody waits for its answer any more.
        self._queries.shutdown(wait=False, cancel_futures=True)
        self._writes.shutdown(wait=False, cancel_futures=True)

    def announce(self, addresses: Sequence[tuple[str, int]], *, scheme: str = "http") -> None:
        """Say where the server can be reached."""
        log.info(
            "serving", urls=[f"{scheme}://{host}:{port}/" for host, port in addresses], data=str(self.plan.settings.vedette.storage.data)
        )

    def run_query(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]:
        """Run a blocking read on the query threads, known by the request that asks."""
        return asyncio.get_running_loop().run_in_executor(self._queries, contextvars.copy_context().run, function, *args)

    def run_write(self, function: Callable[..., T], /, *args: Any) -> Awaitable[T]:
        """Run a blocking decode on threads that no query can occupy."""
        return asyncio.get_running_loop().run_in_executor(self._writes, function, *args)

    def asgi(self, dialect: str | None = None) -> ASGIApp:
        """The application of one listener: a dialect's own, or (None) the union with the UI."""
        chosen = self._endpoints if dialect is None else self._dialect(dialect)
        described = openapi.endpoint(chosen, version=version("vedette"))
        routes: list[BaseRoute] = [*endpoint_routes([*chosen, described])]
        ui = pages(Sessions(self.identities)) if dialect is None else None
        routes.append(reference.route(lambda: openapi.document([*chosen, described], version=version("vedette"))))
        if dialect in (None, "botserver"):
            routes += live_api.routes(self._live)
        if ui is not None:
            routes += [logs_elastic_api.elastic_root(self._log_backend), *logs_loki_tail_api.routes(self._log_backend)]
            routes += pushes_api.routes(self.intake, self.storage)
            routes += ui.routes
        guarded = Guard(
            self.tenants.around(Direct(application(routes, service=dialect is not None, missing=ui.missing if ui else None), chosen)),
            self.identities,
            audit=self.audit,
            insecure=self.plan.settings.vedette.server.insecure,
            reading_posts=prometheus.READING_POSTS,
            login=dialect is None,
        )
        app = AtOnce(
            self.tracing.around(self._http.around(guarded), self._known),
            chosen,
            admits=guarded.admits,
            identified=self.tracing.identified,
            observe=self._http.observe,
        )
        self._at_once.append(app)
        return app

    def _operations(self) -> list[Endpoint]:
        """Every operation that belongs to no dialect alone, the hottest first."""
        operations = ops.Operations(
            ready=lambda: self.ready,
            reload=self.reload,
            dependencies=self._dependencies,
            clock=self.clock,
            started=self.started,
            version=version("vedette"),
            commit=commit_of_checkout(),
        )
        cors, limits = self.plan.settings.vedette.access.reading_origins, self.plan.settings.vedette.promql
        return [
            *self._logging(cors),
            *write.endpoints(self.door.append, run=self.run_write, tenant_of=tenant_of),
            *otlp_api.endpoints(
                otlp_api.Otlp(self.door.append, self.run_write, self.clock, tenant_of, lambda: self.plan.settings.config.otlp)
            ),
            *pushes_api.endpoints(self.intake, self.storage),
            *pushgateway_api.endpoints(
                pushgateway_api.Pushgateway(self.pushed, self.run_write, self.clock, tenant_of, lambda: self.plan.settings.vedette.pushed)
            ),
            *prometheus.endpoints(
                self.promql,
                self.storage,
                Sources(
                    self.collector.targets,
                    self.collector.dropped,
                    self.collector.dropped_counts,
                    self._groups_of,
                ),
                run=self.run_query,
                clock=self.clock,
                info=self._status(),
                tenant_of=tenant_of,
                ready=lambda: self.ready,
                exemplars=self.exemplars,
                settings=prometheus.PrometheusApiSettings(
                    cors_origin=cors,
                    max_concurrency=limits.max_concurrency,
                    max_concurrency_per_tenant=limits.max_concurrency_per_tenant,
                    max_queued_per_tenant=limits.max_queued_per_tenant,
                    timeout_s=limits.timeout_s,
                ),
            ),
            *self._alerting(cors),
            *self._rule_making(),
            *ops.endpoints(operations),
            *live_api.endpoints(self._live),
            *access_api.endpoints(access_api.Access(self.identities, self.audit, self.clock)),
            *admin.endpoints(
                admin.Admin(
                    self.storage,
                    lambda: self.plan.settings.vedette.storage.admin_api,
                    prometheus.matchers_of,
                    tenant_of,
                    beside=self._copy_beside,
                )
            ),
            *export.endpoints(export.Exporting(self.storage, self.run_query, prometheus.matchers_of, tenant_of)),
            *remote_read.endpoints(
                remote_read.RemoteRead(
                    self.storage, self.run_query, tenant_of, lambda: self.plan.settings.external_labels, lambda: self.ready
                )
            ),
            *federation.endpoints(
                federation.Federation(
                    self.storage,
                    self.run_query,
                    self.clock,
                    parse_selector=prometheus.any_matchers_of,
                    tenant_of=tenant_of,
                    external_labels=lambda: self.plan.settings.external_labels,
                    ready=lambda: self.ready,
                ),
                cors_origin=cors,
            ),
            *exposition.endpoints(
                exposition.Metrics(
                    own=lambda: read_own(self.registry),
                    own_job="vedette",
                    storage=self.storage,
                    run=self.run_query,
                    clock=self.clock,
                    parse_selector=prometheus.matchers_of,
                    tenant_of=tenant_of,
                ),
                cors_origin=cors,
            ),
        ]

    def _logging(self, cors: str) -> list[Endpoint]:
        """What concerns log lines."""
        return [
            *logs_in_api.endpoints(self._log_backend),
            *logs_elastic_api.endpoints(self._log_backend),
            *logs_api.endpoints(self._log_backend, cors_origin=cors),
            *logs_loki_api.endpoints(self._log_backend, cors_origin=cors),
        ]

    def _rule_making(self) -> list[Endpoint]:
        """What concerns rules that are made, changed and tried on history."""
        history = backtest_api.Backtesting(
            lambda scope: History(self.promql, tenant_of(scope)),
            self._situation_of,
            self._rule_defaults,
            self.run_query,
            self.clock,
            backtest_api.Busy(),
        )
        return [
            *rules_api.endpoints(rules_api.RuleEditing(self._managed_of, self._rule_defaults)),
            *ruler_api.endpoints(ruler_api.Ruler(self._managed_of)),
            *backtest_api.endpoints(history),
        ]

    def _dependencies(self) -> dict[str, str]:
        """What the server stands on, and what is wrong with it: `ok`, `starting` or a reason."""
        if not self.ready or self.records is None:
            return {"storage": self.storage.problem or "starting", "database": "starting"}
        logs = {"logs": self.logs.problem} if self.logs is not None and self.logs.problem else {}
        return {"storage": self.storage.problem or "ok", "database": self.records.problem or "ok", **logs}

    def _alerting(self, cors: str) -> list[Endpoint]:
        """Alertmanager's API, the platform document's silences, and why somebody was told or not."""
        info = alertmanager_api.AlertmanagerInfo(version("vedette"), self.started, lambda: self.plan.notify_text)
        room = alertmanager_api.Alertmanager(self._notifier_of, lambda: now_ms(self.clock), info, self.run_write)
        silencing = silencing_api.Silencing(self._notifier_of, lambda: now_ms(self.clock))
        explaining = explaining_api.Explaining(self._notifier_of, lambda: now_ms(self.clock), self._groups_of)
        return [
            *alertmanager_api.endpoints(room, run=self.run_query, cors_origin=cors),
            *silencing_api.endpoints(silencing),
            *explaining_api.endpoints(explaining),
            *alerts_api.endpoints(alerts_api.Alerts(self._notifier_of, lambda: now_ms(self.clock), self._known_as)),
            *notifications_api.endpoints(
                notifications_api.Notifications(self._notifier_of, lambda: now_ms(self.clock), self.plan.settings.external_url)
            ),
        ]

    def _situation_of(self, request: Mapping[str, Any]) -> backtest_api.Situation:
        """What a backtest of whoever asks is run in."""
        settings, ours = self.plan.settings, tenant_of(request) == DEFAULT_TENANT
        return backtest_api.Situation(
            config=self._whom(self.plan) if ours else self.plan.tenants.get(tenant_of(request)),
            silences=self._notifier_of(request).silences.all(),
            external_labels=settings.external_labels,
            external_url=settings.external_url,
            outgoing=self._outgoing if ours else list,
        )

    def _managed_of(self, request: Mapping[str, Any]) -> ManagedRules:
        """The rules that whoever asks may change."""
        if self.managed is None or not self.ready:
            raise LimitExceeded("the server is starting", retry_after=1.0)
        tenant = tenant_of(request)
        return self.managed if tenant == DEFAULT_TENANT else self.tenants.of(tenant).managed

    def _groups_of(self, request: Mapping[str, Any]) -> Sequence[GroupState]:
        """The rule groups of whoever asks, and their state."""
        tenant = tenant_of(request)
        if tenant != DEFAULT_TENANT:
            return self.tenants.groups(tenant)
        return self.rules.groups() if self.rules else ()

    def _known_as(self, fingerprint: str) -> str:
        """How notifications know an alert: by its labels with the external ones, which a rule's own alert lacks."""
        if self.rules is None or self.notifier is None or fingerprint in self.notifier.standing.fingerprints:
            return fingerprint
        for group in self.rules.groups():
            for found in (a.labels for rule in group.rules for a in rule.alerts):
                if f"{found.fingerprint():016x}" == fingerprint:
                    return next((a.fingerprint for a in self._outgoing([Alert(found, 0, 0)])), fingerprint)
        return fingerprint

    def _acknowledged(self, request: Mapping[str, Any], fingerprint: str) -> Acknowledgement | None:
        """Who knows of an alert of whoever asks."""
        standing = self._notifier_of(request).acknowledgements.standing()
        found = standing.get(self._known_as(fingerprint)) if standing else None
        return found if found is not None and found.holds(now_ms(self.clock)) else None

    def _notifier_of(self, request: Mapping[str, Any]) -> Notifier:
        """The notifications of whoever asks."""
        if self.notifier is None:
            raise LimitExceeded("the server is starting", retry_after=1.0)
        tenant = tenant_of(request)
        return self.notifier if tenant == DEFAULT_TENANT else self.tenants.of(tenant).notifier

    def _dialect(self, dialect: str) -> list[Endpoint]:
        assert dialect in DIALECTS, dialect
        return self._dialects.own[dialect]

    def _services(self, others: list[Endpoint]) -> dialects.Dialects:
        """The service APIs, with the operations of the other rooms."""
        room = self.plan.settings.vedette
        backend = Backend(self.storage, self.promql, self.run_query, self.clock, tenant_of=tenant_of, ready=lambda: self.ready)
        server = botserver.Server(
            version=version("vedette"),
            commit=commit_of_checkout(),
            started=self.started,
            data=room.storage.data,
            environment=room.services.environment,
            log_level=room.server.log_level,
            targets=self.collector.targets,
            groups=self._groups_of,
            health=self._health_states,
            acknowledged=self._acknowledged,
            pool=lambda: self.records.pool() if self.records else None,
        )
        configured = botserver_alerts.endpoints(botserver_alerts.Alerts(backend, self._managed_of, self._mails))
        return dialects.build(
            backend,
            self.tracker,
            self.door.append,
            [*others, *configured],
            logs=self._log_backend,
            server=server,
            registry=self.registry,
            settings=room.services,
            tracking=room.track,
            cors_origin=room.access.reading_origins,
            counts=self._counts,
            database=self._reach_database,
        )

    def _copy_beside(self, into: Path) -> None:
        """Put into a snapshot what is not the storage's: the records, log lines, exemplars."""
        place = self.plan.settings.records_place
        if isinstance(place, Path):
            copy_records(place, into / place.name)
        if self.logs is not None:
            self.logs.copy(into / "logs")
        copy_records_of(self.plan.settings.vedette.storage.data / "exemplars", into / "exemplars", disk=Disk())

    def _replay_progress(self) -> ReplayProgress:
        # Another backend reads no log.
        return self.storage.replay_progress if isinstance(self.storage, Replaying) else ReplayProgress(0, 0, 0, "done")

    def _status(self) -> StatusInfo:
        return StatusInfo(
            version=version("vedette"),
            started=self.started,
            config=lambda: self.plan.settings.text,
            flags=lambda: {o.setting: o.text for o in self.plan.settings.origins},
            reloaded=lambda: self._reloaded,
            retention=lambda: format_duration(self.plan.settings.vedette.storage.retention),
            replay=self._replay_progress,
            corruptions=lambda: self.storage.counters().get("wal_corrupt_records", 0),
            external_url=self.plan.settings.external_url,
            revision=commit_of_checkout(),
        )

    async def _emit(self, alerts: Sequence[Alert]) -> None:
        assert self.notifier is not None and self.alertmanagers is not None, "rules start after those they tell"
        await self.notifier.accept(self._outgoing(alerts))
        await self.alertmanagers.accept(alerts)
        self._callbacks.hear(alerts, now_ms(self.clock))

    def _noticed(self, alerts: Sequence[Alert]) -> None:
        assert self.notifier is not None, "rules start after those they tell"
        self.notifier.noticed(self._outgoing(alerts))

    def _outgoing(self, alerts: Sequence[Alert]) -> Sequence[Alert]:
        """Alerts as routes see them: with external labels and after relabelling, as an Alertmanager of one's own would."""
        from vedette.notify.alertmanagers import outgoing

        settings = self.plan.settings
        return outgoing(alerts, settings.alerting.alert_relabel_configs, settings.external_labels)

    def _readings(self) -> Iterator[Reading]:
        yield from selfmetrics.of_storage(self.storage.stats(), self.storage.counters())
        yield from selfmetrics.of_door(self.door.counts)
        yield from selfmetrics.of_intake(self.intake.unread, self.intake.left_out)
        yield from selfmetrics.of_sockets(self.graphite, self.statsd)
        yield from selfmetrics.of_pushed(self.pushed)
        yield from selfmetrics.of_forwards(self.forwards.states())
        yield from selfmetrics.of_exemplars(self.exemplars)
        yield from selfmetrics.of_limits(self.storage.tenant_series(), self.limits.in_series)
        yield from selfmetrics.of_tracker(self.tracker)
        failures = sum(app.failures for app in self._at_once)
        yield Reading("vedette_at_once_failures", "counter", "Faults of ours that took a query the long way.", {"": failures})
        yield from selfmetrics.of_spans(self.tracing.counts)
        yield from self.log_ways.readings()
        yield from selfmetrics.of_live(self.updates)
        if self.notifier is not None:
            yield from selfmetrics.of_notifier(self.notifier.counts)
        if self.alertmanagers is not None:
            yield from selfmetrics.of_alertmanagers(self.alertmanagers.peers())
        yield from selfmetrics.of_targets(self.collector.targets(), self.collector.failures)
        yield from selfmetrics.of_rules(self.rules.tally() if self.rules else Tally())
        yield Reading("metrics_exported", "counter", "Total metrics exported: answers of /metrics.", {"": self._dialects.exports.total})


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    house: House = app.state.house
    house.lock()
    await house.start()
    try:
        yield
    finally:
        await house.close()


def from_environment() -> ASGIApp:
    """The application of the main listener, settings from the environment and `vedette.yml`; starts with its lifespan."""

    def read() -> Settings:
        return resolve(environment=os.environ)

    house = House(read(), clock=SystemClock(), read=read)
    outer = Starlette(lifespan=_lifespan)
    outer.state.house = house
    outer.mount("/", house.asgi())
    return outer


def __getattr__(name: str) -> Any:
    # `uvicorn vedette.app:app` asks for it; importing this module must not read the environment.
    if name == "app":
        return from_environment()
    raise AttributeError(name)
