"""`alertmanager.yml`: what Vedette reads of it, checked as Alertmanager checks it.

A file that is accepted is obeyed; what is not there is refused by name. Not here: routing itself (`route.py`), the channels of
receivers (`receivers.py`, `channels/`), `global` (`global_config.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import yaml

from vedette import configfile
from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.model.matchers import Matcher, compile_regex
from vedette.net.addresses import redacted_url
from vedette.net.config import HttpConfig, TlsConfig
from vedette.notify.channels.apprise import AppriseConfig
from vedette.notify.channels.incidentio import IncidentioConfig
from vedette.notify.channels.jira import JiraConfig
from vedette.notify.channels.msteams import MsteamsConfig
from vedette.notify.channels.webex import WebexConfig
from vedette.notify.global_config import GlobalConfig
from vedette.notify.intervals import NamedIntervals
from vedette.notify.matchers import parse_matchers
from vedette.notify.receivers import (
    DiscordConfig,
    EmailConfig,
    MattermostConfig,
    OpsgenieConfig,
    PagerdutyConfig,
    PushoverConfig,
    RocketchatConfig,
    SlackConfig,
    SmsConfig,
    SnsConfig,
    TeamsConfig,
    TelegramConfig,
    UnservedEmail,
    VictoropsConfig,
    WebhookConfig,
    WechatConfig,
)
from vedette.notify.template import Templates

GROUP_ALL = "..."


def _regex(text: str) -> str:
    if not text:
        raise BadInput("invalid regexp value", hint="expected a regular expression")
    compile_regex(text)
    return text


def _interval(text: str) -> int:
    value = parse_duration(text)
    if not value:
        raise BadInput("group_interval and repeat_interval cannot be zero")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """One of `receivers`: a name, and the channels by which it is told."""

    name: str = ""
    apprise_configs: tuple[AppriseConfig, ...] = ()
    discord_configs: tuple[DiscordConfig, ...] = ()
    email_configs: tuple[EmailConfig, ...] = ()
    incidentio_configs: tuple[IncidentioConfig, ...] = ()
    jira_configs: tuple[JiraConfig, ...] = ()
    mattermost_configs: tuple[MattermostConfig, ...] = ()
    msteams_configs: tuple[MsteamsConfig, ...] = ()
    msteamsv2_configs: tuple[TeamsConfig, ...] = ()
    opsgenie_configs: tuple[OpsgenieConfig, ...] = ()
    pagerduty_configs: tuple[PagerdutyConfig, ...] = ()
    pushover_configs: tuple[PushoverConfig, ...] = ()
    rocketchat_configs: tuple[RocketchatConfig, ...] = ()
    slack_configs: tuple[SlackConfig, ...] = ()
    sms_configs: tuple[SmsConfig, ...] = ()
    sns_configs: tuple[SnsConfig, ...] = ()
    telegram_configs: tuple[TelegramConfig, ...] = ()
    victorops_configs: tuple[VictoropsConfig, ...] = ()
    webex_configs: tuple[WebexConfig, ...] = ()
    webhook_configs: tuple[WebhookConfig, ...] = ()
    wechat_configs: tuple[WechatConfig, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise BadInput("missing name in receiver", where="name")

    def check(self, fallback: GlobalConfig) -> None:
        """Raises `BadInput` where a channel lacks what `global` does not give either."""
        for slack in self.slack_configs:
            if not _given(slack, "api_url", "app_token") and not _given(fallback, "slack_api_url", "slack_app_token"):
                raise BadInput("no Slack API URL nor App token set either inline or in a file")
        for email in self.email_configs:
            if not email.smarthost and not fallback.smtp_smarthost and not isinstance(email, UnservedEmail):
                raise BadInput("no global SMTP smarthost set")
            if not email.from_ and not fallback.smtp_from:
                raise BadInput("no global SMTP from set")
        if any(not jira.api_url for jira in self.jira_configs) and not fallback.jira_api_url:
            raise BadInput("missing api_url on jira_config", hint="give it there, or jira_api_url in global")
        for kind, own, outer, problem in _NEEDED:
            for channel in getattr(self, kind):
                if not _given(channel, own) and not _given(fallback, outer):
                    raise BadInput(problem)
        if any(not wechat.corp_id for wechat in self.wechat_configs) and not fallback.wechat_api_corp_id:
            raise BadInput("no global Wechat CorpID set")


_NEEDED = (
    ("mattermost_configs", "webhook_url", "mattermost_webhook_url", "missing webhook_url or webhook_url_file on mattermost_config"),
    ("opsgenie_configs", "api_key", "opsgenie_api_key", "no global OpsGenie API Key set either inline or in a file"),
    ("rocketchat_configs", "token", "rocketchat_token", "no global Rocketchat Token set either inline or in a file"),
    ("rocketchat_configs", "token_id", "rocketchat_token_id", "no global Rocketchat TokenID set either inline or in a file"),
    ("telegram_configs", "bot_token", "telegram_bot_token", "missing bot_token or bot_token_file on telegram_config"),
    ("victorops_configs", "api_key", "victorops_api_key", "no global VictorOps API Key set"),
    ("wechat_configs", "api_secret", "wechat_api_secret", "no global Wechat Api Secret set either inline or in a file"),
)


def _given(config: object, *names: str) -> bool:
    return any(getattr(config, name) or getattr(config, f"{name}_file") for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfig:
    """A node of the route tree as written; times in ms, None where the parent's holds."""

    receiver: str = ""
    labels: dict[str, str] = option(factory=dict)
    """Texts by name, which receivers' templates may call as `routeLabels "name"`."""
    group_by: tuple[str, ...] | None = None
    continue_: bool = option(False, key="continue")
    match: dict[str, str] = option(factory=dict)
    match_re: dict[str, str] = option(factory=dict, convert=_regex)
    matchers: tuple[tuple[Matcher, ...], ...] = option((), convert=parse_matchers)
    group_wait: int | None = option(None, convert=parse_duration)
    group_interval: int | None = option(None, convert=_interval)
    repeat_interval: int | None = option(None, convert=_interval)
    mute_time_intervals: tuple[str, ...] = ()
    active_time_intervals: tuple[str, ...] = ()
    routes: tuple[RouteConfig, ...] = ()

    def __post_init__(self) -> None:
        given = self.group_by or ()
        if GROUP_ALL in given and len(given) > 1:
            raise BadInput("cannot have wildcard group_by (`...`) and other labels at the same time", where="group_by")
        for name in given:
            if not name:
                raise BadInput("invalid label name in group_by list", where="group_by")
            if given.count(name) > 1:
                raise BadInput(f'duplicated label "{name}" in group_by', where="group_by")

    def conditions(self) -> tuple[Matcher, ...]:
        """All matchers, of whatever syntax, sorted as Alertmanager sorts them."""
        return conditions(self.match, self.match_re, self.matchers)


