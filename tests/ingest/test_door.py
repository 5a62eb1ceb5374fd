"""The door counts what goes through it and what does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest.door import Door
from vedette.ingest.exemplars import Exemplars
from vedette.model.exemplars import Exemplar
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


def partial(space, series, values, **more):
    batch = SampleBatch.of(space, series, [NOW] * len(series), values)
    return dataclasses.replace(batch, partial=True, **more)


def picky() -> KeySpace:
    """A key space that takes no series with a label `bad`."""

    def resolve(key: bytes) -> Labels:
        labels = Labels.decode(key)
        if labels.get("bad"):
            raise BadInput("not that one", where=f"series {labels}")
        return labels

    return KeySpace("default", resolve)


async def test_what_is_not_valid_of_a_partial_batch_keeps_only_itself_out(engine):
    teed = []

    async def tee(batch, appended):
        teed.append((batch.series_count, len(appended.ids)))

    door, space = Door(engine, ManualClock(NOW / 1000), tee=tee), picky()
    series = [Labels.of(__name__="m", n=str(i), bad="yes" if i in (0, 5, 6) else "") for i in range(9)]
    for again in range(2):  # the second time storage knows the good ones, and still not the bad
        appended = await door.append(partial(space, series, [float(i) for i in range(9)]))
        assert (appended.samples, appended.new_series) == (6, 0 if again else 6)
        assert appended.dropped == {"invalid_labels": 3}
        assert appended.problem == 'series m{bad="yes", n="0"}: not that one (and 2 more series)'
    found = engine.select("default", [Matcher("__name__", "=", "m")], 0, 1 << 62)
    assert sorted(found.values.tolist()) == [1.0, 2.0, 3.0, 4.0, 7.0, 8.0]
    assert dict(door.counts.dropped) == {"invalid_labels": 6}
    assert dict(door.counts.refused) == {}
    assert teed == [(6, 6), (6, 6)], "what is forwarded is what was stored"


async def test_rows_of_many_samples_and_their_exemplars_stay_together_where_others_are_left_out(engine):
    exemplars = Exemplars()
    door, space = Door(engine, ManualClock(NOW / 1000), exemplars=exemplars), picky()
    series = [Labels.of(__name__="m", bad="yes"), Labels.of(__name__="m", n="1"), Labels.of(__name__="m", n="2")]
    told = [Exemplar(row, Labels.of(trace=str(row)), 1.0, NOW) for row in range(3)]
    batch = partial(space, series, [0.0, 1.0, 2.0], exemplars=told)
    batch = dataclasses.replace(
        batch,
        offsets=np.array([0, 2, 5, 6], dtype=np.int64),
        timestamps=NOW - np.array([2, 1, 3, 2, 1, 0], dtype=np.int64),
        values=np.arange(6.0),
    )
    appended = await door.append(batch)
    assert (appended.samples, appended.exemplars, appended.dropped) == (4, 2, {"invalid_labels": 2})
    found = engine.select("default", [Matcher("n", "=", "1")], 0, 1 << 62)
    assert found.values.tolist() == [2.0, 3.0, 4.0]
    kept = exemplars.select("default", [[Matcher("__name__", "=", "m")]], 0, 1 << 62)
    assert [(labels.get("n"), found[0].labels.get("trace")) for labels, found in kept] == [("1", "1"), ("2", "2")]


async def test_of_a_partial_batch_in_which_nothing_is_valid_nothing_is_stored(engine):
    door = Door(engine, ManualClock(NOW / 1000))
    appended = await door.append(partial(picky(), [Labels.of(__name__="m", bad="yes")], [1.0]))
    assert (appended.samples, appended.dropped) == (0, {"invalid_labels": 1})
    assert "not that one" in appended.problem


async def test_a_batch_that_is_not_partial_is_all_or_nothing(engine):
    door = Door(engine, ManualClock(NOW / 1000))
    batch = SampleBatch.of(picky(), [M, Labels.of(__name__="m", bad="yes")], [NOW, NOW], [1.0, 2.0])
    with pytest.raises(BadInput, match="not that one"):
        await door.append(batch)
    assert engine.series("default", [[]], 0, 1 << 62) == []
