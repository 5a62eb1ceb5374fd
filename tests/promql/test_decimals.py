"""Large answers that are wanted as text alone are the same text, and as long as was said, whatever they are computed from."""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch, canonical
from vedette.promql import evaluate, evaluation, result
from vedette.promql.decimals import Decimals
from vedette.promql.engine import Engine
from vedette.promql.errors import QueryCanceled, TooMuchMemory
from vedette.promql.result import QueryResult
from vedette.promql.settings import PromqlSettings
from vedette.storage import engine as storage_engine
from vedette.storage.engine import Engine as Storage
from vedette.storage.settings import StorageSettings

NOW = 1_700_000_000_000
START = NOW - 1_200_000
ROWS = 40

QUERIES = (
    "m",
    "m offset 1m",
    "m > 40",
    "m > 1e30",
    "rate(m[2m])",
    "m * 0.1",
    "m / on (i) m",
    "m or n",
    "sum by (i) (m)",
    "-m",
    "m / 0",
    "label_replace(m, 'long', 'text $1', 'i', '(.*)')",
    "sort_desc(m)",
    "n",
)


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    """One to which everything is large, over series of whole numbers, decimals, fractions, and gaps."""
    monkeypatch.setattr(storage_engine, "LARGE", 0)
    monkeypatch.setattr(evaluation, "HEAVY", 100)
    monkeypatch.setattr(evaluation, "SLAB", 300)
    monkeypatch.setattr(evaluate, "LARGE", 0)
    monkeypatch.setattr(result, "_PIECE_BYTES", 2000)
    clock = ManualClock(NOW / 1000)
    storage = Storage(StorageSettings(data=tmp_path / "data", retention=0), clock)
    await storage.start()
    rng = np.random.default_rng(2)
    whole = SampleBatch.of(
        canonical(), [Labels.of(__name__="mn"[i >= 35], i=str(i * 7 % ROWS)) for i in range(ROWS)], [0] * ROWS, [0.0] * ROWS
    )
    kinds = [np.cumsum(rng.integers(0, 9, 80)) * 1.0, np.round(rng.normal(40, 20, 80), 2), rng.random(80), np.full(80, math.nan)]
    kept = [np.arange(80) if i % 3 else np.flatnonzero(np.arange(80) % 40 < 9) for i in range(ROWS)]
    whole.offsets = np.cumsum([0, *map(len, kept)], dtype=np.int64)
    whole.timestamps = np.concatenate([START + 15_000 * at for at in kept])
    whole.values = np.concatenate([kinds[i % 4][at] for i, at in enumerate(kept)])
    await storage.append(whole)
    made = Engine(storage, PromqlSettings(), clock)
    yield made
    made.close()
    await storage.close()


def asked(engine: Engine, expr: str, *, ranged: bool, as_text: bool) -> QueryResult:
    if ranged:
        return engine.range("default", expr, START - 300_000, NOW, 20_250, as_text=as_text)
    return engine.instant("default", expr, NOW - 500_000, as_text=as_text)


@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.parametrize("expr", QUERIES)
async def test_the_text_is_the_same_and_as_long_as_was_told(engine: Engine, expr: str, ranged: bool) -> None:
    plain, decimals = (asked(engine, expr, ranged=ranged, as_text=as_text) for as_text in (False, True))
    assert decimals._decimals is not None and plain._decimals is None, "each goes its own way"
    assert (len(plain), plain.points, plain.type) == (len(decimals), decimals.points, decimals.type)
    assert decimals.json() == plain.json()
    for limit in (0, 1, 7, 1000):
        text = b"".join(plain.pieces(limit))
        measured = decimals.measured(limit)
        assert measured == (len(text) if plain.points else None)
        assert b"".join(decimals.pieces(limit)) == text
        assert b"".join(decimals.pieces(limit)) == text, "also where nobody asked for its length"


@pytest.mark.parametrize("expr", ["m", "m / 0", "rate(m[2m])", "-m * 0"])
async def test_whoever_wants_numbers_all_the_same_has_them(engine: Engine, expr: str) -> None:
    plain, decimals = (asked(engine, expr, ranged=True, as_text=as_text) for as_text in (False, True))
    text = plain.json()
    ours, theirs = decimals.series(9), plain.series(9)
    assert list(ours.labels) == list(theirs.labels)
    assert ours.offsets.tolist() == theirs.offsets.tolist() and ours.timestamps.tolist() == theirs.timestamps.tolist()
    assert ours.values.view(np.int64).tolist() == theirs.values.view(np.int64).tolist(), "to the bit"
    assert decimals.json() == text and len(decimals.rows()) == len(plain.rows())
    instants = [asked(engine, expr, ranged=False, as_text=as_text).vector() for as_text in (False, True)]
    assert np.array_equal(instants[0][1], instants[1][1], equal_nan=True) and list(instants[0][0]) == list(instants[1][0])


@pytest.mark.parametrize("expr", ["m", "m / on (i) m"])
async def test_a_query_that_is_canceled_ends_and_one_stays_within_its_memory(engine: Engine, expr: str) -> None:
    canceled = threading.Event()
    canceled.set()
    with pytest.raises(QueryCanceled):
        engine.range("default", expr, START, NOW, 20_000, cancel=canceled, as_text=True)
    engine._settings = PromqlSettings(max_query_memory=20_000)
    with pytest.raises(TooMuchMemory):
        asked(engine, expr, ranged=True, as_text=True)


async def test_what_is_absent_throughout_keeps_its_place_in_the_table_and_none_in_the_answer(engine: Engine) -> None:
    found = asked(engine, "m > 40", ranged=True, as_text=True)
    assert isinstance(found._decimals, Decimals)
    assert 0 < len(found) < len(found._decimals)
    assert all(found._decimals.counts[found._order] > 0)


async def test_small_answers_are_written_as_they_are(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "LARGE", 1 << 16)
    assert asked(engine, "m", ranged=True, as_text=True)._decimals is None
