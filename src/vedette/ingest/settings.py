"""The settings of what comes in: tracked metrics, OTLP, exemplars. Not here: what each tenant may (`storage.limits`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vedette.configfile import option
from vedette.errors import BadInput
from vedette.model.durations import parse_duration
from vedette.wire.otlp_names import STRATEGIES, Names, Strategy

MOST_EXEMPLARS = 100_000
"""As many as Prometheus keeps unless told otherwise."""


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """Limits and shapes of tracked metrics."""

    max_series: int = 10_000
    """How many series may be tracked at once; one that was idle for a day makes room."""
    collection_interval: int = option(60_000, convert=parse_duration)
    """How often values that nobody changed are written again, until they were idle for a day; 0: never."""
    batch_size: int = 10_000
    """The most metrics of one request."""
    timeout: int = option(30_000, convert=parse_duration)
    """How long a request waits for its metrics to be durable, before it is told that they may not be."""
    max_points: int = 1000
    """Over how many of its last observations a summary's quantiles are taken."""
    buckets: list[float] = option(factory=lambda: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
    """Upper bounds of a histogram's buckets, rising; `+Inf` is added."""
    metric_buckets: dict[str, list[float]] = option(factory=dict)
    """Bounds for the histograms of these names."""

    def __post_init__(self) -> None:
        for key, bounds in {"buckets": self.buckets, **{f"metric_buckets.{m}": b for m, b in self.metric_buckets.items()}}.items():
            if not bounds or not all(map(math.isfinite, bounds)) or sorted(set(bounds)) != list(bounds):
                raise BadInput(f"{key}: not bucket bounds: {bounds}", where=key.partition(".")[0], hint="expected rising finite numbers")
        for name in ("max_series", "max_points", "batch_size", "timeout"):
            if getattr(self, name) < 1:
                raise BadInput(f"{getattr(self, name)} where at least 1 is expected", where=name)


def parse_strategy(text: str) -> Strategy:
    """A translation strategy by its name. Raises `BadInput`."""
    found = next((s for s in STRATEGIES if s == text), None)
    if found is None:
        raise BadInput(f'unsupported OTLP translation strategy "{text}"', hint="expected one of " + ", ".join(STRATEGIES))
    return found


@dataclass(frozen=True, slots=True)
class OtlpConfig:
    """`otlp` of a Prometheus configuration."""

    promote_all_resource_attributes: bool = False
    """Whether every attribute of a resource is a label of its series."""
    promote_resource_attributes: list[str] = option(factory=list)
    """Which attributes are."""
    ignore_resource_attributes: list[str] = option(factory=list)
    """Which are not, where all others are."""
    translation_strategy: Strategy = option("UnderscoreEscapingWithSuffixes", convert=parse_strategy)
    """What becomes of names."""
    keep_identifying_resource_attributes: bool = False
    """Whether `target_info` has `service.name` and the like, besides `job` and `instance`."""
    convert_histograms_to_nhcb: bool = False
    """Whether histograms with bounds are stored as native ones."""
    promote_scope_metadata: bool = False
    """Whether series have labels `otel_scope_…`."""
    label_name_underscore_sanitization: bool = True
    """Whether `_a` is `key_a`."""
    label_name_preserve_multiple_underscores: bool = True
    """Whether several underscores in a row stay."""

    def __post_init__(self) -> None:
        if self.promote_all_resource_attributes and self.promote_resource_attributes:
            raise BadInput("'promote_all_resource_attributes' and 'promote_resource_attributes' cannot be configured simultaneously")
        if self.ignore_resource_attributes and not self.promote_all_resource_attributes:
            raise BadInput("'ignore_resource_attributes' cannot be configured unless 'promote_all_resource_attributes' is true")
        for key, done in (("promote_resource_attributes", "promoted"), ("ignore_resource_attributes", "ignored")):
            names = _stripped(getattr(self, key))
            found = [f'duplicated {done} OTel resource attribute "{n}"' for i, n in enumerate(names) if n and n in names[:i]]
            found += [f"empty {done} OTel resource attribute"] if "" in names else []
            if found:
                raise BadInput(f"invalid '{key}': " + "; ".join(found), where=key)

    @property
    def names(self) -> Names:
        """How names are made."""
        return Names(self.translation_strategy, self.label_name_preserve_multiple_underscores, self.label_name_underscore_sanitization)

    def promoted(self, attributes: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """Those of a resource's attributes that are labels of its series."""
        if self.promote_all_resource_attributes:
            ignored = _stripped(self.ignore_resource_attributes)
            return [(name, value) for name, value in attributes if name not in ignored]
        wanted = _stripped(self.promote_resource_attributes)
        return [(name, value) for name, value in attributes if name in wanted]


def _stripped(names: Sequence[str]) -> list[str]:
    return [name.strip() for name in names]
