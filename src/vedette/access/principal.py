"""Who asks: a name, a role, a tenant, and what they may do with them. Nothing here proves that they are who they say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vedette.errors import BadInput
from vedette.model.tenants import DEFAULT_TENANT

ROLES = ("viewer", "operator", "admin")
"""From the least to the most: a viewer reads, an operator writes and acts on alerts, an admin rules the server."""

Need = Literal["read", "write", "alerts", "admin", "known", "nothing"]
"""What an operation asks of whoever calls it: one of `SCOPES`, any credential that is good, or nothing at all."""

SCOPES: tuple[Need, ...] = ("read", "write", "alerts", "admin")
"""What an API key may be confined to: reading; sending data; silences, rules and acknowledgements; the server itself."""

ANY_TENANT = "*"

_ROLE_FOR: dict[str, str] = {"read": "viewer", "write": "operator", "alerts": "operator", "admin": "admin"}
_RANK = {role: rank for rank, role in enumerate(ROLES)}


@dataclass(frozen=True, slots=True)
class Principal:
    """One who was let in. `tenant` is theirs, `*` for one who may name any; no `scopes` are all that the role allows.

    `kind` says by what they were known: `key` (the one of the settings), `api_key`, `token`, `session`, or `open` where
    nobody is asked.
    """

    name: str
    role: str
    tenant: str = DEFAULT_TENANT
    scopes: tuple[str, ...] = ()
    kind: str = "open"
    csrf: str = ""
    """Of a session: what a form of its pages must send back."""
    key_id: str = ""
    """Of a managed key."""

    def may(self, need: Need) -> bool:
        """Whether role and scopes allow an operation. A key confined to `write` needs no role that reads."""
        if need in ("known", "nothing"):
            return True
        return _RANK[self.role] >= _RANK[_ROLE_FOR[need]] and (not self.scopes or need in self.scopes)

    def tenant_for(self, asked: str | None) -> str | None:
        """The tenant of a request that names `asked` (None: none), None where it is not theirs to name."""
        if self.tenant == ANY_TENANT:
            return asked or DEFAULT_TENANT
        return self.tenant if asked in (None, self.tenant) else None


OPEN = Principal("anonymous", "admin", ANY_TENANT)
"""Whoever asks a server that asks nobody: it listens on loopback only, or its operator insisted."""


_TENANT = re.compile(r"[A-Za-z0-9!_.*'()-]{1,150}\Z")


def is_tenant(text: str) -> bool:
    """Whether a text may name a tenant; `*` names none, but all."""
    return bool(_TENANT.match(text)) and text not in (".", "..", ANY_TENANT)


def parse_role(text: str) -> str:
    """A role's name. Raises `BadInput`."""
    if text not in ROLES:
        raise BadInput(f"not a role: {text!r}", where="role", hint="expected one of " + ", ".join(ROLES))
    return text


def parse_scopes(texts: Iterable[str]) -> tuple[str, ...]:
    """Scopes, each once, in the order of `SCOPES`. Raises `BadInput`."""
    given = set(texts)
    if unknown := sorted(given.difference(SCOPES)):
        raise BadInput(f"not a scope: {unknown[0]!r}", where="scopes", hint="expected some of " + ", ".join(SCOPES))
    return tuple(scope for scope in SCOPES if scope in given)


def principal_of(scope: Mapping[str, Any]) -> Principal:
    """Whom the guard admitted this request for; takes a Starlette request too, being a mapping of its scope."""
    found: Principal = scope.get("vedette.principal", OPEN)
    return found
