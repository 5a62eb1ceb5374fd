"""Backtests: the same firings as the rules gave when they ran, over ranges in parts, with templates, limits and analyses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vedette.errors import BadInput, LimitExceeded
from vedette.model.labels import EMPTY, Labels
from vedette.rules import backtest
from vedette.rules.backtest import Firing, RuleRun, run, standing
from vedette.rules.files import parse
from vedette.rules.template import Answers

T0 = 1_700_000_000_000
MINUTE = 60_000


class History:
    """The world's series, read as a server's would be; counts range queries."""

    def __init__(self, world: Any) -> None:
        self.engine, self.ranges = world.engine, 0

    def range(self, expr: str, start: int, end: int, step: int) -> Any:
        self.ranges += 1
        return self.engine.range("default", expr, start, end, step)

    def instant(self, expr: str, at: int) -> Answers:
        return [(labels, float(values[-1])) for labels, _, values in self.engine.instant("default", expr, at).rows()]


def over(world: Any, rules: str, minutes: int, **more: Any) -> list[RuleRun]:
    history = History(world)
    return run(parse(rules, name="r.yml"), history, T0, T0 + minutes * MINUTE, external_labels=EMPTY, external_url="http://v", **more)


def minutes(firing: Firing) -> tuple[float, ...]:
    return tuple((t - T0) / MINUTE if t else t for t in (firing.pending_at, firing.fired_at, firing.ended_at))


RULES = """
groups:
- name: g
  interval: 1m
  rules:
  - alert: High
    expr: m > 10
    for: 2m
    keep_firing_for: 3m
    labels: {severity: page}
    annotations: {summary: '{{ $labels.i }} at {{ $value }}, {{ query "count(m)" | first | value }} in all'}
  - {alert: Low, expr: m < 2, labels: {level: '{{ if lt $value 1.0 }}bad{{ else }}poor{{ end }}'}}
  - {record: r, expr: m}
"""


async def test_it_fires_as_the_rules_did(world: Any) -> None:
    random = np.random.default_rng(5)
    for name in "abc":
        level = 5.0
        for minute in range(240):
            level = max(0.0, level + random.normal(0, 2.5))
            if random.random() > 0.03:
                world.put(minute * MINUTE, level, __name__="m", i=name)
    await world.start(RULES)
    lived: dict[str, list[tuple[str, int]]] = {}
    for minute in range(240):
        before = {(r.name, a.labels): a.state for r in world.rules.groups()[0].rules for a in r.alerts}
        await world.tick(minute * MINUTE)
        after = {(r.name, a.labels): a.state for r in world.rules.groups()[0].rules for a in r.alerts}
        for key in before.keys() | after.keys():
            if before.get(key) != after.get(key):
                lived.setdefault(str(key[1]), []).append((after.get(key, "over"), minute))
    high, low = over(world, RULES, 239)
    assert (high.evaluations, high.failures, low.evaluations) == (240, 0, 240)
    again: dict[str, list[tuple[str, int]]] = {}
    for found in (*high.firings, *low.firings):
        pending, fired, ended = minutes(found)
        course = [("pending", pending)] if found.fired_at != found.pending_at else []
        course += [("firing", fired)] if found.fired_at else []
        course += [("over", ended)] if found.ended_at else []
        again.setdefault(str(found.labels), []).extend((state, int(at)) for state, at in course)
    assert len([f for f in high.firings if f.fired_at]) > 3
    assert len(low.firings) > 3
    # An alert that ends and begins at one evaluation changes its state once when it is looked at from outside.
    assert {k: sorted(v) for k, v in again.items()} == {k: sorted(v) for k, v in lived.items()}
    fired = next(f for f in high.firings if f.fired_at)
    summary = fired.annotations.get("summary")
    assert summary.startswith(f"{fired.labels.get('i')} at {fired.value:.2f}"[:6])
    assert summary.endswith(" in all")


def test_one_query_a_rule_and_more_only_where_the_range_is_long(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for minute in range(30):
        world.put(minute * MINUTE, 20 if 7 <= minute <= 18 else 1, __name__="m")
    rules = "groups:\n- {name: g, interval: 1m, rules: [{alert: A, expr: m > 10, for: 2m}]}\n"
    history = History(world)
    arguments = (T0, T0 + 29 * MINUTE)
    (whole,) = run(parse(rules, name="r"), history, *arguments, external_labels=EMPTY, external_url="")
    assert history.ranges == 1
    monkeypatch.setattr(backtest, "MAX_STEPS", 4)
    (parts,) = run(parse(rules, name="r"), history, *arguments, external_labels=EMPTY, external_url="")
    assert history.ranges == 9
    assert whole.firings == parts.firings
    assert minutes(whole.firings[0]) == (7, 9, 19)


def test_what_stands_at_the_end_has_none(world: Any) -> None:
    for minute in range(10):
        world.put(minute * MINUTE, 1, __name__="m")
    found = over(world, "groups:\n- {name: g, rules: [{alert: A, expr: m}, {alert: B, expr: m, for: 1h}]}\n", 5)
    assert [minutes(f) for r in found for f in r.firings] == [(0, 0, 0), (0, 0, 0)]
    assert [bool(f.fired_at) for r in found for f in r.firings] == [True, False]
    ((at, firing),) = standing(found[0], far=T0 + 99)
    assert (at, firing.ended_at) == (T0, T0 + 99)
    assert standing(found[1], far=0) == []


def test_failures_are_told_and_counted(world: Any) -> None:
    for minute in range(30):
        for name in ("m", "n"):
            world.put(minute * MINUTE, 1, __name__=name)
    text = """
