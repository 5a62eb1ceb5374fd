"""Loki's query API over the log store, as Grafana's data source, Explore and `logcli` ask it: lines, counts of lines, labels, streams.

`service_name` (or `service`) and `level` are the labels of streams; fields are labels of lines. Not here: the language
(`logql.py`), counting (`logcounts.py`), lines in (`logs_in.py`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api import logcounts
from vedette.api.answers import finishing
from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.logcounts import Series, Steps
from vedette.api.logql import Aggregated, Counted, Pipeline, of_selector, parse
from vedette.api.logs import LogBackend, integer_of, time_of
from vedette.api.params import Form, form_of
from vedette.api.problems import UNEXPECTED, problem
from vedette.errors import BadInput, VedetteError
from vedette.logs.database import LogRow
from vedette.logs.query import LogQuery
from vedette.model.durations import parse_duration
from vedette.promql.format import go_float

LABELS = ("level", "service", "service_name")
_HEALTH = re.compile(r"\s*vector\((\d+)\)\s*\+\s*vector\((\d+)\)\s*\Z")
_LOGFMT = re.compile(r'(?:^|\s)([a-zA-Z_][\w.]*)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))', re.ASCII)
_HOUR = 3600 * 10**9
_MOST_STEPS = 11_000
_VERSION = "3.0.0"
"""What Grafana takes the server for: it asks newer ones for what they can do."""


@dataclass(frozen=True, slots=True)
class Loki:
    """The operations."""

    backend: LogBackend

    def _span(self, form: Form) -> tuple[int, int]:
        now = self.backend.now_ns()
        end = time_of(form, "end", now + 1)
        start = time_of(form, "start", end - _HOUR)
        if form.text("since"):
            start = end - parse_duration(form.text("since")) * 1_000_000
        if end < start:
            raise BadInput("end is before start")
        return start, end

    async def query(self, request: Request) -> Response:
        """Lines, or their volume by level, over a range; an instant query is the hour before `time`."""
        form = await form_of(request)
        text = form.text("query")
        health = _HEALTH.match(text)
        if health is not None:
            now = self.backend.now_ns() / 1e9
            vector = [{"metric": {}, "value": [now, str(int(health[1]) + int(health[2]))]}]
            return _success({"resultType": "vector", "result": vector})
        start, end = self._span(form)
        if form.text("time"):
            end = time_of(form, "time", end)
            start = end - _HOUR
        asked = parse(text)
        if not isinstance(asked, Pipeline):
            return await self._counts(request, asked, self._steps(form, start, end))
        backward = form.text("direction").lower() != "forward"
        limit = integer_of(form, "limit", 100, most=self.backend.store.settings.max_lines)
        query = replace(asked.query, start=start, end=end, limit=limit, newest_first=backward, total=False)
        page = await self.backend.store.search(self.backend.tenant_of(request.scope), query)
        streams: dict[tuple[tuple[str, str], ...], list[list[str]]] = {}
        for row in page.rows:
            labels = _labels_of(row, asked.parser)
            streams.setdefault(tuple(sorted(labels.items())), []).append([str(row.time), row.message])
        found = [{"stream": dict(labels), "values": values} for labels, values in streams.items()]
        return _success({"resultType": "streams", "result": found, "stats": {}})

    @staticmethod
    def _steps(form: Form, start: int, end: int) -> Steps | None:
        """The points in time of a range query, None for an instant one. Raises `BadInput`."""
        if not form.text("start") and not form.text("since"):
            return None
        text = form.text("step")
        if not text:
            step = max(10**9, (end - start) // 250 // 10**9 * 10**9)
        elif re.fullmatch(r"\d{1,12}(\.\d+)?", text, re.ASCII):
            step = round(float(text) * 1e9)
        else:
            step = parse_duration(text) * 1_000_000
        if step <= 0:
            raise BadInput('invalid parameter "step": it is not above zero')
        if (count := (end - start) // step + 1) > _MOST_STEPS:
            raise BadInput(f'invalid parameter "step": {count:,} points, at most {_MOST_STEPS:,}: choose a longer one')
        return Steps(start, step, count)

    async def _counts(self, request: Request, asked: Counted | Aggregated, steps: Steps | None) -> Response:
        form = await form_of(request)
        at = steps or Steps(time_of(form, "time", self.backend.now_ns()), 10**9, 1)
        found = await logcounts.evaluate(self.backend.store, self.backend.tenant_of(request.scope), asked, at)
        if steps is None:
            return _success({"resultType": "vector", "result": _vector(found, at.times[0]), "stats": {}})
        matrix = []
        for key, values in sorted(found.items()):
            points = [[t, go_float(v)] for t, v in zip(at.times, values.tolist(), strict=True) if v == v]
            if points:
                matrix.append({"metric": dict(key), "values": points})
        return _success({"resultType": "matrix", "result": matrix, "stats": {}})

    async def stats(self, request: Request) -> Response:
        """How much a selector selects: Grafana shows it beside the query."""
        form = await form_of(request)
        start, end = self._span(form)
        query = replace(of_selector(form.text("query") or "{}").query, start=start, end=end)
        tenant, store = self.backend.tenant_of(request.scope), self.backend.store
        labels = [("service", ""), ("level", "")]
        found = await store.windows(tenant, query, begin=start - 1, width=max(1, end - start + 1), labels=labels)
        entries = sum(lines for spans in found.values() for lines, _ in spans.values())
        size = sum(size for spans in found.values() for _, size in spans.values())
        return Response(
            orjson.dumps({"streams": len(found), "chunks": len(found), "entries": entries, "bytes": size}), media_type="application/json"
        )

    async def volume(self, request: Request) -> Response:
        """Bytes of lines by stream, the most first."""
        form = await form_of(request)
        start, end = self._span(form)
        pipeline = of_selector(form.text("query") or "{}")
        named = tuple(n for n in form.text("targetLabels").split(",") if n) or logcounts.STREAM
        limit = integer_of(form, "limit", 100, most=1000)
        asked = Aggregated("topk", Aggregated("sum", Counted("bytes_over_time", pipeline, max(1, end - start)), named), k=limit)
        at = Steps(end, 10**9, 1)
        found = await logcounts.evaluate(self.backend.store, self.backend.tenant_of(request.scope), asked, at)
        ranked = sorted(_vector(found, at.times[0]), key=lambda one: -float(one["value"][1]))
        return _success({"resultType": "vector", "result": ranked})

    async def build(self, request: Request) -> Response:
        """What Grafana asks to know what it may ask."""
        return Response(
            orjson.dumps({"version": _VERSION, "revision": "vedette", "branch": "", "goVersion": ""}), media_type="application/json"
        )

    async def ready(self, request: Request) -> Response:
        """Loki's own probe."""
        self.backend.store  # noqa: B018 - raises where there is none
        return Response("ready\n", media_type="text/plain")

    async def labels(self, request: Request) -> Response:
        """The names of labels; the same in every range, which is read so that a bad one is told."""
        self._span(await form_of(request))
        return _success(list(LABELS))

    async def values(self, request: Request) -> Response:
        """The values of a label in a range."""
        name = request.path_params["name"]
        return _success(sorted({stream[name] for stream in await self._streams(request) if stream.get(name)}))

    async def series(self, request: Request) -> Response:
        """The streams in a range that a selector selects."""
        return _success([{k: v for k, v in stream.items() if k != "service"} for stream in await self._streams(request)])

    async def _streams(self, request: Request) -> list[dict[str, str]]:
        form = await form_of(request)
        start, end = self._span(form)
        given = form.text("query") or form.text("match[]")
        query = replace(of_selector(given).query if given else LogQuery(), start=start, end=end)
        store, tenant = self.backend.store, self.backend.tenant_of(request.scope)
        services = sorted(await store.services(tenant, query))
        levels = sorted({level for _, level in await store.counts_by_level(tenant, query, max(1, end - start))})
        return [{"service": s, "service_name": s, "level": level} for s in services for level in levels]


