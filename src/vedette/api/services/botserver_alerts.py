"""BotServer's `/alerts/configure`: alerts made over HTTP in the document's words, which become rules by type.

Each is a rule group of its own in the namespace `configured`, so it has versions and an author, and is edited and deleted by its
name. Not here: firing alerts (`botserver.py`), what rules are (`rules`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint
from vedette.api.params import decoded, json_of
from vedette.api.rules import author_of
from vedette.api.services.shared import Backend, answer, shown_time
from vedette.errors import BadInput, NotFound
from vedette.model.durations import format_duration, parse_seconds
from vedette.net.addresses import redacted_url
from vedette.promql.nodes import Selector
from vedette.rules.aliases import ALIASES, expression_of, is_alias, near
from vedette.rules.managed import ManagedRules, Version, check_name
from vedette.rules.typed import CONDITIONS, names_read

BASE = "/api/v1/monitoring/alerts/configure"
NAMESPACE = "configured"
INTERVAL = "15s"
MAX_BODY_BYTES = 1 << 20
MAX_SECONDS = 366 * 86_400

_NO_MAIL = "notify.email: no mail server is configured, so no mail can be sent (set EMAIL_SERVER, or smtp_smarthost in alertmanager.yml)"
_SEEN_MS = 3_600_000
"""How far back a metric must have been seen to be known."""


class Notify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to tell."""

    email: list[str] = []
    webhook: str = ""


class Configured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document's request; what follows `notify` is ours."""

    name: str
    metric: str
    type: Literal["threshold", "anomaly", "absence", "forecast"] = "threshold"
    condition: str = ""
    threshold: float | None = None
    duration_seconds: float = 0
    severity: str = "warning"
    notify: Notify = Notify()
    message: str = ""
    window_seconds: float = 0
    ahead_seconds: float = 0
    season_seconds: float = 0


_decoder = msgspec.json.Decoder(Configured)


@dataclass(frozen=True, slots=True)
class Alerts:
    """The operations over the rules of whoever asks; `mails` says whether there is a mail server now."""

    backend: Backend
    rules_of: Callable[[Mapping[str, Any]], ManagedRules]
    mails: Callable[[], bool]

    async def configure(self, request: Request) -> Response:
        """Make an alert, or change the one of its name."""
        asked = _asked(await json_of(request, MAX_BODY_BYTES))
        return await self._put(request, asked)

    async def edit(self, request: Request) -> Response:
        """Change an alert that exists."""
        rules, name = self.rules_of(request), request.path_params["name"]
        _of(rules, name)
        asked = _asked(await json_of(request, MAX_BODY_BYTES))
        if asked.name != name:
            raise BadInput("not the name in the path", where="body.name", hint=f"expected {name!r}")
        return await self._put(request, asked)

    async def _put(self, request: Request, asked: Configured) -> Response:
        await self.backend.run(self._known, self.backend.tenant_of(request.scope), asked.metric)
        rules = self.rules_of(request)
        new = asked.name not in {version.name for version in rules.all(NAMESPACE)}
        try:
            version = await rules.put(NAMESPACE, orjson.dumps(_group(asked)), author=author_of(request))
        except BadInput as error:
            raise _in_its_words(error) from None
        return answer(self._shown(version), 201 if new else 200)

    def _shown(self, version: Version) -> dict[str, Any]:
        """An alert in the document's words, and what keeps it from being told as it asks."""
        shown = _shown(version)
        return {**shown, "warnings": [_NO_MAIL]} if shown["notify"]["email"] and not self.mails() else shown

    def _known(self, tenant: str, metric: str) -> None:
        """Raises `BadInput`, with the names that may have been meant, for a metric that nobody has seen. Blocks."""
        if is_alias(metric.strip()):
            return
        now = int(self.backend.clock.now() * 1000)
        known = self.backend.storage.label_values(tenant, "__name__", [], now - _SEEN_MS, now)
        try:
            root = self.backend.promql.parse(expression_of(metric.strip()))
        except BadInput as error:
            close = near(metric, known)
            hint = "did you mean " + ", ".join(close) + "?" if close else "a metric, an alias such as memory.usage_percent, or PromQL"
            problem = f"{metric[:200]!r} is no metric, no alias and no PromQL: {error.problem}"
            raise BadInput(problem, where="body.metric", hint=hint) from None
        plain = isinstance(root, Selector) and not root.name
        for name in () if plain else names_read(root):
            if name not in known:
                close = near(name, known)
                hint = "did you mean " + ", ".join(close) + "?" if close else "GET /api/v1/label/__name__/values lists all"
                raise BadInput(f"unknown metric {name!r}", where="body.metric", hint=hint)

    async def all(self, request: Request) -> Response:
        """All alerts made this way."""
        found = [self._shown(v) for v in self.rules_of(request).all(NAMESPACE)]
        return answer({"alerts": found, "total": len(found), "metrics": sorted(ALIASES), "conditions": list(CONDITIONS)})

    async def one(self, request: Request) -> Response:
        """One of them."""
        return answer(self._shown(_of(self.rules_of(request), request.path_params["name"])))

    async def delete(self, request: Request) -> Response:
        """Delete one of them."""
        rules, name = self.rules_of(request), request.path_params["name"]
        _of(rules, name)
        await rules.delete(NAMESPACE, name, author=author_of(request))
        return answer({"name": name, "status": "deleted"})


