"""Vedette scrapes Debian's exporters in protobuf, and stores what it stores of their text."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)

CONFIG = """\
global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs:
  - job_name: proto
    scrape_native_histograms: true
    static_configs: [{{targets: ["{target}"]}}]
  - job_name: text
    static_configs: [{{targets: ["{target}"]}}]
"""


def plain(name: str, value: str) -> str:
    """Bounds as numbers: text 0.0.4 writes 1 where OpenMetrics and protobuf have 1.0."""
    return repr(float(value)) if name in ("le", "quantile") else value


@pytest.mark.parametrize("kind", ["node_exporter", "prometheus"])
def test_both_formats_of_a_real_exporter_are_the_same_series(launch: Any, tools: Any, kind: str) -> None:
    exporter = launch.node_exporter() if kind == "node_exporter" else launch.prometheus("global: {}\n")
    file = launch.folder / "prometheus.yml"
    file.write_text(CONFIG.format(target=exporter.url.removeprefix("http://")))
    vedette = launch.vedette("--config", str(file), env=tools.environment(VEDETTE_HOST_ENABLED="false"))
    tools.eventually(lambda: vedette.value('min_over_time(up{job="proto"}[1m]) + on (instance) up{job="text"}') == 2, "both scrapes are up")

    def series(job: str) -> set[tuple[tuple[str, str], ...]]:
        found = vedette.data("/api/v1/series", **{"match[]": f'{{job="{job}",__name__!~"up|scrape_.*"}}'})
        return {tuple(sorted((k, plain(k, v)) for k, v in labels.items() if k != "job")) for labels in found}

    def same() -> bool:
        proto, text = series("proto"), series("text")
        # Some series come and go with requests; what is in both formats at all has the same name and labels.
        return len(proto) > 100 and len(proto ^ text) <= len(proto) // 50

    tools.eventually(same, "both jobs have the same series")
    answer = vedette.data("/api/v1/metadata", metric="go_goroutines")
    assert answer["go_goroutines"][0]["type"] == "gauge"
