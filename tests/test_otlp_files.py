"""The section `otlp` in Prometheus' own configuration files: the good ones load, the bad ones are refused in its words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vedette.errors import BadInput
from vedette.settings import resolve


@pytest.mark.conformance_files("prometheus_prometheus/config/testdata/otlp_*.yml")
def test_prometheus_files(conformance: Path, conformance_file: Path) -> None:
    expected = json.loads((conformance / "derived/prometheus_config_expected.json").read_text("utf-8"))
    cases = expected if isinstance(expected, list) else next(v for v in expected.values() if isinstance(v, list))
    (case,) = [c for c in cases if c["file"] == conformance_file.name]
    if case["expect"] != "error":
        resolve(path=conformance_file, environment={}, dotenv=None)
        return
    with pytest.raises(BadInput) as refused:
        resolve(path=conformance_file, environment={}, dotenv=None)
    assert all(text in str(refused.value) for text in case["error_contains_all"])


def test_the_translation_is_set_by_the_file(tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text("otlp:\n  translation_strategy: NoTranslation\n  promote_resource_attributes: [host.name]\n")
    config = resolve(path=file, environment={}, dotenv=None).config.otlp
    assert (config.translation_strategy, config.promote_resource_attributes) == ("NoTranslation", ["host.name"])
