"""Loss of power at any moment, a full disk at any write: what was acknowledged is there, once, and the engine goes on.

`VEDETTE_TORTURE=300` (as `make torture` sets it) is the long form; alone the file takes a few seconds.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.errors import LimitExceeded
from vedette.model.histogram_arithmetic import equal
from vedette.model.histograms import CUSTOM_SCHEMA, GAUGE, NO_BUCKETS, Histogram, Layout
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import SampleBatch, canonical
from vedette.model.series import SeriesSet
from vedette.storage import offline
from vedette.storage.disk import Disk
from vedette.storage.engine import Engine
from vedette.storage.interface import Coarse
from vedette.storage.settings import StorageSettings

sys.path.insert(0, str(Path(__file__).parent))
from lossy import LossyDisk

ROUNDS = int(os.environ.get("VEDETTE_TORTURE", "24"))
NOW = 1_700_000_000_000
EVER = (-(1 << 62), 1 << 62)
NEVER = 1 << 60
LAYOUTS = [
    Layout(0, 0.001, (), np.arange(4, dtype=np.int32), np.arange(2, dtype=np.int32)),
    Layout(CUSTOM_SCHEMA, 0.0, (0.5, 1.0), np.arange(3, dtype=np.int32), NO_BUCKETS),
]
SERIES = [Labels.of(__name__="m", i=str(i)) for i in range(6)]


def sample_of(labels: Labels, time: int) -> float | Histogram:
    """What is sent of a series at a time: floats, and native histograms of those with odd numbers."""
    value = float(time - NOW)
    if int(labels.get("i", "0")) % 2 == 0:
        return value
    layout = LAYOUTS[time // 30_000 % 2]
    return Histogram(layout, np.array([value + 1, value, *(value + 2 + np.arange(layout.width - 2))]), GAUGE)


class Told:
    """What the engine acknowledged, each with the moment at which it did."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, Labels, int]] = []
        self.begun: list[tuple[int, str, int]] = []
        self.deletions: list[tuple[int, str, int]] = []

    def check(self, engine: Engine, moment: int = NEVER - 1) -> None:
        """That all that was acknowledged by `moment` holds; what was not may hold, too."""
        found = engine.select("default", [], *EVER)
        there: dict[Labels, list[int]] = {
            labels: found.timestamps[found.offsets[i] : found.offsets[i + 1]].tolist() for i, labels in enumerate(found.labels)
        }
        assert (found.values == (found.timestamps - NOW).astype(float)).all(), "a value is another than was stored"
        self.check_histograms(found)
        sent = {(labels, t) for _, labels, t in self.samples}
        for labels, times in there.items():
            assert len(times) == len(set(times)), "a sample is there twice"
            assert all((labels, t) in sent for t in times), "a sample is there that nobody sent"
        for when, labels, t in self.samples:
            if when > moment:
                continue
            # Deletions that were begun may have come to hold without anybody being told.
            if any(labels.get("i") == i and t <= end for at, i, end in self.begun if at <= moment):
                continue
            assert t in there.get(labels, ()), f"{labels} at {t - NOW} was acknowledged and is lost"
        for when, i, end in self.deletions:
            if when <= moment:
                gone = there.get(Labels.of(__name__="m", i=i), [])
                assert not [t for t in gone if t <= end], "what was deleted is there again"

    def check_histograms(self, found: SeriesSet) -> None:
        """That what was sent as a histogram is one, whole, and nothing else is."""
        owner = np.repeat(np.arange(len(found)), np.diff(found.offsets))
        numbers = np.array([int(labels.get("i", "0")) for labels in found.labels])
        at = np.flatnonzero(numbers[owner] % 2 == 1) if len(numbers) else np.zeros(0, dtype=np.int64)
        if not len(at):
            assert found.histograms is None
            return
        assert found.histograms is not None, "histograms have become floats"
        assert found.histograms.at.tolist() == at.tolist(), "a histogram has become a float, or a float a histogram"
        for j, place in enumerate(at.tolist()):
            sent = sample_of(Labels.of(i="1"), int(found.timestamps[place]))
            assert isinstance(sent, Histogram)
            assert equal(found.histograms.sample(j), sent)


