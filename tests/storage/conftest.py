"""Backends and batches for the storage tests."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from vedette.clock import Clock, ManualClock, SystemClock
from vedette.model.labels import Labels
from vedette.model.samples import KeySpace, SampleBatch, canonical
from vedette.storage import compaction
from vedette.storage.disk import Disk
from vedette.storage.engine import Engine
from vedette.storage.postgres.engine import Postgres
from vedette.storage.remote.engine import Remote
from vedette.storage.remote.settings import RemoteSettings
from vedette.storage.settings import StorageSettings

NOW = 1_700_000_000_000

Rows = Sequence[tuple[Labels, Sequence[tuple[int, float]]]]
OpenEngine = Callable[..., Awaitable[Engine]]
Contents = Mapping[Labels, Sequence[tuple[int, int]]]


def batch_of(rows: Rows, keyspace: KeySpace) -> SampleBatch:
    """A batch of several samples a series."""
    whole = SampleBatch.of(keyspace, [labels for labels, _ in rows], [0] * len(rows), [0.0] * len(rows))
    whole.offsets = np.cumsum([0, *(len(samples) for _, samples in rows)], dtype=np.int64)
    whole.timestamps = np.array([t for _, samples in rows for t, _ in samples], dtype=np.int64)
    whole.values = np.array([v for _, samples in rows for _, v in samples], dtype=np.float64)
    return whole


class Tools:
    """What tests say things with."""

    now = NOW
    batch = staticmethod(batch_of)

    @staticmethod
    def metric(name: str, /, **labels: str) -> Labels:
        return Labels.of({"__name__": name, **labels})

    @staticmethod
    def contents(engine: Engine, tenant: str = "default", start: int = -(1 << 62), end: int = 1 << 62) -> Contents:
        """All of a tenant's samples as (time, value bits)."""
        found = engine.select(tenant, [], start, end)
        bits = found.values.view(np.int64)
        rows = {}
        for i, labels in enumerate(found.labels):
            span = slice(int(found.offsets[i]), int(found.offsets[i + 1]))
            assert labels not in rows, "a label set occurs twice"
            rows[labels] = list(zip(found.timestamps[span].tolist(), bits[span].tolist(), strict=True))
        return rows


@pytest.fixture
def tools() -> type[Tools]:
    return Tools


@pytest.fixture
def keyspace() -> KeySpace:
    return canonical()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW / 1000)


@pytest.fixture
async def open_engine(tmp_path: Path, clock: ManualClock) -> AsyncIterator[OpenEngine]:
    """Opens (and at the end closes) engines on one directory; keywords are settings."""
    opened: list[Engine] = []

    async def open_(*, clock_: Clock | None = None, disk: Disk | None = None, **settings: object) -> Engine:
        engine = Engine(StorageSettings(**({"data": tmp_path / "data"} | settings)), clock_ or clock, disk=disk)  # type: ignore[arg-type]
        engine.lock()
        await engine.start()
        opened.append(engine)
        return engine

    yield open_
    for engine in opened:
        await engine.close()


@pytest.fixture
def only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine merges by itself when its clock has moved on; tests that take this say when."""
    monkeypatch.setattr(compaction, "_EVERY", 1e12)


@pytest.fixture
async def open_postgres(tmp_path: Path, clock: ManualClock, postgres_url: str) -> AsyncIterator[Callable[..., Awaitable[Postgres]]]:
    """Opens (and at the end closes) PostgreSQL backends on one empty database; keywords are settings."""
    opened: list[Postgres] = []

    async def open_(*, clock_: Clock | None = None, **settings: object) -> Postgres:
        given = {"data": tmp_path / "data", "backend": "postgres", "url": postgres_url} | settings
        backend = Postgres(StorageSettings(**given), clock_ or clock)  # type: ignore[arg-type]
        backend.lock()
        await backend.start()
        opened.append(backend)
        return backend

    yield open_
    for backend in opened:
        await backend.close()


class Peer:
    """A running server that speaks Prometheus' API: `settled()` once what was sent to it can be asked for."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self.process = process

    def get(self, path: str) -> bytes:
        """The body of one GET."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return bytes(answer.read())

    def ready(self, path: str, seconds: float = 30.0) -> None:
        """Return once `path` answers."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.get(path)
                return
            except OSError:
                assert self.process.poll() is None, "the server has ended"
                assert time.monotonic() < deadline, "the server does not answer"
                time.sleep(0.02)

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start_peer(tmp_path: Path, free_port: Callable[[], int], debian_binary: Callable[[str], str]) -> Iterator[Callable[..., Peer]]:
    """Starts a Debian server, `prometheus` or `victoria-metrics`, with an empty store; `port` for one that comes back."""
    started: list[Peer] = []

    def start(name: str, *, port: int | None = None, flags: Sequence[str] = ()) -> Peer:
        binary, number = debian_binary(name), port or free_port()
        store = tmp_path / name
        if name == "prometheus":
            config = tmp_path / "prometheus.yml"
            config.write_text("global: {scrape_interval: 1h}\n", "utf-8")
            own = [f"--config.file={config}", f"--storage.tsdb.path={store}", f"--web.listen-address=127.0.0.1:{number}"]
            own += ["--web.enable-remote-write-receiver", "--storage.tsdb.retention.time=100y"]
        else:
            own = [f"-storageDataPath={store}", f"-httpListenAddr=127.0.0.1:{number}", "-retentionPeriod=100y"]
            own += ["-search.latencyOffset=0s", "-search.disableCache"]
        with (tmp_path / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([binary, *own, *flags], stdout=log, stderr=log)
        started.append(Peer(f"http://127.0.0.1:{number}", process))
        started[-1].ready("/-/ready" if name == "prometheus" else "/health")
        return started[-1]

    yield start
    for peer in started:
        peer.end()


@pytest.fixture
async def open_remote(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Callable[..., Awaitable[Remote]]]:
    """Opens (and at the end closes) remote backends on a server's URL; keywords are settings of storage, `remote` those of the section."""
    opened: list[Remote] = []

    async def open_(url: str, *, clock_: Clock | None = None, remote: Mapping[str, object] | None = None, **settings: object) -> Remote:
        given = {"data": tmp_path / "data", "backend": "remote"} | settings
        section = RemoteSettings(**({"url": url} | dict(remote or {})))  # type: ignore[arg-type]
        backend = Remote(StorageSettings(**given), section, clock_ or SystemClock())  # type: ignore[arg-type]
        backend.lock()
        await backend.start()
        opened.append(backend)
        return backend

    yield open_
    for backend in opened:
        await backend.close()
