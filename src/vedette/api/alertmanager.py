"""Alertmanager's API v2: alerts, groups, silences, receivers, status; for `amtool`, Prometheus and dashboards written for it.

Shapes and parameters are those of its OpenAPI description; a refusal is a JSON string. Not here: what alerts and silences mean
(`notify`), the platform document's silences (`silencing.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import JSON, finishing, listed
from vedette.api.endpoint import Endpoint, Handler, Param, Run, answering
from vedette.api.params import UNREADABLE, Form, boolean_of, form_of, json_of, limit_of, parse_time, rfc3339, unreadable
from vedette.api.problems import UNEXPECTED, Unsupported, problem, retry_after
from vedette.errors import BadInput, LimitExceeded, VedetteError
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, MatchOp, compile_regex
from vedette.notify.held import fingerprints
from vedette.notify.listing import Wanted
from vedette.notify.matchers import parse_matchers
from vedette.notify.notifier import Notifier
from vedette.notify.silence import Silence

MAX_BODY_BYTES = 128 << 20
_TURN = 2_000
"""How many alerts are taken before others get their turn on the loop."""
_LARGE = 1 << 20


class PostedAlert(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """An alert as senders post it."""

    labels: dict[str, str]
    annotations: dict[str, str] | None = None
    starts_at: str = ""
    ends_at: str = ""
    generator_url: str = msgspec.field(default="", name="generatorURL")


class PostedMatcher(msgspec.Struct, frozen=True, rename="camel"):
    """A matcher of a silence."""

    name: str
    value: str
    is_regex: bool
    is_equal: bool = True


class PostedSilence(msgspec.Struct, frozen=True, rename="camel"):
    """A silence to make, or with `id` to change.

    Ours: `filter`, matchers as texts, beside or instead of `matchers`, `recurs`, time intervals in which alone it holds,
    `endsWhenResolved`, and `confirm` for one that covers every alert.
    Where `recurs` and `endsWhenResolved` are left out, a silence that is changed keeps them: other clients do not know them.
    """

    starts_at: str
    ends_at: str
    created_by: str
    comment: str
    matchers: list[PostedMatcher] = []
    filter: list[str] = []
    id: str = ""
    annotations: dict[str, str] | None = None
    recurs: list[dict[str, Any]] | None = None
    ends_when_resolved: bool | None = None
    confirm: bool = False


_alerts = msgspec.json.Decoder(list[PostedAlert])
_silence = msgspec.json.Decoder(PostedSilence)


@dataclass(frozen=True, slots=True)
class AlertmanagerInfo:
    """What `/api/v2/status` tells: `config` gives the configuration in force as YAML, secrets redacted; `started` in Unix seconds."""

    version: str
    started: float
    config: Callable[[], str]


def _decoded(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        raise BadInput(f"bad JSON body: {unreadable(error) if isinstance(error, RecursionError) else error}") from None


@lru_cache(maxsize=4096)
def _time(text: str, name: str) -> int:
    """Unix ms of an RFC 3339 time; 0 for none, which Go writes as the year 1."""
    if not text or text.startswith("0001-01-01T"):
        return 0
    try:
        return parse_time(text)
    except BadInput as error:
        raise BadInput(error.problem, where=name) from None


def _labels(given: Mapping[str, str], what: str) -> Labels:
    if "" in given:
        raise BadInput(f"invalid {what} set: a name is empty")
    return Labels.of(given)


def _read(posted: PostedAlert) -> tuple[Labels, int, int, Labels, str]:
    """Labels, start and end (0: left open), annotations and generator of an alert that was posted. Raises `BadInput`."""
    labels = _labels(posted.labels, "label")
    if not labels:
        raise BadInput("at least one label pair required")
    starts, ends = _time(posted.starts_at, "startsAt"), _time(posted.ends_at, "endsAt")
    if starts and ends and ends < starts:
        raise BadInput("start time must be before end time")
    return labels, starts, ends, _labels(posted.annotations or {}, "annotation"), posted.generator_url


def alert_of(posted: PostedAlert) -> Alert:
    """The alert that was posted; times left open are 0. Raises `BadInput`."""
    return Alert(*_read(posted))


def alerts_of(posts: Sequence[PostedAlert], *, first: int = 0) -> tuple[list[Alert], list[str]]:
    """The good ones of alerts that were posted, and what is wrong with the others, which are counted from `first`."""
    good, bad = [], []
    for index, posted in enumerate(posts, first):
        try:
            good.append(_read(posted))
        except BadInput as error:
            bad.append(f"alert {index}: {error}")
    names = fingerprints([parts[0] for parts in good])
    return [Alert(*parts, None, name) for parts, name in zip(good, names, strict=True)], bad


_OPS: dict[tuple[bool, bool], MatchOp] = {(False, True): "=", (False, False): "!=", (True, True): "=~", (True, False): "!~"}


def matchers_of(posted: Sequence[PostedMatcher]) -> tuple[Matcher, ...]:
    """The matchers that were posted. Raises `BadInput` for a regular expression that is none."""
    return tuple(Matcher(m.name, _OPS[m.is_regex, m.is_equal], m.value) for m in posted)


def silence_of(posted: PostedSilence, old: Silence | None = None) -> Silence:
    """The silence that was posted, in place of `old`, not checked yet. Raises `BadInput` for a time or a matcher that is none."""
    kept = old.recurs if old else ""
    return Silence(
        matchers=(*matchers_of(posted.matchers), *(m for text in posted.filter for m in parse_matchers(text))),
        starts_at=_time(posted.starts_at, "startsAt"),
        ends_at=_time(posted.ends_at, "endsAt"),
        created_by=posted.created_by,
        comment=posted.comment,
        id=posted.id,
        annotations=Labels.of(posted.annotations or {}),
        recurs=kept if posted.recurs is None else orjson.dumps(posted.recurs).decode() if posted.recurs else "",
        until_resolved=bool(old and old.until_resolved) if posted.ends_when_resolved is None else posted.ends_when_resolved,
    )


def shown_silence(silence: Silence, now: int) -> dict[str, Any]:
    """A silence as the API gives it."""
    matchers = [
        {"name": m.name, "value": m.value, "isRegex": m.op in ("=~", "!~"), "isEqual": m.op in ("=", "=~")} for m in silence.matchers
    ]
    return {
        "id": silence.id,
        "status": {"state": silence.state(now)},
        "updatedAt": rfc3339(silence.updated_at / 1000),
        "matchers": matchers,
        "startsAt": rfc3339(silence.starts_at / 1000),
        "endsAt": rfc3339(silence.ends_at / 1000),
        "createdBy": silence.created_by,
        "comment": silence.comment,
        "annotations": dict(silence.annotations),
        **({"recurs": orjson.loads(silence.recurs)} if silence.recurs else {}),
        **({"endsWhenResolved": True} if silence.until_resolved else {}),
    }


def _passes(matchers: Sequence[Matcher], present: Mapping[str, str]) -> bool:
    """Whether a label set passes a filter, in which an empty value asks whether the label is there at all."""
    for matcher in matchers:
        there = matcher.name in present
        if not matcher.value and there == (matcher.op in ("!=", "!~")):
            continue
        if not matcher.matches(present.get(matcher.name, "")):
            return False
    return True


def _wanted(form: Form, name: str) -> bool:
    """A truth value that is true where it is absent."""
    return not form.text(name) or boolean_of(form, name)


def wanted_of(form: Form) -> Wanted:
    """Which alerts a request asks for. Raises `BadInput`."""
    if form.texts("receiver_matchers"):
        raise BadInput("receivers have no labels here", where="receiver_matchers")
    pattern = form.text("receiver")
    return Wanted(
        matchers=tuple(m for text in form.texts("filter") for m in parse_matchers(text)),
        receiver=compile_regex(pattern, where="receiver") if pattern else None,
        active=_wanted(form, "active"),
        silenced=_wanted(form, "silenced"),
        inhibited=_wanted(form, "inhibited"),
        muted=_wanted(form, "muted"),
    )


@dataclass(frozen=True, slots=True)
class Alertmanager:
    """The operations over the notifications of whoever asks. `now` is in Unix ms."""

    notifier_of: Callable[[Mapping[str, Any]], Notifier]
    now: Callable[[], int]
    info: AlertmanagerInfo
    run: Run

    async def alerts(self, request: Request) -> Response:
        """Alerts that stand, and how each is dealt with."""
        form = await form_of(request)
        _wanted(form, "unprocessed")  # there are none here, but what is no truth value is refused as Alertmanager does
        found = await self.notifier_of(request).listed_alerts(wanted_of(form))
        return listed(found[: limit_of(form) or None])

    async def groups(self, request: Request) -> Response:
        """Alerts in their groups."""
        wanted = wanted_of(await form_of(request))
        return listed(await self.notifier_of(request).listed_groups(wanted))

    async def post_alerts(self, request: Request) -> Response:
        """Take alerts; good ones are taken where others are bad, and the answer says what is wrong with those."""
        bad: list[str] = []
        notifier, body = self.notifier_of(request), await json_of(request, MAX_BODY_BYTES, form=False)
        # A body of many megabytes is read on a thread: others must not wait for it.
        posts = _decoded(_alerts, body) if len(body) < _LARGE else await self.run(_decoded, _alerts, body)
        for at in range(0, len(posts), _TURN):
            alerts, wrong = alerts_of(posts[at : at + _TURN], first=at)
            bad += wrong
            await notifier.accept(alerts)
        if bad:
            raise BadInput("; ".join(bad[:20]))
        return Response(status_code=200)

    async def silences(self, request: Request) -> Response:
        """Silences: active, pending and expired ones, as asked."""
        form = await form_of(request)
        states = {state for state in ("active", "pending", "expired") if _wanted(form, state)}
        matchers = tuple(m for text in form.texts("filter") for m in parse_matchers(text))
        now = self.now()
        found = [s for s in self.notifier_of(request).silences.all() if s.state(now) in states]
        return _json([shown_silence(s, now) for s in found if _passes(matchers, {m.name: m.value for m in s.matchers})])

    async def post_silence(self, request: Request) -> Response:
        """Make or change a silence."""
        posted = _decoded(_silence, await json_of(request, MAX_BODY_BYTES, form=False))
        notifier = self.notifier_of(request)
        silence = silence_of(posted, notifier.silences.get(posted.id) if posted.id else None)
        return _json({"silenceID": await notifier.silence(silence, confirmed=posted.confirm)})

    async def silence(self, request: Request) -> Response:
        """One silence."""
        return _json(shown_silence(self.notifier_of(request).silences.get(request.path_params["id"]), self.now()))

    async def expire_silence(self, request: Request) -> Response:
        """End a silence now."""
        await self.notifier_of(request).silences.expire(request.path_params["id"])
        return Response(status_code=200)

    async def receivers(self, request: Request) -> Response:
        """Names of receivers."""
        return _json([{"name": name, "labels": {}} for name in self.notifier_of(request).receivers()])

    async def status(self, request: Request) -> Response:
        """Version, configuration, uptime; there is no cluster."""
        version = {"version": self.info.version, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": ""}
        return _json(
            {
                "cluster": {"status": "disabled", "peers": []},
                "versionInfo": version,
                "config": {"original": self.info.config()},
                "uptime": rfc3339(int(self.info.started)),
            }
        )


def _json(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, media_type=JSON, headers=dict(headers or {}))


def refused(error: VedetteError) -> Response:
    """An error as a JSON string; of what no operation sees, as Alertmanager's own framework answers."""
    found = problem(error)
    if isinstance(error, Unsupported):
        return _json({"code": found.status, "message": found.message}, found.status)
    if isinstance(error, LimitExceeded) and found.status == 422:
        return _json(str(error), 503, retry_after(error.retry_after or 5.0))
    return _json(found.message, found.status, found.headers)


