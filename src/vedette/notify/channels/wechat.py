"""WeCom (WeChat Work): a token for the application, then a message with it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import orjson

from vedette.errors import Undeliverable
from vedette.net.answers import Answer
from vedette.notify.channels.posting import TIMEOUT_S, Http, HttpChannel, Letter, filled, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice, Receipt
from vedette.notify.receivers import WechatConfig
from vedette.notify.template import Templates, Words

API = "https://qyapi.weixin.qq.com/cgi-bin/"
MAX_BYTES = 2048
_STALE_TOKEN = frozenset((40014, 41001, 42001))
_BUSY = frozenset((-1, 45009))


class Wechat(HttpChannel):
    """One application of one receiver."""

    kind = "wechat"

    def __init__(self, config: WechatConfig, fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config, self._global = config, fallback
        self._api = (config.api_url or fallback.wechat_api_url or API).rstrip("/")
        self._token = ""

    async def deliver(self, notice: Notice, *, seconds: float, leaving: Callable[[], Awaitable[None]]) -> Receipt:
        """As `notice.Channel` promises; the token is kept until it is refused."""
        limit = min(seconds, TIMEOUT_S)
        try:
            async with asyncio.timeout(limit):
                if not self._token:
                    self._token = await self._new_token(limit)
                return await super().deliver(notice, seconds=limit, leaving=leaving)
        except TimeoutError:
            raise Undeliverable(f"no answer within {limit:g}s", reason="timeout", retryable=True) from None

    async def _new_token(self, seconds: float) -> str:
        config, outer = self._config, self._global
        given = await asyncio.to_thread(
            lambda: secret(config.api_secret, config.api_secret_file) or secret(outer.wechat_api_secret, outer.wechat_api_secret_file)
        )
        query = urlencode({"corpid": config.corp_id or outer.wechat_api_corp_id, "corpsecret": given})
        answer = await self._http.get(f"{self._api}/gettoken?{query}", timeout=seconds)
        return str(_said(answer).get("access_token", ""))

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The message."""
        config, text = self._config, words.text
        body = text(config.message).encode()[:MAX_BYTES].decode("utf-8", "ignore")
        message = filled(
            touser=text(config.to_user),
            toparty=text(config.to_party),
            totag=text(config.to_tag),
            agentid=text(config.agent_id),
            msgtype=config.message_type,
            safe="0",
        )
        return Letter(
            f"{self._api}/message/send?{urlencode({'access_token': self._token})}", {**message, config.message_type: {"content": body}}
        )

    def judge(self, answer: Answer) -> Receipt:
        """The API answers 200 with an `errcode` for what it does not do."""
        try:
            _said(answer)
        except Undeliverable as error:
            if error.retryable:
                self._token = ""
            raise
        return Receipt(f"{answer.status}")


def _said(answer: Answer) -> dict[str, Any]:
    """The answer's JSON. Raises `Undeliverable` for an error in it."""
    answer.check()
    try:
        said: Any = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        said = None
    if not isinstance(said, dict):
        raise Undeliverable("WeCom's answer is not a JSON object", reason="protocol", retryable=True)
    code = said.get("errcode", 0)
    if code:
        problem = f"WeCom refused: {code} {str(said.get('errmsg', ''))[:200]}"
        raise Undeliverable(problem, reason="status", retryable=code in _STALE_TOKEN or code in _BUSY)
    return said
