"""What an operator can say about Graphite, StatsD and pushed groups. Durations are milliseconds, sizes are bytes."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

from vedette.access.principal import is_tenant
from vedette.configfile import option
from vedette.errors import BadInput
from vedette.ingest.mapping import Rule
from vedette.logs.settings import parse_address
from vedette.model.durations import parse_duration
from vedette.storage.settings import parse_size
from vedette.wire.naming import Names, parse_names


def parse_network(text: str) -> str:
    """A network whose senders are listened to (`10.0.0.0/8`, or one address). Raises `BadInput`."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise BadInput(f"not a network: {text!r}", hint="expected one such as 10.0.0.0/8, or an address") from None


def parse_tenant(text: str) -> str:
    """A tenant's name. Raises `BadInput`."""
    if not is_tenant(text):
        raise BadInput(f"not a tenant name: {text!r}", hint="expected 1 to 150 letters, digits or !-_.*'()")
    return text


@dataclass(frozen=True, slots=True)
class _Named:
    """What both dotted protocols have."""

    tcp: str = option("", convert=parse_address)
    """Where to listen over TCP, `host:port`; empty: nowhere."""
    udp: str = option("", convert=parse_address)
    """Where to listen over UDP; empty: nowhere."""
    allow: tuple[str, ...] = option((), convert=parse_network)
    """The networks that are listened to, besides this machine; needed beyond loopback, since the protocol has no credentials."""
    tenant: str = option("default", convert=parse_tenant)
    """Whose the metrics are."""
    labels: dict[str, str] = option(factory=dict)
    """Labels that every series gets which does not say otherwise."""
    names: Names = option("underscores", convert=parse_names)
    """What becomes of dots, and of all else that PromQL would want quoted: `underscores`, or `utf8` as it was sent."""
    mappings: tuple[Rule, ...] = ()
    """Rules that make metrics with labels of dotted names."""
    mapping_file: str = ""
    """A file of such rules, as statsd_exporter and graphite_exporter read it; in the place of `mappings`."""
    strict: bool = False
    """Whether a name that no rule matches is dropped."""
    max_line: int = option(16 << 10, convert=parse_size)
    """The longest line; a longer one is left out."""

    def __post_init__(self) -> None:
        if self.mappings and self.mapping_file:
            raise BadInput("mappings and mapping_file contradict each other", where="mapping_file", hint="set only one of them")
        if self.max_line < 1:
            raise BadInput(f"{self.max_line} where at least 1 is expected", where="max_line")


@dataclass(frozen=True, slots=True)
class GraphiteSettings(_Named):
    """Graphite's plaintext and pickle protocols, and OpenTSDB's lines."""

    pickle: str = option("", convert=parse_address)
    """Where to take the pickle protocol, over TCP; empty: nowhere."""
    opentsdb: str = option("", convert=parse_address)
    """Where to take OpenTSDB's `put metric time value tag=value`, over TCP; empty: nowhere."""
    max_pickle: int = option(1 << 20, convert=parse_size)
    """The largest piece of the pickle protocol."""


@dataclass(frozen=True, slots=True)
class StatsdSettings(_Named):
    """StatsD and its dialects."""

    interval: int = option(10_000, convert=parse_duration)
    """How often what was counted is written."""
    ttl: int = option(86_400_000, convert=parse_duration)
    """After how long a series that gets nothing ends; 0: never. A mapping's own wins."""
    max_series: int = 100_000
    """How many metrics, label sets counted apart, are kept at once; more are dropped until some end."""
    max_points: int = 1024
    """Over how many of its last observations a summary's quantiles are taken at the most."""
    max_members: int = 100_000
    """How many different values a set counts in one interval at the most."""
    observer: Literal["summary", "histogram"] = "summary"
    """What becomes of timers, histograms and distributions that no rule says it of."""

    def __post_init__(self) -> None:
        # Not `super()`: a slotted dataclass is made anew, and the name here is still the old one.
        _Named.__post_init__(self)
        for name in ("interval", "max_series", "max_points", "max_members"):
            if getattr(self, name) < 1:
                raise BadInput(f"{getattr(self, name)} where at least 1 is expected", where=name)


@dataclass(frozen=True, slots=True)
class PushedSettings:
    """Groups of metrics that jobs push and that stay until they are deleted: a Pushgateway's."""

    interval: int = option(15_000, convert=parse_duration)
    """How often the values of all groups are written again, as a scrape would."""
    max_groups: int = 10_000
    """How many groups a tenant may have."""
    max_body: int = option(16 << 20, convert=parse_size)
    """The largest body of a push, once unpacked."""
    admin_api: bool = False
    """Whether all groups may be deleted at once."""

    def __post_init__(self) -> None:
        for name in ("interval", "max_groups"):
            if getattr(self, name) < 1:
                raise BadInput(f"{getattr(self, name)} where at least 1 is expected", where=name)
