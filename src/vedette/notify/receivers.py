"""The channels of `receivers` as `alertmanager.yml` writes them, and `sms_configs`, which is ours.

Texts are templates with Alertmanager's defaults. What a channel lacks it takes from `global`; `check` says where neither has it,
in Alertmanager's words. Not here: webhooks (`config.py`, with the rest of the file), delivering (`channels/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_go_duration
from vedette.net.config import HttpConfig, TlsConfig
from vedette.notify.addresses import parse_smarthost, parse_url

SLACK_POST_MESSAGE = "https://slack.com/api/chat.postMessage"


def _secret_url() -> Any:
    return option("", convert=parse_url, secret=True)


def at_most_one(config: object, *names: str, prefix: str = "") -> None:
    """Raises `BadInput` where a value is given both inline and as a file."""
    for name in names:
        if getattr(config, name) and getattr(config, f"{name}_file"):
            raise BadInput(f"at most one of {prefix}{name} & {prefix}{name}_file must be configured")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackField:
    """One of `fields`."""

    title: str = ""
    value: str = ""
    short: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackConfirm:
    """`confirm` of an action."""

    text: str = ""
    title: str = ""
    ok_text: str = ""
    dismiss_text: str = ""

    def __post_init__(self) -> None:
        if not self.text:
            raise BadInput("missing text in Slack confirmation configuration")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackAction:
    """One of `actions`."""

    type: str = ""
    text: str = ""
    url: str = ""
    style: str = ""
    name: str = ""
    value: str = ""
    confirm: SlackConfirm | None = None

    def __post_init__(self) -> None:
        if not self.type:
            raise BadInput("missing type in Slack action configuration")
        if not self.text:
            raise BadInput("missing text in Slack action configuration")
        if not self.url and not self.name:
            raise BadInput("missing name or url in Slack action configuration")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackConfig:
    """One of `slack_configs`: an incoming webhook (`api_url`) or an app (`app_token`)."""

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "post_updates_to_thread": "update_message changes the message in place; threads are not written"
    }

    api_url: str = _secret_url()
    api_url_file: str = ""
    app_token: str = option("", secret=True)
    app_token_file: str = ""
    app_url: str = option("", convert=parse_url)
    send_resolved: bool = False
    channel: str = ""
    username: str = '{{ template "slack.default.username" . }}'
    color: str = '{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}'
    title: str = '{{ template "slack.default.title" . }}'
    title_link: str = '{{ template "slack.default.titlelink" . }}'
    pretext: str = '{{ template "slack.default.pretext" . }}'
    text: str = '{{ template "slack.default.text" . }}'
    message_text: str = ""
    fallback: str = '{{ template "slack.default.fallback" . }}'
    callback_id: str = '{{ template "slack.default.callbackid" . }}'
    icon_emoji: str = '{{ template "slack.default.iconemoji" . }}'
    icon_url: str = '{{ template "slack.default.iconurl" . }}'
    footer: str = '{{ template "slack.default.footer" . }}'
    image_url: str = ""
    thumb_url: str = ""
    short_fields: bool = False
    fields: tuple[SlackField, ...] = ()
    actions: tuple[SlackAction, ...] = ()
    link_names: bool = False
    mrkdwn_in: tuple[str, ...] = ("fallback", "pretext", "text")
    update_message: bool = False
    """Whether the message of a group is changed with each news of it, until all has ended, instead of another being sent."""
    timeout: int = option(0, convert=parse_go_duration)
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        at_most_one(self, "api_url", "app_token")
        if self.update_message and self.api_url != SLACK_POST_MESSAGE and not (self.app_token or self.app_token_file):
            raise BadInput(f"update_message can only be used with bot tokens. api_url must be set to {SLACK_POST_MESSAGE}")
        if any(not (f.title and f.value) for f in self.fields):
            raise BadInput("missing title or value in Slack field configuration", where="fields")


_THREAD_HEADERS = frozenset(("references", "in-reply-to"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Threading:
    """`threading` of mails: all of a group make one conversation, or (`daily`) one each day."""

    enabled: bool = False
    thread_by_date: str = ""

    def __post_init__(self) -> None:
        if self.enabled and self.thread_by_date not in ("none", "daily"):
            raise BadInput("threading.thread_by_date must be either 'none' or 'daily'", where="thread_by_date")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailConfig:
    """One of `email_configs`."""

    to: str = ""
    from_: str = option("", key="from")
    smarthost: str = option("", convert=parse_smarthost)
    hello: str = ""
    auth_username: str = ""
    auth_username_file: str = ""
    auth_password: str = option("", secret=True)
    auth_password_file: str = ""
    auth_secret: str = option("", secret=True)
    auth_secret_file: str = ""
    auth_identity: str = ""
    send_resolved: bool = False
    headers: dict[str, str] = option(factory=dict)
    html: str = '{{ template "email.default.html" . }}'
    text: str = '{{ template "email.default.text" . }}'
    require_tls: bool | None = None
    force_implicit_tls: bool | None = None
    tls_config: TlsConfig | None = None
    threading: Threading = Threading()

    def __post_init__(self) -> None:
        if not self.to:
            raise BadInput("missing to address in email config", where="to")
        at_most_one(self, "auth_username", "auth_password", "auth_secret")
        seen = [name.lower() for name in self.headers]
        for name in self.headers:
            if seen.count(name.lower()) > 1:
                raise BadInput(f"duplicate header {name.title()!r} in email config", where="headers")
            if self.threading.enabled and name.lower() in _THREAD_HEADERS:
                raise BadInput(f"header {name.title()!r} cannot be set where mails are threaded", where="headers")
            if not name.isascii() or any(c in name for c in " :\r\n"):
                raise BadInput(f"{name!r} is no name of a header", where="headers")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnservedEmail(EmailConfig):
    """Mail that was asked for over the API where no server is configured: every delivery fails, and says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagerdutyImage:
    """One of `images`."""

    src: str = ""
    alt: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagerdutyLink:
    """One of `links`."""

    href: str = ""
    text: str = ""


