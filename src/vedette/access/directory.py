"""Users, managed API keys, tenants and sessions: kept in the records, held in memory, known again after a restart.

`vedette user|token|tenant` writes the same records from another process, so the directory looks at them again every few
seconds, and at once for a key it does not know (at most once a second). A secret is never kept: of a password its scrypt
hash, of a key or session its digest. Not here: which request is whose (`guard.py`), HTTP.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from vedette.access.passwords import NOBODY, digest, hash_password, is_password, new_secret
from vedette.access.principal import ANY_TENANT, Principal, is_tenant, parse_role, parse_scopes
from vedette.clock import Clock, now_ms
from vedette.errors import BadInput, NotFound
from vedette.model.tenants import DEFAULT_TENANT
from vedette.records.rows import ApiKeyRow, SessionRow, TenantRow, UserRow

if TYPE_CHECKING:
    from vedette.records.database import Records

PREFIX = "vdt_"
REFRESH_S = 5.0
"""How soon at the latest a change made by another process counts."""

_NAME = re.compile(r"[^\x00-\x20\x7f:/]{1,150}\Z")


def parse_tenant(text: str) -> str:
    """A tenant's name. Raises `BadInput`."""
    if not is_tenant(text):
        raise BadInput(f"not a tenant name: {text!r}", where="tenant", hint="1 to 150 letters, digits or !-_.*'()")
    return text


def parse_name(text: str) -> str:
    """A user's or a key's name. Raises `BadInput`."""
    if not _NAME.match(text):
        raise BadInput(f"not a name: {text!r}", where="name", hint="1 to 150 characters, without spaces, colons or slashes")
    return text


