"""The five service APIs put together: what each serves on a listener of its own, and their union for the main one.

Where two documents claim one path, the own listener follows its document; the main listener's answer is told apart by the
request or is a superset of both. Not here: sockets (`cli.serve`), the rooms that the operations read from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from prometheus_client import CollectorRegistry, Histogram

from vedette.api.answers import finishing
from vedette.api.endpoint import Endpoint, Handler
from vedette.api.logs import LogBackend
from vedette.api.services import access_layer, aggregates, botlogs, botserver, gamiroo, machine, platform, trends, xscore
from vedette.api.services.botserver import BotServer, Server
from vedette.api.services.described import described
from vedette.api.services.limits import Limit, Shared, limited
from vedette.api.services.own import OwnRequests
from vedette.api.services.settings import ServicesSettings
from vedette.api.services.shared import Backend
from vedette.ingest.settings import TrackSettings
from vedette.ingest.track import Tracker

DIALECTS = {"gamiroo": 8001, "platform": 8009, "botserver": 8080, "access_layer": 8012, "xscore": 9090}
"""The dialects and the ports that their documents name."""

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Of the time that tracking takes."""

HOUR_MS = 3_600_000
_ALERTS = f"{botserver.BASE}/alerts/"
_PROBES = ("/-/healthy", "/-/ready")


@dataclass(frozen=True, slots=True)
class Dialects:
    """`union` is what the main listener serves, `own` what each dialect's listener does; `exports` counts answers of `/metrics`."""

    union: list[Endpoint]
    own: dict[str, list[Endpoint]]
    exports: aggregates.Exports


def build(
    backend: Backend,
    tracker: Tracker,
    append: gamiroo.Append,
    others: Sequence[Endpoint],
    *,
    logs: LogBackend,
    server: Server,
    registry: CollectorRegistry,
    settings: ServicesSettings,
    tracking: TrackSettings,
    cors_origin: str,
    counts: Shared | None = None,
    database: gamiroo.Reach = gamiroo.no_database,
) -> Dialects:
    """The operations of all dialects with `others`, those of the other rooms, which dialects share by path.

    `append` returns once a batch is durable; `tracking` are the settings of tracked metrics;
    `counts` are the rate limits' counts that several instances keep together; `database` is reached before Gamiroo's records are.
    """
    # One count for all that BotServer's document puts below its alerts, whichever room it is in.
    watched = Limit(settings.alerts_per_minute, backend.clock.monotonic, by="user", name="alerts", shared=counts)
    others = [
        dataclasses.replace(e, handler=limited(cast(Handler, e.handler), watched)) if e.path.startswith(_ALERTS) else e for e in others
    ]
    processor, requests = machine.Processor(backend.clock.monotonic), OwnRequests(registry)
    exports = aggregates.Exports()
    took = Histogram("metrics_collection_duration_seconds", "Collection duration.", buckets=BUCKETS_S, registry=registry)
    shared = {e.path: e for e in others}
    exposed = aggregates.endpoint(backend, shared["/metrics"], exports, settings=settings, cors_origin=cors_origin)
    shared["/metrics"] = exposed
    reading = access_layer.Reading(
        backend,
        tracker,
        exports,
        started=server.started,
        version=server.version,
        commit=server.commit,
        max_points=tracking.max_points,
        retention=settings.retention_hours * HOUR_MS,
    )

    def finished(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """Reading operations with large answers compressed and CORS headers; the text of `/metrics` has them already."""
        return [
            dataclasses.replace(e, handler=finishing(cast(Handler, e.handler), backend.run, cors_origin), shared=True)
            if "GET" in e.methods and e.media == "application/json"
            else e
            for e in endpoints
        ]

    access = [
        *access_layer.endpoints(tracker, tenant_of=backend.tenant_of, observe=took.observe, clock=backend.clock, settings=tracking),
        *access_layer.reading(reading),
        *trends.endpoints(backend, hours=settings.trend_hours),
    ]
    bots = botserver.endpoints(
        BotServer(backend, server, processor, requests, cast(Handler, exposed.handler)), settings, watched, shared=counts
    )
    bots += botlogs.endpoints(logs, settings, shared=counts)
    records = gamiroo.endpoints(backend, append, database)
    scores = xscore.endpoints(xscore.XScore(backend, processor, requests, server.started))
    services = platform.endpoints(backend)
    # Described before they are joined: the main listener's answer is one of both.
    records, bots = described(records), described(bots)
    either, bots_alone = botserver.union(records[0], bots)
    probes = [shared[path] for path in _PROBES]
    health = shared["/health"]
    alerts = [e for e in others if e.path.startswith("/api/v1/alerts")]
    monitored = [e for e in others if e.path.startswith(_ALERTS)]
    kept = [shared[e.path] if e.path == "/metrics" else e for e in others]
    return Dialects(
        union=described([*kept, *finished([*access, either, records[1], *bots_alone, *services, *scores])]),
        own={
            "gamiroo": described([*finished(records), health, *probes]),
            "platform": described([*finished(services), *alerts, health, *probes]),
            "botserver": described([*finished(bots), *monitored, health, *probes]),
            "access_layer": described([*finished(access), exposed, access_layer.health(reading), *probes]),
            "xscore": described([*finished(scores), exposed, health, *probes]),
        },
        exports=exports,
    )
