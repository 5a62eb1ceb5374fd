"""Rules at work on real PromQL and real records: order, staleness, failures, changes under way, restarts."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.errors import LimitExceeded
from vedette.model.histograms import NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.samples import STALE
from vedette.records.rows import RuleAlertRow
from vedette.rules.engine import Rules
from vedette.rules.files import parse

MINUTE = 60_000

DOWN = """
groups:
- name: g
  rules:
  - alert: Down
    expr: up == 0
    for: 2m
    labels: {severity: page, level: '{{ if lt $value 1.0 }}low{{ end }}'}
    annotations:
      summary: '{{ $labels.instance }}@{{ $externalLabels.dc }} {{ .Value }} {{ externalURL }}{{ pathPrefix }}'
"""


def flat(at: int, *values: float) -> list[tuple[int, float]]:
    return [(at + i * MINUTE, v) for i, v in enumerate(values)]


async def test_pending_firing_resolved_with_series_and_stale_markers(world: Any) -> None:
    for at, value in flat(0, 0, 0, 0, 1):
        world.put(at, value, __name__="up", instance="a")
    await world.start(DOWN)
    assert await world.tick(0) == []
    labels = 'alertname="Down", instance="a", level="low", severity="page"'
    pending = 'ALERTS{alertname="Down", alertstate="pending", instance="a", level="low", severity="page"}'
    firing = pending.replace("pending", "firing")
    assert world.value(0, "ALERTS") == {pending: 1.0}
    assert world.value(0, "ALERTS_FOR_STATE") == {f"ALERTS_FOR_STATE{{{labels}}}": 1.7e9}
    await world.tick(MINUTE)
    assert await world.tick(2 * MINUTE) == [f"firing {{{labels}}}"]
    assert world.value(2 * MINUTE, "ALERTS") == {firing: 1.0}
    assert await world.tick(3 * MINUTE) == [f"resolved {{{labels}}}"]
    assert world.value(3 * MINUTE, "ALERTS") == {}
    alert = world.emitted[0][0]
    assert alert.annotations == Labels.of(summary="a@x 0 http://v:1/p/p")
    assert alert.generator_url == "http://v:1/p/graph?g0.expr=up+%3D%3D+0&g0.tab=1"
    assert alert.ends_at - alert.starts_at == 4 * MINUTE


async def test_states_are_shown(world: Any) -> None:
    world.put(0, 0, __name__="up", instance="a")
    await world.start(DOWN + "  - {record: r, expr: 'sum (up)', labels: {x: y}}\n")
    assert [r.health for r in world.rules.groups()[0].rules] == ["unknown", "unknown"]
    await world.tick(0)
    (group,) = world.rules.groups()
    assert (group.name, group.file, group.interval_ms, group.limit, group.iterations) == ("g", "rules.yml", 60_000, 0, 1)
    assert group.last_evaluation == 1.7e9
    alert, record = group.rules
    assert (alert.kind, alert.state, alert.health, alert.expr, alert.duration_ms) == ("alerting", "pending", "ok", "up == 0", 2 * MINUTE)
    assert [(a.state, a.active_at, a.value) for a in alert.alerts] == [("pending", 1_700_000_000_000, 0.0)]
    assert (record.kind, record.name, record.expr, record.labels) == ("recording", "r", "sum(up)", Labels.of(x="y"))


async def test_the_tally_is_what_the_groups_show(world: Any) -> None:
    for name in "ab":
        world.put(0, 0, __name__="up", instance=name)
    now = "  - {alert: Now, expr: up == 0}\n  - {record: bad, expr: 'up[5m]'}\n"
    await world.start(DOWN + now)
    await world.tick(0)
    tally, groups = world.rules.tally(), world.rules.groups()
    states = [a.state for g in groups for r in g.rules for a in r.alerts]
    assert (tally.pending, tally.firing) == (states.count("pending"), states.count("firing")) == (2, 2)
    assert (tally.groups, tally.iterations, tally.failures, tally.missed) == (1, 1, 1, 0)


async def test_rules_see_what_those_before_them_wrote(world: Any) -> None:
    world.put(0, 3, __name__="m")
    rules = [("a", "m * 2"), ("b", "a + 1"), ("c", "m"), ("d", '{__name__=~"a|b|c"}')]
    entries = "".join(f"  - {{record: {n}, expr: '{e}'}}\n" for n, e in rules[:3])
    await world.start(f"groups:\n- name: g\n  rules:\n{entries}  - {{alert: D, expr: 'count({rules[3][1]}) == 3'}}\n")
    assert await world.tick(0) == ['firing {alertname="D"}']
    assert world.value(0, "b") == {"b": 7.0}


async def test_a_series_that_a_recording_rule_no_longer_gives_goes_stale_at_once(world: Any) -> None:
    world.put(0, 1, __name__="m", i="a")
    world.put(0, 2, __name__="m", i="b")
    world.put(MINUTE, 1, __name__="m", i="a")
    world.put(MINUTE, math.nan, __name__="m", i="b")
    await world.start("groups:\n- name: g\n  rules:\n  - {record: r, expr: 'm > 0', labels: {i2: z}}\n")
    await world.tick(0)
    assert world.value(0, "r") == {'r{i="a", i2="z"}': 1.0, 'r{i="b", i2="z"}': 2.0}
    await world.tick(MINUTE)
    assert world.value(MINUTE, "r") == {'r{i="a", i2="z"}': 1.0}


async def test_query_offset_moves_what_is_asked_and_written(world: Any) -> None:
    world.put(0, 5, __name__="m")
    world.put(MINUTE, 6, __name__="m")
    await world.start("groups:\n- {name: g, query_offset: 1m, rules: [{record: r, expr: m}]}\n")
    await world.tick(MINUTE)
    assert world.storage.samples[Labels.of(__name__="r")] == {1_700_000_000_000: 5.0}


TWICE = '{__name__=~"m|n", i="a"}'  # without their names these are the same series
FAILURES = [
    (f"{{record: r, expr: '{TWICE}'}}", "vector contains metrics with the same labelset after applying rule labels"),
    (f"{{alert: A, expr: '{TWICE}'}}", "vector contains metrics with the same labelset after applying alert labels"),
    ("{record: r, expr: 'm + on() n'}", "many-to-many matching not allowed"),
    ("{record: r, expr: 'm[5m]'}", "rule result is not a vector or scalar"),
]


@pytest.mark.parametrize(("rule", "problem"), FAILURES)
async def test_a_rule_that_fails_says_why_and_does_not_stop_the_next(world: Any, rule: str, problem: str) -> None:
    for name, instance in itertools.product("mn", "ab"):
        world.put(0, 1, __name__=name, i=instance)
    await world.start(f"groups:\n- name: g\n  rules:\n  - {rule}\n  - {{record: fine, expr: '1'}}\n")
    await world.tick(0)
    bad, fine = world.rules.groups()[0].rules
    assert (bad.health, fine.health) == ("err", "ok")
    assert problem in bad.last_error
    assert world.value(0, "fine") == {"fine": 1.0}
    assert world.rules.groups()[0].failures == 1


async def test_over_its_limit_a_rule_writes_nothing_and_forgets_its_alerts(world: Any) -> None:
    world.put(0, 0, __name__="up", instance="a")
    await world.start(DOWN.replace("- name: g", "- name: g\n  limit: 1"))
    await world.tick(0)
    world.put(MINUTE, 0, __name__="up", instance="a")
    world.put(MINUTE, 0, __name__="up", instance="b")
    await world.tick(MINUTE)
    rule = world.rules.groups()[0].rules[0]
    assert (rule.health, rule.last_error, rule.alerts) == ("err", "exceeded limit of 1 with 2 alerts", [])
    assert await world.records.load(RuleAlertRow) == []


async def test_a_full_disk_marks_the_rules_and_passes(world: Any) -> None:
    world.put(0, 1, __name__="m")
    await world.start("groups:\n- {name: g, rules: [{record: r, expr: m}]}\n")
    world.full = True
    await world.tick(0)
    assert "no space left" in world.rules.groups()[0].rules[0].last_error
    world.full = False
    await world.tick(MINUTE)
    assert world.rules.groups()[0].rules[0].health == "ok"


async def test_what_nobody_took_is_told_again_at_the_next_evaluation(world: Any) -> None:
    world.put(0, 0, __name__="up", instance="a")
    world.put(MINUTE, 0, __name__="up", instance="a")
    await world.start(DOWN.replace("for: 2m", "for: 0s"))
    world.deaf = True
    assert await world.tick(0) == []
    world.deaf = False
    assert len(await world.tick(MINUTE)) == 1


async def test_what_the_records_refuse_has_not_happened(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(0, 0, __name__="up", instance="a")
    await world.start(DOWN.replace("for: 2m", "for: 0s"))

    async def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise LimitExceeded("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(world.records, "save", refuse)
        assert await world.tick(0) == []
    assert world.rules.groups()[0].rules[0].alerts == []
    assert len(await world.tick(1)) == 1


async def test_a_template_that_fails_shows_its_error_and_the_alert_fires(world: Any) -> None:
    world.put(0, 0, __name__="up", instance="a")
    bad = """{s: '{{ query "nope(" }}', t: '{{ humanize "x" }}', u: ok}"""
    await world.start(f"groups:\n- name: g\n  rules:\n  - {{alert: A, expr: up == 0, annotations: {bad}}}\n")
    await world.tick(0)
    annotations = world.emitted[0][0].annotations
    assert annotations.get("s").startswith("<error expanding template: 1:")
    assert annotations.get("t").startswith("<error expanding template: template:1:4: error calling humanize")
    assert annotations.get("u") == "ok"


async def test_templates_query(world: Any) -> None:
    world.put(0, 0, __name__="up", instance="a")
    for name, value in (("b", 2.0), ("a", 1.0)):
        world.put(0, value, __name__="m", i=name)
    template = (
        '{{ with query "m" }}{{ . | sortByLabel "i" | first | label "i" }}:'
        '{{ range sortByLabel "i" . }}{{ .Labels.i }}={{ . | value }} {{ end }}{{ end }}'
        '{{ query "sum(m)" | first | value | humanize }}{{ define "t" }}[{{ . }}]{{ end }}{{ tmpl "t" 1 }}{{ template "t" 2 }}'
        '{{ len (query "nothing") }} {{ graphLink "up" }} {{ parseDuration "1h" }} {{ toDuration 90 }} {{ now }}'
    )
    await world.start(f"groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n    annotations: {{s: '{template}'}}\n")
    await world.tick(0)
    assert world.emitted[0][0].annotations.get("s") == "a:a=1 b=2 3[1][2]0 /graph?g0.expr=up&g0.tab=0 3600 1m30s 1.7e+09"


async def test_a_template_that_asks_without_end_is_stopped(world: Any) -> None:
    world.put(0, 0, __name__="up", instance="a")
    template = '{{ range $i := 1000 }}{{ query (printf "vector(%d)" $i) }}{{ end }}'
    await world.start(f"groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n    annotations: {{s: '{template}'}}\n")
    await world.tick(0)
    assert "more than 50 different queries" in world.emitted[0][0].annotations.get("s")


async def test_an_unchanged_group_goes_on_and_a_changed_rule_keeps_its_alerts(world: Any) -> None:
    for at, value in flat(0, 0, 0, 0, 0):
        world.put(at, value, __name__="up", instance="a")
    await world.start(DOWN)
    await world.tick(0)
    before = world.rules._tickers[0]
    await world.rules.apply(parse(DOWN, name="rules.yml"))
    assert world.rules._tickers[0] is before
    await world.rules.apply(parse(DOWN.replace("up == 0", "up < 1"), name="rules.yml"))
    assert world.rules._tickers[0] is not before
    await world.tick(MINUTE)
    assert len(await world.tick(2 * MINUTE)) == 1


async def test_a_removed_rule_forgets_its_alerts_and_its_series_go_stale(world: Any) -> None:
    world.put(0, 0, __name__="up", instance="a")
    await world.start(DOWN + "  - {record: r, expr: up}\n")
    await world.tick(0)
    assert len(await world.records.load(RuleAlertRow)) == 1
    await world.clock.advance(1)
    await world.rules.apply(parse("groups:\n- {name: g, rules: [{record: r, expr: up}]}\n", name="rules.yml"))
    assert await world.records.load(RuleAlertRow) == []
    assert world.value(1000, "ALERTS") == {}
    assert world.value(1000, "r") == {'r{instance="a"}': 0.0}


async def test_new_external_labels_reach_groups_that_did_not_change(world: Any) -> None:
    world.put(0, 0, __name__="up", instance="a")
    await world.start(DOWN.replace("for: 2m", "for: 0s"))
    await world.rules.apply(parse(DOWN.replace("for: 2m", "for: 0s"), name="rules.yml"), external_labels=Labels.of(dc="y"))
    await world.tick(0)
    assert "a@y" in world.emitted[0][0].annotations.get("summary")


async def test_a_restart_keeps_for_and_tells_what_fires_at_once(world: Any) -> None:
    for at, value in flat(0, 0, 0, 0, 0, 0):
        world.put(at, value, __name__="up", instance="a")
    await world.start(DOWN)
    await world.tick(0)
    await world.stop()
    await world.start(DOWN)
    await world.tick(MINUTE)
    assert world.rules.groups()[0].rules[0].alerts[0].active_at == 1_700_000_000_000
    assert len(await world.tick(2 * MINUTE)) == 1
    fired = world.emitted[-1][0].starts_at
    await world.stop()
    await world.start(DOWN)
    assert len(await world.tick(2 * MINUTE + 1)) == 1
    assert world.emitted[-1][0].starts_at == fired


async def test_an_alert_has_one_record_with_a_number_of_its_own(world: Any) -> None:
    for at, value in flat(0, 0, 0, 0, 1, 0, 0):
        for name in "ab":
            world.put(at, value, __name__="up", instance=name)
    await world.start(DOWN)
    await world.tick(0)
    first = await world.records.load(RuleAlertRow)
    assert len({row.seq for row in first}) == 2 and all(row.seq > 0 for row in first)
    await world.tick(2 * MINUTE)
    await world.tick(3 * MINUTE)  # resolved, and at once pending again
    await world.tick(4 * MINUTE)
    again = await world.records.load(RuleAlertRow)
    assert [(row.seq, row.labels) for row in again] == [(row.seq, row.labels) for row in first]
    assert {row.state for row in again} == {"pending"}


async def test_of_two_records_of_an_alert_the_newer_one_counts_and_the_other_goes(world: Any) -> None:
    world.put(0, 0, __name__="up", instance="a")
    await world.start(DOWN)
    await world.tick(0)
    (row,) = await world.records.load(RuleAlertRow)
    await world.records.save([dataclasses.replace(row, seq=row.seq + 7, active_at=row.active_at - 5), dataclasses.replace(row, seq=3)])
    await world.stop()
    await world.start(DOWN)
    assert [r.seq for r in await world.records.load(RuleAlertRow)] == [row.seq + 7]
    assert world.rules.groups()[0].rules[0].alerts[0].active_at == row.active_at - 5


LONG = DOWN.replace("for: 2m", "for: 20m")
OUTAGES = [  # pending from minute 0 on, last seen at 5; back at `at`: pending since `active`, in minutes
    (6, 0),
    (15, 9),
    (30, 24),
    (64, 58),
    (66, 66),
]


@pytest.mark.parametrize(("at", "active"), OUTAGES)
async def test_time_away_does_not_count_towards_a_for(world: Any, at: int, active: int) -> None:
    for minute in range(100):
        world.put(minute * MINUTE, 0, __name__="up", instance="a")
    await world.start(LONG)
    for minute in range(6):
        await world.tick(minute * MINUTE)
    await world.stop()
    await world.start(LONG)
    await world.tick(at * MINUTE)
    (alert,) = world.rules.groups()[0].rules[0].alerts
    assert (alert.state, (alert.active_at - 1_700_000_000_000) // MINUTE) == ("pending", active)
    (row,) = await world.records.load(RuleAlertRow)
    assert row.active_at == alert.active_at, "a second restart must go on from there"
    await world.tick((active + 20) * MINUTE)
    assert world.rules.groups()[0].rules[0].alerts[0].state == "firing"


async def test_an_alert_that_is_nearly_due_stays_pending_for_the_grace_period(world: Any) -> None:
    for minute in range(100):
        world.put(minute * MINUTE, 0, __name__="up", instance="a")
    await world.start(LONG)
    for minute in range(18):
        await world.tick(minute * MINUTE)
    await world.stop()
    await world.start(LONG)
    await world.tick(40 * MINUTE)
    await world.tick(49 * MINUTE)
    assert world.rules.groups()[0].rules[0].alerts[0].state == "pending"
    await world.tick(50 * MINUTE)
    assert world.rules.groups()[0].rules[0].alerts[0].state == "firing"


async def test_two_files_may_define_one_group(world: Any) -> None:
    world.put(0, 1, __name__="m")
    rule = "groups:\n- {name: g, rules: [{record: R, expr: m}]}\n"
    await world.start([*parse(rule.replace("R", "a"), name="a.yml"), *parse(rule.replace("R", "b"), name="b.yml")])
    await world.tick(0)
    assert [(g.file, g.name) for g in world.rules.groups()] == [("a.yml", "g"), ("b.yml", "g")]
    assert {**world.value(0, "a"), **world.value(0, "b")} == {"a": 1.0, "b": 1.0}


async def test_a_group_made_over_the_api_is_evaluated_at_once(world: Any) -> None:
    world.put(0, 0, __name__="up", instance="a")
    await world.start("groups: []\n")
    await world.rules.apply(parse(DOWN, name="api:x"), at_once=lambda group: group.file.startswith("api:"))
    await world.clock.advance(0)
    deadline = asyncio.get_running_loop().time() + 60
    while not world.rules.groups()[0].iterations and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0)
    assert world.rules.groups()[0].iterations == 1
    assert [a.state for a in world.rules.groups()[0].rules[0].alerts] == ["pending"]


async def test_an_alert_that_ended_while_nobody_looked_resolves_after_the_restart(world: Any) -> None:
    world.put(0, 0, __name__="up", instance="a")
    await world.start(DOWN.replace("for: 2m", "for: 0s"))
    await world.tick(0)
    await world.stop()
    world.put(MINUTE, 1, __name__="up", instance="a")
    await world.start(DOWN.replace("for: 2m", "for: 0s"))
    (told,) = await world.tick(MINUTE)
    assert told.startswith("resolved")


async def test_tenants_have_their_own_alerts(world: Any) -> None:
    world.put(0, 0, __name__="up", instance="a")
    await world.start(DOWN)
    await world.tick(0)
    other = Rules(world.ask, world.append, world.emit, world.records, world.clock, external_labels=Labels(), external_url="", tenant="b")
    await other.apply(parse(DOWN, name="rules.yml"))
    assert other.groups()[0].rules[0].alerts == []
    await other.close()


async def test_groups_run_on_the_clock_each_at_its_place(world: Any) -> None:
    world.put(0, 1, __name__="m")
    await world.start("groups:\n- {name: g, interval: 10s, rules: [{record: r, expr: m}]}\n")
    clock: ManualClock = world.clock
    for _ in range(3):
        await clock.advance(10)
    (group,) = world.rules.groups()
    assert group.iterations == 3
    times = sorted(world.storage.samples[Labels.of(__name__="r")])
    assert [b - a for a, b in itertools.pairwise(times)] == [10_000, 10_000]
    await world.rules.close()
    await clock.advance(60)
    assert world.rules.groups()[0].iterations == 3


async def test_close_waits_for_the_evaluation_under_way(world: Any) -> None:
    started, release = asyncio.Event(), asyncio.Event()
    world.put(0, 1, __name__="m")
    await world.start("groups:\n- {name: g, interval: 10s, rules: [{record: r, expr: m}]}\n")
    inner = world.append

    async def slow(batch: Any) -> None:
        started.set()
        await release.wait()
        await inner(batch)

    object.__setattr__(world.rules._around, "append", slow)
    await world.clock.advance(10)
    await started.wait()
    closing = asyncio.create_task(world.rules.close())
    await asyncio.sleep(0)
    assert not closing.done()
    release.set()
    await closing
    assert world.value(20_000, "r") == {"r": 1.0}


T0 = 1_700_000_000_000
"""When a world begins."""

NATIVE = """
groups:
- name: g
  rules:
  - record: job:h:sum
    expr: sum by (job) (h)
  - record: f:both
    expr: h or up
  - alert: Held
    expr: job:h:sum
    annotations:
      value: '{{ $value }}'
      asked: '{{ query "h" | first | value }}'
