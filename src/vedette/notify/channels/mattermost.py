"""Mattermost, by an incoming webhook."""

from __future__ import annotations

from dataclasses import fields

from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut, filled, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice
from vedette.notify.receivers import MattermostConfig
from vedette.notify.template import Templates, Words

MAX_TEXT = 16_383


class Mattermost(HttpChannel):
    """One Mattermost channel of one receiver."""

    kind = "mattermost"

    def __init__(self, config: MattermostConfig, fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config, self._global = config, fallback

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The message."""
        config, outer, text = self._config, self._global, words.text
        own = secret(config.webhook_url, config.webhook_url_file)
        message = filled(
            channel=text(config.channel),
            username=text(config.username),
            text=cut(text(config.text), MAX_TEXT),
            icon_url=text(config.icon_url),
            icon_emoji=text(config.icon_emoji),
            attachments=[filled(**{f.name: text(getattr(a, f.name)) for f in fields(a)}) for a in config.attachments],
        )
        return Letter(own or secret(outer.mattermost_webhook_url, outer.mattermost_webhook_url_file), message)
