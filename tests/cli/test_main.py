"""The start of the `vedette` command: the plain arguments of `serve` are read as the parser of all verbs reads them."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import vedette.cli.serve
from vedette.cli.main import LISTS, PATHS, SWITCHES, TEXTS, plain
from vedette.cli.verbs import app
from vedette.errors import BadInput

PLAIN = [
    [],
    ["--data", "/tmp/x", "--port", "8009"],
    ["--data=/tmp/x", "--port=0", "--host=::1"],
    ["-c", "prometheus.yml", "--alertmanager-config", "am.yml"],
    ["--listen", "metrics=9001", "--insecure", "--listen=all"],
    ["--enable-feature", "a,b", "--enable-feature=c", "--config=a=b.yml"],
    ["--port", "1", "--port", "2"],
    ["--graphite", "2003", "--statsd=127.0.0.1:8125"],
    ["--port", "many"],
]
NOT_PLAIN = [
    ["--help"],
    ["--prot", "1"],
    ["--port"],
    ["--port", "--data", "x"],
    ["--port="],
    ["--graphite="],
    ["--insecure=yes"],
    ["-cprometheus.yml"],
    ["-c=prometheus.yml"],
    ["stray"],
    ["--", "x"],
    ["--port", "-1"],
]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the server is called with by the parser, instead of being run."""
    calls: list[dict[str, Any]] = []

    def run(config: Path | None, alertmanager_config: Path | None, **rest: Any) -> None:
        calls.append({"config": config, "alertmanager_config": alertmanager_config, **rest})

    monkeypatch.setattr(vedette.cli.serve, "run", run)
    return calls


@pytest.mark.parametrize("arguments", PLAIN, ids=" ".join)
def test_plain_arguments_mean_what_the_parser_makes_of_them(arguments: list[str], called: list[dict[str, Any]]) -> None:
    assert CliRunner().invoke(app, ["serve", *arguments]).exit_code == 0
    assert [plain(arguments)] == called


@pytest.mark.parametrize("arguments", NOT_PLAIN, ids=" ".join)
def test_what_is_not_plain_is_the_parsers(arguments: list[str]) -> None:
    assert plain(arguments) is None


def test_every_option_of_serve_is_known_here() -> None:
    command: Any = typer.main.get_command(app)
    params = [param for param in command.commands["serve"].params if param.name != "help"]
    names = {name: param for param in params for name in param.opts}
    assert set(names) == {*PATHS, *TEXTS, *LISTS, *SWITCHES}
    for name, param in names.items():
        assert (param.is_flag, param.multiple) == (name in SWITCHES, name in LISTS), name


def test_version_is_an_option_too() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.output) == (0, CliRunner().invoke(app, ["version"]).output)
    assert told.output.startswith(f"vedette {version('vedette')}\n")


@pytest.mark.parametrize("verb", ["query", "logs"])
def test_a_server_without_a_scheme_is_asked_by_http(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(f"vedette.cli.{verb}.run", lambda *_, url, **__: asked.append(url))
    for url in ("localhost:9090", "https://far.example", ""):
        assert CliRunner().invoke(app, [verb, "up", "--url", url]).exit_code == 0
    assert asked == ["http://localhost:9090", "https://far.example", ""]


@pytest.mark.parametrize("option", ["--port=many", "--listen=xscore=70000"])
def test_a_port_that_is_none_is_told_with_its_option(option: str) -> None:
    told = CliRunner().invoke(app, ["serve", option]).exception
    assert isinstance(told, BadInput)
    assert (told.where, told.problem.split(":")[0]) == (option.split("=")[0], "not a port")


def test_config_names_variables_that_are_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["config"], env={"VEDETTE_STORAGE_RETENTON": "1d", "VEDETTE_LOGS_XYZZY": "1"})
    assert told.exit_code == 0
    assert "vedette: VEDETTE_LOGS_XYZZY is no setting\n" in told.output
    assert "vedette: VEDETTE_STORAGE_RETENTON is no setting (did you mean VEDETTE_STORAGE_RETENTION?)\n" in told.output
