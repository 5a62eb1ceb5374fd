"""Outbound HTTP on loopback: bounds, redirects, credentials, reasons."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from vedette import configfile
from vedette.errors import BadInput, Undeliverable
from vedette.net.addresses import is_public, redacted_url
from vedette.net.answers import Body
from vedette.net.client import HttpClient
from vedette.net.config import HttpConfig, TlsConfig


class Echo:
    """A server that answers every request with what it was asked, or as `page` says."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.pages: dict[str, bytes] = {}
        self.port = 0
        self.close_after_answer = False
        self.silent: set[int] = set()
        """Requests, counted from 1, after which the connection is closed without an answer."""
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.rstrip("\r\n").split("\r\n")
                method, path, _ = first.split(" ")
                headers = {n.lower(): v for n, v in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.seen.append((method, path, headers, body))
                if len(self.seen) in self.silent:
                    return
                writer.write(self.pages.get(path, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
                await writer.drain()
                if self.close_after_answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def redirect(self, path: str, to: str, status: int = 302) -> None:
        self.pages[path] = f"HTTP/1.1 {status} Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()

    def answer(self, path: str, status: str, body: bytes = b"", headers: str = "") -> None:
        self.pages[path] = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


async def _serving(context: ssl.SSLContext | None = None) -> tuple[Echo, asyncio.Server]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0, ssl=context)
    echo.port = server.sockets[0].getsockname()[1]
    return echo, server


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    made, server = await _serving()
    yield made
    server.close()


@pytest.fixture
async def other() -> AsyncIterator[Echo]:
    made, server = await _serving()
    yield made
    server.close()


def client(text: str = "{}", **options: Any) -> HttpClient:
    return HttpClient(configfile.parse(text, HttpConfig), **options)


async def reason(asked: Any) -> tuple[str, bool]:
    with pytest.raises(Undeliverable) as caught:
        (await asked).check()
    return caught.value.reason, caught.value.retryable


async def test_get_and_post_json(echo: Echo) -> None:
    http = client()
    answer = await http.get(f"http://127.0.0.1:{echo.port}/a?b=c", timeout=60, headers={"X-Own": "1"})
    assert (answer.status, answer.body) == (200, b"ok")
    await http.post_json(f"http://127.0.0.1:{echo.port}/hook", {"a": ["é"]}, timeout=60)
    (_, path, headers, _), (method, _, posted, body) = echo.seen
    assert (path, headers["x-own"], headers["user-agent"], headers["host"]) == ("/a?b=c", "1", "Vedette", f"127.0.0.1:{echo.port}")
    assert (method, posted["content-type"], json.loads(body)) == ("POST", "application/json", {"a": ["é"]})
    assert echo.connections == 1
    await http.close()


@pytest.mark.parametrize(
    ("text", "header", "value"),
    [
        ("basic_auth: {username: me, password: pass}", "authorization", "Basic bWU6cGFzcw=="),
        ("authorization: {credentials: abc}", "authorization", "Bearer abc"),
        ("authorization: {type: Token, credentials: abc}", "authorization", "Token abc"),
        ("bearer_token: abc", "authorization", "Bearer abc"),
        ("http_headers: {X-Scope: {values: [a], secrets: [b]}}", "x-scope", "a, b"),
    ],
)
async def test_credentials_stay_with_their_host(echo: Echo, other: Echo, text: str, header: str, value: str) -> None:
    echo.redirect("/there", f"http://127.0.0.1:{other.port}/elsewhere")
    echo.redirect("/here", "/home")
    http = client(text)
    await http.get(f"http://127.0.0.1:{echo.port}/here", timeout=60)
    await http.get(f"http://127.0.0.1:{echo.port}/there", timeout=60)
    assert [headers.get(header) for _, _, headers, _ in echo.seen] == [value] * 3
    assert [(path, headers.get(header)) for _, path, headers, _ in other.seen] == [("/elsewhere", None)]
    await http.close()


async def test_credentials_that_a_caller_passes_stay_too(echo: Echo, other: Echo) -> None:
    echo.redirect("/there", f"http://127.0.0.1:{other.port}/elsewhere", 307)
    http = client()
    passed = {"Authorization": "Bearer abc", "X-API-Key": "abc", "X-Trace": "1"}
    await http.post_json(f"http://127.0.0.1:{echo.port}/there", {}, timeout=60, headers=passed)
    headers = other.seen[0][2]
    assert ("authorization" in headers, "x-api-key" in headers, headers["x-trace"]) == (False, False, "1")
    await http.close()


async def test_credentials_of_a_url_are_sent_and_hidden(echo: Echo) -> None:
    echo.answer("/x", "503 Service Unavailable")
    http = client()
    answer = await http.get(f"http://me:pass@127.0.0.1:{echo.port}/x", timeout=60)
    assert echo.seen[0][2]["authorization"] == "Basic bWU6cGFzcw=="
    assert answer.url == f"http://me:xxxxx@127.0.0.1:{echo.port}/x"
    await http.close()


async def test_secrets_in_files_are_read_anew(echo: Echo, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    http = HttpClient(configfile.parse("authorization: {credentials_file: token}", HttpConfig).under(tmp_path))
    await http.get(f"http://127.0.0.1:{echo.port}/", timeout=60)
    (tmp_path / "token").write_text("two\n")
    await http.get(f"http://127.0.0.1:{echo.port}/", timeout=60)
    assert [headers["authorization"] for _, _, headers, _ in echo.seen] == ["Bearer one", "Bearer two"]
    (tmp_path / "token").unlink()
    with pytest.raises(BadInput, match=r"token: cannot be read"):
        await http.get(f"http://127.0.0.1:{echo.port}/", timeout=60)
    await http.close()


async def test_redirects_of_a_post(echo: Echo) -> None:
    echo.redirect("/see", "/get", 303)
    echo.redirect("/again", "/post", 307)
    http = client()
    await http.post_json(f"http://127.0.0.1:{echo.port}/see", {}, timeout=60)
    await http.post_json(f"http://127.0.0.1:{echo.port}/again", {}, timeout=60)
    assert [(method, path, body) for method, path, _, body in echo.seen] == [
        ("POST", "/see", b"{}"),
        ("GET", "/get", b""),
        ("POST", "/again", b"{}"),
        ("POST", "/post", b"{}"),
    ]
    assert "content-type" not in echo.seen[1][2]
    await http.close()


async def test_reasons(echo: Echo) -> None:
    http = client()
    base = f"http://127.0.0.1:{echo.port}"
    echo.answer("/404", "404 Not Found")
    echo.answer("/503", "503 Service Unavailable", headers="Retry-After: 7\r\n")
    echo.redirect("/loop", "/loop")
    echo.redirect("/ftp", "ftp://127.0.0.1/")
    echo.pages["/garbage"] = b"not http\r\n\r\n"
    echo.answer("/long", "200 OK", b"x" * 1000)
    assert await reason(http.get(f"{base}/404", timeout=60)) == ("status", False)
    assert await reason(http.get(f"{base}/503", timeout=60)) == ("status", True)
    assert await reason(http.get(f"{base}/loop", timeout=60)) == ("redirects", False)
    assert await reason(http.get(f"{base}/ftp", timeout=60)) == ("redirects", False)
    assert await reason(http.get(f"{base}/garbage", timeout=60)) == ("protocol", True)
    assert await reason(http.get(f"{base}/long", timeout=60, max_bytes=999)) == ("too_large", False)
    assert (await http.get(f"{base}/long", timeout=60, max_bytes=1000)).body == b"x" * 1000
    assert await reason(http.get("http://127.0.0.1:1/", timeout=60)) == ("refused", True)
    assert await reason(http.get("http://does-not-exist.invalid/", timeout=20)) == ("dns", True)
    with pytest.raises(Undeliverable) as caught:
        (await http.get(f"{base}/503", timeout=60)).check()
    assert caught.value.retry_after == 7
    for url in ("ftp://a/", "http:///x", "nonsense", "http://[::1"):
        with pytest.raises(BadInput):
            await http.get(url, timeout=60)
    await http.close()


async def test_a_kept_connection_that_died_is_replaced(echo: Echo) -> None:
    echo.close_after_answer = True
    http = client()
    for _ in range(3):
        assert (await http.get(f"http://127.0.0.1:{echo.port}/", timeout=60)).body == b"ok"
    assert len(echo.seen) == 3
    await http.close()


async def test_a_get_is_sent_again_where_a_kept_connection_ends_instead_of_answering(echo: Echo) -> None:
    echo.silent = {2}
    http, url = client(), f"http://127.0.0.1:{echo.port}/"
    for _ in range(2):
        assert (await http.get(url, timeout=30)).body == b"ok"
    assert (len(echo.seen), echo.connections) == (3, 2)
    await http.close()


async def test_a_post_is_never_sent_twice(echo: Echo) -> None:
    """The receiver may have taken it before it fell silent: who sends it again must be somebody who knows what it is."""
    echo.silent = {2}
    http, url = client(), f"http://127.0.0.1:{echo.port}/"
    await http.post(url, b"1", timeout=30)
    assert await reason(http.post(url, b"2", timeout=30)) == ("protocol", True)
    assert [body for *_, body in echo.seen] == [b"1", b"2"]
    await http.close()


async def test_a_get_on_a_new_connection_is_not_sent_again_either(echo: Echo) -> None:
    echo.silent = {1}
    http = client()
    assert await reason(http.get(f"http://127.0.0.1:{echo.port}/", timeout=30)) == ("protocol", True)
    assert len(echo.seen) == 1
    await http.close()


async def test_that_a_post_is_leaving_is_told_before_its_first_byte_is_out_and_not_where_nobody_listens(echo: Echo) -> None:
    http, left = client(), list[int]()

    async def leaving() -> None:
        left.append(len(echo.seen))

    for _ in range(2):  # on a new connection, and on a kept one
        await http.post_json(f"http://127.0.0.1:{echo.port}/", {}, timeout=30, leaving=leaving)
    assert left == [0, 1]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(Undeliverable):
            await http.post_json(f"http://127.0.0.1:{closed.getsockname()[1]}/", {}, timeout=30, leaving=leaving)
    assert left == [0, 1]
    await http.close()


async def test_gzip_is_asked_for_and_unpacked(echo: Echo) -> None:
    packed = gzip.compress(b"abc" * 1000) + gzip.compress(b"def")
    echo.answer("/z", "200 OK", packed, "Content-Encoding: gzip\r\n")
    http = client()
    answer = await http.get(f"http://127.0.0.1:{echo.port}/z", timeout=60, max_bytes=3003)
    assert answer.body == b"abc" * 1000 + b"def"
    assert echo.seen[0][2]["accept-encoding"] == "gzip"
    await http.close()


@pytest.mark.parametrize("size", [1 << 20, 5 << 20, (5 << 20) + 1])
def test_a_packet_that_grows_a_thousandfold_is_unpacked_by_and_by(size: int) -> None:
    packed, calls = gzip.compress(bytes(size)), 1
    body = Body("gzip", 64 << 20)
    assert body.feed(packed)
    while body.pending:
        assert body.feed()
        calls += 1
    assert body.whole(partial=False) == bytes(size)
    assert calls > size >> 20


async def test_an_answer_of_many_pieces_is_whole(echo: Echo) -> None:
    echo.answer("/z", "200 OK", gzip.compress(bytes(5 << 20)), "Content-Encoding: gzip\r\n")
    http = client()
    url = f"http://127.0.0.1:{echo.port}/z"
    assert (await http.get(url, timeout=60, max_bytes=5 << 20)).body == bytes(5 << 20)
    assert await reason(http.get(url, timeout=60, max_bytes=(5 << 20) - 1)) == ("too_large", False)
    await http.close()


async def test_says_why_it_cannot_connect() -> None:
    http = client()
    with pytest.raises(Undeliverable, match="cannot connect: Connection refused"):
        await http.get("http://127.0.0.1:1/", timeout=60)
    with pytest.raises(Undeliverable, match="cannot connect: Connection refused"):
        await http.get("http://localhost:1/", timeout=60)
    await http.close()


async def test_private_addresses_are_out_of_reach_for_urls_of_strangers(echo: Echo) -> None:
    http = client(allow_private=False)
    for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::ffff:127.0.0.1]"):
        assert await reason(http.get(f"http://{host}:{echo.port}/", timeout=60)) == ("address", False)
    assert echo.seen == []
    await http.close()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:a00:1::", False),
        ("255.255.255.255", False),
    ],
)
def test_what_is_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_urls_in_logs() -> None:
    assert redacted_url("http://u:secret@h:1/x?q=1") == "http://u:xxxxx@h:1/x?q=1"
    assert redacted_url("https://hooks.example/T0/B0/key?x=1", hide_path=True) == "https://hooks.example/<secret>"
    assert redacted_url("http://h:port/") == "<invalid URL>"


