"""The short ways: the same answers as by the routes, and queries that are over at once take no thread."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from vedette.api import queries
from vedette.api.direct import Direct
from vedette.api.endpoint import Endpoint, routes
from vedette.api.queries import Gate
from vedette.api.turns import Turns
from vedette.clock import ManualClock
from vedette.errors import BadInput
from vedette.promql.errors import TooManySamples


def saying(text: str) -> Any:
    async def handler(request: Request) -> Response:
        return PlainTextResponse(f"{text} {request.method} {dict(request.query_params)}")

    return handler


ENDPOINTS = [
    Endpoint("/own", saying("first"), "", ("GET", "POST"), shared=True),
    Endpoint("/own", saying("second"), "", ("GET", "PUT"), shared=True),
    Endpoint("/plain", saying("plain"), ""),
    Endpoint("/plain", saying("late"), "", shared=True),
    Endpoint("/of/{name}", saying("named"), "", shared=True),
    Endpoint("/sure", saying("sure"), "", unfailing=True),
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/own?a=1", "/plain", "/sure", "/of/a", "/nowhere", "/own/"])
async def test_the_same_answers_as_by_the_routes(method: str, path: str) -> None:
    by_routes = Starlette(routes=list(routes(ENDPOINTS)))
    answers = []
    for app in (by_routes, Direct(by_routes, ENDPOINTS)):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://t") as client:
            answer = await client.request(method, path)
            answers.append((answer.status_code, answer.text, dict(answer.headers)))
    assert answers[0] == answers[1]


async def test_what_cannot_fail_is_not_looked_for_among_routes() -> None:
    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("by the routes")(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=Direct(routed, ENDPOINTS)), base_url="http://t") as client:
        said = [(await client.get(path)).text for path in ("/sure", "/own", "/plain")]
    assert said == ["sure GET {}", "first GET {}", "by the routes"]


class Told(ManualClock):
    """A clock that those who evaluate may move."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@pytest.mark.usefixtures("patient")
