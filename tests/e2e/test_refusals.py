"""Bad input, line by line: what cannot be accepted is one clear line and exit status 2, or a 400 that points; nothing is touched."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cramjam
import pytest
from tests.e2e import patient

pytestmark = pytest.mark.timeout(600)

SCRAPE = "scrape_configs:\n  - job_name: web\n    static_configs: [{targets: ['127.0.0.1:1']}]\n"


def _serve(tools: Any, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`vedette serve` that is expected to refuse at once."""
    command = [sys.executable, "-m", "vedette", "serve", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=tools.environment(), timeout=patient.SECONDS, check=False
    )


def _assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0], lines[0]


CONFIGS = {
    "unknown_key_at_the_top": ("surprise: 1\n" + SCRAPE, ("prometheus.yml:1", "surprise")),
    "unknown_key_in_a_job": (SCRAPE + "    scrape_intervall: 5s\n", ("prometheus.yml:4", "scrape_intervall", "scrape_interval")),
    "bad_duration": ("global:\n  scrape_interval: 5 parsecs\n" + SCRAPE, ("prometheus.yml:2", "scrape_interval", "5 parsecs")),
    "bad_regex": (
        SCRAPE + "    relabel_configs:\n      - {source_labels: [a], regex: '(unclosed', action: keep}\n",
        ("prometheus.yml:5", "regex", "(unclosed"),
    ),
    "timeout_above_interval": (SCRAPE + "    scrape_interval: 1s\n    scrape_timeout: 5s\n", ("prometheus.yml:", "scrape_timeout", "web")),
    "job_named_twice": (SCRAPE + "  - job_name: web\n", ("prometheus.yml:", "web")),
    "not_yaml": ("global: [\n", ("prometheus.yml:",)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_bad_configuration_touches_nothing(tools: Any, free_port: Any, tmp_path: Path, name: str) -> None:
    text, words = CONFIGS[name]
    (tmp_path / "prometheus.yml").write_text(text, encoding="utf-8")
    done = _serve(tools, tmp_path, "--config", "prometheus.yml", "--data", "data", "--port", str(free_port()))
    _assert_refused(done, *words)
    assert not (tmp_path / "data").exists()
    checked = subprocess.run(
        [sys.executable, "-m", "vedette", "check", "config", "prometheus.yml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=patient.SECONDS,
        check=False,
    )
    _assert_refused(checked, *words)


def test_a_bad_rule_file_points_into_the_expression(tools: Any, free_port: Any, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(
        "groups:\n  - name: g\n    rules:\n      - alert: Broken\n        expr: sum(rate(x[5m])\n", encoding="utf-8"
    )
    (tmp_path / "prometheus.yml").write_text("rule_files: [rules.yml]\n", encoding="utf-8")
    done = _serve(tools, tmp_path, "--config", "prometheus.yml", "--data", "data", "--port", str(free_port()))
    _assert_refused(done, "rules.yml:5", "parse error")
    assert not (tmp_path / "data").exists()


def test_a_configuration_that_is_not_there(tools: Any, tmp_path: Path) -> None:
    _assert_refused(_serve(tools, tmp_path, "--config", "absent.yml", "--data", "data"), "absent.yml", "No such file")
    assert not (tmp_path / "data").exists()


def test_a_port_in_use(tools: Any, tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        _assert_refused(_serve(tools, tmp_path, "--data", "data", "--port", str(port)), str(port), "in use")
    assert not (tmp_path / "data").exists()


def test_a_data_directory_locked_by_another_process(launch: Any, tools: Any, free_port: Any, tmp_path: Path) -> None:
    server = launch.vedette(data=tmp_path / "data")
    done = _serve(tools, tmp_path, "--data", str(tmp_path / "data"), "--port", str(free_port()))
    _assert_refused(done, str(tmp_path / "data"), "locked by another process", str(server.popen.pid))
    assert server.get("/-/healthy").status_code == 200


def test_a_data_directory_that_cannot_be_written(tools: Any, free_port: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    done = _serve(tools, tmp_path, "--data", str(tmp_path / "file" / "data"), "--port", str(free_port()))
    _assert_refused(done, str(tmp_path / "file"))
    # Root may write anywhere but on a kernel's own file system.
    done = _serve(tools, tmp_path, "--data", "/proc/vedette", "--port", str(free_port()))
    _assert_refused(done, "/proc/vedette")
    if os.getuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o500)
        _assert_refused(_serve(tools, tmp_path, "--data", str(tmp_path / "closed" / "d"), "--port", str(free_port())), "closed")


def test_listening_beyond_loopback_without_authentication(tools: Any, free_port: Any, tmp_path: Path) -> None:
    done = _serve(tools, tmp_path, "--host", "0.0.0.0", "--data", "data", "--port", str(free_port()))
    _assert_refused(done, "0.0.0.0", "--insecure")
    assert not (tmp_path / "data").exists()


def test_a_wrong_flag(tools: Any, tmp_path: Path) -> None:
    _assert_refused(_serve(tools, tmp_path, "--port", "99999", "--data", "data"), "99999")
    _assert_refused(_serve(tools, tmp_path, "--listen", "nonsense=1", "--data", "data"), "nonsense")


@pytest.fixture(scope="module")
def server(module_launch: Any) -> Any:
    """A server holding one known sample, which no bad input may change."""
    vedette = module_launch.vedette()
    assert vedette.write([({"__name__": "kept"}, [(int(time.time() * 1000), 42.0)])]).status_code == 204
    return vedette


def _labels(*pairs: tuple[str, str]) -> dict[str, str]:
    return dict(pairs)


def _bad_bodies(tools: Any) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    good = tools.write_request([({"__name__": "bad", "a": "1"}, [(1_700_000_000_000, 1.0)])])
    snappy = bytes(cramjam.snappy.compress_raw(good))

    def packed(raw: bytes) -> bytes:
        return bytes(cramjam.snappy.compress_raw(raw))

    def request(labels: Sequence[tuple[str, str]]) -> bytes:
        one = b"".join(_label(n, v) for n, v in labels) + b"\x12\x10\x09" + struct.pack("<d", 1.0) + b"\x10\x80\xd0\x95\xff\xbc\x31"
        return packed(b"\x0a" + bytes([len(one)]) + one)

    return {
        "truncated_snappy": (snappy[: len(snappy) // 2], ("snappy",)),
        "not_snappy": (b"\xff" * 40, ("snappy",)),
        "length_past_its_end": (packed(b"\x0a\x7f" + good[2:]), ("byte",)),
        "declared_4_GiB": (b"\xff\xff\xff\xff\x0f" + b"\x00" * 16, ("byte",)),
        "declared_past_limit": (b"\x80\x80\x80\x80\x04" + b"\x00" * 16, ("byte",)),
        "labels_out_of_order": (request([("b", "1"), ("__name__", "bad")]), ("order", "__name__")),
        "labels_duplicated": (request([("__name__", "bad"), ("a", "1"), ("a", "2")]), ("a",)),
        "an_empty_label_name": (request([("", "x"), ("__name__", "bad")]), ("empty",)),
        "an_empty_metric_name": (request([("__name__", ""), ("a", "1")]), ("__name__",)),
        "no_metric_name": (request([("a", "1")]), ("__name__",)),
    }


def _label(name: str, value: str) -> bytes:
    inner = b"\x0a" + bytes([len(name)]) + name.encode() + b"\x12" + bytes([len(value)]) + value.encode()
    return b"\x0a" + bytes([len(inner)]) + inner


BODY_NAMES = [
    "truncated_snappy",
    "not_snappy",
    "length_past_its_end",
    "declared_4_GiB",
    "declared_past_limit",
    "labels_out_of_order",
    "labels_duplicated",
    "an_empty_label_name",
    "an_empty_metric_name",
    "no_metric_name",
]


@pytest.mark.parametrize("name", BODY_NAMES)
def test_a_broken_remote_write_body_is_refused_and_harms_nothing(server: Any, tools: Any, name: str) -> None:
    bodies = _bad_bodies(tools)
    assert list(bodies) == BODY_NAMES
    body, words = bodies[name]
    before = _resident(server.popen.pid)
    answer = server.post("/api/v1/write", content=body, headers=tools.write_headers)
    assert answer.status_code == 400, (answer.status_code, answer.text)
    for word in words:
        assert word in answer.text, answer.text
    assert _resident(server.popen.pid) - before < 100 << 20, "memory stays bounded"
    assert not server.query("bad", 1_700_000_000)
    assert server.value("last_over_time(kept[1h])") == 42


def _resident(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def test_one_bad_series_keeps_only_itself_out(server: Any, tools: Any) -> None:
    at = int(time.time() * 1000)
    raw = tools.write_request([({"__name__": "innocent"}, [(at, 1.0)]), ({"z": "1", "__name__": "guilty"}, [(at, 1.0)])])
    answer = server.post("/api/v1/write", content=bytes(cramjam.snappy.compress_raw(raw)), headers=tools.write_headers)
    assert answer.status_code == 400
    assert "z" in answer.text
    assert [row["metric"]["__name__"] for row in server.query('{__name__=~"innocent|guilty"}')] == ["innocent"]


def test_wrong_media_types_are_refused(server: Any, tools: Any) -> None:
    body = tools.write_body([({"__name__": "bad"}, [(1_700_000_000_000, 1.0)])])
    assert server.post("/api/v1/write", content=body, headers={**tools.write_headers, "Content-Encoding": "gzip"}).status_code == 415
    unknown = {**tools.write_headers, "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v3.Request"}
    assert server.post("/api/v1/write", content=body, headers=unknown).status_code == 415


@pytest.mark.parametrize(
    ("expr", "position"),
    [
        ("sum(up", "1:7"),
        ('up{job="x', "1:8"),
        ("rate(up)", "1:6"),
        ("up[5 parsecs]", "1:"),
        ("no_such_function(up)", "1:1"),
        ("up +", "1:5"),
        ("", "1:1"),
    ],
)
def test_a_bad_query_points(server: Any, expr: str, position: str) -> None:
    for path, more in (("/api/v1/query", {}), ("/api/v1/query_range", {"start": "1", "end": "2", "step": "1"})):
        answer = server.get(path, query=expr, **more)
        assert answer.status_code == 400, answer.text
        body = answer.json()
        assert (body["status"], body["errorType"]) == ("error", "bad_data")
        assert position in body["error"], body["error"]
        assert "parse error" in body["error"], body["error"]


def test_bad_parameters_are_named(server: Any) -> None:
    for path, asked, word in (
        ("/api/v1/query", {"query": "up", "time": "yesterday"}, "time"),
        ("/api/v1/query_range", {"query": "up", "start": "2", "end": "1", "step": "1"}, "end"),
        ("/api/v1/query_range", {"query": "up", "start": "1", "end": "2", "step": "0"}, "step"),
        ("/api/v1/query_range", {"query": "up", "start": "0", "end": "1000000", "step": "1"}, "11,000"),
        ("/api/v1/series", {}, "match[]"),
    ):
        answer = server.get(path, **asked)
        assert answer.status_code == 400, (path, answer.text)
        assert answer.json()["errorType"] == "bad_data"
        assert word in answer.json()["error"], answer.text


def test_the_lock_is_released_by_a_kill(launch: Any, tmp_path: Path) -> None:
    """The lock is the kernel's, so a killed server leaves none behind."""
    first = launch.vedette(data=tmp_path / "data")
    first.kill()
    held = [p for p in (tmp_path / "data").iterdir() if "lock" in p.name.lower()]
    assert held
    with held[0].open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
