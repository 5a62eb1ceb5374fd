"""The servers under measurement: Vedette from this checkout, Debian's Prometheus and VictoriaMetrics.

Each runs alone, on loopback, on a free port, with a fresh data directory that is removed afterwards. CPU time is
what the kernel accounts to the process and its children, memory what it reports as resident.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A TCP port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Missing(Exception):
    """A peer's binary is not installed; the text names the Debian package."""


def _cpu(pid: int) -> float:
    """CPU seconds of a process, to the nanosecond: `/proc` counts in hundredths, which is a third of what ten thousand new series take."""
    # The clock of a process, as `clock_getcpuclockid(3)` makes it up.
    return time.clock_gettime(~pid << 3 | 2)


@dataclass
class Running:
    """A started server."""

    name: str
    port: int
    data: Path
    log: Path
    process: subprocess.Popen[bytes]
    started: float
    query_extra: str = ""

    def cpu(self) -> float:
        """CPU seconds (user + system) used so far by the process and its living children."""
        parent = psutil.Process(self.process.pid)
        return sum(_cpu(one.pid) for one in [parent, *parent.children(recursive=True)])

    def rss(self) -> int:
        """Resident bytes now."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def forget_peak(self) -> None:
        """Let `peak` count from now on."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5", encoding="ascii")

    def peak(self) -> int:
        """The most bytes that were resident at once, since the start or since `forget_peak`."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("the kernel does not tell VmHWM")

    def disk(self) -> int:
        """Bytes allocated on disk in the data directory."""
        total = 0
        for folder, _, names in os.walk(self.data):
            for name in names:
                try:
                    total += (Path(folder) / name).stat().st_blocks * 512
                except FileNotFoundError:
                    continue
        return total

    def connect(self) -> http.client.HTTPConnection:
        """A keep-alive connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)

    def get(self, path: str) -> tuple[int, bytes]:
        """One GET on a connection of its own: (status, body)."""
        connection = self.connect()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@dataclass(frozen=True)
class Kind:
    """How one server is started. `ready` is the path that answers 200 once it serves."""

    name: str
    binary: str
    package: str
    ready: str
    query_extra: str = ""
    options: tuple[str, ...] = ()

    def path(self) -> str:
        """The binary's path. Raises `Missing`."""
        if self.name == "vedette":
            found = Path(sys.executable).parent / "vedette"
            if not found.exists():
                raise Missing("vedette is not installed in this environment: make install")
            return str(found)
        path = shutil.which(self.binary)
        if path is None:
            raise Missing(f"{self.binary} is not installed: apt install {self.package}")
        return path

    def version(self) -> str:
        """The version the binary states."""
        if self.name == "vedette":
            answer = subprocess.run([self.path(), "version"], capture_output=True, text=True, check=True)
            return answer.stdout.strip().splitlines()[0]
        self.path()
        package = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", self.package], capture_output=True, text=True, check=False)
        return f"Debian {package.stdout.strip() or 'package of unknown version'}"

    def arguments(self, port: int, data: Path, config: Path | None) -> list[str]:
        """The command line, with `config` a prometheus.yml to scrape by."""
        if self.name == "vedette":
            command = [self.path(), "serve", "--host", "127.0.0.1", "--port", str(port), "--data", str(data)]
            return [*command, "--config", str(config)] if config else command
        if self.name == "prometheus":
            if config is None:
                config = data.parent / "prometheus.yml"
                config.write_text("global: {}\n", encoding="utf-8")
            return [
                self.path(),
                f"--config.file={config}",
                f"--storage.tsdb.path={data}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--web.enable-remote-write-receiver",
                "--query.max-samples=200000000",
                "--storage.tsdb.retention.time=1y",
                *self.options,
            ]
        command = [
            self.path(),
            f"-storageDataPath={data}",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-search.latencyOffset=0s",
            "-retentionPeriod=12",
            *self.options,
        ]
        return [*command, f"-promscrape.config={config}"] if config else command


VEDETTE = Kind("vedette", "vedette", "", "/-/ready")
PROMETHEUS = Kind("prometheus", "prometheus", "prometheus", "/-/ready")
VICTORIA = Kind("victoria-metrics", "victoria-metrics", "victoria-metrics", "/health", "&nocache=1")
ALL = (VEDETTE, PROMETHEUS, VICTORIA)


def environment(**extra: str) -> dict[str, str]:
    """This process's environment as a user's would be: bytecode is cached, nothing of Vedette is preset."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "DATABASE_URL") and not k.startswith("VEDETTE_")}
    return {**kept, **extra}


def wait_for(server: Running, path: str, seconds: float = 120.0) -> float:
    """Poll `path` every 5 ms until it answers 200; the time that took since the server's start, in seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            status, _ = server.get(path)
        except (OSError, http.client.HTTPException):
            status = 0
        if status == 200:
            return time.monotonic() - server.started
        time.sleep(0.005)
    ended = server.process.poll()
    what = f"did not answer 200 on {path} within {seconds:g} s" if ended is None else f"ended with status {ended}"
    tail = server.log.read_text(encoding="utf-8", errors="replace")[-1000:]
    raise RuntimeError(f"{server.name} {what}; its log ends:\n{tail}")


@contextmanager
def running(
    kind: Kind,
    *,
    config: str | None = None,
    env: dict[str, str] | None = None,
    wait: bool = True,
    seed: Callable[[Path], object] | None = None,
) -> Iterator[Running]:
    """Start a server on an empty data directory, give it once it is ready, stop it and remove what it wrote.

    `seed` fills the directory before it starts.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{kind.name}-"))
    server: Running | None = None
    try:
        data = folder / "data"
        data.mkdir()
        if seed is not None:
            seed(data)
        config_file = None
        if config is not None:
            config_file = folder / "scrape.yml"
            config_file.write_text(config, encoding="utf-8")
        server = _launch(kind, data, config_file, env or environment())
        if wait:
            wait_for(server, kind.ready)
        yield server
    finally:
        if server is not None:
            _stop(server.process)
        shutil.rmtree(folder, ignore_errors=True)


def _launch(kind: Kind, data: Path, config: Path | None, env: dict[str, str]) -> Running:
    port, log = free_port(), data.parent / "log"
    with log.open("ab") as out:
        started = time.monotonic()
        process = subprocess.Popen(kind.arguments(port, data, config), stdout=out, stderr=subprocess.STDOUT, cwd=data.parent, env=env)
    return Running(kind.name, port, data, log, process, started, kind.query_extra)


def kill_and_restart(server: Running, kind: Kind, env: dict[str, str] | None = None) -> None:
    """End the server as a crash would (SIGKILL) and start it again on its data, at another port; it is not waited for."""
    server.process.kill()
    server.process.wait()
    again = _launch(kind, server.data, None, env or environment())
    server.process, server.port, server.started = again.process, again.port, again.started


def restart(server: Running, kind: Kind, env: dict[str, str] | None = None) -> None:
    """End the server as its user would (SIGTERM), so that it writes what it has to disk, and start it again on its data."""
    _stop(server.process)
    again = _launch(kind, server.data, None, env or environment())
    server.process, server.port, server.started = again.process, again.port, again.started
    wait_for(server, kind.ready)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
