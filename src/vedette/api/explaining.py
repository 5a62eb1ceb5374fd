"""`/api/v1/alerts/explain`: why an alert was, or was not, sent: its routes, groups, what keeps it quiet, what each channel knows.

Not here: the decisions themselves, which are the pipeline's own (`notify`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.alerts import filters
from vedette.api.answers import JSON
from vedette.api.endpoint import Endpoint, Param, answering
from vedette.api.params import form_of, rfc3339
from vedette.api.problems import UNEXPECTED, detail
from vedette.errors import BadInput
from vedette.model.durations import format_duration
from vedette.model.matchers import Matcher, match_labels
from vedette.notify.held import Held
from vedette.notify.notifier import Notifier
from vedette.notify.views import RouteView

if TYPE_CHECKING:
    from vedette.rules.state import ActiveAlert, GroupState, RuleState

MAX_ALERTS = 100


@dataclass(frozen=True, slots=True)
class Explaining:
    """The operation over the notifications and rules of whoever asks. `now` is in Unix ms."""

    notifier_of: Callable[[Mapping[str, Any]], Notifier]
    now: Callable[[], int]
    groups_of: Callable[[Mapping[str, Any]], Sequence[GroupState]] = lambda _request: ()

    async def explain(self, request: Request) -> Response:
        """The alerts that pass the filter, each with its ways to people (at most `MAX_ALERTS`), and the rules that raise none now."""
        form = await form_of(request)
        matchers = filters(form.texts("filter"), where="query.filter")
        if not matchers:
            raise BadInput('expected matchers such as alertname="Down"', where="query.filter")
        notifier = self.notifier_of(request)
        found = [h for h in notifier.alerts() if match_labels(matchers, h.alert.labels)]
        groups = self.groups_of(request)
        pending = [
            (rule, alert)
            for group in groups
            for rule in group.rules
            for alert in rule.alerts
            if alert.state == "pending" and match_labels(matchers, alert.labels)
        ]
        shown = [self._alert(h, notifier.explain(h)) for h in found[:MAX_ALERTS]]
        shown += [_pending(rule, alert) for rule, alert in pending[: MAX_ALERTS - len(shown)]]
        quiet = [_quiet(group, rule) for group in groups for rule in group.rules if _raises_none(rule, matchers)]
        return _json(200, {"alerts": shown, "rules": quiet[:MAX_ALERTS], "truncated": len(found) + len(pending) - len(shown)})

    def _alert(self, held: Held, routes: list[RouteView]) -> dict[str, Any]:
        alert = held.alert
        return {
            "fingerprint": alert.fingerprint,
            "labels": dict(alert.labels),
            "status": alert.status(self.now()),
            "routes": [_route(r) for r in routes],
            "verdict": "; ".join(f"{r.receiver}: {_verdict(r)}" for r in routes) or "nobody is configured to be told",
        }


def _pending(rule: RuleState, alert: ActiveAlert) -> dict[str, Any]:
    since, until = (rfc3339(at / 1000) for at in (alert.active_at, alert.active_at + rule.duration_ms))
    verdict = (
        f"pending since {since}: its rule waits for {format_duration(rule.duration_ms)}, so it fires at {until} if it holds until then"
    )
    return {
        "fingerprint": f"{alert.labels.fingerprint():016x}",
        "labels": dict(alert.labels),
        "status": "pending",
        "routes": [],
        "verdict": verdict,
    }


def _raises_none(rule: RuleState, matchers: Sequence[Matcher]) -> bool:
    """Whether an alerting rule of the name that is asked for has no alert: nobody can be told of what its expression does not give."""
    named = [m for m in matchers if m.name == "alertname"]
    return rule.kind == "alerting" and not rule.alerts and bool(named) and all(m.matches(rule.name) for m in named)


def _quiet(group: GroupState, rule: RuleState) -> dict[str, Any]:
    if rule.health == "err":
        verdict = f"its evaluation fails: {rule.last_error}"
    elif not rule.last_evaluation:
        verdict = "it was not evaluated yet"
    else:
        verdict = f"its expression gave nothing at {rfc3339(rule.last_evaluation)}; /api/v1/alerts/history has what it gave before"
    return {"rule": rule.name, "group": group.name, "file": group.file, "expr": rule.expr, "verdict": verdict}


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
