"""Numbers of a log's rows: they rise, with time, and no two servers give the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.records.numbers import INSTANCES, Numbers, own_number

NOW = 1_700_000_000_000


def test_they_rise_with_time() -> None:
    numbers = Numbers(0, 7)
    first, second, later = numbers.take(NOW), numbers.take(NOW), numbers.take(NOW + 5)
    assert first == NOW * INSTANCES + 7
    assert second == (NOW + 1) * INSTANCES + 7
    assert later == (NOW + 5) * INSTANCES + 7


def test_they_rise_while_the_clock_goes_back() -> None:
    numbers = Numbers(0, 0)
    assert numbers.take(NOW) < numbers.take(NOW - 60_000) < numbers.take(0)


@pytest.mark.parametrize("newest", [20, NOW * INSTANCES + 4095, NOW * INSTANCES, (NOW + 90_000) * INSTANCES + 3])
@pytest.mark.parametrize("own", [0, 3, 4095])
def test_they_go_on_above_what_is_there(newest: int, own: int) -> None:
    assert Numbers(newest, own).take(NOW) > newest


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-3, 3)), max_size=60))
def test_no_two_servers_give_the_same(turns: list[tuple[int, int]]) -> None:
    servers = [Numbers(0, own) for own in (0, 1, 4095)]
    given_out = [servers[which].take(NOW + drift) for which, drift in turns]
    assert len(set(given_out)) == len(given_out)


@given(st.integers(1, 50), st.integers(-3, 3))
def test_many_are_those_that_come_one_by_one(count: int, drift: int) -> None:
    one, many = Numbers(0, 7), Numbers(0, 7)
    one.take(NOW), many.take(NOW)
    assert list(many.many(NOW + drift, count)) == [one.take(NOW + drift) for _ in range(count)]
    assert one.take(NOW) == many.take(NOW)


def test_readers_of_json_count_so_far_for_years() -> None:
    in_2038 = 2_145_916_800_000
    assert Numbers(0, 4095).take(in_2038) < 1 << 53


def test_a_server_finds_its_own_number() -> None:
    found = {own_number() for _ in range(200)}
    assert len(found) > 100 and found <= set(range(INSTANCES))
    with pytest.raises(AssertionError):
        Numbers(0, INSTANCES)
