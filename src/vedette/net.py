"""Outbound HTTP: bounded in time, size and redirects; credentials that stay where they belong; errors with a closed reason.

`HttpConfig` is the HTTP client part of Prometheus' configuration files; `HttpClient` asks with it. Answers are read whole,
up to a limit that also holds for what a compressed body expands to. Not here: retries over time (whoever sends decides),
proxies, OAuth2, HTTP/2.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, ClassVar, Self

import httpx

from vedette.configfile import option
from vedette.errors import BadInput, Undeliverable

USER_AGENT = "Vedette"
MAX_REDIRECTS = 10
DEFAULT_MAX_BYTES = 128 << 20

_IDLE_SECONDS = 300.0  # as Prometheus' client keeps a connection; longer than any usual scrape interval
_ERROR_BODY_BYTES = 4096
_TLS_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_RESERVED_HEADERS = frozenset(
    (
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "www-authenticate",
        "x-prometheus-remote-write-version",
        "x-prometheus-scrape-timeout-seconds",
    )
)


def _tls_version(text: str) -> str:
    if text and text not in _TLS_VERSIONS:
        raise BadInput(f"unknown TLS version {text!r}", hint="expected one of " + ", ".join(_TLS_VERSIONS))
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """`tls_config`: what a server's certificate is checked against, and the certificate shown to it."""

    ca: str = ""
    ca_file: str = ""
    cert: str = ""
    cert_file: str = ""
    key: str = option("", secret=True)
    key_file: str = ""
    server_name: str = ""
    insecure_skip_verify: bool = False
    min_version: str = option("", convert=_tls_version)
    max_version: str = option("", convert=_tls_version)

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "ca_ref": "secret managers are not supported; use ca_file",
        "cert_ref": "secret managers are not supported; use cert_file",
        "key_ref": "secret managers are not supported; use key_file",
    }

    def __post_init__(self) -> None:
        for name in ("ca", "cert", "key"):
            if getattr(self, name) and getattr(self, f"{name}_file"):
                raise BadInput(f"at most one of {name} and {name}_file must be configured")
        if self.cert or self.key:
            raise BadInput("a certificate or key written inline is not supported", hint="put both into files: cert_file, key_file")
        if bool(self.cert_file) != bool(self.key_file):
            given, lacking = ("cert_file", "key_file") if self.cert_file else ("key_file", "cert_file")
            raise BadInput(f"{given} without {lacking}", hint="a client certificate needs both")

    def context(self, *, identity: bool = True) -> ssl.SSLContext:
        """A context for these settings, without the client certificate where not `identity`. Raises `BadInput` for bad files."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None, cadata=self.ca or None)
            if not self.ca and not self.ca_file and not context.cert_store_stats()["x509_ca"]:
                import certifi  # a slim image has no certificates of its own

                context.load_verify_locations(certifi.where())
            if identity and self.cert_file:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(f for f in (self.ca_file, self.cert_file, self.key_file) if f)
            raise BadInput(f"TLS files cannot be used: {error}", where=files) from None
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.min_version:
            context.minimum_version = _TLS_VERSIONS[self.min_version]
        if self.max_version:
            context.maximum_version = _TLS_VERSIONS[self.max_version]
        return context

    def under(self, base: Path) -> Self:
        """The same with relative file names taken from `base`."""
        return replace(
            self,
            ca_file=_under(base, self.ca_file),
            cert_file=_under(base, self.cert_file),
            key_file=_under(base, self.key_file),
        )


def _under(base: Path, name: str) -> str:
    return str(base / name) if name else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuth:
    """`basic_auth`: a user and a password, either of which may live in a file that is read anew for each request."""

    username: str = ""
    username_file: str = ""
    password: str = option("", secret=True)
    password_file: str = ""

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "username_ref": "secret managers are not supported; use username_file",
        "password_ref": "secret managers are not supported; use password_file",
    }

    def __post_init__(self) -> None:
        for name in ("username", "password"):
            if getattr(self, name) and getattr(self, f"{name}_file"):
                raise BadInput(f"at most one of basic_auth {name} & {name}_file must be configured")

    def header(self) -> str:
        """The Authorization header's value."""
        user = read_secret(self.username_file) if self.username_file else self.username
        password = read_secret(self.password_file) if self.password_file else self.password
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """`authorization`: a scheme (Bearer) and credentials, which may live in a file read anew for each request."""

    type: str = "Bearer"
    credentials: str = option("", secret=True)
    credentials_file: str = ""

    UNSUPPORTED: ClassVar[dict[str, str]] = {"credentials_ref": "secret managers are not supported; use credentials_file"}

    def __post_init__(self) -> None:
        if self.credentials and self.credentials_file:
            raise BadInput("at most one of authorization credentials & credentials_file must be configured")
        if self.type.strip().lower() == "basic":
            raise BadInput('authorization type cannot be set to "basic", use "basic_auth" instead', where="type")

    def header(self) -> str:
        """The Authorization header's value, empty where there are no credentials."""
        secret = read_secret(self.credentials_file) if self.credentials_file else self.credentials
        return f"{self.type.strip() or 'Bearer'} {secret}" if secret else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderValues:
    """The values of one of `http_headers`: plain, secret, and from files."""

    values: tuple[str, ...] = ()
    secrets: tuple[str, ...] = option((), secret=True)
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """The HTTP client settings that stand in `scrape_configs`, `http_sd_configs`, `alertmanagers` and `http_config`."""

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    bearer_token: str = option("", secret=True)
    bearer_token_file: str = ""
    tls_config: TlsConfig = field(default_factory=TlsConfig)
    follow_redirects: bool = True
    enable_http2: bool = True
    http_headers: Mapping[str, HeaderValues] = option(factory=dict)

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "oauth2": "OAuth 2.0 is not supported yet; use authorization with credentials_file",
        "proxy_url": "proxies are not supported yet",
        "proxy_connect_header": "proxies are not supported yet",
        "proxy_from_environment": "proxies are not supported yet",
        "no_proxy": "proxies are not supported yet",
    }

    def __post_init__(self) -> None:
        if self.bearer_token and self.bearer_token_file:
            raise BadInput("at most one of bearer_token & bearer_token_file must be configured")
        bearer = bool(self.bearer_token or self.bearer_token_file)
        if self.basic_auth is not None and bearer:
            raise BadInput("at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured")
        if self.authorization is not None and bearer:
            raise BadInput("authorization is not compatible with bearer_token & bearer_token_file")
        if self.authorization is not None and self.basic_auth is not None:
            raise BadInput("at most one of basic_auth, oauth2 & authorization must be configured")
        for name in self.http_headers:
            if name.lower() in _RESERVED_HEADERS:
                raise BadInput(f"setting header {name!r} is not allowed", where="http_headers")

    def headers(self) -> dict[str, str]:
        """The headers that carry this configuration's credentials; files are read now. Raises `BadInput` for a bad file."""
        out = {}
        for name, given in self.http_headers.items():
            out[name] = ", ".join((*given.values, *given.secrets, *(read_secret(f) for f in given.files)))
        value = ""
        if self.basic_auth is not None:
            value = self.basic_auth.header()
        elif self.authorization is not None:
            value = self.authorization.header()
        elif self.bearer_token or self.bearer_token_file:
            value = "Bearer " + (self.bearer_token or read_secret(self.bearer_token_file))
        if value:
            out["Authorization"] = value
        return out

    def under(self, base: Path) -> Self:
        """The same with relative file names taken from `base`, the directory of the configuration file."""
        basic, given = self.basic_auth, self.authorization
        return replace(
            self,
            basic_auth=basic
            and replace(basic, username_file=_under(base, basic.username_file), password_file=_under(base, basic.password_file)),
            authorization=given and replace(given, credentials_file=_under(base, given.credentials_file)),
            bearer_token_file=_under(base, self.bearer_token_file),
            tls_config=self.tls_config.under(base),
            http_headers={n: replace(h, files=tuple(_under(base, f) for f in h.files)) for n, h in self.http_headers.items()},
        )


