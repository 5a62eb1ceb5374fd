"""incident.io, by an alert source of the kind Alertmanager: the webhook's payload with the source's token."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_go_duration
from vedette.net.config import HttpConfig
from vedette.notify.addresses import parse_url
from vedette.notify.channels.posting import Http, HttpChannel, Letter, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice
from vedette.notify.receivers import at_most_one
from vedette.notify.template import Templates, Words


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentioConfig:
    """One of `incidentio_configs`; `timeout` in ms, 0 for the usual one."""

    url: str = option("", convert=parse_url)
    url_file: str = ""
    alert_source_token: str = option("", secret=True)
    alert_source_token_file: str = ""
    send_resolved: bool = True
    max_alerts: int = 0
    timeout: int = option(0, convert=parse_go_duration)
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        if not self.url and not self.url_file:
            raise BadInput("one of url or url_file must be configured")
        at_most_one(self, "url", "alert_source_token")
        authorized = self.http_config is not None and self.http_config.authorization is not None
        token = self.alert_source_token or self.alert_source_token_file
        if authorized and token:
            raise BadInput("cannot specify alert_source_token or alert_source_token_file when using http_config.authorization")
        if not authorized and not token:
            raise BadInput("at least one of alert_source_token, alert_source_token_file or http_config.authorization must be configured")


class Incidentio(HttpChannel):
    """One alert source of one receiver."""

    kind = "incidentio"

    def __init__(self, config: IncidentioConfig, _fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config = config
        self.timeout_ms = config.timeout

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The notice."""
        # Not at the top: `webhook` reads the configuration's module, which reads this one.
        from vedette.notify.channels.webhook import payload

        config = self._config
        token = secret(config.alert_source_token, config.alert_source_token_file)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return Letter(secret(config.url, config.url_file), payload(notice, max_alerts=config.max_alerts), headers)
