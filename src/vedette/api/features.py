"""`/api/v1/features`: what this server's query language and API can do, by Prometheus' names, and whether it is turned on.

Clients such as editors ask it before they offer a function. Only what is here is named. Not here: the settings themselves
(`/api/v1/status/flags`).
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from vedette.api.answers import success
from vedette.api.endpoint import Endpoint
from vedette.api.scores import ALGORITHMS
from vedette.promql.engine import Engine
from vedette.promql.lexer import AGGREGATORS, OPERATORS
from vedette.promql.settings import PromqlSettings
from vedette.promql.signatures import FUNCTIONS
from vedette.rules.template import FUNCTIONS as TEMPLATE_FUNCTIONS

_API = (
    "exclude_alerts", "label_values_match", "otlp_write_receiver", "query_stats", "query_warnings", "remote_write_receiver", "search",
    "time_range_labels", "time_range_series",
)  # fmt: skip
_EXPERIMENTAL_AGGREGATORS = frozenset(("limitk", "limit_ratio"))


def listed(settings: PromqlSettings) -> dict[str, dict[str, bool]]:
    """The features by category, each with whether it is on by these settings; names in order."""
    experimental = settings.experimental_functions
    found = {
        "api": dict.fromkeys((*_API, *(f"search_fuzz_alg_{name}" for name in ALGORITHMS)), True),
        "promql": {
            "anchored": settings.extended_range_selectors,
            "at_modifier": True,
            "bool": True,
            "by": True,
            "delayed_name_removal": settings.delayed_name_removal,
            "duration_expr": settings.duration_expr,
            **dict.fromkeys(("fill", "fill_left", "fill_right"), settings.binop_fill_modifiers),
            **dict.fromkeys(("group_left", "group_right", "ignoring", "negative_offset", "offset", "on"), True),
            "per_query_lookback_delta": True,
            "per_step_stats": True,
            "smoothed": settings.extended_range_selectors,
            "subqueries": True,
            "type_and_unit_labels": settings.type_and_unit_labels,
            "without": True,
        },
        "promql_functions": {name: experimental or not function.experimental for name, function in FUNCTIONS.items()},
        "promql_operators": {
            **dict.fromkeys(OPERATORS, True),
            **{name: experimental or name not in _EXPERIMENTAL_AGGREGATORS for name in AGGREGATORS},
        },
        "rules": {"keep_firing_for": True, "query_offset": True},
        "service_discovery_providers": dict.fromkeys(("file", "http", "static"), True),
        "templating_functions": dict.fromkeys(TEMPLATE_FUNCTIONS, True),
        "tsdb": {"native_histograms": True},
    }
    return {category: dict(sorted(names.items())) for category, names in found.items()}


@dataclass(frozen=True, slots=True)
class FeatureQueries:
    """The operation over the engine's settings."""

    engine: Engine

    async def found(self, request: Request) -> Response:
        """The features by category."""
        return success(listed(self.engine.settings))


def endpoints(features: FeatureQueries) -> list[Endpoint]:
    """The operation of this room."""
    return [Endpoint("/api/v1/features", features.found, "What can be asked, and what of it is turned on", tag="status")]
