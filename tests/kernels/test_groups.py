"""Grouping, aggregating and joining kernels against plain Python."""

from __future__ import annotations

import math
import random
import statistics
from collections import defaultdict

import numpy as np
import pytest

from vedette.kernels import groups as k
from vedette.kernels import joins
from vedette.model.labels import Labels
from vedette.model.labeltable import LabelTable

RNG = np.random.default_rng(5)


def table() -> tuple[list[Labels], LabelTable]:
    rng = random.Random(3)
    rows = [
        Labels.of({name: f"v{rng.randrange(3)}" for name in ("a", "b", "c", "d") if rng.random() < 0.7} | {"i": str(i % 50)})
        for i in range(400)
    ]
    return rows, LabelTable.from_labels(rows)


@pytest.mark.parametrize("names", [(), ("a",), ("a", "c"), ("i",), ("nothing",)])
@pytest.mark.parametrize("without", [False, True])
def test_rows_are_grouped_by_their_labels(names: tuple[str, ...], without: bool) -> None:
    rows, labels = table()
    wanted = np.array([labels.symbols.find(n) for n in names if labels.symbols.find(n) >= 0], dtype=np.int32)
    groups, first = np.empty(400, dtype=np.int64), np.empty(400, dtype=np.int64)
    count = k.group_rows(labels.offsets, labels.names, labels.values, wanted, without, groups, first)
    seen: dict[Labels, int] = {}
    expected = [seen.setdefault(Labels(p for p in row if (p[0] in names) != without), len(seen)) for row in rows]
    assert groups.tolist() == expected
    assert count == len(seen)
    assert [expected.index(g) for g in range(count)] == first[:count].tolist()
    out = np.empty(401, dtype=np.int64), np.empty(len(labels.names), dtype=np.int32), np.empty(len(labels.names), dtype=np.int32)
    n = k.keep_pairs(labels.offsets, labels.names, labels.values, wanted, without, *out)
    kept = LabelTable(labels.symbols, out[0], out[1][:n], out[2][:n])
    assert list(kept) == [Labels(p for p in row if (p[0] in names) != without) for row in rows]


