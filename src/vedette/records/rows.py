"""The rows of the small tables, as frozen dataclasses. Times are Unix milliseconds, 0 where there is none.

Label sets travel as text (`a JSON object, keys sorted`), since this room lies below the model. Importing this module
costs nothing; SQLAlchemy comes with `database.py`, which whoever opens the records imports.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuleAlertRow:
    """One alert of an alerting rule. `rule` is the rule's identity across restarts; key: tenant, rule, labels."""

    tenant: str
    rule: str
    labels: str
    annotations: str
    state: str
    value: float
    active_at: int
    fired_at: int
    resolved_at: int
    keep_firing_since: int


@dataclass(frozen=True, slots=True)
class HeldAlertRow:
    """One alert that notifications know of, whoever raised it; key: tenant, labels. `timeout`: its end was assumed."""

    tenant: str
    labels: str
    annotations: str
    generator_url: str
    starts_at: int
    ends_at: int
    updated_at: int
    timeout: bool


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """What one channel of one receiver was last told about one group; key: tenant, group_key, receiver, channel.

    `firing` and `resolved` are the alerts (fingerprints, space separated) of the last delivered notification, made at
    `sent_at`. While another one is on its way, `phase` is `sending`, or `waiting` once it failed or went unanswered for a
    while; `next_firing`, `next_resolved` are what it tells, `attempt` identifies it to the receiver. `phase` is `sent` otherwise.
    """

    tenant: str
    group_key: str
    receiver: str
    channel: str
    phase: str
    firing: str
    resolved: str
    sent_at: int
    next_firing: str
    next_resolved: str
    attempt: str
    attempted_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class SilenceRow:
    """One silence; key: tenant, id. `matchers` is a JSON list of `[name, operator, value]`, `annotations` a JSON object."""

    tenant: str
    id: str
    matchers: str
    starts_at: int
    ends_at: int
    updated_at: int
    created_by: str
    comment: str
    annotations: str


Row = RuleAlertRow | HeldAlertRow | NotificationRow | SilenceRow

KEYS: dict[type[Row], tuple[str, ...]] = {
    RuleAlertRow: ("tenant", "rule", "labels"),
    HeldAlertRow: ("tenant", "labels"),
    NotificationRow: ("tenant", "group_key", "receiver", "channel"),
    SilenceRow: ("tenant", "id"),
}
"""The primary key of each table."""
