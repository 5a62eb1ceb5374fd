"""Operations between series, by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from vedette.errors import BadInput
from vedette.logs.logql import vectors
from vedette.logs.logql.nodes import Aggregated, Binary, Grouping, Metric, Replaced, Vector
from vedette.logs.logql.parser import parse
from vedette.logs.logql.points import ABSENT, absent
from vedette.logs.logql.vectors import Series

ONE: Metric = Vector(1)


def series(**values: list[float | None]) -> Series:
    """`a_x=[1]` is {a="x"}; several labels by double underscores."""
    found: Series = {}
    for name, row in values.items():
        key = tuple(sorted((pair.split("_")[0], pair.split("_")[1]) for pair in name.split("__")))
        found[key] = np.array([ABSENT if v is None else v for v in row], np.float64)
    return found


def shown(found: Series) -> dict[str, list[float | None]]:
    return {
        ",".join(f"{n}_{v}" for n, v in k): [None if gone else x for x, gone in zip(row.tolist(), absent(row).tolist(), strict=True)]
        for k, row in found.items()
    }


def asked(text: str) -> Binary:
    found = parse(f"rate({{}}[1m]) {text} rate({{}}[1m])")
    assert isinstance(found, Binary)
    return found


LEFT = series(a_x__b_1=[1, 2], a_y__b_1=[3, None])
RIGHT = series(a_x__b_1=[10, 0], a_z__b_1=[5, 5])
BY_A = series(a_x__c_9=[10, 20], a_y__c_8=[2, 2])


@pytest.mark.parametrize(
    ("op", "left", "right", "expected"),
    [
        ("+", LEFT, RIGHT, {"a_x,b_1": [11.0, 2.0]}),
        ("/", LEFT, RIGHT, {"a_x,b_1": [0.1, math.inf]}),
        ("/", series(a_x=[-1, 0, None]), series(a_x=[0, 0, 0]), {"a_x": [-math.inf, pytest.approx(math.nan, nan_ok=True), None]}),
        ("%", series(a_x=[5, None]), series(a_x=[0, 0]), {"a_x": [pytest.approx(math.nan, nan_ok=True), None]}),
        ("%", RIGHT, LEFT, {"a_x,b_1": [0.0, 0.0]}),
        ("^", LEFT, LEFT, {"a_x,b_1": [1.0, 4.0], "a_y,b_1": [27.0, None]}),
        (">", LEFT, RIGHT, {"a_x,b_1": [None, 2.0]}),
        ("> bool", LEFT, RIGHT, {"a_x,b_1": [0.0, 1.0]}),
        ("* on (a)", LEFT, BY_A, {"a_x": [10.0, 40.0], "a_y": [6.0, None]}),
        ("* ignoring (b, c)", LEFT, BY_A, {"a_x": [10.0, 40.0], "a_y": [6.0, None]}),
        ("* on (a) group_left (c)", LEFT, BY_A, {"a_x,b_1,c_9": [10.0, 40.0], "a_y,b_1,c_8": [6.0, None]}),
        ("- on (a) group_right (b)", LEFT, BY_A, {"a_x,b_1,c_9": [-9.0, -18.0], "a_y,b_1,c_8": [1.0, None]}),
        ("and", LEFT, RIGHT, {"a_x,b_1": [1.0, 2.0]}),
        ("unless", LEFT, RIGHT, {"a_y,b_1": [3.0, None]}),
        ("or", LEFT, RIGHT, {"a_x,b_1": [1.0, 2.0], "a_y,b_1": [3.0, None], "a_z,b_1": [5.0, 5.0]}),
        ("and on (a)", LEFT, BY_A, {"a_x,b_1": [1.0, 2.0], "a_y,b_1": [3.0, None]}),
        ("unless on (a)", LEFT, series(a_x=[None, 1.0]), {"a_x,b_1": [1.0, None], "a_y,b_1": [3.0, None]}),
    ],
)
def test_between_series(op: str, left: Series, right: Series, expected: dict[str, list[float | None]]) -> None:
    assert shown(vectors.binary(asked(op), left, right)) == expected


def test_more_than_one_match_is_refused() -> None:
    with pytest.raises(BadInput, match="duplicate series on the right"):
        vectors.binary(asked("+ on (b)"), LEFT, RIGHT | LEFT)
    with pytest.raises(BadInput, match="many-to-one"):
        vectors.binary(asked("+ on (b)"), LEFT | RIGHT, series(b_1=[1, 1]))


def test_with_numbers() -> None:
    assert shown(vectors.with_scalar(asked("-"), LEFT, 1, scalar_left=True)) == {"a_x,b_1": [0.0, -1.0], "a_y,b_1": [-2.0, None]}
    assert shown(vectors.with_scalar(asked(">"), LEFT, 2, scalar_left=False)) == {"a_y,b_1": [3.0, None]}
    assert shown(vectors.with_scalar(asked("<"), LEFT, 2, scalar_left=True)) == {"a_y,b_1": [3.0, None]}, "the series' value is kept"
    assert shown(vectors.with_scalar(asked(">= bool"), LEFT, 2, scalar_left=False)) == {"a_x,b_1": [0.0, 1.0], "a_y,b_1": [1.0, None]}
    assert vectors.scalars(asked("+"), 2, 3) == 5 and vectors.scalars(asked("<"), 2, 3) == 1


@pytest.mark.parametrize(
    ("op", "grouping", "expected"),
    [
        ("sum", Grouping(("b",)), {"b_1": [4.0, 2.0]}),
        ("avg", Grouping(("a",), without=True), {"b_1": [2.0, 2.0]}),
        ("count", Grouping(()), {"": [2.0, 1.0]}),
        ("stddev", Grouping(()), {"": [1.0, 0.0]}),
        ("stdvar", Grouping(()), {"": [1.0, 0.0]}),
        ("min", Grouping(("nope",)), {"": [1.0, 2.0]}),
    ],
)
def test_aggregations(op: str, grouping: Grouping, expected: dict[str, list[float | None]]) -> None:
    assert shown(vectors.aggregate(Aggregated(op, ONE, grouping), LEFT, 2)) == expected


NAN = pytest.approx(math.nan, nan_ok=True)
NONES = series(a_x=[math.nan, math.nan, 1, math.inf], a_y=[2, None, math.nan, -math.inf], a_z=[4, None, None, 1])


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("sum", [NAN, NAN, NAN, NAN]),
        ("avg", [NAN, NAN, NAN, NAN]),
        ("min", [2.0, NAN, 1.0, -math.inf]),
        ("max", [4.0, NAN, 1.0, math.inf]),
        ("count", [3.0, 1.0, 2.0, 3.0]),
        ("stddev", [NAN, NAN, NAN, NAN]),
        ("stdvar", [NAN, NAN, NAN, NAN]),
    ],
)
def test_a_value_that_is_no_number_is_one_all_the_same(op: str, expected: list[Any]) -> None:
    """As PromQL has it: the least and the greatest pass it over, everything else becomes it."""
    assert shown(vectors.aggregate(Aggregated(op, ONE, Grouping(())), NONES, 4)) == {"": expected}


def test_what_is_no_number_is_the_last_of_every_order_and_before_what_is_absent() -> None:
    for op in ("topk", "bottomk"):
        found = shown(vectors.aggregate(Aggregated(op, ONE, k=2), NONES, 4))
        assert (found["a_y"][:2], found["a_x"][:3], found["a_z"][:3]) == ([2.0, None], [None, NAN, 1.0], [4.0, None, None])
    for op, order in (("sort", ["a_x", "a_y", "a_z"]), ("sort_desc", ["a_y", "a_x", "a_z"])):
        assert list(shown(vectors.aggregate(Aggregated(op, ONE), series(a_x=[1], a_y=[2], a_z=[math.nan]), 1))) == order


def test_comparisons_with_what_is_no_number() -> None:
    assert shown(vectors.with_scalar(asked("!="), NONES, 2, scalar_left=False))["a_x"] == [NAN, NAN, 1.0, math.inf]
    assert shown(vectors.with_scalar(asked(">"), NONES, 0, scalar_left=False))["a_x"] == [None, None, 1.0, math.inf]
    assert shown(vectors.with_scalar(asked("== bool"), NONES, 1, scalar_left=False))["a_x"] == [0.0, 0.0, 1.0, 0.0]


def test_numbers_divide_as_they_do() -> None:
    assert vectors.scalars(asked("/"), 1, 0) == math.inf and vectors.scalars(asked("/"), -1, 0) == -math.inf
    assert math.isnan(vectors.scalars(asked("/"), 0, 0)) and math.isnan(vectors.scalars(asked("%"), 1, 0))


def test_no_operation_makes_what_is_absent() -> None:
    """A payload of its own, which NaN made by arithmetic never has."""
    with np.errstate(all="ignore"):
        made = np.array([0.0, np.inf, np.nan, -1.0]) / np.array([0.0, np.inf, 1.0, 0.0])
    assert not absent(made).any() and not absent(np.array([math.nan, -math.nan])).any()
    assert absent(np.array([ABSENT, ABSENT * 1.0]))[0] and absent(np.where([True, False], ABSENT, 0.0)).tolist() == [True, False]


def test_ranks_and_order() -> None:
    for op in ("topk", "approx_topk"):
        assert shown(vectors.aggregate(Aggregated(op, ONE, k=1), LEFT, 2)) == {"a_x,b_1": [None, 2.0], "a_y,b_1": [3.0, None]}
    assert shown(vectors.aggregate(Aggregated("bottomk", ONE, k=1), LEFT, 2)) == {"a_x,b_1": [1.0, 2.0]}
    assert list(shown(vectors.aggregate(Aggregated("sort", ONE), LEFT, 2))) == ["a_x,b_1", "a_y,b_1"]
    assert list(shown(vectors.aggregate(Aggregated("sort_desc", ONE), LEFT, 2))) == ["a_y,b_1", "a_x,b_1"]


def test_label_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    found = vectors.replaced(Replaced(ONE, "d", "$1-${n}$$", "a", "(?P<n>x|y)"), LEFT)
    assert list(shown(found)) == ["a_x,b_1,d_x-x$", "a_y,b_1,d_y-y$"]
    assert list(shown(vectors.replaced(Replaced(ONE, "b", "", "a", "x"), LEFT))) == ["a_x", "a_y,b_1"]
    with pytest.raises(BadInput, match="one series of several"):
        vectors.replaced(Replaced(ONE, "a", "same", "b", ".*"), LEFT)
    # Neither what takes long to compile nor what makes much of each series stops the server.
    with pytest.raises(BadInput, match="expression too large"):
        vectors.replaced(Replaced(ONE, "d", "", "a", "(a?){1000}" * 30), LEFT)
    monkeypatch.setattr(vectors, "_MOST_MADE", 1000)
    assert len(dict(next(iter(vectors.replaced(Replaced(ONE, "d", "x" * 500, "a", "x|y"), LEFT))))["d"]) == 500
    for large in ("x" * 501, "$1" * 501):
        with pytest.raises(BadInput, match="more than 1,000 characters"):
            vectors.replaced(Replaced(ONE, "d", large, "a", "(?:x|y)()"), LEFT)
