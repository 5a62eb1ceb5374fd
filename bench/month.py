"""A month of one metric from blocks on disk: what a user has of it once it is older than a few hours.

The same queries, and the same samples, as the case in memory (`queries.run_month`). Vedette's data directory is written by its engine, a
block a day; the others are sent the samples, flush them and are started again. Not here: how answers are compared (`queries.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from bench import fleet, queries, servers
from bench.remote_write import send
from bench.results import Outcome
from bench.shapes import MONTH
from vedette.clock import SystemClock
from vedette.model.tenants import DEFAULT_TENANT
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings
from vedette.wire import remote_write

PER_REQUEST = 96
"""Times of all series in a request: 60 make a day."""
SERIES = 10
HOW = (
    "Ten series of a counter, a sample each 15 s for {days} days, all of it on disk when the server starts: Vedette's in a block a day, as "
    "its engine writes them; VictoriaMetrics' and Prometheus' as they had written it when they were stopped. The files are in the system's "
    "cache. One unmeasured query of each kind first, of all of it. {how}"
)


def write_blocks(data: Path, requests: list[bytes], per_block: int = fleet.DAY_MS // fleet.MONTH_STEP_MS // PER_REQUEST) -> None:
    """Have the engine write remote-write requests to `data`, so many to a block: a day's, unless it is said."""

    async def fill() -> None:
        engine = Engine(StorageSettings(data=data, retention=0, out_of_order_window=400 * fleet.DAY_MS), SystemClock())
        engine.lock()
        await engine.start()
        keys = remote_write.remote_write_keyspace(DEFAULT_TENANT)
        for number, body in enumerate(requests, start=1):
            await engine.append(remote_write.parse(body, keys))
            if number % per_block == 0:
                await engine.flush()
        await engine.flush()
        await engine.close()

    asyncio.run(fill())
    # A log that says nothing, of a directory that somebody held.
    (data / "lock").unlink(missing_ok=True)


def run(days: int, each: int, kinds: tuple[servers.Kind, ...]) -> Outcome:
    """Put a month of ten series on the disk for each server, start it and ask, by turns."""
    count = days * fleet.DAY_MS // fleet.MONTH_STEP_MS
    outcome = Outcome(
        "month_blocks",
        f"The same from disk: {days} days, {SERIES * count:,} samples",
        how=HOW.format(days=days, how=queries.HOW),
    )
    start_ms = int(time.time() * 1000) // 60_000 * 60_000 - days * fleet.DAY_MS
    requests = fleet.month(SERIES, days, start_ms=start_ms, per_request=PER_REQUEST)
    span = queries.Span(start_ms / 1000 + 7201.5, days * 24 - 2, 3600, start_ms / 1000)
    expression, end = f"sum(count_over_time(events_total[{days + 1}d]))", start_ms / 1000 + days * 86_400
    env = servers.environment(VEDETTE_STORAGE_RETENTION="400d")
    with contextlib.ExitStack() as stack:
        running = []
        for kind in kinds:
            ours = kind is servers.VEDETTE
            seed = (lambda data: write_blocks(data, requests)) if ours else None
            server = stack.enter_context(servers.running(kind, env=env, seed=seed))
            if not ours:
                send(server, [requests])
                queries.await_count(server, expression, end, SERIES * count)
                servers.restart(server, kind, env)
            queries.await_count(server, expression, end, SERIES * count)
            running.append(server)
        time.sleep(5)  # let what the start left in the background end
        answers = queries.measure(outcome, running, MONTH, span, each)
    queries.judge(outcome, answers, MONTH, span, each)
    return outcome
