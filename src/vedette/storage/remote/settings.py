"""Where the remote server is, and how it is asked. Not here: asking (`client.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.net.config import BasicAuth, HeaderValues, HttpConfig, TlsConfig
from vedette.storage.settings import parse_size


def parse_server_url(text: str) -> str:
    """`http(s)://host:port/prefix` without its last slash; empty stays. Raises `BadInput`."""
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise BadInput("not a URL", hint="expected http://host:port") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput("not the URL of a server", hint="expected http://host:port")
    if parts.username or parts.password:
        raise BadInput("a URL with a password in it", hint="give it as remote.username and remote.password")
    if parts.query or parts.fragment:
        raise BadInput("a URL with a query or a fragment", hint="expected http://host:port/prefix")
    return text.rstrip("/")


def _most(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise BadInput(f"{text!r} where a whole number of 1 or more is expected")
    return int(text)


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """The server of `storage.backend: remote`: Prometheus' HTTP API and remote write."""

    url: str = option("", convert=parse_server_url)
    """The beginning of its API, to which `/api/v1/query` and the like are added."""
    write_url: str = option("", convert=parse_server_url)
    """Where samples are sent; empty is `/api/v1/write` of `url`."""
    write_version: Literal["auto", "1.0", "2.0"] = "auto"
    """Which remote write is spoken; `auto` is 2.0 where the server takes it."""
    tenant_header: str = ""
    """The header that names the tenant, such as `X-Scope-OrgID`; empty where the server has none, and neither has Vedette then."""
    username: str = ""
    password: str = option("", secret=True)
    password_file: str = ""
    bearer_token: str = option("", secret=True)
    bearer_token_file: str = ""
    headers: dict[str, str] = option(factory=dict, secret=True)
    """Further headers of each request."""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    insecure_skip_verify: bool = False
    timeout: int = option(60_000, convert=parse_duration)
    """For one request, ms."""
    queue_size: int = option(1 << 30, convert=parse_size)
    """How much may wait on disk to be sent; more is refused."""
    lanes: int = option(4, convert=_most)
    """How many requests are on their way at once."""
    max_samples: int = option(10_000, convert=_most)
    """How many samples one request holds at most, where it is made of several writes."""
    min_backoff: int = option(30, convert=parse_duration)
    max_backoff: int = option(5_000, convert=parse_duration)

    @property
    def http(self) -> HttpConfig:
        """How to connect. Raises `BadInput` for what does not go together."""
        basic = BasicAuth(username=self.username, password=self.password, password_file=self.password_file) if self.username else None
        return HttpConfig(
            basic_auth=basic,
            bearer_token=self.bearer_token,
            bearer_token_file=self.bearer_token_file,
            http_headers={name: HeaderValues(secrets=(value,)) for name, value in self.headers.items()},
            tls_config=TlsConfig(
                ca_file=self.ca_file,
                cert_file=self.cert_file,
                key_file=self.key_file,
                server_name=self.server_name,
                insecure_skip_verify=self.insecure_skip_verify,
            ),
        )


NOWHERE = RemoteSettings()
"""No server."""
