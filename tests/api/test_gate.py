"""Large queries wait among themselves; small ones pass them by, and who has gone waits no longer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request

from vedette.api.queries import Gate
from vedette.api.turns import Turns
from vedette.clock import ManualClock
from vedette.errors import LimitExceeded, NotFound
from vedette.promql.errors import ParseError, QueryCanceled, QueryTimeout
from vedette.promql.running import Running


class Place:
    """A gate whose queries run until they are let go by name; `began` tells in which order they began."""

    def __init__(self, *, most: int = 4, large: int = 1, queued: int = 10) -> None:
        self.began: list[str] = []
        self.asked: list[str] = []
        self.numbers: dict[str, int] = {}
        self.weighing: dict[str, Callable[[], None]] = {}
        self.go: dict[str, asyncio.Event] = {}
        self.turns = Turns(concurrency=most, per_tenant=most, queued=queued)
        self.large = Turns(concurrency=large, per_tenant=large, queued=queued)
        self.running = Running(ManualClock(), max_bytes=0)
        self.gate = Gate(self.run, ManualClock(), self.turns, timeout_s=60, large=self.large)

    async def run(self, function: Any, *args: Any) -> Any:
        found = function(*args)
        if isinstance(found, bytes):
            await self.go.setdefault(found.decode(), asyncio.Event()).wait()
        return found

    def ask(self, name: str, *, large: bool = True, tenant: str = "t", timeout_s: float | None = None) -> asyncio.Task[Any]:
        """The answer to a query, on its way; its client is there for as long as `self.here(name)` is not set."""

        def evaluate(deadline: float, cancel: threading.Event) -> bytes:
            assert not cancel.is_set(), "nobody has gone"
            self.began.append(name)
            self.numbers[name] = cancel.id  # type: ignore[attr-defined]  # as the gate makes it
            return name.encode()

        def much() -> bool:
            self.asked.append(name)
            self.weighing.get(name, lambda: None)()
            return large

        async def receive() -> Any:
            await self.go.setdefault(f"{name} goes", asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        def waiting(call: Any) -> Any:
            return self.running.waiting(tenant, name, (0, 0, 0), call)

        request = Request({"type": "http", "method": "GET", "path": "/", "headers": []}, receive)
        return asyncio.create_task(self.gate.evaluate(request, tenant, timeout_s, evaluate, shape=None, large=much, waiting=waiting))

    def let_go(self, *names: str) -> None:
        for name in names:
            self.go.setdefault(name, asyncio.Event()).set()

    async def settle(self) -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    def at_rest(self) -> bool:
        """Whether all turns were given back."""
        return all(turns.take("nobody") for turns in [self.turns] * 4 + [self.large]) and not self.turns.waiting + self.large.waiting


@pytest.mark.parametrize("patience", [0.1, 0.0])
async def test_small_queries_pass_large_ones_that_wait(patience: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where to find out how large they are takes so long that it is watched whether the client goes."""
    monkeypatch.setattr("vedette.api.queries._PATIENCE_S", patience)
    place = Place()
    first = place.ask("first")
    await place.settle()
    assert place.asked == [], "while few run, nobody asks how large they are"
    crowd = [place.ask(f"large {i}") for i in range(6)]
    await place.settle()
    small = place.ask("small", large=False)
    await place.settle()
    assert place.began == ["first", "small"], "more large ones wait than there are turns"
    place.let_go("small")
    assert await small == b"small"
    place.let_go("first", *(f"large {i}" for i in range(6)))
    assert await first == b"first"
    assert await asyncio.gather(*crowd) == [f"large {i}".encode() for i in range(6)]
    assert place.began == ["first", "small", *(f"large {i}" for i in range(6))]
    assert place.at_rest()


async def test_large_ones_of_tenants_take_turns() -> None:
    place = Place()
    tasks = [place.ask("a0", tenant="a")]
    await place.settle()
    for name in ("a1", "a2", "a3", "b1"):
        tasks.append(place.ask(name, tenant=name[0]))
        await place.settle()
    place.let_go("a0", "a1", "a2", "a3", "b1")
    await asyncio.gather(*tasks)
    assert place.began == ["a0", "a1", "b1", "a2", "a3"]
    assert place.at_rest()


