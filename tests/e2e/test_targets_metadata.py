"""`/api/v1/targets/metadata` says what a real Prometheus says that scrapes the same targets."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)

PAGE = """\
# HELP b_total all b
# TYPE b_total counter
b_total 1
# TYPE a gauge
a 2
# HELP only_help some \\\\ help\\nline
only_help 3
bare 1
# TYPE h histogram
h_bucket{le="+Inf"} 1
h_sum 1
h_count 1
"""

ASKED: list[dict[str, str]] = [
    {},
    {"metric": "a"},
    {"metric": "only_help"},
    {"metric": "bare"},
    {"metric": "h_bucket"},
    {"metric": "up"},
    {"match_target": '{job="one"}'},
    {"match_target": '{rack=""}', "metric": "a"},
    {"match_target": '{job="none"}'},
    {"match_target": "{}"},
    {"match_target": "up"},
    {"match_target": "{"},
    {"limit": "0"},
    {"limit": "3", "match_target": '{job="one"}'},
    {"limit": "-1", "metric": "a"},
    {"limit": "x"},
    {"limit": "1.5"},
]


def test_both_tell_the_same(launch: Any, site: Any, tools: Any, tmp_path: Any) -> None:
    site.text("/metrics", lambda: PAGE)
    jobs = [
        f"{{job_name: {name}, scrape_interval: 1s, static_configs: [{{targets: ['{site.address}']{labels}}}]}}"
        for name, labels in (("one", ""), ("two", ", labels: {rack: r1}"))
    ]
    config = f"scrape_configs: [{', '.join(jobs)}]\n"
    file = tmp_path / "p.yml"
    file.write_text(config)
    servers = launch.vedette("--config", str(file)), launch.prometheus(config)

    def entries(server: Any, asked: dict[str, str]) -> Any:
        body = server.get("/api/v1/targets/metadata", **asked).json()
        if isinstance(body.get("data"), list):
            # Prometheus' order is that of a hash table. What only Vedette scrapes, itself and this machine, is left out.
            body["data"] = sorted((e for e in body["data"] if e["target"]["job"] in ("one", "two")), key=repr)
        return body

    for server in servers:
        tools.eventually(lambda server=server: len(entries(server, {})["data"]) == 8, f"{server.name} knows both targets")
    ours, theirs = servers
    for asked in ASKED:
        mine, real = entries(ours, asked), entries(theirs, asked)
        assert mine.get("data") == real.get("data"), asked
        assert mine.get("error") == real.get("error"), asked
