"""Sending what a queue holds: order, back-off, Retry-After, dead letters. The clock is the test's, the receiver a function."""

from __future__ import annotations

import asyncio
import json
import time

import cramjam
import pytest

from vedette.clock import ManualClock
from vedette.errors import BadInput, Undeliverable
from vedette.storage.disk import Disk
from vedette.storage.queue import Item, Queue
from vedette.storage.sending import Sender, SendSettings


def packed(text: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(text))


class Receiver:
    """Takes requests; `answers` are raised in turn (None takes the request), then all is taken."""

    def __init__(self):
        self.taken: list[tuple[str, bytes]] = []
        self.seen: list[bytes] = []
        self.answers: list[Exception | None] = []
        self.bad = b""
        self.gate: asyncio.Event | None = None

    async def __call__(self, tenant, body):
        text = bytes(cramjam.snappy.decompress_raw(body))
        self.seen.append(text)
        if self.gate is not None:
            await self.gate.wait()
        if self.bad and self.bad in text:
            raise Undeliverable("server returned HTTP status 400 Bad Request: out of order", reason="status", retryable=False)
        if self.answers and (answer := self.answers.pop(0)) is not None:
            raise answer
        self.taken.append((tenant, text))


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture
def manual():
    return ManualClock()


@pytest.fixture
def make(tmp_path, receiver, manual):
    """Makes a started sender over the queue of the test's directory."""

    def make_(disk=None, **settings) -> tuple[Queue, Sender]:
        sender = Sender(receiver, manual, tmp_path / "dead", SendSettings(**settings), disk=disk)
        queue = Queue(tmp_path / "queue", limit=1 << 20, added=sender.add)
        queue.open()
        sender.start(queue)
        return queue, sender

    return make_


async def eventually(true, seconds=20):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.005)


async def turns(n=30):
    for _ in range(n):
        await asyncio.sleep(0)


def put(queue, *texts, tenant="default", lane=0, samples=1):
    queue.put([Item(tenant, lane, samples, packed(text)) for text in texts])


async def test_what_waits_goes_as_one_request_in_order(make, receiver):
    receiver.gate = asyncio.Event()
    queue, sender = make()
    put(queue, b"a")
    await turns()
    put(queue, b"b", b"c")
    put(queue, b"d")
    receiver.gate.set()
    await turns()
    assert receiver.taken == [("default", b"a"), ("default", b"bcd")]
    assert (sender.sent.samples, sender.sent.requests, queue.samples) == (4, 2, 0)
    await sender.close()


async def test_a_request_holds_no_more_than_its_most_samples(make, receiver):
    queue, sender = make(max_samples=25)
    put(queue, b"a", b"b", b"c", b"d", samples=10)
    put(queue, b"huge", samples=1000)
    await turns(60)
    assert [text for _, text in receiver.taken] == [b"ab", b"cd", b"huge"]
    await sender.close()


async def test_lanes_and_tenants_do_not_wait_for_one_another(make, receiver):
    queue, sender = make()
    receiver.gate = asyncio.Event()
    put(queue, b"a", lane=0)
    put(queue, b"b", lane=1)
    put(queue, b"c", tenant="other")
    await turns()
    assert sorted(receiver.seen) == [b"a", b"b", b"c"], "all three are on their way at once"
    receiver.gate.set()
    await turns()
    assert sorted(receiver.taken) == [("default", b"a"), ("default", b"b"), ("other", b"c")]
    await sender.close()


async def test_failures_are_repeated_ever_more_slowly_until_it_gets_through(make, receiver, manual):
    gone = Undeliverable("connection refused", reason="refused", retryable=True)
    receiver.answers = [gone] * 4
    queue, sender = make(min_backoff_s=1.0, max_backoff_s=3.0)
    put(queue, b"a")
    await turns()
    assert sender.problem == "connection refused"
    waits = []
    for seen in range(1, 5):
        waited = 0.0
        while len(receiver.seen) == seen:
            await manual.advance(0.25)
            waited += 0.25
        waits.append(waited)
    assert 0.5 <= waits[0] <= 1.25
    assert 1.0 <= waits[1] <= 2.25
    assert 1.5 <= waits[3] <= 3.25, "never longer than max_backoff_s"
    assert receiver.taken == [("default", b"a")]
    assert (sender.sent.retries, sender.problem, queue.samples) == (4, "", 0)
    await sender.close()


async def test_the_receiver_says_when_to_come_back(make, receiver, manual):
    receiver.answers = [Undeliverable("slow down", reason="status", retryable=True, retry_after=60.0)]
    queue, sender = make(max_backoff_s=1.0)
    put(queue, b"a")
    await turns()
    await manual.advance(59)
    assert len(receiver.seen) == 1
    await manual.advance(2)
    assert receiver.taken == [("default", b"a")]
    await sender.close()


