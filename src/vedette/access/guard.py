"""Who may come in: one ASGI layer before every route, and the rule for which addresses may be listened on.

Once there is anything to be known by (a key, a token secret, a user), every request but those for health must carry a
credential, and what it asks for must be its sender's to ask. Without, Vedette serves loopback only, and the threat left is
a browser on the same machine acting for a page from elsewhere: such a page may change nothing (its `Sec-Fetch-Site` or
`Origin` gives it away), nor reach this server under a name of its own (DNS rebinding: the `Host` gives it away). Where
another server than `vedette serve` listens on more than loopback, only what comes to loopback is served. Not here: who a
credential proves (`identity.py`), what each operation needs (`permits.py`), rate limits.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from vedette.access.audit import Audit
from vedette.access.identity import Credential, Identities, credential_in_url, credential_of
from vedette.access.permits import SAFE_METHODS, need_of, of_server
from vedette.access.principal import OPEN, Need, Principal, is_tenant
from vedette.errors import BadInput, LimitExceeded, Unreachable
from vedette.model.tenants import DEFAULT_TENANT
from vedette.net.trace import current

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_WATCHED = frozenset(
    (
        b"accept",
        b"authorization",
        b"cookie",
        b"dd-api-key",
        b"host",
        b"origin",
        b"sec-fetch-mode",
        b"sec-fetch-site",
        b"x-api-key",
        b"x-csrf-token",
        b"x-scope-orgid",
    )
)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a request is not served; `location` is where a browser is sent instead."""

    status: int
    kind: str
    message: str
    location: str = ""
    retry_after: float | None = None


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
        hint="set API_KEY, JWT_SECRET or access.authentication: required; listen on 127.0.0.1; or pass --insecure to let anyone in",
    )


def tenant_of(scope: Mapping[str, Any]) -> str:
    """The tenant that the guard admitted this request for; takes a Starlette request too, being a mapping of its scope."""
    tenant: str = scope.get("vedette.tenant", DEFAULT_TENANT)
    return tenant


