"""OTLP/HTTP metrics: `POST /api/v1/otlp/v1/metrics` (Prometheus' path) and `/v1/metrics` (every exporter's), protobuf and JSON.

Answers 200 once what was taken is durable; points that are not taken are told as a partial success, as OTLP has it, so that no
exporter sends the others again. Not here: the translation (`ingest/otlp.py`), logs (`logs_in.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Run, answering
from vedette.api.logs_in import UNPACK
from vedette.api.otlp_answers import PROTOBUF, kind_of, refused, taken, unsupported
from vedette.api.params import body_of
from vedette.api.problems import UNEXPECTED, Unsupported, write
from vedette.clock import Clock, now_ms
from vedette.errors import LimitExceeded, VedetteError
from vedette.ingest.otlp import CURE, Translated, translated
from vedette.ingest.settings import OtlpConfig
from vedette.model.samples import Appended, KeySpace, SampleBatch, canonical
from vedette.wire import otlp_metrics

log = structlog.get_logger(__name__)

PATHS = ("/api/v1/otlp/v1/metrics", "/v1/metrics")
_MOST_BYTES = 32 << 20
_HELD = 128 << 20
_MOST_TOLD = 1000
_OURS = frozenset(("relabelled",))
"""Drops that are no mistake of the sender's."""


@dataclass(slots=True)
class Otlp:
    """The operation. `append` returns once a batch is durable; `config` gives the translation in force.

    `rejected` counts points that are not taken, by reason.
    """

    append: Callable[[SampleBatch], Awaitable[Appended]]
    run: Run
    clock: Clock
    tenant_of: Callable[[Mapping[str, Any]], str]
    config: Callable[[], OtlpConfig]
    rejected: Counter[str] = field(default_factory=Counter)
    _spaces: dict[str, KeySpace] = field(default_factory=dict)
    _held: int = 0
    _told: set[tuple[str, str, str]] = field(default_factory=set)

    async def metrics(self, request: Request) -> Response:
        """Store the metrics of an `ExportMetricsServiceRequest`."""
        kind = kind_of(request.headers.get("content-type", ""))
        if kind not in (PROTOBUF, "application/json"):
            return unsupported(kind)
        try:
            found = await self._read(request, kind)
            appended = await self.append(found.batch) if found.batch.series_count else None
        except VedetteError as error:
            return refused(error, kind)
        self._count(found, self.tenant_of(request.scope))
        dropped = {} if appended is None else {reason: n for reason, n in appended.dropped.items() if reason not in _OURS}
        told = [found.problem] if found.problem else []
        if dropped:
            told.append("samples not stored: " + ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in dropped.items()))
            told += [appended.problem] if appended is not None and appended.problem else []
        rejected = found.rejected.total() + sum(dropped.values())
        return taken(kind, rejected=rejected, counted="rejectedDataPoints", message="; ".join(told))

    def _count(self, found: Translated, tenant: str) -> None:
        """Count what is not taken; who sends deltas is told of in the log, once: exporters say little of a partial success."""
        self.rejected.update(found.rejected)
        for job, scope in sorted(found.deltas):
            sender = tenant, job, scope
            if sender not in self._told and len(self._told) < _MOST_TOLD:
                self._told.add(sender)
                log.warning("OTLP deltas are not taken", tenant=tenant, job=job, scope=scope, problem=found.problem, hint=CURE)

    async def _read(self, request: Request, kind: str) -> Translated:
        if self._held > _HELD:
            raise LimitExceeded(f"more than {_HELD} bytes of requests are in work", retry_after=1.0)
        body = await body_of(request, _MOST_BYTES)
        held = len(body)
        self._held += held
        try:
            encoding = request.headers.get("content-encoding", "identity").lower()
            if encoding not in UNPACK and encoding not in ("identity", ""):
                raise Unsupported(f"unsupported content encoding {encoding!r}", hint="expected gzip, deflate, zstd or none")
            return await self.run(self._translated, body, UNPACK.get(encoding), kind, self._space(self.tenant_of(request.scope)))
        finally:
            self._held -= held

    def _translated(self, body: bytes, unpack: Callable[[bytes, int], bytes] | None, kind: str, keyspace: KeySpace) -> Translated:
        """On a thread: what a body comes to."""
        if unpack is not None:
            body = unpack(body, _MOST_BYTES)
        request = otlp_metrics.parse(body) if kind == PROTOBUF else otlp_metrics.parse_json(body)
        return translated(request, keyspace, self.config(), now_ms(self.clock))

    def _space(self, tenant: str) -> KeySpace:
        """One for each tenant, for the server's life."""
        found = self._spaces.get(tenant)
        if found is None:
            found = self._spaces[tenant] = canonical(tenant)
        return found


def endpoints(room: Otlp) -> list[Endpoint]:
    """The operations of this room."""
    binary: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    body = {"content": {PROTOBUF: binary, "application/json": {}}, "required": True}
    handler = answering(room.metrics, write, lambda: Response(f"{UNEXPECTED}\n", 500, media_type="text/plain"))
    return [Endpoint(path, handler, "Write metrics (OTLP)", ("POST",), tag="write", body=body) for path in PATHS]
