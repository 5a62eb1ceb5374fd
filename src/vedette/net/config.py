"""The HTTP client part of Prometheus' configuration files: credentials, TLS, headers, redirects. Not here: asking."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.net.proxy import ProxyConfig

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


def _token_url(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise BadInput(f"not a URL of tokens: {text.partition('://')[0]}", hint="expected http:// or https://")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2(ProxyConfig):
    """`oauth2`: a token is fetched by the grant of client credentials. The secret's file is read anew for each token."""

    client_id: str = ""
    client_secret: str = option("", secret=True)
    client_secret_file: str = ""
    scopes: tuple[str, ...] = ()
    token_url: str = option("", convert=_token_url)
    endpoint_params: Mapping[str, str] = option(factory=dict)
    tls_config: TlsConfig = field(default_factory=TlsConfig)

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "client_secret_ref": "secret managers are not supported; use client_secret_file",
        "client_certificate_key": "clients authenticate by a secret; assertions are not supported",
        "grant_type": "tokens are fetched by the grant of client credentials only; remove the key",
    }

    def __post_init__(self) -> None:
        ProxyConfig.__post_init__(self)
        for name in ("client_id", "token_url"):
            if not getattr(self, name):
                raise BadInput(f"oauth2 {name} must be configured")
        if self.client_secret and self.client_secret_file:
            raise BadInput("at most one of oauth2 client_secret & client_secret_file must be configured")

    def secret(self) -> str:
        """The client's secret. Raises `BadInput` for a bad file."""
        return read_secret(self.client_secret_file) if self.client_secret_file else self.client_secret

    def under(self, base: Path) -> Self:
        """The same with relative file names taken from `base`."""
        return replace(self, client_secret_file=_under(base, self.client_secret_file), tls_config=self.tls_config.under(base))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderValues:
    """The values of one of `http_headers`: plain, secret, and from files."""

    values: tuple[str, ...] = ()
    secrets: tuple[str, ...] = option((), secret=True)
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig(ProxyConfig):
    """The HTTP client settings that stand in `scrape_configs`, `http_sd_configs`, `alertmanagers` and `http_config`."""

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: OAuth2 | None = None
    bearer_token: str = option("", secret=True)
    bearer_token_file: str = ""
    tls_config: TlsConfig = field(default_factory=TlsConfig)
    follow_redirects: bool = True
    enable_http2: bool = True
    http_headers: Mapping[str, HeaderValues] = option(factory=dict)

    def __post_init__(self) -> None:
        ProxyConfig.__post_init__(self)
        if self.bearer_token and self.bearer_token_file:
            raise BadInput("at most one of bearer_token & bearer_token_file must be configured")
        bearer = bool(self.bearer_token or self.bearer_token_file)
        if sum((self.basic_auth is not None, self.oauth2 is not None, bearer)) > 1:
            raise BadInput("at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured")
        if self.authorization is not None and bearer:
            raise BadInput("authorization is not compatible with bearer_token & bearer_token_file")
        if self.authorization is not None and (self.basic_auth is not None or self.oauth2 is not None):
            raise BadInput("at most one of basic_auth, oauth2 & authorization must be configured")
        for name in self.http_headers:
            if name.lower() in _RESERVED_HEADERS:
                raise BadInput(f"setting header {name!r} is not allowed", where="http_headers")

    def headers(self) -> dict[str, str]:
        """The headers that carry this configuration's credentials; files are read now. Raises `BadInput` for a bad file.

        That of `oauth2` is not among them: it has to be asked for (`oauth2.Tokens`).
        """
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
            oauth2=self.oauth2 and self.oauth2.under(base),
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
