"""Who may come in: one ASGI layer before every route, and the rule for which addresses may be listened on.

With an API key configured, every request but those for health must carry it. Without one Vedette serves loopback
only, and the threat left is a browser on the same machine acting for a page from elsewhere: such a page may change
nothing (its `Sec-Fetch-Site` or `Origin` gives it away), nor reach this server under a name of its own (DNS
rebinding: the `Host` gives it away). Where another server than `vedette serve` listens on more than loopback, only
what comes to loopback is served. Not here: tokens with roles, rate limits, audit.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import orjson

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.matchers import compile_regex
from vedette.model.samples import DEFAULT_TENANT

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH_PATHS = frozenset(("/-/healthy", "/-/ready", "/health", "/api/v1/monitoring/health"))
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_TENANT = re.compile(rb"[A-Za-z0-9!_.*'()-]{1,150}\Z")
_WATCHED = frozenset((b"authorization", b"x-api-key", b"x-scope-orgid", b"host", b"origin", b"sec-fetch-site"))


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may ask, and whose pages may read the answers."""

    api_key: str = option("", secret=True)
    """What every request but those for health must carry; empty: no authentication."""
    hosts: tuple[str, ...] = ()
    """Names this server goes by, besides those of loopback."""
    cors_origin: str = ""
    """A regular expression, matched whole, of the origins whose pages may read answers (never with credentials).

    Empty: every origin once a key is asked for, as with Prometheus; none without one, or any page that a user of this
    machine looks at could read all its metrics.
    """

    def __post_init__(self) -> None:
        compile_regex(self.cors_origin, where="cors_origin")

    @property
    def reading_origins(self) -> str:
        """`cors_origin`, or what stands for it where it is empty; the empty expression matches no origin."""
        return self.cors_origin or (".*" if self.api_key else "")


def is_loopback(host: str) -> bool:
    """Whether a host name or address to listen on is reachable from this machine only; an unresolved name is not."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def may_listen(host: str, *, authenticated: bool, insecure: bool) -> None:
    """Raises `BadInput` for an address that must not be listened on: all but loopback, without authentication or insistence."""
    if authenticated or insecure or is_loopback(host):
        return
    raise BadInput(
        f"refusing to listen on {host or 'every address'} without authentication",
        hint="set API_KEY, listen on 127.0.0.1, or pass --insecure to let anyone in who reaches it",
    )


def tenant_of(scope: Mapping[str, Any]) -> str:
    """The tenant that the guard admitted this request for; takes a Starlette request too, being a mapping of its scope."""
    tenant: str = scope.get("vedette.tenant", DEFAULT_TENANT)
    return tenant


class Guard:
    """An ASGI application that lets `app` see admitted requests only.

    `reading_posts` are the paths whose POST changes nothing, so that a page from elsewhere may use them (it reads
    the answer only where CORS lets it). `insecure` (listening beyond loopback without a key, as the operator insists)
    leaves the `Host` unchecked. A refusal is JSON without a reason where the reason would help an intruder.
    """

    def __init__(self, app: App, settings: AccessSettings, *, insecure: bool = False, reading_posts: frozenset[str] = frozenset()) -> None:
        self._app = app
        self._reading_posts = reading_posts
        self._key = hashlib.sha256(settings.api_key.encode()).digest() if settings.api_key else None
        self._check_host = self._key is None and not insecure
        names = frozenset(h.strip("[]").lower() for h in settings.hosts)
        # A client names one host over and over; parsing it each time would cost more than all other checks.
        self._known_host = functools.lru_cache(maxsize=256)(functools.partial(_is_ours, names))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit or refuse one connection; lifespan events pass."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = {name: value for name, value in scope["headers"] if name in _WATCHED}
        refusal = self._why_not(scope, headers)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refuse(send, *refusal)

    def _why_not(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
        """(status, errorType, message) of a refusal, None for an admitted request, which then has its tenant."""
        method = scope.get("method", "GET")
        by_browser = True
        if self._key is not None:
            # A preflight carries no credentials, by its specification, and changes nothing.
            if scope["path"] in HEALTH_PATHS or method == "OPTIONS":
                return None
            credential, by_browser = _credential(headers)
            if not hmac.compare_digest(hashlib.sha256(credential).digest(), self._key):
                return 401, "unauthorized", "unauthorized"
            tenant = headers.get(b"x-scope-orgid")
            if tenant is not None:
                if not _TENANT.match(tenant) or tenant in (b".", b".."):
                    return 400, "bad_data", "X-Scope-OrgID: not a tenant name: 1 to 150 letters, digits or !-_.*'()"
                scope["vedette.tenant"] = tenant.decode("ascii")
        elif self._check_host and _reached_from_outside(scope):
            # `vedette serve` does not listen there; another ASGI server may be told to.
            return 403, "forbidden", "without authentication only this machine is served: set API_KEY"
        elif self._check_host and b"host" in headers and not self._known_host(headers[b"host"]):
            return 403, "forbidden", "unknown host name in the Host header: add it to access.hosts if this server is known by it"
        changes = scope["type"] == "websocket" or (method not in _SAFE and scope["path"] not in self._reading_posts)
        if changes and by_browser and _from_elsewhere(headers):
            return 403, "forbidden", "a page from another origin may not change anything here"
        return None


def _credential(headers: dict[bytes, bytes]) -> tuple[bytes, bool]:
    """The key that a request carries, empty where it has none, and whether a browser may have added it by itself."""
    given = headers.get(b"x-api-key")
    if given is not None:
        return given, False
    scheme, _, value = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return value.strip(), False
    if scheme.lower() == b"basic":
        # A browser asks its user for a name and a password: any name, and the key.
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2], True
        except binascii.Error:
            return b"", True
    return b"", True


def _reached_from_outside(scope: Scope) -> bool:
    """Whether the connection came to an address other than loopback; a Unix socket, or a name, did not."""
    server = scope.get("server")
    return server is not None and not _is_inside(server[0])


@functools.lru_cache(maxsize=256)
def _is_inside(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return True
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def _from_elsewhere(headers: dict[bytes, bytes]) -> bool:
    """Whether a browser sent this for a page of another origin. Programs send neither header."""
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        # `same-site` is another port of this machine, say: another application, so a stranger.
        return site not in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2].lower() != headers.get(b"host", b"").lower()


def _is_ours(names: frozenset[str], host: bytes) -> bool:
    """Whether a Host header names this machine. An address literal always does: only names can be rebound."""
    text = host.decode("latin-1").lower()
    name = text.partition("]")[0].strip("[") if text.startswith("[") else text.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost") or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse(send: Send, status: int, kind: str, message: str) -> None:
    body = orjson.dumps({"status": "error", "errorType": kind, "error": message})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="vedette", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
