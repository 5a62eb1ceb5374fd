"""Telegram, by a bot's `sendMessage`."""

from __future__ import annotations

import html
import re
from typing import Any

import orjson

from vedette.errors import BadInput, Undeliverable
from vedette.net.answers import Answer
from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut, filled, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice, Receipt
from vedette.notify.receivers import TelegramConfig
from vedette.notify.template import Templates, Words

API = "https://api.telegram.org"
MAX_TEXT = 4096


class Telegram(HttpChannel):
    """One chat of one receiver."""

    kind = "telegram"

    def __init__(self, config: TelegramConfig, fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config, self._global = config, fallback

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The message."""
        config, outer = self._config, self._global
        source = (config.bot_token, config.bot_token_file)
        token = secret(*source) if any(source) else secret(outer.telegram_bot_token, outer.telegram_bot_token_file)
        written = words.html(config.message) if config.parse_mode == "HTML" else words.text(config.message)
        text, mode = _fitting(written, config.parse_mode)
        message = filled(
            chat_id=config.chat_id or _chat(secret("", config.chat_id_file)),
            message_thread_id=config.message_thread_id or None,
            text=text,
            parse_mode=mode,
            disable_notification=config.disable_notifications,
            link_preview_options={"is_disabled": True},
        )
        return Letter(f"{(config.api_url or outer.telegram_api_url or API).rstrip('/')}/bot{token}/sendMessage", message)

    def judge(self, answer: Answer) -> Receipt:
        """How long to wait stands in the body here."""
        if answer.status == 429:
            raise Undeliverable("Telegram asks to wait", reason="status", retryable=True, retry_after=_wait(answer.body))
        return super().judge(answer)


def _chat(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadInput("not a whole number", where="chat_id_file") from None


def _fitting(text: str, mode: str) -> tuple[str, str]:
    """A text within Telegram's limit and its mode; what is too long loses its mark-up, since half a tag would be refused."""
    if len(text) <= MAX_TEXT or not mode:
        return cut(text, MAX_TEXT), mode
    plain = html.unescape(re.sub(r"<[^>]*>", "", text)) if mode == "HTML" else text
    return cut(plain, MAX_TEXT), ""


def _wait(body: bytes) -> float | None:
    try:
        said: Any = orjson.loads(body)
        return float(said["parameters"]["retry_after"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
