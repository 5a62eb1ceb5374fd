"""The kinds of channels there are. A new one is its file (the configuration included), a field of `config.Receiver`, and a line here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from vedette.net.config import HttpConfig
from vedette.notify.channels.apprise import Apprise
from vedette.notify.channels.discord import Discord
from vedette.notify.channels.email import Email
from vedette.notify.channels.incidentio import Incidentio
from vedette.notify.channels.jira import Jira
from vedette.notify.channels.mattermost import Mattermost
from vedette.notify.channels.msteams import Msteams
from vedette.notify.channels.opsgenie import Opsgenie
from vedette.notify.channels.pagerduty import Pagerduty
from vedette.notify.channels.posting import Http
from vedette.notify.channels.pushover import Pushover
from vedette.notify.channels.rocketchat import Rocketchat
from vedette.notify.channels.slack import Slack
from vedette.notify.channels.sms import Sms
from vedette.notify.channels.sns import Sns
from vedette.notify.channels.teams import Teams
from vedette.notify.channels.telegram import Telegram
from vedette.notify.channels.victorops import Victorops
from vedette.notify.channels.webex import Webex
from vedette.notify.channels.webhook import Webhook
from vedette.notify.channels.wechat import Wechat
from vedette.notify.config import Receiver
from vedette.notify.global_config import GlobalConfig
from vedette.notify.notice import Channel, Notice
from vedette.notify.template import Templates

POSTING: dict[str, Callable[[Any, GlobalConfig, Http, Templates], Channel]] = {
    "apprise_configs": Apprise,
    "discord_configs": Discord,
    "incidentio_configs": Incidentio,
    "jira_configs": Jira,
    "mattermost_configs": Mattermost,
    "msteams_configs": Msteams,
    "msteamsv2_configs": Teams,
    "opsgenie_configs": Opsgenie,
    "pagerduty_configs": Pagerduty,
    "pushover_configs": Pushover,
    "rocketchat_configs": Rocketchat,
    "slack_configs": Slack,
    "sms_configs": Sms,
    "sns_configs": Sns,
    "telegram_configs": Telegram,
    "victorops_configs": Victorops,
    "webex_configs": Webex,
    "webhook_configs": Webhook,
    "wechat_configs": Wechat,
}
"""All channels but mail, by their key in a receiver."""


def channels_of(
    receiver: Receiver,
    fallback: GlobalConfig,
    http: Callable[[HttpConfig], Http],
    templates: Templates,
    picture: Callable[[Notice], Awaitable[bytes | None]] | None = None,
) -> list[Channel]:
    """A receiver's channels, in a fixed order of kinds; those of one kind in the order of the file. Mails show `picture`, a PNG."""
    found: list[Channel] = [Email(config, fallback, templates, picture) for config in receiver.email_configs]
    for key, make in POSTING.items():
        for config in getattr(receiver, key):
            own: HttpConfig | None = getattr(config, "http_config", None)
            found.append(make(config, fallback, http(own or fallback.http_config), templates))
    return found
