"""A channel that takes nothing any more is told by another one, once, and so is its return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from vedette.clock import ManualClock
from vedette.errors import Undeliverable
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.net.answers import Answer
from vedette.net.config import HttpConfig
from vedette.notify import dead
from vedette.notify.config import parse
from vedette.notify.held import Held
from vedette.notify.notifier import Notifier
from vedette.notify.route import build
from vedette.notify.settings import NotifySettings
from vedette.records.database import Records
from vedette.records.rows import NotificationRow

T0 = 1_700_000_000
CONFIG = """
route: {receiver: team, group_by: [alertname], group_wait: 1s, group_interval: 10s, repeat_interval: 1h}
receivers:
- name: team
  webhook_configs: [{url: 'http://team'}]
- name: spare
  webhook_configs: [{url: 'http://spare'}]
"""


class Wires:
    """Webhooks by URL; those in `broken` refuse."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.got: list[tuple[str, str, str]] = []

    async def post_json(
        self, url: str, payload: Any, *, timeout: float, headers: Mapping[str, str] | None = None, leaving: Callable[[], Any] | None = None
    ) -> Answer:
        if url in self.broken:
            raise Undeliverable(f"{url}: gone", reason="status", retryable=False)
        if leaving is not None:
            await leaving()
        self.got.append((url, payload["commonLabels"]["alertname"], payload["status"]))
        return Answer(200, {}, b"", url)

    async def close(self) -> None:
        pass


async def told(records: Records, settings: NotifySettings, *, seconds: int, mended_at: int) -> list[tuple[str, str, str]]:
    clock, wires = ManualClock(T0), Wires()
    wires.broken = {"http://team"}

    def http(_config: HttpConfig) -> Any:
        return wires

    notifier = Notifier(parse(CONFIG), records, clock, http, settings=settings)
    await notifier.start()
    await notifier.accept([Alert(Labels.of(alertname="A"), T0 * 1000, (T0 + 4000) * 1000)])
    for i in range(seconds):
        if i == mended_at:
            wires.broken.clear()
        await clock.advance(1)
        await notifier.settled()
        async with records._turn:
            pass
    await notifier.close()
    return wires.got


async def test_after_two_failures_another_receiver_is_told_and_of_the_return_too(records: Records) -> None:
    found = await told(records, NotifySettings(), seconds=60, mended_at=32)
    assert found[0] == ("http://spare", dead.NAME, "firing")
    assert sorted(found[1:]) == [("http://spare", dead.NAME, "resolved"), ("http://team", "A", "firing")]


ENTRY = NotificationRow("default", "{}:{}", "team", "webhook/0", "waiting", "", "", 0, "", "", "", 0, 0)


def judged(after: int, tries: str) -> list[bool]:
    """Whether each of some notifications, `x` where it failed, raised or repeated the alert."""
    ledger, standing = dead.Ledger(after), dict[Labels, Held]()
    found = []
    for at, one in enumerate(tries):
        news = ledger.judge(ENTRY, "gone" if one == "x" else "", at, standing=standing.get)
        found.append(news is not None and not Held(news, at).resolved(at))
        if news is not None:
            standing[news.labels] = Held(news, at)
    return found


@pytest.mark.parametrize(
    ("after", "tries", "raised"),
    [
        (1, "x.x", "!.!"),
        (2, "xx", ".!"),
        (3, "xxx", "..!"),
        (2, "x.x.xx", ".....!"),  # in a row: one that arrives begins the count anew
        (2, "xxx.x", ".!!.."),  # while it stands each failure repeats it; once it has ended two more raise it
        (0, "xxxx", "...."),
    ],
)
def test_as_many_failures_in_a_row_as_are_set_raise_it(after: int, tries: str, raised: str) -> None:
    assert "".join("!" if one else "." for one in judged(after, tries)) == raised


async def test_it_can_be_turned_off(records: Records) -> None:
    assert await told(records, NotifySettings(dead_channel_after=0), seconds=40, mended_at=99) == []


RECEIVERS = [
    # (channels, wanted, who is told)
    ({"team": 1, "spare": 1}, "", "spare"),
    ({"team": 2, "spare": 1}, "", "team"),
    ({"team": 2, "spare": 1}, "spare", "spare"),
    ({"team": 1, "empty": 0, "last": 1}, "unknown", "last"),
    ({"team": 1}, "", None),
]


@pytest.mark.parametrize(("channels", "wanted", "expected"), RECEIVERS)
def test_who_is_told(channels: dict[str, int], wanted: str, expected: str | None) -> None:
    config = parse(CONFIG).route
    assert config is not None
    labels = Labels.of(alertname=dead.NAME, receiver="team", channel="webhook/0")
    found = dead.routes(labels, build(config), channels, wanted)
    assert found is not None
    assert [r.receiver for r in found] == ([expected] if expected else [])
    assert dead.routes(Labels.of(alertname="Other"), build(config), channels, wanted) is None
