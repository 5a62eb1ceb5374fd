"""What connections bring is cut into whole pieces however it arrives; who is listened to; what does not fit is counted."""

from __future__ import annotations

import asyncio
import itertools
import socket
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
from vedette.ingest.sockets import Lines, Listening, Sized, Sockets, Take, keep_alive


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

    return _listening(take, dropped, udp=udp)


def _listening(take: Take, dropped: Counter[str], *, udp: bool) -> Sockets:
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


async def test_the_more_connections_there_are_the_less_each_holds_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_BUFFERS", 100 << 10)
    limits: list[int] = []
    made = asyncio.StreamReader

    def reader(*, limit: int, loop: asyncio.AbstractEventLoop) -> asyncio.StreamReader:
        limits.append(limit)
        return made(limit=limit, loop=loop)

    monkeypatch.setattr(asyncio, "StreamReader", reader)
    taken: list[bytes] = []
    room = _made(taken, Counter())
    await room.start()
    writers = []
    for number in range(3):
        writers.append(socket.create_connection(("127.0.0.1", room.ports[0])))
        writers[-1].sendall(b"a\n")
        await _until(lambda n=number: len(taken) > n)
    assert limits == [100 << 10, 64 << 10, 64 << 10]
    await room.close()
    for writer in writers:
        writer.close()


async def test_datagrams_that_do_not_fit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_MOST_QUEUED", 10 + 2 * sockets._EACH)
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


async def test_empty_datagrams_are_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_MOST_QUEUED", 10 * sockets._EACH)
    dropped: Counter[str] = Counter()
    room = _made([], dropped, udp=True)
    await room.start()
    for _ in range(11):
        room._queues[0].received(b"", "127.0.0.1")
    await room.close()
    assert dropped == {"queue_full": 1}


@pytest.mark.parametrize("udp", [True, False])
async def test_a_fault_of_ours_is_counted_and_the_next_ones_are_taken(udp: bool) -> None:
    taken: list[bytes] = []
    dropped: Counter[str] = Counter()

    async def take(piece: bytes) -> None:
        if piece == b"bad\n":
            raise RuntimeError("a fault")
        taken.append(piece)

    room = _listening(take, dropped, udp=udp)
    await room.start()
    for line in (b"bad\n", b"good\n"):
        if udp:
            room._queues[0].received(line[:-1], "127.0.0.1")
            await _until(lambda: not room._queues[0]._waiting and not room._busy)
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", room.ports[0])
            writer.write(line)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 30) == b""
            writer.close()
    await _until(lambda: taken == [b"good\n"])
    assert dropped == {"failed": 1}
    await room.close()


@pytest.mark.parametrize("udp", [True, False])
async def test_what_is_being_taken_when_listening_ends_is_taken(udp: bool) -> None:
    taken: list[bytes] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def take(piece: bytes) -> None:
        begun.set()
        await go_on.wait()
        taken.append(piece)

    room = _listening(take, Counter(), udp=udp)
    await room.start()
    if udp:
        room._queues[0].received(b"a", "127.0.0.1")
    else:
        _, writer = await asyncio.open_connection("127.0.0.1", room.ports[0])
        writer.write(b"a\nhalf a li")
    await asyncio.wait_for(begun.wait(), 30)
    ending = asyncio.create_task(room.close())
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.wait_for(ending, 30)
    assert taken == [b"a\n"]
    if not udp:
        writer.close()


async def test_a_connection_whose_piece_a_full_storage_does_not_take_does_not_hold_up_the_end() -> None:
    dropped: Counter[str] = Counter()
    refused = asyncio.Event()

    async def take(piece: bytes) -> None:
        refused.set()
        raise LimitExceeded("full")

    room = _listening(take, dropped, udp=False)
    await room.start()
    _, writer = await asyncio.open_connection("127.0.0.1", room.ports[0])
    writer.write(b"a\n")
    await asyncio.wait_for(refused.wait(), 30)
    await asyncio.wait_for(room.close(), 30)
    assert dropped == {"full": 1}
    writer.close()


async def test_what_the_system_drops_is_counted_once_also_when_listening_ends() -> None:
    dropped: Counter[str] = Counter()
    room = _made([], dropped, udp=True)
    await room.start()
    if room.system_drops is None:  # Linux 4.12 or newer tells what it drops
        room.count_drops()
        await room.close()
        assert not dropped
        return
    assert room.system_drops == 0
    transport = room._queues[0].transport
    assert transport is not None
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(100):  # while nothing here is awaited nobody takes them
            sender.sendto(bytes(1000), ("127.0.0.1", room.ports[0]))
    drops = room.system_drops
    assert 0 < drops < 100
    room.count_drops()
    room.count_drops()
    assert dropped == {"system": drops}
    await room.close()
    assert dropped == {"system": drops}


async def test_where_the_system_does_not_tell_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    dropped: Counter[str] = Counter()
    room = _made([], dropped, udp=True)
    await room.start()
    room.count_drops()
    await room.close()
    assert (room.system_drops, dropped) == (None, {})


def test_a_connection_is_asked_whether_its_sender_is_there() -> None:
    with socket.socket() as connection:
        keep_alive(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


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
