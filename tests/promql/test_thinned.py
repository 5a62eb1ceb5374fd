"""Functions of long windows and selectors at far apart steps, which look at samples at the borders alone, give what all samples give."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from vedette.clock import ManualClock
from vedette.kernels import codes, skim, streamed
from vedette.model.labels import Labels
from vedette.model.samples import STALE, SampleBatch, canonical
from vedette.promql.engine import Engine
from vedette.promql.settings import PromqlSettings
from vedette.storage import engine as storage_engine
from vedette.storage.engine import Engine as Storage
from vedette.storage.settings import StorageSettings

NOW = 1_700_000_000_000
SAMPLES, EVERY = 2000, 15_000
START = NOW - SAMPLES * EVERY


def values_of(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Counters that never fall, fall now and then, or at each sample of a stretch; what is no counter, and what is no number."""
    counter = np.cumsum(rng.integers(0, 30, SAMPLES)).astype(float)
    match kind:
        case "resets":
            for at in sorted(rng.integers(0, SAMPLES, 9).tolist()):
                counter[at:] -= counter[at] - rng.integers(0, 5)
        case "often":
            counter[700:900] = rng.integers(0, 50, 200)
        case "constant":
            counter[:] = 5.0
        case "gauge":
            counter = rng.normal(0, 50, SAMPLES)
        case "ratios":
            counter = np.cumsum(rng.random(SAMPLES))
        case "numbers and not":
            counter[rng.integers(0, SAMPLES, 3)] = np.nan
            counter[rng.integers(0, SAMPLES, 2)] = np.inf
        case "stale":
            counter[rng.integers(0, SAMPLES, 6)] = STALE
            counter[400:430] = STALE
        case "begins with no number":
            counter[0] = np.nan
        case "small steps":
            counter = np.cumsum(rng.integers(-20, 21, SAMPLES)).astype(float)
        case "steps now and then":
            counter = np.cumsum(rng.integers(-5, 6, SAMPLES) * (rng.random(SAMPLES) < 0.01)).astype(float)
        case "large":
            counter = rng.integers(-(2**44), 2**44, SAMPLES).astype(float)
        case "too large":
            counter = 2.0**51 + np.arange(SAMPLES)
        case "some below one":
            counter[[3, 900, 1999]] = 0.5
    return counter


KINDS = ("plain", "resets", "often", "constant", "gauge", "ratios", "numbers and not", "stale", "begins with no number")
WHOLE = ("plain", "resets", "constant", "small steps", "steps now and then", "large", "too large", "some below one", "stale")
ALL = tuple(dict.fromkeys((*KINDS, *WHOLE)))


