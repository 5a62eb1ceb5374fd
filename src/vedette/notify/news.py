"""What a batch of news does to the alerts that are held: what is held after it, what the records must hear, who fired or resolved.

Pure, and written for thousands of alerts at once: rows are tuples, and nothing is made twice. Not here: the commit (`notifier.py`),
what two tellings of one alert make together (`held.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify.held import Held, fingerprints, merged, received, values_of, worth_saving


@dataclass(frozen=True, slots=True)
class Turn:
    """An alert that fires or has resolved by what was heard; `labels` is the JSON of its labels."""

    kind: Literal["firing", "resolved"]
    held: Held
    labels: str


@dataclass(frozen=True, slots=True)
class News:
    """What changes: `held` by labels, `rows` the values of `HeldAlertRow`s to save, `turns` in the order in which they came."""

    held: dict[Labels, Held] = field(default_factory=dict)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    some_resolved: bool = False


def heard(
    alerts: Sequence[Alert],
    standing: Callable[[Labels], Held | None],
    now: int,
    *,
    tenant: str,
    resolve_timeout: int,
    number: Callable[[Labels], int],
) -> News:
    """What `alerts` change at `now`; `standing` is what is held of each, `number` gives the record of one that is not held its number."""
    unnamed = [a.labels for a in alerts if not a.known_fingerprint and standing(a.labels) is None]
    names = dict(zip(unnamed, fingerprints(unnamed), strict=True))
    joined: dict[Labels, Held] = {}
    saved: dict[Labels, tuple[Any, ...]] = {}
    turns: list[Turn] = []
    some_resolved = False
    for alert in alerts:
        labels = alert.labels
        old = joined.get(labels) or standing(labels)
        if old is None:
            name, seq = alert.known_fingerprint or names[labels], number(labels)
            new = received(alert, now, resolve_timeout=resolve_timeout, fingerprint=name, number=seq)
            fired, worth = False, True
        else:
            told = received(alert, now, resolve_timeout=resolve_timeout, fingerprint=old.alert.fingerprint, number=old.number)
            new = merged(old, told, now)
            fired, worth = old.alert.ends_at > now, worth_saving(old, new, now)
        joined[labels] = new
        fires = new.alert.ends_at > now
        some_resolved = some_resolved or not fires
        if worth or fired != fires:
            text = orjson.dumps(dict(labels)).decode()
            if worth:
                saved[labels] = values_of(tenant, new, text)
            if fired != fires:
                turns.append(Turn("firing" if fires else "resolved", new, text))
    return News(joined, list(saved.values()), turns, some_resolved)
