"""Start-up: seconds from the process's start until it answers health, takes a write and answers a query."""

from __future__ import annotations

import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

from bench import data, servers
from bench.remote_write import send
from bench.results import Outcome

HOW = (
    "From the start of the process on an empty data directory until `/-/healthy` answers 200 (asked every 5 ms), until "
    "`/-/ready` does, and until a first query is answered after that. A remote write of 2,500 new series is sent as soon as it is "
    "healthy, and again every 50 ms until it is acknowledged. "
    "Warm: compiled kernels are in the cache. Cold: `NUMBA_CACHE_DIR` is an empty directory."
)

_PATIENCE_S = 300.0


def _one_run(kind: servers.Kind, env: dict[str, str]) -> dict[str, float]:
    bodies = data.write_bodies(data.hosts(25), 1, start_ms=int(time.time() * 1000), per_request=2500)
    with servers.running(kind, env=env, wait=False) as server:
        # VictoriaMetrics and Prometheus 2.42 know one and both of these paths.
        healthy = servers.wait_for(server, "/health" if kind is servers.VICTORIA else "/-/healthy")
        with ThreadPoolExecutor(1) as sender:
            writing = sender.submit(_write, server, bodies)
            ready = servers.wait_for(server, kind.ready)
            wrote = writing.result()
        status, body = server.get(
            f"/api/v1/query?query={quote('sum by (region) (rate(devops_net_0[5m])) or count(devops_cpu_0)')}{server.query_extra}"
        )
        if status != 200:
            raise RuntimeError(f"{kind.name}: the first query: {status} {body[:300]!r}")
        return {"healthy": healthy, "ready": ready, "write": wrote, "query": time.monotonic() - server.started}


def _write(server: servers.Running, bodies: list[list[bytes]]) -> float:
    """Send until it is acknowledged; answers when, in seconds since the start."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            send(server, bodies)
        except (OSError, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return time.monotonic() - server.started


def run(repeats: int, cold_repeats: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Start each server `repeats` times warm, and Vedette `cold_repeats` times cold."""
    outcome = Outcome("startup", "Start-up", how=HOW)
    for kind in kinds:
        if kind is servers.VEDETTE:
            _one_run(kind, servers.environment())  # fills the cache
        runs = [_one_run(kind, servers.environment()) for _ in range(repeats)]
        _add(outcome, "warm", kind.name, runs)
        if kind is servers.VEDETTE:
            _add(outcome, "cold", kind.name, [_cold(kind) for _ in range(cold_repeats)])
    outcome.promise_at_most("warm, healthy", 2, "s", "first release")
    outcome.promise_at_most("cold, healthy", 15, "s", "first release")
    outcome.promise_at_most("cold, first write", 15, "s", "budget")
    outcome.notes.append(f"{repeats} warm and {cold_repeats} cold starts, medians.")
    return outcome


def _cold(kind: servers.Kind) -> dict[str, float]:
    cache = tempfile.mkdtemp(prefix="bench-numba-")
    try:
        return _one_run(kind, servers.environment(NUMBA_CACHE_DIR=cache))
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _add(outcome: Outcome, how: str, server: str, runs: list[dict[str, float]]) -> None:
    outcome.add(f"{how}, healthy", server, "s", [r["healthy"] for r in runs])
    outcome.add(f"{how}, ready", server, "s", [r["ready"] for r in runs])
    outcome.add(f"{how}, first write", server, "s", [r["write"] for r in runs])
    outcome.add(f"{how}, first query", server, "s", [r["query"] for r in runs])
