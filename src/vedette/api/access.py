"""`/api/v1/auth`, `/api/v1/access` and `/api/v1/audit`: tokens for passwords, and who may do what, over HTTP.

An admin of one tenant sees and changes that tenant's users and keys, and finds nothing of others (404); who belongs to every
tenant (`*`) sees all. Not here: who is asking (`access.guard`), the login page (`web.login`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response

from vedette.access.audit import FOREVER, Audit
from vedette.access.directory import Directory
from vedette.access.guard import tenant_of
from vedette.access.identity import Identities
from vedette.access.principal import ANY_TENANT, ROLES, SCOPES, Principal, parse_scopes, principal_of
from vedette.access.sessions import proven
from vedette.api import problems
from vedette.api.answers import JSON, success
from vedette.api.endpoint import Endpoint, Handler, Param, answering
from vedette.api.params import FORM_TYPE, decoded, form_of, integer, json_of, limit_of, media_type, parameter, rfc3339, time_of
from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, LimitExceeded, NotFound
from vedette.model.durations import parse_duration
from vedette.records.rows import ApiKeyRow, AuditRow, TenantRow, UserRow

MAX_BODY_BYTES = 64 << 10
MOST_ENTRIES = 1000


class Login(msgspec.Struct, frozen=True):
    """A name and a password."""

    username: str
    password: str


class Passwords(msgspec.Struct, frozen=True):
    """One's own password, and the one that is to replace it."""

    password: str
    new_password: str


class AskedUser(msgspec.Struct, frozen=True):
    """A user to be made, or what is to change of one."""

    name: str = ""
    password: str | None = None
    role: str | None = None
    tenant: str | None = None
    disabled: bool | None = None


class AskedKey(msgspec.Struct, frozen=True):
    """A key to be made; `expires_in` is a duration such as 90d, "" for never."""

    name: str
    role: str = "viewer"
    scopes: tuple[str, ...] = ()
    tenant: str | None = None
    expires_in: str = ""


class AskedTenant(msgspec.Struct, frozen=True):
    """A tenant to be made."""

    name: str
    title: str = ""


_login, _passwords = msgspec.json.Decoder(Login), msgspec.json.Decoder(Passwords)
_user, _key, _tenant = msgspec.json.Decoder(AskedUser), msgspec.json.Decoder(AskedKey), msgspec.json.Decoder(AskedTenant)


