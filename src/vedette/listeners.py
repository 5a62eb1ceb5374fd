"""What each listener serves: the operations of all rooms put together, and what stands around them.

Not here: the operations themselves (`api`), sockets (`cli.serve`), when the rooms behind them start and end (`app.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.routing import BaseRoute

from vedette import selfmetrics
from vedette.access.guard import Guard, tenant_of
from vedette.access.sessions import Sessions
from vedette.api import access as access_api
from vedette.api import (
    admin,
    export,
    exposition,
    federation,
    internals,
    openapi,
    ops,
    pools,
    prometheus,
    reference,
    remote_read,
    search,
    write,
)
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
from vedette.api.services import botserver, botserver_alerts, dialects
from vedette.api.services.dialects import DIALECTS
from vedette.api.services.shared import Backend
from vedette.api.status import Reloaded, StatusInfo
from vedette.api.unrouted import application
from vedette.api.watch import Sources
from vedette.asking import History
from vedette.clock import now_ms
from vedette.collect.own import read_own
from vedette.model.durations import format_duration
from vedette.model.tenants import DEFAULT_TENANT
from vedette.process import commit_of_checkout
from vedette.records.copy import copy_records
from vedette.rooms import Rooms
from vedette.selfmetrics import Reading
from vedette.storage.disk import Disk
from vedette.storage.interface import Replaying
from vedette.storage.replay import ReplayProgress
from vedette.storage.snapshots import copy_records_of
from vedette.web.routes import pages

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class Listeners:
    """The applications of one server's listeners over `rooms`, which need not be started.

    `reload` puts the configuration's files in force anew (`BadInput` where one is bad); `reloaded` says how that went last.
    `registry` has the server's own metrics.
    """

    def __init__(self, rooms: Rooms, *, reload: Callable[[], Awaitable[None]], reloaded: Callable[[], Reloaded]) -> None:
        self._rooms, self._reload, self._reloaded = rooms, reload, reloaded
        self._log_backend = logs_api.LogBackend(rooms.logs, rooms.run_write, rooms.clock, tenant_of, rooms.closing.is_set)
        self._live = live_api.Live(rooms.updates, tenant_of, rooms.closing.is_set, rooms.asking.metrics)
        self._at_once: list[AtOnce] = []
        self._otlp = otlp_api.Otlp(rooms.door.append, rooms.run_write, rooms.clock, tenant_of, lambda: rooms.plan.settings.config.otlp)
        self.registry = selfmetrics.registry(self._readings)
        self._dialects = self._services(self._operations())
        self._endpoints = self._dialects.union
        known = {e.path for e in self._endpoints}
        self._known = lambda path: path if path in known else "other"
        self._http = selfmetrics.HttpMetrics(self.registry, self._known)

    def asgi(self, dialect: str | None = None) -> ASGIApp:
        """The application of one listener: a dialect's own, or (None) the union with the UI."""
        assert dialect is None or dialect in DIALECTS, dialect
        rooms = self._rooms
        chosen = self._endpoints if dialect is None else self._dialects.own[dialect]
        described = openapi.endpoint(chosen, version=version("vedette"))
        routes: list[BaseRoute] = [*endpoint_routes([*chosen, described])]
        ui = pages(Sessions(rooms.identities)) if dialect is None else None
        routes.append(reference.route(lambda: openapi.document([*chosen, described], version=version("vedette"))))
        if dialect in (None, "botserver"):
            routes += live_api.routes(self._live)
        if ui is not None:
            routes += [logs_elastic_api.elastic_root(self._log_backend), *logs_loki_tail_api.routes(self._log_backend)]
            routes += pushes_api.routes(rooms.intake, rooms.storage)
            routes += ui.routes
        served = Direct(application(routes, service=dialect is not None, missing=ui.missing if ui else None), chosen)
        guarded = Guard(
            rooms.alerting.tenants.around(served),
            rooms.identities,
            audit=rooms.audit,
            insecure=rooms.plan.settings.vedette.server.insecure,
            reading_posts=prometheus.READING_POSTS,
            login=dialect is None,
        )
        app = AtOnce(
            rooms.tracing.around(self._http.around(guarded), self._known),
            chosen,
            admits=guarded.admits,
            identified=rooms.tracing.identified,
            observe=self._http.observe,
        )
        self._at_once.append(app)
        return app

    def _operations(self) -> list[Endpoint]:
        """Every operation that belongs to no dialect alone, the hottest first."""
        rooms, cors = self._rooms, self._rooms.plan.settings.vedette.access.reading_origins
        return [
            *self._logging(cors),
            *self._writing(),
            *self._querying(cors),
            *self._alerting(cors),
            *self._rule_making(),
            *ops.endpoints(self._running()),
            *live_api.endpoints(self._live),
            *access_api.endpoints(access_api.Access(rooms.identities, rooms.audit, rooms.clock)),
            *self._keeping(),
            *self._telling(cors),
        ]

    def _logging(self, cors: str) -> list[Endpoint]:
        """What concerns log lines."""
        return [
            *logs_in_api.endpoints(self._log_backend),
            *logs_elastic_api.endpoints(self._log_backend),
            *logs_api.endpoints(self._log_backend, cors_origin=cors),
            *logs_loki_api.endpoints(self._log_backend, cors_origin=cors),
        ]

    def _writing(self) -> list[Endpoint]:
        """What takes samples in."""
        rooms = self._rooms
        gateway = pushgateway_api.Pushgateway(rooms.pushed, rooms.intake, lambda: rooms.plan.settings.vedette.pushed)
        return [
            *write.endpoints(rooms.door.append, run=rooms.run_write, tenant_of=tenant_of),
            *otlp_api.endpoints(self._otlp),
            *pushes_api.endpoints(rooms.intake, rooms.storage),
            *pushgateway_api.endpoints(gateway),
        ]

    def _querying(self, cors: str) -> list[Endpoint]:
        """Prometheus' API."""
        rooms, limits, collector = self._rooms, self._rooms.plan.settings.vedette.promql, self._rooms.collector
        return prometheus.endpoints(
            rooms.promql,
            rooms.storage,
            Sources(collector.targets, collector.dropped, collector.dropped_counts, rooms.alerting.groups_of),
            run=rooms.run_query,
            run_list=rooms.run_list,
            clock=rooms.clock,
            info=self._status(),
            tenant_of=tenant_of,
            ready=lambda: rooms.ready,
            warm=lambda: rooms.warm,
            exemplars=rooms.exemplars,
            others=self._describing(),
            settings=prometheus.PrometheusApiSettings(
                cors_origin=cors,
                max_concurrency=limits.max_concurrency,
                max_concurrency_per_tenant=limits.max_concurrency_per_tenant,
                max_concurrency_large=limits.large_at_once,
                max_queued_per_tenant=limits.max_queued_per_tenant,
                timeout_s=limits.timeout_s,
            ),
        )

    def _describing(self) -> list[Endpoint]:
        """What else Prometheus' API tells: pools, Alertmanagers, blocks, own metrics; and names by parts of them."""
        rooms = self._rooms
        in_force = pools.InForce(
            jobs=lambda: rooms.plan.collect.jobs,
            internal=lambda: {target.pool for target in rooms.collector.targets()},
            text=lambda: rooms.plan.settings.text,
            alertmanagers=rooms.alerting.alertmanagers,
        )
        inside = internals.Internals(rooms.storage, lambda: read_own(self.registry), rooms.run_query, tenant_of)
        searching = search.Search(rooms.storage, rooms.run_query, rooms.clock, prometheus.any_matchers_of, tenant_of)
        return [*pools.endpoints(pools.Pools(in_force)), *internals.endpoints(inside), *search.endpoints(searching)]

    def _alerting(self, cors: str) -> list[Endpoint]:
        """Alertmanager's API, the platform document's silences, and why somebody was told or not."""
        rooms, alerting = self._rooms, self._rooms.alerting

        def now() -> int:
            return now_ms(rooms.clock)

        info = alertmanager_api.AlertmanagerInfo(version("vedette"), rooms.started, lambda: rooms.plan.notify_text)
        room = alertmanager_api.Alertmanager(alerting.notifier_of, now, info, rooms.run_write)
        notifications = notifications_api.Notifications(alerting.notifier_of, now, rooms.plan.settings.external_url)
        return [
            *alertmanager_api.endpoints(room, run=rooms.run_query, cors_origin=cors),
            *silencing_api.endpoints(silencing_api.Silencing(alerting.notifier_of, now)),
            *explaining_api.endpoints(explaining_api.Explaining(alerting.notifier_of, now, alerting.groups_of)),
            *alerts_api.endpoints(alerts_api.Alerts(alerting.notifier_of, now, alerting.known_as)),
            *notifications_api.endpoints(notifications),
        ]

    def _rule_making(self) -> list[Endpoint]:
        """What concerns rules that are made, changed and tried on history."""
        rooms, alerting = self._rooms, self._rooms.alerting
        history = backtest_api.Backtesting(
            lambda scope: History(rooms.promql, tenant_of(scope)),
            self._situation_of,
            alerting.rule_defaults,
            rooms.run_query,
            rooms.clock,
            backtest_api.Busy(),
        )
        return [
            *rules_api.endpoints(rules_api.RuleEditing(alerting.managed_of, alerting.rule_defaults)),
            *ruler_api.endpoints(ruler_api.Ruler(alerting.managed_of)),
            *backtest_api.endpoints(history),
        ]

    def _situation_of(self, request: Mapping[str, Any]) -> backtest_api.Situation:
        """What a backtest of whoever asks is run in."""
        rooms, alerting, ours = self._rooms, self._rooms.alerting, tenant_of(request) == DEFAULT_TENANT
        return backtest_api.Situation(
            config=alerting.whom() if ours else rooms.plan.tenants.get(tenant_of(request)),
            silences=alerting.notifier_of(request).silences.all(),
            external_labels=rooms.plan.settings.external_labels,
            external_url=rooms.plan.settings.external_url,
            outgoing=alerting.outgoing if ours else list,
        )

    def _running(self) -> ops.Operations:
        """Health, readiness, reload."""
        rooms = self._rooms
        return ops.Operations(
            ready=lambda: rooms.ready,
            reload=self._reload,
            dependencies=lambda: rooms.dependencies.states(ready=rooms.ready),
            clock=rooms.clock,
            started=rooms.started,
            version=version("vedette"),
            commit=commit_of_checkout(),
            compiling=rooms.compiling,
        )

    def _keeping(self) -> list[Endpoint]:
        """What looks after stored samples, or carries them elsewhere."""
        rooms = self._rooms
        keeper = admin.Admin(
            rooms.storage,
            lambda: rooms.plan.settings.vedette.storage.admin_api,
            prometheus.matchers_of,
            tenant_of,
            beside=self._copy_beside,
        )
        reader = remote_read.RemoteRead(
            rooms.storage, rooms.run_list, tenant_of, lambda: rooms.plan.settings.external_labels, lambda: rooms.ready
        )
        return [
            *admin.endpoints(keeper),
            *export.endpoints(export.Exporting(rooms.storage, rooms.run_list, prometheus.matchers_of, tenant_of)),
            *remote_read.endpoints(reader),
        ]

    def _telling(self, cors: str) -> list[Endpoint]:
        """What other servers scrape."""
        rooms = self._rooms
        federating = federation.Federation(
            rooms.storage,
            rooms.run_list,
            rooms.clock,
            parse_selector=prometheus.any_matchers_of,
            tenant_of=tenant_of,
            external_labels=lambda: rooms.plan.settings.external_labels,
            ready=lambda: rooms.ready,
        )
        metrics = exposition.Metrics(
            own=lambda: read_own(self.registry),
            own_job="vedette",
            storage=rooms.storage,
            run=rooms.run_query,
            clock=rooms.clock,
            parse_selector=prometheus.matchers_of,
            tenant_of=tenant_of,
            mark=rooms.collector.mark,
            run_list=rooms.run_list,
        )
        return [*federation.endpoints(federating, cors_origin=cors), *exposition.endpoints(metrics, cors_origin=cors)]

    def _services(self, others: list[Endpoint]) -> dialects.Dialects:
        """The service APIs, with the operations of the other rooms."""
        rooms, alerting, room = self._rooms, self._rooms.alerting, self._rooms.plan.settings.vedette
        backend = Backend(rooms.storage, rooms.promql, rooms.run_query, rooms.clock, tenant_of=tenant_of, ready=lambda: rooms.ready)
        server = botserver.Server(
            version=version("vedette"),
            commit=commit_of_checkout(),
            started=rooms.started,
            data=room.storage.data,
            environment=room.services.environment,
            log_level=room.server.log_level,
            targets=rooms.collector.targets,
            groups=alerting.groups_of,
            health=lambda: rooms.dependencies.judged(rooms.health.states()),
            acknowledged=alerting.acknowledged,
            pool=lambda: rooms.dependencies.records.pool() if rooms.dependencies.records else None,
        )
        configured = botserver_alerts.endpoints(botserver_alerts.Alerts(backend, alerting.managed_of, alerting.mails))
        return dialects.build(
            backend,
            rooms.tracker,
            rooms.door.append,
            [*others, *configured],
            logs=self._log_backend,
            server=server,
            registry=self.registry,
            settings=room.services,
            tracking=room.track,
            cors_origin=room.access.reading_origins,
            counts=rooms.counts,
            database=rooms.dependencies.reach_database,
        )

    def _copy_beside(self, into: Path) -> None:
        """Put into a snapshot what is not the storage's: the records, log lines, exemplars."""
        rooms = self._rooms
        place = rooms.plan.settings.records_place
        if isinstance(place, Path):
            copy_records(place, into / place.name)
        if rooms.logs is not None:
            rooms.logs.copy(into / "logs")
        copy_records_of(rooms.plan.settings.vedette.storage.data / "exemplars", into / "exemplars", disk=Disk())

    def _replay_progress(self) -> ReplayProgress:
        # Another backend reads no log.
        storage = self._rooms.storage
        return storage.replay_progress if isinstance(storage, Replaying) else ReplayProgress(0, 0, 0, "done")

    def _status(self) -> StatusInfo:
        rooms = self._rooms
        return StatusInfo(
            version=version("vedette"),
            started=rooms.started,
            config=lambda: rooms.plan.settings.text,
            flags=lambda: {o.setting: o.text for o in rooms.plan.settings.origins},
            reloaded=self._reloaded,
            retention=lambda: format_duration(rooms.plan.settings.vedette.storage.retention),
            replay=self._replay_progress,
            corruptions=lambda: rooms.storage.counters().get("wal_corrupt_records", 0),
            external_url=rooms.plan.settings.external_url,
            revision=commit_of_checkout(),
        )

    def _readings(self) -> Iterator[Reading]:
        yield from self._rooms.readings()
        failures = sum(app.failures for app in self._at_once)
        yield Reading("vedette_at_once_failures", "counter", "Faults of ours that took a query the long way.", {"": failures})
        yield Reading("vedette_otlp_rejected_points", "counter", "OTLP points not taken, by reason.", dict(self._otlp.rejected), "reason")
        yield Reading("metrics_exported", "counter", "Total metrics exported: answers of /metrics.", {"": self._dialects.exports.total})
