"""Graphite over sockets: lines, datagrams and pickles become series of a storage, by the rules of the settings."""

from __future__ import annotations

import asyncio
import pickle
import platform
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from vedette.clock import ManualClock, now_ms
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest.door import Door
from vedette.ingest.graphite import Graphite
from vedette.ingest.mapping import Rule
from vedette.ingest.socket_settings import GraphiteSettings
from vedette.model.matchers import Matcher
from vedette.model.samples import Appended, SampleBatch
from vedette.storage.engine import Engine
from vedette.storage.settings import StorageSettings

OPEN = {"tcp": "127.0.0.1:0", "udp": "127.0.0.1:0", "pickle": "127.0.0.1:0"}


class Place:
    """A storage, and a room that listens for it as settings say."""

    def __init__(self, engine: Engine, clock: ManualClock, base: Path) -> None:
        self.engine = engine
        self.clock = clock
        self.refusals = 0
        self.door = Door(engine, clock)
        self.room = Graphite(self.append, clock, run=self.run, base=base, insecure=False)

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.to_thread(function, *args)

    async def append(self, batch: SampleBatch) -> Appended:
        if self.refusals:
            self.refusals -= 1
            raise LimitExceeded("full", retry_after=1.0)
        return await self.door.append(batch)

    def stored(self, tenant: str = "default") -> dict[str, list[tuple[int, float]]]:
        found = self.engine.select(tenant, [Matcher("__name__", "=~", ".+")], 0, 4_000_000_000_000)
        return {
            str(found.labels.row(i)): list(
                zip(
                    found.timestamps[found.offsets[i] : found.offsets[i + 1]].tolist(),
                    found.values[found.offsets[i] : found.offsets[i + 1]].tolist(),
                    strict=True,
                )
            )
            for i in range(len(found))
        }

    async def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not done():
            assert time.monotonic() < deadline, (self.stored(), self.room.counts)
            await asyncio.sleep(0.01)

    async def listen(self, **given: Any) -> None:
        await self.room.apply(GraphiteSettings(**{**OPEN, **given}))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    clock = ManualClock(1_700_000_000)
    engine = Engine(StorageSettings(data=tmp_path / "data"), clock)
    engine.lock()
    await engine.start()
    made = Place(engine, clock, tmp_path)
    yield made
    await made.room.close()
    await engine.close()


