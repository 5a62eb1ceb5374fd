"""Serves the browser UI: one HTML page for every client route, also for those that are none, and its static files.

The files are read once, when `routes` is called, and answered from memory with their compressed twin, so that no
request touches the disk. Pages name their files by a digest of all of them (`/static/DIGEST/js/main.js`): these are
cached for ever, while the page itself is asked for again each time and costs a 304. Not here: data. The pages
fetch that from the Prometheus-compatible API of the same origin, as any other client does.
"""

from __future__ import annotations

import gzip
import hashlib
import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from string import Template

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from vedette.web import login
from vedette.web.login import Sessions

PAGES = ("/", "/explore", "/alerts", "/logs", "/targets", "/status")
"""The paths at which the UI has a page."""

FORMER_PAGES = ("/graph", "/query", "/rules", "/service-discovery", "/tsdb-status", "/config", "/flags", "/runtime-info")
"""Where Prometheus has its pages: links to them, from alerts say, open the page that answers the same question."""

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}

_SECURITY = {
    # No inline script or style anywhere, and no string ever becomes markup: what a label holds stays text.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}

_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    packed: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, body: bytes, media_type: str) -> _File:
        # `mtime=0`, or the same file would compress to other bytes at each start.
        return cls(body, gzip.compress(body, mtime=0), media_type, hashlib.sha256(body).hexdigest()[:16])


@dataclass(frozen=True, slots=True)
class Pages:
    """The UI's routes, and what a browser is shown where there is none: the page, which says so and leads home."""

    routes: list[BaseRoute]
    missing: Callable[[Request], Response]


def pages(sessions: Sessions | None = None) -> Pages:
    """The UI: `PAGES` and `FORMER_PAGES` answer the page, `/static/...` its files, `/login` the form of `sessions`.

    Its routes belong after the API's. Behind a proxy that serves Vedette under a prefix, the ASGI `root_path`
    becomes the base of all links in the page.
    """
    texts = dict(_walk(resources.files("vedette.web") / "static"))
    template, login_template = (Template(texts.pop(name).decode()) for name in ("index.html", "login.html"))
    files = {path: _File.of(body, _MEDIA_TYPES[PurePosixPath(path).suffix]) for path, body in texts.items()}
    digest = _digest(files)

    def drawn(request: Request) -> _File:
        return _page(template, files, digest=digest, base=request.scope.get("root_path", ""))

    async def page(request: Request) -> Response:
        return _answer(request, drawn(request), _ASK_AGAIN)

    def missing(request: Request) -> Response:
        # Whole, and never kept: the page has the same bytes at each path, but this path may have another answer tomorrow.
        return Response(drawn(request).body, 404, headers={**_SECURITY, "Cache-Control": "no-store"}, media_type=_MEDIA_TYPES[".html"])

    async def static(request: Request) -> Response:
        path = request.path_params["path"]
        current = path.startswith(digest + "/")
        file = files.get(path.removeprefix(digest + "/"))
        if file is None:
            return PlainTextResponse("no such file; if Vedette was upgraded, reload the page\n", 404, headers=_SECURITY)
        return _answer(request, file, _FOREVER if current else _ASK_AGAIN)

    def login_page(request: Request, texts: dict[str, str]) -> Response:
        root = html.escape(request.scope.get("root_path", "").rstrip("/"), quote=True)
        text = login_template.substitute(base=root, static=f"{root}/static/{digest}", **texts)
        return Response(text, headers=_SECURITY, media_type=_MEDIA_TYPES[".html"])

    routes = [
        *(login.routes(login.Login(sessions, login_page)) if sessions else ()),
        *(Route(path, page, name=f"ui:{path}", include_in_schema=False) for path in (*PAGES, *FORMER_PAGES)),
        Route("/static/{path:path}", static, name="ui:static", include_in_schema=False),
    ]
    return Pages(routes, missing)


def _walk(folder: Traversable, prefix: str = "") -> list[tuple[str, bytes]]:
    """All files with a type we serve, as (path below `static`, content), in order of the path."""
    found: list[tuple[str, bytes]] = []
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        elif PurePosixPath(entry.name).suffix in _MEDIA_TYPES:
            found.append((prefix + entry.name, entry.read_bytes()))
    return found


def _digest(files: Mapping[str, _File]) -> str:
    """One name for this exact set of files."""
    return hashlib.sha256("".join(f"{path}={file.etag};" for path, file in files.items()).encode()).hexdigest()[:16]


def _page(template: Template, files: Mapping[str, _File], *, digest: str, base: str) -> _File:
    """The page for a base path, naming every module up front so that the browser fetches them in one round."""
    root = html.escape(base.rstrip("/"), quote=True)
    preloads = "\n".join(
        f'  <link rel="modulepreload" href="{root}/static/{digest}/{path}">'
        for path in files
        if path.endswith(".js") and path != "js/theme.js"
    )
    text = template.substitute(base=root, static=f"{root}/static/{digest}", preloads=preloads)
    return _File.of(text.encode(), _MEDIA_TYPES[".html"])


def _answer(request: Request, file: _File, cache: str) -> Response:
    packed = "gzip" in request.headers.get("accept-encoding", "") and len(file.packed) < len(file.body)
    # Each representation has its own tag: a strong tag promises equal bytes.
    etag = f'"{file.etag}-gz"' if packed else f'"{file.etag}"'
    headers = {**_SECURITY, "Cache-Control": cache, "ETag": etag, "Vary": "Accept-Encoding"}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if etag in known:
        return Response(status_code=304, headers=headers)
    if packed:
        headers["Content-Encoding"] = "gzip"
    return Response(file.packed if packed else file.body, headers=headers, media_type=file.media_type)
