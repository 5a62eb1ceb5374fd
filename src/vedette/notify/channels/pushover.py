"""Pushover."""

from __future__ import annotations

from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut, filled, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice
from vedette.notify.receivers import PushoverConfig
from vedette.notify.template import Templates, Words

MAX_TITLE, MAX_MESSAGE, MAX_URL = 250, 1024, 512


class Pushover(HttpChannel):
    """One user or group of one receiver."""

    kind = "pushover"

    def __init__(self, config: PushoverConfig, _fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config = config

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The message."""
        config, text = self._config, words.text
        message = words.html(config.message) if config.html else text(config.message)
        form = filled(
            token=secret(config.token, config.token_file),
            user=secret(config.user_key, config.user_key_file),
            title=cut(text(config.title), MAX_TITLE),
            # An empty one is refused, and then nobody would hear of the alert.
            message=cut(message.strip() or "(no details)", MAX_MESSAGE),
            url=cut(text(config.url), MAX_URL),
            url_title=text(config.url_title),
            device=text(config.device),
            sound=text(config.sound),
            priority=text(config.priority),
            retry=str(config.retry // 1000),
            expire=str(config.expire // 1000),
            ttl=str(config.ttl // 1000) if config.ttl else "",
            html="1" if config.html else "",
            monospace="1" if config.monospace else "",
        )
        return Letter(config.api_url, form, form=True)