class Guard:
    """An ASGI application that lets `app` see admitted requests only.

    `reading_posts` are the paths whose POST changes nothing, so that a page from elsewhere may use them (it reads
    the answer only where CORS lets it). `insecure` (listening beyond loopback without a key, as the operator insists)
    leaves the `Host` unchecked. `audit` is told of changes; `login` says that there is a page to log in at, to which browsers
    are sent. A refusal is JSON without a reason where the reason would help an intruder.
    """

    def __init__(
        self,
        app: App,
        identities: Identities,
        *,
        audit: Audit | None = None,
        insecure: bool = False,
        reading_posts: frozenset[str] = frozenset(),
        login: bool = False,
    ) -> None:
        self._app = app
        self._identities, self._audit = identities, audit
        self._reading_posts = reading_posts
        self._insecure, self._login = insecure, login
        self._needs: dict[tuple[str, str], Need] = {}
        self._hosts: tuple[str, ...] | None = None
        self._known_host: Callable[[bytes], bool] = lambda host: False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit or refuse one connection; lifespan events pass."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = {name: value for name, value in scope["headers"] if name in _WATCHED}
        need = need_of(scope.get("method", "GET"), scope["path"], reading_posts=self._reading_posts)
        if self._identities.required:
            refusal = await self._why_not_known(scope, headers, need)
        else:
            refusal = self._why_not_open(scope, headers, need)
        # Data is sent over and over and changes no setting; a change is noted whether it was allowed or not.
        noted = self._audit is not None and need in ("alerts", "admin") and scope.get("method", "GET") not in SAFE_METHODS
        if refusal is not None:
            if noted and "vedette.principal" in scope:
                await self._note(scope, refusal.status)
            await _refuse(scope, receive, send, refusal)
        elif noted:
            await self._noting(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def admits(self, scope: Scope) -> bool:
        """Whether a request that changes nothing is let in, as far as that is known without looking; its scope tells then whom it is from.

        What is not, `__call__` admits or refuses. To be asked of paths that are known to exist.
        """
        headers: dict[bytes, bytes] = {name: value for name, value in scope["headers"] if name in _WATCHED}
        # Of few paths, and asked for each request of a dashboard.
        need = self._needs.get(asked := (scope["method"], scope["path"]))
        if need is None:
            need = self._needs[asked] = need_of(*asked, reading_posts=self._reading_posts)
        if need not in ("read", "known", "nothing"):
            return False
        if not self._identities.required:
            return self._why_not_open(scope, headers, need) is None
        credential = credential_of(headers)
        if need == "nothing" and (credential is None or credential.kind != "session"):
            return True
        who = self._identities.known(credential) if credential is not None else None
        return credential is not None and who is not None and self._why_not_theirs(scope, headers, need, credential, who) is None

    async def _noting(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            await self._note(scope, status)

    async def _note(self, scope: Scope, status: int) -> None:
        assert self._audit is not None, "asked for only where there is a trail"
        who = scope.get("vedette.principal", OPEN)
        await self._audit.note(
            who, tenant=tenant_of(scope), method=scope["method"], path=scope["path"], status=status, address=_address(scope)
        )

    def _why_not_open(self, scope: Scope, headers: dict[bytes, bytes], need: Need) -> _Refusal | None:
        """Why a request is not served where nobody is asked who they are."""
        if not self._insecure:
            if _reached_from_outside(scope):
                # `vedette serve` does not listen there; another ASGI server may be told to.
                return _forbidden("without authentication only this machine is served: set API_KEY")
            if b"host" in headers and not self._is_known(headers[b"host"]):
                return _forbidden("unknown host name in the Host header: add it to access.hosts if this server is known by it")
        if self._changes(scope) and _from_elsewhere(headers):
            return _forbidden("a page from another origin may not change anything here")
        return None

    def _is_known(self, host: bytes) -> bool:
        """Whether a `Host` is a name of this server, by the settings in force."""
        hosts = self._identities.settings.hosts
        if hosts != self._hosts:
            self._hosts = hosts
            names = frozenset(h.strip("[]").lower() for h in hosts)
            # A client names one host over and over; parsing it each time would cost more than all other checks.
            self._known_host = functools.lru_cache(maxsize=256)(functools.partial(_is_ours, names))
        return self._known_host(host)

    async def _why_not_known(self, scope: Scope, headers: dict[bytes, bytes], need: Need) -> _Refusal | None:
        """Why a request is not served where everybody is asked."""
        credential = credential_of(headers) or credential_in_url(scope["path"], scope.get("query_string", b""))
        if need == "nothing" and (credential is None or credential.kind != "session"):
            return None
        try:
            who = await self._identities.identify(credential, address=_address(scope))
        except Unreachable as error:
            return _Refusal(500, "internal", str(error), retry_after=error.retry_after)
        except LimitExceeded as error:
            status, kind = (503, "unavailable") if error.retry_after is None else (429, "too_many_attempts")
            return _Refusal(status, kind, kind.replace("_", " "), retry_after=error.retry_after)
        if who is None or credential is None:
            return None if need == "nothing" else self._unknown(scope, headers)
        return self._why_not_theirs(scope, headers, need, credential, who)

    def _why_not_theirs(
        self, scope: Scope, headers: dict[bytes, bytes], need: Need, credential: Credential, who: Principal
    ) -> _Refusal | None:
        """Why a request of somebody who is known is not served; an admitted one has its principal and tenant in its scope."""
        scope["vedette.principal"] = who
        asked = headers.get(b"x-scope-orgid")
        named = None if asked is None else asked.decode("latin-1")
        if named is not None and not is_tenant(named):
            return _Refusal(400, "bad_data", "X-Scope-OrgID: not a tenant name: 1 to 150 letters, digits or !-_.*'()")
        tenant = who.tenant_for(named)
        if tenant is None:
            return _forbidden("not your tenant")
        scope["vedette.tenant"] = tenant
        if (trace := current()) is not None:
            trace.tenant = tenant
        if not who.may(need):
            return _forbidden(f"{who.name} may not do this: it needs the permission {need!r}")
        if tenant != DEFAULT_TENANT and of_server(scope["path"]):
            return _Refusal(404, "not_found", "not found")
        if self._changes(scope) and not _meant(headers, credential, who):
            return _forbidden("a page from another origin may not change anything here")
        return None

    def _changes(self, scope: Scope) -> bool:
        method = scope.get("method", "GET")
        return scope["type"] == "websocket" or (method not in SAFE_METHODS and scope["path"] not in self._reading_posts)

    def _unknown(self, scope: Scope, headers: dict[bytes, bytes]) -> _Refusal:
        location = ""
        if self._login and scope.get("method") == "GET" and headers.get(b"accept", b"").startswith(b"text/html"):
            query = scope.get("query_string", b"")
            path = scope.get("root_path", "") + scope["path"].removeprefix(scope.get("root_path", ""))
            target = quote(path + (f"?{query.decode('latin-1')}" if query else ""), safe="/")
            location = f"{scope.get('root_path', '')}/login?next={target}"
        # A prompt of the browser's own for what a page of ours asks in the background would only confuse.
        challenge = b"sec-fetch-mode" not in headers or headers[b"sec-fetch-mode"] == b"navigate"
        return _Refusal(401, "unauthorized" if challenge else "session_over", "unauthorized", location)


def _meant(headers: dict[bytes, bytes], credential: Credential, who: Principal) -> bool:
    """Whether a change is its sender's own wish, and not that of a page that their browser happens to show."""
    if not credential.by_browser:
        return True
    if credential.kind == "session" and b"origin" not in headers and b"sec-fetch-site" not in headers:
        # An old browser says neither: then only a page of ours knows what the session's forms send back.
        return bool(who.csrf) and headers.get(b"x-csrf-token", b"").decode("latin-1") == who.csrf
    return not _from_elsewhere(headers)


def _forbidden(message: str) -> _Refusal:
    return _Refusal(403, "forbidden", message)


def _address(scope: Mapping[str, Any]) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


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


async def _refuse(scope: Scope, receive: Receive, send: Send, refusal: _Refusal) -> None:
    # Where the server can answer a handshake with a status of ours it does; all others say 403.
    by_status = "websocket.http.response" in (scope.get("extensions") or {})
    if scope["type"] == "websocket":
        await receive()
    if scope["type"] == "websocket" and not by_status:
        await send({"type": "websocket.close", "code": 1008})
        return
    kind = "unauthorized" if refusal.status == 401 else refusal.kind
    body = orjson.dumps({"status": "error", "errorType": kind, "error": refusal.message})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.retry_after is not None:
        headers.append((b"retry-after", str(int(refusal.retry_after)).encode()))
    prefix = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    away = refusal.location if scope["type"] == "http" else ""
    if away:
        headers.append((b"location", away.encode("latin-1")))
    elif refusal.status == 401:
        challenge = b'Basic realm="vedette", charset="UTF-8"' if refusal.kind == "unauthorized" else b'Bearer realm="vedette"'
        headers.append((b"www-authenticate", challenge))
    await send({"type": f"{prefix}.start", "status": 303 if away else refusal.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})
