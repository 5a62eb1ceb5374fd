"""What all rooms' tests share: free ports, the conformance data, Debian's binaries, what the description of the server says."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from vedette.records.database import Records

# A kernel's first call compiles it, so an example has no deadline; what it costs is bench/'s business.
# CI tries the same examples each time, so that it tells of the change and not of luck; everybody else tries new ones.
hypothesis.settings.register_profile("vedette", deadline=None, max_examples=100, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("vedette")

_ROOT = Path(__file__).resolve().parent.parent

# Where a binary comes from, for the skip that names it.
_PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "victoria-metrics": "victoria-metrics",
    "chromium": "chromium",
    "redis-server": "redis-server",
    "initdb": "postgresql",
}


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A function giving a TCP port of 127.0.0.1 that was free a moment ago and that it has not given before."""
    given: set[int] = set()

    def pick() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in given:
                given.add(port)
                return port

    return pick


@pytest.fixture(scope="session")
def bad_input() -> Any:
    """`docs/bad_input.py`: what the server's description says, and what to ask of it."""
    spec = importlib.util.spec_from_file_location("bad_input", _ROOT / "docs" / "bad_input.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bad_input"] = module  # where its dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def _records_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("records") / "vedette.db"

    async def make() -> None:
        await (await Records.open(path)).close()

    # On a thread, where no loop runs yet, whoever asks for the first one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, make()).result()
    return path


@pytest.fixture
def empty_records(_records_template: Path, tmp_path: Path) -> Path:
    """A database of records with nothing in it, in the test's directory: its schema takes four times as long to make as to copy."""
    return Path(shutil.copy(_records_template, tmp_path / "vedette.db"))


_CONFORMANCE = Path(os.environ.get("VEDETTE_CONFORMANCE") or _ROOT.parent / "shared" / "conformance")


@pytest.fixture(scope="session")
def conformance() -> Path:
    """The conformance data (`VEDETTE_CONFORMANCE`, or ../shared/conformance beside the repository); skips without it."""
    if not _CONFORMANCE.is_dir():
        pytest.skip(f"no conformance data at {_CONFORMANCE}: set VEDETTE_CONFORMANCE to where it is")
    return _CONFORMANCE


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each file that `@pytest.mark.conformance_files(GLOB)` finds, as its argument `conformance_file`.

    The data comes in parts, so which files there are is found out, not listed. Without any the test is left with the
    pattern, for `conformance` to skip.
    """
    marker = metafunc.definition.get_closest_marker("conformance_files")
    if marker is not None:
        (pattern,) = marker.args
        found = sorted(_CONFORMANCE.glob(pattern)) or [_CONFORMANCE / pattern]
        metafunc.parametrize("conformance_file", found, ids=[path.name for path in found])


@pytest.fixture(scope="session")
def debian_binary() -> Callable[[str], str]:
    """A function giving the path of a Debian binary; skips the test, naming the package, where it is not installed."""

    def find(name: str) -> str:
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not installed: apt install {_PACKAGES[name]}")
        return found

    return find


class PostgresServer:
    """A PostgreSQL of the tests' own, on a port of 127.0.0.1 and a socket in its directory; user `postgres`, any password.

    It runs as the user `postgres` where the tests run as root, whom PostgreSQL refuses.
    """

    def __init__(self, binaries: Path, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self._binaries = binaries
        self._run("initdb", "-D", str(directory / "data"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")

    def start(self) -> None:
        """Start it, and return once it answers."""
        # Synced to disk is for power loss, which no test brings about; without it a test takes a tenth of the time.
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.directory} -c fsync=off"
        log = str(self.directory / "log")
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-w", "-t", "60", "-l", log, "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; `immediate` as if it had crashed. Stopped already is fine."""
        if (self.directory / "data" / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", str(self.directory / "data"), "-w", "-m", mode, "stop")

    def new_database(self) -> str:
        """The URL (`postgresql://…`) of a fresh, empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        return f"postgresql://postgres:sesame@127.0.0.1:{self.port}/{name}"

    def sql(self, database: str, statement: str) -> list[str]:
        """The rows that a statement answers, columns joined by `|`; `database` is a name or a URL of `new_database`."""
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database.rpartition("/")[2])
        return self._run("psql", *where, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement).splitlines()

    def _run(self, name: str, *arguments: str) -> str:
        command: Sequence[str] = [str(self._binaries / name), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        # Into a file and not a pipe, which the server that pg_ctl leaves behind would hold open.
        with tempfile.TemporaryFile("w+") as out:
            done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, cwd="/", timeout=90, check=False)
            out.seek(0)
            text = out.read()
        assert done.returncode == 0, f"{name} failed: {text}"
        return text


def _postgres_binaries() -> Path:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    found = str(versions[-1]) if versions else shutil.which("initdb")
    if found is None:
        pytest.skip(f"initdb is not installed: apt install {_PACKAGES['initdb']}")
    return Path(found).parent


@pytest.fixture(scope="session")
def new_postgres_server(free_port: Callable[[], int]) -> Iterator[Callable[[], PostgresServer]]:
    """A function giving a started PostgreSQL that one test may stop and start; skips where none is installed."""
    made: list[PostgresServer] = []

    def make() -> PostgresServer:
        binaries = _postgres_binaries()
        # Not under pytest's own directories, which the user postgres may not enter.
        directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(directory, user.pw_uid, user.pw_gid)
        made.append(PostgresServer(binaries, directory, free_port()))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.stop("immediate")
        shutil.rmtree(server.directory)


@pytest.fixture(scope="session")
def postgres_server(new_postgres_server: Callable[[], PostgresServer]) -> PostgresServer:
    """A running PostgreSQL that all tests share: leave it running, and use databases of your own."""
    return new_postgres_server()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> str:
    """The URL of an empty database of the test's own."""
    return postgres_server.new_database()
