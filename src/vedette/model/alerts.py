"""An alert as it travels from whoever raises it to whoever is told. Times are Unix milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vedette.model.labels import EMPTY, Labels

ALERT_NAME = "alertname"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert instance: its identity is its labels. It is resolved once `ends_at` is reached.

    `value` is what the rule's expression gave when it was raised, None where that is not known; `known_fingerprint` saves
    computing it anew where many alerts came at once.
    """

    labels: Labels
    starts_at: int
    ends_at: int
    annotations: Labels = EMPTY
    generator_url: str = ""
    value: float | None = field(default=None, compare=False)
    known_fingerprint: str = field(default="", compare=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """16 hex digits, as Alertmanager's."""
        return self.known_fingerprint or f"{self.labels.fingerprint():016x}"

    def status(self, now: int) -> Literal["firing", "resolved"]:
        """Whether the alert stands at `now`."""
        return "resolved" if self.ends_at <= now else "firing"
