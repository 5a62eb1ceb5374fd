"""The engine alone, without HTTP: how fast a select reads blocks, and whether stored history slows a server down.

Data directories are written by the engine itself, as a server would have over days.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np

from bench import data, remote_write, servers
from bench.results import Outcome, Target
from vedette.clock import SystemClock
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import SampleBatch, canonical
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings

HOUR_MS = 3_600_000
LATER = 200
SELECT = (
    "One thread, in process: the engine's `select` of all samples of simulated hosts in blocks, none in memory. The decoded-page cache "
    "has its usual 128 MB and keeps nothing of a select of this size. Seconds of CPU of the process."
)
HISTORY = (
    "The engine writes hours of history (15 s apart) to a data directory and merges it; then the server is started on it: until it is "
    "ready, resident memory once it does nothing more, and after the first and two hundred more queries of the last hour "
    "(`sum by (region) (rate(devops_net_0[5m]))`, 61 steps). The promises are about CPU and memory, which other work on the machine "
    "disturbs least."
)
FIGURES = (
    ("ready", "s"),
    ("CPU until ready", "s"),
    ("memory", "MiB"),
    ("first query", "ms"),
    ("later queries", "ms"),
    ("CPU of a later query", "ms"),
    ("memory after them", "MiB"),
)
PROMISED = ("CPU until ready", "memory", "CPU of a later query", "memory after them")
QUERY = "sum by (region) (rate(devops_net_0[5m]))"


def _series(hosts: int) -> list[Labels]:
    return [Labels.of({"__name__": metric, **dict(host.tags)}) for host in data.hosts(hosts) for metric in data.metric_names()]


async def _fill(engine: Engine, series: list[Labels], times: range, *, flush_every: int) -> None:
    space, walk = canonical(), data.Walk(len(series))
    batch = SampleBatch.of(space, series, np.zeros(len(series), dtype=np.int64), np.zeros(len(series)))
    for number, at in enumerate(times, start=1):
        batch.timestamps, batch.values = np.full(len(series), at, dtype=np.int64), walk.next()
        await engine.append(batch)
        if number % flush_every == 0:
            await engine.flush()
    await engine.flush()
    await engine.compact()


def select(hosts: int, steps: int, repeats: int) -> Outcome:
    """Select `hosts * 100 * steps` samples from blocks."""
    outcome = Outcome("select", f"Select of {hosts * data.FIELDS_PER_HOST * steps:,} samples from blocks", how=SELECT)
    place = Path(tempfile.mkdtemp(prefix="bench-select-"))
    try:
        with asyncio.Runner() as runner:
            engine = Engine(StorageSettings(data=place), SystemClock())
            engine.lock()
            runner.run(engine.start())
            end = int(time.time() * 1000)
            series = _series(hosts)
            runner.run(_fill(engine, series, range(end - steps * data.STEP_MS, end, data.STEP_MS), flush_every=steps + 1))
            rates = []
            for _ in range(repeats + 1):
                began = time.process_time()
                found = engine.select("default", [Matcher("__name__", "=~", "devops_.*")], 0, end)
                rates.append(found.sample_count / (time.process_time() - began))
                if found.sample_count != len(series) * steps:
                    raise RuntimeError(f"{len(series) * steps} samples were written, {found.sample_count} are selected")
            outcome.add("samples per CPU second", "vedette", "samples/s", rates[1:])
            outcome.add("bytes per sample on disk", "vedette", "bytes", [engine.stats().block_bytes / found.sample_count])
            runner.run(engine.close())
    finally:
        shutil.rmtree(place, ignore_errors=True)
    outcome.targets.append(
        Target("millions of samples per second and core", float(np.median(rates[1:])) / 1e6, 100, "M samples/s", "budget")
    )
    outcome.notes.append(f"{len(series):,} series of 11 labels; one select first that is not counted, then {repeats}.")
    return outcome


def history(hosts: int, hours: int, times: tuple[int, ...], repeats: int) -> Outcome:
    """Start a server on `hours` of history, and on multiples of it."""
    outcome = Outcome("history", f"Start-up, memory and the last hour, with {' x, '.join(map(str, times))} x the history", how=HISTORY)
    figures: dict[str, list[float]] = {}
    for factor in times:
        runs = _with_history(hosts, hours * factor, repeats)
        for what, unit in FIGURES:
            outcome.add(f"{what}, {factor} x", "vedette", unit, [r[what] for r in runs])
            figures.setdefault(what, []).append(float(np.median([r[what] for r in runs])))
    for what in PROMISED:
        # A server's memory and CPU differ by a tenth from start to start.
        found = figures[what]
        outcome.targets.append(
            Target(f"{what}, {times[-1]} x against {times[0]} x", found[-1] / found[0], 1.25, "x", "budget", at_least=False)
        )
    outcome.notes.append(f"{hosts * data.FIELDS_PER_HOST:,} series; 1 x is {hours} hours; {repeats} starts at each size, medians.")
    return outcome


def _with_history(hosts: int, hours: int, repeats: int) -> list[dict[str, float]]:
    end = int(time.time() * 1000)
    made = Path(tempfile.mkdtemp(prefix="bench-history-"))
    try:
        with asyncio.Runner() as runner:
            engine = Engine(StorageSettings(data=made / "data", retention=0, out_of_order_window=hours * HOUR_MS), SystemClock())
            (made / "data").mkdir()
            engine.lock()
            runner.run(engine.start())
            runner.run(_fill(engine, _series(hosts), range(end - hours * HOUR_MS, end, 15_000), flush_every=480))
            runner.run(engine.close())
        (made / "data" / "lock").unlink(missing_ok=True)
        return [_start_on(made / "data", end) for _ in range(repeats)]
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _start_on(made: Path, end: int) -> dict[str, float]:
    env = servers.environment(VEDETTE_STORAGE_RETENTION="0s", VEDETTE_HOST_ENABLED="false")
    with servers.running(servers.VEDETTE, env=env, seed=lambda folder: shutil.copytree(made, folder, dirs_exist_ok=True)) as server:
        ready, cpu = time.monotonic() - server.started, server.cpu()
        remote_write.at_rest(server)  # kernels are read from the cache in the background, at every size alike
        found: dict[str, float] = {"ready": ready, "CPU until ready": cpu, "memory": server.rss() / 2**20}
        found["first query"] = _ask(server, end)
        cpu = server.cpu()
        found["later queries"] = float(np.median([_ask(server, end) for _ in range(LATER)]))
        found["CPU of a later query"] = (server.cpu() - cpu) * 1000 / LATER
        return found | {"memory after them": server.rss() / 2**20}


def _ask(server: servers.Running, end: int) -> float:
    began = time.perf_counter()
    status, body = server.get(f"/api/v1/query_range?query={quote(QUERY)}&start={end / 1000 - 3600}&end={end / 1000}&step=60")
    took = (time.perf_counter() - began) * 1000
    if status != 200 or not json.loads(body)["data"]["result"]:
        raise RuntimeError(f"the last hour cannot be asked for: {status} {body[:300]!r}")
    return took