def matrix(rows: int = 60, steps: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = RNG.normal(size=(rows, steps)) * 100
    values[3, 2] = math.nan
    values[4, :] = math.nan
    values[5, 4] = math.inf
    return values, RNG.random((rows, steps)) < 0.8, RNG.integers(0, 5, rows)


def members(values: np.ndarray, present: np.ndarray, groups: np.ndarray) -> dict[tuple[int, int], list[float]]:
    found: dict[tuple[int, int], list[float]] = defaultdict(list)
    for r in range(values.shape[0]):
        for s in range(values.shape[1]):
            if present[r, s]:
                found[(int(groups[r]), s)].append(float(values[r, s]))
    return found


def twin(code: int, values: list[float]) -> float:
    real = [v for v in values if not math.isnan(v)]
    if code == k.COUNT:
        return len(values)
    if code == k.GROUP:
        return 1.0
    if code in (k.MIN, k.MAX):
        return (min if code == k.MIN else max)(real) if real else math.nan
    if len(real) < len(values):
        return math.nan
    if any(math.isinf(v) for v in values):
        return math.inf if code in (k.SUM, k.AVG, k.MEAN) else math.nan
    if code == k.SUM:
        return math.fsum(values)
    if code in (k.AVG, k.MEAN):
        return statistics.fmean(values)
    variance = statistics.pvariance(values)
    return variance if code == k.STDVAR else math.sqrt(variance)


SPLIT = [k.SUM, k.AVG, k.COUNT, k.MIN, k.MAX, k.GROUP]
WHOLE = [*SPLIT, k.STDVAR, k.STDDEV, k.MEAN]  # the last three depend on the order of rows, and are never split


@pytest.mark.parametrize(("code", "halves"), [*((c, 1) for c in WHOLE), *((c, 2) for c in SPLIT)])
def test_aggregates(code: int, halves: int) -> None:
    values, present, groups = matrix()
    sums = [np.zeros((6, 9)) for _ in range(3)]
    cut = 60 // halves
    k.accumulate(code, values[:cut], present[:cut], groups[:cut], *sums)
    if halves == 2:
        more = [np.zeros((6, 9)) for _ in range(3)]
        k.accumulate(code, values[cut:], present[cut:], groups[cut:], *more)
        k.merge(code, *sums, *more)
    there = np.empty((6, 9), dtype=np.bool_)
    k.finish(code, *sums, there)
    wanted = members(values, present, groups)
    assert {(int(g), int(s)) for g, s in zip(*np.nonzero(there), strict=True)} == wanted.keys()
    for (g, s), numbers in wanted.items():
        assert sums[0][g, s] == pytest.approx(twin(code, numbers), nan_ok=True), (g, s)


def test_a_sum_keeps_what_a_plain_sum_loses() -> None:
    values = np.array([[1.0], [1e100], [1.0], [-1e100]])
    sums = [np.zeros((1, 1)) for _ in range(3)]
    k.accumulate(k.SUM, values, np.ones((4, 1), dtype=np.bool_), np.zeros(4, dtype=np.int64), *sums)
    k.finish(k.SUM, *sums, np.empty((1, 1), dtype=np.bool_))
    assert sums[0][0, 0] == 2.0


def test_a_mean_turns_incremental_where_its_sum_overflows() -> None:
    values = np.array([[1.7e308], [1.7e308], [1.7e308]])
    sums = [np.zeros((1, 1)) for _ in range(3)]
    k.accumulate(k.MEAN, values, np.ones((3, 1), dtype=np.bool_), np.zeros(3, dtype=np.int64), *sums)
    k.finish(k.MEAN, *sums, np.empty((1, 1), dtype=np.bool_))
    assert sums[0][0, 0] == pytest.approx(1.7e308)


def in_groups(groups: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    starts = np.concatenate([[0], np.cumsum(np.bincount(groups, minlength=count))]).astype(np.int64)
    return starts, np.argsort(groups, kind="stable")


def test_quantile_by_group() -> None:
    values, present, groups = matrix()
    starts, rows = in_groups(groups, 5)
    out, there = np.empty((5, 9)), np.empty((5, 9), dtype=np.bool_)
    k.group_quantile(values, present, starts, rows, np.full(9, 0.25), 0, 5, out, there)
    k.group_quantile(values, present, starts, rows, np.full(9, 0.25), 5, 9, out, there)
    for (g, s), numbers in members(values, present, groups).items():
        order = sorted(numbers, key=lambda v: (not math.isnan(v), v))
        rank = 0.25 * (len(order) - 1)
        low = int(rank)
        wanted = order[low] * (1 - (rank - low)) + order[min(low + 1, len(order) - 1)] * (rank - low)
        assert out[g, s] == pytest.approx(wanted, nan_ok=True)


def test_rows_laid_over_one_another() -> None:
    values = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    present = np.array([[True, False], [False, True], [True, True]])
    out, there = np.zeros((2, 2)), np.zeros((2, 2), dtype=np.bool_)
    assert k.merge_rows(values, present, np.array([0, 0, 1]), out, there) == -1
    assert out.tolist() == [[1.0, 4.0], [5.0, 6.0]]
    assert k.merge_rows(values, present, np.array([0, 1, 0]), np.zeros((2, 2)), np.zeros((2, 2), dtype=np.bool_)) == 2
    assert joins.collision(present, np.array([0, 1, 0]), np.zeros((2, 2), dtype=np.bool_)) == 2
    assert joins.collision(present, np.array([0, 1, 2]), np.zeros((3, 2), dtype=np.bool_)) == -1
    any_ = np.zeros((2, 2), dtype=np.bool_)
    k.any_present(present[:2], np.array([1, 1]), any_)
    assert any_.tolist() == [[False, False], [True, True]]


NUMBERS = [0.0, -0.0, 1.5, -2.0, 7.0, math.inf, -math.inf, math.nan]


def operate(op: int, a: float, b: float) -> float | bool:
    with np.errstate(all="ignore"):
        x, y = np.float64(a), np.float64(b)
        return {
            joins.ADD: lambda: x + y, joins.SUB: lambda: x - y, joins.MUL: lambda: x * y, joins.DIV: lambda: x / y,
            joins.MOD: lambda: np.fmod(x, y), joins.POW: lambda: np.power(x, y), joins.ATAN2: lambda: np.arctan2(x, y),
            joins.EQ: lambda: bool(x == y), joins.NE: lambda: bool(x != y), joins.GT: lambda: bool(x > y), joins.LT: lambda: bool(x < y),
            joins.GE: lambda: bool(x >= y), joins.LE: lambda: bool(x <= y),
        }[op]()  # fmt: skip


@pytest.mark.parametrize("op", range(13))
def test_operators_on_all_kinds_of_numbers(op: int) -> None:
    n = len(NUMBERS)
    left = np.repeat(np.array(NUMBERS), n).reshape(1, -1)
    right = np.tile(np.array(NUMBERS), n).reshape(1, -1)
    there = np.ones((1, n * n), dtype=np.bool_)
    there[0, -1] = False
    zero = np.zeros(1, dtype=np.int64)
    out, present = np.empty((1, n * n)), np.empty((1, n * n), dtype=np.bool_)
    for as_bool, keep_right in ((False, False), (True, False), (False, True)):
        joins.combine(op, left, there, right, np.ones_like(there), zero, zero, as_bool, keep_right, out, present)
        assert not present[0, -1]
        for i in range(n * n - 1):
            a, b = float(left[0, i]), float(right[0, i])
            wanted = operate(op, a, b)
            if isinstance(wanted, bool):
                assert present[0, i] == (wanted or as_bool)
                wanted = float(wanted) if as_bool else b if keep_right else a
            if present[0, i]:
                assert out[0, i] == pytest.approx(float(wanted), nan_ok=True), (a, b)


@pytest.mark.parametrize("x", [2.0, -3.0, 0.1, 1e-5, 7.3, -1e300, 5e-324, 1.7e308, 1.0, -1.0])
@pytest.mark.parametrize("y", [0.0, 1.0, -1.0, 2.0, 3.0, -2.0, 0.5, -0.5, 2.25, -7.75, 1000.0, 1e9, -1e9, 1e300])
def test_powers(x: float, y: float) -> None:
    with np.errstate(all="ignore"):
        wanted = float(np.power(x, y))
    assert joins.power(x, y) == pytest.approx(wanted, rel=1e-13, abs=5e-324, nan_ok=True)


def test_squares_are_rounded_as_products_are() -> None:
    for x in RNG.normal(size=2000) * 1e9:
        assert joins.power(float(x), 2.0) == float(x) * float(x)


def test_values_are_counted_by_group_and_step() -> None:
    rng = np.random.default_rng(4)
    values = rng.choice([0.0, -0.0, 1.5, math.nan, math.inf, 3e300], (40, 9))
    values[3, 3] = np.array([0x7FF8000000000123], dtype=np.int64).view(np.float64)[0]  # another NaN
    present, groups = rng.random((40, 9)) < 0.8, rng.integers(0, 3, 40)
    wanted: dict[tuple[int, str, int], int] = {}
    for r, step in zip(*np.nonzero(present), strict=True):
        at = (int(groups[r]), repr(float(values[r, step])), int(step))
        wanted[at] = wanted.get(at, 0) + 1
    group_of, value_of, counts = np.empty(32, dtype=np.int64), np.empty(32), np.zeros((32, 9))
    found = k.count_values(values, present, groups, np.full(64, -1, dtype=np.int64), group_of, value_of, counts)
    assert found == 18
    got = {(int(group_of[i]), repr(float(value_of[i])), s): int(counts[i, s]) for i in range(found) for s in range(9) if counts[i, s]}
    assert got == wanted
    few = np.empty(17, dtype=np.int64), np.empty(17), np.zeros((17, 9))
    assert k.count_values(values, present, groups, np.full(64, -1, dtype=np.int64), *few) == -1


def test_the_first_rows_of_each_group() -> None:
    generator = np.random.default_rng(8)
    present, groups, limits = generator.random((40, 7)) < 0.6, generator.integers(0, 3, 40), np.array([0, 1, 2, 3, 50, -4, 7])
    keep = np.ones((40, 7), dtype=np.bool_)
    k.first_of(present, groups, limits, np.zeros((3, 7), dtype=np.int64), keep)
    for step in range(7):
        for group in range(3):
            there = [r for r in range(40) if groups[r] == group and present[r, step]]
            assert [r for r in range(40) if groups[r] == group and keep[r, step]] == there[: max(0, limits[step])]
