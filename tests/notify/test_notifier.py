"""The notifier on real sockets: the payload, retries, reloads, limits of time, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from vedette.clock import ManualClock, SystemClock, now_ms
from vedette.errors import LimitExceeded
from vedette.model.alerts import Alert
from vedette.model.labels import Labels
from vedette.notify import pipeline
from vedette.notify.channels.webhook import payload, rfc3339
from vedette.notify.config import parse
from vedette.notify.held import Held, merged, received, worth_saving
from vedette.notify.notice import Notice
from vedette.notify.notifier import MAINTENANCE_MS, Notifier
from vedette.records.database import Records

Until = Callable[[Callable[[], object]], Awaitable[None]]

CONFIG = """
route: {{receiver: team, group_by: [alertname], group_wait: 0s, group_interval: {interval}, repeat_interval: 1h}}
receivers:
- name: team
  webhook_configs: [{{url: '{url}', {more}}}]
"""


def config(url: str, *, interval: str = "30ms", more: str = "send_resolved: true") -> Any:
    return parse(CONFIG.format(url=url, interval=interval, more=more))


def alert(name: str = "A", *, ends_in: float = 3600, **labels: str) -> Alert:
    now = now_ms(SystemClock())
    return Alert(Labels.of(alertname=name, **labels), now - 5000, now + int(ends_in * 1000), Labels.of(summary=f"{name} is up"), "http://g")


@asynccontextmanager
async def running(given: Any, records: Records) -> AsyncIterator[Notifier]:
    notifier = Notifier(given, records, SystemClock(), external_url="http://vedette:8009/")
    await notifier.start()
    yield notifier
    await notifier.close()


async def test_the_payload_is_alertmanagers(records: Records, receiver: Any, until: Until) -> None:
    async with running(config(receiver.url), records) as notifier:
        one, two = alert(instance="a", severity="page"), alert(instance="b", severity="page")
        await notifier.accept([two, one])
        await until(lambda: receiver.requests)
    (request,) = receiver.requests
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("Vedette")
    assert len(request.headers["idempotency-key"]) == 32
    body = request.body
    assert list(body) == [
        *("receiver", "status", "alerts", "groupLabels", "commonLabels", "commonAnnotations"),
        *("externalURL", "version", "groupKey", "truncatedAlerts"),
    ]
    assert (body["receiver"], body["status"], body["version"], body["truncatedAlerts"]) == ("team", "firing", "4", 0)
    assert body["groupLabels"] == {"alertname": "A"}
    assert body["commonLabels"] == {"alertname": "A", "severity": "page"}
    assert body["commonAnnotations"] == {"summary": "A is up"}
    assert (body["groupKey"], body["externalURL"]) == ('{}:{alertname="A"}', "http://vedette:8009")
    first = body["alerts"][0]
    assert first == {
        "status": "firing",
        "labels": {"alertname": "A", "instance": "a", "severity": "page"},
        "annotations": {"summary": "A is up"},
        "startsAt": rfc3339(one.starts_at),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://g",
        "fingerprint": one.fingerprint,
    }


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1_700_000_000_120, "2023-11-14T22:13:20.12Z"), (1_700_000_000_007, "2023-11-14T22:13:20.007Z")],
)
def test_times(ms: int, text: str) -> None:
    assert rfc3339(ms) == text


def test_alerts_over_the_maximum_are_counted_and_mixed_states_count_as_firing() -> None:
    alerts = [Alert(Labels.of(alertname="A", i=str(i)), 1, 5 if i else 50) for i in range(3)]
    notice = Notice("r", "k", Labels(), alerts, 10, "", "key")
    body = payload(notice, max_alerts=2)
    assert (body["status"], len(body["alerts"]), body["truncatedAlerts"]) == ("firing", 2, 1)
    assert [a["status"] for a in body["alerts"]] == ["firing", "resolved"]
    assert body["alerts"][1]["endsAt"] == "1970-01-01T00:00:00.005Z"
    assert payload(Notice("r", "k", Labels(), alerts[1:], 10, "", "key"))["status"] == "resolved"


async def test_told_once_however_often_it_is_raised(records: Records, receiver: Any, until: Until) -> None:
    async with running(config(receiver.url), records) as notifier:
        for _ in range(5):
            await notifier.accept([alert()])
            await until(lambda: receiver.requests)
            await notifier.settled()
        (group,) = notifier.groups()
        flushed = group.next_flush
        await until(lambda: notifier.groups()[0].next_flush > flushed + 100)
    assert len(receiver.requests) == 1


async def test_retries_what_may_pass_and_honours_retry_after(
    records: Records, receiver: Any, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_BACKOFF_S", 0.01)
    receiver.answers = [(500, {}), (429, {"Retry-After": "0"}), (503, {})]
    async with running(config(receiver.url), records) as notifier:
        await notifier.accept([alert()])
        await until(lambda: len(receiver.requests) == 4)
        await until(lambda: notifier.counts.sent["webhook"] == 1)
    assert notifier.counts.failed["status"] == 3
    assert len({r.headers["idempotency-key"] for r in receiver.requests}) == 1


async def test_does_not_retry_a_refusal_until_the_next_flush(records: Records, receiver: Any, until: Until) -> None:
    receiver.answers = [(400, {})]
    async with running(config(receiver.url, interval="200ms"), records) as notifier:
        before = now_ms(SystemClock())
        await notifier.accept([alert()])
        await until(lambda: notifier.counts.sent["webhook"] == 1)
    assert len(receiver.requests) == 2
    assert now_ms(SystemClock()) - before >= 200


async def test_a_receiver_that_never_answers_holds_up_nobody_else(records: Records, receiver: Any, until: Until) -> None:
    receiver.answers = [None]
    async with running(config(receiver.url, more="timeout: 10s"), records) as notifier:
        await notifier.accept([alert("Hangs")])
        await until(lambda: receiver.requests)
        await notifier.accept([alert("Other")])
        await until(lambda: notifier.counts.sent["webhook"] == 1)
        assert receiver.requests[1].body["groupLabels"] == {"alertname": "Other"}
        for task in asyncio.all_tasks():
            if "Hangs" in task.get_name():
                task.cancel()


async def test_a_webhook_timeout_is_a_failure_with_its_reason(records: Records, receiver: Any, until: Until) -> None:
    receiver.answers = [None]
    async with running(config(receiver.url, more="timeout: 20ms"), records) as notifier:
        await notifier.accept([alert()])
        await until(lambda: notifier.counts.sent["webhook"] == 1)
        # Of a machine with much to do the second attempt may be late, too.
        assert notifier.counts.failed["timeout"] >= 1


async def test_nobody_is_told_of_what_ended_before_they_knew(records: Records, receiver: Any, until: Until) -> None:
    async with running(config(receiver.url), records) as notifier:
        await notifier.accept([alert("Short", ends_in=-1)])
        await until(lambda: notifier.groups()[0].alerts == ())
        await notifier.accept([alert("Long")])
        await until(lambda: receiver.requests)
    assert [r.body["groupLabels"]["alertname"] for r in receiver.requests] == ["Long"]


async def test_without_send_resolved_the_end_is_noted_but_not_told(records: Records, receiver: Any, until: Until) -> None:
    async with running(config(receiver.url, more="send_resolved: false"), records) as notifier:
        await notifier.accept([alert()])
        await until(lambda: receiver.requests)
        await notifier.accept([alert(ends_in=-1)])
        await until(lambda: notifier.groups()[0].alerts == ())
        await notifier.accept([alert()])
        await until(lambda: len(receiver.requests) == 2)
    assert [r.body["status"] for r in receiver.requests] == ["firing", "firing"]


async def test_a_reload_tells_nothing_again_and_a_new_receiver_learns(records: Records, receiver: Any, until: Until) -> None:
    async with running(config(receiver.url), records) as notifier:
        await notifier.accept([alert()])
        await until(lambda: notifier.counts.sent["webhook"] == 1)
        await notifier.apply(config(receiver.url, interval="40ms"))
        await until(lambda: notifier.groups() and notifier.groups()[0].next_flush > now_ms(SystemClock()))
        await notifier.settled()
        assert len(receiver.requests) == 1
        other = CONFIG.replace("team", "others").format(url=receiver.url, interval="30ms", more="send_resolved: true")
        await notifier.apply(parse(other))
        await until(lambda: len(receiver.requests) == 2)
    assert [r.body["receiver"] for r in receiver.requests] == ["team", "others"]


async def test_without_a_configuration_alerts_are_held_and_nobody_is_told(records: Records) -> None:
    async with running(None, records) as notifier:
        await notifier.accept([alert()])
        assert len(notifier.alerts()) == 1
        assert notifier.groups() == []


async def test_what_the_records_refuse_is_refused_and_not_held(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise LimitExceeded("disk full")

    async with running(None, records) as notifier:
        with monkeypatch.context() as patched:
            patched.setattr(records, "save", refuse)
            with pytest.raises(LimitExceeded):
                await notifier.accept([alert()])
        assert notifier.alerts() == []


async def test_a_rotated_url_file_is_read_for_each_notification(tmp_path: Any, records: Records, receiver: Any, until: Until) -> None:
    file = tmp_path / "url"
    file.write_text(f"{receiver.url}\n")
    given = parse(CONFIG.replace("url: '{url}'", "url_file: '{url}'").format(url=file, interval="30ms", more="send_resolved: true"))
    async with running(given, records) as notifier:
        await notifier.accept([alert("A")])
        await until(lambda: receiver.requests)
        file.write_text(receiver.url + "-2")
        await notifier.accept([alert("B")])
        await until(lambda: len(receiver.requests) == 2)
    assert [r.path for r in receiver.requests] == ["/secret-path", "/secret-path-2"]


# What is held of an alert. Times in ms; `now` 100.

MERGES = [
    # old (start, end, timeout), new (start, end, timeout) -> (start, end)
    ((10, 200, False), (10, 300, False), (10, 300)),
    ((10, 200, False), (20, 300, False), (10, 300)),
    ((10, 300, False), (20, 200, False), (10, 300)),
    ((10, 300, True), (20, 200, False), (10, 200)),
    ((10, 300, False), (10, 90, False), (10, 90)),
    ((10, 80, False), (20, 70, False), (10, 80)),
    ((10, 50, False), (60, 300, False), (60, 300)),
    ((200, 300, False), (10, 50, False), (10, 50)),
]


@pytest.mark.parametrize(("old", "new", "expected"), MERGES)
def test_news_of_an_alert_joins_what_is_held(old: tuple[int, int, bool], new: tuple[int, int, bool], expected: tuple[int, int]) -> None:
    def held(times: tuple[int, int, bool], at: int) -> Held:
        return Held(Alert(Labels.of(a="b"), *times[:2]), at, times[2])

    found = merged(held(old, 50), held(new, 100), 100)
    assert (found.alert.starts_at, found.alert.ends_at) == expected


def test_open_starts_and_ends_are_filled_in() -> None:
    labels = Labels.of(a="b")
    assert received(Alert(labels, 0, 0), 100, resolve_timeout=50) == Held(Alert(labels, 100, 150), 100, timeout=True)
    assert received(Alert(labels, 0, 60), 100, resolve_timeout=50) == Held(Alert(labels, 60, 60), 100)
    assert received(Alert(labels, 7, 0), 100, resolve_timeout=50).alert.starts_at == 7


def test_only_news_is_saved() -> None:
    old = Held(Alert(Labels.of(a="b"), 10, 200), 50)
    assert worth_saving(None, old, 100)
    assert not worth_saving(old, Held(Alert(Labels.of(a="b"), 10, 300), 100), 100)
    assert worth_saving(old, Held(Alert(Labels.of(a="b"), 10, 90), 100), 100)
    assert worth_saving(old, Held(Alert(Labels.of(a="b"), 10, 300, Labels.of(s="x")), 100), 100)


async def test_a_fault_in_one_flush_is_counted_and_its_group_is_told_by_the_next(
    records: Records, receiver: Any, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(config(receiver.url), records) as notifier:
        flush, faults = notifier._pipeline.flush, [KeyError("a fault of ours"), LimitExceeded("the records are full")]

        async def faulty(*args: Any) -> Any:
            if faults:
                raise faults.pop(0)
            return await flush(*args)

        monkeypatch.setattr(notifier._pipeline, "flush", faulty)
        await notifier.accept([alert()])
        await until(lambda: receiver.requests)
        assert (notifier.counts.failed["internal"], notifier.counts.failed["records"]) == (1, 1)
        assert [a["labels"]["alertname"] for a in receiver.requests[0].body["alerts"]] == ["A"]


async def test_a_fault_of_one_round_ends_no_later_one(
    records: Records, receiver: Any, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(config(receiver.url), records) as notifier:
        with monkeypatch.context() as broken:

            async def fault(_now: int) -> None:
                raise ValueError("a fault of ours")

            broken.setattr(notifier, "_end", fault)
            await notifier.accept([alert()])
            await until(lambda: notifier.counts.failed["internal"])
        await until(lambda: receiver.requests)
        await notifier.accept([alert("B")])
        await until(lambda: any(a["labels"]["alertname"] == "B" for r in receiver.requests for a in r.body["alerts"]))


@pytest.mark.parametrize(("fault", "counted"), [(LimitExceeded("the disk is full"), "records"), (KeyError("ours"), "internal")])
async def test_a_fault_that_lasts_is_met_once_a_second_and_not_without_end(
    records: Records, until: Until, monkeypatch: pytest.MonkeyPatch, fault: Exception, counted: str
) -> None:
    clock = ManualClock(1_700_000_000.0)
    notifier = Notifier(None, records, clock, external_url="http://vedette:8009/")

    async def failing(_now: int) -> None:
        raise fault

    monkeypatch.setattr(notifier, "_end", failing)
    await notifier.start()
    try:
        await until(lambda: notifier.counts.failed[counted] == 1)
        # From now on maintenance is due, and stays so.
        await clock.advance(MAINTENANCE_MS / 1000)
        for met in (2, 3, 4):
            await until(lambda met=met: notifier.counts.failed[counted] == met)
            for _ in range(100):
                await asyncio.sleep(0)
            assert notifier.counts.failed[counted] == met
            await clock.advance(1)
    finally:
        await notifier.close()
