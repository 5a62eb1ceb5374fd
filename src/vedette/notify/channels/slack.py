"""Slack: a message with one attachment, by an incoming webhook or as an app (`chat.postMessage`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson

from vedette.errors import Undeliverable
from vedette.net.answers import Answer
from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut, filled, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice, Receipt
from vedette.notify.receivers import SLACK_POST_MESSAGE, SlackAction, SlackConfig
from vedette.notify.template import Templates, Words

MAX_TITLE = 1024
_PASSING = frozenset(("rate_limited", "ratelimited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"))
_GONE = frozenset(("message_not_found", "cant_update_message", "edit_window_closed"))
"""What Slack says of a message that was deleted, is another's, or is too old."""


class _CannotUpdate(Undeliverable):
    """The message to change is not there any more."""


class Slack(HttpChannel):
    """One Slack channel of one receiver."""

    kind = "slack"

    def __init__(self, config: SlackConfig, fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config, self._global = config, fallback
        self.timeout_ms = config.timeout

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The message."""
        config = self._config
        url, token = self._address()
        text = words.text
        attachment = filled(
            title=cut(text(config.title), MAX_TITLE),
            title_link=text(config.title_link),
            pretext=text(config.pretext),
            text=text(config.text),
            fallback=text(config.fallback),
            callback_id=text(config.callback_id),
            image_url=text(config.image_url),
            thumb_url=text(config.thumb_url),
            footer=text(config.footer),
            color=text(config.color),
            mrkdwn_in=list(config.mrkdwn_in),
            fields=[
                {"title": text(f.title), "value": text(f.value), "short": config.short_fields if f.short is None else f.short}
                for f in config.fields
            ],
            actions=[_action(a, words) for a in config.actions],
        )
        message = filled(
            channel=text(config.channel),
            username=text(config.username),
            icon_emoji=text(config.icon_emoji),
            icon_url=text(config.icon_url),
            link_names=config.link_names,
            text=text(config.message_text),
            attachments=[attachment],
        )
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if config.update_message and notice.kept:
            known = orjson.loads(notice.kept)
            message |= {"channel": known["channel"], "ts": known["ts"]}
            return Letter(url.removesuffix("/chat.postMessage") + "/chat.update", message, headers)
        return Letter(url, message, headers)

    async def deliver(self, notice: Notice, *, seconds: float, leaving: Callable[[], Awaitable[None]]) -> Receipt:
        """As `notice.Channel` promises. A message that cannot be changed any more is followed by another."""
        try:
            return await super().deliver(notice, seconds=seconds, leaving=leaving)
        except _CannotUpdate:
            return await super().deliver(replace(notice, kept=""), seconds=seconds, leaving=leaving)

    def _address(self) -> tuple[str, str]:
        """Where to, and the app's token, "" for a webhook; the receiver's own before the global ones."""
        config, outer = self._config, self._global
        if config.api_url or config.api_url_file:
            return secret(config.api_url, config.api_url_file), ""
        own = bool(config.app_token or config.app_token_file)
        if own or outer.slack_app_token or outer.slack_app_token_file:
            source = (config.app_token, config.app_token_file) if own else (outer.slack_app_token, outer.slack_app_token_file)
            # With credentials of its own the client adds them; a token beside them would be one too many.
            token = "" if config.http_config is not None and config.http_config.authorization else secret(*source)
            return config.app_url or outer.slack_app_url or SLACK_POST_MESSAGE, token
        return secret(outer.slack_api_url, outer.slack_api_url_file), ""

    def judge(self, answer: Answer) -> Receipt:
        """The API answers 200 with `"ok": false` for what it does not do."""
        answer.check()
        if answer.headers.get("content-type", "").startswith("application/json"):
            try:
                said: Any = orjson.loads(answer.body)
            except orjson.JSONDecodeError:
                raise Undeliverable("Slack's answer is not JSON", reason="protocol", retryable=True) from None
            if isinstance(said, dict) and said.get("ok") is False:
                problem = str(said.get("error", "no reason given"))[:200]
                if self._config.update_message and problem in _GONE:
                    raise _CannotUpdate(f"Slack refused: {problem}", reason="status", retryable=False)
                raise Undeliverable(f"Slack refused: {problem}", reason="status", retryable=problem in _PASSING)
            if self._config.update_message and isinstance(said, dict) and said.get("ts") and said.get("channel"):
                keep = orjson.dumps({"channel": str(said["channel"])[:200], "ts": str(said["ts"])[:200]}).decode()
                return Receipt(f"{answer.status}", keep)
        return Receipt(f"{answer.status}")


def _action(action: SlackAction, words: Words) -> dict[str, Any]:
    shown = {n: words.text(getattr(action, n)) for n in ("type", "text", "url", "style", "name", "value")}
    confirm = action.confirm
    asked = {n: words.text(getattr(confirm, n)) for n in ("title", "text", "ok_text", "dismiss_text")} if confirm else {}
    return filled(**shown, confirm=filled(**asked))
