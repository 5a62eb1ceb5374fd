"""Microsoft Teams, by a workflow ("post to a channel when a webhook request is received"): an adaptive card."""

from __future__ import annotations

from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice
from vedette.notify.receivers import TeamsConfig
from vedette.notify.template import Templates, Words

MAX_TEXT = 16 << 10
"""Characters: a card over 28 KB is refused."""


class Teams(HttpChannel):
    """One workflow of one receiver."""

    kind = "msteamsv2"

    def __init__(self, config: TeamsConfig, _fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config = config

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The message with its card."""
        config = self._config
        heading = {
            "type": "TextBlock",
            "text": cut(words.text(config.title), 1024),
            "weight": "Bolder",
            "size": "Medium",
            "wrap": True,
            "style": "heading",
            "color": "Attention" if notice.status == "firing" else "Good",
        }
        card = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": [heading, {"type": "TextBlock", "text": cut(words.text(config.text), MAX_TEXT), "wrap": True}],
            "msteams": {"width": "Full"},
        }
        message = {
            "type": "message",
            "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}],
        }
        return Letter(secret(config.webhook_url, config.webhook_url_file), message)
