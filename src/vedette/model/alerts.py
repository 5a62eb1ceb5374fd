"""An alert as it travels from whoever raises it to whoever is told. Times are Unix milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vedette.model.labels import EMPTY, Labels

ALERT_NAME = "alertname"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert instance: its identity is its labels. It is resolved once `ends_at` is reached."""

    labels: Labels
    starts_at: int
    ends_at: int
    annotations: Labels = EMPTY
    generator_url: str = ""

    @property
    def fingerprint(self) -> str:
        """16 hex digits, as Alertmanager's."""
        return f"{self.labels.fingerprint():016x}"

    def status(self, now: int) -> Literal["firing", "resolved"]:
        """Whether the alert stands at `now`."""
        return "resolved" if self.ends_at <= now else "firing"
