"""The alerts that notifications know of: how news of an alert joins what is held of it. Pure.

Rules (and peers that speak Alertmanager's API) tell an alert again and again; each time its end moves on. Not here:
where they are kept (`notifier.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson

from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.records.rows import HeldAlertRow


@dataclass(frozen=True, slots=True)
class Held:
    """An alert with when it was last told of; `timeout` says that its end is only assumed."""

    alert: Alert
    updated_at: int
    timeout: bool = False

    def resolved(self, now: int) -> bool:
        """Whether it has ended at `now`."""
        return self.alert.ends_at <= now


def received(alert: Alert, now: int, *, resolve_timeout: int) -> Held:
    """An alert as it came in: a start or end that was left open (0) is filled in."""
    starts = alert.starts_at or (min(alert.ends_at, now) if alert.ends_at else now)
    if alert.ends_at:
        return Held(replace(alert, starts_at=starts), now)
    return Held(replace(alert, starts_at=starts, ends_at=now + resolve_timeout), now, timeout=True)


def merged(old: Held | None, new: Held, now: int) -> Held:
    """What is held after `new`: where the two overlap in time they are one alert, with the earlier start."""
    if old is None:
        return new
    a, b = old.alert, new.alert
    overlap = a.starts_at < b.ends_at < a.ends_at or a.starts_at < b.starts_at < a.ends_at
    if not overlap:
        return new
    ends, timeout = b.ends_at, new.timeout
    if b.ends_at <= now:
        if a.ends_at <= now:
            ends = max(a.ends_at, b.ends_at)
    elif a.ends_at > b.ends_at and not old.timeout:
        ends, timeout = a.ends_at, False
    return Held(replace(b, starts_at=min(a.starts_at, b.starts_at), ends_at=ends), new.updated_at, timeout)


def worth_saving(old: Held | None, new: Held, now: int) -> bool:
    """Whether the records must hear of it: everything but a mere extension of an alert that fires on."""
    if old is None or old.resolved(now) or new.resolved(now):
        return old != new
    return replace(old.alert, ends_at=0) != replace(new.alert, ends_at=0) or old.timeout != new.timeout


def row_of(tenant: str, held: Held) -> HeldAlertRow:
    """Its record."""
    alert = held.alert
    return HeldAlertRow(
        tenant=tenant,
        labels=orjson.dumps(dict(alert.labels)).decode(),
        annotations=orjson.dumps(dict(alert.annotations)).decode(),
        generator_url=alert.generator_url,
        starts_at=alert.starts_at,
        ends_at=alert.ends_at,
        updated_at=held.updated_at,
        timeout=held.timeout,
    )


def restored(row: HeldAlertRow, now: int) -> Held:
    """The alert of a record after a restart at `now`.

    One that was firing is given the time it had when it was last recorded: its sender could not tell us more while
    we were away, so silence until now is no sign that it ended.
    """
    stood = row.ends_at > row.updated_at
    ends = max(row.ends_at, now + row.ends_at - row.updated_at) if stood else row.ends_at
    labels, annotations = Labels.of(orjson.loads(row.labels)), Labels.of(orjson.loads(row.annotations))
    return Held(Alert(labels, row.starts_at, ends, annotations, row.generator_url), row.updated_at, row.timeout)