_PAGERDUTY_DETAILS = {
    "firing": '{{ template "pagerduty.default.instances" .Alerts.Firing }}',
    "resolved": '{{ template "pagerduty.default.instances" .Alerts.Resolved }}',
    "num_firing": "{{ .Alerts.Firing | len }}",
    "num_resolved": "{{ .Alerts.Resolved | len }}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PagerdutyConfig:
    """One of `pagerduty_configs`, by the Events API v2 (`routing_key`) or v1 (`service_key`)."""

    routing_key: str = option("", secret=True)
    routing_key_file: str = ""
    service_key: str = option("", secret=True)
    service_key_file: str = ""
    url: str = option("", convert=parse_url)
    send_resolved: bool = True
    client: str = '{{ template "pagerduty.default.client" . }}'
    client_url: str = '{{ template "pagerduty.default.clientURL" . }}'
    description: str = '{{ template "pagerduty.default.description" . }}'
    severity: str = "error"
    source: str = ""
    class_: str = option("", key="class")
    component: str = ""
    group: str = ""
    details: dict[str, str] = option(factory=dict)
    images: tuple[PagerdutyImage, ...] = ()
    links: tuple[PagerdutyLink, ...] = ()
    timeout: int = option(0, convert=parse_go_duration)
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        if not any((self.routing_key, self.routing_key_file, self.service_key, self.service_key_file)):
            raise BadInput("missing service or routing key in PagerDuty config")
        at_most_one(self, "routing_key", "service_key")

    def all_details(self) -> dict[str, str]:
        """The details, over those that every event has."""
        return {**_PAGERDUTY_DETAILS, **self.details}


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamsConfig:
    """One of `msteamsv2_configs`: a workflow that takes adaptive cards."""

    webhook_url: str = _secret_url()
    webhook_url_file: str = ""
    send_resolved: bool = True
    title: str = '{{ template "msteamsv2.default.title" . }}'
    text: str = '{{ template "msteamsv2.default.text" . }}'
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        if not self.webhook_url and not self.webhook_url_file:
            raise BadInput("one of webhook_url or webhook_url_file must be configured")
        at_most_one(self, "webhook_url")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsgenieResponder:
    """One of `responders`; `type` is a template that gives team, user, escalation or schedule."""

    id: str = ""
    name: str = ""
    username: str = ""
    type: str = ""

    def __post_init__(self) -> None:
        if not (self.id or self.name or self.username):
            raise BadInput("opsGenieConfig responder has to have at least one of id, username or name specified")
        known = ("team", "teams", "user", "escalation", "schedule")
        if "{{" not in self.type and self.type.lower() not in known:
            raise BadInput(f"opsGenieConfig responder type does not match valid options {', '.join(known)}", where="type")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsgenieConfig:
    """One of `opsgenie_configs`."""

    api_key: str = option("", secret=True)
    api_key_file: str = ""
    api_url: str = option("", convert=parse_url)
    send_resolved: bool = True
    message: str = '{{ template "opsgenie.default.message" . }}'
    description: str = '{{ template "opsgenie.default.description" . }}'
    source: str = '{{ template "opsgenie.default.source" . }}'
    details: dict[str, str] = option(factory=dict)
    entity: str = ""
    responders: tuple[OpsgenieResponder, ...] = ()
    actions: str = ""
    tags: str = ""
    note: str = ""
    priority: str = ""
    http_config: HttpConfig | None = None

    update_alerts: bool = False
    """Whether message and description of an alert that exists become those of each news of the group."""

    def __post_init__(self) -> None:
        at_most_one(self, "api_key")


@dataclass(frozen=True, slots=True, kw_only=True)
class TelegramConfig:
    """One of `telegram_configs`."""

    api_url: str = option("", convert=parse_url)
    bot_token: str = option("", secret=True)
    bot_token_file: str = ""
    chat_id: int = 0
    chat_id_file: str = ""
    message_thread_id: int = 0
    send_resolved: bool = True
    message: str = '{{ template "telegram.default.message" . }}'
    parse_mode: Literal["", "Markdown", "MarkdownV2", "HTML"] = "HTML"
    disable_notifications: bool = False
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        at_most_one(self, "bot_token", "chat_id")
        if not self.chat_id and not self.chat_id_file:
            raise BadInput("missing chat_id or chat_id_file on telegram_config")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscordConfig:
    """One of `discord_configs`."""

    webhook_url: str = _secret_url()
    webhook_url_file: str = ""
    send_resolved: bool = True
    title: str = '{{ template "discord.default.title" . }}'
    message: str = '{{ template "discord.default.message" . }}'
    content: str = '{{ template "discord.default.content" . }}'
    username: str = ""
    avatar_url: str = ""
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        if not self.webhook_url and not self.webhook_url_file:
            raise BadInput("one of webhook_url or webhook_url_file must be configured")
        at_most_one(self, "webhook_url")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmsConfig:
    """One of `sms_configs`, which Alertmanager does not have: a text message to one number, by Twilio."""

    account_sid: str = ""
    auth_token: str = option("", secret=True)
    auth_token_file: str = ""
    from_: str = option("", key="from")
    to: str = ""
    text: str = '{{ template "sms.default.text" . }}'
    send_resolved: bool = False
    api_url: str = option("https://api.twilio.com", convert=parse_url)
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        for name, value in (("account_sid", self.account_sid), ("from", self.from_), ("to", self.to)):
            if not value:
                raise BadInput(f"missing {name} in SMS config", where=name)
        if not self.auth_token and not self.auth_token_file:
            raise BadInput("one of auth_token or auth_token_file must be configured")
        at_most_one(self, "auth_token")
        if not self.account_sid.isalnum():
            raise BadInput("an account_sid has letters and digits only", where="account_sid")


@dataclass(frozen=True, slots=True, kw_only=True)
class MattermostAttachment:
    """One of `attachments`."""

    fallback: str = ""
    color: str = ""
    pretext: str = ""
    title: str = ""
    title_link: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MattermostConfig:
    """One of `mattermost_configs`: an incoming webhook."""

    webhook_url: str = _secret_url()
    webhook_url_file: str = ""
    send_resolved: bool = True
    channel: str = ""
    username: str = ""
    text: str = '{{ template "mattermost.default.text" . }}'
    icon_url: str = ""
    icon_emoji: str = ""
    attachments: tuple[MattermostAttachment, ...] = ()
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        at_most_one(self, "webhook_url", prefix="mattermost_")


@dataclass(frozen=True, slots=True, kw_only=True)
class RocketchatAction:
    """One of `actions`, a button whatever `type` says: it opens `url` or sends `msg`."""

    type: str = ""
    text: str = ""
    url: str = ""
    msg: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RocketchatConfig:
    """One of `rocketchat_configs`, by `chat.postMessage`."""

    api_url: str = option("", convert=parse_url)
    token: str = option("", secret=True)
    token_file: str = ""
    token_id: str = option("", secret=True)
    token_id_file: str = ""
    send_resolved: bool = False
    channel: str = ""
    color: str = '{{ if eq .Status "firing" }}red{{ else }}green{{ end }}'
    title: str = '{{ template "rocketchat.default.title" . }}'
    title_link: str = '{{ template "rocketchat.default.titlelink" . }}'
    text: str = '{{ template "rocketchat.default.text" . }}'
    fields: tuple[SlackField, ...] = ()
    short_fields: bool = False
    emoji: str = ""
    icon_url: str = ""
    image_url: str = ""
    thumb_url: str = ""
    http_config: HttpConfig | None = None

    actions: tuple[RocketchatAction, ...] = ()

    UNSUPPORTED: ClassVar[dict[str, str]] = {"link_names": "Rocket.Chat finds names in a message by itself; remove the key"}

    def __post_init__(self) -> None:
        at_most_one(self, "token", "token_id", prefix="rocketchat_")


_VICTOROPS_FIELDS = frozenset(("routing_key", "message_type", "state_message", "entity_display_name", "monitoring_tool", "entity_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class VictoropsConfig:
    """One of `victorops_configs` (Splunk On-Call)."""

    api_key: str = option("", secret=True)
    api_key_file: str = ""
    api_url: str = option("", convert=parse_url)
    routing_key: str = ""
    send_resolved: bool = True
    message_type: str = "CRITICAL"
    state_message: str = '{{ template "victorops.default.state_message" . }}'
    entity_display_name: str = '{{ template "victorops.default.entity_display_name" . }}'
    monitoring_tool: str = '{{ template "victorops.default.monitoring_tool" . }}'
    custom_fields: dict[str, str] = option(factory=dict)
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        if not self.routing_key:
            raise BadInput("missing Routing key in VictorOps config", where="routing_key")
        at_most_one(self, "api_key")
        for name in self.custom_fields:
            if name in _VICTOROPS_FIELDS:
                raise BadInput(
                    f"victorOps config contains custom field {name} which cannot be used as it conflicts with the fixed/static fields"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class PushoverConfig:
    """One of `pushover_configs`; `retry`, `expire` and `ttl` in ms. `api_url` is ours, Alertmanager has it not."""

    user_key: str = option("", secret=True)
    user_key_file: str = ""
    token: str = option("", secret=True)
    token_file: str = ""
    api_url: str = option("https://api.pushover.net/1/messages.json", convert=parse_url)
    send_resolved: bool = True
    title: str = '{{ template "pushover.default.title" . }}'
    message: str = '{{ template "pushover.default.message" . }}'
    url: str = '{{ template "pushover.default.url" . }}'
    url_title: str = ""
    device: str = ""
    sound: str = ""
    priority: str = '{{ if eq .Status "firing" }}2{{ else }}0{{ end }}'
    retry: int = option(60_000, convert=parse_go_duration)
    expire: int = option(3_600_000, convert=parse_go_duration)
    ttl: int = option(0, convert=parse_go_duration)
    html: bool = False
    monospace: bool = False
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        for name in ("user_key", "token"):
            if not getattr(self, name) and not getattr(self, f"{name}_file"):
                raise BadInput(f"one of {name} or {name}_file must be configured")
        at_most_one(self, "user_key", "token")
        if self.html and self.monospace:
            raise BadInput("html and monospace are mutually exclusive")


@dataclass(frozen=True, slots=True, kw_only=True)
class WechatConfig:
    """One of `wechat_configs` (WeCom)."""

    api_secret: str = option("", secret=True)
    api_secret_file: str = ""
    api_url: str = option("", convert=parse_url)
    corp_id: str = ""
    send_resolved: bool = False
    message: str = '{{ template "wechat.default.message" . }}'
    message_type: Literal["text", "markdown"] = "text"
    to_user: str = ""
    to_party: str = ""
    to_tag: str = ""
    agent_id: str = ""
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        at_most_one(self, "api_secret", prefix="wechat_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sigv4Config:
    """`sigv4`: whose key signs."""

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "profile": "AWS profiles are not read; give access_key and secret_key",
        "role_arn": "roles are not assumed yet; give access_key and secret_key",
    }

    region: str = ""
    access_key: str = ""
    secret_key: str = option("", secret=True)

    def __post_init__(self) -> None:
        if not self.access_key or not self.secret_key:
            raise BadInput("must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SNS config")


@dataclass(frozen=True, slots=True, kw_only=True)
class SnsConfig:
    """One of `sns_configs`: AWS SNS, to a topic, an endpoint or a telephone."""

    api_url: str = option("", convert=parse_url)
    sigv4: Sigv4Config | None = None
    topic_arn: str = ""
    phone_number: str = ""
    target_arn: str = ""
    send_resolved: bool = True
    subject: str = '{{ template "sns.default.subject" . }}'
    message: str = '{{ template "sns.default.message" . }}'
    attributes: dict[str, str] = option(factory=dict)
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        if [bool(self.target_arn), bool(self.topic_arn), bool(self.phone_number)].count(True) != 1:
            raise BadInput("must provide either a Target ARN, Topic ARN, or Phone Number for SNS config")
        if self.sigv4 is None:
            raise BadInput("lacks sigv4", hint="give access_key and secret_key: the machine's own AWS credentials are not read")
        if not self.sigv4.region and not (self.topic_arn or self.target_arn):
            raise BadInput("lacks the region", where="sigv4")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConfig:
    """One of `webhook_configs`. `max_alerts` 0 is all; `timeout` (ms) 0 leaves the pipeline's own deadline."""

    url: str = option("", secret=True)
    """A text of templates, too."""
    url_file: str = ""
    send_resolved: bool = True
    max_alerts: int = 0
    payload: Any = None
    """What is sent instead of Alertmanager's message: any value, every text in it a template."""
    timeout: int = option(0, convert=parse_go_duration)
    http_config: HttpConfig | None = None

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.url_file):
            raise BadInput(("at most" if self.url else "exactly") + " one of url & url_file must be configured")
        if self.url and not self.url.startswith(("http://", "https://", "{{")):
            raise BadInput("unsupported scheme for URL", where="url", hint="expected http:// or https://")
        if self.max_alerts < 0:
            raise BadInput("max_alerts cannot be negative", where="max_alerts")
