"""Subqueries whose rows are computed as a function of windows reads them: the answers are those of the whole matrix."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.model.labels import Labels
from vedette.model.labeltable import Symbols
from vedette.promql import evaluate, resampled
from vedette.promql.engine import Engine
from vedette.promql.errors import ExecutionError, QueryTimeout
from vedette.promql.labelsets import empty
from vedette.promql.memory import MemoryStorage
from vedette.promql.settings import PromqlSettings
from vedette.promql.values import Grid, Rows

SERIES, EVERY, SAMPLES = 30, 15_000, 200


@pytest.fixture(scope="module")
def storage() -> MemoryStorage:
    """`m_total` of 30 series with gaps, and resets; `gauge`, of which some end early."""
    storage = MemoryStorage()
    rng = np.random.default_rng(9)
    for series in range(SERIES):
        total, until = 0.0, SAMPLES if series % 3 else SAMPLES // 4
        for at in range(SAMPLES):
            total = 0.0 if rng.random() < 0.02 else total + float(rng.integers(0, 9))
            if rng.random() < 0.9:
                storage.add(Labels.of(__name__="m_total", i=str(series)), at * EVERY, total)
            if at < until:
                storage.add(Labels.of(__name__="gauge", i=str(series)), at * EVERY, float(rng.normal()))
    return storage


@pytest.fixture
def engine(storage: MemoryStorage) -> Iterator[Engine]:
    engine = Engine(storage, PromqlSettings(), ManualClock())
    yield engine
    engine.close()


def asked(engine: Engine, expr: str) -> bytes | str:
    try:
        return engine.range("t", expr, 600_000, SAMPLES * EVERY, 90_000).json()
    except ExecutionError as error:
        return str(error)


QUERIES = [
    "max_over_time(rate(m_total[2m])[10m:30s])",
    "avg_over_time(rate(m_total[2m])[10m:30s] offset 1m)",
    "rate(m_total[5m:20s])",
    "count_over_time((gauge > 0)[5m:15s])",
    "last_over_time(gauge[5m:15s])",
    "sum(stddev_over_time(abs(gauge)[5m:15s]))",
    "max_over_time(min_over_time(rate(m_total[1m])[3m:15s])[5m:1m])",
    "sum_over_time(increase(m_total[2m])[10m:30s] @ 2000)",
    'max_over_time({__name__=~"m_total|gauge"}[5m:30s])',
    "quantile_over_time(0.5, gauge[5m:15s])",
    "absent_over_time(gauge[5m:15s])",
    "max_over_time(sum(gauge)[5m:15s])",
    "max_over_time(gauge[5m:15s]) - min_over_time(gauge[5m:15s])",
    "deriv(gauge[5m:15s])",
    "max_over_time(m_total[1m:15s]) > 100",
]


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("expr", QUERIES)
def test_row_by_row_gives_what_the_matrix_gives(storage, expr: str, delayed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(storage, PromqlSettings(delayed_name_removal=delayed), ManualClock())
    try:
        monkeypatch.setattr(resampled, "_FEWEST", 0)
        monkeypatch.setattr(resampled, "SLAB", 1000)
        found = asked(engine, expr)
        monkeypatch.setattr(evaluate, "passed_on", lambda plan: frozenset())
        assert found == asked(engine, expr)
        assert found
    finally:
        engine.close()


@pytest.mark.parametrize(("expr", "passed"), [
    ("max_over_time(rate(m_total[2m])[10m:30s])", 1),
    ("max_over_time(min_over_time(rate(m_total[1m])[3m:15s])[5m:1m])", 2),
    ("quantile_over_time(0.5, gauge[5m:15s])", 0),
    ("absent_over_time(gauge[5m:15s])", 0),
    ("rate(m_total[2m])", 0),
])  # fmt: skip
def test_only_functions_without_parameters_read_row_by_row(engine: Engine, expr: str, passed: int, monkeypatch) -> None:
    seen: list[int] = []

    def counted(plan) -> frozenset[int]:
        found = resampled.passed_on(plan)
        seen.append(len(found))
        return found

    monkeypatch.setattr(evaluate, "passed_on", counted)
    asked(engine, expr)
    assert seen == [passed]


def test_what_is_small_or_too_long_for_a_thread_is_made_as_a_whole() -> None:
    rows = Rows(empty(Symbols(), 10), 1, lambda lo, hi, values, present: None)
    assert resampled.Resampled.of_value(rows, Grid(0, 1, 10)) is None
    assert resampled.Resampled.of_value(rows, Grid(0, 1, resampled._LONGEST + 1)) is None
    assert resampled.Resampled.of_value(rows, Grid(0, 1, resampled._LONGEST)) is not None


class Passing(ManualClock):
    """A clock on which as much time passed as is said."""

    passed = 0.0

    def monotonic(self) -> float:
        return self.passed


def test_the_deadline_is_looked_at_between_rows(storage, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, rows = Passing(), []
    engine = Engine(storage, PromqlSettings(timeout_s=10.5), clock)
    monkeypatch.setattr(resampled, "_FEWEST", 0)
    monkeypatch.setattr(resampled, "SLAB", 1)
    real = resampled.as_samples

    def slow(*args):
        rows.append(args)
        clock.passed += 1.0
        return real(*args)

    monkeypatch.setattr(resampled, "as_samples", slow)
    with pytest.raises(QueryTimeout):
        engine.range("t", "max_over_time(rate(m_total[1m])[5m:15s])", 600_000, SAMPLES * EVERY, 90_000)
    assert 0 < len(rows) < SERIES, "it ended between two of them"
    engine.close()
