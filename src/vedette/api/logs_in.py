"""Log lines in: JSON lines, OTLP, Loki's push, Elasticsearch's bulk. Each answers once the lines are durable, in its dialect.

Also what Elasticsearch's clients ask before they send: the version, the licence, whether templates are there. Not here: the
bodies (`wire`), syslog and files (`ingest`, `collect`).
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import cramjam
import numpy as np
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.logs import LogBackend, broken
from vedette.api.otlp_answers import PROTOBUF, kind_of, refused, taken, unsupported
from vedette.api.params import body_of, expect_json, media_type, query_of
from vedette.api.problems import UNEXPECTED, TooLarge, Unsupported, problem, prometheus, write
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.model.durations import format_duration
from vedette.model.logs import LogBatch, LogBuilder
from vedette.wire import elastic_bulk, jsonlines, loki, otlp_logs
from vedette.wire.loglines import Times

_HELD = 256 << 20
# Bodies below this are parsed within a millisecond or two, less than the way to a thread and back is worth.
_AT_ONCE = 8 << 10
# A version that Beats and the clients of Elasticsearch 8 and 9 speak to; they check no more than its form.
_ELASTIC_VERSION = "8.17.0"
_ELASTIC = {"X-Elastic-Product": "Elasticsearch"}


@dataclass(slots=True)
class Intake:
    """The operations. `held` counts the bytes of requests in work."""

    backend: LogBackend
    held: int = 0

    async def _read(self, request: Request, parse: Callable[[bytes], Any]) -> Any:
        """What `parse` makes of the body, unpacked. Raises `BadInput`, `TooLarge`, `LimitExceeded`."""
        settings = self.backend.store.settings
        if self.held > _HELD:
            raise LimitExceeded(f"more than {_HELD} bytes of requests are in work", retry_after=1.0)
        body = await body_of(request, settings.max_body)
        size = len(body)
        self.held += size
        try:
            encoding = request.headers.get("content-encoding", "identity").lower()
            if (unpack := UNPACK.get(encoding)) is not None:
                body = await self.backend.run(unpack, body, settings.max_body)
            elif encoding not in ("identity", "snappy", ""):
                raise Unsupported(f"unsupported content encoding {encoding!r}", hint="expected gzip, deflate, zstd or none")
            return parse(body) if len(body) < _AT_ONCE else await self.backend.run(parse, body)
        finally:
            self.held -= size

    async def _store(self, request: Request, batch: LogBatch) -> None:
        await self.backend.store.append(self.backend.tenant_of(request.scope), batch)

    async def native(self, request: Request) -> Response:
        """JSON lines, or an array, or one object."""
        expect_json(request)
        now, most, service = self.backend.now_ns(), self.backend.store.settings.max_line, query_of(request).text("service")
        batch = await self._read(request, lambda body: jsonlines.parse(body, now_ns=now, max_line=most, service=service))
        await self._store(request, batch)
        return Response(orjson.dumps({"status": "success", "data": {"accepted": len(batch)}}), media_type="application/json")

    async def otlp(self, request: Request) -> Response:
        """`ExportLogsServiceRequest`, answered in the sender's encoding."""
        kind = kind_of(request.headers.get("content-type", ""))
        if kind not in (PROTOBUF, "application/json"):
            return unsupported(kind)
        now, most = self.backend.now_ns(), self.backend.store.settings.max_line
        parse = otlp_logs.parse if kind == PROTOBUF else otlp_logs.parse_json
        try:
            batch = await self._read(request, lambda body: parse(body, now_ns=now, max_line=most))
            await self._store(request, batch)
        except VedetteError as error:
            return refused(error, kind)
        return taken(kind)

    async def loki(self, request: Request) -> Response:
        """Loki's push."""
        kind = media_type(request)
        if kind not in ("", PROTOBUF, "application/json"):
            raise Unsupported(f"unsupported media type {kind!r}", hint=f"expected {PROTOBUF} or application/json")
        settings, now = self.backend.store.settings, self.backend.now_ns()

        def parse(body: bytes) -> LogBatch:
            if kind == "application/json":
                return loki.parse_json(body, now_ns=now, max_line=settings.max_line)
            return loki.parse(body, now_ns=now, max_line=settings.max_line, max_bytes=settings.max_body)

        await self._store(request, await self._read(request, parse))
        return Response(status_code=204)

    async def bulk(self, request: Request) -> Response:
        """Elasticsearch's `_bulk`."""
        expect_json(request, form=False, expected="application/x-ndjson or application/json")
        index, now, most = request.path_params.get("index", ""), self.backend.now_ns(), self.backend.store.settings.max_line
        began = self.backend.clock.monotonic()
        found = await self._read(request, lambda body: elastic_bulk.parse(body, index=index, now_ns=now, max_line=most))
        await self._store(request, found.batch)
        took = int(1000 * (self.backend.clock.monotonic() - began))
        return _elastic({"took": took, "errors": found.errors, "items": found.items})

    async def document(self, request: Request) -> Response:
        """One document, as `index` of Elasticsearch's clients sends it."""
        expect_json(request, form=False)
        index, settings = request.path_params["index"], self.backend.store.settings
        builder = LogBuilder(max_bytes=2 * settings.max_line)
        times = Times(self.backend.now_ns())
        refusal = await self._read(request, lambda body: elastic_bulk.store(body, index, builder, times, settings.max_line))
        if refusal is not None:
            raise BadInput(refusal[1])
        await self._store(request, builder.build())
        made = elastic_bulk.made_id()
        return _elastic({"_index": index, "_id": made, "_version": 1, "result": "created"}, 201)

    async def licence(self, request: Request) -> Response:
        """Filebeat asks whether it may send here."""
        return _elastic({"license": {"status": "active", "uid": "vedette", "type": "basic", "mode": "basic"}})

    async def template(self, request: Request) -> Response:
        """Filebeat makes a template where it is told that there is none; here every field is kept, whatever template there is."""
        name = request.path_params["name"]
        return _elastic({"index_templates": [{"name": name, "index_template": {"index_patterns": [f"{name}*"], "data_stream": {}}}]})

    async def legacy_template(self, request: Request) -> Response:
        """The same as older senders (Logstash's and Fluentd's) ask for it."""
        name = request.path_params["name"]
        return _elastic({name: {"order": 0, "index_patterns": [f"{name}*"], "settings": {}, "mappings": {}, "aliases": {}}})

    async def cluster(self, request: Request) -> Response:
        """What Vector asks before it sends: whether lines are taken."""
        problem = self.backend.store.problem
        figures = {"number_of_nodes": 1, "number_of_data_nodes": 1, "unassigned_shards": 0, "timed_out": False}
        return _elastic({"cluster_name": "vedette", "status": "red" if problem else "green", **figures}, 503 if problem else 200)

    async def lifecycle(self, request: Request) -> Response:
        """How long lines are kept, as a lifecycle policy."""
        name, keep = request.path_params["name"], self.backend.store.settings.retention
        phases = {"delete": {"min_age": format_duration(keep), "actions": {"delete": {}}}} if keep else {}
        return _elastic({name: {"version": 1, "policy": {"phases": phases}}})

    async def root(self, request: Request) -> Response:
        """What an Elasticsearch says of itself."""
        version = {
            "number": _ELASTIC_VERSION,
            "build_flavor": "default",
            "lucene_version": "9.12.0",
            "minimum_wire_compatibility_version": "7.17.0",
        }
        return _elastic({"name": "vedette", "cluster_name": "vedette", "version": version, "tagline": "You Know, for Search"})


