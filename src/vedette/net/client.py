"""The client: bounded in time, size and redirects; credentials that stay where they belong; errors with a closed reason.

Answers are read whole, up to a limit that also holds for what a compressed body expands to. Not here: retries over time
(whoever sends decides), which proxy is asked (`proxy.py`), how tokens are had (`oauth2.py`), HTTP/2.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from vedette.errors import BadInput, Undeliverable
from vedette.net.addresses import public_address, redacted_url
from vedette.net.answers import Answer, Body
from vedette.net.config import HttpConfig, TlsConfig
from vedette.net.oauth2 import Tokens
from vedette.net.trace import current
from vedette.net.transport import Transport

USER_AGENT = "Vedette"
MAX_REDIRECTS = 10
DEFAULT_MAX_BYTES = 128 << 20

TOKEN_SECONDS = 10.0
"""How long a server of OAuth 2.0 tokens may take, within the time of the request that needs one."""
_IDLE_SECONDS = 300.0  # as Prometheus' client keeps a connection; longer than any usual scrape interval
_ERROR_BODY_BYTES = 4096
_CREDENTIALS = frozenset(("authorization", "cookie", "proxy-authorization", "x-api-key"))


@dataclass(slots=True)
class _Door:
    """The connections to one origin."""

    transport: httpx.AsyncBaseTransport
    last_used: float
    served: bool = False
    busy: int = 0


class HttpClient:
    """Asks with one `HttpConfig`. Connections are kept per origin, so one client may serve thousands of targets.

    With `allow_private=False` (for URLs that came over the API) a name is resolved first, every address must be public,
    and the connection goes to the very address that was checked; redirects are checked alike. `hide_path` keeps paths,
    which are the secret of most webhooks, out of errors.
    """

    def __init__(self, config: HttpConfig | None = None, *, allow_private: bool = True, hide_path: bool = False) -> None:
        self._config = HttpConfig() if config is None else config
        self._allow_private = allow_private
        self._hide_path = hide_path
        self._doors: dict[tuple[str, str, int | None, str, bool], _Door] = {}
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._issuer: HttpClient | None = None
        self._tokens: Tokens | None = None
        if (oauth2 := self._config.oauth2) is not None:
            reaching = HttpConfig(
                tls_config=oauth2.tls_config,
                follow_redirects=False,
                proxy_url=oauth2.proxy_url,
                no_proxy=oauth2.no_proxy,
                proxy_from_environment=oauth2.proxy_from_environment,
                proxy_connect_header=oauth2.proxy_connect_header,
            )
            self._issuer = HttpClient(reaching, allow_private=allow_private)
            self._tokens = Tokens(oauth2, self._issued, time.monotonic)

    async def _issued(self, url: str, body: bytes, headers: dict[str, str]) -> Answer:
        assert self._issuer is not None, "tokens are asked for by a client that has some"
        return await self._issuer.post(url, body, timeout=TOKEN_SECONDS, headers=headers)

    async def get(
        self,
        url: str,
        *,
        timeout: float,  # noqa: ASYNC109 - the whole request's, redirects and body included, is this module's promise
        headers: Mapping[str, str] | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> Answer:
        """GET a URL. Raises `Undeliverable` where no whole answer comes within `timeout` seconds and `max_bytes` (decoded).

        Any status is an answer: see `Answer.check`. Raises `BadInput` for a URL or a credential file that cannot be used.
        """
        return await self._within(timeout, "GET", url, dict(headers or {}), None, max_bytes)

    async def post(
        self,
        url: str,
        body: bytes,
        *,
        timeout: float,  # noqa: ASYNC109 - as in `get`
        headers: Mapping[str, str] | None = None,
        max_bytes: int = 1 << 20,
        leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        """POST bytes; as `get`. A 301, 302 or 303 is followed with GET, 307 and 308 send the body again.

        `leaving` is awaited once there is a connection, just before the first byte goes: the last moment to note that it goes.
        """
        return await self._within(timeout, "POST", url, dict(headers or {}), body, max_bytes, leaving)

    async def post_json(
        self,
        url: str,
        payload: Any,
        *,
        timeout: float,  # noqa: ASYNC109 - as in `get`
        headers: Mapping[str, str] | None = None,
        max_bytes: int = 1 << 20,
        leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        """POST a value as JSON (bytes are taken as JSON already); as `post`."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        typed = {"Content-Type": "application/json", **(headers or {})}
        return await self.post(url, body, timeout=timeout, headers=typed, max_bytes=max_bytes, leaving=leaving)

    async def ask_json(
        self,
        method: str,
        url: str,
        payload: Any,
        *,
        timeout: float,  # noqa: ASYNC109 - as in `get`
        headers: Mapping[str, str] | None = None,
        max_bytes: int = 1 << 20,
        leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        """Ask by a method (`PUT`, say) with a value as JSON, or with None for a request without a body; as `post`."""
        body = None if payload is None else json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        return await self._within(timeout, method, url, dict(headers or {}), body, max_bytes, leaving)

    async def close(self) -> None:
        """Close all connections; requests under way fail."""
        doors, self._doors = list(self._doors.values()), {}
        for door in doors:
            await door.transport.aclose()
        if self._issuer is not None:
            await self._issuer.close()

    async def _within(
        self,
        seconds: float,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | None,
        max_bytes: int,
        leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer:
        async def trace(event: str, _info: Any) -> None:
            if leaving is not None and event.endswith("send_request_headers.started"):
                await leaving()

        try:
            async with asyncio.timeout(seconds):
                return await self._follow(method, url, headers, body, max_bytes, {"trace": trace} if leaving else {})
        except TimeoutError:
            raise Undeliverable(f"no complete answer within {seconds:g}s", reason="timeout", retryable=True) from None

    async def _follow(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None, max_bytes: int, extensions: Mapping[str, Any]
    ) -> Answer:
        target = _parsed(url)
        first = _origin(target)
        credentials = self._config.headers()
        if self._tokens is not None:
            credentials["Authorization"] = await self._tokens.header()
        for _ in range(MAX_REDIRECTS + 1):
            at_home = _origin(target) == first
            sent = {**headers, **credentials} if at_home else {n: v for n, v in headers.items() if n.lower() not in _CREDENTIALS}
            if target.userinfo and at_home and "Authorization" not in sent:
                sent["Authorization"] = "Basic " + base64.b64encode(f"{target.username}:{target.password}".encode()).decode()
            response = await self._send(method, target, sent, body, at_home, dict(extensions))
            if response.status_code == 401 and at_home and self._tokens is not None:
                self._tokens.refused()
            location = response.headers.get("location", "")
            if not (self._config.follow_redirects and response.status_code in (301, 302, 303, 307, 308) and location):
                return await self._read(response, target, max_bytes)
            await response.aclose()
            try:
                target = target.copy_with(userinfo=b"").join(location)
            except httpx.InvalidURL as error:
                raise Undeliverable(f"redirected to an invalid URL: {error}", reason="redirects", retryable=False) from None
            if target.scheme not in ("http", "https"):
                raise Undeliverable(f"redirected to a {target.scheme or 'relative'} URL", reason="redirects", retryable=False)
            if method == "POST" and response.status_code in (301, 302, 303):
                method, body = "GET", None
                headers = {n: v for n, v in headers.items() if n.lower() != "content-type"}
        raise Undeliverable(f"stopped after {MAX_REDIRECTS} redirects", reason="redirects", retryable=False)

    async def _send(
        self, method: str, url: httpx.URL, headers: dict[str, str], body: bytes | None, at_home: bool, extensions: dict[str, Any]
    ) -> httpx.Response:
        connect = url.copy_with(userinfo=b"", fragment=None) if url.userinfo or url.fragment else url
        if not self._allow_private:
            connect = connect.copy_with(host=await public_address(url))
            extensions["sni_hostname"] = url.host
        if self._config.tls_config.server_name and at_home:
            extensions["sni_hostname"] = self._config.tls_config.server_name
        base = {"Host": url.netloc.decode("ascii"), "User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip"}
        if (trace := current()) is not None and trace.traceparent:
            base["traceparent"] = trace.traceparent
        request = httpx.Request(method, connect, headers={**base, **headers}, content=body, extensions=extensions)
        door = await self._door(connect, url.host, at_home)
        door.busy += 1
        try:
            return await self._sent(door, request)
        except httpx.HTTPError as error:
            raise self._undeliverable(error, url) from error
        finally:
            door.busy -= 1

    @staticmethod
    async def _sent(door: _Door, request: httpx.Request) -> httpx.Response:
        again = door.served and request.method == "GET"
        try:
            response = await door.transport.handle_async_request(request)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            if not again:
                raise
            # A kept connection that the server closed as we wrote: once more on a new one, as Go's client does.
            response = await door.transport.handle_async_request(request)
        door.served = True
        return response

    async def _door(self, url: httpx.URL, name: str, at_home: bool) -> _Door:
        # The name belongs to the key: behind one address two names may have different certificates.
        key = (*_origin(url), name, at_home)
        now = asyncio.get_running_loop().time()
        door = self._doors.get(key)
        if door is None:
            for old in [k for k, d in self._doors.items() if not d.busy and now - d.last_used > _IDLE_SECONDS]:
                await self._doors.pop(old).transport.aclose()
            door = self._doors[key] = _Door(self._transport(url, name, at_home=at_home), now)
        door.last_used = now
        return door

    def _transport(self, url: httpx.URL, name: str, *, at_home: bool) -> httpx.AsyncBaseTransport:
        context = self._context(at_home) if url.scheme == "https" else None
        proxy = self._config.proxy_for(url.scheme, name, url.port, os.environ)
        if not proxy:
            return Transport(context, idle_s=_IDLE_SECONDS)
        return httpx.AsyncHTTPTransport(
            verify=context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            trust_env=False,
            proxy=httpx.Proxy(proxy, headers=self._connect_headers() if context else None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=2, keepalive_expiry=_IDLE_SECONDS),
        )

    def _connect_headers(self) -> list[tuple[str, str]]:
        return [(name, value) for name, values in self._config.proxy_connect_header.items() for value in values]

    def _context(self, at_home: bool) -> ssl.SSLContext:
        if at_home not in self._contexts:
            # Elsewhere than configured, neither our certificate nor the leave to skip verification applies.
            self._contexts[at_home] = self._config.tls_config.context() if at_home else TlsConfig().context()
        return self._contexts[at_home]

    async def _read(self, response: httpx.Response, url: httpx.URL, max_bytes: int) -> Answer:
        good = 200 <= response.status_code < 300
        limit = max_bytes if good else min(max_bytes, _ERROR_BODY_BYTES)
        body = Body(response.headers.get("content-encoding", "").lower(), limit)
        try:
            async for chunk in response.stream:  # type: ignore[union-attr]  # an async transport's stream is async
                going_on = body.feed(chunk)
                while going_on and body.pending:
                    await asyncio.sleep(0)
                    going_on = body.feed()
                if not going_on:
                    break
        except httpx.HTTPError as error:
            raise self._undeliverable(error, url) from error
        finally:
            await response.aclose()
        if body.over and good:
            raise Undeliverable(f"answer longer than {max_bytes} bytes", reason="too_large", retryable=False)
        return Answer(response.status_code, response.headers, body.whole(partial=not good), redacted_url(url, hide_path=self._hide_path))

    def _undeliverable(self, error: httpx.HTTPError, url: httpx.URL) -> Undeliverable:
        shown = redacted_url(url, hide_path=self._hide_path)
        causes: list[BaseException] = []
        cause: BaseException | None = error
        while cause is not None and len(causes) < 8:
            causes.append(cause)
            cause = cause.__cause__ or cause.__context__
        detail = str(error) or type(error).__name__
        if any(isinstance(c, ssl.SSLError) for c in causes):
            return Undeliverable(f"{shown}: TLS: {detail}", reason="tls", retryable=True)
        if any(isinstance(c, socket.gaierror) for c in causes):
            return Undeliverable(f"{shown}: the host name cannot be resolved: {detail}", reason="dns", retryable=True)
        if isinstance(error, httpx.ConnectError):
            return Undeliverable(f"{shown}: cannot connect: {_system_error(causes) or detail}", reason="refused", retryable=True)
        if isinstance(error, httpx.TimeoutException):
            return Undeliverable(f"{shown}: {detail}", reason="timeout", retryable=True)
        return Undeliverable(f"{shown}: {detail}", reason="protocol", retryable=True)


def _system_error(causes: Sequence[BaseException]) -> str:
    """What the operating system said ("Connection refused"), of several attempts the first; "" where it said nothing."""
    for cause in causes:
        for one in cause.exceptions if isinstance(cause, BaseExceptionGroup) else (cause,):
            if isinstance(one, OSError) and one.errno:
                return os.strerror(one.errno)
    return ""


@functools.lru_cache(maxsize=8192)  # a target's URL is the same at every scrape, and parsing it a tenth of a small scrape's cost
def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise BadInput(f"invalid URL: {error}", where="url") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BadInput(f"not an http or https URL with a host: {redacted_url(parsed)}", where="url")
    return parsed


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
