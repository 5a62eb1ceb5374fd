"""The engine against a dict: random appends, flushes and restarts, always the same samples."""

from __future__ import annotations

import asyncio
import random
import struct

import pytest

from vedette.model.samples import STALE, canonical

WINDOW = 3_600_000


def bits(value: float) -> int:
    return struct.unpack("<q", struct.pack("<d", value))[0]


class Twin:
    """What the engine must hold: samples by series, and which of them only memory holds."""

    def __init__(self) -> None:
        self.samples: dict = {}
        self.last: dict = {}
        self.unflushed: dict = {}

    def append(self, labels, time: int, value: float) -> None:
        held = self.samples.setdefault(labels, {})
        last = self.last.get(labels)
        if last is not None and time < last - WINDOW:
            return
        self.last[labels] = max(time, time if last is None else last)
        if time not in held:
            held[time] = bits(value)
        self.unflushed.setdefault(labels, set()).add(time)

    def restart(self) -> None:
        """What is in blocks only does not say which sample of a series is too old."""
        self.last = {labels: max(times) for labels, times in self.unflushed.items() if times}

    def contents(self) -> dict:
        return {labels: sorted(held.items()) for labels, held in self.samples.items() if held}


@pytest.mark.parametrize("seed", range(6))
async def test_random_histories(seed, open_engine, tools, clock):
    rng = random.Random(seed)
    series = [tools.metric(f"m{i % 3}", i=str(i)) for i in range(12)]
    spaces = [canonical(), canonical()]
    twin, now = Twin(), tools.now
    engine = await open_engine()
    for step in range(60):
        action = rng.random()
        if action < 0.8:
            later = rng.choice([0, 1, 1000, 60_000])
            now += later
            await clock.advance(later / 1000)  # or what is stored is of a future that the clock must have been wrong about
            rows = []
            for labels in rng.sample(series, rng.randint(1, 12)):
                samples = []
                for _ in range(rng.randint(0, 40)):
                    late = rng.choice([0, 0, 0, 1, 5000, WINDOW - 1, WINDOW + 120_000]) if rng.random() < 0.3 else 0
                    samples.append((now - late + rng.randint(0, 20) * 10, rng.choice([0.0, 1.5, -0.0, STALE, rng.random()])))
                rows.append((labels, samples))
            appended = await engine.append(tools.batch(rows, rng.choice(spaces)))
            assert appended.samples + sum(appended.dropped.values()) == sum(len(samples) for _, samples in rows)
            for labels, samples in rows:
                for time, value in samples:
                    twin.append(labels, time, value)
        elif action < 0.9:
            await engine.flush()
            twin.unflushed.clear()
        elif action < 0.95:
            await clock.advance(700)
        else:
            await engine.close()
            engine = await open_engine()
            twin.restart()
        if step % 5 == 0:
            assert tools.contents(engine) == twin.contents()
            lo = now - rng.randint(0, WINDOW)
            hi = lo + rng.randint(0, WINDOW)
            part = {s: inside for s, held in twin.contents().items() if (inside := [x for x in held if lo <= x[0] <= hi])}
            assert tools.contents(engine, start=lo, end=hi) == part
            # Time for the housekeeping to release what the clock made old.
            await asyncio.sleep(0)
    assert tools.contents(engine) == twin.contents()
    assert sum(len(held) for held in twin.contents().values()) > 500
