"""Discord, by a channel's webhook: a message with one embed."""

from __future__ import annotations

from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut, filled, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice
from vedette.notify.receivers import DiscordConfig
from vedette.notify.template import Templates, Words

MAX_CONTENT, MAX_TITLE, MAX_DESCRIPTION = 2000, 256, 4096
_MENTIONS = {"everyone": ("@everyone", "@here"), "roles": ("<@&",), "users": ("<@",)}
RED, GREEN = 0x992D22, 0x2ECC71


class Discord(HttpChannel):
    """One Discord channel of one receiver."""

    kind = "discord"

    def __init__(self, config: DiscordConfig, _fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config = config

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The message."""
        config, text = self._config, words.text
        embed = filled(
            title=cut(text(config.title), MAX_TITLE),
            description=cut(text(config.message), MAX_DESCRIPTION),
            color=RED if notice.status == "firing" else GREEN,
        )
        message = filled(
            content=cut(text(config.content), MAX_CONTENT),
            embeds=[embed],
            username=text(config.username),
            avatar_url=text(config.avatar_url),
            # Whom the operator's own text names is called; an alert's text calls nobody.
            allowed_mentions={"parse": [kind for kind, marks in _MENTIONS.items() if any(m in config.content for m in marks)]},
        )
        return Letter(secret(config.webhook_url, config.webhook_url_file), message)
