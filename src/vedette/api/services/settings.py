"""The settings of the service APIs."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration


@dataclass(frozen=True, slots=True)
class ServicesSettings:
    """What the documents let one choose; times in ms."""

    aggregation_window: int = option(300_000, convert=parse_duration)
    """Over how much of the past `/metrics?aggregated=true` aggregates."""
    environment: str = "local"
    """What this installation is called in `/debug/info`."""

    def __post_init__(self) -> None:
        if self.aggregation_window < 1000:
            raise BadInput("shorter than a second", where="aggregation_window")
