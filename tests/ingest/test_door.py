"""The door counts what goes through it and what does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest.door import Door
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.model.samples import KeySpace, SampleBatch, canonical
from vedette.storage.engine import Engine
from vedette.storage.limits import Limits, LimitsSettings, TenantLimit, TenantLimits
from vedette.storage.settings import StorageSettings

NOW = 1_700_000_000_000
M = Labels.of(__name__="m")


@pytest.fixture
async def engine(tmp_path):
    engine = Engine(StorageSettings(data=tmp_path / "data"), ManualClock(NOW / 1000))
    await engine.start()
    yield engine
    await engine.close()


async def test_what_is_stored_and_dropped_is_counted(engine):
    door, space = Door(engine, ManualClock(NOW / 1000)), canonical()
    for value in (1.0, 2.0):
        await door.append(SampleBatch.of(space, [M], [NOW], [value]))
    assert (door.counts.batches, door.counts.samples, door.counts.new_series) == (2, 1, 1)
    assert dict(door.counts.dropped) == {"duplicate": 1}


async def test_refusals_are_counted_by_reason(engine):
    def resolve(_: bytes) -> Labels:
        raise BadInput("no", where="series 0")

    door = Door(engine, ManualClock(NOW / 1000), max_samples=1)
    with pytest.raises(BadInput):
        await door.append(SampleBatch.of(KeySpace("default", resolve), [M], [NOW], [1.0]))
    with pytest.raises(LimitExceeded, match="at most 1"):
        await door.append(SampleBatch.of(canonical(), [M, M], [NOW, NOW + 1], [1.0, 1.0]))
    await engine.close()
    with pytest.raises(LimitExceeded, match="closing"):
        await door.append(SampleBatch.of(canonical(), [M], [NOW], [1.0]))
    assert dict(door.counts.refused) == {"bad_input": 1, "too_large": 1, "limit": 1}
    assert (door.counts.batches, door.counts.samples) == (0, 0)


async def test_a_tenant_that_sends_too_much_waits_while_others_go_on(tmp_path):
    clock = ManualClock(NOW / 1000)
    limits = Limits(LimitsSettings(TenantLimits(samples_per_second=1), {"big": TenantLimits(samples_per_second=0, max_labels=1)}))
    engine = Engine(StorageSettings(data=tmp_path / "limited"), clock, limits=limits)
    await engine.start()
    door = Door(engine, clock, limits=limits)
    small, big = canonical("small"), canonical("big")
    assert (await door.append(SampleBatch.of(small, [M] * 12, range(NOW, NOW + 12), [1.0] * 12))).samples == 12
    with pytest.raises(TenantLimit) as refusal:
        await door.append(SampleBatch.of(small, [M], [NOW + 12], [1.0]))
    assert refusal.value.retry_after == 2.0
    assert (await door.append(SampleBatch.of(big, [M, Labels.of(__name__="n", a="b")], [NOW, NOW], [1.0, 1.0]))).samples == 1
    await clock.advance(2.5)
    assert (await door.append(SampleBatch.of(small, [M], [NOW + 12], [1.0]))).samples == 1
    assert dict(door.counts.refused) == {"rate_limit": 1}
    assert dict(door.counts.limited) == {"small": 1, "big": 1}
    await engine.close()


async def test_samples_too_far_ahead_are_dropped_and_spoil_nothing(engine):
    """One sender with a wrong clock must not make all that follows too old."""
    door, space, latest = Door(engine, ManualClock(NOW / 1000)), canonical(), NOW + 600_000
    n = Labels.of(__name__="n")
    mixed = SampleBatch.of(space, [M, n, M, n], [latest, latest + 1, latest + 1, (1 << 63) - 1], [1.0, 2.0, 3.0, 4.0])
    appended = await door.append(mixed)
    assert (appended.samples, appended.dropped) == (1, {"too_far_ahead": 3})
    many_a_row = dataclasses.replace(mixed, offsets=np.array([0, 2, 2, 2, 4], dtype=np.int64), timestamps=mixed.timestamps[::-1].copy())
    appended = await door.append(many_a_row)
    assert (appended.samples, appended.dropped) == (1, {"too_far_ahead": 3})
    assert dict(door.counts.dropped) == {"too_far_ahead": 6}
    assert (await door.append(SampleBatch.of(space, [M, n], [NOW, NOW], [5.0, 6.0]))).samples == 2
    found = engine.select("default", [Matcher("__name__", "=~", "m|n")], 0, 1 << 62)
    stored = {
        found.labels.row(i).metric: found.timestamps[found.offsets[i] : found.offsets[i + 1]].tolist() for i in range(len(found.labels))
    }
    assert stored == {"m": [NOW, latest], "n": [NOW, latest]}
