"""What connections bring is cut into whole pieces however it arrives; who is listened to; what does not fit is counted."""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest import sockets
from vedette.ingest.socket_settings import GraphiteSettings, StatsdSettings, parse_network, parse_tenant
from vedette.ingest.sockets import Lines, Listening, Sized, Sockets


def _pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


@given(st.lists(st.text("ab ", max_size=8).map(str.encode), max_size=20), st.lists(st.integers(0, 500), max_size=10), st.booleans())
def test_lines_are_whole_however_they_arrive(lines: list[bytes], cuts: list[int], ended: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    long: list[bool] = []
    cutter = Lines(50, lambda: long.append(True))
    found = [piece for part in _pieces(data, cuts) for piece in cutter.feed(part)] + list(cutter.rest())
    assert all(piece.endswith(b"\n") for piece in found)
    assert [line for line in b"".join(found).split(b"\n") if line] == [line for line in lines if line]
    assert not long


def test_a_line_that_is_too_long_is_left_out_once_and_the_next_one_is_taken() -> None:
    long: list[bool] = []
    cutter = Lines(5, lambda: long.append(True))
    assert list(cutter.feed(b"a 1\nbbbbbbb")) == [b"a 1\n"]
    assert list(cutter.feed(b"bbbb")) == []
    assert list(cutter.feed(b"bb\nc 1\nd")) == [b"c 1\n"]
    assert (list(cutter.rest()), len(long)) == ([b"d\n"], 1)


@given(st.lists(st.binary(max_size=30), max_size=10), st.lists(st.integers(0, 500), max_size=10))
def test_sized_pieces_are_whole_however_they_arrive(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(struct.pack("!L", len(piece)) + piece for piece in pieces)
    cutter = Sized(30)
    assert [piece for part in _pieces(data, cuts) for piece in cutter.feed(part)] == pieces
    assert list(cutter.rest()) == []


def test_a_piece_that_is_too_large_is_refused_before_it_is_held() -> None:
    with pytest.raises(BadInput, match="a piece of 31 bytes; at most 30 are taken"):
        Sized(30).feed(struct.pack("!L", 31))


async def _until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def _made(taken: list[bytes], dropped: Counter[str], *, udp: bool = False, full: bool = False) -> Sockets:
    async def take(piece: bytes) -> None:
        if full:
            raise LimitExceeded("full")
        taken.append(piece)

    cutter = None if udp else lambda: Lines(100, lambda: None)
    return Sockets([Listening("x.y", "127.0.0.1:0", take, cutter)], ManualClock(), allow=(), insecure=False, dropped=dropped)


async def test_more_connections_than_there_may_be_are_closed_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_MOST_CONNECTIONS", 1)
    taken: list[bytes] = []
    dropped: Counter[str] = Counter()
    room = _made(taken, dropped)
    await room.start()
    _, first = await asyncio.open_connection("127.0.0.1", room.ports[0])
    first.write(b"a\n")
    await _until(lambda: taken)
    reader, second = await asyncio.open_connection("127.0.0.1", room.ports[0])
    assert await asyncio.wait_for(reader.read(), 30) == b""
    assert dropped == {"connections": 1}
    first.close()
    second.close()
    await room.close()


async def test_datagrams_that_do_not_fit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_MOST_QUEUED", 10)
    taken: list[bytes] = []
    dropped: Counter[str] = Counter()
    room = _made(taken, dropped, udp=True)
    await room.start()
    for piece in (b"123456", b"1234", b"1"):
        room._queues[0].received(piece, "127.0.0.1")
    await room.close()
    assert (taken, dropped) == ([b"123456\n1234\n"], {"queue_full": 1})


async def test_what_a_full_storage_does_not_take_of_datagrams_is_counted() -> None:
    dropped: Counter[str] = Counter()
    room = _made([], dropped, udp=True, full=True)
    await room.start()
    room._queues[0].received(b"a", "127.0.0.1")
    await room.close()
    assert dropped == {"full": 1}


@pytest.mark.parametrize(
    ("text", "expected"), [("10.1.2.3/8", "10.0.0.0/8"), ("192.0.2.1", "192.0.2.1/32"), ("2001:db8::/32", "2001:db8::/32")]
)
def test_a_network(text: str, expected: str) -> None:
    assert parse_network(text) == expected


def test_settings_that_cannot_be() -> None:
    for bad, where in (
        (lambda: parse_network("10.0.0.0/33"), "not a network"),
        (lambda: parse_tenant("a/b"), "not a tenant name"),
        (lambda: GraphiteSettings(max_line=0), "max_line"),
        (lambda: GraphiteSettings(mapping_file="m.yml", mappings=(object(),)), "contradict each other"),  # type: ignore[arg-type]
        (lambda: StatsdSettings(interval=0), "interval"),
        (lambda: StatsdSettings(max_series=0), "max_series"),
    ):
        with pytest.raises(BadInput, match=where):
            bad()
