"""Prometheus' compliance cases for alert generators, on an owned clock: the states, the annotations, who is told when."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vedette.model.labels import METRIC_NAME, Labels
from vedette.model.samples import STALE
from vedette.rules.files import load
from vedette.rules.state import RuleState

STEP = 15_000
EVERY = 2  # samples between evaluations of a group: 30 s
T0 = 1_700_000_000_000

Expand = Callable[[list[str]], list[float]]


class Case:
    """One group's input, played into the world sample by sample."""

    def __init__(self, world: Any, conformance: Path, expanded: Expand, name: str) -> None:
        self.world, self.name = world, name
        cases = json.loads((conformance / "derived/alert_generator_cases.json").read_text())["cases"]
        groups = load(conformance / "prometheus_compliance/alert_generator/rules.yaml")
        self.groups = [g for g in groups if g.name == name]
        self.series: list[tuple[Labels, list[float]]] = []
        samples: list[str] = []
        for entry in cases[name]["series"]:
            samples = samples if entry["samples"] == "same" else entry["samples"]
            for labels, items in spread(entry["labels"], samples):
                self.series.append((Labels.of({METRIC_NAME: "alert_generator_test_suite", **labels}), expanded(items)))
        self.states: dict[str, list[tuple[int, str]]] = {}
        self.annotations: dict[str, list[tuple[int, dict[str, str]]]] = {}

    async def play(self, last: int) -> None:
        await self.world.start(self.groups, external_labels=Labels())
        for i in range(last + 1):
            for labels, values in self.series:
                if i <= len(values):
                    self.world.storage.add(labels, T0 + i * STEP, values[i] if i < len(values) else STALE)
            if i % EVERY == 0:
                await self.world.tick(i * STEP)
                for rule in self.world.rules.groups()[0].rules:
                    self.note(i, rule)

    def note(self, i: int, rule: RuleState) -> None:
        assert rule.health == "ok", rule.last_error
        variants = {a.labels.get("variant"): a for a in rule.alerts}
        for key in {rule.name, *(f"{rule.name}/{v}" for v in variants if v), *self.states}:
            if key != rule.name and not key.startswith(f"{rule.name}/"):
                continue
            alert = variants.get(key.partition("/")[2]) if "/" in key else None
            state = rule.state if "/" not in key else alert.state if alert else "inactive"
            past = self.states.setdefault(key, [])
            if state != (past[-1][1] if past else "inactive"):
                past.append((i, state))
        for alert in rule.alerts:
            self.annotations.setdefault(rule.name, []).append((i, dict(alert.annotations)))


def spread(labels: dict[str, str], samples: list[str]) -> list[tuple[dict[str, str], list[str]]]:
    """`101|102|103` stands for three series, `i` in the samples for which one it is."""
    if "|" not in labels.get("id", ""):
        return [(labels, samples)]
    out = []
    for n in range(len(labels["id"].split("|"))):
        own = {k: v.split("|")[n] if "|" in v else v for k, v in labels.items()}
        out.append((own, [{"i": str(n + 1), "2*i": str(2 * (n + 1))}.get(s, s) for s in samples]))
    return out


@pytest.fixture
def case(world: Any, conformance: Path, expanded: Expand) -> Callable[[str], Case]:
    return lambda name: Case(world, conformance, expanded, name)


async def test_pending_and_firing_and_resolved(case: Callable[[str], Case]) -> None:
    played = case("PendingAndFiringAndResolved")
    await played.play(150)
    (states,) = played.states.values()
    assert states == [(8, "pending"), (32, "firing"), (70, "inactive"), (90, "pending"), (114, "firing"), (134, "inactive")]
    summaries = [a["summary"] for _, a in played.annotations["PendingAndFiringAndResolved_SimpleAlert"]]
    assert list(dict.fromkeys(summaries)) == ["The value is 11 11", "The value is 15 15", "The value is 19 19"]
    sent = [a for batch in played.world.emitted for a in batch]
    assert {(a.starts_at - T0) // STEP for a in sent} == {32, 114}
    # Told at once, then whenever more than a minute has gone by; what fires holds for four minutes from then.
    first = [(a.ends_at - T0) // STEP for a in sent if (a.starts_at - T0) // STEP == 32]
    assert first[:7] == [16 + at for at in range(32, 70, 6)]
    # Its end is told again and again, until it fires anew.
    assert first[7:] == [70] * 4


async def test_pending_and_resolved_always_inactive(case: Callable[[str], Case]) -> None:
    played = case("PendingAndResolved_AlwaysInactive")
    await played.play(60)
    assert played.states["PendingAndResolved_AlwaysInactive_PendingAlert"] == [(8, "pending"), (20, "inactive")]
    assert played.states["PendingAndResolved_AlwaysInactive_InactiveAlert"] == []
    assert played.world.emitted == []


async def test_zero_for_and_small_for(case: Callable[[str], Case], conformance: Path) -> None:
    played = case("ZeroFor_SmallFor")
    await played.play(120)
    assert played.states["ZeroFor_SmallFor_ZeroFor"] == [(8, "firing"), (22, "inactive"), (94, "firing"), (106, "inactive")]
    assert played.states["ZeroFor_SmallFor_SmallFor"] == [(8, "pending"), (10, "firing"), (22, "inactive")]
    expected = json.loads((conformance / "derived/alert_generator_cases.json").read_text())["cases"]["ZeroFor_SmallFor"][
        "expected_annotations"
    ]
    zero, small = (played.annotations[f"ZeroFor_SmallFor_{n}"][0][1] for n in ("ZeroFor", "SmallFor"))
    assert zero["template_test"] == expected["ZeroFor template_test"]
    assert zero["template_query_test"] == expected["ZeroFor template_query_test (first 7m)"]
    assert small["template_test"] == expected["SmallFor template_test"]


async def test_new_alerts_and_order(case: Callable[[str], Case]) -> None:
    played = case("NewAlerts_OrderCheck")
    await played.play(100)
    assert played.states["NewAlerts_OrderCheck_Rule1/one"] == [(8, "pending"), (20, "firing"), (74, "inactive")]
    assert played.states["NewAlerts_OrderCheck_Rule1/two"] == [(32, "pending"), (44, "firing"), (66, "inactive")]
    assert played.states["NewAlerts_OrderCheck_Rule2"][0] == (44, "firing")
    assert played.annotations["NewAlerts_OrderCheck_Rule2"][0][1] == {
        "description": "Based on ALERTS. Old alertname was NewAlerts_OrderCheck_Rule1. foo was bar."
    }
