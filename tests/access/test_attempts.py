"""How often somebody may guess: few times for one name, more often for all, and nobody else pays for it."""

from __future__ import annotations

import pytest

from vedette.access import attempts
from vedette.access.attempts import PER_ADDRESS, PER_NAME, WINDOW_S, Attempts, TooManyAttempts
from vedette.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tried(clock: ManualClock) -> Attempts:
    return Attempts(clock)


def many(tried: Attempts, count: int, address: str = "10.0.0.1", name: str = "alice") -> None:
    for _ in range(count):
        tried.begin(address, name)


async def test_one_name_has_few_and_is_told_when_to_come_back(tried: Attempts, clock: ManualClock) -> None:
    many(tried, PER_NAME)
    await clock.advance(WINDOW_S - 0.5)
    with pytest.raises(TooManyAttempts) as refused:
        tried.begin("10.0.0.1", "alice")
    assert refused.value.retry_after == 1.0, "whole seconds, none too few"
    await clock.advance(0.5)
    many(tried, PER_NAME)


def test_another_name_and_another_address_are_not_held_back(tried: Attempts) -> None:
    many(tried, PER_NAME)
    tried.begin("10.0.0.1", "bob")
    tried.begin("10.0.0.2", "alice")
    with pytest.raises(TooManyAttempts):
        tried.begin("10.0.0.1", "alice")


def test_one_address_has_so_many_for_all_names(tried: Attempts) -> None:
    for number in range(PER_ADDRESS):
        tried.begin("10.0.0.1", f"user{number}")
    with pytest.raises(TooManyAttempts):
        tried.begin("10.0.0.1", "one-more")
    tried.begin("10.0.0.2", "one-more")


def test_who_gives_a_key_and_no_name_does_not_pay_for_the_names_of_others(tried: Attempts) -> None:
    """People behind one address: five of them mistyped their passwords, and a key is good all the same."""
    for number in range(PER_NAME + 1):
        tried.begin("10.0.0.1", f"user{number}")
    many(tried, PER_NAME, name="")
    with pytest.raises(TooManyAttempts):
        tried.begin("10.0.0.1", "")


def test_a_refused_attempt_does_not_make_the_wait_longer(tried: Attempts) -> None:
    many(tried, PER_NAME)
    for _ in range(100):
        with pytest.raises(TooManyAttempts):
            tried.begin("10.0.0.1", "alice")
    for name in ("bob", "carol", "dave"):  # nor do they count for the address
        many(tried, PER_NAME, name=name)


def test_what_proved_who_somebody_is_does_not_count(tried: Attempts) -> None:
    for _ in range(10 * PER_ADDRESS):
        tried.begin("10.0.0.1", "alice")
        tried.forgive("10.0.0.1", "alice")
    many(tried, PER_NAME)


def test_forgiving_what_was_never_begun_gives_nobody_more(tried: Attempts) -> None:
    for _ in range(5):
        tried.forgive("10.0.0.1", "alice")
    many(tried, PER_NAME)
    with pytest.raises(TooManyAttempts):
        tried.begin("10.0.0.1", "alice")


def test_a_flood_of_addresses_is_bounded_and_forgets_the_oldest(tried: Attempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_REMEMBERED", 10)
    many(tried, PER_NAME)
    for number in range(20):
        tried.begin(f"10.1.0.{number}", "alice")
    assert len(tried._counts) == 10
    tried.begin("10.0.0.1", "alice")
    with pytest.raises(TooManyAttempts):
        many(tried, PER_NAME + 1, address="10.1.0.19")