class Directory:
    """Who there is. `refresh` reads the records; call it once before use, and then every `REFRESH_S`. One event loop's."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records, self._clock = records, clock
        self._missed = float("-inf")
        self.users: dict[str, UserRow] = {}
        self.keys: dict[str, ApiKeyRow] = {}
        self.tenants: dict[str, TenantRow] = {}
        self._sessions: dict[str, SessionRow] = {}

    async def refresh(self) -> None:
        """Read all again. Raises what the records raise; then what was known stays."""
        users, keys = await self._records.load(UserRow), await self._records.load(ApiKeyRow)
        tenants, sessions = await self._records.load(TenantRow), await self._records.load(SessionRow)
        self.users = {row.name: row for row in users}
        self.keys = {row.id: row for row in keys}
        self.tenants = {row.name: row for row in tenants}
        self._sessions = {row.digest: row for row in sessions}

    @property
    def anyone(self) -> bool:
        """Whether there is somebody to be asked for: a user who may log in, or a key that is good."""
        if not self.users and not self.keys:
            return False
        now = now_ms(self._clock)
        return any(not user.disabled for user in self.users.values()) or any(_is_good(key, now) for key in self.keys.values())

    def tenant_names(self) -> list[str]:
        """Every tenant that a user, a key or a tenant's own row names, and the default one; sorted."""
        named = {user.tenant for user in self.users.values()} | {key.tenant for key in self.keys.values()}
        return sorted((named | set(self.tenants) | {DEFAULT_TENANT}) - {ANY_TENANT})

    def expect_tenant(self, name: str) -> None:
        """Raises `BadInput` for a tenant that nobody has made: whoever were put into it would see nothing, and be told nothing."""
        if name != ANY_TENANT and parse_tenant(name) not in self.tenant_names():
            raise BadInput(f"there is no tenant {name}", where="tenant", hint=f"vedette tenant add {name}, or POST /api/v1/access/tenants")

    # Users

    async def put_user(
        self, name: str, *, password: str | None = None, role: str | None = None, tenant: str | None = None, disabled: bool | None = None
    ) -> UserRow:
        """Make a user (who needs a password), or change what is given of one. Raises `BadInput`."""
        now, old = now_ms(self._clock), self.users.get(name)
        if old is None and password is None:
            raise BadInput("a new user needs a password", where="password")
        row = UserRow(
            name=parse_name(name),
            tenant=old.tenant if old and tenant is None else _tenant_or_any(tenant or DEFAULT_TENANT),
            role=old.role if old and role is None else parse_role(role or "viewer"),
            password=old.password if old and password is None else hash_password(password or ""),
            disabled=disabled if disabled is not None else bool(old and old.disabled),
            created_at=old.created_at if old else now,
            updated_at=now,
        )
        # Whoever knew the old password, or had more rights, is out at once.
        gone = (
            [s for s in self._sessions.values() if s.user_name == name] if old and row != dataclasses.replace(old, updated_at=now) else []
        )
        await self._records.save([row], gone)
        self.users[name] = row
        for session in gone:
            self._sessions.pop(session.digest, None)
        return row

    async def drop_user(self, name: str) -> None:
        """Remove a user and their sessions. Raises `NotFound`."""
        row = self.users.get(name)
        if row is None:
            raise NotFound(f"there is no user {name}")
        gone = [s for s in self._sessions.values() if s.user_name == name]
        await self._records.save(drop=[row, *gone])
        del self.users[name]
        for session in gone:
            self._sessions.pop(session.digest, None)

    def check_password(self, name: str, password: str) -> Principal | None:
        """Whom a name and a password prove; takes some 60 ms whether right or wrong, so call it on a thread."""
        user = self.users.get(name)
        right = is_password(password, user.password if user else NOBODY)
        return _of_user(user, "session") if user and right and not user.disabled else None

    def user(self, name: str, kind: str) -> Principal | None:
        """A user who may act now."""
        found = self.users.get(name)
        return _of_user(found, kind) if found and not found.disabled else None

    # Keys

    async def new_key(
        self, name: str, *, role: str, tenant: str, scopes: tuple[str, ...] = (), expires_at: int = 0, author: str = ""
    ) -> tuple[ApiKeyRow, str]:
        """(the key, its secret, which is shown this once and never kept). `expires_at` 0 is never. Raises `BadInput`."""
        identity = digest(new_secret())[:12]
        secret = f"{PREFIX}{identity}_{new_secret()}"
        row = ApiKeyRow(
            id=identity,
            tenant=_tenant_or_any(tenant),
            name=parse_name(name),
            role=parse_role(role),
            scopes=" ".join(parse_scopes(scopes)),
            digest=digest(secret),
            created_by=author,
            created_at=now_ms(self._clock),
            expires_at=expires_at,
            revoked_at=0,
        )
        await self._records.save([row])
        self.keys[row.id] = row
        return row, secret

    async def revoke_key(self, identity: str) -> ApiKeyRow:
        """Make a key useless; it stays listed. Raises `NotFound`."""
        row = self.keys.get(identity)
        if row is None:
            raise NotFound(f"there is no key {identity}")
        revoked = dataclasses.replace(row, revoked_at=row.revoked_at or now_ms(self._clock))
        await self._records.save([revoked])
        self.keys[identity] = revoked
        return revoked

    async def key(self, secret: str) -> Principal | None:
        """Whom a managed key names, None for one that is unknown, expired or revoked."""
        identity = secret.removeprefix(PREFIX).partition("_")[0]
        if identity not in self.keys and self._clock.monotonic() - self._missed >= 1.0:
            self._missed = self._clock.monotonic()
            await self.refresh()
        row = self.keys.get(identity)
        # Digests of random secrets: where they differ says nothing about the secret, so their comparison may.
        return self.key_by_id(identity) if row is not None and row.digest == digest(secret) else None

    def key_by_id(self, identity: str) -> Principal | None:
        """Whom a key names that is good now."""
        row = self.keys.get(identity)
        if row is None or not _is_good(row, now_ms(self._clock)):
            return None
        return Principal(row.name, row.role, row.tenant, parse_scopes(row.scopes.split()), kind="api_key", key_id=row.id)

    # Tenants

    async def put_tenant(self, name: str, title: str = "") -> TenantRow:
        """Make a tenant, or give it another title. Raises `BadInput`."""
        old = self.tenants.get(parse_tenant(name))
        row = TenantRow(name=name, title=title, created_at=old.created_at if old else now_ms(self._clock))
        await self._records.save([row])
        self.tenants[name] = row
        return row

    async def drop_tenant(self, name: str) -> None:
        """Forget a tenant that nobody belongs to any more; its data stays until retention takes it. Raises `NotFound`, `BadInput`."""
        row = self.tenants.get(name)
        if row is None:
            raise NotFound(f"there is no tenant {name}")
        now = now_ms(self._clock)
        members = [u.name for u in self.users.values() if u.tenant == name]
        members += [k.name for k in self.keys.values() if k.tenant == name and _is_good(k, now)]
        if members:
            raise BadInput(f"tenant {name} still has {', '.join(sorted(members))}", hint="remove its users and revoke its keys first")
        await self._records.save(drop=[row])
        del self.tenants[name]

    # Sessions

    async def begin(self, user: str, lifetime_ms: int) -> tuple[str, SessionRow]:
        """(the secret of a new session, the session), for a user or for the bearer of a key. Sessions that have ended go with it."""
        secret, now = new_secret(), now_ms(self._clock)
        row = SessionRow(digest=digest(secret), user_name=user, csrf=new_secret(), created_at=now, expires_at=now + lifetime_ms)
        over = [s for s in self._sessions.values() if s.expires_at <= now]
        await self._records.save([row], over)
        for session in over:
            del self._sessions[session.digest]
        self._sessions[row.digest] = row
        return secret, row

    async def end(self, secret: str) -> None:
        """End a session; one that is unknown has ended."""
        row = self._sessions.pop(digest(secret), None)
        if row is not None:
            await self._records.save(drop=[row])

    def session(self, secret: str) -> SessionRow | None:
        """The session of a cookie, None for one that is unknown or has ended."""
        row = self._sessions.get(digest(secret))
        return row if row is not None and row.expires_at > now_ms(self._clock) else None


def _of_user(user: UserRow, kind: str) -> Principal:
    return Principal(user.name, user.role, user.tenant, kind=kind)


def _is_good(key: ApiKeyRow, now: int) -> bool:
    return not key.revoked_at and not 0 < key.expires_at <= now


def _tenant_or_any(text: str) -> str:
    return text if text == ANY_TENANT else parse_tenant(text)
