"""Standard health checks: named checks, one report, in the shape that load balancers and Vedette read."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Gauge

Check = Callable[[], object | Awaitable[object]]
"""Returns (False is unhealthy, a dict are details) or raises."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """`status` is healthy or unhealthy; `components` has each check's status, its latency in ms, and details or the error."""

    status: str
    components: dict[str, dict[str, Any]] = field(default_factory=dict)
    service: str = ""
    version: str = ""

    @property
    def http_status(self) -> int:
        """200, or 503 where a check that matters fails."""
        return 200 if self.status == "healthy" else 503

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "status": self.status,
            "service": self.service,
            "version": self.version,
            "components": self.components,
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


class HealthCheck:
    """The checks of one service; `service_health{component}` is 1 or 0 in `registry`."""

    def __init__(self, service: str = "", version: str = "", *, registry: CollectorRegistry = REGISTRY) -> None:
        self._service, self._version = service, version
        self._checks: dict[str, tuple[Check, bool]] = {}
        self._gauge = Gauge("service_health", "Whether a component is healthy.", ["component"], registry=registry)

    def add(self, name: str, check: Check, *, critical: bool = True) -> None:
        """Add a check, or replace the one of its name; one that is not `critical` is shown and fails nothing."""
        self._checks[name] = (check, critical)

    async def run(self) -> HealthReport:
        """Run all checks, one after the other."""
        components, healthy = {}, True
        for name, (check, critical) in self._checks.items():
            components[name] = await self._one(check)
            fine = components[name]["status"] == "healthy"
            self._gauge.labels(name).set(fine)
            healthy = healthy and (fine or not critical)
        return HealthReport("healthy" if healthy else "unhealthy", components, self._service, self._version)

    @staticmethod
    async def _one(check: Check) -> dict[str, Any]:
        began = time.perf_counter()
        try:
            found = check()
            if inspect.isawaitable(found):
                found = await found
        except Exception as error:  # noqa: BLE001 - a check is code of others, and its failure is the answer
            return {"status": "unhealthy", "latency_ms": _since(began), "error": f"{type(error).__name__}: {error}"}
        details = found if isinstance(found, dict) else {}
        return {"status": "unhealthy" if found is False else "healthy", "latency_ms": _since(began), **details}


def _since(began: float) -> float:
    return round(1000 * (time.perf_counter() - began), 3)