"""


def a_histogram(count: float) -> Histogram:
    layout = Layout(0, 0.0, (), np.array([1, 2], dtype=np.int32), NO_BUCKETS)
    return Histogram(layout, np.array([count, 2.5, 0.0, count - 1, 1.0]))


async def test_native_histograms_are_recorded_and_alerted_of(world: Any) -> None:
    await world.start(NATIVE)
    world.storage.add(Labels.of(__name__="h", job="a", i="1"), T0, a_histogram(3))
    world.storage.add(Labels.of(__name__="h", job="a", i="2"), T0, a_histogram(4))
    world.put(0, 1.0, __name__="up")
    assert len(await world.tick(1000)) == 1
    result = world.engine.instant("default", "job:h:sum", T0 + 1000)
    ((labels, _, (h,)),) = result.histogram_rows()
    assert labels == Labels.of(__name__="job:h:sum", job="a")
    assert h.cells.tolist() == [7, 5, 0, 5, 2]
    mixed = world.engine.instant("default", "f:both", T0 + 1000)
    assert len(mixed.histogram_rows()) == 2
    assert [str(series) for series, _, _ in mixed.rows()] == ["f:both"]
    ((alert,),) = world.emitted
    assert dict(alert.annotations) == {
        "value": "{count:7, sum:5, (1,2]:5, (2,4]:2}",
        "asked": "{count:3, sum:2.5, (1,2]:2, (2,4]:1}",
    }
    assert world.value(1000, "ALERTS") != {}


async def test_a_recorded_histogram_that_is_gone_turns_stale(world: Any) -> None:
    await world.start(NATIVE)
    series = Labels.of(__name__="h", job="a")
    world.storage.add(series, T0, a_histogram(3))
    await world.tick(1000)
    world.storage.add(series, T0 + 1500, STALE)
    await world.tick(2000)
    assert world.engine.instant("default", "job:h:sum", T0 + 2000).histogram_rows() == []
    assert len(world.engine.instant("default", "job:h:sum", T0 + 1000).histogram_rows()) == 1


async def test_a_group_is_shown_anew_after_each_evaluation_and_not_in_between(world: Any) -> None:
    await world.start(
        """