def _labels_of(row: LogRow, parser: str) -> dict[str, str]:
    """A line's labels: its fields, what the parser finds in it, and its stream's."""
    fields: Mapping[str, Any] = orjson.loads(row.fields)
    labels = {k: v if isinstance(v, str) else orjson.dumps(v).decode() for k, v in fields.items()}
    if parser:
        for name, value in (_of_json if parser == "json" else _of_logfmt)(row.message).items():
            labels.setdefault(name, value)
    return {**labels, "service_name": row.service or "unknown_service", "level": row.level}


def _of_json(message: str) -> dict[str, str]:
    """What Loki's parser makes of a JSON object: nested names joined by underscores, no lists; nothing of what is no object."""
    try:
        found = orjson.loads(message)
    except orjson.JSONDecodeError:
        return {"__error__": "JSONParserErr"}
    if not isinstance(found, dict):
        return {"__error__": "JSONParserErr"}
    labels: dict[str, str] = {}
    waiting: list[tuple[str, Any]] = [("", found)]
    while waiting:
        prefix, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{prefix}_{k}" if prefix else k, v) for k, v in reversed(value.items())]
        elif not isinstance(value, list) and value is not None:
            labels[re.sub(r"\W", "_", prefix, flags=re.ASCII)] = value if isinstance(value, str) else orjson.dumps(value).decode()
    return labels


