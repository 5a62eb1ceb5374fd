"""Snapshots of rules for those who show them, who change nothing of them: whoever asks next may be handed the same ones.

They are not frozen: to make ten thousand frozen ones would take three times as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vedette.model.labels import Labels

Health = Literal["unknown", "ok", "err"]


@dataclass(frozen=True, slots=True)
class ActiveAlert:
    """One pending or firing alert. Times are Unix milliseconds, `keep_firing_since` 0 unless it only still fires."""

    labels: Labels
    annotations: Labels
    state: str
    active_at: int
    value: float
    keep_firing_since: int = 0


@dataclass(slots=True)
class RuleState:
    """One rule as it stands. `last_evaluation` is in Unix seconds (0: never), `evaluation_time` in seconds.

    `state` is inactive, pending or firing: that of the alert furthest on; always inactive for a recording rule.
    """

    kind: Literal["alerting", "recording"]
    name: str
    expr: str
    duration_ms: int
    keep_firing_for_ms: int
    labels: Labels
    annotations: Labels
    health: Health
    last_error: str
    last_evaluation: float
    evaluation_time: float
    state: str
    alerts: list[ActiveAlert]
    analysis: str = ""
    """What is asked of the expression's values, in words, where that is more than the expression."""


@dataclass(frozen=True, slots=True)
class Tally:
    """All groups in figures, for metrics: evaluations of groups, of them missed; failed evaluations of rules; active alerts."""

    groups: int = 0
    iterations: int = 0
    missed: int = 0
    failures: int = 0
    pending: int = 0
    firing: int = 0


@dataclass(frozen=True, slots=True)
class GroupState:
    """One group as it stands; units as in `RuleState`. `iterations` counts evaluations, `missed` those that came too late."""

    name: str
    file: str
    interval_ms: int
    limit: int
    last_evaluation: float
    evaluation_time: float
    rules: list[RuleState]
    iterations: int = 0
    missed: int = 0
    failures: int = 0
