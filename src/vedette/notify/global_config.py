"""`global` of `alertmanager.yml`: what the channels of receivers take where they say nothing themselves."""

from __future__ import annotations

from dataclasses import dataclass, field

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.net.config import HttpConfig, TlsConfig
from vedette.notify.addresses import parse_smarthost, parse_url
from vedette.notify.receivers import SLACK_POST_MESSAGE, at_most_one


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalConfig:
    """`global`: what receivers' channels take where they say nothing themselves."""

    resolve_timeout: int = option(300_000, convert=parse_duration)
    http_config: HttpConfig = field(default_factory=HttpConfig)
    smtp_from: str = ""
    smtp_hello: str = ""
    smtp_smarthost: str = option("", convert=parse_smarthost)
    smtp_auth_username: str = ""
    smtp_auth_password: str = option("", secret=True)
    smtp_auth_password_file: str = ""
    smtp_auth_username_file: str = ""
    smtp_auth_secret: str = option("", secret=True)
    smtp_auth_secret_file: str = ""
    smtp_auth_identity: str = ""
    smtp_require_tls: bool = True
    smtp_force_implicit_tls: bool | None = None
    smtp_tls_config: TlsConfig | None = None
    slack_api_url: str = option("", convert=parse_url, secret=True)
    slack_api_url_file: str = ""
    slack_app_token: str = option("", secret=True)
    slack_app_token_file: str = ""
    slack_app_url: str = option("", convert=parse_url)
    pagerduty_url: str = option("", convert=parse_url)
    opsgenie_api_key: str = option("", secret=True)
    opsgenie_api_key_file: str = ""
    opsgenie_api_url: str = option("", convert=parse_url)
    victorops_api_key: str = option("", secret=True)
    victorops_api_key_file: str = ""
    victorops_api_url: str = option("", convert=parse_url)
    wechat_api_url: str = option("", convert=parse_url)
    wechat_api_secret: str = option("", secret=True)
    wechat_api_secret_file: str = ""
    wechat_api_corp_id: str = ""
    telegram_api_url: str = option("", convert=parse_url)
    telegram_bot_token: str = option("", secret=True)
    telegram_bot_token_file: str = ""
    webex_api_url: str = option("", convert=parse_url)
    jira_api_url: str = option("", convert=parse_url)
    rocketchat_api_url: str = option("", convert=parse_url)
    rocketchat_token: str = option("", secret=True)
    rocketchat_token_file: str = ""
    rocketchat_token_id: str = option("", secret=True)
    rocketchat_token_id_file: str = ""
    mattermost_webhook_url: str = option("", convert=parse_url, secret=True)
    mattermost_webhook_url_file: str = ""

    def __post_init__(self) -> None:
        at_most_one(self, "smtp_auth_username", "smtp_auth_password", "smtp_auth_secret", "slack_api_url", "slack_app_token")
        at_most_one(self, "opsgenie_api_key", "victorops_api_key", "wechat_api_secret", "telegram_bot_token")
        at_most_one(self, "rocketchat_token", "rocketchat_token_id", "mattermost_webhook_url")
        token, url = self.slack_app_token or self.slack_app_token_file, self.slack_api_url or self.slack_api_url_file
        # The URL that apps post to may stand there: it was how tokens were configured before they had a key.
        if token and url and url != (self.slack_app_url or SLACK_POST_MESSAGE):
            raise BadInput("at most one of slack_app_token/slack_app_token_file & slack_api_url/slack_api_url_file must be configured")
