"""Who gets at what is in memory: beside a crowd of queries a write does not wait for all of them."""

from __future__ import annotations

import threading
import time

from vedette.storage.memory import Memory

DEADLINE_S = 60.0


def test_of_a_crowd_of_queries_one_at_a_time_is_in_the_way_of_a_write() -> None:
    memory, order, go, there = Memory(), list[str](), threading.Semaphore(0), threading.Event()

    def until(count: int) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while len(order) < count:
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def query() -> None:
        with memory.reading:
            order.append("query")
            assert go.acquire(timeout=DEADLINE_S)

    def write() -> None:
        there.set()
        with memory.lock:
            order.append("write")

    crowd = [threading.Thread(target=query) for _ in range(30)]
    crowd[0].start()
    until(1)
    writer = threading.Thread(target=write)
    for thread in (*crowd[1:], writer):
        thread.start()
    assert there.wait(DEADLINE_S)
    for number in range(len(crowd)):
        go.release()
        # One after the other: until the next one is there, all that wait have had their chance.
        until(min(number + 2, len(crowd) + 1))
    for thread in (*crowd, writer):
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert order.count("query") == 30
    # The crowd stands in another line; in this one it is the second, or the luckless one a few times.
    assert order.index("write") < 30


def test_what_is_read_is_let_go_of_where_reading_fails() -> None:
    memory = Memory()
    try:
        with memory.reading:
            assert memory.lock.locked()
            raise KeyError
    except KeyError:
        pass
    assert not memory.lock.locked()
    with memory.lock, memory.reading._line:
        pass
