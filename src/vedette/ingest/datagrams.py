"""Listening for datagrams with as much room as the system gives, and how many of them it dropped since that was full.

What the system drops nobody else sees: neither the sender nor who listens. Not here: what comes of datagrams (`sockets.py`, `syslog.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Callable

_RECEIVE_BUFFER = 8 << 20
# Linux' SO_MEMINFO, which Python's `socket` does not name: nine numbers of 32 bits, the last is how many datagrams were dropped.
_MEMORY, _NUMBERS, _DROPS = 55, 9, 8


class Datagrams(asyncio.DatagramProtocol):
    """Hands datagrams on: `received(data, peer)`."""

    def __init__(self, received: Callable[[bytes, str], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._received(data, addr[0])


async def listen_udp(host: str, port: int, received: Callable[[bytes, str], None]) -> asyncio.DatagramTransport:
    """Listen for datagrams, with as much room for them in the system as it gives."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Datagrams(received), local_addr=(host, port))
    with contextlib.suppress(OSError):  # the system may allow less: a smaller buffer loses more in a burst, nothing else
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    return transport


def dropped_by_system(transport: asyncio.DatagramTransport) -> int | None:
    """How many datagrams for a socket the system dropped since it was opened; None where the system does not tell, or it is closed."""
    if sys.platform != "linux" or transport.is_closing():
        return None
    try:
        told = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, _MEMORY, 4 * _NUMBERS)
    except OSError:
        return None
    # Kernels before 4.12 tell less.
    return int(struct.unpack(f"={_NUMBERS}I", told)[_DROPS]) if len(told) == 4 * _NUMBERS else None
