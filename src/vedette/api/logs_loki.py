"""Loki's query API over the log store, as Grafana's data source, Explore and `logcli` ask it: lines, metrics, labels, streams.

`service_name` (or `service`) and `level` are the labels of streams; fields are labels of lines. Not here: the language
(`logs.logql`), the live tail (`logs_loki_tail.py`), lines in (`logs_in.py`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import finishing
from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.logs import LogBackend, integer_of, time_of
from vedette.api.params import Form, form_of
from vedette.api.problems import UNEXPECTED, problem
from vedette.errors import BadInput, NotFound, VedetteError
from vedette.logs.logql import evaluate
from vedette.logs.logql.evaluate import Steps
from vedette.logs.logql.nodes import Aggregated, Grouping, Metric, Pipeline, Ranged
from vedette.logs.logql.parser import of_selector, parse
from vedette.logs.logql.points import absent
from vedette.logs.logql.pushed import pushed
from vedette.logs.logql.stages import STREAM, Line, number_of
from vedette.logs.logql.tokens import bytes_of, duration_of
from vedette.logs.logql.vectors import Series
from vedette.logs.query import LogQuery
from vedette.model.durations import parse_duration
from vedette.promql.format import go_float

LABELS = ("level", "service", "service_name")
_HOUR = 3600 * 10**9
_MOST_STEPS = 11_000
_MOST_SELECTORS = 20
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
        """Lines, or a metric, over a range; an instant query for lines is the hour before `time`."""
        form = await form_of(request)
        asked = parse(form.text("query"))
        start, end = self._span(form)
        if form.text("time"):
            end = time_of(form, "time", end)
            start = end - _HOUR
        if not isinstance(asked, Pipeline):
            return await self._metric(request, asked, self._steps(form, start, end))
        limit = integer_of(form, "limit", 100, most=self.backend.store.settings.max_lines)
        query = LogQuery(start=start, end=end, limit=limit, newest_first=form.text("direction").lower() != "forward")
        found = await evaluate.lines(self.backend.store, self.backend.tenant_of(request.scope), asked, query)
        return _success({"resultType": "streams", "result": streams(found), "stats": {}})

    @staticmethod
    def _steps(form: Form, start: int, end: int, *, always: bool = False) -> Steps | None:
        """The points in time of a range query, None for an instant one. Raises `BadInput`."""
        if not always and not form.text("start") and not form.text("since"):
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

    async def _metric(self, request: Request, asked: Metric, steps: Steps | None) -> Response:
        form = await form_of(request)
        at = steps or Steps(time_of(form, "time", self.backend.now_ns()), 10**9, 1)
        found = await evaluate.evaluate(self.backend.store, self.backend.tenant_of(request.scope), asked, at)
        if steps is None:
            if isinstance(found, float):
                return _success({"resultType": "scalar", "result": [at.times[0], go_float(found)], "stats": {}})
            ordered = isinstance(asked, Aggregated) and asked.op in ("sort", "sort_desc")
            return _success({"resultType": "vector", "result": _vector(found, at.times[0], ordered=ordered), "stats": {}})
        return _success({"resultType": "matrix", "result": _matrix(found, at), "stats": {}})

    async def stats(self, request: Request) -> Response:
        """How much a selector selects: Grafana shows it beside the query."""
        form = await form_of(request)
        start, end = self._span(form)
        query = replace(_simple(form.text("query")), start=start, end=end)
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
        found = await self._volume(request, form, Steps(end, 10**9, 1), end - start)
        ranked = sorted(_vector(found, end / 1e9), key=lambda one: -float(one["value"][1]))
        return _success({"resultType": "vector", "result": ranked, "stats": {}})

    async def volume_range(self, request: Request) -> Response:
        """Bytes of lines by stream in each step."""
        form = await form_of(request)
        start, end = self._span(form)
        steps = self._steps(form, start, end, always=True)
        assert steps is not None
        found = await self._volume(request, form, steps, steps.step)
        return _success({"resultType": "matrix", "result": _matrix(found, steps), "stats": {}})

    async def _volume(self, request: Request, form: Form, steps: Steps, span: int) -> Series:
        pipeline = of_selector(form.text("query") or "{}")
        _simple(form.text("query"))
        limit = integer_of(form, "limit", 100, most=1000)
        named = tuple(n for n in form.text("targetLabels").split(",") if n) or STREAM
        asked = Aggregated("topk", Aggregated("sum", Ranged("bytes_over_time", pipeline, max(1, span)), Grouping(named)), k=limit)
        found = await evaluate.evaluate(self.backend.store, self.backend.tenant_of(request.scope), asked, steps)
        assert isinstance(found, dict)
        return found

    async def format(self, request: Request) -> Response:
        """A query in its plainest spelling."""
        return _success(str(parse((await form_of(request)).text("query"))))

    async def detected_labels(self, request: Request) -> Response:
        """The labels of streams with how many values each has: what Grafana's Logs page begins with."""
        streams = await self._streams(request)
        found = [{"label": name, "cardinality": len({one[name] for one in streams})} for name in STREAM if streams]
        return Response(orjson.dumps({"detectedLabels": found}), media_type="application/json")

    async def detected_fields(self, request: Request) -> Response:
        """The labels of the newest lines that a query gives, with their kinds and how many values they have."""
        form = await form_of(request)
        start, end = self._span(form)
        most = integer_of(form, "line_limit", 100, most=1000)
        asked = of_selector(form.text("query") or "{}")
        query = LogQuery(start=start, end=end, limit=most)
        lines = await evaluate.lines(self.backend.store, self.backend.tenant_of(request.scope), asked, query)
        values: dict[str, set[str]] = {}
        for line in lines:
            for name, value in line.labels.items():
                if name not in STREAM:
                    values.setdefault(name, set()).add(value)
        limit = integer_of(form, "limit", 1000, most=1000)
        found = [{"label": n, "type": _kind(v), "cardinality": len(v), "parsers": None} for n, v in sorted(values.items())[:limit]]
        return Response(orjson.dumps({"fields": found, "limit": limit}), media_type="application/json")

    async def patterns(self, request: Request) -> Response:
        """Says that there are none."""
        raise NotFound("patterns of lines are not kept here: /api/v1/errors groups errors by theirs")

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
        selectors = [form.text("query"), *form.texts("match[]"), *form.texts("match")]
        queries = [replace(_simple(s), start=start, end=end) for s in selectors if s] or [LogQuery(start=start, end=end)]
        found: set[tuple[str, ...]] = set()
        store, tenant = self.backend.store, self.backend.tenant_of(request.scope)
        for query in queries[:_MOST_SELECTORS]:
            windows = await store.windows(
                tenant, query, begin=start - 1, width=max(1, end - start + 1), labels=[("service", ""), ("level", "")]
            )
            found |= windows.keys()
        named = sorted((service or "unknown_service", level) for service, level in found)
        return [{"service": s, "service_name": s, "level": level} for s, level in named]


