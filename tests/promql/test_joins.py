"""Operators between vectors of many rows: block by block they give what two matrices give, errors included, and hold neither."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from vedette.clock import ManualClock
from vedette.model.labels import Labels
from vedette.promql import joins
from vedette.promql.engine import Engine
from vedette.promql.errors import ExecutionError, TooMuchMemory
from vedette.promql.memory import MemoryStorage
from vedette.promql.seriesnotation import parse_series
from vedette.promql.settings import PromqlSettings

HOSTS, STEPS, STEP = 60, 12, 20_000


@pytest.fixture(scope="module")
def storage() -> MemoryStorage:
    """`a` and `b` of 60 hosts with gaps, `b` in another order; `one` has a row for each of six racks; `name` tells apart by name alone."""
    storage = MemoryStorage()
    rng = np.random.default_rng(4)

    def add(chance: float, **labels: str) -> None:
        for t in range(0, STEPS * STEP, STEP):
            if rng.random() < chance:
                storage.add(Labels.of(**labels), t, float(rng.integers(-3, 4)))

    for host in range(HOSTS):
        add(0.7, __name__="a", host=f"{host:02}", rack=str(host % 6))
    for host in rng.permutation(HOSTS + 20)[:HOSTS]:
        add(0.7, __name__="b", host=f"{host:02}", rack=str(host % 6))
    for rack in range(6):
        add(0.8, __name__="one", rack=str(rack), kind=f"k{rack}")
    for side in ("x", "y"):
        for host in range(8):
            add(0.2, __name__="twice", host=str(host), side=side)
    return storage


@pytest.fixture
def engine(storage: MemoryStorage) -> Iterator[Engine]:
    engine = Engine(storage, PromqlSettings(lookback_ms=STEP), ManualClock())
    yield engine
    engine.close()


def asked(engine: Engine, expr: str) -> tuple[bytes | str, int]:
    """The answer, or what it was refused with, and how many operations held no matrix."""
    try:
        found = engine.range("t", expr, 0, (STEPS - 1) * STEP, STEP)
    except ExecutionError as error:
        return str(error), 0
    return found.json(), sum(cost.streamed for cost in found.statistics.operations)


IN_BLOCKS = [
    "a - on (host, rack) b", "b / on (host) a", "a + ignoring (rack) b", "a > on (host) b", "a <= bool on (host) b", "a ^ on (host) b",
    "a atan2 on (host) b", "a == on (host) a", "b % on (host) a",
    "a * on (rack) group_left () one", "a * on (rack) group_left (kind) one", "one - on (rack) group_right (kind) a",
    "a > on (rack) group_left () sum by (rack) (a)", "sum by (rack) (a) < bool on (rack) group_right () a",
    "a and b", "a and on (host) b", "a and on () one", "a unless on (rack) one", "a unless a > 0", "a unless on (host) b",
    "sum by (host) (a) and on (host) b", "sum by (host) (a) unless on (host) b > 1",
    "a > 0 or a", "a or b", "a or on (host) b", "b or on (rack) one", "a < 0 or a > 1", "one or on (rack) a", "sum by (host) (a) or a",
    "a > 100 or b", "(a and b > 0) / on (host) (b unless a)", "-(a or b)", 'label_replace(a and on (host) b, "h", "$1", "host", "(.).*")',
    "a and none", "a unless none", "(a > 100) and b",
]  # fmt: skip


def by_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "BLOCK_CELLS", 1 << 30)


@pytest.mark.parametrize("whole", ["{}", "sum by (rack) ({})", "quantile(0.5, {})", "topk(3, {})", "count_values('v', {})"])
def test_what_comes_of_blocks_is_what_comes_of_matrices(engine: Engine, monkeypatch: pytest.MonkeyPatch, whole: str) -> None:
    monkeypatch.setattr(joins, "BLOCK_CELLS", 0)
    in_blocks = [asked(engine, whole.format(expr)) for expr in IN_BLOCKS]
    by_matrices(monkeypatch)
    for expr, (answer, streamed) in zip(IN_BLOCKS, in_blocks, strict=True):
        expected, other = asked(engine, whole.format(expr))
        assert answer == expected, expr
        assert streamed > other or "none" in expr, f"{expr} was computed at once"


@pytest.mark.parametrize(
    "expr",
    [
        "a + on (rack) one", "a + on (rack) group_left () a", "one + on () group_left () one", "twice + on (host) twice",
        "a + on (rack) group_left () b", "twice / ignoring (side) group_left () twice", "a + on (host) group_left (rack) twice",
        "a + ignoring (host, rack) b", "twice{side='x'} + on (host) group_right () twice", "a + on (none) b",
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_alike(engine: Engine, monkeypatch: pytest.MonkeyPatch, expr: str) -> None:
    monkeypatch.setattr(joins, "BLOCK_CELLS", 0)
    found, _ = asked(engine, expr)
    by_matrices(monkeypatch)
    assert asked(engine, expr)[0] == found
    assert isinstance(found, bytes) or "match" in found


def test_what_two_rows_of_one_signature_give_at_different_steps_is_told_by_their_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    for t, side in ((0, "x"), (STEP, "y")):
        storage.add(Labels.of(__name__="s", side=side), t, 5.0)
        storage.add(Labels.of(__name__="m"), t, 1.0)
    engine = Engine(storage, PromqlSettings(lookback_ms=STEP), ManualClock())
    monkeypatch.setattr(joins, "BLOCK_CELLS", 0)
    try:
        found = engine.range("t", "m + ignoring (side) s", 0, STEP, STEP).rows()
        assert [(len(labels), values.tolist()) for labels, _, values in found] == [(0, [6.0, 6.0])]
        with pytest.raises(ExecutionError, match="many-to-many matching not allowed"):
            engine.range("t", "m + ignoring (side) last_over_time(s[1m])", 0, STEP, STEP)
    finally:
        engine.close()


def test_native_histograms_are_matched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    native = parse_series("m {{count:1 sum:2}}").items[0].histogram  # type: ignore[union-attr]
    for host in "abc":
        storage.add(Labels.of(__name__="h", host=host), 0, native)
        storage.add(Labels.of(__name__="m", host=host), 0, 3.0)
    engine = Engine(storage, PromqlSettings(), ManualClock())
    monkeypatch.setattr(joins, "BLOCK_CELLS", 0)
    try:
        assert engine.range("t", "sum(histogram_sum(h * on (host) m))", 0, 0, 1).rows()[0][2].tolist() == [18.0]
        assert engine.range("t", "sum(histogram_sum((h or m) and on (host) m))", 0, 0, 1).rows()[0][2].tolist() == [6.0]
        assert engine.range("t", "sum(m and on (host) h)", 0, 0, 1).rows()[0][2].tolist() == [9.0]
    finally:
        engine.close()


def test_delayed_names_are_dropped_at_the_end(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(storage, PromqlSettings(lookback_ms=STEP, delayed_name_removal=True), ManualClock())
    exprs = ["a >= bool on (host) b", "-a or b", "-a and on (host) b", "a * on (host) b", "a or -b"]
    try:
        monkeypatch.setattr(joins, "BLOCK_CELLS", 0)
        in_blocks = [asked(engine, expr)[0] for expr in exprs]
        by_matrices(monkeypatch)
        assert in_blocks == [asked(engine, expr)[0] for expr in exprs]
        assert all(b"__name__" not in answer for answer in in_blocks[:1] if isinstance(answer, bytes))
    finally:
        engine.close()


def test_a_side_in_another_order_is_computed_once_and_not_row_by_row(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "BLOCK_CELLS", 0)
    assert joins._near(np.arange(1000), 16) and joins._near(np.zeros(0, dtype=np.int64), 16)
    assert joins._near(np.repeat(np.array([-1, 7]), 16), 16), "those that are not there are nowhere"
    assert not joins._near(np.random.default_rng(1).permutation(1000), 16)
    assert not joins._near(np.arange(1000).reshape(100, 10).T.reshape(-1), 16)
    fills = []
    made = joins.in_order
    monkeypatch.setattr(joins, "in_order", lambda ev, side, take: (fills.append(len(side)), made(ev, side, take)))
    asked(engine, "a or b")
    assert fills == [HOSTS], "whether the left side is there is asked of it alone"


def test_what_blocks_keep_hold_of_counts(storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "BLOCK_CELLS", 0)
    engine = Engine(storage, PromqlSettings(lookback_ms=STEP), ManualClock())
    try:
        found = engine.range("t", "sum(a and on (host) b)", 0, (STEPS - 1) * STEP, STEP)
        assert found.statistics.peak_bytes >= HOSTS * STEPS, "where the right side is there"
        tight = Engine(storage, PromqlSettings(lookback_ms=STEP, max_query_memory=HOSTS * STEPS), ManualClock())
        with pytest.raises(TooMuchMemory):
            tight.range("t", "sum(a and on (host) b)", 0, (STEPS - 1) * STEP, STEP)
        tight.close()
    finally:
        engine.close()


def test_of_few_rows_matrices_are_made(engine: Engine) -> None:
    found = engine.range("t", "a and on (host) b", 0, (STEPS - 1) * STEP, STEP)
    assert not found.statistics.operations[-1].streamed
