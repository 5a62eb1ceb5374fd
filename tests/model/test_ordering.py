"""Things come in order, equal ones as they came, however many there are."""

from __future__ import annotations

import random

import pytest

from vedette.model.labels import Labels
from vedette.model.ordering import AT_ONCE, in_order


@pytest.mark.parametrize("count", [0, 1, 2, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 3 * AT_ONCE + 7])
def test_as_sorted_does(count: int) -> None:
    chance = random.Random(count)
    things = [(chance.randrange(50), i) for i in range(count)]
    assert in_order(things) == sorted(things)
    assert in_order(iter(things), key=lambda thing: thing[0]) == sorted(things, key=lambda thing: thing[0])


def test_label_sets() -> None:
    found = {Labels.of(__name__="m", i=str(i % 997), j=str(i)) for i in range(2 * AT_ONCE)}
    assert in_order(found) == sorted(found)


def test_what_cannot_be_compared_is_told() -> None:
    with pytest.raises(TypeError):
        in_order([1, "a"])
