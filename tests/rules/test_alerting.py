"""The state machine of alerting rules, as timelines: what a rule sees at which minute, and what becomes of its alerts."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import BadInput, LimitExceeded
from vedette.model.labels import EMPTY, Labels
from vedette.rules import alerting
from vedette.rules.alerting import AlertState, Observed, Outage, announced, due, sent, series, step, summary, taken_up

MINUTE = 60_000
T0 = 1_700_000_000_000


def seen(name: str = "a", value: float = 1.0, **annotations: str) -> Observed:
    return Observed(Labels.of(alertname="X", instance=name), Labels.of(annotations), value)


@dataclass
class Timeline:
    """A rule over time. `at(m, *samples)` evaluates at minute `m` and answers what changed, as `change instance`."""

    hold: float = 0
    keep: float = 0
    limit: int = 0
    states: dict[Labels, AlertState] = field(default_factory=dict)

    def at(self, minute: float, *samples: Observed) -> list[str]:
        now = T0 + int(minute * MINUTE)
        self.states, events = step(
            self.states,
            samples,
            now,
            hold_ms=int(self.hold * MINUTE),
            keep_firing_ms=int(self.keep * MINUTE),
            limit=self.limit,
        )
        return [f"{e.change} {e.alert.labels.get('instance')}" for e in events]

    def told(self, minute: float) -> list[str]:
        now = T0 + int(minute * MINUTE)
        alerts = due(self.states, now)
        self.states = sent(self.states, alerts, now)
        return [f"{a.state} {a.labels.get('instance')}" for a in alerts]

    def alert(self, name: str = "a") -> AlertState:
        return self.states[Labels.of(alertname="X", instance=name)]


def test_without_for_an_alert_fires_at_once_and_resolves() -> None:
    rule = Timeline()
    assert rule.at(0) == []
    assert rule.at(1, seen()) == ["pending a", "firing a"]
    assert rule.at(2, seen()) == []
    assert rule.at(3) == ["resolved a"]
    assert rule.alert().state == "inactive"


def test_for_holds_an_alert_back_until_exactly_that_long() -> None:
    rule = Timeline(hold=2)
    assert rule.at(0, seen()) == ["pending a"]
    assert rule.at(1.999, seen()) == []
    assert rule.at(2, seen()) == ["firing a"]
    assert rule.alert().active_at == T0
    assert rule.alert().fired_at == T0 + 2 * MINUTE


def test_a_pending_alert_whose_sample_goes_is_forgotten_and_starts_anew() -> None:
    rule = Timeline(hold=2)
    rule.at(0, seen())
    assert rule.at(1) == ["forgotten a"]
    assert rule.states == {}
    rule.at(1.5, seen())
    assert rule.at(2.5, seen()) == []
    assert rule.at(3.5, seen()) == ["firing a"]


def test_keep_firing_for_bridges_a_gap_and_ends_after_it() -> None:
    rule = Timeline(keep=5)
    rule.at(0, seen())
    assert rule.at(1) == ["kept a"]
    assert rule.at(3) == []
    assert rule.alert().state == "firing"
    assert rule.at(4, seen()) == ["back a"]
    assert rule.alert().keep_firing_since == 0
    assert rule.at(5) == ["kept a"]
    assert rule.at(9.9) == []
    assert rule.at(10) == ["resolved a"]


def test_keep_firing_for_does_not_keep_a_pending_alert() -> None:
    rule = Timeline(hold=5, keep=5)
    rule.at(0, seen())
    assert rule.at(1) == ["forgotten a"]


def test_a_resolved_alert_is_kept_for_fifteen_minutes_and_one_that_comes_back_is_new() -> None:
    rule = Timeline(hold=1)
    rule.at(0, seen())
    rule.at(1, seen())
    rule.at(2)
    assert rule.at(17) == []
    assert rule.at(17.1) == ["forgotten a"]
    rule.at(18, seen())
    rule.at(19, seen())
    rule.at(20)
    assert rule.at(21, seen()) == ["pending a"]
    assert rule.alert().active_at == T0 + 21 * MINUTE
    assert rule.alert().resolved_at == 0


def test_values_and_annotations_follow_each_evaluation_without_an_event() -> None:
    rule = Timeline()
    rule.at(0, seen(value=1.0, summary="one"))
    assert rule.at(1, seen(value=2.0, summary="two")) == []
    assert (rule.alert().value, rule.alert().annotations) == (2.0, Labels.of(summary="two"))


def test_alerts_of_one_rule_live_apart() -> None:
    rule = Timeline(hold=1)
    assert rule.at(0, seen("a")) == ["pending a"]
    assert rule.at(1, seen("a"), seen("b")) == ["firing a", "pending b"]
    assert rule.at(2, seen("b")) == ["resolved a", "firing b"]


def test_two_samples_with_the_same_labels_are_refused() -> None:
    with pytest.raises(BadInput, match="same labelset after applying alert labels"):
        Timeline().at(0, seen(), seen())


def test_more_alerts_than_the_limit_are_refused_and_resolved_ones_do_not_count() -> None:
    rule = Timeline(limit=1)
    rule.at(0, seen("a"))
    assert rule.at(1, seen("b")) == ["resolved a", "pending b", "firing b"]
    with pytest.raises(LimitExceeded, match="exceeded limit of 1 with 2 alerts"):
        rule.at(2, seen("b"), seen("c"))


def test_told_at_once_then_each_minute_and_resolved_for_fifteen_minutes() -> None:
    rule = Timeline(hold=1)
    rule.at(0, seen())
    assert rule.told(0) == []
    rule.at(1, seen())
    assert rule.told(1) == ["firing a"]
    assert rule.told(1.5) == []
    assert rule.told(2) == []
    assert rule.told(2.1) == ["firing a"]
    rule.at(2.5)
    assert rule.told(2.5) == ["inactive a"]
    assert rule.told(3) == []
    assert rule.told(3.6) == ["inactive a"]


def test_what_is_announced_ends_four_intervals_on_or_when_it_resolved() -> None:
    rule = Timeline()
    rule.at(0, seen(summary="s"))
    alert = announced(rule.alert(), T0, interval_ms=30_000, resend_ms=MINUTE, generator_url="http://x")
    assert (alert.starts_at, alert.ends_at, alert.generator_url) == (T0, T0 + 4 * MINUTE, "http://x")
    assert announced(rule.alert(), T0, interval_ms=5 * MINUTE, resend_ms=MINUTE, generator_url="").ends_at == T0 + 20 * MINUTE
    rule.at(3)
    assert announced(rule.alert(), T0 + 3 * MINUTE, interval_ms=30_000, resend_ms=MINUTE, generator_url="").ends_at == T0 + 3 * MINUTE


def test_series_of_active_alerts_only() -> None:
    rule = Timeline(hold=1)
    rule.at(0, seen("a"))
    rule.at(1, seen("a"), seen("b"))
    assert [(str(labels), value) for labels, value in series("X", rule.states)] == [
        ('ALERTS{alertname="X", alertstate="firing", instance="a"}', 1.0),
        ('ALERTS_FOR_STATE{alertname="X", instance="a"}', T0 / 1000),
        ('ALERTS{alertname="X", alertstate="pending", instance="b"}', 1.0),
        ('ALERTS_FOR_STATE{alertname="X", instance="b"}', T0 / 1000 + 60),
    ]
    rule.at(2)
    assert list(series("X", rule.states)) == []
    assert summary(rule.states) == "inactive"


def test_step_does_not_change_what_it_was_given() -> None:
    before: dict[Labels, AlertState] = {}
    after, _ = step(before, [seen()], T0)
    again, _ = step(after, [], T0 + MINUTE)
    assert before == {}
    assert next(iter(after.values())).state == "firing"
    assert next(iter(again.values())).state == "inactive"


def naive(presence: list[bool], hold: int, keep: int) -> list[str]:
    """One alert's state after each minute, told from the whole history at once instead of step by step."""
    out, since, firing, gone = [], None, False, None
    for minute, here in enumerate(presence):
        if here:
            since = minute if since is None else since
            gone = None
            firing = firing or minute - since >= hold
        elif firing and keep:
            gone = minute if gone is None else gone
            if minute - gone >= keep:
                since, firing, gone = None, False, None
        else:
            since, firing = None, False
        out.append("firing" if firing else "pending" if since is not None else "inactive")
    return out


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 5), st.integers(0, 5))
def test_agrees_with_the_naive_history(presence: list[bool], hold: int, keep: int) -> None:
    rule, got = Timeline(hold=hold, keep=keep), []
    for minute, here in enumerate(presence):
        rule.at(minute, *([seen()] if here else []))
        got.append(summary(rule.states))
    assert got == naive(presence, hold, keep)


