"""`/login` and `/logout`: a session for a name and a password (or an API key), for people with a browser.

The form carries a token that a cookie of this page must match, so that no other page can log its reader in as somebody
else. Works without JavaScript. Not here: what a session may do, and its end by time (`access`).
"""

from __future__ import annotations

import hmac
import html
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from vedette.access.identity import COOKIE
from vedette.errors import LimitExceeded, VedetteError

LOGIN_COOKIE = "vedette_login"
_MOST_BYTES = 16 << 10

Page = Callable[[Request, dict[str, str]], Response]


class Sessions(Protocol):
    """What logging in needs of the rest of the house."""

    async def begin(self, name: str, password: str, address: str) -> str | None:
        """The secret of a new session, None where name and password (or key) prove nobody. Raises `LimitExceeded`."""
        ...

    async def end(self, secret: str) -> None:
        """End a session."""
        ...

    @property
    def lifetime_s(self) -> int:
        """How long a session lasts, in seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Login:
    """The two operations. `page` renders the form with the given texts."""

    sessions: Sessions
    page: Page

    async def form(self, request: Request) -> Response:
        """The page with the form."""
        return self._page(request, next_=_local(request.query_params.get("next", "")))

    async def enter(self, request: Request) -> Response:
        """Check what the form sends; to the page that was asked for, with a session, or back to the form with the reason."""
        fields = dict(parse_qsl((await _body(request)).decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20))
        name, next_ = fields.get("username", ""), _local(fields.get("next", ""))
        known = request.cookies.get(LOGIN_COOKIE, "")
        if not known or not hmac.compare_digest(known.encode(), fields.get("csrf", "").encode()):
            return self._page(request, "This form is too old: please try once more.", name=name, next_=next_, status=403)
        address = request.client.host if request.client else ""
        try:
            secret = await self.sessions.begin(name, fields.get("password", ""), address)
        except LimitExceeded as error:
            wait = f" Try again in {error.retry_after:.0f} s." if error.retry_after else ""
            return self._page(request, f"{str(error).capitalize()}.{wait}", name=name, next_=next_, status=429)
        except VedetteError as error:
            return self._page(request, str(error), name=name, next_=next_, status=503)
        if secret is None:
            return self._page(request, "Name or password is wrong.", name=name, next_=next_, status=401)
        response = RedirectResponse(_root(request) + next_, 303)
        _set(response, request, COOKIE, secret, max_age=self.sessions.lifetime_s)
        response.delete_cookie(LOGIN_COOKIE, path=_root(request) + "/login")
        return response

    async def leave(self, request: Request) -> Response:
        """End the session, and show the form."""
        if secret := request.cookies.get(COOKIE, ""):
            await self.sessions.end(secret)
        response = RedirectResponse(_root(request) + "/login", 303)
        response.delete_cookie(COOKIE, path=_root(request) or "/")
        return response

    def _page(self, request: Request, problem: str = "", *, name: str = "", next_: str, status: int = 200) -> Response:
        csrf = secrets.token_urlsafe(32)
        shown = f'<p class="problem" role="alert">{html.escape(problem)}</p>' if problem else ""
        response = self.page(request, {"problem": shown, "csrf": csrf, "username": html.escape(name), "next": html.escape(next_)})
        response.status_code = status
        _set(response, request, LOGIN_COOKIE, csrf, max_age=3600, path="/login")
        response.headers["Cache-Control"] = "no-store"
        return response


def routes(login: Login) -> list[BaseRoute]:
    """`GET` and `POST /login`, `POST /logout`."""

    def route(path: str, handler: Callable[[Request], Awaitable[Response]], method: str) -> Route:
        return Route(path, handler, methods=[method], name=f"ui:{method}:{path}", include_in_schema=False)

    return [route("/login", login.form, "GET"), route("/login", login.enter, "POST"), route("/logout", login.leave, "POST")]


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            return b""
    return body


def _root(request: Request) -> str:
    root: str = request.scope.get("root_path", "")
    return root.rstrip("/")


def _local(text: str) -> str:
    """A path of this server, `/` for anything that might lead elsewhere."""
    safe = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable() and "\\" not in text
    return text if safe and not text.startswith(("/login", "/logout")) else "/"


def _set(response: Response, request: Request, name: str, value: str, *, max_age: int, path: str = "") -> None:
    # Lax, not strict: a link in an alert must find its reader logged in. What changes something is checked by the guard.
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, max_age=max_age, path=_root(request) + path or "/", secure=secure, httponly=True, samesite="lax")
