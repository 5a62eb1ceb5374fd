"""The state machine of an alerting rule: a pure function from state, samples and time to state and events.

    inactive --sample--> pending --held for `for`--> firing --sample gone--> inactive (resolved) --15 m--> forgotten
                            |                           |
                            +--sample gone--> forgotten +--sample gone, `keep_firing_for`--> firing

As in Prometheus, a rule with `for: 0` passes through pending in one step, and a resolved alert is kept for a while so that
its end is told more than once. Not here: queries, templates, storage, time; so a rule can be run over history, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from vedette.errors import BadInput, LimitExceeded
from vedette.model.alerts import ALERT_NAME, Alert
from vedette.model.labels import METRIC_NAME, Labels

RESOLVED_RETENTION_MS = 15 * 60_000
RESEND_DELAY_MS = 60_000

State = Literal["inactive", "pending", "firing"]
Change = Literal["pending", "firing", "kept", "back", "resolved", "forgotten"]


@dataclass(frozen=True, slots=True)
class AlertState:
    """One alert of a rule. Times are Unix ms, 0 for never; `inactive` is an alert that fired and has resolved."""

    labels: Labels
    annotations: Labels
    value: float
    state: State
    active_at: int
    fired_at: int = 0
    resolved_at: int = 0
    keep_firing_since: int = 0
    last_sent_at: int = 0
    number: int = field(default=0, compare=False)
    """Its record's; 0 while it has none."""


@dataclass(frozen=True, slots=True)
class Observed:
    """One element of the rule's result, its labels and annotations already those of the alert."""

    labels: Labels
    annotations: Labels
    value: float


@dataclass(frozen=True, slots=True)
class Event:
    """A change of one alert that has to outlive a restart: `pending`, `firing`, `kept` (firing on though its sample is gone),
    `back` (its sample came back), `resolved`, `forgotten`."""

    change: Change
    alert: AlertState


States = Mapping[Labels, AlertState]


def step(
    states: States, observed: Sequence[Observed], now: int, *, hold_ms: int = 0, keep_firing_ms: int = 0, limit: int = 0
) -> tuple[dict[Labels, AlertState], list[Event]]:
    """The states after an evaluation at `now` that gave `observed`, and what changed.

    Raises `BadInput` where two elements have the same labels and `LimitExceeded` where more than `limit` (0: none) alerts
    would be active; Prometheus then forgets the rule's alerts, so the caller puts `{}` in place of the states.
    """
    seen: dict[Labels, Observed] = {}
    for element in observed:
        if element.labels in seen:
            raise BadInput("vector contains metrics with the same labelset after applying alert labels", where=str(element.labels))
        seen[element.labels] = element
    after: dict[Labels, AlertState] = {}
    events: list[Event] = []
    for labels, old in states.items():
        if labels not in seen and (kept := _gone(old, now, keep_firing_ms, events)) is not None:
            after[labels] = kept
    active = len(seen) + sum(a.state != "inactive" for a in after.values())
    for labels, element in seen.items():
        after[labels] = _seen(states.get(labels), element, now, hold_ms, events)
    if 0 < limit < active:
        raise LimitExceeded(f"exceeded limit of {limit} with {active} alerts")
    return after, events


def _gone(old: AlertState, now: int, keep_firing_ms: int, events: list[Event]) -> AlertState | None:
    """What becomes of an alert without a sample; None where it is forgotten."""
    if old.state == "pending" or (old.resolved_at and now - old.resolved_at > RESOLVED_RETENTION_MS):
        events.append(Event("forgotten", old))
        return None
    if old.state == "inactive":
        return old
    if keep_firing_ms:
        since = old.keep_firing_since or now
        if now - since < keep_firing_ms:
            if old.keep_firing_since:
                return old
            kept = replace(old, keep_firing_since=since)
            events.append(Event("kept", kept))
            return kept
    resolved = replace(old, state="inactive", resolved_at=now)
    events.append(Event("resolved", resolved))
    return resolved


