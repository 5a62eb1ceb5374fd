"""Whatever the description allows, and much that it does not, is answered: schemathesis makes requests up, none may end in a 5xx."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# What stops, reloads or never ends is left out; bodies in protobuf, which it cannot make, are `test_protobuf_bodies.py`'s.
LEFT_OUT = r"/-/(reload|quit)|/live|/tail"


@pytest.mark.timeout(600)
def test_no_request_ends_in_a_server_error(launch: Any, tools: Any, tmp_path: Path) -> None:
    # With a key: without one, the first user that it makes up would close the door behind it.
    env = tools.environment(API_KEY="root-key", VEDETTE_HOST_ENABLED="false", VEDETTE_STORAGE_ADMIN_API="true")
    server = launch.vedette(env=env)
    server.client.headers["Authorization"] = "Bearer root-key"
    report = tmp_path / "report.json"
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", server.url + "/openapi.json"),
        *("--header", "Authorization: Bearer root-key", "--checks", "not_a_server_error", "--max-examples", "5"),
        *("--phases", "examples,fuzzing", "--exclude-path-regex", LEFT_OUT, "--generation-deterministic", "--request-timeout", "30"),
        *("--report", "ndjson", "--report-ndjson-path", str(report), "--no-color", "--suppress-health-check", "all"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=tmp_path, check=False)
    assert "Test cases:" in done.stdout, done.stdout[-3000:] + done.stderr[-2000:]
    assert "Server error" not in done.stdout, done.stdout[-6000:]
    assert server.get("/health").json()["status"] == "healthy"
    assert report.exists()
    assert len([json.loads(line) for line in report.read_text().splitlines()]) > 100
    assert "Traceback" not in server.logged()
