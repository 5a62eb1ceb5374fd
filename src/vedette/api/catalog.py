"""`/api/v1/series`, `/labels`, `/label/<name>/values` and `/metadata`: what is stored, in Prometheus' shapes.

Not here: samples (`queries.py`), how the index finds anything (`storage`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import JSON, enveloped, success
from vedette.api.endpoint import Endpoint, Param, Run
from vedette.api.params import MAX_TIME, MIN_TIME, Form, count_of, form_of, limit_of, selected, time_of, unescaped
from vedette.api.queries import TRUNCATED
from vedette.errors import BadInput
from vedette.model.matchers import Matcher
from vedette.promql.result import label_sets_json
from vedette.storage.interface import Storage, Tabling

_RANGE = (
    Param("start", "time", "The start of the range; all times if absent."),
    Param("end", "time", "The end of the range, inclusive; all times if absent."),
    Param("limit", "integer", "The most entries to return; 0 is all."),
)
_MATCH = Param("match[]", "texts", "Selectors; what any of them selects counts.")


@dataclass(frozen=True, slots=True)
class Catalog:
    """The operations over the index of one storage."""

    storage: Storage
    run: Run
    parse_selector: Callable[[str], Sequence[Matcher]]
    tenant_of: Callable[[Mapping[str, Any]], str]

    async def series(self, request: Request) -> Response:
        """The label sets that any of the selectors selects."""
        form = await form_of(request)
        if not form.texts("match[]"):
            raise BadInput("no match[] parameter provided")
        limit, start, end = _range(form)
        try:
            sets, tenant = await selected(form, self.parse_selector, self.run), self.tenant_of(request)
        except BadInput as error:
            raise BadInput(f'invalid parameter "match[]": {error}') from None

        def read() -> bytes:
            if isinstance(self.storage, Tabling):
                table = self.storage.series_table(tenant, sets, start, end)
                return enveloped(label_sets_json(table, limit), warnings=[TRUNCATED] if limit and len(table) > limit else [])
            # One more than asked for tells whether anything was left out.
            found = self.storage.series(tenant, sets, start, end, limit + 1 if limit else 0)
            cut = bool(limit) and len(found) > limit
            rows = [labels.as_dict() for labels in (found[:limit] if cut else found)]
            return enveloped(orjson.dumps(rows), warnings=[TRUNCATED] if cut else [])

        return Response(await self.run(read), media_type=JSON)

    async def labels(self, request: Request) -> Response:
        """The label names in use."""
        form = await form_of(request)
        limit, start, end = _range(form)
        sets = await selected(form, self.parse_selector, self.run)
        return _texts(await self.run(self.storage.label_names, self.tenant_of(request), sets, start, end), limit)

    async def values(self, request: Request) -> Response:
        """The values of one label."""
        form = await form_of(request)
        name = unescaped(request.path_params["name"])
        if not name:
            raise BadInput('invalid label name: ""')
        limit, start, end = _range(form)
        sets = await selected(form, self.parse_selector, self.run)
        return _texts(await self.run(self.storage.label_values, self.tenant_of(request), name, sets, start, end), limit)

    async def metadata(self, request: Request) -> Response:
        """What is known of metrics: type, help, unit."""
        form = await form_of(request)
        limit = count_of(form, "limit", absent=-1)
        per_metric = count_of(form, "limit_per_metric", absent=0)
        found = await self.run(self.storage.metadata, self.tenant_of(request), form.text("metric") or None)
        metrics: dict[str, list[dict[str, str]]] = {}
        for entry in found:
            if limit >= 0 and entry.metric not in metrics and len(metrics) >= limit:
                break
            entries = metrics.setdefault(entry.metric, [])
            if per_metric <= 0 or len(entries) < per_metric:
                entries.append({"type": entry.type, "unit": entry.unit, "help": entry.help})
        return success(metrics)


def _range(form: Form) -> tuple[int, int, int]:
    return limit_of(form), time_of(form, "start", MIN_TIME), time_of(form, "end", MAX_TIME)


def _texts(found: list[str], limit: int) -> Response:
    if limit and len(found) > limit:
        return success(found[:limit], warnings=[TRUNCATED])
    return success(found)


def endpoints(catalog: Catalog) -> list[Endpoint]:
    """The operations of this room."""
    both = ("GET", "POST")
    required = Param("match[]", "texts", "Selectors; at least one.", required=True)
    per_metric = Param("limit_per_metric", "integer", "The most entries of one metric.")
    return [
        Endpoint("/api/v1/series", catalog.series, "Find series by their labels", both, (required, *_RANGE), tag="labels"),
        Endpoint("/api/v1/labels", catalog.labels, "Label names", both, (_MATCH, *_RANGE), tag="labels"),
        Endpoint("/api/v1/label/{name}/values", catalog.values, "Values of a label", ("GET",), (_MATCH, *_RANGE), tag="labels"),
        Endpoint(
            "/api/v1/metadata",
            catalog.metadata,
            "Metadata of metrics",
            ("GET",),
            (Param("metric", "text", "One metric only."), Param("limit", "integer", "The most metrics to return."), per_metric),
            tag="labels",
        ),
    ]
