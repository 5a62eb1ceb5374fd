"""`/api/v1/rules/…`: rules made over the API: made, changed, deleted, checked, their versions and authors, exported as YAML.

A group comes in as JSON or YAML, in the shape it has in a rule file. Refusals have the service APIs' shape. Not here: the
same groups as a ruler's clients ask for them (`ruler.py`), backtests (`backtest.py`), rules as they stand (`watch.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import JSON
from vedette.api.endpoint import Endpoint, Handler, Param, answering
from vedette.api.params import query_of, rfc3339, yaml_of
from vedette.api.problems import UNEXPECTED, detail
from vedette.errors import BadInput, VedetteError
from vedette.net.addresses import redacted_url
from vedette.rules.files import RuleErrors
from vedette.rules.managed import Defaults, ManagedRules, Version, VersionConflict, check, shown

MAX_BODY_BYTES = 4 << 20
PATH = "/api/v1/rules"
YAML = "application/yaml"

_AUTHOR_CHARS = 200
_PLACE = re.compile(r"[^:]*:(\d+):(\d+)(?:: (.*))?\Z")


def author_of(request: Request) -> str:
    """Who makes a change: the caller, as they were let in; where nobody is asked who they are, whom `author` or `X-Author` names."""
    who = request.scope.get("vedette.principal")
    if who is not None and who.kind != "open":
        return str(who.name)
    return (query_of(request).text("author") or request.headers.get("x-author") or "anonymous")[:_AUTHOR_CHARS]


def expected_of(request: Request) -> int | None:
    """The version that a change was made to: of `If-Match` (`"3"`, or `*`) or `?version=`; None where it is not said. Raises `BadInput`."""
    text = request.headers.get("if-match", "").strip().removeprefix("W/").strip('"')
    where = "If-Match"
    if not text:
        text, where = query_of(request).text("version"), "query.version"
    if text in ("", "*"):
        return None
    if not text.isdecimal() or len(text) > 15:
        raise BadInput(f"not a version: {text[:40]!r}", where=where, hint="expected a whole number, 0 for a group that must not exist yet")
    return int(text)


@dataclass(frozen=True, slots=True)
class RuleEditing:
    """The operations over the rules of whoever asks."""

    rules_of: Callable[[Mapping[str, Any]], ManagedRules]
    defaults: Callable[[], Defaults]

    async def all(self, request: Request) -> Response:
        """All groups, or those of one namespace."""
        rules = self.rules_of(request)
        found = [self._shown(request, rules, v) for v in rules.all(query_of(request).text("namespace") or None)]
        return _json(200, {"groups": found})

    async def make(self, request: Request) -> Response:
        """Make a group that does not exist yet."""
        return await self._put(request, 0)

    async def one(self, request: Request) -> Response:
        """One group."""
        rules, version = self._found(request)
        return _json(200, self._shown(request, rules, version), {"ETag": f'"{version.version}"'})

    async def change(self, request: Request) -> Response:
        """Make or change the group of a name."""
        return await self._put(request, expected_of(request))

    async def _put(self, request: Request, expected: int | None) -> Response:
        rules = self.rules_of(request)
        text = await yaml_of(request, MAX_BODY_BYTES)
        namespace = request.path_params.get("namespace") or query_of(request).text("namespace") or "default"
        name = request.path_params.get("group")
        if name is not None and check(text, namespace, defaults=self.defaults()).name != name:
            raise BadInput("not the name in the path", where="name", hint=f"expected {name!r}")
        version = await rules.put(namespace, text, author=author_of(request), expected=expected)
        status = 201 if version.version == 1 else 200
        return _json(status, self._shown(request, rules, version), {"ETag": f'"{version.version}"'})

    async def delete(self, request: Request) -> Response:
        """Delete a group; its versions stay readable."""
        rules = self.rules_of(request)
        namespace, name = request.path_params["namespace"], request.path_params["group"]
        await rules.delete(namespace, name, author=author_of(request), expected=expected_of(request))
        return Response(status_code=204)

    async def versions(self, request: Request) -> Response:
        """What was said by whom, the newest first."""
        found = self.rules_of(request).history(request.path_params["namespace"], request.path_params["group"])
        return _json(200, {"versions": [_version(request, v) for v in found]})

    async def validate(self, request: Request) -> Response:
        """Whether a rule file, or a group, would be taken, with every mistake."""
        text = await yaml_of(request, MAX_BODY_BYTES)
        try:
            groups = _groups_of(text, self.defaults())
        except RuleErrors as errors:
            return _json(200, {"valid": False, "errors": [_mistake(e) for e in errors.errors]})
        except BadInput as error:
            return _json(200, {"valid": False, "errors": [_mistake(error)]})
        rules = [{"group": g.name, "kind": r.kind, "name": r.name, "expr": r.shown} for g in groups for r in g.rules]
        return _json(200, {"valid": True, "errors": [], "rules": rules})

    async def export(self, request: Request) -> Response:
        """All groups, or those of a namespace, as a rule file."""
        text = self.rules_of(request).export(query_of(request).text("namespace") or None)
        return Response(text, media_type=YAML, headers={"Content-Disposition": 'attachment; filename="rules.yml"'})

    def _found(self, request: Request) -> tuple[ManagedRules, Version]:
        rules = self.rules_of(request)
        return rules, rules.get(request.path_params["namespace"], request.path_params["group"])

    @staticmethod
    def _shown(request: Request, rules: ManagedRules, version: Version) -> dict[str, Any]:
        found = shown(version, rules.group(version.namespace, version.name))
        return {**found, "group": _for(request, found["group"]), "changed_at": rfc3339(version.changed_at / 1000)}


def _groups_of(text: bytes, defaults: Defaults) -> list[Any]:
    """The groups of a rule file, or the one of a group's document."""
    from vedette import configfile
    from vedette.rules.files import parse

    node = configfile.compose(text, name="body")
    plain = configfile.plain(node) if node is not None else {}
    if isinstance(plain, dict) and "groups" in plain:
        return parse(
            text,
            name="body",
            interval_ms=defaults.interval_ms,
            query_offset_ms=defaults.query_offset_ms,
            features=defaults.features,
        )
    return [check(text, "default", defaults=defaults)]


