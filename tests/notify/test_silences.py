"""Silences: what may be made and changed, whom they hush, and that they outlive the process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.clock import ManualClock
from vedette.errors import BadInput, NotFound
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher, match_labels
from vedette.notify import silences as room
from vedette.notify.hush import Hush
from vedette.notify.silence import Silence, checked, ended, may_become
from vedette.notify.silences import Silences
from vedette.records.database import Records

T0 = 1_700_000_000
NOW = T0 * 1000
A = (Matcher("alertname", "=", "A"),)


def silence(starts: int = 0, ends: int = 60_000, matchers: tuple[Matcher, ...] = A, **more: str) -> Silence:
    """Times relative to the start of the test's clock."""
    return Silence(matchers, NOW + starts, NOW + ends, "me", "because", **more)


@pytest.fixture
async def silences(records: Records) -> tuple[Silences, ManualClock]:
    clock = ManualClock(T0)
    made = Silences(records, clock, tenant="default")
    await made.start()
    return made, clock


BAD = [
    (silence(matchers=()), "at least one matcher required"),
    (silence(matchers=(Matcher("a", "=~", ".*"), Matcher("b", "!=", "x"))), "must not match the empty string"),
    (silence(matchers=(Matcher("", "=", "x"),)), "lacks its label name"),
    (replace(silence(), ends_at=0), "invalid zero end timestamp"),
    (silence(starts=10, ends=10), "start time must be before end time"),
    (silence(starts=-10, ends=-1), "end time can't be in the past"),
    (replace(silence(), comment="x" * 20_000), "more than 16384 characters"),
]


@pytest.mark.parametrize(("asked", "why"), BAD)
async def test_what_cannot_be_is_refused_and_not_kept(asked: Silence, why: str, silences: tuple[Silences, ManualClock]) -> None:
    with pytest.raises(BadInput, match=why):
        await silences[0].put(asked)
    assert silences[0].all() == []


async def test_a_life(silences: tuple[Silences, ManualClock]) -> None:
    made, clock = silences
    identity = await made.put(silence(starts=10_000))
    found = made.get(identity)
    assert (found.state(NOW), found.state(NOW + 10_000), found.state(NOW + 60_000)) == ("pending", "active", "expired")
    assert made.hush(NOW).of(Labels.of(alertname="A")) == []
    await clock.advance(10)
    assert made.hush(NOW + 10_000).of(Labels.of(alertname="A")) == [identity]
    await made.expire(identity)
    assert made.get(identity).ends_at == NOW + 10_000
    assert made.hush(NOW + 10_000).of(Labels.of(alertname="A")) == []
    await made.expire(identity)  # once more changes nothing
    assert made.get(identity).ends_at == NOW + 10_000


async def test_one_that_starts_in_the_past_starts_now(silences: tuple[Silences, ManualClock]) -> None:
    identity = await silences[0].put(silence(starts=-5000))
    assert silences[0].get(identity).starts_at == NOW


async def test_expiring_a_pending_one_leaves_it_without_a_moment(silences: tuple[Silences, ManualClock]) -> None:
    identity = await silences[0].put(silence(starts=10_000))
    await silences[0].expire(identity)
    assert (silences[0].get(identity).starts_at, silences[0].get(identity).ends_at) == (NOW, NOW)


async def test_an_unknown_id(silences: tuple[Silences, ManualClock]) -> None:
    with pytest.raises(NotFound):
        await silences[0].put(silence(id="nobody"))
    with pytest.raises(NotFound):
        await silences[0].expire("nobody")


UPDATES = [
    # (old, new, at): whether the change keeps the silence
    (silence(), silence(ends=90_000), 1000, True),
    (silence(), replace(silence(), comment="else"), 1000, True),
    (silence(), silence(starts=400), 1000, True),  # the same second
    (silence(), silence(starts=2000), 1000, False),
    (silence(), silence(ends=500), 1000, False),
    (silence(), silence(ends=1000), 1000, True),  # ending it now
    (silence(), silence(matchers=(Matcher("alertname", "=", "B"),)), 1000, False),
    (silence(starts=5000), silence(starts=9000), 1000, True),
    (silence(starts=5000), silence(starts=500), 1000, False),
    (silence(ends=500), silence(ends=9000), 1000, False),
]


