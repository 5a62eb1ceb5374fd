"""Receivers of rules made over the API: a route before the others, addresses that are guarded."""

from __future__ import annotations

import pytest

from vedette.errors import Undeliverable
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.net.config import HttpConfig
from vedette.notify.channels.table import channels_of
from vedette.notify.config import parse
from vedette.notify.made import LABEL, GuardedHttpConfig, Made, client, with_made
from vedette.notify.notice import Notice
from vedette.notify.route import build, match
from vedette.notify.template import Templates

CONFIG = "{route: {receiver: all, routes: [{matchers: [team=a], receiver: a}]}, receivers: [{name: all}, {name: a}]}"
MADE = Made("configured/hot", ("a@example.com", "b@example.com"), "https://example.com/x")


def receivers(config: object, **labels: str) -> list[str]:
    assert config is not None
    return [r.receiver for r in match(build(config.route), Labels.of(labels))]  # type: ignore[attr-defined]  # a Config


def test_the_rules_own_people_are_told_besides_those_whom_routes_name() -> None:
    config = with_made(parse(CONFIG), [MADE], server="mail:587", sender="v@example.com")
    assert receivers(config, team="a", **{LABEL: "configured/hot"}) == ["vedette_notify: configured/hot", "a"]
    assert receivers(config, team="a") == ["a"]
    assert receivers(config, **{LABEL: "configured/other"}) == ["all"]
    assert config is not None
    mail = config.receivers[-1].email_configs[0]
    assert (mail.to, mail.smarthost, mail.from_, mail.require_tls) == ("a@example.com, b@example.com", "mail:587", "v@example.com", True)
    hook = config.receivers[-1].webhook_configs[0]
    assert (hook.url, isinstance(hook.http_config, GuardedHttpConfig)) == ("https://example.com/x", True)


def test_without_a_configuration_only_they_are_told() -> None:
    config = with_made(None, [Made("n/g", webhook="https://example.com/x")])
    assert receivers(config, **{LABEL: "n/g"}) == ["vedette_notify: n/g"]
    assert receivers(config, a="b") == ["nobody"]
    assert with_made(None, []) is None


def test_a_global_mail_server_is_used() -> None:
    given = parse("{global: {smtp_smarthost: 'm:25', smtp_from: x@y.z}, route: {receiver: all}, receivers: [{name: all}]}")
    config = with_made(given, [MADE], server="other:587", sender="v@example.com")
    assert config is not None
    assert config.receivers[-1].email_configs[0].smarthost == ""


async def test_without_a_mail_server_every_mail_fails_and_says_so() -> None:
    config = with_made(None, [MADE], sender="v@example.com")
    assert config is not None
    ways = channels_of(config.receivers[-1], config.global_, client, Templates.load())
    (mail,) = (way for way in ways if way.kind == "email")
    alert = Alert(Labels.of(alertname="Hot"), 0, 1, Labels.of(), "")
    told = Notice("made", "{}", Labels.of(), [alert], 1, "http://vedette", "attempt1")

    async def leaving() -> None:
        pytest.fail("nothing leaves")

    with pytest.raises(Undeliverable, match="set EMAIL_SERVER") as failed:
        await mail.deliver(told, seconds=5, leaving=leaving)
    assert (failed.value.reason, failed.value.retryable) == ("address", False)
    for way in ways:
        await way.close()


def test_the_operator_may_allow_private_webhooks() -> None:
    config = with_made(None, [Made("n/g", webhook="http://127.0.0.1:9/x")], private=True)
    assert config is not None
    assert config.receivers[-1].webhook_configs[0].http_config is None


async def test_a_guarded_client_reaches_no_private_address() -> None:
    guarded = client(GuardedHttpConfig())
    for url in ("http://127.0.0.1:9/x", "http://169.254.169.254/latest", "http://localhost:9/", "http://[::1]:9/", "http://10.0.0.1/"):
        with pytest.raises(Undeliverable) as caught:
            await guarded.post(url, b"", timeout=60)
        assert caught.value.reason == "address"
    await guarded.close()
    own = client(HttpConfig())
    with pytest.raises(Undeliverable) as caught:
        await own.post("http://127.0.0.1:9/x", b"", timeout=60)
    assert caught.value.reason == "refused"
    await own.close()