def _for(request: Request, group: dict[str, Any]) -> dict[str, Any]:
    """A group's document as one may see it: the address of a webhook is a secret to those who may not change rules."""
    who, notify = request.scope.get("vedette.principal"), group.get("notify")
    if who is None or who.may("alerts") or not isinstance(notify, dict) or not notify.get("webhook"):
        return group
    return {**group, "notify": {**notify, "webhook": redacted_url(notify["webhook"], hide_path=True)}}


def _version(request: Request, version: Version) -> dict[str, Any]:
    return {
        "version": version.version,
        "author": version.author,
        "changed_at": rfc3339(version.changed_at / 1000),
        "deleted": not version.document,
        "group": _for(request, version.plain) if version.document else None,
    }


def _mistake(error: BadInput) -> dict[str, str]:
    return {"where": error.where, "problem": error.problem, "hint": error.hint}


def _json(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, media_type=JSON, headers=dict(headers or {}))


def refused(error: VedetteError) -> Response:
    """As the service APIs refuse; somebody else's change in between is a 409."""
    if isinstance(error, VersionConflict):
        return _json(409, {"detail": str(error)})
    if isinstance(error, BadInput) and (found := _PLACE.match(error.where)):
        line, column, path = found.groups()
        loc = ["body", *(int(p) if p.isdecimal() else p for p in re.findall(r"[^.\[\]]+", path or ""))]
        message = f"line {line}, column {column}: {error.problem}" + (f" ({error.hint})" if error.hint else "")
        return _json(422, {"detail": [{"loc": loc, "msg": message, "type": "value_error"}]})
    return detail(error)


_RULE = {"type": "object", "properties": {"alert": {"type": "string"}, "record": {"type": "string"}, "expr": {"type": "string"}}}
_GROUP = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "interval": {"type": "string"}, "rules": {"type": "array", "items": _RULE}},
    "examples": [{"name": "web", "interval": "30s", "rules": [{"alert": "Down", "expr": "up == 0", "for": "5m"}]}],
}
_BODY = {"content": {JSON: {"schema": _GROUP}, YAML: {"schema": _GROUP}}, "required": True}
_FILE = {"content": {JSON: {"schema": {"type": "object"}}, YAML: {"schema": {"type": "object"}}}, "required": True}


def endpoints(room: RuleEditing) -> list[Endpoint]:
    """The operations of this room."""

    def one(path: str, handler: Handler, about: str, method: str = "GET", **more: Any) -> Endpoint:
        answered = answering(handler, refused, lambda: _json(500, {"detail": UNEXPECTED}))
        return Endpoint(PATH + path, answered, about, (method,), tag="rules", **more)

    namespace = Param("namespace", "text", "One namespace only.")
    author = Param("author", "text", "Who makes the change, where nobody is asked who they are.")
    version = Param("version", "integer", "The version that the change was made to, as `If-Match`; 0: the group must not exist yet.")
    group = "/managed/{namespace}/{group}"
    return [
        one("/managed", room.all, "Rule groups made over the API", params=(namespace,)),
        one("/managed", room.make, "Make a rule group", "POST", body=_BODY, params=(namespace, author)),
        one("/managed/{namespace}", room.make, "Make a rule group in a namespace", "POST", body=_BODY, params=(author,)),
        one(group, room.one, "One rule group made over the API"),
        one(group, room.change, "Make or change a rule group", "PUT", body=_BODY, params=(version, author)),
        one(group, room.delete, "Delete a rule group", "DELETE", params=(version, author)),
        one(f"{group}/versions", room.versions, "The versions of a rule group, with their authors"),
        one("/validate", room.validate, "Check a rule group or file without making it", "POST", body=_FILE),
        one("/export", room.export, "Rules made over the API as a rule file", params=(namespace,), media=YAML),
    ]
