"""A proxy on a real socket: requests go to it and name their target; its password stays out of errors."""

from __future__ import annotations

import asyncio

import pytest

from vedette.configfile import parse
from vedette.errors import BadInput, Undeliverable
from vedette.net.client import HttpClient
from vedette.net.config import HttpConfig


async def test_a_request_goes_by_the_proxy() -> None:
    seen: list[str] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = parse(f"proxy_url: http://me:pass@127.0.0.1:{port}", HttpConfig)
    client = HttpClient(config)
    answer = await client.get("http://target.test/x?y", timeout=5)
    await client.close()
    server.close()
    assert answer.body == b"hi"
    head = seen[0].lower()
    assert head.startswith("get http://target.test/x?y http/1.1")
    assert "proxy-authorization: basic bwu6cgfzcw==" in head
    client = HttpClient(config)
    with pytest.raises(Undeliverable) as failed:
        await client.get("http://target.test/x", timeout=5)
    await client.close()
    assert "pass" not in str(failed.value)


def test_a_proxy_that_cannot_be_used() -> None:
    with pytest.raises(BadInput, match="proxy_url: not a proxy that can be used: socks5"):
        parse("proxy_url: socks5://x", HttpConfig)
