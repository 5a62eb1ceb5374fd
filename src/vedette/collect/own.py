"""Vedette's own metrics as an exposition, from the registry that the rooms were given."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from vedette.collect.config import InternalTarget


def read_own(registry: CollectorRegistry) -> bytes:
    """All metrics of `registry` now, as text 0.0.4."""
    return generate_latest(registry)


def own_target(registry: CollectorRegistry, instance: str, interval_ms: int) -> InternalTarget:
    """The internal target of job `vedette`."""
    return InternalTarget("vedette", instance, lambda: read_own(registry), interval_ms)
