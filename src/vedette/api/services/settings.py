"""The settings of the service APIs."""

from __future__ import annotations

from dataclasses import dataclass

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration

MOST_HOURS = 90 * 24
"""The longest past that trends and series are asked for."""
AGGREGATION_TYPES = ("avg", "sum", "min", "max")


@dataclass(frozen=True, slots=True)
class ServicesSettings:
    """What the documents let one choose; times in ms."""

    aggregation_window: int = option(300_000, convert=parse_duration)
    """Over how much of the past `/metrics?aggregated=true` aggregates."""
    aggregation_types: tuple[str, ...] = AGGREGATION_TYPES
    """Which aggregates these are."""
    retention_hours: int = 24
    """How far back `/metrics/series` reaches. What is kept, and for how long, storage's retention says."""
    trend_hours: int = 24
    """Over how much of the past a trend is that does not name its `hours`."""
    environment: str = "local"
    """What this installation is called in `/debug/info`."""

    metrics_per_minute: int = 60
    """How often one address may ask for BotServer's metrics; 0: as often as it likes."""
    alerts_per_minute: int = 10
    """How often one user (or address, where nobody is asked who they are) may ask for BotServer's alerts; 0: as often as they like."""
    logs_per_minute: int = 30
    """How often one user may ask for BotServer's logs; 0: as often as they like."""

    live_interval: int = option(1000, convert=parse_duration)
    """How often live streams are looked at for changes."""
    live_clients: int = 5000
    """How many may watch live values at once."""

    def __post_init__(self) -> None:
        for name in ("metrics_per_minute", "alerts_per_minute", "logs_per_minute"):
            if getattr(self, name) < 0:
                raise BadInput(f"{getattr(self, name)} where at least 0 is expected", where=name)
        for name in ("retention_hours", "trend_hours"):
            if not 1 <= getattr(self, name) <= MOST_HOURS:
                raise BadInput(f"{getattr(self, name)} where 1 to {MOST_HOURS} is expected", where=name)
        if unknown := [kind for kind in self.aggregation_types if kind not in AGGREGATION_TYPES]:
            raise BadInput(
                f"not an aggregate: {unknown[0]!r}", where="aggregation_types", hint="expected some of " + ", ".join(AGGREGATION_TYPES)
            )
        if self.live_interval < 100:
            raise BadInput("shorter than 100 ms", where="live_interval")
        if self.aggregation_window < 1000:
            raise BadInput("shorter than a second", where="aggregation_window")