def unpacked(body: bytes, limit: int) -> bytes:
    """A gzip or zlib body of at most `limit` bytes. Raises `BadInput`, `TooLarge`."""
    parts, size, left = [], 0, body
    while left:
        unpack = zlib.decompressobj(47)
        try:
            part = unpack.decompress(left, limit - size + 1)
        except zlib.error:
            raise BadInput("not a gzip body", hint="the Content-Encoding says that it is") from None
        size += len(part)
        if size > limit:
            raise TooLarge(limit)
        if not unpack.eof:
            raise BadInput("the gzip body ends early")
        parts.append(part)
        left = unpack.unused_data
    return b"".join(parts)


def unpacked_zstd(body: bytes, limit: int) -> bytes:
    """A zstd body of at most `limit` bytes. Raises `BadInput`, `TooLarge`."""
    # Memory that is never written to costs nothing, so the limit may be as large as it is.
    out = np.empty(limit, np.uint8)
    try:
        size = cramjam.zstd.decompress_into(body, out.data)
    except cramjam.DecompressionError as error:
        if "whole buffer" in str(error):
            raise TooLarge(limit) from None
        raise BadInput(f"not a zstd body: {error}", hint="the Content-Encoding says that it is") from None
    return out[:size].tobytes()


UNPACK: dict[str, Callable[[bytes, int], bytes]] = {"gzip": unpacked, "x-gzip": unpacked, "deflate": unpacked, "zstd": unpacked_zstd}
"""What unpacks a body of at most so many bytes, by its Content-Encoding."""


