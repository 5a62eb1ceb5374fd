"""The PostgreSQL backend: how fast samples go in and come out, beside PostgreSQL alone with the same rows in the same table."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench import data, servers
from bench.results import Outcome
from vedette.clock import SystemClock
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import SampleBatch, canonical
from vedette.storage.postgres import binary
from vedette.storage.postgres.engine import Postgres
from vedette.storage.settings import StorageSettings

HOW = (
    "In process, to a PostgreSQL of its own with its usual settings (fsync on): the backend appends simulated hosts' samples, a batch "
    "a step, then selects all of them. PostgreSQL alone: `psql` copies files with the very same rows, one a step, into a table with the "
    "same columns and key, and out of it again. Samples per second of wall time."
)


@contextmanager
def _server() -> Iterator[str]:
    """The URL of an empty database of a PostgreSQL that ends with it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        raise servers.Missing("initdb is not installed: apt install postgresql")
    place = Path(tempfile.mkdtemp(prefix="bench-postgres-"))
    user: list[str] = []
    if os.geteuid() == 0:
        who = pwd.getpwnam("postgres")
        os.chown(place, who.pw_uid, who.pw_gid)
        user = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(name: str, *arguments: str) -> None:
        with (place.parent / f"{place.name}.log").open("ab") as log:
            subprocess.run([*user, str(found[-1] / name), *arguments], stdout=log, stderr=log, cwd="/", check=True)

    try:
        run("initdb", "-D", str(place / "data"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={place}"
        run("pg_ctl", "-D", str(place / "data"), "-w", "-l", str(place / "log"), "-o", options, "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", str(place / "data"), "-w", "-m", "fast", "stop")
    finally:
        shutil.rmtree(place, ignore_errors=True)
        (place.parent / f"{place.name}.log").unlink(missing_ok=True)


def _psql(url: str, statement: str) -> float:
    began = time.perf_counter()
    subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statement], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


async def _ours(url: str, steps: list[tuple[int, np.ndarray]], series: list[Labels]) -> tuple[float, list[float]]:
    """Samples per second of appending, and of each of three selects."""
    place = Path(tempfile.mkdtemp(prefix="bench-postgres-data-"))
    storage = Postgres(StorageSettings(data=place, backend="postgres", url=url), SystemClock())
    try:
        await storage.start()
        batch = SampleBatch.of(canonical(), series, np.zeros(len(series), dtype=np.int64), np.zeros(len(series)))
        # The first step makes the series, which is another figure's business.
        batch.timestamps = np.full(len(series), steps[0][0] - data.STEP_MS, dtype=np.int64)
        await storage.append(batch)
        began = time.perf_counter()
        for at, values in steps:
            batch.timestamps, batch.values = np.full(len(series), at, dtype=np.int64), values
            await storage.append(batch)
        took = time.perf_counter() - began
        selects = []
        for _ in range(3):
            began = time.perf_counter()
            found = await asyncio.to_thread(storage.select, "default", [Matcher("__name__", "=~", "devops_.*")], 0, 1 << 60)
            selects.append(found.sample_count / (time.perf_counter() - began))
            if found.sample_count != (len(steps) + 1) * len(series):
                raise RuntimeError(f"{found.sample_count} samples are selected")
        return len(steps) * len(series) / took, selects
    finally:
        await storage.close()
        shutil.rmtree(place, ignore_errors=True)


def _theirs(url: str, steps: list[tuple[int, np.ndarray]], series: int) -> tuple[float, list[float]]:
    """The same of PostgreSQL alone."""
    place = Path(tempfile.mkdtemp(prefix="bench-postgres-rows-"))
    try:
        columns = "ts bigint NOT NULL, value double precision NOT NULL, id bigint NOT NULL, series_id integer NOT NULL"
        _psql(url, f"CREATE TABLE alone ({columns}, histogram bytea, PRIMARY KEY (series_id, ts))")
        numbers = np.arange(series, dtype=np.int32)
        for k, (at, values) in enumerate(steps):
            rows = binary.encode(np.full(series, at, dtype=np.int64), values, numbers.astype(np.int64) + k * series, numbers)
            (place / str(k)).write_bytes(rows)
        copies = [f"\\copy alone (ts, value, id, series_id) FROM '{place / str(k)}' (FORMAT binary)" for k in range(len(steps))]
        (place / "script").write_text("\n".join(copies) + "\n")
        began = time.perf_counter()
        subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f", str(place / "script")], check=True)
        took = time.perf_counter() - began
        total = len(steps) * series
        out = "COPY (SELECT series_id, ts, value FROM alone) TO STDOUT (FORMAT binary)"
        return total / took, [total / _psql(url, out) for _ in range(3)]
    finally:
        shutil.rmtree(place, ignore_errors=True)


def run(hosts: int, steps: int, repeats: int) -> Outcome:
    """Write and read `hosts * 100 * steps` samples."""
    series = [Labels.of({"__name__": metric, **dict(host.tags)}) for host in data.hosts(hosts) for metric in data.metric_names()]
    outcome = Outcome("postgres", f"PostgreSQL as the store: {len(series) * steps:,} samples", how=HOW)
    walk = data.Walk(len(series))
    begin = int(time.time() * 1000) - (steps + 1) * data.STEP_MS
    load = [(begin + k * data.STEP_MS, walk.next().copy()) for k in range(steps)]
    written: dict[str, list[float]] = {"vedette": [], "postgresql alone": []}
    read: dict[str, list[float]] = {"vedette": [], "postgresql alone": []}
    for _ in range(repeats):
        with _server() as url:
            rate, selects = asyncio.run(_ours(url, load, series))
            written["vedette"].append(rate)
            read["vedette"] += selects
            rate, selects = _theirs(url, load, len(series))
            written["postgresql alone"].append(rate)
            read["postgresql alone"] += selects
    for name in written:
        outcome.add("samples written per second", name, "samples/s", written[name])
        outcome.add("samples read per second", name, "samples/s", read[name])
    outcome.promise_ratio("samples written per second", "postgresql alone", 0.5, "budget")
    outcome.promise_ratio("samples read per second", "postgresql alone", 0.5, "budget")
    return outcome
