"""Graphite, StatsD and pushed groups on a running server: each by one command, `kill -9`, and a port that is taken."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import patient

pytestmark = pytest.mark.timeout(600)

CONFIG = """
vedette:
  host: {{enabled: false}}
  graphite: {{tcp: '127.0.0.1:{graphite}'}}
  statsd: {{udp: '127.0.0.1:{statsd}', interval: 1s}}
  pushed: {{interval: 1s}}
"""


def test_what_is_pushed_is_stored_and_pushed_groups_outlive_kill_9(
    launch: Any, tools: Any, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    ports = {"graphite": free_port(), "statsd": free_port()}
    config = tmp_path / "vedette.yml"
    config.write_text(CONFIG.format(**ports))
    server = launch.vedette("--config", str(config))
    with socket.create_connection(("127.0.0.1", ports["graphite"])) as sender:
        sender.sendall(b"servers.web1.load;dc=ams 0.25\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
        packets.sendto(b"shop.orders:3|c|#env:prod", ("127.0.0.1", ports["statsd"]))
    answer = patient.put(f"{server.url}/metrics/job/backup/instance/db1", content=b"# TYPE backup_bytes gauge\nbackup_bytes 3e9\n")
    assert answer.status_code == 200
    tools.eventually(lambda: server.value('backup_bytes{job="backup",instance="db1"}') == 3e9, "the pushed value")
    tools.eventually(lambda: server.value('servers_web1_load{dc="ams"}') == 0.25, "Graphite's line")
    tools.eventually(lambda: server.value('shop_orders{env="prod"}') == 3, "StatsD's counter")
    server.kill()

    again = launch.vedette("--config", str(config))
    tools.eventually(lambda: again.value("count_over_time(backup_bytes[1h])") > 2, "the group is written again")
    assert "backup_bytes" in again.get("/pushgateway/metrics").text
    assert again.value('last_over_time(servers_web1_load{dc="ams"}[1h])') == 0.25
    assert patient.delete(f"{again.url}/metrics/job/backup/instance/db1").status_code == 202
    tools.eventually(lambda: again.query("backup_bytes") == [], "the end of the group's series")


def test_a_port_that_is_taken_is_one_line_and_status_2(tools: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        command = [str(Path(sys.executable).parent / "vedette"), "serve", "--data", str(tmp_path / "data"), "--port", "0"]
        done = subprocess.run(
            [*command, "--graphite", str(busy)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=tools.environment(),
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"vedette: graphite.tcp: cannot listen on 127.0.0.1:{busy}: ")
