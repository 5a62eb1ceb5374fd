"""Loki's query API over the log store, as far as Grafana's data source needs it for reading lines.

Stream selectors with line filters (`{service="shop"} |= "failed" !~ "retry"`), and of metric queries the one that Grafana draws
the volume of lines with (`sum by (level) (count_over_time(… [1m]))`) and its health check. `service`, `service_name` and `level` are
labels; any other name in a selector is a field. What is beyond that is refused with a word about what there is instead.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import finishing
from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.logs import LogBackend, integer_of, time_of
from vedette.api.params import Form, form_of
from vedette.api.problems import UNEXPECTED, problem
from vedette.errors import BadInput, VedetteError
from vedette.logs.query import FieldFilter, LineFilter, LogQuery
from vedette.model.durations import parse_duration

LABELS = ("level", "service", "service_name")
_SERVICE = ("service", "service_name")
_LEVEL = ("level", "detected_level")
_STRING = r'"(?:[^"\\\n]|\\.)*"|`[^`]*`'
_MATCHER = re.compile(rf"\s*([a-zA-Z_][\w.]*)\s*(=~|!~|!=|=)\s*({_STRING})\s*(,|(?=\}}))", re.ASCII)
_FILTER = re.compile(rf"\s*(\|=|!=|\|~|!~)\s*({_STRING})")
_VOLUME = re.compile(r"\s*sum\s+by\s*\(([\w\s,]*)\)\s*\(\s*count_over_time\s*\((.*)\[(\w+)\]\s*\)\s*\)\s*\Z", re.DOTALL)
_HEALTH = re.compile(r"\s*vector\((\d+)\)\s*\+\s*vector\((\d+)\)\s*\Z")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_HOUR = 3600 * 10**9
_INSTEAD = "stream selectors with line filters are taken; for counts there is the series vedette_log_messages_total"


def parse(text: str) -> LogQuery:
    """The query of a selector with line filters. Raises `BadInput` with the column."""
    at = len(text) - len(text.lstrip())
    if text[at : at + 1] != "{":
        raise BadInput("not a log query", where=f"column {at + 1}", hint=_INSTEAD)
    at += 1
    columns: list[FieldFilter] = []
    fields: list[FieldFilter] = []
    while not (end := re.compile(r"\s*\}").match(text, at)):
        found = _MATCHER.match(text, at)
        if found is None:
            raise BadInput("not a matcher", where=f"column {at + 1}", hint='expected name="value", or !=, =~, !~')
        name, op, value = found[1], found[2], _unquoted(found[3])
        column = "service" if name in _SERVICE else "level" if name in _LEVEL else ""
        (columns if column else fields).append(FieldFilter(column or name, op, value))  # type: ignore[arg-type]  # by the pattern
        at = found.end()
    at = end.end()
    lines: list[LineFilter] = []
    while text[at:].strip():
        found = _FILTER.match(text, at)
        if found is None:
            raise BadInput("not a line filter", where=f"column {at + 1}", hint=_INSTEAD)
        value = _unquoted(found[2])
        if value:  # Grafana's builder begins with |= ""
            kind, negated = "regex" if found[1].endswith("~") else "contains", found[1].startswith("!")
            lines.append(LineFilter(kind, value, negated=negated, heed_case=True))  # type: ignore[arg-type]  # one of both
        at = found.end()
    return LogQuery(columns=tuple(columns), fields=tuple(fields), lines=tuple(lines))


def _unquoted(text: str) -> str:
    inner = text[1:-1]
    return inner if text[0] == "`" else re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), inner)


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
        volume = _VOLUME.match(text)
        if volume is not None:
            return await self._volume(request, volume, start, end)
        backward = form.text("direction").lower() != "forward"
        limit = integer_of(form, "limit", 100, most=self.backend.store.settings.max_lines)
        query = replace(parse(text), start=start, end=end, limit=limit, newest_first=backward, total=False)
        page = await self.backend.store.search(self.backend.tenant_of(request.scope), query)
        streams: dict[tuple[tuple[str, str], ...], list[list[str]]] = {}
        for row in page.rows:
            fields = {k: v if isinstance(v, str) else orjson.dumps(v).decode() for k, v in orjson.loads(row.fields).items()}
            labels = {**fields, "service_name": row.service or "unknown_service", "level": row.level}
            streams.setdefault(tuple(sorted(labels.items())), []).append([str(row.time), row.message])
        found = [{"stream": dict(labels), "values": values} for labels, values in streams.items()]
        return _success({"resultType": "streams", "result": found, "stats": {}})

    async def _volume(self, request: Request, volume: re.Match[str], start: int, end: int) -> Response:
        names = [n.strip() for n in volume[1].split(",") if n.strip()]
        if not set(names) <= set(_LEVEL):
            raise BadInput("lines are counted by level only", hint=_INSTEAD)
        step = max(1, parse_duration(volume[3])) * 1_000_000
        if (end - start) // step > 11_000:
            raise BadInput("more than 11,000 points: choose a longer step")
        query = replace(parse(volume[2]), start=start, end=end)
        counts = await self.backend.store.counts_by_level(self.backend.tenant_of(request.scope), query, step)
        series: dict[str, dict[int, int]] = {}
        for (span, level), n in counts.items():
            points = series.setdefault(level, {})
            points[span] = points.get(span, 0) + n
        matrix = [
            {"metric": dict.fromkeys(names, level), "values": [[t / 1e9, str(n)] for t, n in sorted(points.items())]}
            for level, points in sorted(series.items())
        ]
        return _success({"resultType": "matrix", "result": matrix, "stats": {}})

    async def labels(self, request: Request) -> Response:
        """The names of labels."""
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
        query = replace(parse(given) if given else LogQuery(), start=start, end=end)
        store, tenant = self.backend.store, self.backend.tenant_of(request.scope)
        services = sorted(await store.services(tenant, query))
        levels = sorted({level for _, level in await store.counts_by_level(tenant, query, max(1, end - start))})
        return [{"service": s, "service_name": s, "level": level} for s in services for level in levels]


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
        Param("query", "text", "A stream selector with line filters.", required=True),
        *times,
        Param("limit", "integer", "The most lines."),
    )

    def one(path: str, handler: Callable[[Request], Awaitable[Response]], about: str, *params: Param) -> Endpoint:
        finished = finishing(answering(handler, _refused, _broken), backend.run, cors_origin)
        return Endpoint(f"/loki/api/v1/{path}", finished, about, params=params, tag="logs", shared=True)

    return [
        one("query_range", room.query, "Lines (Loki)", *asked, Param("direction", "text", "backward or forward.")),
        one("query", room.query, "Lines of the last hour (Loki)", *asked, Param("time", "text", "The end of that hour.")),
        one("labels", room.labels, "Names of labels (Loki)", *times),
        one("label/{name}/values", room.values, "Values of a label (Loki)", *times),
        one("series", room.series, "Streams (Loki)", Param("match[]", "text", "A stream selector."), *times),
    ]
