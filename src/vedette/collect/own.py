"""Vedette's own metrics as an exposition, from the registry that the rooms were given; and how a scrape of itself is known."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from vedette.collect.config import InternalTarget

SCRAPER = "x-vedette-scraper"
"""The header in which a scrape says which collector's it is, so that a server knows its own."""


def read_own(registry: CollectorRegistry) -> bytes:
    """All metrics of `registry` now, as text 0.0.4."""
    return generate_latest(registry)


def own_target(registry: CollectorRegistry, instance: str, interval_ms: int) -> InternalTarget:
    """The internal target of job `vedette`."""
    return InternalTarget("vedette", instance, lambda: read_own(registry), interval_ms)