def _elastic(body: object, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json", headers=_ELASTIC)


def _elastic_refused(error: VedetteError) -> Response:
    found = problem(error)
    # Elasticsearch's clients send again after a 429, and after nothing else.
    full = isinstance(error, LimitExceeded) and not isinstance(error, TooLarge)
    status = 429 if full else found.status
    kind = "es_rejected_execution_exception" if full else "illegal_argument_exception"
    cause = {"type": kind, "reason": found.message}
    response = _elastic({"error": {"root_cause": [cause], **cause}, "status": status}, status)
    response.headers.update(found.headers)
    return response


def _elastic_broken() -> Response:
    cause = {"type": "exception", "reason": UNEXPECTED}
    return _elastic({"error": {"root_cause": [cause], **cause}, "status": 500}, 500)


def _plain_broken() -> Response:
    return Response(f"{UNEXPECTED}\n", 500, media_type="text/plain")


class ElasticRoot(Route):
    """`GET /` for clients that want JSON: browsers get the UI's page there."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for this route."""
        if scope["type"] != "http" or b"json" not in dict(scope["headers"]).get(b"accept", b""):
            return Match.NONE, {}
        return super().matches(scope)


def elastic_root(backend: LogBackend) -> Route:
    """The route of `GET /` for Elasticsearch's clients; it belongs before the UI's."""
    return ElasticRoot("/", answering(Intake(backend).root, _elastic_refused, _elastic_broken), methods=["GET"], include_in_schema=False)


def endpoints(backend: LogBackend) -> list[Endpoint]:
    """The operations of this room."""
    room = Intake(backend)
    binary: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
    lines = {"content": {"application/x-ndjson": binary, "application/json": {}}, "required": True}
    both = {"content": {PROTOBUF: binary, "application/json": {}}, "required": True}
    service = Param("service", "text", "The service of lines that name none.")
    native = answering(room.native, prometheus, broken)

    def elastic(path: str, handler: Callable[[Request], Awaitable[Response]], about: str, *methods: str, body: Any = None) -> Endpoint:
        return Endpoint(path, answering(handler, _elastic_refused, _elastic_broken), about, methods or ("GET",), tag="logs", body=body)

    return [
        Endpoint("/api/v1/logs", native, "Write log lines", ("POST",), params=(service,), tag="logs", body=lines),
        *(
            Endpoint(path, answering(room.otlp, write, _plain_broken), "Write log lines (OTLP)", ("POST",), tag="logs", body=both)
            for path in ("/v1/logs", "/api/v1/otlp/v1/logs")
        ),
        Endpoint(
            "/loki/api/v1/push", answering(room.loki, write, _plain_broken), "Write log lines (Loki)", ("POST",), tag="logs", body=both,
            media="text/plain",
        ),
        *(
            elastic(path, room.bulk, "Write log lines (Elasticsearch's bulk)", "POST", "PUT", body=lines)
            for path in ("/_bulk", "/{index}/_bulk")
        ),
        elastic("/{index}/_doc", room.document, "Write one log line (Elasticsearch)", "POST", body=lines),
        elastic("/_license", room.licence, "What Elasticsearch's clients ask: the licence"),
        elastic("/_index_template/{name}", room.template, "What Elasticsearch's clients ask: a template"),
        elastic("/_template/{name}", room.legacy_template, "What Elasticsearch's clients ask: a template, in the older form"),
        elastic("/_cluster/health", room.cluster, "What Elasticsearch's clients ask: whether lines are taken"),
        elastic("/_ilm/policy/{name}", room.lifecycle, "How long log lines are kept, as a lifecycle policy"),
    ]  # fmt: skip
