"""JSON Web Tokens (RFC 7519): issued with our own secret, verified with that or an issuer's public keys.

Which algorithm is allowed follows from where the key comes from, never from the token, so that a public key is never taken for
a secret, and `none` never for a signature. A token must expire. Not here: revoking a token before that; users that are gone
or disabled are looked up by the guard.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from vedette.access.jwks import KeySet
from vedette.access.principal import ANY_TENANT, ROLES, SCOPES, Principal, is_tenant
from vedette.access.settings import AccessSettings
from vedette.clock import Clock
from vedette.errors import BadInput
from vedette.model.tenants import DEFAULT_TENANT

AUDIENCE = "vedette"
ISSUER = "vedette"
_SHARED = ("HS256", "HS384", "HS512")
_PUBLIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_LONGEST = 16 << 10
_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,256}\Z")
_AHEAD_S = 30.0
"""So far may an issuer's clock be ahead of ours: its tokens are good from the moment they arrive. None is good after its end."""
# Times are compared here, by our own clock; the audience too, since one that is not asked for may be named.
_OPTIONS: Any = {"require": ["exp"], "verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
_SYNONYMS = {"administrator": "admin", "editor": "operator", "user": "viewer", "reader": "viewer"}


class Tokens:
    """Issues and verifies tokens as the settings say."""

    def __init__(self, settings: AccessSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._keys = KeySet(settings.jwks, clock) if settings.jwks else None

    @property
    def issues(self) -> bool:
        """Whether there is a secret to sign with."""
        return bool(self._settings.signing_secret)

    def issue(self, name: str, *, role: str, tenant: str, lifetime_ms: int | None = None, scopes: tuple[str, ...] = ()) -> str:
        """A signed token for one user. Raises `BadInput` where there is no secret to sign it with."""
        import jwt

        if not self.issues:
            raise BadInput("tokens cannot be issued without a secret", hint="set JWT_SECRET")
        now = self._clock.now()
        lifetime = self._settings.token_lifetime if lifetime_ms is None else lifetime_ms
        claims: dict[str, Any] = {
            "sub": name,
            self._settings.jwt_role_claim: role,
            self._settings.jwt_tenant_claim: tenant,
            "iss": self._settings.jwt_issuer or ISSUER,
            "aud": self._settings.jwt_audience or AUDIENCE,
            "iat": int(now),
            "exp": int(now + lifetime / 1000),
        }
        if scopes:
            claims["scope"] = " ".join(scopes)
        with _quiet():
            return jwt.encode(claims, self._settings.signing_secret, algorithm="HS256")

    async def verify(self, token: str) -> tuple[Principal, float, str] | None:
        """(whom a token names, when it expires in Unix seconds, its issuer), None for whatever is wrong with it."""
        import jwt

        if len(token) > _LONGEST:
            return None
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(header)
            if key is None:
                return None
            with _quiet():
                claims = jwt.decode(token, key, algorithms=[header["alg"]], options=_OPTIONS)
        except (jwt.exceptions.PyJWTError, ValueError, TypeError):
            return None
        return self._principal(claims)

    async def _key(self, header: Mapping[str, Any]) -> Any:
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm in _SHARED:
            return self._settings.signing_secret or None
        if algorithm in _PUBLIC and self._keys is not None and (kid is None or isinstance(kid, str)):
            return await self._keys.find(kid, str(algorithm))
        return None

    def _principal(self, claims: Mapping[str, Any]) -> tuple[Principal, float, str] | None:
        now, settings = self._clock.now(), self._settings
        expires, begins, name, issuer = claims["exp"], claims.get("nbf", 0), claims.get("sub"), claims.get("iss", "")
        if not _is_number(expires) or not _is_number(begins) or not begins - _AHEAD_S <= now < expires:
            return None
        audience = claims.get("aud")
        named = [audience] if isinstance(audience, str) else audience
        if (named is not None or settings.jwt_audience) and (
            not isinstance(named, list) or (settings.jwt_audience or AUDIENCE) not in named
        ):
            return None
        if settings.jwt_issuer and issuer != settings.jwt_issuer:
            return None
        tenant = claims.get(settings.jwt_tenant_claim, DEFAULT_TENANT)
        if not isinstance(name, str) or not _NAME.match(name):
            return None
        # Another issuer may let its users write claims: what is no tenant's name must not become one, nor a file's.
        if not isinstance(tenant, str) or not (tenant == ANY_TENANT or is_tenant(tenant)):
            return None
        scopes = tuple(s for s in str(claims.get("scope", "")).split() if s in SCOPES)
        role = _role(claims.get(settings.jwt_role_claim))
        return Principal(name, role, tenant, scopes, kind="token"), float(expires), str(issuer)


def _role(claim: Any) -> str:
    """The highest role that a claim names; what names none may read."""
    named = [claim] if isinstance(claim, str) else claim if isinstance(claim, list) else []
    known = [_SYNONYMS.get(text.lower(), text.lower()) for text in named if isinstance(text, str)]
    return max((role for role in known if role in ROLES), key=ROLES.index, default=ROLES[0])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 53


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without PyJWT's warning about short secrets: the server says that itself, once, where its operator reads it."""
    from jwt.warnings import InsecureKeyLengthWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        yield