@dataclass(frozen=True, slots=True, kw_only=True)
class InhibitRule:
    """One of `inhibit_rules`."""

    name: str = ""
    source_match: dict[str, str] = option(factory=dict)
    source_match_re: dict[str, str] = option(factory=dict, convert=_regex)
    source_matchers: tuple[tuple[Matcher, ...], ...] = option((), convert=parse_matchers)
    target_match: dict[str, str] = option(factory=dict)
    target_match_re: dict[str, str] = option(factory=dict, convert=_regex)
    target_matchers: tuple[tuple[Matcher, ...], ...] = option((), convert=parse_matchers)
    equal: tuple[str, ...] = ()


def conditions(match: dict[str, str], match_re: dict[str, str], matchers: tuple[tuple[Matcher, ...], ...]) -> tuple[Matcher, ...]:
    """The matchers of the three ways to write them, sorted by name, value and operator."""
    found = [Matcher(name, "=", value) for name, value in match.items()]
    # The anchors are redundant here, but they are part of the route's key, which receivers see.
    found += [Matcher(name, "=~", f"^(?:{value})$") for name, value in match_re.items()]
    found += [m for several in matchers for m in several]
    return tuple(sorted(found, key=lambda m: (m.name, m.value, m.op)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole `alertmanager.yml`."""

    UNSUPPORTED: ClassVar[dict[str, str]] = {
        "tracing": "traces are Vedette's own setting: tracing.endpoint in vedette.yml; remove the section",
    }

    global_: GlobalConfig = option(factory=GlobalConfig, key="global")
    route: RouteConfig | None = None
    receivers: tuple[Receiver, ...] = ()
    inhibit_rules: tuple[InhibitRule | None, ...] = ()
    time_intervals: tuple[NamedIntervals, ...] = ()
    mute_time_intervals: tuple[NamedIntervals, ...] = ()
    """The former name of `time_intervals`."""
    templates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [r.name for r in self.receivers]
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f'notification config name "{name}" is not unique', where="receivers")
        if self.route is None:
            raise BadInput("no route provided in config", hint="expected route: {receiver: …}")
        if not self.route.receiver:
            raise BadInput("root route must specify a default receiver", where="route")
        if self.route.conditions():
            raise BadInput("root route must not have any matchers", where="route")
        if self.route.continue_:
            raise BadInput("cannot have continue in root route", where="route")
        for route in _routes(self.route):
            if route.receiver and route.receiver not in names:
                raise BadInput(f'undefined receiver "{route.receiver}" used in route', where="route")
        self._check_intervals(self.route)
        for receiver in self.receivers:
            try:
                receiver.check(self.global_)
            except BadInput as error:
                raise BadInput(f"receiver {receiver.name}: {error.problem}", where="receivers") from None

    def _check_intervals(self, root: RouteConfig) -> None:
        if root.mute_time_intervals:
            raise BadInput("root route must not have any mute time intervals", where="route")
        if root.active_time_intervals:
            raise BadInput("root route must not have any active time intervals", where="route")
        if len(self.intervals) < len(self.time_intervals) + len(self.mute_time_intervals):
            names = [i.name for i in (*self.time_intervals, *self.mute_time_intervals)]
            twice = next(n for n in names if names.count(n) > 1)
            raise BadInput(f'time interval "{twice}" is not unique', where="time_intervals")
        for route in _routes(root):
            for name in (*route.mute_time_intervals, *route.active_time_intervals):
                if name not in self.intervals:
                    raise BadInput(f'undefined time interval "{name}" used in route', where="route")

    @property
    def intervals(self) -> dict[str, NamedIntervals]:
        """All time intervals by their name."""
        return {i.name: i for i in (*self.mute_time_intervals, *self.time_intervals)}


def _routes(route: RouteConfig) -> Iterator[RouteConfig]:
    yield route
    for below in route.routes:
        yield from _routes(below)


def load(path: Path) -> Config:
    """The configuration of a file, relative file names taken from its directory. Raises `BadInput` with the position.

    The templates it names are read too, to say now what is wrong with them.
    """
    config = _under(configfile.load(path, Config), path.parent)
    check_texts(config, name=str(path))
    return config


def parse(text: str | bytes, *, name: str = "alertmanager.yml") -> Config:
    """As `load`, of a text."""
    config = configfile.parse(text, Config, name=name)
    check_texts(config, name=name)
    return config


def check_texts(config: Config, *, name: str) -> None:
    """Parse all texts of receivers and routes, and the templates they may call: what is wrong is said now and not when it is needed.

    Raises `BadInput` with the text's key, and the line and column in it.
    """
    templates = Templates.load(config.templates)
    for i, receiver in enumerate(config.receivers):
        _check_texts(receiver, templates, f"{name}: receivers[{i}]")
    if config.route is not None:
        for route in _routes(config.route):
            _check_texts(route.labels, templates, f"{name}: route {route.receiver}: labels")


def _check_texts(value: object, templates: Templates, where: str) -> None:
    if isinstance(value, str):
        if "{{" in value:
            try:
                templates.prepared(value)
            except BadInput as error:
                raise BadInput(error.problem, where=f"{where}: {error.where.removeprefix('text:')}", hint=error.hint) from None
    elif isinstance(value, tuple | list):
        for i, one in enumerate(value):
            _check_texts(one, templates, f"{where}[{i}]")
    elif isinstance(value, dict):
        for key, one in value.items():
            _check_texts(one, templates, f"{where}.{key}")
    elif is_dataclass(value) and not isinstance(value, HttpConfig | TlsConfig):
        for item in fields(value):
            _check_texts(getattr(value, item.name), templates, f"{where}.{item.metadata.get('key', item.name)}")


def redacted(text: str | bytes, *, name: str = "alertmanager.yml") -> str:
    """A configuration that has been accepted, as YAML without its secrets, for showing.

    Of a webhook's URL the host stays: Alertmanager's tools read this, and older ones want a URL there.
    """
    node = configfile.compose(text, name=name)
    content = configfile.shown(node, Config) or {}
    given = configfile.plain(node) if node is not None else {}
    for receiver, open_receiver in zip(content.get("receivers") or (), given.get("receivers") or (), strict=True):
        webhooks = zip(receiver.get("webhook_configs") or (), open_receiver.get("webhook_configs") or (), strict=True)
        for webhook, open_webhook in webhooks:
            if webhook.get("url"):
                webhook["url"] = redacted_url(open_webhook["url"], hide_path=True)
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _under(config: Config, base: Path) -> Config:
    receivers = tuple(_rebased(r, base) for r in config.receivers)
    templates = tuple(str(base / pattern) for pattern in config.templates)
    return replace(config, receivers=receivers, global_=_rebased(config.global_, base), templates=templates)


T = TypeVar("T")


def _rebased(value: T, base: Path) -> T:
    """The same with every file name in it (`*_file`, those of HTTP and TLS settings) taken from `base`."""
    if isinstance(value, HttpConfig | TlsConfig):
        return cast(T, value.under(base))
    if isinstance(value, tuple):
        return cast(T, tuple(_rebased(v, base) for v in value))
    if not is_dataclass(value) or isinstance(value, type):
        return value
    changes: dict[str, Any] = {}
    for item in fields(value):
        given = getattr(value, item.name)
        changed = str(base / given) if item.name.endswith("_file") and given else _rebased(given, base)
        if changed is not given:
            changes[item.name] = changed
    return replace(value, **changes) if changes else value