def _simple(text: str) -> LogQuery:
    """What a selector with line and label filters asks the store. Raises `BadInput` for one that does more."""
    part = pushed(of_selector(text or "{}"))
    if not part.whole:
        raise BadInput("only matchers, line filters and label filters are taken here")
    return part.query


def streams(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Lines by their labels, as Loki has them."""
    found: dict[tuple[tuple[str, str], ...], list[list[str]]] = {}
    for line in lines:
        found.setdefault(tuple(sorted(line.labels.items())), []).append([str(line.time), line.text])
    return [{"stream": dict(labels), "values": values} for labels, values in found.items()]


def _kind(values: set[str]) -> str:
    for name, read in (("int", _int), ("float", number_of), ("duration", duration_of), ("bytes", bytes_of)):
        if all(read(v) is not None for v in values):
            return name
    return "boolean" if values <= {"true", "false"} else "string"


def _int(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d{1,18}", text, re.ASCII) else None


def _vector(found: Series, at: float, *, ordered: bool = False) -> list[dict[str, Any]]:
    listed = found.items() if ordered else sorted(found.items())
    return [{"metric": dict(key), "value": [at, go_float(float(values[0]))]} for key, values in listed if not absent(values[:1])[0]]


def _matrix(found: Series | float, at: Steps) -> list[dict[str, Any]]:
    if isinstance(found, float):
        return [{"metric": {}, "values": [[t, go_float(found)] for t in at.times]}]
    matrix = []
    for key, values in sorted(found.items()):
        points = [[t, go_float(v)] for t, v, gone in zip(at.times, values.tolist(), absent(values).tolist(), strict=True) if not gone]
        if points:
            matrix.append({"metric": dict(key), "values": points})
    return matrix


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
    log_query = Param("query", "text", "LogQL: lines.")
    return [
        one(
            "query_range", room.query, "Lines, or a metric of them (Loki)", *asked, step, Param("direction", "text", "backward or forward.")
        ),
        one(
            "query",
            room.query,
            "Lines of the last hour, or a metric at a time (Loki)",
            *asked,
            Param("time", "text", "The end of that hour."),
        ),
        one("labels", room.labels, "Names of labels (Loki)", *times),
        one("label", room.labels, "Names of labels (Loki, the older path)", *times),
        one("label/{name}/values", room.values, "Values of a label (Loki)", *times, selector),
        one("series", room.series, "Streams (Loki)", Param("match[]", "texts", "Stream selectors."), *times),
        one("index/stats", room.stats, "How much a selector selects (Loki)", selector, *times),
        one("index/volume", room.volume, "Bytes by stream (Loki)", selector, *times, Param("targetLabels", "text", "By which labels.")),
        one("index/volume_range", room.volume_range, "Bytes by stream over time (Loki)", selector, *times, step),
        one("format_query", room.format, "A query in its plainest spelling (Loki)", Param("query", "text", "LogQL.", required=True)),
        one("detected_labels", room.detected_labels, "Labels of streams (Loki)", selector, *times),
        one("detected_fields", room.detected_fields, "Labels of the newest lines (Loki)", log_query, *times),
        one("patterns", room.patterns, "Says that patterns are not kept (Loki)"),
        one("status/buildinfo", room.build, "What Grafana asks for the version (Loki)"),
        Endpoint("/ready", ready, "Whether log lines can be asked for (Loki)", tag="logs", media="text/plain", shared=True),
    ]
