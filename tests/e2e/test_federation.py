"""A real Prometheus scrapes `/federate` in protobuf, native histograms included, and answers what Vedette holds."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from vedette.model.histograms import NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.wire import remote_write

pytestmark = pytest.mark.timeout(600)


def test_prometheus_takes_native_histograms_from_federation(launch: Any, tools: Any) -> None:
    vedette = launch.vedette(env=tools.environment(VEDETTE_HOST_ENABLED="false"))
    layout = Layout(1, 0.001, (), np.array([1, 2, 3], dtype=np.int32), NO_BUCKETS)
    h = Histogram(layout, np.array([10.0, 18.4, 1, 2, 3, 4]))
    config = (
        "global: {scrape_interval: 1s}\n"
        "scrape_configs:\n"
        "  - job_name: federation\n"
        "    honor_labels: true\n"
        "    metrics_path: /federate\n"
        "    params: {'match[]': ['{job=\"shop\"}']}\n"
        f"    static_configs: [{{targets: ['{vedette.url.removeprefix('http://')}']}}]\n"
    )
    prometheus = launch.prometheus(config, flags=["--enable-feature=native-histograms"])
    series = [Labels.of(__name__="h", job="shop"), Labels.of(__name__="f", job="shop")]
    deadline = time.monotonic() + 60
    got: dict[str, float] = {}
    while len(got) < 3 and time.monotonic() < deadline:
        now = int(time.time() * 1000)
        body = remote_write.render(series, [0, 1, 2], [now, now], [h, 2.5])
        headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
        assert vedette.post("/api/v1/write", content=body, headers=headers).status_code == 204
        for query in ("histogram_count(h)", "histogram_sum(h)", "f"):
            found = prometheus.query(query, time.time())
            if found:
                got[query] = float(found[0]["value"][1])
        time.sleep(0.2)
    assert got == {"histogram_count(h)": 10.0, "histogram_sum(h)": 18.4, "f": 2.5}
    quantile = "histogram_quantile(0.9, h)"
    (ours,), (theirs,) = vedette.query(quantile, time.time()), prometheus.query(quantile, time.time())
    assert math.isclose(float(ours["value"][1]), float(theirs["value"][1]), rel_tol=0.05), "2.42 interpolates linearly"


def test_selectors_that_any_series_passes_select_what_they_select_in_prometheus(launch: Any, site: Any, tools: Any, tmp_path: Any) -> None:
    site.text("/metrics", lambda: 'm{a="b"} 1\nn 2\n')
    config = f"scrape_configs: [{{job_name: one, scrape_interval: 1s, static_configs: [{{targets: ['{site.address}']}}]}}]\n"
    file = tmp_path / "p.yml"
    file.write_text(config)
    servers = launch.vedette("--config", str(file)), launch.prometheus(config)

    def names(server: Any, *selectors: str) -> tuple[int, list[str]]:
        answer = server.get("/federate", **{"match[]": list(selectors)})
        of_job = [line for line in answer.text.splitlines() if 'job="one"' in line]
        return answer.status_code, sorted(line.partition("{")[0] for line in of_job if line[:2] in ("m{", "n{"))

    for server in servers:
        tools.eventually(lambda server=server: names(server, "m", "n") == (200, ["m", "n"]), f"{server.name} has both series")
    ours, theirs = servers
    for selectors in (["{}"], ['{a=""}'], ['{a=~".*"}'], ["{}", "m"], [], [""], ["{"], ["sum(m)"]):
        assert names(ours, *selectors) == names(theirs, *selectors), selectors
    assert names(ours, "{}") == (200, [])
    assert names(ours, '{a=""}') == (200, ["n"])
