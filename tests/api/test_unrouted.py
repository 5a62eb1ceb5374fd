"""What no operation answers, in the shape of the API below whose path it is."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from vedette.api.endpoint import Endpoint, routes
from vedette.api.unrouted import application


async def _echo(request: Request) -> Response:
    return Response(request.method, media_type="text/plain")


def _endpoints() -> list[Endpoint]:
    paths = ("/api/v1/query", "/api/v2/silences", "/loki/api/v1/push", "/_bulk", "/metrics/track", "/api/v1/access/users/{name}")
    return [
        *(Endpoint(path, _echo, "", ("GET",)) for path in paths),
        *(Endpoint(path, _echo, "", ("POST", "PUT")) for path in paths),
        Endpoint("/api/v1/access/users/{name}", _echo, "", ("DELETE",)),
    ]


def _client(*, service: bool = False) -> httpx.AsyncClient:
    app = application(routes(_endpoints()), service=service)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vedette")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/nope", {"status": "error", "errorType": "not_found", "error": "no such path: /api/v1/nope"}),
        ("/nope", {"status": "error", "errorType": "not_found", "error": "no such path: /nope"}),
        ("/api/v1/query/", {"status": "error", "errorType": "not_found", "error": "no such path: /api/v1/query/"}),
        ("/api/v2/nope", {"code": 404, "message": "path /api/v2/nope was not found"}),
        ("/_nope", {"error": "no handler found for uri [/_nope] and method [GET]", "status": 404}),
        ("/metrics/nope", {"detail": "Not Found"}),
        ("/api/v1/monitoring/nope", {"detail": "Not Found"}),
    ],
)
async def test_a_path_that_is_not_there(path: str, body: Any) -> None:
    async with _client() as client:
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (404, body)
        assert "allow" not in answer.headers
        assert (await client.options(path)).status_code == 404
    async with _client(service=True) as client:
        assert (await client.get(path)).json() == {"detail": "Not Found"}


@pytest.mark.parametrize(
    ("path", "method", "accept", "shown"),
    [
        ("/explroe", "GET", "text/html,application/xhtml+xml,*/*;q=0.8", True),
        ("/metrics/nope", "GET", "text/html", True),
        ("/explroe", "HEAD", "text/html", True),
        ("/explroe", "GET", "*/*", False),  # curl, and every client that takes what comes
        ("/explroe", "GET", "application/json, text/html;q=0.1", False),
        ("/explroe", "POST", "text/html", False),
        ("/api/v1/qurey", "GET", "text/html", False),  # who tries an API by hand sees what a client is told
        ("/api/v2/nope", "GET", "text/html", False),
        ("/loki/api/v1/nope", "GET", "text/html", False),
        ("/_nope", "GET", "text/html", False),
    ],
)
async def test_who_looks_for_a_page_is_shown_one(path: str, method: str, accept: str, shown: bool) -> None:
    def page(request: Request) -> Response:
        return Response(f"<p>no page at {request.url.path}", 404, media_type="text/html")

    app = application(routes(_endpoints()), service=False, missing=page)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vedette", headers={"accept": accept}) as client:
        answer = await client.request(method, path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html") is shown
    assert method == "HEAD" or (answer.text == f"<p>no page at {path}") is shown


async def test_a_method_that_a_path_lacks_is_no_missing_page() -> None:
    app = application(routes([Endpoint("/form", _echo, "", ("POST",))]), service=False, missing=lambda _: Response("page", 404))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vedette") as client:
        answer = await client.get("/form", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")


async def test_loki_says_so_in_plain_text() -> None:
    async with _client() as client:
        answer = await client.get("/loki/api/v1/nope")
        assert (answer.status_code, answer.text, answer.headers["content-type"]) == (
            404,
            "404 page not found\n",
            "text/plain; charset=utf-8",
        )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/api/v1/query",
            {
                "status": "error",
                "errorType": "bad_data",
                "error": "method PATCH is not allowed here: expected GET, HEAD, OPTIONS, POST, PUT",
            },
        ),
        ("/api/v2/silences", {"code": 405, "message": "method PATCH is not allowed, but [GET,HEAD,OPTIONS,POST,PUT] are"}),
        (
            "/_bulk",
            {"error": "Incorrect HTTP method for uri [/_bulk] and method [PATCH], allowed: [GET, HEAD, OPTIONS, POST, PUT]", "status": 405},
        ),
        ("/metrics/track", {"detail": "Method Not Allowed"}),
    ],
)
async def test_a_method_that_a_path_does_not_have(path: str, body: Any) -> None:
    async with _client() as client:
        answer = await client.patch(path)
        assert (answer.status_code, answer.json()) == (405, body)
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST, PUT", "of all routes of the path, not of the first alone"


async def test_options_tells_the_methods_and_head_is_a_get_without_a_body() -> None:
    async with _client() as client:
        asked = await client.options("/api/v1/access/users/bob")
        assert (asked.status_code, asked.text, asked.headers["allow"]) == (204, "", "DELETE, GET, HEAD, OPTIONS, POST, PUT")
        assert (await client.delete("/api/v1/access/users/bob")).text == "DELETE"
        assert (await client.put("/api/v1/access/users/bob")).text == "PUT"
        assert (await client.head("/api/v1/query")).status_code == 200
