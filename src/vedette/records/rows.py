"""The rows of the small tables, as frozen dataclasses. Times are Unix milliseconds, 0 where there is none.

Label sets travel as text (`a JSON object, keys sorted`), since this room lies below the model. Importing this module
costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RuleAlertRow:
    """One alert of an alerting rule. `rule` is the rule's identity across restarts; key: tenant, seq.

    `seq` rises with time, as that of a `HeldAlertRow`; of two rows with the same rule and labels the newer one counts.
    """

    tenant: str
    seq: int
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
    """One alert that notifications know of, whoever raised it; key: tenant, seq. `timeout`: its end was assumed.

    `seq` rises with time (`numbers.py`): new rows stand side by side at a table's end, where a key of labels would touch a
    page of it for each. Of two rows with the same labels, which servers that share a database may write, the one updated last counts.
    """

    tenant: str
    seq: int
    labels: str
    annotations: str
    generator_url: str
    starts_at: int
    ends_at: int
    updated_at: int
    timeout: bool


@dataclass(frozen=True, slots=True)
class AlertJournalRow:
    """A batch of `HeldAlertRow`s and `AlertEventRow`s that are not in their tables yet (`notify/journal.py`); key: tenant, seq."""

    tenant: str
    seq: int
    at: int
    body: bytes


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
    kept: str = ""
    """What the channel keeps of the message that it changes with each news of the group, as JSON; "" for nothing."""


@dataclass(frozen=True, slots=True)
class SilenceRow:
    """One silence; key: tenant, id. `matchers` is a JSON list of `[name, operator, value]`, `annotations` a JSON object.

    `recurs` is the JSON of the time intervals in which alone it holds, "" for all the time.
    """

    tenant: str
    id: str
    matchers: str
    starts_at: int
    ends_at: int
    updated_at: int
    created_by: str
    comment: str
    annotations: str
    recurs: str = ""
    until_resolved: bool = False


@dataclass(frozen=True, slots=True)
class PushedGroupRow:
    """A group of metrics that a job pushed; key: tenant, labels (which group it is). `families` is a JSON list of its metric families.

    `pushed_at` and `failed_at` are when a push last succeeded and failed.
    """

    tenant: str
    labels: str
    families: str
    pushed_at: int
    failed_at: int


@dataclass(frozen=True, slots=True)
class AcknowledgementRow:
    """Somebody's word that they know of an alert; key: tenant, fingerprint. `expires_at` 0: it lasts as long as the alert."""

    tenant: str
    fingerprint: str
    labels: str
    author: str
    note: str
    made_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class AlertEventRow:
    """One step in an alert's life; key: tenant, seq, which grows. `kind` is `pending`, `firing`, `resolved`, `acknowledged`, …"""

    tenant: str
    seq: int
    at: int
    kind: str
    fingerprint: str
    alertname: str
    labels: str
    starts_at: int
    value: float
    note: str


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One notification that was sent, failed or was muted; key: tenant, seq, which grows.

    `alerts` is a JSON list of the alerts' label sets, of large groups the first ones; `firing` and `resolved` count all.
    """

    tenant: str
    seq: int
    at: int
    outcome: str
    reason: str
    detail: str
    receiver: str
    channel: str
    group_key: str
    alerts: str
    firing: int
    resolved: int
    attempt: str


@dataclass(frozen=True, slots=True)
class UserRow:
    """One who may log in; key: name. `password` is a scrypt hash with its parameters."""

    name: str
    tenant: str
    role: str
    password: str
    disabled: bool
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """One managed API key; key: id. `digest` is SHA-256 of the secret, `scopes` are space separated, `expires_at` 0 is never."""

    id: str
    tenant: str
    name: str
    role: str
    scopes: str
    digest: str
    created_by: str
    created_at: int
    expires_at: int
    revoked_at: int


@dataclass(frozen=True, slots=True)
class TenantRow:
    """One tenant that was made by name; key: name."""

    name: str
    title: str
    created_at: int


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One login of a browser; key: digest, SHA-256 of its cookie. `csrf` is what its forms send back."""

    digest: str
    user_name: str
    csrf: str
    created_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One change that somebody made, or was refused; key: tenant, seq, which grows."""

    tenant: str
    seq: int
    at: int
    actor: str
    kind: str
    method: str
    path: str
    status: int
    address: str


LogRow = AlertEventRow | DeliveryRow | AuditRow | AlertJournalRow
"""Rows of a log: written once, read by pages, forgotten by age."""


@dataclass(frozen=True, slots=True)
class RuleGroupRow:
    """One version of a rule group made over the API; key: tenant, namespace, name, version. The greatest version counts.

    `document` is the group as YAML, as it was given, "" for a version that deleted it.
    """

    tenant: str
    namespace: str
    name: str
    version: int
    document: str
    author: str
    changed_at: int


Row = (
    RuleAlertRow
    | RuleGroupRow
    | HeldAlertRow
    | NotificationRow
    | SilenceRow
    | AcknowledgementRow
    | PushedGroupRow
    | UserRow
    | ApiKeyRow
    | TenantRow
    | SessionRow
    | LogRow
)


@dataclass(frozen=True, slots=True)
class Many:
    """Rows of one kind as plain tuples, values in the order of its fields, None for NaN: thousands come without an object each."""

    kind: type[Row]
    values: Sequence[tuple[Any, ...]]


KEYS: dict[type[Row], tuple[str, ...]] = {
    RuleAlertRow: ("tenant", "seq"),
    HeldAlertRow: ("tenant", "seq"),
    AlertJournalRow: ("tenant", "seq"),
    NotificationRow: ("tenant", "group_key", "receiver", "channel"),
    SilenceRow: ("tenant", "id"),
    RuleGroupRow: ("tenant", "namespace", "name", "version"),
    AcknowledgementRow: ("tenant", "fingerprint"),
    PushedGroupRow: ("tenant", "labels"),
    AlertEventRow: ("tenant", "seq"),
    DeliveryRow: ("tenant", "seq"),
    UserRow: ("name",),
    ApiKeyRow: ("id",),
    TenantRow: ("name",),
    SessionRow: ("digest",),
    AuditRow: ("tenant", "seq"),
}
"""The primary key of each table."""