@dataclass(frozen=True, slots=True)
class Access:
    """The operations over the directory and the audit trail."""

    identities: Identities
    audit: Audit
    clock: Clock

    def _directory(self) -> Directory:
        if self.identities.directory is None:
            raise LimitExceeded("the server is starting", retry_after=1.0)
        return self.identities.directory

    # One's own

    async def token(self, request: Request) -> Response:
        """A token for a name and a password, as OAuth 2's password grant answers it."""
        if media_type(request) == FORM_TYPE:
            fields = await form_of(request)
            asked = Login(fields.text("username"), fields.text("password"))
        else:
            asked = decoded(_login, await json_of(request, MAX_BODY_BYTES))
        who = await proven(self.identities, asked.username, asked.password, address=request.client.host if request.client else "")
        if who is None:
            return problems.prometheus_body(401, "unauthorized", "unauthorized")
        lifetime = self.identities.settings.token_lifetime
        token = self.identities.tokens.issue(who.name, role=who.role, tenant=who.tenant)
        body = {"access_token": token, "token_type": "bearer", "expires_in": lifetime // 1000}
        return Response(orjson.dumps(body), media_type=JSON, headers={"Cache-Control": "no-store"})

    async def me(self, request: Request) -> Response:
        """Who is asking, and what they may do."""
        who = principal_of(request)
        may = [need for need in SCOPES if who.may(need)]
        return success({"name": who.name, "role": who.role, "tenant": tenant_of(request), "kind": who.kind, "may": may, "csrf": who.csrf})

    async def password(self, request: Request) -> Response:
        """Replace one's own password; every other login of the user ends."""
        who, asked = principal_of(request), decoded(_passwords, await json_of(request, MAX_BODY_BYTES))
        directory = self._directory()
        if who.name not in directory.users or who.kind not in ("session", "password", "token"):
            raise BadInput("only a user has a password")
        address = request.client.host if request.client else ""
        if await proven(self.identities, who.name, asked.password, address=address) is None:
            raise BadInput("not your password", where="password")
        await directory.put_user(who.name, password=asked.new_password)
        self.identities.forget()
        return success({})

    # Users

    async def users(self, request: Request) -> Response:
        """The users whom the asking one may see."""
        mine = self._mine(request)
        return success([_shown_user(u) for u in sorted(self._directory().users.values(), key=lambda u: u.name) if mine(u.tenant)])

    async def put_user(self, request: Request) -> Response:
        """Make a user (POST), or change one (PATCH)."""
        asked, directory = decoded(_user, await json_of(request, MAX_BODY_BYTES)), self._directory()
        name = request.path_params.get("name", asked.name)
        old = directory.users.get(name)
        if request.method == "PATCH":
            self._user(request, name)
        elif old is not None:
            raise BadInput(f"the name {name} is taken", where="name", hint="PATCH /api/v1/access/users/NAME changes a user")
        tenant = asked.tenant if old is not None and asked.tenant is None else self._tenant_for(request, asked.tenant)
        row = await directory.put_user(name, password=asked.password, role=asked.role, tenant=tenant, disabled=asked.disabled)
        self.identities.forget()
        return _made(_shown_user(row), made=old is None)

    async def drop_user(self, request: Request) -> Response:
        """Remove a user; their sessions and tokens end."""
        row = self._user(request, request.path_params["name"])
        await self._directory().drop_user(row.name)
        self.identities.forget()
        return success({})

    def _user(self, request: Request, name: str) -> UserRow:
        found = self._directory().users.get(name)
        if found is None or not self._mine(request)(found.tenant):
            raise NotFound(f"there is no user {name}")
        return found

    # Keys

    async def keys(self, request: Request) -> Response:
        """The keys whom the asking one may see, without their secrets."""
        mine = self._mine(request)
        return success([_shown_key(k) for k in sorted(self._directory().keys.values(), key=lambda k: k.created_at) if mine(k.tenant)])

    async def put_key(self, request: Request) -> Response:
        """Make a key; its secret is in this answer and never again."""
        asked = decoded(_key, await json_of(request, MAX_BODY_BYTES))
        lasting = asked.expires_in
        expires = now_ms(self.clock) + parameter("expires_in", lambda: parse_duration(lasting)) if lasting else 0
        row, secret = await self._directory().new_key(
            asked.name,
            role=asked.role,
            tenant=self._tenant_for(request, asked.tenant),
            scopes=parse_scopes(asked.scopes),
            expires_at=expires,
            author=principal_of(request).name,
        )
        return _made({**_shown_key(row), "key": secret}, made=True)

    async def revoke_key(self, request: Request) -> Response:
        """Make a key useless."""
        identity = request.path_params["id"]
        found = self._directory().keys.get(identity)
        if found is None or not self._mine(request)(found.tenant):
            raise NotFound(f"there is no key {identity}")
        row = await self._directory().revoke_key(identity)
        self.identities.forget()
        return success(_shown_key(row))

    # Tenants

    async def tenants(self, request: Request) -> Response:
        """All tenants: those made by name, and those that a user or a key belongs to."""
        self._whole_server(request)
        directory = self._directory()
        return success([_shown_tenant(directory.tenants.get(name) or TenantRow(name, "", 0)) for name in directory.tenant_names()])

    async def put_tenant(self, request: Request) -> Response:
        """Make a tenant."""
        self._whole_server(request)
        asked = decoded(_tenant, await json_of(request, MAX_BODY_BYTES))
        return _made(_shown_tenant(await self._directory().put_tenant(asked.name, asked.title)), made=True)

    async def drop_tenant(self, request: Request) -> Response:
        """Forget a tenant that has no users and no keys."""
        self._whole_server(request)
        await self._directory().drop_tenant(request.path_params["name"])
        return success({})

    # The trail

    async def trail(self, request: Request) -> Response:
        """Who changed what, the newest first; `next` is the `before` of the next page."""
        form = await form_of(request)
        limit = min(limit_of(form) or 100, MOST_ENTRIES)
        before = parameter("before", lambda: integer(form.text("before"))) if form.text("before") else FOREVER
        if before < 0:
            raise BadInput('invalid parameter "before": before must be non-negative')
        since, until = time_of(form, "start", 0), time_of(form, "end", FOREVER)
        if until < since:
            raise BadInput('invalid parameter "end": end timestamp must not be before start time')
        found = await self.audit.page(
            tenant_of(request),
            before=before,
            since=since,
            until=until,
            limit=limit,
            actor=form.text("actor"),
        )
        return success({"entries": [_shown_entry(e) for e in found], "next": found[-1].seq if len(found) == limit else None})

    # Whose

    @staticmethod
    def _mine(request: Request) -> Callable[[str], bool]:
        """Which tenants are the asking one's to rule."""
        who = principal_of(request)
        return (lambda tenant: True) if who.tenant == ANY_TENANT else (lambda tenant: tenant == who.tenant)

    def _tenant_for(self, request: Request, asked: str | None) -> str:
        who = principal_of(request)
        tenant = tenant_of(request) if asked is None else asked
        if not self._mine(request)(tenant):
            raise BadInput(f"{who.name} may only make users and keys of their own tenant", where="tenant")
        if asked is not None:
            self._directory().expect_tenant(tenant)
        return tenant

    @staticmethod
    def _whole_server(request: Request) -> None:
        who: Principal = principal_of(request)
        if who.tenant != ANY_TENANT:
            raise NotFound("not found")


def _shown_user(user: UserRow) -> dict[str, Any]:
    times = {"created_at": rfc3339(user.created_at / 1000), "updated_at": rfc3339(user.updated_at / 1000)}
    return {"name": user.name, "role": user.role, "tenant": user.tenant, "disabled": user.disabled, **times}


def _shown_key(key: ApiKeyRow) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "scopes": key.scopes.split(),
        "tenant": key.tenant,
        "created_by": key.created_by,
        "created_at": rfc3339(key.created_at / 1000),
        "expires_at": rfc3339(key.expires_at / 1000) if key.expires_at else None,
        "revoked_at": rfc3339(key.revoked_at / 1000) if key.revoked_at else None,
    }


