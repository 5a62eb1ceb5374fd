"""Tenants take turns: none waits behind another's crowd, none has all turns, and the queue has an end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from vedette.api.turns import Lane, Turns, awaited
from vedette.errors import LimitExceeded
from vedette.net.trace import Trace, enter, leave
from vedette.promql.errors import QueryCanceled


@asynccontextmanager
async def taken(turns: Turns, tenant: str) -> AsyncIterator[None]:
    """A turn while the context lasts."""
    if not turns.take(tenant):
        await turns.wait(tenant)
    try:
        yield
    finally:
        turns.give_back(tenant)


class Crowd:
    """Queries that hold their turn until they are let go, one after another; `order` tells who came when."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.order: list[str] = []
        self.most: Counter[str] = Counter()
        self.now: Counter[str] = Counter()
        self.go = asyncio.Semaphore(0)
        self.tasks: list[asyncio.Task[None]] = []

    async def _one(self, tenant: str) -> None:
        async with taken(self.turns, tenant):
            self.order.append(tenant)
            for who in (tenant, "all"):
                self.now[who] += 1
                self.most[who] = max(self.most[who], self.now[who])
            await self.go.acquire()
            self.now.subtract((tenant, "all"))

    async def arrive(self, *tenants: str) -> list[asyncio.Task[None]]:
        new = [asyncio.create_task(self._one(t)) for t in tenants]
        self.tasks += new
        await self.settle()
        return new

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def end(self, count: int) -> None:
        for _ in range(count):
            self.go.release()
            await self.settle()


async def test_tenants_take_turns() -> None:
    crowd = Crowd(Turns(concurrency=2, per_tenant=2, queued=100))
    await crowd.arrive(*["greedy"] * 6, "alice", "bob", "alice")
    assert crowd.order == ["greedy", "greedy"]
    assert crowd.turns.waiting == 7
    await crowd.end(9)
    assert crowd.order == ["greedy", "greedy", "greedy", "alice", "bob", "greedy", "alice", "greedy", "greedy"]
    await asyncio.gather(*crowd.tasks)
    assert crowd.most["all"] == 2
    assert crowd.turns.waiting == 0
    await crowd.arrive("carol", "carol")
    assert crowd.now["carol"] == 2, "all turns were given back"
    await crowd.end(2)


async def test_nobody_has_all_turns() -> None:
    crowd = Crowd(Turns(concurrency=3, per_tenant=2, queued=100))
    await crowd.arrive(*["greedy"] * 5)
    assert crowd.now["greedy"] == 2
    await crowd.arrive("alice")
    assert crowd.now["alice"] == 1, "a turn was left over for her"
    await crowd.end(6)
    assert crowd.most["greedy"] == 2
    assert Counter(crowd.order) == {"greedy": 5, "alice": 1}


async def test_the_queue_has_an_end() -> None:
    turns = Turns(concurrency=1, per_tenant=1, queued=2)
    crowd = Crowd(turns)
    await crowd.arrive("greedy", "greedy", "greedy")
    with pytest.raises(LimitExceeded, match="2 queries wait") as caught:
        async with taken(turns, "greedy"):
            pytest.fail("there is no room")
    assert caught.value.retry_after == 1.0
    await crowd.arrive("alice")
    assert turns.waiting == 3, "another tenant's queue is its own"
    await crowd.end(4)
    assert crowd.order == ["greedy", "greedy", "alice", "greedy"]


async def test_no_queue_at_all() -> None:
    turns = Turns(concurrency=1, per_tenant=1, queued=0)
    crowd = Crowd(turns)
    await crowd.arrive("alice")
    for _ in range(2):
        with pytest.raises(LimitExceeded):
            async with taken(turns, "alice"):
                pytest.fail("there is no room")
    assert turns.waiting == 0
    await crowd.end(1)


async def test_who_gives_up_leaves_the_queue() -> None:
    crowd = Crowd(Turns(concurrency=1, per_tenant=1, queued=10))
    _, second, third = await crowd.arrive("alice", "alice", "bob")
    second.cancel()
    await crowd.settle()
    assert crowd.turns.waiting == 1
    # One that is given its turn and gives up before it could take it hands it on.
    crowd.go.release()
    await asyncio.sleep(0)
    third.cancel()
    await asyncio.gather(*crowd.tasks, return_exceptions=True)
    await crowd.arrive("carol")
    assert crowd.now["carol"] == 1
    await crowd.end(1)


