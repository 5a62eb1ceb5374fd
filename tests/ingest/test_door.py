"""The door counts what goes through it and what does not."""

from __future__ import annotations

import pytest

from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest.door import Door
from vedette.model.labels import Labels
from vedette.model.samples import KeySpace, SampleBatch, canonical
from vedette.storage.engine import Engine
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
    door, space = Door(engine), canonical()
    for value in (1.0, 2.0):
        await door.append(SampleBatch.of(space, [M], [NOW], [value]))
    assert (door.counts.batches, door.counts.samples, door.counts.new_series) == (2, 1, 1)
    assert dict(door.counts.dropped) == {"duplicate": 1}


async def test_refusals_are_counted_by_reason(engine):
    def resolve(_: bytes) -> Labels:
        raise BadInput("no", where="series 0")

    door = Door(engine, max_samples=1)
    with pytest.raises(BadInput):
        await door.append(SampleBatch.of(KeySpace("default", resolve), [M], [NOW], [1.0]))
    with pytest.raises(LimitExceeded, match="at most 1"):
        await door.append(SampleBatch.of(canonical(), [M, M], [NOW, NOW + 1], [1.0, 1.0]))
    await engine.close()
    with pytest.raises(LimitExceeded, match="closing"):
        await door.append(SampleBatch.of(canonical(), [M], [NOW], [1.0]))
    assert dict(door.counts.refused) == {"bad_input": 1, "too_large": 1, "limit": 1}
    assert (door.counts.batches, door.counts.samples) == (0, 0)
