"""Prometheus' own test scripts, whole: every `eval` passes, experimental ones included."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.promql.testscript import run_script


@pytest.mark.conformance_files("prometheus_prometheus/promql/promqltest/testdata/*.test")
def test_script(conformance_file: Path, conformance: Path) -> None:
    outcomes = run_script(conformance_file.read_text(), conformance_file.name, variants=True)
    failed = [f"{conformance_file.name}:{o.line}: {o.expr}: {o.problem}" for o in outcomes if not o.passed]
    assert not failed, "\n".join(failed)
    assert outcomes
