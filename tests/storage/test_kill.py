"""SIGKILL at any moment: every acknowledged sample is there after the restart, exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vedette.clock import SystemClock
from vedette.model.matchers import Matcher
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings

# Appends batch after batch from several tasks, each acknowledged on stdout; flushes now and then, with new series among the old;
# merges blocks; takes snapshots; deletes what series 7 has, up to a time that is acknowledged as "-time".
CHILD = """
import asyncio, logging, shutil, sys
from pathlib import Path
import numpy as np
import structlog
from vedette.clock import SystemClock
from vedette.model.histograms import NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import SampleBatch, canonical
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings

# Standard output is for acknowledgements; an error among them fails the test.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))

async def main(data, first):
    engine = Engine(StorageSettings(data=Path(data), segment_size=40_000, retention=0), SystemClock())
    engine.lock()
    await engine.start()
    space, number = canonical(), first
    layout = Layout(2, 0.0, (), np.arange(7, dtype=np.int32), NO_BUCKETS)
    print("ready", flush=True)
    async def send():
        nonlocal number
        while True:
            number += 1
            mine = number
            rows = [Labels.of({"__name__": "kill", "i": str(i), "batch": str(mine // 50)}) for i in range(20)]
            # The last ones are native histograms.
            cells = np.array([mine, mine, *range(mine, mine + 8)], dtype=float)
            values = [float(mine)] * 15 + [Histogram(layout, cells)] * 5
            await engine.append(SampleBatch.of(space, rows, [mine] * 20, values))
            print(mine, flush=True)
    async def flush():
        while True:
            await asyncio.sleep(0.02)
            await engine.flush()
    async def compact():
        while True:
            await asyncio.sleep(0.01)
            await engine.compact(clean=number % 2 == 0)
    async def delete():
        while True:
            await asyncio.sleep(0.05)
            upto = number - 10  # all but the last three are acknowledged
            await engine.delete("default", [[Matcher("i", "=", "7")]], -(1 << 62), upto)
            print(-upto, flush=True)
    async def snapshot():
        while True:
            await asyncio.sleep(0.03)
            name = await engine.snapshot()
            shutil.rmtree(Path(data) / "snapshots" / name)
    await asyncio.gather(send(), send(), send(), flush(), compact(), delete(), snapshot())

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


ROUNDS = int(os.environ.get("VEDETTE_TORTURE", "5"))
"""How many times the process is killed; `make torture` asks for hundreds."""


def run_and_kill(data: Path, first: int, blow: int, patience: float = 0.0) -> list[int]:
    """Run the child, kill it once it has acknowledged `blow` batches; answers all that it acknowledged by then.

    With a blow of 0 it is killed after `patience` seconds, while it starts.
    """
    acknowledged: list[int] = []
    with subprocess.Popen([sys.executable, "-c", CHILD, str(data), str(first)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        if blow == 0:
            # While it starts: the interpreter, the log's replay, the first merge.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=patience)
            child.send_signal(signal.SIGKILL)
            return acknowledged
        assert child.stdout.readline() == "ready\n", "the child did not start"
        for line in child.stdout:
            # A last line may be cut off by the blow.
            if line.endswith("\n"):
                acknowledged.append(int(line))
            if len(acknowledged) == blow:
                child.send_signal(signal.SIGKILL)
        return acknowledged


async def acknowledged_are_there(data: Path, told: list[int]) -> None:
    acknowledged, deleted = {n for n in told if n > 0}, -min(told)
    engine = Engine(StorageSettings(data=data, retention=0), SystemClock())
    engine.lock()
    await engine.start()
    try:
        for i in (0, 19):
            found = engine.select("default", [Matcher("i", "=", str(i))], -(1 << 62), 1 << 62)
            times = found.timestamps.tolist()
            assert len(times) == len(set(times)), "a sample is there twice"
            assert found.values.tolist() == [float(t) for t in times]
            assert (found.histograms is None) == (i == 0), "a histogram has become a float, or a float a histogram"
            if found.histograms is not None:
                assert found.histograms.at.tolist() == list(range(len(times)))
                wanted = [[t, t, *range(t, t + 8)] for t in times]
                assert found.histograms.cells.reshape(len(times), 10).tolist() == wanted
            assert not acknowledged - set(times), "acknowledged samples are lost"
        left = engine.select("default", [Matcher("i", "=", "7")], -(1 << 62), 1 << 62).timestamps.tolist()
        assert len(left) == len(set(left))
        assert not [t for t in left if t <= deleted], "what was deleted is there again"
        for block in engine._blocks.all:
            block.verify()
        assert engine.counters()["damaged_blocks"] == 0
        assert engine.counters()["wal_corrupt_records"] == engine.counters()["wal_orphan_samples"] == 0
    finally:
        await engine.close()
    # Only now: while it runs, it may be writing a block.
    assert not list((data / "blocks").glob("tmp-*"))


@pytest.mark.timeout(120 + 10 * ROUNDS)
def test_every_acknowledged_sample_survives_a_kill(tmp_path):
    rng = random.Random(7)
    told: list[int] = []
    for played in range(ROUNDS + 8):
        # How far a child comes by a given count of answers depends on the machine: play on, longer, until one has deleted.
        if played >= ROUNDS and min(told) < 0:
            break
        blow = rng.randint(1, 160) if played < ROUNDS else 300 * (played - ROUNDS + 1)
        told += run_and_kill(tmp_path / "data", max(told, default=0) + 1000, blow)
        if played % 3 == 1:
            # Numbers beyond all so far: where it is quick, it writes already, and what is written after a deletion stays.
            run_and_kill(tmp_path / "data", max(told, default=0) + 1000, 0, patience=rng.uniform(0.2, 2.0))
        asyncio.run(acknowledged_are_there(tmp_path / "data", told))
    assert len(told) > 50
    assert min(told) < 0, "nothing was deleted"