def read_secret(path: str) -> str:
    """The text of a small secret's file without the white space around it. Raises `BadInput` naming the file."""
    try:
        with Path(path).open("rb") as file:
            return file.read(64 << 10).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot be read: {error}", where=path) from None


def redacted_url(url: httpx.URL | str, *, hide_path: bool = False) -> str:
    """A URL fit for logs: without its password, and without path and query where those are secrets (webhooks)."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        return "<invalid URL>"
    if parsed.password:
        parsed = parsed.copy_with(userinfo=parsed.username.encode() + b":xxxxx")
    if hide_path and parsed.raw_path not in (b"/", b""):
        parsed = parsed.copy_with(raw_path=b"/<secret>", fragment=None)
        return str(parsed).replace("%3Csecret%3E", "<secret>")
    return str(parsed)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; `body` is decoded (gzip) and whole, of a refusal (not 2xx) only its beginning."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    def check(self) -> Self:
        """Itself if the status is 2xx; raises `Undeliverable` (reason `status`) otherwise."""
        if 200 <= self.status < 300:
            return self
        from http import HTTPStatus

        phrase = HTTPStatus(self.status).phrase if self.status in HTTPStatus._value2member_map_ else ""
        raise Undeliverable(
            f"server returned HTTP status {self.status} {phrase}".rstrip(),
            reason="status",
            retryable=self.status >= 500 or self.status in (408, 429),
            retry_after=_retry_after(self.headers.get("retry-after", "")),
        )


def _retry_after(text: str) -> float | None:
    """Seconds that a Retry-After header asks for; None where it is absent or unreadable."""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    from datetime import UTC, datetime

    # The one place that asks for the time of day: the header is relative to it, and a server's clock is not ours to mock.
    now = datetime.now(UTC) if when.tzinfo else datetime.now(UTC).replace(tzinfo=None)
    return max(0.0, (when - now).total_seconds())


@dataclass(slots=True)
class _Door:
    """The connections to one origin."""

    transport: httpx.AsyncHTTPTransport
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
        self._doors: dict[tuple[str, str, int | None, bool], _Door] = {}
        self._contexts: dict[bool, ssl.SSLContext] = {}

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

    async def close(self) -> None:
        """Close all connections; requests under way fail."""
        doors, self._doors = list(self._doors.values()), {}
        for door in doors:
            await door.transport.aclose()

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
        for _ in range(MAX_REDIRECTS + 1):
            at_home = _origin(target) == first
            sent = {**headers, **credentials} if at_home else dict(headers)
            if target.userinfo and at_home and "Authorization" not in sent:
                sent["Authorization"] = "Basic " + base64.b64encode(f"{target.username}:{target.password}".encode()).decode()
            response = await self._send(method, target, sent, body, at_home, dict(extensions))
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
        connect = url.copy_with(userinfo=b"", fragment=None)
        if not self._allow_private:
            connect = connect.copy_with(host=await _public_address(url))
            extensions["sni_hostname"] = url.host
        if self._config.tls_config.server_name and at_home:
            extensions["sni_hostname"] = self._config.tls_config.server_name
        base = {"Host": url.netloc.decode("ascii"), "User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip"}
        request = httpx.Request(method, connect, headers={**base, **headers}, content=body, extensions=extensions)
        door = await self._door(connect, at_home)
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

    async def _door(self, url: httpx.URL, at_home: bool) -> _Door:
        key = (*_origin(url), at_home)
        now = asyncio.get_running_loop().time()
        door = self._doors.get(key)
        if door is None:
            for old in [k for k, d in self._doors.items() if not d.busy and now - d.last_used > _IDLE_SECONDS]:
                await self._doors.pop(old).transport.aclose()
            transport = httpx.AsyncHTTPTransport(
                verify=self._context(at_home) if url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                trust_env=False,
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=2, keepalive_expiry=_IDLE_SECONDS),
            )
            door = self._doors[key] = _Door(transport, now)
        door.last_used = now
        return door

    def _context(self, at_home: bool) -> ssl.SSLContext:
        if at_home not in self._contexts:
            # Elsewhere than configured, neither our certificate nor the leave to skip verification applies.
            self._contexts[at_home] = self._config.tls_config.context() if at_home else TlsConfig().context()
        return self._contexts[at_home]

    async def _read(self, response: httpx.Response, url: httpx.URL, max_bytes: int) -> Answer:
        good = 200 <= response.status_code < 300
        limit = max_bytes if good else min(max_bytes, _ERROR_BODY_BYTES)
        body = _Body(response.headers.get("content-encoding", "").lower(), limit)
        try:
            async for chunk in response.stream:  # type: ignore[union-attr]  # an async transport's stream is async
                if not body.feed(chunk):
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
            return Undeliverable(f"{shown}: cannot connect: {detail}", reason="refused", retryable=True)
        if isinstance(error, httpx.TimeoutException):
            return Undeliverable(f"{shown}: {detail}", reason="timeout", retryable=True)
        return Undeliverable(f"{shown}: {detail}", reason="protocol", retryable=True)


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


class _Body:
    """Chunks collected up to a limit, unpacked on the way; never more than a chunk beyond the limit in memory."""

    def __init__(self, encoding: str, limit: int) -> None:
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise Undeliverable(f"answer in the encoding {encoding!r}, which was not asked for", reason="protocol", retryable=False)
        self._gzip = zlib.decompressobj(wbits=31) if "gzip" in encoding else None
        self._parts: list[bytes] = []
        self._left = limit
        self.over = False

    def feed(self, chunk: bytes) -> bool:
        """Take a chunk; False once the limit is passed."""
        if self._gzip is None:
            return self._take(chunk)
        while chunk:
            try:
                part = self._gzip.decompress(chunk, self._left + 1)
            except zlib.error as error:
                raise Undeliverable(f"answer is not valid gzip: {error}", reason="protocol", retryable=True) from None
            if not self._take(part):
                return False
            if self._gzip.eof and self._gzip.unused_data:
                chunk, self._gzip = self._gzip.unused_data, zlib.decompressobj(wbits=31)
            else:
                chunk = self._gzip.unconsumed_tail
        return True

    def _take(self, part: bytes) -> bool:
        self.over = len(part) > self._left
        if self.over:
            part = part[: self._left]
        self._left -= len(part)
        self._parts.append(part)
        return not self.over

    def whole(self, *, partial: bool) -> bytes:
        """All that came; raises `Undeliverable` for a gzip stream cut short unless a part will do."""
        if self._gzip is not None and not self._gzip.eof and not partial:
            raise Undeliverable("answer's gzip stream is cut short", reason="protocol", retryable=True)
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


async def _public_address(url: httpx.URL) -> str:
    """An address of the URL's host, all of whose addresses are public. Raises `Undeliverable` (dns, address)."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port or 0, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Undeliverable(f"the host name {url.host} cannot be resolved: {error}", reason="dns", retryable=True) from None
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not is_public(address):
            problem = f"{url.host} is not a public address"
            raise Undeliverable(problem, reason="address", retryable=False)
    if not addresses:
        raise Undeliverable(f"the host name {url.host} has no address", reason="dns", retryable=True)
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open Internet, whatever IPv6 form hides an IPv4 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in ipaddress.ip_network("64:ff9b::/96"):
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        elif ip.sixtofour is not None:
            ip = ip.sixtofour
    return ip.is_global and not ip.is_multicast
