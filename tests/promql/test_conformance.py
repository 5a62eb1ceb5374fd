"""Prometheus' own test scripts, whole: every `eval` passes or is skipped for a reason that is listed and counted here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from vedette.promql.testscript import run_script

NATIVE = "native histograms"

# What is out of scope today, by file: reason -> number of evals. Anything that becomes possible must be taken off the list.
SKIPPED: dict[str, dict[str, int]] = {
    "aggregators": {NATIVE: 20},
    "extended_vectors": {NATIVE: 10},
    "functions": {NATIVE: 49},
    "histograms": {NATIVE: 89},
    "info": {NATIVE: 1},
    "limit": {NATIVE: 36},
    "native_histograms": {NATIVE: 293},
    "operators": {NATIVE: 12},
    "start_timestamps": {"start timestamps": 11, NATIVE: 3},
}
FILES = (
    "aggregators", "at_modifier", "collision", "duration_expression", "extended_vectors", "fill-modifier", "functions", "histograms",
    "info",    "limit", "literals", "name_label_dropping", "native_histograms", "operators", "range_queries", "selectors", "staleness",
    "start_timestamps", "subquery", "trig_functions", "type_and_unit",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_script(name: str, conformance: Path) -> None:
    path = conformance / "prometheus_prometheus" / "promql" / "promqltest" / "testdata" / f"{name}.test"
    if not path.exists():
        pytest.skip(f"{path.name} is not in this part of the conformance data")
    outcomes = run_script(path.read_text(), path.name, variants=True)
    failed = [f"{path.name}:{o.line}: {o.expr}: {o.problem}" for o in outcomes if not o.passed and not o.skipped]
    assert not failed, "\n".join(failed)
    assert Counter(o.skipped for o in outcomes if o.skipped) == SKIPPED.get(name, {})
    assert any(o.passed for o in outcomes) or sum(SKIPPED[name].values()) == len(outcomes)