@given(st.lists(st.sets(st.sampled_from("abc")), max_size=30), st.integers(0, 3), st.integers(0, 3))
def test_events_alone_rebuild_the_states(history: list[set[str]], hold: int, keep: int) -> None:
    """What is committed is enough: states rebuilt from events equal the states, but for values nobody resumes from."""
    rule, rebuilt = Timeline(hold=hold, keep=keep), {}
    for minute, names in enumerate(history):
        now = T0 + minute * MINUTE
        rule.states, events = step(rule.states, [seen(n) for n in sorted(names)], now, hold_ms=hold * MINUTE, keep_firing_ms=keep * MINUTE)
        for event in events:
            if event.change == "forgotten" and event.alert.labels not in rule.states:
                del rebuilt[event.alert.labels]
            else:
                rebuilt[event.alert.labels] = event.alert
    assert rebuilt == rule.states
    assert all(a.annotations == EMPTY for a in rebuilt.values())
    assert alerting.RESOLVED_RETENTION_MS == 15 * MINUTE


# An alert that is pending since minute 0, of a rule with `for: 20m` that is evaluated each minute: last seen when, up again when,
# pending since when (all in minutes, None: never seen), and how long it holds then at least.
TAKEN_UP = {
    "no evaluation was missed": (5, 6, 0),
    "the time nobody looked does not count": (2, 8, 5),
    "an outage of an hour is bridged": (2, 62, 59),
    "one that is longer is not": (2, 63, 63),
    "never seen": (None, 30, 30),
    "what is left is less than the grace": (15, 30, 20),
    "what is left is the grace": (10, 30, 19),
    "it was about to fire": (20, 30, 0),
    "it would have fired": (25, 30, 0),
}


