"""Time intervals: what they say of moments, how mistakes are named, and that routes keep quiet in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

from vedette.clock import ManualClock, now_ms
from vedette.configfile import parse as parse_file
from vedette.errors import BadInput
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify.config import parse
from vedette.notify.intervals import NamedIntervals, TimeInterval
from vedette.notify.notifier import Notifier
from vedette.records.database import Records


def interval(text: str) -> TimeInterval:
    return parse_file(text, TimeInterval)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


HOLDS = [
    ("{}", "2023-11-14T22:13:20+00:00", True),
    ("times: [{start_time: 09:00, end_time: 17:00}]", "2023-11-14T09:00:00+00:00", True),
    ("times: [{start_time: 09:00, end_time: 17:00}]", "2023-11-14T16:59:59+00:00", True),
    ("times: [{start_time: 09:00, end_time: 17:00}]", "2023-11-14T17:00:00+00:00", False),
    ("times: [{start_time: '18:00', end_time: '24:00'}]", "2023-11-14T23:59:59+00:00", True),
    ("times: [{start_time: 09:00, end_time: 10:00}, {start_time: 12:00, end_time: 13:00}]", "2023-11-14T12:30:00+00:00", True),
    # 2023-11-14 is a Tuesday.
    ("weekdays: ['monday:friday']", "2023-11-14T00:00:00+00:00", True),
    ("weekdays: [Saturday, sunday]", "2023-11-14T00:00:00+00:00", False),
    ("weekdays: [sunday]", "2023-11-12T00:00:00+00:00", True),
    ("days_of_month: ['1:5', '14']", "2023-11-14T00:00:00+00:00", True),
    ("days_of_month: ['-3:-1']", "2023-11-28T00:00:00+00:00", True),
    ("days_of_month: ['-3:-1']", "2023-11-27T00:00:00+00:00", False),
    ("days_of_month: ['31']", "2023-11-30T00:00:00+00:00", False),
    ("days_of_month: ['-31:-28']", "2023-02-01T00:00:00+00:00", True),
    ("days_of_month: ['25:-1']", "2024-02-29T00:00:00+00:00", True),
    ("months: ['november:december']", "2023-11-14T00:00:00+00:00", True),
    ("months: ['1:10', '12']", "2023-11-14T00:00:00+00:00", False),
    ("years: ['2020:2022', '2023']", "2023-11-14T00:00:00+00:00", True),
    ("years: ['2020:2022']", "2023-11-14T00:00:00+00:00", False),
    ("{weekdays: [tuesday], months: [may]}", "2023-11-14T00:00:00+00:00", False),
    ("{times: [{start_time: 09:00, end_time: 17:00}], location: America/New_York}", "2023-11-14T13:59:00+00:00", False),
    ("{times: [{start_time: 09:00, end_time: 17:00}], location: America/New_York}", "2023-11-14T14:00:00+00:00", True),
    ("{weekdays: [wednesday], location: Asia/Tokyo}", "2023-11-14T15:00:00+00:00", True),
]


@pytest.mark.parametrize(("text", "moment", "expected"), HOLDS)
def test_holds(text: str, moment: str, expected: bool) -> None:
    assert interval(text).holds(ms(moment)) is expected


BAD = [
    ("times: [{start_time: 9:00, end_time: '17:00'}]", "couldn't parse timestamp '9:00'"),
    ("times: [{start_time: '09:00', end_time: '24:01'}]", "couldn't parse timestamp '24:01'"),
    ("times: [{start_time: '09:00', end_time: '09:00'}]", "start time cannot be equal or greater than end time"),
    ("times: [{start_time: '09:00'}]", "lacks the key end_time"),
    ("weekdays: ['friday:monday']", "start day cannot be before end day"),
    ("weekdays: ['1']", "'1' is not a valid weekday"),
    ("days_of_month: ['0']", "0 is not a valid day of the month: out of range"),
    ("days_of_month: ['1:32']", "32 is not a valid day of the month"),
    ("days_of_month: ['-1:5']", "end day must be negative if start day is negative"),
    ("days_of_month: ['5:1']", "end day 1 is always before start day 5"),
    ("months: ['13']", "out of range"),
    ("months: ['december:january']", "end month before start month"),
    ("years: ['2023:2020']", "end year is before start year"),
    ("location: Europe/Nowhere", "unknown time zone Europe/Nowhere"),
    ("location: ../../etc/passwd", "unknown time zone"),
]


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_a_mistake_is_named(text: str, expected: str) -> None:
    with pytest.raises(BadInput) as refused:
        interval(text)
    assert expected in str(refused.value)


def test_a_name_stands_for_any_of_its_intervals() -> None:
    named = parse_file("{name: x, time_intervals: [{years: ['1999']}, {months: [november]}]}", NamedIntervals)
    assert named.holds(ms("2023-11-14T00:00:00+00:00"))
    assert not named.holds(ms("2023-12-14T00:00:00+00:00"))


CONFIG = """
route:
  receiver: none
  routes:
  - {{receiver: team, group_wait: 0s, group_interval: 1m, {rule}: [hours]}}
receivers: [{{name: none}}, {{name: team, webhook_configs: [{{url: '{url}'}}]}}]
time_intervals: [{{name: hours, time_intervals: [{{times: [{{start_time: '22:00', end_time: '22:30'}}]}}]}}]
"""


@pytest.mark.parametrize(
    ("rule", "told_at_first", "stage"), [("mute_time_intervals", 0, "in_mute_times"), ("active_time_intervals", 1, "outside_active_times")]
)
async def test_a_route_is_quiet_at_its_times(
    rule: str,
    told_at_first: int,
    stage: str,
    records: Records,
    receiver: Any,
    until: Callable[[Callable[[], object]], Awaitable[None]],
) -> None:
    clock = ManualClock(1_700_000_000)  # 22:13:20
    notifier = Notifier(parse(CONFIG.format(rule=rule, url=receiver.url)), records, clock)
    await notifier.start()
    now = now_ms(clock)
    await notifier.accept([Alert(Labels.of(alertname="A"), now, now + 86_400_000)])
    await until(lambda: receiver.requests if told_at_first else notifier.counts.muted[stage])
    await notifier.settled()
    assert notifier.groups()[0].muted_by == (() if told_at_first else ("hours",))
    await clock.advance(1200)  # 22:33:20
    assert notifier.groups()[0].muted_by == (("hours",) if told_at_first else ())
    if told_at_first:
        await notifier.accept([Alert(Labels.of(alertname="B"), now_ms(clock), now + 86_400_000)])
    await clock.advance(60)
    await until(lambda: notifier.counts.muted[stage] > 0 and receiver.requests)
    await notifier.settled()
    assert len(receiver.requests) == 1
    await notifier.close()