async def history(engine: Engine, clock: ManualClock, told: Told, now, *, steps: int = 60, seed: int = 1) -> None:
    """Appends, with flushes, merges, deletions and snapshots among them; `now()` is the moment. What is refused is sent again."""
    rng, space = random.Random(seed), canonical()
    for step in range(1, steps + 1):
        time = NOW + step * 30_000
        rows = rng.sample(SERIES, rng.randint(1, 6))
        told_of = [len(told.samples) + k for k in range(len(rows))]
        told.samples += [(NEVER, labels, time) for labels in rows]
        batch = SampleBatch.of(space, rows, [time] * len(rows), [sample_of(labels, time) for labels in rows])
        for _ in range(20):
            try:
                await engine.append(batch)
            except LimitExceeded:
                continue
            for k, labels in zip(told_of, rows, strict=True):
                told.samples[k] = (now(), labels, time)
            break
        action = rng.random()
        try:
            if action < 0.2:
                await engine.flush()
            elif action < 0.35:
                await clock.advance(900)
                await engine.compact(clean=rng.random() < 0.5)
            elif action < 0.45:
                i, end = str(rng.randrange(6)), time - rng.randrange(300_000)
                told.begun.append((now(), i, end))
                await engine.delete("default", [[Matcher("i", "=", i)]], EVER[0], end)
                told.deletions.append((now(), i, end))
            elif action < 0.5:
                await engine.snapshot()
        except (LimitExceeded, OSError):
            pass  # refused, and nothing was promised


