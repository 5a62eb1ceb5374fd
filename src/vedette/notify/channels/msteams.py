"""Microsoft Teams by an incoming webhook of the old kind (Office 365 connectors): a MessageCard. Workflows: `teams.py`."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.net.config import HttpConfig
from vedette.notify.addresses import parse_url
from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut, filled, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice
from vedette.notify.receivers import at_most_one
from vedette.notify.template import Templates, Words

MAX_TEXT = 16 << 10
_RED, _GREEN = "8C1A1A", "2DC72D"


@dataclass(frozen=True, slots=True, kw_only=True)
class MsteamsConfig:
    """One of `msteams_configs`."""

    webhook_url: str = option("", convert=parse_url, secret=True)
    webhook_url_file: str = ""
    send_resolved: bool = True
    title: str = '{{ template "msteams.default.title" . }}'
    summary: str = '{{ template "msteams.default.summary" . }}'
    text: str = '{{ template "msteams.default.text" . }}'
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        if not self.webhook_url and not self.webhook_url_file:
            raise BadInput("one of webhook_url or webhook_url_file must be configured")
        at_most_one(self, "webhook_url")


class Msteams(HttpChannel):
    """One connector of one receiver."""

    kind = "msteams"

    def __init__(self, config: MsteamsConfig, _fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config = config

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The card."""
        config, text = self._config, words.text
        card = filled(title=text(config.title), summary=text(config.summary), text=cut(text(config.text), MAX_TEXT))
        colour = _RED if notice.status == "firing" else _GREEN
        shape = {"@context": "http://schema.org/extensions", "@type": "MessageCard", "themeColor": colour}
        return Letter(secret(config.webhook_url, config.webhook_url_file), {**shape, **card})
