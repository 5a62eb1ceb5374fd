"""The documentation is complete: every setting, endpoint, own metric and command of the running code stands in docs/."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
import typer.main

from vedette.cli.verbs import app as cli
from vedette.clock import ManualClock
from vedette.collect.config import FileDiscoveryConfig, GlobalConfig, HttpDiscoveryConfig, ScrapeConfig
from vedette.model.relabel import Action, RelabelConfig
from vedette.notify.channels.apprise import AppriseConfig
from vedette.notify.channels.incidentio import IncidentioConfig
from vedette.notify.channels.msteams import MsteamsConfig
from vedette.notify.channels.webex import WebexConfig
from vedette.notify.config import Config, InhibitRule, Receiver, RouteConfig
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
    VictoropsConfig,
    WebhookConfig,
    WechatConfig,
)
from vedette.rules.defaults import default_groups
from vedette.settings import ENVIRONMENT, ConfigFile, Settings, flag_names, resolve
from vedette.web.routes import FORMER_PAGES, PAGES

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"


def _page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def _settings(data: Path) -> Settings:
    return resolve(environment={}, dotenv=None, flags={("storage", "data"): data})


@pytest.fixture
def house(tmp_path: Path) -> Any:
    """The server, put together and not started."""
    from vedette.app import House

    return House(_settings(tmp_path), clock=ManualClock(), read=lambda: _settings(tmp_path))


def test_every_link_leads_somewhere() -> None:
    done = subprocess.run([sys.executable, str(DOCS / "build.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", flag_names())
def test_setting(name: str) -> None:
    assert f"`{name}`" in _page("configuration")


@pytest.mark.parametrize("name", sorted(ENVIRONMENT))
def test_environment_variable(name: str) -> None:
    assert f"`{name}`" in _page("configuration")


@pytest.mark.parametrize("shape", [ConfigFile, GlobalConfig, ScrapeConfig, FileDiscoveryConfig, HttpDiscoveryConfig, RelabelConfig])
def test_key_of_the_file(shape: type) -> None:
    page = _page("configuration")
    keys = [f.metadata.get("key", f.name) for f in dataclasses.fields(shape) if f.init]
    missing = [key for key in keys if not re.search(rf"`{re.escape(key)}[`.]", page)]
    assert not missing


CHANNELS = [
    *(DiscordConfig, EmailConfig, MattermostConfig, OpsgenieConfig, PagerdutyConfig, PushoverConfig, RocketchatConfig, SlackConfig),
    *(AppriseConfig, IncidentioConfig, MsteamsConfig, WebexConfig),
    *(SmsConfig, SnsConfig, TeamsConfig, TelegramConfig, VictoropsConfig, WebhookConfig, WechatConfig),
]


@pytest.mark.parametrize("shape", [Config, RouteConfig, Receiver, InhibitRule, *CHANNELS])
def test_key_of_alertmanager_yml(shape: type) -> None:
    page = _page("alerting")
    keys = [f.metadata.get("key", f.name) for f in dataclasses.fields(shape) if f.init]
    missing = [key for key in keys if f"`{key}`" not in page]
    assert not missing


def test_default_alert() -> None:
    page = _page("alerting")
    rules = [rule.name for group in default_groups() for rule in group.rules]
    assert len(rules) == 5
    assert not [name for name in rules if f"`{name}`" not in page]


def test_relabel_actions() -> None:
    missing = [action for action in get_args(Action) if f"`{action}`" not in _page("configuration")]
    assert not missing


def _commands() -> list[tuple[str, list[str]]]:
    """(words of a command, its options)."""

    def walk(command: Any, words: list[str]) -> list[tuple[str, list[str]]]:
        if hasattr(command, "commands"):
            return [found for name, inner in command.commands.items() for found in walk(inner, [*words, name])]
        options = [o for p in command.params for o in p.opts if o.startswith("--")]
        return [(" ".join(words), options)]

    return walk(typer.main.get_command(cli), ["vedette"])


@pytest.mark.parametrize(("command", "options"), _commands())
def test_command(command: str, options: list[str]) -> None:
    page = _page("operations") + _page("access")
    assert f"`{command}" in page
    missing = [option for option in options if f"`{option}" not in page and f"{option} " not in page]
    assert not missing


async def test_endpoint(house: Any) -> None:
    page = _page("http-api") + _page("access")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(house.asgi()), base_url="http://127.0.0.1:8009") as client:
        answer = await client.get("/openapi.json")
    paths = answer.json()["paths"]
    assert "/api/v1/query" in paths
    missing = []
    for path, methods in paths.items():
        shown = re.sub(r"\{(\w+)\}", r"<\1>", path)
        for method in methods:
            row = rf"`{method.upper()}`.*`{re.escape(shown)}`|`{method.upper()} {re.escape(shown)}`"
            if method in ("get", "post", "put", "delete") and not re.search(row, page):
                missing.append(f"{method.upper()} {shown}")
    assert not missing
    assert not [path for path in (*PAGES, *FORMER_PAGES) if f"`{path}" not in page]


async def _metrics(house: Any) -> list[Any]:
    """What a started server tells about itself: some rooms count only once they run."""
    house.lock()
    await house.start()
    try:
        return list(house.registry.collect())
    finally:
        await house.close()


@pytest.mark.timeout(400)  # the first start on a machine compiles what it counts
async def test_own_metrics(house: Any) -> None:
    page = _page("operations")
    families = [f for f in await _metrics(house) if not f.name.startswith(("process_", "python_"))]
    assert len(families) > 20
    # A counter's family is named without the suffix that its samples carry.
    names = {f"{f.name}_total" if f.type == "counter" else f.name for f in families}
    assert not sorted(name for name in names if f"`{name}`" not in page)
    listed = {name for row in re.findall(r"^\| (`.*?) \|", page, flags=re.MULTILINE) for name in re.findall(r"`([a-z]+_\w+)`", row)}
    assert not sorted(listed - names), "the page lists what is not there"


def test_the_tables_list_no_setting_that_is_not_there() -> None:
    listed = set(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \|", _page("configuration"), flags=re.MULTILINE))
    assert listed == set(flag_names())
