"""A result's JSON: of few rows and of many, the same text, which is what a plain writer makes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.promql import result as results
from vedette.promql.recurring import Recurring
from vedette.promql.result import QueryResult, label_sets_json
from vedette.promql.values import Grid, Matrix, Scalar

ODD = ("plain", 'quo"ted', "back\\slash", "line\nbreak", "tab\t", "é ☃ 𝄞", "</script>", "\x7f")
VALUES = (0.0, -0.0, 1.5, 1e-7, 1e21, 123456789.25, 0.1 + 0.2, float("inf"), float("-inf"), float("nan"))


def result(rows: int, steps: int, *, range_query: bool = True, labels: int = 3) -> tuple[QueryResult, list[dict[str, str]]]:
    """A matrix of `rows` series in no order, some of whose points are missing, and its label sets."""
    sets = [
        {"__name__": "m", **{f"l{i}": ODD[(row + i) % len(ODD)] + str(row % 7) for i in range(labels)}, "row": f"{row * 37 % rows:05}"}
        for row in range(rows)
    ]
    values = np.array([[VALUES[(row + step) % len(VALUES)] for step in range(steps)] for row in range(rows)])
    present = np.array([[(row + step) % 3 != 1 or not range_query for step in range(steps)] for row in range(rows)], dtype=np.bool_)
    matrix = Matrix(LabelTable.from_labels([Labels.of(s) for s in sets]), values, present)
    grid = Grid(1_700_000_000_500, 250, steps)
    return QueryResult(matrix, grid, range_query=range_query, warnings=[], infos=[]), sets


def plainly(found: QueryResult) -> list[str]:
    """The series, each as text, one Python step a point."""
    from vedette.promql.format import json_float

    shown = []
    for labels, times, values in found.rows():
        points = [
            f"[{t / 1000:.3f}".removesuffix(".000") + f',"{json_float(v)}"]' for t, v in zip(times.tolist(), values.tolist(), strict=True)
        ]
        metric = json.dumps(labels.as_dict(), ensure_ascii=False, separators=(",", ":"))
        shown.append(
            f'{{"metric":{metric},"values":[{",".join(points)}]}}'
            if found.type == "matrix"
            else f'{{"metric":{metric},"value":{points[0]}}}'
        )
    return shown


@pytest.mark.parametrize("rows", [1, 2, 23, 24, 25, 60])
@pytest.mark.parametrize("range_query", [True, False])
def test_few_rows_and_many_are_written_alike(rows: int, range_query: bool) -> None:
    found, _ = result(rows, 5 if range_query else 1, range_query=range_query)
    kind = "matrix" if range_query else "vector"
    assert found.json().decode() == f'{{"resultType":"{kind}","result":[{",".join(plainly(found))}]}}'


def test_a_range_is_in_order_of_labels_and_an_instant_is_not_touched() -> None:
    found, sets = result(30, 3)
    assert [s["metric"] for s in json.loads(found.json())["result"]] == sorted(sets, key=lambda s: sorted(s.items()))
    found, sets = result(20, 1, range_query=False)
    assert [s["metric"] for s in json.loads(found.json())["result"]] == sets


@pytest.mark.parametrize("threads", [0, 2])
def test_a_large_answer_comes_in_pieces_that_make_up_the_whole(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    found, _ = result(60, 5)
    whole = found.json()
    monkeypatch.setattr(results, "_CHUNK_POINTS", 7)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        found.pool = pool if threads else None
        pieces = list(found.pieces())
        assert len(pieces) > 20 and all(pieces) and b"".join(pieces) == whole
        assert json.loads(b"".join(found.pieces(limit=10)))["result"] == json.loads(whole)["result"][:10]


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("chunk", [7, 1 << 16])
@pytest.mark.parametrize(("rows", "range_query"), [(1, True), (60, True), (23, False), (60, False)])
@pytest.mark.parametrize("limit", [0, 1, 24, 25, 59, 61])
def test_its_size_is_told_before_it_is_written(
    monkeypatch: pytest.MonkeyPatch, threads: int, chunk: int, rows: int, range_query: bool, limit: int
) -> None:
    found, _ = result(rows, 5 if range_query else 1, range_query=range_query)
    whole = found.json(limit)
    monkeypatch.setattr(results, "_CHUNK_POINTS", chunk)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        found.pool = pool if threads else None
        assert found.measured(limit) == len(whole)
        assert b"".join(found.pieces(limit)) == whole
        # What was measured is used up; another limit than was measured is written all the same.
        assert b"".join(found.pieces(limit)) == whole
        assert found.measured(1) == len(found.json(1))
        assert b"".join(found.pieces(limit)) == whole


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("gaps", [True, False])
@pytest.mark.parametrize("limit", [0, 13])
def test_points_that_are_laid_out_late_are_the_same(monkeypatch: pytest.MonkeyPatch, threads: int, gaps: bool, limit: int) -> None:
    def made() -> QueryResult:
        labels = LabelTable.from_labels([Labels.of(n=str(row * 7 % 40)) for row in range(40)])
        values = np.array([[VALUES[(row + step) % len(VALUES)] if row % 4 else row + step for step in range(9)] for row in range(40)])
        there = [[not gaps or (row * step) % 5 != 1 for step in range(9)] for row in range(40)]
        matrix = Matrix(labels, values.astype(np.float64), np.array(there, dtype=np.bool_))
        return QueryResult(matrix, Grid(1_700_000_000_000, 250, 9), range_query=True, warnings=[], infos=[])

    at_once, whole = made(), made().json(limit)
    monkeypatch.setattr(results, "_CHUNK_POINTS", 20)
    late = made()
    assert late.points == at_once.points and len(late) == len(at_once)
    with ThreadPoolExecutor(max(1, threads)) as pool:
        late.pool = pool if threads else None
        assert b"".join(late.pieces(limit)) == whole
        assert late.measured(limit) == len(whole)
        assert b"".join(late.pieces(limit)) == whole
    late.pool = None
    columns, expected = late.series(limit), at_once.series(limit)
    assert list(columns.labels) == list(expected.labels)
    assert columns.offsets.tolist() == expected.offsets.tolist() and columns.timestamps.tolist() == expected.timestamps.tolist()
    assert np.array_equal(columns.values, expected.values, equal_nan=True)
    assert b"".join(late.pieces(limit)) == whole, "also once all of them were wanted as columns"
    for ours, theirs in zip(made().rows(), at_once.rows(), strict=True):
        assert ours[0] == theirs[0] and ours[1].tolist() == theirs[1].tolist()
        assert np.array_equal(ours[2], theirs[2], equal_nan=True)


def test_texts_of_labels_are_made_once_and_small_enough_for_those_of_many_series(monkeypatch: pytest.MonkeyPatch) -> None:
    made, known, rows = [], Recurring(), 1200
    write = results._texts
    monkeypatch.setattr(results, "_texts", lambda *given: made.append(write(*given)) or made[-1])
    labels = LabelTable.from_labels([Labels.of(__name__="m", row=str(row), **{f"l{i}": "same" for i in range(9)}) for row in range(rows)])
    matrix = Matrix(labels, np.ones((rows, 1)), np.ones((rows, 1), dtype=np.bool_))
    answers = []
    for _ in range(2):
        found = QueryResult(matrix, Grid(0, 1, 1), range_query=False, warnings=[], infos=[], recurring=known)
        answers.append(found.json())
        assert found.measured() == len(answers[-1])
    assert len(made) == 1 and answers[0] == answers[1]
    assert json.loads(answers[0])["result"][7]["metric"] == labels.row(7).as_dict()
    # Four bytes a name and a value; its bounds, its length, and a text of its own.
    assert known.bytes / rows < 11 * 2 * 4 + 40


NUMBERS = st.one_of(st.floats(), st.integers(-(10**17), 10**17).map(float), st.decimals(-10_000, 10_000, places=3).map(float))


@given(st.lists(NUMBERS, min_size=1), st.integers(-(10**15), 10**15), st.booleans())
@example([9007199254740991.0, 9007199254740993.0, -9007199254740991.0, 0.0001, 0.00001, -0.5, 10.0, 9.0, 99.0, 100.0], 0, True)
def test_the_size_of_any_numbers(values: list[float], start: int, range_query: bool) -> None:
    rows = [Labels.of(n=str(i)) for i in range(1 if range_query else len(values))]
    cells = np.array(values).reshape(len(rows), -1)
    matrix = Matrix(LabelTable.from_labels(rows), cells, np.ones(cells.shape, dtype=np.bool_))
    found = QueryResult(matrix, Grid(start, 1, cells.shape[1]), range_query=range_query, warnings=[], infos=[])
    assert found.measured() == len(found.json())


def test_the_size_of_what_is_no_series_or_too_much_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid(0, 1, 1)
    for value in ("text", Scalar(np.ones(1))):
        assert QueryResult(value, grid, range_query=False, warnings=[], infos=[]).measured() is None
    nothing = Matrix(LabelTable.from_labels([]), np.empty((0, 1)), np.empty((0, 1), dtype=np.bool_))
    assert QueryResult(nothing, grid, range_query=True, warnings=[], infos=[]).measured() is None
    monkeypatch.setattr(results, "_MEASURED_POINTS", result(9, 5)[0].points)
    assert result(9, 5)[0].measured() == len(result(9, 5)[0].json())
    assert result(10, 5)[0].measured() is None


@pytest.mark.parametrize("limit", [1, 24, 25, 39, 40, 41])
def test_a_limit_keeps_the_first(limit: int) -> None:
    found, _ = result(40, 2)
    shown = json.loads(found.json(limit))["result"]
    assert shown == json.loads(found.json())["result"][:limit]


@pytest.mark.parametrize("rows", [1, 30])
def test_series_without_labels_or_with_very_long_ones(rows: int) -> None:
    long = "x" * 100_000
    table = LabelTable.from_labels([Labels.of(a=long + str(i)) if i else Labels() for i in range(rows)])
    matrix = Matrix(table, np.ones((rows, 1)), np.ones((rows, 1), dtype=np.bool_))
    found = QueryResult(matrix, Grid(0, 1, 1), range_query=True, warnings=[], infos=[])
    shown = json.loads(found.json())["result"]
    assert [s["metric"] for s in shown] == [row.as_dict() for row in sorted(table)]
    assert all(s["values"] == [[0, "1"]] for s in shown)


@pytest.mark.parametrize("rows", [0, 1, 30, 5000])
def test_label_sets_as_a_list(rows: int) -> None:
    table = LabelTable.from_labels([Labels.of(a=ODD[i % len(ODD)], b=str(i * 7919 % 10_007)) if i else Labels() for i in range(rows)])
    wanted = [dict(row) for row in sorted(table)]
    assert label_sets_json(table) == json.dumps(wanted, ensure_ascii=False, separators=(",", ":")).encode()
    assert json.loads(label_sets_json(table, 3)) == wanted[:3]