@pytest.mark.parametrize(("last", "now", "since"), TAKEN_UP.values(), ids=TAKEN_UP)
def test_a_pending_alert_is_taken_up_after_a_restart(last: int | None, now: int, since: int) -> None:
    rule = Timeline(hold=20)
    rule.at(0, seen())
    alert = taken_up(
        rule.alert(),
        T0 + now * MINUTE,
        None if last is None else T0 + last * MINUTE,
        hold_ms=20 * MINUTE,
        interval_ms=MINUTE,
        outage=Outage(),
    )
    assert (alert.active_at - T0) / MINUTE == since
    assert alert.state == "pending", "it is for the next evaluation to say more"


def test_a_short_for_needs_no_grace_and_what_fires_is_as_it_was() -> None:
    short = Timeline(hold=5)
    short.at(0, seen())
    found = taken_up(short.alert(), T0 + 30 * MINUTE, T0 + 3 * MINUTE, hold_ms=5 * MINUTE, interval_ms=MINUTE, outage=Outage())
    assert (found.active_at - T0) / MINUTE == 26, "two minutes to go"
    firing = Timeline()
    firing.at(0, seen())
    found = taken_up(firing.alert(), T0 + 900 * MINUTE, None, hold_ms=0, interval_ms=MINUTE, outage=Outage())
    assert found == firing.alert()
