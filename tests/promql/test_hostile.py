"""Queries that ask for more than there is: each gets a clear error, and the engine goes on.

Limits are small here, so that a query which slips past its check takes minutes or all memory, and one that does not is over at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from vedette.clock import SystemClock
from vedette.errors import LimitExceeded, VedetteError
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable, Symbols
from vedette.model.series import SeriesSet
from vedette.promql.engine import Engine
from vedette.promql.errors import ExecutionError, ParseError, QueryCanceled, QueryTimeout, TooManySamples, TooMuchMemory
from vedette.promql.memory import MemoryStorage
from vedette.promql.relabel import MAX_TEXT
from vedette.promql.settings import PromqlSettings
from vedette.promql.values import Windows
from vedette.promql.window_functions import MAX_VISITS, _Piece, _pieces
from vedette.regex import Template
from vedette.storage.interface import Matchers

SERIES, SAMPLES = 500, 240
HOUR = 3_600_000


class Columns(MemoryStorage):
    """The same series whatever is asked, without a Python object a sample."""

    def __init__(self) -> None:
        super().__init__()
        rows = [Labels.of(__name__="m", i=str(i), g=str(i % 10)) for i in range(SERIES)]
        self._table = LabelTable.from_labels(rows, Symbols())

    def select(self, tenant: str, matchers: Matchers, start: int, end: int) -> SeriesSet:
        times = np.tile(np.arange(SAMPLES, dtype=np.int64) * 15_000, SERIES)
        values = np.arange(SERIES * SAMPLES, dtype=np.float64) * 1.1
        return SeriesSet(self._table, np.arange(SERIES + 1, dtype=np.int64) * SAMPLES, times, values)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    settings = PromqlSettings(max_samples=2_000_000, max_memory=64 << 20, timeout_s=30.0, experimental_functions=True)
    engine = Engine(Columns(), settings, SystemClock())
    yield engine
    engine.close()


LONG_TEMPLATE = 'label_replace(m, "x", "' + "$1" * 50_000 + '$2", "i", "%s")'

HOSTILE: dict[str, tuple[str, type[VedetteError], str]] = {
    "every value a label": ('count_values("v", m)', TooManySamples, "too many samples"),
    "a subquery of years of a subquery of years": ("max_over_time(max_over_time(m[1y:1s])[1y:1s])", TooManySamples, "too many samples"),
    "the same by the minute": ("max_over_time(max_over_time(m[1y:1m])[1y:1m])", TooManySamples, "too many samples"),
    "a subquery of nothing by the millisecond": ("max_over_time(vector(1)[1y:1ms])", TooManySamples, "too many samples"),
    "steps as an expression": ("max_over_time(vector(1)[100y:step() ^ -9])", ParseError, "greater than 0"),
    "an expression that takes half a minute to compile": ('m{i=~"' + "[0-9]{1,1000}" * 60 + '"}', ParseError, "expression too large"),
    "the same in a function": (
        'label_replace(m, "a", "$1", "i", "' + "[0-9]{1,1000}" * 60 + '")', ExecutionError, "invalid regular expression",
    ),
    "thousands of groups of a long text": (
        'label_replace(label_replace(m, "t", "' + "x" * 100_000 + '", "", ""), "a", "$1", "t", "' + "(.*)" * 4000 + '")',
        ExecutionError,
        "too large",
    ),
    "everything with everything": ("m * on() group_left m", ExecutionError, "duplicate series"),
    "a megabyte": ("m" + " + 1" * 300_000, ParseError, "longer than"),
    "10,000 parentheses": ("(" * 10_000 + "m" + ")" * 10_000, ParseError, "nested more than"),
    "10,000 calls": ("abs(" * 10_000 + "m" + ")" * 10_000, ParseError, "nested more than"),
    "10,000 subqueries": ("max_over_time(" * 5_000 + "m" + "[1h:1m])" * 5_000, ParseError, "nested more than"),
    "a label that doubles 60 times": (
        "label_replace(" * 60 + 'label_replace(vector(1), "i", "ab", "", "")' + ', "i", "$1$1", "i", "(.+)")' * 60,
        ExecutionError,
        f"more than {MAX_TEXT} characters",
    ),
    "a label out of 50,000": ('label_replace(m, "x", "' + "$1" * 50_000 + '", "__name__", "(m)|(.*)")', LimitExceeded, "max_memory"),
    "a long template for each of thousands": (LONG_TEMPLATE % "(.*)()", TooManySamples, "too many samples"),
    "a long separator": ('label_join(m, "x", "' + "a" * 200_000 + '", "i", "g")', TooManySamples, "too many samples"),
    "a huge pattern": ('m{i=~"' + "(a{1000}){1000}" + '"}', ParseError, "parse error"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused(engine: Engine, name: str) -> None:
    expr, kind, message = HOSTILE[name]
    with pytest.raises(kind, match=message):
        engine.range("t", expr, 0, HOUR, 15_000)
    # Nothing is left behind of it.
    assert engine.running.list("t") == []
    assert len(engine.instant("t", "sum(m)", HOUR)) == 1


def test_labels_that_would_be_too_much_are_refused_before_any_is_made(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Template, "expanded", lambda *_: pytest.fail("made a label"))
    with pytest.raises(TooManySamples):
        engine.instant("t", LONG_TEMPLATE % "(.*)()", HOUR)


@pytest.mark.parametrize("function", ["mad_over_time({})", "quantile_over_time(0.5, {})", "stddev_over_time({})", "sum_over_time({})"])
def test_one_long_window_ends_in_time(engine: Engine, function: str) -> None:
    # 11,000 windows of 864,000 samples: hours.
    expr = function.format("vector(time())[10d:1s]")
    with pytest.raises(QueryTimeout, match="timed out in expression evaluation"):
        engine.range("t", expr, 0, 11_000_000, 1000, timeout_s=0.3)
    cancel = threading.Event()
    timer = threading.Timer(0.2, cancel.set)
    timer.start()
    with pytest.raises(QueryCanceled):
        engine.range("t", expr, 0, 11_000_000, 1000, cancel=cancel)
    timer.join()


@pytest.mark.parametrize("range_ms", [1, 40_000, 10_000_000])
def test_pieces_cover_each_row_and_step_once(range_ms: int) -> None:
    lengths = np.array([0, 5, 2_000, 0, 300_000, 1, 300_000])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = np.concatenate([np.arange(n, dtype=np.int64) * 10 for n in lengths])
    over = Windows(LabelTable.from_labels([Labels()] * len(lengths)), offsets, times, times * 1.0, 0, 10, range_ms)
    for n in (1, 7, 5000):
        seen = np.zeros((len(lengths), n), dtype=np.int64)
        for piece in _pieces(over, range_ms, 10, _Piece(0, len(lengths), 0, n)):
            seen[piece.lo : piece.hi, piece.first : piece.last] += 1
            windows = min(int(lengths[piece.lo]), range_ms // 10 + 2)
            assert (piece.last - piece.first) * windows <= MAX_VISITS or piece.last - piece.first == 1 or piece.hi - piece.lo > 1
        assert (seen == 1).all()


def test_a_function_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage()
    for i in range(3):
        for k in range(50 * i, 200):
            storage.add(Labels.of(__name__="m", i=str(i)), k * 1000, float(k * k % 17))
    engine = Engine(storage, PromqlSettings(), SystemClock())
    try:
        for expr in ("sum_over_time(m[50s])", "quantile_over_time(0.3, m[50s])", "predict_linear(m[50s], 10)", "m[5s:1s]"):
            if expr.startswith("m["):
                expr = f"max_over_time({expr})"
            whole = engine.range("t", expr, 0, 200_000, 1000).rows()
            monkeypatch.setattr("vedette.promql.window_functions.MAX_VISITS", 300)
            parts = engine.range("t", expr, 0, 200_000, 1000).rows()
            monkeypatch.undo()
            assert len(whole) == len(parts) == 3
            for (a, at, av), (b, bt, bv) in zip(whole, parts, strict=True):
                assert a == b
                assert at.tolist() == bt.tolist()
                assert av.tobytes() == bv.tobytes()
    finally:
        engine.close()


def test_other_queries_go_on_beside_a_hostile_one(engine: Engine) -> None:
    cancel = threading.Event()
    ended: list[Exception] = []

    def hostile() -> None:
        try:
            engine.range("t", "mad_over_time(vector(time())[10d:1s])", 0, 11_000_000, 1000, cancel=cancel)
        except QueryCanceled as error:
            ended.append(error)

    thread = threading.Thread(target=hostile)
    thread.start()
    try:
        for _ in range(5):
            assert len(engine.instant("t", "sum by (g) (rate(m[5m]))", HOUR)) == 10
        assert thread.is_alive()
    finally:
        cancel.set()
        thread.join(60)
    assert len(ended) == 1


def test_a_long_text_in_every_row_counts_as_often_as_the_answer_would_have_it() -> None:
    engine = Engine(Columns(), PromqlSettings(max_query_memory=64 << 20), SystemClock())
    long = "x" * 100_000
    with pytest.raises(TooMuchMemory, match="max_query_memory"):
        engine.instant("t", f'label_replace(m, "z", "{long}", "i", ".*")', HOUR)
    assert len(engine.instant("t", f'label_replace(m{{i="1"}}, "z", "{long[:50_000]}", "i", "1")', HOUR).rows()) == SERIES
    assert len(engine.instant("t", f'count by (g) (label_replace(m, "z", "{long}", "i", ".*"))', HOUR).rows()) == 10
    engine.close()


@pytest.mark.parametrize(
    ("expr", "factor"),
    [
        ("-" * 1200 + "m", 1),
        ("abs(" * 1200 + "m" + ")" * 1200, 1),
        ("m" + " + m" * 549, 550),
        ("m" + " and m" * 1200, 1),
        ("m" + " or m" * 300, 1),
    ],
    ids=lambda value: value[:7] if isinstance(value, str) else "",
)
def test_a_thousand_operations_one_behind_the_other_are_no_deeper_than_a_few(engine: Engine, expr: str, factor: int) -> None:
    """What computes rows block by block calls what stands behind it: so many need all of the stack, and all their labels at once."""
    start, end, step = 60_000, 3_540_000, 15_000
    found = engine.range("t", expr, start, end, step).rows()
    wanted = engine.range("t", "m", start, end, step).rows()
    assert len(found) == SERIES
    for (labels, times, values), (plain, at, expected) in zip(found[::100], wanted[::100], strict=True):
        assert labels.get("i") == plain.get("i")
        assert np.array_equal(times, at)
        assert np.allclose(values, expected * factor, rtol=1e-9)