async def test_what_is_over_at_once_takes_no_thread() -> None:
    clock = Told()
    threads: list[int] = []
    handed: list[object] = []

    async def run(function: Any, *args: Any) -> Any:
        handed.append(function)
        return function(*args)

    gate = Gate(run, clock, Turns(concurrency=2, per_tenant=2, queued=2), timeout_s=10)

    def taking(seconds: float) -> Any:
        def evaluate(deadline: float, cancel: threading.Event) -> bytes:
            threads.append(threading.get_ident())
            clock.ahead += seconds
            return b"done"

        return evaluate

    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})

    async def ask(seconds: float, shape: object = "shape") -> int:
        before = len(handed)
        assert await gate.evaluate(request, "t", None, taking(seconds), shape=shape) == b"done"
        return len(handed) - before

    assert await ask(0.1) == 1
    assert await ask(0.0001) == 1, "the time before it took long"
    assert await ask(0.0001) == 0
    assert await ask(0.0001, "another") == 1
    assert await ask(0.0001, None) == await ask(0.0001, None) == 1, "of no shape"
    assert await ask(0.5) == 0
    assert await ask(0.0001) == 1, "it took long all of a sudden"
    assert set(threads) == {threading.get_ident()}


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a busy machine takes for it, what is evaluated at once was quick."""
    monkeypatch.setattr(queries, "_TOO_LONG_S", 60.0)


@pytest.mark.usefixtures("patient")
async def test_what_is_known_to_be_over_at_once_is_answered_to_whoever_asks_without_waiting() -> None:
    clock, busy = Told(), False
    turns = Turns(concurrency=1, per_tenant=1, queued=1)

    async def run(function: Any, *args: Any) -> Any:
        return function(*args)

    gate = Gate(run, clock, turns, timeout_s=10, busy=lambda: busy)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})

    def giving(answer: bytes, seconds: float = 0.0) -> Any:
        def evaluate(deadline: float, cancel: threading.Event) -> bytes:
            assert deadline == clock.monotonic() + 10 and not cancel.is_set()
            clock.ahead += seconds
            return answer

        return evaluate

    async def known(shape: str, answer: bytes = b"done", seconds: float = 0.0) -> bool:
        await gate.evaluate(request, "t", None, giving(answer, seconds), shape=shape)
        return gate.quick("t", giving(b"again"), shape=shape) == b"again"

    assert gate.quick("t", giving(b""), shape="short") is None, "nobody has asked yet"
    assert await known("short")
    assert not await known("long", seconds=0.1)
    assert not await known("much", answer=bytes(300_000)), "to compress that takes too long"
    assert gate.quick("t", giving(b""), shape=None) is None
    busy = True
    assert gate.quick("t", giving(b""), shape="short") is None
    busy = False
    assert turns.take("another")
    assert gate.quick("t", giving(b""), shape="short") is None, "it is not their turn"
    turns.give_back("another")

    def refuse(deadline: float, cancel: threading.Event) -> bytes:
        raise BadInput("no")

    with pytest.raises(BadInput):
        gate.quick("t", refuse, shape="short")
    assert gate.quick("t", giving(b""), shape="short") is None, "who is asked anew says so"
    assert await known("short"), "the turn was given back"
    assert gate.quick("t", giving(b"late", 0.5), shape="short") == b"late"
    assert gate.quick("t", giving(b""), shape="short") is None, "it took long all of a sudden"


async def test_the_loop_does_not_wait_for_another_who_reads() -> None:
    clock = ManualClock()
    handed: list[object] = []
    held = threading.Lock()

    async def run(function: Any, *args: Any) -> Any:
        handed.append(function)
        return function(*args)

    def evaluate(deadline: float, cancel: threading.Event) -> bytes:
        return b"done"

    gate = Gate(run, clock, Turns(concurrency=2, per_tenant=2, queued=2), timeout_s=10, busy=held.locked)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})
    # The first of all is not known to be short.
    for taken, expected in ((False, 1), (True, 2), (False, 0)):
        handed.clear()
        with held if taken else contextlib.nullcontext():
            for _ in range(2):
                assert await gate.evaluate(request, "t", None, evaluate, shape=1) == b"done"
        assert len(handed) == expected


async def test_what_a_refused_query_held_goes_at_once() -> None:
    class Held:
        pass

    kept: list[weakref.ref[Held]] = []

    async def run(function: Any, *args: Any) -> Any:
        return await asyncio.to_thread(function, *args)

    def evaluate(deadline: float, cancel: threading.Event) -> bytes:
        def deep() -> bytes:
            held = Held()
            kept.append(weakref.ref(held))
            raise TooManySamples("too many")

        try:
            return deep()
        except TooManySamples as error:
            raise BadInput("worded anew") from error

    gate = Gate(run, ManualClock(), Turns(concurrency=1, per_tenant=1, queued=0), timeout_s=10)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})
    gc.disable()
    try:
        with contextlib.suppress(BadInput):
            await gate.evaluate(request, "t", None, evaluate, shape=1)
        assert [held() for held in kept] == [None]
    finally:
        gc.enable()


async def test_a_short_query_that_fails_gives_its_turn_back() -> None:
    clock = ManualClock()

    async def run(function: Any, *args: Any) -> Any:
        return function(*args)

    turns = Turns(concurrency=1, per_tenant=1, queued=0)
    gate = Gate(run, clock, turns, timeout_s=10)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})

    def fail(deadline: float, cancel: threading.Event) -> bytes:
        raise ValueError

    def succeed(deadline: float, cancel: threading.Event) -> bytes:
        return b"done"

    await gate.evaluate(request, "t", None, succeed, shape=1)
    for _ in range(2):
        with pytest.raises(ValueError):
            await gate.evaluate(request, "t", None, fail, shape=1)
    assert await gate.evaluate(request, "t", None, succeed, shape=1) == b"done"
