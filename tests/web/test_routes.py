"""The page and its files as a browser is given them: policy, caching, and that nothing named is missing."""

from __future__ import annotations

import asyncio
import gzip
import posixpath
import re
from importlib import resources
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vedette.web.routes import FORMER_PAGES, PAGES, pages

_STATIC = resources.files("vedette.web") / "static"


class Client:
    """The routes alone, asked over ASGI."""

    def __init__(self, app: Starlette | None = None, root_path: str = "") -> None:
        self._transport = httpx.ASGITransport(app or Starlette(routes=pages().routes), root_path=root_path)

    def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://ui") as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(ask())

    def get(self, path: str, **arguments: Any) -> httpx.Response:
        return self.ask("GET", path, **arguments)


@pytest.fixture(scope="module")
def client() -> Client:
    return Client()


@pytest.mark.parametrize("path", [*PAGES, *FORMER_PAGES])
def test_every_page_path_answers_the_page(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert '<div id="app">' in answer.text


def test_where_there_is_no_page_the_page_says_so_and_is_not_kept() -> None:
    """The browser's own router sees the path; what a proxy or the browser kept would be shown once there is something."""
    ui = pages()

    async def nowhere(request: Request) -> Response:
        return ui.missing(request)

    app = Starlette(routes=[*ui.routes, Route("/{path:path}", nowhere)])
    client = Client(app, root_path="/vedette")
    answer = client.get("/vedette/explroe", headers={"accept-encoding": "gzip", "if-none-match": client.get("/vedette/").headers["etag"]})
    assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")
    assert answer.headers["content-security-policy"] == client.get("/vedette/").headers["content-security-policy"]
    assert '<div id="app">' in answer.text and '<meta name="base" content="/vedette">' in answer.text


def test_the_policy_lets_no_inline_script_or_foreign_host_in(client: Client) -> None:
    policy = client.get("/").headers["content-security-policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'self'"
    assert "unsafe" not in policy
    assert directives["require-trusted-types-for"] == "'script'"
    text = client.get("/").text
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text)
    assert " style=" not in text


def test_files_named_by_the_page_are_cached_for_ever(client: Client) -> None:
    named = re.findall(r'(?:src|href)="(/static/[^"]+)"', client.get("/").text)
    assert len(named) > 20
    for path in named:
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_itself_is_asked_for_again_and_costs_a_304(client: Client) -> None:
    first = client.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/", headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert client.get("/", headers={"If-None-Match": '"other"'}).status_code == 200


def test_a_file_without_the_digest_is_revalidated(client: Client) -> None:
    assert client.get("/static/js/main.js").headers["cache-control"] == "no-cache"


def test_compressed_and_plain_are_the_same_text_under_different_tags(client: Client) -> None:
    packed = client.get("/static/vendor/uplot.js", headers={"Accept-Encoding": "gzip"})
    plain = client.get("/static/vendor/uplot.js", headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content == (_STATIC / "vendor" / "uplot.js").read_bytes()
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert int(packed.headers["content-length"]) == len(gzip.compress(plain.content, mtime=0))


@pytest.mark.parametrize("path", ["js/nothing.js", "../routes.py", "%2e%2e/routes.py", "", "js", "vendor/LICENSE.htm", "0000/js/main.js"])
def test_what_is_not_a_file_of_the_ui_is_not_there(client: Client, path: str) -> None:
    assert client.get(f"/static/{path}").status_code == 404


def test_head_is_answered_and_post_is_not(client: Client) -> None:
    assert client.ask("HEAD", "/").status_code == 200
    assert client.ask("POST", "/").status_code == 405


def test_a_prefix_becomes_the_base_of_all_links() -> None:
    text = Client(root_path='/watch"<x').get('/watch"<x/').text
    assert 'content="/watch&quot;&lt;x"' in text
    assert 'src="/watch&quot;&lt;x/static/' in text


def test_every_import_names_a_file_that_is_served(client: Client) -> None:
    named = re.findall(r'"/static/[0-9a-f]+/((?:js|vendor)/[^"]+\.js)"', client.get("/").text)
    seen = set()
    for path in named:
        for target in re.findall(r"""\b(?:import|export)\b[^;"'()]*\bfrom\s*"([^"]+)\"""", client.get(f"/static/{path}").text):
            assert target.startswith("."), f"{path} imports {target!r}, which no browser can resolve"
            resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            seen.add(resolved)
            assert client.get(f"/static/{resolved}").status_code == 200, f"{path} imports {target}"
    # Preloaded is what is imported, no more: the entry and the theme script are named by the page itself.
    assert seen | {"js/main.js", "js/theme.js"} == set(named)


def test_no_module_turns_text_into_markup(client: Client) -> None:
    named = re.findall(r'"/static/[0-9a-f]+/(js/[^"]+\.js)"', client.get("/").text)
    for path in set(named):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", client.get(f"/static/{path}").text
        ), path


def test_vendored_files_are_those_the_readme_names() -> None:
    readme = (_STATIC / "vendor" / "README.md").read_text()
    for entry in (_STATIC / "vendor").iterdir():
        assert entry.name == "README.md" or f"`{entry.name}`" in readme, entry.name