def _of_logfmt(message: str) -> dict[str, str]:
    return {m[1]: m[2] if m[2] is not None else m[3] for m in _LOGFMT.finditer(message)}


def _vector(found: Series, at: float) -> list[dict[str, Any]]:
    return [{"metric": dict(key), "value": [at, go_float(v)]} for key, values in sorted(found.items()) if (v := float(values[0])) == v]


def _success(data: object) -> Response:
    return Response(orjson.dumps({"status": "success", "data": data}), media_type="application/json")


def _refused(error: VedetteError) -> Response:
    """Loki's refusals are plain text, which Grafana shows."""
    found = problem(error)
    return Response(f"{found.message}\n", found.status, media_type="text/plain", headers=dict(found.headers))


def _broken() -> Response:
    return Response(f"{UNEXPECTED}\n", 500, media_type="text/plain")


def endpoints(backend: LogBackend, *, cors_origin: str) -> list[Endpoint]:
    """The operations of this room."""
    room = Loki(backend)
    times = (Param("start", "text", "From when on: Unix ns, seconds or RFC 3339."), Param("end", "text", "Until when."))
    asked = (
        Param("query", "text", "LogQL: lines, or counts of them.", required=True),
        *times,
        Param("limit", "integer", "The most lines."),
    )

    def one(path: str, handler: Callable[[Request], Awaitable[Response]], about: str, *params: Param) -> Endpoint:
        finished = finishing(answering(handler, _refused, _broken), backend.run, cors_origin)
        return Endpoint(f"/loki/api/v1/{path}", finished, about, params=params, tag="logs", shared=True)

    step = Param("step", "text", "Between points of counts: seconds or a duration.")
    selector = Param("query", "text", "A stream selector; all streams if absent.")
    ready = finishing(answering(room.ready, _refused, _broken), backend.run, cors_origin)
    return [
        one("query_range", room.query, "Lines, or counts of them (Loki)", *asked, step, Param("direction", "text", "backward or forward.")),
        one(
            "query",
            room.query,
            "Lines of the last hour, or counts at a time (Loki)",
            *asked,
            Param("time", "text", "The end of that hour."),
        ),
        one("labels", room.labels, "Names of labels (Loki)", *times),
        one("label/{name}/values", room.values, "Values of a label (Loki)", *times),
        one("series", room.series, "Streams (Loki)", Param("match[]", "text", "A stream selector."), *times),
        one("index/stats", room.stats, "How much a selector selects (Loki)", selector, *times),
        one("index/volume", room.volume, "Bytes by stream (Loki)", selector, *times, Param("targetLabels", "text", "By which labels.")),
        one("status/buildinfo", room.build, "What Grafana asks for the version (Loki)"),
        Endpoint("/ready", ready, "Whether log lines can be asked for (Loki)", tag="logs", media="text/plain", shared=True),
    ]
