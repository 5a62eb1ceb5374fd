"""Prometheus' own test scripts, whole: every `eval` passes or is skipped for a reason that is listed and counted here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from vedette.promql.testscript import run_script

# What is out of scope today, by file: reason -> number of evals. Anything that becomes possible must be taken off the list.
SKIPPED: dict[str, dict[str, int]] = {
    "start_timestamps": {"start timestamps": 14},
}


@pytest.mark.conformance_files("prometheus_prometheus/promql/promqltest/testdata/*.test")
def test_script(conformance_file: Path, conformance: Path) -> None:
    path, name = conformance_file, conformance_file.stem
    outcomes = run_script(path.read_text(), path.name, variants=True)
    failed = [f"{path.name}:{o.line}: {o.expr}: {o.problem}" for o in outcomes if not o.passed and not o.skipped]
    assert not failed, "\n".join(failed)
    assert Counter(o.skipped for o in outcomes if o.skipped) == SKIPPED.get(name, {})
    assert any(o.passed for o in outcomes) or sum(SKIPPED[name].values()) == len(outcomes)
