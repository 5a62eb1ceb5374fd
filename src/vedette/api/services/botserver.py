"""BotServer's monitoring API below `/api/v1/monitoring`.

Every number is measured: what no application reports and what is not configured is null, absent or `not_configured`. On
the main listener `/metrics` answers Gamiroo's records where a parameter of Gamiroo's is given (`union`). Not here: logs
and errors by kind (`botlogs`), alerts made over HTTP (`botserver_alerts`), WebSocket.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import psutil
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Handler, Param
from vedette.api.params import form_of
from vedette.api.services import components, gamiroo, machine
from vedette.api.services.components import Pool
from vedette.api.services.limits import Limit, Shared, limited
from vedette.api.services.own import OwnRequests
from vedette.api.services.performance import MAX_POINTS, PERIODS_MS, RESOLUTIONS_MS, Performance
from vedette.api.services.settings import ServicesSettings
from vedette.api.services.shared import OWN_JOB, Backend, answer, choice_of, finite, service_of, shown_time
from vedette.clock import now_ms
from vedette.errors import BadInput, VedetteError
from vedette.health.check import State
from vedette.model.matchers import Matcher, by_metric
from vedette.model.tenants import DEFAULT_TENANT
from vedette.promql.nodes import Binary, Number

if TYPE_CHECKING:
    from vedette.collect.scrape import TargetState
    from vedette.notify.acknowledgements import Acknowledgement
    from vedette.rules.state import ActiveAlert, GroupState, RuleState

BASE = "/api/v1/monitoring"
_TAG = "botserver"
_STATES = {"up": "running", "down": "down", "unknown": "unknown"}
_COMPARISONS = frozenset(("==", "!=", ">", "<", ">=", "<="))


@dataclass(frozen=True, slots=True)
class Server:
    """What the process says of itself. `started` in Unix seconds, `data` the directory of the storage; callables are immediate."""

    version: str
    commit: str
    started: float
    data: Path
    environment: str
    log_level: str
    targets: Callable[[], Sequence[TargetState]]
    groups: Callable[[Mapping[str, Any]], Sequence[GroupState]]
    """Takes the request, whose tenant's groups they are."""
    health: Callable[[], Sequence[State]] = tuple
    """What is watched, as it was last found."""
    pool: Callable[[], Pool | None] = lambda: None
    """The connections to the records."""
    acknowledged: Callable[[Mapping[str, Any], str], Acknowledgement | None] = lambda request, fingerprint: None
    """Takes the request and an alert's fingerprint."""


