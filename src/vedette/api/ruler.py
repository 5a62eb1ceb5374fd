"""`/config/v1/rules`: rule groups made over the API, in the dialect of Mimir's ruler, so that Grafana and `mimirtool` edit them.

Groups travel as YAML. Refusals are plain text, as that ruler's are. Not here: the groups themselves (`rules/managed.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import yaml
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import JSON
from vedette.api.endpoint import Endpoint, Handler, answering
from vedette.api.params import yaml_of
from vedette.api.problems import UNEXPECTED, problem
from vedette.api.rules import MAX_BODY_BYTES, YAML, author_of
from vedette.errors import NotFound, VedetteError
from vedette.rules.managed import ManagedRules, Version

PATH = "/config/v1/rules"


@dataclass(frozen=True, slots=True)
class Ruler:
    """The operations over the rules of whoever asks."""

    rules_of: Callable[[Mapping[str, Any]], ManagedRules]

    async def all(self, request: Request) -> Response:
        """All groups by namespace."""
        return _yaml(_by_namespace(self.rules_of(request).all()))

    async def namespace(self, request: Request) -> Response:
        """The groups of one namespace."""
        name = request.path_params["namespace"]
        found = self.rules_of(request).all(name)
        if not found:
            raise NotFound("no rule groups found")
        return _yaml(_by_namespace(found))

    async def group(self, request: Request) -> Response:
        """One group."""
        return _yaml(self.rules_of(request).get(request.path_params["namespace"], request.path_params["group"]).plain)

    async def put(self, request: Request) -> Response:
        """Make or change a group."""
        text = await yaml_of(request, MAX_BODY_BYTES)
        await self.rules_of(request).put(request.path_params["namespace"], text, author=author_of(request))
        return _accepted()

    async def delete(self, request: Request) -> Response:
        """Delete a group."""
        names = request.path_params["namespace"], request.path_params["group"]
        await self.rules_of(request).delete(*names, author=author_of(request))
        return _accepted()

    async def delete_namespace(self, request: Request) -> Response:
        """Delete all groups of a namespace."""
        await self.rules_of(request).delete_namespace(request.path_params["namespace"], author=author_of(request))
        return _accepted()


def _by_namespace(versions: list[Version]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for version in versions:
        found.setdefault(version.namespace, []).append(version.plain)
    return found


def _yaml(content: object) -> Response:
    return Response(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=140), media_type=YAML)


def _accepted() -> Response:
    body = {"status": "success", "data": None, "errorType": "", "error": ""}
    return Response(orjson.dumps(body), 202, media_type=JSON)


def _refused(error: VedetteError) -> Response:
    found = problem(error)
    return Response(f"{found.message}\n", found.status, media_type="text/plain", headers=dict(found.headers))


def endpoints(room: Ruler) -> list[Endpoint]:
    """The operations of this room."""

    def one(path: str, handler: Handler, about: str, method: str = "GET", **more: Any) -> Endpoint:
        broken = Response(f"{UNEXPECTED}\n", 500, media_type="text/plain")
        return Endpoint(PATH + path, answering(handler, _refused, lambda: broken), about, (method,), tag="rules", **more)

    body = {"content": {YAML: {"schema": {"type": "object", "required": ["name"]}}}, "required": True}
    return [
        one("", room.all, "Rule groups made over the API, by namespace", media=YAML),
        one("/{namespace}", room.namespace, "The rule groups of a namespace", media=YAML),
        one("/{namespace}", room.put, "Make or change a rule group", "POST", body=body),
        one("/{namespace}", room.delete_namespace, "Delete the rule groups of a namespace", "DELETE"),
        one("/{namespace}/{group}", room.group, "One rule group", media=YAML),
        one("/{namespace}/{group}", room.delete, "Delete a rule group", "DELETE"),
    ]