def _shown_tenant(tenant: TenantRow) -> dict[str, Any]:
    return {"name": tenant.name, "title": tenant.title, "created_at": rfc3339(tenant.created_at / 1000) if tenant.created_at else None}


def _shown_entry(entry: AuditRow) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "time": rfc3339(entry.at / 1000),
        "actor": entry.actor,
        "known_by": entry.kind,
        "method": entry.method,
        "path": entry.path,
        "status": entry.status,
        "address": entry.address,
    }


def _made(data: object, *, made: bool) -> Response:
    response = success(data)
    response.status_code = 201 if made else 200
    response.headers["Cache-Control"] = "no-store"
    return response


_TEXT = {"type": "string"}
_ROLE = {"type": "string", "enum": list(ROLES)}


def _body(required: list[str], **properties: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": properties}
    return {"content": {JSON: {"schema": schema}}, "required": True}


_ABOUT_USER: dict[str, Mapping[str, Any]] = {"password": _TEXT, "role": _ROLE, "tenant": _TEXT, "disabled": {"type": "boolean"}}


def endpoints(room: Access) -> list[Endpoint]:
    """The operations of this room."""

    def operation(path: str, handler: Handler, about: str, method: str = "GET", **more: Any) -> Endpoint:
        answered = answering(handler, problems.prometheus, lambda: problems.prometheus_body(500, "internal", problems.UNEXPECTED))
        return Endpoint(path, answered, about, (method,), tag="access", **more)

    login = _body(["username", "password"], username=_TEXT, password=_TEXT)
    passwords = _body(["password", "new_password"], password=_TEXT, new_password=_TEXT)
    user = _body(["name", "password"], name=_TEXT, **_ABOUT_USER)
    scopes = {"type": "array", "items": {"type": "string", "enum": list(SCOPES)}}
    key = _body(["name"], name=_TEXT, role=_ROLE, scopes=scopes, tenant=_TEXT, expires_in=_TEXT)
    span = (
        Param("start", "time", "Entries from then on."),
        Param("end", "time", "Entries until then."),
        Param("actor", "text", "Of this user or key only."),
        Param("before", "integer", "The `next` of the page before."),
        Param("limit", "integer", f"How many at most: 100, unless given, up to {MOST_ENTRIES}."),
    )
    base = "/api/v1/access"
    return [
        operation("/api/v1/auth/token", room.token, "A token for a name and a password", "POST", body=login),
        operation("/api/v1/auth/me", room.me, "Who is asking, and what they may do"),
        operation("/api/v1/auth/password", room.password, "Change one's own password", "POST", body=passwords),
        operation(f"{base}/users", room.users, "Users"),
        operation(f"{base}/users", room.put_user, "Make a user", "POST", body=user),
        operation(f"{base}/users/{{name}}", room.put_user, "Change a user", "PATCH", body=_body([], **_ABOUT_USER)),
        operation(f"{base}/users/{{name}}", room.drop_user, "Remove a user", "DELETE"),
        operation(f"{base}/keys", room.keys, "API keys"),
        operation(f"{base}/keys", room.put_key, "Make an API key", "POST", body=key),
        operation(f"{base}/keys/{{id}}", room.revoke_key, "Revoke an API key", "DELETE"),
        operation(f"{base}/tenants", room.tenants, "Tenants"),
        operation(f"{base}/tenants", room.put_tenant, "Make a tenant", "POST", body=_body(["name"], name=_TEXT, title=_TEXT)),
        operation(f"{base}/tenants/{{name}}", room.drop_tenant, "Forget a tenant that has no members", "DELETE"),
        operation("/api/v1/audit", room.trail, "Who changed what", params=span),
    ]
