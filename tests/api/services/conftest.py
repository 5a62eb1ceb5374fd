"""The five dialects over the naive storage, the real query engine and a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from vedette import selfmetrics
from vedette.api import exposition, ops, prometheus
from vedette.api.endpoint import Endpoint, routes
from vedette.api.logs import LogBackend
from vedette.api.services import botserver_alerts, dialects
from vedette.api.services.botserver import Server
from vedette.api.services.settings import ServicesSettings
from vedette.api.services.shared import Backend
from vedette.api.status import Reloaded, StatusInfo
from vedette.clock import ManualClock
from vedette.collect.own import read_own
from vedette.collect.scrape import TargetState
from vedette.ingest.settings import TrackSettings
from vedette.ingest.track import Tracker
from vedette.model.labels import Labels
from vedette.promql.engine import Engine
from vedette.promql.settings import PromqlSettings
from vedette.rules.state import GroupState

MINUTE, HOUR = 60_000, 3_600_000


class Services:
    """The dialects, and what a test may change: `ready`, `tenant`, `groups`, `targets`."""

    def __init__(self, storage: Any, clock: ManualClock, run: Any, data: Path, *, per_minute: int = 0) -> None:
        self.ready, self.strict = True, per_minute > 0
        self.tenant = "default"
        self.groups: list[GroupState] = []
        self.targets: list[TargetState] = []
        self.storage, self.clock = storage, clock
        self.registry = selfmetrics.registry(lambda: ())
        self.http = selfmetrics.HttpMetrics(self.registry, lambda path: path)
        self.promql = Engine(storage, PromqlSettings(), clock)
        backend = self.backend = Backend(storage, self.promql, run, clock, tenant_of=self.tenant_of, ready=lambda: self.ready)
        self.tracker = Tracker(storage, storage.append, run=run, clock=clock, settings=TrackSettings())
        server = Server(
            version="1.0.0",
            commit="abc1234",
            started=clock.now() - 5231,
            data=data,
            environment="production",
            log_level="info",
            targets=lambda: self.targets,
            groups=lambda _request: self.groups if self.tenant == "default" else [],
        )
        self.dialects = dialects.build(
            backend,
            self.tracker,
            storage.append,
            self._others(backend),
            logs=LogBackend(None, backend.run, clock, self.tenant_of, lambda: False),
            server=server,
            registry=self.registry,
            settings=ServicesSettings(metrics_per_minute=per_minute, alerts_per_minute=min(per_minute, 10)),
            tracking=TrackSettings(),
            cors_origin="",
        )

    def tenant_of(self, scope: object) -> str:
        return self.tenant

    def _others(self, backend: Backend) -> list[Endpoint]:
        info = StatusInfo(
            version="1.0.0",
            started=self.clock.now(),
            config=str,
            flags=dict,
            reloaded=lambda: Reloaded(True, 0.0),
            retention=lambda: "30d",
            corruptions=lambda: 0,
        )
        sources = prometheus.Sources(list, list, dict, lambda _request: self.groups)
        own = exposition.Metrics(
            own=lambda: read_own(self.registry),
            own_job="vedette",
            storage=self.storage,
            run=backend.run,
            clock=self.clock,
            parse_selector=prometheus.matchers_of,
            tenant_of=self.tenant_of,
        )

        async def reload() -> None:
            return None

        operations = ops.Operations(
            ready=lambda: self.ready, reload=reload, dependencies=dict, clock=self.clock, started=self.clock.now(), version="1.0.0"
        )
        api = prometheus.endpoints(
            self.promql, self.storage, sources, run=backend.run, clock=self.clock, info=info, tenant_of=self.tenant_of
        )
        found = [*api, *ops.endpoints(operations), *exposition.endpoints(own)]
        if self.strict:  # where only counts of requests are asked for: these rules can be listed, and nothing else
            rules = cast(Any, SimpleNamespace(all=lambda space: []))
            found += botserver_alerts.endpoints(botserver_alerts.Alerts(backend, lambda _request: rules, lambda: True))
        return found

    def put(self, text: dict[str, str], *samples: tuple[float, float], kind: str = "") -> None:
        """Store samples (minutes before now, value) of the series with these labels."""
        now = int(self.clock.now() * 1000)
        self.storage.put(Labels.of(text), *((now - round(ago * MINUTE), value) for ago, value in samples))
        if kind:
            self.storage.about(text["__name__"], kind)


@pytest.fixture
def services(storage: Any, clock: ManualClock, run: Any, tmp_path: Path) -> Any:
    made = Services(storage, clock, run, tmp_path)
    yield made
    made.promql.close()


@pytest.fixture
def strict(storage: Any, clock: ManualClock, run: Any, tmp_path: Path) -> Any:
    """The same with the document's rate limits."""
    made = Services(storage, clock, run, tmp_path, per_minute=60)
    yield made
    made.promql.close()


@pytest.fixture
def client(services: Services, serve: Callable[..., httpx.AsyncClient]) -> httpx.AsyncClient:
    """Of the main listener."""
    return serve(routes(services.dialects.union))


@pytest.fixture
def own(services: Services, serve: Callable[..., httpx.AsyncClient]) -> Callable[[str], httpx.AsyncClient]:
    """A function giving a client of a dialect's own listener."""
    return lambda dialect: serve(routes(services.dialects.own[dialect]))
