"""`/openapi.json`: an OpenAPI 3.1 description of the endpoints that are served, made from the endpoints themselves.

Any OpenAPI viewer reads the file. Not here: the page `/docs` (`reference.py`), made from it; the usual ones load their scripts from a
content network, and Vedette serves nothing that does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, Param

_SCHEMAS: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "time": {"oneOf": [{"type": "number"}, {"type": "string", "format": "date-time"}], "description": "Unix seconds or RFC 3339."},
    "duration": {"oneOf": [{"type": "number"}, {"type": "string"}], "description": "Seconds, or a duration such as 1h30m."},
    "patience": {
        "oneOf": [{"type": "number", "minimum": 1}, {"type": "string", "pattern": "^[1-9][0-9]{0,5}(s|m|h)$"}],
        "description": "Seconds, or a duration such as 30s.",
    },
    "integer": {"type": "integer", "minimum": 0},
    "boolean": {"type": "boolean"},
    "texts": {"type": "array", "items": {"type": "string"}},
}
_IN_PATH = re.compile(r"{(\w+)(?::\w+)?}")
_FORM = "application/x-www-form-urlencoded"


def document(endpoints: Sequence[Endpoint], *, version: str) -> dict[str, Any]:
    """The description as plain data; operations are named by method and path."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operations = paths.setdefault(_IN_PATH.sub(r"{\1}", endpoint.path), {})
        for method in endpoint.methods:
            operations[method.lower()] = _operation(endpoint, method)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Vedette", "version": version, "license": {"name": "MIT", "identifier": "MIT"}},
        "paths": paths,
        "components": {"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"bearer": []}],
    }


def _operation(endpoint: Endpoint, method: str) -> dict[str, Any]:
    name = re.sub(r"\W+", "_", f"{method.lower()}_{endpoint.path}").strip("_")
    in_path = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in _IN_PATH.findall(endpoint.path)]
    in_form = method == "POST" and endpoint.body is None and bool(endpoint.params)
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": endpoint.about,
        "tags": [endpoint.tag],
        "parameters": in_path if in_form else in_path + [_parameter(p) for p in endpoint.params],
        "responses": _responses(endpoint),
    }
    if endpoint.extra and "description" in endpoint.extra:
        operation["description"] = endpoint.extra["description"]
    if in_form:
        operation["requestBody"] = {"content": {_FORM: {"schema": _form(endpoint.params)}}}
    elif endpoint.body is not None:
        operation["requestBody"] = endpoint.body
    return operation


def _parameter(param: Param) -> dict[str, Any]:
    shown = {"name": param.name, "in": "query", "description": param.about, "required": param.required, "schema": _SCHEMAS[param.kind]}
    return {**shown, "explode": True} if param.kind == "texts" else shown


def _form(params: Sequence[Param]) -> dict[str, Any]:
    required = [p.name for p in params if p.required]
    return {"type": "object", "properties": {p.name: _SCHEMAS[p.kind] for p in params}, **({"required": required} if required else {})}


def _responses(endpoint: Endpoint) -> Mapping[str, Any]:
    answer = {"content": {endpoint.media: {"schema": endpoint.answer or {}}}}
    extra = endpoint.extra or {}
    success = {str(extra.get("status", 200)): {"description": "Success.", **answer}}
    return {**success, **extra.get("responses", {}), "default": {"description": "A refusal, which says what is wrong and where."}}


def endpoint(endpoints: Sequence[Endpoint], *, version: str) -> Endpoint:
    """The operation that serves the description of `endpoints`."""
    body = orjson.dumps(document(endpoints, version=version))

    async def described(request: Request) -> Response:
        return Response(body, media_type="application/json")

    return Endpoint("/openapi.json", described, "This description", tag="operations")
