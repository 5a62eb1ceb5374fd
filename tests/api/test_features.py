"""What the server says it can do, beside what Prometheus says of itself, and beside what it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vedette.api.features import listed
from vedette.promql.errors import ParseError
from vedette.promql.parse import parse
from vedette.promql.settings import PromqlSettings

EVERYTHING = PromqlSettings(
    delayed_name_removal=True,
    type_and_unit_labels=True,
    experimental_functions=True,
    extended_range_selectors=True,
    binop_fill_modifiers=True,
)


def test_the_language_is_prometheus_s_with_the_same_parts_on(conformance: Path) -> None:
    golden = json.loads((conformance / "prometheus_prometheus" / "cmd" / "prometheus" / "testdata" / "features.json").read_text())
    ours = listed(PromqlSettings())
    for category in ("promql_functions", "promql_operators"):
        assert ours[category] == golden[category]
    # The counts of each step are given to whoever asks for them.
    assert ours["promql"] == golden["promql"] | {"per_step_stats": True}
    for category in ("rules", "service_discovery_providers", "tsdb"):
        assert ours[category].items() <= golden[category].items(), "only what is here is named"
    assert ours["templating_functions"] == golden["templating_functions"]
    # What Prometheus' flags turn on is on here: writing by others, and the search.
    turned_on = dict.fromkeys(("otlp_write_receiver", "remote_write_receiver", "search"), True)
    assert ours["api"].items() <= (golden["api"] | turned_on).items()
    assert ours["api"].items() >= turned_on.items()


def test_what_is_turned_on_is_said_to_be_on() -> None:
    on = listed(EVERYTHING)
    assert all(all(names.values()) for names in on.values())
    assert {category: list(names) for category, names in on.items()} == {c: list(n) for c, n in listed(PromqlSettings()).items()}


@pytest.mark.parametrize("settings", [PromqlSettings(), EVERYTHING], ids=["as it comes", "everything on"])
def test_what_is_said_to_be_on_is_read(settings: PromqlSettings) -> None:
    said = listed(settings)
    samples = {
        "info": "info(x)", "start_timestamp": "start_timestamp(x)", "mad_over_time": "mad_over_time(x[5m])", "abs": "abs(x)",
        "limitk": "limitk(1, x)", "sum": "sum(x)", "</": "x </ 1", "atan2": "x atan2 y", "smoothed": "rate(x[5m] smoothed)",
        "fill": "x + fill(0) y", "fill_left": "x + fill_left(0) y", "duration_expr": "x[5m * 2]", "at_modifier": "x @ 5",
    }  # fmt: skip
    flat = {name: on for category in ("promql", "promql_functions", "promql_operators") for name, on in said[category].items()}
    for name, query in samples.items():
        try:
            parse(query, settings.features)
        except ParseError:
            assert not flat[name], f"{name} is said to be on"
        else:
            assert flat[name], f"{name} is said to be off"
