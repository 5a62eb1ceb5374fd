"""Debian's Prometheus over the samples of a `MemoryStorage`, and what it answers."""

from __future__ import annotations

import json
import math
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vedette.promql.memory import MemoryStorage


@contextmanager
def served(storage: MemoryStorage, room: Path) -> Iterator[str]:
    """A Prometheus that holds the storage's samples, in the folder `room`: its address. Skips the test where there is none."""
    for name in ("prometheus", "promtool"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed: apt install prometheus")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    written = ((str(labels).replace(", ", ","), points) for labels, points in storage.samples.items())
    lines = [f"{labels} {_number(value)} {when / 1000:.3f}" for labels, points in written for when, value in points.items()]
    (room / "data.om").write_text("\n".join([*lines, "# EOF", ""]))
    (room / "prometheus.yml").write_text("global: {}\n")
    made = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(room / "data.om"), str(room / "tsdb")],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr.decode()
    with (room / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                "prometheus", f"--config.file={room / 'prometheus.yml'}", f"--storage.tsdb.path={room / 'tsdb'}",
                "--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        _until_ready(f"http://127.0.0.1:{port}/-/ready", server, room / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def need(version: str) -> None:
    """Skip the test unless Prometheus is of this version: others word some refusals otherwise."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed: apt install prometheus")
    told = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=False)
    if f"version {version}." not in told.stdout + told.stderr:
        pytest.skip(f"prometheus is not {version}, as in Debian 12: {(told.stdout + told.stderr).splitlines()[:1]}")


def _number(value: object) -> str:
    assert isinstance(value, float), "the text format has no native histograms"
    return "NaN" if math.isnan(value) else f"{value:+}" if math.isinf(value) else repr(value)


def _until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)  # between two looks, until the deadline
    raise AssertionError(f"Prometheus was not ready in time: {log.read_text()}")


def answered(address: str, path: str, params: dict[str, str]) -> tuple[str, object]:
    """What `/api/v1/<path>` answers, as its `resultType` and `result`; or "text" and what was formatted, or "error" and the message."""
    request = urllib.request.Request(f"{address}/api/v1/{path}", data=urllib.parse.urlencode(params).encode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            data = json.load(answer)["data"]
            return ("text", data) if isinstance(data, str) else (data["resultType"], data["result"])
    except urllib.error.HTTPError as error:
        return "error", json.load(error)["error"].removeprefix('invalid parameter "query": ')