async def send(port: int, *pieces: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    writer.close()
    await writer.wait_closed()


NOW = 1_700_000_000_000


async def test_lines_over_tcp_in_pieces_and_a_last_one_without_an_end(place: Place) -> None:
    await place.listen()
    await send(place.room.ports[0], b"servers.web1.load 1.5 16999999", b"90\nservers.web1.load 2\nservers.web;dc=ams", b" 3 1699999995")
    await place.until(lambda: place.room.counts.samples == 3)
    assert place.stored() == {
        "servers_web1_load": [(1_699_999_990_000, 1.5), (NOW, 2.0)],
        'servers_web{dc="ams"}': [(1_699_999_995_000, 3.0)],
    }


async def test_datagrams(place: Place) -> None:
    await place.listen()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for i in range(200):
            sender.sendto(f"a.b{i % 2} {i} {1_699_999_000 + i}".encode(), ("127.0.0.1", place.room.ports[1]))
        sender.sendto(b"c 1\nd 2\n", ("127.0.0.1", place.room.ports[1]))
    await place.until(lambda: place.room.counts.samples == 202)
    assert len(place.stored()["a_b0"]) == 100
    assert place.stored()["d"] == [(NOW, 2.0)]


async def test_pickles(place: Place) -> None:
    await place.listen()
    pieces = [pickle.dumps([("a.b", (1_699_999_990 + i, float(i)))], protocol=2) for i in range(3)]
    stream = b"".join(struct.pack("!L", len(piece)) + piece for piece in pieces)
    await send(place.room.ports[2], stream[:7], stream[7:50], stream[50:])
    await place.until(lambda: place.room.counts.samples == 3)
    assert [value for _, value in place.stored()["a_b"]] == [0.0, 1.0, 2.0]


async def test_a_pickle_of_anything_else_is_counted_and_the_next_one_taken(place: Place) -> None:
    await place.listen()
    pieces = [pickle.dumps({"a": Path("/")}), pickle.dumps([("a", (1_699_999_990, 1))])]
    await send(place.room.ports[2], *(struct.pack("!L", len(piece)) + piece for piece in pieces))
    await place.until(lambda: place.room.counts.samples == 1)
    assert place.room.counts.dropped == {"bad_pickle": 1}


async def test_a_piece_that_is_too_large_ends_its_connection_only(place: Place) -> None:
    await place.listen()
    reader, writer = await asyncio.open_connection("127.0.0.1", place.room.ports[2])
    writer.write(b"\xff\xff\xff\xff")
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()
    assert place.room.counts.dropped == {"bad_frame": 1}
    await send(place.room.ports[0], b"a 1\n")
    await place.until(lambda: place.room.counts.samples == 1)


async def test_names_as_they_were_sent(place: Place) -> None:
    await place.listen(names="utf8", labels={"job": "graphite", "dc": "fra"})
    await send(place.room.ports[0], b"a.b-c;d.e=f;dc=ams 1\n5xx.rate 2\n")
    await place.until(lambda: place.room.counts.samples == 2)
    assert set(place.stored()) == {'{"a.b-c", "d.e"="f", dc="ams", job="graphite"}', '{"5xx.rate", dc="fra", job="graphite"}'}


async def test_rules_make_labels_of_names(place: Place) -> None:
    rules = (
        Rule("servers.*.cpu.*", name="cpu_${2}_percent", labels={"host": "$1", "dc": "mapped"}),
        Rule("secret.*", action="drop"),
        Rule(r"app\.(?P<app>\w+)\.(.*)", match_type="regex", name="$2", labels={"app": "$app"}, honor_labels=True),
    )
    await place.listen(mappings=rules)
    await send(
        place.room.ports[0],
        b"servers.web-1.cpu.user;dc=sent 1\nsecret.key 1\napp.shop.orders.total;app=own 2\nother.name 3\n",
        b"servers.a.b.c 4\n",
    )
    await place.until(lambda: place.room.counts.samples == 4)
    assert set(place.stored()) == {
        'cpu_user_percent{dc="mapped", host="web-1"}',
        'orders_total{app="own"}',
        "other_name",
        "servers_a_b_c",
    }
    assert place.room.counts.dropped == {"relabelled": 1}


async def test_strict_takes_only_what_a_rule_matches(place: Place) -> None:
    await place.listen(mappings=(Rule("a.*", name="a", labels={"of": "$1"}),), strict=True)
    await send(place.room.ports[0], b"a.b 1\nc.d 1\n")
    await place.until(lambda: place.room.counts.samples == 1)
    assert set(place.stored()) == {'a{of="b"}'}


async def test_a_file_of_rules_is_read_again_when_settings_are_applied(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "mapping.yml"
    file.write_text("mappings: [{match: 'a.*', name: first, labels: {of: $1}}]")
    await place.listen(mapping_file="mapping.yml")
    await send(place.room.ports[0], b"a.b 1\n")
    await place.until(lambda: place.room.counts.samples == 1)
    file.write_text("mappings: [{match: 'a.*', name: second, labels: {of: $1}}]")
    await place.listen(mapping_file="mapping.yml")
    await send(place.room.ports[0], b"a.b 2\n")
    await place.until(lambda: place.room.counts.samples == 2)
    assert set(place.stored()) == {'first{of="b"}', 'second{of="b"}'}
    file.write_text("mappings: [{match: 'a.*', nmae: third}]")
    with pytest.raises(BadInput, match=r"mapping.yml:1:27: mappings\[0\].nmae: unknown key"):
        await place.listen(mapping_file="mapping.yml")
    await send(place.room.ports[0], b"a.b 3 1699999990\n")
    await place.until(lambda: place.room.counts.samples == 3)


async def test_opentsdbs_lines(place: Place) -> None:
    await place.listen(opentsdb="127.0.0.1:0")
    lines = b"put sys.cpu 1699999990 42 host=a\nput sys.cpu 1699999991500 43 host=a\nPUT\nput a 1699999990 x\nput b 1699999990 1 c="
    await send(place.room.ports[3], lines)
    await place.until(lambda: place.room.counts.dropped.total() == 3)
    assert place.stored() == {'sys_cpu{host="a"}': [(1_699_999_990_000, 42.0), (1_699_999_991_500, 43.0)]}
    assert place.room.counts.dropped == {"unknown_command": 1, "bad_value": 1, "bad_path": 1}


async def test_opentsdbs_lines_wait_for_a_storage_that_is_full_and_are_counted_once(place: Place) -> None:
    await place.listen(opentsdb="127.0.0.1:0")
    place.refusals = 1
    await send(place.room.ports[3], b"unknown\n" + b"put a 1699999990 1\n" * 2_000)
    await place.until(lambda: place.room.counts.dropped.total() == 1)
    assert place.room.counts.dropped == {"unknown_command": 1}
    assert place.stored() == {"a": [(1_699_999_990_000, 1.0)]}


async def ask(place: Place, said: bytes) -> str:
    """What OpenTSDB's listener answers until it ends the connection, or the sender has ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.room.ports[3])
    writer.write(said)
    writer.write_eof()
    try:
        return (await asyncio.wait_for(reader.read(), 30)).decode()
    finally:
        writer.close()


async def test_opentsdbs_other_commands_are_answered(place: Place) -> None:
    await place.listen(opentsdb="127.0.0.1:0")
    assert (await ask(place, b"version\n")).startswith(f"vedette {version('vedette')}")
    assert await ask(place, b"help") == "available commands: exit help put stats version\n"
    assert await ask(place, b"put a 1699999990 1\nput a 1699999990 1\n") == "", "a point that is stored is not spoken of"
    assert await ask(place, b"bogus 1\n") == "unknown command: bogus.  Try `help'.\n"
    assert await ask(place, b"put b 1\nput c 1 x\nput d 1 y\n") == (
        "put: illegal argument: no_value (1 of the lines)\nput: illegal argument: bad_value (2 of the lines)\n"
    )
    told = (await ask(place, b"stats\n")).splitlines()
    host = platform.node()
    assert [line.replace(f" host={host}", "") for line in told] == [
        f"tsd.rpc.received 1700000000 {count} type={kind}"
        for kind, count in (("help", 1), ("put", 5), ("stats", 1), ("unknown", 1), ("version", 1))
    ] + ["tsd.rpc.errors 1700000000 2 type=bad_value", "tsd.rpc.errors 1700000000 1 type=no_value"]
    assert place.room.counts.dropped == {"unknown_command": 1, "no_value": 1, "bad_value": 2}


async def test_an_answer_comes_once_the_points_before_it_are_stored(place: Place) -> None:
    await place.listen(opentsdb="127.0.0.1:0")
    place.refusals = 1
    assert (await ask(place, b"put a 1699999990 1\nversion\n")).startswith("vedette ")
    assert place.stored() == {"a": [(1_699_999_990_000, 1.0)]}


async def test_exit_ends_the_connection_and_what_stands_behind_it_is_not_taken(place: Place) -> None:
    await place.listen(opentsdb="127.0.0.1:0")
    reader, writer = await asyncio.open_connection("127.0.0.1", place.room.ports[3])
    writer.write(b"put a 1699999990 1\nexit\nput b 1699999990 1\n")
    assert await asyncio.wait_for(reader.read(), 30) == b""
    assert place.stored() == {"a": [(1_699_999_990_000, 1.0)]}
    writer.close()


async def test_a_sender_who_reads_no_answers_is_still_taken_from(place: Place) -> None:
    """Most senders never read: answers that nobody fetches must neither pile up nor stop their points."""
    await place.listen(opentsdb="127.0.0.1:0")
    _, writer = await asyncio.open_connection("127.0.0.1", place.room.ports[3])
    for i in range(20):
        writer.write(b"help\n" * 20_000 + b"put a %d 1\n" % (1_699_999_000 + i))
        await writer.drain()
    await place.until(lambda: place.room.counts.samples == 20)
    writer.transport.abort()


async def test_other_rules_leave_connections_as_they_are(place: Place) -> None:
    await place.listen()
    _, writer = await asyncio.open_connection("127.0.0.1", place.room.ports[0])
    writer.write(b"a.b 1\n")
    await place.until(lambda: place.room.counts.samples == 1)
    await place.listen(mappings=(Rule("a.*", name="mapped", labels={"of": "$1"}),))
    writer.write(b"a.b 2\n")
    await place.until(lambda: place.room.counts.samples == 2)
    assert place.stored() == {"a_b": [(NOW, 1.0)], 'mapped{of="b"}': [(NOW, 2.0)]}
    writer.close()


async def test_what_the_system_dropped_counts_among_what_was_not_taken(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.listen()
    monkeypatch.setattr("vedette.ingest.sockets.dropped_by_system", lambda transport: 7)
    assert (place.room.drops(), place.room.drops()) == ({"system": 7}, {"system": 7})


async def test_lines_that_are_none_are_counted_by_reason(place: Place) -> None:
    await place.listen(max_line=20)
    await send(place.room.ports[0], b"a 1\nb\nc x\nd 1 2 3\n" + b"e" * 30 + b" 1\nf 1 1800000000\n__name__;a=b 1\n")
    await place.until(lambda: place.room.counts.samples == 2)
    assert place.room.counts.dropped == {"no_value": 1, "bad_value": 1, "too_many_parts": 1, "too_long": 1, "too_far_ahead": 1}


async def test_a_line_without_an_end_takes_no_memory(place: Place) -> None:
    await place.listen(max_line=20)
    await send(place.room.ports[0], b"e" * 300_000, b"e" * 100, b" 1\na 1\n")
    await place.until(lambda: place.room.counts.samples == 1)
    assert place.room.counts.dropped == {"too_long": 1}
    assert set(place.stored()) == {"a"}


async def test_a_tag_that_no_label_can_be_keeps_only_its_line_out(place: Place) -> None:
    await place.listen()
    await send(place.room.ports[0], b"a 1\nb;__name__=x 1\nc 1\n")
    await place.until(lambda: place.room.counts.samples == 2)
    assert set(place.stored()) == {"a", "c"}
    assert place.room.counts.dropped == {"invalid_labels": 1}


async def test_tcp_waits_for_a_storage_that_is_full(place: Place) -> None:
    await place.listen()
    place.refusals = 1
    await send(place.room.ports[0], b"a 1\n")
    await place.until(lambda: place.room.counts.samples == 1)
    assert not place.room.counts.dropped


async def test_udp_counts_what_a_full_storage_costs(place: Place) -> None:
    await place.listen()
    place.refusals = 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"a 1", ("127.0.0.1", place.room.ports[1]))
        await place.until(lambda: place.room.counts.dropped == {"full": 1})
        sender.sendto(b"b 1", ("127.0.0.1", place.room.ports[1]))
    await place.until(lambda: place.room.counts.samples == 1)
    assert set(place.stored()) == {"b"}


async def test_the_tenant_of_the_listener(place: Place) -> None:
    await place.listen(tenant="acme")
    await send(place.room.ports[0], b"a 1\n")
    await place.until(lambda: place.room.counts.samples == 1)
    assert set(place.stored("acme")) == {"a"}
    assert not place.stored()


async def test_beyond_loopback_only_for_networks_that_are_named(place: Place) -> None:
    with pytest.raises(BadInput, match=r"graphite.tcp: refusing to listen on 0.0.0.0 .*name the networks to listen to in graphite.allow"):
        await place.room.apply(GraphiteSettings(tcp="0.0.0.0:0"))
    await place.room.apply(GraphiteSettings(tcp="0.0.0.0:0", allow=("192.0.2.0/24",)))
    await send(place.room.ports[0], b"a 1\n")  # this machine is always listened to
    await place.until(lambda: place.room.counts.samples == 1)
    sockets = place.room._sockets
    assert sockets is not None
    assert sockets.allowed("192.0.2.7") and sockets.allowed("::ffff:192.0.2.7") and sockets.allowed("::1")
    assert not sockets.allowed("198.51.100.1") and not sockets.allowed("2001:db8::1")
    assert place.room.counts.dropped == {"not_allowed": 2}


async def test_an_address_that_is_taken_is_one_line_and_what_was_stays(place: Place) -> None:
    await place.listen(udp="", pickle="")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(BadInput, match=f"graphite.pickle: cannot listen on {busy}"):
            await place.listen(pickle=busy)
    await send(place.room.ports[0], b"a 1\n")
    await place.until(lambda: place.room.counts.samples == 1)


async def test_what_has_come_is_stored_at_the_end(place: Place) -> None:
    await place.listen()
    sockets = place.room._sockets
    assert sockets is not None
    sockets._queues[0].received(b"last.words 1", "127.0.0.1")
    await place.room.close()
    assert place.stored() == {"last_words": [(now_ms(place.clock), 1.0)]}