def _seen(old: AlertState | None, element: Observed, now: int, hold_ms: int, events: list[Event]) -> AlertState:
    """What becomes of an alert with a sample; a resolved one starts anew."""
    if old is None or old.state == "inactive":
        number = old.number if old is not None else 0
        alert = AlertState(element.labels, element.annotations, element.value, "pending", now, number=number)
        events.append(Event("pending", alert))
    else:
        alert = replace(old, annotations=element.annotations, value=element.value, keep_firing_since=0)
        if old.keep_firing_since:
            events.append(Event("back", alert))
    if alert.state == "pending" and now - alert.active_at >= hold_ms:
        alert = replace(alert, state="firing", fired_at=now)
        events.append(Event("firing", alert))
    return alert


def due(states: States, now: int, *, resend_ms: int = RESEND_DELAY_MS) -> list[AlertState]:
    """The alerts to tell about now: newly firing or resolved, or last told more than `resend_ms` ago."""
    return [a for a in states.values() if a.state != "pending" and (a.resolved_at > a.last_sent_at or a.last_sent_at + resend_ms < now)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """How a restart is bridged; times in ms. `tolerance`: how long ago an alert may have been seen last; `grace`: see `taken_up`."""

    tolerance_ms: int = 3_600_000
    grace_ms: int = 600_000


def taken_up(alert: AlertState, now: int, seen_at: int | None, *, hold_ms: int, interval_ms: int, outage: Outage) -> AlertState:
    """An alert of the records at the first evaluation after a restart, as Prometheus takes up a `for`; `seen_at` is its last evaluation.

    Nobody looked while the server was away, so what is beyond one interval of it does not count: a pending alert that held for
    two of five minutes has three to go. It starts anew where it was last seen too long ago, or never (None). After an outage it
    stays pending for `grace_ms` at least where the rule's `for` is that long, so that a restart pages nobody at once.
    """
    if alert.state != "pending":
        return alert
    if seen_at is None or now - seen_at > outage.tolerance_ms:
        return replace(alert, active_at=now)
    away = now - seen_at - interval_ms
    remaining = hold_ms - (seen_at - alert.active_at)
    if away <= 0 or remaining <= 0:
        return alert
    if remaining < outage.grace_ms <= hold_ms:
        return replace(alert, active_at=now + outage.grace_ms - hold_ms)
    return replace(alert, active_at=alert.active_at + away)


def announced(alert: AlertState, now: int, *, interval_ms: int, resend_ms: int, generator_url: str) -> Alert:
    """The alert as it is handed on. One that fires holds for four intervals, so that two failed evaluations do not end it."""
    ends = alert.resolved_at or now + 4 * max(interval_ms, resend_ms)
    return Alert(alert.labels, alert.fired_at, ends, alert.annotations, generator_url, alert.value)


def sent(states: States, alerts: Sequence[AlertState], now: int) -> dict[Labels, AlertState]:
    """The states after `alerts` were handed on at `now`."""
    return {**states, **{a.labels: replace(a, last_sent_at=now) for a in alerts}}


def series(rule: str, states: States) -> Iterator[tuple[Labels, float]]:
    """`ALERTS` and `ALERTS_FOR_STATE` of each active alert, with their values."""
    for alert in states.values():
        if alert.state == "inactive":
            continue
        named = alert.labels.with_({METRIC_NAME: "ALERTS", ALERT_NAME: rule, "alertstate": alert.state})
        yield named, 1.0
        yield alert.labels.with_({METRIC_NAME: "ALERTS_FOR_STATE", ALERT_NAME: rule}), float(alert.active_at // 1000)


def summary(states: States) -> State:
    """The state of the alert furthest on."""
    found = {a.state for a in states.values()}
    return "firing" if "firing" in found else "pending" if "pending" in found else "inactive"