async def test_what_is_refused_as_bad_is_kept_aside_and_holds_nothing_up(make, receiver, tmp_path):
    receiver.bad = b"BAD"
    receiver.gate = asyncio.Event()
    queue, sender = make()
    put(queue, b"first")
    await turns()
    put(queue, b"a", b"BAD", b"c", samples=7)
    receiver.gate.set()
    await eventually(lambda: not queue.samples)
    # All three went together and were refused; then each by itself, so that one alone is lost.
    assert [text for _, text in receiver.taken] == [b"first", b"a", b"c"]
    assert (sender.sent.refused_requests, sender.sent.refused_samples, queue.samples) == (1, 7, 0)
    (about,) = (tmp_path / "dead").glob("*.json")
    told = json.loads(about.read_text())
    assert (told["tenant"], told["samples"]) == ("default", 7)
    assert "out of order" in told["reason"]
    assert bytes(cramjam.snappy.decompress_raw(about.with_suffix(".snappy").read_bytes())) == b"BAD"
    assert sender.problem == ""
    await sender.close()


async def test_no_more_refused_requests_are_kept_than_allowed(make, receiver, tmp_path):
    receiver.bad = b"BAD"
    queue, sender = make(max_dead=3, max_samples=1)
    put(queue, *(b"BAD%d" % i for i in range(6)))
    await eventually(lambda: not queue.samples)
    kept = sorted(p.read_bytes() for p in (tmp_path / "dead").glob("*.snappy"))
    assert [bytes(cramjam.snappy.decompress_raw(body)) for body in kept] == [b"BAD3", b"BAD4", b"BAD5"]
    await sender.close()


class FullDisk(Disk):
    """One that takes nothing while it is full."""

    full = True
    refused = 0

    def create(self, path):
        if self.full:
            self.refused += 1
            raise OSError(28, "No space left on device", str(path))
        return super().create(path)


async def test_what_is_refused_stays_queued_until_the_disk_takes_it(make, receiver, manual, tmp_path):
    receiver.bad = b"BAD"
    disk = FullDisk()
    queue, sender = make(disk=disk, max_backoff_s=5.0)
    put(queue, b"BAD", samples=3)
    await eventually(lambda: disk.refused == 1 and "No space left" in sender.problem)
    assert (sender.sent.refused_samples, queue.samples) == (0, 3), "neither counted nor let go of before it is kept"
    disk.full = False
    await turns()
    await manual.advance(5)
    await eventually(lambda: not queue.samples)
    assert sender.sent.refused_samples == 3
    assert sender.problem == ""
    assert sorted(p.suffix for p in (tmp_path / "dead").iterdir()) == [".json", ".snappy"]
    await sender.close()


async def test_a_letter_is_counted_only_once_its_files_are_there(make, receiver, tmp_path):
    receiver.bad = b"BAD"
    queue, sender = make()
    seen = []

    class Watching(Disk):
        def create(self, path):
            seen.append(sender.sent.refused_samples)
            return super().create(path)

    sender._disk = Watching()
    put(queue, b"BAD")
    await eventually(lambda: sender.sent.refused_samples == 1)
    assert seen == [0, 0], "both files were begun before the count"
    assert sorted(p.suffix for p in (tmp_path / "dead").iterdir()) == [".json", ".snappy"]
    await sender.close()


async def test_a_credential_file_that_is_missing_for_a_while_loses_nothing(make, receiver, manual):
    receiver.answers = [BadInput("cannot be read", where="/run/token")]
    queue, sender = make(min_backoff_s=1.0)
    put(queue, b"a")
    await turns()
    assert "/run/token" in sender.problem
    await manual.advance(5)
    assert receiver.taken == [("default", b"a")]
    await sender.close()


async def test_a_fault_of_our_own_repeats_what_was_taken(make, receiver, manual):
    receiver.answers = [RuntimeError("a bug")]
    queue, sender = make()
    put(queue, b"a", b"b")
    await turns()
    assert sender.sent.failures == 1
    await manual.advance(10)
    assert receiver.taken == [("default", b"ab")]
    await sender.close()


async def test_what_was_not_sent_at_the_end_is_sent_after_the_next_start(make, receiver, manual):
    receiver.answers = [Undeliverable("no", reason="refused", retryable=True)] * 3
    queue, sender = make()
    put(queue, b"a")
    put(queue, b"b", lane=1)
    await turns()
    await sender.close()
    queue.close()
    receiver.answers = []
    queue, sender = make()
    await turns()
    assert sorted(receiver.taken) == [("default", b"a"), ("default", b"b")]
    await sender.close()


async def test_what_cannot_be_read_back_is_counted_and_passed_over(make, receiver, tmp_path):
    receiver.gate = asyncio.Event()
    queue, sender = make()
    put(queue, b"a")
    await turns()
    put(queue, b"b", b"c")
    (segment,) = (tmp_path / "queue").glob("*.wal")
    data = bytearray(segment.read_bytes())
    data[data.index(packed(b"b")) + 2] ^= 1
    segment.write_bytes(data)
    receiver.gate.set()
    await turns()
    assert [text for _, text in receiver.taken] == [b"a", b"c"]
    assert (sender.sent.unreadable, queue.samples) == (1, 0)
    await sender.close()
