"""Text messages, by Twilio."""

from __future__ import annotations

import base64

from vedette.notify.channels.posting import Http, HttpChannel, Letter, cut, secret
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Notice
from vedette.notify.receivers import SmsConfig
from vedette.notify.template import Templates, Words

MAX_TEXT = 1600


class Sms(HttpChannel):
    """One telephone of one receiver."""

    kind = "sms"

    def __init__(self, config: SmsConfig, _fallback: GlobalConfig, http: Http, templates: Templates) -> None:
        super().__init__(http, templates, send_resolved=config.send_resolved)
        self._config = config

    def letter(self, notice: Notice, words: Words) -> Letter:
        """The message."""
        config = self._config
        token = secret(config.auth_token, config.auth_token_file)
        basic = base64.b64encode(f"{config.account_sid}:{token}".encode()).decode()
        url = f"{config.api_url.rstrip('/')}/2010-04-01/Accounts/{config.account_sid}/Messages.json"
        form = {"From": words.text(config.from_), "To": words.text(config.to), "Body": cut(words.text(config.text), MAX_TEXT)}
        return Letter(url, form, {"Authorization": f"Basic {basic}"}, form=True)
