"""Webex, by the messages of its API."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.net.config import HttpConfig
from vedette.notify.addresses import parse_url
from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice
from vedette.notify.template import Templates, Words

API = "https://webexapis.com/v1/messages"
MAX_TEXT = 7439


@dataclass(frozen=True, slots=True, kw_only=True)
class WebexConfig:
    """One of `webex_configs`; the bot's token stands in `http_config.authorization`."""

    api_url: str = option("", convert=parse_url)
    room_id: str = ""
    message: str = '{{ template "webex.default.message" . }}'
    send_resolved: bool = True
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        if not self.room_id:
            raise BadInput("missing room_id on webex_config", where="room_id")
        if self.http_config is None or self.http_config.authorization is None:
            raise BadInput("missing webex_configs.http_config.authorization", where="http_config")


class Webex(HttpChannel):
    """One room of one receiver."""

    kind = "webex"

    def __init__(self, config: WebexConfig, fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config, self._url = config, config.api_url or fallback.webex_api_url or API

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The message."""
        config = self._config
        return Letter(self._url, {"markdown": cut(words.text(config.message), MAX_TEXT), "roomId": words.text(config.room_id)})
