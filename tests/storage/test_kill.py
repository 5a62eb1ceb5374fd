"""SIGKILL at any moment: every acknowledged sample is there after the restart, exactly once."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vedette.clock import SystemClock
from vedette.model.matchers import Matcher
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings

# Appends batch after batch from several tasks, each acknowledged on stdout; flushes now and then, with new series among the old.
CHILD = """
import asyncio, sys
from pathlib import Path
from vedette.clock import SystemClock
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch, canonical
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings

async def main(data, first):
    engine = Engine(StorageSettings(data=Path(data), segment_size=40_000, retention=0), SystemClock())
    engine.lock()
    await engine.start()
    space, number = canonical(), first
    print("ready", flush=True)
    async def send():
        nonlocal number
        while True:
            number += 1
            mine = number
            rows = [Labels.of({"__name__": "kill", "i": str(i), "batch": str(mine // 50)}) for i in range(20)]
            await engine.append(SampleBatch.of(space, rows, [mine] * 20, [float(mine)] * 20))
            print(mine, flush=True)
    async def flush():
        while True:
            await asyncio.sleep(0.02)
            await engine.flush()
    await asyncio.gather(send(), send(), send(), flush())

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def run_and_kill(data: Path, first: int, patience: float) -> list[int]:
    """Run the child, kill it `patience` seconds after it is ready; answers the batches it acknowledged."""
    with subprocess.Popen([sys.executable, "-c", CHILD, str(data), str(first)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line == "ready\n":
                break
        else:
            pytest.fail(f"the child ended: {child.wait()}")
        time.sleep(patience)  # not a wait for anything: it is the moment of the blow
        child.send_signal(signal.SIGKILL)
        # A last line may be cut off by the blow.
        return [int(line) for line in child.stdout if line.endswith("\n") and line.strip().isdecimal()]


async def acknowledged_are_there(data: Path, acknowledged: set[int]) -> None:
    engine = Engine(StorageSettings(data=data, retention=0), SystemClock())
    engine.lock()
    await engine.start()
    try:
        for i in (0, 19):
            found = engine.select("default", [Matcher("i", "=", str(i))], -(1 << 62), 1 << 62)
            times = found.timestamps.tolist()
            assert len(times) == len(set(times)), "a sample is there twice"
            assert found.values.tolist() == [float(t) for t in times]
            assert not acknowledged - set(times), "acknowledged samples are lost"
        assert engine.counters()["wal_corrupt_records"] == engine.counters()["wal_orphan_samples"] == 0
    finally:
        await engine.close()


def test_every_acknowledged_sample_survives_a_kill(tmp_path):
    rng = random.Random(7)
    acknowledged: set[int] = set()
    for _ in range(5):
        acknowledged.update(run_and_kill(tmp_path / "data", max(acknowledged, default=0) + 1000, rng.uniform(0.05, 0.5)))
        asyncio.run(acknowledged_are_there(tmp_path / "data", acknowledged))
    assert len(acknowledged) > 50
