"""Lists of alerts as JSON: what is kept from one asking to the next never shows what is no longer so."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from vedette.clock import ManualClock, now_ms
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.model.matchers import Matcher
from vedette.notify.config import parse
from vedette.notify.held import fingerprints, rfc3339
from vedette.notify.listing import Wanted
from vedette.notify.notifier import Notifier
from vedette.notify.silence import Silence
from vedette.records.database import Records

T0 = 1_700_000_000
CONFIG = """
route:
  receiver: everyone
  group_by: [alertname]
  group_wait: 1h
  routes: [{receiver: db, matchers: [service="db"], continue: true, group_wait: 1h}, {receiver: everyone, group_wait: 1h}]
receivers: [{name: everyone}, {name: db}]
inhibit_rules: [{source_match: {severity: critical}, target_match: {severity: warning}, equal: [cluster]}]
"""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture
async def notifier(records: Records, clock: ManualClock) -> AsyncIterator[Notifier]:
    made = Notifier(parse(CONFIG), records, clock)
    await made.start()
    yield made
    await made.close()


def alert(name: str = "A", *, ends: int = 600, **labels: str) -> Alert:
    return Alert(Labels.of(alertname=name, **labels), T0 * 1000, (T0 + ends) * 1000, Labels.of(summary="x"), "http://g")


async def groups(notifier: Notifier, wanted: Wanted | None = None) -> dict[tuple[str, str], list[dict[str, Any]]]:
    found = [json.loads(g) for g in await notifier.listed_groups(wanted or Wanted())]
    return {(g["receiver"]["name"], g["labels"]["alertname"]): g["alerts"] for g in found}


async def test_what_did_not_change_is_not_written_again(notifier: Notifier) -> None:
    await notifier.accept([alert(i=str(i)) for i in range(3)] + [alert("B")])
    first, again = await notifier.listed_groups(Wanted()), await notifier.listed_groups(Wanted())
    assert all(a is b for a, b in zip(first, again, strict=True))
    await notifier.accept([alert("B", i="new")])
    a, b = await notifier.listed_groups(Wanted())
    assert a is first[0]
    assert len(json.loads(b)["alerts"]) == 2


async def test_an_alert_is_listed_until_it_ends(notifier: Notifier, clock: ManualClock) -> None:
    await notifier.accept([alert(ends=60, i="short"), alert(i="long")])
    assert len((await groups(notifier))["everyone", "A"]) == 2
    await clock.advance(60)
    (left,) = (await groups(notifier))["everyone", "A"]
    assert left["labels"]["i"] == "long"
    await clock.advance(600)
    assert await groups(notifier) == {}
    assert await notifier.listed_alerts(Wanted()) == []


async def test_receivers_silences_inhibitions_and_acknowledgements_show_as_they_come_and_go(notifier: Notifier, clock: ManualClock) -> None:
    await notifier.accept([alert(service="db", severity="warning", cluster="c")])

    async def status() -> tuple[dict[str, Any], Any]:
        (found,) = (await groups(notifier))["db", "A"]
        (flat,) = [a for a in map(json.loads, await notifier.listed_alerts(Wanted())) if a["labels"]["alertname"] == "A"]
        assert flat == found
        assert found["receivers"] == [{"name": "db"}, {"name": "everyone"}]
        return found["status"], found.get("acknowledgement")

    quiet: dict[str, Any] = {"inhibitedBy": [], "silencedBy": [], "mutedBy": [], "state": "active"}
    assert await status() == (quiet, None)
    made = await notifier.silences.put(Silence((Matcher("service", "=", "db"),), 0, (T0 + 100) * 1000))
    assert await status() == ({**quiet, "silencedBy": [made], "state": "suppressed"}, None)
    await clock.advance(100)
    assert await status() == (quiet, None)
    source = alert("S", severity="critical", cluster="c", ends=200)
    await notifier.accept([source])
    assert await status() == ({**quiet, "inhibitedBy": [source.fingerprint], "state": "suppressed"}, None)
    await clock.advance(100)
    assert await status() == (quiet, None)
    name = notifier.alerts()[0].alert.fingerprint
    await notifier.acknowledge(name, author="Alice", note="on it", expires_at=(T0 + 300) * 1000)
    given = {"author": "Alice", "note": "on it", "madeAt": rfc3339((T0 + 200) * 1000), "expiresAt": rfc3339((T0 + 300) * 1000)}
    assert await status() == (quiet, given)
    await clock.advance(100)
    assert await status() == (quiet, None)


async def test_filters(notifier: Notifier) -> None:
    await notifier.accept([alert(service="db"), alert("B", severity="warning", cluster="c"), alert("C", severity="critical", cluster="c")])

    async def names(**wanted: Any) -> list[tuple[str, str]]:
        return list(await groups(notifier, Wanted(**wanted)))

    assert await names(receiver=lambda name: name == "db") == [("db", "A")]
    assert await names(matchers=(Matcher("service", "=", ""),)) == [("everyone", "B"), ("everyone", "C")]
    assert await names(inhibited=False) == [("db", "A"), ("everyone", "A"), ("everyone", "C")]
    assert await names(active=False) == [("everyone", "B")]
    assert await names(muted=False) == [("db", "A"), ("everyone", "A"), ("everyone", "C")]
    flat = await notifier.listed_alerts(Wanted(matchers=(Matcher("alertname", "=~", "A|B"),), inhibited=False))
    assert [json.loads(a)["labels"]["alertname"] for a in flat] == ["A"]


async def test_many_alerts_are_written_before_anybody_asks(notifier: Notifier, clock: ManualClock) -> None:
    await notifier.accept([alert(f"N{i % 7}", i=str(i)) for i in range(3000)])
    for _ in range(50):
        await clock.advance(0.1)
    kept = dict(notifier._listing._kept)
    assert len(kept) == 7
    found = await notifier.listed_groups(Wanted())
    assert {id(k.body) for k in kept.values()} == {id(g) for g in found}
    assert sum(len(json.loads(g)["alerts"]) for g in found) == 3000


async def test_a_new_configuration_lists_its_own_groups(notifier: Notifier) -> None:
    await notifier.accept([alert(service="db")])
    await groups(notifier)
    await notifier.apply(parse("{route: {receiver: only, group_by: [alertname], group_wait: 1h}, receivers: [{name: only}]}"))
    ((place, alerts),) = (await groups(notifier)).items()
    assert place == ("only", "A")
    assert alerts[0]["receivers"] == [{"name": "only"}]


def test_fingerprints_of_few_and_of_many_are_the_same() -> None:
    sets = [Labels.of(alertname="ä\u2028", i=str(i)) for i in range(200)]
    expected = [Alert(labels, 1, 2).fingerprint for labels in sets]
    assert fingerprints(sets) == expected == [fingerprints([labels])[0] for labels in sets]


@pytest.mark.parametrize("odd", [Labels(), Labels.of(a="\udcfe"), Labels.of({"\udcfe": "x", "b": "\udcff"})])
def test_a_set_that_cannot_be_told_from_its_neighbours_does_not_shift_their_fingerprints(odd: Labels) -> None:
    sets = [Labels.of(i=str(i)) for i in range(100)]
    if odd:
        with pytest.raises(UnicodeEncodeError):  # no text that JSON or UTF-8 can bring
            fingerprints([*sets, odd])
    else:
        assert fingerprints([*sets, odd])[:-1] == fingerprints(sets)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "1970-01-01T00:00:00Z"), (1.5, "1970-01-01T00:00:01.5Z"), (-0.25, "1969-12-31T23:59:59.75Z")]
)
def test_times(seconds: float, text: str) -> None:
    assert rfc3339(int(seconds * 1000)) == text
    assert now_ms(ManualClock(1.0)) == 1000
