"""`/api/v1/alerts/explain`: why an alert was, or was not, sent: its routes, groups, what keeps it quiet, what each channel knows.

Not here: the decisions themselves, which are the pipeline's own (`notify`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import JSON
from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.params import form_of, rfc3339
from vedette.api.problems import UNEXPECTED, detail
from vedette.errors import BadInput
from vedette.model.matchers import match_labels
from vedette.notify.held import Held
from vedette.notify.matchers import parse_matchers
from vedette.notify.notifier import Notifier
from vedette.notify.views import RouteView

MAX_ALERTS = 100


@dataclass(frozen=True, slots=True)
class Explaining:
    """The operation over the notifications of whoever asks. `now` is in Unix ms."""

    notifier_of: Callable[[Mapping[str, Any]], Notifier]
    now: Callable[[], int]

    async def explain(self, request: Request) -> Response:
        """The alerts that pass the filter, each with its ways to people; at most `MAX_ALERTS`."""
        form = await form_of(request)
        matchers = tuple(m for text in form.texts("filter") for m in parse_matchers(text))
        if not matchers:
            raise BadInput('expected matchers such as alertname="Down"', where="filter")
        notifier = self.notifier_of(request)
        found = [h for h in notifier.alerts() if match_labels(matchers, h.alert.labels)]
        shown = [self._alert(h, notifier.explain(h)) for h in found[:MAX_ALERTS]]
        return _json(200, {"alerts": shown, "truncated": len(found) - len(shown)})

    def _alert(self, held: Held, routes: list[RouteView]) -> dict[str, Any]:
        alert = held.alert
        return {
            "fingerprint": alert.fingerprint,
            "labels": dict(alert.labels),
            "status": alert.status(self.now()),
            "routes": [_route(r) for r in routes],
            "verdict": "; ".join(f"{r.receiver}: {_verdict(r)}" for r in routes) or "nobody is configured to be told",
        }


def _route(route: RouteView) -> dict[str, Any]:
    channels = [
        {"channel": c.name, "last_told": rfc3339(c.told_at / 1000) if c.told_at else None, "news": c.news, "has_news": c.has_news}
        for c in route.channels
    ]
    return {
        "receiver": route.receiver,
        "route": route.route,
        "group_key": route.group_key,
        "group_labels": dict(route.group_labels),
        "next_flush": rfc3339(route.next_flush / 1000) if route.next_flush else None,
        "quiet": [{"stage": r.stage, "reason": r.detail} for r in route.reasons],
        "channels": channels,
    }


def _verdict(route: RouteView) -> str:
    if route.reasons:
        return "kept quiet: " + ", ".join(r.detail for r in route.reasons)
    if not route.channels:
        return "the receiver has no channels"
    when = f" at {rfc3339(route.next_flush / 1000)}" if route.next_flush else ""
    return ", ".join(f"{c.name} {'is told' + when if c.has_news else 'is not told'}: {c.news}" for c in route.channels)


def _json(status: int, body: object) -> Response:
    return Response(orjson.dumps(body), status, media_type=JSON)


def endpoints(room: Explaining) -> list[Endpoint]:
    """The operations of this room."""
    handler = answering(room.explain, detail, lambda: _json(500, {"detail": UNEXPECTED}))
    params = (Param("filter", "texts", "Matchers, all of which an alert must pass.", required=True),)
    return [Endpoint("/api/v1/alerts/explain", handler, "Why alerts are sent or not", params=params, tag="alerts")]
