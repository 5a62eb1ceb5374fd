"""JSON of series against json and Python's own shortest floats."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.kernels import render
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable
from vedette.promql.format import go_float
from vedette.promql.labelsets import marked, sorted_rows
from vedette.promql.result import QueryResult
from vedette.promql.values import Grid, Matrix


def rendered(rows: list[Labels], values: np.ndarray, present: np.ndarray, start: int, step: int) -> list[dict]:
    matrix = Matrix(LabelTable.from_labels(rows), values, present)
    result = QueryResult(matrix, Grid(start, step, values.shape[1]), range_query=True, warnings=[], infos=[])
    return json.loads(result.json(), parse_float=str, parse_int=str)["result"]


def go(value: float) -> str:
    """As Prometheus' JSON has it: an exponent only below 1e-6 and from 1e21 on."""
    if not math.isfinite(value) or value == 0 or 1e-6 <= abs(value) < 1e21:
        return go_float(value)
    mantissa, exponent = f"{value!r}".split("e") if "e" in repr(value) else f"{value:.17e}".split("e")
    mantissa = mantissa.removesuffix(".0")
    return f"{mantissa}e{exponent[0] if exponent[0] in '+-' else '+'}{exponent.lstrip('+-').zfill(2)}"


@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_floats_read_back_and_look_as_gos_do(values: list[float]) -> None:
    row = rendered([Labels()], np.array([values]), np.ones((1, len(values)), dtype=np.bool_), 0, 1)[0]
    texts = [text for _, text in row["values"]]
    assert texts == [go(v) for v in values]
    for text, value in zip(texts, values, strict=True):
        assert float(text) == value or math.isnan(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"), (1e21, "1e+21"), (123456789012345680000.0, "123456789012345680000"), (1e-6, "0.000001"), (1e-7, "1e-07"),
        (1.5e300, "1.5e+300"), (5e-324, "5e-324"), (-0.0, "-0"), (100.0, "100"), (-2.5, "-2.5"), (1e20, "100000000000000000000"),
        (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (1.7976931348623157e308, "1.7976931348623157e+308"),
    ],
)  # fmt: skip
def test_known_floats(value: float, text: str) -> None:
    assert rendered([Labels()], np.array([[value]]), np.ones((1, 1), dtype=np.bool_), 0, 1)[0]["values"] == [["0", text]]


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0"), (1, "0.001"), (1500, "1.500"), (-1, "-0.001"), (-61_050, "-61.050"), (1435781451781, "1435781451.781")]
)
def test_times(ms: int, text: str) -> None:
    out = np.zeros(32, dtype=np.uint8)
    assert out[: render.write_time(out, 0, ms)].tobytes().decode() == text


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
label_sets = st.dictionaries(texts, texts, max_size=4).map(Labels.of)


@given(st.lists(label_sets, min_size=1, max_size=12, unique=True), st.data())
def test_label_sets_are_escaped_and_sorted(rows: list[Labels], data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, 4))
    present = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=steps, max_size=steps), min_size=len(rows), max_size=len(rows))))
    values = np.arange(len(rows) * steps, dtype=np.float64).reshape(len(rows), steps)
    got = rendered(rows, values, present, 1000, 500)
    wanted = [
        {
            "metric": dict(labels),
            "values": [[f"{(1000 + 500 * s) / 1000:.3f}".removesuffix(".000"), go(values[i, s])] for s in np.flatnonzero(present[i])],
        }
        for i, labels in sorted(enumerate(rows), key=lambda r: r[1])
        if present[i].any()
    ]
    assert got == wanted


def test_large_answers_are_rendered_in_parts() -> None:
    n = 5000
    rows = [Labels.of(i=f"{i:05d}") for i in range(n)]
    values = np.arange(n * 40, dtype=np.float64).reshape(n, 40) / 7
    got = rendered(rows, values, np.ones((n, 40), dtype=np.bool_), 0, 1000)
    assert len(got) == n
    for i in (0, 1, 4095, 4096, n - 1):
        assert got[i]["metric"] == {"i": f"{i:05d}"}
        assert [float(v) for _, v in got[i]["values"]] == values[i].tolist()


