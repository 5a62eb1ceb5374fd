"""`/api/v1/status/tsdb` and `walreplay` say what a real Prometheus says that scraped the same target."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)

CONFIG = "scrape_configs: [{{job_name: t, scrape_interval: 1s, static_configs: [{{targets: ['{target}']}}]}}]\n"


def _until(server: Any, count: int) -> Any:
    deadline = time.monotonic() + 60
    while True:
        found = server.data("/api/v1/status/tsdb")
        if found["seriesCountByMetricName"] and found["seriesCountByMetricName"][0] == {"name": "dominant", "value": count}:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_both_rank_alike(launch: Any, site: Any, tmp_path: Any) -> None:
    site.text("/metrics", lambda: "".join(f'dominant{{index="{i:05}",large="{"x" * 400}{i % 7}"}} {i}\n' for i in range(900)))
    config = CONFIG.format(target=site.address)
    file = tmp_path / "p.yml"
    file.write_text(config)
    ours, theirs = launch.vedette("--config", str(file)), launch.prometheus(config)
    mine, real = _until(ours, 900), _until(theirs, 900)
    assert mine.keys() == real.keys()
    assert mine["headStats"].keys() == real["headStats"].keys()
    for ranking, top in (("labelValueCountByLabelName", 1), ("seriesCountByMetricName", 1)):
        assert mine[ranking][:top] == real[ranking][:top], ranking
    # Prometheus before 2.47 counts a value's bytes once, later ones (and Vedette) once for each series that has it.
    assert dict.fromkeys(("name", "value")) == dict.fromkeys(mine["memoryInBytesByLabelName"][0])
    assert mine["memoryInBytesByLabelName"][0] == {"name": "large", "value": 900 * 401}
    instance = site.address
    of_target = {"__name__=dominant", "job=t", f"instance={instance}"} | {f"large={'x' * 400}{i}" for i in range(7)}

    def pairs(found: Any) -> dict[str, int]:
        return {row["name"]: row["value"] for row in found["seriesCountByLabelValuePair"] if row["name"] in of_target}

    shared = pairs(mine).keys() & pairs(real).keys()
    assert len(shared) >= 3
    assert {name: pairs(mine)[name] for name in shared} == {name: pairs(real)[name] for name in shared}
    state, real_state = ours.data("/api/v1/status/walreplay"), theirs.data("/api/v1/status/walreplay")
    assert state.keys() == real_state.keys() | {"state"}, "which Prometheus 3 has"
    assert state["state"] == "done"
    assert len(ours.data("/api/v1/status/tsdb", limit=50)["seriesCountByLabelValuePair"]) == 50
    grown = ours.data("/api/v1/status/tsdb", growth="true", limit=1)["growth"]
    assert grown["seriesCountByMetricName"] == [{"name": "dominant", "value": 900}]
