"""Live values: asked once for all who watch, told when they change, and nobody waits for a slow one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from starlette.requests import Request
from starlette.websockets import WebSocket

from vedette.api.live import Live
from vedette.api.updates import LINGER_S, MOST_QUESTIONS, Question, Subscription, Updates
from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.model.labels import Labels
from vedette.model.samples import SampleBatch, canonical
from vedette.promql.engine import Engine
from vedette.promql.settings import PromqlSettings


class House:
    """Updates over a real engine and storage."""

    def __init__(self, storage: Any, clock: ManualClock, *, most: int = 100) -> None:
        self.storage, self.clock = storage, clock
        self.engine = Engine(storage, PromqlSettings(), clock)
        self.asked = 0
        self.broken = False
        self.updates = Updates(self.ask, clock, interval_ms=1000, most=most)

    async def ask(self, tenant: str, expr: str, at: int) -> Any:
        self.asked += 1
        if self.broken:
            raise LimitExceeded("not now")
        return self.engine.instant(tenant, expr, at)

    async def put(self, value: float, *, tenant: str = "default", **labels: str) -> None:
        await self.clock.advance(0.01)  # a series has one value at a time
        at = int(self.clock.now() * 1000)
        found = Labels.of({"__name__": "m", **labels})
        await self.storage.append(SampleBatch.of(canonical(tenant), [found], [at], [value]))

    async def tick(self) -> None:
        """One interval, and whatever it sets off."""
        await self.clock.advance(1)
        for _ in range(20):
            await asyncio.sleep(0)

    @staticmethod
    async def told(subscription: Subscription) -> list[dict[str, Any]]:
        return [orjson.loads(m) for _, m in await asyncio.wait_for(subscription.take(), 60)]


@pytest.fixture
async def house(storage: Any, clock: ManualClock) -> AsyncIterator[House]:
    found = House(storage, clock)
    found.updates.start()
    yield found
    await found.updates.close()


M = Question("default", "my metric", "m")


async def test_first_what_is_then_what_changes(house: House) -> None:
    await house.put(1.0, host="a")
    await house.put(5.0, host="b")
    watching = await house.updates.subscribe([M])
    first = await house.told(watching)
    assert sorted((m["metric"], m["labels"]["host"], m["value"]) for m in first) == [("my metric", "a", 1.0), ("my metric", "b", 5.0)]
    assert {m["type"] for m in first} == {"metric_update"}
    assert first[0]["timestamp"].endswith("Z")
    await house.tick()
    assert not watching.waiting, "nothing changed"
    await house.put(2.0, host="a")
    await house.tick()
    assert [(m["labels"]["host"], m["value"]) for m in await house.told(watching)] == [("a", 2.0)]
    house.updates.unsubscribe(watching)


async def test_a_question_is_asked_once_for_all_who_watch_and_never_for_nobody(house: House) -> None:
    await house.put(1.0)
    watching = [await house.updates.subscribe([M]) for _ in range(50)]
    assert house.asked == 1
    await house.put(2.0)
    await house.tick()
    assert house.asked == 2
    assert all(len(w.waiting) == 2 for w in watching)
    for one in watching:
        house.updates.unsubscribe(one)
    await house.tick()
    assert (house.asked, house.updates.clients) == (2, 0)


async def test_a_slow_one_loses_the_oldest_and_is_told_how_many(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vedette.api.updates._HELD", 3)
    await house.put(0.0)
    slow, quick = await house.updates.subscribe([M]), await house.updates.subscribe([M])
    seen = [m["value"] for m in await house.told(quick)]
    for value in range(1, 6):
        await house.put(float(value))
        await house.tick()
        seen += [m["value"] for m in await house.told(quick)]
    assert seen == [0, 1, 2, 3, 4, 5]
    assert house.updates.lost == 3
    late = await house.told(slow)
    assert late[0] == {"type": "updates_dropped", "count": 3}
    assert [m["value"] for m in late[1:]] == [3, 4, 5]


async def test_tenants_are_apart(house: House) -> None:
    await house.put(1.0)
    theirs = await house.updates.subscribe([Question("acme", "m", "m")])
    await house.put(7.0, tenant="acme")
    await house.tick()
    assert [m["value"] for m in await house.told(theirs)] == [7.0]


async def test_what_is_no_number_is_null_and_told_once(house: House) -> None:
    await house.put(float("nan"))
    watching = await house.updates.subscribe([M])
    assert (await house.told(watching))[0]["value"] is None
    await house.tick()
    assert not watching.waiting
    await house.put(float("inf"))
    await house.tick()
    assert (await house.told(watching))[0]["value"] is None


async def test_a_scalar_and_what_is_neither(house: House) -> None:
    scalar = await house.updates.subscribe([Question("default", "one", "1 + 1")])
    assert [(m["value"], "labels" in m) for m in await house.told(scalar)] == [(2.0, False)]
    with pytest.raises(BadInput, match="a string where one value"):
        await house.updates.subscribe([Question("default", "text", '"text"')])
    assert house.updates.clients == 1


async def test_limits(house: House, storage: Any, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=f"1 to {MOST_QUESTIONS}"):
        await house.updates.subscribe([Question("default", str(i), str(i)) for i in range(MOST_QUESTIONS + 1)])
    small = House(storage, clock, most=1)
    await small.updates.subscribe([M])
    with pytest.raises(LimitExceeded, match="1 watch already"):
        await small.updates.subscribe([M])
    monkeypatch.setattr("vedette.api.updates.MOST_SERIES", 1)
    await house.put(1.0, host="a")
    await house.put(1.0, host="b")
    with pytest.raises(BadInput, match="aggregate"):
        await house.updates.subscribe([M])
    assert house.updates.clients == 0


class TestComingBack:
    async def numbers(self, subscription: Subscription) -> list[tuple[int, Any]]:
        return [(n, orjson.loads(m).get("value")) for n, m in await asyncio.wait_for(subscription.take(), 60)]

    async def test_what_came_meanwhile_is_told_in_order(self, house: House) -> None:
        await house.put(1.0)
        watching = await house.updates.subscribe([M], back=True)
        ((last, _),) = await self.numbers(watching)
        house.updates.unsubscribe(watching)
        for value in (2.0, 3.0):
            await house.put(value)
            await house.tick()
        again = await house.updates.subscribe([M], after=last, back=True)
        assert [value for _, value in await self.numbers(again)] == [2.0, 3.0], "not 1.0 once more, and not only the last"

    async def test_nothing_came_and_nothing_is_told(self, house: House) -> None:
        await house.put(1.0)
        watching = await house.updates.subscribe([M], back=True)
        ((last, _),) = await self.numbers(watching)
        house.updates.unsubscribe(watching)
        again = await house.updates.subscribe([M], after=last, back=True)
        assert not again.waiting

    async def test_who_comes_too_late_gets_what_is(self, house: House) -> None:
        await house.put(1.0)
        watching = await house.updates.subscribe([M], back=True)
        ((last, _),) = await self.numbers(watching)
        house.updates.unsubscribe(watching)
        for _ in range(int(LINGER_S) + 2):
            await house.tick()
        asked = house.asked
        await house.tick()
        assert house.asked == asked, "nobody is expected back any more"
        for value in (2.0, 3.0):
            await house.put(value)
        again = await house.updates.subscribe([M], after=last)
        ((number, value),) = await self.numbers(again)
        assert (number > last, value) == (True, 3.0)

    async def test_more_than_is_kept(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("vedette.api.updates._KEPT", 2)
        await house.put(1.0)
        watching = await house.updates.subscribe([M], back=True)
        ((last, _),) = await self.numbers(watching)
        for value in (2.0, 3.0, 4.0):
            await house.put(value)
            await house.tick()
        assert [value for _, value in await self.numbers(await house.updates.subscribe([M], after=last))] == [4.0]

    async def test_of_several_questions_the_oldest_update_comes_first(self, house: House) -> None:
        await house.put(1.0)
        for_good = await house.updates.subscribe([M])
        one = Question("default", "one", "vector(1)")
        both = await house.updates.subscribe([one, M])
        numbers = [n for n, _ in await self.numbers(both)]
        assert numbers == sorted(numbers)
        assert len(numbers) == 2
        house.updates.unsubscribe(for_good)

    async def test_numbers_rise_over_a_restart(self, storage: Any, clock: ManualClock) -> None:
        first = House(storage, clock)
        await first.put(1.0)
        ((before, _),) = await self.numbers(await first.updates.subscribe([M]))
        await clock.advance(1)
        ((after, _),) = await self.numbers(await House(storage, clock).updates.subscribe([M]))
        assert after > before


class Deaf:
    """The other end of a connection that takes nothing: whatever is sent to it waits, until it is `awake`."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.awake = asyncio.Event()
        self.blocked = asyncio.Event()

    async def receive(self) -> Any:
        await asyncio.Event().wait()

    async def send(self, message: Any) -> None:
        if message["type"] in ("websocket.send", "http.response.body"):
            self.blocked.set()
            await self.awake.wait()
        self.sent.append(message)


