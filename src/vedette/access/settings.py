"""The settings of access: who may come in, by what they are known, how long that lasts."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.model.matchers import compile_regex

AUTHENTICATION = ("auto", "required")


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """Who may ask, and whose pages may read the answers. Times are ms."""

    authentication: str = "auto"
    """`auto`: everybody is asked who they are once there is a key, a token secret or a user; `required`: always."""
    api_key: str = option("", secret=True)
    """A key that may do everything, for every tenant."""
    jwt_secret: str = option("", secret=True)
    """Signs and verifies tokens (HS256, HS384, HS512)."""
    secret_key: str = option("", secret=True)
    """Stands for `jwt_secret` where that is not set."""
    jwks: str = ""
    """A URL or a file of public keys: whose tokens (RS, PS, ES, EdDSA) are taken beside our own."""
    jwt_audience: str = ""
    """What tokens must be meant for. Empty: those that name an audience must name `vedette`."""
    jwt_issuer: str = ""
    """Who must have issued tokens; empty: anyone whose signature holds."""
    jwt_role_claim: str = "role"
    """Which claim of a token says the role: a name, or a list of them, of which the highest counts."""
    jwt_tenant_claim: str = "tenant_id"
    """Which claim of a token says the tenant; without it, it is the default tenant's."""
    token_lifetime: int = option(3_600_000, convert=parse_duration)
    """How long a token is good that is issued here."""
    session_lifetime: int = option(43_200_000, convert=parse_duration)
    """How long a login in the browser lasts."""
    audit_retention: int = option(90 * 86_400_000, convert=parse_duration)
    """How long it is known who changed what."""
    redis_url: str = option("", secret=True)
    """Where several instances count requests together; empty: each counts its own."""
    hosts: tuple[str, ...] = ()
    """Names this server goes by, besides those of loopback."""
    cors_origin: str = ""
    """A regular expression, matched whole, of the origins whose pages may read answers (never with credentials).

    Empty: every origin once a credential is asked for, as with Prometheus; none without one, or any page that a user of this
    machine looks at could read all its metrics.
    """

    def __post_init__(self) -> None:
        compile_regex(self.cors_origin, where="cors_origin")
        if self.authentication not in AUTHENTICATION:
            raise BadInput(f"not a way: {self.authentication!r}", where="authentication", hint="expected " + " or ".join(AUTHENTICATION))
        for name in ("token_lifetime", "session_lifetime"):
            if getattr(self, name) < 1000:
                raise BadInput("shorter than a second", where=name)

    @property
    def authenticated(self) -> bool:
        """Whether everybody is asked who they are, whatever users there are."""
        return self.authentication == "required" or bool(self.api_key or self.signing_secret or self.jwks)

    @property
    def signing_secret(self) -> str:
        """What signs and verifies our own tokens, "" for nothing."""
        return self.jwt_secret or self.secret_key

    @property
    def reading_origins(self) -> str:
        """`cors_origin`, or what stands for it where it is empty; the empty expression matches no origin."""
        return self.cors_origin or (".*" if self.authenticated else "")
