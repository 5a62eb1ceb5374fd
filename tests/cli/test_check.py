"""`vedette check`: every file that it is given is looked at, and what is wrong with each is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vedette.cli.check import config, rules

GOOD = "groups: [{name: g, rules: [{record: a:b, expr: sum(up)}]}]\n"
BAD = "groups: [{name: g, rules: [{record: a:b, expr: sum(up}]}]\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes files into the working directory; their paths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def write(**texts: str) -> list[Path]:
        found = [Path(f"{name}.yml") for name in texts]
        for path, text in zip(found, texts.values(), strict=True):
            path.write_text(text, encoding="utf-8")
        return found

    return write


def test_each_configuration_and_the_rule_files_it_names_are_checked(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    files(good=GOOD)
    config(files(one="rule_files: [good.yml]\n", two="scrape_configs: [{job_name: x}]\n"), alertmanager=False)
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines() == [
        "ok one.yml: 0 scrape configs, 1 rule file patterns",
        "ok good.yml: 1 groups, 1 rules",
        "ok two.yml: 1 scrape configs, 0 rule file patterns",
    ]


def test_a_bad_one_does_not_hide_the_others(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    files(bad=BAD)
    given = files(one="rule_files: [bad.yml]\n", two="global: {scrape_intervall: 1s}\n", three="{}\n")
    with pytest.raises(SystemExit) as ended:
        config(given, alertmanager=False)
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert [line.split(":")[1].strip() for line in said.err.splitlines()] == ["bad.yml", "two.yml"]
    assert "did you mean scrape_interval?" in said.err
    assert "ok three.yml" in said.out


def test_so_it_is_with_rule_files_alone(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        rules(files(bad=BAD, good=GOOD))
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.err.startswith("vedette: bad.yml:1:")
    assert said.out == "ok good.yml: 1 groups, 1 rules\n"
    rules(files(good=GOOD))


def test_alertmanagers_files_are_another_kind(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = files(good="route: {receiver: a}\nreceivers: [{name: a}]\n", bad="route: {receiver: nobody}\nreceivers: [{name: a}]\n")
    config([good], alertmanager=True)
    assert capsys.readouterr().out == "ok good.yml: 1 receivers\n"
    with pytest.raises(SystemExit):
        config([bad, good], alertmanager=True)
    said = capsys.readouterr()
    assert "nobody" in said.err
    assert "ok good.yml" in said.out
    with pytest.raises(SystemExit):
        config([good], alertmanager=False)
    assert "route" in capsys.readouterr().err
