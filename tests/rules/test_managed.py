"""Rules made over the API: versions, authors, concurrent changes, restarts, limits, export."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded, NotFound
from vedette.promql.settings import Features
from vedette.records.database import Records
from vedette.rules import managed
from vedette.rules.files import parse
from vedette.rules.managed import Defaults, ManagedRules, VersionConflict

WEB = "{name: web, interval: 30s, rules: [{alert: Down, expr: up == 0, for: 5m}]}"


class World:
    """The rules of one data directory; `applied` counts how often they were put in force."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock, self.applied = path, ManualClock(), 0
        self.defaults = Defaults()

    async def start(self) -> ManagedRules:
        self.records = await Records.open(self.path)
        self.rules = ManagedRules(self.records, self.clock, self.changed, defaults=lambda: self.defaults)
        await self.rules.start()
        return self.rules

    async def restart(self) -> ManagedRules:
        await self.records.close()
        return await self.start()

    async def changed(self) -> None:
        self.applied += 1


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path / "r.db")
    await made.start()
    yield made
    await made.records.close()


def versions(rules: ManagedRules, name: str = "web") -> list[tuple[int, str, bool]]:
    return [(v.version, v.author, bool(v.document)) for v in rules.history("default", name)]


async def test_a_group_is_made_changed_deleted_and_each_version_kept(world: World) -> None:
    rules = world.rules
    made = await rules.put("default", WEB, author="ann")
    assert (made.version, made.author, world.applied) == (1, "ann", 1)
    (group,) = rules.groups()
    assert (group.name, group.file, group.interval_ms, group.rules[0].name) == ("web", "api:default", 30_000, "Down")
    await world.clock.advance(60)
    changed = await rules.put("default", WEB.replace("5m", "1m"), author="bob", expected=1)
    assert changed.changed_at - made.changed_at == 60_000
    assert rules.groups()[0].rules[0].hold_ms == 60_000
    await rules.delete("default", "web", author="cleo", expected=2)
    assert rules.groups() == []
    assert versions(rules) == [(3, "cleo", False), (2, "bob", True), (1, "ann", True)]
    with pytest.raises(NotFound):
        rules.get("default", "web")
    assert (await rules.put("default", WEB, author="dan", expected=0)).version == 4
    assert world.applied == 4


async def test_what_changes_nothing_makes_no_version(world: World) -> None:
    await world.rules.put("default", WEB, author="ann")
    again = await world.rules.put("default", '{"name":"web","interval":"30s","rules":[{"alert":"Down","expr":"up == 0","for":"5m"}]}')
    assert (again.version, again.author, world.applied) == (1, "ann", 1)


async def test_of_two_changes_to_one_version_the_second_is_refused(world: World) -> None:
    await world.rules.put("default", WEB)
    changes = [world.rules.put("default", WEB.replace("5m", f"{n}m"), author=str(n), expected=1) for n in (1, 2)]
    first, second = await asyncio.gather(*changes, return_exceptions=True)
    refused = [r for r in (first, second) if isinstance(r, BaseException)]
    assert len(refused) == 1
    assert isinstance(refused[0], VersionConflict)
    assert "has version 2, the change was made to version 1" in str(refused[0])
    assert len(versions(world.rules)) == 2
    for name, expected in (("web", 0), ("other", 3)):
        with pytest.raises(VersionConflict):
            await world.rules.put("default", WEB.replace("web", name), expected=expected)


async def test_a_restart_keeps_everything(world: World) -> None:
    await world.rules.put("b", WEB, author="ann")
    await world.rules.put("a", WEB, author="ann")
    await world.rules.put("default", WEB.replace("web", "gone"))
    await world.rules.delete("default", "gone")
    rules = await world.restart()
    assert [(v.namespace, v.name, v.author) for v in rules.all()] == [("a", "web", "ann"), ("b", "web", "ann")]
    assert [g.file for g in rules.groups()] == ["api:a", "api:b"]
    assert versions(rules, "gone")[0][2] is False
    assert [v.namespace for v in rules.all("b")] == ["b"]


async def test_a_group_that_is_taken_no_more_is_left_out_and_can_be_mended(world: World) -> None:
    world.defaults = Defaults(features=Features(experimental_functions=True))
    await world.rules.put("default", "{name: web, rules: [{record: r, expr: 'mad_over_time(up[5m])'}]}")
    world.defaults = Defaults()
    rules = await world.restart()
    assert rules.groups() == []
    assert rules.group("default", "web") is None
    assert managed.shown(rules.get("default", "web"), None)["rules"] is None
    assert rules.export() == "groups: []\n"
    await rules.put("default", WEB, expected=1)
    assert len(rules.groups()) == 1


