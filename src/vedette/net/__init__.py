"""Outbound HTTP: `HttpConfig` as Prometheus' files write it, `HttpClient` to ask with it, `Answer` for what comes back."""

from vedette.net.addresses import is_public, redacted_url
from vedette.net.answers import Answer
from vedette.net.client import DEFAULT_MAX_BYTES, MAX_REDIRECTS, HttpClient
from vedette.net.config import Authorization, BasicAuth, HeaderValues, HttpConfig, OAuth2, TlsConfig, read_secret

__all__ = [
    "DEFAULT_MAX_BYTES",
    "MAX_REDIRECTS",
    "Answer",
    "Authorization",
    "BasicAuth",
    "HeaderValues",
    "HttpClient",
    "HttpConfig",
    "OAuth2",
    "TlsConfig",
    "is_public",
    "read_secret",
    "redacted_url",
]
