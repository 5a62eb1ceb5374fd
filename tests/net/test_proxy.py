"""A proxy on a real socket: requests go to it and name their target; its password stays out of errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from vedette.configfile import parse
from vedette.errors import BadInput, Undeliverable
from vedette.net.client import HttpClient
from vedette.net.config import HttpConfig
from vedette.net.proxy import is_excepted


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
    answer = await client.get("http://target.test/x?y", timeout=60)
    await client.close()
    server.close()
    assert answer.body == b"hi"
    head = seen[0].lower()
    assert head.startswith("get http://target.test/x?y http/1.1")
    assert "proxy-authorization: basic bwu6cgfzcw==" in head
    client = HttpClient(config)
    with pytest.raises(Undeliverable) as failed:
        await client.get("http://target.test/x", timeout=60)
    await client.close()
    assert "pass" not in str(failed.value)


def test_a_proxy_that_cannot_be_used() -> None:
    with pytest.raises(BadInput, match="proxy_url: not a proxy that can be used: socks5"):
        parse("proxy_url: socks5://x", HttpConfig)


@pytest.fixture
async def proxy() -> AsyncIterator[tuple[int, list[str]]]:
    """A proxy that answers what it is asked itself, and no tunnel: its port, and the heads that came."""
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
        status = b"403 No" if seen[-1].startswith("CONNECT") else b"200 OK"
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], seen
    server.close()


async def test_what_needs_no_proxy_is_asked_directly(proxy: tuple[int, list[str]]) -> None:
    port, seen = proxy
    client = HttpClient(parse(f"{{proxy_url: 'http://127.0.0.1:{port}', no_proxy: 'inside.test, 10.0.0.0/8'}}", HttpConfig))
    await client.get("http://outside.test/a", timeout=60)
    await client.get(f"http://127.0.0.1:{port}/b", timeout=60)  # this machine, never by a proxy once there are exceptions
    with pytest.raises(Undeliverable):  # the name is looked up here, and not known
        await client.get("http://db.inside.test/c", timeout=2)
    await client.close()
    assert [head.split()[1] for head in seen] == ["http://outside.test/a", "/b"]


async def test_a_tunnel_is_asked_for_with_the_headers_that_are_the_proxys(proxy: tuple[int, list[str]]) -> None:
    port, seen = proxy
    text = f"{{proxy_url: 'http://127.0.0.1:{port}', proxy_connect_header: {{Proxy-Token: [one, two]}}}}"
    client = HttpClient(parse(text, HttpConfig))
    with pytest.raises(Undeliverable):
        await client.get("https://outside.test/", timeout=60)
    await client.get("http://outside.test/", timeout=60)
    await client.close()
    tunnel, plain = (head.lower() for head in seen)
    assert tunnel.startswith("connect outside.test:443") and "proxy-token: one" in tunnel and "proxy-token: two" in tunnel
    assert "proxy-token" not in plain


async def test_the_environments_proxy(proxy: tuple[int, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    port, seen = proxy
    for name in ("HTTP_PROXY", "NO_PROXY", "http_proxy", "no_proxy", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    client = HttpClient(parse("proxy_from_environment: true", HttpConfig))
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{port}")
    monkeypatch.setenv("NO_PROXY", ".inside.test")
    await client.get("http://outside.test/a", timeout=60)
    with pytest.raises(Undeliverable):
        await client.get("http://db.inside.test/", timeout=2)
    await client.close()
    assert [head.split()[1] for head in seen] == ["http://outside.test/a"]


@pytest.mark.parametrize(
    ("environment", "scheme", "wanted"),
    [
        ({}, "http", ""),
        ({"HTTPS_PROXY": "http://s:1"}, "http", ""),
        ({"HTTPS_PROXY": "http://s:1", "https_proxy": "http://t:1"}, "https", "http://s:1"),
        ({"HTTP_PROXY": "http://evil", "REQUEST_METHOD": "GET"}, "http", ""),
        ({"HTTP_PROXY": "p:3128", "no_proxy": "*"}, "http", ""),
    ],
)
def test_what_the_environment_says(environment: dict[str, str], scheme: str, wanted: str) -> None:
    config = parse("proxy_from_environment: true", HttpConfig)
    assert config.proxy_for(scheme, "target.test", None, environment) == wanted


def test_a_proxy_of_the_environment_that_cannot_be_used() -> None:
    with pytest.raises(BadInput, match="socks5"):
        parse("proxy_from_environment: true", HttpConfig).proxy_for("http", "target.test", None, {"HTTP_PROXY": "socks5://me:hidden@x"})


@pytest.mark.parametrize(
    ("rules", "host", "port", "wanted"),
    [
        ("a.example", "a.example", 80, True),
        ("a.example", "b.A.example.", 80, True),
        ("a.example", "ba.example", 80, False),
        (".a.example", "a.example", 80, False),
        (".a.example", "b.a.example", 80, True),
        ("*.a.example", "b.a.example", 80, True),
        ("*.a.example", "a.example", 80, False),
        ("x, a.example:8080", "a.example", 8080, True),
        ("a.example:8080", "a.example", 80, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.0.0.0/8", "ten.example", 80, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("10.1.2.3:81", "10.1.2.3", 80, False),
        ("fd00::/8", "[fd12::1]", 80, True),
        ("[fd12::1]:81", "fd12::1", 81, True),
        ("1.2.3", "10.1.2.3", 80, False),
        ("*", "anything", 1, True),
        ("", "localhost", 80, True),
        ("", "127.9.9.9", 80, True),
        ("", "::1", 80, True),
        (",, /8, :80, *", "x", 80, True),
        (",, /8, :80, .", "x", 80, False),
    ],
)
def test_exceptions(rules: str, host: str, port: int, wanted: bool) -> None:
    assert is_excepted(rules, host, port) is wanted