class TestOneWhoReadsNoMore:
    @pytest.fixture
    async def live(self, house: House, monkeypatch: pytest.MonkeyPatch) -> Live:
        async def known(tenant: str) -> list[str]:
            return ["m"]

        monkeypatch.setattr("vedette.api.live._SEND_S", 0.05)
        await house.put(1.0)
        return Live(house.updates, lambda scope: "default", lambda: False, known)

    async def test_a_websocket_is_closed_with_the_reason(self, house: House, live: Live) -> None:
        deaf = Deaf()
        scope = {"type": "websocket", "path": "/ws/metrics", "query_string": b"metric=m", "headers": []}

        async def receive() -> Any:
            if not deaf.sent:
                return {"type": "websocket.connect"}
            return await deaf.receive()

        await asyncio.wait_for(live.socket(WebSocket(scope, receive, deaf.send)), 60)
        assert deaf.blocked.is_set()
        assert [m["type"] for m in deaf.sent] == ["websocket.accept", "websocket.close"]
        assert (deaf.sent[1]["code"], deaf.sent[1]["reason"]) == (1013, "nothing was read for 0.05 s")
        assert house.updates.clients == 0

    async def test_a_stream_of_events_ends(self, house: House, live: Live) -> None:
        deaf = Deaf()
        scope = {"type": "http", "method": "GET", "path": "/api/v1/live", "query_string": b"metric=m", "headers": []}
        response = await live.events(Request(scope, deaf.receive))
        assert house.updates.clients == 1
        await asyncio.wait_for(response({**scope, "asgi": {"spec_version": "2.4"}}, deaf.receive, deaf.send), 60)
        assert [m["type"] for m in deaf.sent] == ["http.response.start"]
        assert house.updates.clients == 0


async def test_a_problem_is_told_once_and_ends(house: House) -> None:
    await house.put(1.0)
    watching = await house.updates.subscribe([M])
    await house.told(watching)
    house.broken = True
    await house.tick()
    await house.tick()
    assert await house.told(watching) == [{"type": "problem", "metric": "my metric", "error": "not now"}]
    house.broken = False
    await house.put(2.0)
    await house.tick()
    assert [m["value"] for m in await house.told(watching)] == [2.0]