async def test_paths_stay_out_of_errors_where_they_are_the_secret() -> None:
    http = client(hide_path=True)
    with pytest.raises(Undeliverable) as caught:
        await http.get("http://127.0.0.1:1/T0/key", timeout=60)
    assert "key" not in str(caught.value) and "http://127.0.0.1:1/<secret>" in str(caught.value)
    await http.close()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{bearer_token: a, bearer_token_file: b}", "at most one of bearer_token & bearer_token_file must be configured"),
        ("{bearer_token: a, basic_auth: {}}", "at most one of basic_auth, oauth2, bearer_token"),
        ("{authorization: {}, basic_auth: {}}", "at most one of basic_auth, oauth2 & authorization"),
        ("{authorization: {}, bearer_token: a}", "authorization is not compatible with bearer_token"),
        ("{authorization: {type: basic}}", 'authorization type cannot be set to "basic"'),
        ("{authorization: {credentials: a, credentials_file: b}}", "at most one of authorization credentials"),
        ("{basic_auth: {password: a, password_file: b}}", "at most one of basic_auth password"),
        ("{oauth2: {}}", "oauth2 client_id must be configured"),
        ("{oauth2: {client_id: a}}", "oauth2 token_url must be configured"),
        ("{oauth2: {client_id: a, token_url: 'ftp://x/'}}", "expected http:// or https://"),
        (
            "{oauth2: {client_id: a, token_url: 'http://x/', client_secret: a, client_secret_file: b}}",
            "at most one of oauth2 client_secret",
        ),
        ("{oauth2: {client_id: a, token_url: 'http://x/'}, basic_auth: {}}", "at most one of basic_auth, oauth2, bearer_token"),
        ("{oauth2: {client_id: a, token_url: 'http://x/'}, authorization: {}}", "at most one of basic_auth, oauth2 & authorization"),
        ("{proxy_from_environment: true, proxy_url: 'http://p'}", "proxy_url must not be configured"),
        ("{proxy_from_environment: true, no_proxy: a}", "no_proxy must not be configured"),
        ("{no_proxy: a}", "if no_proxy is configured, proxy_url must also be configured"),
        ("{proxy_connect_header: {A: [b]}}", "proxy_url or proxy_from_environment must also be configured"),
        ("{oauth2: {client_id: a, token_url: 'http://x/', no_proxy: a}}", "proxy_url must also be configured"),
        ("{http_headers: {Authorization: {values: [a]}}}", "setting header 'Authorization' is not allowed"),
        ("{tls_config: {cert_file: a}}", "cert_file without key_file"),
        ("{tls_config: {min_version: TLS9}}", "unknown TLS version 'TLS9'"),
        ("{tls_config: {ca: a, ca_file: b}}", "at most one of ca and ca_file"),
    ],
)
def test_configurations_that_are_refused(text: str, problem: str) -> None:
    with pytest.raises(BadInput) as caught:
        configfile.parse(text, HttpConfig)
    assert problem in str(caught.value)


