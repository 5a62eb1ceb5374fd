"""Where the notifications' configuration comes from: a file, or, where there is none, an address or two from the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.notify.addresses import needs_tls, parse_url, split_smarthost


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """Whom to tell. With a file the other settings mean nothing."""

    config_file: str = ""
    """An `alertmanager.yml`, relative to the configuration file."""
    slack_webhook_url: str = option("", convert=parse_url, secret=True)
    email_server: str = ""
    """`host` or `host:port`. TLS is required, except on port 25, where relays of one's own house listen, and on this machine."""
    email_from: str = "alerts@example.com"
    email_to: str = ""
    """Who gets the mails; empty: the address they come from."""
    email_plots: bool = True
    """Whether mails show the expression of their alert over the last hour."""
    dead_channel_after: int = 2
    """After how many notifications in a row that a channel did not take another one is told of it; 0: never."""
    dead_channel_receiver: str = ""
    """Who is told of it; empty: the same receiver by its other channels, or the first other one that has some."""
    tenants: dict[str, str] = option(factory=dict)
    """An `alertmanager.yml` for each tenant that has one, besides the default tenant; relative to the configuration file."""
    history_retention: int = option(30 * 86_400_000, convert=parse_duration)
    """How long the history of alerts and the log of notifications are kept."""

    def __post_init__(self) -> None:
        if self.dead_channel_after < 0:
            raise BadInput("must not be negative", where="dead_channel_after", hint="0 turns it off")
        if self.history_retention <= 0:
            raise BadInput("must be more than 0", where="history_retention")

    def file(self, base: Path) -> Path | None:
        """The `alertmanager.yml`, its name taken from `base`."""
        return base / self.config_file if self.config_file else None

    def default_route(self) -> str | None:
        """An `alertmanager.yml` that tells every alert to the addresses given; None where there are none. Raises `BadInput`."""
        receiver: dict[str, Any] = {"name": "default"}
        if self.slack_webhook_url:
            receiver["slack_configs"] = [{"api_url": self.slack_webhook_url, "send_resolved": True}]
        if self.email_server:
            host, port = split_smarthost(self.email_server)
            mail = {"to": self.email_to or self.email_from, "from": self.email_from, "smarthost": f"{host}:{port}"}
            receiver["email_configs"] = [{**mail, "require_tls": needs_tls(host, port), "send_resolved": True}]
        if len(receiver) == 1:
            return None
        route = {"receiver": "default", "group_by": ["alertname"]}
        return str(yaml.safe_dump({"route": route, "receivers": [receiver]}, sort_keys=False))
