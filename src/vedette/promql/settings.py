"""The settings of queries, and which newer parts of the language they turn on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

from vedette.configfile import option
from vedette.model.durations import parse_duration, parse_seconds
from vedette.storage.settings import parse_size

MAX_POINTS = 11_000
"""Most steps of a range query, as in Prometheus."""

FEATURES = {
    "promql-experimental-functions": "experimental_functions",
    "promql-extended-range-selectors": "extended_range_selectors",
    "promql-binop-fill-modifiers": "binop_fill_modifiers",
    "promql-delayed-name-removal": "delayed_name_removal",
    "promql-duration-expr": "duration_expr",
    "type-and-unit-labels": "type_and_unit_labels",
    "use-start-timestamps": "use_start_timestamps",
}
"""Prometheus' names of what may be turned on, and the settings that do it."""


class Features(NamedTuple):
    """Which newer parts of the language are on: those that Prometheus 3 has off unless a feature flag is given are off here too."""

    experimental_functions: bool = False
    extended_range_selectors: bool = False
    fill_modifiers: bool = False
    duration_expr: bool = True


@dataclass(frozen=True)
class PromqlSettings:
    """How queries are run. Times in ms unless the name says otherwise."""

    lookback_ms: int = option(300_000, key="lookback", convert=parse_duration)
    max_samples: int = 50_000_000
    max_memory: int = option(4 << 30, convert=parse_size)
    max_query_memory: int = option(2 << 30, convert=parse_size)
    timeout_s: float = option(120.0, key="timeout", convert=parse_seconds)
    max_concurrency: int = 20
    max_concurrency_per_tenant: int = 15
    max_concurrency_large: int = 0
    max_queued_per_tenant: int = 500
    max_expr_bytes: int = 256 << 10
    max_points: int = MAX_POINTS
    default_subquery_step_ms: int = option(60_000, key="default_subquery_step", convert=parse_duration)
    delayed_name_removal: bool = False
    type_and_unit_labels: bool = False
    experimental_functions: bool = False
    extended_range_selectors: bool = False
    binop_fill_modifiers: bool = False
    use_start_timestamps: bool = False
    duration_expr: bool = True
    parse_cache: int = 1000
    kernel_threads: int = 2

    @property
    def large_at_once(self) -> int:
        """How many large queries run at once: as many as there are processors, unless it is set."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(self.max_concurrency_large or cores, self.max_concurrency)

    @property
    def features(self) -> Features:
        """What the parser takes, by these settings."""
        return Features(
            experimental_functions=self.experimental_functions,
            extended_range_selectors=self.extended_range_selectors,
            fill_modifiers=self.binop_fill_modifiers,
            duration_expr=self.duration_expr,
        )
