"""`/api/v1/alerts/silence`: the platform document's silences, which are Alertmanager's, made from labels and a duration.

Refusals have the service APIs' shape (`{"detail": …}`). Not here: Alertmanager's own API over the same silences (`alertmanager.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.alertmanager import PostedMatcher, matchers_of, shown_silence
from vedette.api.alerts import filters
from vedette.api.answers import JSON
from vedette.api.endpoint import Endpoint, Handler, answering
from vedette.api.params import decoded, json_of
from vedette.api.problems import UNEXPECTED, detail
from vedette.errors import BadInput
from vedette.model.matchers import Matcher
from vedette.notify.notifier import Notifier
from vedette.notify.silence import Silence, covers_everything

MAX_BODY_BYTES = 1 << 20
MAX_MINUTES = 366 * 24 * 60


MAX_SHOWN = 100


class Asked(msgspec.Struct, frozen=True):
    """The document's request: labels that alerts must carry, and for how long they are to be quiet."""

    matcher: dict[str, str]
    duration_minutes: float
    created_by: str = ""
    comment: str = ""


class AskedPreview(msgspec.Struct, frozen=True):
    """Matchers, in Alertmanager's shape or as texts."""

    matchers: list[PostedMatcher] = []
    filter: list[str] = []


_preview = msgspec.json.Decoder(AskedPreview)
_asked = msgspec.json.Decoder(Asked)


def silence_of(asked: Asked, now: int) -> Silence:
    """The silence that is asked for, from `now` (Unix ms) on. Raises `BadInput` naming the field."""
    if not 0 < asked.duration_minutes <= MAX_MINUTES:
        raise BadInput(f"{asked.duration_minutes:g} is out of range", where="duration_minutes", hint=f"over 0, at most {MAX_MINUTES}")
    if not asked.matcher or any(not name or not value for name, value in asked.matcher.items()):
        raise BadInput("expected labels with their values, at least one", where="matcher", hint="an empty one would silence every alert")
    matchers = tuple(Matcher(name, "=", value) for name, value in sorted(asked.matcher.items()))
    return Silence(matchers, now, now + round(asked.duration_minutes * 60_000), asked.created_by, asked.comment)


def _minutes(ms: int) -> float:
    """To the second, from a minute on: it begins when it is made, some milliseconds after it was asked for, and an hour is an hour."""
    return round(ms / 1000) / 60 if ms >= 60_000 - 500 else ms / 60_000


def shown(silence: Silence, now: int) -> dict[str, Any]:
    """A silence in the document's terms; `matchers` has those that are no equality, too."""
    whole = shown_silence(silence, now)
    return {
        "id": silence.id,
        "status": silence.state(now),
        "matcher": {m.name: m.value for m in silence.matchers if m.op == "="},
        "matchers": whole["matchers"],
        "start_time": whole["startsAt"],
        "end_time": whole["endsAt"],
        "duration_minutes": _minutes(silence.ends_at - silence.starts_at),
        "created_by": silence.created_by,
        "comment": silence.comment,
    }


@dataclass(frozen=True, slots=True)
class Silencing:
    """The operations over the notifications of whoever asks. `now` is in Unix ms."""

    notifier_of: Callable[[Mapping[str, Any]], Notifier]
    now: Callable[[], int]

    async def make(self, request: Request) -> Response:
        """Silence the alerts that carry all the labels."""
        asked = decoded(_asked, await json_of(request, MAX_BODY_BYTES))
        silences = self.notifier_of(request).silences
        identity = await silences.put(silence_of(asked, self.now()))
        return _json(shown(silences.get(identity), self.now()))

    async def all(self, request: Request) -> Response:
        """All silences: active, pending, expired."""
        now = self.now()
        return _json({"silences": [shown(s, now) for s in self.notifier_of(request).silences.all()]})

    async def one(self, request: Request) -> Response:
        """One silence."""
        return _json(shown(self.notifier_of(request).silences.get(request.path_params["id"]), self.now()))

    async def preview(self, request: Request) -> Response:
        """What a silence would match now, before it is made."""
        asked = decoded(_preview, await json_of(request, MAX_BODY_BYTES))
        matchers = (*matchers_of(asked.matchers), *filters(asked.filter, where="filter"))
        if not matchers:
            raise BadInput("expected matchers or filter", where="matchers", hint='{"filter": ["service=\\"db\\""]}')
        notifier = self.notifier_of(request)
        found = notifier.matching(matchers)
        shown = [
            {"fingerprint": h.alert.fingerprint, "labels": dict(h.alert.labels), "receivers": list(notifier.receivers_of(h.alert.labels))}
            for h in found[:MAX_SHOWN]
        ]
        everything = covers_everything(matchers)
        return _json(
            {
                "count": len(found),
                "standing": len(notifier.matching(())),
                "covers_everything": everything,
                "needs_confirmation": everything,
                "alerts": shown,
                "truncated": len(found) - len(shown),
            }
        )

    async def end(self, request: Request) -> Response:
        """End a silence now."""
        silences = self.notifier_of(request).silences
        await silences.expire(request.path_params["id"])
        return _json(shown(silences.get(request.path_params["id"]), self.now()))


def _json(body: object, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type=JSON)


_SCHEMA = {
    "type": "object",
    "required": ["matcher", "duration_minutes"],
    "properties": {
        "matcher": {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
        "duration_minutes": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_MINUTES},
        "created_by": {"type": "string"},
        "comment": {"type": "string"},
    },
}


_MATCHER = {"type": "object", "required": ["name", "value", "isRegex"], "properties": {"name": {"type": "string"}}}
_MATCHERS = {"matchers": {"type": "array", "items": _MATCHER}, "filter": {"type": "array", "items": {"type": "string"}}}
_PREVIEW = {"content": {JSON: {"schema": {"type": "object", "properties": _MATCHERS}}}, "required": True}


def endpoints(room: Silencing) -> list[Endpoint]:
    """The operations of this room."""

    def operation(path: str, handler: Handler, about: str, method: str = "GET", body: Mapping[str, Any] | None = None) -> Endpoint:
        answered = answering(handler, detail, lambda: _json({"detail": UNEXPECTED}, 500))
        return Endpoint(path, answered, about, (method,), tag="alerts", body=body)

    path = "/api/v1/alerts/silence"
    return [
        operation(path, room.make, "Silence alerts", "POST", {"content": {JSON: {"schema": _SCHEMA}}, "required": True}),
        operation(path, room.all, "Silences"),
        operation("/api/v1/silences/preview", room.preview, "What a silence would match", "POST", _PREVIEW),
        operation(f"{path}/{{id}}", room.end, "End a silence", "DELETE"),
        operation(f"{path}/{{id}}", room.one, "One silence"),
    ]
