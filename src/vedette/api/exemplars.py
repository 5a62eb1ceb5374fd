"""`/api/v1/query_exemplars`: the exemplars of the series that an expression selects, in Prometheus' shape."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import success
from vedette.api.endpoint import Endpoint, Param
from vedette.api.params import MAX_TIME, MIN_TIME, form_of, time_of
from vedette.errors import BadInput
from vedette.ingest.exemplars import Exemplars
from vedette.promql.format import json_float
from vedette.promql.nodes import Node, Selector, walk

_ENDS = "end timestamp must not be before start timestamp"


@dataclass(frozen=True, slots=True)
class ExemplarQueries:
    """The operation. `parse` gives the tree of an expression; it raises `BadInput` with the position."""

    exemplars: Exemplars
    parse: Callable[[str], Node]
    tenant_of: Callable[[Mapping[str, Any]], str]

    async def found(self, request: Request) -> Response:
        """Exemplars of the series that any selector of an expression selects."""
        form = await form_of(request)
        start, end = time_of(form, "start", MIN_TIME), time_of(form, "end", MAX_TIME)
        if end < start:
            raise BadInput(_ENDS)
        # A long expression takes most of a second to read: the loop does not wait for that.
        tree = await asyncio.to_thread(self.parse, form.text("query"))
        sets = [node.matchers for node in walk(tree) if isinstance(node, Selector)]
        found = self.exemplars.select(self.tenant_of(request), sets, start, end) if sets else []
        return success(
            [
                {
                    "seriesLabels": labels.as_dict(),
                    "exemplars": [
                        {"labels": e.labels.as_dict(), "value": json_float(e.value), "timestamp": e.timestamp / 1000} for e in exemplars
                    ],
                }
                for labels, exemplars in found
            ]
        )


def endpoints(queries: ExemplarQueries) -> list[Endpoint]:
    """The operation of this room."""
    parameters = (
        Param("query", "text", "An expression; what it selects counts.", required=True),
        Param("start", "time", "The first time; without it all."),
        Param("end", "time", "The last time; without it all."),
    )
    return [Endpoint("/api/v1/query_exemplars", queries.found, "Exemplars of an expression's series", ("GET", "POST"), parameters)]
