"""`/api/v1/notifications`, `/api/v1/receivers`, `/api/v1/templates/preview`: what was told and why not; trying receivers and texts.

Refusals have the service APIs' shape. Not here: why an alert is told now or not (`explaining.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.alertmanager import PostedAlert, alert_of
from vedette.api.alerts import PAGING, answer, body_schema, filters, one_of, operation, question_of
from vedette.api.endpoint import Endpoint, Param
from vedette.api.params import decoded, form_of, json_of, rfc3339
from vedette.errors import BadInput
from vedette.gotemplate.parser import MAX_SOURCE
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify import trying
from vedette.notify.history import OUTCOMES
from vedette.notify.notifier import Notifier
from vedette.records.rows import DeliveryRow

MAX_BODY_BYTES = 2 << 20
MAX_ALERTS = 1_000


class AskedTest(msgspec.Struct, frozen=True):
    """A test of a receiver: with labels and annotations of one's own, or (none) with samples."""

    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class AskedPreview(msgspec.Struct, frozen=True):
    """A template to try: over the alerts given, those that stand and pass `filter`, or (neither) samples."""

    template: str
    html: bool = False
    alerts: list[PostedAlert] | None = None
    filter: list[str] | None = None
    receiver: str = "preview"


_test = msgspec.json.Decoder(AskedTest)
_preview = msgspec.json.Decoder(AskedPreview)


def _delivery(row: DeliveryRow) -> dict[str, Any]:
    return {
        "at": rfc3339(row.at / 1000),
        "outcome": row.outcome,
        "reason": row.reason,
        "detail": row.detail,
        "receiver": row.receiver,
        "channel": row.channel,
        "group_key": row.group_key,
        "firing": row.firing,
        "resolved": row.resolved,
        "alerts": orjson.loads(row.alerts),
        "attempt": row.attempt,
    }


@dataclass(frozen=True, slots=True)
class Notifications:
    """The operations over the notifications of whoever asks. `now` is in Unix ms, `external_url` where people reach this server."""

    notifier_of: Callable[[Mapping[str, Any]], Notifier]
    now: Callable[[], int]
    external_url: str = ""

    async def log(self, request: Request) -> Response:
        """Notifications that were sent, failed or were muted, the newest first."""
        form = await form_of(request)
        equal = {
            "outcome": one_of(form, "outcome", OUTCOMES),
            "receiver": form.text("receiver"),
            "reason": form.text("reason"),
            "channel": form.text("channel"),
        }
        question = question_of(form, {k: v for k, v in equal.items() if v})
        page = await self.notifier_of(request).history.deliveries(question)
        return answer({"notifications": [_delivery(row) for row in page.rows], "next_cursor": str(page.next) if page.next else None})

    async def test(self, request: Request) -> Response:
        """Send a test to all channels of a receiver, now."""
        body = await json_of(request, MAX_BODY_BYTES)
        asked = decoded(_test, body) if body.strip() else AskedTest()
        notifier, name, now = self.notifier_of(request), request.path_params["name"], self.now()
        channels = notifier.channels(name)
        alerts = trying.samples(now)[:1]
        if asked.labels:
            alerts = [Alert(Labels.of(asked.labels), now, now + 300_000, Labels.of(asked.annotations or {}))]
        found = await trying.tried(channels, trying.notice_of(alerts, now, receiver=name, external_url=self.external_url))
        shown = [{"channel": t.channel, "delivered": not t.reason, "reason": t.reason, "detail": t.detail} for t in found]
        return answer({"receiver": name, "channels": shown, "delivered": bool(found) and all(not t.reason for t in found)})

    async def preview(self, request: Request) -> Response:
        """Render a template over alerts."""
        asked = decoded(_preview, await json_of(request, MAX_BODY_BYTES))
        if len(asked.template) > MAX_SOURCE:
            raise BadInput(f"the template is longer than {MAX_SOURCE} characters", where="template")
        notifier, now = self.notifier_of(request), self.now()
        if asked.alerts is not None:
            alerts = [alert_of(a) for a in asked.alerts[:MAX_ALERTS]]
        elif asked.filter:
            matchers = filters(asked.filter, where="filter")
            alerts = [h.alert for h in notifier.matching(matchers)[:MAX_ALERTS]]
        else:
            alerts = trying.samples(now)
        if not alerts:
            raise BadInput("no alert stands that passes the filter", where="filter", hint="leave it out to see sample alerts")
        notice = trying.notice_of(alerts, now, receiver=asked.receiver, external_url=self.external_url)
        # On a thread: a template may work for as long as its limits let it.
        text = await asyncio.to_thread(trying.preview, notifier.templates, asked.template, notice, html=asked.html)
        return answer({"text": text, "alerts": len(alerts)})


_TEXT, _SET = {"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}


def endpoints(room: Notifications) -> list[Endpoint]:
    """The operations of this room."""
    which = (
        Param("outcome", "text", f"One of {', '.join(OUTCOMES)}."),
        Param("receiver", "text", "A receiver's name."),
        Param("channel", "text", "A channel, such as slack/0."),
        Param("reason", "text", "Why, such as silenced, acknowledged, timeout, status."),
    )
    test = body_schema({"labels": _SET, "annotations": _SET})
    alerts = {"type": "array", "items": {"type": "object", "required": ["labels"], "properties": {"labels": _SET, "annotations": _SET}}}
    texts = {"type": "array", "items": _TEXT}
    preview = body_schema(
        {"template": _TEXT, "html": {"type": "boolean"}, "alerts": alerts, "filter": texts, "receiver": _TEXT}, ("template",)
    )
    return [
        operation("/api/v1/notifications", room.log, "What was told to people, or not, and why", params=(*which, *PAGING)),
        operation("/api/v1/receivers/{name}/test", room.test, "Send a test to a receiver", "POST", body=test),
        operation("/api/v1/templates/preview", room.preview, "Render a template over alerts", "POST", body=preview),
    ]
