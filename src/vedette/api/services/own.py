"""What Vedette's own registry says of the HTTP requests it has answered, as figures.

Read when asked; the registry counts as requests come. Not here: applications that report theirs (`performance.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

_REQUESTS, _DURATION = "vedette_http_requests", "vedette_http_request_duration_seconds"


@dataclass(slots=True)
class Answered:
    """Requests to one path since the start: how many, how many of them failed (5xx), and their seconds together."""

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0

    @property
    def average_seconds(self) -> float:
        """Seconds a request took on average; 0 where there was none."""
        return self.seconds / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class OwnRequests:
    """The figures of one registry."""

    registry: CollectorRegistry
    # Only these two: the others are read from rooms, at some cost.
    names: tuple[str, ...] = field(default=(f"{_REQUESTS}_total", _DURATION, f"{_DURATION}_sum", f"{_DURATION}_count"))

    def by_path(self) -> dict[str, Answered]:
        """Figures by path (`other` for all unknown ones)."""
        found: dict[str, Answered] = {}
        for family in self.registry.restricted_registry(self.names).collect():
            for sample in family.samples:
                if sample.name not in (f"{_REQUESTS}_total", f"{_DURATION}_sum"):
                    continue
                one = found.setdefault(sample.labels["handler"], Answered())
                if sample.name.endswith("_sum"):
                    one.seconds += sample.value
                else:
                    one.requests += int(sample.value)
                    one.errors += int(sample.value) if sample.labels["code"].startswith("5") else 0
        return found

    def total(self) -> Answered:
        """Figures of all paths together."""
        each = self.by_path().values()
        return Answered(sum(a.requests for a in each), sum(a.errors for a in each), sum(a.seconds for a in each))
