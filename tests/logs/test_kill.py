"""kill -9 at any moment: what was acknowledged is there after the restart, once, and all of it can be read."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.logs.conftest import Opened

from vedette.logs.query import LogQuery

WRITER = """
import asyncio, logging, sys
from pathlib import Path
import structlog
from vedette.clock import SystemClock
from vedette.logs.settings import LogSettings
from vedette.logs.store import LogStore
from vedette.model.logs import LogBuilder

# Standard output is for acknowledgements.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))

async def main():
    store = LogStore(Path(sys.argv[1]), LogSettings(flush_lines=300, flush_interval=200, retention=0), SystemClock())
    await store.start()
    n = int(sys.argv[2])
    while True:
        builder = LogBuilder(max_bytes=1000)
        for i in range(50):
            builder.add(1_700_000_000_000_000_000 + n + i, 3, "s", f"line {n + i}")
        await store.append("acme", builder.build())
        n += 50
        print(n, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("seed", [1, 2])
async def test_killed_while_writing_flushing_and_merging(opened: Opened, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged = 0
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "logs"), str(acknowledged)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        said = int(child.stdout.readline())
        until = time.monotonic() + chance.uniform(0.2, 1.2)
        while time.monotonic() < until:
            said = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read().split()
        child.stdout.close()
        child.wait()
        acknowledged = max([said, *map(int, rest[:-1])])
        store = await opened()
        page = await store.search("acme", LogQuery(limit=1_000_000))
        await store.close()
        counted = Counter(int(row.message.split()[1]) for row in page.rows)
        missing = [n for n in range(acknowledged) if n not in counted]
        assert not missing
        assert store.counts.corrupt == 0
        assert set(counted.values()) == {1}
        # A batch under way at the kill may be there without having been acknowledged: the next run goes on behind it.
        acknowledged = max(counted) + 1