async def test_as_many_large_ones_run_as_have_turns() -> None:
    place = Place(large=2)
    tasks = [place.ask(name) for name in ("one", "two", "three")]
    await place.settle()
    assert place.began == ["one", "two"]
    place.let_go("two")
    await place.settle()
    assert place.began == ["one", "two", "three"]
    place.let_go("one", "three")
    await asyncio.gather(*tasks)
    assert place.at_rest()


async def test_who_has_gone_waits_no_longer() -> None:
    place = Place()
    first, second, third = place.ask("first"), place.ask("second"), place.ask("third")
    await place.settle()
    place.let_go("second goes")
    with pytest.raises(QueryCanceled, match="canceled in query queue"):
        await second
    place.let_go("first", "third")
    assert await first + await third == b"firstthird"
    assert place.began == ["first", "third"], "nothing was done for nobody"
    assert place.at_rest()


async def test_those_that_wait_are_listed_and_ended() -> None:
    place = Place(most=2)
    names = ["first", "second", "third", "fourth"]
    tasks = {}
    for name in names:
        tasks[name] = place.ask(name)
        await place.settle()
    assert [(q.expr, q.waits) for q in place.running.list("t")] == [("second", True), ("third", True), ("fourth", True)]
    (last,) = [q.id for q in place.running.list("t") if q.expr == "fourth"]
    for name in ("third", "second"):
        (number,) = [q.id for q in place.running.list("t") if q.expr == name]
        with pytest.raises(NotFound):
            place.running.cancel("another", number)
        await asyncio.to_thread(place.running.cancel, "t", number)
        with pytest.raises(QueryCanceled, match="canceled in query queue"):
            await tasks[name]
    place.let_go("first", "fourth")
    assert await tasks["first"] + await tasks["fourth"] == b"firstfourth"
    assert place.began == ["first", "fourth"]
    assert place.numbers == {"first": 0, "fourth": last}, "who has waited keeps the number"
    assert place.running.list("t") == []
    await place.settle()
    assert all(turns.take("nobody") for turns in (place.turns, place.turns, place.large)), "all turns were given back"


async def test_one_that_is_ended_while_it_is_weighed_does_not_begin() -> None:
    place = Place(most=2)
    tasks = [place.ask("first"), place.ask("small", large=False)]
    await place.settle()
    second = place.ask("second")
    await place.settle()
    (listed,) = place.running.list("t")
    place.weighing["second"] = lambda: place.running.cancel("t", listed.id)
    place.let_go("small")
    with pytest.raises(QueryCanceled, match="canceled in query queue"):
        await second
    place.let_go("first")
    await asyncio.gather(*tasks)
    assert place.began == ["first", "small"]
    assert place.running.list("t") == []


async def test_a_large_one_waits_no_longer_than_its_time() -> None:
    place = Place()
    first, second = place.ask("first"), place.ask("second", timeout_s=0.01)
    with pytest.raises(QueryTimeout, match="timed out in query queue"):
        await second
    place.let_go("first")
    await first
    assert place.began == ["first"]
    assert place.at_rest()


async def test_too_many_large_ones_of_a_tenant_are_refused() -> None:
    place = Place(queued=2)
    tasks = [place.ask("first")]
    await place.settle()
    for name in ("second", "third"):
        tasks.append(place.ask(name))
        await place.settle()
    with pytest.raises(LimitExceeded, match="wait for their turn already") as refused:
        await place.ask("fourth")
    assert refused.value.retry_after
    place.let_go("first", "second", "third")
    await asyncio.gather(*tasks)
    assert place.at_rest()


async def test_a_request_that_is_ended_while_it_waits_leaves_the_line() -> None:
    place = Place()
    first, second = place.ask("first"), place.ask("second")
    await place.settle()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    place.let_go("first")
    await first
    await place.settle()
    assert place.at_rest()


async def test_what_cannot_be_weighed_is_told_by_the_evaluation() -> None:
    place = Place()
    first = place.ask("first")
    await place.settle()

    def refuse() -> bool:
        raise ParseError("unexpected end of input")

    def evaluate(deadline: float, cancel: threading.Event) -> bytes:
        raise ParseError("in the evaluation's words")

    async def receive() -> Any:
        raise AssertionError("over before anybody looks whether its client is there")

    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []}, receive)
    with pytest.raises(ParseError, match="in the evaluation's words"):
        await place.gate.evaluate(request, "t", None, evaluate, shape=None, large=refuse)
    place.let_go("first")
    await first
    assert place.at_rest()
