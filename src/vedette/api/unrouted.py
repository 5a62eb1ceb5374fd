"""What no operation answers: a path that is not there, a method that a path does not have, `OPTIONS` where nobody shares answers.

Each in the shape in which the APIs below that path refuse; who looks for a page at a path that is below none of them is shown one.
A path's methods are those of all its routes, so `Allow` names every one.
Not here: who may ask (`access.guard`), the preflights of operations that pages of other origins may read (`answers.finishing`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from vedette.api.problems import prometheus_body

Shape = Callable[[Request, int, Sequence[str]], Response]
"""An answer of a status (404, 405), given the methods that there are."""

_SERVICES = (
    "/api/metrics",
    "/api/v1/alerts",
    "/api/v1/metrics",
    "/api/v1/monitoring",
    "/api/v1/notifications",
    "/api/v1/receivers",
    "/api/v1/rules/",
    "/api/v1/services",
    "/api/v1/silences",
    "/api/v1/templates",
    "/metrics",
)

_APIS = ("/api/", "/loki/", "/config/v1/rules", "/v1/", "/influx/", "/_")
"""Below these nothing is a page."""


def application(routes: Sequence[BaseRoute], *, service: bool, missing: Callable[[Request], Response] | None = None) -> Starlette:
    """The routes, and answers to all that is none of theirs; `service`: on the listener of a service API, whose shape all have.

    `missing` answers 404 to a browser that asks for a page.
    """

    async def stray(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException), "registered for these alone"
        methods = _methods(routes, request) if error.status_code in (404, 405) else []
        if methods and request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": ", ".join(methods)})
        if missing is not None and error.status_code == 404 and _wants_page(request):
            return missing(request)
        response = (_detail if service else _shape_of(request.url.path))(request, error.status_code, methods)
        if methods:
            response.headers["Allow"] = ", ".join(methods)
        return response

    # A path with a slash too many is no other's: a client that is sent elsewhere may lose its body or its credential there.
    app = Starlette(routes=list(routes), exception_handlers={HTTPException: stray})
    app.router.redirect_slashes = False
    return app


def _methods(routes: Sequence[BaseRoute], request: Request) -> list[str]:
    """The methods of a path, in order; none where it is not there."""
    found: set[str] = set()
    for route in routes:
        if isinstance(route, Route) and route.methods and route.matches(request.scope)[0] != Match.NONE:
            found |= route.methods
    return sorted(found | {"OPTIONS"}) if found else []


def _wants_page(request: Request) -> bool:
    """Whether it is a person who looks for a page. Below the APIs it is one who tries those, and wants to see what a client is told."""
    asked = request.method in ("GET", "HEAD") and request.headers.get("accept", "").startswith("text/html")
    return asked and not request.url.path.startswith(_APIS)


def _shape_of(path: str) -> Shape:
    if path.startswith("/api/v2/"):
        return _alertmanager
    if path.startswith(("/loki/", "/config/v1/rules", "/v1/", "/api/v1/otlp/")):
        return _plain
    if path.startswith("/_"):
        return _elastic
    return _detail if path.startswith(_SERVICES) else _prometheus


def _prometheus(request: Request, status: int, methods: Sequence[str]) -> Response:
    if status == 404:
        return prometheus_body(404, "not_found", f"no such path: {request.url.path}")
    return prometheus_body(status, "bad_data", f"method {request.method} is not allowed here: expected {', '.join(methods)}")


def _detail(request: Request, status: int, methods: Sequence[str]) -> Response:
    return _json(status, {"detail": "Not Found" if status == 404 else "Method Not Allowed"})


def _alertmanager(request: Request, status: int, methods: Sequence[str]) -> Response:
    path = request.url.path
    wrong = f"path {path} was not found" if status == 404 else f"method {request.method} is not allowed, but [{','.join(methods)}] are"
    return _json(status, {"code": status, "message": wrong})


def _plain(request: Request, status: int, methods: Sequence[str]) -> Response:
    return Response("404 page not found\n" if status == 404 else "Method Not Allowed\n", status, media_type="text/plain")


def _elastic(request: Request, status: int, methods: Sequence[str]) -> Response:
    uri, method = request.url.path, request.method
    if status == 404:
        return _json(404, {"error": f"no handler found for uri [{uri}] and method [{method}]", "status": 404})
    wrong = f"Incorrect HTTP method for uri [{uri}] and method [{method}], allowed: [{', '.join(methods)}]"
    return _json(status, {"error": wrong, "status": status})


def _json(status: int, body: object) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
