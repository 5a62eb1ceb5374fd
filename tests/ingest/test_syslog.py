"""Syslog over sockets, from plain senders and from Debian's rsyslogd."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from vedette.clock import ManualClock
from vedette.errors import BadInput, LimitExceeded
from vedette.ingest import syslog
from vedette.ingest.syslog import SyslogListener
from vedette.model.logs import LogBatch


class Kept:
    """Stands for the store: keeps messages, refuses as long as `refusals` says."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.services: list[str] = []
        self.refusals = 0

    async def append(self, tenant: str, batch: LogBatch) -> None:
        assert tenant == "acme"
        if self.refusals:
            self.refusals -= 1
            raise LimitExceeded("full", retry_after=1.0)
        self.messages += batch.messages.strings()
        self.services += [batch.services[c] for c in batch.service_codes]

    async def until(self, count: int) -> None:
        deadline = time.monotonic() + 20
        while len(self.messages) < count:
            assert time.monotonic() < deadline, self.messages
            await asyncio.sleep(0.01)


@pytest.fixture
async def kept() -> Kept:
    return Kept()


@pytest.fixture
async def listener(kept: Kept) -> AsyncIterator[SyslogListener]:
    made = SyslogListener(kept.append, ManualClock(), udp="127.0.0.1:0", tcp="127.0.0.1:0", tenant="acme", max_line=1000)
    await made.start()
    yield made
    await made.close()


async def test_udp(listener: SyslogListener, kept: Kept) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for i in range(300):
            sender.sendto(f"<13>1 - - app{i % 2} - - - line {i}".encode(), ("127.0.0.1", listener.addresses[0]))
    await kept.until(300)
    assert sorted(kept.messages) == sorted(f"line {i}" for i in range(300))
    assert set(kept.services) == {"app0", "app1"}
    assert listener.counts.messages == 300


async def test_tcp_in_pieces_and_a_last_line_without_an_end(listener: SyslogListener, kept: Kept) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", listener.addresses[1])
    for piece in (b"<13>one\n<13>tw", b"o\n10 <13>three\n", b"<13>four"):
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    writer.close()
    await kept.until(4)
    assert kept.messages == ["one", "two", "three", "four"]


async def test_tcp_waits_for_a_store_that_is_full(listener: SyslogListener, kept: Kept) -> None:
    kept.refusals = 1
    _, writer = await asyncio.open_connection("127.0.0.1", listener.addresses[1])
    writer.write(b"<13>patient\n")
    await kept.until(1)
    writer.close()
    assert kept.messages == ["patient"] and listener.counts.dropped == 0


async def test_udp_counts_what_a_full_store_costs(listener: SyslogListener, kept: Kept) -> None:
    kept.refusals = 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"<13>lost", ("127.0.0.1", listener.addresses[0]))
        deadline = time.monotonic() + 20
        while not listener.counts.dropped:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        sender.sendto(b"<13>kept", ("127.0.0.1", listener.addresses[0]))
    await kept.until(1)
    assert kept.messages == ["kept"]


async def test_udp_goes_on_after_a_fault_of_ours(listener: SyslogListener, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(messages: list[tuple[bytes, str]]) -> LogBatch:
        monkeypatch.undo()
        raise RuntimeError("a fault")

    monkeypatch.setattr(listener, "_batch", broken, raising=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"<13>lost", ("127.0.0.1", listener.addresses[0]))
        deadline = time.monotonic() + 20
        while not listener.dropped:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        sender.sendto(b"<13>kept", ("127.0.0.1", listener.addresses[0]))
    await kept.until(1)
    assert (kept.messages, listener.dropped) == (["kept"], 1)


async def test_datagrams_that_do_not_fit_are_counted(listener: SyslogListener, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syslog, "_MOST_QUEUED", 2 * syslog._EACH + 15)
    for message in (b"<13>one", b"<13>2", b"<13>three"):
        listener._received(message, "10.0.0.1")
    await kept.until(2)
    assert (kept.messages, listener.dropped) == (["one", "2"], 1)


async def test_what_is_no_syslog_ends_its_connection_only(listener: SyslogListener, kept: Kept) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.addresses[1])
    writer.write(b"99999999999 no frame")
    assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
    _, other = await asyncio.open_connection("127.0.0.1", listener.addresses[1])
    other.write(b"<13>still here\n")
    await kept.until(1)
    other.close()
    assert listener.counts.dropped == 1


async def test_what_has_come_is_stored_at_the_end(kept: Kept) -> None:
    listener = SyslogListener(kept.append, ManualClock(), udp="127.0.0.1:0", tcp="", tenant="acme", max_line=1000)
    await listener.start()
    listener._received(b"<13>last words", "10.0.0.1")
    await listener.close()
    assert kept.messages == ["last words"]


async def test_an_address_that_is_taken_is_one_line(kept: Kept) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        listener = SyslogListener(kept.append, ManualClock(), udp="", tcp=place, tenant="acme", max_line=1000)
        with pytest.raises(BadInput, match=f"logs.syslog_tcp: cannot listen on {place}"):
            await listener.start()


RSYSLOG = """
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{socket}" CreatePath="on")
global(workDirectory="{work}")
*.* action(type="omfwd" target="127.0.0.1" port="{port}" protocol="{protocol}" {framing} template="RSYSLOG_SyslogProtocol23Format")
"""


@pytest.mark.parametrize(("protocol", "framing"), [("tcp", 'TCP_Framing="octet-counted"'), ("tcp", ""), ("udp", "")])
async def test_rsyslog_forwards(
    listener: SyslogListener, kept: Kept, tmp_path_factory: pytest.TempPathFactory, protocol: str, framing: str
) -> None:
    daemon = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"
    if not Path(daemon).exists():
        pytest.skip("rsyslogd is not installed: apt install rsyslog")
    work = tmp_path_factory.mktemp("rsyslog")
    config = work / "rsyslog.conf"
    port = listener.addresses[protocol == "tcp"]
    config.write_text(RSYSLOG.format(socket=work / "log", work=work, port=port, protocol=protocol, framing=framing))
    process = subprocess.Popen([daemon, "-n", "-f", str(config), "-i", str(work / "pid")], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not (work / "log").exists():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(work / "log"))
            for i in range(20):
                sender.send(f"<11>shop[42]: payment {i} failed: ünicode".encode())
        await kept.until(20)
        assert [m.strip() for m in kept.messages if "payment" in m] == [f"payment {i} failed: ünicode" for i in range(20)]
        assert set(kept.services) - {"rsyslogd"} == {"shop"}
    finally:
        process.terminate()
        process.wait()
