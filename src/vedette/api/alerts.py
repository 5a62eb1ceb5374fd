"""`/api/v1/alerts/{fingerprint}/acknowledge` and `/api/v1/alerts/history`: somebody knows of an alert; what became of alerts.

The bot server document's acknowledgement is the same one under its own path. Not here: what an acknowledgement does and when it
ends (`notify/acknowledgements.py`), the log of notifications (`notifications.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import JSON
from vedette.api.endpoint import Endpoint, Handler, Param, answering
from vedette.api.params import MAX_TIME, Form, asked, decoded, form_of, integer, json_of, parse_time, query_of, rfc3339
from vedette.api.problems import UNEXPECTED, detail
from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.model.matchers import Matcher
from vedette.notify.acknowledgements import Acknowledgement
from vedette.notify.history import KINDS, Question
from vedette.notify.matchers import parse_matchers
from vedette.notify.notifier import Notifier
from vedette.records.rows import AlertEventRow

MAX_BODY_BYTES = 1 << 20
DEFAULT_LIMIT, MAX_LIMIT = 100, 1_000
HISTORY = "/api/v1/alerts/history"
ACKNOWLEDGE = "/api/v1/alerts/{fingerprint}/acknowledge"
MONITORING = "/api/v1/monitoring/alerts/{fingerprint}/acknowledge"


class Asked(msgspec.Struct, frozen=True):
    """An acknowledgement: until `expires_at` (RFC 3339 or Unix seconds) or for `duration` (`2h`); neither: as long as it stands."""

    author: str = ""
    note: str = ""
    duration: str = ""
    expires_at: str | float = ""


class MonitoringAsked(msgspec.Struct, frozen=True):
    """The bot server document's request."""

    acknowledged_by: str
    notes: str = ""


_asked = msgspec.json.Decoder(Asked)
_monitoring = msgspec.json.Decoder(MonitoringAsked)


def caller_of(request: Request, given: str) -> str:
    """Who asks: the caller as they were let in; where nobody is asked who they are, whoever they say."""
    who = request.scope.get("vedette.principal")
    return str(who.name) if who is not None and who.kind != "open" else given


def until_of(asked: Asked, now: int) -> int:
    """When an acknowledgement ends (Unix ms), 0 for never by itself. Raises `BadInput`."""
    if asked.duration and asked.expires_at != "":
        raise BadInput("give one of duration and expires_at", where="duration")
    try:
        if asked.duration:
            return now + parse_duration(asked.duration)
        return parse_time(str(asked.expires_at)) if asked.expires_at != "" else 0
    except BadInput as error:
        raise BadInput(error.problem, where="duration" if asked.duration else "expires_at", hint=error.hint) from None


def shown(ack: Acknowledgement) -> dict[str, Any]:
    """An acknowledgement as the API gives it."""
    return {
        "fingerprint": ack.fingerprint,
        "labels": dict(ack.labels),
        "author": ack.author,
        "note": ack.note,
        "made_at": rfc3339(ack.made_at / 1000),
        "expires_at": rfc3339(ack.expires_at / 1000) if ack.expires_at else None,
    }


def question_of(form: Form, equal: Mapping[str, str]) -> Question:
    """What a page of a log is asked for by `start`, `end`, `limit`, `cursor`, `filter` and `equal` columns. Raises `BadInput`."""
    limit = asked(form, "limit", integer, DEFAULT_LIMIT)
    if not 0 < limit <= MAX_LIMIT:
        raise BadInput(f"{limit} is out of range", where="query.limit", hint=f"1 to {MAX_LIMIT}")
    cursor = asked(form, "cursor", integer, 1 << 62)
    start, end = asked(form, "start", parse_time, 0), asked(form, "end", parse_time, MAX_TIME)
    if end < start:
        raise BadInput("the end is before the start", where="query.end")
    return Question(
        since=start,
        until=end,
        limit=limit,
        before=cursor,
        equal=equal,
        matchers=filters(form.texts("filter"), where="query.filter"),
    )


def filters(texts: Sequence[str], *, where: str) -> tuple[Matcher, ...]:
    """The matchers of texts. Raises `BadInput` that names `where` they stand, and the column."""
    try:
        return tuple(m for text in texts for m in parse_matchers(text))
    except BadInput as error:
        raise BadInput(f"{error.where}: {error.problem}" if error.where else error.problem, where=where, hint=error.hint) from None


def one_of(form: Form, name: str, allowed: tuple[str, ...]) -> str:
    """A parameter of a closed set, empty where it is absent. Raises `BadInput`."""
    text = form.text(name)
    if text and text not in allowed:
        raise BadInput(f"{text[:100]!r} is not known", where=f"query.{name}", hint=f"one of {', '.join(allowed)}")
    return text