groups:
- name: g
  rules:
  - {alert: High, expr: load > 3}
  - {alert: Broken, expr: load / on(host) load2}
"""
    )
    world.put(0, 5.0, __name__="load", host="a")
    (first,) = world.rules.groups()
    assert world.rules.groups()[0] is first
    await world.tick(0)
    (after,) = world.rules.groups()
    assert after is not first
    assert (first.iterations, after.iterations) == (0, 1)
    assert [len(r.alerts) for r in after.rules] == [1, 0]
    assert world.rules.groups()[0] is after
    world.put(60_000, 1.0, __name__="load", host="a")
    await world.tick(60_000)
    (ended,) = world.rules.groups()
    assert [len(r.alerts) for r in ended.rules] == [0, 0]
    assert [len(r.alerts) for r in after.rules] == [1, 0], "what somebody holds stays as it was"


async def test_a_group_asked_for_amid_its_evaluation_is_not_kept(world: Any) -> None:
    seen: list[Any] = []

    ask = world.ask

    async def watching(asked: Any, at: int) -> Any:
        seen.append(world.rules.groups()[0])
        return await ask(asked, at)

    world.ask = watching
    await world.start("groups: [{name: g, rules: [{alert: High, expr: load > 3}]}]")
    world.put(0, 5.0, __name__="load", host="a")
    await world.tick(0)
    assert seen and seen[0].rules[0].last_evaluation == 0
    (after,) = world.rules.groups()
    assert after is not seen[0] and after.rules[0].state == "firing"