@pytest.mark.timeout(120 + ROUNDS)
@pytest.mark.parametrize("seed", range(max(2, ROUNDS // 100)))
async def test_loss_of_power_at_any_moment(tmp_path, seed):
    root = tmp_path / "data"
    root.mkdir()
    disk, clock, told = LossyDisk(root), ManualClock(NOW / 1000), Told()
    engine = Engine(StorageSettings(data=root, segment_size=2000, retention=0, out_of_order_window=1 << 40), clock, disk=disk)
    await engine.start()
    ready = len(disk.journal)
    await history(engine, clock, told, lambda: len(disk.journal), seed=seed)
    await engine.close()
    rng = random.Random(seed)
    kinds = {kind for kind, *_ in disk.journal}
    assert kinds == {"create", "write", "sync", "mkdir", "rename", "unlink", "link", "sync_directory"}
    for number in range(ROUNDS // 2 if ROUNDS < 100 else 100):
        moment = rng.randint(ready, len(disk.journal))
        image = tmp_path / f"image{number}"
        disk.left(moment, rng, image)
        again = Engine(StorageSettings(data=image, retention=0), ManualClock(NOW / 1000))
        await again.start()
        told.check(again, moment)
        counters = again.counters()
        assert counters["damaged_blocks"] == 0, "a block or the deletions were half written under their own name"
        # It works on: what is written now is there after the next start.
        await again.append(SampleBatch.of(canonical(), [Labels.of(__name__="after")], [NOW], [0.0]))
        await again.flush()
        await again.compact(clean=True)
        await again.close()
        for path, _, damage in offline.verify(image):
            # A torn sector at the end of the log was never acknowledged.
            assert not damage or path.suffix == ".wal"
        shutil.rmtree(image)


class FailingDisk(Disk):
    """Takes nothing from its `first` change on, for `count` changes; a write may be taken in part."""

    def __init__(self, first: int, count: int) -> None:
        self.first, self.count, self.done, self.armed = first, count, 0, False

    def _may(self) -> bool:
        if not self.armed:
            return True
        self.done += 1
        return not self.first <= self.done < self.first + self.count

    def _check(self) -> None:
        if not self._may():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def create(self, path):
        self._check()
        return super().create(path)

    def write(self, fd, data):
        if not self._may():
            if self.done % 2 and len(data) > 1:
                return super().write(fd, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(fd, data)

    def sync(self, fd):
        self._check()

    def mkdir(self, path):
        self._check()
        super().mkdir(path)

    def rename(self, old, new):
        self._check()
        super().rename(old, new)

    def link(self, old, new):
        self._check()
        super().link(old, new)

    def sync_directory(self, path):
        self._check()


@pytest.mark.timeout(120 + 2 * ROUNDS)
async def test_a_disk_that_is_full_at_any_write(tmp_path):
    rng = random.Random(4)
    total, failures = 400, 0
    for number in range(ROUNDS // 2):
        # Every place in turn in the long form, some of them in the short one.
        first = number % total if total < ROUNDS else rng.randrange(total)
        disk, clock, told = FailingDisk(first, rng.choice([1, 3, 40])), ManualClock(NOW / 1000), Told()
        data = tmp_path / f"data{number}"
        settings = StorageSettings(data=data, segment_size=2000, retention=0, out_of_order_window=1 << 40)
        engine = Engine(settings, clock, disk=disk)
        await engine.start()
        disk.armed = True
        await history(engine, clock, told, lambda: 0, steps=30, seed=number)
        failures += engine.counters()["write_failures"] + engine.counters()["flush_failures"]
        told.check(engine)
        disk.armed = False
        await clock.advance(20)
        await engine.flush()
        told.check(engine)
        await engine.close()
        again = Engine(settings, clock)
        await again.start()
        told.check(again)
        assert again.counters()["damaged_blocks"] == again.counters()["wal_orphan_samples"] == 0
        await again.close()
        # Only now: while it runs, it may be writing a block.
        assert not list((data / "blocks").glob("tmp-*"))
        shutil.rmtree(data)
    assert failures > 0


DAY, HOUR = 86_400_000, 3_600_000
MIDNIGHT = NOW // DAY * DAY
HOURS = Coarse(HOUR, "max", True)


async def over(engine: Engine, clock: ManualClock) -> None:
    """A day of samples in a block, and that day over, so that the next round of work rolls it up."""
    for i, at in enumerate(range(MIDNIGHT + 60_000, MIDNIGHT + DAY, 15 * 60_000)):
        await engine.append(SampleBatch.of(canonical(), SERIES[:2], [at] * 2, [float(i), -float(i)]))
    await engine.flush()
    engine._flusher.release()
    await clock.advance((MIDNIGHT + 2 * DAY) / 1000 - clock.now())


def hourly(engine: Engine) -> dict[Labels, list[float]] | None:
    """The greatest value of each hour by the tiers, None where samples have to say it."""
    found = engine.coarse_select("default", [], MIDNIGHT + 1, MIDNIGHT + DAY, HOURS)
    if found is None:
        return None
    hours: dict[Labels, dict[int, float]] = {}
    series = found.series
    for i, labels in enumerate(series.labels):
        for j in range(int(series.offsets[i]), int(series.offsets[i + 1])):
            edge, value = -(-int(series.timestamps[j]) // HOUR), float(series.values[j])
            known = hours.setdefault(labels, {})
            known[edge] = max(value, known.get(edge, value))
    return {labels: [values[edge] for edge in sorted(values)] for labels, values in hours.items()}


RIGHT = {SERIES[0]: [4.0 * k + 3 for k in range(24)], SERIES[1]: [-4.0 * k for k in range(24)]}


@pytest.mark.timeout(120 + ROUNDS)
async def test_loss_of_power_while_a_day_is_rolled_up(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    disk, clock = LossyDisk(root), ManualClock(NOW / 1000)
    engine = Engine(StorageSettings(data=root, retention=0, out_of_order_window=1 << 40), clock, disk=disk)
    await engine.start()
    await over(engine, clock)
    ready = len(disk.journal)
    await engine.compact()
    await engine.delete("default", [[Matcher("i", "=", "1")]], MIDNIGHT, MIDNIGHT + HOUR)
    deleted = len(disk.journal)
    await engine.compact(clean=True)
    await engine.close()
    rng = random.Random(11)
    moments = range(ready, len(disk.journal) + 1)
    seen = set()
    for number, moment in enumerate(moments if ROUNDS >= 100 else [ready, *rng.sample(moments, 12)]):
        image = tmp_path / f"image{number}"
        disk.left(moment, rng, image)
        again = Engine(StorageSettings(data=image, retention=0), ManualClock((MIDNIGHT + 2 * DAY) / 1000))
        await again.start()
        for _ in range(2):
            found = hourly(again)
            seen.add(found is not None)
            if found is not None:
                assert found[SERIES[0]] == RIGHT[SERIES[0]]
                assert found[SERIES[1]] in ([*RIGHT[SERIES[1]]], RIGHT[SERIES[1]][1:])
                assert moment < deleted or len(found[SERIES[1]]) == 23, "what was deleted is there again"
            assert again.counters()["damaged_rollups"] == again.counters()["damaged_blocks"] == 0
            await again.compact()
        assert found is not None, "it is made in the end"
        await again.close()
        assert not [damage for _, _, found in offline.verify(image) for damage in found if ".wal" not in str(damage)]
        shutil.rmtree(image)
    assert seen == {True, False}


@pytest.mark.timeout(120 + ROUNDS)
async def test_a_disk_that_is_full_while_a_day_is_rolled_up(tmp_path):
    rng, failed = random.Random(5), 0
    for number, first in enumerate(range(1, 60) if ROUNDS >= 100 else [1, *rng.sample(range(2, 40), 6)]):
        disk, clock = FailingDisk(first, rng.choice([1, 40])), ManualClock(NOW / 1000)
        data = tmp_path / f"data{number}"
        settings = StorageSettings(data=data, retention=0, out_of_order_window=1 << 40)
        engine = Engine(settings, clock, disk=disk)
        await engine.start()
        await over(engine, clock)
        disk.armed = True
        try:
            await engine.compact()
        except LimitExceeded:
            failed += 1
        assert hourly(engine) in (None, RIGHT)
        disk.armed = False
        await engine.compact()
        assert hourly(engine) == RIGHT
        await engine.close()
        again = Engine(settings, clock)
        await again.start()
        assert hourly(again) == RIGHT
        assert again.counters()["damaged_rollups"] == again.counters()["damaged_blocks"] == 0
        await again.close()
        assert not list(data.rglob("tmp-*"))
        assert not [damage for _, _, found in offline.verify(data) for damage in found]
        shutil.rmtree(data)
    assert failed > 0