@pytest.fixture(params=[1, 2], ids="{} generations".format)
async def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AsyncIterator[Storage]:
    """Series of each kind, evenly spaced, jittered, and with gaps; all in memory, in one generation of chunks or in two."""
    monkeypatch.setattr(storage_engine, "LARGE", 0)
    made = Storage(StorageSettings(data=tmp_path / "data", retention=0), ManualClock(NOW / 1000))
    await made.start()
    rng = np.random.default_rng(7)
    rows = []
    for kind in ALL:
        for times in ("even", "uneven", "gaps"):
            at = START + EVERY * np.arange(SAMPLES)
            at = at + rng.integers(0, 3000, SAMPLES) if times == "uneven" else at
            kept = np.sort(rng.choice(SAMPLES, SAMPLES * 2 // 3, replace=False)) if times == "gaps" else np.arange(SAMPLES)
            rows.append((Labels.of(__name__="m_total", kind=kind, times=times), at[kept], values_of(kind, rng)[kept]))
    rows.append((Labels.of(__name__="m_total", kind="one sample"), np.array([START + EVERY]), np.array([3.0])))
    rows.append((Labels.of(__name__="m_total", kind="late to come"), rows[0][1][-300:], rows[0][2][-300:]))
    middle = START + EVERY * SAMPLES // 2 + 7000 if request.param == 2 else NOW + 1
    for lo, hi in ((START, middle), (middle, NOW + EVERY)):
        cut = [(labels, (at >= lo) & (at < hi), at, values) for labels, at, values in rows]
        batch = SampleBatch.of(canonical(), [labels for labels, *_ in cut], [0] * len(cut), [0.0] * len(cut))
        batch.offsets = np.cumsum([0, *(np.count_nonzero(some) for _, some, _, _ in cut)], dtype=np.int64)
        batch.timestamps = np.concatenate([at[some] for _, some, at, _ in cut]).astype(np.int64)
        batch.values = np.concatenate([values[some] for _, some, _, values in cut])
        await made.append(batch)
        if request.param == 2 and lo == START:
            await made.flush()  # what is in memory still: the generation before
    yield made
    await made.close()


class Whole:
    """A storage that is never read in pieces."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def in_pieces(self, *_: object) -> None:
        """All is read at once."""

    def __getattr__(self, name: str):
        return getattr(self._storage, name)


def answer(storage: Storage | Whole, expr: str, start: int, step: int, n: int):
    engine = Engine(storage, PromqlSettings(), ManualClock(NOW / 1000))  # type: ignore[arg-type]
    try:
        result = engine.range("default", expr, start, start + (n - 1) * step, step)
        data = orjson.loads(b"".join(result.pieces()))["result"]
    finally:
        engine.close()
    return {orjson.dumps(row["metric"], option=orjson.OPT_SORT_KEYS): row["values"] for row in data}, result.statistics.reads[0].samples


def windows(rng: np.random.Generator) -> tuple[int, int, int, int]:
    """(start, step, n, range) of windows that overlap, meet and lie apart, on samples and beside them, within and beyond the data."""
    step = int(rng.integers(20, 700)) * EVERY
    range_ms = int(rng.choice([step, step, 2 * step, step // 2, int(rng.integers(1000, 3 * step)), EVERY]))
    n = int(rng.integers(1, 8))
    start = START + int(rng.integers(-20, SAMPLES)) * EVERY + int(rng.choice([0, 0, 1, 7001]))
    return start, step, n, max(range_ms, 1000)


@pytest.mark.parametrize("expr", ["m_total", "timestamp(m_total)"])
async def test_the_last_ones_are_the_same_as_of_all_samples(storage: Storage, expr: str) -> None:
    rng, thinned, points = np.random.default_rng(len(expr)), 0, 0
    for _ in range(40):
        start, step, n, _ = windows(rng)
        (found, read), (wanted, held) = (answer(one, expr, start, step, n) for one in (storage, Whole(storage)))
        assert found == wanted, (expr, start, step, n)
        points += sum(map(len, wanted.values()))
        assert read <= held
        thinned += read <= n * (3 * len(ALL) + 2) < held / 4
    assert thinned >= 10 and points > 1000, "one for each step is read, and there is something to compare"


@pytest.mark.parametrize("function", ["rate", "increase", "delta"])
async def test_it_is_the_same_as_of_all_samples(storage: Storage, function: str) -> None:
    rng, thinned, points = np.random.default_rng(len(function)), 0, 0
    for _ in range(40):
        start, step, n, range_ms = windows(rng)
        expr = f"{function}(m_total[{range_ms}ms])"
        (found, read), (wanted, held) = (answer(one, expr, start, step, n) for one in (storage, Whole(storage)))
        assert found == wanted, (expr, start, step, n)
        few = streamed._thinly(streamed.EXTRAPOLATED, step, n, range_ms, SAMPLES) == streamed.BORDERED
        thinned += few
        points += sum(map(len, wanted.values()))
        assert not few or read <= held, "what nobody stands for is not counted"
    assert thinned >= 10 and points > 1000, "there is something to compare"


async def test_a_counter_that_falls_where_a_chunk_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_engine, "LARGE", 0)
    made = Storage(StorageSettings(data=tmp_path / "data", retention=0), ManualClock(NOW / 1000))
    await made.start()
    # No chunk has more than 110 samples of two bytes or less: some of these falls are between two of them.
    falls, samples = range(100, 210), 300
    batch = SampleBatch.of(canonical(), [Labels.of(__name__="m_total", i=str(i)) for i in falls], [0] * len(falls), [0.0] * len(falls))
    batch.offsets = samples * np.arange(len(falls) + 1, dtype=np.int64)
    batch.timestamps = np.tile(NOW - EVERY * np.arange(samples, 0, -1), len(falls))
    batch.values = np.concatenate([np.where(np.arange(samples) < at, 0.0, -50.0) + np.arange(samples) for at in falls])
    await made.append(batch)
    end, range_ms = NOW, samples * EVERY
    assert streamed._thinly(streamed.EXTRAPOLATED, 1, 1, range_ms, samples) == streamed.BORDERED
    found, wanted = (answer(one, f"increase(m_total[{range_ms}ms])", end, 1, 1) for one in (made, Whole(made)))
    assert found == wanted and len(found[0]) == len(falls)
    await made.close()


@pytest.mark.parametrize("kind", WHOLE)
async def test_sums_and_lines_are_the_same_as_of_all_samples(storage: Storage, kind: str) -> None:
    rng, thinned, points = np.random.default_rng(len(kind)), 0, 0
    for _ in range(6):
        start, step, n, range_ms = windows(rng)
        over = f'm_total{{kind="{kind}"}}[{range_ms}ms]'
        for expr in (f"sum_over_time({over})", f"avg_over_time({over})", f"deriv({over})", f"predict_linear({over}, 600)"):
            (found, read), (wanted, held) = (answer(one, expr, start, step, n) for one in (storage, Whole(storage)))
            assert found == wanted, (expr, start, step, n)
            points += sum(map(len, wanted.values()))
            assert read <= held
        thinned += streamed._thinly(codes.AVG, step, n, range_ms, SAMPLES) == skim.SUMMED
    assert thinned >= 3 and points > 100, "there is something to compare"


def test_many_borders_are_not_worth_looking_for() -> None:
    hour, rate = 3_600_000, streamed.EXTRAPOLATED
    assert streamed._thinly(rate, hour, 718, hour, 172_800) == streamed.BORDERED
    assert streamed._thinly(rate, hour, 718, 24 * hour, 172_800) == streamed.BORDERED
    assert streamed._thinly(rate, 0, 1, 24 * hour, 5_760) == streamed.BORDERED
    assert streamed._thinly(rate, 300_000, 8640, 300_000, 172_800) == streamed.BORDERED
    assert streamed._thinly(rate, 60_000, 43_200, 300_000, 172_800) == -1
    assert streamed._thinly(codes.DERIV, hour, 718, 240 * hour, 172_800) == skim.LINES
    assert streamed._thinly(streamed.LAST_VALUE, hour, 718, hour + 1, 172_800) == streamed.BORDERED
    assert streamed._thinly(codes.SUM, 300_000, 8640, 300_000, 172_800) == -1
    assert streamed._thinly(codes.SUM, 60_000, 60, 60_000, 240) == -1
    assert streamed._thinly(codes.MAX, hour, 718, hour, 172_800) == -1