@dataclass(frozen=True, slots=True)
class BotServer:
    """The operations. `exposed` answers the Prometheus text."""

    backend: Backend
    server: Server
    processor: machine.Processor
    requests: OwnRequests
    exposed: Handler

    def _now(self) -> str:
        return shown_time(now_ms(self.backend.clock))

    async def health(self, request: Request) -> Response:
        """Basic health; answers while starting, too."""
        status = "healthy" if self.backend.ready() else "starting"
        return answer({"status": status, "timestamp": self._now(), "version": self.server.version})

    async def detailed(self, request: Request) -> Response:
        """The components' health."""
        storage: dict[str, Any] = {"status": "starting"}
        if self.backend.ready():
            try:
                storage = await self.backend.run(self._storage, self.backend.tenant_of(request.scope))
            except (OSError, VedetteError) as error:
                # Health must answer exactly when something is broken; the reason is in the answer.
                storage = {"status": "unhealthy", "error": str(error)}
        found = {"storage": storage, **components.components(self.server.health() if self._ours(request) else ())}
        status = components.overall([component["status"] for component in found.values()])
        return answer({"status": status, "components": found, "timestamp": self._now()})

    def _storage(self, tenant: str) -> dict[str, Any]:
        """The engine asked for one series, and the room that its directory has. Runs on a worker thread."""
        backend, now = self.backend, now_ms(self.backend.clock)
        began = time.perf_counter()
        backend.storage.select(tenant, [by_metric("up"), Matcher("job", "=", OWN_JOB)], now - 60_000, now)
        stats = backend.storage.stats()
        taken = time.perf_counter() - began
        return {
            "status": "healthy",
            "latency_ms": round(1000 * taken, 3),
            "available_gb": round(machine.disk(self.server.data).free / machine.GIB, 3),
            "used_gb": round((stats.wal_bytes + stats.block_bytes) / machine.GIB, 6),
        }

    async def system(self, request: Request) -> Response:
        """This machine."""
        return answer({"system": await self.backend.run(self._system), "timestamp": self._now()})

    def _system(self) -> dict[str, Any]:
        return {
            "cpu": {"usage_percent": self.processor.percent(), **machine.processors()},
            "memory": machine.memory().gigabytes(),
            "disk": machine.disk(Path("/")).gigabytes(),
            "network": machine.network(),
        }

    async def application(self, request: Request) -> Response:
        """Requests, sessions, conversations, errors."""
        now = now_ms(self.backend.clock)
        figures = Performance(self.backend, self.requests).application
        tenant, uptime = self.backend.tenant_of(request.scope), int(now / 1000 - self.server.started)
        return answer({"application": await self.backend.run(figures, tenant, now, uptime)})

    async def performance(self, request: Request) -> Response:
        """Response times, throughput and error rates over a period."""
        form = await form_of(request)
        period = choice_of(form, "period", "24h", PERIODS_MS)
        resolution = choice_of(form, "resolution", "hour", RESOLUTIONS_MS)
        points = PERIODS_MS[period] // RESOLUTIONS_MS[resolution]
        if points > MAX_POINTS:
            raise BadInput(f"{points:,} points over {period}", where="query.resolution", hint=f"at most {MAX_POINTS:,}: choose hour or day")
        figures = Performance(self.backend, self.requests).over
        tenant = self.backend.tenant_of(request.scope)
        return answer(await self.backend.run(figures, tenant, period, resolution, now_ms(self.backend.clock)))

    async def status(self, request: Request) -> Response:
        """This server, what is watched, and what it scrapes."""
        mine = {
            "name": "web_server",
            "status": "running",
            "uptime_seconds": int(self.backend.clock.now() - self.server.started),
            "port": (request.scope.get("server") or ("", None))[1],
            "pid": psutil.Process().pid,
            "version": self.server.version,
        }
        targets = self.server.targets() if self._ours(request) else ()
        began: dict[tuple[str, str], float] = {}
        if targets and self.backend.ready():
            # Storage that cannot be read must not hide what runs: services are shown without their age then.
            with contextlib.suppress(OSError, VedetteError):
                began = await self.backend.run(self._began, self.backend.tenant_of(request.scope))
        scraped = [self._scraped(target, began) for target in targets]
        watched = components.services(self.server.health() if self._ours(request) else ())
        return answer({"services": [mine, *watched, *scraped]})

    def _began(self, tenant: str) -> dict[tuple[str, str], float]:
        """When what is scraped began, in Unix seconds, by (job, instance), as far as it says so itself. Runs on a worker thread."""
        # A machine that Vedette reads itself has no process: it is as old as its boot.
        expr = "max by (job, instance) (process_start_time_seconds or on (job, instance) node_boot_time_seconds)"
        rows = self.backend.promql.instant(tenant, expr, now_ms(self.backend.clock)).rows()
        return {(labels.get("job") or "", labels.get("instance") or ""): float(values[-1]) for labels, _, values in rows}

    def _scraped(self, target: TargetState, began: Mapping[tuple[str, str], float]) -> dict[str, Any]:
        job, instance = target.labels.get("job") or "", target.labels.get("instance") or ""
        shown: dict[str, Any] = {"name": job, "instance": instance, "status": _STATES[target.health]}
        url = urlsplit(target.url)
        port = url.port or {"http": 80, "https": 443}.get(url.scheme)
        if port is not None:
            shown["port"] = port
        start = began.get((job, instance))
        if target.health == "up" and start is not None:
            shown["uptime_seconds"] = max(0, int(self.backend.clock.now() - start))
        return shown

    async def database(self, request: Request) -> Response:
        """The connections to the database that is watched, or else to the records."""
        return answer(components.database(self._watched(request, "database"), self.server.pool()))

    async def cache(self, request: Request) -> Response:
        """The cache that is watched."""
        return answer(components.cache(self._watched(request, "cache")))

    def _watched(self, request: Request, name: str) -> State | None:
        states = self.server.health() if self._ours(request) else ()
        return next((state for state in states if state.name == name), None)

    async def alerts(self, request: Request) -> Response:
        """Firing alerts with counts by severity."""
        found = [
            self._alert(request, rule, alert)
            for group in self.server.groups(request)
            for rule in group.rules
            for alert in rule.alerts
            if alert.state == "firing"
        ]
        counts = {f"{severity}_count": sum(a["severity"] == severity for a in found) for severity in ("critical", "warning")}
        return answer({"alerts": found, "active_count": len(found), **counts})

    def _ours(self, request: Request) -> bool:
        """Whether the one who asks is of the tenant that scrapes and alerts are made for; others must see nothing of it."""
        return self.backend.tenant_of(request.scope) == DEFAULT_TENANT

    def _alert(self, request: Request, rule: RuleState, alert: ActiveAlert) -> dict[str, Any]:
        annotations, fingerprint = dict(alert.annotations), f"{alert.labels.fingerprint():016x}"
        known = self.server.acknowledged(request, fingerprint)
        told = {"acknowledged_by": known.author, "acknowledged_at": shown_time(known.made_at), "notes": known.note} if known else {}
        return {
            "alert_id": fingerprint,
            "severity": alert.labels.get("severity"),
            "type": rule.name,
            "service": service_of(alert.labels),
            "message": annotations.get("description") or annotations.get("summary") or rule.name,
            "triggered_at": shown_time(alert.active_at),
            "current_value": finite(alert.value),
            "threshold": self._threshold(rule.expr),
            "acknowledged": known is not None,
            **told,
        }

    def _threshold(self, expr: str) -> float | None:
        """The number that a rule's expression compares with; None where it is not of that form."""
        root = self.backend.promql.parse(expr)
        if isinstance(root, Binary) and root.op in _COMPARISONS and isinstance(root.rhs, Number):
            return finite(root.rhs.value)
        return None

    async def dashboard(self, request: Request) -> Response:
        """A dashboard for Grafana over the document's series."""
        panels = [
            {
                "id": i + 1,
                "title": title,
                "type": "graph",
                "datasource": "prometheus",
                "query": query,
                "targets": [{"refId": "A", "expr": query}],
                "gridPos": {"x": 12 * (i % 2), "y": 8 * (i // 2), "w": 12, "h": 8},
            }
            for i, (title, query) in enumerate(PANELS.items())
        ]
        return answer({"dashboard": {"title": "BotServer Monitoring", "panels": panels}})

    async def debug(self, request: Request) -> Response:
        """What the process is made of now."""
        return answer(
            {
                "debug": {
                    "goroutines": len(asyncio.all_tasks()) + threading.active_count(),
                    "memory_allocations": sys.getallocatedblocks(),
                    "gc_runs": sum(generation["collections"] for generation in gc.get_stats()),
                    "open_files": await self.backend.run(_open_files),
                    "environment": self.server.environment,
                    "config": {"debug_mode": self.server.log_level == "debug", "log_level": self.server.log_level},
                }
            }
        )


def _open_files() -> int | None:
    """How many file descriptors the process holds; None where the system has none."""
    process = psutil.Process()
    return process.num_fds() if hasattr(process, "num_fds") else None


PANELS = {
    "Request Rate": "rate(botserver_requests_total[5m])",
    "Response Time (p95)": "histogram_quantile(0.95, sum by (le) (rate(botserver_request_duration_seconds_bucket[5m])))",
    "Error Rate": 'sum(rate(botserver_requests_total{status=~"5.."}[5m])) / sum(rate(botserver_requests_total[5m]))',
    "CPU Usage": '100 * (1 - sum(rate(node_cpu_seconds_total{mode="idle"}[5m])) / sum(rate(node_cpu_seconds_total[5m])))',
    "Memory Usage": "100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)",
    "Disk Usage": "100 * (1 - node_filesystem_avail_bytes / node_filesystem_size_bytes)",
}


def union(records: Endpoint, own: Sequence[Endpoint]) -> tuple[Endpoint, list[Endpoint]]:
    """`GET /metrics` of both documents in one, and the others of `own` (this dialect's operations).

    `records` (Gamiroo's) answers where one of its parameters is given, the system object is given otherwise.
    """
    system = next(e for e in own if e.path == records.path)

    async def either(request: Request) -> Response:
        asked = records if any(name in request.query_params for name in gamiroo.PARAMS) else system
        return await cast(Handler, asked.handler)(request)

    about = "Metric records where a parameter is given, this machine otherwise"
    schema = {"oneOf": [records.answer, system.answer]}
    return dataclasses.replace(records, handler=either, about=about, answer=schema), [e for e in own if e is not system]


def endpoints(service: BotServer, settings: ServicesSettings, alerts_limit: Limit, *, shared: Shared | None = None) -> list[Endpoint]:
    """The operations of this dialect, `GET /metrics` as its document has it. `shared` are rate limits of all instances."""
    metrics_limit = Limit(settings.metrics_per_minute, service.backend.clock.monotonic, name="metrics", shared=shared)
    limits = {"/metrics": metrics_limit, "/alerts": alerts_limit}
    handled = service.backend.handled
    choices = (
        Param("period", "text", "How far back: " + ", ".join(PERIODS_MS) + "; 24h if absent."),
        Param("resolution", "text", "The distance of `data_points`: " + ", ".join(RESOLUTIONS_MS) + "; hour if absent."),
    )

    def one(path: str, handler: Callable[[Request], Awaitable[Response]], about: str, **more: Any) -> Endpoint:
        of = next((limit for start, limit in limits.items() if path.startswith(start)), None)
        return Endpoint(BASE + path, handler if of is None else limited(handler, of), about, tag=_TAG, **more)

    return [
        one("/health", service.health, "Basic health"),
        one("/health/detailed", service.detailed, "Health of all components"),
        one("/metrics", handled(service.system), "This machine"),
        one("/metrics/application", handled(service.application), "Application metrics"),
        one("/metrics/performance", handled(service.performance), "Performance", params=choices),
        one("/metrics/prometheus", service.exposed, "Latest values as Prometheus text", media="text/plain"),
        one("/metrics/grafana", handled(service.dashboard), "A dashboard for Grafana"),
        one("/status", handled(service.status), "Status of services"),
        one("/resources/database", handled(service.database), "Database connections"),
        one("/resources/cache", handled(service.cache), "Cache statistics"),
        one("/alerts", handled(service.alerts), "Firing alerts"),
        one("/debug/info", handled(service.debug), "What the process is made of"),
    ]
