"""A real Prometheus reads from Vedette by remote read, and answers what Vedette holds."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(240)


def test_prometheus_answers_what_vedette_holds(launch: Any, tools: Any) -> None:
    config = launch.folder / "vedette.yml"
    config.write_text("global: {external_labels: {site: here}}\n")
    vedette = launch.vedette("--config", str(config), env=tools.environment(VEDETTE_HOST_ENABLED="false"))
    at = int(time.time()) * 1000 - 60_000
    series = [({"__name__": "m", "i": str(i)}, [(at + 1000 * k, float(i + k)) for k in range(30)]) for i in range(3)]
    assert vedette.write(series).status_code == 204
    prometheus = launch.prometheus(f"remote_read: [{{url: '{vedette.url}/api/v1/read', read_recent: true}}]\n")
    for query in ("m", "sum(rate(m[10s]))", 'm{i="2"}', "count_over_time(m[5s])"):
        when = at / 1000 + 20.5
        got, wanted = prometheus.query(query, when), vedette.query(query, when)
        plain = [{**row, "metric": {k: v for k, v in row["metric"].items() if k != "site"}} for row in got]
        assert sorted(plain, key=str) == sorted(wanted, key=str), query
        assert len(wanted) > 0
    assert all(row["metric"]["site"] == "here" for row in prometheus.query("m", at / 1000 + 20.5))
