"""Group commit: order, one sync for what waits together, and what each sender is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from vedette.errors import BadInput, LimitExceeded
from vedette.storage.committer import Committer


class Ledger:
    """Writes down what is asked of it; batches are words, `bad` is refused, and the gate holds the thread up."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refusal: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.ticked = threading.Event()

    def take(self, batch: str) -> int | Exception:
        self.entered.set()
        self.gate.wait(30)
        self.calls.append(batch)
        return BadInput("no such word") if batch == "bad" else len(batch)

    def sync(self) -> Exception | None:
        self.calls.append("sync")
        return self.refusal

    def committed(self, batches: Sequence[str]) -> None:
        self.calls.append(f"committed {','.join(batches)}")

    def tick(self) -> None:
        self.ticked.set()


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def committer(ledger):
    made = Committer(ledger, name="test-committer", what="words", room=10)
    made.start()
    yield made
    ledger.gate.set()
    if not made.closing:
        made.stop()


async def held(ledger, committer):
    """One batch on the thread, which waits: what is sent now makes the next group."""
    ledger.gate.clear()
    first = committer.submit("first", 5)
    assert await asyncio.to_thread(ledger.entered.wait, 30)
    return first


async def test_what_waits_together_is_synced_once_and_in_order(ledger, committer):
    first = await held(ledger, committer)
    others = [committer.submit(word, 1) for word in ("a", "bb", "ccc")]
    assert committer.waiting == 3
    assert not first.done()
    ledger.gate.set()
    assert await asyncio.gather(first, *others) == [5, 1, 2, 3]
    assert ledger.calls == ["first", "sync", "committed first", "a", "bb", "ccc", "sync", "committed a,bb,ccc"]
    assert committer.groups == 2
    assert committer.waiting == 0


async def test_a_refused_batch_harms_no_other_of_its_group(ledger, committer):
    first = await held(ledger, committer)
    bad, good = committer.submit("bad", 1), committer.submit("good", 1)
    ledger.gate.set()
    with pytest.raises(BadInput, match="no such word"):
        await bad
    assert (await first, await good) == (5, 4)
    assert ledger.calls[-1] == "committed good"


async def test_nobody_is_acknowledged_where_the_sync_failed(ledger, committer):
    ledger.refusal = LimitExceeded("the disk is full", retry_after=5.0)
    first = await held(ledger, committer)
    bad, good = committer.submit("bad", 1), committer.submit("good", 1)
    ledger.gate.set()
    for sent in (first, good):
        with pytest.raises(LimitExceeded, match="disk is full"):
            await sent
    with pytest.raises(BadInput):  # what is wrong with a batch itself is still what its sender hears
        await bad
    assert not any(call.startswith("committed") for call in ledger.calls)
    ledger.refusal = None
    assert await committer.submit("again", 1) == 5


async def test_more_than_there_is_room_for_is_refused_at_once(ledger, committer):
    first = await held(ledger, committer)
    second = committer.submit("second", 11)
    with pytest.raises(LimitExceeded, match="more words are waiting") as told:
        committer.submit("third", 1)
    assert told.value.retry_after == 1.0
    ledger.gate.set()
    assert (await first, await second) == (5, 6)
    assert await committer.submit("third", 1) == 5


async def test_a_group_is_no_larger_than_its_bound(ledger, committer):
    first = await held(ledger, committer)
    many = [committer.submit("w", 0) for _ in range(100)]
    ledger.gate.set()
    await asyncio.gather(first, *many)
    assert committer.groups == 3
    assert ledger.calls.count("sync") == 3


async def test_stopping_takes_what_is_queued_and_nothing_later(ledger, committer):
    first = await held(ledger, committer)
    second = committer.submit("second", 1)
    stopping = asyncio.create_task(asyncio.to_thread(committer.stop))
    while not committer.closing:
        await asyncio.sleep(0)
    with pytest.raises(LimitExceeded, match="the store of words is closing"):
        committer.submit("third", 1)
    ledger.gate.set()
    await stopping
    assert (await first, await second) == (5, 6)


async def test_a_sender_that_left_holds_up_nobody(ledger, committer):
    first = await held(ledger, committer)
    left, stayed = committer.submit("left", 1), committer.submit("stayed", 1)
    left.cancel()
    ledger.gate.set()
    assert (await first, await stayed) == (5, 6)
    assert "left" in ledger.calls  # it was queued, so it is stored


def test_a_loop_that_is_gone_ends_nothing(ledger, committer):
    async def leave() -> None:
        await held(ledger, committer)

    asyncio.run(leave())
    ledger.gate.set()

    async def come() -> int:
        return await committer.submit("later", 1)

    assert asyncio.run(come()) == 5
    assert ledger.calls[0] == "first"


async def test_waking_has_the_thread_look_at_once(ledger, committer):
    await committer.submit("a", 1)
    ledger.ticked.clear()
    committer.wake()
    assert await asyncio.to_thread(ledger.ticked.wait, 30)
