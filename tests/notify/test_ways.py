"""Where alerts go by a configuration: routes remembered, receivers named, times of quiet, channels handed back at a change."""

from __future__ import annotations

from typing import Any

import pytest

from vedette.errors import NotFound
from vedette.model.labels import Labels
from vedette.notify.config import parse
from vedette.notify.ways import Ways

NOON = 1_700_049_600_000  # 2023-11-15 12:00 UTC, a Wednesday

CONFIG = """
route:
  receiver: team
  routes:
  - {receiver: night, matchers: [shift="night"], active_time_intervals: [nights]}
  - {receiver: day, matchers: [shift="day"], mute_time_intervals: [noon]}
receivers: [{name: team}, {name: night}, {name: day}]
time_intervals:
- {name: nights, time_intervals: [{times: [{start_time: '20:00', end_time: '24:00'}]}]}
- {name: noon, time_intervals: [{times: [{start_time: '11:00', end_time: '13:00'}]}]}
"""


def ways(made: dict[str, list[Any]] | None = None, text: str = CONFIG) -> Ways:
    found = Ways("http://vedette")
    found.configure(parse(text), lambda receiver, _outer, _templates: (made or {}).get(receiver.name, []), dead_receiver="")
    return found


def test_without_a_configuration_nobody_is_told() -> None:
    none = Ways("")
    assert none.routes(Labels.of(a="b")) == () and none.receivers_of(Labels.of(a="b")) == ()
    assert none.receivers() == [] and none.all_channels() == []
    with pytest.raises(NotFound, match="there are none"):
        none.channels("team")


def test_alerts_that_go_the_same_way_share_one_answer() -> None:
    found = ways()
    a, b = found.receivers_of(Labels.of(shift="day", n="1")), found.receivers_of(Labels.of(shift="day", n="2"))
    assert a == ("day",) and a is b
    assert found.receivers_of(Labels.of(n="1")) == ("team",)
    assert found.routes(Labels.of(shift="night"))[0] is found.routes(Labels.of(shift="night"))[0]


def test_times_of_quiet_are_named_and_explained() -> None:
    found = ways()
    (night,), (day,), (team,) = (found.routes(Labels.of(shift=s)) for s in ("night", "day", ""))
    assert found.muted_by(night, NOON) == ("nights",)
    assert found.muted_by(day, NOON) == ("noon",)
    assert found.muted_by(day, NOON + 2 * 3_600_000) == found.muted_by(team, NOON) == ()
    outside, muted = found.why_not_now(night, NOON)
    assert outside is not None and muted is None
    outside, muted = found.why_not_now(day, NOON)
    assert outside is None and muted is not None and "noon" in muted.detail


def test_a_new_configuration_hands_back_the_channels_of_the_old_one() -> None:
    class Channel:
        kind = "webhook"

    old: Any = Channel()
    new: Any = Channel()
    found = ways({"team": [old]})
    assert [channel for _, channel in found.channels("team")] == [old]
    before = found.receivers_of(Labels.of(shift="day"))
    other = parse("route: {receiver: ops}\nreceivers: [{name: ops}]\n")
    assert found.configure(other, lambda *_: [new], dead_receiver="") == [old]
    assert (before, found.receivers_of(Labels.of(shift="day"))) == (("day",), ("ops",))
    assert found.receivers() == ["ops"] and found.plain_channels("team") == []
    with pytest.raises(NotFound, match="no receiver is called 'team': there are ops"):
        found.channels("team")
    assert found.configure(None, lambda *_: [], dead_receiver="") == [new]
    assert found.routes(Labels.of(a="b")) == ()
