"""Receivers of rules that were made over the API: who is to be told of one rule's alerts besides those whom the routes name.

Such a rule's alerts carry the label `vedette_notify`; a route of their own, before all others, takes them to the addresses
given and lets them go on. Webhooks reach public addresses only, after resolution and after each redirect, unless the operator
allows others. Not here: the rules themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from vedette.model.matchers import Matcher
from vedette.net.client import HttpClient
from vedette.net.config import HttpConfig
from vedette.notify.addresses import needs_tls, split_smarthost
from vedette.notify.channels.posting import Http
from vedette.notify.config import Config, Receiver, RouteConfig
from vedette.notify.receivers import EmailConfig, UnservedEmail, WebhookConfig

LABEL = "vedette_notify"
"""What the alerts of such a rule are known by; its value names the rule."""

NOBODY = "nobody"
"""The receiver of all other alerts where nothing is configured; it has no channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedHttpConfig(HttpConfig):
    """The HTTP settings of a URL that came over the API: only public addresses may be reached."""


@dataclass(frozen=True, slots=True)
class Made:
    """Whom to tell of the alerts whose `LABEL` is `key`: mail addresses and a webhook ("" for none)."""

    key: str
    email: tuple[str, ...] = ()
    webhook: str = ""


def client(config: HttpConfig) -> Http:
    """The HTTP client of a channel: the path of most webhooks is a secret, so it stays out of errors."""
    return HttpClient(config, hide_path=True, allow_private=not isinstance(config, GuardedHttpConfig))


def with_made(config: Config | None, made: Sequence[Made], *, server: str = "", sender: str = "", private: bool = False) -> Config | None:
    """The configuration with a route and a receiver for each of `made`.

    `server` (`host:port`) and `sender` are for mail where `global` names no server, and without either a mail's delivery fails;
    `private` lets webhooks reach any address.
    """
    if not made:
        return config
    base = config or Config(route=RouteConfig(receiver=NOBODY), receivers=(Receiver(name=NOBODY),))
    assert base.route is not None, "a configuration has a route"
    own: dict[str, Any] = {}
    mail = EmailConfig
    if not base.global_.smtp_smarthost and not server:
        mail, own = UnservedEmail, {"from_": sender}
    elif not base.global_.smtp_smarthost:
        own = {"smarthost": server, "from_": sender, "require_tls": needs_tls(*split_smarthost(server))}
    receivers = tuple(
        Receiver(
            name=f"{LABEL}: {one.key}",
            email_configs=(mail(to=", ".join(one.email), send_resolved=True, **own),) if one.email else (),
            webhook_configs=(WebhookConfig(url=one.webhook, http_config=None if private else GuardedHttpConfig()),) if one.webhook else (),
        )
        for one in made
    )
    routes = tuple(
        RouteConfig(receiver=receiver.name, matchers=((Matcher(LABEL, "=", one.key),),), continue_=True)
        for one, receiver in zip(made, receivers, strict=True)
    )
    return replace(base, receivers=(*base.receivers, *receivers), route=replace(base.route, routes=(*routes, *base.route.routes)))
