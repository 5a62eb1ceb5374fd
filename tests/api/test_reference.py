"""`/docs`: what the description says, as a page that needs nothing from elsewhere and runs no script."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.responses import Response

from vedette.api import openapi, reference
from vedette.api.endpoint import Endpoint, Param, routes


async def nothing(request: Any) -> Response:
    return Response()


ODD = "<script>alert('x')</script>"
SCHEMA = {"type": "object", "examples": [{"name": ODD}]}
ENDPOINTS = [
    Endpoint("/a", nothing, f"Ask {ODD}", ("GET",), (Param("q", "text", f"What {ODD}.", required=True),), answer=SCHEMA, tag="first"),
    Endpoint(
        "/a",
        nothing,
        "Make",
        ("POST",),
        body={"content": {"application/json": {"schema": {"type": "object"}, "example": {"size": 7}}}},
        extra={"description": "Makes one.", "status": 201, "responses": {"422": {"description": "What is wrong."}}},
        tag="second",
    ),
]


class Elements(HTMLParser):
    """The elements of a page, and whether each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def text() -> str:
    return reference.page(openapi.document(ENDPOINTS, version="1.2.3"))


def test_it_is_well_formed_and_runs_nothing(text: str) -> None:
    found = Elements(text)
    assert found.open == []
    assert "script" not in found.names
    assert 'name="viewport"' in text, "or a phone shows it as wide as a desk"
    assert ODD not in text
    assert set(found.links) == {"#first", "#second", "openapi.json"}, "nothing from elsewhere"


def test_it_says_what_the_description_says(text: str) -> None:
    for said in ("Vedette 1.2.3", "Makes one.", "What is wrong.", "&quot;size&quot;: 7", "<td>422</td>", "Answer 201", "query, required"):
        assert said in text, said
    assert text.index('id="first"') < text.index('id="second"')


async def test_it_is_served_with_a_policy_that_lets_only_its_own_style(serve: Any) -> None:
    asked = []

    def describe() -> Any:
        asked.append(1)
        return openapi.document(ENDPOINTS, version="1.2.3")

    client = serve([reference.route(describe), *routes(ENDPOINTS)])
    assert asked == [], "made when it is asked for"
    answers = [await client.get("/docs") for _ in range(2)]
    assert (answers[0].status_code, answers[0].headers["content-type"], len(asked)) == (200, "text/html; charset=utf-8", 1)
    style = re.search("<style>(.*?)</style>", answers[1].text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = answers[0].headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert f"style-src 'sha256-{digest}'" in policy