@pytest.mark.parametrize("others", [0, 1])
async def test_a_turn_that_comes_in_the_moment_in_which_one_gives_up_is_the_next_one_s(others: int) -> None:
    turns = Turns(concurrency=1, per_tenant=1, queued=10)
    assert turns.take("alice")
    crowd = Crowd(turns)
    first, *_ = await crowd.arrive("alice", *["alice"] * others)
    first.cancel()
    # Its task has not run yet, so it still stands in line.
    turns.give_back("alice")
    await crowd.settle()
    assert first.cancelled()
    assert (crowd.now["alice"], turns.waiting) == (others, 0)
    await crowd.end(others)
    assert turns.take("bob"), "no turn was lost"


async def test_reads_of_a_lane_take_turns_by_the_tenant_of_their_request() -> None:
    order: list[str] = []
    go = asyncio.Semaphore(0)

    async def run(function: Callable[..., str], /, *args: str) -> str:
        order.append(args[0])
        await go.acquire()
        return function(*args)

    lane = Lane(run, Turns(concurrency=1, per_tenant=1, queued=2))

    async def asked_by(tenant: str) -> str:
        trace = Trace("1", tenant=tenant)
        token = enter(trace)
        try:
            return await lane(str.upper, tenant)
        finally:
            leave(trace, token)

    tasks = [asyncio.create_task(asked_by(tenant)) for tenant in ("greedy", "greedy", "greedy", "greedy", "alice")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == ["greedy"]
    with pytest.raises(LimitExceeded, match="wait for their turn"):
        await tasks[3]
    for _ in range(4):
        go.release()
    assert await asyncio.gather(*tasks[:3], tasks[4]) == ["GREEDY", "GREEDY", "GREEDY", "ALICE"]
    assert order == ["greedy", "greedy", "alice", "greedy"]


async def test_a_read_that_fails_gives_its_turn_back_and_nobodys_request_is_the_default_tenants() -> None:
    turns = Turns(concurrency=1, per_tenant=1, queued=0)

    async def run(function: Callable[..., int], /, *args: str) -> int:
        assert not turns.free("default")
        return function(*args)

    lane = Lane(run, turns)
    with pytest.raises(ValueError, match="invalid literal"):
        await lane(int, "x")
    assert await lane(int, "1") == 1
    assert turns.free("default")


async def test_a_read_whose_client_has_gone_waits_no_longer() -> None:
    turns = Turns(concurrency=1, per_tenant=1, queued=5)
    ran: list[str] = []

    async def run(function: Callable[..., None], /, *args: str) -> None:
        function(*args)

    lane = Lane(run, turns)
    gone = asyncio.Event()

    async def asked(name: str, leaves: asyncio.Event | None) -> None:
        async def left() -> None:
            assert leaves is not None
            await leaves.wait()

        trace = Trace(name, gone=None if leaves is None else left)
        token = enter(trace)
        try:
            await lane(ran.append, name)
        finally:
            leave(trace, token)

    assert turns.take("default")
    tasks = [
        asyncio.create_task(asked(name, leaves)) for name, leaves in (("goes", gone), ("stays", asyncio.Event()), ("knows none", None))
    ]
    await asyncio.sleep(0)
    gone.set()
    with pytest.raises(QueryCanceled, match="canceled in query queue"):
        await tasks[0]
    assert ran == []
    turns.give_back("default")
    await asyncio.gather(*tasks[1:])
    assert ran == ["stays", "knows none"]
    assert turns.free("default") and not turns.waiting


async def test_a_turn_that_comes_back_before_the_wait_begins_is_taken() -> None:
    turns = Turns(concurrency=1, per_tenant=1, queued=1)
    assert turns.take("a")
    waits = asyncio.create_task(awaited(turns, "a", None))
    await asyncio.sleep(0)
    assert not turns.waiting, "it is about to"
    turns.give_back("a")
    async with asyncio.timeout(60):
        assert await waits is True
    assert not turns.free("a") and not turns.waiting
    turns.give_back("a")
    assert turns.free("a")
