"""The Prometheus HTTP API: one list of operations over the rooms they read from.

Each operation lives with its siblings (`queries`, `catalog`, `watch`, `status`); here they are put together with what
is common to all: errors in Prometheus' shape, compression, CORS. Not here: writing (`write.py`), the platform and
Alertmanager APIs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request
from starlette.responses import Response

from vedette.api import catalog, features, queries, status, watch
from vedette.api import exemplars as exemplars_api
from vedette.api.answers import finishing
from vedette.api.endpoint import AtOnceHandler, Endpoint, Handler, Run, answering
from vedette.api.endpoint import routes as routes
from vedette.api.glances import Glances
from vedette.api.problems import UNEXPECTED, prometheus, prometheus_body
from vedette.api.status import StatusInfo
from vedette.api.turns import Turns
from vedette.api.watch import Sources as Sources
from vedette.clock import Clock
from vedette.errors import LimitExceeded
from vedette.ingest.exemplars import Exemplars
from vedette.model.matchers import Matcher
from vedette.promql.parse import parse_selector
from vedette.storage.interface import Locking, Storage

if TYPE_CHECKING:
    from vedette.promql.engine import Engine


@dataclass(frozen=True, slots=True)
class PrometheusApiSettings:
    """`cors_origin` is a regular expression of the origins whose pages may read answers; `timeout_s` caps a query's own.

    `max_concurrency_large` is how many large queries run at once.
    """

    cors_origin: str = ".*"
    max_concurrency: int = 20
    max_concurrency_per_tenant: int = 15
    max_concurrency_large: int = 2
    max_queued_per_tenant: int = 500
    timeout_s: float = 120.0


def endpoints(
    engine: Engine,
    storage: Storage,
    sources: Sources,
    *,
    run: Run,
    run_list: Run | None = None,
    clock: Clock,
    info: StatusInfo,
    tenant_of: Callable[[Mapping[str, Any]], str],
    ready: Callable[[], bool] = lambda: True,
    warm: Callable[[], bool] = lambda: True,
    settings: PrometheusApiSettings | None = None,
    exemplars: Exemplars | None = None,
    others: Sequence[Endpoint] = (),
) -> list[Endpoint]:
    """The operations and `others` of the same shape, those that are asked most first, since routes are tried in order.

    Until `ready`, all answer 503: what storage holds while its log is replayed is not yet the truth. Until `warm`, none computes on the
    loop's thread: what is compiled there first would hold up everybody. `run_list` runs what lists series and labels (`run`, if absent).
    """
    settings = settings or PrometheusApiSettings()
    turns = Turns(
        concurrency=settings.max_concurrency, per_tenant=settings.max_concurrency_per_tenant, queued=settings.max_queued_per_tenant
    )
    kept = Exemplars(0) if exemplars is None else exemplars
    busy = storage.busy if isinstance(storage, Locking) else lambda: False
    most = settings.max_concurrency_large
    large = Turns(concurrency=most, per_tenant=most, queued=settings.max_queued_per_tenant)
    gate = queries.Gate(run, clock, turns, timeout_s=settings.timeout_s, large=large, busy=busy)
    asked = queries.Queries(engine, gate, clock, tenant_of)
    glances = Glances(engine, turns, clock, tenant_of, busy, warm, asked.short)
    at_once: dict[str, AtOnceHandler] = {"/api/v1/query": glances.instant, "/api/v1/query_range": glances.range}
    found = [
        *(dataclasses.replace(e, at_once=at_once.get(e.path)) for e in queries.endpoints(asked)),
        *exemplars_api.endpoints(exemplars_api.ExemplarQueries(kept, lambda text: engine.parse(text), tenant_of)),
        *catalog.endpoints(catalog.Catalog(storage, run if run_list is None else run_list, matchers_of, tenant_of)),
        *watch.endpoints(watch.Watch(sources, any_matchers_of, info.external_url)),
        *status.endpoints(status.Status(info, storage, run, clock)),
        *features.endpoints(features.FeatureQueries(engine)),
        *others,
    ]
    return [_finished(e, ready, run, settings.cors_origin) for e in found]


def matchers_of(text: str) -> Sequence[Matcher]:
    """The matchers of a series selector without range, offset or `@`. Raises `BadInput` with the position."""
    return parse_selector(text).matchers


def any_matchers_of(text: str) -> Sequence[Matcher]:
    """As `matchers_of`, of selectors like `{}` and `{job=""}` as well."""
    return parse_selector(text, everything=True).matchers


def _finished(endpoint: Endpoint, ready: Callable[[], bool], run: Run, cors_origin: str) -> Endpoint:
    inner = cast(Handler, endpoint.handler)

    async def when_ready(request: Request) -> Response:
        if not ready() and endpoint.path != status.WALREPLAY:
            raise LimitExceeded("the server is starting or stopping", retry_after=1.0)
        return await inner(request)

    def at_once_when_ready(scope: MutableMapping[str, Any], headers: Mapping[bytes, bytes], body: bytes) -> bytes | None:
        assert endpoint.at_once is not None, "set below only where it is there"
        return endpoint.at_once(scope, headers, body) if ready() else None

    handler = answering(when_ready, prometheus, lambda: prometheus_body(500, "internal", UNEXPECTED))
    at_once = at_once_when_ready if endpoint.at_once is not None else None
    return dataclasses.replace(endpoint, handler=finishing(handler, run, cors_origin), shared=True, at_once=at_once)


READING_POSTS = frozenset(
    [f"/api/v1/{name}" for name in ("query", "query_range", "query_exemplars", "format_query", "parse_query", "series", "labels", "read")]
    + [f"/api/v1/search/{name}" for name in ("metric_names", "label_names", "label_values")]
    + ["/api/v1/export", "/prometheus/api/v1/export"]
)
"""Paths whose POST only reads (the form is too long for a URL): no protection against cross-site requests is needed."""
