"""Points laid out a part at a time are those of all rows laid out at once."""

from __future__ import annotations

import numpy as np
import pytest

from vedette.promql.points import Points
from vedette.promql.values import Grid

GRID = Grid(1_700_000_000_123, 250, 7)


def plainly(values: np.ndarray, present: np.ndarray, order: np.ndarray) -> tuple[list[int], list[float], list[int]]:
    times, floats, ends = [], [], [0]
    for row in order.tolist():
        for step in range(GRID.n):
            if present[row, step]:
                times.append(GRID.start + step * GRID.step)
                floats.append(float(values[row, step]))
        ends.append(len(times))
    return times, floats, ends


@pytest.mark.parametrize("gaps", ["none", "some", "whole rows", "all"])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_parts_make_up_the_whole(rows: int, gaps: str) -> None:
    random = np.random.default_rng(rows)
    values, order = random.normal(size=(rows, GRID.n)), random.permutation(rows)
    present = np.ones((rows, GRID.n), dtype=np.bool_)
    if gaps == "some":
        present = random.random((rows, GRID.n)) < 0.7
    elif gaps == "whole rows":
        present[::2] = False
    elif gaps == "all":
        present[:] = False
    times, floats, ends = plainly(values, present, order)
    points = Points(values, present, order, GRID)
    assert points.offsets.tolist() == ends
    for width in (1, 3, rows):
        parts = [points.part(lo, min(lo + width, rows)) for lo in range(0, rows, width)]
        assert [t for part, _ in parts for t in part.tolist()] == times
        assert [v for _, part in parts for v in part.tolist()] == floats


def test_a_part_stays_as_it_is_while_others_are_asked_for() -> None:
    points = Points(np.arange(28.0).reshape(4, 7), np.ones((4, 7), dtype=np.bool_), np.array([3, 1, 0, 2]), GRID)
    first, _ = points.part(0, 1)
    longer, floats = points.part(0, 4)
    assert first.tolist() == GRID.times.tolist()
    assert longer.tolist() == 4 * GRID.times.tolist()
    assert floats.tolist() == [*range(21, 28), *range(7, 14), *range(7), *range(14, 21)]
