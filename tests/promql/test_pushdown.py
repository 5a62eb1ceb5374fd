"""Queries that another server evaluates: its answers are passed on as they are, and are columns for whoever wants those."""

from __future__ import annotations

import threading

import orjson
import pytest

from vedette.clock import ManualClock
from vedette.errors import BadInput
from vedette.model.labels import Labels
from vedette.promql.errors import ParseError, QueryCanceled
from vedette.promql.pushdown import Pushdown
from vedette.promql.settings import PromqlSettings


class Behind:
    """Answers what it is told to, and notes what it was asked."""

    def __init__(self):
        self.answer = {}
        self.error = None
        self.asked = []

    def ask(self, tenant, path, params=()):
        self.asked.append((tenant, path, dict(params)))
        if self.error is not None:
            raise self.error
        return self.answer


@pytest.fixture
def behind():
    return Behind()


@pytest.fixture
def engine(behind):
    made = Pushdown(behind, PromqlSettings(timeout_s=30), ManualClock())
    yield made
    made.close()


A, B = {"__name__": "up", "job": "a"}, {"__name__": "up", "job": "b"}


def test_a_vector_is_json_as_it_came_and_columns(engine, behind):
    data = {"resultType": "vector", "result": [{"metric": A, "value": [1.5, "1"]}, {"metric": B, "value": [1.5, "+Inf"]}]}
    behind.answer = {"data": data, "warnings": ["careful"], "infos": ["by the way"]}
    result = engine.instant("alice", "up", 1500, timeout_s=5, lookback_ms=60_000)
    assert behind.asked == [("alice", "query", {"query": "up", "time": "1.500", "timeout": "5000ms", "lookback_delta": "60000ms"})]
    assert orjson.loads(result.json()) == data
    assert len(orjson.loads(result.json(1))["result"]) == 1
    assert (result.warnings, result.infos, result.type, len(result)) == (["careful"], ["by the way"], "vector", 2)
    labels, values, when = result.vector()
    assert ([*labels], values.tolist(), when) == ([Labels.of(A), Labels.of(B)], [1.0, float("inf")], 1500)


def test_a_matrix_is_rows(engine, behind):
    data = {"resultType": "matrix", "result": [{"metric": A, "values": [[1, "1"], [2.5, "NaN"]]}, {"metric": B, "values": [[2.5, "-0"]]}]}
    behind.answer = {"data": data}
    result = engine.range("default", "up", 1000, 2500, 1500)
    assert behind.asked[0][2] == {"query": "up", "start": "1.000", "end": "2.500", "step": "1.500", "timeout": "30000ms"}
    rows = result.rows()
    assert [(labels, times.tolist()) for labels, times, _ in rows] == [(Labels.of(A), [1000, 2500]), (Labels.of(B), [2500])]
    assert str(rows[0][2].tolist()) == "[1.0, nan]"
    assert (result.times.tolist(), result.points) == ([1000, 2500], 3)


def test_scalars_strings_and_native_histograms(engine, behind):
    behind.answer = {"data": {"resultType": "scalar", "result": [1.0, "42"]}}
    result = engine.instant("default", "42", 1000)
    assert result.vector()[1].tolist() == [42.0]
    assert orjson.loads(result.json()) == behind.answer["data"]
    behind.answer = {"data": {"resultType": "string", "result": [1.0, "hello"]}}
    result = engine.instant("default", '"hello"', 1000)
    assert (result.type, result.text) == ("string", "hello")
    histogram = {"count": "3", "sum": "5", "buckets": [[0, "1", "2", "3"]]}
    data = {"resultType": "vector", "result": [{"metric": A, "histogram": [1.0, histogram]}, {"metric": B, "value": [1.0, "7"]}]}
    behind.answer = {"data": data}
    result = engine.instant("default", "up", 1000)
    assert orjson.loads(result.json()) == data
    assert [*result.vector()[0]] == [Labels.of(B)]


def test_what_the_server_refuses_is_a_mistake_in_the_query(engine, behind):
    behind.error = BadInput('invalid parameter "query": 1:5: parse error: unclosed left parenthesis')
    with pytest.raises(ParseError, match=r"^1:5: parse error"):
        engine.instant("default", "sum(", 1000)
    assert engine.running.list("default") == []


def test_a_range_without_steps_is_refused_here(engine, behind):
    for start, end, step in ((2000, 1000, 1), (1000, 2000, 0)):
        with pytest.raises(ParseError):
            engine.range("default", "up", start, end, step)
    assert behind.asked == []


def test_a_query_whose_client_has_gone_is_canceled(engine, behind):
    behind.answer = {"data": {"resultType": "vector", "result": []}}
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(QueryCanceled):
        engine.instant("default", "up", 1000, cancel=cancel)


def test_times_before_1970_are_written_right(engine, behind):
    behind.answer = {"data": {"resultType": "vector", "result": []}}
    result = engine.instant("default", "up", -1500, queryable=True)
    assert behind.asked[0][2]["time"] == "-1.500"
    assert result.statistics.per_step.tolist() == [0]
