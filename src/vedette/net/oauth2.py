"""OAuth 2.0 tokens by the grant of client credentials, kept until shortly before they expire.

Whoever asks for a token while one is being fetched waits for that one. Not here: HTTP (`client.py`), the settings (`config.py`).
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote_plus, urlencode

from vedette.errors import Undeliverable
from vedette.net.answers import Answer
from vedette.net.config import OAuth2

EARLY_S = 10.0
"""So long before its end a token is used no more: as Go's client has it."""

Post = Callable[[str, bytes, dict[str, str]], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    until: float | None


class Tokens:
    """The tokens of one client. `post` posts a form to the server that gives them, `clock` is a monotonic time in seconds."""

    def __init__(self, config: OAuth2, post: Post, clock: Callable[[], float]) -> None:
        self._config, self._post, self._clock = config, post, clock
        self._token: _Token | None = None
        self._fetching = asyncio.Lock()
        # Servers take the client's name and secret as Basic authentication, or, some of them, only in the form.
        self._in_form = False

    async def header(self) -> str:
        """The Authorization header's value. Raises `Undeliverable` where there is no token to be had, `BadInput` for a bad secret file."""
        async with self._fetching:
            if self._token is None or (self._token.until is not None and self._clock() >= self._token.until):
                self._token = await self._fetched()
            return self._token.header

    def refused(self) -> None:
        """The token that was sent did not open the door: the next request is to have a new one."""
        self._token = None

    async def _fetched(self) -> _Token:
        asked = self._clock()
        answer = await self._asked(in_form=self._in_form)
        if answer.status in (400, 401) and not self._in_form:
            other = await self._asked(in_form=True)
            if other.status == 200:
                self._in_form, answer = True, other
        if not 200 <= answer.status < 300:
            retryable = answer.status >= 500 or answer.status == 429
            raise Undeliverable(f"{answer.url} gives no token: {answer.status} {_said(answer)}", reason="credentials", retryable=retryable)
        try:
            found = json.loads(answer.body)
            token, kind = found["access_token"], found.get("token_type") or "Bearer"
            life = float(found.get("expires_in") or 0)
        except (ValueError, TypeError, KeyError, AttributeError):
            problem = f"{answer.url} gives no token: its answer has no access_token"
            raise Undeliverable(problem, reason="credentials", retryable=True) from None
        if not isinstance(token, str) or not isinstance(kind, str) or not (token + kind).isprintable() or not (token + kind).isascii():
            raise Undeliverable(f"{answer.url} gives no token that a header could hold", reason="credentials", retryable=True)
        scheme = "Bearer" if kind.lower() == "bearer" else kind
        return _Token(f"{scheme} {token}", asked + max(0.0, life - EARLY_S) if life > 0 else None)

    async def _asked(self, *, in_form: bool) -> Answer:
        config = self._config
        form = {"grant_type": "client_credentials", **dict(config.endpoint_params)}
        if config.scopes:
            form["scope"] = " ".join(config.scopes)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if in_form:
            form |= {"client_id": config.client_id, "client_secret": config.secret()}
        else:
            pair = f"{quote_plus(config.client_id)}:{quote_plus(config.secret())}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        return await self._post(config.token_url, urlencode(form).encode(), headers)


def _said(answer: Answer) -> str:
    """What the server said, shortened; it may not repeat our secret to a log for long."""
    text = " ".join(answer.body[:200].decode("utf-8", "replace").split())
    return "".join(c if c.isprintable() else "?" for c in text)
