"""A group of alerts and when it is looked at: what its version and its order promise to whoever keeps what was made of it."""

from __future__ import annotations

import pytest

from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify.groups import AlertGroup, Timing
from vedette.notify.held import Held
from vedette.notify.route import Route

ROUTE = Route("{}", "team", frozenset(), group_wait=30, group_interval=300, repeat_interval=3600)


def held(name: str, *, starts: int = 0, ends: int = 10_000) -> Held:
    return Held(Alert(Labels.of(alertname=name, job=name), starts, ends), starts)


def group(*members: Held) -> AlertGroup:
    made = AlertGroup(ROUTE, Labels.of(), Timing(30))
    for one in members:
        made.insert(one, 0)
    return made


def test_whatever_changes_its_alerts_changes_its_version() -> None:
    """Lists keep what they wrote of a group for as long as its version stays."""
    made = group(held("b"), held("a", ends=50))
    versions = [made.version]
    made.insert(held("b", ends=20_000), 1)
    versions.append(made.version)
    made.told(made.snapshot(), 100)  # one of them has ended, and leaves
    versions.append(made.version)
    assert len(set(versions)) == 3
    made.told(made.snapshot(), 100)
    assert made.version == versions[-1], "nobody left: what was kept still holds"


def test_what_ended_leaves_once_all_know_and_the_others_keep_their_order() -> None:
    made = group(held("c"), held("b", ends=50), held("a"))
    assert [one.alert.labels.get("job") for one in made.snapshot()] == ["a", "b", "c"]
    made.told(made.snapshot(), 100)
    assert [one.alert.labels.get("job") for one in made.snapshot()] == ["a", "c"]


def test_what_came_back_while_its_end_was_told_stays() -> None:
    made = group(held("a", ends=50))
    sent = made.snapshot()
    made.insert(held("a", starts=60), 60)
    made.told(sent, 100)
    assert [one.alert.starts_at for one in made.snapshot()] == [60]


@pytest.mark.parametrize(
    ("timing", "starts", "now", "after"),
    [
        (Timing(130), 100, 100, Timing(130)),  # new: it waits for company
        (Timing(130), 50, 100, Timing(100)),  # it has waited elsewhere: at once
        (Timing(90), 50, 100, Timing(90)),  # and never later than it was due
        (Timing(400, flushed=True), 50, 100, Timing(400, flushed=True)),  # told before: at its interval
    ],
)
def test_an_alert_that_joins_moves_the_first_flush_alone(timing: Timing, starts: int, now: int, after: Timing) -> None:
    assert timing.inserted(starts, ROUTE, now) == after


def test_after_a_flush_the_interval_counts() -> None:
    assert Timing(30).after_flush(ROUTE, 40) == Timing(340, flushed=True)