_SILENCES = tuple(Param(state, "boolean", f"Include {state} silences (true).") for state in ("active", "pending", "expired"))
_ALERTS = (
    Param("filter", "texts", "Matchers, all of which must hold."),
    Param("receiver", "text", "A regular expression of receivers' names."),
    *(Param(state, "boolean", f"Include {state} alerts (true).") for state in ("active", "silenced", "inhibited")),
)


def _body(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": {JSON: {"schema": schema}}, "required": True}


_TIME = {"type": "string", "format": "date-time"}
_SET = {"type": "object", "additionalProperties": {"type": "string"}}
_ALERT_BODY = {
    "type": "object",
    "required": ["labels"],
    "properties": {"labels": _SET, "annotations": _SET, "startsAt": _TIME, "endsAt": _TIME, "generatorURL": {"type": "string"}},
}
_MATCHER = {
    "type": "object",
    "required": ["name", "value", "isRegex"],
    "properties": {
        "name": {"type": "string"},
        "value": {"type": "string"},
        "isRegex": {"type": "boolean"},
        "isEqual": {"type": "boolean", "default": True},
    },
}
_SILENCE_BODY = {
    "type": "object",
    "required": ["startsAt", "endsAt", "createdBy", "comment"],
    "properties": {
        "id": {"type": "string"},
        "matchers": {"type": "array", "items": _MATCHER},
        "filter": {"type": "array", "items": {"type": "string"}},
        "startsAt": _TIME,
        "endsAt": _TIME,
        "createdBy": {"type": "string"},
        "comment": {"type": "string"},
        "annotations": _SET,
        "recurs": {"type": "array", "items": {"type": "object"}},
        "endsWhenResolved": {"type": "boolean"},
        "confirm": {"type": "boolean"},
    },
}


def endpoints(room: Alertmanager, *, run: Run, cors_origin: str = ".*") -> list[Endpoint]:
    """The operations of this room; those that only read may be asked by pages of other origins."""

    def answered(handler: Handler) -> Handler:
        return answering(handler, refused, lambda: _json(UNEXPECTED, 500))

    def reading(path: str, handler: Handler, about: str, params: tuple[Param, ...] = ()) -> Endpoint:
        shared = finishing(answered(handler), run, cors_origin)
        return Endpoint(path, shared, about, params=params, tag="alertmanager", shared=True)

    def changing(path: str, handler: Handler, about: str, method: str, schema: Mapping[str, Any] | None = None) -> Endpoint:
        return Endpoint(path, answered(handler), about, (method,), tag="alertmanager", body=_body(schema) if schema else None)

    alerts, silences, silence = "/api/v2/alerts", "/api/v2/silences", "/api/v2/silence/{id}"
    return [
        changing(alerts, room.post_alerts, "Take alerts", "POST", {"type": "array", "items": _ALERT_BODY}),
        reading(
            alerts,
            room.alerts,
            "Alerts that stand",
            (
                *_ALERTS,
                Param("unprocessed", "boolean", "Accepted: there are none here."),
                Param("limit", "integer", "How many at most; ours."),
            ),
        ),
        reading(f"{alerts}/groups", room.groups, "Alerts in their groups", (*_ALERTS, Param("muted", "boolean", "Include muted groups."))),
        changing(silences, room.post_silence, "Make or change a silence", "POST", _SILENCE_BODY),
        reading(silences, room.silences, "Silences", (Param("filter", "texts", "Matchers, all of which must hold."), *_SILENCES)),
        changing(silence, room.expire_silence, "End a silence", "DELETE"),
        reading(silence, room.silence, "One silence"),
        reading("/api/v2/receivers", room.receivers, "Names of receivers"),
        reading("/api/v2/status", room.status, "Version and configuration"),
    ]