def _of(rules: ManagedRules, name: str) -> Version:
    try:
        return rules.get(NAMESPACE, name)
    except NotFound:
        raise NotFound(f"no alert {name!r} is configured") from None


def _asked(body: bytes) -> Configured:
    try:
        asked = decoded(_decoder, body)
        check_name(asked.name, where="name")
    except BadInput as error:
        raise BadInput(error.problem, where=f"body.{error.where}".rstrip("."), hint=error.hint) from None
    for name in ("duration_seconds", "window_seconds", "ahead_seconds", "season_seconds"):
        if not 0 <= getattr(asked, name) <= MAX_SECONDS:
            raise BadInput(f"{getattr(asked, name):g} is out of range", where=f"body.{name}", hint=f"from 0 to {MAX_SECONDS}")
    return asked


_KEYS = {"window": "window_seconds", "ahead": "ahead_seconds", "season": "season_seconds"}


def _group(asked: Configured) -> dict[str, Any]:
    """The rule group of an alert, as a document of one."""
    rule: dict[str, Any] = {"alert": asked.name, "type": asked.type, "metric": asked.metric}
    if asked.condition and asked.type != "absence":
        rule["condition"] = asked.condition
    if asked.threshold is not None and asked.type != "absence":
        rule["threshold"] = asked.threshold
    for key, name in _KEYS.items():
        if value := getattr(asked, name):
            rule[key] = _duration(value)
    if asked.duration_seconds:
        rule["for"] = _duration(asked.duration_seconds)
    rule["labels"] = {"severity": asked.severity} if asked.severity else {}
    # Nothing that came in is a template: braces in a name or message mean themselves.
    rule["annotations"] = {"summary": _plainly(asked.message or _sentence(asked))}
    group: dict[str, Any] = {"name": asked.name, "interval": INTERVAL, "rules": [rule]}
    if asked.notify.email or asked.notify.webhook:
        group["notify"] = {k: v for k, v in (("email", asked.notify.email), ("webhook", asked.notify.webhook)) if v}
    return group


def _duration(seconds: float) -> str:
    return format_duration(round(seconds * 1000))


def _plainly(text: str) -> str:
    return text.replace("{{", '{{ "{{" }}')


def _sentence(asked: Configured) -> str:
    since = f" for {_duration(asked.duration_seconds)}" if asked.duration_seconds else ""
    if asked.type == "absence":
        return f"{asked.metric} is absent{since}"
    if asked.type == "anomaly":
        return f"{asked.metric} is not as usual{since}"
    words = (asked.condition or "less_than").replace("_", " ")
    when = f" in {_duration(asked.ahead_seconds or 14_400)}" if asked.type == "forecast" else ""
    return f"{asked.metric} {words} {0 if asked.threshold is None else asked.threshold:g}{when}{since}"


def _in_its_words(error: BadInput) -> BadInput:
    """A mistake of the rule as one of the request: `group:1:40: rules[0].threshold` is `body.threshold`."""
    path = error.where.rpartition(": ")[2] if ":" in error.where else error.where
    field = path.rpartition("].")[2] or "name"
    field = {"for": "duration_seconds", **_KEYS}.get(field, field)
    return BadInput(error.problem, where=f"body.{field}", hint=error.hint)


def _shown(version: Version) -> dict[str, Any]:
    """An alert in the document's words, with its version; of a webhook's URL only the host."""
    group = version.plain
    rule, notify = group["rules"][0], group.get("notify") or {}
    webhook = redacted_url(notify["webhook"], hide_path=True) if notify.get("webhook") else None
    return {
        "name": version.name,
        "type": rule.get("type", "promql"),
        "metric": rule.get("metric", rule.get("expr")),
        "condition": rule.get("condition"),
        "threshold": rule.get("threshold"),
        "duration_seconds": _seconds(rule.get("for")),
        "severity": (rule.get("labels") or {}).get("severity", ""),
        "notify": {"email": notify.get("email", []), "webhook": webhook},
        **{name: _seconds(rule[key]) for key, name in _KEYS.items() if key in rule},
        "status": "configured",
        "version": version.version,
        "author": version.author,
        "updated_at": shown_time(version.changed_at),
    }


def _seconds(text: str | None) -> float:
    return parse_seconds(text) if text else 0


_EXAMPLE = {
    "name": "high_memory_usage",
    "type": "threshold",
    "metric": "memory.usage_percent",
    "condition": "greater_than",
    "threshold": 90,
    "duration_seconds": 300,
    "severity": "warning",
    "notify": {"email": ["admin@example.com"], "webhook": "https://example.com/alerts"},
}


def endpoints(room: Alerts) -> Sequence[Endpoint]:
    """The operations of this room, without the limit of alerts, which they share with other rooms (`dialects`)."""
    fields: dict[str, Any] = {name: {} for name in Configured.__struct_fields__}
    schema = {"type": "object", "required": ["name", "metric"], "examples": [_EXAMPLE], "properties": fields}
    body = {"content": {"application/json": {"schema": schema}}, "required": True}

    def one(path: str, handler: Any, about: str, method: str = "GET", **more: Any) -> Endpoint:
        return Endpoint(BASE + path, room.backend.handled(handler), about, (method,), tag="botserver", **more)

    return [
        one("", room.configure, "Configure an alert", "POST", body=body),
        one("", room.all, "Alerts that were configured"),
        one("/{name}", room.one, "One of them"),
        one("/{name}", room.edit, "Change one", "PUT", body=body),
        one("/{name}", room.delete, "Delete one", "DELETE"),
    ]