@pytest.mark.parametrize(("old", "new", "at", "kept"), UPDATES)
def test_what_a_change_may_be(old: Silence, new: Silence, at: int, kept: bool) -> None:
    assert may_become(old, new, NOW + at) is kept


async def test_a_change_that_may_not_be_ends_the_old_and_makes_a_new_one(silences: tuple[Silences, ManualClock]) -> None:
    made, clock = silences
    first = await made.put(silence())
    await clock.advance(1)
    assert await made.put(silence(ends=90_000, id=first)) == first
    second = await made.put(silence(matchers=(Matcher("alertname", "=", "B"),), id=first))
    assert second != first
    assert made.get(first).state(NOW + 1000) == "expired"
    assert made.get(second).state(NOW + 1000) == "active"


async def test_what_is_silenced_is_made_anew_only_when_it_changes(silences: tuple[Silences, ManualClock]) -> None:
    """It is asked for with every alert."""
    made, _ = silences
    one = await made.put(silence(starts=1000, ends=5000))
    hushes = [made.hush(NOW + at) for at in (0, 0, 999, 1000, 4999, 5000, 0)]
    assert [h.of(Labels.of(alertname="A")) for h in hushes] == [[], [], [], [one], [one], [], []]
    assert hushes[0] is hushes[1] is hushes[2] and hushes[3] is hushes[4]
    assert len({h.epoch for h in hushes}) == 4, "also where the clock goes back"


async def test_order(silences: tuple[Silences, ManualClock]) -> None:
    made, clock = silences
    wanted = {"gone first": (0, 1), "gone last": (0, 2), "late": (0, 90), "soon": (0, 50), "next week": (80, 90), "tomorrow": (30, 90)}
    for comment, (starts, ends) in wanted.items():
        await made.put(replace(silence(starts * 1000, ends * 1000), comment=comment))
    await clock.advance(3)
    assert [s.comment for s in made.all()] == ["soon", "late", "tomorrow", "next week", "gone last", "gone first"]


async def test_they_outlive_the_process_and_are_forgotten_after_five_days(tmp_path: Path) -> None:
    clock, path = ManualClock(T0), tmp_path / "v.db"
    records = await Records.open(path)
    made = Silences(records, clock, tenant="default")
    both = (Matcher("a", "!~", "b|ä"), Matcher("c", "=", "d"))
    one = await made.put(replace(silence(matchers=both), annotations=Labels.of(ticket="7")))
    await made.expire(await made.put(silence()))
    before = made.all()
    await records.close()

    records = await Records.open(path)
    again = Silences(records, clock, tenant="default")
    await again.start()
    assert again.all() == before
    assert again.get(one).matchers == both
    await again.forget(NOW + room.RETENTION_MS)
    assert len(again.all()) == 2
    await again.forget(NOW + room.RETENTION_MS + 1)
    assert [s.id for s in again.all()] == [one]
    await again.forget(NOW + room.RETENTION_MS + 60_001)
    await records.close()
    records = await Records.open(path)
    last = Silences(records, clock, tenant="default")
    await last.start()
    assert last.all() == []
    await records.close()


def test_pure_steps() -> None:
    assert checked(replace(silence(), starts_at=0), NOW).starts_at == NOW
    assert ended(silence(ends=10), NOW + 20) == silence(ends=10)


names, values = st.sampled_from(["a", "b"]), st.sampled_from(["", "x", "y", "x|y", ".*"])
matchers = st.builds(Matcher, names, st.sampled_from(["=", "!=", "=~", "!~"]), values)


@given(st.lists(st.lists(matchers, min_size=1, max_size=3), max_size=6), st.dictionaries(names, st.sampled_from(["x", "y"])))
def test_the_index_finds_what_asking_each_silence_finds(given: list[list[Matcher]], labels: dict[str, str]) -> None:
    made = [Silence(tuple(ms), 0, 10, id=f"{i}") for i, ms in enumerate(given)]
    alert = Labels.of(labels)
    assert Hush(made).of(alert) == sorted(s.id for s in made if match_labels(s.matchers, alert))