@pytest.mark.parametrize("more", [0, 30])
def test_rows_sort_as_label_sets_do(more: int) -> None:
    rows = [Labels.of(c=str(i % 7), d=str(i)) for i in range(more)]
    rows += [Labels.of(a="b", c="d"), Labels.of(a="b"), Labels(), Labels.of(b="a"), Labels.of(a="é"), Labels.of(a="z"), Labels.of(a="")]
    assert [rows[i] for i in sorted_rows(LabelTable.from_labels(rows)).tolist()] == sorted(rows)


@given(st.lists(st.tuples(st.integers(-(10**17), 10**17), st.integers(0, 6)), min_size=1, max_size=30))
def test_few_decimals_are_written_as_they_are(numbers: list[tuple[int, int]]) -> None:
    values = [whole / 10**places for whole, places in numbers]
    row = rendered([Labels()], np.array([values]), np.ones((1, len(values)), dtype=np.bool_), 0, 1)[0]
    assert [text for _, text in row["values"]] == [go(v) for v in values]


@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=6))
def test_rows_with_gaps_have_their_own_times(present: list[list[bool]]) -> None:
    there = np.array(present)
    values = np.arange(there.size, dtype=np.float64).reshape(there.shape) / 3
    rows = [Labels.of(i=str(i)) for i in range(len(present))]
    found = {int(r["metric"]["i"]): r["values"] for r in rendered(rows, values, there, 999_500, 1500)}
    for i, line in enumerate(present):
        wanted = [[f"{(999_500 + k * 1500) / 1000:.3f}".removesuffix(".000"), go(values[i, k])] for k in range(7) if line[k]]
        assert found.get(i, []) == wanted


@pytest.mark.parametrize("symbols", [[5, 3, 5, 0, 9], [3, -1, 3, -1], [-1], [0, -1], [1 << 30, 3, (1 << 30) + 7, 3], [7], []])
def test_distinct_symbols_few_or_far_apart(symbols: list[int]) -> None:
    distinct, places = marked(np.array(symbols, dtype=np.int32))
    assert sorted(distinct.tolist()) == sorted(set(symbols))
    assert distinct[places].tolist() == symbols


def test_times_of_any_length_take_turns_in_a_column() -> None:
    # Rows whose first, second and third points are at times of unlike lengths: what stands before a value is made anew for each.
    far = [-(10**14) + 1, -61_050, 0, 999, 1000, 10**13 + 7]
    values = np.arange(36, dtype=np.float64).reshape(6, 6)
    rows = [Labels.of(i=str(i)) for i in range(6)]
    for start in far:
        present = np.triu(np.ones((6, 6), dtype=np.bool_))
        found = rendered(rows, values, present, start, 333)
        for i, row in enumerate(found):
            times = [start + 333 * k for k in range(i, 6)]
            assert [round(float(t) * 1000) for t, _ in row["values"]] == times
            assert [float(v) for _, v in row["values"]] == values[i, i:].tolist()


def test_digits_that_are_pasted_as_they_are_and_those_that_are_laid_out_anew() -> None:
    values = [
        1e-4 / 3,
        1e-4,
        1.0001e-4,
        0.1 + 0.2,
        123456.7890123,
        1e15 - 0.125,
        1e15 + 0.125,
        2.0**53,
        2.0**53 + 2,
        -1 / 3,
        -0.0,
        1e16,
        1e22,
    ]
    row = rendered([Labels()], np.array([values]), np.ones((1, len(values)), dtype=np.bool_), 0, 1)[0]
    assert [text for _, text in row["values"]] == [go(v) for v in values]


@given(st.permutations(range(30)), st.integers(1, 30))
def test_rows_in_runs_are_sorted_like_others(order: list[int], sorted_until: int) -> None:
    numbers = sorted(order[:sorted_until]) + order[sorted_until:]
    rows = [Labels.of(a="x", i=f"{n:02d}") for n in numbers]
    assert [rows[i] for i in sorted_rows(LabelTable.from_labels(rows)).tolist()] == sorted(rows)
