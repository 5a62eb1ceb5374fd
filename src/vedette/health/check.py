"""What a probe answers, and the state of one dependency over time. Not here: how each kind is asked (`probes`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

HEALTHY, DEGRADED, UNHEALTHY, STARTING = "healthy", "degraded", "unhealthy", "starting"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe found: `status` is `healthy`, `degraded` or `unhealthy`; `figures` are what the dependency told of itself.

    `reason` says what is wrong, without secrets; `figures` may hold only what was measured.
    """

    status: str
    reason: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


Probe = Callable[[], Awaitable[Finding]]
"""Asks a dependency once. Raises nothing of the network's: what fails is a `Finding`; its caller bounds the time."""


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one dependency. `since` and `at` are Unix seconds, `latency_s` the last probe's duration; None before the first."""

    name: str
    kind: str
    status: str = STARTING
    reason: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    latency_s: float | None = None
    at: float | None = None
    since: float | None = None

    def shown(self) -> dict[str, Any]:
        """As `/health/detailed` shows it."""
        found: dict[str, Any] = {"status": self.status}
        if self.latency_s is not None:
            found["latency_ms"] = round(1000 * self.latency_s, 3)
        if self.reason:
            found["error"] = self.reason
        return {**found, **self.figures}


def step(state: State, finding: Finding, *, at: float, latency_s: float) -> State:
    """The state after a probe: `since` moves only where the status changes."""
    since = state.since if finding.status == state.status else at
    return State(state.name, state.kind, finding.status, finding.reason, finding.figures, latency_s, at, since)
