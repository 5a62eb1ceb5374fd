"""The rule packs: every rule is shown to fire and to be quiet; what is switched on is in force; the documentation names all."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from vedette.errors import BadInput
from vedette.rules import unittest, unittestfile
from vedette.rules.files import load
from vedette.rules.packs import FOLDER, pack_groups
from vedette.rules.settings import PACKS, RulesSettings
from vedette.settings import resolve

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PACKS)
async def test_every_rule_fires_and_is_quiet_in_a_test_of_its_own(name: str) -> None:
    path = ROOT / f"alerts/tests/{name}.yml"
    file = unittestfile.load(path)
    groups = [g for p in unittestfile.rule_paths(file, path)[0] for g in load(p)]
    for test in file.tests:
        # The rule that is tried alone: each test stands for one, and all the others would cost ten times as much.
        (tried,) = {t.alertname for t in test.alert_rule_test}
        alone = [dataclasses.replace(g, rules=tuple(r for r in g.rules if r.name == tried)) for g in groups]
        assert (await unittest.run(file, alone, test)).failures == ()
    fires = {t.alert_rule_test[0].alertname for t in file.tests if t.alert_rule_test[0].exp_alerts}
    quiet = {t.alert_rule_test[0].alertname for t in file.tests if not t.alert_rule_test[0].exp_alerts}
    rules = {r.name for g in groups for r in g.rules}
    assert fires == quiet == rules


@pytest.mark.parametrize("name", PACKS)
def test_every_rule_says_how_bad_it_is_and_what_it_means(name: str) -> None:
    (group,) = pack_groups([name])
    assert group.name == f"vedette.{name}"
    for rule in group.rules:
        assert rule.labels.get("severity") in ("warning", "critical")
        assert rule.annotations.get("summary")
        assert rule.annotations.get("description")
        assert f"`{rule.name}`" in (ROOT / "docs/alerting.md").read_text()


def test_names_are_of_one_rule_only() -> None:
    names = [rule.name for group in pack_groups(PACKS) for rule in group.rules]
    assert len(names) == len(set(names)) > 35


def test_packs_are_chosen_by_name() -> None:
    assert RulesSettings().chosen == ()
    assert RulesSettings(packs=("security", "trading", "security")).chosen == ("trading", "security")
    assert RulesSettings(packs=("all",)).chosen == PACKS
    with pytest.raises(BadInput, match=re.escape("packs: not a pack: 'everything'")):
        RulesSettings(packs=("everything",))


def test_the_variable_is_a_list() -> None:
    assert resolve(environment={"VEDETTE_RULES_PACKS": "[security]"}, dotenv=None).vedette.rules.chosen == ("security",)


def test_the_package_carries_the_files() -> None:
    assert sorted(p.stem for p in FOLDER.glob("*.yml") if p.stem != "defaults") == sorted(PACKS)
    for path in FOLDER.glob("*.yml"):
        assert yaml.safe_load(path.read_text())["groups"]
