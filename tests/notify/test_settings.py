"""`SLACK_WEBHOOK_URL`, `EMAIL_SERVER` and `EMAIL_FROM` alone tell somebody; a file wins over them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from vedette.clock import SystemClock, now_ms
from vedette.errors import BadInput
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify.config import parse, redacted
from vedette.notify.notifier import Notifier
from vedette.notify.settings import NotifySettings
from vedette.records.database import Records
from vedette.settings import resolve


def of(**environment: str) -> NotifySettings:
    return resolve(environment=environment, dotenv=None).vedette.notify


def test_nothing_given_tells_nobody() -> None:
    assert of().default_route() is None


def test_a_mail_server() -> None:
    text = of(EMAIL_SERVER="mail.example.org", EMAIL_FROM="v@example.org", EMAIL_TO="ops@example.org").default_route()
    assert text is not None
    (mail,) = parse(text).receivers[0].email_configs
    assert (mail.smarthost, mail.from_, mail.to, mail.require_tls) == ("mail.example.org:25", "v@example.org", "ops@example.org", False)
    text = of(EMAIL_SERVER="mail.example.org:587").default_route()
    assert text is not None
    (mail,) = parse(text).receivers[0].email_configs
    assert (mail.from_, mail.to, mail.require_tls) == ("alerts@example.com", "alerts@example.com", True)


@pytest.mark.parametrize("server", ["127.0.0.1:1025", "localhost:1025", "[::1]:1025"])
def test_a_mail_server_on_this_machine_need_not_speak_tls(server: str) -> None:
    text = of(EMAIL_SERVER=server).default_route()
    assert text is not None
    assert parse(text).receivers[0].email_configs[0].require_tls is False


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(BadInput, match="SLACK_WEBHOOK_URL: unsupported scheme"):
        of(SLACK_WEBHOOK_URL="hooks.slack.com/x")
    with pytest.raises(BadInput, match="not an address"):
        of(EMAIL_SERVER="mail:smtp").default_route()


async def test_a_slack_webhook_alone_is_told(
    records: Records, receiver: Any, until: Callable[[Callable[[], object]], Awaitable[None]]
) -> None:
    text = of(SLACK_WEBHOOK_URL=receiver.url).default_route()
    assert text is not None
    assert "secret-path" not in redacted(text)
    clock = SystemClock()
    notifier = Notifier(parse(text), records, clock)
    await notifier.start()
    now = now_ms(clock)
    await notifier.accept([Alert(Labels.of(alertname="Disk"), now - 60_000, now + 60_000, Labels.of(summary="disk is full"))])
    await until(lambda: notifier.counts.sent["slack"] == 1)
    await notifier.close()
    assert receiver.requests[0].body["attachments"][0]["text"] == "disk is full\n"


def test_a_file_named_in_the_configuration_is_found_beside_it(tmp_path: Path) -> None:
    (tmp_path / "vedette.yml").write_text("vedette: {notify: {config_file: am.yml}}\n")
    settings = resolve(path=tmp_path / "vedette.yml", environment={}, dotenv=None)
    assert settings.alertmanager_file == tmp_path / "am.yml"
    other = resolve(path=tmp_path / "vedette.yml", environment={}, dotenv=None, alertmanager_path=Path("/other.yml"))
    assert other.alertmanager_file == Path("/other.yml")
