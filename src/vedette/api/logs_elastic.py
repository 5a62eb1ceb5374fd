"""Elasticsearch's side of the logs: its `_bulk` and `_doc`, and what its clients and shippers ask before they send.

Filebeat, Logstash, Fluent Bit, Vector, rsyslog and the client libraries look at the version, the licence, templates and health, and
want the product's name in a header. What could not be heeded (lifecycles, pipelines) is refused rather than acknowledged. Not here: reading
bodies (`logs_in.py`), documents (`wire.elastic_bulk`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.logs import LogBackend
from vedette.api.logs_in import Intake
from vedette.api.params import expect_json, query_of
from vedette.api.problems import UNEXPECTED, TooLarge, problem
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.logs.query import LogQuery
from vedette.model.durations import format_duration
from vedette.model.logs import LogBuilder
from vedette.wire import elastic_bulk
from vedette.wire.loglines import Times

# A version that Beats and the clients of Elasticsearch 8 and 9 speak to; they check no more than its form.
_ELASTIC_VERSION = "8.17.0"
_ELASTIC = {"X-Elastic-Product": "Elasticsearch"}
_LICENCE = {"status": "active", "uid": "vedette", "type": "basic", "mode": "basic"}
_MOST_PATHS = 50


@dataclass(frozen=True, slots=True)
class Elastic:
    """The operations."""

    intake: Intake

    async def bulk(self, request: Request) -> Response:
        """Elasticsearch's `_bulk`."""
        expect_json(request, form=False, expected="application/x-ndjson or application/json")
        index, now, most = request.path_params.get("index", ""), self.intake.backend.now_ns(), self.intake.backend.store.settings.max_line
        began = self.intake.backend.clock.monotonic()
        found = await self.intake.read(request, lambda body: elastic_bulk.parse(body, index=index, now_ns=now, max_line=most))
        await self.intake.keep(request, found.batch)
        took = int(1000 * (self.intake.backend.clock.monotonic() - began))
        return self._answer(request, {"took": took, "errors": found.errors, "items": found.items})

    async def document(self, request: Request) -> Response:
        """One document, as `index` of Elasticsearch's clients sends it."""
        expect_json(request, form=False)
        index, settings = request.path_params["index"], self.intake.backend.store.settings
        builder = LogBuilder(max_bytes=2 * settings.max_line)
        times = Times(self.intake.backend.now_ns())
        refusal = await self.intake.read(request, lambda body: elastic_bulk.store(body, index, builder, times, settings.max_line))
        if refusal is not None:
            raise BadInput(refusal[1])
        await self.intake.keep(request, builder.build())
        made = request.path_params.get("id") or elastic_bulk.made_id()
        shards = {"total": 1, "successful": 1, "failed": 0}
        return self._answer(request, {"_index": index, "_id": made, "_version": 1, "result": "created", "_shards": shards}, 201)

    async def licence(self, request: Request) -> Response:
        """Filebeat asks whether it may send here."""
        return self._answer(request, {"license": _LICENCE})

    async def xpack(self, request: Request) -> Response:
        """The same as older Beats ask it, with the features that they look for."""
        features = {name: {"available": True, "enabled": True} for name in ("ilm", "data_streams")}
        return self._answer(request, {"build": {}, "license": _LICENCE, "features": features, "tagline": "You know, for X"})

    async def taken(self, request: Request) -> Response:
        """A template put here: every field is kept, as any template wants it."""
        expect_json(request, form=False)
        await self.intake.read(request, _object)
        return self._answer(request, {"acknowledged": True})

    async def component(self, request: Request) -> Response:
        """A part of a template."""
        name = request.path_params["name"]
        return self._answer(request, {"component_templates": [{"name": name, "component_template": {"template": {}}}]})

    async def stream(self, request: Request) -> Response:
        """A data stream: whatever name lines are sent to."""
        name = request.path_params["name"]
        found = {
            "name": name,
            "timestamp_field": {"name": "@timestamp"},
            "indices": [],
            "generation": 1,
            "status": "GREEN",
            "template": name,
        }
        return self._answer(request, {"data_streams": [found]})

    async def refused(self, request: Request) -> Response:
        """What would not be heeded is not acknowledged either."""
        what = "lifecycles: lines are kept as long as logs.retention says"
        if request.url.path.startswith("/_ingest"):
            what = "pipelines are not run: a query parses lines, or whoever sends them"
        raise BadInput(f"{request.method} {request.url.path} is not taken", hint=what)

    async def pipeline(self, request: Request) -> Response:
        """There are no pipelines, which Elasticsearch says so."""
        return self._answer(request, {}, 404)

    async def cat_health(self, request: Request) -> Response:
        """What rsyslog asks before it sends: whether lines are taken."""
        now = int(self.intake.backend.clock.now())
        moment = datetime.fromtimestamp(now, UTC).strftime("%H:%M:%S")
        status = "red" if self.intake.backend.store.problem else "green"
        return self._listed(request, [{"epoch": str(now), "timestamp": moment, "cluster": "vedette", "status": status}])

    async def cat_indices(self, request: Request) -> Response:
        """The services with their lines: what Elasticsearch would have as indices."""
        wanted = request.path_params.get("name", "*").split(",")
        backend = self.intake.backend
        found = await backend.store.services(backend.tenant_of(request.scope), LogQuery())
        rows = [
            {"health": "green", "status": "open", "index": name or "unknown_service", "docs.count": str(lines), "docs.deleted": "0"}
            for name, lines in sorted(found.items())
        ]
        return self._listed(request, [r for r in rows if any(fnmatchcase(r["index"], w) for w in wanted)])

    def _listed(self, request: Request, rows: list[dict[str, str]]) -> Response:
        """A table as `_cat` gives it: text, with `v` a head over it, or with `format=json` a list."""
        form = query_of(request)
        if form.text("format") == "json" or "json" in request.headers.get("accept", ""):
            return self._answer(request, rows)
        shown = [list(rows[0])] if rows and "v" in request.query_params and form.text("v") != "false" else []
        shown += [list(row.values()) for row in rows]
        widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
        text = "".join(" ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in shown)
        return Response(text, media_type="text/plain", headers=_ELASTIC)

    async def template(self, request: Request) -> Response:
        """Filebeat makes a template where it is told that there is none; here every field is kept, whatever template there is."""
        name = request.path_params["name"]
        return self._answer(
            request, {"index_templates": [{"name": name, "index_template": {"index_patterns": [f"{name}*"], "data_stream": {}}}]}
        )

    async def legacy_template(self, request: Request) -> Response:
        """The same as older senders (Logstash's and Fluentd's) ask for it."""
        name = request.path_params["name"]
        return self._answer(request, {name: {"order": 0, "index_patterns": [f"{name}*"], "settings": {}, "mappings": {}, "aliases": {}}})

    async def cluster(self, request: Request) -> Response:
        """What Vector asks before it sends: whether lines are taken."""
        problem = self.intake.backend.store.problem
        figures = {"number_of_nodes": 1, "number_of_data_nodes": 1, "unassigned_shards": 0, "timed_out": False}
        return self._answer(
            request, {"cluster_name": "vedette", "status": "red" if problem else "green", **figures}, 503 if problem else 200
        )

    async def lifecycle(self, request: Request) -> Response:
        """How long lines are kept, as a lifecycle policy."""
        name, keep = request.path_params["name"], self.intake.backend.store.settings.retention
        phases = {"delete": {"min_age": format_duration(keep), "actions": {"delete": {}}}} if keep else {}
        return self._answer(request, {name: {"version": 1, "policy": {"phases": phases}}})

    async def root(self, request: Request) -> Response:
        """What an Elasticsearch says of itself."""
        version = {
            "number": _ELASTIC_VERSION,
            "build_flavor": "default",
            "lucene_version": "9.12.0",
            "minimum_wire_compatibility_version": "7.17.0",
        }
        return self._answer(request, {"name": "vedette", "cluster_name": "vedette", "version": version, "tagline": "You Know, for Search"})

    @staticmethod
    def _answer(request: Request, body: object, status: int = 200) -> Response:
        paths = query_of(request).text("filter_path")
        return _elastic(filtered(body, paths) if paths else body, status)


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


class ElasticRoot(Route):
    """`GET /` for clients that want JSON: browsers get the UI's page there."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for this route."""
        if scope["type"] != "http" or b"json" not in dict(scope["headers"]).get(b"accept", b""):
            return Match.NONE, {}
        return super().matches(scope)


def elastic_root(backend: LogBackend) -> Route:
    """The route of `GET /` for Elasticsearch's clients; it belongs before the UI's."""
    return ElasticRoot(
        "/", answering(Elastic(Intake(backend)).root, _elastic_refused, _elastic_broken), methods=["GET", "HEAD"], include_in_schema=False
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"not JSON: {error.msg}", where=f"line {error.lineno}, column {error.colno}") from None
    if not isinstance(found, dict):
        raise BadInput("expected a JSON object")
    return found


def filtered(body: object, paths: str) -> object:
    """What of an answer `filter_path` asks for: names joined by dots, `*` for any part of one, `**` for any depth, `-` to leave out."""
    every = [p for p in paths.split(",")[:_MOST_PATHS] if p]
    kept = [p.split(".") for p in every if not p.startswith("-")]
    left = [p[1:].split(".") for p in every if p.startswith("-")]
    found = _kept(body, kept) if kept else body
    found = _left(found, left) if left else found
    return {} if found is None else found


def _further(name: str, paths: list[list[str]]) -> list[list[str]]:
    """What of the paths is left below a name; an empty one means all of it."""
    found = []
    for path in paths:
        if path[0] == "**":
            found += [path, *_further(name, [path[1:]])] if len(path) > 1 else [[]]
        elif fnmatchcase(name, path[0]):
            found.append(path[1:])
    return found


def _kept(value: object, paths: list[list[str]]) -> object | None:
    if any(not path for path in paths):
        return value
    if isinstance(value, list):
        return [one for one in (_kept(item, paths) for item in value) if one is not None] or None
    if not isinstance(value, dict):
        return None
    found = {name: _kept(inner, below) for name, inner in value.items() if (below := _further(name, paths))}
    return {name: inner for name, inner in found.items() if inner is not None} or None


def _left(value: object, paths: list[list[str]]) -> object:
    if isinstance(value, list):
        return [_left(item, paths) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, inner in value.items():
        below = _further(name, paths)
        if not any(not path for path in below):
            found[name] = _left(inner, below) if below else inner
    return found


def endpoints(backend: LogBackend) -> list[Endpoint]:
    """The operations of this room."""
    room = Elastic(Intake(backend))
    lines: dict[str, Any] = {
        "content": {"application/x-ndjson": {"schema": {"type": "string", "format": "binary"}}, "application/json": {}},
        "required": True,
    }
    given: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "object"}}}, "required": True}
    part = Param("filter_path", "text", "Which parts of the answer to give: errors,items.*.error.")
    table = (Param("format", "text", "json for a list in the place of a table."), Param("v", "text", "A head over the table."))
    asked = "What Elasticsearch's clients ask: "

    def one(
        path: str, handler: Callable[[Request], Awaitable[Response]], about: str, *methods: str, body: Any = None, params: Any = ()
    ) -> Endpoint:
        answer = answering(handler, _elastic_refused, _elastic_broken)
        return Endpoint(path, answer, about, methods or ("GET",), params=(part, *params), tag="logs", body=body)

    return [
        one("/_bulk", room.bulk, "Write log lines (Elasticsearch's bulk)", "POST", "PUT", body=lines),
        one("/{index}/_bulk", room.bulk, "Write log lines to an index (Elasticsearch's bulk)", "POST", "PUT", body=lines),
        one("/{index}/_doc", room.document, "Write one log line (Elasticsearch)", "POST", body=lines),
        one("/{index}/_doc/{id}", room.document, "Write one log line with its id (Elasticsearch)", "POST", "PUT", body=lines),
        one("/{index}/_create/{id}", room.document, "Write one log line with its id (Elasticsearch)", "POST", "PUT", body=lines),
        one("/_license", room.licence, asked + "the licence"),
        one("/_xpack", room.xpack, asked + "the licence and features"),
        one("/_index_template/{name}", room.template, asked + "a template"),
        one("/_index_template/{name}", room.taken, "Put a template: every field is kept anyhow", "PUT", "POST", body=given),
        one("/_component_template/{name}", room.component, asked + "a part of a template"),
        one("/_component_template/{name}", room.taken, "Put a part of a template: every field is kept anyhow", "PUT", "POST", body=given),
        one("/_template/{name}", room.legacy_template, asked + "a template, in the older form"),
        one("/_template/{name}", room.taken, "Put a template in the older form: every field is kept anyhow", "PUT", "POST", body=given),
        one("/_data_stream/{name}", room.stream, asked + "a data stream"),
        one("/_cluster/health", room.cluster, asked + "whether lines are taken"),
        one("/_cat/health", room.cat_health, asked + "whether lines are taken, as a table", params=table),
        one("/_cat/indices", room.cat_indices, "Services with their lines, as Elasticsearch lists indices", params=table),
        one("/_cat/indices/{name}", room.cat_indices, "Services of a name or pattern with their lines", params=table),
        one("/_ilm/policy/{name}", room.lifecycle, "How long log lines are kept, as a lifecycle policy"),
        one("/_ilm/policy/{name}", room.refused, "Refused: logs.retention says how long lines are kept", "PUT", body=given),
        one("/_ingest/pipeline/{name}", room.pipeline, "Says that there are no pipelines"),
        one("/_ingest/pipeline/{name}", room.refused, "Refused: pipelines are not run", "PUT", body=given),
    ]
