"""Typed rules: what each becomes, what is refused, and that they fire as rules do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vedette.errors import BadInput, LimitExceeded
from vedette.model.labels import Labels
from vedette.promql.parse import parse as parse_expr
from vedette.rules.aliases import ALIASES, expression_of, is_alias, near
from vedette.rules.files import parse
from vedette.rules.typed import Analysis, Typed, analysed, compiled, names_read

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

COMPILED = [
    (Typed(kind="threshold", metric="up", condition="less_than", threshold=1), "up < 1"),
    (Typed(kind="threshold", metric="a + b", condition="greater_or_equal", threshold=-0.5), "(a + b) >= -0.5"),
    (Typed(kind="threshold", metric="sum(a)", condition="!=", threshold=1e9), "sum(a) != 1000000000"),
    (Typed(kind="threshold", metric='{"a.b"}', condition="equal", threshold=math.inf), '{"a.b"} == +Inf'),
    (Typed(kind="absence", metric='up{job="api"}'), 'absent(up{job="api"})'),
    (Typed(kind="absence", metric="up", window=5 * MINUTE), "absent_over_time(up[5m])"),
    (Typed(kind="absence", metric="rate(x_total[5m])", window=10 * MINUTE), "absent_over_time(rate(x_total[5m])[10m:15s])"),
    (Typed(kind="absence", metric="up", each=True), "last_over_time(up[1d]) unless up"),
    (Typed(kind="absence", metric="a + b", each=True, window=HOUR), "last_over_time((a + b)[1h:15s]) unless (a + b)"),
    (Typed(kind="forecast", metric="free"), "predict_linear(free[4h], 14400) < 0"),
    (Typed(kind="forecast", metric="free offset 5m"), "predict_linear((free offset 5m)[4h:2m], 14400) < 0"),
    (
        Typed(kind="forecast", metric="a / b", ahead=DAY, window=6 * HOUR, condition="greater_than", threshold=0.9),
        "predict_linear((a / b)[6h:3m], 86400) > 0.9",
    ),
]


@pytest.mark.parametrize(("typed", "expr"), COMPILED)
def test_what_promql_can_say_becomes_promql(typed: Typed, expr: str) -> None:
    assert compiled(typed) == (expr, None)
    assert parse_expr(expr).type == "vector"


REFUSED = [
    (Typed(kind="threshold", metric=""), "metric: field required"),
    (Typed(kind="threshold", metric="sum(", condition=">", threshold=1), "metric: neither an alias, a metric nor PromQL"),
    (Typed(kind="threshold", metric="up[5m]", condition=">", threshold=1), "metric: a matrix has no one value"),
    (Typed(kind="threshold", metric="up", threshold=1), "condition: field required"),
    (Typed(kind="threshold", metric="up", condition="above", threshold=1), "condition: not a condition: 'above'"),
    (Typed(kind="threshold", metric="up", condition=">"), "threshold: field required"),
    (Typed(kind="threshold", metric="up", condition=">", threshold=math.nan), "threshold: NaN compares with nothing"),
    (Typed(kind="threshold", metric="up", condition=">", threshold=1, ahead=1), "ahead: means nothing"),
    (Typed(kind="threshold", metric="up", condition=">", threshold=1, window=1), "window: means nothing"),
    (Typed(kind="absence", metric="up", condition=">"), "condition: means nothing"),
    (Typed(kind="absence", metric="1"), "metric: a scalar is never absent"),
    (Typed(kind="forecast", metric="up", step=MINUTE), "step: means nothing"),
    (Typed(kind="anomaly", metric="up", condition="equal"), "condition: an anomaly is never equal"),
    (Typed(kind="anomaly", metric="up", threshold=0), "threshold: 0 standard deviations"),
    (Typed(kind="anomaly", metric="up", window=DAY, step=1000), "step: 86400 steps in a window"),
    (Typed(kind="anomaly", metric="up", window=MINUTE, step=MINUTE), "window: too short"),
    (Typed(kind="anomaly", metric="up", window=DAY, season=DAY, step=HOUR), "window: shorter than two seasons"),
    (Typed(kind="anomaly", metric="up", season=90 * MINUTE, step=HOUR), "season: not a whole number of steps"),
    (Typed(kind="anomaly", metric="up", each=True), "each: means nothing"),
]


@pytest.mark.parametrize(("typed", "problem"), REFUSED)
def test_what_is_refused(typed: Typed, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        compiled(typed)
    assert str(caught.value).startswith(problem)


def quiet(count: int) -> Any:
    """A series that wavers a little around 10, the same each time."""
    return 10 + np.random.default_rng(7).normal(0, 0.1, count)


def test_an_anomaly_is_far_from_usual_on_the_side_asked_about() -> None:
    both = Analysis(kind="anomaly", window=DAY, step=15 * MINUTE, threshold=3.5, op="!=")
    above, below = (Analysis(kind="anomaly", window=DAY, step=15 * MINUTE, threshold=3.5, op=op) for op in "><")
    usual, high, low = quiet(97), quiet(97), quiet(97)
    high[-1], low[-1] = 12, 8
    assert [a.holds(usual) for a in (both, above, below)] == [None, None, None]
    assert [a.holds(high) for a in (both, above, below)] == [12, 12, None]
    assert [a.holds(low) for a in (both, above, below)] == [8, None, 8]


def test_what_is_gone_or_never_moved_is_no_anomaly() -> None:
    both = Analysis(kind="anomaly", window=DAY, step=15 * MINUTE, threshold=3.5, op="!=")
    gone = quiet(97)
    gone[-1] = np.nan
    assert both.holds(gone) is None
    assert both.holds(np.full(97, 3.0)) is None
    assert both.holds(np.array([])) is None
    few = np.full(97, np.nan)
    few[-5:] = [1, 2, 1, 2, 90]
    assert both.holds(few) is None


def test_a_season_is_usual() -> None:
    hours = np.arange(4 * 24 + 1)
    daily = 10 + 5 * np.sin(hours * 2 * np.pi / 24) + np.random.default_rng(3).normal(0, 0.05, len(hours))
    seasonal = Analysis(kind="anomaly", window=4 * DAY, step=HOUR, threshold=3.5, op="!=", season=DAY)
    assert seasonal.period == 24
    assert seasonal.holds(daily) is None
    daily[-1] += 2
    assert seasonal.holds(daily) == daily[-1]
    ahead = Analysis(kind="forecast", window=4 * DAY, step=HOUR, threshold=14, op=">", season=DAY, ahead=6 * HOUR)
    daily[-1] -= 2
    assert ahead.holds(daily) == pytest.approx(15, abs=0.5)
    assert Analysis(kind="forecast", window=4 * DAY, step=HOUR, threshold=14, op=">", season=DAY, ahead=18 * HOUR).holds(daily) is None


def test_too_many_series_are_refused() -> None:
    class Many:
        def rows(self) -> list[Any]:
            return [(Labels.of(i=str(i)), np.zeros(0, dtype=np.int64), np.zeros(0)) for i in range(2001)]

    both = Analysis(kind="anomaly", window=DAY, step=15 * MINUTE, threshold=3.5, op="!=")
    with pytest.raises(LimitExceeded, match="2001 series: at most 2000"):
        analysed(lambda *_: Many(), "x", both, DAY)


def test_aliases_are_promql_and_mistyped_names_are_told_apart() -> None:
    for name, expr in ALIASES.items():
        assert parse_expr(expr).type == "vector"
        assert is_alias(name)
        assert names_read(parse_expr(expr))
    assert expression_of("memory_usage") == ALIASES["memory.usage_percent"]
    assert expression_of("my_metric") == "my_metric"
    assert near("memory.usage_percnt", ["x"])[0] == "memory.usage_percent"
    assert "http_requests_total" in near("http_request_total", ["http_requests_total", "up"])
    assert near("zzzz", ["up"]) == []


FILE = """
groups:
- name: g
  interval: 1m
  rules:
  - {alert: Odd, type: anomaly, metric: m, window: 1h, step: 1m, for: 1m, annotations: {summary: '{{ $value }} of {{ $labels.i }}'}}
  - {alert: Full, type: forecast, metric: free, window: 30m, ahead: 4h}
  - {alert: Gone, type: absence, metric: there, labels: {severity: page}}