groups:
- name: g
  limit: 1
  rules:
  - {alert: Twice, expr: '{__name__=~"m|n"}'}
  - {alert: Many, expr: 'label_replace(m, "i", "a", "", "") or label_replace(m, "i", "b", "", "")'}
  - {alert: Matrix, expr: 'm + on() group_left() {__name__=~"m|n"}'}
"""
    twice, many, matrix = over(world, text, 20)
    assert (twice.failures, len(twice.errors)) == (21, backtest.MAX_ERRORS)
    assert "same labelset after applying alert labels" in twice.errors[0][1]
    assert (many.failures, many.errors[0]) == (21, (T0, "exceeded limit of 1 with 2 alerts"))
    assert matrix.failures == 21
    assert [r.firings for r in (twice, many, matrix)] == [[], [], []]


def test_ranges_that_are_none_or_too_long(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = parse("groups:\n- {name: g, interval: 1s, rules: [{alert: A, expr: vector(1)}]}\n", name="r")
    with pytest.raises(BadInput, match="the end is before the start"):
        run(rules, History(world), T0, T0 - 1, external_labels=EMPTY, external_url="")
    with pytest.raises(LimitExceeded, match="1209601 evaluations"):
        run(rules, History(world), T0, T0 + 14 * 86_400_000, external_labels=EMPTY, external_url="")
    monkeypatch.setattr(backtest, "MAX_ELEMENTS", 10)
    with pytest.raises(LimitExceeded, match="rule A finds more than 10 elements"):
        run(rules, History(world), T0, T0 + 20_000, external_labels=EMPTY, external_url="")


def test_progress_is_told_and_may_end_it(world: Any) -> None:
    told: list[tuple[int, int, str]] = []
    over(world, RULES, 600, progress=lambda *now: told.append(now))
    assert told[0] == (0, 1202, "High")
    assert told[-1] == (1202, 1202, "")
    assert (601, 1202, "Low") in told
    assert [t[0] for t in told] == sorted(t[0] for t in told)

    def enough(*_: Any) -> None:
        raise LimitExceeded("whoever asked has left")

    with pytest.raises(LimitExceeded, match="has left"):
        over(world, RULES, 600, progress=enough)


async def test_analyses_see_at_each_evaluation_what_they_saw_live(world: Any) -> None:
    from vedette.rules.typed import analysed

    random = np.random.default_rng(11)
    for minute in range(200):
        world.put(minute * MINUTE, 10 + random.normal(0, 0.3) + (9 if 150 <= minute < 155 else 0), __name__="m", i="a")
    rules = "groups:\n- {name: g, interval: 1m, rules: [{alert: Odd, type: anomaly, metric: m, window: 1h, step: 2m}]}\n"
    (rule,) = parse(rules, name="r")[0].rules
    assert rule.analysis is not None
    live = [
        minute
        for minute in range(200)
        if analysed(lambda *a: world.engine.range("default", *a), rule.expr, rule.analysis, T0 + minute * MINUTE)
    ]
    (found,) = over(world, rules, 199)
    fired = sorted(m for f in found.firings for m in range(int(minutes(f)[1]), int(minutes(f)[2])))
    assert set(range(150, 155)) <= set(fired)
    assert fired == live
    assert found.firings[0].labels == Labels.of(alertname="Odd", i="a")
