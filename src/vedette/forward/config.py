"""`remote_write` of a Prometheus configuration, and how much may wait for those it names. Not here: sending."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.model.relabel import RelabelConfig
from vedette.net.addresses import redacted_url
from vedette.net.config import HttpConfig
from vedette.storage.settings import parse_size

_V1 = "prometheus.WriteRequest"
V2 = "io.prometheus.write.v2.Request"
_LANES = 8


def _url(text: str) -> str:
    # Here, and not above: who reads settings without remote_write needs none of it.
    import httpx

    try:
        parsed = httpx.URL(text)
    except httpx.InvalidURL:
        raise BadInput("not a URL", hint="expected http://host:port/api/v1/write") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise BadInput("not the URL of a server", hint="expected http://host:port/api/v1/write")
    return text


def _message(text: str) -> str:
    if text not in ("", _V1, V2):
        raise BadInput(f"{text!r} is not a message of remote write", hint=f"expected {_V1} or {V2}")
    return text


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise BadInput(f"{text!r} where a whole number of 1 or more is expected")
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """`queue_config`. `capacity`, `min_shards`, `batch_send_deadline` and `retry_on_http_429` are read and have no effect: the queue is on
    disk, what waits is sent at once, and what may be sent again always is."""

    capacity: int = option(10_000, convert=_count)
    max_shards: int = option(50, convert=_count)
    min_shards: int = option(1, convert=_count)
    max_samples_per_send: int = option(2_000, convert=_count)
    batch_send_deadline: int = option(5_000, convert=parse_duration)
    min_backoff: int = option(30, convert=parse_duration)
    max_backoff: int = option(5_000, convert=parse_duration)
    retry_on_http_429: bool = False

    UNSUPPORTED: ClassVar[dict[str, str]] = {"sample_age_limit": "nothing that waits is given up for its age; remove it"}

    @property
    def lanes(self) -> int:
        """How many requests are on their way at once."""
        return min(self.max_shards, _LANES)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataConfig:
    """`metadata_config`: metadata goes with the samples once it changes, so that only `send` has an effect."""

    send: bool = True
    send_interval: int = option(60_000, convert=parse_duration)
    max_samples_per_send: int = option(2_000, convert=_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteWriteConfig(HttpConfig):
    """One of `remote_write`. Exemplars are not sent; `round_robin_dns` has no effect."""

    url: str = option(convert=_url)
    name: str = ""
    remote_timeout: int = option(30_000, convert=parse_duration)
    protobuf_message: str = option("", convert=_message)
    request_headers: Mapping[str, str] = option(factory=dict, key="headers", secret=True)
    write_relabel_configs: tuple[RelabelConfig, ...] = ()
    send_exemplars: bool = False
    send_native_histograms: bool = False
    round_robin_dns: bool = False
    queue_config: QueueConfig = field(default_factory=QueueConfig)
    metadata_config: MetadataConfig = field(default_factory=MetadataConfig)

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "sigv4": "requests are not signed for AWS; put a signing proxy between",
        "azuread": "Azure's credentials are not supported; put a proxy between",
        "google_iam": "Google's credentials are not supported; put a proxy between",
    }

    def __post_init__(self) -> None:
        HttpConfig.__post_init__(self)
        for header in self.request_headers:
            if header.lower() in (
                "authorization",
                "host",
                "content-encoding",
                "content-length",
                "content-type",
                "connection",
                "user-agent",
            ):
                raise BadInput(f"{header!r} may not be set", where="headers")

    @property
    def label(self) -> str:
        """What it is called in metrics, in the log and on disk: its name, or what its URL comes to."""
        return self.name or hashlib.sha256(self.url.encode()).hexdigest()[:12]

    @property
    def shown_url(self) -> str:
        """The URL fit for logs."""
        return redacted_url(self.url)

    def under(self, base: Path) -> RemoteWriteConfig:
        """The same with relative file names taken from `base`."""
        return HttpConfig.under(self, base)


@dataclass(frozen=True, slots=True)
class ForwardSettings:
    """What all that is forwarded has in common."""

    queue_size: int = option(1 << 30, convert=parse_size)
    """How much may wait on disk for one server; more is not forwarded, and counted."""


def checked(configs: Sequence[RemoteWriteConfig]) -> tuple[RemoteWriteConfig, ...]:
    """The same. Raises `BadInput` for names that occur twice, and a name that is no directory's."""
    seen: set[str] = set()
    for i, config in enumerate(configs):
        where = f"remote_write[{i}]"
        if config.label in seen:
            raise BadInput(f"found multiple remote write configs with job name {config.label!r}", where=where, hint="give each a name")
        if config.name and (config.name in (".", "..") or "/" in config.name or "\0" in config.name or len(config.name) > 100):
            raise BadInput(f"{config.name[:100]!r} is no name for a queue", where=f"{where}.name", hint="at most 100 characters, without /")
        seen.add(config.label)
    return tuple(configs)


def of_file(configs: Sequence[RemoteWriteConfig], base: Path) -> tuple[RemoteWriteConfig, ...]:
    """The configurations of a file in `base`, checked."""
    return tuple(config.under(base) for config in checked(configs))
