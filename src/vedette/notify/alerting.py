"""`alerting` of a Prometheus configuration: which Alertmanagers alerts are passed on to. Not here: doing it (`alertmanagers.py`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.model.labels import Labels
from vedette.model.relabel import RelabelConfig, relabel
from vedette.net.addresses import redacted_url
from vedette.net.config import HttpConfig


def _api_version(text: str) -> str:
    if text != "v2":
        raise BadInput(f"expected Alertmanager api version to be one of [v2] but got {text}")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """One of `static_configs`: addresses that share labels."""

    targets: tuple[str, ...] = ()
    labels: dict[str, str] = option(factory=dict)


_DISCOVERIES = (
    *("azure", "consul", "digitalocean", "dns", "docker", "dockerswarm", "ec2", "eureka", "file", "gce", "hetzner", "http", "ionos"),
    *("kubernetes", "kuma", "lightsail", "linode", "marathon", "nerve", "nomad", "openstack", "ovhcloud", "puppetdb", "scaleway"),
    *("serverset", "triton", "uyuni", "vultr"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertmanagerConfig(HttpConfig):
    """One of `alertmanagers`: where they are and how they are spoken to. `timeout` in ms."""

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "sigv4": "AWS signatures are not supported yet",
        **{f"{n}_sd_configs": "Alertmanagers are named in static_configs only, yet" for n in _DISCOVERIES},
    }

    scheme: Literal["http", "https"] = "http"
    path_prefix: str = ""
    timeout: int = option(10_000, convert=parse_duration)
    api_version: str = option("v2", convert=_api_version)
    static_configs: tuple[Targets, ...] = ()
    relabel_configs: tuple[RelabelConfig, ...] = ()
    alert_relabel_configs: tuple[RelabelConfig, ...] = ()

    def __post_init__(self) -> None:
        HttpConfig.__post_init__(self)
        if self.relabel_configs:
            return
        for group in self.static_configs:
            for address in group.targets:
                if "/" in address:  # a URL in place of an address; with relabelling it may be meant so
                    raise BadInput(f'"{address}" is not a valid hostname', where="static_configs", hint="host:port, without scheme or path")

    def urls(self) -> list[str]:
        """Where alerts are posted, after relabelling, each once."""
        found: dict[str, None] = {}
        for group in self.static_configs:
            for address in group.targets:
                meta = {"__address__": address, "__scheme__": self.scheme, "__alerts_path__": self._path(), **group.labels}
                labels = relabel(Labels.of(meta), self.relabel_configs)
                if labels is not None:
                    found[f"{labels.get('__scheme__')}://{labels.get('__address__')}{labels.get('__alerts_path__')}"] = None
        return list(found)

    def _path(self) -> str:
        prefix = self.path_prefix.strip("/")
        return f"/{prefix}/api/v2/alerts" if prefix else "/api/v2/alerts"


@dataclass(frozen=True, slots=True)
class AlertingConfig:
    """`alerting` of a Prometheus configuration."""

    alert_relabel_configs: tuple[RelabelConfig, ...] = ()
    alertmanagers: tuple[AlertmanagerConfig, ...] = ()

    def with_url(self, url: str) -> AlertingConfig:
        """The same with one more Alertmanager, by the URL of its pages (`ALERTMANAGER_URL`)."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise BadInput(f"not a URL: {redacted_url(url)}", where="ALERTMANAGER_URL", hint="expected such as http://alertmanager:9093")
        added = AlertmanagerConfig(
            scheme="https" if parts.scheme == "https" else "http",
            path_prefix=parts.path,
            static_configs=(Targets(targets=(parts.netloc,)),),
        )
        return replace(self, alertmanagers=(*self.alertmanagers, added))
