"""Samples out of a server or a directory and in again, by the commands as a user types them."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.e2e import patient

from vedette.model.histograms import NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.storage import parquet
from vedette.wire import remote_write

pytestmark = pytest.mark.timeout(600)

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
NOW = int(time.time()) // 60 * 60_000


def _command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "vedette", "storage", *map(str, arguments)]


def _run(tools: Any, *arguments: object, status: int = 0) -> str:
    done = subprocess.run(
        _command(*arguments), capture_output=True, text=True, env=tools.environment(), timeout=patient.SECONDS, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def _lines(directory: Path) -> list[str]:
    return sorted(line for file in directory.glob("*.prom") for line in file.read_text().splitlines() if not line.startswith("#"))


@pytest.fixture(scope="module")
def server(module_launch: Any) -> Any:
    """Vedette with an hour of two series, a stale marker and infinity among it."""
    vedette = module_launch.vedette()
    times = [NOW - 3_600_000 + 15_000 * i for i in range(240)]
    odd = [(NOW - 30_000, float("inf")), (NOW - 15_000, STALE)]
    series = [
        ({"__name__": "load", "host": "a"}, [(t, i / 7) for i, t in enumerate(times)]),
        ({"__name__": "load", "host": "b"}, [*[(t, float(i)) for i, t in enumerate(times[:-2])], *odd]),
        ({"__name__": "other"}, [(NOW, 1.0)]),
    ]
    assert vedette.write(series).status_code == 204
    return vedette


@pytest.mark.parametrize("form", ["parquet", "csv", "openmetrics", "prometheus"])
def test_a_servers_samples_go_into_files_and_into_a_directory_to_the_bit(server: Any, tools: Any, tmp_path: Path, form: str) -> None:
    match = '{__name__=~"load|other"}'
    told = _run(tools, "export", tmp_path / "out", "--url", server.url, "--format", form, "--match", match)
    assert "481 samples exported" in told
    assert "481 samples imported" in _run(tools, "import", tmp_path / "out", "--data", tmp_path / "data")
    for source in (["--url", server.url], ["--data", tmp_path / "data"]):
        _run(tools, "export", tmp_path / f"from{source[0]}", *source, "--format", "prometheus", "--match", match)
    lines = _lines(tmp_path / "from--url")
    assert len(lines) == 481
    assert f'load{{host="b"}} nan {NOW - 15_000}' in lines
    assert _lines(tmp_path / "from--data") == lines


def test_files_go_into_a_server_and_what_it_refuses_is_said(server: Any, tools: Any, tmp_path: Path) -> None:
    file = tmp_path / "new.prom"
    file.write_text(f"fresh 1.5 {NOW}\nfresh nan {NOW + 1}\nold 1 1000\n")
    told = _run(tools, "import", file, "--url", server.url, status=1)
    assert "2 samples imported" in told
    assert "1 too old" in told
    assert [r["value"][1] for r in server.query("fresh", at=NOW / 1000)] == ["1.5"]
    assert server.query("fresh", at=(NOW + 1) / 1000) == []


def test_the_endpoint_refuses_what_it_cannot_do(server: Any) -> None:
    for params, problem in (
        ({}, "no match[]"),
        ({"match[]": "load", "format": "xml"}, "format"),
        ({"match[]": "load{"}, "match[]"),
        ({"match[]": ["load", "other"]}, "more than one"),
        ({"match[]": "load", "start": "x"}, "start"),
    ):
        answer = server.get("/api/v1/export", **params)
        assert answer.status_code == 400
        assert problem in answer.json()["error"]
    assert server.get("/api/v1/export", **{"match[]": "nothing"}).status_code == 204


def test_an_import_that_was_killed_goes_on_and_stores_each_sample_once(tools: Any, tmp_path: Path) -> None:
    file = tmp_path / "large.prom"
    count = 400_000
    file.write_text("".join(f'm{{i="{i % 100}",some="label to make the line longer"}} {i} {NOW - count + i}\n' for i in range(count)))
    notes = tmp_path / ".vedette-import.json"
    with subprocess.Popen(
        _command("import", file, "--data", tmp_path / "data"), env=tools.environment(), stderr=subprocess.DEVNULL
    ) as running:
        deadline = time.monotonic() + 60
        while not notes.exists():
            assert running.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
        running.send_signal(signal.SIGKILL)
    assert notes.exists()
    told = _run(tools, "import", file, "--data", tmp_path / "data")
    rest = int(told.split(":")[1].split()[0].replace(",", ""))
    assert 0 < rest < count, "it went on where it was"
    assert not notes.exists()
    assert f"{count:,} samples exported" in _run(tools, "export", tmp_path / "out", "--data", tmp_path / "data", "--format", "prometheus")
    assert [float(line.split()[-2]) for line in sorted(_lines(tmp_path / "out"), key=lambda line: int(line.split()[-1]))] == list(
        range(count)
    )


def test_promtool_reads_our_openmetrics_and_we_read_its_dump(tools: Any, debian_binary: Any, tmp_path: Path) -> None:
    promtool = debian_binary("promtool")
    start = 1_700_000_000_000
    (tmp_path / "x.csv").write_text(
        "__name__,job,timestamp,value\n"
        + "".join(f"{m},node,{start + 15_000 * i},{i / 3}\n" for i in range(20) for m in ("up", "hits_total"))
    )
    _run(tools, "import", tmp_path / "x.csv", "--data", tmp_path / "data")
    _run(tools, "export", tmp_path / "om", "--data", tmp_path / "data", "--format", "openmetrics")
    (file,) = (tmp_path / "om").glob("*.om")
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", file, tmp_path / "tsdb"],
        check=True,
        capture_output=True,
        timeout=patient.SECONDS,
    )
    (tmp_path / "tsdb" / "wal").mkdir()  # without one it reads nothing
    dump = subprocess.run(
        [promtool, "tsdb", "dump", tmp_path / "tsdb"], check=True, capture_output=True, text=True, timeout=patient.SECONDS
    ).stdout
    (tmp_path / "theirs.dump").write_text(dump)
    _run(tools, "import", tmp_path / "theirs.dump", "--data", tmp_path / "back")
    for name in ("data", "back"):
        _run(tools, "export", tmp_path / f"{name}-out", "--data", tmp_path / name, "--format", "prometheus")
    assert len(_lines(tmp_path / "data-out")) == 40
    assert _lines(tmp_path / "back-out") == _lines(tmp_path / "data-out")


def test_native_histograms_go_by_parquet_and_are_named_where_they_cannot(server: Any, tools: Any, tmp_path: Path) -> None:
    layout = Layout(2, 0.001, (), np.array([-3, 0, 4], dtype=np.int32), NO_BUCKETS)
    samples = [Histogram(layout, np.array([6.0 + i, 2.5 * i, 1.0, 1.0, 2.0, 2.0 + i])) for i in range(3)]
    body = remote_write.render([Labels.of(__name__="native")], [0, 3], [NOW - 3000, NOW - 2000, NOW - 1000], samples)
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
    assert server.post("/api/v1/write", content=body, headers=headers).status_code == 204
    match = '{__name__=~"native|other"}'
    told = _run(tools, "export", tmp_path / "text", "--url", server.url, "--format", "csv", "--match", match)
    assert "3 native histograms were left out, of native" in " ".join(told.split())
    assert "4 samples exported" in _run(tools, "export", tmp_path / "out", "--url", server.url, "--format", "parquet", "--match", match)
    data = tmp_path / "data"
    assert "4 samples imported" in _run(tools, "import", tmp_path / "out", "--data", data)
    before = _run(tools, "stats", "--data", data)
    told = _run(tools, "import", tmp_path / "out", "--data", data)
    assert "0 samples imported" in told
    assert "4 samples were there already" in told
    assert _run(tools, "stats", "--data", data) == before, "no second block of the same samples"
    _run(tools, "export", tmp_path / "again", "--data", data, "--format", "parquet", "--match", match)
    first, second = ([r for f in (tmp_path / name).glob("*.parquet") for r, _ in parquet.read(f)] for name in ("out", "again"))
    assert [h.tolist() for r in first for h in (r.times, r.values, r.histograms.cells)] == [
        h.tolist() for r in second for h in (r.times, r.values, r.histograms.cells)
    ]


def test_another_tenant_on_a_server_without_keys_is_refused(server: Any, tools: Any, tmp_path: Path) -> None:
    (tmp_path / "x.prom").write_text(f"fresh 1.5 {NOW}\n")
    told = " ".join(_run(tools, "import", tmp_path / "x.prom", "--url", server.url, "--tenant", "ci", status=2).split())
    assert "takes you for tenant 'default', not 'ci'" in told
    told = " ".join(_run(tools, "export", tmp_path / "out", "--url", server.url, "--tenant", "ci", status=2).split())
    assert "takes you for tenant 'default', not 'ci'" in told