async def test_only_the_last_versions_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed, "KEPT_VERSIONS", 3)
    for n in range(1, 6):
        await world.rules.put("default", WEB.replace("5m", f"{n}m"))
    assert [v for v, _, _ in versions(world.rules)] == [5, 4, 3]
    assert [v for v, _, _ in versions(await world.restart())] == [5, 4, 3]


async def test_limits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed, "MAX_GROUPS", 1)
    monkeypatch.setattr(managed, "MAX_RULES", 1)
    await world.rules.put("default", WEB)
    await world.rules.put("default", WEB.replace("5m", "1m"))
    with pytest.raises(LimitExceeded, match="1 rule groups were made already"):
        await world.rules.put("default", WEB.replace("web", "more"))
    with pytest.raises(BadInput, match="2 rules in one group"):
        await world.rules.put("default", "{name: web, rules: [{record: a, expr: b}, {record: c, expr: d}]}")


BAD = [
    ("a/b", WEB, "namespace: not a name: 'a/b'"),
    ("", WEB, "namespace: not a name"),
    ("..", WEB, "namespace: not a name"),
    ("ok", WEB.replace("web", "'x\\ty'").replace("'", '"'), "name: not a name"),
    ("ok", "{rules: []}", "group:1:1: lacks the key name"),
    ("ok", "[]", "group:1:1: a list where a mapping is expected"),
    ("ok", "{name: web, rule: []}", "did you mean rules?"),
    ("ok", "{name: '', rules: []}", "group:1:8: name: groupname must not be empty"),
    ("ok", "{name: web, rules: [{alert: A, expr: 'up ='}]}", "group:1:38: rules[0].expr: could not parse expression: 1:4"),
]


@pytest.mark.parametrize(("namespace", "text", "problem"), BAD)
async def test_bad_groups_are_refused_and_nothing_changes(world: World, namespace: str, text: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        await world.rules.put(namespace, text)
    assert problem in str(caught.value)
    assert world.rules.all() == []
    assert world.applied == 0


async def test_who_cannot_be_told_is_refused(world: World) -> None:
    with pytest.raises(BadInput, match="notify: this tenant has no receivers of its own"):
        await world.rules.put("default", WEB.replace("name: web", "name: web, notify: {email: [a@b.c]}"))
    assert world.rules.all() == []


async def test_a_namespace_is_deleted_as_a_whole(world: World) -> None:
    for name in ("a", "b"):
        await world.rules.put("default", WEB.replace("web", name))
    await world.rules.put("other", WEB)
    before = world.applied
    await world.rules.delete_namespace("default", author="ann")
    assert (world.applied, [v.namespace for v in world.rules.all()]) == (before + 1, ["other"])
    with pytest.raises(NotFound, match="has no rule groups"):
        await world.rules.delete_namespace("default")


async def test_the_export_is_a_rule_file_that_prometheus_takes(world: World) -> None:
    typed = "{alert: Hot, type: threshold, metric: temp, condition: greater_than, threshold: 30, for: 1m, labels: {severity: page}}"
    odd = "{alert: Odd, type: anomaly, metric: temp}"
    await world.rules.put("a", f"{{name: g, rules: [{typed}, {odd}]}}")
    await world.rules.put("b", "{name: g, limit: 5, rules: [{record: r, expr: sum(up)}]}")
    text = world.rules.export()
    groups = parse(text, name="export.yml")
    assert [(g.name, g.limit) for g in groups] == [("a/g", 0), ("b/g", 5)]
    assert yaml.safe_load(text)["groups"][0]["rules"] == [
        {"alert": "Hot", "expr": "temp > 30", "for": "1m", "labels": {"severity": "page"}},
        {"alert": "Odd", "type": "anomaly", "metric": "temp"},
    ]
    assert [g.name for g in parse(world.rules.export("b"), name="b.yml")] == ["g"]


async def test_a_disk_that_takes_nothing_refuses_the_change(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: Any, **__: Any) -> None:
        raise LimitExceeded("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(world.records, "save", full)
        with pytest.raises(LimitExceeded):
            await world.rules.put("default", WEB)
    assert (world.rules.all(), world.applied) == ([], 0)