def test_secrets_are_not_printed() -> None:
    text = "{basic_auth: {username: me, password: hidden}, http_headers: {A: {secrets: [hidden]}}, bearer_token: hidden}"
    shown = str(configfile.shown(configfile.compose(text), HttpConfig))
    assert "hidden" not in shown and "me" in shown


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl (Debian package openssl)")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=vedette.test -addext subjectAltName=DNS:vedette.test"
    subprocess.run([*command.split(), "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


@needs_openssl
async def test_tls_is_checked_against_what_is_configured(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.load_verify_locations(cert)
    context.verify_mode = ssl.CERT_OPTIONAL
    echo, server = await _serving(context)
    url = f"https://127.0.0.1:{echo.port}/"
    cases = {
        "{}": "tls",
        f"tls_config: {{ca_file: {cert}}}": "tls",
        f"tls_config: {{ca_file: {cert}, server_name: vedette.test}}": "",
        "tls_config: {insecure_skip_verify: true}": "",
        f"tls_config: {{ca_file: {cert}, server_name: vedette.test, cert_file: {cert}, key_file: {key}, min_version: TLS13}}": "",
    }
    for text, expected in cases.items():
        http = client(text)
        if expected:
            assert await reason(http.get(url, timeout=60)) == (expected, True), text
        else:
            assert (await http.get(url, timeout=60)).body == b"ok", text
        await http.close()
    server.close()


def test_tls_files_that_are_not_there() -> None:
    with pytest.raises(BadInput, match=r"/nowhere/ca\.pem: TLS files cannot be used"):
        TlsConfig(ca_file="/nowhere/ca.pem").context()
