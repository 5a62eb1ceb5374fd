"""When groups are evaluated."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from vedette.rules.scheduler import following, next_tick, offset

moments = st.integers(1_600_000_000_000, 1_800_000_000_000)
intervals = st.integers(1, 10_000_000)


@given(moments, intervals, st.data())
def test_the_next_tick_is_the_first_at_the_groups_place_after_now(now: int, interval: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, interval - 1))
    at = next_tick(now, interval, place)
    assert now < at <= now + interval
    assert at % interval == place


@given(moments, intervals, st.integers(0, 100_000_000))
def test_after_an_evaluation_comes_the_next_interval_or_the_latest_that_is_due(at: int, interval: int, took: int) -> None:
    following_at, missed = following(at, at + took, interval)
    assert (following_at - at) % interval == 0
    assert missed == (following_at - at) // interval - 1 >= 0
    if took < 2 * interval:
        assert missed == 0
    else:
        assert at + took - interval < following_at <= at + took


def test_groups_spread_over_their_interval_and_stay_where_they_are() -> None:
    places = [offset("f.yml", f"group {i}", 60_000) for i in range(1000)]
    assert places == [offset("f.yml", f"group {i}", 60_000) for i in range(1000)]
    counts = [sum(low <= p < low + 6000 for p in places) for low in range(0, 60_000, 6000)]
    assert sum(counts) == 1000
    assert all(50 < c < 150 for c in counts)
    assert len(set(itertools.islice(places, 100))) > 90