def _event(row: AlertEventRow) -> dict[str, Any]:
    return {
        "at": rfc3339(row.at / 1000),
        "kind": row.kind,
        "fingerprint": row.fingerprint,
        "labels": orjson.loads(row.labels),
        "starts_at": rfc3339(row.starts_at / 1000),
        "value": row.value if math.isfinite(row.value) else None,
        "note": row.note,
    }


@dataclass(frozen=True, slots=True)
class Alerts:
    """The operations over the notifications of whoever asks. `now` is in Unix ms.

    `known_as` gives the fingerprint under which notifications know an alert that a rule knows by another one (its labels without
    external ones); the same where there is none.
    """

    notifier_of: Callable[[Mapping[str, Any]], Notifier]
    now: Callable[[], int]
    known_as: Callable[[str], str] = lambda fingerprint: fingerprint

    def _name(self, request: Request) -> str:
        return self.known_as(request.path_params["fingerprint"])

    async def acknowledge(self, request: Request) -> Response:
        """Acknowledge an alert that fires."""
        body = await json_of(request, MAX_BODY_BYTES)
        asked = decoded(_asked, body) if body.strip() else Asked()
        until = until_of(asked, self.now())
        who = caller_of(request, asked.author)
        ack = await self.notifier_of(request).acknowledge(self._name(request), author=who, note=asked.note, expires_at=until)
        return answer(shown(ack))

    async def unacknowledge(self, request: Request) -> Response:
        """Take an acknowledgement back."""
        notifier, name = self.notifier_of(request), self._name(request)
        ack = notifier.acknowledgements.get(name)
        await notifier.unacknowledge(name, author=caller_of(request, query_of(request).text("author")))
        return answer({**shown(ack), "ended": True})

    async def acknowledgement(self, request: Request) -> Response:
        """The acknowledgement of an alert."""
        return answer(shown(self.notifier_of(request).acknowledgements.get(self._name(request))))

    async def acknowledge_as_documented(self, request: Request) -> Response:
        """Acknowledge an alert in the bot server document's terms."""
        asked = decoded(_monitoring, await json_of(request, MAX_BODY_BYTES))
        who = caller_of(request, asked.acknowledged_by)
        ack = await self.notifier_of(request).acknowledge(self._name(request), author=who, note=asked.notes)
        return answer(
            {
                "alert_id": request.path_params["fingerprint"],
                "status": "acknowledged",
                "acknowledged_by": ack.author,
                "acknowledged_at": rfc3339(ack.made_at / 1000),
                "notes": ack.note,
            }
        )

    async def history(self, request: Request) -> Response:
        """The steps of alerts, the newest first."""
        form = await form_of(request)
        equal = {"kind": one_of(form, "kind", KINDS), "fingerprint": form.text("fingerprint")}
        question = question_of(form, {k: v for k, v in equal.items() if v})
        page = await self.notifier_of(request).history.events(question)
        return answer({"events": [_event(row) for row in page.rows], "next_cursor": str(page.next) if page.next else None})


def answer(body: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(body), status, media_type=JSON)


def operation(path: str, handler: Handler, about: str, method: str = "GET", **more: Any) -> Endpoint:
    """An operation whose refusals have the service APIs' shape."""
    answered = answering(handler, detail, lambda: answer({"detail": UNEXPECTED}, 500))
    return Endpoint(path, answered, about, (method,), tag="alerts", **more)


def body_schema(properties: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """An OpenAPI requestBody of one JSON object."""
    schema = {"type": "object", "properties": dict(properties), **({"required": list(required)} if required else {})}
    return {"content": {JSON: {"schema": schema}}, "required": bool(required)}


PAGING = (
    Param("filter", "texts", "Matchers, all of which must hold."),
    Param("start", "time", "From when on; inclusive."),
    Param("end", "time", "Until when; inclusive."),
    Param("limit", "integer", f"How many at most (1 to {MAX_LIMIT}; {DEFAULT_LIMIT})."),
    Param("cursor", "text", "Go on where a page ended: its `next_cursor`."),
)
_TEXT = {"type": "string"}


def endpoints(room: Alerts) -> list[Endpoint]:
    """The operations of this room."""
    asked = body_schema({"author": _TEXT, "note": _TEXT, "duration": _TEXT, "expires_at": {"type": ["string", "number"]}})
    documented = body_schema({"acknowledged_by": _TEXT, "notes": _TEXT}, ("acknowledged_by",))
    kinds = (Param("kind", "text", f"One of {', '.join(KINDS)}."), Param("fingerprint", "text", "One alert."))
    return [
        operation(HISTORY, room.history, "What became of alerts", params=(*kinds, *PAGING)),
        operation(ACKNOWLEDGE, room.acknowledge, "Acknowledge an alert", "POST", body=asked),
        operation(ACKNOWLEDGE, room.unacknowledge, "Take an acknowledgement back", "DELETE"),
        operation(ACKNOWLEDGE, room.acknowledgement, "The acknowledgement of an alert"),
        operation(MONITORING, room.acknowledge_as_documented, "Acknowledge an alert", "POST", body=documented),
    ]
