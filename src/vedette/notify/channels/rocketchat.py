"""Rocket.Chat, by `chat.postMessage`."""

from __future__ import annotations

from typing import Any

import orjson

from vedette.errors import Undeliverable
from vedette.net.answers import Answer
from vedette.notify.channels.posting import Http, HttpChannel, Letter, filled, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice, Receipt
from vedette.notify.receivers import RocketchatConfig
from vedette.notify.template import Templates, Words

API = "https://open.rocket.chat/"


class Rocketchat(HttpChannel):
    """One Rocket.Chat channel of one receiver."""

    kind = "rocketchat"

    def __init__(self, config: RocketchatConfig, fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config, self._global = config, fallback

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The message."""
        config, outer, text = self._config, self._global, words.text
        token = secret(config.token, config.token_file) or secret(outer.rocketchat_token, outer.rocketchat_token_file)
        user = secret(config.token_id, config.token_id_file) or secret(outer.rocketchat_token_id, outer.rocketchat_token_id_file)
        attachment = filled(
            title=text(config.title),
            title_link=text(config.title_link),
            text=text(config.text),
            color=text(config.color),
            image_url=text(config.image_url),
            thumb_url=text(config.thumb_url),
            fields=[
                {"title": text(f.title), "value": text(f.value), "short": config.short_fields if f.short is None else f.short}
                for f in config.fields
            ],
            actions=[filled(type="button", text=text(a.text), url=text(a.url), msg=text(a.msg)) for a in config.actions],
        )
        message = filled(
            channel=text(config.channel),
            alias=text('{{ template "rocketchat.default.alias" . }}'),
            emoji=text(config.emoji),
            avatar=text(config.icon_url),
            attachments=[attachment],
        )
        headers = {"X-Auth-Token": token, "X-User-Id": user}
        base = (config.api_url or outer.rocketchat_api_url or API).rstrip("/")
        return Letter(f"{base}/api/v1/chat.postMessage", message, headers)

    def judge(self, answer: Answer) -> Receipt:
        """The API answers 200 with `"success": false` for what it does not do."""
        receipt = super().judge(answer)
        try:
            said: Any = orjson.loads(answer.body or b"{}")
        except orjson.JSONDecodeError:
            raise Undeliverable("Rocket.Chat's answer is not JSON", reason="protocol", retryable=True) from None
        if isinstance(said, dict) and said.get("success") is False:
            raise Undeliverable(f"Rocket.Chat refused: {str(said.get('error'))[:200]}", reason="status", retryable=False)
        return receipt