"""


async def test_typed_rules_in_a_file_fire_and_resolve(world: Any) -> None:
    values = quiet(70)
    values[62:65] = 14
    for minute, value in enumerate(values.tolist()):
        world.put(minute * MINUTE, value, __name__="m", i="a")
        world.put(minute * MINUTE, 1e6 - minute * 5e3, __name__="free")
        world.put(minute * MINUTE, 1, __name__="there")

    async def analyse(expr: str, analysis: Analysis, at: int) -> list[tuple[Labels, float]]:
        return analysed(lambda *asked: world.engine.range("default", *asked), expr, analysis, at)

    await world.start(FILE, analyse=analyse)
    odd = world.rules.groups()[0].rules[0]
    assert odd.expr == "m"
    assert odd.analysis == "anomaly: more than 3.5 robust standard deviations off what is usual over 1h in steps of 1m"
    told = {minute: await world.tick(minute * MINUTE) for minute in range(59, 70)}
    news = [(minute, text.split()[0]) for minute, texts in told.items() for text in texts if "Odd" in text]
    assert news[0] == (63, "firing")
    assert next(n for n in news if n[1] == "resolved") == (65, "resolved")
    assert all(r.health == "ok" for r in world.rules.groups()[0].rules)
    assert next(a.annotations.get("summary") for batch in world.emitted for a in batch if a.labels.get("alertname") == "Odd") == "14 of a"
    assert world.value(69 * MINUTE, 'ALERTS{alertname="Full"}') == {'ALERTS{alertname="Full", alertstate="firing"}': 1.0}
    assert 'firing {alertname="Gone", severity="page"}' in await world.tick(80 * MINUTE)


async def test_without_history_an_analysis_says_so(world: Any) -> None:
    await world.start("groups:\n- {name: g, rules: [{alert: A, type: anomaly, metric: m}]}\n")
    await world.tick(0)
    assert "needs a server's history" in world.rules.groups()[0].rules[0].last_error


MISTAKES = [
    ("{alert: A, type: spike, metric: m}", "rules.yml:4:28: groups[0].rules[0].type: 'spike' is not one of the choices"),
    ("{alert: A, metric: m, expr: up}", "rules.yml:4:30: groups[0].rules[0].metric: means nothing without 'type'"),
    ("{alert: A, type: absence, metric: m, expr: up}", "groups[0].rules[0].expr: only one of 'expr' and 'type' must be set"),
    ("{record: r, type: absence, metric: m}", "groups[0].rules[0].type: invalid field 'type' in recording rule"),
    ("{alert: A, type: threshold, metric: m, condition: '>', threshold: x}", "threshold: 'x' where a number is expected"),
    ("{alert: A, type: threshold, metric: m, condition: above, threshold: 1}", "condition: not a condition: 'above'"),
]


@pytest.mark.parametrize(("rule", "problem"), MISTAKES)
def test_mistakes_are_pointed_at(rule: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(f"\ngroups:\n- name: g\n  rules: [{rule}]\n", name="rules.yml")
    assert problem in str(caught.value)


async def test_unit_tests_run_analyses(tmp_path: Path) -> None:
    from vedette.rules import unittest, unittestfile

    rules = tmp_path / "r.yml"
    rules.write_text("groups:\n- {name: g, rules: [{alert: Odd, type: anomaly, metric: m, window: 20m, step: 1m}]}\n")
    case = {"series": "m", "values": "10 11 10 9 10 11 10 9 10 11 10 9 10 11 10 9 10 11 10 9 10 40"}
    alerts = [{"eval_time": "20m", "alertname": "Odd"}, {"eval_time": "21m", "alertname": "Odd", "exp_alerts": [{}]}]
    import yaml

    path = tmp_path / "t.yml"
    path.write_text(yaml.safe_dump({"tests": [{"interval": "1m", "input_series": [case], "alert_rule_test": alerts}]}))
    file = unittestfile.load(path)
    verdict = await unittest.run(file, parse(rules.read_text(), name="r.yml"), file.tests[0])
    assert verdict.failures == ()
